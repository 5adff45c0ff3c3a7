//! The judge: a plain model of what each verb may answer, fed with what was asked and what was
//! acknowledged. It shares no code with the engine and sees only what a host sees, but for the writes of
//! blocks, which the simulated disk tells ([`blocks`]).
//!
//! In one thread the engine's answers follow exactly from what was asked before and from what is durable,
//! so the judge demands the exact figures, not a range; but for what counts towards a limit when a crash
//! came between the records that begin or end the counting ([`retention`]).
//!
//! Two things it must know, or it would be wrong. "Sold out" and "limit reached" are judged as of the moment of the
//! answer, never afterwards: they may rest on holds that a crash then erases. And if the medium damages acknowledged
//! tail blocks that no later intact block, neighbour or manifest names, no reader can miss them: [`blocks`] knows
//! these, and only what was in them may be gone.

mod batches;
mod blocks;
mod checkpoints;
mod endings;
mod orders;
mod partial;
mod placing;
mod probe;
mod promises;
mod refusals;
mod reopening;
mod retention;
mod ruled;
mod sale;
mod stock;
mod stocking;
mod switches;
mod time;
mod waiting;
mod watching;

use std::collections::BTreeSet;
use std::sync::Arc;

use doorbuster::testing::{ManualClock, SteppedEngine};
use doorbuster::{Capacity, OrderId, Unavailable};

pub(crate) use blocks::Damage;
pub(crate) use checkpoints::list as list_checkpoints;
pub(crate) use endings::Verb;
pub(crate) use orders::{Asked, Filling, Policy};
pub(crate) use sale::Ruling;
pub(crate) use stock::{Adjusting, Kind};
pub(crate) use switches::{Rate, Throttle};

use crate::plan::Shape;
use crate::tally::Tally;
use blocks::Blocks;
use checkpoints::Checkpoints;
use orders::Orders;
use promises::Promise;
use refusals::Refusals;
use stock::Skus;
use switches::Switches;
use time::EngineTime;
use watching::Watching;

/// A promise that was broken, in words.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

pub(crate) type Checked<T = ()> = Result<T, Broken>;

/// Fails with these words unless the condition holds.
macro_rules! hold_to {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::judge::Broken(format!($($words)+)));
        }
    };
}
pub(crate) use hold_to;

/// Where something is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The manifest names it.
    Manifest,
    Block {
        shard: usize,
        block: usize,
    },
    /// In some block.
    Somewhere,
}

/// What a resolved commit makes certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// An order, and what became of it up to that moment.
    Order { order: OrderId, moment: usize },
    /// An adjustment of a SKU, by its place.
    Change { sku: u64, nth: usize },
    /// A rule of a SKU, by its place.
    Rule { sku: u64, nth: usize },
    /// A switch of the whole engine, by its place.
    Switch { nth: usize },
    /// A rule of a merchant, by its place.
    Merchant { merchant: u64, nth: usize },
    /// A refusal that is remembered, by its place.
    Refusal { partition: u64, nth: usize },
}

/// What is going on that lets the engine refuse to answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Troubles {
    /// A call to the storage failed in this life.
    pub(crate) failed: bool,
    /// A step said that the log is latched.
    pub(crate) latched: bool,
    /// The disk was short of room since segments were last seen to.
    pub(crate) short: bool,
}

pub(crate) struct Judge {
    pub(crate) shape: Shape,
    pub(crate) troubles: Troubles,
    clock: Arc<ManualClock>,
    pub(crate) tally: Tally,
    orders: Orders,
    skus: Skus,
    switches: Switches,
    refusals: Refusals,
    promises: Vec<Promise>,
    watches: Vec<Watching>,
    pub(crate) blocks: Blocks,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) time: EngineTime,
    /// Every order id ever told to anyone.
    given: BTreeSet<OrderId>,
}

impl Judge {
    pub(crate) fn new(shape: &Shape, clock: &Arc<ManualClock>, tally: &Tally) -> Self {
        Self {
            shape: shape.clone(),
            troubles: Troubles::default(),
            clock: clock.clone(),
            tally: tally.clone(),
            orders: Orders::default(),
            skus: Skus::default(),
            switches: Switches::default(),
            refusals: Refusals::default(),
            promises: Vec::new(),
            watches: Vec::new(),
            blocks: Blocks::new(shape.shards),
            checkpoints: Checkpoints::default(),
            time: EngineTime::default(),
            given: BTreeSet::new(),
        }
    }

    /// Orders that the host knows of, for the workload to pick from.
    pub(crate) fn known_orders(&self) -> Vec<OrderId> {
        self.orders.ids().collect()
    }

    /// Orders that a crash erased before anyone was told for certain.
    pub(crate) fn lost_orders(&self) -> Vec<OrderId> {
        self.given.iter().copied().filter(|id| self.orders.get(*id).is_none()).collect()
    }

    /// Holds that are over and not known to have expired.
    pub(crate) fn due_orders(&self, now_ms: u64) -> Vec<OrderId> {
        self.orders.due(now_ms)
    }

    /// When holds end, those that are still to come first.
    pub(crate) fn deadlines(&self) -> Vec<u64> {
        self.orders.deadlines()
    }

    /// Whether the engine may say this instead of an answer.
    fn check_unavailable(
        &self,
        engine: &SteppedEngine,
        what: &str,
        unavailable: &Unavailable,
        ending: bool,
    ) -> Checked {
        match unavailable {
            Unavailable::Latched { .. } => {
                self.tally.met("refused: latched");
                hold_to!(self.troubles.failed, "{what}: latched, but no call has failed");
            }
            Unavailable::DiskFull { .. } => {
                self.tally.met("refused: disk full");
                hold_to!(self.troubles.short && !ending, "{what}: disk full, but it has room");
            }
            Unavailable::Backlogged { bytes, max } => {
                self.tally.met("refused: backlogged");
                let share = self.shape.backlog_bytes / self.shape.partitions as u64;
                let limit = if ending { share + share / 4 } else { share };
                let most = if ending { 32 } else { self.shape.record_bytes_max() };
                let waiting = engine.stats().backlog_bytes;
                hold_to!(
                    *max == limit && *bytes + most > limit && *bytes <= waiting,
                    "{what}: {bytes} of at most {max} bytes wait, bound {limit}, in all {waiting}"
                );
            }
            Unavailable::AtCapacity { what: capacity, bound } => {
                self.tally.met("refused: at capacity");
                let most = match capacity {
                    // The keeper was not stepped since the last of those that were reserved was near.
                    Capacity::OrderIds if self.shape.ids_reserved.is_some() => {
                        self.tally.met("refused: order ids used up");
                        usize::MAX
                    }
                    Capacity::Orders => self.orders.most_in_a_partition(),
                    // Those of sales that ended are cleared away little by little.
                    Capacity::BuyersTracked => {
                        self.tally.met("refused: too many buyers to count");
                        let ends = self.skus.iter().map(|(_, sku)| sku.ends).sum::<usize>();
                        self.orders.most_pairs() * (1 + ends) + self.shape.lines_max
                    }
                    _ => 0,
                };
                hold_to!(
                    most as u64 >= *bound && !ending,
                    "{what}: {capacity} bounded at {bound}, a partition has at most {most}"
                );
            }
            other => return Err(Broken(format!("{what}: {other}"))),
        }
        Ok(())
    }

    /// A latched log must not answer.
    fn check_not_latched(&self, what: &str) -> Checked {
        hold_to!(!self.troubles.latched, "{what}: answered although the log is latched");
        Ok(())
    }
}
