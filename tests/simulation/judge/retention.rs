//! How long orders, keys and the log are kept, and what counts towards a limit once they are not.
//!
//! Orders leave memory in the timekeeper's rounds alone, so the judge looks after each of them and knows exactly
//! which are gone. No caller knows when that is durable: after a crash they may be back.

use doorbuster::clock::Clock;
use doorbuster::testing::SteppedEngine;
use doorbuster::{OrderError, OrderId, OrderState};

use super::endings::check_content;
use super::orders::{Asked, Known, partition_of};
use super::{Broken, Checked, Judge, hold_to};
use crate::plan::Shape;

/// Whether what buyers have of a SKU is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Counting {
    #[default]
    No,
    /// In some partitions, perhaps.
    Unsure,
    Yes,
}

/// The sale in which an order was placed has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A crash may have erased that, in some partitions.
    Perhaps,
    /// It is not known to be durable: a crash may yet erase it.
    InFlight,
    /// An earlier end is `Perhaps`, and another is `InFlight`.
    PerhapsInFlight,
    /// It became durable in this life, which damage may undo.
    Durable,
    Surely,
}

impl Shape {
    /// How long an order in this state is kept.
    fn kept_ms(&self, state: OrderState) -> Option<u64> {
        match state {
            OrderState::Confirmed => self.finish_on_confirm.then_some(self.retention_ms),
            OrderState::Fulfilled => Some(self.returns_window_ms),
            OrderState::Cancelled | OrderState::Expired => Some(self.retention_ms),
            _ => None,
        }
    }
}

impl Judge {
    /// When an order that is in memory may leave it.
    fn leaves_ms(&self, known: &Known) -> Option<u64> {
        let kept_ms = self.shape.kept_ms(known.state()).filter(|_| !known.is_retired())?;
        Some(known.last_told().at_ms + kept_ms)
    }

    /// By when an order must have left it: one that finished in an earlier life may be queued behind those
    /// that finished later, since a checkpoint holds orders of different moments.
    fn left_ms(&self, known: &Known) -> Option<u64> {
        let leaves_ms = self.leaves_ms(known)?;
        let finished_ms = known.last_told().at_ms;
        Some(leaves_ms + self.time.opened_ms.saturating_sub(finished_ms))
    }

    /// When the last of those that are finished must have left memory.
    pub(crate) fn last_left_ms(&self) -> Option<u64> {
        self.orders.iter().filter_map(|(_, known)| self.left_ms(known)).max()
    }

    /// Looks which orders have left memory in the timekeeper's round. None leaves early, and if the round said that
    /// there is no `more` to do and nothing kept it from that, none stays.
    pub(crate) fn settle_retired(&mut self, engine: &SteppedEngine, more: bool) -> Checked {
        let now_ms = engine.now_ms();
        let due = |known: &Known| self.leaves_ms(known).is_some_and(|at_ms| at_ms <= now_ms);
        let due: Vec<OrderId> =
            self.orders.iter().filter(|(_, known)| due(known)).map(|(id, _)| id).collect();
        for order in due {
            let Some(known) = self.orders.get(order) else { continue };
            match engine.order(order) {
                Err(OrderError::Retired { .. }) => {
                    let skus = known.lines.keys();
                    let counted = skus.map(|sku| (*sku, self.counting(*sku))).collect();
                    self.orders.retired(order, counted);
                    self.tally.met("retired");
                }
                Ok(viewed) => {
                    check_content("past its retention", known, viewed.view())?;
                    let is_long = known.asked.lines.len() > self.shape.lines_max;
                    let may_stay = more
                        || self.left_ms(known).is_some_and(|left_ms| now_ms < left_ms)
                        || is_long
                        || self.troubles.failed
                        || self.troubles.short
                        || self.checkpoints.is_on_its_way()
                        || engine.stats().backlog_bytes > 0;
                    hold_to!(may_stay, "at {now_ms} {order} is still there: {known:?}");
                }
                Err(error) => return Err(Broken(format!("{order}, past its retention: {error}"))),
            }
        }
        let is_kept = more || self.troubles.failed || self.checkpoints.is_on_its_way();
        self.check_remembered_count(engine, !is_kept)
    }

    /// What a verb or read says of an order that has left memory.
    pub(super) fn check_retired(&self, what: &str, known: Option<&Known>) -> Checked {
        hold_to!(
            known.is_some_and(Known::is_retired),
            "{what}: it has left memory, but nobody saw it leave: {known:?}"
        );
        self.tally.met("asked for a retired order");
        Ok(())
    }

    /// From which time on a dated key is taken; one of these.
    pub(super) fn oldest_keys_ms(&self, asked: &Asked, now_ms: u64) -> Vec<u64> {
        let kept_from_ms = (now_ms + 1).saturating_sub(self.shape.retention_ms);
        let partition = self.orders.partition_of_buyer(asked.buyer);
        let mut partitions: Vec<u64> = match partition {
            Some(partition) => vec![partition],
            None => (0..self.shape.partitions as u64).collect(),
        };
        let retired_to_ms = |partition: u64| {
            let retired = self
                .orders
                .iter()
                .filter(|(order, known)| known.is_retired() && partition_of(*order) == partition);
            retired.map(|(_, known)| known.last_told().at_ms + 1).max().unwrap_or(0)
        };
        partitions.iter_mut().for_each(|it| *it = kept_from_ms.max(retired_to_ms(*it)));
        partitions
    }

    /// Up to which time a dated key is taken: engine time may be behind the wall clock.
    pub(super) fn newest_key_ms(&self, now_ms: u64) -> u64 {
        now_ms.max(self.clock.wall_ms()) + self.shape.key_ahead_ms
    }

    /// A segment gets another name, and what was in it is gone: no checkpoint needs it, and it is as old as the
    /// log is kept, but where the disk has no room.
    pub(crate) fn recycled(&mut self, path: &str, now_ms: Option<u64>) -> Checked {
        self.tally.met("segment recycled");
        let kept_ms = self.shape.log_retention_ms.filter(|_| !self.troubles.short);
        let ended_ms = self.blocks.ended_ms(path);
        if let (Some(kept_ms), Some(ended_ms), Some(now_ms)) = (kept_ms, ended_ms, now_ms) {
            hold_to!(
                ended_ms + kept_ms <= now_ms,
                "{path} is recycled at {now_ms}; it ended at {ended_ms}, and is kept for {kept_ms} ms"
            );
            self.tally.met("segment recycled after it was kept");
        }
        self.blocks.recycled(path);
        self.checkpoints.recycled()
    }

    pub(super) fn counting(&self, sku: u64) -> Counting {
        self.skus.get(sku).map_or(Counting::No, |sku| sku.counting)
    }

    /// Ends a sale. Its buyers are counted until that is durable.
    pub(super) fn sale_ended(&mut self, sku: u64) {
        self.end_is_durable(sku);
        for (_, known) in self.orders.iter_mut() {
            if known.lines.contains_key(&sku) {
                let ended = known.ended.entry(sku).or_insert(Ended::InFlight);
                if *ended == Ended::Perhaps {
                    *ended = Ended::PerhapsInFlight;
                }
            }
        }
        self.skus.get_mut(sku).is_ending = true;
    }

    /// The end of the sale, if one is on its way, is durable: of what was ordered before nothing counts.
    pub(super) fn end_is_durable(&mut self, sku: u64) {
        if !std::mem::take(&mut self.skus.get_mut(sku).is_ending) {
            return;
        }
        for (_, known) in self.orders.iter_mut() {
            let in_flight =
                |it: &&mut Ended| matches!(it, Ended::InFlight | Ended::PerhapsInFlight);
            if let Some(ended) = known.ended.get_mut(&sku).filter(in_flight) {
                *ended = Ended::Durable;
            }
        }
        self.skus.get_mut(sku).counting = Counting::No;
    }

    /// After a crash: a sale's end that is not certain may have been erased.
    pub(super) fn reopen_sales(&mut self) {
        for (_, known) in self.orders.iter_mut() {
            for (sku, ended) in &mut known.ended {
                let is_certain = self.skus.get(*sku).is_none_or(|sku| sku.ends_are_certain);
                if !matches!(*ended, Ended::Perhaps | Ended::Surely) {
                    *ended = if is_certain { Ended::Surely } else { Ended::Perhaps };
                }
            }
        }
    }
}
