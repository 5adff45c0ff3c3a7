//! What is checked when a trial is over: no unit was sold that was never stocked, no key has two orders, every
//! acknowledged order is there after a reopen, every retry heard its first order.

use std::error::Error;
use std::ops::Range;
use std::thread;

use doorbuster::{Engine, Placed, Quantity};

use crate::ledger::{Answer, Ledger};
use crate::load::Load;
use crate::plan::{Fate, Plan};
use crate::shared::findings::{Findings, WORDS_MAX};
use crate::shared::progress::Progress;

type Failure = Box<dyn Error + Send + Sync>;

/// How many orders a thread looks up before it tells its progress.
const ORDERS_PER_TELLING: u32 = 4096;

/// Confirms, cancels and fulfils that were answered with something else than planned.
pub(crate) fn tell_unplanned(load: &Load, findings: &mut Findings) {
    let unplanned = load.recorder.unplanned;
    findings.prove(unplanned == 0, || format!("{unplanned} verbs did not do what was planned"));
}

/// Units by SKU, from the answers.
#[derive(Clone, Copy, Default)]
struct Units {
    held: i64,
    sold: i64,
}

/// Compares the engine's levels with the answers.
pub(crate) fn compare_levels(
    engine: &Engine,
    plan: &Plan,
    stock: &[u32],
    ledger: &Ledger,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let mut units = vec![Units::default(); stock.len()];
    for request in (0..plan.requests()).filter(|&it| ledger.answer(it) == Answer::Held) {
        for sku in plan.lines(request) {
            let units = &mut units[Plan::sku_index(sku)];
            match plan.fate(request) {
                Fate::Held => units.held += 1,
                Fate::Confirmed | Fate::Fulfilled => units.sold += 1,
                Fate::Cancelled | Fate::Expired => {}
            }
        }
    }
    let (mut unlike, mut oversold) = (0_u64, 0_u64);
    for ((sku, &stocked), units) in (0..).zip(stock).zip(units) {
        let levels = engine.levels(Plan::sku(sku)).ok_or_else(|| format!("SKU {sku} is gone"))?;
        let over = (levels.held + levels.sold).max(units.held + units.sold) - i64::from(stocked);
        oversold += over.max(0) as u64;
        let alike = levels.add_up()
            && levels.stocked == i64::from(stocked)
            && (levels.held, levels.sold) == (units.held, units.sold);
        if !alike && unlike < WORDS_MAX {
            let Units { held, sold } = units;
            let words = format!("{held} units held and {sold} sold by the answers, but {levels:?}");
            findings.words.push(words);
        }
        unlike += u64::from(!alike);
    }
    findings.prove(oversold == 0, || format!("{oversold} units were sold that were never stocked"));
    findings.oversold = findings.oversold.max(oversold);
    Ok(())
}

/// Looks up every acknowledged order by its id, and sends its key once more, on all processors.
pub(crate) fn look_up_and_retry(
    engine: &Engine,
    plan: &Plan,
    ledger: &Ledger,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let progress = Progress::new("proof after the reopen", "requests", u64::from(plan.requests()));
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u32);
    let found = thread::scope(|scope| {
        let lookers: Vec<_> = (0..threads)
            .map(|thread| plan.share(0..plan.requests(), thread, threads))
            .map(|share| scope.spawn(|| look_up_share(engine, plan, ledger, share, &progress)))
            .collect();
        lookers.into_iter().map(|looker| looker.join()).collect::<Vec<_>>()
    });
    for part in found {
        *findings += part.map_err(|_| "a proof panicked")??;
    }
    progress.finish();
    let mut ids: Vec<_> = (0..plan.requests())
        .filter(|&request| ledger.answer(request) == Answer::Held)
        .filter_map(|request| ledger.order(request))
        .collect();
    ids.sort_unstable();
    for pair in ids.windows(2).filter(|pair| pair[0] == pair[1]) {
        findings.duplicated(1, || format!("two keys were told {}", pair[0]));
    }
    let (there, told) = (engine.stats().orders, ids.len() as u64);
    for _ in told..there {
        findings.duplicated(1, || format!("{there} orders are there, but {told} were told"));
    }
    Ok(())
}

fn look_up_share(
    engine: &Engine,
    plan: &Plan,
    ledger: &Ledger,
    share: Range<u32>,
    progress: &Progress,
) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let mut told = share.start;
    for request in share.clone() {
        check_answer(plan, ledger, request, &mut findings);
        if ledger.answer(request) == Answer::Held {
            look_up(engine, plan, ledger, request, &mut findings);
            retry(engine, plan, ledger, request, &mut findings)?;
        }
        if request - told == ORDERS_PER_TELLING {
            progress.add(u64::from(request - told));
            told = request;
        }
    }
    progress.add(u64::from(share.end - told));
    Ok(findings)
}

/// Checks what one request was answered during the load against what its key was answered first.
fn check_answer(plan: &Plan, ledger: &Ledger, request: u32, findings: &mut Findings) {
    let first = plan.first(request);
    let has_order = ledger.order(first).is_some();
    match ledger.answer(request) {
        Answer::None => {}
        Answer::Held if first == request => {}
        Answer::Held => {
            findings
                .duplicated(1, || format!("request {request} made a second order of key {first}"));
        }
        Answer::Replayed if first == request => {
            findings.words.push(format!("request {request} was the first, but heard `replayed`"));
        }
        Answer::Replayed => {
            if ledger.order(request) != ledger.order(first) {
                findings.duplicated(1, || format!("a retry of key {first} heard another order"));
            }
        }
        Answer::Refused if has_order => {
            findings.lost(|| format!("key {first} has an order, but its retry was refused"));
        }
        Answer::Refused if plan.sells_out() => {}
        Answer::Refused | Answer::Other => {
            if findings.words.len() < WORDS_MAX as usize {
                findings.words.push(format!("request {request} was not held, with units in stock"));
            }
        }
    }
}

fn look_up(engine: &Engine, plan: &Plan, ledger: &Ledger, request: u32, findings: &mut Findings) {
    let Some(order) = ledger.order(request) else { return };
    let view = match engine.order(order) {
        Ok(view) => view,
        Err(error) => {
            findings.lost(|| format!("an acknowledged order is gone: {error}"));
            return;
        }
    };
    let mut lines: Vec<_> = plan.lines(request).collect();
    lines.sort_unstable();
    let same_lines = view.lines.len() == lines.len()
        && view
            .lines
            .iter()
            .zip(&lines)
            .all(|(line, sku)| line.sku == *sku && line.quantity == Quantity::new(1));
    let same = view.order == order
        && view.buyer == plan.buyer(request)
        && view.key == Plan::key(request)
        && view.state == plan.fate(request).state()
        && view.durable
        && same_lines;
    if !same {
        findings.lost(|| format!("acknowledged, but changed: request {request}, now {:?}", *view));
    }
}

/// Whatever became of an order, a retry receives it.
fn retry(
    engine: &Engine,
    plan: &Plan,
    ledger: &Ledger,
    request: u32,
    findings: &mut Findings,
) -> Result<(), Failure> {
    match engine.place(plan.order(request))?.wait()? {
        Placed::Held(held) if held.replayed && Some(held.order) == ledger.order(request) => {}
        Placed::Held(held) => {
            findings.duplicated(1, || format!("retry of key {request} after the reopen: {held:?}"));
        }
        other => {
            findings.lost(|| format!("retry of key {request} after the reopen: {other:?}"));
        }
    }
    Ok(())
}
