//! A plain order takes a path of its own. It must come to the same as the general one.
//!
//! One line of three units is a plain order. Three lines of one unit of the same SKU are the same order, and not plain.
//! So two shops receive the same requests, one as plain orders and the other as split ones, and every answer, every
//! dump, and what a restart finds in the log must be equal.

use std::time::Duration;

use doorbuster::testing::ManualClock;
use doorbuster::{Order, RequestKey, SaleRules, Switch};
use fastrand::Rng;

use crate::seeds::{Rerun, seeds, stream};
use crate::shop::{SKU, Shop};

const STEPS: u32 = 300;
const OTHER: u64 = 2;
/// The most units of a line, and so the most lines of a split order.
const UNITS_MAX: u32 = 4;

/// What an order asks for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    buyer: u64,
    key: u128,
    sku: u64,
    units: u32,
    hold_ms: Option<u64>,
}

impl Wish {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            buyer: rng.u64(1..=6),
            key: rng.u128(1..=12),
            // Sometimes one that is not known.
            sku: *rng.choice(&[1, 1, 1, OTHER, OTHER, 99]).unwrap_or(&1),
            units: rng.u32(2..=UNITS_MAX),
            // The default, what it is without being asked for, another, and more than there may be.
            hold_ms: *rng
                .choice(&[None, None, Some(1_000), Some(30), Some(5_001)])
                .unwrap_or(&None),
        }
    }

    fn order(&self) -> Order {
        let order = Order::new(self.buyer, RequestKey::new(self.key));
        self.hold_ms.iter().fold(order, |order, ms| order.hold_for(Duration::from_millis(*ms)))
    }

    fn plain(&self) -> Order {
        self.order().line(self.sku, self.units)
    }

    fn split(&self) -> Order {
        (0..self.units).fold(self.order(), |order, _| order.line(self.sku, 1))
    }
}

/// Two shops that receive the same requests.
struct Twins {
    shops: [Shop; 2],
}

impl Twins {
    fn open(rng: &mut Rng) -> Self {
        let orders_max = *rng.choice(&[8, 1_000]).unwrap_or(&8);
        let backlog_bytes = *rng.choice(&[2_624, 1 << 20]).unwrap_or(&2_624);
        let remembers = rng.u8(0..4) == 0;
        let adapt = move |options: doorbuster::Options| {
            let options = options
                .orders_max(orders_max)
                .lines_max(UNITS_MAX as usize)
                .payload_bytes_max(0)
                .log_backlog_bytes_max(backlog_bytes)
                .hold_default(Duration::from_secs(1))
                .hold_max(Duration::from_secs(5))
                .retention(Duration::from_millis(500));
            match remembers {
                true => options.remember_refusals(Duration::from_millis(200), 8),
                false => options,
            }
        };
        Self { shops: [(); 2].map(|()| Shop::open(ManualClock::default(), adapt)) }
    }

    /// Calls a verb on both; what it returns must be equal.
    fn both<T: std::fmt::Debug>(
        &mut self,
        verb: impl Fn(&mut Shop, fn(&Wish) -> Order) -> T,
    ) -> String {
        let [plain, split] = &mut self.shops;
        let [plain, split] = [verb(plain, Wish::plain), verb(split, Wish::split)]
            .map(|answer| format!("{answer:?}"));
        assert_eq!(plain, split, "the plain order and the split one");
        plain
    }

    fn step(&mut self, rng: &mut Rng) -> String {
        match rng.u8(0..100) {
            0..=44 => {
                let wish = Wish::draw(rng);
                self.both(|shop, made| shop.engine.place(made(&wish)))
            }
            45..=59 => {
                let wishes: Vec<_> = (0..rng.usize(1..20)).map(|_| Wish::draw(rng)).collect();
                self.both(|shop, made| {
                    let orders: Vec<_> = wishes.iter().map(made).collect();
                    shop.engine.place_batch(&orders)
                })
            }
            60..=69 => {
                let (sku, units, key) = (rng.u64(1..=2), rng.u32(1..12), rng.u128(..));
                let add = doorbuster::Adjust::add(units).key(key);
                self.both(|shop, _| shop.engine.stock(sku, add.clone()))
            }
            70..=76 => {
                let rules = match rng.u8(0..5) {
                    0 => SaleRules::new().buyer_limit(rng.u32(0..6)),
                    1 => SaleRules::new().switch(Switch::NoNewHolds),
                    2 => SaleRules::new().switch(Switch::Open),
                    3 => SaleRules::new().safety_stock(rng.u32(0..4)),
                    _ => SaleRules::new().hold_for(Duration::from_millis(rng.u64(1..50))),
                };
                self.both(|shop, _| shop.engine.rules(SKU, rules.clone()))
            }
            77..=79 => {
                let to = *rng
                    .choice(&[Switch::Open, Switch::Open, Switch::NoNewHolds])
                    .unwrap_or(&Switch::Open);
                self.both(|shop, _| shop.engine.switch(to))
            }
            80..=86 => {
                let by = Duration::from_millis(rng.u64(1..400));
                self.both(|shop, _| shop.clock.advance(by))
            }
            87..=89 => self.both(|shop, _| shop.kill()),
            _ => self.both(|shop, _| shop.engine.run_until_idle()),
        }
    }
}

#[test]
fn a_plain_order_comes_to_what_the_same_order_in_several_lines_comes_to() {
    for seed in seeds("PATHS_SEED", 30) {
        let _rerun = Rerun::new("PATHS_SEED", seed, "--test orders paths");
        let mut rng = stream(seed, 0);
        let mut twins = Twins::open(&mut rng);
        for _ in 0..STEPS {
            let answered = twins.step(&mut rng);
            if rng.u8(0..4) == 0 {
                let [plain, split] = twins.shops.each_ref().map(|shop| shop.engine.dump());
                assert_eq!(plain, split, "after {answered}");
            }
        }
        twins.both(|shop, _| {
            shop.engine.run_until_idle();
            shop.kill();
            shop.engine.dump()
        });
    }
}
