//! What the load generator and the machine cost by themselves: the calling threads' own loop, but with a shop
//! that does nothing.
//!
//! - *Bare*: how long a request takes the generator. What an engine could do at most is one order in that
//!   time.
//! - *Beside writers*: threads write and sync as many bytes. In the closed loop each call lasts as long as the
//!   median call of the trial took; in the open loop requests fall due as they did. Whatever its tail is, the
//!   machine and the generator made it, not the engine.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use doorbuster::Durability;
use doorbuster::storage::{ALIGN_BYTES, Access, AlignedBuffer, Disk, Storage};
use hdrhistogram::Histogram;

use crate::args::Args;
use crate::caller::Caller;
use crate::desk::Desk;
use crate::ledger::Ledger;
use crate::load::{self, Job, Load, Sample};
use crate::plan::Plan;
use crate::recorder::{Answered, Recorder};
use crate::shared::timer::Timer;
use crate::shop::EmptyShop;

type Failure = Box<dyn Error + Send + Sync>;

/// How long the busy loop lasts at most.
const BUSY_NS_MAX: u64 = 2_000_000_000;
/// How many requests a bare loop makes at most, and how often it is run: the fastest counts, since what
/// makes the others slower is not the generator.
const BARE_REQUESTS_MAX: u32 = 200_000;
const BARE_ROUNDS: u32 = 5;
/// Writers beside the busy loop: as many as an engine has log shards by default.
const WRITERS: u32 = 2;
/// Each writes into a file of this size again and again, written once before, as a log segment is.
const FILE_BYTES: u64 = 16 << 20;

/// What was measured.
pub(crate) struct EmptyLoop {
    pub(crate) ns_per_request: f64,
    pub(crate) place_ns: Histogram<u64>,
}

/// Measures both loops.
pub(crate) fn measure(
    args: &Args,
    plan: &Arc<Plan>,
    load: &Load,
    folder: &Path,
) -> Result<EmptyLoop, Failure> {
    let mut ns_per_request = f64::MAX;
    for _ in 0..BARE_ROUNDS {
        let requests = plan.measured().len().min(BARE_REQUESTS_MAX as usize);
        let bare = run(args, plan, None, 0, Some(BARE_REQUESTS_MAX))?;
        let threads = f64::from(args.threads());
        ns_per_request = ns_per_request.min(bare.end_ns as f64 * threads / requests as f64);
    }
    let call_ns = match args.rate() {
        None => load.recorder.place_ns.value_at_percentile(50.0),
        Some(_) => 0,
    };
    let ended = AtomicBool::new(false);
    let busy = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let pace = WritePace::of(load, args.durability());
                let file = folder.join(format!("beside-{writer}"));
                let ended = &ended;
                scope.spawn(move || write_beside(&file, pace, ended))
            })
            .collect();
        let busy = run(args, plan, args.rate(), call_ns, None);
        ended.store(true, Ordering::Release);
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        busy
    })?;
    Ok(EmptyLoop { ns_per_request, place_ns: busy.place_ns })
}

/// The calling threads' loop on an empty shop.
fn run(
    args: &Args,
    plan: &Plan,
    rate: Option<u32>,
    busy_ns: u64,
    requests_max: Option<u32>,
) -> Result<Recorder, Failure> {
    let measured = plan.measured();
    let end = requests_max.map_or(measured.end, |max| measured.end.min(measured.start + max));
    let mut ledger = Ledger::new(end);
    let answered = Answered::default();
    let mut orders = load::all_orders(args, plan, measured.start..end, rate);
    let ranges: Vec<_> = orders.iter().map(|orders| orders.requests.clone()).collect();
    orders.iter_mut().for_each(|orders| orders.end_ns = BUSY_NS_MAX);
    let jobs = ledger.pages(&ranges).into_iter().zip(&orders).map(|(page, orders)| {
        let answered = &answered;
        let job: Job<'_> = Box::new(move |_| {
            let shop = EmptyShop::new(busy_ns, orders.window as u64 / 2);
            let desk = Desk::new(plan, page, answered.teller())?;
            let caller = Caller::new(&shop, desk, orders);
            // The caller was made after the gate: its clock starts now.
            caller.send(Timer::start(), orders)
        });
        job
    });
    load::run_jobs(jobs.collect(), |_| {})
}

/// What one writer writes, and how often.
struct WritePace {
    block_bytes: usize,
    every: Duration,
    synced: bool,
}

impl WritePace {
    fn of(load: &Load, durability: Durability) -> Self {
        let Sample { blocks, block_bytes, .. } = load.samples.last().copied().unwrap_or_default();
        let bytes = block_bytes.checked_div(blocks).unwrap_or(0) as usize;
        let blocks_per_s = blocks as f64 / load.seconds() / f64::from(WRITERS);
        Self {
            block_bytes: bytes.next_multiple_of(ALIGN_BYTES),
            every: Duration::from_secs_f64(1.0 / blocks_per_s.max(1.0)),
            synced: durability == Durability::Synced,
        }
    }
}

fn write_beside(folder: &Path, pace: WritePace, ended: &AtomicBool) -> Result<(), Failure> {
    if pace.block_bytes == 0 {
        return Ok(());
    }
    let disk = Disk::new(folder);
    disk.create_root()?;
    let file = disk.create("file", Access::Direct)?;
    file.write_at(&AlignedBuffer::zeroed(FILE_BYTES as usize), 0)?;
    file.sync()?;
    let block = AlignedBuffer::zeroed(pace.block_bytes);
    let blocks = (FILE_BYTES / pace.block_bytes as u64).max(1);
    let start = Instant::now();
    for nth in 0_u32.. {
        if ended.load(Ordering::Acquire) {
            break;
        }
        let at = u64::from(nth) % blocks * pace.block_bytes as u64;
        if pace.synced {
            file.write_durable(&block, at)?
        } else {
            file.write_at(&block, at)?
        }
        let due = pace.every * (nth + 1);
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    Ok(())
}
