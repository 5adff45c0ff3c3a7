//! What every request was answered, by request number: what the proof goes by.

use std::ops::Range;

use doorbuster::{OrderId, Placed};

/// What a request was answered, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Answer {
    /// It was not sent.
    None,
    Held,
    Replayed,
    Refused,
    /// Anything else: none is expected.
    Other,
}

/// Memory for the answers, touched before the clock starts.
pub(crate) struct Ledger {
    answers: Vec<Answer>,
    orders: Vec<u64>,
}

/// The part of a ledger that one thread writes.
pub(crate) struct Page<'a> {
    first: u32,
    answers: &'a mut [Answer],
    orders: &'a mut [u64],
}

/// Requests by their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) held: u64,
    pub(crate) replayed: u64,
    pub(crate) refused: u64,
    pub(crate) other: u64,
}

impl Tally {
    /// All of them.
    pub(crate) fn answered(self) -> u64 {
        self.held + self.replayed + self.refused + self.other
    }
}

impl Ledger {
    pub(crate) fn new(requests: u32) -> Self {
        let mut ledger = Self {
            answers: vec![Answer::Other; requests as usize],
            orders: vec![u64::MAX; requests as usize],
        };
        ledger.answers.fill(Answer::None);
        ledger
    }

    /// Parts for these ranges of requests, which follow each other.
    pub(crate) fn pages(&mut self, ranges: &[Range<u32>]) -> Vec<Page<'_>> {
        let begin = ranges.first().map_or(0, |range| range.start as usize);
        let (mut answers, mut orders) = (&mut self.answers[begin..], &mut self.orders[begin..]);
        let mut pages = Vec::with_capacity(ranges.len());
        for range in ranges {
            let (these, rest) = answers.split_at_mut(range.len());
            let (their_orders, other_orders) = orders.split_at_mut(range.len());
            pages.push(Page { first: range.start, answers: these, orders: their_orders });
            (answers, orders) = (rest, other_orders);
        }
        pages
    }

    pub(crate) fn answer(&self, request: u32) -> Answer {
        self.answers[request as usize]
    }

    /// The order that a request was answered with.
    pub(crate) fn order(&self, request: u32) -> Option<OrderId> {
        match self.answer(request) {
            Answer::Held | Answer::Replayed => {
                Some(OrderId::from_u64(self.orders[request as usize]))
            }
            _ => None,
        }
    }

    pub(crate) fn tally(&self, requests: Range<u32>) -> Tally {
        let mut tally = Tally::default();
        for answer in &self.answers[requests.start as usize..requests.end as usize] {
            match answer {
                Answer::None => {}
                Answer::Held => tally.held += 1,
                Answer::Replayed => tally.replayed += 1,
                Answer::Refused => tally.refused += 1,
                Answer::Other => tally.other += 1,
            }
        }
        tally
    }
}

impl Page<'_> {
    pub(crate) fn enter(&mut self, request: u32, placed: &Placed) {
        let place = (request - self.first) as usize;
        self.answers[place] = match placed {
            Placed::Held(held) => {
                self.orders[place] = held.order.get();
                if held.replayed { Answer::Replayed } else { Answer::Held }
            }
            Placed::Refused(_) => Answer::Refused,
            _ => Answer::Other,
        };
    }
}
