//! Who waits, and who is refused because others do.

use doorbuster::{Order, Placed, Refusal, RequestKey, SaleRules, SkuId};

use crate::bench::{Bench, SKU, buy, queue};

#[test]
fn an_order_that_may_wait_takes_what_is_there() {
    let mut bench = Bench::new(2, 10);
    bench.hold(queue(1, 2));
    assert_eq!(bench.levels().waiting, 0);
}

#[test]
fn an_order_that_may_wait_waits_when_there_is_too_little() {
    let mut bench = Bench::new(1, 10);
    let first = bench.wait(queue(1, 2));
    let second = bench.wait(queue(2, 1));
    assert_eq!([first, second].map(|order| bench.position(order)), [Some(0), Some(1)]);
    let levels = bench.levels();
    assert_eq!((levels.available, levels.held, levels.waiting), (1, 0, 3));
}

/// Even though one is available: it is for who waits.
#[test]
fn who_cannot_wait_is_refused_while_others_do() {
    let mut bench = Bench::new(1, 10);
    let first = bench.wait(queue(1, 2));
    let refused = Placed::Refused(Refusal::OthersWaiting { sku: SKU });
    assert_eq!(bench.place(buy(2, 1)), refused);
    let cart = Order::new(3, RequestKey::new(3)).line(SKU, 1).line(SkuId::new(2), 1);
    let other = doorbuster::Adjust::add(1).key(1);
    bench.settle(|engine| engine.stock(SkuId::new(2), other).expect("room"));
    assert_eq!(bench.place(cart.clone()), refused);
    // The other SKU's unit was given back.
    assert_eq!(bench.engine.levels(SkuId::new(2)).expect("known").available, 1);
    bench.cancel(first);
    bench.hold(cart);
}

#[test]
fn a_full_list_takes_nobody() {
    let mut bench = Bench::new(0, 2);
    let first = bench.wait(queue(1, 1));
    bench.wait(queue(2, 1));
    let full = Refusal::WaitingListFull { sku: SKU, waiting: 2, bound: 2 };
    assert_eq!(bench.place(queue(3, 1)), Placed::Refused(full));
    bench.cancel(first);
    bench.wait(queue(3, 1));
}

#[test]
fn without_a_list_an_order_that_may_wait_is_sold_out_as_any_other() {
    let mut bench = Bench::new(0, 0);
    let refused = bench.place(queue(1, 1));
    assert!(matches!(refused, Placed::Refused(Refusal::SoldOut { .. })), "{refused:?}");
    assert!(matches!(bench.place(buy(2, 1)), Placed::Refused(Refusal::SoldOut { .. })));
}

/// A list that is switched off takes nobody new; who stands in it is served.
#[test]
fn a_list_that_is_switched_off_empties() {
    let mut bench = Bench::new(0, 10);
    let first = bench.wait(queue(1, 1));
    bench.rules(SaleRules::new().waiting_max(0));
    assert!(bench.place(queue(2, 1)).held().is_none());
    bench.restock(1);
    assert_eq!(bench.state(first), doorbuster::OrderState::Held);
}

#[test]
fn waiting_counts_towards_the_buyers_limit() {
    let mut bench = Bench::new(0, 10);
    bench.rules(SaleRules::new().buyer_limit(3));
    let first = bench.wait(queue(1, 2));
    let again = Order::new(1, RequestKey::new(9)).line(SKU, 2);
    let again = again.fill(doorbuster::Fill::Wait { patience: crate::bench::PATIENCE });
    let limited = bench.place(again.clone());
    assert!(
        matches!(limited, Placed::Refused(Refusal::BuyerLimit { taken: 2, .. })),
        "{limited:?}"
    );
    bench.cancel(first);
    bench.wait(again);
}

/// The first outcome again, whatever became of the order.
#[test]
fn a_repeat_hears_that_its_order_waits() {
    let mut bench = Bench::new(0, 10);
    let Placed::Waiting(first) = bench.place(queue(1, 1)) else { panic!("it waits") };
    let repeats = |bench: &mut Bench| {
        let Placed::Waiting(again) = bench.place(queue(1, 1)) else { panic!("its order waited") };
        assert!(again.replayed && !first.replayed);
        assert_eq!((again.order, again.patience_ends_ms), (first.order, first.patience_ends_ms));
    };
    repeats(&mut bench);
    bench.restock(1);
    assert_eq!(bench.state(first.order), doorbuster::OrderState::Held);
    repeats(&mut bench);
    bench.kill();
    repeats(&mut bench);
    bench.cancel(first.order);
    repeats(&mut bench);
}
