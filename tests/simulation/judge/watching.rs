//! A watch resolves when its order no longer waits: once that is durable, and not before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use doorbuster::testing::SteppedEngine;
use doorbuster::{OrderError, OrderId, OrderState, OrderView, Unavailable, Watch, WatchError};

use super::orders::Known;
use super::{Broken, Checked, Judge, hold_to};

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A task that awaits a watch, and looks at it only when it was woken.
#[derive(Debug)]
pub(super) struct Watching {
    order: OrderId,
    watch: Watch,
    woken: Arc<Woken>,
}

impl Watching {
    fn poll(&mut self) -> Poll<Result<OrderView, WatchError>> {
        let waker = Waker::from(self.woken.clone());
        Pin::new(&mut self.watch).poll(&mut Context::from_waker(&waker))
    }
}

impl Judge {
    /// Orders that wait, for the workload to pick from.
    pub(crate) fn waiting_orders(&self) -> Vec<OrderId> {
        let waits = |known: &Known| known.state() == OrderState::Waiting;
        self.orders.iter().filter(|(_, known)| waits(known)).map(|(order, _)| order).collect()
    }

    pub(crate) fn watch(&mut self, engine: &SteppedEngine, order: OrderId) -> Checked {
        // What is over has ended by that, also for the watch.
        self.view(engine, order)?;
        let is_retired = self.orders.get(order).map(Known::is_retired);
        match (engine.watch(order), is_retired) {
            (Ok(watch), Some(false)) => {
                let watching = Watching { order, watch, woken: Arc::default() };
                let watching = self.listen(watching, false)?;
                self.watches.extend(watching);
                Ok(())
            }
            (Err(OrderError::Retired { .. }), Some(true))
            | (Err(OrderError::UnknownOrder { .. }), None) => Ok(()),
            (other, _) => Err(Broken(format!("watch {order}: {other:?}"))),
        }
    }

    /// Polls the watches that were woken; all of them when the engine has `ended`.
    pub(crate) fn hear(&mut self, ended: bool) -> Checked {
        for watching in std::mem::take(&mut self.watches) {
            let listens = watching.woken.0.swap(false, Ordering::Relaxed) || ended;
            let waiting = match listens {
                true => self.listen(watching, ended)?,
                false => Some(watching),
            };
            self.watches.extend(waiting);
        }
        Ok(())
    }

    /// Puts the watch back if it is not resolved.
    fn listen(&self, mut watching: Watching, ended: bool) -> Checked<Option<Watching>> {
        let order = watching.order;
        let heard = match watching.poll() {
            Poll::Ready(heard) => heard,
            Poll::Pending => {
                hold_to!(!ended, "the watch of {order} goes on though the engine has ended");
                return Ok(Some(watching));
            }
        };
        let known = self.orders.get(order);
        match &heard {
            Ok(view) => {
                let moments = known.into_iter().flat_map(|known| &known.moments);
                let mut told = moments.filter(|moment| moment.state == view.state);
                let is_so = told.any(|moment| moment.durable.is_some() || ended);
                let has_left = view.state != OrderState::Waiting;
                hold_to!(view.durable && has_left && is_so, "watch: {view:?}, but it is {known:?}");
                if known.is_some_and(Known::has_waited) {
                    self.tally.met("who watched heard");
                }
            }
            Err(WatchError::Order(OrderError::Retired { .. })) => {
                hold_to!(known.is_some_and(Known::is_retired), "watch: {order} is {known:?}");
            }
            Err(WatchError::Commit(_)) if ended => self.tally.met("who watched heard of the end"),
            // It was served, and its hold is over.
            Err(WatchError::Order(OrderError::Unavailable(Unavailable::Backlogged { .. })))
                if known.is_some_and(|known| known.state() != OrderState::Waiting) => {}
            Err(error) => {
                hold_to!(ended || self.troubles.failed, "watch {order}: {error}, but {known:?}");
            }
        }
        Ok(None)
    }

    /// Everything is done: no watch sleeps that has something to receive.
    pub(crate) fn check_all_heard(&self, engine: &SteppedEngine) -> Checked {
        if self.is_hindered(engine) {
            return Ok(());
        }
        for watching in &self.watches {
            let order = watching.order;
            let known = self.orders.get(order);
            let waits = known.is_some_and(|known| known.state() == OrderState::Waiting);
            hold_to!(waits, "nobody was told of {order}, who watches it: {known:?}");
        }
        Ok(())
    }
}
