//! [`Watch`]: resolves when an order has left its waiting list.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::OrderView;
use crate::engine::core::Core;
use crate::engine::expiry::is_over;
use crate::engine::transition;
use crate::engine::view::{self, Viewed};
use crate::error::{CommitError, OrderError, Unavailable, WatchError};
use crate::ids::OrderId;
use crate::log::{Commit, block_on};
use crate::mutants::{self, Mutant};
use crate::order::OrderState;

/// Resolves with an order as it stands when it does not wait any more: served, called off, or its patience
/// at its end; once that is durable. At once for an order that never waited.
///
/// A future tied to no runtime; a thread can [wait](Watch::wait) for it. Dropping it changes nothing.
#[must_use = "it does nothing until it is awaited or waited for"]
pub struct Watch {
    core: Arc<Core>,
    order: OrderId,
    /// Under which its waker is noted in the order's partition.
    ticket: Option<u64>,
    /// Under which its waker is noted for the engine's end: then nothing more happens to the order.
    end_ticket: Option<u64>,
    /// The order, when it has left the list.
    left: Option<Commit<OrderView>>,
}

impl Watch {
    pub(super) fn new(core: &Arc<Core>, order: OrderId) -> Result<Self, OrderError> {
        let partition = core.partition_of_order(order)?;
        let state = partition.state.lock();
        transition::find(&state, order)?;
        drop(state);
        Ok(Self { core: core.clone(), order, ticket: None, end_ticket: None, left: None })
    }

    /// Blocks the thread until the order waits no longer.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub fn wait(mut self) -> Result<OrderView, WatchError> {
        block_on(&mut self)
    }

    /// Notes the waker as long as the order waits; returns the order once it does not.
    ///
    /// A waiting order whose patience is over leaves its list here, if the log has room for that. Otherwise the
    /// timekeeper logs its end as soon as there is room, and wakes the watch.
    ///
    /// A waker is the host's code: it is cloned before the partition is locked, and the one that it
    /// replaces is dropped afterwards, since that may own a watch of the same partition.
    fn note(&mut self, context: &Context<'_>) -> Result<Option<Viewed>, OrderError> {
        let partition = self.core.partition_of_order(self.order)?;
        let waker = context.waker().clone();
        let mut state = partition.state.lock();
        let handle = transition::find(&state, self.order)?;
        let waits =
            state.orders.get(handle).is_some_and(|slot| slot.state() == OrderState::Waiting);
        if !waits || is_over(&self.core, &state, handle, self.core.time.now_ms()) {
            match view::view_at(&self.core, partition, &mut state, handle) {
                Err(OrderError::Unavailable(Unavailable::Backlogged { .. })) if waits => {}
                viewed => return viewed.map(Some),
            }
        }
        let sequence = self.order.sequence();
        let (ticket, replaced) = state.watchers.register(sequence, self.ticket, waker);
        self.ticket = Some(ticket);
        drop(state);
        drop(replaced);
        Ok(None)
    }

    /// Notes the waker for the engine's end, and looks whether that has come. The log writers do not call this
    /// waker: one that blocks must not stop them.
    fn note_end(&mut self, context: &Context<'_>) -> Result<Option<CommitError>, OrderError> {
        let latch = &self.core.latch;
        self.end_ticket = Some(latch.bell().register(self.end_ticket, context.waker()));
        if latch.is_in_forked_child() {
            return Ok(Some(CommitError::Forked));
        }
        let shard = self.core.partition_of_order(self.order)?.lane.shard();
        Ok(shard.has_ended().then(|| shard.why_ended()))
    }

    fn deregister(&mut self) {
        if let Some(ticket) = self.end_ticket.take() {
            self.core.latch.bell().deregister(ticket);
        }
        let Some(ticket) = self.ticket.take() else { return };
        if let Ok(partition) = self.core.partition_of_order(self.order) {
            let waker = partition.state.lock().watchers.deregister(self.order.sequence(), ticket);
            // Outside of the lock: what a waker does when it is dropped is its own affair.
            drop(waker);
        }
    }
}

impl Future for Watch {
    type Output = Result<OrderView, WatchError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left.is_none() {
            let mut viewed = self.note(context)?;
            if viewed.is_none() {
                let Some(error) = self.note_end(context)? else { return Poll::Pending };
                // It may have left its list just before the end.
                viewed = self.note(context)?;
                if viewed.is_none() {
                    return Poll::Ready(Err(error.into()));
                }
            }
            self.deregister();
            self.left = match viewed {
                Some(viewed) if mutants::is(Mutant::TellsWatchBeforeDurable) => {
                    return Poll::Ready(Ok(OrderView { durable: true, ..viewed.view().clone() }));
                }
                viewed => viewed.map(Viewed::when_durable),
            };
        }
        match &mut self.left {
            Some(left) => Pin::new(left).poll(context).map_err(WatchError::from),
            None => Poll::Pending,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.deregister();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("order", &self.order).finish_non_exhaustive()
    }
}
