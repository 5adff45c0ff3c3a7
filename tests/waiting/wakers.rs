//! The waker of a watch is the host's code. It may panic, block, or own another watch.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage};
use doorbuster::{
    Adjust, Engine, Fill, Options, Order, OrderId, OrderState, Placed, SaleRules, Transition, Watch,
};

use crate::shop::SKU;
use crate::{PATIENCE, S};

/// Long enough that only a test that hangs reaches it.
const HANGS: Duration = Duration::from_secs(20);

/// The value that a panic carries. Its drop panics again.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("the drop of what a panic carries"));
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        std::panic::resume_unwind(Box::new(Bomb));
    }
}

/// Blocks until the test opens the gate.
#[derive(Default)]
struct Blocks {
    /// Whether a thread waits at the gate, and whether it is open.
    gate: Mutex<(bool, bool)>,
    moved: Condvar,
}

impl Blocks {
    fn wait_for(&self, is: impl Fn(&(bool, bool)) -> bool) {
        let gate = self.gate.lock().expect("no panic");
        drop(self.moved.wait_while(gate, |gate| !is(gate)).expect("no panic"));
    }

    fn change(&self, change: impl FnOnce(&mut (bool, bool))) {
        change(&mut self.gate.lock().expect("no panic"));
        self.moved.notify_all();
    }
}

impl Wake for Blocks {
    fn wake(self: Arc<Self>) {
        self.change(|gate| gate.0 = true);
        self.wait_for(|gate| gate.1);
    }
}

struct Owner(#[allow(dead_code, reason = "it is there to be dropped")] Mutex<Watch>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

/// An engine with threads. One unit of the SKU is held for a second, and some orders wait for it.
struct Sale {
    clock: Arc<ManualClock>,
    engine: Engine,
    waiting: Vec<OrderId>,
}

fn sale(orders: u64) -> Sale {
    let clock = Arc::new(ManualClock::default());
    let options = Options::on_storage(Arc::new(MemoryStorage::new()))
        .clock(clock.clone())
        .partitions(1)
        .log_shards(1)
        .segment_bytes(1 << 20);
    let engine = Engine::open(options).expect("opens");
    let added = engine.stock(SKU, Adjust::add(1).key(1)).expect("there is room").wait();
    assert!(added.is_ok(), "{added:?}");
    engine.rules(SKU, SaleRules::new().waiting_max(10)).expect("known").wait().expect("durable");
    let place = |order| engine.place(order).expect("there is room").wait().expect("durable");
    let held = place(Order::new(1_000, 1).line(SKU, 1).hold_for(S));
    assert!(matches!(held, Placed::Held(_)), "{held:?}");
    let waits = |buyer| Order::new(buyer, 1).line(SKU, 1).fill(Fill::Wait { patience: PATIENCE });
    let waiting = (1..=orders).map(|buyer| match place(waits(buyer)) {
        Placed::Waiting(waiting) => waiting.order,
        other => panic!("it waits: {other:?}"),
    });
    let waiting = waiting.collect();
    Sale { clock, engine, waiting }
}

impl Sale {
    fn watch(&self, nth: usize, waker: &Waker) -> Watch {
        let mut watch = self.engine.watch(self.waiting[nth]).expect("known");
        assert!(poll(&mut watch, waker), "it waits");
        watch
    }

    /// Cancels the first order; returns its watch.
    fn wakes(&self, waker: &Waker) -> Watch {
        let watch = self.watch(0, waker);
        let left =
            self.engine.cancel(self.waiting[0]).expect("there is room").wait().expect("durable");
        assert!(matches!(left, Transition::Done { .. }), "{left:?}");
        watch
    }

    /// The hold expires, and the unit goes to an order that waits.
    fn expires_and_serves(&self, nth: usize) {
        self.clock.advance(2 * S);
        loop {
            let state = self.engine.order(self.waiting[nth]).expect("known").state;
            match state {
                OrderState::Held => return,
                state => assert_eq!(state, OrderState::Waiting),
            }
            assert_eq!(self.engine.place(Order::new(9, 9).line(77, 1)).err().map(drop), Some(()));
            std::thread::yield_now();
        }
    }
}

/// Whether it is pending.
fn poll(watch: &mut Watch, waker: &Waker) -> bool {
    Pin::new(watch).poll(&mut Context::from_waker(waker)).is_pending()
}

/// The test fails if this takes forever.
fn in_time(run: impl FnOnce() + Send + 'static) {
    let (tell, told) = channel();
    let thread = std::thread::spawn(move || {
        run();
        tell.send(()).expect("the test waits");
    });
    if told.recv_timeout(HANGS).is_err() {
        assert!(thread.is_finished(), "it hangs");
        std::panic::resume_unwind(thread.join().expect_err("it panicked"));
    }
}

/// The story: the task that watched an order is broken. All other holds expire all the same, and the orders that
/// wait are served.
#[test]
fn a_waker_that_panics_stops_neither_expiry_nor_service() {
    in_time(|| {
        let sale = sale(2);
        let watch = sale.wakes(&Waker::from(Arc::new(Panics)));
        sale.expires_and_serves(1);
        assert_eq!(watch.wait().expect("it left").state, OrderState::Cancelled);
        sale.engine.close().expect("closes");
    });
}

/// The story: the waker of a task waits for a lock that is never released.
#[test]
fn a_waker_that_blocks_stops_neither_expiry_nor_service_nor_a_close() {
    in_time(|| {
        let sale = sale(3);
        let blocks = Arc::new(Blocks::default());
        let watch = sale.wakes(&Waker::from(blocks.clone()));
        blocks.wait_for(|gate| gate.0);
        // Another watch resolves, although no waker is called for it before the close.
        let other = sale.watch(1, Waker::noop());
        sale.expires_and_serves(1);
        sale.engine.checkpoint().expect("open").wait().expect("the checkpoint is taken");
        assert_eq!(other.wait().expect("served").state, OrderState::Held);
        sale.engine.close().expect("closes while the waker blocks");
        blocks.change(|gate| gate.1 = true);
        drop(watch);
    });
}

/// A task's waker keeps the task alive, and the task its watch. Another watch moves to another task when the first
/// has no other owner. Then the first task dies in the middle of a registration, and its own watch deregisters at
/// the same partition.
#[test]
fn a_waker_that_dies_when_a_watch_moves_may_own_another_watch() {
    in_time(|| {
        let sale = sale(2);
        let owned = sale.watch(0, Waker::noop());
        let owner = Waker::from(Arc::new(Owner(Mutex::new(owned))));
        let mut watch = sale.watch(1, &owner);
        drop(owner);
        assert!(poll(&mut watch, Waker::noop()));
        sale.expires_and_serves(0);
    });
}
