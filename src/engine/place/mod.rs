//! The request path: one order, eight steps, one lock, one record.
//!
//! 1. *Validate* without touching state: [`Order::validate`].
//! 2. *Admit*: a refusal that is certain is returned without lock and log: [`admission`].
//! 3. *Lock* the buyer's partition.
//! 4. *Claim the key*: a key that has an order is answered with that order, whatever else is true. A key whose
//!    refusal is remembered is answered with the refusal.
//! 5. *Check* what can fail: rules, capacity, log backlog, disk, the buyer's limits. The key becomes visible to
//!    the lock-free look before stock is taken (rule R1).
//! 6. *Hold the stock*: all lines or none, or of each line as much as the order's policy takes: [`hold`].
//! 7. *Create the order*, append one record, unlock.
//! 8. *Commit*: the answer resolves when the record is durable.
//!
//! A plain order, as by far the most are, takes these steps in one function: [`straight`]. This file is the general
//! path, for all others.

mod admission;
mod batch;
pub(super) mod gate;
pub(super) mod hold;
pub(super) mod holding;
mod limits;
mod remembered;
pub(super) mod skus;
mod straight;

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::engine::core::Core;
use crate::engine::place::gate::Terms;
use crate::engine::place::hold::{hold, hold_by_rules};
use crate::engine::place::holding::{Holding, Wanted};
use crate::engine::place::limits::Limited;
use crate::engine::retire;
use crate::error::{Capacity, PlaceError, Unavailable, at_capacity};
use crate::log::{Commit, Joins, Lane, LoggedLines, LoggedParts, PlaceRecord, place_bytes};
use crate::mutants::{self, Mutant};
use crate::order::{
    Content, Held, KeyField, KeyReused, Line, ListPlace, Order, OrderState, PartlyHeld, Placed,
    Policy, Refusal, Request, Waiting,
};
use crate::partition::{Extra, NewOrder, Partition, PartitionState, SkuUnits, Waited};
use crate::prefetch;
use crate::routing::partition_of;
use crate::stock::Sku;
use crate::sync::Ordering;

pub(super) use batch::place_batch;
use skus::Skus;
use straight::Plain;

/// The most tries of a request whose answer is kept open by carts in flight.
const TRIES_MAX: u32 = 64;
/// From this try on the thread sleeps in between: the cart that keeps the answer open has lost its processor.
const TRIES_AWAKE: u32 = 16;
const TRY_PAUSE: Duration = Duration::from_micros(100);

/// An answer and the LSN of the record that it rests on. `None`: the answer rests on nothing that a crash could take
/// back.
pub(super) type Answer = (Placed, Option<u64>);

/// The outcome of one attempt.
pub(super) enum Attempt {
    Answered(Answer),
    /// Carts in flight keep the answer about this SKU open.
    Open(crate::ids::SkuId),
    /// Some holds that were over stood in the way of the buyer's limit. They expired; there may be more.
    Expired,
}

pub(super) fn place(core: &Core, order: &Order) -> Result<Commit<Placed>, PlaceError> {
    place_known(core, core.known_sku_of(order), order)
}

/// Places an order for a caller that knows one SKU: the order's SKU, or another.
pub(super) fn place_of(
    core: &Core,
    sku: &Sku,
    order: &Order,
) -> Result<Commit<Placed>, PlaceError> {
    match order.lines() {
        [line] if line.sku == sku.id => place_known(core, Some(sku), order),
        _ => place(core, order),
    }
}

/// `known` is the SKU of an order of one line, if there is such a SKU.
#[inline]
fn place_known(
    core: &Core,
    known: Option<&Sku>,
    order: &Order,
) -> Result<Commit<Placed>, PlaceError> {
    let (partition, key_hash) = home_of(core, order);
    place_hashed(core, partition, key_hash, known, order)
}

/// Places an order whose key is hashed already.
#[inline]
pub(super) fn place_hashed(
    core: &Core,
    partition: &Partition,
    key_hash: u64,
    known: Option<&Sku>,
    order: &Order,
) -> Result<Commit<Placed>, PlaceError> {
    if let Some(sku) = known
        && let Some(plain) = Plain::new(core, partition, key_hash, sku, order)
        && let Some(commit) = plain.place()
    {
        return Ok(commit);
    }
    let (placed, lsn) = answer_order(core, partition, key_hash, known, order)?;
    Ok(commit(&partition.lane, placed, lsn))
}

/// Returns the partition of an order's buyer, and the hash of its key.
#[inline]
fn home_of<'a>(core: &'a Core, order: &Order) -> (&'a Partition, u64) {
    let partition = &core.partitions[partition_of(order.buyer(), core.partitions.len())];
    (partition, core.hasher.hash(order.buyer(), order.key()))
}

/// The general path of any order: steps 1 to 7.
#[cold]
#[inline(never)]
fn answer_order(
    core: &Core,
    partition: &Partition,
    key_hash: u64,
    known: Option<&Sku>,
    order: &Order,
) -> Result<Answer, PlaceError> {
    let mut known = known.map(|sku| Known { sku, is_admitted: false });
    if let Some(known) = &mut known
        && let Some(line) = order.valid_line(&core.bounds)
    {
        known.is_admitted = gate::is_plain(core, std::iter::once(known.sku));
        let refusal = match known.is_admitted {
            // A remembered refusal is returned under the lock.
            _ if core.bounds.remember_ms.is_some() => None,
            true => admission::certainly_short(partition, key_hash, known.sku, line),
            false => admission::certainly_switched(core, partition, key_hash, known.sku),
        };
        if let Some(refusal) = refusal {
            core.check_open()?;
            return Ok((Placed::Refused(refusal), None));
        }
    }
    // Only now: a prefetch for writing takes the lines away from other processors, and a refusal must leave them
    // alone.
    partition.prefetch();
    partition.keys.prefetch(key_hash);
    let request = order.validate(&core.bounds)?;
    answer(core, partition, &request, key_hash, known)
}

/// Returns the commit of an answer: step 8.
fn commit(lane: &Arc<Lane>, placed: Placed, lsn: Option<u64>) -> Commit<Placed> {
    match lsn {
        None => Commit::ready(placed),
        Some(lsn) => Commit::at(placed, lane, lsn),
    }
}

/// What the lock-free look found about an order of one line.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    sku: &'a Sku,
    /// The order keeps all bounds, and step 2 has not refused it.
    is_admitted: bool,
}

/// Takes steps 2 to 7, and repeats steps 3 to 7 while the answer is open.
#[inline]
pub(super) fn answer(
    core: &Core,
    partition: &Partition,
    request: &Request<'_>,
    key_hash: u64,
    known: Option<Known<'_>>,
) -> Result<Answer, PlaceError> {
    let skus = match admit(core, partition, request, key_hash, known)? {
        Admitted::Skus(skus) => skus,
        Admitted::Refused(refusal) => return Ok((Placed::Refused(refusal), None)),
    };
    if let Some(sku) = skus.single() {
        prefetch::for_write(&sku.hot);
    }
    let mut tries = 0;
    loop {
        let mut state = partition.lock();
        let now_ms = core.time.now_ms();
        let attempt = attempt(core, partition, &mut state, request, key_hash, &skus, now_ms)?;
        drop(state);
        match attempt {
            Attempt::Answered(answer) => return Ok(answer),
            // Each time fewer holds are left.
            Attempt::Expired => {}
            Attempt::Open(sku) => {
                tries += 1;
                match tries {
                    TRIES_MAX => {
                        core.contended.fetch_add(1, Ordering::Relaxed);
                        return Err(PlaceError::Contended { sku, tries });
                    }
                    0..=TRIES_AWAKE => std::thread::yield_now(),
                    _ => std::thread::sleep(TRY_PAUSE),
                }
            }
        }
    }
}

/// Places an order as [`place`] does. While the answer is open the task yields to its runtime, and the thread never
/// sleeps. The answer is `Contended` after as many tries, and after as long as the thread would have slept.
pub(super) async fn place_yielding(
    core: &Core,
    order: &Order,
) -> Result<Commit<Placed>, PlaceError> {
    let began = Instant::now();
    let mut tries = 0;
    loop {
        match place_once(core, order)? {
            Once::Placed(commit) => return Ok(commit),
            Once::Expired => {}
            Once::Open(sku) => {
                tries += 1;
                if tries >= TRIES_MAX && began.elapsed() >= TRY_PAUSE * (TRIES_MAX - TRIES_AWAKE) {
                    core.contended.fetch_add(1, Ordering::Relaxed);
                    return Err(PlaceError::Contended { sku, tries });
                }
            }
        }
        yield_to_others().await;
    }
}

/// The outcome of one try.
enum Once {
    Placed(Commit<Placed>),
    Expired,
    Open(crate::ids::SkuId),
}

fn place_once(core: &Core, order: &Order) -> Result<Once, PlaceError> {
    let (partition, key_hash) = home_of(core, order);
    if let Some(sku) = core.known_sku_of(order)
        && let Some(plain) = Plain::new(core, partition, key_hash, sku, order)
        && let Some(commit) = plain.place()
    {
        return Ok(Once::Placed(commit));
    }
    let request = order.validate(&core.bounds)?;
    let skus = match admit(core, partition, &request, key_hash, None)? {
        Admitted::Skus(skus) => skus,
        Admitted::Refused(refusal) => {
            return Ok(Once::Placed(Commit::ready(Placed::Refused(refusal))));
        }
    };
    let mut state = partition.lock();
    let now_ms = core.time.now_ms();
    Ok(match attempt(core, partition, &mut state, &request, key_hash, &skus, now_ms)? {
        Attempt::Answered((placed, lsn)) => Once::Placed(commit(&partition.lane, placed, lsn)),
        Attempt::Expired => Once::Expired,
        Attempt::Open(sku) => Once::Open(sku),
    })
}

/// Lets the runtime's other tasks have their turn.
async fn yield_to_others() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The outcome of step 2.
pub(super) enum Admitted<'a> {
    Skus(Skus<'a>),
    Refused(Refusal),
}

/// Step 2: refuses without a lock what is certain to be refused.
pub(super) fn admit<'a>(
    core: &'a Core,
    partition: &Partition,
    request: &Request<'_>,
    key_hash: u64,
    known: Option<Known<'a>>,
) -> Result<Admitted<'a>, PlaceError> {
    if let Some(Known { sku, is_admitted: true }) = known {
        return Ok(Admitted::Skus(Skus::One(sku)));
    }
    if let Err(error) = request.check(&core.bounds)
        && partition.keys.surely_absent(key_hash)
    {
        return Err(error);
    }
    let skus = match known {
        Some(known) => Skus::One(known.sku),
        None => Skus::find(core, &request.lines)?,
    };
    // A remembered refusal is returned under the lock.
    if core.bounds.remember_ms.is_some() {
        return Ok(Admitted::Skus(skus));
    }
    match admission::certain_refusal(core, partition, key_hash, request, &skus) {
        None => Ok(Admitted::Skus(skus)),
        Some(refusal) => {
            // A latched log may have lost the reason why the SKU is sold out.
            core.check_open()?;
            Ok(Admitted::Refused(refusal))
        }
    }
}

/// Steps 4 to 7. The caller holds the partition's lock, and has read the time under it.
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
    if let Some(answer) = claim(core, state, request, key_hash, now_ms) {
        return Ok(Attempt::Answered(answer));
    }
    let refuse = |state: &mut PartitionState, refusal| {
        remembered::refuse(core, partition, state, request, key_hash, refusal, now_ms)
    };
    if let Some(refusal) = retire::key_out_of_date(core, state, request.key, now_ms) {
        return refuse(state, refusal);
    }
    // 5. Check.
    request.check(&core.bounds)?;
    let terms = match gate::check(core, request, skus, now_ms) {
        Ok(terms) => terms,
        Err(refusal) => return refuse(state, refusal),
    };
    let lines = request.lines.as_slice();
    let is_partial = request.filling.policy == Policy::Partial;
    let bytes = place_bytes(lines.len(), is_partial, request.may_wait(), request.payload.len());
    check_room(core, partition, state, bytes)?;
    let caps = match terms.is_plain {
        true => Vec::new(),
        false => match limits::check(core, partition, state, request, skus, now_ms)? {
            Limited::To(caps) => caps,
            Limited::Refused(refusal) => return refuse(state, refusal),
            Limited::Expired => return Ok(Attempt::Expired),
        },
    };
    let Some(handle) = state.orders.reserve() else {
        return Err(at_capacity(Capacity::Orders, core.orders_max))?;
    };
    state.keys.insert(key_hash, handle);
    // 6. Hold the stock, or join the waiting list.
    let wanted = Wanted { lines, filling: &request.filling, caps: &caps };
    let holding = match terms.is_plain {
        true => hold(core, skus, wanted),
        false => hold_by_rules(core, request, skus, wanted, state.orders.next_id()),
    };
    let (held, joined) = match holding {
        Holding::Held(held) => (held, None),
        Holding::Waits(place) => (Cow::Borrowed(lines), Some(place)),
        Holding::Short(refusal) => {
            state.keys.remove(key_hash, handle);
            state.counts.sold_out += u64::from(matches!(refusal, Refusal::SoldOut { .. }));
            return refuse(state, refusal);
        }
        Holding::Open(sku) => {
            state.keys.remove(key_hash, handle);
            return Ok(Attempt::Open(sku));
        }
    };
    Ok(Attempt::Answered(create(partition, state, request, skus, held, &terms, joined)))
}

/// Checks that there is room for an order whose record has at most `bytes` bytes, in the log and in memory.
#[inline]
fn check_room(
    core: &Core,
    partition: &Partition,
    state: &PartitionState,
    bytes: usize,
) -> Result<(), Unavailable> {
    partition.lane.room_for_new(bytes)?;
    partition.lane.check_disk()?;
    core.check_orders(state)
}

/// Step 4: returns the answer of a key that has an order or a remembered refusal.
#[inline]
fn claim(
    core: &Core,
    state: &mut PartitionState,
    request: &Request<'_>,
    key_hash: u64,
    now_ms: u64,
) -> Option<Answer> {
    let (orders, buyer, key) = (&state.orders, request.buyer, request.key);
    match state.keys.find(key_hash, |handle| orders.is_of(handle, buyer, key)) {
        Some(handle) => Some(repeat(core, state, handle, &Content::of(request))),
        None if core.bounds.remember_ms.is_none() => None,
        None => remembered::repeat(state, request, key_hash, now_ms),
    }
}

/// Returns, for a key that has an order, its first outcome, or the field that differs. The answer
/// rests on the order's last record (rule R2).
#[inline(never)]
fn repeat(core: &Core, state: &mut PartitionState, handle: u32, content: &Content) -> Answer {
    let order = state.orders.id(handle);
    let Some(slot) = state.orders.get(handle) else {
        // The index leads only to orders that are there. If it did not, nothing may be held.
        return (Placed::KeyReused(KeyReused { order: Some(order), field: KeyField::Lines }), None);
    };
    let lsn = Some(slot.last_lsn()).filter(|_| !mutants::is(Mutant::AnswersRepeatBeforeDurable));
    let (deadline_ms, waited, state_now) = (slot.deadline_ms(), slot.waited(), slot.state());
    match slot.content().differing_field(content) {
        None => {
            state.counts.replayed += 1;
            let missing = slot.missing().iter().map(|missing| Line {
                sku: core.skus.get(missing.sku).id,
                quantity: missing.units.into(),
            });
            let held = Held { order, deadline_ms, replayed: true, state: state_now };
            (first_outcome(held, waited, missing.collect()), lsn)
        }
        Some(field) => {
            state.counts.keys_reused += 1;
            (Placed::KeyReused(KeyReused { order: Some(order), field }), lsn)
        }
    }
}

/// Step 7: creates the order. Nothing here can fail.
fn create(
    partition: &Partition,
    state: &mut PartitionState,
    request: &Request<'_>,
    skus: &Skus<'_>,
    held: Cow<'_, [Line]>,
    terms: &Terms,
    joined: Option<ListPlace>,
) -> Answer {
    let patience_ms = request.filling.patience_ms;
    let joins = joined.map(|place| Joins { place, patience_ms });
    let ends_in_ms = if joins.is_some() { patience_ms } else { terms.hold_ms };
    let deadline_ms = terms.now_ms + u64::from(ends_in_ms);
    let order = state.orders.next_id();
    let (wanted, minimums) = (request.lines.as_slice(), &request.filling.minimums);
    let missing = match &held {
        // A borrowed list of lines is what the order wanted.
        Cow::Borrowed(_) => Vec::new(),
        Cow::Owned(held) => missing(wanted, held),
    };
    let record = PlaceRecord {
        order,
        buyer: request.buyer,
        key: request.key,
        time_low: terms.now_ms as u32,
        hold_ms: terms.hold_ms,
        default_hold: request.default_hold,
        policy: request.filling.policy,
        lines: LoggedLines::Memory(&held),
        parts: match missing.is_empty() && minimums.is_empty() {
            true => LoggedParts::None,
            false => LoggedParts::Memory { wanted, held: &held, minimums },
        },
        joins,
        payload: request.payload,
    };
    let waited = joined.map(|place| Waited {
        place,
        patience_ends_ms: deadline_ms,
        patience_ms,
        served: false,
    });
    let new = NewOrder {
        buyer: request.buyer,
        key: request.key,
        hold_ms: terms.hold_ms,
        default_hold: request.default_hold,
        policy: request.filling.policy,
        deadline_ms,
        lines_digest: request.lines_digest,
        first: SkuUnits { sku: skus.first().index, units: held[0].quantity.get() },
        extra: extra(request, skus, &held, &missing, waited),
    };
    let lsn = enter(partition, state, |bytes| record.write(bytes), new);
    for (sku, line) in skus.iter().zip(held.iter()) {
        if sku.counts_buyers() {
            state.limits.add(request.buyer, sku.index, line.quantity.get());
        }
    }
    let state = if joined.is_some() { OrderState::Waiting } else { OrderState::Held };
    let held = Held { order, deadline_ms, replayed: false, state };
    (first_outcome(held, waited, missing), Some(lsn))
}

/// Appends the record of an order, which `write` writes, and puts the order into its partition's tables. Returns the
/// record's LSN.
#[inline(always)]
fn enter(
    partition: &Partition,
    state: &mut PartitionState,
    write: impl FnOnce(&mut Vec<u8>),
    new: NewOrder,
) -> u64 {
    let deadline_ms = new.deadline_ms;
    // Before the record is appended: its block wakes the timekeeper, which must then see the deadline.
    partition.lower_next_due(deadline_ms);
    let lsn = partition.lane.append(write, std::iter::empty());
    if let Some(handle) = state.orders.insert(new, lsn) {
        state.timers.insert(deadline_ms, handle);
    }
    partition.lane.set_live_orders(state.live());
    lsn
}

/// Returns what the first request of an order receives, and every repeat of it.
fn first_outcome(held: Held, waited: Option<Waited>, missing: Vec<Line>) -> Placed {
    let Held { order, deadline_ms, replayed, state } = held;
    match waited {
        Some(Waited { patience_ends_ms, served, .. }) => {
            let hold_ends_ms = served.then_some(deadline_ms);
            Placed::Waiting(Waiting { order, patience_ends_ms, replayed, state, hold_ends_ms })
        }
        None if missing.is_empty() => Placed::Held(held),
        None => Placed::Partial(PartlyHeld { held, missing }),
    }
}

/// Returns what a partial order did not receive.
fn missing(wanted: &[Line], held: &[Line]) -> Vec<Line> {
    let missing = wanted.iter().zip(held).map(|(wanted, held)| Line {
        sku: wanted.sku,
        quantity: (wanted.quantity.get() - held.quantity.get()).into(),
    });
    missing.filter(|line| line.quantity.get() > 0).collect()
}

fn extra(
    request: &Request<'_>,
    skus: &Skus<'_>,
    held: &[Line],
    missing: &[Line],
    waited: Option<Waited>,
) -> Option<Box<Extra>> {
    let is_plain = missing.is_empty() && request.payload.is_empty() && waited.is_none();
    if held.len() == 1 && is_plain {
        return None;
    }
    let in_memory =
        |(sku, line): (&Sku, &Line)| SkuUnits { sku: sku.index, units: line.quantity.get() };
    let lines = match held {
        [_] => Box::default(),
        held => skus.iter().zip(held).map(in_memory).collect(),
    };
    let mut lacks = missing.iter().peekable();
    let lacking = skus.iter().filter_map(|sku| Some((sku, lacks.next_if(|it| it.sku == sku.id)?)));
    Some(Box::new(Extra {
        lines,
        missing: lacking.map(in_memory).collect(),
        // A copy: what the host handed in may be a small part of a large buffer.
        payload: Bytes::copy_from_slice(request.payload),
        payload_digest: request.payload_digest,
        waited,
    }))
}
