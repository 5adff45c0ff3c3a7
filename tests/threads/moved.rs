//! An order that outlives its page moves, and the index of keys has another place for it, while a retry looks for
//! the key without the lock. The buyer has a unit and never receives "sold out" (rule R1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, Engine, Options, Order, Placed, RequestKey, SkuId};

const HOT: SkuId = SkuId::new(1);
/// The SKU of the orders that fill the pages.
const CHAFF: SkuId = SkuId::new(2);
const PAGE_ORDERS: u64 = 1024;
/// Each round moves an order once.
const CYCLES: u64 = 120;
const RETRIES_A_BATCH: usize = 64;

/// The order of the buyer that has the only unit.
fn kept(buyer: u64) -> Order {
    let month = Duration::from_secs(20 * 24 * 3_600);
    Order::new(buyer, RequestKey::new(1)).line(HOT, 1).hold_for(month)
}

fn chaff(nth: u64) -> Order {
    Order::new((1 << 40) + nth, RequestKey::new(7)).line(CHAFF, 1)
}

#[test]
fn a_retry_of_a_held_key_never_receives_sold_out_while_its_order_moves() {
    let clock = Arc::new(ManualClock::default());
    let options = Options::on_storage(Arc::new(MemoryStorage::new()))
        .clock(clock.clone())
        .partitions(1)
        .log_shards(1)
        .retention(Duration::from_millis(1))
        .segment_bytes(8 << 20)
        .checkpoint_bytes(1 << 40);
    let mut engine = SteppedEngine::open(options).expect("opens");
    drop(engine.stock(CHAFF, Adjust::set(1_000_000).expect(0).key(1)).expect("there is room"));
    engine.run_until_idle();
    let (buyer, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let retries = engine.engine().clone();
        let retries = scope.spawn(|| retry(retries, &buyer, &over));
        for cycle in 1..=CYCLES {
            if retries.is_finished() {
                break;
            }
            run_cycle(&mut engine, &clock, &buyer, cycle);
        }
        over.store(true, Ordering::Relaxed);
        retries.join().expect("a buyer who holds a unit receives it again");
    });
}

fn retry(engine: Engine, buyer: &AtomicU64, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let buyer = buyer.load(Ordering::Acquire);
        if buyer == 0 {
            std::thread::yield_now();
            continue;
        }
        let batch = vec![kept(buyer); RETRIES_A_BATCH];
        let answers = engine.place_batch(&batch).expect("accepted");
        for answer in answers.peek().expect("an answer") {
            let is_told = matches!(answer, Ok(Placed::Held(held)) if held.replayed);
            assert!(is_told, "buyer {buyer} holds a unit and received {answer:?}");
        }
    }
}

/// A page begins and fills. Of the page before, the order of one buyer is left, which moves in a round of
/// retirement. Then another buyer takes a unit, and the rest of the page ends.
fn run_cycle(engine: &mut SteppedEngine, clock: &ManualClock, buyer: &AtomicU64, cycle: u64) {
    let first = cycle * PAGE_ORDERS;
    let place = |engine: &SteppedEngine, order: Order| {
        let placed = engine.place(order).expect("accepted");
        placed.peek().expect("an answer").held().expect("there is enough").order
    };
    let starter = place(engine, chaff(first));
    drop(engine.cancel(starter).expect("held"));
    engine.run_until_idle();
    buyer.store(cycle - 1, Ordering::Release);
    clock.advance(Duration::from_millis(5));
    step(engine, 4);
    drop(engine.stock(HOT, Adjust::add(1).key(u128::from(cycle))).expect("there is room"));
    engine.run_until_idle();
    let orders: Vec<Order> = (1..PAGE_ORDERS - 1).map(|nth| chaff(first + nth)).collect();
    let batch = engine.place_batch(&orders).expect("accepted");
    let held = |placed: &Result<Placed, _>| placed.as_ref().ok()?.held().map(|held| held.order);
    let ids: Vec<_> = batch.peek().expect("an answer").iter().filter_map(held).collect();
    assert_eq!(ids.len(), orders.len());
    place(engine, kept(cycle));
    for id in ids {
        drop(engine.cancel(id).expect("held"));
    }
    engine.run_until_idle();
    clock.advance(Duration::from_millis(5));
    step(engine, 64);
}

fn step(engine: &mut SteppedEngine, times: u32) {
    for _ in 0..times {
        engine.step_timekeeper();
    }
}
