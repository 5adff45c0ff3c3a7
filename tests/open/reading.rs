//! A folder that is opened for reading only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use doorbuster::storage::Storage;
use doorbuster::testing::{Fault, ManualClock, MemoryStorage, SteppedEngine, dump};
use doorbuster::{
    Adjust, BackupError, BatchError, Engine, Fill, MerchantError, MerchantRules, OpenError,
    Options, Order, OrderError, OrderId, OrderState, PlaceError, SaleRules, StockError, Switch,
    Unavailable, verify,
};

use crate::samples::{ORDERS, SKU, content, fill, filled, in_memory, on_disk, order};

const WAIT: Fill = Fill::Wait { patience: Duration::from_secs(1) };

/// Counts the calls that would change something.
fn watch(storage: &MemoryStorage) -> Arc<AtomicU64> {
    let changes = Arc::new(AtomicU64::new(0));
    let counts = changes.clone();
    storage.set_fault_hook(Some(Arc::new(move |call| {
        counts.fetch_add(u64::from(call.operation.is_change()), Ordering::Relaxed);
        Fault::None
    })));
    changes
}

/// Returns the id of the first buyer's order.
fn held_in(storage: &MemoryStorage) -> OrderId {
    let engine = SteppedEngine::open(in_memory(&storage.deep_copy())).expect("opens");
    let placed = engine.place(order(0)).expect("an answer");
    placed.peek().and_then(|placed| placed.held()).expect("held").order
}

#[test]
fn a_folder_opened_for_reading_shows_all_and_changes_nothing() {
    let storage = filled();
    let held = held_in(&storage);
    let (before, changes) = (content(&storage), watch(&storage));
    let expected = {
        let engine = SteppedEngine::open(in_memory(&storage.deep_copy())).expect("opens");
        (engine.levels(SKU), engine.dump(), engine.stats().orders)
    };
    let engine = Engine::open_read_only(in_memory(&storage)).expect("opens");
    assert_eq!(engine.levels(SKU), expected.0);
    assert_eq!(engine.stats().orders, expected.2);
    // The first line is the floor of order ids, which an open raises.
    let lines = |dump: &str| dump.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&dump(&engine)), lines(&expected.1));
    assert!(engine.recovery().records > ORDERS);
    let viewed = engine.order(held).expect("known");
    assert_eq!((viewed.state, viewed.durable), (OrderState::Held, true));
    engine.close().expect("closes");
    assert_eq!(engine.levels(SKU), expected.0, "reads still work");
    drop(engine);
    assert_eq!(changes.load(Ordering::Relaxed), 0);
    assert_eq!(content(&storage), before);
}

#[test]
fn every_verb_is_refused_by_name() {
    let storage = filled();
    let engine = Engine::open_read_only(in_memory(&storage)).expect("opens");
    let held = held_in(&storage);
    let read_only = Unavailable::ReadOnly;
    let changes = watch(&storage);
    let sold_out = Order::new(99, 1).line(SKU, 10_000);
    for wanted in [order(0), order(99), sold_out, order(98).fill(WAIT)] {
        let refused = engine.place(&wanted).expect_err("refused");
        assert_eq!(refused, PlaceError::Unavailable(read_only.clone()), "{wanted:?}");
        let handle = engine.sku(SKU).expect("known");
        let refused = handle.place(&wanted).expect_err("refused");
        assert_eq!(refused, PlaceError::Unavailable(read_only.clone()), "{wanted:?}");
    }
    let batch = engine.place_batch(&[order(99)]).map(drop);
    assert_eq!(batch, Err(BatchError::Unavailable(read_only.clone())));
    for ended in [engine.confirm(held), engine.cancel(held), engine.fulfil(held)] {
        assert_eq!(ended.map(drop), Err(OrderError::Unavailable(read_only.clone())));
    }
    let stock = |result: Result<(), StockError>| {
        assert_eq!(result, Err(StockError::Unavailable(read_only.clone())));
    };
    stock(engine.stock(SKU, Adjust::add(1).key(9)).map(drop));
    stock(engine.stock(77, Adjust::add(1).key(9)).map(drop));
    stock(engine.rules(SKU, SaleRules::default()).map(drop));
    stock(engine.end_sale(SKU).map(drop));
    let merchant = engine.merchant(1, MerchantRules::default()).map(drop);
    assert_eq!(merchant, Err(MerchantError::Unavailable(read_only.clone())));
    assert_eq!(engine.switch(Switch::Halted).map(drop), Err(read_only.clone()));
    assert_eq!(engine.checkpoint().map(drop), Err(read_only.clone()));
    let to: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let backup = engine.backup_to(&to).expect_err("refused");
    assert!(matches!(backup, BackupError::Unavailable(Unavailable::ReadOnly)), "{backup:?}");
    assert!(read_only.to_string().contains("reading only"));
    assert_eq!(changes.load(Ordering::Relaxed), 0);
}

/// Holds that are over are shown as over. A wall clock that is far ahead does not prevent reading.
#[test]
fn what_is_over_is_shown_and_not_logged() {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
    let options = |storage: &MemoryStorage| in_memory(storage).clock(clock.clone());
    let mut engine = SteppedEngine::open(options(&storage)).expect("opens");
    fill(&mut engine);
    drop(engine);
    let held = held_in(&storage);
    clock.advance(Duration::from_secs(365 * 24 * 3600));
    clock.reboot();
    let storage = storage.kill();
    let engine = Engine::open_read_only(options(&storage)).expect("opens");
    let viewed = engine.order(held).expect("known");
    assert_eq!((viewed.state, viewed.durable), (OrderState::Expired, false));
    let levels = engine.levels(SKU).expect("known");
    assert_eq!(levels.held, ORDERS as i64, "nothing was returned");
}

#[test]
fn a_folder_that_is_no_engines_is_refused_and_nothing_is_made() {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("sale");
    assert!(matches!(Engine::open_read_only(on_disk(&folder)), Err(OpenError::Io { .. })));
    assert!(!folder.exists());
    fs::create_dir(&folder).expect("made");
    let refused = Engine::open_read_only(on_disk(&folder));
    assert!(matches!(refused, Err(OpenError::Corrupt { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(&folder).expect("listed").count(), 0);
}

/// Returns every file below a folder, with length and times.
fn look(folder: &Path, found: &mut Vec<(PathBuf, u64, SystemTime)>) {
    for entry in fs::read_dir(folder).expect("listed") {
        let (path, about) = {
            let entry = entry.expect("an entry");
            (entry.path(), entry.metadata().expect("there"))
        };
        found.push((path.clone(), about.len(), about.modified().expect("it has a time")));
        if about.is_dir() {
            look(&path, found);
        }
    }
    found.sort();
}

#[test]
fn readers_share_a_folder_and_keep_engines_out_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || -> Options { on_disk(folder.path()) };
    let is_in_use = |opened: Result<Engine, OpenError>| {
        assert!(matches!(opened, Err(OpenError::InUse { .. })), "{opened:?}");
    };
    let engine = Engine::open(options()).expect("opens");
    engine.stock(SKU, Adjust::add(5).key(1)).expect("accepted").wait().expect("durable");
    is_in_use(Engine::open_read_only(options()));
    engine.close().expect("closes");
    drop(engine);
    let mut before = Vec::new();
    look(folder.path(), &mut before);
    let first = Engine::open_read_only(options()).expect("opens");
    let second = Engine::open_read_only(options()).expect("opens");
    assert_eq!(first.levels(SKU), second.levels(SKU));
    assert_eq!(first.levels(SKU).expect("known").stocked, 5);
    is_in_use(Engine::open(options()));
    verify(folder.path()).expect("whole");
    first.close().expect("closes");
    is_in_use(Engine::open(options()));
    drop(second);
    let mut after = Vec::new();
    look(folder.path(), &mut after);
    assert_eq!(before, after);
    Engine::open(options()).expect("free again").close().expect("closes");
}
