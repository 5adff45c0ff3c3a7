//! Wakers are the host's code. A waker may panic, block, close the engine or drop a commit, so the engine
//! never clones, wakes or drops one under a lock, and a panic of one ends no thread.
//!
//! The wakers of commits are woken by the log writer that made them durable: a commit must not wait for another
//! thread. All other wakers go through [`Wakes`] to a thread of their own. One that blocks there holds
//! up the wakers after it, and nothing else.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use crate::sync::{Mutex, OnceLock, Parker, Unparker};

/// Wakes them all. A waker that panics keeps no other one asleep and does not end the thread.
pub(crate) fn wake_all(wakers: &mut Vec<Waker>) {
    wakers.drain(..).for_each(wake);
}

fn wake(waker: Waker) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        discard(panic);
    }
}

/// Drops what a panic carries. It is the host's too, and its drop may panic again.
pub(crate) fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// The words of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}

/// Wakers that wait to be woken by a thread that holds no lock.
///
/// Invariant: a waker is in the queue, or the thread that took it wakes it.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    state: Mutex<State>,
    /// The waking thread's; not set in a stepped engine.
    thread: OnceLock<Unparker>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Waker>,
    /// The thread has taken a waker, and has not come back from it.
    is_waking: bool,
    has_ended: bool,
}

impl Wakes {
    pub(crate) fn set_thread(&self, unparker: Unparker) {
        // It is set once, by the engine's start.
        drop(self.thread.set(unparker));
    }

    /// Has these woken soon. The caller may hold any lock: nothing of the wakers is called here.
    pub(crate) fn push(&self, wakers: impl IntoIterator<Item = Waker>) {
        let is_empty = {
            let mut state = self.state.lock();
            state.queue.extend(wakers);
            state.queue.is_empty()
        };
        if !is_empty && let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// The waking thread's work, until [`Wakes::end`].
    pub(crate) fn run(&self, parker: &Parker) {
        loop {
            match self.next() {
                Next::Waker(waker) => wake(waker),
                Next::Nothing => parker.park(),
                Next::Ended => return,
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.state.lock();
        let waker = state.queue.pop_front();
        state.is_waking = waker.is_some();
        match waker {
            Some(waker) => Next::Waker(waker),
            None if state.has_ended => Next::Ended,
            None => Next::Nothing,
        }
    }

    /// Ends the waking thread after the last waker. Returns whether it is on its way to the end: if not, there are
    /// wakers left, one of which may never return.
    pub(crate) fn end(&self) -> bool {
        let is_done = {
            let mut state = self.state.lock();
            state.has_ended = true;
            !state.is_waking && state.queue.is_empty()
        };
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        is_done
    }

    /// Wakes what is in the queue, on the caller's thread: in an engine that has no waking thread.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn wake_queued(&self) {
        while let Some(waker) = self.pop() {
            wake(waker);
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn pop(&self) -> Option<Waker> {
        self.state.lock().queue.pop_front()
    }
}

enum Next {
    Waker(Waker),
    Nothing,
    Ended,
}

/// Wakers of callers that wait for a change. A change wakes them all, and each looks for itself.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    wakes: Arc<Wakes>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last_ticket: u64,
    wakers: HashMap<u64, Waker>,
}

impl Bell {
    pub(crate) fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    /// Something changed. The caller may hold any lock.
    pub(crate) fn ring(&self) {
        let wakers = std::mem::take(&mut self.waiting.lock().wakers);
        if !wakers.is_empty() {
            self.wakes.push(wakers.into_values());
        }
    }

    /// Notes or renews a waker, and returns its ticket. The caller looks once more afterwards.
    pub(crate) fn register(&self, ticket: Option<u64>, waker: &Waker) -> u64 {
        let waker = waker.clone();
        let mut waiting = self.waiting.lock();
        let ticket = ticket.unwrap_or_else(|| {
            waiting.last_ticket += 1;
            waiting.last_ticket
        });
        let replaced = waiting.wakers.insert(ticket, waker);
        drop(waiting);
        drop(replaced);
        ticket
    }

    pub(crate) fn deregister(&self, ticket: u64) {
        let removed = self.waiting.lock().wakers.remove(&ticket);
        drop(removed);
    }
}
