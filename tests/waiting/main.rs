//! Waiting lists: which order is served, when, and what a crash leaves of the list.

#![allow(clippy::let_underscore_future, reason = "a verb acts whether or not its commit is kept")]

mod crashes;
mod joining;
mod leaving;
mod meanwhile;
mod model;
#[path = "../support/seeds.rs"]
mod seeds;
mod serving;
#[path = "../support/shop.rs"]
mod shop;
mod wakers;
mod watching;

use std::time::Duration;

use doorbuster::testing::ManualClock;
use doorbuster::{Adjust, Fill, Order, OrderId, OrderState, Placed, RequestKey, SaleRules};

use shop::{SKU, Shop};

const S: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(1_000);

impl Shop {
    /// Opens a shop with these units of [`SKU`], and a list with room for `waiting_max` orders.
    fn new(units: u32, waiting_max: u32) -> Self {
        let mut shop = Self::open(ManualClock::default(), |options| options);
        let first = Adjust::set(units).expect(0).key(1);
        shop.settle(|engine| engine.stock(SKU, first).expect("there is room"));
        shop.rules(SaleRules::new().waiting_max(waiting_max));
        shop
    }

    fn rules(&mut self, rules: SaleRules) {
        self.settle(|engine| engine.rules(SKU, rules).expect("the SKU is known"));
    }

    fn place(&mut self, order: Order) -> Placed {
        self.settle(|engine| engine.place(order).expect("an answer"))
    }

    /// Places an order that must be held.
    fn hold(&mut self, order: Order) -> OrderId {
        let placed = self.place(order);
        placed.held().unwrap_or_else(|| panic!("held, not {placed:?}")).order
    }

    /// Places an order that must wait.
    fn wait(&mut self, order: Order) -> OrderId {
        match self.place(order) {
            Placed::Waiting(waiting) => waiting.order,
            other => panic!("waiting, not {other:?}"),
        }
    }

    fn cancel(&mut self, order: OrderId) {
        self.settle(|engine| engine.cancel(order).expect("the order is known"));
    }

    fn state(&self, order: OrderId) -> OrderState {
        self.engine.order(order).expect("the order is known").state
    }

    fn states<const N: usize>(&self, orders: [OrderId; N]) -> [OrderState; N] {
        orders.map(|order| self.state(order))
    }

    fn position(&self, order: OrderId) -> Option<u64> {
        self.engine.position(order).expect("the order is known")
    }

    /// Lets every writer write one block, and no other part of the engine act.
    fn step_writers(&mut self) {
        for shard in 0..self.engine.shards() {
            self.engine.step_writer(shard);
        }
    }
}

/// Makes an order that takes `units` at once or nothing.
fn buy(buyer: u64, units: u32) -> Order {
    Order::new(buyer, RequestKey::new(buyer.into())).line(SKU, units)
}

/// Makes an order that waits for `units`.
fn queue(buyer: u64, units: u32) -> Order {
    buy(buyer, units).fill(Fill::Wait { patience: PATIENCE })
}
