//! [`Options`]: how an engine is opened, every bound with its default, range and cost.

#[cfg(feature = "serde")]
mod serialised;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bounds::{
    Bounds, HOLD_MAX, Keep, LINES_MAX, LOG_RETENTION_MAX, PATIENCE_MAX, PAYLOAD_BYTES_MAX,
    RETENTION_DEFAULT, RETENTION_MAX, share,
};
use crate::clock::{Clock, SystemClock};
use crate::error::OpenError;
use crate::ids::PARTITION_BITS;
use crate::progress::{OnRecovery, RecoveryProgress};
use crate::storage::{ALIGN_BYTES, Disk, Storage};

/// What an acknowledged order survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Durability {
    /// Loss of power: a block is acknowledged once the disk says that it has it.
    #[default]
    Synced,
    /// A crash of the process, not of the machine: a block is acknowledged once the operating system
    /// has it.
    Written,
}

/// The options of an engine. A value out of its range is refused by [`Engine::open`](crate::Engine::open),
/// never clamped.
///
/// ```
/// use doorbuster::{Durability, Options};
///
/// let options = Options::new("./sale").durability(Durability::Written).orders_max(5_000_000);
/// # let _ = options;
/// ```
#[must_use = "options do nothing until an engine is opened with them"]
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) durability: Durability,
    pub(crate) partitions: Option<usize>,
    pub(crate) log_shards: Option<usize>,
    pub(crate) segment_bytes: u64,
    pub(crate) block_bytes_max: usize,
    pub(crate) log_backlog_bytes_max: u64,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) log_retention: Option<Duration>,
    pub(crate) orders_max: u64,
    pub(crate) orders_reserved: u64,
    pub(crate) skus_max: usize,
    pub(crate) merchants_max: usize,
    pub(crate) buyers_tracked_max: u64,
    pub(crate) lines_max: usize,
    pub(crate) payload_bytes_max: usize,
    pub(crate) hold_default: Duration,
    pub(crate) hold_max: Duration,
    pub(crate) patience_max: Duration,
    pub(crate) retention: Duration,
    /// `None`: as long as the others.
    pub(crate) returns_window: Option<Duration>,
    pub(crate) finish_on_confirm: bool,
    pub(crate) key_ahead_max: Duration,
    pub(crate) adjust_retention: Option<Duration>,
    /// For how long, and how many.
    pub(crate) remember_refusals: Option<(Duration, u64)>,
    pub(crate) clock_jump_max: Duration,
    pub(crate) accept_clock_jump: bool,
    pub(crate) cut_after_power_loss: bool,
    pub(crate) on_recovery: Option<OnRecovery>,
    /// Everything on the calling thread: for stepped engines.
    pub(crate) single_threaded: bool,
    /// Sequences of order ids that are reserved at a time; tests reserve fewer.
    pub(crate) ids_reserved: u64,
}

/// Half of them last the busiest partition some hundred milliseconds, in which the manifest is written many
/// times over. 2^23 unclean stops use up all there are.
const IDS_RESERVED: u64 = 1 << 20;

pub(crate) const PARTITIONS_DEFAULT: usize = 64;
pub(crate) const LOG_SHARDS_DEFAULT: usize = 2;
const LOG_SHARDS_MAX: usize = 64;
const BLOCK_BYTES_MIN: usize = 16 * 1024;
const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Options {
    /// Opens the engine in this folder of the disk, making it if it is not there.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        Self::on_storage(Arc::new(Disk::new(folder.as_ref())))
    }

    /// Opens the engine on another [`Storage`].
    pub fn on_storage(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            clock: Arc::new(SystemClock::new()),
            durability: Durability::Synced,
            partitions: None,
            log_shards: None,
            segment_bytes: 64 << 20,
            block_bytes_max: 256 << 10,
            log_backlog_bytes_max: 64 << 20,
            checkpoint_bytes: 1 << 30,
            log_retention: None,
            orders_max: 100_000_000,
            orders_reserved: 0,
            skus_max: 1 << 20,
            merchants_max: 1 << 16,
            buyers_tracked_max: 100_000_000,
            lines_max: LINES_MAX,
            payload_bytes_max: 4096,
            hold_default: Duration::from_secs(15 * 60),
            hold_max: HOLD_MAX,
            patience_max: Duration::from_secs(24 * 3600),
            retention: RETENTION_DEFAULT,
            returns_window: None,
            finish_on_confirm: false,
            key_ahead_max: Duration::from_secs(5 * 60),
            adjust_retention: None,
            remember_refusals: None,
            clock_jump_max: Duration::from_secs(7 * 24 * 3600),
            accept_clock_jump: false,
            cut_after_power_loss: false,
            on_recovery: None,
            single_threaded: false,
            ids_reserved: IDS_RESERVED,
        }
    }

    /// Sets where the engine reads the time. Default: the system's clocks.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets what an acknowledged order survives. Default: [`Durability::Synced`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets into how many parts the buyers are divided; each has its own lock. A power of two from 1 to
    /// 1,024; fixed when the folder is created. Default: 64. Each costs some 40 KiB at open, up to 0.8 MB once
    /// orders have come and gone, and a share of the log backlog. More than ten times the calling threads gains
    /// nothing.
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Sets how many files of the log are written side by side, each by a thread of its own. 1 to 64, at
    /// most the number of partitions; fixed when the folder is created. Default: 2. Each costs two
    /// segments of disk, a thread, and 24 bytes in the header of every block.
    pub fn log_shards(mut self, shards: usize) -> Self {
        self.log_shards = Some(shards);
        self
    }

    /// Sets how large a file of the log is, in bytes: a multiple of 4,096, at least twice
    /// [`Options::block_bytes_max`]. Default: 64 MiB. A shard keeps one segment ahead, written full
    /// of zeros.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets how much one write to the log may carry, in bytes: a multiple of 4,096 from 16 KiB to 4 MiB,
    /// large enough for the largest order (20 bytes a line of [`Options::lines_max`], plus
    /// [`Options::payload_bytes_max`], plus 8 KiB). Default: 256 KiB.
    pub fn block_bytes_max(mut self, bytes: usize) -> Self {
        self.block_bytes_max = bytes;
        self
    }

    /// Sets how many bytes of records may wait for the disk; shared out evenly between the partitions, each share at
    /// least twice the largest record. Default: 64 MiB. Costs an eighth of it in memory, at most 128 KiB a partition,
    /// taken at open; and twice the bound once the disk has fallen that far behind.
    pub fn log_backlog_bytes_max(mut self, bytes: u64) -> Self {
        self.log_backlog_bytes_max = bytes;
        self
    }

    /// Sets the bytes of log between checkpoints: 64 KiB to 1 PiB. Default: 1 GiB. The log before a checkpoint need not
    /// be kept or read again. If the last checkpoint was larger, its size is used instead, so checkpoints write no more
    /// than the log does. A larger value makes restarts slower, and keeps up to three times as much log, and three
    /// checkpoints, on disk.
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = bytes;
        self
    }

    /// Sets how long log that no checkpoint needs is kept, for audits and feeds, in engine time:
    /// 1 ms to [`LOG_RETENTION_MAX`], in whole milliseconds. Until then its files stay where they are;
    /// then they are recycled as the log needs room. Default: they are recycled at once.
    ///
    /// Costs the disk all the log of that time: 66 to 70 bytes a record under load; some 200 for an
    /// order that is placed, confirmed and fulfilled. A full disk takes it back, the oldest first,
    /// before any order is refused: [`Stats::segments_recycled_early`](crate::Stats::segments_recycled_early)
    /// counts that. See [`guide::retention`](crate::guide::retention#the-log).
    pub fn log_retention(mut self, retention: Duration) -> Self {
        self.log_retention = Some(retention);
        self
    }

    /// Sets how many orders may be in memory; shared out between the partitions, each share a quarter
    /// larger than its part since buyers spread unevenly. Finished ones count until their
    /// [retention](Options::retention) is over. At least 1. Default: 100 million. An order of one
    /// line costs about 110 bytes beside its payload.
    pub fn orders_max(mut self, orders: u64) -> Self {
        self.orders_max = orders;
        self
    }

    /// Sets the number of orders for which memory is set aside and touched at open, so that no request pays for it:
    /// the first touch of fresh memory costs a virtual machine 9 to 16 µs for every 4 KiB. At most
    /// [`Options::orders_max`]. Default: 0, memory is taken in small steps as orders come. Costs some 110 bytes an
    /// order, and about half a second at open for a million.
    pub fn orders_reserved(mut self, orders: u64) -> Self {
        self.orders_reserved = orders;
        self
    }

    /// Sets how many SKUs there may be: 1 to 2^26. Default: 1,048,576. Costs 16 bytes each up front (as
    /// address space, touched when used) and 256 bytes for each that exists.
    pub fn skus_max(mut self, skus: usize) -> Self {
        self.skus_max = skus;
        self
    }

    /// Sets how many merchants there may be: 1 to 2^20. Default: 65,536. Costs 256 bytes for each that exists,
    /// taken for 64 at a time.
    pub fn merchants_max(mut self, merchants: usize) -> Self {
        self.merchants_max = merchants;
        self
    }

    /// Sets how many pairs of buyer and SKU may be counted for buyer limits; shared out between the
    /// partitions as orders are. 1 to 2^40. Default: 100 million. Each costs some 40 bytes, only for
    /// SKUs that have a limit, until [`Engine::end_sale`](crate::Engine::end_sale). At the bound an
    /// order that needs another pair is refused as
    /// [`AtCapacity`](crate::Unavailable::AtCapacity).
    pub fn buyers_tracked_max(mut self, pairs: u64) -> Self {
        self.buyers_tracked_max = pairs;
        self
    }

    /// Sets how many lines an order may have, before folding: 1 to [`LINES_MAX`]. Default: 4,096.
    pub fn lines_max(mut self, lines: usize) -> Self {
        self.lines_max = lines;
        self
    }

    /// Sets how long a payload or a reference may be, in bytes: 0 to [`PAYLOAD_BYTES_MAX`]. Default:
    /// 4,096.
    pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
        self.payload_bytes_max = bytes;
        self
    }

    /// Sets how long stock is held when the order does not say: 1 ms to [`Options::hold_max`]. Default:
    /// 15 minutes.
    pub fn hold_default(mut self, hold: Duration) -> Self {
        self.hold_default = hold;
        self
    }

    /// Sets the longest hold that an order may ask for: 1 ms to [`HOLD_MAX`]. Default: 30 days.
    pub fn hold_max(mut self, hold: Duration) -> Self {
        self.hold_max = hold;
        self
    }

    /// Sets the longest patience that an order with [`Fill::Wait`](crate::Fill::Wait) may ask for: 1 ms to
    /// [`PATIENCE_MAX`]. Default: 24 hours.
    pub fn patience_max(mut self, patience: Duration) -> Self {
        self.patience_max = patience;
        self
    }

    /// Sets how long an order and its key stay answerable after it was cancelled, expired or fulfilled, in
    /// engine time: 1 ms to [`RETENTION_MAX`], in whole milliseconds. Then it leaves memory, its id
    /// answers [`OrderError::Retired`](crate::OrderError::Retired) and its key counts as new; what it
    /// sold stays in the SKU's levels. See [`guide::retention`](crate::guide::retention).
    /// Default: 48 hours.
    ///
    /// Costs memory: orders placed in this time, 120 bytes each beside payloads and carts; five
    /// million orders a day kept for one more day are 600 MB. It can be changed between two opens
    /// and then acts on all orders that are in memory.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Sets how long a fulfilled order stays answerable, for hosts that take goods back:
    /// [`Options::retention`] to [`RETENTION_MAX`], in whole milliseconds. Default: as long as the
    /// other finished orders. Costs what a longer retention does.
    pub fn returns_window(mut self, window: Duration) -> Self {
        self.returns_window = Some(window);
        self
    }

    /// Treats confirmed orders as finished, for hosts that never fulfil. Without it an order that is confirmed, and
    /// never fulfilled or cancelled, stays in memory forever. While it is in memory it can still be cancelled or
    /// fulfilled, and its retention then begins anew. Default: no.
    pub fn finish_on_confirm(mut self, finish: bool) -> Self {
        self.finish_on_confirm = finish;
        self
    }

    /// Sets how far the time of a key that is a [`UuidV7`](crate::KeyKind::UuidV7) may be ahead of
    /// engine time and of the wall clock, for clients whose clocks are ahead: 1 ms to [`RETENTION_MAX`], in whole
    /// milliseconds. A key that is further ahead, and has no order, is refused as
    /// [`KeyTooNew`](crate::Refusal::KeyTooNew). Default: 5 minutes. The cost: a key may count as new for
    /// that long after its order has left memory.
    pub fn key_ahead_max(mut self, ahead: Duration) -> Self {
        self.key_ahead_max = ahead;
        self
    }

    /// Sets how long the key of an adjustment is kept, in engine time: 1 ms to [`RETENTION_MAX`], in whole
    /// milliseconds. After that a key that is a [`UuidV7`](crate::KeyKind::UuidV7) is answered with
    /// [`KeyTooOld`](crate::Adjusted::KeyTooOld), and any other key counts as new. The adjustment itself stays.
    /// Default: as long as [`Options::retention`], and at least 48 hours.
    ///
    /// A SKU keeps at most 1,048,576 keys; an adjustment beyond that is refused
    /// ([`Capacity::AdjustKeys`](crate::error::Capacity::AdjustKeys)). A key costs some 120 bytes. A shorter
    /// retention acts on all keys that are kept; a longer one on those that are still kept when it is set.
    pub fn adjust_retention(mut self, retention: Duration) -> Self {
        self.adjust_retention = Some(retention);
        self
    }

    /// Remembers refusals, durably: one key, one outcome, for refused requests too. For this long, in engine time, a
    /// repeat of a refused key receives [`RefusedBefore`](crate::Placed::RefusedBefore) with the first refusal,
    /// whatever is true by then, also after a crash: a late duplicate cannot buy what the buyer was refused.
    /// [`Refusal::is_remembered`](crate::Refusal::is_remembered) says which refusals. 1 ms to [`RETENTION_MAX`], in
    /// whole milliseconds. Default: a refusal leaves no trace.
    ///
    /// At most `count_max` are remembered, 1 to 2^30, shared out between the partitions as orders are. A partition
    /// that has its share forgets its oldest refusal for each new one, because a flood of refusals must not keep the
    /// next one from its answer, and a duplicate of the oldest is the least likely to be still on its way. Choose the
    /// number of requests that a sale refuses in that time.
    ///
    /// A remembered refusal costs what an order costs: the partition's lock, a record of 96 bytes, and the wait until
    /// that is durable; a disk that has fallen behind or is full makes it an error. A refusal that leaves no trace
    /// takes no lock and is returned at once. Each costs some 150 bytes of memory. Orders cost the same. The option
    /// can be changed between two opens: refusals that are remembered already keep their time; an open without the
    /// option forgets them all.
    pub fn remember_refusals(mut self, duration: Duration, count_max: u64) -> Self {
        self.remember_refusals = Some((duration, count_max));
        self
    }

    /// Sets how far the wall clock may be ahead of the log at open. Default: 7 days. Beyond it the open is refused
    /// ([`OpenError::ClockJump`]), since every hold would expire at once if the clock is wrong.
    ///
    /// Within the boot that wrote the log, the wall clock is compared with the log's time plus the time that has
    /// passed since by the boot clock, in both directions: see [`OpenError::ClockBehind`]. A difference within the
    /// bound changes nothing; [`Stats::clock_skew_ms`](crate::Stats::clock_skew_ms) shows it. Clocks of one machine
    /// may differ by some milliseconds, so a bound below a second can refuse a healthy folder.
    pub fn clock_jump_max(mut self, jump: Duration) -> Self {
        self.clock_jump_max = jump;
        self
    }

    /// Accepts the wall clock as it is, however far ahead of the log. Default: no.
    ///
    /// Engine time then starts at the later of the wall clock and the latest time in the log, and the boot
    /// clock is ignored. Use this for one open, after the clock was checked.
    pub fn accept_clock_jump(mut self, accept: bool) -> Self {
        self.accept_clock_jump = accept;
        self
    }

    /// After a loss of power under [`Durability::Written`]: cuts all shards back to the latest state
    /// that is consistent, losing acknowledged orders. Without it such a folder is refused as
    /// corrupt. A log that was written under [`Durability::Synced`] is never cut like that.
    /// Default: no.
    pub fn cut_after_power_loss(mut self, cut: bool) -> Self {
        self.cut_after_power_loss = cut;
        self
    }

    /// Calls `tell` while an open recovers: before anything is read, after every 4 MiB that were read, and
    /// at the end. The threads that recover call it, one at a time, and wait while it runs. Default: nothing.
    ///
    /// ```
    /// use doorbuster::Options;
    ///
    /// let options = Options::new("./sale").on_recovery(|progress| {
    ///     println!("{} of at most {} bytes", progress.bytes, progress.bytes_max);
    /// });
    /// # let _ = options;
    /// ```
    pub fn on_recovery(mut self, tell: impl Fn(RecoveryProgress) + Send + Sync + 'static) -> Self {
        self.on_recovery = Some(OnRecovery(Arc::new(tell)));
        self
    }

    /// Checks every value, and derives what the request path needs.
    pub(crate) fn validate(&self) -> Result<Bounds, OpenError> {
        self.validate_shape()?;
        in_range("lines_max", self.lines_max as u64, 1, LINES_MAX as u64)?;
        in_range("payload_bytes_max", self.payload_bytes_max as u64, 0, PAYLOAD_BYTES_MAX as u64)?;
        self.validate_log()?;
        in_range("orders_max", self.orders_max, 1, 1 << 40)?;
        in_range("orders_reserved", self.orders_reserved, 0, self.orders_max)?;
        in_range("skus_max", self.skus_max as u64, 1, 1 << 26)?;
        in_range("merchants_max", self.merchants_max as u64, 1, 1 << 20)?;
        in_range("buyers_tracked_max", self.buyers_tracked_max, 1, 1 << 40)?;
        let keep = self.validate_retention()?;
        let hold_max_ms = whole_ms("hold_max", self.hold_max, HOLD_MAX)?;
        let hold_default_ms = whole_ms("hold_default", self.hold_default, self.hold_max)?;
        Ok(Bounds {
            lines_max: self.lines_max,
            payload_bytes_max: self.payload_bytes_max,
            hold_default_ms,
            hold_max_ms,
            patience_max_ms: whole_ms("patience_max", self.patience_max, PATIENCE_MAX)?,
            keep,
            key_ahead_max_ms: exact_ms("key_ahead_max", self.key_ahead_max, MS, RETENTION_MAX)?,
            adjust_retention_ms: exact_ms(
                "adjust_retention",
                self.adjusts_kept_for(),
                MS,
                RETENTION_MAX,
            )?,
            remember_ms: self.validate_refusals()?,
            retire_bytes_max: self.record_bytes_max(),
        })
    }

    fn adjusts_kept_for(&self) -> Duration {
        self.adjust_retention.unwrap_or(self.retention.max(RETENTION_DEFAULT))
    }

    pub(crate) fn adjust_retention_ms(&self) -> u64 {
        self.adjusts_kept_for().as_millis() as u64
    }

    fn validate_refusals(&self) -> Result<Option<u64>, OpenError> {
        let Some((duration, count_max)) = self.remember_refusals else { return Ok(None) };
        in_range("remember_refusals.count_max", count_max, 1, 1 << 30)?;
        exact_ms("remember_refusals.duration", duration, MS, RETENTION_MAX).map(Some)
    }

    /// Returns how many refusals a partition remembers, if it does.
    pub(crate) fn refusals_share(&self, partitions: usize) -> Option<u64> {
        self.remember_refusals.map(|(_, count_max)| share(count_max, partitions as u64))
    }

    fn validate_retention(&self) -> Result<Keep, OpenError> {
        let retention_ms = exact_ms("retention", self.retention, MS, RETENTION_MAX)?;
        let window = self.returns_window.unwrap_or(self.retention);
        let returns_window_ms = exact_ms("returns_window", window, self.retention, RETENTION_MAX)?;
        if let Some(retention) = self.log_retention {
            exact_ms("log_retention", retention, MS, LOG_RETENTION_MAX)?;
        }
        Ok(Keep { retention_ms, returns_window_ms, finish_on_confirm: self.finish_on_confirm })
    }

    pub(crate) fn log_retention_ms(&self) -> Option<u64> {
        self.log_retention.map(|retention| retention.as_millis() as u64)
    }

    fn validate_shape(&self) -> Result<(), OpenError> {
        if let Some(partitions) = self.partitions
            && (!partitions.is_power_of_two() || partitions > 1 << PARTITION_BITS)
        {
            return Err(OpenError::InvalidOption {
                field: "partitions",
                value: partitions.to_string(),
                bound: format!("must be a power of two from 1 to {}", 1 << PARTITION_BITS),
            });
        }
        let shards_max = LOG_SHARDS_MAX.min(self.partitions.unwrap_or(PARTITIONS_DEFAULT));
        match self.log_shards {
            Some(shards) => in_range("log_shards", shards as u64, 1, shards_max as u64),
            None => Ok(()),
        }
    }

    fn validate_log(&self) -> Result<(), OpenError> {
        let block_min =
            BLOCK_BYTES_MIN.max((self.record_bytes_max() + 8192).next_multiple_of(ALIGN_BYTES));
        let block = self.block_bytes_max as u64;
        aligned("block_bytes_max", block, block_min as u64, BLOCK_BYTES_MAX as u64)?;
        aligned("segment_bytes", self.segment_bytes, 2 * block, 1 << 40)?;
        in_range("checkpoint_bytes", self.checkpoint_bytes, 64 << 10, 1 << 50)?;
        self.backlog_share(self.partitions.unwrap_or(PARTITIONS_DEFAULT)).map(drop)
    }

    /// No record is longer: an order's fixed part, its lines and what is missing of them, its payload, and
    /// padding.
    fn record_bytes_max(&self) -> usize {
        248 + 20 * self.lines_max + self.payload_bytes_max
    }

    /// Returns how many bytes of one partition's records may wait for the disk.
    pub(crate) fn backlog_share(&self, partitions: usize) -> Result<u64, OpenError> {
        let min = (2 * self.record_bytes_max() * partitions) as u64;
        if self.log_backlog_bytes_max < min {
            return Err(OpenError::InvalidOption {
                field: "log_backlog_bytes_max",
                value: self.log_backlog_bytes_max.to_string(),
                bound: format!("must be at least {min} with {partitions} partitions"),
            });
        }
        Ok(self.log_backlog_bytes_max / partitions as u64)
    }

    /// Returns the folder, for messages.
    pub(crate) fn folder(&self) -> PathBuf {
        self.storage.root()
    }

    /// Returns how many threads work at a recovery.
    pub(crate) fn recovery_threads(&self) -> usize {
        match self.single_threaded {
            true => 1,
            false => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    pub(crate) fn shape_for_new_folder(&self) -> (usize, usize) {
        let partitions = self.partitions.unwrap_or(PARTITIONS_DEFAULT);
        let shards = self.log_shards.unwrap_or(LOG_SHARDS_DEFAULT.min(partitions));
        (partitions, shards)
    }
}

fn in_range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), OpenError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let bound = format!("must be {min} to {max}");
    Err(OpenError::InvalidOption { field, value: value.to_string(), bound })
}

fn aligned(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), OpenError> {
    if (min..=max).contains(&value) && value.is_multiple_of(ALIGN_BYTES as u64) {
        return Ok(());
    }
    let bound = format!("must be a multiple of {ALIGN_BYTES} from {min} to {max}");
    Err(OpenError::InvalidOption { field, value: value.to_string(), bound })
}

const MS: Duration = Duration::from_millis(1);

fn exact_ms(
    field: &'static str,
    value: Duration,
    min: Duration,
    max: Duration,
) -> Result<u64, OpenError> {
    let whole = value.subsec_nanos().is_multiple_of(1_000_000);
    if whole && (min..=max).contains(&value) {
        return Ok(value.as_millis() as u64);
    }
    let bound = format!("must be {min:?} to {max:?}, in whole milliseconds");
    Err(OpenError::InvalidOption { field, value: format!("{value:?}"), bound })
}

fn whole_ms(field: &'static str, value: Duration, max: Duration) -> Result<u32, OpenError> {
    if value < Duration::from_millis(1) || value > max {
        return Err(OpenError::InvalidOption {
            field,
            value: format!("{value:?}"),
            bound: format!("must be 1 ms to {max:?}"),
        });
    }
    Ok(value.as_millis() as u32)
}

#[cfg(test)]
impl Default for Bounds {
    fn default() -> Self {
        Options::new("unused").validate().expect("the defaults are valid")
    }
}
