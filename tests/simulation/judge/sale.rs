//! The rules of a SKU's sale: what a change of them may be answered, and whom they let have what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use doorbuster::testing::SteppedEngine;
use doorbuster::{MerchantId, Quantity, SaleRules, StockError, Switch};

use super::orders::Asked;
use super::retention::Counting;
use super::ruled::Rules;
use super::{Broken, Checked, Fact, Judge, hold_to};

/// A change of the rules as the host sends it; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruling {
    /// 0: none.
    pub(crate) limit: Option<u32>,
    pub(crate) opens_at_ms: Option<u64>,
    pub(crate) closes_at_ms: Option<u64>,
    /// By class.
    pub(crate) early_ms: BTreeMap<u8, u64>,
    /// `Some(None)`: as the engine says.
    pub(crate) hold_ms: Option<Option<u64>>,
    pub(crate) safety_stock: Option<u32>,
    pub(crate) switch: Option<Switch>,
    /// `Some(None)`: no merchant.
    pub(crate) merchant: Option<Option<u64>>,
    /// How many may wait.
    pub(crate) waiting_max: Option<u32>,
    pub(crate) waiting_passes: Option<bool>,
}

impl Ruling {
    fn rules(&self) -> SaleRules {
        let rules = SaleRules::new();
        let rules = self.limit.into_iter().fold(rules, |rules, limit| rules.buyer_limit(limit));
        let rules = self.opens_at_ms.into_iter().fold(rules, SaleRules::opens_at_ms);
        let rules = self.closes_at_ms.into_iter().fold(rules, SaleRules::closes_at_ms);
        let rules = self.early_ms.iter().fold(rules, |rules, (class, ms)| {
            rules.early_access(*class, Duration::from_millis(*ms))
        });
        let rules = self
            .hold_ms
            .into_iter()
            .fold(rules, |rules, hold_ms| rules.hold_for(hold_ms.map(Duration::from_millis)));
        let rules = self.switch.into_iter().fold(rules, SaleRules::switch);
        let rules = self.waiting_max.into_iter().fold(rules, SaleRules::waiting_max);
        let rules = self.waiting_passes.into_iter().fold(rules, SaleRules::waiting_passes);
        let rules = self
            .merchant
            .into_iter()
            .fold(rules, |rules, merchant| rules.merchant(merchant.map(MerchantId::new)));
        let units = self.safety_stock.map(Quantity::new);
        units.into_iter().fold(rules, SaleRules::safety_stock)
    }
}

/// What a record says of a sale.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Rules(Ruling),
    /// It ended: no limit, and nothing that counts towards one.
    End,
}

impl Change {
    /// Whether what buyers have is counted from then on; `None`: as before.
    pub(super) fn counting(&self) -> Option<Counting> {
        match self {
            Self::Rules(ruling) => ruling.limit.filter(|limit| *limit > 0).map(|_| Counting::Yes),
            Self::End => Some(Counting::No),
        }
    }
}

/// A SKU's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sale {
    /// 0: none.
    pub(super) limit: u32,
    pub(super) opens_at_ms: u64,
    pub(super) closes_at_ms: u64,
    /// By class; one that is left out has none.
    early_ms: BTreeMap<u8, u64>,
    /// `None`: as the engine says. One is logged; of several on their way the shortest acts.
    holds_ms: BTreeSet<Option<u64>>,
    pub(super) safety_stock: u32,
    pub(super) switch: Switch,
    /// One or none is logged; all on their way act.
    pub(super) merchants: BTreeSet<u64>,
    /// How many may wait; 0: none.
    pub(super) waiting_max: u32,
    pub(super) waiting_passes: bool,
}

impl Default for Sale {
    fn default() -> Self {
        Self {
            limit: 0,
            opens_at_ms: 0,
            closes_at_ms: u64::MAX,
            early_ms: BTreeMap::new(),
            holds_ms: BTreeSet::from([None]),
            safety_stock: 0,
            switch: Switch::Open,
            merchants: BTreeSet::new(),
            waiting_max: 0,
            waiting_passes: false,
        }
    }
}

impl Rules for Sale {
    type Change = Change;

    fn with(&self, change: &Change) -> Self {
        let Change::Rules(ruling) = change else { return Self { limit: 0, ..self.clone() } };
        let mut early_ms = self.early_ms.clone();
        early_ms.extend(&ruling.early_ms);
        Self {
            limit: ruling.limit.unwrap_or(self.limit),
            opens_at_ms: ruling.opens_at_ms.unwrap_or(self.opens_at_ms),
            closes_at_ms: ruling.closes_at_ms.unwrap_or(self.closes_at_ms),
            early_ms,
            holds_ms: match ruling.hold_ms {
                None => self.holds_ms.clone(),
                Some(hold_ms) => BTreeSet::from([hold_ms]),
            },
            safety_stock: ruling.safety_stock.unwrap_or(self.safety_stock),
            switch: ruling.switch.unwrap_or(self.switch),
            merchants: match ruling.merchant {
                None => self.merchants.clone(),
                Some(merchant) => merchant.into_iter().collect(),
            },
            waiting_max: ruling.waiting_max.unwrap_or(self.waiting_max),
            waiting_passes: ruling.waiting_passes.unwrap_or(self.waiting_passes),
        }
    }

    fn stricter(&self, other: &Self) -> Self {
        // A class that is left out of one has no early access by it.
        let both = |(class, ms): (&u8, &u64)| Some((*class, *other.early_ms.get(class)?.min(ms)));
        Self {
            limit: lower(u64::from(self.limit), u64::from(other.limit)) as u32,
            opens_at_ms: self.opens_at_ms.max(other.opens_at_ms),
            closes_at_ms: self.closes_at_ms.min(other.closes_at_ms),
            early_ms: self.early_ms.iter().filter_map(both).collect(),
            holds_ms: &self.holds_ms | &other.holds_ms,
            safety_stock: self.safety_stock.max(other.safety_stock),
            switch: self.switch.max(other.switch),
            merchants: &self.merchants | &other.merchants,
            waiting_max: self.waiting_max.min(other.waiting_max),
            waiting_passes: self.waiting_passes && other.waiting_passes,
        }
    }
}

/// The lower of two limits, 0 being none.
fn lower(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, limit) | (limit, 0) => limit,
        _ => one.min(other),
    }
}

impl Sale {
    /// From when on a class may buy.
    fn opens_for_ms(&self, class: u8) -> u64 {
        let early_ms = self.early_ms.get(&class).copied().unwrap_or(0);
        self.opens_at_ms.saturating_sub(early_ms)
    }

    fn is_open(&self, class: u8, now_ms: u64) -> bool {
        self.opens_for_ms(class) <= now_ms
    }

    pub(super) fn is_on(&self, class: u8, now_ms: u64) -> bool {
        self.is_open(class, now_ms) && now_ms < self.closes_at_ms
    }
}

impl Sale {
    /// How long an order is held that leaves it to the engine.
    fn hold_ms(&self, default_ms: u64, max_ms: u64) -> u64 {
        let holds_ms = self.holds_ms.iter().map(|hold_ms| hold_ms.unwrap_or(default_ms));
        holds_ms.min().unwrap_or(default_ms).min(max_ms)
    }
}

impl Judge {
    pub(crate) fn rule(&mut self, engine: &SteppedEngine, id: u64, asked: &Ruling) -> Checked {
        let what = format!("rules of SKU {id}: {asked:?}");
        let answer = engine.rules(id, asked.rules());
        let too_long = |hold_ms: &u64| *hold_ms > self.shape.hold_max_ms;
        let has_bad_hold = asked.hold_ms.flatten().as_ref().is_some_and(too_long);
        let has_limit = asked.limit.is_some_and(|limit| limit > 0);
        let change = Change::Rules(asked.clone());
        let commit = match answer {
            Err(StockError::HoldOutOfRange { .. }) if has_bad_hold => return Ok(()),
            Err(StockError::UnknownSku { .. }) if !self.skus.is_known(id) => return Ok(()),
            Err(StockError::SaleEnding { .. }) if has_limit => return self.check_ending(&what, id),
            Err(StockError::Unavailable(unavailable)) => {
                if has_limit {
                    self.skus.get_mut(id).may_count();
                }
                return self.check_unavailable(engine, &what, &unavailable, false);
            }
            Err(StockError::ClosesBeforeItOpens { opens_at_ms, closes_at_ms, .. }) => {
                let is_so = |sale: &Sale| {
                    let Sale { opens_at_ms: opens, closes_at_ms: closes, .. } = sale.with(&change);
                    (opens, closes) == (opens_at_ms, closes_at_ms) && closes <= opens
                };
                let sale = &mut self.skus.get_mut(id).sale;
                hold_to!(sale.narrow_logged(is_so), "{what}: refused, but it was {sale:?}");
                self.tally.met("rules refused");
                return Ok(());
            }
            Err(error) => return Err(Broken(format!("{what}: {error}"))),
            Ok(commit) => commit,
        };
        self.check_not_latched(&what)?;
        hold_to!(!has_bad_hold, "{what}: it may be held for {} ms", self.shape.hold_max_ms);
        let fits = |sale: &Sale| {
            let sale = sale.with(&change);
            sale.opens_at_ms < sale.closes_at_ms
        };
        let sku = self.skus.get_mut(id);
        sku.may_have_passed |= asked.waiting_passes == Some(true);
        hold_to!(sku.sale.narrow_logged(fits), "{what}: it closes first: {:?}", sku.sale);
        let may_be_early = has_limit && sku.may_begin_counting();
        let nth = sku.sale.change(change.clone(), may_be_early);
        if has_limit {
            // It is taken only when the end of the last sale is durable.
            self.end_is_durable(id);
            self.skus.get_mut(id).counting = Counting::Yes;
        }
        // One that waits for several shards may be woken by each.
        let gives_back = asked.safety_stock.is_some() && !may_be_early;
        let probe = self.probe(engine, std::iter::once(id)).filter(|_| gives_back);
        self.keep(what, commit, vec![Fact::Rule { sku: id, nth }], probe)
    }

    pub(crate) fn end_sale(&mut self, engine: &SteppedEngine, id: u64) -> Checked {
        let what = format!("the end of the sale of SKU {id}");
        let commit = match engine.end_sale(id) {
            Ok(commit) => commit,
            Err(StockError::UnknownSku { .. }) if !self.skus.is_known(id) => return Ok(()),
            Err(StockError::SaleEnding { .. }) => return self.check_ending(&what, id),
            Err(StockError::Unavailable(unavailable)) => {
                return self.check_unavailable(engine, &what, &unavailable, false);
            }
            Err(error) => return Err(Broken(format!("{what}: {error}"))),
        };
        self.check_not_latched(&what)?;
        self.tally.met("sale ended");
        self.sale_ended(id);
        let sku = self.skus.get_mut(id);
        // It is durable when many records are; one of them lifts the limit.
        let nth = sku.sale.change(Change::End, true);
        sku.ends += 1;
        self.keep(what, commit, vec![Fact::Rule { sku: id, nth }], None)
    }

    /// Something was refused since the end of the sale is not durable.
    fn check_ending(&mut self, what: &str, id: u64) -> Checked {
        hold_to!(self.skus.get_mut(id).is_ending, "{what}: refused, but no end is on its way");
        self.tally.met("refused: a sale's end is not durable");
        Ok(())
    }

    /// The limits that may act now; 0: none.
    pub(super) fn limits(&self, sku: u64) -> BTreeSet<u32> {
        let acting = self.skus.get(sku).map(|sku| sku.sale.acting()).unwrap_or_default();
        acting.iter().map(|sale| sale.limit).collect()
    }

    /// An order was held, or refused for another reason: all of its SKUs are on sale for its buyer.
    pub(super) fn check_on_sale(&mut self, what: &str, asked: &Asked, now_ms: u64) -> Checked {
        let skus: BTreeSet<u64> = asked.folded().into_keys().collect();
        self.check_switches(what, &skus, Switch::NoNewHolds)?;
        for sku in skus {
            self.check_sale(what, sku, |sale| sale.is_on(asked.class, now_ms))?;
        }
        Ok(())
    }

    /// An order was refused because this SKU is not open yet; those before it are.
    pub(super) fn check_not_open(
        &mut self,
        what: &str,
        asked: &Asked,
        (sku, opens_at_ms): (u64, u64),
        now_ms: u64,
    ) -> Checked {
        self.check_on_sale_before(what, asked, sku, now_ms)?;
        self.check_sale(what, sku, |sale| {
            sale.opens_for_ms(asked.class) == opens_at_ms && now_ms < opens_at_ms
        })?;
        self.tally.met("not open yet");
        Ok(())
    }

    /// The same of one that is closed.
    pub(super) fn check_closed(
        &mut self,
        what: &str,
        asked: &Asked,
        (sku, closed_at_ms): (u64, u64),
        now_ms: u64,
    ) -> Checked {
        self.check_on_sale_before(what, asked, sku, now_ms)?;
        self.check_sale(what, sku, |sale| {
            sale.is_open(asked.class, now_ms)
                && sale.closes_at_ms == closed_at_ms
                && closed_at_ms <= now_ms
        })?;
        self.tally.met("closed");
        Ok(())
    }

    fn check_on_sale_before(
        &mut self,
        what: &str,
        asked: &Asked,
        sku: u64,
        now_ms: u64,
    ) -> Checked {
        let lines = asked.folded();
        hold_to!(lines.contains_key(&sku), "{what}: nobody asked for SKU {sku}");
        self.check_switches(what, &lines.keys().copied().collect(), Switch::NoNewHolds)?;
        for (earlier, _) in lines.range(..sku) {
            self.check_sale(what, *earlier, |sale| sale.is_on(asked.class, now_ms))?;
        }
        Ok(())
    }

    /// Such rules must be in force; from now on it is known that they are.
    pub(super) fn check_sale(
        &mut self,
        what: &str,
        sku: u64,
        is: impl Fn(&Sale) -> bool,
    ) -> Checked {
        let sale = &mut self.skus.get_mut(sku).sale;
        hold_to!(sale.narrow(is), "{what}: but in force for SKU {sku} are {:?}", sale.acting());
        Ok(())
    }

    /// How long an order is held: as it asked, or for the shortest time that its SKUs' rules say.
    pub(super) fn check_hold(&mut self, what: &str, asked: &Asked, hold_ms: u64) -> Checked {
        if let Some(asked_ms) = asked.hold_ms {
            hold_to!(hold_ms == asked_ms, "{what}: it is held for {hold_ms} ms");
            return Ok(());
        }
        let (default_ms, max_ms) = (self.shape.hold_default_ms, self.shape.hold_max_ms);
        let of_sale = |sale: &Sale| sale.hold_ms(default_ms, max_ms);
        let mut is_one_of_them = false;
        for sku in asked.folded().into_keys() {
            self.check_sale(what, sku, |sale| of_sale(sale) >= hold_ms)?;
            let sale = &self.skus.get_mut(sku).sale;
            is_one_of_them |= sale.may_be(|sale| of_sale(sale) == hold_ms);
            if sale.may_be(|sale| sale.holds_ms.contains(&Some(hold_ms))) {
                self.tally.met("held for as long as its rules say");
            }
        }
        hold_to!(is_one_of_them, "{what}: it is held for {hold_ms} ms, which nobody said");
        Ok(())
    }

    /// For how long an order may be held that leaves that to the engine, or says it.
    pub(super) fn holds_ms(&self, asked: &Asked, sku: u64) -> Vec<u64> {
        let (default_ms, max_ms) = (self.shape.hold_default_ms, self.shape.hold_max_ms);
        let sales = self.skus.get(sku).map(|sku| sku.sale.acting()).unwrap_or_default();
        let of_sale = |sale: Sale| sale.hold_ms(default_ms, max_ms);
        match asked.hold_ms {
            Some(hold_ms) => vec![hold_ms],
            None => Vec::from_iter(sales.into_iter().map(of_sale).collect::<BTreeSet<_>>()),
        }
    }

    /// What is kept back of each SKU now. A change that is durable may have been unseen.
    pub(super) fn see_kept_back(&mut self, engine: &SteppedEngine, when: &str) -> Checked {
        let ids: Vec<u64> = self.skus.iter().map(|(id, _)| id).collect();
        for id in ids {
            // Of one that a crash has made unknown, the rules are gone as well.
            let kept_back = engine.levels(id).map_or(0, |levels| levels.kept_back);
            self.check_sale(when, id, |sale| i64::from(sale.safety_stock) == kept_back)?;
            self.skus.get_mut(id).kept_back = kept_back;
            if kept_back > 0 {
                self.tally.met("kept back");
            }
        }
        Ok(())
    }

    /// When sales open and close, for whom it may be.
    pub(crate) fn turns_of_sales(&self) -> Vec<u64> {
        let mut turns = Vec::new();
        for sale in self.skus.iter().flat_map(|(_, sku)| sku.sale.acting()) {
            turns.extend([sale.opens_at_ms, sale.closes_at_ms]);
            turns.extend(sale.early_ms.values().map(|ms| sale.opens_at_ms.saturating_sub(*ms)));
        }
        turns.retain(|turn| (1..u64::MAX).contains(turn));
        turns
    }
}
