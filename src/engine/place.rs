//! The request path: one order, eight steps, one lock, one record.
//!
//! 1. *Validate* without touching state: [`Order::validate`].
//! 2. *Admit*: a refusal that is certain is told without lock and log: [`admission`](crate::admission).
//! 3. *Lock* the buyer's partition.
//! 4. *Claim the key*: a key that has an order is answered with it, whatever else is true.
//! 5. *Check* what can fail: rules, capacity, log backlog, disk, the buyer's limits. The key becomes visible to
//!    the lock-free look before stock is taken (rule R1).
//! 6. *Hold the stock*, all lines or none.
//! 7. *Create the order*, append one record, unlock.
//! 8. *Commit*: the answer resolves when the record is durable.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_utils::Backoff;

use crate::admission;
use crate::engine::core::{Core, at_capacity};
use crate::engine::endings::{self, Due};
use crate::engine::gate::{self, Terms, Tokens};
use crate::engine::retire;
use crate::engine::waiting;
use crate::error::{Capacity, PlaceError, Unavailable};
use crate::ids::{OrderId, Quantity};
use crate::log::{Commit, Joins, Lane, LoggedLines, LoggedParts, PlaceRecord, place_bytes};
use crate::order::{
    Held, KeyField, KeyReused, Line, Lines, ListPlace, Order, Placed, Policy, Refusal, Request,
    Waiting,
};
use crate::partition::{
    Extra, NewOrder, Partition, PartitionState, SkuUnits, Slot, Waited, partition_of,
};
use crate::prefetch;
use crate::stock::{Sku, Take};
use crate::sync::Ordering;
use crate::wrong::{self, Wrong};

/// How often a request looks again when carts in flight keep its answer open.
const TRIES_MAX: u32 = 64;
/// From this try on it sleeps in between: whoever keeps the answer open has lost his processor.
const TRIES_AWAKE: u32 = 16;
const TRY_PAUSE: Duration = Duration::from_micros(100);

/// An answer and the record that it rests on; `None`: on nothing that a crash could take back.
pub(super) type Answer = (Placed, Option<u64>);

/// What came of one attempt.
pub(super) enum Attempt {
    Answered(Answer),
    /// Carts in flight keep the answer about this SKU open.
    Open(crate::ids::SkuId),
    /// Some holds that were over were in the way of the buyer's limit, and there may be more.
    Expired,
}

pub(super) fn place(core: &Core, order: &Order) -> Result<Commit<Placed>, PlaceError> {
    let partition = &core.partitions[partition_of(order.buyer(), core.partitions.len())];
    let key_hash = core.hasher.hash(order.buyer(), order.key());
    partition.prefetch();
    partition.keys.prefetch(key_hash);
    let request = order.validate(&core.bounds)?;
    let (placed, lsn) = answer(core, partition, &request, key_hash)?;
    Ok(commit(&partition.lane, placed, lsn))
}

/// Step 8.
fn commit(lane: &Arc<Lane>, placed: Placed, lsn: Option<u64>) -> Commit<Placed> {
    match lsn {
        None => Commit::ready(placed),
        Some(lsn) => Commit::at(placed, lane, lsn),
    }
}

/// Steps 2 to 7, again while the answer is open.
pub(super) fn answer(
    core: &Core,
    partition: &Partition,
    request: &Request<'_>,
    key_hash: u64,
) -> Result<Answer, PlaceError> {
    let skus = match admit(core, partition, request, key_hash)? {
        Admitted::Skus(skus) => skus,
        Admitted::Refused(refusal) => return Ok((Placed::Refused(refusal), None)),
    };
    if let Some(sku) = skus.single() {
        prefetch::for_write(&sku.hot);
    }
    let mut tries = 0;
    loop {
        let mut state = partition.state.lock();
        let now_ms = core.time.now_ms();
        let attempt = attempt(core, partition, &mut state, request, key_hash, &skus, now_ms)?;
        drop(state);
        match attempt {
            Attempt::Answered(answer) => return Ok(answer),
            // Each time there are fewer left.
            Attempt::Expired => {}
            Attempt::Open(sku) => {
                tries += 1;
                match tries {
                    TRIES_MAX => return Err(PlaceError::Contended { sku, tries }),
                    0..=TRIES_AWAKE => std::thread::yield_now(),
                    _ => std::thread::sleep(TRY_PAUSE),
                }
            }
        }
    }
}

/// What comes of step 2.
pub(super) enum Admitted<'a> {
    Skus(Skus<'a>),
    Refused(Refusal),
}

/// Step 2: what is certain to be refused, without a lock.
pub(super) fn admit<'a>(
    core: &'a Core,
    partition: &Partition,
    request: &Request<'_>,
    key_hash: u64,
) -> Result<Admitted<'a>, PlaceError> {
    if let Err(error) = request.check(&core.bounds)
        && partition.keys.surely_absent(key_hash)
    {
        return Err(error);
    }
    let skus = Skus::find(core, &request.lines)?;
    match admission::certain_refusal(core, partition, key_hash, request, &skus) {
        None => Ok(Admitted::Skus(skus)),
        Some(refusal) => {
            // What a latched log may have lost could be why it is sold out.
            core.check_open()?;
            Ok(Admitted::Refused(refusal))
        }
    }
}

/// Steps 4 to 7, under the partition's lock, under which the time was read.
pub(super) fn attempt(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    request: &Request<'_>,
    key_hash: u64,
    skus: &Skus<'_>,
    now_ms: u64,
) -> Result<Attempt, PlaceError> {
    core.check_open()?;
    // 4. Claim the key.
    let (orders, buyer, key) = (&state.orders, request.buyer, request.key);
    let earlier = state.keys.find(key_hash, |handle| orders.is_of(handle, buyer, key));
    if let Some(handle) = earlier {
        return Ok(Attempt::Answered(repeat(state, handle, request)));
    }
    if let Some(refusal) = retire::key_out_of_date(core, state, key) {
        return Ok(Attempt::Answered((Placed::Refused(refusal), None)));
    }
    // 5. Check.
    request.check(&core.bounds)?;
    let terms = match gate::check(core, request, skus, now_ms) {
        Ok(terms) => terms,
        Err(refusal) => return Ok(Attempt::Answered((Placed::Refused(refusal), None))),
    };
    let lines = request.lines.as_slice();
    partition.lane.room_for_new(place_bytes(
        lines.len(),
        request.filling.policy,
        request.may_wait(),
        request.payload.len(),
    ))?;
    partition.lane.check_disk()?;
    core.check_orders(state)?;
    if !terms.is_plain
        && let Some(refusal) = over_limit(state, request, skus)
    {
        // Holds that are over do not count, whether or not the timekeeper has come by.
        return Ok(match endings::expire_some(core, partition, state, now_ms) {
            Due::Backlogged => Err(partition.lane.backlogged())?,
            Due::Some { .. } => Attempt::Expired,
            Due::None => {
                state.counts.over_limit += 1;
                Attempt::Answered((Placed::Refused(refusal), None))
            }
        });
    }
    if !terms.is_plain {
        check_buyers(core, state, request, skus)?;
    }
    let Some(handle) = state.orders.reserve() else {
        return Err(at_capacity(Capacity::Orders, core.orders_max))?;
    };
    state.keys.insert(key_hash, handle);
    // 6. Hold the stock, or stand in line for it.
    let holding = match terms.is_plain {
        true => hold(core, skus, lines),
        false => hold_by_rules(core, request, skus, state.orders.next_id()),
    };
    let place = match &holding {
        Holding::Waits(place) => Some(*place),
        _ => None,
    };
    let refused = match holding {
        Holding::Held | Holding::Waits(_) => {
            let answer = create(partition, state, request, skus, &terms, place);
            return Ok(Attempt::Answered(answer));
        }
        Holding::Short(refusal) => {
            state.counts.sold_out += u64::from(matches!(refusal, Refusal::SoldOut { .. }));
            Attempt::Answered((Placed::Refused(refusal), None))
        }
        Holding::Open(sku) => Attempt::Open(sku),
    };
    state.keys.remove(key_hash, handle);
    Ok(refused)
}

/// Step 4, for a key that has an order: its first outcome, or the field that differs. Rests on the
/// order's last record (rule R2).
fn repeat(state: &mut PartitionState, handle: u32, request: &Request<'_>) -> Answer {
    let order = state.orders.id(handle);
    let Some(slot) = state.orders.get(handle) else {
        // The index leads only to orders that are there; were it otherwise, nothing may be held.
        return (Placed::KeyReused(KeyReused { order, field: KeyField::Lines }), None);
    };
    let lsn = Some(slot.last_lsn()).filter(|_| !wrong::is(Wrong::AnswersRepeatBeforeDurable));
    let (deadline_ms, waited) = (slot.deadline_ms(), slot.waited());
    match differing_field(slot, request) {
        None => {
            state.counts.replayed += 1;
            (first_outcome(order, deadline_ms, waited, true), lsn)
        }
        Some(field) => {
            state.counts.keys_reused += 1;
            (Placed::KeyReused(KeyReused { order, field }), lsn)
        }
    }
}

fn differing_field(slot: &Slot, request: &Request<'_>) -> Option<KeyField> {
    if slot.lines_digest() != request.lines_digest {
        return Some(KeyField::Lines);
    }
    // Two requests that left it to the engine are alike, though its default changed in between.
    if slot.hold_ms() != request.hold_ms && !(slot.default_hold() && request.default_hold) {
        return Some(KeyField::Hold);
    }
    if slot.policy() != request.filling.policy {
        return Some(KeyField::Policy);
    }
    (slot.payload_digest() != request.payload_digest).then_some(KeyField::Payload)
}

/// Step 5: the first line, by SKU, that the buyer's limit does not allow.
fn over_limit(state: &PartitionState, request: &Request<'_>, skus: &Skus<'_>) -> Option<Refusal> {
    if skus.iter().all(|sku| sku.buyer_limit().is_none()) {
        return None;
    }
    skus.iter().zip(request.lines.as_slice()).find_map(|(sku, line)| {
        let limit = sku.buyer_limit()?;
        let taken = u64::from(state.limits.units(request.buyer, sku.index));
        (taken + u64::from(line.quantity.get()) > u64::from(limit)).then(|| Refusal::BuyerLimit {
            sku: sku.id,
            wanted: line.quantity,
            taken,
            limit: Quantity::new(limit),
        })
    })
}

/// Step 5: whether what the buyer will have can be counted.
fn check_buyers(
    core: &Core,
    state: &PartitionState,
    request: &Request<'_>,
    skus: &Skus<'_>,
) -> Result<(), Unavailable> {
    if skus.iter().all(|sku| !sku.counts_buyers()) {
        return Ok(());
    }
    let is_new = |sku: &&Sku| !state.limits.has_entry(request.buyer, sku.index);
    let new = skus.iter().filter(is_new).count() as u64;
    if new > 0 && state.limits.len() as u64 + new > core.buyers_tracked_max {
        return Err(at_capacity(Capacity::BuyersTracked, core.buyers_tracked_max));
    }
    Ok(())
}

/// The SKU that the order may wait for, and how many may.
fn list_of<'a>(request: &Request<'_>, skus: &Skus<'a>) -> Option<(&'a Sku, u32)> {
    let sku = skus.single().filter(|_| request.may_wait())?;
    Some((sku, sku.waiting_max())).filter(|(_, bound)| *bound > 0)
}

pub(super) enum Holding {
    Held,
    /// The order stands there in its SKU's list.
    Waits(ListPlace),
    Short(Refusal),
    Open(crate::ids::SkuId),
}

/// Step 6, of SKUs with rules: whose merchants may have a rate, and that one may wait for.
fn hold_by_rules(core: &Core, request: &Request<'_>, skus: &Skus<'_>, order: OrderId) -> Holding {
    let tokens = match Tokens::take(core, skus) {
        Ok(tokens) => tokens,
        Err(refusal) => return Holding::Short(refusal),
    };
    let holding = match list_of(request, skus) {
        Some((sku, bound)) => waiting::take_or_join(core, sku, bound, request, order),
        None => hold(core, skus, request.lines.as_slice()),
    };
    if !matches!(holding, Holding::Held | Holding::Waits(_)) {
        tokens.give_back(core);
    }
    holding
}

/// Step 6. A single line is one compare-exchange. A cart takes its lines in ascending order of SKU,
/// as all carts do, tentatively until the last is taken (rule R5).
fn hold(core: &Core, skus: &Skus<'_>, lines: &[Line]) -> Holding {
    let answered = |sku: &Sku, line: &Line, take| match take {
        Take::Taken => None,
        Take::Short { available } => {
            // Who was held up between his change and his note may have left a wrong one.
            sku.note_change();
            Some(Holding::Short(Refusal::SoldOut { sku: sku.id, wanted: line.quantity, available }))
        }
        Take::OthersWait => Some(Holding::Short(Refusal::OthersWaiting { sku: sku.id })),
        Take::Open => Some(Holding::Open(sku.id)),
    };
    if let ([line], Some(sku)) = (lines, skus.single()) {
        let units = line.quantity.get();
        let take = settle_open(|| sku.hot.available.take(units));
        if let Some(holding) = answered(sku, line, take) {
            return holding;
        }
        note_held(sku, units);
        return Holding::Held;
    }
    for (taken, (sku, line)) in skus.iter().zip(lines).enumerate() {
        if taken > 0 {
            wrong::pause();
        }
        let take = settle_open(|| sku.hot.available.take_tentatively(line.quantity.get()));
        if let Some(holding) = answered(sku, line, take) {
            let undone = if wrong::is(Wrong::KeepsLinesOfFailedCart) { 0 } else { taken };
            for (sku, line) in skus.iter().zip(lines).take(undone) {
                if sku.hot.available.undo(line.quantity.get()) {
                    core.promotions.ask(sku);
                }
            }
            return holding;
        }
    }
    for (sku, line) in skus.iter().zip(lines) {
        sku.hot.available.settle(line.quantity.get());
        note_held(sku, line.quantity.get());
    }
    Holding::Held
}

/// Units were taken for good.
pub(super) fn note_held(sku: &Sku, units: u32) {
    sku.hot.held.fetch_add(i64::from(units), Ordering::Relaxed);
    sku.note_change();
}

/// Looks again for a bounded while as long as carts in flight keep the answer open.
fn settle_open(mut take: impl FnMut() -> Take) -> Take {
    let backoff = Backoff::new();
    loop {
        match take() {
            Take::Open if !backoff.is_completed() => backoff.snooze(),
            taken => return taken,
        }
    }
}

/// Step 7: nothing here can fail.
fn create(
    partition: &Partition,
    state: &mut PartitionState,
    request: &Request<'_>,
    skus: &Skus<'_>,
    terms: &Terms,
    joined: Option<ListPlace>,
) -> Answer {
    let patience_ms = request.filling.patience_ms;
    let joins = joined.map(|place| Joins { place, patience_ms });
    let ends_in_ms = if joins.is_some() { patience_ms } else { terms.hold_ms };
    let deadline_ms = terms.now_ms + u64::from(ends_in_ms);
    let order = state.orders.next_id();
    let lines = request.lines.as_slice();
    let record = PlaceRecord {
        order,
        buyer: request.buyer,
        key: request.key,
        time_low: terms.now_ms as u32,
        hold_ms: terms.hold_ms,
        default_hold: request.default_hold,
        policy: request.filling.policy,
        lines: LoggedLines::Memory(lines),
        parts: match request.filling.policy {
            Policy::Partial => LoggedParts::Memory {
                wanted: lines,
                held: lines,
                minimums: &request.filling.minimums,
            },
            _ => LoggedParts::None,
        },
        joins,
        payload: request.payload,
    };
    let waited = joined.map(|place| Waited { place, patience_ends_ms: deadline_ms });
    let lsn = partition.lane.append(|bytes| record.write(bytes), std::iter::empty());
    let new = NewOrder {
        buyer: request.buyer,
        key: request.key,
        hold_ms: terms.hold_ms,
        default_hold: request.default_hold,
        policy: request.filling.policy,
        deadline_ms,
        lines_digest: request.lines_digest,
        first: SkuUnits { sku: skus.first().index, units: lines[0].quantity.get() },
        extra: extra(request, skus, waited),
    };
    if let Some(handle) = state.orders.insert(new, lsn) {
        state.timers.insert(deadline_ms, handle);
        partition.lower_next_due(deadline_ms);
    }
    for (sku, line) in skus.iter().zip(lines) {
        if sku.counts_buyers() {
            state.limits.add(request.buyer, sku.index, line.quantity.get());
        }
    }
    partition.lane.set_live_orders(state.live());
    (first_outcome(order, deadline_ms, waited, false), Some(lsn))
}

/// What the first request of an order is told, and every repeat.
fn first_outcome(
    order: OrderId,
    deadline_ms: u64,
    waited: Option<Waited>,
    replayed: bool,
) -> Placed {
    match waited {
        None => Placed::Held(Held { order, deadline_ms, replayed }),
        Some(Waited { patience_ends_ms, .. }) => {
            Placed::Waiting(Waiting { order, patience_ends_ms, replayed })
        }
    }
}

fn extra(request: &Request<'_>, skus: &Skus<'_>, waited: Option<Waited>) -> Option<Box<Extra>> {
    let lines = request.lines.as_slice();
    if lines.len() == 1 && request.payload.is_empty() && waited.is_none() {
        return None;
    }
    let cart = skus.iter().zip(lines).filter(|_| lines.len() > 1);
    Some(Box::new(Extra {
        lines: cart
            .map(|(sku, line)| SkuUnits { sku: sku.index, units: line.quantity.get() })
            .collect(),
        missing: Box::default(),
        // A copy: what the host handed in may be a small part of a large buffer.
        payload: Bytes::copy_from_slice(request.payload),
        payload_digest: request.payload_digest,
        waited,
    }))
}

/// The SKUs of a request's folded lines, in their order.
pub(crate) enum Skus<'a> {
    One(&'a Sku),
    Many(Vec<&'a Sku>),
}

impl<'a> Skus<'a> {
    pub(super) fn find(core: &'a Core, lines: &Lines) -> Result<Self, PlaceError> {
        let find = |line: &Line| {
            let sku = core.skus.find(line.sku).filter(|sku| sku.is_known());
            sku.ok_or(PlaceError::UnknownSku { sku: line.sku })
        };
        match lines.as_slice() {
            [line] => find(line).map(Self::One),
            lines => lines.iter().map(find).collect::<Result<_, _>>().map(Self::Many),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a Sku> + '_ {
        match self {
            Self::One(sku) => std::slice::from_ref(sku),
            Self::Many(skus) => skus,
        }
        .iter()
        .copied()
    }

    fn single(&self) -> Option<&'a Sku> {
        match self {
            Self::One(sku) => Some(sku),
            Self::Many(_) => None,
        }
    }

    fn first(&self) -> &'a Sku {
        match self {
            Self::One(sku) => sku,
            // A validated order has a line.
            Self::Many(skus) => skus[0],
        }
    }
}
