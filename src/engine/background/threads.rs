//! The engine's own threads: a writer for each log shard, one that keeps time, one that keeps
//! segments ready, one that takes checkpoints, one that wakes. Or none: a stepped engine is driven by its
//! caller, one step at a time.
//!
//! A panic on one of them latches the engine and names the thread, because no other thread does its work.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle, ThreadId};
use std::time::Duration;

use crate::engine::background::checkpointer::{CheckpointStep, Checkpointer};
use crate::engine::background::housekeeper::{
    CHECKPOINT_EVERY, FullDisk, Housekeeper, IdKeeper, RESERVE_AGAIN_AFTER, REST_MAX, Rest, TICK,
};
use crate::engine::core::Core;
use crate::engine::open::{Parts, WriterParts};
use crate::log::Segments;
use crate::sync::{AtomicBool, Mutex, Ordering, Parker, Unparker};

/// The threads of an engine until it is closed.
pub(in crate::engine) struct Running {
    /// Taken by the first thread that closes, which keeps the lock until all have ended. Other closing threads wait
    /// for it here.
    threads: Mutex<Option<Threads>>,
    own: Vec<ThreadId>,
}

impl Running {
    /// `None`: the caller steps the engine.
    pub(in crate::engine) fn new(threads: Option<Threads>) -> Self {
        let own = threads.as_ref().map(Threads::ids).unwrap_or_default();
        Self { threads: Mutex::new(threads), own }
    }

    /// This is a forked child, in which the threads are not: their handles lead nowhere.
    pub(in crate::engine) fn forget(&self) {
        std::mem::forget(self.threads.try_lock().and_then(|mut threads| threads.take()));
    }

    /// The core refuses new verbs by now. A waker may close the engine on one of the engine's own threads, while
    /// another thread waits for that thread to end. Then this call must not wait for the other.
    pub(in crate::engine) fn stop(&self, core: &Core) {
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

pub(in crate::engine) struct Threads {
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
    pub(in crate::engine) fn start(core: &Arc<Core>, parts: Parts) -> io::Result<Self> {
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
            core.checkpoint_requests.set_checkpointer(unparker.clone());
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
            // After the latch is set: the drop answers the callers that wait.
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
    pub(in crate::engine) fn stop(mut self, core: &Core) {
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

    /// Last of all, because the threads before may have something to wake. A thread that still has wakers is not
    /// waited for, since one of them may never return.
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
