//! [`Watch`]: tells when an order has left its waiting list.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::core::Core;
use crate::engine::endings::{self, NEVER_LOGGED};
use crate::error::{CommitError, OrderError, WatchError};
use crate::ids::OrderId;
use crate::log::{Commit, block_on};
use crate::order::{OrderState, OrderView};
use crate::wrong::{self, Wrong};

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
    /// Resolves when the engine is closed or latched: then nothing more happens to the order.
    ended: Commit<()>,
    /// The order, when it has left the list.
    left: Option<Commit<OrderView>>,
}

impl Watch {
    pub(super) fn new(core: &Arc<Core>, order: OrderId) -> Result<Self, OrderError> {
        let partition = core.partition_of_order(order)?;
        let state = partition.state.lock();
        endings::find(&state, order)?;
        let ended = Commit::at((), &partition.lane, NEVER_LOGGED);
        Ok(Self { core: core.clone(), order, ticket: None, ended, left: None })
    }

    /// Blocks the thread until the order waits no longer.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub fn wait(mut self) -> Result<OrderView, WatchError> {
        block_on(&mut self)
    }

    /// Notes the waker as long as the order waits.
    fn note(&mut self, context: &Context<'_>) -> Result<bool, OrderError> {
        let partition = self.core.partition_of_order(self.order)?;
        let mut state = partition.state.lock();
        let handle = endings::find(&state, self.order)?;
        let waits =
            state.orders.get(handle).is_some_and(|slot| slot.state() == OrderState::Waiting);
        if waits && !endings::is_over(&self.core, &state, handle, self.core.time.now_ms()) {
            let sequence = self.order.sequence();
            let ticket = state.watchers.register(sequence, self.ticket, context.waker());
            self.ticket = Some(ticket);
            return Ok(true);
        }
        Ok(false)
    }

    fn deregister(&mut self) {
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
            if self.note(context)? {
                let ended = Pin::new(&mut self.ended).poll(context);
                return ended.map(|ended| Err(ended.err().unwrap_or(CommitError::Closed).into()));
            }
            self.deregister();
            let viewed = endings::view(&self.core, self.order)?;
            if wrong::is(Wrong::TellsWatchBeforeDurable) {
                return Poll::Ready(Ok(OrderView { durable: true, ..viewed.view().clone() }));
            }
            self.left = Some(viewed.when_durable());
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
