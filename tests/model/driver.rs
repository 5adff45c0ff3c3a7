//! Runs a case: each operation on the engine and on the model. After each operation it compares everything that can
//! be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use doorbuster::clock::Clock;
use doorbuster::testing::{Fault, ManualClock, MemoryStorage, Step, SteppedEngine};
use doorbuster::{Commit, OrderId, OrderState, Stats};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::life::{Consent, open};
use crate::ops::{Ending, Hands, Op, Request, SKUS, Setup};
use crate::oracle::{Adjusting, Lane, Oracle, Record, Rest};
use crate::promise::Promise;

pub(crate) type Checked = Result<(), TestCaseError>;

/// A shard that had nothing to write for this time witnesses its last block.
const WITNESS_AFTER_NS: u64 = 5_000_000;
/// Log records carry the low 32 bits of their time, and the block the rest: right for 24 days.
const UNWRITTEN_DAYS_MAX: u64 = 20;
const DAY_MS: u64 = 24 * 3_600_000;

pub(crate) struct Driver {
    pub(crate) oracle: Oracle,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) storage: MemoryStorage,
    /// `None` between two lives.
    pub(crate) engine: Option<SteppedEngine>,
    /// How often the folder was opened.
    pub(crate) lives: usize,
    /// Of this life.
    pub(crate) promises: Vec<Promise>,
    pub(crate) counts: Counts,
    /// By shard: since when its last block waits for a witness.
    pub(crate) unwitnessed_since_ns: Vec<Option<u64>>,
    pub(crate) armed: Option<Armed>,
    /// The latest engine time seen.
    pub(crate) told_ms: u64,
    /// How much time passed in this life.
    pub(crate) lived_ms: u64,
    /// How much time passed since something was last made durable.
    unwritten_ms: u64,
    /// Records that survived, without it being known in which lane.
    pub(crate) unplaced: usize,
    /// Whether everything that waited was made durable, including records that were never acknowledged.
    all_is_durable: bool,
    /// Requests as they were sent, for retries.
    pub(crate) sent: Vec<Request>,
    pub(crate) adjusted: Vec<Adjusting>,
}

/// Whether the machine will stop in a call that is still to come.
pub(crate) struct Armed {
    pub(crate) fired: Arc<AtomicBool>,
    pub(crate) ending: Ending,
}

/// What the engine has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) placed: u64,
    pub(crate) replayed: u64,
    pub(crate) keys_reused: u64,
    pub(crate) over_limit: u64,
    pub(crate) confirmed: u64,
    pub(crate) fulfilled: u64,
    pub(crate) cancelled: u64,
    pub(crate) expired: u64,
}

impl Driver {
    pub(crate) fn new(setup: &Setup) -> Result<Self, TestCaseError> {
        let clock = Arc::new(ManualClock::default());
        let storage = MemoryStorage::new().direct(setup.direct);
        let engine = open(setup, &storage, &clock, 0, Consent::default())
            .map_err(|error| TestCaseError::fail(format!("a new folder: {error}")))?;
        Ok(Self {
            oracle: Oracle::new(setup),
            told_ms: engine.now_ms(),
            lived_ms: 0,
            clock,
            storage,
            engine: Some(engine),
            lives: 1,
            promises: Vec::new(),
            counts: Counts::default(),
            unwitnessed_since_ns: vec![None; setup.shards],
            armed: None,
            unwritten_ms: 0,
            unplaced: 0,
            all_is_durable: false,
            sent: Vec::new(),
            adjusted: Vec::new(),
        })
    }

    pub(crate) fn run(&mut self, op: &Op) -> Checked {
        match op {
            Op::Place(request) => self.place(request)?,
            Op::PlaceAgain(pick) => {
                if let Some(request) = pick_from(&self.sent, *pick).cloned() {
                    self.place(&request)?;
                }
            }
            Op::Batch(requests) => self.place_batch(requests)?,
            Op::End(verb, pick) => self.end(*verb, self.pick_order(*pick))?,
            Op::View(pick) => self.view(self.pick_order(*pick))?,
            Op::Adjust { sku, key, change, reference_bytes } => {
                let asked = self.oracle.adjusting(*sku, *key, *change, *reference_bytes);
                self.adjust(asked)?;
            }
            Op::AdjustAgain(pick) => {
                if let Some(asked) = pick_from(&self.adjusted, *pick).cloned() {
                    self.adjust(asked)?;
                }
            }
            Op::Limit { sku, units } => self.limit(*sku, *units)?,
            Op::Pass { ms, hands } => self.pass(*ms, *hands)?,
            Op::Writer(shard) => self.step_writer(shard % self.oracle.setup.shards)?,
            Op::Timekeeper => self.step_timekeeper()?,
            Op::Segments => self.engine_mut().step_segments(),
            Op::Idle => self.idle()?,
            Op::Reopen(ending) => return self.reopen(*ending),
            Op::StopIn { calls, ending } => {
                let fired = stop_in(&self.storage, *calls);
                self.armed = Some(Armed { fired, ending: *ending });
            }
            Op::StopInOpen { ending, calls, then } => {
                return self.reopen_with_a_stop(*ending, *calls, *then);
            }
        }
        if self.has_stopped() {
            return self.reopen_after_a_stop();
        }
        self.check_reads()
    }

    pub(crate) fn engine(&self) -> &SteppedEngine {
        self.engine.as_ref().expect("an operation begins and ends with an engine")
    }

    fn engine_mut(&mut self) -> &mut SteppedEngine {
        self.engine.as_mut().expect("an operation begins and ends with an engine")
    }

    /// Ends the case: everything is durable, every key is answered with its first order, and a last reopening
    /// changes nothing.
    pub(crate) fn finish(&mut self) -> Checked {
        self.storage.set_fault_hook(None);
        self.armed = None;
        self.idle()?;
        let placings: Vec<_> = self.oracle.orders.values().cloned().collect();
        for placing in placings {
            self.place(&Request {
                buyer: placing.buyer,
                key: placing.key,
                lines: placing.wanted().into_iter().collect(),
                hold_us: Some(u64::from(placing.hold_ms) * 1_000),
                payload_bytes: placing.payload_bytes,
                policy: placing.policy,
                class: 7,
            })?;
        }
        self.check_reads()?;
        self.reopen(Ending::Close)
    }

    /// Whether the machine will stop in a call that is still to come.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Whether the simulated machine stopped in a call of this life.
    pub(crate) fn has_stopped(&self) -> bool {
        self.armed.as_ref().is_some_and(|armed| armed.fired.load(Ordering::Relaxed))
    }

    /// Returns one of the ids that were ever given out. One in eight was never given out.
    fn pick_order(&self, pick: u16) -> OrderId {
        let ids = &self.oracle.ids_given;
        match pick_from(ids, pick / 8) {
            Some(id) if !pick.is_multiple_of(8) => OrderId::from_u64(*id),
            // The next sequence of some partition, or a partition that is not there.
            Some(id) if pick.is_multiple_of(16) => OrderId::from_u64(id + (1 << 10)),
            _ => OrderId::from_u64(u64::from(pick)),
        }
    }

    /// Keeps a commit, which must rest on exactly these records.
    pub(crate) fn promise<T: std::fmt::Debug + PartialEq + 'static>(
        &mut self,
        commit: Commit<T>,
        expected: T,
        rests: Vec<Rest>,
    ) -> Result<usize, TestCaseError> {
        let durable = rests.iter().all(|rest| self.oracle.is_durable(*rest));
        let mut promise = Promise::new(commit, expected, rests)?;
        promise.check(durable)?;
        self.promises.push(promise);
        Ok(self.promises.len() - 1)
    }

    /// Notes the promise by which a record's durability is known.
    pub(crate) fn set_probe(&mut self, (lane, name): Rest, probe: usize) {
        let records = &mut self.oracle.log_mut(lane).records;
        if let Some(logged) = records.iter_mut().find(|logged| logged.name == name) {
            logged.probe = probe;
        }
    }

    fn pass(&mut self, ms: u64, hands: Hands) -> Checked {
        let by = Duration::from_millis(ms);
        let wall_ms = self.clock.wall_ms();
        if matches!(hands, Hands::Both | Hands::BootOnly) {
            self.lived_ms += ms;
            self.unwritten_ms += ms;
            if self.unwritten_ms > UNWRITTEN_DAYS_MAX * DAY_MS {
                self.idle()?;
                self.unwritten_ms = ms;
            }
            if self.has_stopped() {
                return Ok(());
            }
        }
        match hands {
            Hands::Both => self.clock.advance(by),
            Hands::BootOnly => self.clock.advance_boot_only(by),
            Hands::WallBack => self.clock.set_wall_ms(wall_ms.saturating_sub(ms)),
            Hands::WallAhead => self.clock.set_wall_ms(wall_ms.saturating_add(ms)),
        }
        // Engine time follows the boot clock. It leans towards the wall clock only when the timekeeper runs.
        let passed_ms = if matches!(hands, Hands::Both | Hands::BootOnly) { ms } else { 0 };
        let (before_ms, now_ms) = (self.told_ms, self.engine().now_ms());
        prop_assert!(now_ms >= before_ms && now_ms <= before_ms + passed_ms + 1);
        self.told_ms = now_ms;
        Ok(())
    }

    /// Engine time, which stands still within an operation.
    pub(crate) fn now_ms(&mut self) -> u64 {
        self.told_ms = self.engine().now_ms();
        self.told_ms
    }

    pub(crate) fn step_writer(&mut self, shard: usize) -> Checked {
        let waits = self.waiting_records(shard) > 0;
        let since_ns = self.unwitnessed_since_ns[shard];
        let boot_ns = self.clock.boot_ns();
        let wants_witness = since_ns.is_some_and(|since| boot_ns - since >= WITNESS_AFTER_NS);
        let step = self.engine_mut().step_writer(shard);
        if self.has_stopped() {
            prop_assert!(self.mark_durable()?.is_empty(), "durable by a write that failed");
            prop_assert_eq!(step, Step::Ended);
            return Ok(());
        }
        let became_durable = self.see_durable()?;
        let expected = if waits || wants_witness { Step::Wrote } else { Step::Idle };
        prop_assert_eq!(step, expected, "shard {}", shard);
        prop_assert_eq!(became_durable.is_empty(), !waits, "shard {}", shard);
        let of_shard = |lane: &Lane| self.oracle.shard_of(*lane) == shard;
        prop_assert!(became_durable.iter().all(of_shard), "durable by another shard's writer");
        if step == Step::Wrote {
            self.unwritten_ms = 0;
            self.unwitnessed_since_ns[shard] = waits.then_some(boot_ns);
        }
        Ok(())
    }

    fn waiting_records(&self, shard: usize) -> usize {
        let of_shard =
            self.oracle.logs.iter().filter(|(lane, _)| self.oracle.shard_of(**lane) == shard);
        of_shard.map(|(_, log)| log.records.len() - log.durable).sum()
    }

    /// Finds the records that became durable: of each lane the next ones, without a gap. Returns the lanes.
    pub(crate) fn mark_durable(&mut self) -> Result<Vec<Lane>, TestCaseError> {
        let mut changed = Vec::new();
        for (lane, log) in &mut self.oracle.logs {
            let promises = &self.promises;
            let all = self.all_is_durable;
            let durable_now = |probe: usize| promises.get(probe).map_or(all, Promise::is_durable);
            let (_, waiting) = log.records.split_at_mut(log.durable);
            // The records of one pass of the timekeeper may be in any order.
            for pass in waiting.chunk_by_mut(|a, b| a.made_in == b.made_in) {
                pass.sort_by_key(|logged| !durable_now(logged.probe));
            }
            let now = waiting.iter().take_while(|logged| durable_now(logged.probe)).count();
            let total = waiting.iter().filter(|logged| durable_now(logged.probe)).count();
            prop_assert_eq!(now, total, "{:?}: durable, but for one before it", lane);
            log.durable += now;
            if now > 0 {
                changed.push(*lane);
            }
        }
        Ok(changed)
    }

    /// Checks the same on a live engine: every commit is answered, or pending.
    pub(crate) fn see_durable(&mut self) -> Result<Vec<Lane>, TestCaseError> {
        let changed = self.mark_durable()?;
        for promise in &mut self.promises {
            let durable = promise.rests.iter().all(|rest| self.oracle.is_durable(*rest));
            promise.check(durable)?;
        }
        Ok(changed)
    }

    pub(crate) fn step_timekeeper(&mut self) -> Checked {
        let before_ms = self.told_ms;
        // Runs the timekeeper. One pass ends some hundreds of holds, which is more than there are. Then it moves
        // orders that outlived their page, which no read can see.
        let tidied = (0..100).any(|_| !self.engine_mut().step_timekeeper());
        prop_assert!(tidied || self.has_stopped());
        let now_ms = self.now_ms();
        prop_assert!(now_ms >= before_ms, "engine time ran backwards");
        self.expire_due(now_ms)
    }

    /// The timekeeper has run: every hold that is due is over.
    fn expire_due(&mut self, now_ms: u64) -> Checked {
        let made_in = Some(self.oracle.next_name());
        for order in self.due(now_ms) {
            self.expired(order, made_in)?;
        }
        Ok(())
    }

    /// An order that its buyer's limit refuses first ends all holds of its partition that are over.
    pub(crate) fn expire_due_in(&mut self, lane: Lane, now_ms: u64) -> Checked {
        let made_in = Some(self.oracle.next_name());
        for order in self.due(now_ms) {
            if self.oracle.lane_of_order(order) == lane {
                self.expired(order, made_in)?;
            }
        }
        Ok(())
    }

    fn due(&self, now_ms: u64) -> Vec<u64> {
        let orders = self.oracle.orders.keys().copied();
        orders.filter(|order| self.oracle.is_due(*order, now_ms)).collect()
    }

    /// A hold was ended by its deadline, by whichever call looked first.
    pub(crate) fn expired(&mut self, order: u64, made_in: Option<u64>) -> Checked {
        self.counts.expired += 1;
        let record = Record::Ended { order, to: OrderState::Expired };
        let rest = self.oracle.append_in(self.oracle.lane_of_order(order), record, made_in);
        self.probe_order(order, rest)
    }

    /// Runs every writer until there is nothing left to do, while the clock stands still.
    pub(crate) fn idle(&mut self) -> Checked {
        let shards = 0..self.oracle.setup.shards;
        let mut wrote: Vec<bool> =
            shards.clone().map(|shard| self.waiting_records(shard) > 0).collect();
        self.engine_mut().run_until_idle();
        let now_ms = self.now_ms();
        for order in self.due(now_ms) {
            wrote[self.oracle.shard_of(self.oracle.lane_of_order(order))] = true;
        }
        // Expiries of a pass that the stop cut short were all logged, before the first write.
        self.expire_due(now_ms)?;
        if self.has_stopped() {
            return self.mark_durable().map(drop);
        }
        self.all_is_durable = true;
        self.see_durable()?;
        self.all_is_durable = false;
        self.unwritten_ms = 0;
        let boot_ns = self.clock.boot_ns();
        for shard in shards {
            prop_assert_eq!(self.waiting_records(shard), 0, "idle, and something waits");
            let since_ns = &mut self.unwitnessed_since_ns[shard];
            if wrote[shard] {
                *since_ns = Some(boot_ns);
            } else if since_ns.is_some_and(|since| boot_ns - since >= WITNESS_AFTER_NS) {
                *since_ns = None;
            }
        }
        Ok(())
    }

    /// Compares everything that can be read without changing anything.
    pub(crate) fn check_reads(&mut self) -> Checked {
        prop_assert!(self.see_durable()?.is_empty(), "durable without a write");
        self.check_levels()?;
        self.check_stats(&self.engine().stats())
    }

    pub(crate) fn check_levels(&self) -> Checked {
        for sku in 1..=SKUS {
            let expected = self.oracle.knows(sku).then(|| self.oracle.levels(sku));
            let found = self.engine().levels(sku);
            if let Some(levels) = &found {
                prop_assert!(levels.add_up(), "{levels:?}");
                prop_assert!(levels.available >= 0 || self.oracle.was_lowered(sku), "oversold");
            }
            let found = found.map(|levels| crate::oracle::Levels {
                stocked: levels.stocked,
                available: levels.available,
                held: levels.held,
                sold: levels.sold,
                returning: levels.returning,
            });
            prop_assert_eq!(found, expected, "levels of SKU {}: model, then engine", sku);
        }
        Ok(())
    }

    fn check_stats(&self, stats: &Stats) -> Checked {
        let found = Counts {
            placed: stats.placed,
            replayed: stats.replayed,
            keys_reused: stats.keys_reused,
            over_limit: stats.over_limit,
            confirmed: stats.confirmed,
            fulfilled: stats.fulfilled,
            cancelled: stats.cancelled,
            expired: stats.expired,
        };
        prop_assert_eq!(found, self.counts, "model, then engine");
        let live = |order: &&u64| {
            matches!(self.oracle.state(**order).0, OrderState::Held | OrderState::Confirmed)
        };
        prop_assert_eq!(stats.orders, self.oracle.orders.len() as u64);
        prop_assert_eq!(stats.live_orders, self.oracle.orders.keys().filter(live).count() as u64);
        let lanes = self.oracle.logs.keys();
        let waiting: u64 = lanes.map(|lane| self.oracle.waiting_bytes(*lane)).sum();
        prop_assert_eq!(stats.backlog_bytes, waiting);
        Ok(())
    }
}

pub(crate) fn pick_from<T>(from: &[T], pick: u16) -> Option<&T> {
    from.get(usize::from(pick).checked_rem(from.len())?)
}

/// Makes the machine stop after this number of calls that change something.
pub(crate) fn stop_in(storage: &MemoryStorage, calls: u64) -> Arc<AtomicBool> {
    let (fired, seen) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let tell = fired.clone();
    storage.set_fault_hook(Some(Arc::new(move |call| {
        if call.operation.is_change() && seen.fetch_add(1, Ordering::Relaxed) == calls {
            tell.store(true, Ordering::Relaxed);
            return Fault::Crash;
        }
        Fault::None
    })));
    fired
}
