//! Finished orders: how long the engine answers for them, and what is left of them afterwards.

mod adjusts;
mod ids;
mod keys;
mod limits;
mod memory;
mod model;
mod options;
mod threads;
mod windows;

use doorbuster::{
    Options, Order, OrderError, OrderId, OrderState, Placed, SaleRules, SkuId, Stats, StockLevels,
};

use crate::shop::{SKU, Shop};
use crate::{MS, RETENTION, one};

const OTHER: SkuId = SkuId::new(2);

/// Changes nothing of the options.
fn plain(options: Options) -> Options {
    options
}

impl Shop {
    /// Opens a shop that remembers finished orders for [`RETENTION`], with a million units of [`SKU`] and of
    /// [`OTHER`].
    fn of_two_skus(adapt: impl Fn(Options) -> Options + 'static) -> Self {
        let mut shop = Self::remembering(adapt);
        shop.restock(OTHER, 1_000_000);
        shop
    }

    /// Kills the process and opens the folder again with other options.
    fn kill_and_adapt(&mut self, adapt: impl Fn(Options) -> Options + 'static) {
        self.adapt = Box::new(move |options| adapt(options.retention(RETENTION)));
        self.kill();
    }

    fn place(&mut self, order: Order) -> Placed {
        self.settle(|engine| engine.place(order).expect("an answer"))
    }

    /// Places an order that must be held for the first time.
    fn hold(&mut self, order: Order) -> OrderId {
        let placed = self.place(order);
        let held = placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"));
        assert!(!held.replayed, "its key was free");
        held.order
    }

    /// Places an order of one unit and brings it to a state.
    fn order_in(&mut self, buyer: u64, key: u128, state: OrderState) -> OrderId {
        let order = self.hold(one(buyer, key).hold_for(10 * MS));
        match state {
            OrderState::Expired => self.pass(10 * MS),
            OrderState::Cancelled => drop(self.settle(|it| it.cancel(order).expect("held"))),
            _ => drop(self.settle(|it| it.confirm(order).expect("held"))),
        }
        if state == OrderState::Fulfilled {
            self.settle(|it| it.fulfil(order).expect("confirmed"));
        }
        assert_eq!(self.state(order), Ok(state));
        order
    }

    fn state(&self, order: OrderId) -> Result<OrderState, OrderError> {
        self.engine.order(order).map(|viewed| viewed.state)
    }

    fn limit(&mut self, sku: SkuId, units: u32) {
        let rules = SaleRules::new().buyer_limit(units);
        self.settle(|engine| engine.rules(sku, rules).expect("the SKU is known"));
    }

    fn end_sale(&mut self, sku: SkuId) {
        self.settle(|engine| engine.end_sale(sku).expect("the SKU is known"));
    }

    /// Returns what two replays of one log must agree on.
    fn figures(&self) -> (Vec<StockLevels>, [u64; 4]) {
        let Stats { orders, live_orders, buyers_tracked, order_table_bytes, .. } =
            self.engine.stats();
        let levels = [SKU, OTHER].map(|sku| self.levels(sku)).to_vec();
        (levels, [orders, live_orders, buyers_tracked, order_table_bytes])
    }
}

fn retired<T>(order: OrderId) -> Result<T, OrderError> {
    Err(OrderError::Retired { order })
}
