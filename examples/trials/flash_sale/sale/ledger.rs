//! The parent's own books: what every request was last answered, and which order each key has.
//!
//! Invariants: a key has the first order it was answered with; any other answer is counted as a
//! breach, never taken over. `held + refused + replayed + unanswered` is the number of requests,
//! and `held` is the number of keys that have an order.

use std::collections::{HashMap, HashSet};

use doorbuster::{Held, OrderId};

use super::plan::Plan;

/// The last answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Refused,
    /// The order of its key, whether given or shown again.
    Held,
}

/// The order of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) order: OrderId,
    pub(crate) deadline_ms: u64,
    /// Whether an answer said that it made the order.
    made: bool,
}

/// What the parent knows.
pub(crate) struct Ledger<'a> {
    plan: &'a Plan,
    answers: Vec<Answer>,
    known: HashMap<u32, Known>,
    /// Answers that gave a key a second order, or made its order a second time.
    duplicated: u64,
}

/// Requests by their last answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) held: u64,
    pub(crate) refused: u64,
    pub(crate) replayed: u64,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let answers = vec![Answer::None; plan.requests() as usize];
        Self { plan, answers, known: HashMap::new(), duplicated: 0 }
    }

    /// Enters an answer; `None` is a refusal.
    pub(crate) fn enter(&mut self, request: u32, held: Option<Held>) {
        let Some(held) = held else {
            self.answers[request as usize] = Answer::Refused;
            return;
        };
        self.answers[request as usize] = Answer::Held;
        let key = self.plan.key(request);
        let known = self.known.entry(key).or_insert(Known {
            order: held.order,
            deadline_ms: held.deadline_ms,
            made: false,
        });
        let made_again = known.made && !held.replayed;
        if known.order != held.order || known.deadline_ms != held.deadline_ms || made_again {
            self.duplicated += 1;
        }
        known.made |= !held.replayed;
    }

    /// Requests that no answer is known to.
    pub(crate) fn unanswered(&self) -> Vec<u32> {
        let open = |(request, answer): (usize, &Answer)| {
            (*answer == Answer::None).then_some(request as u32)
        };
        self.answers.iter().enumerate().filter_map(open).collect()
    }

    /// The keys that have an order, sorted, with it.
    pub(crate) fn orders(&self) -> Vec<(u32, Known)> {
        let mut orders: Vec<_> = self.known.iter().map(|(&key, &known)| (key, known)).collect();
        orders.sort_unstable_by_key(|(key, _)| *key);
        orders
    }

    /// The order of a key.
    pub(crate) fn order(&self, key: u32) -> Option<Known> {
        self.known.get(&key).copied()
    }

    /// Answers that contradict an earlier one, and orders that two keys have.
    pub(crate) fn duplicated(&self) -> u64 {
        let distinct: HashSet<OrderId> = self.known.values().map(|known| known.order).collect();
        self.duplicated + (self.known.len() - distinct.len()) as u64
    }

    /// Counts each request once. Of the requests of a key that has an order, one counts as held,
    /// the others as replayed.
    pub(crate) fn tally(&self) -> Tally {
        let count = |wanted| self.answers.iter().filter(|&&answer| answer == wanted).count() as u64;
        let held = self.known.len() as u64;
        Tally { held, refused: count(Answer::Refused), replayed: count(Answer::Held) - held }
    }
}
