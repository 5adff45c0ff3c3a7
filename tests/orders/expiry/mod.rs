//! Deadlines are exact to the millisecond of engine time, through restarts and clocks that jump.

mod clocks;
mod deadlines;
mod restarts;

use std::time::Duration;

use doorbuster::testing::ManualClock;
use doorbuster::{Held, Order, OrderId, OrderState, RequestKey, Transition};

use crate::shop::{SKU, Shop};

const CONFIRMED: Transition = Transition::Done { state: OrderState::Confirmed };
const TOO_LATE: Transition = Transition::NotAllowed { state: OrderState::Expired };

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Shop {
    /// Opens a shop with these units of [`SKU`].
    fn selling(units: u32) -> Self {
        Self::selling_at(ManualClock::default(), units)
    }

    fn selling_at(clock: ManualClock, units: u32) -> Self {
        let mut shop = Self::open(clock, |options| options);
        shop.restock(SKU, units);
        shop
    }

    /// Places an order of one unit, which must be held. It is not durable yet.
    fn place_for(&self, buyer: u64, hold: Duration) -> Held {
        let order = Order::new(buyer, RequestKey::new(1)).line(SKU, 1).hold_for(hold);
        let placed = self.engine.place(order).expect("an answer");
        *placed.peek().and_then(|placed| placed.held()).expect("there is enough")
    }

    /// Places an order of one unit, which must be held, and makes it durable.
    fn hold_for(&mut self, buyer: u64, hold: Duration) -> Held {
        let held = self.place_for(buyer, hold);
        self.engine.run_until_idle();
        held
    }

    /// Moves the clock, and nothing else, to this moment of engine time.
    fn advance_to(&self, engine_ms: u64) {
        self.clock.advance(ms(engine_ms - self.engine.now_ms()));
        assert_eq!(self.engine.now_ms(), engine_ms);
    }

    /// Confirms an order, and returns the answer when it is durable.
    fn confirm(&mut self, order: OrderId) -> Transition {
        self.settle(|engine| engine.confirm(order).expect("the order is known"))
    }
}
