//! Errors: the engine could not answer. Each names the field, the value and the bound that it
//! broke; what the host asked for did not happen, except where [`CommitError::Unknown`] says
//! otherwise.

mod kind;
mod stock;
#[cfg(all(test, not(loom)))]
mod tests;

use std::io;
use std::path::PathBuf;

use crate::ids::{OrderId, SkuId};
pub use kind::ErrorKind;
pub use stock::{MerchantError, StockError};

/// Why [`Engine::place`](crate::Engine::place) could not answer. Nothing changed; the key is free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The order has no lines.
    #[error("lines: 0 given, at least 1 needed")]
    NoLines,
    /// More lines, or minimums, than [`Options::lines_max`](crate::Options::lines_max), before folding.
    #[error("lines: {lines} given, at most {max}")]
    TooManyLines {
        /// How many were given.
        lines: usize,
        /// How many may be.
        max: usize,
    },
    /// A line asks for no units.
    #[error("quantity of {sku}: 0 given, at least 1 needed")]
    ZeroQuantity {
        /// The line's SKU.
        sku: SkuId,
    },
    /// The lines of a SKU ask for more than [`LINE_QUANTITY_MAX`](crate::LINE_QUANTITY_MAX) units.
    #[error("quantity of {sku}: {units} units wanted in all, at most {max}")]
    QuantityTooLarge {
        /// The SKU.
        sku: SkuId,
        /// What its lines add up to.
        units: u64,
        /// The bound.
        max: u32,
    },
    /// The hold is shorter than 1 ms or longer than [`Options::hold_max`](crate::Options::hold_max).
    #[error("hold: {hold_ms} ms given, {min_ms} to {max_ms} ms allowed")]
    HoldOutOfRange {
        /// What was given.
        hold_ms: u64,
        /// The lower bound.
        min_ms: u32,
        /// The upper bound.
        max_ms: u32,
    },
    /// The patience is shorter than 1 ms or longer than
    /// [`Options::patience_max`](crate::Options::patience_max).
    #[error("patience: {patience_ms} ms given, {min_ms} to {max_ms} ms allowed")]
    PatienceOutOfRange {
        /// What was given.
        patience_ms: u64,
        /// The lower bound.
        min_ms: u32,
        /// The upper bound.
        max_ms: u32,
    },
    /// An order of several SKUs cannot wait.
    #[error("lines: {lines} SKUs given, an order that may wait has 1")]
    WaitWithSeveralLines {
        /// How many lines it has, folded.
        lines: usize,
    },
    /// A minimum of an order that is not partial.
    #[error("minimum of {sku}: {minimum} given; only a partial order takes one")]
    MinimumWithoutPartial {
        /// The first SKU that was given one.
        sku: SkuId,
        /// The minimum.
        minimum: u32,
    },
    /// A minimum of a SKU that no line asks for.
    #[error("minimum of {sku}: {minimum} given, but no line asks for it")]
    MinimumWithoutLine {
        /// The SKU.
        sku: SkuId,
        /// The minimum.
        minimum: u32,
    },
    /// A minimum over what the SKU's lines ask for.
    #[error("minimum of {sku}: {minimum} given, at most the quantity, {quantity}")]
    MinimumTooLarge {
        /// The SKU.
        sku: SkuId,
        /// The minimum.
        minimum: u32,
        /// What its lines add up to.
        quantity: u32,
    },
    /// A priority class above the last one.
    #[error("class: {class} given, 0 to {max} allowed")]
    ClassOutOfRange {
        /// The class.
        class: u8,
        /// The last one, [`CLASS_MAX`](crate::CLASS_MAX).
        max: u8,
    },
    /// The payload is longer than [`Options::payload_bytes_max`](crate::Options::payload_bytes_max).
    #[error("payload: {bytes} bytes given, at most {max}")]
    PayloadTooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// No stock was ever set for the SKU.
    #[error("{sku} is not known")]
    UnknownSku {
        /// The SKU.
        sku: SkuId,
    },
    /// Carts that may still fail kept the answer open for too long. Try again.
    #[error("{sku} is contended: {tries} tries did not settle whether there is enough; try again")]
    Contended {
        /// The SKU that could not be settled.
        sku: SkuId,
        /// How often the engine tried.
        tries: u32,
    },
    /// The engine is full, closed or latched.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a verb on an order could not answer. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// This engine never used the id, or used it for an order that a crash erased before it was
    /// acknowledged.
    #[error("order {order} is not known")]
    UnknownOrder {
        /// The id.
        order: OrderId,
    },
    /// The order was finished, and [`Options::retention`](crate::Options::retention) is over: it has left memory.
    /// What it sold is still sold. A host that receives this for a payment must check the payment against its own
    /// books, and refund what these do not show as paid; see [`guide::retention`](crate::guide::retention). Returned
    /// at once: after a crash the order may be there again until it is retired anew.
    #[error("order {order} has ended and is no longer kept")]
    Retired {
        /// The id.
        order: OrderId,
    },
    /// The engine is full, closed or latched.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why [`Engine::place_batch`](crate::Engine::place_batch) took none of its orders.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// More orders than [`BATCH_ORDERS_MAX`](crate::BATCH_ORDERS_MAX).
    #[error("orders: {orders} given, at most {max}")]
    TooManyOrders {
        /// How many were given.
        orders: usize,
        /// How many may be.
        max: usize,
    },
    /// The engine is closed or latched.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The engine takes no such request now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The disk has fallen behind. Wait for [`Engine::ready`](crate::Engine::ready) and try again.
    #[error("log backlog: {bytes} bytes wait for the disk, at most {max}")]
    Backlogged {
        /// What waits in the part of the log that the request needs.
        bytes: u64,
        /// [`Options::log_backlog_bytes_max`](crate::Options::log_backlog_bytes_max), that part's
        /// share.
        max: u64,
    },
    /// A bound of the engine is reached; the others go on.
    #[error("capacity: {what} are bounded at {bound}")]
    AtCapacity {
        /// What there are too many of.
        what: Capacity,
        /// The bound.
        bound: u64,
    },
    /// The disk is full: no new orders, while confirm, cancel and expire use the room that was kept
    /// for them.
    #[error("disk: no room for another log segment of {segment_bytes} bytes")]
    DiskFull {
        /// What the engine could not get.
        segment_bytes: u64,
    },
    /// The process or the system is short of file descriptors or memory, and only the room that is kept for endings
    /// is left: no new orders. The engine tries again by itself and goes on when the shortage
    /// is over. See [`Estimate::descriptors`](crate::Estimate::descriptors).
    #[error(
        "system: too few file descriptors or too little memory for another log segment of \
         {segment_bytes} bytes"
    )]
    SystemShort {
        /// What the engine could not get.
        segment_bytes: u64,
    },
    /// A write or sync failed, or one of the engine's threads panicked. Reads go on; the host must open the
    /// folder anew.
    #[error("the log was latched by a failed {operation}: {detail}; open the folder anew")]
    Latched {
        /// What failed.
        operation: &'static str,
        /// The operating system's words, and the path; or the thread, and the words of its panic.
        detail: String,
    },
    /// [`Engine::close`](crate::Engine::close) was called.
    #[error("the engine is closed")]
    Closed,
    /// The engine was opened by [`Engine::open_read_only`](crate::Engine::open_read_only).
    #[error("the engine was opened for reading only")]
    ReadOnly,
    /// This process is a forked child of the one that opened the engine, and has none of the engine's threads. Only
    /// calls that would wait for those threads return this: see [`guide::durability`](crate::guide::durability#forks).
    #[error("forked: another process opened the engine, and its threads are not in this one")]
    Forked,
}

/// What an engine can have too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capacity {
    /// Orders in one partition: its share of [`Options::orders_max`](crate::Options::orders_max).
    Orders,
    /// SKUs: [`Options::skus_max`](crate::Options::skus_max).
    Skus,
    /// Merchants: [`Options::merchants_max`](crate::Options::merchants_max).
    Merchants,
    /// Pairs of buyer and SKU that one partition counts for buyer limits: its share of
    /// [`Options::buyers_tracked_max`](crate::Options::buyers_tracked_max).
    BuyersTracked,
    /// Order ids of one partition. The engine reserves more while it runs, up to [2^53](crate::OrderId) in all. The
    /// bound in the error is the end of those that are reserved.
    OrderIds,
    /// Adjustment keys of one SKU that are kept: at most 1,048,576 at a time, each for
    /// [`Options::adjust_retention`](crate::Options::adjust_retention).
    AdjustKeys,
    /// Changes that are not durable yet, of the rules of one SKU or one merchant or of the engine's switch: at
    /// most 256 each. Wait for their commits.
    RulesInFlight,
}

impl std::fmt::Display for Capacity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Orders => "orders of one partition",
            Self::Skus => "SKUs",
            Self::Merchants => "merchants",
            Self::BuyersTracked => "buyers counted for limits in one partition",
            Self::OrderIds => "sequences of order ids of one partition",
            Self::AdjustKeys => "adjustment keys of one SKU",
            Self::RulesInFlight => "changes of the same rules that are not durable",
        })
    }
}

/// Why a [`Commit`](crate::Commit) has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The log was latched by a failed write or sync: the change may or may not survive. Open the
    /// folder anew and send the same key again; never take this for a refusal.
    #[error("unknown: the log was latched before the change was known to be durable")]
    Unknown,
    /// The engine went away before the change was durable.
    #[error("closed: the engine was closed before the change was known to be durable")]
    Closed,
    /// This process is a forked child of the one that opened the engine. Nothing of the change is in the log,
    /// and nothing will be.
    #[error("forked: another process opened the engine, and nothing is logged from this one")]
    Forked,
}

/// Why a [`Watch`](crate::Watch) cannot tell how an order went on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The engine was closed or latched before the order had left its list, or before that was durable.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The order has left memory since. Or it was served, its hold is over, and the disk has fallen so far behind that
    /// this end cannot be logged yet.
    #[error(transparent)]
    Order(#[from] OrderError),
}

/// Why there is no new [`Checkpoint`](crate::Checkpoint). Those before it, and the log, are as they were,
/// and the engine goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A call to the disk failed, or what was written reads back otherwise. It is not tried again; the
    /// next checkpoint is a new file.
    #[error("checkpoint: {operation} failed: {detail}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The file, and the operating system's words.
        detail: String,
    },
    /// The engine takes nothing at all.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why [`Engine::backup`](crate::Engine::backup) made no backup. What it wrote has no manifest, and is no
/// engine's folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The folder for the backup has something in it.
    #[error("{}: not empty: {found} is there", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// A name found in it.
        found: String,
    },
    /// The folder for the backup lies in the engine's own folder, which must hold nothing else.
    #[error("{}: a backup cannot lie in the folder that it copies, {}", path.display(), folder.display())]
    Inside {
        /// The folder for the backup.
        path: PathBuf,
        /// The engine's folder.
        folder: PathBuf,
    },
    /// The engine is closed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A call to either disk failed, or what was read is damaged.
    #[error(transparent)]
    Failed(#[from] OpenError),
}

/// What [`Engine::close`](crate::Engine::close) could not do, or found and the host must check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The log is latched: what waited got [`CommitError::Unknown`].
    #[error("the log was latched by a failed {operation}: {detail}")]
    Latched {
        /// What failed.
        operation: &'static str,
        /// The operating system's words, and the path; or the thread, and the words of its panic.
        detail: String,
    },
    /// Everything is durable in the folder that was opened, but the folder's path leads to another folder
    /// now. A volume was mounted over it, or a link or a name changed. An open by this path would not
    /// find this engine's orders.
    #[error("{}: the path leads to another folder than the one that the engine used", path.display())]
    Displaced {
        /// The path.
        path: PathBuf,
    },
    /// This process is a forked child of the one that opened the engine, which stays open there.
    #[error("forked: another process opened the engine, and only that one can close it")]
    Forked,
}

/// Why a folder could not be opened. Nothing in it was changed, unless a step of the recovery itself
/// failed; a later open decides anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An option is out of its range, or two contradict each other.
    #[error("option {field}: {value} given, {bound}")]
    InvalidOption {
        /// The option.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        bound: String,
    },
    /// The folder was created with another value of an option that cannot change.
    #[error("option {field}: {asked} asked for, but {} was created with {found}", path.display())]
    ShapeMismatch {
        /// The option.
        field: &'static str,
        /// What was asked for.
        asked: u64,
        /// What the folder has.
        found: u64,
        /// The folder.
        path: PathBuf,
    },
    /// Another engine, in this process or another, has the folder open.
    #[error("{}: in use by another engine", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// While the folder was opened, its path came to lead to another folder: a volume was mounted over it,
    /// or a link or a name changed. Nothing was served; open again.
    #[error("{}: while it was opened, the path came to lead to another folder", path.display())]
    Displaced {
        /// The path.
        path: PathBuf,
    },
    /// The folder is not empty and holds no engine.
    #[error("{}: not an engine's folder: {found} is not ours", path.display())]
    NotAnEngine {
        /// The folder.
        path: PathBuf,
        /// A name found in it.
        found: String,
    },
    /// The folder was written by a newer version of this crate.
    #[error("{}: format version {found}, but this program knows only up to {known}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version known here.
        known: u16,
    },
    /// No permission.
    #[error("{}: permission denied", path.display())]
    PermissionDenied {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file system is mounted for reading only.
    /// [`Engine::open_read_only`](crate::Engine::open_read_only) opens what is there.
    #[error("{}: the file system is mounted for reading only", path.display())]
    ReadOnly {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The disk is full, or a quota is used up.
    #[error("{}: no room on the disk", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The system has no memory for the tables of [`Options::orders_reserved`](crate::Options::orders_reserved)
    /// orders, or of the orders in the checkpoint if these are more.
    #[error("memory: the system refused {bytes} bytes for the tables of {orders} orders")]
    OutOfMemory {
        /// How many orders memory is set aside for; the share of every partition is rounded up.
        orders: u64,
        /// How many bytes that takes.
        bytes: u64,
    },
    /// Another error of the operating system. A read error never cuts anything off.
    #[error("{}: {operation} failed", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// What was acknowledged is damaged or missing.
    #[error("{}: damaged at byte {offset}{}: {damage}", path.display(), shard_suffix(*shard))]
    Corrupt {
        /// The log shard, where one is concerned.
        shard: Option<u16>,
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        damage: String,
    },
    /// The wall clock is further ahead of the log than
    /// [`Options::clock_jump_max`](crate::Options::clock_jump_max). The engine cannot tell a long downtime, or a
    /// machine that slept while its boot clock stood still, from a wall clock that was set wrongly. Check the clock,
    /// then open with
    /// [`Options::accept_clock_jump`](crate::Options::accept_clock_jump).
    #[error(
        "wall clock: {wall_ms} ms is {} ms ahead of the log's {log_ms} ms, at most {max_ms} ms",
        wall_ms - log_ms
    )]
    ClockJump {
        /// The wall clock, Unix time in milliseconds.
        wall_ms: u64,
        /// The latest engine time in the log, in milliseconds; within the boot that wrote it, plus the time that has
        /// passed since by the boot clock.
        log_ms: u64,
        /// The bound.
        max_ms: u64,
    },
    /// By the boot clock more than [`Options::clock_jump_max`](crate::Options::clock_jump_max) has passed since the
    /// end of the log, and the wall clock is more than that bound behind. Either the wall clock was set back, or the
    /// boot clock belongs to another time namespace. Check the clock. Then open with
    /// [`Options::accept_clock_jump`](crate::Options::accept_clock_jump) to use the wall clock, or with a larger
    /// `clock_jump_max` to use the boot clock.
    #[error(
        "wall clock: {wall_ms} ms is {} ms behind the {log_ms} ms that the log and the boot clock come \
         to, at most {max_ms} ms",
        log_ms - wall_ms
    )]
    ClockBehind {
        /// The wall clock, Unix time in milliseconds.
        wall_ms: u64,
        /// The latest engine time in the log plus the time that has passed since by the boot clock, in milliseconds.
        log_ms: u64,
        /// The bound.
        max_ms: u64,
    },
    /// The wall clock shows a time that the log cannot hold. Nothing was written. Set the clock right.
    #[error("clock: {time_ms} ms is past the last time that the log can hold, {max_ms} ms")]
    ClockOutOfRange {
        /// The wall clock, or the log's time plus what has passed by the boot clock: Unix time in milliseconds.
        time_ms: u64,
        /// The bound, in the year 2116.
        max_ms: u64,
    },
}

fn shard_suffix(shard: Option<u16>) -> String {
    shard.map(|shard| format!(" (log shard {shard})")).unwrap_or_default()
}

impl OpenError {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { path, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, source }
            }
            _ => Self::Io { operation, path, source },
        }
    }
}

pub(crate) const fn at_capacity(what: Capacity, bound: u64) -> Unavailable {
    Unavailable::AtCapacity { what, bound }
}
