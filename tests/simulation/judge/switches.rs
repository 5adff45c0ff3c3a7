//! Switches and merchants: what changes of them may be answered, whom they keep from what, and how many
//! orders a merchant's rate lets through.

use std::collections::{BTreeMap, BTreeSet};

use doorbuster::clock::Clock;
use doorbuster::testing::SteppedEngine;
use doorbuster::{MerchantError, MerchantRules, Scope, Switch};

use super::orders::Asked;
use super::ruled::{Ruled, Rules};
use super::sale::{Ruling, Sale};
use super::{At, Broken, Checked, Fact, Judge, hold_to};

impl Rules for Switch {
    type Change = Self;

    fn with(&self, change: &Self) -> Self {
        *change
    }

    fn stricter(&self, other: &Self) -> Self {
        (*self).max(*other)
    }
}

/// Orders a second, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) orders_per_s: u32,
    pub(crate) burst: u32,
}

/// A change of a merchant's rules as the host sends it; what is left out stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Throttle {
    pub(crate) switch: Option<Switch>,
    /// `Some(None)`: no rate any more.
    pub(crate) rate: Option<Option<Rate>>,
}

impl Throttle {
    fn rules(self) -> MerchantRules {
        let rules = MerchantRules::new();
        let rules = self.switch.map_or(rules, |switch| rules.switch(switch));
        match self.rate {
            None => rules,
            Some(None) => rules.no_rate(),
            Some(Some(rate)) => rules.rate(rate.orders_per_s, rate.burst),
        }
    }
}

/// A merchant's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merchant {
    switch: Switch,
    rate: Option<Rate>,
}

const NO_RULES: Merchant = Merchant { switch: Switch::Open, rate: None };

impl Rules for Merchant {
    type Change = Throttle;

    fn with(&self, change: &Throttle) -> Self {
        let (switch, rate) =
            (change.switch.unwrap_or(self.switch), change.rate.unwrap_or(self.rate));
        Self { switch, rate }
    }

    fn stricter(&self, other: &Self) -> Self {
        let rate = match (self.rate, other.rate) {
            (Some(one), Some(other)) => Some(Rate {
                orders_per_s: one.orders_per_s.min(other.orders_per_s),
                burst: one.burst.min(other.burst),
            }),
            (one, other) => one.or(other),
        };
        Self { switch: self.switch.max(other.switch), rate }
    }
}

impl Rate {
    /// How long a token takes to come back; rounded up, so that never more orders pass than the rate says.
    fn token_ns(self) -> u64 {
        1_000_000_000_u64.div_ceil(self.orders_per_s.into())
    }
}

/// What was taken out of a merchant's bucket and has not come back, in nanoseconds: at least and at most,
/// where a crash left it open which rate there is. It is full when the engine was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    least_ns: u64,
    most_ns: u64,
    /// On the clock of the boot.
    as_of_ns: u64,
}

impl Bucket {
    fn pass_until(&mut self, boot_ns: u64) {
        let passed_ns = boot_ns - self.as_of_ns;
        self.least_ns = self.least_ns.saturating_sub(passed_ns);
        self.most_ns = self.most_ns.saturating_sub(passed_ns);
        self.as_of_ns = boot_ns;
    }

    /// Whether there may be a token left at this rate.
    fn may_have_token(&self, rate: Option<Rate>) -> bool {
        rate.is_none_or(|rate| self.least_ns + rate.token_ns() <= rate.full_ns())
    }

    /// Whether there may be none for `ms` milliseconds, begun ones counted.
    fn may_be_empty_for(&self, rate: Option<Rate>, ms: u64) -> bool {
        let Some(rate) = rate else { return false };
        let left_ns = |taken_ns: u64| (taken_ns + rate.token_ns()).saturating_sub(rate.full_ns());
        let (least_ms, most_ms) =
            (left_ns(self.least_ns).div_ceil(1_000_000), left_ns(self.most_ns).div_ceil(1_000_000));
        ms > 0 && (least_ms..=most_ms).contains(&ms)
    }
}

impl Rate {
    fn full_ns(self) -> u64 {
        self.token_ns() * u64::from(self.burst)
    }
}

#[derive(Debug)]
struct Trader {
    rules: Ruled<Merchant>,
    bucket: Bucket,
}

#[derive(Debug)]
pub(super) struct Switches {
    engine: Ruled<Switch>,
    merchants: BTreeMap<u64, Trader>,
}

impl Default for Switches {
    fn default() -> Self {
        Self { engine: Ruled::new(Switch::Open), merchants: BTreeMap::new() }
    }
}

impl Switches {
    fn merchant(&mut self, id: u64) -> &mut Trader {
        self.merchants
            .entry(id)
            .or_insert_with(|| Trader { rules: Ruled::new(NO_RULES), bucket: Bucket::default() })
    }

    pub(super) fn note_switch_durable(&mut self, nth: usize, at: At) {
        self.engine.note_durable(nth, at);
    }

    pub(super) fn note_merchant_durable(&mut self, id: u64, nth: usize, at: At) {
        self.merchant(id).rules.note_durable(nth, at);
    }

    pub(super) fn are_durable(&self) -> bool {
        self.engine.is_durable() && self.merchants.values().all(|it| it.rules.is_durable())
    }

    /// After a reopen, at this time of the boot's clock.
    pub(super) fn reopen(&mut self, is_certain: impl Fn(At) -> bool, boot_ns: u64) {
        self.engine.reopen(&is_certain);
        for merchant in self.merchants.values_mut() {
            merchant.rules.reopen(&is_certain);
            merchant.bucket = Bucket { as_of_ns: boot_ns, ..Bucket::default() };
        }
    }

    fn may_merchant_be(&self, id: u64, is: impl Fn(Switch) -> bool) -> bool {
        match self.merchants.get(&id) {
            Some(merchant) => merchant.rules.may_be(|rules| is(rules.switch)),
            None => is(Switch::Open),
        }
    }

    /// Whether no switch of a sale, its merchants' included, is stricter than allowed.
    fn may_allow(&self, sale: &Sale, is_allowed: impl Fn(Switch) -> bool) -> bool {
        is_allowed(sale.switch)
            && sale.merchants.iter().all(|id| self.may_merchant_be(*id, &is_allowed))
    }
}

impl Judge {
    pub(crate) fn switch(&mut self, engine: &SteppedEngine, to: Switch) -> Checked {
        let what = format!("the engine is switched to {to:?}");
        let commit = match engine.switch(to) {
            Ok(commit) => commit,
            Err(unavailable) => return self.check_unavailable(engine, &what, &unavailable, false),
        };
        self.check_not_latched(&what)?;
        let nth = self.switches.engine.change(to, false);
        self.keep(what, commit, vec![Fact::Switch { nth }], None)
    }

    pub(crate) fn throttle(&mut self, engine: &SteppedEngine, id: u64, asked: Throttle) -> Checked {
        let what = format!("rules of merchant {id}: {asked:?}");
        let commit = match engine.merchant(id, asked.rules()) {
            Ok(commit) => commit,
            Err(MerchantError::Unavailable(unavailable)) => {
                return self.check_unavailable(engine, &what, &unavailable, false);
            }
            Err(error) => return Err(Broken(format!("{what}: {error}"))),
        };
        self.check_not_latched(&what)?;
        let nth = self.switches.merchant(id).rules.change(asked, false);
        self.keep(what, commit, vec![Fact::Merchant { merchant: id, nth }], None)
    }

    /// Switches something on that may be switched off; false if nothing may be.
    pub(crate) fn switch_one_on(&mut self, engine: &SteppedEngine) -> Checked<bool> {
        let is_off = |switch: Switch| switch != Switch::Open;
        let switch = Some(Switch::Open);
        if self.switches.engine.may_be(|it| is_off(*it)) {
            return self.switch(engine, Switch::Open).map(|()| true);
        }
        let mut merchants = self.switches.merchants.iter();
        let off = merchants.find(|(_, it)| it.rules.may_be(|rules| is_off(rules.switch)));
        if let Some(id) = off.map(|(id, _)| *id) {
            return self.throttle(engine, id, Throttle { switch, rate: None }).map(|()| true);
        }
        let off = self.skus.iter().find(|(_, sku)| sku.sale.may_be(|sale| is_off(sale.switch)));
        let Some(id) = off.map(|(id, _)| id) else { return Ok(false) };
        let ruling = Ruling { switch, ..Ruling::default() };
        self.rule(engine, id, &ruling).map(|()| true)
    }

    /// Merchants with a rate, for whom the order of two requests matters.
    #[cfg(doorbuster_mutants)]
    pub(crate) fn has_rates(&self) -> bool {
        let mut merchants = self.switches.merchants.values();
        merchants.any(|merchant| merchant.rules.may_be(|rules| rules.rate.is_some()))
    }

    /// Whether a switch may halt orders of these SKUs, and whether none may.
    pub(super) fn may_halt(&self, skus: &BTreeSet<u64>) -> (bool, bool) {
        self.may_be_at(Switch::Halted, skus)
    }

    /// Whether a switch of these SKUs may be at least as strict, and whether none may.
    pub(super) fn may_be_at(&self, bound: Switch, skus: &BTreeSet<u64>) -> (bool, bool) {
        let goes_on = |switch: Switch| switch < bound;
        let is_halted = |sale: &Sale| {
            let halts = |id: &u64| self.switches.may_merchant_be(*id, |it| !goes_on(it));
            !goes_on(sale.switch) || sale.merchants.iter().any(halts)
        };
        let sales = || skus.iter().filter_map(|sku| self.skus.get(*sku));
        let engine = &self.switches.engine;
        let may_halt = engine.may_be(|switch| !goes_on(*switch))
            || sales().any(|sku| sku.sale.may_be(is_halted));
        let may_go_on = engine.may_be(|switch| goes_on(*switch))
            && sales().all(|sku| sku.sale.may_be(|it| self.switches.may_allow(it, goes_on)));
        (may_halt, may_go_on)
    }

    /// No switch keeps orders of these SKUs from what was done: all are less strict than this one.
    pub(super) fn check_switches(
        &mut self,
        what: &str,
        skus: &BTreeSet<u64>,
        bound: Switch,
    ) -> Checked {
        let is_less = |switch: Switch| switch < bound;
        let engine = &mut self.switches.engine;
        hold_to!(engine.narrow(|it| is_less(*it)), "{what}, but the engine is {engine:?}");
        skus.iter().try_for_each(|sku| self.check_switches_of(what, *sku, is_less))
    }

    /// The switches of a SKU and of its merchants are such.
    fn check_switches_of(
        &mut self,
        what: &str,
        id: u64,
        is_such: impl Fn(Switch) -> bool,
    ) -> Checked {
        let switches = &self.switches;
        let sku = self.skus.get_mut(id);
        let fits = sku.sale.narrow(|sale| switches.may_allow(sale, &is_such));
        hold_to!(fits, "{what}, but SKU {id} is {:?}, and {switches:?}", sku.sale);
        for merchant in self.surely_of(id) {
            let rules = &mut self.switches.merchant(merchant).rules;
            let fits = rules.narrow(|rules| is_such(rules.switch));
            hold_to!(fits, "{what}, but merchant {merchant} of SKU {id} is {rules:?}");
        }
        Ok(())
    }

    /// The merchants that act on a SKU for certain.
    fn surely_of(&self, sku: u64) -> BTreeSet<u64> {
        let sales = self.skus.get(sku).map(|sku| sku.sale.acting()).unwrap_or_default();
        let merchants = sales.into_iter().map(|sale| sale.merchants);
        merchants.reduce(|one, other| &one & &other).unwrap_or_default()
    }

    /// The merchants that may act on a SKU.
    fn perhaps_of(&self, sku: u64) -> BTreeSet<u64> {
        let sales = self.skus.get(sku).map(|sku| sku.sale.acting()).unwrap_or_default();
        sales.into_iter().flat_map(|sale| sale.merchants).collect()
    }

    /// Something was refused for a switch: it is set so, none is stricter, and none as strict is wider or of
    /// a SKU before.
    pub(super) fn check_strictest(
        &mut self,
        what: &str,
        skus: &BTreeSet<u64>,
        (scope, switch): (Scope, Switch),
    ) -> Checked {
        let engine = &mut self.switches.engine;
        let is_named = scope == Scope::Engine;
        let fits = engine.narrow(|it| if is_named { *it == switch } else { *it < switch });
        hold_to!(fits && switch > Switch::Open, "{what}, but the engine is {engine:?}");
        if let Scope::Merchant(merchant) = scope {
            return self.check_merchant_switch(what, skus, merchant.get(), switch);
        }
        let mut is_found = is_named;
        for sku in skus {
            if scope == Scope::Sku((*sku).into()) {
                is_found = true;
                let sale = &mut self.skus.get_mut(*sku).sale;
                hold_to!(sale.narrow(|sale| sale.switch == switch), "{what}, but it is {sale:?}");
                let merchants = self.surely_of(*sku);
                let less = |id: &u64| self.switches.may_merchant_be(*id, |it| it < switch);
                hold_to!(merchants.iter().all(less), "{what}, but {merchants:?} are as strict");
                continue;
            }
            let bound = |it: Switch| if is_found { it <= switch } else { it < switch };
            self.check_switches_of(what, *sku, bound)?;
        }
        hold_to!(is_found, "{what}, but nobody asked for {scope:?}");
        Ok(())
    }

    fn check_merchant_switch(
        &mut self,
        what: &str,
        skus: &BTreeSet<u64>,
        merchant: u64,
        switch: Switch,
    ) -> Checked {
        let owns = |judge: &Self, sku: &u64| judge.perhaps_of(*sku).contains(&merchant);
        let first = skus.iter().find(|sku| owns(self, sku)).copied();
        let Some(first) = first else {
            return Err(Broken(format!("{what}, but merchant {merchant} has none of {skus:?}")));
        };
        let rules = &mut self.switches.merchant(merchant).rules;
        let fits = rules.narrow(|rules| rules.switch == switch);
        hold_to!(fits, "{what}, but merchant {merchant} is {rules:?}");
        for sku in skus {
            // Until it is known to be met, none may be as strict.
            let is_before = *sku < first;
            let bound = |it: Switch| if is_before { it < switch } else { it <= switch };
            self.check_switches_of(what, *sku, bound)?;
        }
        Ok(())
    }

    /// An order was refused since this merchant has had as many as its rate allows, now or since `earlier`.
    pub(super) fn check_rate_limited(
        &mut self,
        what: &str,
        asked: &Asked,
        (merchant, retry_after_ms): (u64, u64),
    ) -> Checked {
        let boot_ns = self.clock.boot_ns();
        let has_sku = asked.folded().keys().any(|sku| self.perhaps_of(*sku).contains(&merchant));
        let trader = self.switches.merchant(merchant);
        trader.bucket.pass_until(boot_ns);
        let bucket = trader.bucket;
        let is_empty = |rules: &Merchant| bucket.may_be_empty_for(rules.rate, retry_after_ms);
        let fits = trader.rules.narrow(is_empty);
        hold_to!(has_sku && fits, "{what}: for {retry_after_ms} ms of {trader:?}");
        self.tally.met("rate limited");
        Ok(())
    }

    /// A new order was held: it took a token of each merchant with a rate.
    pub(super) fn take_tokens(&mut self, what: &str, asked: &Asked) -> Checked {
        let boot_ns = self.clock.boot_ns();
        let lines = asked.folded();
        let all = |of: &dyn Fn(u64) -> BTreeSet<u64>| -> BTreeSet<u64> {
            lines.keys().flat_map(|sku| of(*sku)).collect()
        };
        let surely = all(&|sku| self.surely_of(sku));
        for id in all(&|sku| self.perhaps_of(sku)) {
            let trader = self.switches.merchant(id);
            trader.bucket.pass_until(boot_ns);
            let bucket = trader.bucket;
            let is_sure = surely.contains(&id);
            if is_sure {
                let fits = trader.rules.narrow(|rules| bucket.may_have_token(rules.rate));
                hold_to!(fits, "{what}: it was held, but there is no token: {trader:?}");
            }
            let acting = trader.rules.acting();
            let tokens_ns = acting.iter().map(|rules| rules.rate.map_or(0, Rate::token_ns));
            let least_ns = tokens_ns.clone().min().filter(|_| is_sure);
            trader.bucket.least_ns += least_ns.unwrap_or(0);
            trader.bucket.most_ns += tokens_ns.max().unwrap_or(0);
        }
        Ok(())
    }
}
