//! A watch on an order resolves when the order does not wait any more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use doorbuster::OrderState::{Cancelled, Expired, Held};
use doorbuster::testing::ManualClock;
use doorbuster::{
    CommitError, OrderError, OrderId, OrderView, SaleRules, Switch, Unavailable, Watch, WatchError,
};

use crate::shop::{SKU, Shop};
use crate::{PATIENCE, buy, queue};

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A task that watches.
struct Watcher {
    watch: Watch,
    woken: Arc<Woken>,
}

impl Watcher {
    fn new(shop: &Shop, order: OrderId) -> Self {
        let watch = shop.engine.watch(order).expect("known");
        Self { watch, woken: Arc::default() }
    }

    fn poll(&mut self) -> Poll<Result<OrderView, WatchError>> {
        let waker = Waker::from(self.woken.clone());
        Pin::new(&mut self.watch).poll(&mut Context::from_waker(&waker))
    }

    /// Returns what the task receives after it was woken.
    fn resolved(&mut self) -> Result<OrderView, WatchError> {
        assert!(self.woken.0.load(Ordering::SeqCst) > 0, "it sleeps");
        match self.poll() {
            Poll::Ready(resolved) => resolved,
            Poll::Pending => panic!("the watch has not resolved"),
        }
    }
}

#[test]
fn a_watch_resolves_with_a_hold_once_that_is_durable() {
    let mut shop = Shop::new(0, 10);
    let order = shop.wait(queue(1, 1));
    let mut watchers = [Watcher::new(&shop, order), Watcher::new(&shop, order)];
    assert!(watchers.iter_mut().all(|watcher| watcher.poll().is_pending()));
    let add = doorbuster::Adjust::add(1).key(99);
    let added = shop.engine.stock(crate::shop::SKU, add).expect("there is room");
    // The restock is durable, the promotion is not.
    while !added.is_durable() {
        shop.step_writers();
    }
    while shop.engine.step_timekeeper() {}
    shop.engine.step_timekeeper();
    assert!(watchers.iter_mut().all(|watcher| watcher.poll().is_pending()));
    shop.engine.run_until_idle();
    for watcher in &mut watchers {
        let view = watcher.resolved().expect("held");
        assert_eq!((view.order, view.state, view.durable), (order, Held, true));
    }
}

#[test]
fn a_watch_resolves_when_the_order_leaves() {
    let mut shop = Shop::new(0, 10);
    let [called_off, impatient] = [1, 2].map(|buyer| shop.wait(queue(buyer, 1)));
    let mut watchers = [called_off, impatient].map(|order| Watcher::new(&shop, order));
    assert!(watchers.iter_mut().all(|watcher| watcher.poll().is_pending()));
    shop.cancel(called_off);
    shop.pass(PATIENCE);
    let left = watchers.each_mut().map(|watcher| watcher.resolved().expect("left").state);
    assert_eq!(left, [Cancelled, Expired]);
}

/// The answer was that the order waits: its patience was over, and a halt kept it.
#[test]
fn a_watch_under_a_halt_resolves_only_after_it() {
    let mut shop = Shop::new(0, 10);
    let order = shop.wait(queue(1, 1));
    shop.rules(SaleRules::new().switch(Switch::Halted));
    shop.pass(PATIENCE);
    let mut watcher = Watcher::new(&shop, order);
    assert!(watcher.poll().is_pending());
    shop.rules(SaleRules::new().switch(Switch::Open));
    assert_eq!(watcher.resolved().expect("left").state, Expired);
}

/// The watch failed: the end of the patience could not be logged yet, because the disk had fallen behind.
#[test]
fn a_watch_outlasts_a_backlog_at_the_end_of_the_patience() {
    const HELD: u64 = 60;
    let mut shop = Shop::open(ManualClock::default(), |options| {
        let one = options.partitions(1).log_shards(1).lines_max(1).payload_bytes_max(0);
        one.log_backlog_bytes_max(576)
    });
    shop.restock(SKU, HELD as u32);
    shop.rules(SaleRules::new().waiting_max(1));
    let held: Vec<_> = (1..=HELD).map(|buyer| shop.hold(buy(buyer, 1))).collect();
    let order = shop.wait(queue(HELD + 1, 1));
    let mut watcher = Watcher::new(&shop, order);
    assert!(watcher.poll().is_pending());

    let confirmed = held.iter().take_while(|held| shop.engine.confirm(**held).is_ok()).count();
    assert!(confirmed < held.len(), "the backlog is full");
    shop.clock.advance(PATIENCE);
    let behind = shop.engine.order(order).map(|view| view.state);
    assert!(matches!(behind, Err(OrderError::Unavailable(Unavailable::Backlogged { .. }))));
    assert!(watcher.poll().is_pending());
    shop.engine.run_until_idle();
    assert_eq!(watcher.resolved().expect("left").state, Expired);
}

#[test]
fn a_watch_of_an_order_that_does_not_wait_resolves_at_once() {
    let mut shop = Shop::new(1, 10);
    let order = shop.hold(buy(1, 1));
    let watch = shop.engine.watch(order).expect("known");
    assert_eq!(watch.wait().expect("held").state, Held);
    let unknown = OrderId::from_u64(1 << 40);
    assert!(matches!(shop.engine.watch(unknown), Err(OrderError::UnknownOrder { .. })));
}

#[test]
fn a_watch_fails_with_closed_after_a_close() {
    let mut shop = Shop::new(0, 10);
    let order = shop.wait(queue(1, 1));
    let mut watcher = Watcher::new(&shop, order);
    assert!(watcher.poll().is_pending());
    shop.engine.close().expect("closes");
    assert_eq!(watcher.resolved(), Err(WatchError::Commit(CommitError::Closed)));
}

#[test]
fn a_dropped_watch_leaves_nothing_in_the_engine() {
    let mut shop = Shop::new(0, 10);
    let order = shop.wait(queue(1, 1));
    let mut watcher = Watcher::new(&shop, order);
    assert!(watcher.poll().is_pending());
    let woken = watcher.woken.clone();
    drop(watcher);
    assert_eq!(Arc::strong_count(&woken), 1, "no waker is left in the engine");
    shop.restock(SKU, 1);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
}
