//! Orders that leave a list without being served.

use doorbuster::OrderState::{Cancelled, Expired, Held, Waiting};
use doorbuster::{SaleRules, Switch, Transition};

use crate::shop::{SKU, Shop};
use crate::{PATIENCE, S, buy, queue};

#[test]
fn patience_runs_out() {
    let mut shop = Shop::new(0, 10);
    let order = shop.wait(queue(1, 1));
    shop.pass(PATIENCE - S);
    assert_eq!(shop.state(order), Waiting);
    shop.pass(S);
    assert_eq!((shop.state(order), shop.levels(SKU).waiting), (Expired, 0));
    // No order waits any more.
    shop.restock(SKU, 1);
    shop.hold(buy(2, 1));
}

/// Stock is returned at the moment at which the order's patience ends: the order is not served any more.
#[test]
fn an_order_whose_patience_is_over_is_not_served() {
    let mut shop = Shop::new(0, 10);
    let (late, next) = (shop.wait(queue(1, 1)), {
        shop.pass(S);
        shop.wait(queue(2, 1))
    });
    shop.clock.advance(PATIENCE - S);
    shop.restock(SKU, 1);
    assert_eq!(shop.states([late, next]), [Expired, Held]);
}

/// A halt keeps everything as it is. A returned unit made the promoter look; it found the first order's patience
/// over, and took the order off the list.
#[test]
fn patience_that_is_over_under_a_halt_ends_with_it() {
    let mut shop = Shop::new(0, 10);
    let (first, second) = (shop.wait(queue(1, 1)), {
        shop.pass(S);
        shop.wait(queue(2, 1))
    });
    shop.rules(SaleRules::new().switch(Switch::Halted));
    shop.pass(PATIENCE - S);
    shop.restock(SKU, 1);
    assert_eq!(shop.states([first, second]), [Waiting, Waiting]);
    assert_eq!([first, second].map(|order| shop.position(order)), [Some(0), Some(1)]);
    shop.rules(SaleRules::new().switch(Switch::Open));
    assert_eq!(shop.states([first, second]), [Expired, Held]);
}

#[test]
fn a_buyer_leaves_by_cancelling() {
    let mut shop = Shop::new(0, 10);
    let [first, second, third] = [1, 2, 3].map(|buyer| shop.wait(queue(buyer, 1)));
    let cancelled = shop.settle(|engine| engine.cancel(second).expect("waits"));
    assert_eq!(cancelled, Transition::Done { state: Cancelled });
    let positions = [first, second, third].map(|order| shop.position(order));
    assert_eq!(positions, [Some(0), None, Some(1)]);
    shop.restock(SKU, 2);
    assert_eq!(shop.states([first, second, third]), [Held, Cancelled, Held]);
}

/// If a crash lost its leaving, an order that was served after it would have been served out of turn.
#[test]
fn no_order_takes_the_turn_of_one_that_leaves_before_that_is_durable() {
    let mut shop = Shop::new(0, 10);
    let (first, second) = (shop.wait(queue(1, 2)), shop.wait(queue(2, 1)));
    shop.restock(SKU, 1);
    let leaving = shop.engine.cancel(first).expect("waits");
    while shop.engine.step_timekeeper() {}
    assert!(!leaving.is_durable());
    assert_eq!(shop.states([first, second]), [Cancelled, Waiting]);
    shop.engine.run_until_idle();
    assert_eq!(shop.state(second), Held);
}

#[test]
fn what_waits_can_be_neither_confirmed_nor_fulfilled() {
    let mut shop = Shop::new(0, 10);
    let order = shop.wait(queue(1, 1));
    let refused = Transition::NotAllowed { state: Waiting };
    assert_eq!(shop.settle(|engine| engine.confirm(order).expect("known")), refused);
    assert_eq!(shop.settle(|engine| engine.fulfil(order).expect("known")), refused);
    shop.restock(SKU, 1);
    let done = Transition::Done { state: doorbuster::OrderState::Confirmed };
    assert_eq!(shop.settle(|engine| engine.confirm(order).expect("held")), done);
}
