//! What rule R17 promises to waiting orders: a unit that comes back goes to them, whenever it comes.

use std::time::Duration;

use super::{engine, spawn};
use crate::engine::effects::give_back;
use crate::engine::place;
use crate::engine::place::hold::hold;
use crate::engine::place::holding::Wanted;
use crate::engine::place::skus::Skus;
use crate::engine::{Engine, promotion};
use crate::ids::{Quantity, SkuId};
use crate::log::{Effect, EffectKind};
use crate::order::{Fill, Filling, Line, Order, OrderState, Placed, SaleRules, Waiting};
use crate::testing::SteppedEngine;

/// An engine whose first SKU has a waiting list.
fn engine_with_list() -> SteppedEngine {
    let mut stepped = engine();
    let _ = stepped.rules(1, SaleRules::new().waiting_max(2)).expect("takes it");
    stepped.step_writer(0);
    stepped
}

fn patient(buyer: u64) -> Order {
    Order::new(buyer, 1).line(1, 1).fill(Fill::Wait { patience: Duration::from_secs(9) })
}

/// As [`Engine::place`], with a hash that is the same in every run; of an order that is held or waits.
fn place_patient(engine: &Engine, order: &Order) -> crate::OrderId {
    let (core, key_hash) = (engine.core(), u64::from(order.buyer().to_bytes()[0]) << 33);
    let sku = core.skus.find(order.lines()[0].sku);
    let answer = place::place_hashed(core, &core.partitions[0], key_hash, sku, order);
    match answer.expect("an answer").peek().expect("an answer") {
        Placed::Held(held) => held.order,
        Placed::Waiting(Waiting { order, .. }) => *order,
        other => panic!("{other:?}"),
    }
}

/// A unit comes back while the promoter, which was asked before, looks at the list.
#[test]
fn a_unit_that_comes_back_while_the_promoter_looks_is_handed_on() {
    let mut model = loom::model::Builder::new();
    model.max_branches = 20_000;
    model.check(|| {
        let run = spawn(|| {
            let stepped = engine_with_list();
            place_patient(stepped.engine(), &patient(7));
            let waits = place_patient(stepped.engine(), &patient(8));
            let core = stepped.engine().core().clone();
            core.promotions.ask(core.skus.get(0));
            let promoter = spawn({
                let core = core.clone();
                move || promotion::promote_some(&core)
            });
            // As a writer does when a record with an effect is durable.
            let kind = EffectKind::Return { units: 1 };
            give_back(&core.gives_back(), &Effect { lsn: 1, sku: 0, kind });
            promoter.join().expect("no panic");
            while promotion::promote_some(&core) {}
            let view = stepped.engine().order(waits).expect("known");
            assert_eq!(view.state, OrderState::Held, "nobody looks at the unit");
        });
        run.join().expect("no panic");
    });
}

/// A cart has the last unit in hand and fails at its next line, while an order that waits for that unit joins the
/// list: the failed cart asks the promoter.
#[test]
fn a_unit_that_a_failed_cart_returns_goes_to_the_waiting_order() {
    let mut model = loom::model::Builder::new();
    model.max_branches = 20_000;
    model.check(|| {
        let run = spawn(|| {
            let stepped = engine_with_list();
            let core = stepped.engine().core().clone();
            let cart = spawn({
                let core = core.clone();
                move || {
                    let skus = Skus::Many(core.skus.iter().collect());
                    let line = |sku: u64, units| Line {
                        sku: SkuId::new(sku),
                        quantity: Quantity::new(units),
                    };
                    let (lines, filling) = ([line(1, 1), line(2, 2)], Filling::default());
                    let wanted = Wanted { lines: &lines, filling: &filling, caps: &[] };
                    drop(hold(&core, &skus, wanted));
                }
            });
            let order = place_patient(stepped.engine(), &patient(8));
            cart.join().expect("no panic");
            while promotion::promote_some(&core) {}
            let view = stepped.engine().order(order).expect("known");
            assert_eq!(view.state, OrderState::Held, "nobody else wants the unit");
        });
        run.join().expect("no panic");
    });
}
