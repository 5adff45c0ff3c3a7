//! How long which orders stay.

use std::time::Duration;

use OrderState::{Cancelled, Confirmed, Expired, Fulfilled, Held};
use doorbuster::{Options, Order, OrderState, RequestKey};

use crate::bench::{Bench, MS, OTHER, RETENTION, SKU, one, plain, retired};

#[test]
fn a_finished_order_is_answered_for_the_retention_and_not_longer() {
    for state in [Cancelled, Expired, Fulfilled] {
        let mut bench = Bench::new(plain);
        let order = bench.order_in(7, 1, state);
        let levels = bench.levels(SKU);
        bench.pass(RETENTION - MS);
        assert_eq!(bench.state(order), Ok(state));
        assert!(bench.place(one(7, 1).hold_for(10 * MS)).held().is_some_and(|it| it.replayed));
        bench.pass(MS);
        assert_eq!(bench.state(order), retired(order));
        assert_eq!(bench.engine.confirm(order).map(drop), retired(order));
        assert_eq!(bench.engine.cancel(order).map(drop), retired(order));
        assert_eq!(bench.engine.fulfil(order).map(drop), retired(order));
        assert_eq!(bench.levels(SKU), levels, "what was sold is sold for good");
        let stats = bench.engine.stats();
        assert_eq!((stats.orders, stats.retired, stats.placed), (0, 1, 1));
    }
}

#[test]
fn an_order_that_can_still_end_stays() {
    let mut bench = Bench::new(plain);
    let held = bench.hold(one(1, 1).hold_for(10 * RETENTION));
    let confirmed = bench.order_in(2, 1, Confirmed);
    bench.pass(5 * RETENTION);
    assert_eq!((bench.state(held), bench.state(confirmed)), (Ok(Held), Ok(Confirmed)));
    bench.settle(|engine| engine.cancel(confirmed).expect("confirmed"));
    bench.pass(RETENTION - MS);
    assert_eq!(bench.state(confirmed), Ok(Cancelled));
    bench.pass(MS);
    assert_eq!((bench.state(held), bench.state(confirmed)), (Ok(Held), retired(confirmed)));
}

#[test]
fn a_host_that_never_fulfils_lets_confirmed_orders_go() {
    let finish = |options: Options| options.finish_on_confirm(true);
    let mut bench = Bench::new(finish);
    let [left, cancelled, fulfilled] = [1, 2, 3].map(|it| bench.order_in(it, 1, Confirmed));
    bench.pass(RETENTION / 2);
    bench.settle(|engine| engine.cancel(cancelled).expect("still there"));
    bench.settle(|engine| engine.fulfil(fulfilled).expect("still there"));
    bench.pass(RETENTION / 2);
    // What went on is kept anew from there.
    assert_eq!(bench.state(left), retired(left));
    assert_eq!(bench.state(cancelled), Ok(Cancelled));
    assert_eq!(bench.state(fulfilled), Ok(Fulfilled));
    assert_eq!(bench.engine.stats().live_orders, 0);
    bench.pass(RETENTION / 2);
    assert_eq!(bench.state(cancelled), retired(cancelled));
    assert_eq!(bench.state(fulfilled), retired(fulfilled));
    assert_eq!(bench.levels(SKU).sold, 2);
    let bench = bench.restart(finish);
    assert_eq!((bench.levels(SKU).sold, bench.engine.stats().orders), (2, 0));
}

#[test]
fn fulfilled_orders_stay_for_the_returns_window() {
    let window = |options: Options| options.returns_window(3 * RETENTION);
    let mut bench = Bench::new(window);
    let cancelled = bench.order_in(1, 1, Cancelled);
    let fulfilled = bench.order_in(2, 1, Fulfilled);
    bench.pass(RETENTION);
    assert_eq!(bench.state(cancelled), retired(cancelled));
    let mut bench = bench.restart(window);
    bench.pass(2 * RETENTION - MS);
    assert_eq!(bench.state(fulfilled), Ok(Fulfilled));
    bench.pass(MS);
    assert_eq!(bench.state(fulfilled), retired(fulfilled));
}

/// The story: an order is held for a month and called off within a minute. It leaves with its
/// retention; its deadline, when that comes, finds nobody, least of all a later order.
#[test]
fn an_order_leaves_before_its_deadline() {
    let mut bench = Bench::new(plain);
    let month = Duration::from_secs(30 * 24 * 3600);
    for round in 0..3_u128 {
        let orders: Vec<_> =
            (0..5000).map(|buyer| bench.hold(one(buyer, round).hold_for(month))).collect();
        for order in &orders {
            drop(bench.engine.cancel(*order).expect("held"));
        }
        bench.engine.run_until_idle();
        bench.pass(RETENTION);
        assert_eq!(bench.engine.stats().orders, 0);
        assert!(orders.iter().all(|order| bench.state(*order) == retired(*order)));
    }
    let kept = bench.hold(one(1, 99).hold_for(month));
    bench.pass(month - MS);
    assert_eq!(bench.state(kept), Ok(Held));
    bench.pass(MS);
    assert_eq!(bench.state(kept), Ok(Expired));
}

#[test]
fn a_cart_leaves_its_sums_behind() {
    let mut bench = Bench::new(plain);
    let cart = |key| Order::new(1, RequestKey::new(key)).line(SKU, 3).line(OTHER, 5).payload("ab");
    let [sold, dropped] = [1, 2].map(|key| bench.hold(cart(key)));
    bench.settle(|engine| engine.confirm(sold).expect("held"));
    bench.settle(|engine| engine.fulfil(sold).expect("confirmed"));
    bench.settle(|engine| engine.cancel(dropped).expect("held"));
    bench.pass(RETENTION);
    assert_eq!((bench.levels(SKU).sold, bench.levels(OTHER).sold), (3, 5));
    let figures = bench.figures();
    let bench = bench.restart(plain);
    assert_eq!(bench.figures(), figures);
    assert_eq!(bench.state(sold), retired(sold));
}

/// The story: a crash takes the record of a retirement. The orders are there again, and their keys, and
/// leave again; a second replay of the same log gives the same.
#[test]
fn a_retirement_that_a_crash_erased_is_made_again() {
    let mut bench = Bench::new(plain);
    let orders: Vec<_> = [Cancelled, Fulfilled, Expired]
        .into_iter()
        .zip(1..)
        .map(|(state, buyer)| (bench.order_in(buyer, 1, state), state))
        .collect();
    let levels = bench.levels(SKU);
    bench.clock.advance(RETENTION);
    while bench.engine.step_timekeeper() {}
    assert!(orders.iter().all(|(order, _)| bench.state(*order) == retired(*order)));
    let mut bench = bench.restart(plain);
    for (order, state) in &orders {
        assert_eq!(bench.state(*order), Ok(*state), "not durable, so it did not happen");
    }
    bench.engine.run_until_idle();
    for _ in 0..2 {
        assert!(orders.iter().all(|(order, _)| bench.state(*order) == retired(*order)));
        assert_eq!((bench.engine.stats().orders, bench.levels(SKU)), (0, levels));
        bench = bench.restart(plain);
    }
}

#[test]
fn a_retention_counts_on_through_a_restart_and_may_be_changed_by_it() {
    let mut bench = Bench::new(plain);
    let orders: Vec<_> = (1..4).map(|buyer| bench.order_in(buyer, 1, Cancelled)).collect();
    bench.pass(RETENTION / 4);
    let mut bench = bench.restart(plain);
    bench.pass(RETENTION / 4);
    assert!(orders.iter().all(|order| bench.state(*order) == Ok(Cancelled)));
    let mut bench = bench.restart(|options| options.retention(2 * RETENTION));
    bench.pass(RETENTION);
    assert!(orders.iter().all(|order| bench.state(*order) == Ok(Cancelled)));
    let mut bench = bench.restart(plain);
    bench.engine.run_until_idle();
    assert!(orders.iter().all(|order| bench.state(*order) == retired(*order)));
}

/// The story: the disk is full. What room is kept is for the endings of live orders; that finished ones
/// leave memory can wait.
#[test]
fn retirement_waits_for_a_full_disk() {
    let small =
        |options: Options| options.lines_max(1).block_bytes_max(16 << 10).segment_bytes(32 << 10);
    let mut bench = Bench::new(small);
    let orders: Vec<_> = (0..100).map(|buyer| bench.order_in(buyer, 1, Cancelled)).collect();
    bench.storage.set_capacity_bytes(Some(0));
    let mut refused = 0;
    for key in 2.. {
        for buyer in 0..16 {
            let placed = bench.engine.place(one(buyer, key).payload(vec![7; 4096]));
            refused += u32::from(placed.is_err());
            bench.engine.run_until_idle();
        }
        // Buyers of both shards.
        if refused >= 16 {
            break;
        }
    }
    bench.pass(RETENTION);
    assert!(orders.iter().all(|order| bench.state(*order) == Ok(Cancelled)));
    bench.storage.set_capacity_bytes(None);
    for _ in 0..3 {
        bench.engine.run_until_idle();
    }
    assert!(orders.iter().all(|order| bench.state(*order) == retired(*order)));
}
