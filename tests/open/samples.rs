//! Sample folders to open: in memory and on the disk.

use std::path::Path;
use std::sync::Arc;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, Durability, Engine, OpenError, Options, Order, RequestKey, SkuId};

pub(crate) const SKU: SkuId = SkuId::new(1);
/// The orders in the folders that [`fill`] filled.
pub(crate) const ORDERS: u64 = 12;

/// Small blocks and segments: eight blocks to a segment.
pub(crate) fn small(options: Options) -> Options {
    options
        .lines_max(2)
        .payload_bytes_max(64)
        .block_bytes_max(16 << 10)
        .segment_bytes(32 << 10)
        .partitions(4)
        .log_shards(2)
}

pub(crate) fn in_memory(storage: &MemoryStorage) -> Options {
    small(Options::on_storage(Arc::new(storage.clone()))).clock(Arc::new(ManualClock::default()))
}

/// Options that do not name partitions and shards.
pub(crate) fn any_shape(storage: &MemoryStorage) -> Options {
    let options = Options::on_storage(Arc::new(storage.clone()));
    options.clock(Arc::new(ManualClock::default())).segment_bytes(1 << 20)
}

pub(crate) fn on_disk(folder: &Path) -> Options {
    small(Options::new(folder)).durability(Durability::Written)
}

/// Puts 100 units into stock and holds one for each of [`ORDERS`] buyers, one block at a time.
pub(crate) fn fill(engine: &mut SteppedEngine) {
    drop(engine.stock(SKU, Adjust::add(100).key(1)).expect("accepted"));
    engine.run_until_idle();
    for buyer in 0..ORDERS {
        let placed = engine.place(order(buyer)).expect("an answer");
        engine.run_until_idle();
        assert!(placed.is_durable());
    }
}

pub(crate) fn order(buyer: u64) -> Order {
    Order::new(buyer, RequestKey::new(1)).line(SKU, 1)
}

/// Checks that everything that [`fill`] did is there, and that the engine works.
pub(crate) fn assert_complete(engine: &Engine) {
    for buyer in 0..ORDERS {
        let again = engine.place(order(buyer)).expect("an answer");
        let held = again.peek().and_then(|placed| placed.held()).expect("held");
        assert!(held.replayed, "buyer {buyer}");
    }
    let levels = engine.levels(SKU).expect("known");
    assert_eq!((levels.stocked, levels.held), (100, ORDERS as i64));
    assert!(levels.add_up(), "{levels:?}");
}

/// Returns a folder in memory that was filled and whose engine was killed.
pub(crate) fn filled() -> MemoryStorage {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
    fill(&mut engine);
    storage.kill()
}

pub(crate) fn refusal(options: Options) -> OpenError {
    match SteppedEngine::open(options) {
        Err(error) => error,
        Ok(_) => panic!("it should not open"),
    }
}

/// Returns all files, each with the hash of its bytes.
pub(crate) fn content(storage: &MemoryStorage) -> Vec<(String, blake3::Hash)> {
    let files = storage.list_files().into_iter();
    files
        .map(|path| {
            let bytes = storage.read_file(&path).expect("it is listed");
            (path, blake3::hash(&bytes))
        })
        .collect()
}
