//! The engine of the drop, its rules, and its clock.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbuster::testing::{ManualClock, SteppedEngine};
use doorbuster::{
    Adjust, Engine, MerchantId, MerchantRules, Options, RequestKey, SaleRules, SkuId, Switch,
};

use crate::Failure;
use crate::args::Args;

/// What everyone came for.
pub(crate) const DROP: SkuId = SkuId::new(1);
/// What another merchant sells beside it.
pub(crate) const KNOCK_OFF: SkuId = SkuId::new(2);
const HOUSE: MerchantId = MerchantId::new(1);
pub(crate) const ROGUE: MerchantId = MerchantId::new(2);

/// Tiers: gold, silver, and everyone else.
pub(crate) const GOLD: u8 = 0;
pub(crate) const SILVER: u8 = 1;
pub(crate) const OTHERS: u8 = 2;

pub(crate) const TICK_MS: u64 = 100;
/// Buyers begin to come 20 seconds before the opening.
pub(crate) const OPENING_TICK: u64 = 200;
pub(crate) const RESTOCK_TICK: u64 = OPENING_TICK + 400;
pub(crate) const DELIST_TICK: u64 = OPENING_TICK + 100;
pub(crate) const CLOSING_TICK: u64 = OPENING_TICK + 1_000;
/// When every hold and all patience is over.
pub(crate) const LAST_TICK: u64 = CLOSING_TICK + 300;

const GOLD_EARLY: Duration = Duration::from_secs(10);
const SILVER_EARLY: Duration = Duration::from_secs(5);
/// How long a buyer has for the payment.
pub(crate) const HOLD: Duration = Duration::from_secs(20);
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const BUYER_LIMIT: u32 = 2;
/// The rogue's orders: what a platform grants a new merchant.
const ROGUE_ORDERS_PER_S: u32 = 50;

/// The clock of the drop.
enum Time {
    Simulated { clock: Arc<ManualClock>, engine: Box<SteppedEngine> },
    Real { began: Instant },
}

/// See the module.
pub(crate) struct Stage {
    pub(crate) engine: Engine,
    time: Time,
    stock: u32,
    /// When the first tick was, in engine time.
    began_ms: u64,
}

impl Stage {
    pub(crate) fn set(args: &Args, folder: &Path) -> Result<Self, Failure> {
        // No checkpoint comes by itself: the whole log is kept, for the proof.
        let options = Options::new(folder).segment_bytes(4 << 20).checkpoint_bytes(1 << 50);
        let (engine, time) = if args.real_time {
            (Engine::open(options)?, Time::Real { began: Instant::now() })
        } else {
            let clock = Arc::new(ManualClock::default());
            let engine = Box::new(SteppedEngine::open(options.clock(clock.clone()))?);
            (engine.engine().clone(), Time::Simulated { clock, engine })
        };
        let began_ms = engine.now_ms();
        let mut stage = Self { engine, time, stock: args.stock, began_ms };
        stage.rule()?;
        Ok(stage)
    }

    /// Stock, rules and merchants, all durable before anyone comes.
    fn rule(&mut self) -> Result<(), Failure> {
        let opens_at_ms = self.began_ms + OPENING_TICK * TICK_MS;
        let closes_at_ms = self.began_ms + CLOSING_TICK * TICK_MS;
        let rules = SaleRules::new()
            .opens_at_ms(opens_at_ms)
            .closes_at_ms(closes_at_ms)
            .early_access(GOLD, GOLD_EARLY)
            .early_access(SILVER, SILVER_EARLY)
            .hold_for(HOLD);
        let drop = rules.clone().buyer_limit(BUYER_LIMIT).waiting_max(1 << 20).merchant(HOUSE);
        let rogue = MerchantRules::new().rate(ROGUE_ORDERS_PER_S, ROGUE_ORDERS_PER_S);
        let stock = Adjust::add(self.stock).key(RequestKey::from_text("first delivery"));
        let other = Adjust::add(self.stock).key(RequestKey::from_text("first delivery"));
        let deliveries = [self.engine.stock(DROP, stock)?, self.engine.stock(KNOCK_OFF, other)?];
        self.settle();
        for delivery in deliveries {
            delivery.wait()?;
        }
        let ruled = [
            self.engine.merchant(ROGUE, rogue)?,
            self.engine.rules(DROP, drop)?,
            self.engine.rules(KNOCK_OFF, rules.merchant(ROGUE))?,
        ];
        self.settle();
        for rules in ruled {
            rules.wait()?;
        }
        Ok(())
    }

    /// A fifth of the first delivery comes.
    pub(crate) fn restock(&mut self) -> Result<String, Failure> {
        let units = (self.stock / 5).max(1);
        let delivery = Adjust::add(units).key(RequestKey::from_text("second delivery"));
        let commit = self.engine.stock(DROP, delivery)?;
        self.settle();
        commit.wait()?;
        Ok(format!("a second delivery: {units} units, for the orders in line"))
    }

    /// The platform delists the other merchant: one call, in force for every request after it.
    pub(crate) fn delist(&mut self) -> Result<String, Failure> {
        let rules = MerchantRules::new().switch(Switch::NoNewHolds);
        let commit = self.engine.merchant(ROGUE, rules)?;
        self.settle();
        commit.wait()?;
        Ok("the other merchant is delisted; what was held of him goes on".into())
    }

    /// Lets the engine do what there is to do; one with threads does it by itself.
    pub(crate) fn settle(&mut self) {
        if let Time::Simulated { engine, .. } = &mut self.time {
            engine.run_until_idle();
        }
    }

    /// The end of a tick.
    pub(crate) fn pass(&mut self, tick: u64) -> Result<(), Failure> {
        self.settle();
        match &mut self.time {
            Time::Simulated { clock, engine } => {
                clock.advance(Duration::from_millis(TICK_MS));
                engine.run_until_idle();
            }
            Time::Real { began } => {
                let next = *began + Duration::from_millis((tick + 1) * TICK_MS);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        }
        Ok(())
    }

    /// Ends the engine; its folder is closed cleanly.
    pub(crate) fn close(self) -> Result<(), Failure> {
        match self.time {
            Time::Simulated { engine, .. } => {
                drop(self.engine);
                engine.close()?;
            }
            Time::Real { .. } => self.engine.close()?,
        }
        Ok(())
    }
}
