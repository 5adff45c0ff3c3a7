//! What the host knows of its SKUs.

use std::collections::{BTreeMap, BTreeSet};

use doorbuster::{Adjust, RequestKey};

use super::At;
use super::retention::Counting;

/// An adjustment as the client sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Adjusting {
    pub(crate) sku: u64,
    pub(crate) key: u128,
    pub(crate) kind: Kind,
    pub(crate) units: u32,
    /// How long.
    pub(crate) reference: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Add,
    Take,
    TakeUpTo,
    Set { expected: u32 },
}

impl Adjusting {
    pub(crate) fn adjust(&self) -> Adjust {
        let adjust = match self.kind {
            Kind::Add => Adjust::add(self.units),
            Kind::Take => Adjust::take(self.units),
            Kind::TakeUpTo => Adjust::take_up_to(self.units),
            Kind::Set { expected } => Adjust::set(self.units).expect(expected),
        };
        adjust.key(RequestKey::new(self.key)).reference("r".repeat(self.reference))
    }
}

/// An adjustment that happened.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) asked: Adjusting,
    pub(super) delta: i64,
    /// The stocked figure after it.
    pub(super) stocked: i64,
    pub(super) durable: Option<At>,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) limit: u32,
    /// The sale ended: no limit, and nothing that counts towards one.
    pub(super) is_end: bool,
    pub(super) durable: Option<At>,
}

#[derive(Clone, Debug)]
pub(super) struct Sku {
    pub(super) changes: Vec<Change>,
    /// Since the last open.
    pub(super) rules: Vec<Rule>,
    /// What the limit may have been then; 0 is none.
    pub(super) limits_at_open: BTreeSet<u32>,
    /// A `set` has lowered its stock, so it may owe.
    pub(super) was_set_lower: bool,
    /// How many rules there were when all were last durable.
    pub(super) rules_settled: usize,
    /// Whether what buyers have is counted, now and since the last open.
    pub(super) counting: Counting,
    counting_at_open: Counting,
    /// How often the sale has ended.
    pub(super) ends: usize,
    /// Those of the last life are.
    pub(super) ends_are_certain: bool,
}

impl Default for Sku {
    fn default() -> Self {
        Self {
            changes: Vec::new(),
            rules: Vec::new(),
            limits_at_open: BTreeSet::from([0]),
            was_set_lower: false,
            rules_settled: 0,
            counting: Counting::No,
            counting_at_open: Counting::No,
            ends: 0,
            ends_are_certain: true,
        }
    }
}

/// The stricter of two limits, 0 being none.
fn stricter(one: u32, other: u32) -> u32 {
    match (one, other) {
        (0, limit) | (limit, 0) => limit,
        _ => one.min(other),
    }
}

impl Sku {
    pub(super) fn is_known(&self) -> bool {
        let makes = |change: &Change| matches!(change.asked.kind, Kind::Add | Kind::Set { .. });
        self.changes.iter().any(makes)
    }

    /// The figure as logged, durable or not.
    pub(super) fn logged(&self) -> i64 {
        self.changes.iter().map(|change| change.delta).sum()
    }

    /// The figure in force: what lowers it acts at once, what raises it when durable.
    pub(super) fn stocked(&self) -> i64 {
        let acts = |change: &&Change| change.delta < 0 || change.durable.is_some();
        self.changes.iter().filter(acts).map(|change| change.delta).sum()
    }

    pub(super) fn of_key(&self, key: u128) -> Option<(usize, &Change)> {
        self.changes.iter().enumerate().find(|(_, change)| change.asked.key == key)
    }

    /// The limits that may act now. While a change is not durable, the stricter of old and new does; of
    /// several changes in flight, at least those that are not durable count, at most all of them.
    pub(super) fn limits(&self) -> BTreeSet<u32> {
        let strictest = |base: u32, rules: &[Rule]| {
            rules.iter().fold(base, |limit, rule| stricter(limit, rule.limit))
        };
        let since = |settled: usize| -> BTreeSet<u32> {
            match settled.checked_sub(1).map(|last| self.rules[last].limit) {
                Some(base) => BTreeSet::from([strictest(base, &self.rules[settled..])]),
                None => self
                    .limits_at_open
                    .iter()
                    .map(|base| strictest(*base, &self.rules[settled..]))
                    .collect(),
            }
        };
        let durable = self.rules.iter().rposition(|rule| rule.durable.is_some());
        let mut limits = since(self.rules_settled);
        limits.append(&mut since(durable.map_or(0, |last| last + 1)));
        // The end of a sale is durable when many records are; it lifts the limit with one of them.
        for (nth, _) in self.rules.iter().enumerate().filter(|(_, rule)| rule.is_end) {
            limits.append(&mut since(nth + 1));
        }
        limits
    }

    /// A limit was refused; partitions that were asked before the refusal count from now on.
    pub(super) fn may_count(&mut self) {
        if self.counting == Counting::No {
            self.counting = Counting::Unsure;
        }
        if self.counting_at_open == Counting::No {
            self.counting_at_open = Counting::Unsure;
        }
    }

    /// What is counted after a crash.
    fn reopen_counting(&mut self, is_certain: impl Fn(At) -> bool) {
        self.counting = self.counting_at_open;
        self.ends_are_certain = true;
        for rule in self.rules.iter().filter(|rule| rule.is_end || rule.limit > 0) {
            let is_certain = rule.durable.is_some_and(&is_certain);
            let wanted = if rule.is_end { Counting::No } else { Counting::Yes };
            self.ends_are_certain &= is_certain || !rule.is_end;
            if self.counting != wanted {
                self.counting = if is_certain { wanted } else { Counting::Unsure };
            }
        }
        self.counting_at_open = self.counting;
    }

    pub(super) fn note_settled(&mut self) {
        if self.rules.iter().all(|rule| rule.durable.is_some()) {
            self.rules_settled = self.rules.len();
        }
    }

    /// After a reopen: the last rule that is certain, or any that came after it.
    pub(super) fn reopen_rules(&mut self, is_certain: impl Fn(At) -> bool) {
        self.reopen_counting(&is_certain);
        let certain = self.rules.iter().rposition(|rule| rule.durable.is_some_and(&is_certain));
        let open = self.rules[certain.unwrap_or(0)..].iter().map(|rule| rule.limit);
        match certain {
            Some(_) => self.limits_at_open = open.collect(),
            None => self.limits_at_open.extend(open),
        }
        self.rules.clear();
        self.rules_settled = 0;
    }
}

#[derive(Debug, Default)]
pub(super) struct Skus {
    skus: BTreeMap<u64, Sku>,
}

impl Skus {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Sku)> {
        self.skus.iter().map(|(id, sku)| (*id, sku))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Sku)> {
        self.skus.iter_mut().map(|(id, sku)| (*id, sku))
    }

    pub(super) fn get(&self, sku: u64) -> Option<&Sku> {
        self.skus.get(&sku)
    }

    pub(super) fn get_mut(&mut self, sku: u64) -> &mut Sku {
        self.skus.entry(sku).or_default()
    }

    pub(super) fn is_known(&self, sku: u64) -> bool {
        self.get(sku).is_some_and(Sku::is_known)
    }
}
