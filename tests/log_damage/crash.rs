//! Crashes at awkward places: while a folder is made, while a tail is cut off, at a segment's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use doorbuster::testing::{Fault, ManualClock, MemoryStorage, Operation, Step, SteppedEngine};
use doorbuster::{Adjust, Adjusted, Durability, OpenError, Options, Order};

use crate::books::{Books, SEGMENT_BYTES, open, options};
use crate::power::{LOSSES, lose_power};

/// Stops the machine after this number of calls that change something. Returns whether that has happened.
fn stop_in(storage: &MemoryStorage, calls: u64) -> Arc<AtomicBool> {
    let (stopped, seen) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let tell = stopped.clone();
    storage.set_fault_hook(Some(Arc::new(move |call| {
        if call.operation.is_change() && seen.fetch_add(1, Ordering::Relaxed) == calls {
            tell.store(true, Ordering::Relaxed);
            return Fault::Crash;
        }
        Fault::None
    })));
    stopped
}

/// The story: the machine loses power in any call while a new folder is made. No caller has received an answer, so
/// the next open must make the folder, and must not find half of one.
#[test]
fn a_folder_whose_making_was_cut_short_is_made_anew() {
    let clock = Arc::new(ManualClock::default());
    for calls in 0.. {
        let storage = MemoryStorage::new();
        let stopped = stop_in(&storage, calls);
        let opened = open(&storage, &clock).is_ok();
        assert_eq!(opened, !stopped.load(Ordering::Relaxed));
        if opened {
            assert!(calls > 30, "no call was cut short");
            return;
        }
        for left in
            LOSSES.map(|loss| lose_power(&storage, loss)).into_iter().chain([storage.kill()])
        {
            let mut engine = open(&left, &clock)
                .unwrap_or_else(|error| panic!("stopped in call {calls}: {error:?}"));
            let added = engine.stock(1, Adjust::add(1).key(1)).expect("there is room");
            engine.run_until_idle();
            assert!(added.is_durable());
            engine.close().expect("closed");
            assert_eq!(open(&left, &clock).expect("closed").recovery().records, 1);
        }
    }
}

/// The story: a tail is torn, and the machine loses power again in any call of the open that cuts it off. In the
/// end everything that was acknowledged is there, and the torn block is not.
#[test]
fn an_open_that_was_cut_short_is_done_again() {
    let mut books = Books::of_two_lives();
    books.kill();
    // A tail that no other block names.
    let shard = (0..books.blocks.len())
        .find(|shard| books.named(*shard) < books.blocks[*shard].len())
        .expect("some shard's last block is named by no block");
    let last = books.blocks[shard].last().expect("blocks");
    let torn_at = (last.range.start + last.content_end) / 2;
    let mut kept = books.all();
    kept[shard] -= 1;
    let replayed = books.replay(&kept);
    for calls in 0.. {
        let storage = books.storage.deep_copy();
        let noise = vec![0xEE; last.content_end - torn_at];
        storage.overwrite(&last.path, torn_at as u64, &noise).expect("a segment");
        let stopped = stop_in(&storage, calls);
        let opened = open(&storage, &books.clock).is_ok();
        assert_eq!(opened, !stopped.load(Ordering::Relaxed));
        if opened {
            assert!(calls > 10, "no call was cut short");
            return;
        }
        for left in
            LOSSES.map(|loss| lose_power(&storage, loss)).into_iter().chain([storage.kill()])
        {
            let engine = open(&left, &books.clock)
                .unwrap_or_else(|error| panic!("stopped in call {calls}: {error:?}"));
            replayed
                .check(&engine)
                .unwrap_or_else(|what| panic!("stopped in call {calls}: {what}"));
        }
    }
}

fn of_one_shard(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    options(storage, clock).partitions(1).log_shards(1)
}

/// Adds one unit, with a reference of this length.
fn add(engine: &SteppedEngine, key: u128, reference_bytes: usize) {
    let adjust = Adjust::add(1).key(key).reference("x".repeat(reference_bytes));
    drop(engine.stock(1, adjust).expect("there is room"));
}

/// The story: the machine loses power in the write of a block of two pages. The block begins a new segment, since
/// the old one has one page left. The first page reached the disk and the second did not. That is a torn tail like
/// any other. The open must not take it for a block that has lost the one before it.
#[test]
fn a_write_that_tore_at_the_start_of_a_segment_is_cut_off() {
    let clock = Arc::new(ManualClock::default());
    for torn_bytes in [512, 1_024, 4_096, 5_000] {
        let storage = MemoryStorage::new();
        let mut engine = SteppedEngine::open(of_one_shard(&storage, &clock)).expect("new");
        let pages = SEGMENT_BYTES / 4_096;
        for key in 1..u128::from(pages) {
            add(&engine, key, 0);
            assert_eq!(engine.step_writer(0), Step::Wrote);
        }
        engine.step_segments();
        add(&engine, 900, 5_000);
        storage.set_fault_hook(Some(Arc::new(move |call| match call.operation {
            Operation::WriteDurable => Fault::Torn { bytes: torn_bytes },
            _ => Fault::None,
        })));
        assert_eq!(engine.step_writer(0), Step::Ended);
        drop(engine);
        let left = lose_power(&storage, 1);
        let opened = SteppedEngine::open(of_one_shard(&left, &clock));
        let mut engine = opened.unwrap_or_else(|error| panic!("{torn_bytes} bytes: {error}"));
        assert_eq!(engine.recovery().records, pages - 1);
        assert_eq!(engine.recovery().torn_shards, 1, "{torn_bytes} bytes: it was torn");
        // The engine writes over the remains.
        for key in 901..905 {
            add(&engine, key, 5_000);
            assert_eq!(engine.step_writer(0), Step::Wrote);
        }
        engine.close().expect("closed");
        let engine = SteppedEngine::open(of_one_shard(&left, &clock)).expect("nothing is damaged");
        assert_eq!(engine.recovery().records, pages - 1 + 4);
    }
}

/// The story: an engine that does not sync is closed cleanly, and the machine loses power before the operating
/// system has written its pages back. The host accepts to lose what was not written. The manifest of the close must
/// not prevent that.
#[test]
fn a_folder_that_was_closed_without_syncs_opens_after_a_loss_of_power() {
    let clock = Arc::new(ManualClock::default());
    for loss in LOSSES {
        let storage = MemoryStorage::new();
        let written =
            |storage: &MemoryStorage| of_one_shard(storage, &clock).durability(Durability::Written);
        let engine = SteppedEngine::open(written(&storage)).expect("new");
        (1..4).for_each(|key| add(&engine, key, 0));
        engine.close().expect("closed");
        let left = lose_power(&storage, loss);
        let opened = SteppedEngine::open(written(&left).cut_after_power_loss(true));
        let engine = opened.unwrap_or_else(|error| panic!("loss {loss}: {error}"));
        assert!(engine.recovery().records <= 3);
    }
}

/// The story: power is lost under an engine that does not sync. Of two blocks the later one survives, and the host
/// accepts a cut. Blocks of the next life have other sizes and end elsewhere. So one whole old block stays between
/// a segment's last block and its end, with the number that comes next. It is from an earlier life, and not a
/// broken chain.
#[test]
fn a_log_that_was_cut_back_goes_on_and_opens_again() {
    let clock = Arc::new(ManualClock::default());
    let storage = MemoryStorage::new();
    let pages = u128::from(SEGMENT_BYTES / 4_096);
    let mut engine = SteppedEngine::open(of_one_shard(&storage, &clock)).expect("new");
    for key in 1..=pages - 2 {
        add(&engine, key, 0);
        assert_eq!(engine.step_writer(0), Step::Wrote);
    }
    drop(engine);
    let storage = storage.kill();

    // Two pages are left in the segment; two blocks go there, and only the second is written back.
    let written = of_one_shard(&storage, &clock).durability(Durability::Written);
    let mut engine = SteppedEngine::open(written).expect("nothing is damaged");
    for key in [900, 901] {
        add(&engine, key, 0);
        assert_eq!(engine.step_writer(0), Step::Wrote);
    }
    drop(engine);
    let mut draws = [0, 1].into_iter();
    let storage = storage.crash(&mut |below| draws.next().unwrap_or(0).min(below - 1));
    let refused = SteppedEngine::open(of_one_shard(&storage, &clock));
    assert!(matches!(refused, Err(OpenError::Corrupt { shard: Some(0), .. })), "{refused:?}");
    let consents = of_one_shard(&storage, &clock).cut_after_power_loss(true);
    let mut engine = SteppedEngine::open(consents).expect("cut");
    assert_eq!(u128::from(engine.recovery().records), pages - 2);

    // The next block takes one of the two pages, the one after it needs two, and so a new segment.
    for (key, reference_bytes) in [(902, 0), (903, 5_000)] {
        add(&engine, key, reference_bytes);
        assert_eq!(engine.step_writer(0), Step::Wrote);
    }
    engine.close().expect("closed");
    let engine = SteppedEngine::open(of_one_shard(&storage, &clock))
        .unwrap_or_else(|error| panic!("after a clean close: {error}"));
    let again = engine.stock(1, Adjust::add(1).key(902)).expect("there is room");
    assert!(matches!(again.peek(), Some(Adjusted::Done { replayed: true, .. })));
}

/// The story: a process is killed between a write and its sync. The next one reads the block from the page cache
/// and answers a retry with it. Then the power goes, and with it the page cache.
#[test]
fn what_an_open_has_read_is_durable_before_any_answer() {
    for direct in [true, false] {
        for durability in [Durability::Synced, Durability::Written] {
            let clock = Arc::new(ManualClock::default());
            let storage = MemoryStorage::new().direct(direct);
            let with =
                |storage: &MemoryStorage| of_one_shard(storage, &clock).durability(durability);
            let mut engine = SteppedEngine::open(with(&storage)).expect("new");
            add(&engine, 1, 0);
            engine.run_until_idle();
            let placed = engine.place(Order::new(1, 1).line(1, 1)).expect("there is room");
            let order = placed.peek().and_then(|placed| placed.held()).expect("held").order;
            let stopped = stop_in(&storage, 0);
            assert_eq!(engine.step_writer(0), Step::Ended);
            assert!(stopped.load(Ordering::Relaxed));
            drop((placed, engine));
            let storage = storage.kill();
            let engine = SteppedEngine::open(with(&storage)).expect("whole");
            assert!(engine.order(order).expect("whole").durable);
            drop(engine);
            let storage = lose_power(&storage, 0);
            let engine = SteppedEngine::open(with(&storage)).expect("whole");
            assert!(engine.order(order).expect("as before").durable, "{direct} {durability:?}");
        }
    }
}
