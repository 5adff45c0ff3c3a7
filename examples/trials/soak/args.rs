//! The command line.

use std::time::Duration;

use clap::Parser;

use crate::shared::run_args::RunArgs;

/// All orders with this seed are the same.
const SEED_DEFAULT: u64 = 20_261_122;

const SECONDS_DEFAULT: u64 = 20;
const SECONDS_MAX: i64 = 10_000_000;
const ORDERS_MAX: u64 = 4_000_000_000;
const RATE_MAX: i64 = 10_000_000;
const THREADS_MAX: i64 = 256;
const RETENTION_MS_MAX: i64 = 24 * 3600 * 1000;
const CHECKPOINT_MIB_MAX: i64 = 1 << 20;
const SKUS_MAX: i64 = 1_000_000;
const WINDOW_MS_MAX: i64 = 60_000;
/// A line of CSV each.
const WINDOWS_MAX: u64 = 2_000_000;
/// Orders that can still be answered are remembered, to be looked up at the end.
const REMEMBERED_MAX: u64 = 200_000_000;
/// How long after its retention an order is expected to be gone at the latest.
const RETIRED_LATE_MS_MAX: u64 = 10_000;

/// Of a few orders some partitions get several times their share.
const ORDERS_IN_MEMORY_LEAST: u64 = 100_000;

const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;

const EXAMPLES: &str = "\
Examples:
  soak                                             two million orders, some checkpoints, in half a minute
  soak --orders 100000000 --rate 300000 --retention-ms 10000 --checkpoint-mib 512 --dir ./soaks
  soak --seconds 86400 --rate 60 --retention-ms 3600000 --window-ms 10000 --dir ./soaks
  soak --json | tail -1 | jq .commit_us_p999_with_checkpoint

Each order is placed when it falls due, confirmed when that is durable, fulfilled when that is durable, and
leaves memory when its retention is over. One in 256 is sent again and must receive its first outcome.

A commit's latency counts from the moment at which it was due to the moment at which it was seen durable:
orders fall due at fixed times whatever the engine does, so that a stall counts for every order that it delays
(no coordinated omission); a confirm and a fulfil are due when the answer before them was seen.
Time is cut into windows of --window-ms. A window holds a checkpoint if one was in the making at any time in
it, which is looked for every 10 ms. A commit counts as beside a checkpoint if the window in which it was seen
durable holds one; of a commit that was due in an earlier window, the window before it counts too.

Keys of the JSON object, null where there is no such figure:
  orders, seconds, orders_per_s          fulfilled, how long that took, and the rate that came of it
  rate, threads, skus, retention_ms, checkpoint_bytes, window_ms, seed        what was asked for
  rss_bytes_early, rss_bytes_late        most memory of the process in the second fifth of the run, in the last
  rss_bytes_max, disk_bytes_max          most memory, and most room that the engine's folder took
  orders_in_memory_max, retired          most orders that were there at once; those that left
  checkpoints, checkpoints_failed, segments_recycled
  windows, windows_with_checkpoint
  commit_us_{p50,p99,p999,max}_with_checkpoint     latencies of commits beside checkpoints
  commit_us_{p50,p99,p999,max}_without             and of the others
  reopen_seconds                         all in all
  reopen_records, reopen_records_per_s   records of the log behind the checkpoint; rate of reading and replaying
  reopen_checkpoint_orders, reopen_checkpoint_orders_per_s   orders in the checkpoint; rate of loading them
  reopen_memory_us                       to take and touch the memory for that, which the rates leave out
  oversold, lost, duplicated             breaches: 0, or the exit status is 1
  csv, svg, report                       the files written

Exit status: 0 when all is proved, 1 when a proof failed or the run broke off, 2 for wrong options.";

/// Places, confirms, fulfils and retires orders at a steady rate, proves them, and shows whether memory, disk
/// and latency stay flat.
#[derive(Clone, Debug, Parser)]
#[command(name = "soak", after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many orders are sent. Default: as many as fall due in --seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=ORDERS_MAX))]
    orders: Option<u64>,

    /// Send what falls due in this many seconds. Default: 20; with --orders, all of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    seconds: Option<u32>,

    /// How many orders fall due in a second
    #[arg(
        long,
        value_name = "PER_SECOND",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(1..=RATE_MAX)
    )]
    pub(crate) rate: u32,

    /// Calling threads. Default: one less than there are processors, since a thread that waits for the next
    /// order to be due keeps its processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    threads: Option<u32>,

    /// How many SKUs the orders go to in turn, each stocked with as many units as are ordered
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=SKUS_MAX)
    )]
    pub(crate) skus: u32,

    /// How long fulfilled orders stay in memory
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 2000,
        value_parser = clap::value_parser!(u32).range(1..=RETENTION_MS_MAX)
    )]
    pub(crate) retention_ms: u32,

    /// After how many MiB of log a checkpoint is taken
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=CHECKPOINT_MIB_MAX)
    )]
    checkpoint_mib: u32,

    /// How long a window is: a line of the CSV file, a point of the plots
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(10..=WINDOW_MS_MAX)
    )]
    pub(crate) window_ms: u32,

    /// All chance comes from this number
    #[arg(long, value_name = "NUMBER", default_value_t = SEED_DEFAULT)]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

impl Args {
    /// Options that are valid each by itself and make no sense together.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let (rate, orders) = (self.rate, self.orders());
        if orders > ORDERS_MAX {
            let seconds = self.seconds();
            return Some(format!(
                "--seconds {seconds} at --rate {rate} are {orders} orders: at most {ORDERS_MAX}"
            ));
        }
        if self.remembered() > REMEMBERED_MAX {
            let words = format!("--rate {rate} with --retention-ms {}", self.retention_ms);
            let remembered = self.remembered();
            return Some(format!(
                "{words} are {remembered} orders to remember: at most {REMEMBERED_MAX}"
            ));
        }
        let windows = orders / u64::from(rate) * 1000 / u64::from(self.window_ms);
        (windows > WINDOWS_MAX).then(|| {
            let window_ms = self.window_ms;
            format!("--window-ms {window_ms} makes {windows} windows: at most {WINDOWS_MAX}")
        })
    }

    fn seconds(&self) -> u64 {
        self.seconds.map_or(SECONDS_DEFAULT, u64::from)
    }

    /// How many orders are sent, if there is time.
    pub(crate) fn orders(&self) -> u64 {
        let in_time = u64::from(self.rate) * self.seconds();
        match (self.orders, self.seconds) {
            (Some(orders), None) => orders,
            (Some(orders), Some(_)) => orders.min(in_time),
            (None, _) => in_time,
        }
    }

    pub(crate) fn threads(&self) -> u32 {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from) as u32;
        self.threads.unwrap_or_else(|| processors().max(2) - 1)
    }

    pub(crate) fn retention(&self) -> Duration {
        Duration::from_millis(self.retention_ms.into())
    }

    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        u64::from(self.checkpoint_mib) << 20
    }

    /// Small runs need no large segments: a quarter of what is between two checkpoints.
    pub(crate) fn segment_bytes(&self) -> u64 {
        (self.checkpoint_bytes() / 4).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }

    /// How many orders are remembered: all that can be in memory, and as many again.
    pub(crate) fn remembered(&self) -> u64 {
        let ms = 2 * u64::from(self.retention_ms) + RETIRED_LATE_MS_MAX;
        (u64::from(self.rate) * ms / 1000 + 1).min(self.orders())
    }

    /// More of them in memory are refused, which ends the run.
    pub(crate) fn orders_max(&self) -> u64 {
        (self.remembered() + 1).max(ORDERS_IN_MEMORY_LEAST)
    }

    /// What is in memory at a steady rate, and what comes while a checkpoint lets none go.
    pub(crate) fn orders_reserved(&self) -> u64 {
        let ms = u64::from(self.retention_ms) + 1000;
        (u64::from(self.rate) * ms / 1000 * 5 / 4).min(self.orders_max())
    }
}
