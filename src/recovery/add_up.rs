//! What follows from the records together: what is available, which orders wait, what buyers have.

use crate::error::OpenError;
use crate::ids::STOCK_MAX;
use crate::log::{Manifest, SegmentName};
use crate::mutants::{self, Mutant};
use crate::partition::PartitionState;
use crate::recovery::folder::Folder;
use crate::recovery::parallel::on_each;
use crate::recovery::replay::Replay;
use crate::recovery::tables::States;
use crate::recovery::waiting;
use crate::routing::home_shard;
use crate::stock::{Registry, Sku};
use crate::sync::Ordering;

const STOCKED_MAX: i64 = STOCK_MAX as i64;

/// What recovery found out about a partition's counts of buyers, and no record says yet. By index of the SKU.
#[derive(Debug, Default)]
pub(crate) struct SalesAnew {
    /// They are counted from now on.
    pub(crate) counted: Vec<u32>,
    /// Their last end is void: the crash took its record in the home lane.
    pub(crate) not_ended: Vec<u32>,
}

impl Replay {
    /// Checks that the log reaches as far as everything that the checkpoint holds.
    pub(super) fn check_ends(&self, folder: &Folder) -> Result<(), OpenError> {
        let mut lanes = self.lane_lsns().into_iter().zip(&self.tables.marks).enumerate();
        let Some((lane, (last, marks))) = lanes.find(|(_, (last, marks))| *last < marks.end_lsn)
        else {
            return Ok(());
        };
        let shard = lane.checked_sub(self.tables.partitions);
        let shard = shard.unwrap_or(lane % usize::from(self.shards)) as u16;
        let end_lsn = marks.end_lsn;
        let damage =
            format!("lane {lane} ends with record {last}, but a checkpoint holds record {end_lsn}");
        Err(folder.corrupt(Some(shard), &SegmentName::of_shard(shard).folder, 0, damage))
    }

    fn misfit_of(&self, folder: &Folder, sku: &Sku, damage: String) -> OpenError {
        folder.corrupt(Some(home_shard(sku.id, self.shards)), "", 0, damage)
    }

    /// Puts all rules in force: what was read is durable.
    fn put_rules_in_force(&self) -> Result<(), OpenError> {
        let tables = &self.tables;
        for merchant in tables.switches.merchants.iter() {
            merchant.put_in_force(&mut merchant.ledger.lock());
        }
        tables.switches.put_in_force(&mut tables.switches.ledger.lock());
        for sku in tables.skus.iter() {
            let mut ledger = sku.ledger.lock();
            if let Some(merchant) = ledger.rules().merchant {
                tables.merchant(merchant).map_err(|_| tables.too_many_merchants())?;
            }
            sku.restore_kept_back(&ledger);
            sku.put_rules_in_force(&mut ledger, &tables.switches.merchants);
        }
        Ok(())
    }

    /// Puts rules in force, computes what is available of each SKU, and fills the waiting lists. It may be called
    /// again after more blocks.
    pub(super) fn add_up(
        &self,
        states: &(impl States + ?Sized),
        folder: &Folder,
    ) -> Result<(), OpenError> {
        self.put_rules_in_force()?;
        let skus = &self.tables.skus;
        for sku in self.tables.lacked.lock().iter().map(|sku| skus.get(*sku)) {
            // A crash may have taken the SKU's first delivery, on which a partial order rests that holds nothing
            // of it. The SKU must be known, so that retries of that order are answered.
            let levels = sku.levels();
            if levels.held == 0 && levels.sold == 0 {
                sku.known.store(true, Ordering::Release);
            }
        }
        for sku in skus.iter() {
            let levels = sku.levels();
            // The log may say that a SKU's buyers are counted, and have lost the record that made the SKU known.
            let is_used = levels.held != 0 || levels.sold != 0 || !sku.counts_buyers();
            if !sku.is_known() && is_used {
                let damage = format!("orders hold {}, which no record made known", sku.id);
                return Err(self.misfit_of(folder, sku, damage));
            }
            let available = levels.stocked - levels.held - levels.sold - levels.kept_back;
            if available < -STOCKED_MAX {
                let damage =
                    format!("{} owes {} units, more than any stock is", sku.id, -available);
                return Err(self.misfit_of(folder, sku, damage));
            }
            sku.hot.available.restore(available);
        }
        if self.tables.somebody_waits.load(Ordering::Relaxed)
            && !mutants::is(Mutant::DropsListOnReplay)
        {
            waiting::fill(skus, states, self.tables.partitions).map_err(|(sku, order)| {
                let sku = skus.get(sku);
                let damage = format!("{order} waits for {} where another order does", sku.id);
                self.misfit_of(folder, sku, damage)
            })?;
        }
        Ok(())
    }

    /// Ends the sales of which a partition and the home lane both say that they have ended, and counts what buyers
    /// have of SKUs with a limit. Returns what no record says yet. The caller has read the whole log.
    pub(super) fn settle_sales(&self, state: &mut PartitionState) -> SalesAnew {
        let ends = self.sale_ends.lock();
        let has_ended = |sku, home_lsn| ends.contains(&(sku, home_lsn));
        let not_ended = state.limits.resolve_ends(has_ended);
        drop(ends);
        SalesAnew { not_ended, counted: count_buyers(&self.tables.skus, state) }
    }

    /// Counts what buyers have of SKUs with a limit, and sets the orders' timers. Returns, by partition, what no
    /// record says yet.
    pub(super) fn start(
        &self,
        states: &mut [PartitionState],
        threads: usize,
        now_ms: u64,
    ) -> Vec<SalesAnew> {
        let mut found: Vec<_> =
            states.iter_mut().map(|state| (state, SalesAnew::default())).collect();
        on_each(threads, &mut found, |(state, anew)| {
            *anew = self.settle_sales(state);
            state.start(now_ms, !mutants::is(Mutant::ForgetsTimersOnReplay));
        });
        found.into_iter().map(|(_, anew)| anew).collect()
    }
}

/// Lets no partition use a sequence below the manifest's floor, or one that any partition has used (rule R3). Returns
/// the next sequence.
pub(super) fn skip_to_floor(states: &mut [PartitionState], manifest: &Manifest) -> u64 {
    let floor = if mutants::is(Mutant::GivesIdTwice) { 0 } else { manifest.sequence_floor };
    let given = states.iter().map(|state| state.orders.next_sequence());
    let next = given.max().unwrap_or(0).max(floor);
    states.iter_mut().for_each(|state| state.orders.skip_to(next));
    next
}

/// Counts the buyers of every SKU with a limit. A crash may have kept the record of a limit, and taken a
/// partition's record that it counts from now on. Returns those SKUs.
fn count_buyers(skus: &Registry, state: &mut PartitionState) -> Vec<u32> {
    let limited = skus.iter().filter(|sku| sku.buyer_limit().is_some());
    let anew = limited
        .filter(|sku| {
            sku.set_counts_buyers();
            state.count_buyers_of(sku.index)
        })
        .map(|sku| sku.index)
        .collect();
    while state.limits.clear_some() {}
    anew
}
