//! Which calls are allowed under which switch.

use doorbuster::{
    MerchantRules, OrderState, Placed, Refusal, SaleRules, Scope, Switch, Transition,
};

use crate::shop::{SKU, Shop, settled};
use crate::{MERCHANT, OTHER, ms};

/// Each place that has a switch, and the scope that a refusal names.
const SCOPES: [Scope; 3] = [Scope::Engine, Scope::Merchant(MERCHANT), Scope::Sku(SKU)];

fn set(shop: &mut Shop, scope: Scope, switch: Switch) {
    match scope {
        Scope::Engine => shop.switch(switch),
        Scope::Merchant(_) => shop.rule_merchant(MerchantRules::new().switch(switch)),
        _ => shop.rule(SKU, SaleRules::new().switch(switch)),
    }
}

fn owned() -> Shop {
    let mut shop = Shop::new();
    shop.rule(SKU, SaleRules::new().merchant(MERCHANT));
    shop
}

#[test]
fn under_no_new_holds_all_but_new_holds_goes_on() {
    for scope in SCOPES {
        let mut shop = owned();
        let [paid, left, late] = std::array::from_fn(|_| shop.hold(SKU).order);
        let order = shop.order(&[(SKU, 1)]).hold_for(ms(50));
        let Placed::Held(expires) = shop.answer(&order) else { panic!("there is one") };
        set(&mut shop, scope, Switch::NoNewHolds);
        let refused = Refusal::Switched { scope, switch: Switch::NoNewHolds };
        assert_eq!(shop.refusal(SKU), refused);
        let cart = shop.place(&[(OTHER, 1), (SKU, 1)]);
        assert_eq!(cart, Placed::Refused(refused));
        assert_eq!(shop.place(&[(OTHER, 1)]).held().is_none(), scope == Scope::Engine);
        let done = |state| Some(Transition::Done { state });
        assert_eq!(
            shop.engine.confirm(paid).expect("known").peek().copied(),
            done(OrderState::Confirmed)
        );
        assert_eq!(
            shop.engine.fulfil(paid).expect("known").peek().copied(),
            done(OrderState::Fulfilled)
        );
        assert_eq!(
            shop.engine.cancel(left).expect("known").peek().copied(),
            done(OrderState::Cancelled)
        );
        shop.pass(ms(50));
        let viewed = shop.engine.order(expires.order).expect("known");
        assert_eq!((viewed.state, viewed.durable), (OrderState::Expired, true));
        set(&mut shop, scope, Switch::Open);
        shop.hold(SKU);
        drop(shop.engine.confirm(late).expect("known"));
    }
}

#[test]
fn under_a_halt_nothing_goes_on_and_due_holds_end_when_it_does() {
    for (scope, restart) in SCOPES.into_iter().flat_map(|scope| [(scope, false), (scope, true)]) {
        let mut shop = owned();
        let [held, paid, gone] = std::array::from_fn(|_| shop.hold(SKU).order);
        drop(shop.engine.confirm(paid).expect("known"));
        drop(shop.engine.cancel(gone).expect("known"));
        let order = shop.order(&[(SKU, 1)]).hold_for(ms(50));
        let Placed::Held(expires) = shop.answer(&order) else { panic!("there is one") };
        set(&mut shop, scope, Switch::Halted);
        if restart {
            shop.kill();
        }
        let levels = shop.levels(SKU);
        shop.pass(ms(60));
        assert_eq!(shop.refusal(SKU), Refusal::Switched { scope, switch: Switch::Halted });
        let halted = |state| Some(Transition::Halted { state, scope });
        for order in [held, expires.order] {
            for verb in [doorbuster::Engine::confirm, doorbuster::Engine::cancel] {
                let told = verb(&shop.engine, order).expect("known").peek().copied();
                assert_eq!(told, halted(OrderState::Held));
            }
        }
        for verb in [doorbuster::Engine::fulfil, doorbuster::Engine::cancel] {
            let told = verb(&shop.engine, paid).expect("known").peek().copied();
            assert_eq!(told, halted(OrderState::Confirmed));
        }
        // A call that would change nothing is answered as always.
        let again = shop.engine.confirm(paid).expect("known");
        let state = OrderState::Confirmed;
        assert_eq!(again.peek(), Some(&Transition::AlreadyDone { state }));
        let never = shop.engine.confirm(gone).expect("known");
        let state = OrderState::Cancelled;
        assert_eq!(never.peek(), Some(&Transition::NotAllowed { state }));
        assert_eq!(shop.engine.order(expires.order).expect("known").state, OrderState::Held);
        assert_eq!(shop.levels(SKU), levels, "nothing moved");

        let lifted = match scope {
            Scope::Engine => shop.engine.switch(Switch::Open).expect("accepted"),
            Scope::Merchant(_) => {
                let opens = MerchantRules::new().switch(Switch::Open);
                shop.engine.merchant(MERCHANT, opens).expect("accepted")
            }
            _ => shop.engine.rules(SKU, SaleRules::new().switch(Switch::Open)).expect("accepted"),
        };
        let still = shop.engine.cancel(held).expect("known");
        assert_eq!(still.peek().copied(), halted(OrderState::Held), "not before that is durable");
        shop.engine.run_until_idle();
        settled(lifted);
        let viewed = shop.engine.order(expires.order).expect("known");
        assert_eq!((viewed.state, viewed.durable), (OrderState::Expired, true), "by itself");
        let confirmed = shop.engine.confirm(held).expect("known");
        assert_eq!(confirmed.peek().map(|told| told.state()), Some(OrderState::Confirmed));
        assert_eq!(shop.levels(SKU).available, levels.available + 1);
    }
}

/// More orders than the engine handles under one lock, and of two SKUs, so that some of them sleep on.
#[test]
fn many_holds_that_slept_through_a_halt_end_and_the_others_sleep_on() {
    let mut shop = Shop::new();
    for sku in [SKU, OTHER] {
        let added = doorbuster::Adjust::add(3_000).key(7);
        drop(shop.engine.stock(sku, added).expect("accepted"));
    }
    shop.engine.run_until_idle();
    for nth in 0..4_000 {
        let sku = if nth % 2 == 0 { SKU } else { OTHER };
        let order = shop.order(&[(sku, 1)]).hold_for(ms(50 + nth / 100));
        assert!(shop.answer(&order).held().is_some());
    }
    for sku in [SKU, OTHER] {
        shop.rule(sku, SaleRules::new().switch(Switch::Halted));
    }
    shop.pass(ms(1_000));
    assert_eq!((shop.levels(SKU).held, shop.levels(OTHER).held), (2_000, 2_000));
    shop.rule(SKU, SaleRules::new().switch(Switch::NoNewHolds));
    assert_eq!((shop.levels(SKU).held, shop.levels(OTHER).held), (0, 2_000));
    assert!(!shop.engine.step_timekeeper(), "it does not run in vain");
    shop.rule(OTHER, SaleRules::new().switch(Switch::Open));
    assert_eq!(shop.levels(OTHER).held, 0);
    assert_eq!(shop.engine.stats().expired, 4_000);
}

#[test]
fn of_several_switches_the_strictest_acts_and_of_these_the_widest_is_named() {
    let mut shop = owned();
    let mut refusal = |switches: [Switch; 3]| {
        for (scope, switch) in SCOPES.into_iter().zip(switches) {
            set(&mut shop, scope, switch);
        }
        match shop.place(&[(SKU, 1)]) {
            Placed::Refused(Refusal::Switched { scope, switch }) => Some((scope, switch)),
            placed => placed.held().map_or_else(|| panic!("{placed:?}"), |_| None),
        }
    };
    use Switch::{Halted, NoNewHolds, Open};
    let [engine, merchant, sku] = SCOPES;
    assert_eq!(refusal([Open, Open, Open]), None);
    assert_eq!(refusal([NoNewHolds, NoNewHolds, NoNewHolds]), Some((engine, NoNewHolds)));
    assert_eq!(refusal([NoNewHolds, Halted, Halted]), Some((merchant, Halted)));
    assert_eq!(refusal([NoNewHolds, Open, Halted]), Some((sku, Halted)));
    assert_eq!(refusal([Open, NoNewHolds, NoNewHolds]), Some((merchant, NoNewHolds)));
    assert_eq!(refusal([Open, Open, NoNewHolds]), Some((sku, NoNewHolds)));
}
