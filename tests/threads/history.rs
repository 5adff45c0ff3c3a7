//! Is there an order in which all answers are true? An exact check for short histories of counters: every request
//! takes effect at one moment between its call and its answer (Wing and Gong, "Testing and verifying concurrent
//! objects", 1993).

use std::collections::{BTreeMap, HashSet};

/// A request, from its call to its answer.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) called: u64,
    pub(crate) answered: u64,
    pub(crate) effect: Effect,
}

#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Units were added.
    Give { sku: u64, units: i64 },
    /// Units of each SKU were taken, all at one moment.
    Take(Vec<(u64, i64)>),
    /// As many units as there were, fewer than wanted, were taken.
    Drain { sku: u64, units: i64 },
    /// Refused: there were fewer than wanted, and no fewer than the answer says.
    Short { sku: u64, wanted: i64, told: i64 },
}

type Stock = BTreeMap<u64, i64>;

impl Effect {
    /// Returns the stock afterwards, or `None` if the request cannot take effect now.
    fn apply(&self, stock: &Stock) -> Option<Stock> {
        let there = |sku: &u64| stock.get(sku).copied().unwrap_or(0);
        let mut after = stock.clone();
        match self {
            Self::Give { sku, units } => *after.entry(*sku).or_default() += units,
            Self::Take(lines) => {
                for (sku, units) in lines {
                    if there(sku) < *units {
                        return None;
                    }
                    *after.entry(*sku).or_default() -= units;
                }
            }
            Self::Drain { sku, units } => {
                if there(sku) != *units {
                    return None;
                }
                after.insert(*sku, 0);
            }
            Self::Short { sku, wanted, told } => {
                if there(sku) >= *wanted || there(sku) < *told {
                    return None;
                }
            }
        }
        Some(after)
    }

    fn changes_nothing(&self) -> bool {
        matches!(self, Self::Short { .. })
    }
}

/// Whether there is an order in which the history is possible, from this stock on.
pub(crate) fn makes_sense(events: &[Event], stock: &Stock) -> bool {
    assert!(events.len() <= 64, "a short history");
    let all = u64::MAX.checked_shr(64 - events.len() as u32).unwrap_or(0);
    let mut seen = HashSet::new();
    let mut open = vec![(0_u64, stock.clone())];
    while let Some((done, stock)) = open.pop() {
        if done == all {
            return true;
        }
        if !seen.insert(done) {
            // The same requests in another order leave the same stock.
            continue;
        }
        let left = || events.iter().enumerate().filter(|(nth, _)| done >> nth & 1 == 0);
        let first_answer = left().map(|(_, event)| event.answered).min().unwrap_or(u64::MAX);
        let mut next = Vec::new();
        for (nth, event) in left().filter(|(_, event)| event.called < first_answer) {
            let Some(after) = event.effect.apply(&stock) else { continue };
            if event.effect.changes_nothing() {
                // It can take effect now as well as later.
                next = vec![(done | 1 << nth, after)];
                break;
            }
            next.push((done | 1 << nth, after));
        }
        open.extend(next);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(called: u64, answered: u64, effect: Effect) -> Event {
        Event { called, answered, effect }
    }

    fn one() -> Effect {
        Effect::Take(vec![(1, 1)])
    }

    fn short(wanted: i64, told: i64) -> Effect {
        Effect::Short { sku: 1, wanted, told }
    }

    fn units(count: i64) -> Stock {
        Stock::from([(1, count)])
    }

    #[test]
    fn requests_that_overlap_may_go_in_either_order() {
        let history = [event(0, 3, one()), event(1, 2, short(1, 0))];
        assert!(makes_sense(&history, &units(1)));
        assert!(!makes_sense(&history, &units(2)), "sold out with one left");
        assert!(!makes_sense(&history, &units(0)), "oversold");
        assert!(makes_sense(&[], &units(0)));
    }

    #[test]
    fn a_refusal_before_the_last_unit_went_makes_no_sense() {
        let history = [event(0, 1, short(1, 0)), event(2, 3, one())];
        assert!(!makes_sense(&history, &units(1)));
        let and_back = [
            event(0, 1, one()),
            event(2, 3, Effect::Give { sku: 1, units: 1 }),
            event(4, 5, short(1, 0)),
        ];
        assert!(!makes_sense(&and_back, &units(1)), "it came back before");
    }

    #[test]
    fn a_cart_takes_its_lines_at_one_moment() {
        let cart = Effect::Take(vec![(1, 1), (2, 1)]);
        let stock = Stock::from([(1, 1), (2, 0)]);
        let give = |sku| Effect::Give { sku, units: 1 };
        let history = [event(0, 9, cart.clone()), event(1, 2, one()), event(3, 4, give(2))];
        assert!(!makes_sense(&history, &stock), "never both at once");
        let later = [event(0, 9, cart), event(1, 2, give(2)), event(3, 4, short(1, 0))];
        assert!(makes_sense(&later, &stock));
    }

    #[test]
    fn what_was_told_must_have_been_there() {
        assert!(!makes_sense(&[event(0, 1, short(5, 3))], &units(2)));
        assert!(makes_sense(&[event(0, 1, short(5, 3))], &units(3)));
        assert!(makes_sense(&[event(0, 1, short(5, 3))], &units(4)), "a cart had one in hand");
        let drain = event(0, 1, Effect::Drain { sku: 1, units: 2 });
        assert!(makes_sense(std::slice::from_ref(&drain), &units(2)));
        assert!(!makes_sense(&[drain], &units(3)));
    }
}
