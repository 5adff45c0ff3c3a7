//! Who leaves a list without being served.

use doorbuster::OrderState::{Cancelled, Expired, Held, Waiting};
use doorbuster::{SaleRules, Switch, Transition};

use crate::bench::{Bench, PATIENCE, S, buy, queue};

#[test]
fn patience_runs_out() {
    let mut bench = Bench::new(0, 10);
    let order = bench.wait(queue(1, 1));
    bench.pass(PATIENCE - S);
    assert_eq!(bench.state(order), Waiting);
    bench.pass(S);
    assert_eq!((bench.state(order), bench.levels().waiting), (Expired, 0));
    // Nobody waits any more.
    bench.restock(1);
    bench.hold(buy(2, 1));
}

/// Stock came back at the moment at which his patience was over: he is not served any more.
#[test]
fn who_lost_patience_is_not_served() {
    let mut bench = Bench::new(0, 10);
    let (late, next) = (bench.wait(queue(1, 1)), {
        bench.pass(S);
        bench.wait(queue(2, 1))
    });
    bench.clock.advance(PATIENCE - S);
    bench.restock(1);
    assert_eq!(bench.states([late, next]), [Expired, Held]);
}

/// A halt keeps everything as it is. What came back had the promoter look, who found the first one's patience
/// over, and took him off the list.
#[test]
fn patience_that_is_over_under_a_halt_ends_with_it() {
    let mut bench = Bench::new(0, 10);
    let (first, second) = (bench.wait(queue(1, 1)), {
        bench.pass(S);
        bench.wait(queue(2, 1))
    });
    bench.rules(SaleRules::new().switch(Switch::Halted));
    bench.pass(PATIENCE - S);
    bench.restock(1);
    assert_eq!(bench.states([first, second]), [Waiting, Waiting]);
    assert_eq!([first, second].map(|order| bench.position(order)), [Some(0), Some(1)]);
    bench.rules(SaleRules::new().switch(Switch::Open));
    assert_eq!(bench.states([first, second]), [Expired, Held]);
}

#[test]
fn a_buyer_leaves_by_cancelling() {
    let mut bench = Bench::new(0, 10);
    let [first, second, third] = [1, 2, 3].map(|buyer| bench.wait(queue(buyer, 1)));
    let cancelled = bench.settle(|engine| engine.cancel(second).expect("waits"));
    assert_eq!(cancelled, Transition::Done { state: Cancelled });
    let positions = [first, second, third].map(|order| bench.position(order));
    assert_eq!(positions, [Some(0), None, Some(1)]);
    bench.restock(2);
    assert_eq!(bench.states([first, second, third]), [Held, Cancelled, Held]);
}

/// Were its leaving lost in a crash, whoever was served behind it would have been served out of turn.
#[test]
fn nobody_takes_the_turn_of_who_leaves_before_that_is_durable() {
    let mut bench = Bench::new(0, 10);
    let (first, second) = (bench.wait(queue(1, 2)), bench.wait(queue(2, 1)));
    bench.restock(1);
    let leaving = bench.engine.cancel(first).expect("waits");
    while bench.engine.step_timekeeper() {}
    assert!(!leaving.is_durable());
    assert_eq!(bench.states([first, second]), [Cancelled, Waiting]);
    bench.engine.run_until_idle();
    assert_eq!(bench.state(second), Held);
}

#[test]
fn what_waits_can_be_neither_confirmed_nor_fulfilled() {
    let mut bench = Bench::new(0, 10);
    let order = bench.wait(queue(1, 1));
    let refused = Transition::NotAllowed { state: Waiting };
    assert_eq!(bench.settle(|engine| engine.confirm(order).expect("known")), refused);
    assert_eq!(bench.settle(|engine| engine.fulfil(order).expect("known")), refused);
    bench.restock(1);
    let done = Transition::Done { state: doorbuster::OrderState::Confirmed };
    assert_eq!(bench.settle(|engine| engine.confirm(order).expect("held")), done);
}
