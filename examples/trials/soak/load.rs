//! The calling threads: each order goes its way as its answers become durable.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;

use doorbuster::{Commit, Engine, OrderId, OrderState, Placed, Transition};

use crate::args::Args;
use crate::plan::Plan;
use crate::shared::findings::Findings;
use crate::shared::pace::{self, Pace};
use crate::shared::patience::ask;
use crate::shared::timer::Timer;
use crate::watch::{Watch, Watched};
use crate::windows::{Recorder, Windows};

type Failure = Box<dyn Error + Send + Sync>;

/// How many commits a thread keeps in flight at most.
const IN_FLIGHT_MAX: usize = 64 * 1024;
/// How many orders a thread gathers before it reports them.
const ORDERS_PER_TELLING: u64 = 256;
/// One order in this many is remembered for good, to be asked for when it is long gone.
const OLD_ONE_IN: u64 = 4096;

/// An order that was fulfilled.
#[derive(Clone, Copy)]
pub(crate) struct Fulfilled {
    pub(crate) order: OrderId,
    /// Engine time before the fulfil was asked for.
    pub(crate) asked_ms: u64,
}

/// What one thread was told.
pub(crate) struct Book {
    thread: u64,
    threads: u64,
    /// Orders sent; all are fulfilled in the end.
    sent: u64,
    /// The latest ones, by their number in the thread modulo the length.
    latest: Vec<Fulfilled>,
    /// Some of all.
    old: Vec<(u64, OrderId)>,
    /// Units sold by SKU.
    sold: Vec<u64>,
    findings: Findings,
}

/// What all threads were told.
pub(crate) struct Ledger {
    books: Vec<Book>,
}

impl Ledger {
    pub(crate) fn orders(&self) -> u64 {
        self.books.iter().map(|book| book.sent).sum()
    }

    /// Units that were sold of a SKU.
    pub(crate) fn sold(&self, sku: u32) -> u64 {
        self.books.iter().map(|book| book.sold[sku as usize]).sum()
    }

    pub(crate) fn tell(&self, findings: &mut Findings) {
        self.books.iter().for_each(|book| *findings += book.findings.clone());
    }

    /// The latest orders with their numbers, by thread.
    pub(crate) fn latest(&self) -> Vec<impl Iterator<Item = (u64, Fulfilled)> + Send + '_> {
        self.books.iter().map(Book::latest).collect()
    }

    /// Orders from the whole run with their numbers.
    pub(crate) fn old(&self) -> impl Iterator<Item = (u64, OrderId)> + '_ {
        self.books.iter().flat_map(|book| book.old.iter().copied())
    }
}

impl Book {
    fn new(args: &Args, thread: u32) -> Self {
        let threads = u64::from(args.threads());
        let none = Fulfilled { order: OrderId::from_u64(u64::MAX), asked_ms: u64::MAX };
        Self {
            thread: thread.into(),
            threads,
            sent: 0,
            // Not zeros, which the system would map without memory.
            latest: vec![none; args.remembered().div_ceil(threads) as usize],
            old: Vec::with_capacity((args.orders() / threads / OLD_ONE_IN) as usize + 1),
            sold: vec![0; args.skus as usize],
            findings: Findings::default(),
        }
    }

    fn latest(&self) -> impl Iterator<Item = (u64, Fulfilled)> + Send + '_ {
        let len = self.latest.len() as u64;
        (self.sent.saturating_sub(len)..self.sent)
            .map(move |nth| (self.number(nth), self.latest[(nth % len) as usize]))
    }

    /// The number of the thread's nth order.
    fn number(&self, nth: u64) -> u64 {
        nth * self.threads + self.thread
    }

    fn enter(&mut self, plan: &Plan, nth: u64, fulfilled: Fulfilled) {
        let len = self.latest.len() as u64;
        self.latest[(nth % len) as usize] = fulfilled;
        let number = self.number(nth);
        self.sold[plan.sku_of(number) as usize] += 1;
        if nth.is_multiple_of(OLD_ONE_IN) {
            self.old.push((number, fulfilled.order));
        }
    }
}

/// Sends all orders, and watches.
pub(crate) fn run(
    args: &Args,
    plan: &Plan,
    engine: &Engine,
    folder: &Path,
) -> Result<Watched, Failure> {
    let windows = Windows::new(args.window_ms);
    let (threads, fulfilled) = (args.threads(), AtomicU64::new(0));
    let callers: Vec<_> = (0..threads)
        .map(|thread| {
            Ok(Caller {
                engine,
                plan,
                pace: Pace::of(Some(args.rate), thread, threads),
                timer: Timer::start(),
                in_flight: VecDeque::with_capacity(IN_FLIGHT_MAX + 1),
                book: Book::new(args, thread),
                recorder: windows.recorder(thread as usize)?,
                fulfilled: &fulfilled,
                untold: 0,
            })
        })
        .collect::<Result<_, Failure>>()?;
    let (gate, started) = (Barrier::new(callers.len() + 1), OnceLock::new());
    thread::scope(|scope| {
        let (gate, started) = (&gate, &started);
        let callers: Vec<_> = callers
            .into_iter()
            .map(|caller| {
                scope.spawn(move || {
                    gate.wait();
                    caller.run(started.get_or_init(Timer::start).clone())
                })
            })
            .collect();
        gate.wait();
        let timer = started.get_or_init(Timer::start);
        let mut watch = Watch::new(args, engine, folder, &windows)?;
        while callers.iter().any(|caller| !caller.is_finished()) {
            watch.look(timer.ns(), fulfilled.load(Ordering::Relaxed))?;
        }
        let books = callers
            .into_iter()
            .map(|caller| caller.join().map_err(|_| "a calling thread panicked")?)
            .collect::<Result<Vec<_>, Failure>>()?;
        watch.finish(timer.ns(), Ledger { books })
    })
}

struct Caller<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    pace: Pace,
    timer: Timer,
    in_flight: VecDeque<InFlight>,
    book: Book,
    recorder: Recorder<'a>,
    /// A counter only: nothing else is published by it, so its accesses are relaxed.
    fulfilled: &'a AtomicU64,
    untold: u64,
}

/// What waits for the disk.
struct InFlight {
    nth: u64,
    due_ns: u64,
    step: Step,
}

enum Step {
    Place(Commit<Placed>),
    Confirm(OrderId, Commit<Transition>),
    Fulfil(Fulfilled, Commit<Transition>),
}

impl Step {
    fn is_durable(&self) -> bool {
        match self {
            Self::Place(commit) => commit.is_durable(),
            Self::Confirm(_, commit) | Self::Fulfil(_, commit) => commit.is_durable(),
        }
    }
}

impl Caller<'_> {
    fn run(mut self, timer: Timer) -> Result<Book, Failure> {
        self.timer = timer;
        while self.book.number(self.book.sent) < self.plan.orders {
            let nth = self.book.sent;
            let due_ns = self.pace.due_ns(nth).unwrap_or(0);
            self.wait_until(due_ns)?;
            let order = self.plan.order(self.book.number(nth));
            let commit = ask(self.engine, || self.engine.place(&order))?;
            self.in_flight.push_back(InFlight { nth, due_ns, step: Step::Place(commit) });
            self.book.sent += 1;
        }
        while !self.in_flight.is_empty() {
            self.settle_oldest()?;
        }
        self.fulfilled.fetch_add(self.untold, Ordering::Relaxed);
        Ok(self.book)
    }

    /// Takes what became durable, makes room for another order, and waits until it is due.
    fn wait_until(&mut self, due_ns: u64) -> Result<(), Failure> {
        self.settle_durable()?;
        while self.in_flight.len() >= IN_FLIGHT_MAX {
            self.settle_oldest()?;
        }
        while self.timer.ns() < due_ns {
            self.settle_durable()?;
            pace::idle(&self.timer, due_ns);
        }
        Ok(())
    }

    fn settle_durable(&mut self) -> Result<(), Failure> {
        while self.in_flight.front().is_some_and(|oldest| oldest.step.is_durable()) {
            self.settle_oldest()?;
        }
        Ok(())
    }

    /// In its place one more may be in flight afterwards, never two.
    fn settle_oldest(&mut self) -> Result<(), Failure> {
        let Some(InFlight { nth, due_ns, step }) = self.in_flight.pop_front() else {
            return Ok(());
        };
        match step {
            Step::Place(commit) => {
                let placed = commit.wait()?;
                let now_ns = self.note(due_ns)?;
                self.confirm(nth, now_ns, &placed)
            }
            Step::Confirm(order, commit) => {
                self.expect(OrderState::Confirmed, commit.wait()?);
                let now_ns = self.note(due_ns)?;
                self.retry(nth, order)?;
                let asked_ms = self.engine.now_ms();
                let commit = ask(self.engine, || self.engine.fulfil(order))?;
                let step = Step::Fulfil(Fulfilled { order, asked_ms }, commit);
                self.in_flight.push_back(InFlight { nth, due_ns: now_ns, step });
                Ok(())
            }
            Step::Fulfil(fulfilled, commit) => {
                self.expect(OrderState::Fulfilled, commit.wait()?);
                self.note(due_ns)?;
                self.book.enter(self.plan, nth, fulfilled);
                self.untold += 1;
                if self.untold == ORDERS_PER_TELLING {
                    self.fulfilled.fetch_add(std::mem::take(&mut self.untold), Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }

    /// A commit that was due then is seen durable; returns the time.
    fn note(&mut self, due_ns: u64) -> Result<u64, Failure> {
        let took_ns = self.timer.ns_since(due_ns);
        self.recorder.note(due_ns, took_ns)?;
        Ok(due_ns + took_ns)
    }

    fn confirm(&mut self, nth: u64, due_ns: u64, placed: &Placed) -> Result<(), Failure> {
        let Some(held) = placed.held() else {
            let number = self.book.number(nth);
            return Err(format!("order {number}, with units in stock, was told {placed:?}").into());
        };
        self.book.findings.duplicated(u64::from(held.replayed), || {
            format!("a key sent for the first time was told {held:?}")
        });
        let order = held.order;
        let commit = ask(self.engine, || self.engine.confirm(order))?;
        let step = Step::Confirm(order, commit);
        self.in_flight.push_back(InFlight { nth, due_ns, step });
        Ok(())
    }

    fn expect(&mut self, state: OrderState, transition: Transition) {
        let is_so = transition == Transition::Done { state };
        self.book.findings.prove(is_so, || format!("not {state:?}, but {transition:?}"));
    }

    /// Some orders are sent again. A confirmed one cannot have left memory.
    fn retry(&mut self, nth: u64, order: OrderId) -> Result<(), Failure> {
        let number = self.book.number(nth);
        if !self.plan.is_retried(number) {
            return Ok(());
        }
        let again = self.plan.order(number);
        let placed = ask(self.engine, || self.engine.place(&again))?.wait()?;
        let is_first = placed.held().is_some_and(|held| held.replayed && held.order == order);
        let breaches = u64::from(!is_first);
        self.book
            .findings
            .duplicated(breaches, || format!("a retry of {order} was told {placed:?}"));
        Ok(())
    }
}
