//! What a seed draws: the engine's shape and bounds, the workload, the faults (swarm testing: Groce et
//! al., "Swarm testing", ISSTA 2012; a seed that leaves most things out goes deep in the rest).

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, reserve_order_ids};
use doorbuster::{Durability, Options, RETENTION_MAX};

use crate::draw::Draw;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) work: Work,
    pub(crate) faults: Faults,
    pub(crate) checkpoints: Checkpoints,
    /// How many actions.
    pub(crate) steps: u64,
}

/// How the engine is opened.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) partitions: usize,
    pub(crate) shards: usize,
    pub(crate) block_bytes: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) backlog_bytes: u64,
    pub(crate) orders_max: u64,
    pub(crate) lines_max: usize,
    pub(crate) payload_bytes_max: usize,
    pub(crate) hold_default_ms: u64,
    pub(crate) hold_max_ms: u64,
    pub(crate) patience_max_ms: u64,
    pub(crate) clock_jump_max_ms: u64,
    pub(crate) retention_ms: u64,
    pub(crate) returns_window_ms: u64,
    /// How far ahead a key's own time may be.
    pub(crate) key_ahead_ms: u64,
    /// How long the log is kept that no checkpoint needs.
    pub(crate) log_retention_ms: Option<u64>,
    pub(crate) finish_on_confirm: bool,
    pub(crate) buyers_tracked_max: u64,
    pub(crate) remember: Option<Remember>,
    pub(crate) direct: bool,
    pub(crate) durability: Durability,
    /// How many order ids of each partition are reserved at a time; `None`: as many as by default.
    pub(crate) ids_reserved: Option<u64>,
}

/// For how long refusals are remembered, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remember {
    pub(crate) ms: u64,
    pub(crate) count_max: u64,
}

/// Whether checkpoints are taken.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    pub(crate) are_taken: bool,
    /// So many that the log is recycled all the time.
    are_many: bool,
    /// After this many bytes of log one is due.
    pub(crate) bytes: u64,
    /// At most this many steps at a time.
    pub(crate) steps_max: u64,
}

/// What is asked of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) skus: u64,
    pub(crate) buyers: u64,
    /// Keys a buyer.
    pub(crate) keys: u64,
    /// How many of a hundred lines go to the hot SKU.
    pub(crate) hot_percent: u64,
    pub(crate) lines: u64,
    pub(crate) quantity: u64,
    /// How many of a hundred orders take what there is.
    pub(crate) partial_percent: u64,
    pub(crate) stock: u64,
    pub(crate) limit: u64,
    pub(crate) waits: Waits,
    /// How likely each rule of a sale is changed: limit, opening, closing, early access, hold, safety stock,
    /// switch, length of the waiting list, passing in it, merchant.
    pub(crate) rules: [u32; 10],
    pub(crate) payload_bytes: u64,
    pub(crate) hold_ms: u64,
    /// How many of a hundred requests repeat an earlier one.
    pub(crate) retry_percent: u64,
    /// The first merchant has all SKUs and few tokens from the start.
    pub(crate) is_rate_limited: bool,
    /// How many of a hundred keys tell when they were made.
    pub(crate) dated_percent: u64,
    /// By [`Action`].
    pub(crate) weights: [u32; Action::ALL.len()],
    /// How likely each shard's writer is stepped when one is: 0 is a disk that hangs.
    pub(crate) writers: Vec<u32>,
}

/// How orders wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// How many of a hundred orders of one SKU may wait.
    pub(crate) percent: u64,
    /// How many of a hundred of those do so for milliseconds only.
    pub(crate) impatient_percent: u64,
    /// How many may stand in a list, at most.
    pub(crate) list_max: u64,
    /// Whether lists may let smaller orders pass.
    pub(crate) passes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Action {
    Place,
    Batch,
    Invalid,
    End,
    View,
    Adjust,
    Rule,
    Writer,
    Timekeeper,
    Segments,
    Idle,
    Advance,
    WallJump,
    Close,
    Kill,
    PowerLoss,
    Room,
    Snapshot,
    Checkpointer,
    AskForCheckpoint,
    BackUp,
    EndSale,
    Throttle,
    Switch,
    Watch,
    BeginBlock,
}

impl Action {
    pub(crate) const ALL: [Self; 26] = [
        Self::Place,
        Self::Batch,
        Self::Invalid,
        Self::End,
        Self::View,
        Self::Adjust,
        Self::Rule,
        Self::Writer,
        Self::Timekeeper,
        Self::Segments,
        Self::Idle,
        Self::Advance,
        Self::WallJump,
        Self::Close,
        Self::Kill,
        Self::PowerLoss,
        Self::Room,
        Self::Snapshot,
        Self::Checkpointer,
        Self::AskForCheckpoint,
        Self::BackUp,
        Self::EndSale,
        Self::Throttle,
        Self::Switch,
        Self::Watch,
        Self::BeginBlock,
    ];

    /// How likely each is where a seed has it at all.
    const TYPICAL: [u32; Self::ALL.len()] =
        [60, 8, 3, 40, 10, 12, 3, 60, 12, 8, 4, 25, 2, 1, 2, 2, 3, 3, 20, 5, 2, 2, 3, 1, 5, 20];
}

/// What goes wrong, in millionths of the calls where it can.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// A crash at a call that changes nothing; ten times that at one that does.
    pub(crate) crash_ppm: u64,
    /// How many of a hundred stops lose power, rather than only the process.
    pub(crate) power_percent: u64,
    /// What survives of what was not synced: 0 nothing, 1 everything, 2 drawn piece by piece.
    pub(crate) survival: u64,
    pub(crate) write_error_ppm: u64,
    pub(crate) sync_error_ppm: u64,
    pub(crate) read_error_ppm: u64,
    pub(crate) lost_ppm: u64,
    pub(crate) misdirected_ppm: u64,
    /// How many of a hundred reopens find the medium damaged.
    pub(crate) damage_percent: u64,
    /// How many of a hundred restarts are with other bounds.
    pub(crate) vary_percent: u64,
    /// How many of a hundred restarts find another wall clock.
    pub(crate) wall_percent: u64,
}

const KIB: u64 = 1024;

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let mut shape = Shape::draw(&mut draw.split());
        let mut work = Work::draw(&mut draw.split(), &shape);
        let faults = Faults::draw(&mut draw.split(), &shape);
        // Many short ones, a few that go on for long.
        let steps_max = [200, 600, 2_000][draw.weighted(&[5, 3, 1])];
        let mut steps = draw.between(40, steps_max);
        let checkpoints = Checkpoints::draw(&mut draw.split(), &mut work);
        if checkpoints.are_many {
            steps += 800;
            shape.segment_bytes = 2 * shape.block_bytes as u64;
        }
        // Last: it moves no draw that older seeds rest on.
        let mut ids = draw.split();
        shape.ids_reserved = ids.percent(50).then(|| ids.between(2, 40));
        Self { shape, work, faults, checkpoints, steps }
    }
}

impl Shape {
    fn draw(draw: &mut Draw) -> Self {
        let partitions = 1 << draw.below(4);
        let shards = draw.between(1, partitions.min(3)) as usize;
        let block_bytes = 16 * KIB * draw.between(1, 2);
        let lines_max = draw.between(1, 8) as usize;
        let payload_bytes_max = [0, 40, 3000][draw.below(3) as usize];
        let record_bytes = (248 + 20 * lines_max + payload_bytes_max) as u64;
        let hold_max_ms = [50, 5_000, 86_400_000][draw.below(3) as usize];
        let (retention_ms, returns_window_ms) = retention(draw);
        Self {
            partitions: partitions as usize,
            shards,
            block_bytes: block_bytes as usize,
            segment_bytes: block_bytes * draw.between(2, 4),
            backlog_bytes: 2 * record_bytes * partitions * [1, 3, 100][draw.below(3) as usize],
            orders_max: [12, 60, 100_000][draw.weighted(&[1, 1, 8])],
            lines_max,
            payload_bytes_max,
            hold_default_ms: draw.between(1, hold_max_ms),
            hold_max_ms,
            patience_max_ms: patience_max(draw),
            clock_jump_max_ms: [10_000, 7 * 86_400_000][draw.below(2) as usize],
            retention_ms,
            returns_window_ms,
            key_ahead_ms: key_ahead(draw),
            log_retention_ms: log_retention(draw),
            finish_on_confirm: draw.percent(30),
            buyers_tracked_max: [6, 1 << 20][draw.weighted(&[1, 4])],
            direct: draw.percent(80),
            durability: match draw.percent(90) {
                true => Durability::Synced,
                false => Durability::Written,
            },
            remember: remember(draw),
            ids_reserved: None,
        }
    }

    /// Another life is opened with other bounds: what is there must be read, continued and answered all the
    /// same. Payloads may always be as long as those that were sent.
    pub(crate) fn vary(&mut self, draw: &mut Draw) {
        self.lines_max = draw.between(1, 8) as usize;
        self.hold_max_ms = [50, 5_000, 86_400_000][draw.below(3) as usize];
        self.hold_default_ms = draw.between(1, self.hold_max_ms);
        self.patience_max_ms = patience_max(draw);
        self.orders_max = [12, 60, 100_000][draw.weighted(&[1, 1, 8])];
        (self.retention_ms, self.returns_window_ms) = retention(draw);
        self.key_ahead_ms = key_ahead(draw);
        self.log_retention_ms = log_retention(draw);
        self.finish_on_confirm = draw.percent(30);
        self.buyers_tracked_max = [6, 1 << 20][draw.weighted(&[1, 4])];
        self.remember = remember(draw);
        let least = 2 * self.record_bytes_max() * self.partitions as u64;
        self.backlog_bytes = least * [1, 3, 100][draw.below(3) as usize];
        if self.durability == Durability::Synced {
            let block_bytes = 16 * KIB * draw.between(1, 2);
            self.block_bytes = block_bytes as usize;
            self.segment_bytes = block_bytes * draw.between(2, 4);
        }
    }

    pub(crate) fn options(&self, storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
        let options = Options::on_storage(Arc::new(storage.clone()));
        let log_retention = self.log_retention_ms.map(Duration::from_millis);
        let options = log_retention.into_iter().fold(options, Options::log_retention);
        let options = self.remember.into_iter().fold(options, |options, remember| {
            options.remember_refusals(Duration::from_millis(remember.ms), remember.count_max)
        });
        let options = self.ids_reserved.into_iter().fold(options, reserve_order_ids);
        options
            .retention(Duration::from_millis(self.retention_ms))
            .adjust_retention(RETENTION_MAX)
            .returns_window(Duration::from_millis(self.returns_window_ms))
            .finish_on_confirm(self.finish_on_confirm)
            .buyers_tracked_max(self.buyers_tracked_max)
            .clock(clock.clone())
            .partitions(self.partitions)
            .log_shards(self.shards)
            .block_bytes_max(self.block_bytes)
            .segment_bytes(self.segment_bytes)
            .log_backlog_bytes_max(self.backlog_bytes)
            .orders_max(self.orders_max)
            .skus_max(64)
            .lines_max(self.lines_max)
            .payload_bytes_max(self.payload_bytes_max)
            .hold_default(Duration::from_millis(self.hold_default_ms))
            .hold_max(Duration::from_millis(self.hold_max_ms))
            .patience_max(Duration::from_millis(self.patience_max_ms))
            .clock_jump_max(Duration::from_millis(self.clock_jump_max_ms))
            .key_ahead_max(Duration::from_millis(self.key_ahead_ms))
            .durability(self.durability)
    }

    /// The longest record.
    pub(crate) fn record_bytes_max(&self) -> u64 {
        (248 + 20 * self.lines_max + self.payload_bytes_max) as u64
    }
}

/// How long finished orders are kept, and fulfilled ones.
fn retention(draw: &mut Draw) -> (u64, u64) {
    let longest_ms = RETENTION_MAX.as_millis() as u64;
    let retention_ms = [draw.between(1, 30), draw.between(1, 3_000), longest_ms];
    let retention_ms = retention_ms[draw.weighted(&[2, 2, 3])];
    let longer_ms = [0, draw.below(100)][draw.below(2) as usize];
    (retention_ms, (retention_ms + longer_ms).min(longest_ms))
}

fn remember(draw: &mut Draw) -> Option<Remember> {
    let longest_ms = RETENTION_MAX.as_millis() as u64;
    let ms = [draw.between(1, 30), draw.between(1, 3_000), longest_ms];
    let (ms, count_max) = (ms[draw.below(3) as usize], [draw.between(1, 8), 64, 1 << 20]);
    let count_max = count_max[draw.weighted(&[2, 1, 1])];
    draw.percent(40).then_some(Remember { ms, count_max })
}

fn patience_max(draw: &mut Draw) -> u64 {
    [50, 5_000, 86_400_000][draw.below(3) as usize]
}

fn key_ahead(draw: &mut Draw) -> u64 {
    let longest_ms = RETENTION_MAX.as_millis() as u64;
    [draw.between(1, 10), 300_000, longest_ms][draw.weighted(&[2, 1, 2])]
}

fn log_retention(draw: &mut Draw) -> Option<u64> {
    let ms = [draw.between(1, 50), draw.between(1, 5_000), 86_400_000][draw.below(3) as usize];
    draw.percent(40).then_some(ms)
}

impl Checkpoints {
    fn draw(draw: &mut Draw, work: &mut Work) -> Self {
        let are_taken = draw.percent(60);
        if !are_taken {
            for action in [Action::Checkpointer, Action::AskForCheckpoint] {
                work.weights[action as usize] = 0;
            }
        }
        let mut bytes = [64 * KIB, 256 * KIB, 1 << 30][draw.below(3) as usize];
        let mut steps_max = [1, 6, 40][draw.below(3) as usize];
        let are_many = are_taken && draw.percent(50);
        if are_many {
            (bytes, steps_max) = (64 * KIB, 40);
            work.weights[Action::Checkpointer as usize] = 40;
            work.weights[Action::AskForCheckpoint as usize] = 15;
            work.weights[Action::Segments as usize] = 20;
        }
        Self { are_taken, are_many, bytes, steps_max }
    }
}

impl Work {
    fn draw(draw: &mut Draw, shape: &Shape) -> Self {
        let mut weights = Action::TYPICAL;
        for (action, weight) in weights.iter_mut().enumerate() {
            let needed = [Action::Place, Action::Writer].map(|action| action as usize);
            *weight = match draw.below(4) {
                0 if !needed.contains(&action) => 0,
                1 => *weight * 3,
                _ => *weight,
            };
        }
        let waits = Waits::draw(draw);
        let stock = [3, 20, if waits.percent == 0 { 300 } else { 5 }][draw.below(3) as usize];
        Self {
            skus: draw.between(1, 5),
            buyers: draw.between(1, 12),
            keys: [3, 40, 1_000][draw.weighted(&[1, 3, 3])],
            hot_percent: draw.below(101),
            lines: draw.between(1, shape.lines_max as u64),
            quantity: draw.between(1, 4),
            partial_percent: [0, 30, 100][draw.weighted(&[4, 4, 1])],
            stock,
            limit: draw.between(1, 6),
            rules: rules(draw, &waits),
            waits,
            payload_bytes: draw.below(shape.payload_bytes_max as u64 + 1),
            hold_ms: draw.between(1, shape.hold_max_ms),
            retry_percent: [0, 15, 50][draw.below(3) as usize],
            dated_percent: [0, 0, 50, 100][draw.below(4) as usize],
            is_rate_limited: draw.percent(15),
            weights,
            writers: (0..shape.shards).map(|_| [0, 1, 8][draw.weighted(&[1, 3, 6])]).collect(),
        }
    }
}

impl Waits {
    fn draw(draw: &mut Draw) -> Self {
        Self {
            percent: [0, 50, 90][draw.weighted(&[4, 3, 2])],
            impatient_percent: [0, 30, 100][draw.below(3) as usize],
            list_max: draw.between(1, 8),
            passes: draw.percent(40),
        }
    }
}

/// Limits and lists alone, or some of the other rules too.
fn rules(draw: &mut Draw, waits: &Waits) -> [u32; 10] {
    let mut rules: [u32; 10] = match draw.percent(50) {
        true => [1, 0, 0, 0, 0, 0, 0, 1, 1, 0],
        false => std::array::from_fn(|nth| draw.below(3) as u32 + u32::from(nth == 0)),
    };
    if waits.percent == 0 {
        rules[7] = 0;
    }
    if waits.percent == 0 || !waits.passes {
        rules[8] = 0;
    }
    rules
}

impl Faults {
    fn draw(draw: &mut Draw, shape: &Shape) -> Self {
        let mut some = |percent, ppm: [u64; 2]| match draw.percent(percent) {
            true => ppm[draw.below(2) as usize],
            false => 0,
        };
        let mut faults = Self {
            crash_ppm: some(60, [300, 3_000]),
            write_error_ppm: some(25, [3_000, 30_000]),
            sync_error_ppm: some(25, [1_000, 8_000]),
            read_error_ppm: some(20, [2_000, 10_000]),
            lost_ppm: some(15, [10_000, 60_000]),
            misdirected_ppm: some(15, [10_000, 60_000]),
            damage_percent: some(50, [30, 70]),
            wall_percent: some(50, [30, 80]),
            vary_percent: some(50, [20, 80]),
            power_percent: 0,
            survival: 0,
        };
        faults.power_percent = [20, 60, 100][draw.below(3) as usize];
        faults.survival = draw.below(3);
        if shape.durability == Durability::Written {
            // What is only written survives the process, and the machine perhaps: such a seed looks at that
            // alone. It does not survive a failed sync.
            faults.power_percent = [0, 40][draw.below(2) as usize];
            if faults.power_percent > 0 {
                (faults.damage_percent, faults.lost_ppm, faults.misdirected_ppm) = (0, 0, 0);
            }
            faults.sync_error_ppm = 0;
        }
        faults
    }
}
