//! A SKU's sale: from when on its buyers are counted, and its end.
//!
//! What buyers have is in the partitions, and so are the records that say from when to when it is
//! counted, each in its partition's own lane: whatever prefix of it survives a crash, it is counted
//! alike. The rule itself is the SKU's own (rule R8). One pass at a time, so that a limit never acts in
//! a partition that does not count.
//!
//! The end of a sale lifts the limit by a record in the SKU's home lane. A partition forgets what its
//! buyers have only once that is durable, and after a crash only if it survived: otherwise the limit would
//! be back, and the counts would not.

use crate::engine::core::Core;
use crate::error::{Capacity, StockError, Unavailable, at_capacity};
use crate::ids::SkuId;
use crate::log::{
    BuyersRecord, Commit, Counting, END_BUYERS_BYTES, EffectKind, EndSaleRecord, SKU_BYTES, Target,
};
use crate::order::RuleChanges;
use crate::partition::{Ending, Partition, PartitionState};
use crate::recovery::SalesAnew;
use crate::stock::Sku;

/// Counts from now on, in every partition, what each buyer has of the SKU. Returns the records that say so and are
/// not durable yet. A limit rests on them too: after the limit is lifted again, nothing else would say after a crash
/// that the sale is counted. The caller holds `core.passing`.
pub(in crate::engine) fn count_buyers(core: &Core, sku: &Sku) -> Result<Vec<Target>, StockError> {
    check_ended(core, sku)?;
    let counts = |partition: &Partition| partition.state.lock().limits.counts(sku.index);
    if !core.partitions.iter().all(|partition| counts(partition)) {
        check_room(core)?;
        core.partitions
            .iter()
            .try_for_each(|partition| check_room_to_count(core, &partition.state.lock(), sku))?;
        // Set first: an order that is placed while this passes is counted by its own partition, if that
        // was passed already, and by the pass, if not.
        sku.set_counts_buyers();
    }
    let mut targets = Vec::new();
    for partition in &core.partitions {
        let mut state = partition.state.lock();
        core.check_open()?;
        // Orders that came since it was checked may be too many. Then partitions that were passed count in
        // vain, until a limit is set or the sale ends.
        check_room_to_count(core, &state, sku)?;
        if state.count_buyers_of(sku.index) {
            log_counted(core, partition, &mut state, sku);
        }
        let lsn = state.limits.logged_lsn(sku.index);
        if !partition.lane.is_durable(lsn) {
            targets.push(Target { lane: partition.lane.index(), lsn });
        }
    }
    Ok(targets)
}

/// Whether the end of the SKU's last sale is durable.
fn check_ended(core: &Core, sku: &Sku) -> Result<(), StockError> {
    for partition in &core.partitions {
        let mut state = partition.state.lock();
        core.settle_ends(&mut state);
        if state.limits.is_ending(sku.index) {
            return Err(StockError::SaleEnding { sku: sku.id });
        }
    }
    Ok(())
}

fn check_room_to_count(core: &Core, state: &PartitionState, sku: &Sku) -> Result<(), Unavailable> {
    match has_room_to_count(state, sku, core.buyers_tracked_max) {
        true => Ok(()),
        false => Err(at_capacity(Capacity::BuyersTracked, core.buyers_tracked_max)),
    }
}

fn has_room_to_count(state: &PartitionState, sku: &Sku, bound: u64) -> bool {
    let left = bound.saturating_sub(state.limits.len() as u64);
    // There are no more buyers than orders. So buyers are counted only if the orders are too many.
    state.orders.len() <= left || state.buyers_to_count(sku.index) <= left
}

/// Says in the log what recovery found out.
pub(in crate::engine) fn log_anew(core: &Core, partition: &Partition, sales: SalesAnew) {
    let mut state = partition.state.lock();
    for sku in sales.not_ended {
        log_buyers(partition, core.skus.get(sku).id, Counting::GoesOn, core.time.now_ms());
    }
    for sku in sales.counted {
        log_counted(core, partition, &mut state, core.skus.get(sku));
    }
}

/// Forgets what buyers have of the SKUs whose sales have ended durably.
pub(in crate::engine) fn forget_ended(core: &Core) {
    for (sku, lsn) in core.promotions.take_ended() {
        for partition in &core.partitions {
            let mut state = partition.state.lock();
            state.limits.settle_ends(|it, ending| it == sku && ending.home_lsn <= lsn);
            partition.set_next_due(&state);
        }
    }
}

impl Core {
    /// Ends the sales of which it is durable that they have ended.
    #[inline]
    pub(crate) fn settle_ends(&self, state: &mut PartitionState) {
        if state.limits.has_ending() {
            let lane = |sku: u32| self.home_lane(self.skus.get(sku).id);
            state.limits.settle_ends(|sku, ending| lane(sku).is_durable(ending.home_lsn));
        }
    }
}

fn log_counted(core: &Core, partition: &Partition, state: &mut PartitionState, sku: &Sku) {
    let now_ms = core.time.now_ms();
    let lsn = log_buyers(partition, sku.id, Counting::Begins, now_ms);
    state.limits.set_logged(sku.index, lsn);
}

/// Ends a SKU's sale.
pub(in crate::engine) fn end_sale(core: &Core, id: SkuId) -> Result<Commit<()>, StockError> {
    let sku = core.known_sku(id).ok_or(StockError::UnknownSku { sku: id })?;
    let _passing = core.passing.lock();
    check_room(core)?;
    check_ended(core, sku)?;
    let now_ms = core.time.now_ms();
    let lifted = lift_limit(core, sku, now_ms)?;
    let mut targets = vec![lifted];
    for partition in &core.partitions {
        let mut state = partition.state.lock();
        core.check_open()?;
        let next_sequence = state.orders.next_sequence();
        let home_lsn = lifted.lsn;
        state.limits.begin_end(sku.index, Ending { next_sequence, home_lsn });
        let lsn = log_buyers(partition, id, Counting::Ends { home_lsn }, now_ms);
        targets.push(Target { lane: partition.lane.index(), lsn });
    }
    // If it became durable meanwhile, the promoter may have come by before the partitions knew.
    if sku.ledger.lock().has_ended(lifted.lsn) {
        core.promotions.note_ended(sku.index, lifted.lsn);
    }
    Ok(Commit::at_all((), &core.lanes, targets))
}

/// The limit acts until its end is durable (rule R8).
fn lift_limit(core: &Core, sku: &Sku, now_ms: u64) -> Result<Target, StockError> {
    let lane = core.home_lane(sku.id);
    let mut ledger = sku.ledger.lock();
    core.check_room(lane, SKU_BYTES)?;
    let record = EndSaleRecord { sku: sku.id, time_low: now_ms as u32 };
    let effect = std::iter::once((sku.index, EffectKind::EndSale));
    let lifted = RuleChanges { buyer_limit: Some(0), ..RuleChanges::default() };
    sku.restrict(&mut ledger, &core.switches.merchants, &lifted, core.bounds.hold_default_ms)?;
    ledger.last_lsn = lane.append(|bytes| record.write(bytes), effect);
    Ok(Target { lane: lane.index(), lsn: ledger.last_lsn })
}

/// The caller holds the partition's lock.
fn log_buyers(partition: &Partition, sku: SkuId, counting: Counting, now_ms: u64) -> u64 {
    let record = BuyersRecord { sku, counting, time_low: now_ms as u32 };
    partition.lane.append(|bytes| record.write(bytes), std::iter::empty())
}

/// Whether every partition's lane has room for a record. Asked before the first of them is written: later a request
/// may take the room, and the bound is passed by a record.
fn check_room(core: &Core) -> Result<(), Unavailable> {
    let mut lanes = core.partitions.iter().map(|partition| &partition.lane);
    lanes.try_for_each(|lane| core.check_room(lane, END_BUYERS_BYTES))
}
