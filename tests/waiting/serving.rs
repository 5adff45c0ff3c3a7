//! Who is served, and in which order.

use std::time::Duration;

use doorbuster::OrderState::{Expired, Held, Waiting};
use doorbuster::{Adjust, SaleRules};

use crate::bench::{Bench, PATIENCE, S, SKU, buy, queue};

#[test]
fn stock_that_comes_back_goes_to_who_waits() {
    let mut bench = Bench::new(1, 10);
    let held = bench.hold(buy(1, 1));
    let waits = bench.wait(queue(2, 1).hold_for(10 * S));
    bench.cancel(held);
    assert_eq!(bench.state(waits), Held);
    let view = bench.engine.order(waits).expect("known");
    assert_eq!(view.deadline_ms, bench.engine.now_ms() + 10_000, "a fresh hold");
    let levels = bench.levels();
    assert_eq!((levels.available, levels.held, levels.waiting), (0, 1, 0));
}

#[test]
fn an_expiry_and_a_restock_serve_too() {
    let mut bench = Bench::new(1, 10);
    bench.hold(buy(1, 1).hold_for(5 * S));
    let (first, second) = (bench.wait(queue(2, 1)), bench.wait(queue(3, 1)));
    bench.pass(5 * S);
    assert_eq!(bench.states([first, second]), [Held, Waiting]);
    bench.restock(1);
    assert_eq!(bench.states([first, second]), [Held, Held]);
}

/// Restrict at once, permit when durable: nobody is served from what a crash could take back.
#[test]
fn nobody_is_served_before_what_came_back_is_durable() {
    let mut bench = Bench::new(1, 10);
    let held = bench.hold(buy(1, 1));
    let waits = bench.wait(queue(2, 1));
    let cancelled = bench.engine.cancel(held).expect("held");
    while bench.engine.step_timekeeper() {}
    assert!(!cancelled.is_durable());
    assert_eq!(bench.state(waits), Waiting);
    bench.engine.run_until_idle();
    assert_eq!(bench.state(waits), Held);
}

#[test]
fn classes_are_served_first_and_arrival_decides_within_one() {
    let mut bench = Bench::new(0, 10);
    let orders = [(1, 3), (2, 0), (3, 3), (4, 1), (5, 0)]
        .map(|(buyer, class)| bench.wait(queue(buyer, 1).class(class)));
    assert_eq!(orders.map(|order| bench.position(order).expect("waits")), [3, 0, 4, 2, 1]);
    let mut served = Vec::new();
    for _ in orders {
        bench.restock(1);
        let next = orders.iter().position(|it| bench.state(*it) == Held && !served.contains(it));
        served.push(orders[next.expect("one more is served")]);
    }
    assert_eq!(served, [1, 4, 3, 0, 2].map(|nth: usize| orders[nth]));
}

#[test]
fn a_large_order_at_the_head_blocks_smaller_ones() {
    let mut bench = Bench::new(0, 10);
    let (large, small) = (bench.wait(queue(1, 3)), bench.wait(queue(2, 1)));
    bench.restock(2);
    assert_eq!(bench.states([large, small]), [Waiting, Waiting]);
    assert_eq!(bench.levels().available, 2);
    bench.restock(2);
    assert_eq!(bench.states([large, small]), [Held, Held]);
}

#[test]
fn a_large_order_is_passed_where_the_rules_say_so() {
    let mut bench = Bench::new(0, 10);
    let (large, small) = (bench.wait(queue(1, 3)), bench.wait(queue(2, 1)));
    bench.restock(2);
    bench.rules(SaleRules::new().waiting_passes(true));
    assert_eq!(bench.states([large, small]), [Waiting, Held]);
    let another = bench.wait(queue(3, 1));
    assert_eq!(bench.state(another), Held, "it joined, and passed at once");
    bench.restock(3);
    assert_eq!(bench.state(large), Held);
}

/// A new order of a better class may be first, and want less.
#[test]
fn who_comes_first_by_his_class_is_served_at_once() {
    let mut bench = Bench::new(0, 10);
    let large = bench.wait(queue(1, 3).class(1));
    bench.restock(1);
    let small = bench.wait(queue(2, 1).class(0));
    assert_eq!(bench.states([large, small]), [Waiting, Held]);
}

#[test]
fn a_promoted_hold_ends_at_its_own_deadline() {
    for hold in [S, 2 * PATIENCE] {
        let mut bench = Bench::new(0, 10);
        let order = bench.wait(queue(1, 1).hold_for(hold));
        let other = bench.wait(queue(2, 1).hold_for(hold));
        bench.restock(1);
        assert_eq!(bench.states([order, other]), [Held, Waiting]);
        bench.pass(hold - Duration::from_millis(1));
        assert_eq!(bench.state(order), Held, "{hold:?}");
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.state(order), Expired, "{hold:?}");
        let expected = if hold < PATIENCE { Held } else { Expired };
        assert_eq!(bench.state(other), expected, "{hold:?}");
    }
}

/// A thousand promotions, some of which move their orders, leave every order and key where it is found.
#[test]
fn promoted_orders_are_found_by_id_and_by_key() {
    let mut bench = Bench::new(0, 5_000);
    let orders: Vec<_> = (0..2_000)
        .map(|buyer| {
            let hold = if buyer % 2 == 0 { S } else { 2 * PATIENCE };
            bench.wait(queue(buyer, 1).hold_for(hold))
        })
        .collect();
    bench.restock(1_500);
    for (buyer, order) in (0_u64..).zip(&orders) {
        let expected = if buyer < 1_500 { Held } else { Waiting };
        assert_eq!(bench.state(*order), expected);
        let hold = if buyer % 2 == 0 { S } else { 2 * PATIENCE };
        let again = bench.engine.place(queue(buyer, 1).hold_for(hold)).expect("an answer");
        let Some(doorbuster::Placed::Waiting(again)) = again.peek() else { panic!("it waited") };
        assert_eq!((again.order, again.replayed), (*order, true));
    }
    // Those with short holds expire, and what they had serves the rest.
    bench.pass(S);
    assert_eq!(bench.engine.stats().expired, 750);
    assert!(orders[1_500..].iter().all(|order| bench.state(*order) == Held));
    assert_eq!((bench.levels().available, bench.levels().held), (250, 1_250));
}

/// A host may take out what those who wait would get.
#[test]
fn a_host_takes_stock_out_whoever_waits() {
    let mut bench = Bench::new(0, 10);
    let large = bench.wait(queue(1, 3));
    bench.restock(2);
    bench.settle(|engine| engine.stock(SKU, Adjust::take(2).key(77)).expect("room"));
    assert_eq!((bench.levels().available, bench.state(large)), (0, Waiting));
}
