//! Changes of rules that wait for the disk: which of them act, and how many there may be.

use std::sync::{Arc, Mutex};

use doorbuster::testing::{Fault, Operation};
use doorbuster::{
    Capacity, MerchantError, MerchantId, MerchantRules, Refusal, SaleRules, Scope, StockError,
    Switch, Unavailable,
};

use crate::shop::{SKU, Shop, settled};
use crate::{MERCHANT, ms};

const FULL: Unavailable = Unavailable::AtCapacity { what: Capacity::RulesInFlight, bound: 256 };

impl Shop {
    /// Calls the closure at each of the next writes of the log, which make durable what was logged before.
    fn at_writes(&self, times: u32, act: impl Fn(&doorbuster::Engine) + Send + Sync + 'static) {
        let (engine, left) = (self.engine.engine().clone(), Mutex::new(times));
        self.storage.set_fault_hook(Some(Arc::new(move |call| {
            let is_log = call.operation == Operation::WriteDurable && call.path.starts_with("log");
            let mut left = left.lock().unwrap();
            if is_log && *left > 0 {
                *left -= 1;
                act(&engine);
            }
            Fault::None
        })));
    }

    fn write_until(&mut self, is_done: impl Fn() -> bool) {
        for shard in 0..2 {
            if !is_done() {
                let _ = self.engine.step_writer(shard);
            }
        }
        assert!(is_done());
    }
}

#[test]
fn an_engine_that_was_durably_opened_sells_under_a_stream_of_switches() {
    let mut shop = Shop::new();
    shop.switch(Switch::Halted);
    let opened = shop.engine.switch(Switch::Open).expect("accepted");
    shop.at_writes(50, |engine| drop(engine.switch(Switch::Open).expect("accepted")));
    shop.write_until(|| opened.is_durable());
    shop.hold(SKU);
}

#[test]
fn a_restriction_in_flight_acts_although_a_permission_became_durable() {
    let mut shop = Shop::new();
    shop.switch(Switch::Halted);
    let opened = shop.engine.switch(Switch::Open).expect("accepted");
    shop.at_writes(1, |engine| drop(engine.switch(Switch::NoNewHolds).expect("accepted")));
    shop.write_until(|| opened.is_durable());
    let switched = Refusal::Switched { scope: Scope::Engine, switch: Switch::NoNewHolds };
    assert_eq!(shop.refusal(SKU), switched, "no longer halted, and not open");
}

/// The story: a SKU moved to another merchant. Its former, delisted merchant kept it from selling as long as any
/// other of its rules was in flight.
#[test]
fn a_merchant_lets_go_of_a_sku_while_another_rule_changes() {
    let mut shop = Shop::new();
    shop.rule_merchant(MerchantRules::new().switch(Switch::Halted));
    shop.rule(SKU, SaleRules::new().merchant(MERCHANT).safety_stock(9));
    let other = MerchantId::new(2);
    let handed = shop.engine.rules(SKU, SaleRules::new().merchant(other)).expect("accepted");
    shop.at_writes(1, |engine| {
        drop(
            engine.rules(SKU, SaleRules::new().safety_stock(3).hold_for(ms(5))).expect("accepted"),
        );
    });
    shop.write_until(|| handed.is_durable());
    let held = shop.hold(SKU);
    assert_eq!(held.deadline_ms - shop.now_ms(), 5, "what restricts acts");
    assert_eq!(shop.levels(SKU).kept_back, 9, "what permits does not");
    shop.engine.run_until_idle();
    assert_eq!(shop.levels(SKU).kept_back, 3);
}

#[test]
fn changes_that_wait_for_the_disk_are_bounded_by_name() {
    let mut shop = Shop::new();
    let rules = |nth: u32| SaleRules::new().safety_stock(nth % 2);
    let mut commits: Vec<_> =
        (0..256).map(|nth| shop.engine.rules(SKU, rules(nth)).expect("accepted")).collect();
    let before = shop.engine.dump();
    let refused = shop.engine.rules(SKU, SaleRules::new().buyer_limit(1)).map(drop);
    assert_eq!(refused, Err(StockError::Unavailable(FULL)));
    assert_eq!(shop.engine.end_sale(SKU).map(drop), Err(StockError::Unavailable(FULL)));
    let rate = |nth: u32| MerchantRules::new().rate(1 + nth, 1);
    commits
        .extend((0..256).map(|nth| shop.engine.merchant(MERCHANT, rate(nth)).expect("accepted")));
    let refused = shop.engine.merchant(MERCHANT, rate(0)).map(drop);
    assert_eq!(refused, Err(MerchantError::Unavailable(FULL)));
    commits.extend((0..256).map(|_| shop.engine.switch(Switch::Open).expect("accepted")));
    assert_eq!(shop.engine.switch(Switch::Open).map(drop), Err(FULL));
    let without_merchant = |dump: String| {
        dump.lines().filter(|line| !line.starts_with("merchant")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(without_merchant(shop.engine.dump()), without_merchant(before));
    shop.engine.run_until_idle();
    commits.into_iter().for_each(settled);
    shop.rule(SKU, SaleRules::new().buyer_limit(1));
    shop.rule_merchant(rate(0));
    shop.switch(Switch::Open);
}
