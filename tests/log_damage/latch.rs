//! A disk that fails while the engine runs: the log is latched, and only an open can find out what the disk holds.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use doorbuster::testing::{Fault, ManualClock, MemoryStorage, Operation, Step, SteppedEngine};
use doorbuster::{
    Adjust, Adjusted, BatchError, CloseError, Commit, CommitError, Order, OrderError, OrderId,
    OrderState, PlaceError, Placed, SaleRules, StockError, Unavailable,
};

use crate::books::{SHARDS, open};

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
struct Failure {
    operation: Operation,
    fault: Fault,
    direct: bool,
}

const EIO: Fault = Fault::Error(ErrorKind::Other);

/// The failures: a write past the page cache that fails, one that was written and not flushed, one that was torn.
/// The same with a disk that has no direct access, where the page cache then shows what the disk lacks.
const FAILURES: [Failure; 5] = [
    Failure { operation: Operation::WriteDurable, fault: EIO, direct: true },
    Failure {
        operation: Operation::WriteDurable,
        fault: Fault::Torn { bytes: 1 << 20 },
        direct: true,
    },
    Failure {
        operation: Operation::WriteDurable,
        fault: Fault::Torn { bytes: 1_024 },
        direct: true,
    },
    Failure { operation: Operation::WriteDurable, fault: EIO, direct: false },
    Failure {
        operation: Operation::WriteDurable,
        fault: Fault::Torn { bytes: 1_024 },
        direct: false,
    },
];

struct Sale {
    storage: MemoryStorage,
    clock: Arc<ManualClock>,
    engine: SteppedEngine,
    /// Orders that were acknowledged.
    held: OrderId,
    confirmed: OrderId,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn poll<T>(commit: &mut Commit<T>, flag: &Arc<Flag>) -> Poll<Result<T, CommitError>> {
    let waker = Waker::from(flag.clone());
    std::pin::Pin::new(commit).poll(&mut Context::from_waker(&waker))
}

use std::future::Future;

fn order(buyer: u64, key: u128) -> Order {
    Order::new(buyer, key).line(1, 1)
}

fn id(commit: &Commit<Placed>) -> OrderId {
    commit.peek().and_then(Placed::held).expect("held").order
}

impl Sale {
    fn new(direct: bool) -> Self {
        let storage = MemoryStorage::new().direct(direct);
        let clock = Arc::new(ManualClock::default());
        let mut engine = open(&storage, &clock).expect("new");
        let added = engine.stock(1, Adjust::add(50).key(1)).expect("there is room");
        let empty = engine.stock(2, Adjust::set(0).expect(0).key(1)).expect("there is room");
        engine.run_until_idle();
        let (held, confirmed) = (engine.place(order(1, 1)), engine.place(order(2, 1)));
        let (held, confirmed) =
            (id(&held.expect("there is room")), id(&confirmed.expect("there is room")));
        let paid = engine.confirm(confirmed).expect("there is room");
        engine.run_until_idle();
        assert!(added.is_durable() && empty.is_durable() && paid.is_durable());
        Self { storage, clock, engine, held, confirmed }
    }

    /// Makes the next such call fail, and counts the calls after it that change anything.
    fn fail(&self, failure: Failure) -> Arc<AtomicU64> {
        let calls_after = Arc::new(AtomicU64::new(0));
        let (count, failed) = (calls_after.clone(), AtomicBool::new(false));
        self.storage.set_fault_hook(Some(Arc::new(move |call| {
            if failed.load(Ordering::Relaxed) {
                count.fetch_add(u64::from(call.operation.is_change()), Ordering::Relaxed);
            } else if call.operation == failure.operation {
                failed.store(true, Ordering::Relaxed);
                return failure.fault;
            }
            Fault::None
        })));
        calls_after
    }

    /// Places a new order of a buyer whose partition is written by this shard.
    fn place_in(&self, shard: usize) -> Commit<Placed> {
        for buyer in 100.. {
            let commit = self.engine.place(order(buyer, 1)).expect("there is room");
            let held = id(&commit);
            if held.get() as usize % 1024 % SHARDS == shard {
                return commit;
            }
            let cancelled = self.engine.cancel(held).expect("there is room");
            drop(cancelled);
        }
        unreachable!("some buyer is in each shard")
    }
}

/// The story: a write or its flush fails under an order that a buyer waits for. It is not known whether the disk
/// has it, and a second sync would succeed without having written it, because Linux calls the pages clean.
#[test]
fn after_a_failed_write_nothing_is_acknowledged_and_nothing_is_tried_again() {
    for failure in FAILURES {
        let mut sale = Sale::new(failure.direct);
        let (mut here, mut there) = (sale.place_in(0), sale.place_in(1));
        let (flag_here, flag_there) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
        assert!(
            poll(&mut here, &flag_here).is_pending() && poll(&mut there, &flag_there).is_pending()
        );
        let before = (sale.engine.levels(1), sale.engine.levels(2));

        let calls_after = sale.fail(failure);
        assert_eq!(sale.engine.step_writer(0), Step::Ended, "{failure:?}");
        assert!(flag_here.0.load(Ordering::Relaxed), "woken");
        assert!(matches!(poll(&mut here, &flag_here), Poll::Ready(Err(CommitError::Unknown))));
        assert_eq!(
            sale.engine.step_writer(1),
            Step::Ended,
            "the failure latches the other shards too"
        );
        assert!(flag_there.0.load(Ordering::Relaxed), "woken");
        assert!(matches!(poll(&mut there, &flag_there), Poll::Ready(Err(CommitError::Unknown))));

        assert_refused_by_name(&sale);
        assert!(matches!(sale.engine.ready().wait(), Err(CommitError::Unknown)));
        // Reads still work.
        assert_eq!((sale.engine.levels(1), sale.engine.levels(2)), before);
        let held = sale.engine.order(sale.held).expect("there");
        assert!(held.state == OrderState::Held && held.durable);

        sale.engine.run_until_idle();
        sale.engine.step_segments();
        assert!(matches!(sale.engine.close(), Err(CloseError::Latched { .. })));
        assert_eq!(calls_after.load(Ordering::Relaxed), 0, "{failure:?}: tried again");
    }
}

fn assert_refused_by_name(sale: &Sale) {
    let engine = &sale.engine;
    let latched = |refused: &Unavailable| matches!(refused, Unavailable::Latched { .. });
    let add = engine.stock(1, Adjust::add(1).key(9));
    assert!(matches!(&add, Err(StockError::Unavailable(it)) if latched(it)), "{add:?}");
    // A repeated adjustment is refused too: its answer might not be the last one.
    let again = engine.stock(1, Adjust::add(50).key(1));
    assert!(matches!(&again, Err(StockError::Unavailable(it)) if latched(it)), "{again:?}");
    let rules = engine.rules(1, SaleRules::new().buyer_limit(1));
    assert!(matches!(&rules, Err(StockError::Unavailable(it)) if latched(it)), "{rules:?}");
    let placed = engine.place(order(9, 1));
    assert!(matches!(&placed, Err(PlaceError::Unavailable(it)) if latched(it)), "{placed:?}");
    let batch = engine.place_batch(&[order(9, 1)]);
    assert!(matches!(&batch, Err(BatchError::Unavailable(it)) if latched(it)), "{batch:?}");
    for ended in
        [engine.confirm(sale.held), engine.cancel(sale.held), engine.fulfil(sale.confirmed)]
    {
        assert!(matches!(&ended, Err(OrderError::Unavailable(it)) if latched(it)), "{ended:?}");
    }
}

/// The story: as before, and a buyer asks for a SKU that is sold out. It may be sold out because of holds that the
/// latched log has lost, so the answer is to come back, not that it is gone.
#[test]
fn a_latched_log_does_not_say_sold_out() {
    let mut sale = Sale::new(true);
    let waiting = sale.place_in(0);
    drop(sale.fail(FAILURES[0]));
    assert_eq!(sale.engine.step_writer(0), Step::Ended);
    drop(waiting);
    let placed = sale.engine.place(Order::new(9, 1).line(2, 1));
    assert!(
        matches!(&placed, Err(PlaceError::Unavailable(Unavailable::Latched { .. }))),
        "{placed:?}"
    );
}

/// The story: after the failed write the process ends, or the power goes as well. The reopening reads what the disk
/// has, and from then on that counts, whatever becomes of the page cache.
#[test]
fn after_a_failed_write_the_reopening_decides_for_good() {
    let mut survived = Vec::new();
    for failure in FAILURES {
        // The losses: a kill; a loss of power that leaves nothing of what was unsynced, all of it, or some of it.
        for (crash, keeps) in [(false, 0), (true, 0), (true, 1), (true, 2)] {
            let mut sale = Sale::new(failure.direct);
            let placed = sale.place_in(0);
            let (new, key) = (id(&placed), placed.peek().and_then(Placed::held).copied());
            drop(sale.fail(failure));
            assert_eq!(sale.engine.step_writer(0), Step::Ended);
            drop((placed, sale.engine));
            let storage = match crash {
                true => sale.storage.crash(&mut |below| keeps.min(below - 1)),
                false => sale.storage.kill(),
            };
            let engine = open(&storage, &sale.clock).expect("torn or whole");
            assert!(engine.order(sale.held).expect("acknowledged").durable);
            let first = engine.order(new).map(|viewed| viewed.view().clone());
            survived.push(first.is_ok());
            drop(engine);
            // What the open decided is durable: here the disk loses everything that it can.
            let storage = storage.crash(&mut |_| 0);
            let engine = open(&storage, &sale.clock).expect("decided before");
            let second = engine.order(new).map(|viewed| viewed.view().clone());
            assert_eq!(first, second, "{failure:?}, {crash}, {keeps}: {key:?}");
        }
    }
    assert!(survived.contains(&true) && survived.contains(&false), "{survived:?}");
}

/// The story: the disk fails while the next segment is prepared, before any order needs it.
#[test]
fn a_segment_that_cannot_be_made_latches_the_log() {
    let operations = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncFolder,
    ];
    for operation in operations {
        let mut sale = Sale::new(true);
        let mut key = 10;
        // Uses up the spare segment.
        while sale.engine.stats().blocks < 30 {
            key += 1;
            drop(sale.engine.stock(1, Adjust::add(1).key(key)).expect("there is room"));
            (0..SHARDS).for_each(|shard| _ = sale.engine.step_writer(shard));
        }
        drop(sale.fail(Failure { operation, fault: EIO, direct: true }));
        sale.engine.step_segments();
        assert_refused_by_name(&sale);
        (0..SHARDS).for_each(|shard| assert_eq!(sale.engine.step_writer(shard), Step::Ended));
        drop(sale.engine);
        let engine = open(&sale.storage.kill(), &sale.clock).expect("nothing is damaged");
        let again = engine.stock(1, Adjust::add(1).key(key)).expect("there is room");
        assert!(
            matches!(again.peek(), Some(Adjusted::Done { replayed: true, .. })),
            "{operation:?}"
        );
    }
}
