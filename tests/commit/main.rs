//! [`Commit`] as a future and as something to wait for: when it resolves, which waker it calls, and what it answers
//! when the log fails.

mod executor;
mod panics;
mod status;
mod wakers;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use doorbuster::error::{CommitError, PlaceError, Unavailable};
use doorbuster::testing::{Fault, ManualClock, MemoryStorage, Operation, Step, SteppedEngine};
use doorbuster::{
    Adjust, Adjusted, Commit, Durability, Engine, Held, Options, Order, OrderState, OrderView,
    Placed, Ready, RequestKey, SkuId, Transition,
};

use executor::{Bell, poll, run_all};

const SKU: SkuId = SkuId::new(7);

/// Long enough that only a test that hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(15);

fn options(storage: &MemoryStorage) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(Arc::new(ManualClock::default()))
        .partitions(4)
        .log_shards(2)
        .segment_bytes(1 << 20)
}

/// Opens a stepped engine with this many units of [`SKU`], durable.
fn stepped(storage: &MemoryStorage, units: u32) -> SteppedEngine {
    let mut engine = SteppedEngine::open(options(storage)).expect("opens");
    drop(engine.stock(SKU, Adjust::add(units).key(1)).expect("accepted"));
    engine.run_until_idle();
    engine
}

fn order(buyer: u64) -> Order {
    Order::new(buyer, RequestKey::new(1)).line(SKU, 1)
}

/// Returns a buyer whose records go to this log shard.
fn buyer_of_shard(engine: &mut SteppedEngine, shard: usize) -> u64 {
    for buyer in (1 + shard as u64) * 1_000.. {
        let commit = engine.place(order(buyer)).expect("placed");
        let _ = engine.step_writer(shard);
        let found = commit.is_durable();
        engine.run_until_idle();
        if found {
            return buyer;
        }
    }
    unreachable!("buyers spread over the shards")
}

fn held(placed: &Placed) -> &Held {
    placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"))
}

fn fail_writes_to(storage: &MemoryStorage, folder: &'static str) {
    storage.set_fault_hook(Some(Arc::new(move |call| {
        let is_block = call.operation == Operation::WriteDurable && call.path.starts_with(folder);
        if is_block { Fault::Error(io::ErrorKind::Other) } else { Fault::None }
    })));
}

#[test]
fn every_commit_can_be_sent_kept_and_polled_without_a_pin() {
    fn holds<F: Future + Send + Unpin + 'static>() {}
    holds::<Commit<Placed>>();
    holds::<Commit<Transition>>();
    holds::<Commit<Adjusted>>();
    holds::<Commit<()>>();
    holds::<Commit<OrderView>>();
    holds::<Commit<Vec<Result<Placed, PlaceError>>>>();
    holds::<Ready>();
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Engine>();
}

#[test]
fn it_is_pending_until_its_block_is_durable_and_rings_once_then() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 5);
    let (bell, waker) = Bell::new();
    let mut commit = engine.place(order(1)).expect("placed");
    let order_id = held(commit.peek().expect("an answer")).order;
    assert!(poll(&mut commit, &waker).is_pending());
    assert!(!commit.is_durable());
    engine.step_timekeeper();
    engine.step_segments();
    assert_eq!(bell.rung(), 0, "nothing was written");

    while !commit.is_durable() {
        assert_eq!(bell.rung(), 0, "never before it is durable");
        let wrote = (0..engine.shards()).any(|shard| engine.step_writer(shard) == Step::Wrote);
        assert!(wrote, "there is something to write");
    }
    assert_eq!(bell.rung(), 1);
    let Poll::Ready(Ok(placed)) = poll(&mut commit, &waker) else { panic!("durable") };
    assert_eq!(held(&placed).order, order_id);
    engine.run_until_idle();
    assert_eq!(bell.rung(), 1, "and never again");
    assert_eq!(commit.peek(), None, "handed out");
    assert_eq!(poll(&mut commit, &waker), Poll::Ready(Err(CommitError::Closed)));
}

#[test]
fn at_the_time_it_rings_everything_that_the_record_gives_back_is_given() {
    /// Reads the stock at the moment of waking.
    struct Look(Engine, Mutex<Vec<i64>>);
    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            let levels = self.0.levels(SKU).expect("known");
            assert!(levels.add_up(), "{levels:?}");
            self.1.lock().expect("no panic").push(levels.available);
        }
    }
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 1);
    let commit = engine.place(order(1)).expect("placed");
    let order_id = held(commit.peek().expect("an answer")).order;
    engine.run_until_idle();
    let look = Arc::new(Look(engine.engine().clone(), Mutex::default()));
    let mut cancel = engine.cancel(order_id).expect("cancelled");
    assert!(poll(&mut cancel, &Waker::from(look.clone())).is_pending());
    let levels = engine.levels(SKU).expect("known");
    assert_eq!(
        (levels.available, levels.returning),
        (0, 1),
        "the unit is not available before it is durable"
    );
    engine.run_until_idle();
    assert_eq!(*look.1.lock().expect("no panic"), [1]);
}

#[test]
fn the_last_waker_rings_and_no_earlier_one() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 5);
    let mut commit = engine.place(order(1)).expect("placed");
    let bells: Vec<_> = (0..3).map(|_| Bell::new()).collect();
    for (_, waker) in &bells {
        assert!(poll(&mut commit, waker).is_pending());
    }
    // The same waker again takes no second place.
    assert!(poll(&mut commit, &bells[2].1).is_pending());
    engine.run_until_idle();
    let rung: Vec<_> = bells.iter().map(|(bell, _)| bell.rung()).collect();
    assert_eq!(rung, [0, 0, 1]);
}

#[test]
fn one_that_is_dropped_rings_nobody_and_its_order_stays() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 5);
    let (bell, waker) = Bell::new();
    let mut polled = engine.place(order(1)).expect("placed");
    assert!(poll(&mut polled, &waker).is_pending());
    drop(polled);
    drop(engine.place(order(2)).expect("placed"));
    engine.run_until_idle();
    assert_eq!(bell.rung(), 0);
    drop(engine);
    let engine = SteppedEngine::open(options(&storage)).expect("opens");
    for buyer in [1, 2] {
        let again = engine.place(order(buyer)).expect("a repeat");
        assert!(held(again.peek().expect("an answer")).replayed);
    }
}

#[test]
fn answers_that_rest_on_nothing_new_are_durable_at_once() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 1);
    drop(engine.place(order(1)).expect("placed"));
    let refused = engine.place(order(2)).expect("an answer");
    assert!(refused.is_durable(), "a refusal changed nothing");
    assert!(matches!(refused.peek(), Some(Placed::Refused(_))));
    let (_, waker) = Bell::new();
    let mut repeat = engine.place(order(1)).expect("a repeat");
    assert!(poll(&mut repeat, &waker).is_pending(), "only as durable as the first");
    engine.run_until_idle();
    assert!(repeat.is_durable());
    assert!(engine.place(order(1)).expect("a repeat").is_durable());
    let none = engine.place_batch(&[]).expect("an empty batch");
    assert_eq!(none.wait(), Ok(Vec::new()));
}

#[test]
fn a_batch_resolves_when_all_its_shards_are_durable() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 1_000);
    let orders: Vec<Order> = (1..=64).map(order).collect();
    for first in [0, 1] {
        let keyed: Vec<Order> = (1..=64)
            .map(|buyer| Order::new(buyer, RequestKey::new(10 + first as u128)).line(SKU, 1))
            .collect();
        let (bell, waker) = Bell::new();
        let mut batch = engine.place_batch(&keyed).expect("placed");
        assert!(poll(&mut batch, &waker).is_pending());
        assert_eq!(engine.step_writer(first), Step::Wrote);
        assert!(poll(&mut batch, &waker).is_pending(), "the other shard is not durable");
        assert!(!batch.is_durable());
        assert_eq!(engine.step_writer(1 - first), Step::Wrote);
        assert!(bell.rung() >= 1);
        let Poll::Ready(Ok(answers)) = poll(&mut batch, &waker) else { panic!("durable") };
        assert_eq!(answers.len(), orders.len());
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|p| p.held().is_some())));
    }
}

#[test]
fn a_timeout_leaves_the_commit_as_it_was() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 5);
    let mut commit = engine.place(order(1)).expect("placed");
    assert_eq!(commit.wait_timeout(Duration::ZERO), None);
    assert_eq!(commit.wait_timeout(Duration::from_micros(1)), None);
    assert!(commit.peek().is_some());
    engine.run_until_idle();
    assert!(matches!(commit.wait_timeout(Duration::ZERO), Some(Ok(Placed::Held(_)))));
    assert_eq!(commit.wait_timeout(Duration::ZERO), Some(Err(CommitError::Closed)));
}

#[test]
fn a_view_can_be_awaited_until_what_it_shows_is_durable() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 5);
    let commit = engine.place(order(1)).expect("placed");
    let order_id = held(commit.peek().expect("an answer")).order;
    let viewed = engine.order(order_id).expect("there");
    assert!(!viewed.durable && viewed.state == OrderState::Held);
    let mut later = viewed.when_durable();
    let (bell, waker) = Bell::new();
    assert!(poll(&mut later, &waker).is_pending());
    engine.run_until_idle();
    assert_eq!(bell.rung(), 1);
    let Poll::Ready(Ok(view)) = poll(&mut later, &waker) else { panic!("durable") };
    assert!(view.durable && view.order == order_id);
    assert!(engine.order(order_id).expect("there").durable);
}

/// A write failed, and the engine cannot know whether the order exists. A caller that asks again must not receive
/// the answer that it does.
#[test]
fn after_a_failed_write_it_is_unknown_however_often_one_asks() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 50);
    let orders: Vec<Order> = (10..40).map(order).collect();
    let mut single = engine.place(order(1)).expect("placed");
    let mut polled = engine.place(order(2)).expect("placed");
    let mut batch = engine.place_batch(&orders).expect("placed");
    let (bell, waker) = Bell::new();
    assert!(poll(&mut polled, &waker).is_pending());
    fail_writes_to(&storage, "log");
    for shard in 0..engine.shards() {
        assert_eq!(engine.step_writer(shard), Step::Ended);
    }
    assert_eq!(bell.rung(), 1, "every waiter is woken when the log is dead");
    assert_eq!(poll(&mut polled, &waker), Poll::Ready(Err(CommitError::Unknown)));
    assert_eq!(single.wait_timeout(PATIENCE), Some(Err(CommitError::Unknown)));
    assert_eq!(batch.wait_timeout(PATIENCE), Some(Err(CommitError::Unknown)));

    assert!(!single.is_durable() && !polled.is_durable() && !batch.is_durable());
    let again = single.wait_timeout(PATIENCE).expect("an answer");
    assert!(again.is_err(), "asked again, it claims to be durable: {again:?}");
    let again = poll(&mut polled, &waker);
    assert!(
        matches!(again, Poll::Ready(Err(_))),
        "asked again, it claims to be durable: {again:?}"
    );
    let again = batch.wait_timeout(PATIENCE).expect("an answer");
    assert!(again.is_err(), "asked again, it claims to be durable: {again:?}");
    assert!(matches!(
        engine.place(order(3)),
        Err(PlaceError::Unavailable(Unavailable::Latched { .. }))
    ));
}

/// One shard fails while another still writes what it had begun. What reached the disk is durable.
#[test]
fn what_was_durable_before_the_latch_stays_so() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 50);
    let (good, bad) = (buyer_of_shard(&mut engine, 0), buyer_of_shard(&mut engine, 1));
    let place = |engine: &SteppedEngine, buyer: u64| {
        let order = Order::new(buyer, RequestKey::new(9)).line(SKU, 1);
        engine.place(order).expect("placed")
    };
    let (durable, lost) = (place(&engine, good), place(&engine, bad));
    assert_eq!(engine.step_writer(0), Step::Wrote);
    let waits = place(&engine, good);
    fail_writes_to(&storage, "log/01");
    assert_eq!(engine.step_writer(1), Step::Ended);
    assert_eq!(engine.step_writer(0), Step::Ended, "a failure latches the log of every shard");
    assert!(matches!(durable.wait(), Ok(Placed::Held(_))));
    assert_eq!(lost.wait(), Err(CommitError::Unknown));
    assert!(matches!(waits.wait(), Ok(Placed::Held(_))), "a repeat of what is durable");
}

#[test]
fn after_the_engine_went_away_it_says_so_however_often_one_asks() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 50);
    let durable = engine.place(order(1)).expect("placed");
    engine.run_until_idle();
    let mut lost = engine.place(order(2)).expect("placed");
    let (bell, waker) = Bell::new();
    assert!(poll(&mut lost, &waker).is_pending());
    drop(engine);
    assert_eq!(bell.rung(), 1);
    assert!(matches!(durable.wait(), Ok(Placed::Held(_))));
    assert_eq!(poll(&mut lost, &waker), Poll::Ready(Err(CommitError::Closed)));
    assert!(!lost.is_durable());
    let again = lost.wait_timeout(PATIENCE).expect("an answer");
    assert_eq!(again, Err(CommitError::Closed), "asked again");
}

#[test]
fn dropping_the_last_handle_makes_durable_what_was_asked_for() {
    let storage = MemoryStorage::new();
    let engine = Engine::open(options(&storage)).expect("opens");
    let added = engine.stock(SKU, Adjust::add(100).key(1)).expect("accepted");
    added.wait().expect("durable");
    let commits: Vec<_> = (1..=50).map(|buyer| engine.place(order(buyer)).expect("held")).collect();
    let clone = engine.clone();
    drop(engine);
    drop(clone);
    for commit in commits {
        assert!(matches!(commit.wait(), Ok(Placed::Held(_))));
    }
}

#[test]
fn a_run_queue_on_one_thread_serves_many_tasks() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options::new(folder.path()).segment_bytes(1 << 20).partitions(8);
    let engine = Engine::open(options.durability(Durability::Written)).expect("opens");
    let done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let jobs: Vec<_> = (0..400_u64)
        .map(|buyer| {
            let (engine, done) = (engine.clone(), done.clone());
            async move {
                let sku = SkuId::new(buyer % 5);
                let add = Adjust::add(2).key(u128::from(buyer));
                engine.stock(sku, add).expect("accepted").await.expect("durable");
                let order = Order::new(buyer, RequestKey::new(1)).line(sku, 1);
                let placed = engine.place(&order).expect("placed").await.expect("durable");
                let id = held(&placed).order;
                let confirmed = engine.confirm(id).expect("known").await.expect("durable");
                assert_eq!(confirmed, Transition::Done { state: OrderState::Confirmed });
                let view = engine.order(id).expect("known").when_durable().await;
                assert_eq!(view.expect("durable").state, OrderState::Confirmed);
                engine.ready().await.expect("there is room");
                done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        })
        .collect();
    run_all(jobs);
    assert_eq!(done.load(std::sync::atomic::Ordering::Relaxed), 400);
    engine.close().expect("closes");
}

/// Room for eight orders of one line, and two thirds more for endings.
fn tight(storage: &MemoryStorage) -> Options {
    options(storage)
        .partitions(1)
        .log_shards(1)
        .lines_max(1)
        .payload_bytes_max(0)
        .log_backlog_bytes_max(536)
}

#[test]
fn ready_resolves_when_the_backlog_has_room_again() {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(tight(&storage)).expect("opens");
    drop(engine.stock(SKU, Adjust::add(100).key(1)).expect("accepted"));
    engine.run_until_idle();
    let (bell, waker) = Bell::new();
    assert!(poll(&mut engine.ready(), &waker).is_ready(), "there is room");

    let placed = (1..).map(|buyer| engine.place(order(buyer))).take_while(|p| p.is_ok()).count();
    assert_eq!(placed, 8);
    let refused = engine.place(order(50));
    assert!(matches!(
        refused,
        Err(PlaceError::Unavailable(Unavailable::Backlogged { bytes: 512, max: 536 }))
    ));
    let mut ready = engine.ready();
    assert!(poll(&mut ready, &waker).is_pending());
    assert!(poll(&mut ready, &waker).is_pending());
    assert_eq!(bell.rung(), 0);
    assert_eq!(engine.step_writer(0), Step::Wrote);
    assert_eq!(bell.rung(), 1);
    assert_eq!(poll(&mut ready, &waker), Poll::Ready(Ok(())));
    assert!(engine.place(order(50)).is_ok());
}

#[test]
fn ready_ends_with_the_engine() {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(tight(&storage)).expect("opens");
    drop(engine.stock(SKU, Adjust::add(100).key(1)).expect("accepted"));
    engine.run_until_idle();
    let fill = |engine: &SteppedEngine, key: u128| {
        let order = |buyer: u64| Order::new(buyer, RequestKey::new(key)).line(SKU, 1);
        (1..).map(|buyer| engine.place(order(buyer))).take_while(|placed| placed.is_ok()).count()
    };
    assert_eq!(fill(&engine, 1), 8);
    let (bell, waker) = Bell::new();
    let mut ready = engine.ready();
    assert!(poll(&mut ready, &waker).is_pending());
    fail_writes_to(&storage, "log");
    assert_eq!(engine.step_writer(0), Step::Ended);
    assert_eq!(bell.rung(), 1);
    assert_eq!(poll(&mut ready, &waker), Poll::Ready(Err(CommitError::Unknown)));
    drop(engine);
    storage.set_fault_hook(None);

    let engine = SteppedEngine::open(tight(&storage)).expect("opens");
    assert_eq!(fill(&engine, 2), 8);
    let mut ready = engine.ready();
    assert!(poll(&mut ready, &waker).is_pending());
    drop(engine);
    assert_eq!(poll(&mut ready, &waker), Poll::Ready(Err(CommitError::Closed)));
    assert_eq!(bell.rung(), 2);
}
