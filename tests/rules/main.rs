//! The rules of a sale: openings, closings, early access, holds, safety stock, switches, merchants and
//! their rates.
//!
//! The tests show what each rule does; that the stricter of the old and the new one acts until a change is
//! durable; and that a restart keeps what was acknowledged.

mod durable;
mod fields;
mod halts;
mod in_flight;
mod input;
mod merchants;
mod model;
mod openings;
#[path = "../support/seeds.rs"]
mod seeds;
#[path = "../support/shop.rs"]
mod shop;
mod stock;
mod threads;

use std::time::Duration;

use doorbuster::testing::ManualClock;
use doorbuster::{
    Held, MerchantId, MerchantRules, Options, Order, Placed, Refusal, RequestKey, SaleRules, SkuId,
    Switch,
};

use shop::{SKU, Shop};

const OTHER: SkuId = SkuId::new(2);
/// The merchant of [`SKU`], in the tests that assign one.
const MERCHANT: MerchantId = MerchantId::new(70);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Shop {
    /// Opens a shop with 100 units of [`SKU`] and of [`OTHER`].
    fn new() -> Self {
        Self::with(|options| options)
    }

    fn with(adapt: impl Fn(Options) -> Options + 'static) -> Self {
        let mut shop = Self::open(ManualClock::default(), adapt);
        shop.restock(SKU, 100);
        shop.restock(OTHER, 100);
        shop
    }

    /// Kills the process and opens the folder again, from a checkpoint that holds all of it.
    fn kill_after_checkpoint(&mut self) {
        self.checkpoint();
        self.kill();
        assert!(self.engine.recovery().checkpoint.is_some());
    }

    fn now_ms(&self) -> u64 {
        self.engine.now_ms()
    }

    /// Moves the clock, and nothing else, to this moment of engine time.
    fn advance_to(&self, engine_ms: u64) {
        self.clock.advance(ms(engine_ms - self.now_ms()));
        assert_eq!(self.now_ms(), engine_ms);
    }

    /// Changes a SKU's rules; durable.
    fn rule(&mut self, sku: SkuId, rules: SaleRules) {
        self.settle(|engine| engine.rules(sku, rules).expect("accepted"));
    }

    /// Changes the merchant's rules; durable.
    fn rule_merchant(&mut self, rules: MerchantRules) {
        self.settle(|engine| engine.merchant(MERCHANT, rules).expect("accepted"));
    }

    /// Switches the engine; durable.
    fn switch(&mut self, to: Switch) {
        self.settle(|engine| engine.switch(to).expect("accepted"));
    }

    /// Makes an order of a new buyer with a new key.
    fn order(&mut self, lines: &[(SkuId, u32)]) -> Order {
        let nth = self.next_key();
        let order = Order::new(nth as u64, RequestKey::new(nth));
        lines.iter().fold(order, |order, (sku, units)| order.line(*sku, *units))
    }

    /// Returns the answer to a new order of these lines.
    fn place(&mut self, lines: &[(SkuId, u32)]) -> Placed {
        let order = self.order(lines);
        self.answer(&order)
    }

    fn answer(&self, order: &Order) -> Placed {
        self.engine.place(order).expect("an answer").peek().expect("an answer").clone()
    }

    /// Places an order of one unit, which must be held.
    fn hold(&mut self, sku: SkuId) -> Held {
        let placed = self.place(&[(sku, 1)]);
        *placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"))
    }

    /// Places an order of one unit, which must be refused, and returns why.
    fn refusal(&mut self, sku: SkuId) -> Refusal {
        match self.place(&[(sku, 1)]) {
            Placed::Refused(refusal) => refusal,
            other => panic!("refused, not {other:?}"),
        }
    }
}
