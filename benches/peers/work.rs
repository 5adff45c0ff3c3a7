//! The work that all do, and the check of what they did.
//!
//! There are `units` units, and a tenth more requests than units, each of another buyer for one unit. So as many
//! requests as there are units must be held, each with an order of its own, and the others refused. Then some of the
//! held keys are sent again, and each must receive its first order.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How many held keys are sent again.
const RETRIES: usize = 64;

/// How much is sold, by how many at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) units: u64,
    /// Threads, or connections.
    pub(crate) callers: u64,
}

/// A request and what it was answered: its order, or `None` for sold out.
pub(crate) type Answer = (u64, Option<u64>);

impl Work {
    pub(crate) fn requests(self) -> u64 {
        self.units + self.units / 10
    }

    /// What one caller sends.
    pub(crate) fn share(self, caller: u64) -> Range<u64> {
        let at = |caller| self.requests() * caller / self.callers;
        at(caller)..at(caller + 1)
    }

    /// Has every caller call on a thread of its own; returns all answers, and how long it took.
    pub(crate) fn call_all(
        self,
        call: impl Fn(u64) -> Vec<Answer> + Sync,
    ) -> (Vec<Answer>, Duration) {
        let start = Instant::now();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let call = &call;
            let callers: Vec<_> =
                (0..self.callers).map(|caller| scope.spawn(move || call(caller))).collect();
            callers.into_iter().map(|caller| caller.join().expect("it goes through")).collect()
        });
        let elapsed = start.elapsed();
        (answers.into_iter().flatten().collect(), elapsed)
    }

    /// Checks the answers to all requests; `retry` sends a request again.
    pub(crate) fn check(
        self,
        answers: impl IntoIterator<Item = Answer>,
        mut retry: impl FnMut(u64) -> Option<u64>,
    ) {
        let (mut held, mut refused) = (Vec::new(), 0);
        for (request, order) in answers {
            match order {
                Some(order) => held.push((request, order)),
                None => refused += 1,
            }
        }
        assert_eq!(held.len() as u64, self.units, "each unit is sold once");
        assert_eq!(refused, self.requests() - self.units, "every request has an answer");
        let orders: HashSet<_> = held.iter().map(|(_, order)| order).collect();
        assert_eq!(orders.len(), held.len(), "each key has an order of its own");
        for (request, order) in held.iter().step_by(held.len().div_ceil(RETRIES)) {
            assert_eq!(retry(*request), Some(*order), "a retry receives its first order");
        }
    }
}

/// The buyer of a request.
pub(crate) fn buyer(request: u64) -> u64 {
    request
}

/// The caller's idempotency key.
pub(crate) fn key(request: u64) -> u64 {
    request.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
