//! The rules of a SKU as they act: what the request path reads, without a lock.
//!
//! The strictest of the durable values and of all that were logged since acts, field by field (rule R8). So a
//! reader that sees some fields before a change and some after it sees each field at least as strict as
//! the looser of the two sets. It needs no moment at which it sees all of one set.

use crate::error::StockError;
use crate::ids::{MerchantId, SkuId};
use crate::mutants::{self, Mutant};
use crate::order::{NEVER_CLOSES, RuleChanges, Rules, Switch};
use crate::stock::in_flight::InFlight;
use crate::stock::merchants::Merchants;
use crate::stock::waiting::WaitingList;
use crate::sync::{AtomicI64, AtomicU32, AtomicU64, Mutex, OnceLock, Ordering};

/// Merchants of a SKU that may act at once: its own, and those of changes that are not durable.
pub(crate) const OWNERS_MAX: usize = 4;

/// Written under the SKU's ledger lock, read under a partition's lock or none. `Release` against the `Acquire` of
/// [`Sku::has_rules`](super::Sku::has_rules) and of each field: a thread that sees a rule sees what was before it.
#[derive(Debug)]
pub(crate) struct ActingRules {
    opens_at_ms: AtomicU64,
    closes_at_ms: AtomicU64,
    early_ms: [AtomicU32; 8],
    hold_ms: AtomicU32,
    switch: AtomicU32,
    waiting_max: AtomicU32,
    waiting_passes: AtomicU32,
    /// Indices of merchants plus one; 0: none. A merchant that stays keeps its place, so that a thread that reads
    /// them one after the other does not miss it.
    owners: [AtomicU32; OWNERS_MAX],
    /// Units that are kept back, as far as that is in force.
    pub(super) kept_back: AtomicI64,
    /// The waiting list, once an order has waited.
    pub(super) list: OnceLock<Box<Mutex<WaitingList>>>,
}

impl Default for ActingRules {
    fn default() -> Self {
        Self {
            opens_at_ms: AtomicU64::new(0),
            closes_at_ms: AtomicU64::new(NEVER_CLOSES),
            early_ms: std::array::from_fn(|_| AtomicU32::new(0)),
            hold_ms: AtomicU32::new(0),
            switch: AtomicU32::new(0),
            waiting_max: AtomicU32::new(0),
            waiting_passes: AtomicU32::new(0),
            owners: std::array::from_fn(|_| AtomicU32::new(0)),
            kept_back: AtomicI64::new(0),
            list: OnceLock::new(),
        }
    }
}

impl ActingRules {
    /// Puts all but the merchants in force.
    pub(super) fn set(&self, rules: &Rules) {
        self.opens_at_ms.store(rules.opens_at_ms, Ordering::Release);
        self.closes_at_ms.store(rules.closes_at_ms, Ordering::Release);
        for (early_ms, ms) in self.early_ms.iter().zip(rules.early_ms) {
            early_ms.store(ms, Ordering::Release);
        }
        self.hold_ms.store(rules.hold_ms, Ordering::Release);
        self.waiting_max.store(rules.waiting_max, Ordering::Release);
        self.waiting_passes.store(rules.waiting_passes.into(), Ordering::Release);
        self.switch.store(rules.switch as u32, Ordering::Release);
    }

    /// From when on a class may buy.
    pub(crate) fn opens_at_ms(&self, class: u8) -> u64 {
        let opens_at_ms = self.opens_at_ms.load(Ordering::Acquire);
        match opens_at_ms {
            0 => 0,
            _ => {
                let class = class + u8::from(mutants::is(Mutant::GivesEarlyAccessToNextClass));
                let early_ms = self.early_ms.get(usize::from(class));
                let early_ms = early_ms.map_or(0, |early_ms| early_ms.load(Ordering::Acquire));
                opens_at_ms.saturating_sub(early_ms.into())
            }
        }
    }

    pub(crate) fn closes_at_ms(&self) -> u64 {
        self.closes_at_ms.load(Ordering::Acquire)
    }

    /// How long orders are held that leave it to the engine; `None`: as the engine says.
    pub(crate) fn hold_ms(&self) -> Option<u32> {
        Some(self.hold_ms.load(Ordering::Acquire)).filter(|hold_ms| *hold_ms > 0)
    }

    /// How many orders may wait; 0: none.
    pub(crate) fn waiting_max(&self) -> u32 {
        self.waiting_max.load(Ordering::Acquire)
    }

    /// Whether smaller orders pass larger ones that wait.
    pub(crate) fn waiting_passes(&self) -> bool {
        self.waiting_passes.load(Ordering::Acquire) != 0
    }

    pub(crate) fn switch(&self) -> Switch {
        Switch::from_code(self.switch.load(Ordering::Acquire).into()).unwrap_or(Switch::Halted)
    }

    /// The merchants whose switch and rate act, by index.
    pub(crate) fn owners(&self) -> impl Iterator<Item = u32> + '_ {
        self.owners.iter().filter_map(|owner| owner.load(Ordering::Acquire).checked_sub(1))
    }

    /// Whether there is room for one more owner, or this one is there; `None`: one that is not made yet.
    fn has_room_for(&self, index: Option<u32>) -> bool {
        let mut places = self.owners.iter().map(|owner| owner.load(Ordering::Relaxed));
        places.any(|place| place == 0 || index.is_some_and(|index| place == index + 1))
    }

    /// One more owner, for whom there is room.
    pub(super) fn add_owner(&self, index: u32) {
        if self.owners().all(|owner| owner != index)
            && let Some(free) = self.owners.iter().find(|owner| owner.load(Ordering::Relaxed) == 0)
        {
            free.store(index + 1, Ordering::Release);
        }
    }

    /// Removes all merchants but these, which are among them.
    pub(super) fn keep_owners(&self, kept: &[u32]) {
        for owner in &self.owners {
            let index = owner.load(Ordering::Relaxed).checked_sub(1);
            if index.is_some_and(|index| !kept.contains(&index)) {
                owner.store(0, Ordering::Release);
            }
        }
    }
}

/// The rules as the SKU's own records say; under its ledger lock.
#[derive(Debug, Default)]
pub(crate) struct LoggedRules {
    /// As last logged.
    pub(crate) logged: Rules,
    /// The stricter of these and of all that may come back in a crash.
    pub(crate) acting: Rules,
    /// Changes that are not durable.
    pub(crate) in_flight: InFlight<Rules>,
    /// LSN of the last end of the sale that became durable in this life.
    pub(crate) ended_lsn: u64,
}

impl LoggedRules {
    /// A change is logged.
    pub(super) fn change(&mut self, changes: &RuleChanges, hold_default_ms: u32) {
        let acting = self.acting;
        self.logged = self.logged.with(changes);
        self.acting = acting.stricter(&self.logged, hold_default_ms);
        if mutants::is(Mutant::RestrictsWhenDurable) {
            self.acting = acting;
        }
        if mutants::is(Mutant::LoosensLimitAtOnce) {
            self.acting.buyer_limit = changes.buyer_limit.unwrap_or(acting.buyer_limit);
        }
        self.in_flight.push(self.logged);
    }

    /// The oldest change that was not durable is. Returns the merchants that act now, those of the durable
    /// rules and of all that were logged since; `None`: the same rules act as before.
    pub(super) fn settle(&mut self, hold_default_ms: u32) -> Option<Vec<MerchantId>> {
        let settled = self.in_flight.settle(|a, b| a.stricter(b, hold_default_ms))?;
        self.acting = settled.acting;
        let mut owners = Vec::new();
        for merchant in self.in_flight.iter().chain([&settled.durable]).filter_map(|it| it.merchant)
        {
            if !owners.contains(&merchant) {
                owners.push(merchant);
            }
        }
        Some(owners)
    }
}

/// Whether the merchant of a change can be one of those that act. Makes no merchant.
pub(super) fn check_owner(
    acting: &ActingRules,
    merchants: &Merchants,
    sku: SkuId,
    merchant: MerchantId,
) -> Result<(), StockError> {
    match acting.has_room_for(merchants.check(merchant)?) {
        true => Ok(()),
        false => Err(StockError::MerchantsInFlight { sku, max: OWNERS_MAX }),
    }
}
