//! What a calling thread sends its requests to: the engine, or nothing at all, by which the cost of the load
//! generator itself is measured.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use doorbuster::{Commit, Engine, Held, Order, OrderId, OrderState, PlaceError, Placed, SkuHandle};

use crate::shared::patience::{Advice, Advise};
use crate::shared::timer::Timer;

type Failure = Box<dyn Error + Send + Sync>;

/// Takes orders.
pub(crate) trait Shop {
    type Pending: Pending;

    fn place(&self, order: &Order) -> Result<Self::Pending, PlaceError>;

    /// Returns when it makes sense to try again.
    fn wait_for_room(&self);
}

/// An answer that is not durable yet.
pub(crate) trait Pending {
    fn peek(&self) -> Option<&Placed>;
    fn is_durable(&self) -> bool;
    fn wait(self) -> Result<Placed, Failure>;
}

impl Shop for Engine {
    type Pending = Commit<Placed>;

    fn place(&self, order: &Order) -> Result<Commit<Placed>, PlaceError> {
        Engine::place(self, order)
    }

    fn wait_for_room(&self) {
        // An engine that will never have room again says why at the next try.
        let _ = self.ready().wait();
    }
}

impl Shop for SkuHandle {
    type Pending = Commit<Placed>;

    fn place(&self, order: &Order) -> Result<Commit<Placed>, PlaceError> {
        SkuHandle::place(self, order)
    }

    fn wait_for_room(&self) {
        self.engine().wait_for_room();
    }
}

impl Pending for Commit<Placed> {
    fn peek(&self) -> Option<&Placed> {
        Commit::peek(self)
    }

    fn is_durable(&self) -> bool {
        Commit::is_durable(self)
    }

    fn wait(self) -> Result<Placed, Failure> {
        Ok(Commit::wait(self)?)
    }
}

/// Sends an order until it is answered; counts in `backlogged` how often it waited for room.
pub(crate) fn place<S: Shop>(
    shop: &S,
    order: &Order,
    backlogged: &mut u64,
) -> Result<S::Pending, PlaceError> {
    loop {
        let error = match shop.place(order) {
            Ok(pending) => return Ok(pending),
            Err(error) => error,
        };
        match error.advice() {
            Advice::AwaitRoom => {
                *backlogged += 1;
                shop.wait_for_room();
            }
            Advice::Yield => std::thread::yield_now(),
            Advice::GiveUp => return Err(error),
        }
    }
}

/// Takes orders and does nothing with them. For one thread.
pub(crate) struct EmptyShop {
    timer: Timer,
    /// How long a call is busy.
    busy_ns: u64,
    /// How many further orders come before one is durable, so that the window is as full as it was.
    lag: u64,
    placed: Arc<AtomicU64>,
}

/// See [`EmptyShop`].
pub(crate) struct EmptyPending {
    placed: Placed,
    durable_at: u64,
    placed_by_now: Arc<AtomicU64>,
}

impl EmptyShop {
    pub(crate) fn new(busy_ns: u64, lag: u64) -> Self {
        Self { timer: Timer::start(), busy_ns, lag, placed: Arc::default() }
    }
}

impl Shop for EmptyShop {
    type Pending = EmptyPending;

    fn place(&self, order: &Order) -> Result<EmptyPending, PlaceError> {
        std::hint::black_box(order);
        let nth = self.placed.load(Ordering::Relaxed) + 1;
        self.placed.store(nth, Ordering::Relaxed);
        if self.busy_ns > 0 {
            let end = self.timer.ns() + self.busy_ns;
            while self.timer.ns() < end {}
        }
        let (order, state) = (OrderId::from_u64(nth), OrderState::Held);
        let held = Held { order, deadline_ms: 0, replayed: false, state };
        Ok(EmptyPending {
            placed: Placed::Held(held),
            durable_at: nth + self.lag,
            placed_by_now: self.placed.clone(),
        })
    }

    fn wait_for_room(&self) {}
}

impl Pending for EmptyPending {
    fn peek(&self) -> Option<&Placed> {
        Some(&self.placed)
    }

    fn is_durable(&self) -> bool {
        self.placed_by_now.load(Ordering::Relaxed) >= self.durable_at
    }

    fn wait(self) -> Result<Placed, Failure> {
        Ok(self.placed)
    }
}
