//! Requests on a whole engine in memory, in every interleaving: rule R1 for the order that takes the last unit.

mod lists;

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::place;
use crate::options::Options;
use crate::order::{Adjust, Held, Order, Placed, SaleRules, Switch};
use crate::testing::{ManualClock, MemoryStorage, SteppedEngine};

fn engine() -> SteppedEngine {
    let options = Options::on_storage(Arc::new(MemoryStorage::new()))
        .clock(Arc::new(ManualClock::new(1_000)))
        .partitions(1)
        .log_shards(1)
        .lines_max(4)
        .payload_bytes_max(0)
        .block_bytes_max(1 << 14)
        .segment_bytes(1 << 15)
        .skus_max(2)
        .hold_default(Duration::from_secs(1));
    let mut engine = SteppedEngine::open(options).expect("opens");
    for sku in 1..=2_u64 {
        let _ = engine.stock(sku, Adjust::add(1).key(1)).expect("takes it");
    }
    engine.step_writer(0);
    engine
}

/// As [`Engine::place`], with a hash that is the same in every run.
fn place(engine: &Engine, order: &Order) -> Option<Held> {
    let (core, key_hash) = (engine.core(), 1 << 32);
    let sku = core.skus.find(order.lines()[0].sku);
    let answer = place::place_hashed(core, &core.partitions[0], key_hash, sku, order);
    answer.expect("an answer").peek().and_then(Placed::held).copied()
}

/// One buyer wants the last unit and sends the request twice. No other buyer asks.
#[test]
fn the_winner_of_the_last_unit_never_receives_sold_out() {
    // An order takes more steps than loom expects of anything.
    let mut model = loom::model::Builder::new();
    model.max_branches = 10_000;
    model.check(|| {
        let run = spawn(|| {
            let stepped = engine();
            let order = Order::new(7, 1).line(1, 1);
            let again = spawn({
                let (engine, order) = (stepped.engine().clone(), order.clone());
                move || place(&engine, &order)
            });
            let first = place(stepped.engine(), &order).expect("it is his");
            let again = again.join().expect("no panic").expect("it is his");
            assert_eq!(first.order, again.order);
            assert_ne!(first.replayed, again.replayed);
        });
        run.join().expect("no panic");
    });
}

/// Two buyers want the last unit. The key of the one that is refused is free again.
#[test]
fn the_key_of_a_refused_order_is_free_again() {
    let mut model = loom::model::Builder::new();
    model.max_branches = 10_000;
    model.check(|| {
        let run = spawn(|| {
            let stepped = engine();
            let is_held = |engine: &Engine, buyer: u64| {
                let (core, order) = (engine.core(), Order::new(buyer, 1).line(1, 1));
                let sku = core.skus.find(order.lines()[0].sku);
                let placed =
                    place::place_hashed(core, &core.partitions[0], hash(buyer), sku, &order);
                placed.expect("an answer").peek().and_then(Placed::held).is_some()
            };
            let other = spawn({
                let engine = stepped.engine().clone();
                move || is_held(&engine, 3)
            });
            let held = [(1, is_held(stepped.engine(), 1)), (3, other.join().expect("no panic"))];
            assert_eq!(held.iter().filter(|(_, is_held)| *is_held).count(), 1);
            let keys = &stepped.engine().core().partitions[0].keys;
            for (buyer, is_held) in held {
                assert_eq!(keys.surely_absent(hash(buyer)), !is_held, "the key of {buyer}");
            }
        });
        run.join().expect("no panic");
    });
}

fn hash(buyer: u64) -> u64 {
    buyer << 32
}

/// A verb that had looked whether the engine is open before it was closed, and goes on afterwards. The close
/// waits for it by passing the lock under which it looked: what it appends is there when the writers end.
fn a_close_waits_for(verb: fn(&Engine)) {
    let mut model = loom::model::Builder::new();
    model.max_branches = 10_000;
    model.check(move || {
        let run = spawn(move || {
            let stepped = engine();
            let caller = spawn({
                let engine = stepped.engine().clone();
                move || verb(&engine)
            });
            let core = stepped.engine().core();
            core.refuse_new_verbs();
            let appended = || core.lanes.iter().map(|lane| lane.last_lsn()).collect::<Vec<_>>();
            let at_close = appended();
            caller.join().expect("no panic");
            assert_eq!(appended(), at_close, "nothing is appended after the close");
        });
        run.join().expect("no panic");
    });
}

#[test]
fn an_order_is_appended_before_a_close_goes_on_or_is_refused() {
    a_close_waits_for(|engine| {
        let (core, key_hash) = (engine.core(), 1 << 32);
        let order = Order::new(7, 1).line(1, 1);
        let sku = core.skus.find(order.lines()[0].sku);
        drop(place::place_hashed(core, &core.partitions[0], key_hash, sku, &order));
    });
}

#[test]
fn an_adjustment_is_appended_before_a_close_goes_on_or_is_refused() {
    a_close_waits_for(|engine| drop(engine.stock(1, Adjust::add(1).key(2))));
}

#[test]
fn a_switch_is_appended_before_a_close_goes_on_or_is_refused() {
    a_close_waits_for(|engine| drop(engine.switch(Switch::NoNewHolds)));
}

/// An order that had looked at the rules before they were restricted, and goes on afterwards (rule R9).
fn no_order_is_held_after(restrict: fn(&Engine)) {
    let mut model = loom::model::Builder::new();
    model.max_branches = 10_000;
    model.check(move || {
        let run = spawn(move || {
            let stepped = engine();
            let buyer = spawn({
                let engine = stepped.engine().clone();
                move || place(&engine, &Order::new(7, 1).line(1, 1)).is_some()
            });
            restrict(stepped.engine());
            let appended = || stepped.engine().core().lanes[0].last_lsn();
            let at_restriction = appended();
            let is_held = buyer.join().expect("no panic");
            assert_eq!(appended(), at_restriction, "an order was held afterwards");
            assert_eq!(is_held, at_restriction > 0);
        });
        run.join().expect("no panic");
    });
}

#[test]
fn no_order_is_held_after_a_switch_was_thrown() {
    no_order_is_held_after(|engine| drop(engine.switch(Switch::NoNewHolds)));
}

#[test]
fn no_order_is_held_after_its_sku_was_restricted() {
    no_order_is_held_after(|engine| {
        drop(engine.rules(1, SaleRules::new().switch(Switch::NoNewHolds)));
    });
}

/// The block of an order brings the timekeeper back. If it does not see the order's deadline then, it may rest
/// past that.
#[test]
fn a_thread_that_sees_the_block_of_an_order_sees_its_deadline() {
    let mut model = loom::model::Builder::new();
    model.max_branches = 10_000;
    model.check(|| {
        let run = spawn(|| {
            let mut stepped = engine();
            let core = stepped.engine().core().clone();
            let before = core.activity.blocks();
            assert_eq!(core.partitions[0].next_due_ms(), u64::MAX);
            let buyer = spawn({
                let engine = stepped.engine().clone();
                move || place(&engine, &Order::new(7, 1).line(1, 1))
            });
            stepped.step_writer(0);
            if core.activity.blocks() > before {
                assert!(core.partitions[0].next_due_ms() < u64::MAX, "it rests too long");
            }
            assert!(buyer.join().expect("no panic").is_some());
        });
        run.join().expect("no panic");
    });
}

/// A whole engine needs more stack than loom gives.
fn spawn<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> loom::thread::JoinHandle<T> {
    const STACK_WORDS: usize = 1 << 16;
    loom::thread::Builder::new().stack_size(STACK_WORDS).spawn(run).expect("a thread")
}
