//! Reading what an engine holds: scans of all orders, orders by key, SKUs, merchants.

mod after_a_kill;
mod moving;
mod names;
mod rules;
mod scan;
mod threads;
mod views;

use doorbuster::{Order, OrderId, OrderView, Placed};

use crate::shop::Shop;

impl Shop {
    /// Opens a shop that remembers finished orders, with this number of partitions.
    fn of_partitions(partitions: usize) -> Self {
        Self::remembering(move |options| {
            options.partitions(partitions).log_shards(partitions.min(2))
        })
    }

    /// Places an order that must be held. It need not be durable.
    fn accept(&self, order: &Order) -> OrderId {
        let placed = self.engine.place(order).expect("there is room");
        placed.peek().and_then(Placed::held).expect("held").order
    }

    fn scan(&self) -> Vec<OrderView> {
        self.engine.orders(None).collect()
    }
}

fn ids(orders: &[OrderView]) -> Vec<OrderId> {
    orders.iter().map(|view| view.order).collect()
}
