//! The flash sale, as the parent process tells it.
//!
//! 1. [`plan`] draws every request from the seed.
//! 2. [`child`] sells in a process of its own, which is killed; [`frame`] is how it tells what was
//!    acknowledged, [`ledger`] is where that is kept.
//! 3. The parent reopens the folder and looks up every acknowledged order.
//! 4. It sends all requests that it knows no answer to, with [`caller`], as the child did.
//! 5. It sends a retry of every key that has an order, now that the units are gone.
//! 6. It compares the engine's books with its own.

pub(crate) mod caller;
pub(crate) mod child;
pub(crate) mod frame;
pub(crate) mod ledger;
pub(crate) mod plan;
mod proof;

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbuster::{Engine, Held, Options};
use hdrhistogram::Histogram;

use self::ledger::{Ledger, Tally};
use self::plan::Plan;
use crate::args::Args;
use crate::shared::findings::Findings;
use crate::shared::progress::Progress;
use crate::shared::recovery_bar::RecoveryBar;

type Failure = Box<dyn Error + Send + Sync>;

/// The number of SIGKILL on Linux.
const SIGKILL: i32 = 9;

/// How many orders an engine allows by default.
const ORDERS_MAX_DEFAULT: u64 = 100_000_000;

/// Partitions of an engine, by default: with few buyers, one of them may get all orders.
const PARTITIONS_DEFAULT: u64 = 64;

/// The histogram resolves latencies up to one hour, to three digits.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// What came out of the sale.
pub(crate) struct SaleReport {
    pub(crate) requests: u64,
    pub(crate) tally: Tally,
    pub(crate) threads: usize,
    pub(crate) kill_at_unit: u64,
    pub(crate) killed: Killed,
    /// Orders that survived though no caller received them.
    pub(crate) survived_untold: u64,
    /// How long the reopening took.
    pub(crate) recovery: Duration,
    /// Units held beyond the stock.
    pub(crate) oversold: u64,
    /// Acknowledged orders that are gone, changed, or not shown to a retry.
    pub(crate) lost: u64,
    /// Second orders of a key.
    pub(crate) duplicated: u64,
    /// Each proof that failed, in words.
    pub(crate) failures: Vec<String>,
}

/// What the child told until it was killed.
pub(crate) struct Killed {
    /// Durable new orders.
    pub(crate) acknowledged: u64,
    /// From the child's first request to its last told answer, by its own clock.
    pub(crate) selling: Duration,
    /// From call to durable, in nanoseconds, of durable new orders.
    pub(crate) latency_ns: Histogram<u64>,
}

impl Killed {
    /// Durable new orders a second until the kill.
    pub(crate) fn orders_per_s(&self) -> f64 {
        match self.selling.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.acknowledged as f64 / seconds,
        }
    }
}

/// How the child and the parent open the engine.
fn options(folder: &Path, plan: &Plan, stock: u32) -> Options {
    let orders_max = plan.units_sold(stock) * PARTITIONS_DEFAULT;
    Options::new(folder).orders_max(orders_max.max(ORDERS_MAX_DEFAULT))
}

/// Holds the sale. An error means that it broke off; a proof that failed is in the report.
pub(crate) fn run(args: &Args, folder: &Path) -> Result<SaleReport, Failure> {
    let plan = Plan::new(args.seed, args.requests(), args.buyers);
    let threads = args.sale_threads();
    let kill_at_unit = plan.kill_at_unit(args.stock);
    let mut ledger = Ledger::new(&plan);
    let killed = sell_until_killed(args, folder, kill_at_unit, &mut ledger)?;

    let bar = Arc::new(RecoveryBar::new("sale, reopening"));
    let reopening = Instant::now();
    let engine = Engine::open(bar.clone().show(options(folder, &plan, args.stock)))?;
    let recovery = reopening.elapsed();
    bar.finish();

    let acknowledged = ledger.orders();
    let survived = engine.stats().orders;
    let mut findings = Findings::default();
    proof::look_up(&engine, &plan, &acknowledged, &mut findings);

    let remaining = ledger.unanswered();
    proof::send_remaining(&engine, &plan, &remaining, threads, &mut ledger)?;
    proof::retry_all(&engine, &plan, &ledger, threads, &mut findings)?;
    proof::compare_books(&engine, &plan, args.stock, &ledger, &mut findings)?;
    engine.close()?;
    Ok(SaleReport {
        requests: u64::from(plan.requests()),
        tally: ledger.tally(),
        threads,
        kill_at_unit,
        killed,
        survived_untold: survived.saturating_sub(acknowledged.len() as u64),
        recovery,
        oversold: findings.oversold,
        lost: findings.lost,
        duplicated: findings.duplicated,
        failures: findings.words,
    })
}

/// Starts the child and enters what it tells into the ledger, until it is killed.
fn sell_until_killed(
    args: &Args,
    folder: &Path,
    kill_at_unit: u64,
    ledger: &mut Ledger<'_>,
) -> Result<Killed, Failure> {
    let program = std::env::current_exe()?;
    let mut folder_flag = OsString::from("--child-folder=");
    folder_flag.push(folder);
    let mut process = Command::new(&program)
        .arg(folder_flag)
        .arg(format!("--child-kill-at={kill_at_unit}"))
        .arg(format!("--seed={}", args.seed))
        .arg(format!("--orders={}", args.requests()))
        .arg(format!("--buyers={}", args.buyers))
        .arg(format!("--stock={}", args.stock))
        .arg(format!("--threads={}", args.sale_threads()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let pipe = process.stdout.take().ok_or("the child has no pipe")?;
    let mut killed = Killed {
        acknowledged: 0,
        selling: Duration::ZERO,
        latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)?,
    };
    let progress = Progress::new("sale, until the kill", "units", kill_at_unit);
    let told = frame::read_frames(pipe, |frame| {
        ledger.enter(frame.request, frame.held);
        killed.selling = killed.selling.max(frame.since_start);
        if let Some(Held { replayed: false, .. }) = frame.held {
            killed.acknowledged += 1;
            killed.latency_ns.saturating_record(frame.latency.as_nanos() as u64);
            progress.add(1);
        }
    });
    if told.is_err() {
        // Whatever it wrote, it must not outlive the run. It may be gone already.
        let _ = process.kill();
    }
    let status = process.wait()?;
    told.map_err(|e| format!("the child's pipe: {e}"))?;
    if status.signal() != Some(SIGKILL) {
        return Err(format!("the child was to be killed, but ended by itself: {status}").into());
    }
    progress.finish();
    Ok(killed)
}
