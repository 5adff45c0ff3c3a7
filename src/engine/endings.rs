//! How an order goes on: confirm, cancel, fulfil, expire. One lock, one record, the state table.

use crate::engine::core::{Core, give_back};
use crate::engine::{gate, reads, waiting};
use crate::error::OrderError;
use crate::ids::OrderId;
use crate::log::{Commit, Effect, EffectKind, LEAVE_BYTES, ORDER_BYTES, OrderRecord};
use crate::mutants::{self, Mutant};
use crate::order::{OrderState, Step, Transition, Verb, Viewed};
use crate::partition::{Partition, PartitionState, Slot};
use crate::sync::Ordering;

/// How many deadlines are dealt with under one lock.
const EXPIRIES_A_LOCK: usize = 256;
/// What waits for this record hears that the engine is closed or latched.
pub(super) const NEVER_LOGGED: u64 = u64::MAX;

// One that waits needs one record, which fits what the verbs of others ask for.
const _: () = assert!(LEAVE_BYTES <= 2 * ORDER_BYTES);

/// A verb on an order. At or after its deadline a hold is over, whether or not the timekeeper has
/// come by: the expiry is logged here then, and the verb finds the order expired. Unless a halt keeps it.
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

/// The same, unless a halt keeps the order as it is.
pub(super) fn is_over(core: &Core, state: &PartitionState, handle: u32, now_ms: u64) -> bool {
    let is_halted = |slot: &Slot| gate::halt(core, slot).is_some();
    is_due(state, handle, now_ms) && !state.orders.get(handle).is_some_and(is_halted)
}

/// Bytes of the record by which an order's hold or patience ends.
fn expiry_bytes(state: &PartitionState, handle: u32) -> usize {
    match state.orders.get(handle).map(Slot::state) {
        Some(OrderState::Waiting) => LEAVE_BYTES,
        _ => ORDER_BYTES,
    }
}

/// Moves an order that the table allows to move, and logs it. What leaves the order is taken from
/// the sums at once, and given to others when the record is durable.
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
    let early = mutants::is(Mutant::GivesBackBeforeDurable)
        || mutants::is(Mutant::PromotesBeforeDurable) && waiting::is_waited_for(core, slot);
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
        .filter(|line| gives_back && !early && line.units > 0)
        .map(|line| (line.sku, EffectKind::Return { units: line.units }));
    let leaving = leaves.map(|(waited, line)| (line.sku, EffectKind::Left(waited.place)));
    let lsn = partition.lane.append(|bytes| record.write(bytes), returns.chain(leaving));
    for line in slot.lines().filter(|line| gives_back && early && line.units > 0) {
        let kind = EffectKind::Return { units: line.units };
        give_back(&core.gives_back(), &Effect { lsn, sku: line.sku, kind });
    }
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

/// The timekeeper: logs the expiry of every hold that is due. Gives whether more are due already.
pub(super) fn expire_due(core: &Core) -> bool {
    let now_ms = core.time.now_ms();
    let mut more = false;
    for partition in &core.partitions {
        // In this order. Who finds a hold that is over and lets it sleep says so before it moves the due time on
        // ([`expire_some`]): this sees the due time of before, and waits for the lock, or who sleeps.
        if partition.next_due_ms() <= now_ms || partition.is_to_wake(core.switches.lifts()) {
            more |= expire_partition(core, partition, now_ms);
        }
    }
    more
}

fn expire_partition(core: &Core, partition: &Partition, now_ms: u64) -> bool {
    let mut state = partition.state.lock();
    if core.check_open().is_err() {
        return false;
    }
    let to_wake = partition.wake_some(&mut state, core.switches.lifts(), EXPIRIES_A_LOCK);
    let due = expire_some(core, partition, &mut state, now_ms);
    matches!(due, Due::Some { more: true }) || to_wake && !matches!(due, Due::Backlogged)
}

/// What was due when some of it was dealt with.
pub(super) enum Due {
    /// Nothing.
    None,
    /// Some holds, which expired, and perhaps more.
    Some { more: bool },
    /// The disk is behind: holds that are over are not logged yet.
    Backlogged,
}

/// Logs the expiry of some holds of the partition that are due; the caller has its lock.
pub(super) fn expire_some(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    now_ms: u64,
) -> Due {
    // Read before any switch: what is lifted after it was seen is seen by a later number.
    let lifts = core.switches.lifts();
    let PartitionState { timers, orders, .. } = &mut *state;
    let mut due = Vec::new();
    let deadline_of = |handle| orders.timer_deadline(handle);
    let more = timers.advance_some(now_ms, EXPIRIES_A_LOCK, deadline_of, |handle| due.push(handle));
    let (mut expired, mut backlogged) = (false, false);
    for handle in due {
        let slot = state.orders.get(handle).filter(|slot| slot.state().has_deadline());
        match slot.map(|slot| (slot.deadline_ms(), gate::halt(core, slot).is_some())) {
            None => state.orders.timer_gone(handle),
            // It waited, and is held for longer than it would have waited.
            Some((deadline_ms, _)) if deadline_ms > now_ms => {
                state.timers.insert(deadline_ms, handle);
            }
            Some((_, true)) => partition.let_sleep(state, handle, lifts),
            Some(_) if partition.lane.room_for_ending(expiry_bytes(state, handle)).is_ok() => {
                apply(core, partition, state, handle, Verb::Expire, now_ms);
                state.orders.timer_gone(handle);
                expired = true;
            }
            Some((deadline_ms, false)) => {
                // The disk is behind; the hold is over all the same, and is logged by a later round.
                state.timers.insert(deadline_ms, handle);
                backlogged = true;
            }
        }
    }
    partition.set_next_due(state);
    match (backlogged, expired || more) {
        (true, _) => Due::Backlogged,
        (false, true) => Due::Some { more },
        (false, false) => Due::None,
    }
}

/// An order as it stands; a hold that is over is shown as such, also where that can no longer be logged.
pub(super) fn view(core: &Core, order: OrderId) -> Result<Viewed, OrderError> {
    let partition = core.partition_of_order(order)?;
    let mut state = partition.state.lock();
    let handle = find(&state, order)?;
    view_at(core, partition, &mut state, handle)
}

/// The same of the order at a handle; the caller holds the partition's lock.
pub(super) fn view_at(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    handle: u32,
) -> Result<Viewed, OrderError> {
    let (order, now_ms) = (state.orders.id(handle), core.time.now_ms());
    let is_over = is_over(core, state, handle, now_ms);
    let ends_unlogged = is_over && core.check_open().is_err();
    if is_over && !ends_unlogged {
        partition.lane.room_for_ending(expiry_bytes(state, handle))?;
        apply(core, partition, state, handle, Verb::Expire, now_ms);
    }
    let slot = state.orders.get(handle).ok_or(OrderError::UnknownOrder { order })?;
    let mut view = reads::show(core, partition, order, slot);
    let mut lsn = slot.last_lsn();
    if ends_unlogged {
        (view.state, view.changed_ms) = (OrderState::Expired, view.deadline_ms);
        (view.durable, lsn) = (false, NEVER_LOGGED);
    }
    Ok(Viewed::new(view, Commit::at((), &partition.lane, lsn)))
}
