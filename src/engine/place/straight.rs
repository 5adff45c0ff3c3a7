//! The straight path: the plain order, from its request to its record, on one page.
//!
//! By far the most orders of a sale are *plain*: one line, in full or not at all, no payload, an opaque key, a SKU
//! without rules, no switch thrown, no refusals remembered. This path takes the eight steps of [`place`](super) for
//! them alone, so it decides nothing that a plain order need not decide.
//!
//! Where anything else turns up, it returns `None` before it has changed anything, and the general path begins anew.
//! So it does for every error. Both paths return the same answers and write the same records: `tests/orders/paths.rs`
//! sends every request down both.

use crate::engine::core::Core;
use crate::engine::place::hold::settle_open;
use crate::engine::place::holding::note_held;
use crate::engine::place::{Answer, admission, check_room, commit, enter, gate, repeat};
use crate::log::{Commit, LoggedLines, LoggedParts, PLACE_BYTES, PlaceRecord};
use crate::order::{Content, Held, Order, OrderState, Placed, PlainRequest, Policy, Refusal};
use crate::partition::{NewOrder, Partition, SkuUnits};
use crate::prefetch;
use crate::stock::{Sku, Take};

/// A plain order, and where it belongs.
#[derive(Clone, Copy)]
pub(super) struct Plain<'a> {
    core: &'a Core,
    partition: &'a Partition,
    sku: &'a Sku,
    key_hash: u64,
    order: &'a Order,
    request: PlainRequest,
}

impl<'a> Plain<'a> {
    /// Step 1. `None`: the order is not plain, as far as can be told without a lock.
    #[inline]
    pub(super) fn new(
        core: &'a Core,
        partition: &'a Partition,
        key_hash: u64,
        sku: &'a Sku,
        order: &'a Order,
    ) -> Option<Self> {
        if !is_plain(core, sku) || core.bounds.remember_ms.is_some() {
            return None;
        }
        let request = order.plain(&core.bounds)?;
        Some(Self { core, partition, sku, key_hash, order, request })
    }

    /// Places the order.
    #[inline]
    pub(super) fn place(&self) -> Option<Commit<Placed>> {
        if let Some(refusal) = self.certain_refusal() {
            self.core.check_open().ok()?;
            return Some(Commit::ready(Placed::Refused(refusal)));
        }
        let (placed, lsn) = hold(self, || self.core.time.now_ms())?;
        // 8. Commit.
        Some(commit(&self.partition.lane, placed, lsn))
    }

    /// Places the order as one of a batch, which has just read the time: steps 2 to 7.
    #[inline]
    pub(super) fn place_in_batch(&self) -> Option<Answer> {
        if let Some(refusal) = self.certain_refusal() {
            self.core.check_open().ok()?;
            return Some((Placed::Refused(refusal), None));
        }
        // No time that was read under this lock is later than the latest.
        hold(self, || self.core.time.latest_ms())
    }

    /// Step 2. Nothing was prefetched for writing until now: a refusal leaves every line with the processors that sell.
    #[inline]
    fn certain_refusal(&self) -> Option<Refusal> {
        admission::certainly_short(self.partition, self.key_hash, self.sku, &self.request.line)
    }
}

/// Steps 3 to 7. `now_ms` reads the time, under the partition's lock.
///
/// Not inlined: a refusal pays for no more stack than it uses.
#[inline(never)]
fn hold(plain: &Plain<'_>, now_ms: impl FnOnce() -> u64) -> Option<Answer> {
    let Plain { core, partition, sku, key_hash, order, request } = *plain;
    let PlainRequest { line, hold_ms, default_hold } = request;
    let (buyer, key) = (order.buyer(), order.key());
    partition.prefetch();
    partition.keys.prefetch(key_hash);
    prefetch::for_write(&sku.hot);
    // 3. Lock.
    let mut state = partition.lock();
    let state = &mut *state;
    let now_ms = now_ms();
    let content = Content::of_plain(&request);
    core.check_open().ok()?;
    // 4. Claim the key.
    let orders = &state.orders;
    let found = state.keys.find_or_vacancy(key_hash, |handle| orders.is_of(handle, buyer, key));
    let vacancy = match found {
        Ok(handle) => return Some(repeat(core, state, handle, &content)),
        Err(vacancy) => vacancy,
    };
    // 5. Check. A rule or a switch that came since the look without the lock counts now.
    if !is_plain(core, sku) {
        return None;
    }
    check_room(core, partition, state, PLACE_BYTES).ok()?;
    let handle = state.orders.reserve()?;
    // The key becomes visible before the stock is taken (rule R1).
    state.keys.occupy(vacancy, handle);
    // 6. Hold the stock.
    let units = line.quantity.get();
    if settle_open(Take::Open, || sku.hot.available.take(units)) != Take::Taken {
        state.keys.remove(key_hash, handle);
        return None;
    }
    note_held(sku, units);
    // 7. Create the order.
    let (order, deadline_ms) = (state.orders.next_id(), now_ms + u64::from(hold_ms));
    let record = PlaceRecord {
        order,
        buyer,
        key,
        time_low: now_ms as u32,
        hold_ms,
        default_hold,
        policy: Policy::AllOrNone,
        lines: LoggedLines::One(line),
        parts: LoggedParts::None,
        joins: None,
        payload: &[],
    };
    let record = record.plain();
    let new = NewOrder {
        buyer,
        key,
        hold_ms,
        default_hold,
        policy: Policy::AllOrNone,
        deadline_ms,
        lines_digest: content.lines_digest,
        first: SkuUnits { sku: sku.index, units },
        extra: None,
    };
    let lsn = enter(partition, state, |bytes| bytes.extend_from_slice(&record), new);
    let held = Held { order, deadline_ms, replayed: false, state: OrderState::Held };
    Some((Placed::Held(held), Some(lsn)))
}

/// Returns whether no rule is about the SKU, and no switch is thrown.
#[inline]
fn is_plain(core: &Core, sku: &Sku) -> bool {
    gate::is_plain(core, std::iter::once(sku))
}
