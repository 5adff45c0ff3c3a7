//! Whatever bytes a folder's files hold, an open returns a named error, or an engine that holds a part of what was
//! there. It does not panic, allocate without bound, or run forever.
//!
//! Real files are damaged at random, and half of the time their checksums are made right again. One case:
//! `FORGED_SEED=… cargo test --all-features --test forged_files`; more: `FORGED_CASES=100000 …`. The same entry
//! points are fuzzed, see `tests/fuzz`.

mod entry;
mod folder;
mod forge;
mod real;
#[path = "../support/seeds.rs"]
mod seeds;
mod spoil;

use std::path::Path;
use std::sync::OnceLock;

use doorbuster::Durability;
use fastrand::Rng;
use rustix::process::{Resource, Rlimit, setrlimit};

use folder::{CHECKPOINT, MANIFEST, open, segment, storage_of};
use real::{Kind, Real, real};
use seeds::{Rerun, seeds, stream};
use spoil::Files;

/// Far more than an open of these small folders needs: memory for 16 GiB of orders would not fit.
const ADDRESS_SPACE_BYTES: u64 = 4 << 30;

/// The folders that are damaged. Those of one shard come first.
const KINDS: [Kind; 6] = [
    kind(1, 1, Durability::Synced, false),
    kind(1, 3, Durability::Written, false),
    kind(1, 2, Durability::Synced, true),
    kind(3, 2, Durability::Synced, false),
    kind(2, 3, Durability::Written, false),
    kind(2, 2, Durability::Written, true),
];

const fn kind(shards: usize, lives: u64, durability: Durability, has_checkpoint: bool) -> Kind {
    Kind { shards, lives, durability, has_checkpoint, rounds: 10 }
}

fn reals() -> &'static [Real] {
    static REALS: OnceLock<Vec<Real>> = OnceLock::new();
    REALS.get_or_init(|| {
        let bound = Some(ADDRESS_SPACE_BYTES);
        setrlimit(Resource::As, Rlimit { current: bound, maximum: bound }).expect("lowers it");
        KINDS.into_iter().zip(0..).map(|(kind, seed)| real(kind, seed)).collect()
    })
}

fn cases() -> u64 {
    std::env::var("FORGED_CASES").map_or(1_500, |cases| cases.parse().expect("a number"))
}

/// Runs the cases of one test. They are the same in every run, except for the ids of the engines.
fn each_case(name: &str, run: impl Fn(&mut Rng)) {
    let seeds = match std::env::var("FORGED_SEED") {
        Ok(_) => seeds("FORGED_SEED", 1),
        Err(_) => (0..cases()).collect(),
    };
    for seed in seeds {
        let _rerun = Rerun::new("FORGED_SEED", seed, &format!("--test forged_files {name}"));
        run(&mut stream(0, seed));
    }
}

#[test]
fn spoilt_files_are_refused_or_give_a_part_of_what_was_there() {
    each_case("spoilt_files", |random| {
        let real = &reals()[random.u64(..KINDS.len() as u64) as usize];
        let mut files = Files::of(&real.storage);
        (0..1 + random.u64(..3)).for_each(|_| files.spoil(random));
        let storage = storage_of(files.iter());
        let _ = open(&storage, random.u64(..100) < 30, |engine| {
            assert!(engine.stats().orders <= real.orders.len() as u64);
            assert!(engine.recovery().records <= real.records);
            for was in &real.orders {
                let Ok(is) = engine.order(was.order) else { continue };
                assert_eq!((is.buyer, is.key), (was.buyer, was.key));
                assert_eq!((&is.lines, &is.payload), (&was.lines, &was.payload));
            }
        });
    });
}

/// Numbers are changed before the checksums are made: a length that lies, a quantity that overflows.
#[test]
fn spoilt_files_with_good_checksums_are_refused_or_open() {
    each_case("spoilt_files_with_good", |random| {
        let alone = KINDS.iter().take_while(|kind| kind.shards == 1).count();
        let real = &reals()[random.u64(..alone as u64) as usize];
        let mut files = Files::of(&real.storage);
        files.spoil_signed(random);
        let _ = open(&storage_of(files.iter()), random.u64(..100) < 30, |_| {});
    });
}

#[test]
fn the_forger_changes_nothing_in_real_files() {
    for (real, _) in reals().iter().zip(KINDS).filter(|(_, kind)| kind.shards == 1) {
        let (mut files, real_files) = (Files::of(&real.storage), Files::of(&real.storage));
        files.sign();
        assert!(files.iter().eq(real_files.iter()));
    }
}

/// The checkpoint that the fuzzers start from is whole, and an open loads it, with its own checksums and with new
/// ones.
#[test]
fn the_checkpoint_of_the_fuzzers_is_whole() {
    for kind in ["raw", "signed"] {
        let path = fuzz_folder().join("corpus/checkpoint").join(format!("real-{kind}"));
        let input = std::fs::read(path).expect("in the corpus");
        let storage = entry::checkpointed(&input).expect("an input");
        let opened = open(&storage, false, |engine| {
            assert_eq!(
                (engine.recovery().checkpoint, engine.recovery().checkpoints_damaged),
                (Some(0), 0)
            );
        });
        opened.expect("whole");
    }
}

/// The story: the checksums of this checkpoint are good, but an engine that opened from it skipped its own new
/// records when it was opened again.
#[test]
fn a_checkpoint_with_a_lane_that_begins_behind_its_end_is_damaged() {
    let path = fuzz_folder().join("corpus/checkpoint/lane-begins-behind-its-end");
    let input = std::fs::read(path).expect("in the corpus");
    let storage = entry::checkpointed(&input).expect("an input");
    let opened = open(&storage, false, |engine| {
        let report = engine.recovery();
        assert_eq!((report.checkpoint, report.checkpoints_damaged), (None, 1));
    });
    opened.expect("the log goes back to its beginning");
}

#[test]
fn the_corpus_of_the_fuzzers_passes() {
    type Run = fn(&[u8]);
    let targets = [
        ("log", entry::log as Run),
        ("manifest", entry::manifest),
        ("checkpoint", entry::checkpoint),
    ];
    for (target, run) in targets {
        let inputs =
            std::fs::read_dir(fuzz_folder().join("corpus").join(target)).expect("a corpus");
        for input in inputs {
            let path = input.expect("an input").path();
            eprintln!("{}", path.display());
            run(&std::fs::read(path).expect("readable"));
        }
    }
}

fn fuzz_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz"))
}

/// Run this after a change of the format: `cargo test --all-features --test forged_files -- --ignored`.
#[test]
#[ignore = "writes the files that the fuzzers start from"]
fn write_the_corpus_of_the_fuzzers() {
    let write = |path: &str, parts: [&[u8]; 2]| {
        let path = fuzz_folder().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates it");
        std::fs::write(path, parts.concat()).expect("writes it");
    };
    // The manifest of a first life has seen no block.
    let read = |real: &Real, path: &str| real.storage.read_file(path).expect("a real file");
    let with = real(Kind { rounds: 2, ..kind(1, 1, Durability::Synced, true) }, 7);
    let checkpoint = read(&with, CHECKPOINT);
    write("real/checkpointed/MANIFEST", [&[], &read(&with, MANIFEST)]);
    write("real/checkpointed/segment", [&[], &read(&with, &segment(0, 0))]);
    assert!(
        with.storage.read_file(&segment(0, 1)).is_ok_and(|next| next.iter().all(|it| *it == 0))
    );
    let real = real(kind(1, 1, Durability::Synced, false), 7);
    let (manifest, first) = (read(&real, MANIFEST), read(&real, &segment(0, 0)));
    write("real/MANIFEST", [&[], &manifest]);
    write("real/segment", [&[], &first]);
    for (kind, sign) in [("raw", 0), ("signed", 1)] {
        write(&format!("corpus/log/real-{kind}"), [&[sign], &first]);
        write(&format!("corpus/manifest/real-{kind}"), [&[sign], &manifest]);
        write(&format!("corpus/checkpoint/real-{kind}"), [&[sign], &checkpoint]);
        for blocks in [1, 2, 3] {
            let end = forge::blocks(&first)[blocks][0];
            write(&format!("corpus/log/{blocks}-blocks-{kind}"), [&[sign], &first[..end]]);
        }
    }
}
