//! What every verb answers in every state, and how a closed or a latched engine answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use doorbuster::OrderState::{Cancelled, Confirmed, Expired, Fulfilled, Held};
use doorbuster::error::{CloseError, OrderError, PlaceError, StockError, Unavailable};
use doorbuster::testing::{Fault, Operation, Step};
use doorbuster::{
    Adjust, BatchError, Commit, Engine, Order, OrderId, OrderState, RequestKey, SaleRules,
    Transition,
};

use crate::shop::{SKU, Shop, settled};
use crate::{EMPTY, order, plain};

type Verb = fn(&Engine, OrderId) -> Result<Commit<Transition>, OrderError>;

const VERBS: [(&str, Verb); 3] =
    [("confirm", Engine::confirm), ("cancel", Engine::cancel), ("fulfil", Engine::fulfil)];

/// Brings an order of one unit into a state.
fn order_in(shop: &mut Shop, state: OrderState, buyer: u64) -> OrderId {
    let order = order(buyer, 1).hold_for(Duration::from_millis(1_000));
    let id = shop.hold(&order).order;
    let verbs: &[Verb] = match state {
        Confirmed => &[Engine::confirm],
        Fulfilled => &[Engine::confirm, Engine::fulfil],
        Cancelled => &[Engine::cancel],
        _ => &[],
    };
    for verb in verbs {
        drop(verb(&shop.engine, id).expect("known"));
    }
    if state == Expired {
        shop.pass(Duration::from_millis(1_000));
    }
    shop.engine.run_until_idle();
    assert_eq!(shop.engine.order(id).expect("known").state, state);
    id
}

#[test]
fn every_verb_in_every_state() {
    use Transition::{AlreadyDone, Done, NotAllowed};
    // Rows: where the order stands; columns: confirm, cancel, fulfil.
    let table = [
        (Held, [Done { state: Confirmed }, Done { state: Cancelled }, NotAllowed { state: Held }]),
        (
            Confirmed,
            [
                AlreadyDone { state: Confirmed },
                Done { state: Cancelled },
                Done { state: Fulfilled },
            ],
        ),
        (
            Fulfilled,
            [
                NotAllowed { state: Fulfilled },
                NotAllowed { state: Fulfilled },
                AlreadyDone { state: Fulfilled },
            ],
        ),
        (
            Cancelled,
            [
                NotAllowed { state: Cancelled },
                AlreadyDone { state: Cancelled },
                NotAllowed { state: Cancelled },
            ],
        ),
        (Expired, [NotAllowed { state: Expired }; 3]),
    ];
    let units = |state| match state {
        Held => (1, 0, 0),
        Confirmed | Fulfilled => (0, 1, 0),
        _ => (0, 0, 1),
    };
    for (from, answers) in table {
        for ((name, verb), answer) in VERBS.into_iter().zip(answers) {
            let mut shop = Shop::new(plain);
            let id = order_in(&mut shop, from, 1);
            let before = shop.seen();
            let said = verb(&shop.engine, id).expect("known");
            let changes = matches!(answer, Done { .. });
            assert_eq!(said.is_durable(), !changes, "{name} of {from:?}");
            shop.engine.run_until_idle();
            assert_eq!(settled(said), answer, "{name} of {from:?}");
            if !changes {
                assert_eq!(shop.seen(), before, "{name} of {from:?} changes nothing");
            }
            let to = answer.state();
            for restart in [false, true] {
                if restart {
                    shop.kill();
                }
                let view = shop.engine.order(id).expect("known");
                assert_eq!((view.state, view.durable), (to, true), "{name} of {from:?}");
                let levels = shop.engine.levels(SKU).expect("known");
                let (held, sold, back) = units(to);
                assert_eq!((levels.held, levels.sold), (held, sold), "{name} of {from:?}");
                assert_eq!(levels.available, 99 + back, "{name} of {from:?}");
                assert!(levels.add_up(), "{levels:?}");
            }
            // The same verb again changes nothing more.
            let again = settled(verb(&shop.engine, id).expect("known"));
            assert!(!matches!(again, Done { .. }), "{name} of {from:?} again: {again:?}");
            assert_eq!(again.state(), to);
        }
    }
}

/// A call that lost a race returns the state that won, when that is durable (rule R2).
#[test]
fn the_loser_of_a_race_waits_until_the_winner_is_durable() {
    let mut shop = Shop::new(plain);
    let id = order_in(&mut shop, Held, 1);
    let won = shop.engine.cancel(id).expect("known");
    let lost = shop.engine.confirm(id).expect("known");
    let reused = shop.engine.place(order(1, 1).payload(&b"x"[..])).expect("an answer");
    assert!(!won.is_durable() && !lost.is_durable() && !reused.is_durable());
    assert!(!shop.engine.order(id).expect("known").durable);
    shop.engine.run_until_idle();
    assert_eq!(settled(won), Transition::Done { state: Cancelled });
    assert_eq!(settled(lost), Transition::NotAllowed { state: Cancelled });
    assert!(reused.is_durable());
}

fn closed<E: From<Unavailable>>() -> E {
    Unavailable::Closed.into()
}

/// When an engine is closed, the sale may continue in another process. So its last figures are no answer.
#[test]
fn a_closed_engine_refuses_every_verb_and_reads_on() {
    let mut shop = Shop::new(plain);
    let id = order_in(&mut shop, Held, 1);
    let engine = shop.engine.engine().clone();
    shop.engine.close().expect("closes");
    assert_eq!(engine.close(), Ok(()), "again");
    assert_eq!(engine.place(order(2, 1)).expect_err("closed"), closed::<PlaceError>());
    assert_eq!(engine.place(order(1, 1)).expect_err("closed"), closed::<PlaceError>(), "a repeat");
    assert_eq!(engine.place_batch(&[order(2, 1)]).expect_err("closed"), closed::<BatchError>());
    for (name, verb) in VERBS {
        assert_eq!(verb(&engine, id).expect_err(name), closed::<OrderError>());
    }
    let adjust = |sku: doorbuster::SkuId| engine.stock(sku, Adjust::add(1).key(9));
    assert_eq!(adjust(SKU).expect_err("closed"), closed::<StockError>());
    assert_eq!(adjust(crate::UNKNOWN).expect_err("closed"), closed::<StockError>());
    let limit = SaleRules::new().buyer_limit(1);
    assert_eq!(engine.rules(SKU, limit).expect_err("closed"), closed::<StockError>());
    assert!(engine.ready().wait().is_err());

    assert_eq!(engine.order(id).expect("reads still work").state, Held);
    assert_eq!(engine.levels(SKU).map(|levels| levels.held), Some(1));
    assert_eq!(engine.stats().orders, 1);

    let sold_out = Order::new(2, RequestKey::new(2)).line(EMPTY, 1);
    let answer = engine.place(&sold_out);
    assert_eq!(answer.expect_err("closed, sold out or not"), closed::<PlaceError>());
}

#[test]
fn a_latched_engine_refuses_every_verb_and_reads_on() {
    let mut shop = Shop::new(plain);
    let id = order_in(&mut shop, Held, 1);
    shop.storage.set_fault_hook(Some(Arc::new(|call| {
        let is_block = call.operation == Operation::WriteDurable && call.path.starts_with("log");
        if is_block { Fault::Error(io::ErrorKind::Other) } else { Fault::None }
    })));
    drop(shop.engine.stock(SKU, Adjust::add(1).key(9)).expect("accepted"));
    let steps = [shop.engine.step_writer(0), shop.engine.step_writer(1)];
    assert!(steps.contains(&Step::Ended));
    let is_latched = |error: Unavailable| match error {
        Unavailable::Latched { detail, .. } => assert!(detail.contains("log/"), "{detail}"),
        other => panic!("latched, not {other:?}"),
    };
    let place = |engine: &Engine, order: &Order| match engine.place(order) {
        Err(PlaceError::Unavailable(error)) => is_latched(error),
        answer => panic!("{order:?}: {answer:?}"),
    };
    place(&shop.engine, &order(2, 1));
    place(&shop.engine, &order(1, 1));
    match shop.engine.place_batch(&[order(2, 1)]) {
        Err(BatchError::Unavailable(error)) => is_latched(error),
        answer => panic!("{answer:?}"),
    }
    for (name, verb) in VERBS {
        match verb(&shop.engine, id) {
            Err(OrderError::Unavailable(error)) => is_latched(error),
            answer => panic!("{name}: {answer:?}"),
        }
    }
    match shop.engine.stock(SKU, Adjust::add(1).key(10)) {
        Err(StockError::Unavailable(error)) => is_latched(error),
        answer => panic!("{answer:?}"),
    }
    let view = shop.engine.order(id).expect("reads still work");
    assert_eq!((view.state, view.durable), (Held, true));
    place(&shop.engine, &Order::new(2, RequestKey::new(2)).line(EMPTY, 1));
    assert!(matches!(shop.engine.close(), Err(CloseError::Latched { .. })));
}
