//! The wakers of callers that want to know when an order has left its waiting list.

use std::collections::HashMap;
use std::task::Waker;

#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// By the order's sequence, with the ticket of each.
    by_sequence: HashMap<u64, Vec<(u64, Waker)>, ahash::RandomState>,
    next_ticket: u64,
}

impl Watchers {
    /// Notes or renews a waker. Returns its ticket, and the waker that it replaces, which the caller drops
    /// after the lock.
    pub(crate) fn register(
        &mut self,
        sequence: u64,
        ticket: Option<u64>,
        waker: Waker,
    ) -> (u64, Option<Waker>) {
        let wakers = self.by_sequence.entry(sequence).or_default();
        if let Some((ticket, known)) = wakers.iter_mut().find(|(it, _)| Some(*it) == ticket) {
            return (*ticket, Some(std::mem::replace(known, waker)));
        }
        self.next_ticket += 1;
        wakers.push((self.next_ticket, waker));
        (self.next_ticket, None)
    }

    /// A watch ends. Returns its waker, which the caller drops after the lock.
    pub(crate) fn deregister(&mut self, sequence: u64, ticket: u64) -> Option<Waker> {
        let wakers = self.by_sequence.get_mut(&sequence)?;
        let at = wakers.iter().position(|(it, _)| *it == ticket)?;
        let (_, waker) = wakers.swap_remove(at);
        if wakers.is_empty() {
            self.by_sequence.remove(&sequence);
        }
        Some(waker)
    }

    /// The order has left its list.
    pub(crate) fn take(&mut self, sequence: u64) -> Vec<Waker> {
        let wakers = self.by_sequence.remove(&sequence).unwrap_or_default();
        wakers.into_iter().map(|(_, waker)| waker).collect()
    }
}
