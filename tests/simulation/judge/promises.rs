//! Commits that wait, and what becomes certain when they resolve.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use doorbuster::{Commit, CommitError};

use super::probe::Probe;
use super::sale::Change;
use super::{At, Broken, Checked, Fact, Judge, hold_to};

/// An answer that waits for its record.
trait Awaited {
    /// `Some` when it has resolved: whether what it said is what was peeked at.
    fn ask(&mut self, waker: &Waker) -> Option<Result<bool, CommitError>>;
    fn is_durable(&self) -> bool;
}

struct Peeked<T> {
    commit: Commit<T>,
    answer: T,
}

impl<T: PartialEq> Awaited for Peeked<T> {
    fn ask(&mut self, waker: &Waker) -> Option<Result<bool, CommitError>> {
        match Pin::new(&mut self.commit).poll(&mut Context::from_waker(waker)) {
            Poll::Pending => None,
            Poll::Ready(resolved) => Some(resolved.map(|answer| answer == self.answer)),
        }
    }

    fn is_durable(&self) -> bool {
        self.commit.is_durable()
    }
}

pub(super) struct Promise {
    what: String,
    awaited: Box<dyn Awaited>,
    facts: Vec<Fact>,
    probe: Option<Arc<Probe>>,
}

impl Judge {
    /// A verb answered: what it said counts from when its commit resolves.
    pub(super) fn keep<T: Clone + PartialEq + Debug + 'static>(
        &mut self,
        what: impl Into<String>,
        commit: Commit<T>,
        facts: Vec<Fact>,
        probe: Option<Arc<Probe>>,
    ) -> Checked {
        let what = what.into();
        let Some(answer) = commit.peek().cloned() else {
            return Err(Broken(format!("{what}: the commit has no answer to peek at")));
        };
        let mut promise =
            Promise { what, awaited: Box::new(Peeked { commit, answer }), facts, probe };
        if let Some(probe) = &promise.probe
            && !promise.awaited.is_durable()
        {
            // Registers the probe: it looks when it is woken.
            let resolved = promise.awaited.ask(&Waker::from(probe.clone()));
            hold_to!(resolved.is_none(), "{}: resolved before it was durable", promise.what);
        }
        if let Some(waiting) = self.ask(promise, At::Somewhere, false)? {
            self.promises.push(waiting);
        }
        Ok(())
    }

    /// Looks at all commits after something may have become durable there. When the engine has `ended`,
    /// none may be left open.
    pub(crate) fn resolve(&mut self, at: At, ended: bool) -> Checked {
        for promise in std::mem::take(&mut self.promises) {
            if let Some(waiting) = self.ask(promise, at, ended)? {
                self.promises.push(waiting);
            }
        }
        Ok(())
    }

    /// Puts the promise back if it waits.
    fn ask(&mut self, mut promise: Promise, at: At, ended: bool) -> Checked<Option<Promise>> {
        if !ended && !promise.awaited.is_durable() {
            return Ok(Some(promise));
        }
        let what = &promise.what;
        match promise.awaited.ask(Waker::noop()) {
            Some(Ok(same)) => {
                hold_to!(same, "{what}: the commit resolved to another answer than it showed");
                // A close writes many blocks; what it woke before the last is not looked at.
                if let Some(probe) = promise.probe.as_ref().filter(|_| !ended) {
                    probe.check(what)?;
                }
                promise.facts.into_iter().for_each(|fact| self.note_durable(fact, at));
            }
            Some(Err(error)) => {
                hold_to!(ended, "{what}: {error}, but the engine has not ended");
            }
            None => {
                let state = if ended { "the engine has ended" } else { "it is durable" };
                return Err(Broken(format!("{what}: the commit is open though {state}")));
            }
        }
        Ok(None)
    }

    fn note_durable(&mut self, fact: Fact, at: At) {
        match fact {
            Fact::Order { order, moment } => {
                let Some(known) = self.orders.get_mut(order) else { return };
                // A lane is a sequence: what was before is durable too.
                for earlier in known.moments.iter_mut().take(moment + 1) {
                    earlier.durable.get_or_insert(at);
                }
            }
            Fact::Change { sku, nth } => {
                let change = self.skus.get_mut(sku).changes.get_mut(nth);
                change.map(|change| *change.durable.get_or_insert(at));
            }
            Fact::Rule { sku, nth } => {
                let sale = &mut self.skus.get_mut(sku).sale;
                sale.note_durable(nth, at);
                // An earlier end is seen late, by the other shards: a newer one may be on its way.
                let mut changes = sale.changes().iter();
                if changes.rposition(|it| matches!(it.change, Change::End)) == Some(nth) {
                    self.end_is_durable(sku);
                }
            }
            Fact::Switch { nth } => self.switches.note_switch_durable(nth, at),
            Fact::Merchant { merchant, nth } => {
                self.switches.note_merchant_durable(merchant, nth, at);
            }
            Fact::Refusal { partition, nth } => self.refusals.note_durable(partition, nth, at),
        }
    }

    /// How many commits wait.
    pub(crate) fn waiting(&self) -> usize {
        self.promises.len()
    }
}
