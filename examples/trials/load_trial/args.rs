//! The command line.

use std::fmt;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use doorbuster::Durability;

use crate::shared::folder::RunFolder;
use crate::shared::output;
use crate::shared::run_args::RunArgs;

/// All requests with this seed are the same.
const SEED_DEFAULT: u64 = 20_261_111;

const THREADS_MAX: i64 = 1024;
const ORDERS_MAX: i64 = 60_000_000;
const SECONDS_MAX: i64 = 3600;
const SKUS_MAX: i64 = 1_000_000;
const WINDOW_MAX: i64 = 1 << 20;
const BATCH_MAX: i64 = 4096;

/// How many orders a second are prepared for when only `--seconds` says how long a trial is.
const PREPARED_ORDERS_PER_S: u32 = 4_000_000;
/// How long each load of `--sweep` lasts, and a trial with `--rate`, unless `--seconds` says.
const OPEN_SECONDS_DEFAULT: u32 = 2;

const EXAMPLES: &str = "\
Scenarios:
  hot        one unit of one SKU an order
  zipf       one unit of one of many SKUs, the n-th as popular as 1/n
  carts      three lines of many SKUs, all alike
  retries    hot, but one request in five resends an earlier key
  soldout    hot, 10,000 units sold before the clock starts: four requests in five are refused, one resends
             the key of an order and must receive it; by the SKU's handle
  lifecycle  hot, then confirmed (of these most fulfilled), cancelled or left to expire
  async      hot, by tokio tasks that each await their order before the next
  blocking   hot, by 64 threads that each wait for their order before the next
  batch      hot, placed in batches

Examples:
  load_trial                                       hot, in a few seconds
  load_trial --scenario zipf --skus 100000 --orders 10000000
  load_trial --scenario hot --rate 500000 --seconds 10
  load_trial --sweep --seconds 3 --dir ./trials    latencies at rising loads, the report kept
  load_trial --table --dir ./trials                all published figures, in some ten minutes
  load_trial --json | tail -1 | jq .place_ns

A caller looks at its answers in the order of its requests: durable is what it has seen so.
Latencies in the closed loop count from the call; with --rate and --sweep from the moment at which the
request was due, so that a stall counts for every request that it delays (no coordinated omission).

Keys of the JSON object, null where the scenario has no such figure:
  scenario, threads, seed, durability, window, skus, rate     what was asked for
  orders           requests that were answered      held         of these, new orders
  refused          of these, sold out               replayed     of these, answered with their first order
  verbs            confirms, cancels and fulfils    backlogged   waits for room in the log
  seconds          from the first request to the last durable answer
  durable_orders_per_s     new orders a second      requests_per_s   answers of any kind a second
  place_ns         {p50,p99,p999,p9999,max} of place calls; of place_batch calls in `batch`
  verb_ns          the same of confirm, cancel and fulfil calls
  commit_us        the same from call (or due time) to the moment the caller saw its order durable
  timed_one_in     one of this many calls is timed
  loop_ns_per_request      what the load generator itself costs
  empty_place_ns   place_ns of the same loop with calls that do nothing but last as long as the median call
                   (with --rate: that do nothing), beside threads that write and sync as many bytes
  log_bytes_per_order      record bytes an order    block_bytes_per_order    with headers and padding
  records_per_block        commit size              rss_bytes_per_order      memory
  lock_waits       calls that found their partition locked    stock_retries    stock words lost to another
  contended        calls that carts in flight left without an answer
  recovery_seconds, recovery_orders_per_s           the open of the trial's folder
  oversold, lost, duplicated                        breaches: 0, or the exit status is 1
  sweep            by offered load: {rate, requests_per_s, place_ns, commit_us}
  report           the HTML file

Exit status: 0 when all is proved, 1 when a proof failed or the trial broke off, 2 for wrong options.";

/// Puts an engine under load, checks every answer, and reports figures with plots.
#[derive(Clone, Debug, Parser)]
#[command(name = "load_trial", after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// What is asked of the engine
    #[arg(long, value_enum, default_value_t = Scenario::Hot, hide_possible_values = true)]
    pub(crate) scenario: Scenario,

    /// Calling threads. Default: as many as there are processors; with --rate and --sweep one less, since
    /// a thread that waits for the next request to be due keeps its processor; 64 for `blocking`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    threads: Option<u32>,

    /// Requests. Default: 2,000,000, and by scenario less; with --rate as many as fit the time; with
    /// --seconds alone, 4,000,000 for each second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=ORDERS_MAX))]
    orders: Option<u32>,

    /// End after this many seconds, if the requests last that long. Default: no end in the closed loop, 2 with --rate
    /// and for each load of --sweep
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    seconds: Option<u32>,

    /// SKUs of `zipf` and `carts`
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(3..=SKUS_MAX)
    )]
    skus: u32,

    /// How many commits a calling thread keeps in flight; of `async`, how many tasks there are. Default:
    /// 32,768; 1 for `blocking`, 10,000 for `async`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX))]
    window: Option<u32>,

    /// Orders in each batch of `batch`
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=BATCH_MAX)
    )]
    pub(crate) batch: u32,

    /// Open loop: this many requests a second fall due, whatever the engine does
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "sweep")]
    rate: Option<u32>,

    /// After the trial in the closed loop, open loops at these rates; without rates, at 10 to 90 % of what
    /// the closed loop reached
    #[arg(
        long,
        value_name = "PER_SECOND,…",
        num_args = 0..=1,
        value_delimiter = ',',
        default_missing_value = "0",
        value_parser = clap::value_parser!(u32)
    )]
    sweep: Option<Vec<u32>>,

    /// Every published figure instead of one trial: runs each row of the table this many times, and the median
    /// counts. Writes the table in Markdown, and a plot, where the report would go. 5 times take some ten minutes
    #[arg(
        long,
        value_name = "TIMES",
        num_args = 0..=1,
        default_missing_value = "5",
        value_parser = clap::value_parser!(u32).range(1..=100),
        conflicts_with_all = ["scenario", "threads", "seconds", "window", "rate", "sweep", "json"]
    )]
    pub(crate) table: Option<u32>,

    /// What an acknowledged order survives: `synced` a loss of power, `written` a crash of the process
    #[arg(long, value_enum, default_value_t = Promise::Synced)]
    durability: Promise,

    /// Time one call in N. Default: 1, so that no tail is missed; 16 for `soldout`, where reading the clock
    /// costs as much as the call
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    timed_one_in: Option<u32>,

    /// Where the HTML report goes. Default: report.html in the folder that --dir keeps, else
    /// doorbuster-load-trial-SCENARIO.html in the system's folder for temporary files
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// All chance comes from this number
    #[arg(long, value_name = "NUMBER", default_value_t = SEED_DEFAULT)]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What is asked of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    Hot,
    Zipf,
    Carts,
    Retries,
    Soldout,
    Lifecycle,
    Async,
    Blocking,
    Batch,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value().map(|value| value.get_name().to_owned());
        f.write_str(name.as_deref().unwrap_or("?"))
    }
}

/// [`Durability`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Promise {
    Synced,
    Written,
}

/// Which open loops follow the closed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Shares of what the closed loop reached.
    Shares,
    /// These rates.
    Rates(Vec<u32>),
}

impl Args {
    pub(crate) fn threads(&self) -> u32 {
        self.threads.unwrap_or_else(|| match self.scenario {
            Scenario::Blocking => 64,
            _ if self.rate.is_some() || self.sweep.is_some() => processors().max(2) - 1,
            _ => processors(),
        })
    }

    pub(crate) fn window(&self) -> u32 {
        self.window.unwrap_or(match self.scenario {
            Scenario::Blocking => 1,
            Scenario::Async => 10_000,
            _ => 32 * 1024,
        })
    }

    /// How many SKUs the scenario sells.
    pub(crate) fn skus(&self) -> u32 {
        match self.scenario {
            Scenario::Zipf | Scenario::Carts => self.skus,
            _ => 1,
        }
    }

    pub(crate) fn timed_one_in(&self) -> u32 {
        match (self.rate, self.timed_one_in, self.scenario) {
            // Counted from the time at which it was due, each request is timed.
            (Some(_), _, _) => 1,
            (_, Some(one_in), _) => one_in,
            (_, None, Scenario::Soldout) => 16,
            _ => 1,
        }
    }

    /// A row of `--table`, with its seed and durability, and with its number of requests if one is given.
    pub(crate) fn of_row(&self, arguments: &[&str]) -> Result<Self, clap::Error> {
        let row = Self::try_parse_from(["load_trial"].iter().chain(arguments))?;
        Ok(Self {
            seed: self.seed,
            durability: self.durability,
            orders: self.orders.or(row.orders),
            ..row
        })
    }

    pub(crate) fn rate(&self) -> Option<u32> {
        self.rate
    }

    /// When the requests end, if they last that long.
    pub(crate) fn seconds(&self) -> Option<u32> {
        self.seconds.or(self.rate.map(|_| OPEN_SECONDS_DEFAULT))
    }

    /// How many requests are prepared.
    pub(crate) fn requests(&self) -> u32 {
        let default = match self.scenario {
            Scenario::Blocking => 200_000,
            Scenario::Async | Scenario::Carts | Scenario::Lifecycle => 1_000_000,
            _ => 2_000_000,
        };
        let in_time = |per_s: u32| per_s.saturating_mul(self.seconds().unwrap_or(1));
        let requests = match (self.orders, self.rate, self.seconds) {
            (Some(orders), None, _) => orders,
            (Some(orders), Some(rate), _) => orders.min(in_time(rate)),
            (None, Some(rate), _) => in_time(rate),
            (None, None, Some(_)) => in_time(PREPARED_ORDERS_PER_S),
            (None, None, None) => default,
        };
        requests.min(ORDERS_MAX as u32)
    }

    pub(crate) fn durability(&self) -> Durability {
        match self.durability {
            Promise::Synced => Durability::Synced,
            Promise::Written => Durability::Written,
        }
    }

    pub(crate) fn sweep(&self) -> Option<Sweep> {
        self.sweep.as_ref().map(|rates| match rates[..] {
            [] | [0] => Sweep::Shares,
            _ => Sweep::Rates(rates.clone()),
        })
    }

    /// The same trial as an open loop.
    pub(crate) fn at_rate(&self, rate: u32) -> Self {
        Self {
            rate: Some(rate),
            sweep: None,
            orders: None,
            seconds: Some(self.seconds.unwrap_or(OPEN_SECONDS_DEFAULT)),
            ..self.clone()
        }
    }

    /// What cannot be done, in words.
    pub(crate) fn contradiction(&self) -> Option<String> {
        if self.scenario == Scenario::Async && (self.rate.is_some() || self.sweep.is_some()) {
            return Some(
                "async: its tasks are a closed loop, --rate and --sweep do not apply".into(),
            );
        }
        if let Some(Sweep::Rates(rates)) = self.sweep()
            && rates.contains(&0)
        {
            return Some("--sweep: 0 requests a second given, at least 1 needed".into());
        }
        (self.requests() < self.threads()).then(|| {
            format!("{} requests are fewer than {} threads", self.requests(), self.threads())
        })
    }

    /// Where the report goes, given the folder of the run.
    pub(crate) fn report(&self, folder: &RunFolder) -> PathBuf {
        self.report.clone().unwrap_or_else(|| {
            let temporary = format!("doorbuster-load-trial-{}.html", self.scenario);
            output::file(folder, "report.html", &temporary)
        })
    }
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |processors| processors.get() as u32)
}
