//! The load: every calling thread of a scenario, and the figures over time, seen from outside.

use std::error::Error;
use std::ops::Range;
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::Duration;

use doorbuster::{Engine, Stats};

use crate::args::{Args, Scenario};
use crate::batches::Batcher;
use crate::caller::{Caller, Orders};
use crate::desk::Desk;
use crate::ledger::Ledger;
use crate::lifecycle::Shopper;
use crate::plan::Plan;
use crate::recorder::{Answered, Recorder};
use crate::shared::pace::Pace;
use crate::shared::progress::Progress;
use crate::shared::timer::Timer;
use crate::shop::Shop;
use crate::tasks;

type Failure = Box<dyn Error + Send + Sync>;

/// How often the figures are read. A reading locks every partition for a moment.
const SAMPLE_EVERY: Duration = Duration::from_millis(25);

/// What the calling threads measured, and what was seen meanwhile.
pub(crate) struct Load {
    pub(crate) recorder: Recorder,
    pub(crate) samples: Vec<Sample>,
}

/// The figures at one moment, counted from the start of the load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) at_ns: u64,
    pub(crate) answered: u64,
    pub(crate) records: u64,
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u64,
}

impl Load {
    /// From the first request to the last durable answer.
    pub(crate) fn seconds(&self) -> f64 {
        self.recorder.end_ns as f64 / 1e9
    }
}

/// A thread's work, given the clock.
pub(crate) type Job<'a> = Box<dyn FnOnce(Timer) -> Result<Recorder, Failure> + Send + 'a>;

/// Sends what comes before the clock starts.
pub(crate) fn warm_up(
    engine: &Engine,
    plan: &Arc<Plan>,
    args: &Args,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    if plan.before().is_empty() {
        return Ok(());
    }
    let answered = Answered::default();
    let orders = all_orders(args, plan, plan.before(), None);
    let jobs = callers(engine, plan, ledger, &answered, orders)?;
    run_jobs(jobs, |_| {}).map(drop)
}

/// Sends what is measured.
pub(crate) fn run(
    engine: &Engine,
    plan: &Arc<Plan>,
    args: &Args,
    ledger: &mut Ledger,
    progress: &Progress,
) -> Result<Load, Failure> {
    let answered = Arc::new(Answered::default());
    let orders = all_orders(args, plan, plan.measured(), args.rate());
    let hot = engine.sku(Plan::sku(0)).ok_or("a SKU that was stocked is not known")?;
    let jobs = match args.scenario {
        Scenario::Lifecycle => jobs(plan, ledger, &answered, orders, |desk, orders| {
            let shopper = Shopper::new(engine, desk, &orders);
            Box::new(move |timer| shopper.send(timer, &orders))
        })?,
        Scenario::Batch => jobs(plan, ledger, &answered, orders, |desk, orders| {
            let batcher = Batcher::new(engine, desk, &orders, args.batch);
            Box::new(move |timer| batcher.send(timer, &orders))
        })?,
        Scenario::Async => all_tasks(engine, plan, ledger, &answered, args),
        // What everybody wants is found once.
        Scenario::Soldout => callers(&hot, plan, ledger, &answered, orders)?,
        _ => callers(engine, plan, ledger, &answered, orders)?,
    };
    let before = engine.stats();
    let mut samples = vec![Sample::default()];
    let recorder = run_jobs(jobs, |timer| {
        let sample = Sample::read(timer.ns(), answered.get(), engine.stats(), before);
        progress.add(sample.answered - samples.last().map_or(0, |last| last.answered));
        samples.push(sample);
    })?;
    let last = Sample::read(recorder.end_ns, answered.get(), engine.stats(), before);
    samples.retain(|sample| sample.at_ns < last.at_ns);
    samples.push(last);
    Ok(Load { recorder, samples })
}

impl Sample {
    fn read(at_ns: u64, answered: u64, stats: Stats, before: Stats) -> Self {
        Self {
            at_ns,
            answered,
            records: stats.records - before.records,
            blocks: stats.blocks - before.blocks,
            block_bytes: stats.block_bytes - before.block_bytes,
        }
    }
}

/// Runs every job on a thread of its own, all from one moment on; this thread looks on.
pub(crate) fn run_jobs(
    jobs: Vec<Job<'_>>,
    mut watch: impl FnMut(&Timer),
) -> Result<Recorder, Failure> {
    let gate = Barrier::new(jobs.len() + 1);
    let started = OnceLock::new();
    let mut all = Recorder::new()?;
    thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .into_iter()
            .map(|job| {
                let (gate, started) = (&gate, &started);
                scope.spawn(move || {
                    gate.wait();
                    job(started.get_or_init(Timer::start).clone())
                })
            })
            .collect();
        gate.wait();
        let timer = started.get_or_init(Timer::start);
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(SAMPLE_EVERY);
            watch(timer);
        }
        for thread in threads {
            let recorder = thread.join().map_err(|_| "a calling thread panicked")??;
            all.merge(&recorder)?;
        }
        Ok(all)
    })
}

/// By thread: what it sends, and when.
pub(crate) fn all_orders(
    args: &Args,
    plan: &Plan,
    requests: Range<u32>,
    rate: Option<u32>,
) -> Vec<Orders> {
    let threads = args.threads();
    (0..threads)
        .map(|thread| Orders {
            requests: plan.share(requests.clone(), thread, threads),
            pace: Pace::of(rate, thread, threads),
            window: args.window() as usize,
            timed_one_in: args.timed_one_in(),
            end_ns: end_ns(args),
        })
        .collect()
}

fn end_ns(args: &Args) -> u64 {
    args.seconds().map_or(u64::MAX - 1, |seconds| u64::from(seconds) * 1_000_000_000)
}

/// One job for each thread, made with a desk of its own.
fn jobs<'a>(
    plan: &'a Plan,
    ledger: &'a mut Ledger,
    answered: &'a Answered,
    all: Vec<Orders>,
    make: impl Fn(Desk<'a>, Orders) -> Job<'a>,
) -> Result<Vec<Job<'a>>, Failure> {
    let ranges: Vec<_> = all.iter().map(|orders| orders.requests.clone()).collect();
    let job = |(page, orders)| Ok(make(Desk::new(plan, page, answered.teller())?, orders));
    ledger.pages(&ranges).into_iter().zip(all).map(job).collect()
}

/// The jobs of all scenarios that place one order a call and ask nothing else.
fn callers<'a, S: Shop<Pending: Send> + Sync>(
    shop: &'a S,
    plan: &'a Plan,
    ledger: &'a mut Ledger,
    answered: &'a Answered,
    all: Vec<Orders>,
) -> Result<Vec<Job<'a>>, Failure> {
    jobs(plan, ledger, answered, all, |desk, orders| {
        let caller = Caller::new(shop, desk, &orders);
        Box::new(move |timer| caller.send(timer, &orders))
    })
}

/// One job that runs all tasks.
fn all_tasks<'a>(
    engine: &'a Engine,
    plan: &'a Arc<Plan>,
    ledger: &'a mut Ledger,
    answered: &'a Arc<Answered>,
    args: &Args,
) -> Vec<Job<'a>> {
    let shape =
        tasks::Shape { threads: args.threads(), tasks: args.window(), end_ns: end_ns(args) };
    let mut pages = ledger.pages(&[plan.measured()]);
    vec![Box::new(move |timer| match pages.first_mut() {
        Some(page) => tasks::run(engine, plan, answered, page, timer, shape),
        None => Recorder::new(),
    })]
}
