//! Which orders wait, and which are refused because others wait.

use doorbuster::{Order, Placed, Refusal, RequestKey, SaleRules, SkuId};

use crate::shop::{SKU, Shop};
use crate::{buy, queue};

#[test]
fn an_order_that_may_wait_takes_what_is_there() {
    let mut shop = Shop::new(2, 10);
    shop.hold(queue(1, 2));
    assert_eq!(shop.levels(SKU).waiting, 0);
}

#[test]
fn an_order_that_may_wait_waits_when_there_is_too_little() {
    let mut shop = Shop::new(1, 10);
    let first = shop.wait(queue(1, 2));
    let second = shop.wait(queue(2, 1));
    assert_eq!([first, second].map(|order| shop.position(order)), [Some(0), Some(1)]);
    let levels = shop.levels(SKU);
    assert_eq!((levels.available, levels.held, levels.waiting), (1, 0, 3));
}

/// Even though one unit is available: it is for the order that waits.
#[test]
fn an_order_that_may_not_wait_is_refused_while_others_wait() {
    let mut shop = Shop::new(1, 10);
    let first = shop.wait(queue(1, 2));
    let refused = Placed::Refused(Refusal::OthersWaiting { sku: SKU });
    assert_eq!(shop.place(buy(2, 1)), refused);
    let cart = Order::new(3, RequestKey::new(3)).line(SKU, 1).line(SkuId::new(2), 1);
    let other = doorbuster::Adjust::add(1).key(1);
    shop.settle(|engine| engine.stock(SkuId::new(2), other).expect("there is room"));
    assert_eq!(shop.place(cart.clone()), refused);
    // The other SKU's unit was returned.
    assert_eq!(shop.engine.levels(SkuId::new(2)).expect("known").available, 1);
    shop.cancel(first);
    shop.hold(cart);
}

#[test]
fn a_full_list_takes_nobody() {
    let mut shop = Shop::new(0, 2);
    let first = shop.wait(queue(1, 1));
    shop.wait(queue(2, 1));
    let full = Refusal::WaitingListFull { sku: SKU, waiting: 2, bound: 2 };
    assert_eq!(shop.place(queue(3, 1)), Placed::Refused(full));
    shop.cancel(first);
    shop.wait(queue(3, 1));
}

#[test]
fn without_a_list_an_order_that_may_wait_is_sold_out_as_any_other() {
    let mut shop = Shop::new(0, 0);
    let refused = shop.place(queue(1, 1));
    assert!(matches!(refused, Placed::Refused(Refusal::SoldOut { .. })), "{refused:?}");
    assert!(matches!(shop.place(buy(2, 1)), Placed::Refused(Refusal::SoldOut { .. })));
}

/// A list that is switched off accepts no new order; orders in it are served.
#[test]
fn a_list_that_is_switched_off_empties() {
    let mut shop = Shop::new(0, 10);
    let first = shop.wait(queue(1, 1));
    shop.rules(SaleRules::new().waiting_max(0));
    assert!(shop.place(queue(2, 1)).held().is_none());
    shop.restock(SKU, 1);
    assert_eq!(shop.state(first), doorbuster::OrderState::Held);
}

#[test]
fn waiting_counts_towards_the_buyers_limit() {
    let mut shop = Shop::new(0, 10);
    shop.rules(SaleRules::new().buyer_limit(3));
    let first = shop.wait(queue(1, 2));
    let again = Order::new(1, RequestKey::new(9)).line(SKU, 2);
    let again = again.fill(doorbuster::Fill::Wait { patience: crate::PATIENCE });
    let limited = shop.place(again.clone());
    assert!(
        matches!(limited, Placed::Refused(Refusal::BuyerLimit { taken: 2, .. })),
        "{limited:?}"
    );
    shop.cancel(first);
    shop.wait(again);
}

/// The first outcome again, whatever became of the order.
#[test]
fn a_repeat_receives_that_its_order_waits() {
    let mut shop = Shop::new(0, 10);
    let Placed::Waiting(first) = shop.place(queue(1, 1)) else { panic!("it waits") };
    let repeats = |shop: &mut Shop| {
        let Placed::Waiting(again) = shop.place(queue(1, 1)) else { panic!("its order waited") };
        assert!(again.replayed && !first.replayed);
        assert_eq!((again.order, again.patience_ends_ms), (first.order, first.patience_ends_ms));
    };
    repeats(&mut shop);
    shop.restock(SKU, 1);
    assert_eq!(shop.state(first.order), doorbuster::OrderState::Held);
    repeats(&mut shop);
    shop.kill();
    repeats(&mut shop);
    shop.cancel(first.order);
    repeats(&mut shop);
}
