//! Verbs on an order: confirm, cancel, fulfil, expire. One lock, one record, the state table.

use crate::engine::core::Core;
use crate::engine::place::gate;
use crate::engine::waiting;
use crate::error::OrderError;
use crate::ids::OrderId;
use crate::log::{Commit, EffectKind, LEAVE_BYTES, ORDER_BYTES, OrderRecord};
use crate::mutants::{self, Mutant};
use crate::order::{OrderState, Step, Transition, Verb};
use crate::partition::{Partition, PartitionState};
use crate::sync::Ordering;

// An order that waits needs one record, which fits the room that every verb asks for.
const _: () = assert!(LEAVE_BYTES <= 2 * ORDER_BYTES);

/// Applies a verb to an order. At or after its deadline a hold is over, whether or not the timekeeper has come by.
/// Then the expiry is logged here, and the verb finds the order expired, unless a halt keeps it.
pub(super) fn end(
    core: &Core,
    order: OrderId,
    verb: Verb,
) -> Result<Commit<Transition>, OrderError> {
    let partition = core.partition_of_order(order)?;
    let mut state = partition.lock();
    core.check_open()?;
    let handle = find(&state, order)?;
    let now_ms = core.time.now_ms();
    // A verb may need two records, its own and the expiry; never more.
    let room = || partition.lane.room_for_ending(2 * ORDER_BYTES);
    let halt = state.orders.get(handle).and_then(|slot| gate::halt(core, slot));
    let halt = halt.filter(|_| !(verb == Verb::Cancel && mutants::is(Mutant::CancelsUnderHalt)));
    if halt.is_none()
        && is_due(&state, handle, now_ms)
        && !mutants::is(Mutant::ConfirmsAfterDeadline)
    {
        room()?;
        apply(core, partition, &mut state, handle, Verb::Expire, now_ms);
    }
    let (standing, last_lsn) = match state.orders.get(handle) {
        Some(slot) => (slot.state(), slot.last_lsn()),
        None => return Err(OrderError::UnknownOrder { order }),
    };
    let (transition, lsn) = match (standing.step(verb), halt) {
        (Step::Stays, _) => (Transition::AlreadyDone { state: standing }, last_lsn),
        (Step::Never, _) => (Transition::NotAllowed { state: standing }, last_lsn),
        (Step::To(_), Some(scope)) => (Transition::Halted { state: standing, scope }, last_lsn),
        (Step::To(_), None) => {
            room()?;
            let lsn = apply(core, partition, &mut state, handle, verb, now_ms);
            let standing = state.orders.get(handle).map_or(standing, |slot| slot.state());
            (Transition::Done { state: standing }, lsn)
        }
    };
    Ok(Commit::at(transition, &partition.lane, lsn))
}

pub(super) fn find(state: &PartitionState, order: OrderId) -> Result<u32, OrderError> {
    let sequence = order.sequence();
    state.orders.find(sequence).ok_or_else(|| match state.orders.was_given(sequence) {
        true => OrderError::Retired { order },
        false => OrderError::UnknownOrder { order },
    })
}

/// Whether an order's hold, or its patience, is over.
pub(super) fn is_due(state: &PartitionState, handle: u32, now_ms: u64) -> bool {
    state
        .orders
        .get(handle)
        .is_some_and(|slot| slot.state().has_deadline() && slot.deadline_ms() <= now_ms)
}

/// Moves an order that the table allows to move, and logs it. What leaves the order is taken from the sums at once,
/// and returns to stock when the record is durable.
pub(super) fn apply(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    handle: u32,
    verb: Verb,
    now_ms: u64,
) -> u64 {
    let order = state.orders.id(handle);
    let (limits, counts) = (&mut state.limits, &mut state.counts);
    let Some(slot) = state.orders.get_mut(handle) else { return 0 };
    let from = slot.state();
    let Step::To(to) = from.step(verb) else { return slot.last_lsn() };
    let waited = slot.waited().filter(|_| from == OrderState::Waiting);
    let gives_back = matches!(to, OrderState::Cancelled | OrderState::Expired) && waited.is_none();
    for line in slot.lines() {
        let (sku, units) = (core.skus.get(line.sku), i64::from(line.units));
        let leaves = if from == OrderState::Held { &sku.hot.held } else { &sku.sold };
        match verb {
            Verb::Confirm => {
                sku.hot.held.fetch_sub(units, Ordering::Relaxed);
                sku.sold.fetch_add(units, Ordering::Relaxed);
            }
            Verb::Cancel | Verb::Expire => {
                if gives_back {
                    leaves.fetch_sub(units, Ordering::Relaxed);
                    sku.returning.fetch_add(units, Ordering::Relaxed);
                }
                if sku.counts_buyers() && limits.counts_order(line.sku, order.sequence()) {
                    limits.remove(slot.buyer(), line.sku, line.units);
                }
            }
            Verb::Fulfil => {}
        }
    }
    // Only orders of one line wait.
    let leaves = waited.zip(slot.lines().next());
    let list_sequence = leaves
        .map_or(0, |(waited, line)| waiting::note_leaving(core.skus.get(line.sku), waited.place));
    let record = OrderRecord { order, verb, time_low: now_ms as u32, list_sequence };
    let returns = slot
        .lines()
        .filter(|line| gives_back && line.units > 0)
        .map(|line| (line.sku, EffectKind::Return { units: line.units }));
    let leaving = leaves.map(|(waited, line)| (line.sku, EffectKind::Left(waited.place)));
    let lsn = partition.lane.append(|bytes| record.write(bytes), returns.chain(leaving));
    state.orders.change(handle, to, lsn, now_ms);
    match verb {
        Verb::Confirm => counts.confirmed += 1,
        Verb::Cancel => counts.cancelled += 1,
        Verb::Fulfil => counts.fulfilled += 1,
        Verb::Expire => counts.expired += 1,
    }
    if waited.is_some() {
        core.wakes.push(state.watchers.take(order.sequence()));
    }
    if to.is_final() {
        state.ended += 1;
        partition.lane.set_live_orders(state.live());
    }
    if let Some(due_ms) = state.note_change(handle) {
        partition.lower_next_due(due_ms);
    }
    lsn
}
