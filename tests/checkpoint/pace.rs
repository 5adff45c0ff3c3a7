//! A checkpoint is written in pieces, so that the log's syncs find room between them.

use std::sync::{Arc, Mutex};

use doorbuster::testing::{Fault, MemoryStorage, Operation, SteppedEngine};
use doorbuster::{Adjust, Options, Order};

const PIECE_BYTES: usize = 256 << 10;
const UNSYNCED_BYTES_MAX: usize = 8 << 20;

/// What was written of a checkpoint so far.
#[derive(Default)]
struct Written {
    longest: usize,
    unsynced: usize,
    unsynced_most: usize,
    all: usize,
}

/// The story: a large checkpoint is taken on a disk with a cache of its own. If it were written and synced at
/// once, an order's sync would wait for all of it.
#[test]
fn a_large_checkpoint_is_written_in_pieces_and_synced_between() {
    let storage = MemoryStorage::new();
    let options = Options::on_storage(Arc::new(storage.clone()))
        .partitions(4)
        .segment_bytes(4 << 20)
        .lines_max(4)
        .payload_bytes_max(60_000);
    let mut engine = SteppedEngine::open(options).expect("opens");
    drop(engine.stock(1, Adjust::add(1_000).key(1)).expect("there is room"));
    engine.run_until_idle();
    for buyer in 0..400_u64 {
        let order = Order::new(buyer, 1).line(1, 1).payload(vec![7; 60_000]);
        drop(engine.place(order).expect("there is room"));
        engine.run_until_idle();
    }
    let written: Arc<Mutex<Written>> = Arc::default();
    let seen = written.clone();
    storage.set_fault_hook(Some(Arc::new(move |call| {
        let mut seen = seen.lock().expect("no panic");
        match call.operation {
            _ if call.path != "checkpoints/prepare" => {}
            Operation::Write => {
                seen.longest = seen.longest.max(call.len);
                seen.all += call.len;
                seen.unsynced += call.len;
                seen.unsynced_most = seen.unsynced_most.max(seen.unsynced);
            }
            Operation::Sync => seen.unsynced = 0,
            _ => {}
        }
        Fault::None
    })));
    let asked = engine.checkpoint().expect("open");
    engine.run_until_idle();
    let taken = asked.peek().expect("it is over").expect("the checkpoint is taken");
    let written = written.lock().expect("no panic");
    assert_eq!((taken.orders, taken.bytes), (400, written.all as u64));
    assert!(written.all > 2 * UNSYNCED_BYTES_MAX, "{}", written.all);
    assert_eq!((written.longest, written.unsynced), (PIECE_BYTES, 0));
    assert!(written.unsynced_most < UNSYNCED_BYTES_MAX + PIECE_BYTES, "{}", written.unsynced_most);
}
