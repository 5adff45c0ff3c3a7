//! What an engine will need, computed before it is opened: memory, disk, and the time of a restart.

use std::time::Duration;

use crate::checkpoint::{BuyerEntry, LineEntry, OrderEntry, RefusalEntry, SkuEntry};
use crate::error::OpenError;
use crate::log::{
    ORDER_BYTES, SPARES_OPEN_MAX, UNSYNCED_MAX, kept_bytes, place_bytes, retire_bytes,
};
use crate::options::{Durability, LOG_SHARDS_DEFAULT, Options, PARTITIONS_DEFAULT};
use crate::partition::costs;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// What the allocator adds to a box of its own.
const BOX_BYTES: u64 = 16;
/// A SKU with its place in the registry, and one adjustment that it remembers.
const SKU_BYTES: u64 = 512;
/// An entry of a buyer limit, in a map that is half full.
const BUYER_BYTES: u64 = 80;
/// Threads with their stacks, buffers of writers and checkpointer, and what the process takes anyway.
const PROCESS_BYTES: u64 = 16 << 20;
/// Of the folder, its lock, the manifest, and of a checkpoint and a backup on their way.
const OTHER_DESCRIPTORS: u64 = 16;
/// How many orders one record of retirement names under load.
const RETIRED_A_RECORD: usize = 64;

/// The load of an engine, for [`Options::estimate`].
///
/// ```
/// use std::time::Duration;
/// use doorbuster::Workload;
///
/// let workload = Workload::a_day(5_000_000).skus(10_000).live_for(Duration::from_secs(36 * 3600));
/// # let _ = workload;
/// ```
#[must_use = "it is for Options::estimate"]
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    orders_a_day: u64,
    live_for: Duration,
    skus: u64,
    limited: u64,
    lines: usize,
    payload_bytes: usize,
    records_per_s: u64,
    checkpoint_orders_per_s: u64,
    touched_bytes_per_s: u64,
}

impl Workload {
    /// Makes a workload of `orders` orders a day, each of one line without payload, placed, confirmed and fulfilled.
    pub fn a_day(orders: u64) -> Self {
        Self {
            orders_a_day: orders,
            live_for: DAY,
            skus: 1000,
            limited: 0,
            lines: 1,
            payload_bytes: 0,
            records_per_s: 3_500_000,
            checkpoint_orders_per_s: 8_000_000,
            touched_bytes_per_s: 250_000_000,
        }
    }

    /// Sets the time from the placing of an order until it is fulfilled, cancelled or expired.
    /// Default: one day.
    pub fn live_for(mut self, time: Duration) -> Self {
        self.live_for = time;
        self
    }

    /// Sets how many SKUs there are. Default: 1,000.
    pub fn skus(mut self, skus: u64) -> Self {
        self.skus = skus;
        self
    }

    /// Sets how many pairs of buyer and SKU are counted for buyer limits. Default: 0.
    pub fn limited(mut self, pairs: u64) -> Self {
        self.limited = pairs;
        self
    }

    /// Sets how many lines an order has. Default: 1.
    pub fn lines(mut self, lines: usize) -> Self {
        self.lines = lines;
        self
    }

    /// Sets how long an order's payload is, in bytes. Default: 0.
    pub fn payload_bytes(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes;
        self
    }

    /// Sets how many log records a second your machine replays. Default: 3.5 million, what two processors of a shared
    /// machine did; [`RecoveryReport`](crate::RecoveryReport) shows yours.
    pub fn records_per_s(mut self, rate: u64) -> Self {
        self.records_per_s = rate.max(1);
        self
    }

    /// Sets how many orders of a checkpoint a second your machine loads. Default: 8 million, as above.
    pub fn checkpoint_orders_per_s(mut self, rate: u64) -> Self {
        self.checkpoint_orders_per_s = rate.max(1);
        self
    }

    /// Sets how many bytes of fresh memory a second your machine touches. Default: 250 million, that of a slow
    /// virtual machine.
    pub fn touched_bytes_per_s(mut self, rate: u64) -> Self {
        self.touched_bytes_per_s = rate.max(1);
        self
    }

    /// Returns the bytes of an order's place record.
    fn place_bytes(&self) -> u64 {
        place_bytes(self.lines, false, false, self.payload_bytes) as u64
    }

    /// Returns the bytes that an order takes beside its slot: a cart's lines, a payload.
    fn extra_bytes(&self) -> u64 {
        let lines = if self.lines > 1 { self.lines } else { 0 };
        if lines == 0 && self.payload_bytes == 0 {
            return 0;
        }
        let parts = [costs::EXTRA_BYTES, lines * costs::LINE_BYTES, self.payload_bytes];
        parts.iter().filter(|bytes| **bytes > 0).map(|bytes| *bytes as u64 + BOX_BYTES).sum()
    }
}

/// What an engine will need; see [`Options::estimate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Estimate {
    /// Orders in memory at once: those that are not finished, and those that are kept.
    pub orders: u64,
    /// Memory for all of it, while the disk keeps up.
    pub memory_bytes: u64,
    /// Of this, what each order takes, its payload and cart included.
    pub order_bytes: u64,
    /// Memory besides, at most, when the disk has fallen as far behind as [`Options::log_backlog_bytes_max`] allows.
    pub backlog_bytes: u64,
    /// Bytes of log records of an order from its placing to its retirement. Headers and padding come on
    /// top: a block takes at least 4 KiB, and under little load carries one record.
    pub log_bytes_per_order: u64,
    /// One checkpoint.
    pub checkpoint_bytes: u64,
    /// The folder, at most, while checkpoints succeed.
    pub disk_bytes: u64,
    /// File descriptors of the engine, at most; the host's own come on top. With a lower limit (`ulimit -n`) the
    /// engine may have to wait for descriptors.
    pub descriptors: u64,
    /// A restart at the worst moment, just before a checkpoint would have been taken.
    pub restart: Duration,
}

impl Options {
    /// Computes what an engine with these options will need for a workload: memory, disk, and the time of a restart.
    /// Nothing is opened, made or measured: the sizes are those of the engine's own tables and records.
    ///
    /// Below a million orders, most of the memory is room that is kept for more orders.
    /// The estimate assumes that all partitions have equally many orders. See [`guide::sizing`](crate::guide::sizing).
    ///
    /// # Errors
    /// [`OpenError::InvalidOption`] for options that an open would refuse, and when the workload has more
    /// orders, SKUs or buyers, longer orders or payloads than the options allow.
    pub fn estimate(&self, workload: &Workload) -> Result<Estimate, OpenError> {
        let bounds = self.validate()?;
        let kept_ms = bounds.keep.retention_ms.max(bounds.keep.returns_window_ms);
        let in_memory_ms = workload.live_for.as_millis() + u128::from(kept_ms);
        let of_day = |ms: u128| {
            let orders = u128::from(workload.orders_a_day) * ms / DAY.as_millis();
            u64::try_from(orders).unwrap_or(u64::MAX)
        };
        let (orders, live) = (of_day(in_memory_ms), of_day(workload.live_for.as_millis()));
        within("orders_max", self.orders_max, orders)?;
        within("skus_max", self.skus_max as u64, workload.skus)?;
        within("buyers_tracked_max", self.buyers_tracked_max, workload.limited)?;
        within("lines_max", self.lines_max as u64, workload.lines as u64)?;
        within("payload_bytes_max", self.payload_bytes_max as u64, workload.payload_bytes as u64)?;

        let memory_bytes = self.memory_bytes(workload, orders);
        let checkpoint_bytes = checkpoint_bytes(workload, orders)
            + self.refusals_max() * size_of::<RefusalEntry>() as u64;
        // A checkpoint is taken after as much log as that: see `Options::checkpoint_bytes`.
        let between_bytes = self.checkpoint_bytes.max(checkpoint_bytes);
        let retired_bytes = retire_bytes(RETIRED_A_RECORD, 1).div_ceil(RETIRED_A_RECORD) as u64;
        let log_bytes_per_order = workload.place_bytes() + 2 * ORDER_BYTES as u64 + retired_bytes;
        // Of a place, a confirm, a fulfil; those of retirement are few.
        let records = between_bytes / (log_bytes_per_order / 3).max(1);
        Ok(Estimate {
            orders,
            memory_bytes,
            order_bytes: order_bytes(workload, self.orders_reserved >= orders),
            backlog_bytes: 2 * self.log_backlog_bytes_max,
            log_bytes_per_order,
            checkpoint_bytes,
            disk_bytes: self.disk_bytes(live, between_bytes, checkpoint_bytes),
            descriptors: self.descriptors(),
            restart: per(memory_bytes, workload.touched_bytes_per_s)
                + per(orders, workload.checkpoint_orders_per_s)
                + per(records, workload.records_per_s),
        })
    }

    fn memory_bytes(&self, workload: &Workload, orders: u64) -> u64 {
        let partitions = self.partitions.unwrap_or(PARTITIONS_DEFAULT) as u64;
        let reserved = self.orders_reserved;
        // What is set aside is there whether it is needed or not.
        let tables = match reserved > orders {
            true => reserved * costs::RESERVED_BYTES + orders * costs::FINISHED_BYTES,
            false => orders * order_bytes(workload, reserved >= orders),
        };
        let payloads = if reserved > orders { orders * workload.extra_bytes() } else { 0 };
        let people = workload.skus * SKU_BYTES + workload.limited * BUYER_BYTES;
        let refusals = match self.refusals_max() {
            0 => 0,
            count => count * costs::REFUSAL_BYTES + partitions * costs::REFUSALS_BYTES,
        };
        let shards = self.log_shards.unwrap_or(LOG_SHARDS_DEFAULT) as u64;
        let buffers = shards * 2 * self.block_bytes_max as u64;
        let partitions = partitions * costs::PARTITION_BYTES + refusals;
        tables + payloads + people + partitions + buffers + PROCESS_BYTES
    }

    /// Of each shard: the segment that is written, the spares that are open, one that is being made, and
    /// the full ones that are not synced yet.
    fn descriptors(&self) -> u64 {
        let shards = self.log_shards.unwrap_or(LOG_SHARDS_DEFAULT) as u64;
        let files = 2 + SPARES_OPEN_MAX as u64;
        let shard = match self.durability {
            // Past the page cache a file has two, and a third while it is opened.
            Durability::Synced => 2 * files + 1,
            Durability::Written => files + 1 + UNSYNCED_MAX as u64,
        };
        // And of each its folder.
        shards * (shard + 1) + OTHER_DESCRIPTORS
    }

    /// Returns how many refusals are remembered at most.
    fn refusals_max(&self) -> u64 {
        let partitions = self.partitions.unwrap_or(PARTITIONS_DEFAULT);
        self.refusals_share(partitions).map_or(0, |share| share * partitions as u64)
    }

    /// Three checkpoints, while the third is being made, the log after the oldest of them, and what every shard keeps
    /// ahead.
    fn disk_bytes(&self, live: u64, between_bytes: u64, checkpoint_bytes: u64) -> u64 {
        let shards = self.log_shards.unwrap_or(LOG_SHARDS_DEFAULT) as u64;
        let log = 3 * between_bytes + 2 * shards * self.segment_bytes;
        let ahead = kept_bytes(live.div_ceil(shards), self.segment_bytes);
        let ahead = ahead.next_multiple_of(self.segment_bytes) + self.segment_bytes;
        log + shards * ahead + 3 * checkpoint_bytes
    }
}

/// Returns the bytes that an order takes in memory.
fn order_bytes(workload: &Workload, is_reserved: bool) -> u64 {
    let table = if is_reserved { costs::RESERVED_BYTES } else { costs::GROWN_BYTES };
    table + costs::FINISHED_BYTES + workload.extra_bytes()
}

fn checkpoint_bytes(workload: &Workload, orders: u64) -> u64 {
    let lines = if workload.lines > 1 { workload.lines } else { 0 };
    let order = size_of::<OrderEntry>() + lines * size_of::<LineEntry>() + workload.payload_bytes;
    let skus = workload.skus * size_of::<SkuEntry>() as u64;
    let buyers = workload.limited * size_of::<BuyerEntry>() as u64;
    orders * order as u64 + skus + buyers
}

fn per(count: u64, per_s: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / per_s as f64)
}

fn within(field: &'static str, bound: u64, wanted: u64) -> Result<(), OpenError> {
    if wanted <= bound {
        return Ok(());
    }
    let words = format!("must be at least {wanted} for the workload");
    Err(OpenError::InvalidOption { field, value: bound.to_string(), bound: words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(options: Options, workload: Workload) -> Estimate {
        options.estimate(&workload).expect("they fit")
    }

    #[test]
    fn a_one_line_order_costs_at_most_128_bytes() {
        let million = Workload::a_day(1_000_000);
        assert!(estimate(Options::new("unused"), million).order_bytes <= 128);
        let reserved = Options::new("unused").orders_reserved(3_000_000);
        assert!(estimate(reserved, million).order_bytes <= 110);
    }

    #[test]
    fn more_of_anything_never_costs_less() {
        let options = || Options::new("unused");
        let base = Workload::a_day(1_000_000);
        let before = estimate(options(), base);
        for (what, after) in [
            ("orders", estimate(options(), Workload::a_day(2_000_000))),
            ("live", estimate(options(), base.live_for(2 * DAY))),
            ("lines", estimate(options(), base.lines(3))),
            ("payload", estimate(options(), base.payload_bytes(100))),
            ("skus", estimate(options(), base.skus(100_000))),
            ("limited", estimate(options(), base.limited(1_000_000))),
            ("retention", estimate(options().retention(3 * DAY), base)),
            ("returns", estimate(options().returns_window(30 * DAY), base)),
            ("reserved", estimate(options().orders_reserved(50_000_000), base)),
            ("refusals", estimate(options().remember_refusals(DAY, 1_000_000), base)),
        ] {
            assert!(after.memory_bytes > before.memory_bytes, "{what}: {after:?}");
            assert!(after.disk_bytes >= before.disk_bytes, "{what}: {after:?}");
            // Of longer records fewer are after a checkpoint.
            let is_longer = after.log_bytes_per_order > before.log_bytes_per_order;
            assert!(is_longer || after.restart >= before.restart, "{what}: {after:?}");
        }
        assert_eq!(before.orders, 3_000_000, "a day until they end, two days kept");
    }

    #[test]
    fn a_workload_that_does_not_fit_names_the_option() {
        let fits = |options: Options, workload: Workload| options.estimate(&workload);
        let base = Workload::a_day(1000);
        for (named, refused) in [
            ("orders_max", fits(Options::new("unused").orders_max(2999), base)),
            ("skus_max", fits(Options::new("unused").skus_max(10), base.skus(11))),
            (
                "buyers_tracked_max",
                fits(Options::new("unused").buyers_tracked_max(1), base.limited(2)),
            ),
            ("lines_max", fits(Options::new("unused").lines_max(2), base.lines(3))),
            ("payload_bytes_max", fits(Options::new("unused"), base.payload_bytes(4097))),
            ("partitions", fits(Options::new("unused").partitions(3), base)),
        ] {
            let refused = refused.expect_err("it does not fit");
            assert!(matches!(refused, OpenError::InvalidOption { field, .. } if field == named));
        }
    }
}
