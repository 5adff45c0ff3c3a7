//! Where checkpoints are asked for, and what came of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::error::{CheckpointError, Unavailable};
use crate::log::block_on;
use crate::sync::{Mutex, OnceLock, Unparker};

/// A checkpoint that was taken: whole, durable and read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Checkpoint {
    /// Its number; later ones have higher ones.
    pub number: u64,
    /// Orders in it.
    pub orders: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

/// A checkpoint that was asked for; see [`Engine::checkpoint`](crate::Engine::checkpoint).
///
/// A future that needs no runtime; a thread can [wait](Checkpointing::wait) for it. Dropping it calls
/// nothing off.
#[must_use = "whether a checkpoint was taken is told by waiting for it or awaiting it"]
pub struct Checkpointing {
    slot: Arc<Slot>,
}

type Answer = Result<Checkpoint, CheckpointError>;

/// What one caller waits for.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: Mutex<SlotState>,
}

#[derive(Debug, Default)]
struct SlotState {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Slot {
    /// Returns the waker of the caller that waits for the answer.
    #[must_use = "the caller that waits must be woken"]
    pub(crate) fn answer(&self, answer: Answer) -> Option<Waker> {
        let mut state = self.state.lock();
        state.answer = Some(answer);
        state.waker.take()
    }
}

impl Checkpointing {
    /// Blocks the thread until the checkpoint is taken.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn wait(mut self) -> Result<Checkpoint, CheckpointError> {
        block_on(&mut self)
    }

    /// What came of it, if it is over.
    #[must_use]
    pub fn peek(&self) -> Option<Result<Checkpoint, CheckpointError>> {
        self.slot.state.lock().answer.clone()
    }
}

impl Future for Checkpointing {
    type Output = Result<Checkpoint, CheckpointError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = context.waker().clone();
        let mut state = self.slot.state.lock();
        if let Some(answer) = state.answer.clone() {
            return Poll::Ready(answer);
        }
        let replaced = state.waker.replace(waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl fmt::Debug for Checkpointing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointing").field("answer", &self.peek()).finish()
    }
}

/// Requests that no checkpoint was begun for yet.
#[derive(Debug, Default)]
pub(crate) struct CheckpointRequests {
    state: Mutex<RequestsState>,
    /// The checkpointer's; not set where it is stepped.
    checkpointer: OnceLock<Unparker>,
}

#[derive(Debug, Default)]
struct RequestsState {
    waiting: Vec<Arc<Slot>>,
    /// The checkpointer has ended.
    closed: bool,
}

impl CheckpointRequests {
    pub(crate) fn set_checkpointer(&self, unparker: Unparker) {
        // It is set once, by the engine's start.
        drop(self.checkpointer.set(unparker));
    }

    pub(crate) fn ask(&self) -> Checkpointing {
        let slot = Arc::new(Slot::default());
        let mut state = self.state.lock();
        if state.closed {
            slot.state.lock().answer = Some(Err(Unavailable::Closed.into()));
        } else {
            state.waiting.push(slot.clone());
        }
        drop(state);
        if let Some(checkpointer) = self.checkpointer.get() {
            checkpointer.unpark();
        }
        Checkpointing { slot }
    }

    pub(crate) fn is_asked(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    pub(crate) fn take(&self) -> Vec<Arc<Slot>> {
        std::mem::take(&mut self.state.lock().waiting)
    }

    /// Ends the requests: no checkpoint is taken any more. Returns the requests that have no answer yet.
    #[must_use = "the requests must be answered"]
    pub(crate) fn close(&self) -> Vec<Arc<Slot>> {
        self.state.lock().closed = true;
        self.take()
    }
}
