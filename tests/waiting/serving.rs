//! Which orders are served, and in which order.

use std::time::Duration;

use doorbuster::OrderState::{Expired, Held, Waiting};
use doorbuster::{Adjust, SaleRules};

use crate::shop::{SKU, Shop};
use crate::{PATIENCE, S, buy, queue};

#[test]
fn stock_that_comes_back_goes_to_waiting_orders() {
    let mut shop = Shop::new(1, 10);
    let held = shop.hold(buy(1, 1));
    let waits = shop.wait(queue(2, 1).hold_for(10 * S));
    shop.cancel(held);
    assert_eq!(shop.state(waits), Held);
    let view = shop.engine.order(waits).expect("known");
    assert_eq!(view.deadline_ms, shop.engine.now_ms() + 10_000, "a fresh hold");
    let levels = shop.levels(SKU);
    assert_eq!((levels.available, levels.held, levels.waiting), (0, 1, 0));
}

#[test]
fn an_expiry_and_a_restock_serve_too() {
    let mut shop = Shop::new(1, 10);
    shop.hold(buy(1, 1).hold_for(5 * S));
    let (first, second) = (shop.wait(queue(2, 1)), shop.wait(queue(3, 1)));
    shop.pass(5 * S);
    assert_eq!(shop.states([first, second]), [Held, Waiting]);
    shop.restock(SKU, 1);
    assert_eq!(shop.states([first, second]), [Held, Held]);
}

/// A restriction acts at once, a permission when it is durable: no order is served from units that a crash could
/// take back.
#[test]
fn nobody_is_served_before_what_came_back_is_durable() {
    let mut shop = Shop::new(1, 10);
    let held = shop.hold(buy(1, 1));
    let waits = shop.wait(queue(2, 1));
    let cancelled = shop.engine.cancel(held).expect("held");
    while shop.engine.step_timekeeper() {}
    assert!(!cancelled.is_durable());
    assert_eq!(shop.state(waits), Waiting);
    shop.engine.run_until_idle();
    assert_eq!(shop.state(waits), Held);
}

#[test]
fn classes_are_served_first_and_arrival_decides_within_one() {
    let mut shop = Shop::new(0, 10);
    let orders = [(1, 3), (2, 0), (3, 3), (4, 1), (5, 0)]
        .map(|(buyer, class)| shop.wait(queue(buyer, 1).class(class)));
    assert_eq!(orders.map(|order| shop.position(order).expect("waits")), [3, 0, 4, 2, 1]);
    let mut served = Vec::new();
    for _ in orders {
        shop.restock(SKU, 1);
        let next = orders.iter().position(|it| shop.state(*it) == Held && !served.contains(it));
        served.push(orders[next.expect("one more is served")]);
    }
    assert_eq!(served, [1, 4, 3, 0, 2].map(|nth: usize| orders[nth]));
}

#[test]
fn a_large_order_at_the_head_blocks_smaller_ones() {
    let mut shop = Shop::new(0, 10);
    let (large, small) = (shop.wait(queue(1, 3)), shop.wait(queue(2, 1)));
    shop.restock(SKU, 2);
    assert_eq!(shop.states([large, small]), [Waiting, Waiting]);
    assert_eq!(shop.levels(SKU).available, 2);
    shop.restock(SKU, 2);
    assert_eq!(shop.states([large, small]), [Held, Held]);
}

#[test]
fn a_large_order_is_passed_where_the_rules_say_so() {
    let mut shop = Shop::new(0, 10);
    let (large, small) = (shop.wait(queue(1, 3)), shop.wait(queue(2, 1)));
    shop.restock(SKU, 2);
    shop.rules(SaleRules::new().waiting_passes(true));
    assert_eq!(shop.states([large, small]), [Waiting, Held]);
    let another = shop.wait(queue(3, 1));
    assert_eq!(shop.state(another), Held, "it joined, and passed at once");
    shop.restock(SKU, 3);
    assert_eq!(shop.state(large), Held);
}

/// A new order of a better class may be first, and want less.
#[test]
fn the_first_order_by_class_is_served_at_once() {
    let mut shop = Shop::new(0, 10);
    let large = shop.wait(queue(1, 3).class(1));
    shop.restock(SKU, 1);
    let small = shop.wait(queue(2, 1).class(0));
    assert_eq!(shop.states([large, small]), [Waiting, Held]);
}

#[test]
fn a_promoted_hold_ends_at_its_own_deadline() {
    for hold in [S, 2 * PATIENCE] {
        let mut shop = Shop::new(0, 10);
        let order = shop.wait(queue(1, 1).hold_for(hold));
        let other = shop.wait(queue(2, 1).hold_for(hold));
        shop.restock(SKU, 1);
        assert_eq!(shop.states([order, other]), [Held, Waiting]);
        shop.pass(hold - Duration::from_millis(1));
        assert_eq!(shop.state(order), Held, "{hold:?}");
        shop.pass(Duration::from_millis(1));
        assert_eq!(shop.state(order), Expired, "{hold:?}");
        let expected = if hold < PATIENCE { Held } else { Expired };
        assert_eq!(shop.state(other), expected, "{hold:?}");
    }
}

/// A thousand promotions, some of which move their orders, leave every order and key where it is found.
#[test]
fn promoted_orders_are_found_by_id_and_by_key() {
    let mut shop = Shop::new(0, 5_000);
    let orders: Vec<_> = (0..2_000)
        .map(|buyer| {
            let hold = if buyer % 2 == 0 { S } else { 2 * PATIENCE };
            shop.wait(queue(buyer, 1).hold_for(hold))
        })
        .collect();
    shop.restock(SKU, 1_500);
    for (buyer, order) in (0_u64..).zip(&orders) {
        let expected = if buyer < 1_500 { Held } else { Waiting };
        assert_eq!(shop.state(*order), expected);
        let hold = if buyer % 2 == 0 { S } else { 2 * PATIENCE };
        let again = shop.engine.place(queue(buyer, 1).hold_for(hold)).expect("an answer");
        let Some(doorbuster::Placed::Waiting(again)) = again.peek() else { panic!("it waited") };
        assert_eq!((again.order, again.replayed), (*order, true));
    }
    // Orders with short holds expire, and their units serve the rest.
    shop.pass(S);
    assert_eq!(shop.engine.stats().expired, 750);
    assert!(orders[1_500..].iter().all(|order| shop.state(*order) == Held));
    assert_eq!((shop.levels(SKU).available, shop.levels(SKU).held), (250, 1_250));
}

/// A host may take out units that the waiting orders would receive.
#[test]
fn a_host_takes_stock_out_although_orders_wait() {
    let mut shop = Shop::new(0, 10);
    let large = shop.wait(queue(1, 3));
    shop.restock(SKU, 2);
    shop.settle(|engine| engine.stock(SKU, Adjust::take(2).key(77)).expect("there is room"));
    assert_eq!((shop.levels(SKU).available, shop.state(large)), (0, Waiting));
}
