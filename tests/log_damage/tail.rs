//! The last blocks of every shard, damaged at every byte.

use std::collections::BTreeSet;
use std::ops::Range;

use doorbuster::OpenError;
use doorbuster::storage::ALIGN_BYTES;
use doorbuster::testing::MemoryStorage;

use crate::books::{Block, Books, SEGMENT_BYTES, SHARDS, open};

/// How many of a shard's last blocks are damaged.
const BLOCKS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// The file ends at this byte.
    Truncated,
    /// The file reads as zeros from this byte on.
    Blanked,
    /// One bit of this byte is flipped.
    Flipped,
}

/// What an open must find in a damaged shard.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The shard ends after this number of blocks.
    Ends(usize),
    Refused,
}

/// The story: the machine loses power in a write, and some bytes of the block are there and some are not. Or a disk
/// loses the end of a file that it had acknowledged. The bytes on the disk are the same. In the first case they
/// must be a torn tail. In the second case the open must notice, if anything that is left names what is gone.
#[test]
fn a_tail_that_is_lost_from_any_byte_on_is_cut_off_or_refused() {
    let books = books(false);
    for (shard, block, at) in every_byte(&books) {
        check(&books, shard, block, at, Damage::Truncated);
        check(&books, shard, block, at, Damage::Blanked);
    }
}

/// The story: one bit rots. In a block that anything names, that is corruption. In the very last block it looks
/// like a torn write. In the zeros after the sections it does no harm.
#[test]
fn a_bit_that_flips_anywhere_in_a_tail_is_noticed_where_it_counts() {
    let books = books(false);
    for (shard, block, at) in every_byte(&books) {
        check(&books, shard, block, at, Damage::Flipped);
    }
}

/// The story: the same after a clean close, when the manifest names every block. Then nothing is a torn tail.
#[test]
fn after_a_close_no_byte_can_be_lost_unnoticed() {
    let books = books(true);
    for (shard, block, at) in every_byte(&books).step_by(7) {
        for damage in [Damage::Truncated, Damage::Blanked, Damage::Flipped] {
            check(&books, shard, block, at, damage);
        }
    }
}

/// The story: a torn tail was cut off. If the cut were not durable, or if the torn block's remains counted as a
/// block later, the next crash would bring back an order that was never acknowledged, or the next open would
/// refuse.
#[test]
fn a_cut_is_made_once_and_for_all() {
    let books = books(false);
    let mut cuts = BTreeSet::new();
    for shard in 0..SHARDS {
        let last = books.blocks[shard].last().expect("blocks");
        for at in (last.range.start..last.content_end).step_by(53) {
            let (verdict, _) =
                expected(&books, shard, books.blocks[shard].len() - 1, at, Damage::Blanked);
            let Verdict::Ends(len) = verdict else { continue };
            cuts.insert((shard, len));
            let storage = damaged(&books, last, at, Damage::Blanked);
            let mut kept = books.all();
            kept[shard] = len;
            let replayed = books.replay(&kept);
            drop(open(&storage, &books.clock).expect("a torn tail"));
            // Everything unsynced is lost; the cut must be synced.
            let storage = storage.crash(&mut |_| 0);
            let mut engine = open(&storage, &books.clock).expect("cut before");
            assert_eq!(engine.recovery().torn_shards, 0, "nothing is torn any more");
            replayed
                .check(&engine)
                .unwrap_or_else(|what| panic!("shard {shard}, byte {at}: {what}"));
            // The engine writes where the log was cut, over what was left there.
            let order = doorbuster::Order::new(77, 1 << 90).line(1, 1).payload(vec![3; 2_000]);
            let commit = engine.place(order).expect("there is room");
            engine.run_until_idle();
            assert!(commit.is_durable());
            engine.close().expect("closed");
            let engine = open(&storage, &books.clock).expect("nothing is damaged");
            assert_eq!(engine.recovery().records, replayed.records + 1);
        }
    }
    assert!(!cuts.is_empty(), "some tail is named by no block");
}

/// The story: a file system's check shortens a segment to any byte, at which no direct read can start. What counts
/// is which blocks are gone, and whether later ones are there.
#[test]
fn a_segment_that_ends_at_an_odd_byte_is_judged_by_the_blocks_that_are_gone() {
    let books = books(false);
    let mut middle = 0;
    for shard in 0..SHARDS {
        let blocks = &books.blocks[shard];
        for (nth, block) in blocks.iter().enumerate() {
            let Range { start, end } = block.range;
            for at in
                [start + 1, start + 129, block.content_end - 1, block.content_end + 1, end - 1]
            {
                if block.range.contains(&at) && !at.is_multiple_of(ALIGN_BYTES) {
                    check(&books, shard, nth, at, Damage::Truncated);
                    middle += u32::from(blocks.last().is_some_and(|last| last.path != block.path));
                }
            }
        }
    }
    assert!(middle > 0, "no shard has more than one segment");
}

/// The story: the same after the last block, where nothing was written yet.
#[test]
fn an_engine_goes_on_in_a_segment_that_lost_its_blank_end_at_an_odd_byte() {
    let books = books(false);
    let all = books.replay(&books.all());
    for shard in 0..SHARDS {
        let last = books.blocks[shard].last().expect("blocks");
        let ends = [last.range.end + 1, last.range.end + ALIGN_BYTES + 7];
        for at in ends.into_iter().filter(|at| *at < SEGMENT_BYTES as usize) {
            let storage = damaged(&books, last, at, Damage::Truncated);
            let mut engine = open(&storage, &books.clock).expect("no block is gone");
            all.check(&engine).unwrap_or_else(|what| panic!("shard {shard}, byte {at}: {what}"));
            let add = doorbuster::Adjust::add(100).key(1_u128 << 90);
            drop(engine.stock(1, add).expect("there is room"));
            engine.run_until_idle();
            // More than a segment in every shard.
            let mut orders = Vec::new();
            for buyer in 0..100_u64 {
                let order = doorbuster::Order::new(buyer, 1 << 90).line(1, 1);
                let commit = engine.place(order.payload(vec![3; 3_000])).expect("there is room");
                engine.run_until_idle();
                assert!(commit.is_durable());
                let placed = commit.wait().expect("durable");
                orders.push(placed.held().expect("there is stock").order);
            }
            engine.close().expect("closed");
            let engine = open(&storage, &books.clock).expect("nothing is damaged");
            let are_there = orders.iter().all(|order| engine.order(*order).is_ok());
            assert!(are_there, "shard {shard}, byte {at}");
        }
    }
}

fn books(closed: bool) -> Books {
    let mut books = Books::of_two_lives();
    if closed {
        books.close()
    } else {
        books.kill()
    }
    books
}

/// Returns every byte of every shard's last blocks, with its shard and block. Of the zeros after the sections it
/// returns those at either end, and some of the others; `CUT_ALL` asks for all of them.
fn every_byte(books: &Books) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
    let all = std::env::var_os("CUT_ALL").is_some();
    let counts = move |block: &Block, at: usize| {
        all || at < block.content_end + 24 || at + 24 > block.range.end || at.is_multiple_of(61)
    };
    (0..SHARDS).flat_map(move |shard| {
        let blocks = &books.blocks[shard];
        (blocks.len() - BLOCKS..blocks.len()).flat_map(move |nth| {
            let block = &blocks[nth];
            let bytes = block.range.clone().filter(move |at| counts(block, *at));
            bytes.map(move |at| (shard, nth, at))
        })
    })
}

fn check(books: &Books, shard: usize, block: usize, at: usize, damage: Damage) {
    let context = || format!("shard {shard}, block {block}, byte {at}, {damage:?}");
    let (verdict, kept) = expected(books, shard, block, at, damage);
    let storage = damaged(books, &books.blocks[shard][block], at, damage);
    match (open(&storage, &books.clock), verdict) {
        (Ok(engine), Verdict::Ends(_)) => {
            let checked = books.replay(&kept).check(&engine);
            checked.unwrap_or_else(|what| panic!("{}: {what}", context()));
        }
        (Err(OpenError::Corrupt { shard: Some(named), .. }), Verdict::Refused) => {
            assert_eq!(usize::from(named), shard, "{}", context());
        }
        (opened, verdict) => panic!("{}: {opened:?}, where it {verdict:?}", context()),
    }
}

/// Returns the verdict. It follows from what each block holds and names, and from what is kept of each shard.
fn expected(
    books: &Books,
    shard: usize,
    block: usize,
    at: usize,
    damage: Damage,
) -> (Verdict, Vec<usize>) {
    let mut kept = books.all();
    let path = &books.blocks[shard][block].path;
    let file = books.storage.read_file(path).expect("a segment");
    let is_whole = |it: &Block| {
        let here = it.path == *path;
        let lost = at.max(it.range.start)..it.content_end.max(at);
        match damage {
            Damage::Truncated => !here || at >= it.content_end,
            Damage::Blanked => !here || file[lost].iter().all(|byte| *byte == 0),
            Damage::Flipped => !here || !(it.range.start..it.content_end).contains(&at),
        }
    };
    let blocks = &books.blocks[shard];
    let Some(first) = blocks.iter().position(|it| !is_whole(it)) else {
        return (Verdict::Ends(blocks.len()), kept);
    };
    // These name it: a later block of the shard, a neighbour's vector, or the manifest.
    if blocks[first + 1..].iter().any(is_whole) || books.named(shard) > first {
        return (Verdict::Refused, kept);
    }
    kept[shard] = first;
    (Verdict::Ends(first), kept)
}

fn damaged(books: &Books, block: &Block, at: usize, damage: Damage) -> MemoryStorage {
    let storage = books.storage.deep_copy();
    let file = storage.read_file(&block.path).expect("a segment");
    let done = match damage {
        Damage::Truncated => storage.truncate(&block.path, at as u64),
        Damage::Blanked => {
            let zeros = vec![0; file.len() - at];
            storage.overwrite(&block.path, at as u64, &zeros)
        }
        Damage::Flipped => {
            let bit = 1 << (at % 8);
            storage.overwrite(&block.path, at as u64, &[file[at] ^ bit])
        }
    };
    done.expect("a segment");
    storage
}
