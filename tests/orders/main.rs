//! The life of an order after it was placed: its deadline, its end, how long the engine remembers it, and
//! how it is read.

#![allow(clippy::let_underscore_future, reason = "a verb acts whether or not its commit is kept")]

mod expiry;
#[path = "../support/murmur.rs"]
mod murmur;
mod paths;
mod reads;
mod retention;
#[path = "../support/seeds.rs"]
mod seeds;
#[path = "../support/shop.rs"]
mod shop;

use std::time::Duration;

use doorbuster::testing::ManualClock;
use doorbuster::{Options, Order, RequestKey};

use shop::{SKU, Shop};

const RETENTION: Duration = Duration::from_secs(100);
const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

impl Shop {
    /// Opens a shop that remembers finished orders for [`RETENTION`], with a million units of [`SKU`].
    fn remembering(adapt: impl Fn(Options) -> Options + 'static) -> Self {
        let adapt = move |options: Options| adapt(options.retention(RETENTION));
        let mut shop = Self::open(ManualClock::default(), adapt);
        shop.restock(SKU, 1_000_000);
        shop
    }
}

/// Makes an order of one unit.
fn one(buyer: u64, key: u128) -> Order {
    Order::new(buyer, RequestKey::new(key)).line(SKU, 1)
}
