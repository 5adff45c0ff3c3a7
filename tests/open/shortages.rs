//! A process that is short of descriptors or memory, and a disk that has no room where it once had.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use doorbuster::testing::{Fault, MemoryStorage, Operation, Step, SteppedEngine};
use doorbuster::{
    Adjust, Engine, Options, Order, OrderError, OrderId, PlaceError, RequestKey, Status,
    StockError, Unavailable, Workload,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::samples::{SKU, assert_complete, fill, in_memory};

const PASSING: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::INTR];

fn is_of_log(path: &str) -> bool {
    path.starts_with("log/")
}

/// Places orders until one is refused, and makes each durable before the next. Returns the ids, and the error that
/// ended it.
fn sell_out_of_room(engine: &mut SteppedEngine) -> (Vec<OrderId>, Unavailable) {
    let mut orders = Vec::new();
    for buyer in 1000.. {
        let placed = match engine.place(Order::new(buyer, 1).line(SKU, 1)) {
            Ok(placed) => placed,
            Err(PlaceError::Unavailable(why)) => return (orders, why),
            Err(error) => panic!("{error}"),
        };
        orders.push(placed.peek().and_then(|placed| placed.held()).expect("held").order);
        engine.run_until_idle();
        // The room that is kept is for endings, not for this order.
        assert!(placed.is_durable(), "order {} of them", orders.len());
    }
    unreachable!("buyers do not end")
}

fn add_stock(engine: &mut SteppedEngine) {
    drop(engine.stock(SKU, Adjust::add(10_000).key(99)).expect("accepted"));
    engine.run_until_idle();
}

/// The story: descriptors or memory run out for a while, at each call that makes a segment (etcd 3269, influxdb 516
/// and 621). No promise rests on a spare. Orders are taken while the room for endings is there, new ones are then
/// refused by name, orders can still end, and the engine works again when the shortage is over.
#[test]
fn a_shortage_while_a_spare_is_made_latches_nothing() {
    let calls = [Operation::Create, Operation::Write, Operation::Rename, Operation::SyncFolder];
    for (errno, operation) in PASSING.into_iter().flat_map(|errno| calls.map(|call| (errno, call)))
    {
        // Other errors may come from a sync of the folder that was begun. The engine never tries that one again.
        if operation == Operation::SyncFolder && !matches!(errno, Errno::MFILE | Errno::NFILE) {
            continue;
        }
        let what = format!("{errno:?} at {operation:?}");
        let (storage, short) = (MemoryStorage::new(), Arc::new(AtomicBool::new(false)));
        let is_short = short.clone();
        storage.set_fault_hook(Some(Arc::new(move |call| {
            let is_hit = call.operation == operation
                && is_of_log(call.path)
                && (operation != Operation::Write || call.path.contains("prepare-"));
            match is_short.load(Ordering::Relaxed) && is_hit {
                true => Fault::System(errno.raw_os_error()),
                false => Fault::None,
            }
        })));
        let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
        fill(&mut engine);
        add_stock(&mut engine);
        let before = engine.stats();
        assert_eq!(before.segment_shortages, 0, "{what}");
        short.store(true, Ordering::Relaxed);
        let (orders, why) = sell_out_of_room(&mut engine);
        assert!(matches!(why, Unavailable::SystemShort { .. }), "{what}: {why}");
        assert_eq!(engine.status(), Status::SystemShort, "{what}");
        assert!(engine.stats().segment_shortages > 0, "{what}");
        for order in &orders {
            let confirmed = engine.confirm(*order).expect("orders can still end");
            engine.run_until_idle();
            assert!(confirmed.is_durable(), "{what}");
        }
        short.store(false, Ordering::Relaxed);
        engine.step_segments();
        assert_eq!(engine.status(), Status::Serving, "{what}");
        let placed = engine.place(Order::new(7, 77).line(SKU, 1)).expect("it is over");
        engine.run_until_idle();
        assert!(placed.is_durable(), "{what}");
        assert_eq!(engine.levels(SKU).expect("known").sold, orders.len() as i64, "{what}");
        drop(engine);
        let engine = SteppedEngine::open(in_memory(&storage.kill())).expect("opens again");
        assert_eq!(engine.levels(SKU).expect("known").sold, orders.len() as i64, "{what}");
    }
}

/// Only the first spares are open. A spare that cannot be opened when its turn comes makes the writer wait.
#[test]
fn a_shortage_while_a_spare_is_opened_makes_the_writer_wait() {
    for errno in PASSING {
        let (storage, short) = (MemoryStorage::new(), Arc::new(AtomicBool::new(false)));
        let is_short = short.clone();
        let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
        fill(&mut engine);
        add_stock(&mut engine);
        // The open reads the log too.
        storage.set_fault_hook(Some(Arc::new(move |call| {
            let is_hit = matches!(call.operation, Operation::Open | Operation::Create);
            match is_short.load(Ordering::Relaxed) && is_hit && is_of_log(call.path) {
                true => Fault::System(errno.raw_os_error()),
                false => Fault::None,
            }
        })));
        short.store(true, Ordering::Relaxed);
        let mut waits = Vec::new();
        'full: for key in 100.. {
            let added = match engine.stock(SKU, Adjust::add(1).key(key)) {
                Ok(added) => added,
                Err(StockError::Unavailable(Unavailable::SystemShort { .. })) => break,
                Err(error) => panic!("{errno:?}: {error}"),
            };
            for shard in 0..engine.shards() {
                engine.step_segments();
                match engine.step_writer(shard) {
                    Step::Full => {
                        waits.push(added);
                        break 'full;
                    }
                    step => assert_ne!(step, Step::Ended, "{errno:?}: {:?}", added.peek()),
                }
            }
        }
        short.store(false, Ordering::Relaxed);
        engine.run_until_idle();
        assert!(waits.iter().all(|added| added.is_durable()), "{errno:?}");
        assert!(engine.stats().segment_shortages > 0, "{errno:?}");
        engine.close().expect("not latched");
    }
}

/// A disk that fails, rather than being short of something, is reported at once, with the file that failed.
#[test]
fn a_spare_on_a_failing_disk_is_named() {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
    storage.set_fault_hook(Some(Arc::new(|call| match call.path.contains("prepare-") {
        true => Fault::System(Errno::IO.raw_os_error()),
        false => Fault::None,
    })));
    fill_until_latched(&mut engine);
    let error = engine.place(Order::new(1, 1).line(SKU, 1)).expect_err("latched");
    let PlaceError::Unavailable(Unavailable::Latched { detail, .. }) = &error else {
        panic!("{error:?}");
    };
    assert!(detail.contains("/prepare-00000000"), "{detail}");
}

fn fill_until_latched(engine: &mut SteppedEngine) {
    for key in 0.. {
        if engine.stock(SKU, Adjust::add(1).key(key)).is_err() {
            return;
        }
        engine.run_until_idle();
    }
}

/// The story: a copy-on-write file system is full. Even a block in a segment that was written in full needs room
/// there. New orders are refused, and live orders can end: the engine removes a spare to make room.
#[test]
fn endings_go_on_where_overwriting_needs_room() {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
    fill(&mut engine);
    add_stock(&mut engine);
    let (full, room) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (is_full, has_room) = (full.clone(), room.clone());
    storage.set_fault_hook(Some(Arc::new(move |call| {
        let bytes = call.len as u64;
        if !is_full.load(Ordering::Relaxed) {
            return Fault::None;
        }
        match call.operation {
            Operation::Remove if call.path.ends_with(".segment") => {
                has_room.fetch_add(32 << 10, Ordering::Relaxed);
            }
            Operation::Create => return Fault::Error(ErrorKind::StorageFull),
            Operation::WriteDurable => {
                let left = has_room.load(Ordering::Relaxed).checked_sub(bytes);
                let Some(left) = left else { return Fault::Error(ErrorKind::StorageFull) };
                has_room.store(left, Ordering::Relaxed);
            }
            _ => {}
        }
        Fault::None
    })));
    let held: Vec<OrderId> = (0..40)
        .map(|buyer| {
            let placed =
                engine.place(Order::new(500 + buyer, 1).line(SKU, 1)).expect("there is room");
            engine.run_until_idle();
            placed.peek().and_then(|placed| placed.held()).expect("held").order
        })
        .collect();
    full.store(true, Ordering::Relaxed);
    let (late, why) = sell_out_of_room(&mut engine);
    assert!(matches!(why, Unavailable::DiskFull { .. }), "{why}");
    assert_eq!(engine.status(), Status::DiskFull);
    for order in held.iter().chain(&late) {
        let confirmed = match engine.confirm(*order) {
            Ok(confirmed) => confirmed,
            Err(OrderError::Unavailable(why)) => panic!("{why}"),
            Err(error) => panic!("{error}"),
        };
        engine.run_until_idle();
        assert!(confirmed.is_durable());
    }
    full.store(false, Ordering::Relaxed);
    engine.step_segments();
    let placed = engine.place(Order::new(7, 77).line(SKU, 1)).expect("there is room again");
    engine.run_until_idle();
    assert!(placed.is_durable());
    engine.close().expect("not latched");
    let engine = SteppedEngine::open(in_memory(&storage.kill())).expect("opens again");
    let sold = (held.len() + late.len()) as i64;
    assert_eq!(engine.levels(SKU).expect("known").sold, sold);
}

/// A block finds no room once, because a file that the engine was making took it. The engine writes the block
/// again, and the room for endings stays.
#[test]
fn a_block_without_room_for_a_moment_costs_no_spare() {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
    fill(&mut engine);
    let (fails, removed) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (fails_once, counts) = (fails.clone(), removed.clone());
    storage.set_fault_hook(Some(Arc::new(move |call| match call.operation {
        Operation::WriteDurable if fails_once.swap(false, Ordering::Relaxed) => {
            Fault::Error(ErrorKind::StorageFull)
        }
        Operation::Remove if call.path.ends_with(".segment") => {
            counts.fetch_add(1, Ordering::Relaxed);
            Fault::None
        }
        _ => Fault::None,
    })));
    let placed = engine.place(Order::new(7, 77).line(SKU, 1)).expect("there is room");
    engine.run_until_idle();
    assert!(placed.is_durable() && !fails.load(Ordering::Relaxed));
    assert_eq!(removed.load(Ordering::Relaxed), 0);
}

#[test]
fn a_folder_whose_spares_are_short_of_nothing_counts_no_shortage() {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
    fill(&mut engine);
    assert_eq!(engine.stats().segment_shortages, 0);
    assert_complete(&engine);
}

const FOLDER: &str = "DOORBUSTER_SHORT_FOLDER";
const SHARDS: usize = 8;
/// The number of spares that a shard's live orders call for.
const SPARES: usize = 20;

fn crowded(folder: &Path) -> Options {
    Options::new(folder)
        .partitions(SHARDS)
        .log_shards(SHARDS)
        .lines_max(2)
        .payload_bytes_max(64)
        .block_bytes_max(16 << 10)
        .segment_bytes(64 << 10)
}

/// Orders in memory call for spares, not for descriptors. A process whose limit is what [`Options::estimate`] says
/// does not reach it. The limit holds for a whole process, so a child takes it.
#[test]
fn orders_in_memory_do_not_use_up_descriptors() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "--ignored", "--nocapture", "shortages::under_a_limit"])
        .env(FOLDER, folder.path())
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the part of a child process; the test above starts it"]
fn under_a_limit() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let estimate = crowded(folder).estimate(&Workload::a_day(5000)).expect("it fits");
    let open_now = std::fs::read_dir("/proc/self/fd").expect("listed").count() as u64;
    let limit = Rlimit {
        current: Some(open_now + estimate.descriptors),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("lower");
    let engine = Engine::open(crowded(folder)).expect("opens");
    let added = engine.stock(SKU, Adjust::add(100_000).key(1)).expect("accepted");
    added.wait().expect("durable");
    for first in (0..2400).step_by(400) {
        let orders: Vec<_> = (first..first + 400)
            .map(|buyer: u64| Order::new(buyer, RequestKey::new(1)).line(SKU, 1))
            .collect();
        engine.place_batch(&orders).expect("accepted").wait().expect("durable");
    }
    let segments = |shard: usize| {
        let names = std::fs::read_dir(folder.join(format!("log/{shard:02}")));
        names.map_or(0, Iterator::count)
    };
    while (0..SHARDS).any(|shard| segments(shard) < SPARES) {
        let stats = engine.stats();
        assert_eq!(stats.segment_shortages, 0, "of {} descriptors", estimate.descriptors);
        std::thread::yield_now();
    }
    let last = engine.place(Order::new(1 << 40, RequestKey::new(1)).line(SKU, 1));
    drop(last.expect("accepted").wait().expect("durable"));
    assert_eq!(engine.stats().segment_shortages, 0);
    engine.close().expect("closes");
}
