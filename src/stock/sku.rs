//! A SKU: its stock word, its sums, its rules, and its ledger, the part of it that its own records
//! change.

use crate::error::StockError;
use crate::ids::{STOCK_MAX, SkuId};
use crate::mutants::{self, Mutant};
use crate::order::{RuleChanges, Rules, StockLevels};
use crate::stock::adjusts::Adjusts;
use crate::stock::counter::Counter;
use crate::stock::merchants::Merchants;
use crate::stock::rules::{ActingRules, LoggedRules, check_owner};
use crate::stock::waiting::WaitingList;
use crate::sync::{AtomicBool, AtomicI64, AtomicU32, Mutex, OnceLock, Ordering};

/// While this many units are available, admission need not look how many there are.
const PLENTY: u32 = 4096;

/// One SKU. Lives until the engine is dropped, at an index that never changes.
///
/// `stocked = available + held + sold + returning + kept_back` when nothing is in flight; each is counted
/// on its own, with `Relaxed` additions, since nothing is decided from them but `available`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Sku {
    pub(crate) hot: Hot,
    pub(crate) id: SkuId,
    pub(crate) index: u32,
    /// What an order has to look at besides the stock, as [`LIMITED`] and its like; 0, as for most: nothing.
    /// `Release` after what a bit leads to is in place.
    to_check: AtomicU32,
    /// Units a buyer may have; 0: no limit. The stricter of the durable rule and of one on its way
    /// (rule R8). Written under `ledger`, read under a partition's lock.
    buyer_limit: AtomicU32,
    /// Whether an `add` or `set` made it known. During replay an order may come first.
    pub(crate) known: AtomicBool,
    /// A hint for admission: at least [`PLENTY`] units were available after the last change. A thread that changes
    /// the stock word keeps it up; `Relaxed`, because a request that trusts it wrongly finds the truth in the stock
    /// word a moment later.
    is_plenty: AtomicBool,
    /// The promoter was asked to look at the waiting list, and has not begun. Swapped by both sides, see
    /// [`Promotions::take`](crate::stock::Promotions::take).
    pub(crate) promotion_asked: AtomicBool,
    /// Units of confirmed and fulfilled orders.
    pub(crate) sold: AtomicI64,
    /// Those of them whose orders have left memory.
    pub(crate) retired: AtomicI64,
    /// Returned units whose record is not durable.
    pub(crate) returning: AtomicI64,
    /// Units put in less units taken out, as far as they are in force.
    pub(crate) stocked: AtomicI64,
    /// The other rules, once there are some.
    rules: OnceLock<Box<ActingRules>>,
    /// Serialises the SKU's own records (rule R8).
    pub(crate) ledger: Mutex<SkuLedger>,
}

/// There is a buyer limit.
const LIMITED: u32 = 1;
/// Partitions may count what each buyer has of this SKU. Set before the first limit, by passing every
/// partition's lock; never cleared while the engine is open.
const COUNTS_BUYERS: u32 = 2;
/// There are rules besides the limit.
const RULED: u32 = 4;

/// What every hold changes, in a line of its own: it moves between the processors with every order. The
/// line after it, which every request reads too, stays with all of them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Hot {
    pub(crate) available: Counter,
    /// Units of held orders. In the line of `available`, which a hold has just made its own.
    pub(crate) held: AtomicI64,
}

impl SkuLedger {
    /// The rules as last logged.
    pub(crate) fn rules(&self) -> Rules {
        self.rules.as_ref().map_or_else(Rules::default, |rules| rules.logged)
    }

    /// The rules in force, all but their merchants.
    pub(crate) fn acting_rules(&self) -> Rules {
        self.rules.as_ref().map_or_else(Rules::default, |rules| rules.acting)
    }

    /// The end of the sale is durable: the record with this LSN.
    pub(crate) fn note_ended(&mut self, lsn: u64) {
        self.rules.get_or_insert_default().ended_lsn = lsn;
    }

    /// Whether the end of the sale with this LSN is known to be durable.
    pub(crate) fn has_ended(&self, lsn: u64) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.ended_lsn >= lsn)
    }

    /// Replay: a record changed the rules.
    pub(crate) fn replay_rules(&mut self, changes: &RuleChanges) {
        let rules = self.rules.get_or_insert_default();
        rules.logged = rules.logged.with(changes);
    }
}

/// What only the SKU's own records change.
#[derive(Debug, Default)]
pub(crate) struct SkuLedger {
    /// The stocked figure as logged, durable or not: what an expected value is compared with.
    pub(crate) stocked: i64,
    /// Once there are any.
    rules: Option<Box<LoggedRules>>,
    /// LSN of the SKU's last own record: what a reply about it waits for (rule R2).
    pub(crate) last_lsn: u64,
    pub(crate) adjusts: Box<Adjusts>,
}

impl Sku {
    pub(crate) fn new(id: SkuId, index: u32) -> Self {
        Self {
            hot: Hot::default(),
            id,
            index,
            to_check: AtomicU32::new(0),
            buyer_limit: AtomicU32::new(0),
            known: AtomicBool::new(false),
            is_plenty: AtomicBool::new(false),
            promotion_asked: AtomicBool::new(false),
            sold: AtomicI64::new(0),
            retired: AtomicI64::new(0),
            returning: AtomicI64::new(0),
            stocked: AtomicI64::new(0),
            rules: OnceLock::new(),
            ledger: Mutex::new(SkuLedger::default()),
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// A hint that at least `units` are available, read without touching the hot stock word's cache line.
    pub(crate) fn has_plenty(&self, units: u32) -> bool {
        units <= PLENTY && self.is_plenty.load(Ordering::Relaxed)
    }

    /// The stock word was changed. Writes only what is new.
    pub(crate) fn note_change(&self) {
        let is_plenty = self.hot.available.available() >= i64::from(PLENTY);
        if self.is_plenty.load(Ordering::Relaxed) != is_plenty {
            self.is_plenty.store(is_plenty, Ordering::Relaxed);
        }
    }

    /// Whether an order has to look at anything besides the stock.
    pub(crate) fn is_plain(&self) -> bool {
        self.to_check.load(Ordering::Acquire) == 0
    }

    /// How many orders may wait for it; 0: none.
    pub(crate) fn waiting_max(&self) -> u32 {
        self.rules().map_or(0, ActingRules::waiting_max)
    }

    /// Whether smaller orders pass larger ones that wait.
    pub(crate) fn waiting_passes(&self) -> bool {
        self.rules().is_some_and(ActingRules::waiting_passes)
    }

    /// The last number of its waiting list; 0: none.
    pub(crate) fn list_sequence(&self) -> u64 {
        self.list().map_or(0, |list| list.lock().last_sequence())
    }

    /// The waiting list, if ever an order waited. Locked within a partition's lock, never the other way.
    pub(crate) fn list(&self) -> Option<&Mutex<WaitingList>> {
        self.rules.get()?.list.get().map(|list| &**list)
    }

    /// The waiting list, made if it is not there.
    pub(crate) fn list_or_new(&self) -> &Mutex<WaitingList> {
        self.rules.get_or_init(Box::default).list.get_or_init(Box::default)
    }

    /// The numbers of its waiting list go on behind this one.
    pub(crate) fn skip_list_to(&self, sequence: u64) {
        self.list_or_new().lock().skip_to(sequence);
    }

    /// The limit in force; `None`: no limit.
    pub(crate) fn buyer_limit(&self) -> Option<u32> {
        Some(self.buyer_limit.load(Ordering::Acquire)).filter(|limit| *limit > 0)
    }

    pub(crate) fn counts_buyers(&self) -> bool {
        self.to_check.load(Ordering::Acquire) & COUNTS_BUYERS != 0
    }

    /// From now on partitions may count what each buyer has of this SKU.
    pub(crate) fn set_counts_buyers(&self) {
        self.to_check.fetch_or(COUNTS_BUYERS, Ordering::AcqRel);
    }

    /// The rules in force besides the limit, if there are any.
    pub(crate) fn rules(&self) -> Option<&ActingRules> {
        match self.to_check.load(Ordering::Acquire) & RULED {
            0 => None,
            _ => self.rules.get().map(|rules| &**rules),
        }
    }

    /// Units that are kept back.
    pub(crate) fn kept_back(&self) -> i64 {
        self.rules.get().map_or(0, |rules| rules.kept_back.load(Ordering::Acquire))
    }

    /// Whether a change of the rules can act, as far as its merchant and what is in flight are concerned.
    pub(crate) fn check_rules(
        &self,
        merchants: &Merchants,
        changes: &RuleChanges,
    ) -> Result<(), StockError> {
        self.check_change(&self.ledger.lock(), merchants, changes)
    }

    fn check_change(
        &self,
        ledger: &SkuLedger,
        merchants: &Merchants,
        changes: &RuleChanges,
    ) -> Result<(), StockError> {
        ledger.rules.iter().try_for_each(|rules| rules.in_flight.check_room())?;
        self.hot.available.check_force(self.more_kept_back(changes)).map_err(self.too_much())?;
        let Some(Some(merchant)) = changes.merchant else { return Ok(()) };
        check_owner(self.rules.get_or_init(Box::default), merchants, self.id, merchant)
    }

    /// How many units a change keeps back beside those that are. The caller holds `ledger`.
    fn more_kept_back(&self, changes: &RuleChanges) -> u32 {
        let more = i64::from(changes.safety_stock.unwrap_or(0)) - self.kept_back();
        u32::try_from(more).unwrap_or(0)
    }

    fn too_much(&self) -> impl Fn(u64) -> StockError {
        let sku = self.id;
        move |units| StockError::OwesTooMuch { sku, units, max: STOCK_MAX }
    }

    /// Before a change of the rules is logged: whether it can act. What restricts does so at once. Nothing
    /// changed if it cannot act. The caller holds `ledger`.
    pub(crate) fn restrict(
        &self,
        ledger: &mut SkuLedger,
        merchants: &Merchants,
        changes: &RuleChanges,
        hold_default_ms: u32,
    ) -> Result<(), StockError> {
        self.check_change(ledger, merchants, changes)?;
        let rules = self.rules.get_or_init(Box::default);
        let more = self.more_kept_back(changes);
        if more > 0 {
            if !mutants::is(Mutant::HandsOutSafetyStock) {
                self.hot.available.force(more).map_err(self.too_much())?;
            }
            rules.kept_back.fetch_add(more.into(), Ordering::Relaxed);
            self.note_change();
        }
        // Last of what can fail: a change that is refused makes no merchant. The caller of this is the only
        // one that makes merchants, so the check above still holds.
        if let Some(Some(merchant)) = changes.merchant {
            rules.add_owner(merchants.find_or_insert(merchant)?.index);
        }
        let logged = ledger.rules.get_or_insert_default();
        logged.change(changes, hold_default_ms);
        self.set_in_force(rules, &logged.acting);
        Ok(())
    }

    /// The oldest change of the rules that was not durable is.
    pub(crate) fn settle_rules(&self, merchants: &Merchants, hold_default_ms: u32) {
        let mut ledger = self.ledger.lock();
        let Some(logged) = ledger.rules.as_deref_mut() else { return };
        if let Some(owners) = logged.settle(hold_default_ms) {
            let owners = owners.into_iter().filter_map(|id| merchants.find(id));
            let owners: Vec<u32> = owners.map(|merchant| merchant.index).collect();
            self.put_in_force(&logged.acting, &owners);
        }
    }

    /// Replay: what is logged acts, because all of it is durable. The caller holds `ledger`.
    pub(crate) fn put_rules_in_force(&self, ledger: &mut SkuLedger, merchants: &Merchants) {
        let Some(logged) = ledger.rules.as_deref_mut() else { return };
        logged.acting = logged.logged;
        let owner = logged.acting.merchant.and_then(|merchant| merchants.find(merchant));
        let owners: Vec<u32> = owner.into_iter().map(|merchant| merchant.index).collect();
        let rules = self.rules.get_or_init(Box::default);
        owners.iter().for_each(|owner| rules.add_owner(*owner));
        self.put_in_force(&logged.acting, &owners);
    }

    /// These rules act from now on. What is no longer kept back can be had.
    fn put_in_force(&self, acting: &Rules, owners: &[u32]) {
        let rules = self.rules.get_or_init(Box::default);
        rules.keep_owners(owners);
        self.set_in_force(rules, acting);
        let kept_back = rules.kept_back.load(Ordering::Relaxed);
        let fewer = kept_back - i64::from(acting.safety_stock);
        if let Some(fewer) = u32::try_from(fewer).ok().filter(|fewer| *fewer > 0) {
            rules.kept_back.fetch_sub(fewer.into(), Ordering::Relaxed);
            // The caller asks the promoter to look at the waiting list.
            let _ = self.hot.available.give(fewer);
            self.note_change();
        }
    }

    /// What a replay found is kept back, before `available` is known.
    pub(crate) fn restore_kept_back(&self, ledger: &SkuLedger) {
        let units = ledger.rules.as_ref().map_or(0, |rules| rules.logged.safety_stock);
        if units > 0 {
            let rules = self.rules.get_or_init(Box::default);
            rules.kept_back.store(units.into(), Ordering::Relaxed);
        }
    }

    fn set_in_force(&self, rules: &ActingRules, acting: &Rules) {
        rules.set(acting);
        self.buyer_limit.store(acting.buyer_limit, Ordering::Release);
        let limited = if acting.buyer_limit > 0 { LIMITED } else { 0 };
        // What is kept back is not there to be looked at.
        let others = Rules { buyer_limit: 0, safety_stock: 0, ..*acting };
        let is_ruled = others != Rules::default() || rules.owners().next().is_some();
        let ruled = if is_ruled { RULED } else { 0 };
        self.to_check.fetch_or(limited | ruled, Ordering::AcqRel);
        self.to_check.fetch_and(limited | ruled | COUNTS_BUYERS, Ordering::AcqRel);
    }

    pub(crate) fn levels(&self) -> StockLevels {
        let read = |term: &AtomicI64| term.load(Ordering::Acquire);
        StockLevels {
            sku: self.id,
            stocked: read(&self.stocked),
            available: self.hot.available.available(),
            held: read(&self.hot.held),
            sold: read(&self.sold),
            returning: read(&self.returning),
            kept_back: self.kept_back(),
            waiting: self.list().map_or(0, |list| list.lock().units()),
        }
    }
}

// With its neighbours' share of the line: what `Options::skus_max` says a SKU costs.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Sku>() <= 256);
