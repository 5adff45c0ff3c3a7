//! Memory stays flat at a steady rate, and is freed after a peak. The tests count pages and entries, and measure no
//! time.

use doorbuster::{Options, OrderId, OrderState};

use crate::shop::{SKU, Shop};
use crate::{MS, RETENTION, one};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn one_partition(options: Options) -> Options {
    options.partitions(1).log_shards(1)
}

/// Places this number of orders, fulfilled or cancelled.
fn trade(shop: &mut Shop, orders: u64, round: u64) -> Vec<OrderId> {
    let mut placed = Vec::new();
    for buyer in 0..orders {
        let commit = shop.engine.place(one(buyer, u128::from(round))).expect("there is room");
        placed.push(commit.peek().and_then(|placed| placed.held()).expect("held").order);
        if buyer % 100 == 99 {
            shop.engine.run_until_idle();
        }
    }
    for order in &placed {
        if order.get() % 3 == 0 {
            drop(shop.engine.cancel(*order).expect("held"));
        } else {
            drop(shop.engine.confirm(*order).expect("held"));
            drop(shop.engine.fulfil(*order).expect("confirmed"));
        }
    }
    shop.engine.run_until_idle();
    placed
}

#[test]
fn orders_that_come_and_go_at_a_steady_rate_take_no_more_memory() {
    let mut shop = Shop::of_two_skus(one_partition);
    let mut bytes = Vec::new();
    for round in 0..500 {
        trade(&mut shop, 100, round);
        shop.pass(SECOND);
        bytes.push(shop.engine.stats().order_table_bytes);
        assert!(shop.engine.stats().orders <= 100 * 100);
    }
    // A hundred seconds of a hundred orders, in pages of 1,024; and a few pages for what comes next.
    let settled = &bytes[200..];
    assert!(settled.iter().all(|it| *it <= (10 + 1 + 8 + 1) * 80 * 1024), "{settled:?}");
    assert_eq!(shop.engine.stats().retired, 401 * 100);
    let figures = shop.figures();
    shop.kill();
    assert_eq!(
        (shop.figures().0, shop.figures().1[..3].to_vec()),
        (figures.0, figures.1[..3].to_vec())
    );
}

#[test]
fn memory_comes_back_after_a_peak() {
    let mut shop = Shop::of_two_skus(one_partition);
    trade(&mut shop, 50_000, 0);
    assert!(shop.engine.stats().order_table_bytes >= 50_000 * 80);
    shop.pass(RETENTION);
    assert_eq!(shop.engine.stats().orders, 0);
    assert!(shop.engine.stats().order_table_bytes <= 9 * 80 * 1024);
    shop.kill();
    assert!(shop.engine.stats().order_table_bytes <= 9 * 80 * 1024);
}

/// Runs this number of rounds of a thousand orders. One in a hundred is confirmed and stays; the others leave
/// memory.
fn trade_and_keep_some(shop: &mut Shop, rounds: u128) -> Vec<OrderId> {
    let mut stay = Vec::new();
    for round in 0..rounds {
        for buyer in 0..1000_u64 {
            let placed = shop.engine.place(one(buyer, round)).expect("there is room");
            let order = placed.peek().and_then(|placed| placed.held()).expect("held").order;
            if buyer % 100 == 0 {
                drop(shop.engine.confirm(order).expect("held"));
                stay.push(order);
            } else {
                drop(shop.engine.cancel(order).expect("held"));
            }
        }
        shop.pass(5 * SECOND);
    }
    shop.pass(RETENTION);
    stay
}

/// They are answered by id and by key as before.
fn are_answered(shop: &mut Shop, stay: &[OrderId], state: OrderState) {
    for (nth, order) in stay.iter().enumerate() {
        assert_eq!(shop.state(*order), Ok(state));
        let (buyer, key) = (nth as u64 % 10 * 100, nth as u128 / 10);
        let again = shop.place(one(buyer, key));
        assert!(again.held().is_some_and(|held| held.replayed && held.order == *order));
    }
}

/// What a thousand orders may take when each has outlived its page: their own bytes, the page that fills, eight
/// emptied ones, and one that is not full.
const THOUSAND_BYTES_MAX: u64 = 1000 * 80 + (1 + 8 + 2) * 80 * 1024;

/// The story: one order in a hundred is confirmed and never fulfilled. Each would hold the page in which it was
/// placed, long after the thousand others of that page have left.
#[test]
fn orders_that_stay_for_ever_do_not_hold_the_memory_of_those_that_left() {
    let mut shop = Shop::of_two_skus(one_partition);
    let stay = trade_and_keep_some(&mut shop, 100);
    assert_eq!(shop.engine.stats().orders, 1000);
    let bytes = shop.engine.stats().order_table_bytes;
    assert!(bytes <= THOUSAND_BYTES_MAX, "{bytes} bytes for 1,000 orders");
    are_answered(&mut shop, &stay, OrderState::Confirmed);
    let levels = shop.levels(SKU);
    for order in &stay {
        drop(shop.engine.cancel(*order).expect("confirmed"));
    }
    shop.pass(RETENTION);
    assert_eq!((shop.engine.stats().orders, shop.levels(SKU).sold), (0, levels.sold - 1000));
}

/// The story: an open read one order of each page, and kept the page.
#[test]
fn an_open_takes_no_more_memory_for_orders_that_stay_than_the_engine_had() {
    let mut shop = Shop::of_two_skus(one_partition);
    let stay = trade_and_keep_some(&mut shop, 100);
    for from_checkpoint in [false, true] {
        if from_checkpoint {
            shop.checkpoint();
        }
        shop.kill();
        assert_eq!(shop.engine.recovery().checkpoint.is_some(), from_checkpoint);
        let (orders, bytes) = (shop.engine.stats().orders, shop.engine.stats().order_table_bytes);
        assert_eq!(orders, 1000);
        assert!(bytes <= THOUSAND_BYTES_MAX, "{bytes} bytes for 1,000 orders, {from_checkpoint}");
        are_answered(&mut shop, &stay, OrderState::Confirmed);
    }
    // Orders that the open moved aside are finished, retire and are forgotten like all others.
    for order in &stay {
        drop(shop.engine.fulfil(*order).expect("confirmed"));
    }
    shop.checkpoint();
    shop.kill();
    let bytes = shop.engine.stats().order_table_bytes;
    assert!(bytes <= THOUSAND_BYTES_MAX, "{bytes} bytes for 1,000 orders that finished late");
    are_answered(&mut shop, &stay, OrderState::Fulfilled);
    shop.pass(RETENTION);
    assert_eq!((shop.engine.stats().orders, shop.levels(SKU).sold), (0, 1000));
    assert_ne!(shop.hold(one(0, 0)), stay[0], "its key is forgotten too");
}

/// The story: an open finds one in a hundred of the holds of a month. Each must still end at its time.
#[test]
fn holds_that_an_open_puts_aside_expire_when_they_should() {
    for from_checkpoint in [false, true] {
        let mut shop = Shop::of_two_skus(one_partition);
        let mut held = Vec::new();
        for buyer in 0..10_000_u64 {
            let order = one(buyer, 0).hold_for(2 * RETENTION);
            let placed = shop.engine.place(order).expect("there is room");
            let order = placed.peek().and_then(|placed| placed.held()).expect("held").order;
            match buyer % 100 {
                0 => held.push(order),
                _ => drop(shop.engine.cancel(order).expect("held")),
            }
        }
        shop.pass(RETENTION);
        if from_checkpoint {
            shop.checkpoint();
        }
        shop.kill();
        shop.pass(RETENTION - MS);
        assert!(held.iter().all(|order| shop.state(*order) == Ok(OrderState::Held)));
        shop.pass(MS);
        assert!(held.iter().all(|order| shop.state(*order) == Ok(OrderState::Expired)));
    }
}

/// The story: orders are held for a month, and end within a second, all day long.
#[test]
fn holds_that_end_early_leave_nothing_until_their_deadline() {
    let mut shop = Shop::of_two_skus(one_partition);
    let month = SECOND * 30 * 24 * 3600;
    for round in 0..60 {
        for buyer in 0..1000_u64 {
            let placed =
                shop.engine.place(one(buyer, round).hold_for(month)).expect("there is room");
            let order = placed.peek().and_then(|placed| placed.held()).expect("held").order;
            drop(shop.engine.cancel(order).expect("held"));
        }
        shop.pass(RETENTION / 2);
    }
    shop.pass(RETENTION);
    let stats = shop.engine.stats();
    assert_eq!((stats.orders, stats.retired), (0, 60_000));
    assert!(stats.order_table_bytes <= (1 + 8) * 80 * 1024);
    // A hold that is placed among many that expire must expire at its own time.
    let kept = shop.hold(one(1, 99).hold_for(month));
    shop.pass(month - SECOND);
    assert_eq!(shop.state(kept), Ok(OrderState::Held));
    shop.pass(SECOND);
    assert_eq!(shop.state(kept), Ok(OrderState::Expired));
}
