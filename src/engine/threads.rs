//! The engine's own threads: a writer for each log shard, one that keeps time, one that keeps
//! segments ready, one that takes checkpoints, one that wakes. Or none: a stepped engine is driven by its
//! caller, one step at a time.
//!
//! A panic on one of them latches the engine and names the thread: nobody else does its work.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle, ThreadId};
use std::time::Duration;

use crate::engine::checkpointer::{CheckpointStep, Checkpointer};
use crate::engine::core::Core;
use crate::engine::retire::PacedRetirement;
use crate::engine::{endings, waiting};
use crate::log::{Provided, Segments, Writer};
use crate::recovery::CheckpointsFound;
use crate::sync::{AtomicBool, Mutex, Ordering, Parker, Unparker};

/// How often deadlines are looked at while blocks are written. A confirm looks by itself, so this bounds only
/// how late stock comes back.
const TICK: Duration = Duration::from_millis(5);
/// How often the writers' spare segments are looked at while blocks are written, or the disk is full.
const PROVIDE_EVERY: Duration = Duration::from_millis(10);
/// How often the checkpointer looks whether there is something to do or to go on with, while blocks are written.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(5);
/// The longest rest of a helper that only a block gives something to do.
const REST_MAX: Duration = Duration::from_secs(10);
/// Bounds of the timekeeper's rest, in milliseconds, unless something is due sooner. A clock that jumps, as
/// after a machine slept, is noticed after such a rest; and engine time leans towards the wall clock in
/// steps of 1 % of it.
const TIME_REST_MS: RangeInclusive<u64> = 100..=1000;
/// The timekeeper's rest is this part of the time until something is due, within those bounds.
const TIME_REST_DIVISOR: u64 = 1000;

/// How long a reservation of order ids that failed rests before it is tried again.
const RESERVE_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What runs an engine.
pub(crate) struct Parts {
    pub(crate) writers: Vec<WriterParts>,
    pub(crate) checkpoints: CheckpointsFound,
}

pub(crate) struct WriterParts {
    pub(crate) writer: Writer,
    pub(crate) segments: Arc<Segments>,
    pub(crate) parker: Parker,
}

/// What is done beside the verbs and the writers.
pub(crate) struct Housekeeper {
    core: Arc<Core>,
    segments: Vec<Arc<Segments>>,
    /// Locked only by who keeps time.
    retirement: Mutex<PacedRetirement>,
}

impl std::fmt::Debug for Housekeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Housekeeper").field("folder", &self.core.folder).finish_non_exhaustive()
    }
}

impl Housekeeper {
    pub(crate) fn new(core: Arc<Core>, segments: Vec<Arc<Segments>>) -> Self {
        Self { core, segments, retirement: Mutex::default() }
    }

    /// Moves engine time towards the wall clock, serves those who wait, lets holds expire and finished orders
    /// leave memory; after what rest it is to be called again, if there is more to do already.
    pub(crate) fn keep_time(&self) -> Option<Duration> {
        self.core.time.slew();
        let promoted = waiting::promote_some(&self.core);
        let expired = endings::expire_due(&self.core);
        let retired = self.retirement.lock().step(&self.core);
        if promoted || expired { Some(Duration::ZERO) } else { retired }
    }

    /// How long the timekeeper may rest while no block is written.
    fn rest(&self) -> Duration {
        let now_ms = self.core.time.now_ms();
        let due_ms = self.core.partitions.iter().map(|partition| partition.next_due_ms()).min();
        let due_in_ms = due_ms.unwrap_or(u64::MAX).saturating_sub(now_ms);
        rest_until(due_in_ms, self.core.promotions.is_asked())
    }

    /// Prepares the segments that will be needed; whether there is no room for them now, or the system is
    /// short of descriptors or memory: then it is to be tried again later.
    pub(crate) fn provide_segments(&self) -> bool {
        let mut tries_later = false;
        for segments in &self.segments {
            while !self.core.is_closing() && !self.core.latch.is_set() {
                match segments.sync_left().and_then(|()| segments.provide()) {
                    Ok(Provided::One) => {}
                    Ok(provided) => {
                        tries_later |= matches!(provided, Provided::DiskFull | Provided::Short);
                        break;
                    }
                    // What was acknowledged rests on a full segment. On a spare nothing rests, but a disk
                    // that fails here, rather than being full or short of something, will not do better
                    // for the log.
                    Err(error) => {
                        self.core.latch.set(error.operation, &error.path, &error.source);
                    }
                }
            }
        }
        tries_later
    }

    fn look_at_segments(&self) {
        self.segments.iter().for_each(|segments| segments.look());
    }
}

/// Reserves order ids before they are needed; a reservation that fails rests before it is tried again.
#[derive(Debug, Default)]
pub(crate) struct IdKeeper {
    rests_until_ns: u64,
}

impl IdKeeper {
    /// Returns whether a reservation failed and is to be tried again.
    pub(crate) fn provide_ids(&mut self, core: &Core) -> bool {
        let now_ns = core.time.boot_ns();
        if now_ns < self.rests_until_ns {
            return true;
        }
        let has_failed = core.reserve_ids();
        if has_failed {
            self.rests_until_ns = now_ns.saturating_add(RESERVE_AGAIN_AFTER.as_nanos() as u64);
        }
        has_failed
    }
}

/// The timekeeper's rest when something is due after `due_in_ms`. `is_postponed`: somebody could be served, but
/// not now, and the clock may change that.
fn rest_until(due_in_ms: u64, is_postponed: bool) -> Duration {
    let (least, most) = (*TIME_REST_MS.start(), *TIME_REST_MS.end());
    let look_after_ms = match is_postponed {
        true => least,
        false => (due_in_ms / TIME_REST_DIVISOR).clamp(least, most),
    };
    Duration::from_millis(due_in_ms.min(look_after_ms)).max(TICK)
}

/// What a helper does after a round.
enum Rest {
    For(Duration),
    /// Nothing is to be done. The pace while blocks are written, and the longest rest else.
    Idle(Duration, Duration),
}

/// Spaces out the tries of a full disk, of which each writes until there is no more room, and those of a
/// system that is short of descriptors or memory.
#[derive(Debug, Default)]
struct FullDisk {
    tries: u32,
    rounds_to_skip: u32,
}

impl FullDisk {
    /// 5 s in all.
    const ROUNDS_TO_SKIP_MAX: u32 = 512;

    fn round(&mut self, keeper: &Housekeeper) -> Rest {
        if self.rounds_to_skip > 0 {
            self.rounds_to_skip -= 1;
            keeper.look_at_segments();
        } else if keeper.provide_segments() {
            self.rounds_to_skip = (4 << self.tries).min(Self::ROUNDS_TO_SKIP_MAX);
            self.tries = (self.tries + 1).min(8);
        } else {
            self.tries = 0;
        }
        match self.tries {
            0 => Rest::Idle(PROVIDE_EVERY, REST_MAX),
            _ => Rest::For(PROVIDE_EVERY),
        }
    }
}

/// The threads of an engine until it is closed.
pub(super) struct Running {
    /// Taken by who closes first, who keeps the lock until all have ended: others wait for him here.
    threads: Mutex<Option<Threads>>,
    own: Vec<ThreadId>,
}

impl Running {
    /// `None`: the caller steps the engine.
    pub(super) fn new(threads: Option<Threads>) -> Self {
        let own = threads.as_ref().map(Threads::ids).unwrap_or_default();
        Self { threads: Mutex::new(threads), own }
    }

    /// This is a forked child, in which the threads are not: their handles lead nowhere.
    pub(super) fn forget(&self) {
        std::mem::forget(self.threads.try_lock().and_then(|mut threads| threads.take()));
    }

    /// The core refuses new verbs by now. A waker that closes on one of the engine's own threads while
    /// somebody waits for that thread to end must not wait for him.
    pub(super) fn stop(&self, core: &Core) {
        let mut threads = match self.own.contains(&std::thread::current().id()) {
            false => self.threads.lock(),
            true => match self.threads.try_lock() {
                Some(threads) => threads,
                None => return,
            },
        };
        if let Some(threads) = threads.take() {
            threads.stop(core);
        }
    }
}

pub(super) struct Threads {
    writers: Vec<JoinHandle<()>>,
    helpers: Vec<JoinHandle<()>>,
    /// Wakes all wakers but those of commits.
    waker: Option<JoinHandle<()>>,
    helper_unparkers: Vec<Unparker>,
    stop_writers: Arc<AtomicBool>,
    stop_helpers: Arc<AtomicBool>,
    /// The engine was closed on a writer's thread. That writer ends last, and ends the waking thread.
    writer_ends_waker: Arc<AtomicBool>,
}

impl Threads {
    pub(super) fn start(core: &Arc<Core>, parts: Parts) -> io::Result<Self> {
        let segments: Vec<_> = parts.writers.iter().map(|parts| parts.segments.clone()).collect();
        let mut threads = Self {
            writers: Vec::new(),
            helpers: Vec::new(),
            waker: None,
            helper_unparkers: Vec::new(),
            stop_writers: Arc::new(AtomicBool::new(false)),
            stop_helpers: Arc::new(AtomicBool::new(false)),
            writer_ends_waker: Arc::new(AtomicBool::new(false)),
        };
        let started = threads.start_all(core, parts, segments);
        if started.is_err() {
            core.refuse_new_verbs();
            threads.stop_helpers();
            threads.stop_writers(core);
            threads.stop_waker(core);
        }
        started.map(|()| threads)
    }

    fn start_all(
        &mut self,
        core: &Arc<Core>,
        parts: Parts,
        segments: Vec<Arc<Segments>>,
    ) -> io::Result<()> {
        self.start_waker(core)?;
        for (shard, WriterParts { mut writer, parker, .. }) in parts.writers.into_iter().enumerate()
        {
            let (stop, latch) = (self.stop_writers.clone(), core.latch.clone());
            let (ends_waker, wakes) = (self.writer_ends_waker.clone(), core.wakes.clone());
            let name = format!("dbr-log-{shard}");
            let thread = Builder::new().name(name.clone());
            self.writers.push(thread.spawn(move || {
                latch.guard(&name, || writer.run(&parker, &stop));
                latch.guard(&name, || drop(writer));
                // Set on this very thread, if at all.
                if ends_waker.load(Ordering::Relaxed) {
                    wakes.end();
                }
            })?);
        }
        let keeper = Arc::new(Housekeeper::new(core.clone(), segments.clone()));
        let time_keeper = keeper.clone();
        self.start_helper(core, "dbr-time", move || match time_keeper.keep_time() {
            Some(rest) => Rest::For(rest),
            None => Rest::Idle(TICK, time_keeper.rest()),
        })?;
        let promoter = self.helper_unparkers.last();
        promoter.into_iter().for_each(|it| core.promotions.set_promoter(it.clone()));
        let mut full_disk = FullDisk::default();
        self.start_helper(core, "dbr-segments", move || full_disk.round(&keeper))?;
        let unparker = self.helper_unparkers.last();
        for (segments, unparker) in segments.iter().zip(unparker.into_iter().cycle()) {
            segments.set_keeper(unparker.clone());
        }
        let mut checkpointer = Checkpointer::new(core.clone(), segments, parts.checkpoints);
        let (mut ids, of_ids) = (IdKeeper::default(), core.clone());
        self.start_helper(core, "dbr-checkpoint", move || {
            let ids_rest = if ids.provide_ids(&of_ids) { RESERVE_AGAIN_AFTER } else { REST_MAX };
            let began_ns = of_ids.time.boot_ns();
            let step = checkpointer.step();
            let worked = Duration::from_nanos(of_ids.time.boot_ns().saturating_sub(began_ns));
            match step {
                CheckpointStep::Worked => Rest::For(checkpointer.rest(worked)),
                CheckpointStep::Waiting => Rest::For(CHECKPOINT_EVERY),
                CheckpointStep::Idle => Rest::Idle(CHECKPOINT_EVERY, ids_rest),
            }
        })?;
        if let Some(unparker) = self.helper_unparkers.last() {
            core.ids.set_raiser(unparker.clone());
            core.checkpoint_desk.set_checkpointer(unparker.clone());
        }
        Ok(())
    }

    fn start_waker(&mut self, core: &Core) -> io::Result<()> {
        let (parker, wakes) = (Parker::new(), core.wakes.clone());
        wakes.set_thread(parker.unparker().clone());
        // It has no part in the engine but the queue, so it may outlive the engine inside a waker.
        let thread = Builder::new().name("dbr-wake".into()).spawn(move || wakes.run(&parker))?;
        self.waker = Some(thread);
        Ok(())
    }

    /// Starts a thread that works by rounds.
    fn start_helper(
        &mut self,
        core: &Core,
        name: &'static str,
        mut work: impl FnMut() -> Rest + Send + 'static,
    ) -> io::Result<()> {
        let (parker, stop, latch) = (Parker::new(), self.stop_helpers.clone(), core.latch.clone());
        let activity = core.activity.clone();
        activity.add_helper(parker.unparker().clone());
        self.helper_unparkers.push(parker.unparker().clone());
        let thread = Builder::new().name(name.into()).spawn(move || {
            latch.guard(name, || {
                let mut before = None;
                while !stop.load(Ordering::Acquire) {
                    let blocks = activity.blocks();
                    match work() {
                        Rest::For(Duration::ZERO) => {}
                        Rest::For(rest) => parker.park_timeout(rest),
                        Rest::Idle(pace, _) if before != Some(blocks) => parker.park_timeout(pace),
                        Rest::Idle(_, rest) => activity.rest(blocks, || parker.park_timeout(rest)),
                    }
                    before = Some(blocks);
                }
            });
            // After the latch is set: what it drops answers those who wait.
            latch.guard(name, || drop(work));
        })?;
        self.helpers.push(thread);
        Ok(())
    }

    fn ids(&self) -> Vec<ThreadId> {
        let all = self.writers.iter().chain(&self.helpers).chain(&self.waker);
        all.map(|thread| thread.thread().id()).collect()
    }

    /// The core refuses new verbs by now. Helpers first: they may still append.
    pub(super) fn stop(mut self, core: &Core) {
        self.stop_helpers();
        let all_ended = self.stop_writers(core);
        if all_ended {
            core.latch.guard("the thread that closes", || core.seal());
        }
        core.release_folder();
        if all_ended {
            self.stop_waker(core);
        } else {
            self.writer_ends_waker.store(true, Ordering::Relaxed);
        }
    }

    /// After all others: they may have something to wake. A thread that has wakers left is not waited for,
    /// since one of them may never return.
    fn stop_waker(&mut self, core: &Core) {
        let is_done = core.wakes.end();
        let waker = self.waker.take();
        if let Some(waker) = waker.filter(|_| is_done) {
            drop(waker.join());
        }
    }

    fn stop_helpers(&mut self) {
        self.stop_helpers.store(true, Ordering::Release);
        self.helper_unparkers.iter().for_each(Unparker::unpark);
        // A waker may close on a thread of the engine's own, which cannot wait for itself.
        let own = std::thread::current().id();
        for helper in self.helpers.drain(..).filter(|helper| helper.thread().id() != own) {
            // One that panicked has latched the log.
            drop(helper.join());
        }
    }

    /// Whether all have ended. A waker that runs its task at once may drop the last handle on a writer's
    /// thread: that one cannot wait for itself, and ends when the waker returns.
    fn stop_writers(&mut self, core: &Core) -> bool {
        self.stop_writers.store(true, Ordering::Release);
        core.shards.iter().for_each(|shard| shard.nudge());
        let own = std::thread::current().id();
        let is_own = |writer: &JoinHandle<()>| writer.thread().id() == own;
        let all = !self.writers.iter().any(is_own);
        for writer in self.writers.drain(..).filter(|writer| !is_own(writer)) {
            drop(writer.join());
        }
        all
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_timekeeper_rests_until_something_is_due_and_never_longer_than_a_second() {
        let rest_ms = |due_in_ms| rest_until(due_in_ms, false).as_millis();
        assert_eq!((rest_ms(u64::MAX), rest_ms(3_600_000)), (1000, 1000), "idle");
        assert_eq!(rest_ms(900_000), 900, "a hold of a quarter of an hour");
        assert_eq!((rest_ms(60_000), rest_ms(100)), (100, 100));
        assert_eq!((rest_ms(77), rest_ms(5)), (77, 5), "on time");
        assert_eq!((rest_ms(1), rest_ms(0)), (5, 5), "many deadlines share a round");
    }

    #[test]
    fn the_timekeeper_comes_back_soon_to_somebody_who_cannot_be_served_yet() {
        assert_eq!(rest_until(u64::MAX, true).as_millis(), 100);
        assert_eq!(rest_until(7, true).as_millis(), 7);
    }
}
