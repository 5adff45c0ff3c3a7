//! Folders of files that no engine wrote, and what an open of them may do. Fuzzers (`tests/fuzz`) and tests share
//! this file.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::storage::{Access, Storage};
use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, OpenError, Options, Order, Placed, SkuId};

pub(crate) const MANIFEST: &str = "MANIFEST";
/// The first checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoints/0000000000.checkpoint";
pub(crate) const SEGMENT_BYTES: u64 = 32_768;
/// The time at which the real files were written and are opened, in milliseconds.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;
pub(crate) const SKUS: u64 = 3;

pub(crate) fn segment(shard: usize, ordinal: usize) -> String {
    format!("log/{shard:02}/{ordinal:010}.segment")
}

pub(crate) fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .segment_bytes(SEGMENT_BYTES)
        .block_bytes_max(16_384)
        .lines_max(8)
        .payload_bytes_max(6_000)
        .skus_max(64)
}

/// Makes a folder with these files, each with its name and its content.
pub(crate) fn storage_of<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_root().expect("in memory");
    for (path, bytes) in files {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        // Some folders are there already.
        folders.for_each(|folder| drop(storage.create_folder(folder)));
        let file = storage.create(path, Access::Cached).expect("a new name");
        file.write_durable(bytes, 0).expect("in memory");
    }
    storage
}

fn contents(storage: &MemoryStorage) -> Vec<(String, Vec<u8>)> {
    let files = storage.list_files().into_iter().filter(|path| path != "LOCK");
    files.map(|path| (path.clone(), storage.read_file(&path).expect("listed"))).collect()
}

/// Opens the folder. Whatever its bytes are, the open either returns an error that says what is wrong, and changes
/// nothing; or it returns an engine whose figures add up, which works and opens again.
pub(crate) fn open(
    storage: &MemoryStorage,
    cut: bool,
    look: impl FnOnce(&SteppedEngine),
) -> Result<(), OpenError> {
    let options = |storage, clock| options(storage, clock).cut_after_power_loss(cut);
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let before = contents(storage);
    let file_bytes: usize = before.iter().map(|(_, bytes)| bytes.len()).sum();
    let opened = SteppedEngine::open(options(storage, &clock));
    // The open reads each page a few times at most.
    let calls_max = 200 + 8 * (file_bytes / 4096 + before.len()) as u64;
    assert!(storage.calls() < calls_max, "{} calls for {file_bytes} bytes", storage.calls());
    let mut engine = match opened {
        Ok(engine) => engine,
        Err(error) => {
            assert!(!matches!(error, OpenError::Io { .. }), "no call of the disk failed: {error}");
            assert!(contents(storage) == before, "an open that was refused changed files: {error}");
            return Err(error);
        }
    };
    let check = |engine: &SteppedEngine| {
        for levels in (0..=SKUS).filter_map(|sku| engine.levels(sku)) {
            assert!(levels.add_up(), "{levels:?}");
        }
        engine.stats()
    };
    check(&engine);
    look(&engine);
    let orders = engine.stats().orders;
    // It does not matter here whether they are refused.
    let placed: Vec<_> = (0..4_u64)
        .filter_map(|buyer| engine.place(Order::new(buyer, u128::MAX).line(1, 1)).ok())
        .filter(|placed| placed.peek().and_then(Placed::held).is_some_and(|held| !held.replayed))
        .collect();
    drop(engine.stock(SkuId::new(1), Adjust::add(1).key(u128::MAX)));
    clock.advance(Duration::from_secs(3_600));
    engine.run_until_idle();
    check(&engine);
    let durable = placed.iter().filter(|placed| placed.is_durable()).count() as u64;
    let left = orders + durable - engine.stats().retired;
    drop(engine);
    let engine = SteppedEngine::open(options(&storage.kill(), &clock));
    let engine = engine.unwrap_or_else(|error| panic!("it opened once: {error}"));
    assert_eq!(check(&engine).orders, left, "{placed:?}");
    Ok(())
}
