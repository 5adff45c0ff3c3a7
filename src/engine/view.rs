//! Looks at one order: [`OrderView`], [`Viewed`].

use bytes::Bytes;

use crate::engine::core::Core;
use crate::engine::expiry::{expiry_bytes, is_over};
use crate::engine::transition::{apply, find};
use crate::error::OrderError;
use crate::ids::{BuyerId, OrderId, RequestKey};
use crate::log::Commit;
use crate::order::{Line, OrderState, Verb};
use crate::partition::{Partition, PartitionState, SkuUnits, Slot};
use crate::routing::partition_of;

/// A caller that waits for this record receives that the engine is closed or latched.
const NEVER_LOGGED: u64 = u64::MAX;

/// An order as it stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OrderView {
    /// Its name.
    pub order: OrderId,
    /// Whose it is.
    pub buyer: BuyerId,
    /// The idempotency key that made it.
    pub key: RequestKey,
    /// Where it stood.
    pub state: OrderState,
    /// Its folded lines, sorted by SKU; of a partial order with what it got of each, perhaps nothing.
    pub lines: Vec<Line>,
    /// What a partial order did not get, by SKU; only lines that miss some.
    pub missing: Vec<Line>,
    /// When it was placed, in engine time, in milliseconds.
    pub placed_ms: u64,
    /// When it came into its present state, in engine time, in milliseconds. For an order that is held: when it was
    /// placed, or served from its list.
    pub changed_ms: u64,
    /// When its hold ends or ended, or while it waits its patience, in engine time, in milliseconds.
    pub deadline_ms: u64,
    /// How long it is or was held, in milliseconds; for an order that was never served, how long the hold would have
    /// been.
    pub hold_ms: u32,
    /// The buyer's [class](crate::Order::class), if the order waits or waited. `None` for all other orders, which
    /// do not keep it.
    pub class: Option<u8>,
    /// Whether it waited and was served. Its hold began when it was served, not when it was placed.
    pub served_from_list: bool,
    /// The host's bytes.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialised::payload"))]
    pub payload: Bytes,
    /// Whether a crash at that moment would have left the order in this state. If not, await
    /// [`Viewed::when_durable`](crate::Viewed::when_durable).
    pub durable: bool,
}

/// An [`OrderView`] that can be awaited until what it shows is durable.
#[derive(Debug)]
pub struct Viewed {
    view: OrderView,
    pending: Commit<()>,
}

impl Viewed {
    pub(crate) fn new(view: OrderView, pending: Commit<()>) -> Self {
        Self { view, pending }
    }

    /// The order as it stood when it was read; [`OrderView::durable`] says whether that would
    /// survive a crash.
    #[must_use]
    pub fn view(&self) -> &OrderView {
        &self.view
    }

    /// The same view once it is durable.
    pub fn when_durable(mut self) -> Commit<OrderView> {
        self.view.durable = true;
        self.pending.with(self.view)
    }
}

impl std::ops::Deref for Viewed {
    type Target = OrderView;

    fn deref(&self) -> &OrderView {
        &self.view
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
    let mut view = show(core, partition, order, slot);
    let mut lsn = slot.last_lsn();
    if ends_unlogged {
        (view.state, view.changed_ms) = (OrderState::Expired, view.deadline_ms);
        (view.durable, lsn) = (false, NEVER_LOGGED);
    }
    Ok(Viewed::new(view, Commit::at((), &partition.lane, lsn)))
}

/// The order that a buyer's key made; `None`: no order in memory has the key.
pub(super) fn view_by_key(
    core: &Core,
    buyer: BuyerId,
    key: RequestKey,
) -> Result<Option<Viewed>, OrderError> {
    let partition = &core.partitions[partition_of(buyer, core.partitions.len())];
    let mut state = partition.state.lock();
    let (orders, key_hash) = (&state.orders, core.hasher.hash(buyer, key));
    let found = state.keys.find(key_hash, |handle| orders.is_of(handle, buyer, key));
    found.map(|handle| view_at(core, partition, &mut state, handle)).transpose()
}

/// An order as its slot has it; the caller holds the partition's lock.
pub(super) fn show(core: &Core, partition: &Partition, order: OrderId, slot: &Slot) -> OrderView {
    let line =
        |line: SkuUnits| Line { sku: core.skus.get(line.sku).id, quantity: line.units.into() };
    let waited = slot.waited();
    OrderView {
        order,
        buyer: slot.buyer(),
        key: slot.key(),
        state: slot.state(),
        lines: slot.lines().map(line).collect(),
        missing: slot.missing().iter().copied().map(line).collect(),
        placed_ms: slot.placed_ms(),
        changed_ms: slot.in_state_from_ms(),
        deadline_ms: slot.deadline_ms(),
        hold_ms: slot.hold_ms(),
        class: waited.map(|waited| waited.place.class),
        served_from_list: waited.is_some_and(|waited| waited.served),
        payload: slot.payload(),
        durable: partition.lane.is_durable(slot.last_lsn()),
    }
}

/// How many are before an order.
pub(super) fn position(core: &Core, order: OrderId) -> Result<Option<u64>, OrderError> {
    let partition = core.partition_of_order(order)?;
    let state = partition.state.lock();
    let handle = find(&state, order)?;
    let slot = state.orders.get(handle).filter(|slot| slot.state() == OrderState::Waiting);
    Ok(slot.and_then(|slot| {
        let list = core.skus.get(slot.lines().next()?.sku).list()?.lock();
        list.position(slot.waited()?.place)
    }))
}
