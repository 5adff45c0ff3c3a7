//! Refusals that are remembered: one key, one outcome, for refused requests too.
//!
//! A partition remembers the last ones that it logged, up to its bound, each until its time is over. Whether one is
//! there follows from how many were logged after it. After a crash, or under another bound, that may be open: such a
//! refusal is there or not, and the first answer that shows which counts.

use std::collections::BTreeMap;

use doorbuster::testing::SteppedEngine;
use doorbuster::{KeyReused, OrderId, Placed, Refusal, RefusedBefore, Unavailable};

use super::orders::Asked;
use super::reopening::Events;
use super::{At, Checked, Fact, Judge, hold_to};
use crate::plan::Remember;

#[derive(Clone, Debug)]
struct Entry {
    asked: Asked,
    hold_ms: u64,
    before: RefusedBefore,
    durable: Option<At>,
    /// What had happened to orders of the partition since the last open.
    events: usize,
    /// It is in the log, and has been in memory since it was.
    is_sure: bool,
    /// An answer has shown that it is not there.
    is_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    No,
    Perhaps,
    Surely,
}

/// Of one partition, as they were logged.
#[derive(Clone, Debug, Default)]
struct Log(Vec<Entry>);

impl Log {
    /// By entry whether it is there, where `count` are remembered.
    fn statuses(&self, bound: usize, now_ms: u64) -> Vec<Status> {
        let (mut surely, mut perhaps) = (0, 0);
        let newest_first = self.0.iter().rev().map(|entry| {
            let status = match entry {
                _ if surely >= bound || entry.is_gone => Status::No,
                _ if entry.before.until_ms <= now_ms => Status::No,
                _ if entry.is_sure && surely + perhaps < bound => Status::Surely,
                _ => Status::Perhaps,
            };
            // One whose time is over takes a place until all before it are forgotten.
            match entry.is_gone {
                true => {}
                false if entry.is_sure => surely += 1,
                false => perhaps += 1,
            }
            status
        });
        let mut statuses: Vec<_> = newest_first.collect();
        statuses.reverse();
        statuses
    }

    /// What a crash has left, and what of it is remembered: all that was logged survives up to some point.
    fn reopen(
        &mut self,
        (bound, latest_ms): (usize, u64),
        (lost_from, there_up_to): (Option<usize>, Option<usize>),
        is_certain: impl Fn(At) -> bool,
    ) {
        let was_there = self.statuses(bound, latest_ms);
        for (entry, status) in self.0.iter_mut().zip(was_there) {
            let is_certain = entry.durable.is_some_and(&is_certain)
                || there_up_to.is_some_and(|last| last >= entry.events);
            entry.durable = is_certain.then_some(At::Manifest);
            entry.is_sure = is_certain && status == Status::Surely;
            // It may come back under a larger bound.
            entry.is_gone = lost_from.is_some_and(|first| first < entry.events) && !is_certain;
            entry.events = 0;
        }
        self.0.retain(|entry| !entry.is_gone);
    }
}

#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// By partition.
    logs: BTreeMap<u64, Log>,
    /// How many a partition remembers, in this life.
    bound: usize,
}

impl Refusals {
    pub(super) fn note_durable(&mut self, partition: u64, nth: usize, at: At) {
        // A lane is a sequence.
        let entries = self.logs.get_mut(&partition).into_iter().flat_map(|log| &mut log.0);
        for entry in entries.take(nth + 1) {
            entry.durable.get_or_insert(at);
        }
    }

    pub(super) fn are_durable(&self) -> bool {
        let entries = self.logs.values().flat_map(|log| &log.0);
        entries.filter(|entry| entry.is_sure).all(|entry| entry.durable.is_some())
    }
}

impl Remember {
    /// A partition's share: of several a quarter more, since buyers spread unevenly.
    fn bound(self, partitions: usize) -> usize {
        let share = self.count_max.div_ceil(partitions as u64);
        let more = if partitions == 1 { 0 } else { share.div_ceil(4) };
        (share + more) as usize
    }
}

/// Whether it is an outcome, rather than a word on when the same request may come again.
fn is_outcome(refusal: &Refusal) -> bool {
    use Refusal::{KeyTooOld, NotOpen, RateLimited};
    !matches!(refusal, NotOpen { .. } | RateLimited { .. } | KeyTooOld { .. })
}

impl Judge {
    /// What a request receives whose key was refused, the newest refusal first; the last for certain if it is said to
    /// be.
    fn remembered(&self, asked: &Asked, now_ms: u64) -> (Vec<(usize, Placed)>, bool) {
        let mut heard = Vec::new();
        let Some(log) = self.refusals.logs.get(&self.home_of(asked.buyer)) else {
            return (heard, false);
        };
        let statuses = log.statuses(self.refusals.bound, now_ms);
        for (nth, entry) in log.0.iter().enumerate().rev() {
            if statuses[nth] == Status::No || !entry.asked.has_key_of(asked) {
                continue;
            }
            let placed = match self.differing_field(&entry.asked, entry.hold_ms, asked) {
                None => Placed::RefusedBefore(entry.before),
                Some(field) => Placed::KeyReused(KeyReused { order: None, field }),
            };
            heard.push((nth, placed));
            if statuses[nth] == Status::Surely {
                return (heard, true);
            }
        }
        (heard, false)
    }

    /// Checks an answer to a key without an order, as far as it rests on a refusal of that key; returns what it makes
    /// certain. `None`: it does not.
    pub(super) fn check_remembered(
        &mut self,
        what: &str,
        asked: &Asked,
        placed: &Placed,
        now_ms: u64,
    ) -> Checked<Option<Fact>> {
        let (heard, is_sure) = self.remembered(asked, now_ms);
        let partition = self.home_of(asked.buyer);
        let is_told = |(_, expected): &(usize, Placed)| expected == placed;
        let (first, last) = (heard.iter().position(is_told), heard.iter().rposition(is_told));
        hold_to!(
            first.is_some() || !is_sure,
            "{what}: {placed:?}, but its key was refused: {heard:?}"
        );
        let log = self.refusals.logs.entry(partition).or_default();
        for (nth, _) in &heard[..first.unwrap_or(heard.len())] {
            log.0[*nth].is_gone = true;
        }
        let Some(last) = last else {
            let mut of_key = log.0.iter().filter(|entry| entry.asked.has_key_of(asked));
            if let Some(newest) = of_key.next_back() {
                self.tally.met(match newest.before.until_ms <= now_ms {
                    true => "new again when its refusal was over",
                    false => "new again when its refusal was forgotten",
                });
            }
            return Ok(None);
        };
        let nth = heard[last].0;
        let entry = &mut log.0[nth];
        if !entry.is_sure && first == Some(last) {
            // It was read from the log.
            (entry.is_sure, entry.durable) = (true, Some(At::Manifest));
        }
        self.tally.met(match placed {
            Placed::RefusedBefore(_) => "refused before",
            _ => "key reused, of a refusal",
        });
        Ok(Some(Fact::Refusal { partition, nth }))
    }

    /// A request was refused for the first time.
    pub(super) fn note_refused(
        &mut self,
        asked: &Asked,
        refusal: Refusal,
        now_ms: u64,
    ) -> Option<Fact> {
        let Remember { ms, .. } = self.shape.remember.filter(|_| is_outcome(&refusal))?;
        let partition = self.home_of(asked.buyer);
        let entry = Entry {
            asked: asked.clone(),
            hold_ms: asked.hold_ms.unwrap_or(self.shape.hold_default_ms),
            before: RefusedBefore { refusal, until_ms: now_ms + ms },
            durable: None,
            events: self.orders.events_of(partition),
            is_sure: true,
            is_gone: false,
        };
        let log = self.refusals.logs.entry(partition).or_default();
        log.0.push(entry);
        self.tally.met("refusal remembered");
        let is_kept = |entry: &&Entry| !entry.is_gone && entry.before.until_ms > now_ms;
        if log.0.iter().filter(is_kept).count() > self.refusals.bound {
            self.tally.met("refusal forgotten for another");
        }
        Some(Fact::Refusal { partition, nth: log.0.len() - 1 })
    }

    /// When refusals are over, within a day; of many the last ones.
    pub(crate) fn ends_of_refusals(&self, now_ms: u64) -> Vec<u64> {
        let last = self.refusals.logs.values().flat_map(|log| log.0.iter().rev().take(4));
        let ends = last.map(|entry| entry.before.until_ms);
        ends.filter(|until_ms| *until_ms < now_ms + 86_400_000).collect()
    }

    /// Nothing but a latched log keeps the engine from telling a key what it was refused.
    pub(super) fn check_refused_answered(
        &self,
        what: &str,
        asked: &Asked,
        unavailable: &Unavailable,
        now_ms: u64,
    ) -> Checked {
        let (heard, is_sure) = self.remembered(asked, now_ms);
        let is_latched = matches!(unavailable, Unavailable::Latched { .. });
        hold_to!(
            is_latched || !is_sure,
            "{what}: {unavailable}, but its key was refused: {heard:?}"
        );
        Ok(())
    }

    /// After a reopen; `events` happened to orders since the one before, up to `latest_ms`, and these are there.
    pub(super) fn reopen_refusals(
        &mut self,
        (events, survived): (&Events, &BTreeMap<OrderId, usize>),
        latest_ms: u64,
        is_certain: impl Fn(At) -> bool,
    ) {
        let bound = (self.refusals.bound, latest_ms);
        for (partition, log) in &mut self.refusals.logs {
            let events = events.get(partition).map_or(&[][..], Vec::as_slice);
            let is_there = |(order, moment): &(OrderId, usize)| {
                survived.get(order).is_some_and(|last| last >= moment)
            };
            let lost_from = events.iter().position(|event| !is_there(event));
            let there_up_to = events.iter().rposition(is_there);
            log.reopen(bound, (lost_from, there_up_to), &is_certain);
        }
        let remember = self.shape.remember;
        self.refusals.bound = remember.map_or(0, |it| it.bound(self.shape.partitions));
    }

    /// Every key whose refusal must be remembered is answered with it.
    pub(super) fn check_refused_keys(&self, engine: &SteppedEngine) -> Checked {
        let now_ms = engine.now_ms();
        for log in self.refusals.logs.values() {
            for entry in &log.0 {
                let (heard, is_sure) = self.remembered(&entry.asked, now_ms);
                if !is_sure || heard.len() > 1 || self.orders.of_key(&entry.asked).is_some() {
                    continue;
                }
                let expected = &heard[0].1;
                match engine.place(entry.asked.order()) {
                    Ok(commit) => hold_to!(
                        commit.peek() == Some(expected) && commit.is_durable(),
                        "after a reopen {:?}: {commit:?}, but it was refused: {expected:?}",
                        entry.asked
                    ),
                    // Errors of the request itself come first.
                    Err(error) => {
                        let what = format!("after a reopen {:?}", entry.asked);
                        self.check_place_error(engine, &what, &entry.asked, false, &error)?;
                    }
                }
                self.tally.met("refused before a crash");
            }
        }
        Ok(())
    }

    /// As many are remembered as must be and may; when all that is over has been `forgotten`, none beyond
    /// that.
    pub(super) fn check_remembered_count(
        &self,
        engine: &SteppedEngine,
        are_forgotten: bool,
    ) -> Checked {
        let (now_ms, bound) = (engine.now_ms(), self.refusals.bound);
        let (mut least, mut most) = (0, 0);
        for log in self.refusals.logs.values() {
            let statuses = log.statuses(bound, now_ms);
            let surely = statuses.iter().filter(|status| **status == Status::Surely);
            least += surely.count();
            let first = statuses.iter().position(|status| *status != Status::No);
            let from = if are_forgotten { first.unwrap_or(statuses.len()) } else { 0 };
            most += (statuses.len() - from).min(bound);
        }
        let told = engine.stats().refusals_remembered as usize;
        hold_to!(
            (least..=most).contains(&told),
            "at {now_ms} {told} refusals are remembered, not {least} to {most}"
        );
        Ok(())
    }

    /// The partition of a buyer, which is fixed forever: MurmurHash3's finaliser of the two halves of the id, of
    /// which the second is 0 here, and of that the high bits.
    pub(super) fn home_of(&self, buyer: u64) -> u64 {
        let mix = |mut bits: u64| {
            bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            bits ^ (bits >> 33)
        };
        let partitions = self.shape.partitions as u128;
        ((u128::from(mix(buyer ^ mix(0))) * partitions) >> 64) as u64
    }
}
