//! An engine without threads: its caller does each step, in one thread, in any order.

use std::sync::Arc;

use crate::engine::{CheckpointStep, Checkpointer, Engine, Housekeeper, IdKeeper, Parts};
use crate::error::{CloseError, OpenError};
use crate::log::{Writer, WriterStep};
use crate::options::Options;
use crate::testing::dump;
use crate::wakes::Wakes;

/// What a step of a log writer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// It made a block durable, applied the effects of its records, and woke the callers that waited.
    Wrote,
    /// It had nothing to write.
    Idle,
    /// It has something to write and no room on the disk.
    Full,
    /// The log is latched.
    Ended,
}

/// What a step of the checkpointer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointProgress {
    /// No checkpoint is on its way, asked for or due.
    Idle,
    /// A checkpoint was begun, went on, was taken or failed.
    Worked,
    /// A checkpoint waits for the log to be durable: step the writers.
    Waiting,
}

/// An [`Engine`] whose writers, timekeeper, segment keeper and checkpointer run when the test steps them.
///
/// Nothing becomes durable between two steps, so a test can look at what holds in between; with
/// [`MemoryStorage`](super::MemoryStorage) and [`ManualClock`](super::ManualClock) everything follows from the order
/// of the calls. [`Commit::wait`](crate::Commit::wait) would wait forever: poll or [peek](crate::Commit::peek)
/// instead.
///
/// Dropping it without [`SteppedEngine::close`] is the crash of a process: what was not written is
/// lost.
///
/// ```
/// use std::sync::Arc;
/// use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
/// use doorbuster::{Adjust, Options, Order, RequestKey, SkuId};
///
/// let storage = MemoryStorage::new();
/// let options = Options::on_storage(Arc::new(storage.clone()))
///     .clock(Arc::new(ManualClock::default()))
///     .segment_bytes(1 << 20);
/// let mut engine = SteppedEngine::open(options)?;
/// let sku = SkuId::new(1);
/// let added = engine.stock(sku, Adjust::add(1).key(RequestKey::new(1)))?;
/// let placed = engine.place(Order::new(7, RequestKey::new(1)).line(sku, 1))?;
/// assert!(placed.peek().is_some_and(|placed| placed.held().is_none()), "not durable: sold out");
/// engine.run_until_idle();
/// assert!(added.is_durable());
/// assert!(engine.place(Order::new(7, RequestKey::new(1)).line(sku, 1))?.peek().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SteppedEngine {
    writers: Vec<Writer>,
    keeper: Housekeeper,
    ids: IdKeeper,
    checkpointer: Checkpointer,
    engine: Engine,
    waking: Waking,
}

/// Wakes last what the other parts have to wake when they are dropped.
#[derive(Debug)]
struct Waking(Arc<Wakes>);

impl Drop for Waking {
    fn drop(&mut self) {
        self.0.wake_queued();
    }
}

impl SteppedEngine {
    /// Like [`Engine::open`], recovery included, all in the calling thread.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let (engine, Parts { writers, checkpoints }) = Engine::open_stepped(options)?;
        let segments: Vec<_> = writers.iter().map(|parts| parts.segments.clone()).collect();
        let core = engine.core();
        Ok(Self {
            checkpointer: Checkpointer::new(core.clone(), segments.clone(), checkpoints),
            writers: writers.into_iter().map(|parts| parts.writer).collect(),
            keeper: Housekeeper::new(core.clone(), segments),
            ids: IdKeeper::default(),
            waking: Waking(core.wakes.clone()),
            engine,
        })
    }

    /// The engine; a clone may outlive this.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How many log shards, and so writers, there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.writers.len()
    }

    /// Lets the writer of a shard write one block, if there is something to write or a block to be
    /// witnessed.
    pub fn step_writer(&mut self, shard: usize) -> Step {
        self.step(shard, false)
    }

    /// Takes what waits in a shard's lanes into its next block, without writing it. What is appended before the block
    /// is [written](Self::step_writer) is in a later block, as in a running engine while it writes. Does nothing if a
    /// block is begun already.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn begin_block(&mut self, shard: usize) {
        self.writers[shard].begin_block();
    }

    /// Lets the timekeeper look at the clock once, expiring some of the holds that are due. Returns whether more are
    /// due.
    pub fn step_timekeeper(&mut self) -> bool {
        self.waking.0.wake_queued();
        self.keeper.keep_time().is_some()
    }

    /// Lets the keeper prepare what will be needed: log segments, and a higher ceiling of order ids.
    pub fn step_segments(&mut self) {
        self.keeper.provide_segments();
        self.ids.provide_ids(self.engine.core());
    }

    /// Lets the checkpointer begin a checkpoint, if one was asked for or is due, or go on with it for at
    /// most one chunk of it and a few calls to the disk.
    pub fn step_checkpointer(&mut self) -> CheckpointProgress {
        let step = self.checkpointer.step();
        self.waking.0.wake_queued();
        match step {
            CheckpointStep::Idle => CheckpointProgress::Idle,
            CheckpointStep::Worked => CheckpointProgress::Worked,
            CheckpointStep::Waiting => CheckpointProgress::Waiting,
        }
    }

    /// Steps everything until no writer has anything to write, no hold is due and no checkpoint goes on.
    pub fn run_until_idle(&mut self) {
        loop {
            let due = self.step_timekeeper();
            self.step_segments();
            let wrote = (0..self.shards()).any(|shard| self.step(shard, false) == Step::Wrote);
            let checkpointed = self.step_checkpointer() == CheckpointProgress::Worked;
            if !due && !wrote && !checkpointed {
                return;
            }
        }
    }

    /// Returns all that the engine knows and an answer may show, as text in a canonical form: a line for each order,
    /// SKU, adjustment and buyer count, sorted, independent of its place in memory and in the log. A folder that was
    /// closed cleanly returns the same bytes when it is reopened.
    ///
    /// For comparing, and for reading what differs; the form may change between versions. Costs a line for every
    /// order in memory, and locks one partition after the other.
    #[must_use]
    pub fn dump(&self) -> String {
        dump::dump(&self.engine)
    }

    /// Closes the engine as [`Engine::close`] does.
    ///
    /// # Errors
    /// See [`CloseError`].
    pub fn close(mut self) -> Result<(), CloseError> {
        self.engine.core().refuse_new_verbs();
        for shard in 0..self.shards() {
            while self.step(shard, true) == Step::Wrote {}
        }
        self.writers.iter_mut().for_each(Writer::finish);
        self.writers.clear();
        self.engine.core().seal();
        self.engine.core().release_folder();
        let closed = self.engine.close();
        self.waking.0.wake_queued();
        closed
    }

    fn step(&mut self, shard: usize, closing: bool) -> Step {
        match self.writers[shard].step(closing) {
            WriterStep::Wrote => Step::Wrote,
            WriterStep::Idle => Step::Idle,
            WriterStep::Full => Step::Full,
            WriterStep::Ended => Step::Ended,
        }
    }
}

/// Makes an engine reserve `sequences` order ids of each partition at a time, at least two; the default
/// is 2^20. So a test reaches the end of a reservation after few orders.
pub fn reserve_order_ids(options: Options, sequences: u64) -> Options {
    Options { ids_reserved: sequences.clamp(2, 1 << 32), ..options }
}

impl std::ops::Deref for SteppedEngine {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}
