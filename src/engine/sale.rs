//! A SKU's sale: from when on its buyers are counted, and its end.
//!
//! What buyers have is in the partitions, and so are the records that say from when to when it is
//! counted, each in its partition's own lane: whatever prefix of it survives a crash, it is counted
//! alike. The rule itself is the SKU's own (rule R8). One pass at a time, so that a limit never acts in
//! a partition that does not count.

use crate::engine::core::{Core, at_capacity};
use crate::error::{Capacity, StockError, Unavailable};
use crate::ids::SkuId;
use crate::log::{BuyersRecord, Commit, EffectKind, EndSaleRecord, SKU_BYTES, Target};
use crate::order::RuleChanges;
use crate::partition::{Partition, PartitionState};
use crate::stock::Sku;

/// From now on, what each buyer has of the SKU is counted, in every partition. Gives the records that say so
/// and are not durable yet. A limit rests on them too: once it is lifted again, nothing else would tell
/// after a crash that its sale is counted. The caller holds `core.passing`.
pub(super) fn count_buyers(core: &Core, sku: &Sku) -> Result<Vec<Target>, Unavailable> {
    let counts = |partition: &Partition| partition.state.lock().limits.counts(sku.index);
    if !core.partitions.iter().all(|partition| counts(partition)) {
        check_room(core)?;
        // Set first: an order that is placed while this passes is counted by its own partition, if that
        // was passed already, and by the pass, if not.
        sku.set_counts_buyers();
    }
    let mut targets = Vec::new();
    for partition in &core.partitions {
        let mut state = partition.state.lock();
        core.check_open()?;
        if !has_room_to_count(&state, sku, core.buyers_tracked_max) {
            // Partitions that were passed count in vain until a limit is set or the sale ends.
            return Err(at_capacity(Capacity::BuyersTracked, core.buyers_tracked_max));
        }
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

fn has_room_to_count(state: &PartitionState, sku: &Sku, bound: u64) -> bool {
    let left = bound.saturating_sub(state.limits.len() as u64);
    // An order is of one buyer; only when that is too coarse the buyers are told apart.
    state.orders.len() <= left || state.buyers_to_count(sku.index) <= left
}

/// Says in the log what recovery found out: these SKUs' buyers are counted from here on.
pub(super) fn log_counting(core: &Core, partition: &Partition, skus: Vec<u32>) {
    let mut state = partition.state.lock();
    for sku in skus {
        log_counted(core, partition, &mut state, core.skus.get(sku));
    }
}

fn log_counted(core: &Core, partition: &Partition, state: &mut PartitionState, sku: &Sku) {
    let lsn = log_buyers(core, partition, sku.id, true);
    state.limits.set_logged(sku.index, lsn);
}

/// Ends a SKU's sale.
pub(super) fn end_sale(core: &Core, id: SkuId) -> Result<Commit<()>, StockError> {
    let sku = core.known_sku(id).ok_or(StockError::UnknownSku { sku: id })?;
    let _passing = core.passing.lock();
    check_room(core)?;
    let mut targets = vec![lift_limit(core, sku)?];
    for partition in &core.partitions {
        let mut state = partition.state.lock();
        core.check_open()?;
        let next_sequence = state.orders.next_sequence();
        state.limits.end(sku.index, next_sequence);
        partition.set_next_due(&state);
        let lsn = log_buyers(core, partition, id, false);
        targets.push(Target { lane: partition.lane.index(), lsn });
    }
    Ok(Commit::at_all((), &core.lanes, targets))
}

/// The limit acts until its end is durable (rule R8).
fn lift_limit(core: &Core, sku: &Sku) -> Result<Target, StockError> {
    let lane = core.home_lane(sku.id);
    let mut home = sku.home.lock();
    core.check_room(lane, SKU_BYTES)?;
    let record = EndSaleRecord { sku: sku.id, time_low: core.time.now_ms() as u32 };
    let effect = std::iter::once((sku.index, EffectKind::Rules));
    let lifted = RuleChanges { buyer_limit: Some(0), ..RuleChanges::default() };
    sku.restrict(&mut home, &core.switches.merchants, &lifted, core.bounds.hold_default_ms)?;
    home.last_lsn = lane.append(|bytes| record.write(bytes), effect);
    Ok(Target { lane: lane.index(), lsn: home.last_lsn })
}

/// The caller holds the partition's lock.
fn log_buyers(core: &Core, partition: &Partition, sku: SkuId, counted: bool) -> u64 {
    let record = BuyersRecord { sku, counted, time_low: core.time.now_ms() as u32 };
    partition.lane.append(|bytes| record.write(bytes), std::iter::empty())
}

/// Whether every partition's lane has room for a record. Asked before the first of them is written:
/// then others may take the room, and the bound is passed by a record.
fn check_room(core: &Core) -> Result<(), Unavailable> {
    let mut lanes = core.partitions.iter().map(|partition| &partition.lane);
    lanes.try_for_each(|lane| core.check_room(lane, SKU_BYTES))
}
