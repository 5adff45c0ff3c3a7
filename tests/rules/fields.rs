//! Every field of [`SaleRules`] and [`MerchantRules`], in both directions. A restriction acts at once, a permission
//! acts when it is durable, and a crash leaves the old value or the new one.

use std::sync::Mutex;
use std::time::Duration;

use doorbuster::testing::{Fault, Operation};
use doorbuster::{
    Commit, Fill, MerchantRules, OrderId, OrderState, Placed, Refusal, SaleRules, Switch,
};

use crate::shop::{SKU, Shop, settled};
use crate::{MERCHANT, ms};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone)]
enum Change {
    Sale(SaleRules),
    Merchant(MerchantRules),
}

/// A field with two values of which one is stricter.
struct Field {
    name: &'static str,
    /// Brings the engine to where the two values differ. Both act on an engine that is idle afterwards.
    prepare: fn(&mut Shop),
    strict: fn(&Shop) -> Change,
    lax: fn(&Shop) -> Change,
    /// Whether the strict value acts.
    is_strict: fn(&mut Shop) -> bool,
}

fn refused(shop: &mut Shop, units: u32, is_by_it: fn(&Refusal) -> bool) -> bool {
    match shop.place(&[(SKU, units)]) {
        Placed::Refused(refusal) if is_by_it(&refusal) => true,
        Placed::Held(_) => false,
        other => panic!("{other:?}"),
    }
}

fn is_switched(shop: &mut Shop) -> bool {
    refused(shop, 1, |refusal| matches!(refusal, Refusal::Switched { .. }))
}

fn is_limited(shop: &mut Shop) -> bool {
    refused(shop, 1, |refusal| matches!(refusal, Refusal::RateLimited { .. }))
}

/// An order of this many units that waits if there are too few.
fn patient(shop: &mut Shop, units: u32) -> Placed {
    let order = shop.order(&[(SKU, units)]).fill(Fill::Wait { patience: HOUR });
    shop.answer(&order)
}

fn waiting(placed: &Placed) -> Option<OrderId> {
    match placed {
        Placed::Waiting(waiting) => Some(waiting.order),
        _ => None,
    }
}

/// One unit is left, and the first order in the list wants more.
fn block_the_list(shop: &mut Shop) {
    shop.rule(SKU, SaleRules::new().waiting_max(9));
    assert!(shop.place(&[(SKU, 99)]).held().is_some());
    assert!(waiting(&patient(shop, 50)).is_some());
    shop.engine.run_until_idle();
}

fn own(shop: &mut Shop) {
    shop.rule(SKU, SaleRules::new().merchant(MERCHANT));
}

fn nothing(_: &mut Shop) {}

fn rules() -> SaleRules {
    SaleRules::new()
}

fn field(
    name: &'static str,
    prepare: fn(&mut Shop),
    strict: fn(&Shop) -> Change,
    lax: fn(&Shop) -> Change,
    is_strict: fn(&mut Shop) -> bool,
) -> Field {
    Field { name, prepare, strict, lax, is_strict }
}

fn fields() -> Vec<Field> {
    let mut fields = sale_fields();
    fields.extend(merchant_fields());
    fields
}

fn sale_fields() -> Vec<Field> {
    use Change::Sale;
    vec![
        field(
            "buyer_limit",
            nothing,
            |_| Sale(rules().buyer_limit(1)),
            |_| Sale(rules().buyer_limit(0)),
            |shop| refused(shop, 2, |refusal| matches!(refusal, Refusal::BuyerLimit { .. })),
        ),
        field(
            "opens_at_ms",
            nothing,
            |shop| Sale(rules().opens_at_ms(shop.now_ms() + 9)),
            |_| Sale(rules().opens_at_ms(0)),
            |shop| refused(shop, 1, |refusal| matches!(refusal, Refusal::NotOpen { .. })),
        ),
        field(
            "closes_at_ms",
            nothing,
            |shop| Sale(rules().closes_at_ms(shop.now_ms())),
            |_| Sale(rules().closes_at_ms(u64::MAX)),
            |shop| refused(shop, 1, |refusal| matches!(refusal, Refusal::Closed { .. })),
        ),
        field(
            "early_access",
            |shop| shop.rule(SKU, rules().opens_at_ms(shop.now_ms() + 50)),
            |_| Sale(rules().early_access(0, ms(0))),
            |_| Sale(rules().early_access(0, ms(60))),
            |shop| refused(shop, 1, |refusal| matches!(refusal, Refusal::NotOpen { .. })),
        ),
        field(
            "hold_for, shorter than the default",
            nothing,
            |_| Sale(rules().hold_for(ms(7))),
            |_| Sale(rules().hold_for(None)),
            |shop| shop.hold(SKU).deadline_ms - shop.now_ms() == 7,
        ),
        // The story: the engine's default counted as no bound at all, so that a longer hold acted before it was
        // durable.
        field(
            "hold_for, longer than the default",
            nothing,
            |_| Sale(rules().hold_for(None)),
            |_| Sale(rules().hold_for(HOUR)),
            |shop| shop.hold(SKU).deadline_ms - shop.now_ms() < 3_600_000,
        ),
        field(
            "safety_stock",
            nothing,
            |_| Sale(rules().safety_stock(100)),
            |_| Sale(rules().safety_stock(0)),
            |shop| refused(shop, 1, |refusal| matches!(refusal, Refusal::SoldOut { .. })),
        ),
        field(
            "waiting_max",
            nothing,
            |_| Sale(rules().waiting_max(0)),
            |_| Sale(rules().waiting_max(1)),
            |shop| waiting(&patient(shop, 101)).is_none(),
        ),
        field(
            "waiting_passes",
            block_the_list,
            |_| Sale(rules().waiting_passes(false)),
            |_| Sale(rules().waiting_passes(true)),
            |shop| {
                let small = waiting(&patient(shop, 1)).expect("behind the first");
                shop.engine.step_timekeeper();
                let state = shop.engine.order(small).expect("there").view().state;
                state == OrderState::Waiting
            },
        ),
        field(
            "switch: no new holds",
            nothing,
            |_| Sale(rules().switch(Switch::NoNewHolds)),
            |_| Sale(rules().switch(Switch::Open)),
            is_switched,
        ),
        field(
            "switch: halted",
            nothing,
            |_| Sale(rules().switch(Switch::Halted)),
            |_| Sale(rules().switch(Switch::Open)),
            is_switched,
        ),
        field(
            "merchant",
            |shop| shop.rule_merchant(MerchantRules::new().switch(Switch::NoNewHolds)),
            |_| Sale(rules().merchant(MERCHANT)),
            |_| Sale(rules().merchant(None)),
            is_switched,
        ),
    ]
}

fn merchant_fields() -> Vec<Field> {
    use Change::Merchant;
    vec![
        field(
            "the merchant's switch",
            own,
            |_| Merchant(MerchantRules::new().switch(Switch::NoNewHolds)),
            |_| Merchant(MerchantRules::new().switch(Switch::Open)),
            is_switched,
        ),
        field(
            "rate",
            own,
            |_| Merchant(MerchantRules::new().rate(1, 1)),
            |_| Merchant(MerchantRules::new().no_rate()),
            |shop| {
                shop.hold(SKU);
                is_limited(shop)
            },
        ),
        field(
            "orders_per_s",
            own,
            |_| Merchant(MerchantRules::new().rate(1, 1)),
            |_| Merchant(MerchantRules::new().rate(1_000, 1)),
            |shop| {
                shop.hold(SKU);
                shop.clock.advance(ms(1));
                is_limited(shop)
            },
        ),
        field(
            "burst",
            own,
            |_| Merchant(MerchantRules::new().rate(1, 1)),
            |_| Merchant(MerchantRules::new().rate(1, 2)),
            |shop| {
                shop.hold(SKU);
                is_limited(shop)
            },
        ),
    ]
}

impl Shop {
    fn change(&self, change: Change) -> Commit<()> {
        match change {
            Change::Sale(rules) => self.engine.rules(SKU, rules).expect("accepted"),
            Change::Merchant(rules) => self.engine.merchant(MERCHANT, rules).expect("accepted"),
        }
    }

    /// Opens an engine in which the field has this value durably.
    fn ruled(field: &Field, value: fn(&Shop) -> Change) -> Self {
        let mut shop = Self::new();
        (field.prepare)(&mut shop);
        let changed = shop.change(value(&shop));
        shop.engine.run_until_idle();
        settled(changed);
        shop
    }
}

/// How far a change has come when the test looks at the field.
#[derive(Clone, Copy, Debug)]
enum Stage {
    InFlight,
    Lost,
    Durable,
    Replayed,
}

#[test]
fn every_field_restricts_at_once_and_permits_when_durable_whatever_a_crash_leaves() {
    use Stage::{Durable, InFlight, Lost, Replayed};
    for field in fields() {
        for restricts in [false, true] {
            let (from, to) = match restricts {
                true => (field.lax, field.strict),
                false => (field.strict, field.lax),
            };
            for stage in [InFlight, Lost, Durable, Replayed] {
                let mut shop = Shop::ruled(&field, from);
                let changed = shop.change(to(&shop));
                if matches!(stage, Durable | Replayed) {
                    shop.engine.run_until_idle();
                    assert!(changed.is_durable());
                }
                if matches!(stage, Lost | Replayed) {
                    shop.kill();
                }
                let expected = match stage {
                    InFlight => true,
                    Lost => !restricts,
                    Durable | Replayed => restricts,
                };
                let is_strict = (field.is_strict)(&mut shop);
                let name = field.name;
                assert_eq!(is_strict, expected, "{name}, restricts: {restricts}, {stage:?}");
            }
        }
    }
}

/// The story: a host changes a rule again and again. A change in flight kept a permission from acting that was
/// durable and acknowledged.
#[test]
fn every_durable_permission_acts_while_another_change_is_in_flight() {
    for field in fields() {
        let mut shop = Shop::ruled(&field, field.strict);
        let change = (field.lax)(&shop);
        let permitted = shop.change(change.clone());
        let (engine, once) = (shop.engine.engine().clone(), Mutex::new(Some(change)));
        shop.storage.set_fault_hook(Some(std::sync::Arc::new(move |call| {
            let is_log = call.operation == Operation::WriteDurable && call.path.starts_with("log");
            if let Some(change) = is_log.then(|| once.lock().unwrap().take()).flatten() {
                // The same permission again, in flight when the first one is durable.
                match change {
                    Change::Sale(rules) => drop(engine.rules(SKU, rules).expect("accepted")),
                    Change::Merchant(rules) => {
                        drop(engine.merchant(MERCHANT, rules).expect("accepted"));
                    }
                }
            }
            Fault::None
        })));
        for shard in 0..2 {
            if !permitted.is_durable() {
                let _ = shop.engine.step_writer(shard);
            }
        }
        shop.storage.set_fault_hook(None);
        settled(permitted);
        assert!(!(field.is_strict)(&mut shop), "the strict value of {} does not act", field.name);
    }
}
