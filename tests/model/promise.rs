//! Commits that callers hold, each with the answer that it must have and the records that it rests on.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use doorbuster::{Commit, CommitError};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::oracle::Rest;

pub(crate) struct Promise {
    pub(crate) rests: Vec<Rest>,
    commit: Box<dyn Awaited>,
    waker: Arc<Flag>,
    was_pending: bool,
    is_settled: bool,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

trait Awaited {
    fn is_durable(&self) -> bool;
    /// Polls the commit, and checks its answer if there is one.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failed>>;
}

enum Failed {
    Commit(CommitError),
    Answer(TestCaseError),
}

struct Expecting<T> {
    commit: Commit<T>,
    expected: T,
}

impl<T: Debug + PartialEq> Awaited for Expecting<T> {
    fn is_durable(&self) -> bool {
        self.commit.is_durable()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let Self { commit, expected } = self;
        Pin::new(commit).poll(context).map(|answer| match answer {
            Err(error) => Err(Failed::Commit(error)),
            Ok(answer) if answer == *expected => Ok(()),
            Ok(answer) => Err(Failed::Answer(TestCaseError::fail(format!(
                "{answer:?} was promised as {expected:?}"
            )))),
        })
    }
}

impl Promise {
    pub(crate) fn new<T: Debug + PartialEq + 'static>(
        commit: Commit<T>,
        expected: T,
        rests: Vec<Rest>,
    ) -> Result<Self, TestCaseError> {
        prop_assert_eq!(commit.peek(), Some(&expected), "model, then engine");
        Ok(Self {
            rests,
            commit: Box::new(Expecting { commit, expected }),
            waker: Arc::default(),
            was_pending: false,
            is_settled: false,
        })
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.is_settled || self.commit.is_durable()
    }

    /// Polls as a runtime would: a commit that is not durable is pending, and the task that polled it is woken by
    /// the step that makes it durable.
    pub(crate) fn check(&mut self, durable: bool) -> Result<(), TestCaseError> {
        if self.is_settled {
            prop_assert!(durable, "what was durable is no longer");
            return Ok(());
        }
        prop_assert_eq!(self.commit.is_durable(), durable, "a commit's durability");
        if durable && self.was_pending {
            prop_assert!(self.waker.0.load(Ordering::Relaxed), "durable, and no task was woken");
        }
        match self.poll() {
            Poll::Pending => {
                self.was_pending = true;
                prop_assert!(!durable, "durable, and still pending");
            }
            Poll::Ready(Ok(())) => {
                prop_assert!(durable, "not durable, and yet answered");
                self.is_settled = true;
            }
            Poll::Ready(Err(Failed::Answer(error))) => return Err(error),
            Poll::Ready(Err(Failed::Commit(error))) => {
                return Err(TestCaseError::fail(format!("a live engine's commit failed: {error}")));
            }
        }
        Ok(())
    }

    /// Polls after the engine's end: what was durable is answered, the rest returns the error.
    pub(crate) fn check_at_the_end(
        &mut self,
        durable: bool,
        error: CommitError,
    ) -> Result<(), TestCaseError> {
        if durable {
            return self.check(true);
        }
        match self.poll() {
            Poll::Ready(Err(Failed::Commit(found))) => prop_assert_eq!(found, error),
            Poll::Ready(Err(Failed::Answer(error))) => return Err(error),
            Poll::Ready(Ok(())) => prop_assert!(false, "never durable, and yet answered"),
            Poll::Pending => prop_assert!(false, "the engine has ended, and a task still waits"),
        }
        if self.was_pending {
            prop_assert!(self.waker.0.load(Ordering::Relaxed), "failed, and no task was woken");
        }
        Ok(())
    }

    fn poll(&mut self) -> Poll<Result<(), Failed>> {
        let waker = Waker::from(self.waker.clone());
        self.commit.poll(&mut Context::from_waker(&waker))
    }
}
