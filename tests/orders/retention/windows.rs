//! Which orders stay how long.

use std::time::Duration;

use OrderState::{Cancelled, Confirmed, Expired, Fulfilled, Held};
use doorbuster::{Options, Order, OrderState, RequestKey};

use super::{OTHER, plain, retired};
use crate::shop::{SKU, Shop};
use crate::{MS, RETENTION, one};

#[test]
fn a_finished_order_is_answered_for_the_retention_and_not_longer() {
    for state in [Cancelled, Expired, Fulfilled] {
        let mut shop = Shop::of_two_skus(plain);
        let order = shop.order_in(7, 1, state);
        let levels = shop.levels(SKU);
        shop.pass(RETENTION - MS);
        assert_eq!(shop.state(order), Ok(state));
        assert!(shop.place(one(7, 1).hold_for(10 * MS)).held().is_some_and(|it| it.replayed));
        shop.pass(MS);
        assert_eq!(shop.state(order), retired(order));
        assert_eq!(shop.engine.confirm(order).map(drop), retired(order));
        assert_eq!(shop.engine.cancel(order).map(drop), retired(order));
        assert_eq!(shop.engine.fulfil(order).map(drop), retired(order));
        assert_eq!(shop.levels(SKU), levels, "what was sold stays sold");
        let stats = shop.engine.stats();
        assert_eq!((stats.orders, stats.retired, stats.placed), (0, 1, 1));
    }
}

#[test]
fn an_order_that_can_still_end_stays() {
    let mut shop = Shop::of_two_skus(plain);
    let held = shop.hold(one(1, 1).hold_for(10 * RETENTION));
    let confirmed = shop.order_in(2, 1, Confirmed);
    shop.pass(5 * RETENTION);
    assert_eq!((shop.state(held), shop.state(confirmed)), (Ok(Held), Ok(Confirmed)));
    shop.settle(|engine| engine.cancel(confirmed).expect("confirmed"));
    shop.pass(RETENTION - MS);
    assert_eq!(shop.state(confirmed), Ok(Cancelled));
    shop.pass(MS);
    assert_eq!((shop.state(held), shop.state(confirmed)), (Ok(Held), retired(confirmed)));
}

#[test]
fn a_host_that_never_fulfils_lets_confirmed_orders_go() {
    let finish = |options: Options| options.finish_on_confirm(true);
    let mut shop = Shop::of_two_skus(finish);
    let [left, cancelled, fulfilled] = [1, 2, 3].map(|it| shop.order_in(it, 1, Confirmed));
    shop.pass(RETENTION / 2);
    shop.settle(|engine| engine.cancel(cancelled).expect("still there"));
    shop.settle(|engine| engine.fulfil(fulfilled).expect("still there"));
    shop.pass(RETENTION / 2);
    // An order that changed its state is kept for its full time from then on.
    assert_eq!(shop.state(left), retired(left));
    assert_eq!(shop.state(cancelled), Ok(Cancelled));
    assert_eq!(shop.state(fulfilled), Ok(Fulfilled));
    assert_eq!(shop.engine.stats().live_orders, 0);
    shop.pass(RETENTION / 2);
    assert_eq!(shop.state(cancelled), retired(cancelled));
    assert_eq!(shop.state(fulfilled), retired(fulfilled));
    assert_eq!(shop.levels(SKU).sold, 2);
    shop.kill();
    assert_eq!((shop.levels(SKU).sold, shop.engine.stats().orders), (2, 0));
}

#[test]
fn fulfilled_orders_stay_for_the_returns_window() {
    let window = |options: Options| options.returns_window(3 * RETENTION);
    let mut shop = Shop::of_two_skus(window);
    let cancelled = shop.order_in(1, 1, Cancelled);
    let fulfilled = shop.order_in(2, 1, Fulfilled);
    shop.pass(RETENTION);
    assert_eq!(shop.state(cancelled), retired(cancelled));
    shop.kill();
    shop.pass(2 * RETENTION - MS);
    assert_eq!(shop.state(fulfilled), Ok(Fulfilled));
    shop.pass(MS);
    assert_eq!(shop.state(fulfilled), retired(fulfilled));
}

/// The story: an order is held for a month and cancelled within a minute. It leaves after its retention. When its
/// deadline comes, it must end no other order.
#[test]
fn an_order_leaves_before_its_deadline() {
    let mut shop = Shop::of_two_skus(plain);
    let month = Duration::from_secs(30 * 24 * 3600);
    for round in 0..3_u128 {
        let orders: Vec<_> =
            (0..5000).map(|buyer| shop.hold(one(buyer, round).hold_for(month))).collect();
        for order in &orders {
            drop(shop.engine.cancel(*order).expect("held"));
        }
        shop.engine.run_until_idle();
        shop.pass(RETENTION);
        assert_eq!(shop.engine.stats().orders, 0);
        assert!(orders.iter().all(|order| shop.state(*order) == retired(*order)));
    }
    let kept = shop.hold(one(1, 99).hold_for(month));
    shop.pass(month - MS);
    assert_eq!(shop.state(kept), Ok(Held));
    shop.pass(MS);
    assert_eq!(shop.state(kept), Ok(Expired));
}

#[test]
fn a_cart_leaves_its_sums_behind() {
    let mut shop = Shop::of_two_skus(plain);
    let cart = |key| Order::new(1, RequestKey::new(key)).line(SKU, 3).line(OTHER, 5).payload("ab");
    let [sold, dropped] = [1, 2].map(|key| shop.hold(cart(key)));
    shop.settle(|engine| engine.confirm(sold).expect("held"));
    shop.settle(|engine| engine.fulfil(sold).expect("confirmed"));
    shop.settle(|engine| engine.cancel(dropped).expect("held"));
    shop.pass(RETENTION);
    assert_eq!((shop.levels(SKU).sold, shop.levels(OTHER).sold), (3, 5));
    let figures = shop.figures();
    shop.kill();
    assert_eq!(shop.figures(), figures);
    assert_eq!(shop.state(sold), retired(sold));
}

/// The story: a crash takes the record of a retirement. The orders and their keys are there again, and leave again.
/// A second replay of the same log comes to the same state.
#[test]
fn a_retirement_that_a_crash_erased_is_made_again() {
    let mut shop = Shop::of_two_skus(plain);
    let orders: Vec<_> = [Cancelled, Fulfilled, Expired]
        .into_iter()
        .zip(1..)
        .map(|(state, buyer)| (shop.order_in(buyer, 1, state), state))
        .collect();
    let levels = shop.levels(SKU);
    shop.clock.advance(RETENTION);
    while shop.engine.step_timekeeper() {}
    assert!(orders.iter().all(|(order, _)| shop.state(*order) == retired(*order)));
    shop.kill();
    for (order, state) in &orders {
        assert_eq!(shop.state(*order), Ok(*state), "not durable, so it did not happen");
    }
    shop.engine.run_until_idle();
    for _ in 0..2 {
        assert!(orders.iter().all(|(order, _)| shop.state(*order) == retired(*order)));
        assert_eq!((shop.engine.stats().orders, shop.levels(SKU)), (0, levels));
        shop.kill();
    }
}

#[test]
fn a_retention_counts_on_through_a_restart_and_may_be_changed_by_it() {
    let mut shop = Shop::of_two_skus(plain);
    let orders: Vec<_> = (1..4).map(|buyer| shop.order_in(buyer, 1, Cancelled)).collect();
    shop.pass(RETENTION / 4);
    shop.kill_and_adapt(plain);
    shop.pass(RETENTION / 4);
    assert!(orders.iter().all(|order| shop.state(*order) == Ok(Cancelled)));
    shop.kill_and_adapt(|options| options.retention(2 * RETENTION));
    shop.pass(RETENTION);
    assert!(orders.iter().all(|order| shop.state(*order) == Ok(Cancelled)));
    shop.kill_and_adapt(plain);
    shop.engine.run_until_idle();
    assert!(orders.iter().all(|order| shop.state(*order) == retired(*order)));
}

/// The story: the disk is full. The room that is kept is for the endings of live orders; the retirement of finished
/// ones can wait.
#[test]
fn retirement_waits_for_a_full_disk() {
    let small =
        |options: Options| options.lines_max(1).block_bytes_max(16 << 10).segment_bytes(32 << 10);
    let mut shop = Shop::of_two_skus(small);
    let orders: Vec<_> = (0..100).map(|buyer| shop.order_in(buyer, 1, Cancelled)).collect();
    shop.storage.set_capacity_bytes(Some(0));
    let mut refused = 0;
    for key in 2.. {
        for buyer in 0..16 {
            let placed = shop.engine.place(one(buyer, key).payload(vec![7; 4096]));
            refused += u32::from(placed.is_err());
            shop.engine.run_until_idle();
        }
        // Buyers of both shards.
        if refused >= 16 {
            break;
        }
    }
    shop.pass(RETENTION);
    assert!(orders.iter().all(|order| shop.state(*order) == Ok(Cancelled)));
    shop.storage.set_capacity_bytes(None);
    for _ in 0..3 {
        shop.engine.run_until_idle();
    }
    assert!(orders.iter().all(|order| shop.state(*order) == retired(*order)));
}
