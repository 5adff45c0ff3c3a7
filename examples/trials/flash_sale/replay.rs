//! The replay: a history of invoices, sent through an engine in file order.
//!
//! A pass first sets every SKU's stock by the demand of the whole file. Its invoices are then cut
//! into stages: a give-back is a stage of its own, so that what it adds is there for all that
//! follow; the orders and write-offs between two give-backs are one stage, shared out among the
//! threads. With one thread that is the file order exactly.
//!
//! An order is confirmed and fulfilled as soon as it is held: its outcome stands before it is
//! durable, so each thread keeps a window of commits in flight instead of waiting for every one.

use std::collections::VecDeque;
use std::error::Error;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use doorbuster::{
    Adjust, Adjusted, Commit, Engine, Order, OrderState, PlaceError, Placed, Refusal, RequestKey,
    STOCK_MAX, SkuId, StockError, Transition,
};

use crate::data::{History, Invoice, InvoiceKind};
use crate::shared::patience::ask;

type Failure = Box<dyn Error + Send + Sync>;

/// How many invoices a thread keeps in flight.
const WINDOW_INVOICES: usize = 1024;

/// Which replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Pass A: 80 % of the demand in stock, every invoice.
    Short,
    /// Pass B: the full demand in stock, orders only. All must be held and nothing may remain.
    Full,
}

/// What became of one invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Held, confirmed, fulfilled.
    Held,
    /// Not enough in stock, or too much for one buyer.
    Refused(Refusal),
    /// The engine would not take it: the words of its error.
    Unanswered(String),
    /// Each row was added, except where the engine would not take it.
    GivenBack { units: u64, errors: Vec<String> },
    /// Each row was taken as far as there was stock.
    WrittenOff { units: u64, shortfall: u64 },
}

/// What one pass did.
pub(crate) struct Replayed {
    /// By invoice, as an index into [`History::invoices`], in file order.
    pub(crate) outcomes: Vec<(usize, Outcome)>,
    /// From the first invoice to the last durable answer.
    pub(crate) elapsed: Duration,
    /// SKUs whose start would be more than an engine can count: they start at that bound.
    pub(crate) capped: u64,
}

impl Pass {
    /// Stock of a SKU at the start, and whether it had to be cut to what an engine can count.
    pub(crate) fn start_units(self, demand: u64) -> (u32, bool) {
        let units = match self {
            Self::Short => (u128::from(demand) * 80 / 100) as u64,
            Self::Full => demand,
        };
        (u32::try_from(units).unwrap_or(STOCK_MAX), units > u64::from(STOCK_MAX))
    }

    /// Whether the pass sends invoices of this kind.
    fn includes(self, kind: InvoiceKind) -> bool {
        self == Self::Short || kind == InvoiceKind::Order
    }
}

/// How many invoices a pass sends.
pub(crate) fn invoices_in(history: &History, pass: Pass) -> usize {
    history.invoices.iter().filter(|invoice| pass.includes(invoice.kind)).count()
}

/// Sends the history through an engine that knows none of its SKUs yet. `progress` is called for each invoice sent.
/// An error means that the pass could not be finished.
pub(crate) fn run(
    engine: &Engine,
    history: &History,
    pass: Pass,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Replayed, Failure> {
    let capped = set_start(engine, history, pass)?;
    let chosen: Vec<usize> = (0..history.invoices.len())
        .filter(|&at| pass.includes(history.invoices[at].kind))
        .collect();
    let work = Work {
        engine,
        history,
        stages: stages(history, &chosen),
        chosen: &chosen,
        barrier: Barrier::new(threads),
        failed: AtomicBool::new(false),
        progress,
    };
    let begin = Instant::now();
    let answers = Mutex::new(Vec::with_capacity(chosen.len()));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (work, answers, failures) = (&work, &answers, &failures);
            scope.spawn(move || match work.thread(thread) {
                Ok(own) => lock(answers).extend(own),
                Err(failure) => lock(failures).push(failure),
            });
        }
    });
    if let Some(failure) = into_inner(failures).pop() {
        return Err(failure);
    }
    let mut outcomes = into_inner(answers);
    outcomes.sort_unstable_by_key(|(at, _): &(usize, Outcome)| *at);
    let elapsed = begin.elapsed();
    Ok(Replayed { outcomes, elapsed, capped })
}

fn set_start(engine: &Engine, history: &History, pass: Pass) -> Result<u64, Failure> {
    let mut capped = 0;
    let mut in_flight = Vec::with_capacity(history.codes.len());
    for (sku, &demand) in history.demand.iter().enumerate() {
        let (units, cut) = pass.start_units(demand);
        capped += u64::from(cut);
        let adjust = Adjust::set(units).expect(0).key(RequestKey::from_text("start"));
        in_flight.push(ask(engine, || engine.stock(sku_id(sku), adjust.clone()))?);
    }
    for (sku, commit) in in_flight.into_iter().enumerate() {
        match commit.wait()? {
            Adjusted::Done { replayed: false, .. } => {}
            other => return Err(format!("{}: start answered {other:?}", history.codes[sku]).into()),
        }
    }
    Ok(capped)
}

/// Cuts the chosen invoices into stages, as ranges of `chosen`.
fn stages(history: &History, chosen: &[usize]) -> Vec<Stage> {
    let gives_back = |&at: &usize| history.invoices[at].kind == InvoiceKind::GiveBack;
    let mut begin = 0;
    chosen
        .chunk_by(|a, b| !gives_back(a) && !gives_back(b))
        .map(|chunk| {
            let range = begin..begin + chunk.len();
            begin = range.end;
            Stage { next: AtomicUsize::new(range.start), range }
        })
        .collect()
}

/// Invoices that may run at the same time. `next` only hands out places: the barrier between
/// stages orders everything else, so its accesses are relaxed.
struct Stage {
    range: Range<usize>,
    next: AtomicUsize,
}

/// What the threads of a pass share. Once `failed` is set, they pass the remaining barriers without
/// sending anything, so that none waits for a thread that gave up. It is read and written relaxed:
/// seeing it late costs some needless invoices, nothing else.
struct Work<'a> {
    engine: &'a Engine,
    history: &'a History,
    chosen: &'a [usize],
    stages: Vec<Stage>,
    barrier: Barrier,
    failed: AtomicBool,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Work<'_> {
    fn thread(&self, thread: usize) -> Result<Vec<(usize, Outcome)>, Failure> {
        let mut window = Window { in_flight: VecDeque::new(), outcomes: Vec::new() };
        let mut result = Ok(());
        for stage in &self.stages {
            // A stage of one invoice is not worth waking the others for.
            if stage.range.len() > 1 || thread == 0 {
                result = result.and_then(|()| self.stage(stage, &mut window));
                if result.is_err() {
                    self.failed.store(true, Ordering::Relaxed);
                }
            }
            self.barrier.wait();
        }
        result?;
        window.settle_down_to(0)?;
        Ok(window.outcomes)
    }

    fn stage(&self, stage: &Stage, window: &mut Window) -> Result<(), Failure> {
        while !self.failed.load(Ordering::Relaxed) {
            let next = stage.next.fetch_add(1, Ordering::Relaxed);
            if next >= stage.range.end {
                break;
            }
            let at = self.chosen[next];
            let invoice = &self.history.invoices[at];
            let sent = match invoice.kind {
                InvoiceKind::Order => self.order(invoice)?,
                InvoiceKind::GiveBack => Sent::Settled(self.give_back(invoice)?),
                InvoiceKind::WriteOff => self.write_off(invoice)?,
            };
            window.push(at, sent)?;
            (self.progress)(1);
        }
        Ok(())
    }

    fn order(&self, invoice: &Invoice) -> Result<Sent, Failure> {
        let mut order =
            Order::new(invoice.buyer, invoice.key()).payload(invoice.time.clone().into_bytes());
        for row in &invoice.rows {
            let Ok(units) = u32::try_from(row.units) else {
                return Ok(Sent::Settled(Outcome::Unanswered(self.too_many(row.sku, row.units))));
            };
            order = order.line(sku_id(row.sku), units);
        }
        let placed = match ask(self.engine, || self.engine.place(&order)) {
            Ok(placed) => placed,
            Err(error @ (PlaceError::Unavailable(_) | PlaceError::Contended { .. })) => {
                return Err(format!("invoice {}: {error}", invoice.number).into());
            }
            Err(error) => return Ok(Sent::Settled(Outcome::Unanswered(error.to_string()))),
        };
        let Some(Placed::Held(held)) = placed.peek() else {
            return Ok(Sent::Refused(placed));
        };
        let id = held.order;
        let confirmed = ask(self.engine, || self.engine.confirm(id))?;
        let fulfilled = ask(self.engine, || self.engine.fulfil(id))?;
        Ok(Sent::Sold { placed, confirmed, fulfilled })
    }

    /// Adds the rows, and waits: buyers can have the units only once the records are durable.
    fn give_back(&self, invoice: &Invoice) -> Result<Outcome, Failure> {
        let mut commits = Vec::with_capacity(invoice.rows.len());
        let mut errors = Vec::new();
        for row in &invoice.rows {
            let Ok(units) = u32::try_from(row.units) else {
                errors.push(self.too_many(row.sku, row.units));
                continue;
            };
            let adjust = adjustment(Adjust::add(units), invoice, row.place);
            match ask(self.engine, || self.engine.stock(sku_id(row.sku), adjust.clone())) {
                Ok(commit) => commits.push((row, commit)),
                Err(error @ (StockError::Unavailable(_) | StockError::Contended { .. })) => {
                    return Err(format!("invoice {}: {error}", invoice.number).into());
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        let mut units = 0;
        for (row, commit) in commits {
            match commit.wait()? {
                Adjusted::Done { delta, replayed: false, .. } if delta == row.units as i64 => {
                    units += row.units;
                }
                other => {
                    return Err(format!("row {}: the add answered {other:?}", row.place).into());
                }
            }
        }
        Ok(Outcome::GivenBack { units, errors })
    }

    fn write_off(&self, invoice: &Invoice) -> Result<Sent, Failure> {
        let mut rows = Vec::with_capacity(invoice.rows.len());
        for row in &invoice.rows {
            // No SKU has more than `STOCK_MAX` units, so asking for more would take no more.
            let units = u32::try_from(row.units).unwrap_or(STOCK_MAX);
            let adjust = adjustment(Adjust::take_up_to(units), invoice, row.place);
            let commit = ask(self.engine, || self.engine.stock(sku_id(row.sku), adjust.clone()))
                .map_err(|error| format!("invoice {}: {error}", invoice.number))?;
            rows.push((row.units, commit));
        }
        Ok(Sent::WrittenOff(rows))
    }

    fn too_many(&self, sku: usize, units: u64) -> String {
        let code = &self.history.codes[sku];
        format!("quantity of {code}: {units} units in one row, at most {}", u32::MAX)
    }
}

fn adjustment(adjust: Adjust, invoice: &Invoice, place: u64) -> Adjust {
    let key = RequestKey::from_text(&format!("{} row {place}", invoice.number));
    adjust.key(key).reference(invoice.number.clone())
}

/// The engine's name for a SKU of the history.
pub(crate) fn sku_id(sku: usize) -> SkuId {
    SkuId::new(sku as u64)
}

/// An invoice whose outcome stands, though not all of it may be durable.
enum Sent {
    Settled(Outcome),
    Refused(Commit<Placed>),
    Sold { placed: Commit<Placed>, confirmed: Commit<Transition>, fulfilled: Commit<Transition> },
    WrittenOff(Vec<(u64, Commit<Adjusted>)>),
}

impl Sent {
    /// Waits until all of it is durable.
    fn outcome(self) -> Result<Outcome, Failure> {
        match self {
            Self::Settled(outcome) => Ok(outcome),
            Self::Refused(placed) => match placed.wait()? {
                Placed::Refused(refusal) => Ok(Outcome::Refused(refusal)),
                other => Err(format!("a new key was answered {other:?}").into()),
            },
            Self::Sold { placed, confirmed, fulfilled } => {
                let placed = placed.wait()?;
                if placed.held().is_none_or(|held| held.replayed) {
                    return Err(format!("a new key was answered {placed:?}").into());
                }
                done(confirmed, OrderState::Confirmed)?;
                done(fulfilled, OrderState::Fulfilled)?;
                Ok(Outcome::Held)
            }
            Self::WrittenOff(rows) => {
                let (mut units, mut shortfall) = (0, 0_u64);
                for (wanted, commit) in rows {
                    match commit.wait()? {
                        Adjusted::Done { delta, replayed: false, .. } if delta <= 0 => {
                            units += delta.unsigned_abs();
                            shortfall = wanted
                                .saturating_sub(delta.unsigned_abs())
                                .saturating_add(shortfall);
                        }
                        other => return Err(format!("a write-off answered {other:?}").into()),
                    }
                }
                Ok(Outcome::WrittenOff { units, shortfall })
            }
        }
    }
}

fn done(commit: Commit<Transition>, state: OrderState) -> Result<(), Failure> {
    match commit.wait()? {
        Transition::Done { state: reached } if reached == state => Ok(()),
        other => Err(format!("on the way to {state:?}: {other:?}").into()),
    }
}

/// What one thread has in flight, oldest first, and what it knows already.
struct Window {
    in_flight: VecDeque<(usize, Sent)>,
    outcomes: Vec<(usize, Outcome)>,
}

impl Window {
    fn push(&mut self, at: usize, sent: Sent) -> Result<(), Failure> {
        self.in_flight.push_back((at, sent));
        self.settle_down_to(WINDOW_INVOICES)
    }

    fn settle_down_to(&mut self, len: usize) -> Result<(), Failure> {
        while self.in_flight.len() > len {
            if let Some((at, sent)) = self.in_flight.pop_front() {
                self.outcomes.push((at, sent.outcome()?));
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}
