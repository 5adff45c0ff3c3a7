//! Calling threads: each sends requests without waiting for the last one's answer, with a bounded
//! window of commits in flight, so that one sync of the disk carries thousands of orders.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use doorbuster::{Commit, Engine, Placed};

use super::plan::Plan;
use crate::shared::patience::ask;

type Failure = Box<dyn Error + Send + Sync>;

/// How many commits a thread keeps in flight.
const WINDOW_COMMITS: usize = 4096;

/// How many requests a thread takes at a time.
const REQUESTS_PER_TURN: usize = 256;

/// Requests to send, handed out to threads in turns.
pub(crate) struct Queue<'a> {
    requests: &'a [u32],
    /// Hands out places and publishes nothing, so its accesses are relaxed.
    next: AtomicUsize,
}

impl<'a> Queue<'a> {
    pub(crate) fn new(requests: &'a [u32]) -> Self {
        Self { requests, next: AtomicUsize::new(0) }
    }

    fn turn(&self) -> Option<&'a [u32]> {
        let begin = self.next.fetch_add(REQUESTS_PER_TURN, Ordering::Relaxed);
        let rest = self.requests.get(begin..).filter(|rest| !rest.is_empty())?;
        Some(&rest[..rest.len().min(REQUESTS_PER_TURN)])
    }
}

/// What a calling thread does with its answers.
pub(crate) trait Listener {
    /// The engine decided; the answer is not durable yet.
    fn decided(&mut self, _placed: &Placed) {}

    /// The answer is durable.
    fn answered(&mut self, answer: Answered) -> Result<(), Failure>;

    /// The thread is about to rest, or is done.
    fn resting(&mut self) -> Result<(), Failure>;
}

/// A durable answer.
pub(crate) struct Answered {
    pub(crate) request: u32,
    pub(crate) placed: Placed,
    /// From the call to `seen`.
    pub(crate) latency: Duration,
    /// When the thread saw that the answer is durable.
    pub(crate) seen: Instant,
}

/// Sends all requests of the queue on `threads` threads, each with a listener of its own.
pub(crate) fn send_all<L: Listener + Send>(
    engine: &Engine,
    plan: &Plan,
    requests: &[u32],
    listeners: Vec<L>,
) -> Result<(), Failure> {
    let queue = Queue::new(requests);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for listener in listeners {
            let (queue, failures) = (&queue, &failures);
            scope.spawn(move || {
                let mut caller = Caller { engine, plan, listener, in_flight: VecDeque::new() };
                if let Err(failure) = caller.send(queue) {
                    failures.lock().unwrap_or_else(|e| e.into_inner()).push(failure);
                }
            });
        }
    });
    match failures.into_inner().unwrap_or_else(|e| e.into_inner()).pop() {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}

struct Caller<'a, L> {
    engine: &'a Engine,
    plan: &'a Plan,
    listener: L,
    /// Oldest first; at most [`WINDOW_COMMITS`].
    in_flight: VecDeque<InFlight>,
}

struct InFlight {
    request: u32,
    called: Instant,
    commit: Commit<Placed>,
}

impl<L: Listener> Caller<'_, L> {
    fn send(&mut self, queue: &Queue<'_>) -> Result<(), Failure> {
        while let Some(turn) = queue.turn() {
            for &request in turn {
                let called = Instant::now();
                self.settle_durable(called)?;
                if self.in_flight.len() == WINDOW_COMMITS {
                    self.listener.resting()?;
                    self.settle_oldest()?;
                }
                let order = self.plan.order(request);
                let commit = ask(self.engine, || self.engine.place(&order))?;
                if let Some(placed) = commit.peek() {
                    self.listener.decided(placed);
                }
                self.in_flight.push_back(InFlight { request, called, commit });
            }
        }
        while !self.in_flight.is_empty() {
            self.settle_oldest()?;
        }
        self.listener.resting()
    }

    /// Takes the answers that are durable by `now`. Partitions have log shards of their own, so a
    /// younger commit may be durable before an older one: it is seen when the older one is.
    fn settle_durable(&mut self, now: Instant) -> Result<(), Failure> {
        while self.in_flight.front().is_some_and(|oldest| oldest.commit.is_durable()) {
            if let Some(oldest) = self.in_flight.pop_front() {
                self.settle(oldest, now)?;
            }
        }
        Ok(())
    }

    fn settle_oldest(&mut self) -> Result<(), Failure> {
        let Some(InFlight { request, called, commit }) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let placed = commit.wait()?;
        let seen = Instant::now();
        self.listener.answered(Answered { request, placed, latency: seen - called, seen })
    }

    fn settle(&mut self, in_flight: InFlight, seen: Instant) -> Result<(), Failure> {
        let InFlight { request, called, commit } = in_flight;
        let placed = commit.wait()?;
        let latency = seen.saturating_duration_since(called);
        self.listener.answered(Answered { request, placed, latency, seen })
    }
}
