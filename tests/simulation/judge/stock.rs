//! What the host knows of its SKUs.

use std::collections::BTreeMap;

use doorbuster::{Adjust, RequestKey};

use super::At;
use super::retention::Counting;
use super::ruled::{Ruled, Ruling};
use super::sale::Sale;

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
pub(super) struct Sku {
    pub(super) changes: Vec<Change>,
    pub(super) sale: Ruled<Sale>,
    /// Units of it that the sale's rules keep back, as last seen.
    pub(super) kept_back: i64,
    /// A `set` has lowered its stock, so it may owe.
    pub(super) was_set_lower: bool,
    /// Smaller orders may have been allowed to pass larger ones in its list.
    pub(super) may_have_passed: bool,
    /// Whether what buyers have is counted, now and since the last open.
    pub(super) counting: Counting,
    counting_at_open: Counting,
    /// The end of the sale is not known to be durable.
    pub(super) is_ending: bool,
    /// How often the sale has ended.
    pub(super) ends: usize,
    /// Those of the last life are.
    pub(super) ends_are_certain: bool,
}

impl Default for Sku {
    fn default() -> Self {
        Self {
            changes: Vec::new(),
            sale: Ruled::new(Sale::default()),
            kept_back: 0,
            was_set_lower: false,
            may_have_passed: false,
            counting: Counting::No,
            counting_at_open: Counting::No,
            is_ending: false,
            ends: 0,
            ends_are_certain: true,
        }
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

    /// Whether a limit that is set now rests on records that say since when buyers are counted: it acts when
    /// one record is durable, and its commit waits for many.
    pub(super) fn may_begin_counting(&self) -> bool {
        let mut changes = self.sale.changes().iter();
        self.counting != Counting::Yes
            || changes.any(|ruling| ruling.may_be_early && ruling.durable.is_none())
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
        self.is_ending = false;
        for Ruling { change, durable, .. } in self.sale.changes() {
            let Some(wanted) = change.counting() else { continue };
            let is_certain = durable.is_some_and(&is_certain);
            self.ends_are_certain &= is_certain || wanted == Counting::Yes;
            if self.counting != wanted {
                self.counting = if is_certain { wanted } else { Counting::Unsure };
            }
        }
        self.counting_at_open = self.counting;
    }

    /// After a reopen: the last rule that is certain, or any that came after it.
    pub(super) fn reopen_rules(&mut self, is_certain: impl Fn(At) -> bool) {
        let mut changes = self.sale.changes().iter();
        let has_changed = changes.any(|ruling| ruling.change.counting().is_some());
        let is_whole = is_certain(At::Somewhere);
        self.reopen_counting(&is_certain);
        self.sale.reopen(is_certain);
        // Each partition begins to count by a record of its own, in any shard, which damage may have taken; an
        // open makes up for that only where there is a limit.
        let is_lifted = self.sale.may_be(|sale| sale.limit == 0);
        if has_changed && is_lifted && !is_whole && self.counting == Counting::Yes {
            (self.counting, self.counting_at_open) = (Counting::Unsure, Counting::Unsure);
        }
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
