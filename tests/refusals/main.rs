//! What a caller is refused, or receives only in part.
//!
//! Bad input and refusals each have a name, a value and a bound; they change nothing; and the request key
//! stays free, unless refusals are remembered. A key that has an order is always answered with that order.

mod handle;
mod held_keys;
mod input;
mod limits;
mod partial;
mod partial_races;
mod remembered;
mod remembered_model;
mod remembered_threads;
#[path = "../support/seeds.rs"]
mod seeds;
#[path = "../support/shop.rs"]
mod shop;
mod states;
mod unchanged;

use doorbuster::testing::ManualClock;
use doorbuster::{
    Adjust, Adjusted, Held, Options, Order, OrderId, Placed, RequestKey, SkuId, Stats, StockLevels,
};

use shop::{SKU, Shop};

const OTHER: SkuId = SkuId::new(2);
/// A SKU that is known, and always sold out.
const EMPTY: SkuId = SkuId::new(3);
/// A SKU that is never made known.
const UNKNOWN: SkuId = SkuId::new(99);

fn plain(options: Options) -> Options {
    options
}

const SMALL_SEGMENT_BYTES: u64 = 32 << 10;

/// The smallest blocks and segments that can be set: for orders of one line, without payload.
fn small(options: Options) -> Options {
    options
        .lines_max(1)
        .payload_bytes_max(0)
        .block_bytes_max(16 << 10)
        .segment_bytes(SMALL_SEGMENT_BYTES)
}

impl Shop {
    /// Opens a shop with 100 units of [`SKU`] and of [`OTHER`], and none of [`EMPTY`].
    fn new(adapt: impl Fn(Options) -> Options + 'static) -> Self {
        let mut shop = Self::open(ManualClock::default(), adapt);
        shop.restock(SKU, 100);
        shop.restock(OTHER, 100);
        shop.settle(|it| it.stock(EMPTY, Adjust::set(0).expect(0).key(0)).expect("accepted"));
        shop
    }

    /// Adds units under a key that must be new.
    fn add(&mut self, sku: SkuId, units: u32, key: u128) {
        let added = self.settle(|it| it.stock(sku, Adjust::add(units).key(key)).expect("accepted"));
        assert!(matches!(added, Adjusted::Done { replayed: false, .. }));
    }

    /// Places an order that must be held for the first time.
    fn hold(&mut self, order: &Order) -> Held {
        let placed = self.settle(|it| it.place(order).expect("an answer"));
        let held = *placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"));
        assert!(!held.replayed, "its key was free");
        held
    }

    /// Kills the process and opens the folder again with other options.
    fn kill_and_adapt(&mut self, adapt: impl Fn(Options) -> Options + 'static) {
        self.adapt = Box::new(adapt);
        self.kill();
    }

    /// Returns what a refusal must leave as it is.
    fn seen(&self) -> (Vec<Option<StockLevels>>, Stats) {
        let skus = [SKU, OTHER, EMPTY, UNKNOWN];
        (skus.iter().map(|sku| self.engine.levels(*sku)).collect(), self.engine.stats())
    }

    fn available(&self, sku: SkuId) -> i64 {
        self.levels(sku).available
    }
}

fn order(buyer: u64, key: u128) -> Order {
    Order::new(buyer, RequestKey::new(key)).line(SKU, 1)
}

/// Returns the order that was there already, if the answer is one.
fn replayed(placed: &Placed) -> Option<OrderId> {
    placed.held().filter(|held| held.replayed).map(|held| held.order)
}
