//! One trial: an engine on a new folder is stocked, loaded, closed, opened again and proved.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use doorbuster::{Adjust, Engine, Options, RequestKey};

use crate::args::Args;
use crate::ledger::{Ledger, Tally};
use crate::load::{self, Load};
use crate::plan::{Fate, Plan};
use crate::proof;
use crate::shared::findings::Findings;
use crate::shared::memory::rss_bytes;
use crate::shared::patience::ask;
use crate::shared::progress::Progress;

type Failure = Box<dyn Error + Send + Sync>;

/// A small trial need not write large segments full.
const SMALL_REQUESTS_MAX: u32 = 100_000;
const SMALL_SEGMENT_BYTES: u64 = 1 << 20;

/// How many adjustments are in flight while the engine is stocked.
const STOCKING_WINDOW: usize = 4096;

/// How long a trial waits for the last hold to expire, and how often it looks.
const EXPIRY_WAIT_MAX: Duration = Duration::from_secs(60);
const EXPIRY_LOOK_EVERY: Duration = Duration::from_millis(5);

/// What came out of a trial.
pub(crate) struct Trial {
    pub(crate) plan: Arc<Plan>,
    pub(crate) load: Load,
    /// Of the requests that were measured.
    pub(crate) tally: Tally,
    /// Bytes of the records that the load wrote.
    pub(crate) record_bytes: u64,
    /// Where threads met, see [`doorbuster::Stats`].
    pub(crate) lock_waits: u64,
    pub(crate) stock_retries: u64,
    pub(crate) contended: u64,
    /// Memory that the engine took, and for how many orders.
    pub(crate) rss_bytes: u64,
    pub(crate) rss_orders: u64,
    /// How long the folder took to open, and how many orders were in it.
    pub(crate) recovery: Duration,
    pub(crate) recovered: u64,
    pub(crate) findings: Findings,
}

impl Trial {
    /// Runs a trial in this folder, which must not be there.
    pub(crate) fn run(args: &Args, folder: &Path, label: &'static str) -> Result<Self, Failure> {
        let plan = Arc::new(Plan::new(args));
        let mut ledger = Ledger::new(plan.requests());
        let stock = plan.stock();
        let rss_before = rss_bytes();
        let engine = Engine::open(options(args, &plan, folder).orders_reserved(orders_max(&plan)))?;
        fill(&engine, &stock)?;
        load::warm_up(&engine, &plan, args, &mut ledger)?;

        let before = engine.stats();
        let progress = Progress::new(label, "requests", u64::from(args.requests()));
        let load = load::run(&engine, &plan, args, &mut ledger, &progress)?;
        progress.finish();
        await_expiries(&engine, &plan, &ledger)?;
        let after = engine.stats();
        let rss_bytes = rss_bytes().saturating_sub(rss_before);

        let mut findings = Findings::default();
        proof::tell_unplanned(&load, &mut findings);
        proof::compare_levels(&engine, &plan, &stock, &ledger, &mut findings)?;
        engine.close()?;
        drop(engine);

        let opening = Instant::now();
        let engine = Engine::open(options(args, &plan, folder))?;
        let recovery = opening.elapsed();
        proof::compare_levels(&engine, &plan, &stock, &ledger, &mut findings)?;
        proof::look_up_and_retry(&engine, &plan, &ledger, &mut findings)?;
        let recovered = engine.stats().orders;
        engine.close()?;
        Ok(Self {
            tally: ledger.tally(plan.measured()),
            record_bytes: after.record_bytes - before.record_bytes,
            lock_waits: after.lock_waits - before.lock_waits,
            stock_retries: after.stock_retries - before.stock_retries,
            contended: after.contended - before.contended,
            rss_bytes,
            rss_orders: orders_max(&plan),
            recovery,
            recovered,
            findings,
            load,
            plan,
        })
    }
}

fn options(args: &Args, plan: &Plan, folder: &Path) -> Options {
    let options = Options::new(folder).durability(args.durability());
    match plan.requests() <= SMALL_REQUESTS_MAX {
        true => options.segment_bytes(SMALL_SEGMENT_BYTES),
        false => options,
    }
}

/// How many orders a trial may make.
fn orders_max(plan: &Plan) -> u64 {
    let keys = (0..plan.requests()).filter(|&request| plan.first(request) == request).count();
    let units: u64 = plan.stock().iter().copied().map(u64::from).sum();
    units.min(keys as u64)
}

fn fill(engine: &Engine, stock: &[u32]) -> Result<(), Failure> {
    let mut in_flight = VecDeque::with_capacity(STOCKING_WINDOW);
    for (sku, &units) in (0..).zip(stock) {
        let add = || engine.stock(Plan::sku(sku), Adjust::add(units).key(RequestKey::new(1)));
        in_flight.push_back(ask(engine, add)?);
        if in_flight.len() == STOCKING_WINDOW
            && let Some(oldest) = in_flight.pop_front()
        {
            oldest.wait()?;
        }
    }
    for commit in in_flight {
        commit.wait()?;
    }
    Ok(())
}

/// Waits until the engine has expired what was planned to.
fn await_expiries(engine: &Engine, plan: &Plan, ledger: &Ledger) -> Result<(), Failure> {
    let expiring = plan
        .measured()
        .filter(|&request| plan.fate(request) == Fate::Expired && ledger.order(request).is_some())
        .count() as u64;
    let until = Instant::now() + EXPIRY_WAIT_MAX;
    while engine.stats().expired < expiring {
        if Instant::now() > until {
            let expired = engine.stats().expired;
            return Err(format!("only {expired} of {expiring} holds have expired").into());
        }
        thread::sleep(EXPIRY_LOOK_EVERY);
    }
    Ok(())
}
