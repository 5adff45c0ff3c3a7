//! The engine's own threads: a writer for each log shard, one that keeps time, one that keeps
//! segments ready, one that takes checkpoints. Or none: a stepped engine is driven by its caller, one step at a time.

use std::io;
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

/// How often deadlines are looked at. A confirm looks by itself, so this bounds only how late stock
/// comes back.
const TICK: Duration = Duration::from_millis(5);
/// How often the writers' spare segments are looked at.
const PROVIDE_EVERY: Duration = Duration::from_millis(10);

/// How often the checkpointer looks whether there is something to do or to go on with.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(5);

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
    pub(crate) fn provide_ids(&mut self, core: &Core) {
        let now_ns = core.time.boot_ns();
        if now_ns >= self.rests_until_ns && core.reserve_ids() {
            self.rests_until_ns = now_ns.saturating_add(RESERVE_AGAIN_AFTER.as_nanos() as u64);
        }
    }
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

    fn round(&mut self, keeper: &Housekeeper) {
        if self.rounds_to_skip > 0 {
            self.rounds_to_skip -= 1;
            keeper.look_at_segments();
        } else if keeper.provide_segments() {
            self.rounds_to_skip = (4 << self.tries).min(Self::ROUNDS_TO_SKIP_MAX);
            self.tries = (self.tries + 1).min(8);
        } else {
            self.tries = 0;
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
    helper_unparkers: Vec<Unparker>,
    stop_writers: Arc<AtomicBool>,
    stop_helpers: Arc<AtomicBool>,
}

impl Threads {
    pub(super) fn start(core: &Arc<Core>, parts: Parts) -> io::Result<Self> {
        let segments: Vec<_> = parts.writers.iter().map(|parts| parts.segments.clone()).collect();
        let mut threads = Self {
            writers: Vec::new(),
            helpers: Vec::new(),
            helper_unparkers: Vec::new(),
            stop_writers: Arc::new(AtomicBool::new(false)),
            stop_helpers: Arc::new(AtomicBool::new(false)),
        };
        let started = threads.start_all(core, parts, segments);
        if started.is_err() {
            core.refuse_new_verbs();
            threads.stop_helpers();
            threads.stop_writers(core);
        }
        started.map(|()| threads)
    }

    fn start_all(
        &mut self,
        core: &Arc<Core>,
        parts: Parts,
        segments: Vec<Arc<Segments>>,
    ) -> io::Result<()> {
        for (shard, WriterParts { writer, parker, .. }) in parts.writers.into_iter().enumerate() {
            let stop = self.stop_writers.clone();
            let thread = Builder::new().name(format!("dbr-log-{shard}"));
            self.writers.push(thread.spawn(move || writer.run(&parker, &stop))?);
        }
        let keeper = Arc::new(Housekeeper::new(core.clone(), segments.clone()));
        let time_keeper = keeper.clone();
        self.start_resting_helper("dbr-time", TICK, move || time_keeper.keep_time())?;
        let promoter = self.helper_unparkers.last();
        promoter.into_iter().for_each(|it| core.promotions.set_promoter(it.clone()));
        let mut full_disk = FullDisk::default();
        self.start_helper("dbr-segments", PROVIDE_EVERY, move || full_disk.round(&keeper))?;
        let unparker = self.helper_unparkers.last();
        for (segments, unparker) in segments.iter().zip(unparker.into_iter().cycle()) {
            segments.set_keeper(unparker.clone());
        }
        let mut checkpointer = Checkpointer::new(core.clone(), segments, parts.checkpoints);
        let (mut ids, of_ids) = (IdKeeper::default(), core.clone());
        self.start_resting_helper("dbr-checkpoint", CHECKPOINT_EVERY, move || {
            ids.provide_ids(&of_ids);
            let began_ns = of_ids.time.boot_ns();
            let step = checkpointer.step();
            let worked = Duration::from_nanos(of_ids.time.boot_ns().saturating_sub(began_ns));
            (step == CheckpointStep::Worked).then(|| checkpointer.rest(worked))
        })?;
        let raiser = self.helper_unparkers.last();
        raiser.into_iter().for_each(|it| core.ids.set_raiser(it.clone()));
        Ok(())
    }

    fn start_helper(
        &mut self,
        name: &str,
        pause: Duration,
        mut work: impl FnMut() + Send + 'static,
    ) -> io::Result<()> {
        self.start_resting_helper(name, pause, move || {
            work();
            None
        })
    }

    /// `work` may say for how long it rests before it goes on, if not for the pause.
    fn start_resting_helper(
        &mut self,
        name: &str,
        pause: Duration,
        mut work: impl FnMut() -> Option<Duration> + Send + 'static,
    ) -> io::Result<()> {
        let (parker, stop) = (Parker::new(), self.stop_helpers.clone());
        self.helper_unparkers.push(parker.unparker().clone());
        let thread = Builder::new().name(name.into()).spawn(move || {
            while !stop.load(Ordering::Acquire) {
                match work() {
                    Some(Duration::ZERO) => {}
                    Some(rest) => parker.park_timeout(rest),
                    None => parker.park_timeout(pause),
                }
            }
        })?;
        self.helpers.push(thread);
        Ok(())
    }

    fn ids(&self) -> Vec<ThreadId> {
        self.writers.iter().chain(&self.helpers).map(|thread| thread.thread().id()).collect()
    }

    /// The core refuses new verbs by now. Helpers first: they may still append.
    pub(super) fn stop(mut self, core: &Core) {
        self.stop_helpers();
        if self.stop_writers(core) {
            core.seal();
        }
        core.release_folder();
    }

    fn stop_helpers(&mut self) {
        self.stop_helpers.store(true, Ordering::Release);
        self.helper_unparkers.iter().for_each(Unparker::unpark);
        // A waker may close on a thread of the engine's own, which cannot wait for itself.
        let own = std::thread::current().id();
        for helper in self.helpers.drain(..).filter(|helper| helper.thread().id() != own) {
            // One that panicked has latched the log or has changed nothing.
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
