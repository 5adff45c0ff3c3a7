//! Who may do what under which switch.

use doorbuster::{
    MerchantRules, OrderState, Placed, Refusal, SaleRules, Scope, Switch, Transition,
};

use crate::bench::{Bench, MERCHANT, OTHER, SKU, ms, settled};

/// Each place where a switch is, and whose a refusal says it is.
const SCOPES: [Scope; 3] = [Scope::Engine, Scope::Merchant(MERCHANT), Scope::Sku(SKU)];

fn set(bench: &mut Bench, scope: Scope, switch: Switch) {
    match scope {
        Scope::Engine => bench.switch(switch),
        Scope::Merchant(_) => bench.rule_merchant(MerchantRules::new().switch(switch)),
        _ => bench.rule(SKU, SaleRules::new().switch(switch)),
    }
}

fn owned() -> Bench {
    let mut bench = Bench::new();
    bench.rule(SKU, SaleRules::new().merchant(MERCHANT));
    bench
}

#[test]
fn under_no_new_holds_all_but_new_holds_goes_on() {
    for scope in SCOPES {
        let mut bench = owned();
        let [paid, left, late] = std::array::from_fn(|_| bench.hold(SKU).order);
        let order = bench.order(&[(SKU, 1)]).hold_for(ms(50));
        let Placed::Held(expires) = bench.tell(&order) else { panic!("there is one") };
        set(&mut bench, scope, Switch::NoNewHolds);
        let refused = Refusal::Switched { scope, switch: Switch::NoNewHolds };
        assert_eq!(bench.refusal(SKU), refused);
        let cart = bench.place(&[(OTHER, 1), (SKU, 1)]);
        assert_eq!(cart, Placed::Refused(refused));
        assert_eq!(bench.place(&[(OTHER, 1)]).held().is_none(), scope == Scope::Engine);
        let done = |state| Some(Transition::Done { state });
        assert_eq!(
            bench.engine.confirm(paid).expect("known").peek().copied(),
            done(OrderState::Confirmed)
        );
        assert_eq!(
            bench.engine.fulfil(paid).expect("known").peek().copied(),
            done(OrderState::Fulfilled)
        );
        assert_eq!(
            bench.engine.cancel(left).expect("known").peek().copied(),
            done(OrderState::Cancelled)
        );
        bench.clock.advance(ms(50));
        bench.engine.run_until_idle();
        let viewed = bench.engine.order(expires.order).expect("known");
        assert_eq!((viewed.state, viewed.durable), (OrderState::Expired, true));
        set(&mut bench, scope, Switch::Open);
        bench.hold(SKU);
        drop(bench.engine.confirm(late).expect("known"));
    }
}

#[test]
fn under_a_halt_nothing_goes_on_and_due_holds_end_when_it_does() {
    for (scope, restart) in SCOPES.into_iter().flat_map(|scope| [(scope, false), (scope, true)]) {
        let mut bench = owned();
        let [held, paid, gone] = std::array::from_fn(|_| bench.hold(SKU).order);
        drop(bench.engine.confirm(paid).expect("known"));
        drop(bench.engine.cancel(gone).expect("known"));
        let order = bench.order(&[(SKU, 1)]).hold_for(ms(50));
        let Placed::Held(expires) = bench.tell(&order) else { panic!("there is one") };
        set(&mut bench, scope, Switch::Halted);
        if restart {
            bench = bench.restart();
        }
        let levels = bench.levels(SKU);
        bench.clock.advance(ms(60));
        bench.engine.run_until_idle();
        assert_eq!(bench.refusal(SKU), Refusal::Switched { scope, switch: Switch::Halted });
        let halted = |state| Some(Transition::Halted { state, scope });
        for order in [held, expires.order] {
            for verb in [doorbuster::Engine::confirm, doorbuster::Engine::cancel] {
                let told = verb(&bench.engine, order).expect("known").peek().copied();
                assert_eq!(told, halted(OrderState::Held));
            }
        }
        for verb in [doorbuster::Engine::fulfil, doorbuster::Engine::cancel] {
            let told = verb(&bench.engine, paid).expect("known").peek().copied();
            assert_eq!(told, halted(OrderState::Confirmed));
        }
        // What would change nothing is answered as ever.
        let again = bench.engine.confirm(paid).expect("known");
        let state = OrderState::Confirmed;
        assert_eq!(again.peek(), Some(&Transition::AlreadyDone { state }));
        let never = bench.engine.confirm(gone).expect("known");
        let state = OrderState::Cancelled;
        assert_eq!(never.peek(), Some(&Transition::NotAllowed { state }));
        assert_eq!(bench.engine.order(expires.order).expect("known").state, OrderState::Held);
        assert_eq!(bench.levels(SKU), levels, "nothing moved");

        let lifted = match scope {
            Scope::Engine => bench.engine.switch(Switch::Open).expect("takes it"),
            Scope::Merchant(_) => {
                let opens = MerchantRules::new().switch(Switch::Open);
                bench.engine.merchant(MERCHANT, opens).expect("takes it")
            }
            _ => bench.engine.rules(SKU, SaleRules::new().switch(Switch::Open)).expect("takes it"),
        };
        let still = bench.engine.cancel(held).expect("known");
        assert_eq!(still.peek().copied(), halted(OrderState::Held), "until that is durable");
        bench.engine.run_until_idle();
        settled(lifted);
        let viewed = bench.engine.order(expires.order).expect("known");
        assert_eq!((viewed.state, viewed.durable), (OrderState::Expired, true), "by itself");
        let confirmed = bench.engine.confirm(held).expect("known");
        assert_eq!(confirmed.peek().map(|told| told.state()), Some(OrderState::Confirmed));
        assert_eq!(bench.levels(SKU).available, levels.available + 1);
    }
}

/// More of them than are dealt with under one lock, and of two SKUs, so that some stay asleep.
#[test]
fn many_holds_that_slept_through_a_halt_end_and_the_others_sleep_on() {
    let mut bench = Bench::new();
    for sku in [SKU, OTHER] {
        let added = doorbuster::Adjust::add(3_000).key(7);
        drop(bench.engine.stock(sku, added).expect("takes it"));
    }
    bench.engine.run_until_idle();
    for nth in 0..4_000 {
        let sku = if nth % 2 == 0 { SKU } else { OTHER };
        let order = bench.order(&[(sku, 1)]).hold_for(ms(50 + nth / 100));
        assert!(bench.tell(&order).held().is_some());
    }
    for sku in [SKU, OTHER] {
        bench.rule(sku, SaleRules::new().switch(Switch::Halted));
    }
    bench.clock.advance(ms(1_000));
    bench.engine.run_until_idle();
    assert_eq!((bench.levels(SKU).held, bench.levels(OTHER).held), (2_000, 2_000));
    bench.rule(SKU, SaleRules::new().switch(Switch::NoNewHolds));
    assert_eq!((bench.levels(SKU).held, bench.levels(OTHER).held), (0, 2_000));
    assert!(!bench.engine.step_timekeeper(), "it does not turn in vain");
    bench.rule(OTHER, SaleRules::new().switch(Switch::Open));
    assert_eq!(bench.levels(OTHER).held, 0);
    assert_eq!(bench.engine.stats().expired, 4_000);
}

#[test]
fn of_several_switches_the_strictest_acts_and_of_these_the_widest_is_named() {
    let mut bench = owned();
    let mut refusal = |switches: [Switch; 3]| {
        for (scope, switch) in SCOPES.into_iter().zip(switches) {
            set(&mut bench, scope, switch);
        }
        match bench.place(&[(SKU, 1)]) {
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
