//! [`Commit`]: an answer that waits for its record to be durable.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::error::CommitError;
use crate::log::lane::Lane;
use crate::log::shard::Ticket;

/// A record that an answer rests on: one of those that an answer of several rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) lane: u32,
    pub(crate) lsn: u64,
}

/// The answer to a verb, which resolves when it is durable.
///
/// It is a future that needs no runtime; a thread can [wait](Commit::wait) for it, and
/// [peek](Commit::peek) shows the answer before it is durable. Dropping it never undoes what was
/// asked for. A refusal resolves at once: it changed nothing that could be lost.
///
/// An error means that the engine does not know the answer: see [`CommitError`].
///
/// The thread that writes the log calls the waker, so that no other thread is between the disk and the caller. A
/// waker that panics harms no other waker. A waker must not block: until it returns, nothing becomes durable in its
/// log shard, and a [close](crate::Engine::close) waits. The other shards, deadlines and waiting lists go on.
#[must_use = "an answer counts only once it is durable: wait for it or await it"]
pub struct Commit<T> {
    answer: Option<T>,
    waiting: Waiting,
}

enum Waiting {
    Nothing,
    One {
        lane: Arc<Lane>,
        lsn: u64,
        ticket: Option<Ticket>,
    },
    /// In a box, so that a commit of one order is small: hosts keep many.
    Many(Box<Many>),
}

/// The lanes are counted together: by themselves, each would cost its appenders a line that moves, once now
/// and once when the commit goes.
struct Many {
    lanes: Arc<[Arc<Lane>]>,
    /// Those that are left, resolved from the end.
    targets: Vec<Target>,
    ticket: Option<Ticket>,
}

const _: () = assert!(size_of::<Waiting>() <= 32);

impl<T> Commit<T> {
    /// An answer that rests on nothing that could be lost.
    pub(crate) fn ready(answer: T) -> Self {
        Self { answer: Some(answer), waiting: Waiting::Nothing }
    }

    /// An answer that rests on this record.
    pub(crate) fn at(answer: T, lane: &Arc<Lane>, lsn: u64) -> Self {
        if lane.is_durable(lsn) {
            return Self::ready(answer);
        }
        let waiting = Waiting::One { lane: lane.clone(), lsn, ticket: None };
        Self { answer: Some(answer), waiting }
    }

    /// An answer that rests on all of these.
    pub(crate) fn at_all(answer: T, lanes: &Arc<[Arc<Lane>]>, targets: Vec<Target>) -> Self {
        if targets.is_empty() {
            return Self::ready(answer);
        }
        let waiting = Waiting::Many(Box::new(Many { lanes: lanes.clone(), targets, ticket: None }));
        Self { answer: Some(answer), waiting }
    }

    /// The same condition with another answer.
    pub(crate) fn with<U>(mut self, answer: U) -> Commit<U> {
        let waiting = std::mem::replace(&mut self.waiting, Waiting::Nothing);
        Commit { answer: Some(answer), waiting }
    }

    /// The answer, durable or not; `None` once it has been handed out.
    #[must_use]
    pub fn peek(&self) -> Option<&T> {
        self.answer.as_ref()
    }

    /// Whether waiting would return at once with the answer.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        match &self.waiting {
            Waiting::Nothing => true,
            Waiting::One { lane, lsn, .. } => lane.is_durable(*lsn),
            Waiting::Many(many) => many
                .targets
                .iter()
                .all(|target| many.lanes[target.lane as usize].is_durable(target.lsn)),
        }
    }

    /// Blocks the thread until the answer is durable.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn wait(mut self) -> Result<T, CommitError> {
        match self.wait_until(None) {
            Some(answer) => answer,
            // Without a deadline, waiting ends with an answer.
            None => Err(CommitError::Closed),
        }
    }

    /// Blocks the thread for at most `timeout`. Returns `None` if that was not enough; then it can be asked again.
    /// After it has returned an answer, it returns [`CommitError::Closed`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<T, CommitError>> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Result<T, CommitError>> {
        // Most answers that are asked for late are durable by then.
        if self.is_durable()
            && let Some(answer) = self.answer.take()
        {
            return Some(Ok(answer));
        }
        block_on_until(self, &thread_waker(), deadline)
    }

    fn poll_targets(&mut self, waker: &Waker) -> Poll<Result<(), CommitError>> {
        loop {
            let (lane, lsn, ticket) = match &mut self.waiting {
                Waiting::Nothing => return Poll::Ready(Ok(())),
                Waiting::One { lane, lsn, ticket } => (&*lane, *lsn, ticket),
                Waiting::Many(many) => match many.targets.last() {
                    None => return Poll::Ready(Ok(())),
                    Some(&Target { lane, lsn }) => {
                        (&many.lanes[lane as usize], lsn, &mut many.ticket)
                    }
                },
            };
            let shard = lane.shard();
            let settled = match shard.settled(lane.durable_mark(), lsn) {
                Some(settled) => {
                    if let Some(ticket) = ticket.take() {
                        shard.deregister(ticket);
                    }
                    settled
                }
                None => match shard.register(*ticket, lane.durable_mark(), lsn, waker) {
                    Ok(new_ticket) => {
                        *ticket = Some(new_ticket);
                        return Poll::Pending;
                    }
                    Err(settled) => {
                        *ticket = None;
                        settled
                    }
                },
            };
            match (&mut self.waiting, settled) {
                (Waiting::Many(many), Ok(())) => drop(many.targets.pop()),
                (waiting, Ok(())) => {
                    *waiting = Waiting::Nothing;
                    return Poll::Ready(Ok(()));
                }
                // What it waits for stays: asked again, it says the same.
                (_, Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<T> Future for Commit<T> {
    type Output = Result<T, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_targets(context.waker()).map(|settled| {
            // Polled again after its answer was handed out.
            settled.and_then(|()| self.answer.take().ok_or(CommitError::Closed))
        })
    }
}

// Nothing in it is pinned.
impl<T> Unpin for Commit<T> {}

impl<T> Drop for Commit<T> {
    fn drop(&mut self) {
        let (lane, ticket) = match &self.waiting {
            Waiting::One { lane, ticket, .. } => (Some(lane), ticket),
            Waiting::Many(many) => {
                let target = many.targets.last();
                (target.map(|target| &many.lanes[target.lane as usize]), &many.ticket)
            }
            Waiting::Nothing => return,
        };
        if let (Some(lane), Some(ticket)) = (lane, ticket) {
            lane.shard().deregister(*ticket);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Commit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit")
            .field("answer", &self.answer)
            .field("durable", &self.is_durable())
            .finish()
    }
}

/// Resolves when the log has room again after a
/// [`Backlogged`](crate::error::Unavailable::Backlogged).
#[must_use = "it does nothing until it is awaited or waited for"]
pub struct Ready {
    lanes: Arc<[Arc<Lane>]>,
    /// By shard: the ticket under which the waker is registered there.
    tickets: Vec<Option<Ticket>>,
}

impl Ready {
    pub(crate) fn new(lanes: Arc<[Arc<Lane>]>) -> Self {
        Self { lanes, tickets: Vec::new() }
    }

    /// Blocks the thread until there is room.
    ///
    /// # Errors
    /// [`CommitError::Unknown`] when the log is latched, [`CommitError::Closed`] when the engine is closed,
    /// [`CommitError::Forked`] in a forked child.
    pub fn wait(mut self) -> Result<(), CommitError> {
        block_on(&mut self)
    }

    fn look(&self) -> Poll<Result<(), CommitError>> {
        for lane in self.lanes.iter() {
            let shard = lane.shard();
            if shard.has_ended() {
                return Poll::Ready(Err(shard.why_ended()));
            }
            if !lane.has_ample_room() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Future for Ready {
    type Output = Result<(), CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = self.look() {
            return Poll::Ready(answer);
        }
        let Self { lanes, tickets } = &mut *self;
        if lanes.first().is_some_and(|lane| lane.shard().latch().is_in_forked_child()) {
            return Poll::Ready(Err(CommitError::Forked));
        }
        let mut behind: Vec<_> =
            lanes.iter().filter(|lane| !lane.has_ample_room()).map(|lane| lane.shard()).collect();
        behind.dedup_by_key(|shard| shard.index());
        for shard in behind {
            let index = usize::from(shard.index());
            if tickets.len() <= index {
                tickets.resize(index + 1, None);
            }
            tickets[index] = Some(shard.register_for_room(tickets[index], context.waker()));
        }
        self.look()
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        for lane in self.lanes.iter() {
            let shard = lane.shard();
            let ticket = self.tickets.get_mut(usize::from(shard.index())).and_then(Option::take);
            if let Some(ticket) = ticket {
                shard.deregister_for_room(ticket);
            }
        }
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("ready", &self.look().is_ready()).finish()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

fn thread_waker() -> Waker {
    thread_local! {
        /// One waker a thread, so that waiting does not allocate.
        static WAKER: Waker = new_waker();
    }
    fn new_waker() -> Waker {
        Waker::from(Arc::new(Unpark(std::thread::current())))
    }
    // A thread that ends has no locals any more, but may still wait.
    WAKER.try_with(Waker::clone).unwrap_or_else(|_| new_waker())
}

/// How often a thread looks by itself whether what it waits for is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Blocks the thread until the future has its output. The thread looks by itself now and then: a waker of the
/// host that blocks may keep the waking thread from this one.
pub(crate) fn block_on<F: Future + Unpin>(future: &mut F) -> F::Output {
    let waker = thread_waker();
    loop {
        let look_at = Instant::now().checked_add(LOOK_EVERY);
        if let Some(output) = block_on_until(future, &waker, look_at) {
            return output;
        }
    }
}

fn block_on_until<F: Future + Unpin>(
    future: &mut F,
    waker: &Waker,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    let mut context = Context::from_waker(waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut context) {
            return Some(output);
        }
        match deadline {
            None => std::thread::park(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                std::thread::park_timeout(left);
            }
        }
    }
}
