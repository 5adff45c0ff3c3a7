//! Changes of rules that are logged and not durable.
//!
//! After a crash the newest durable state is in force, or any state that was logged after it. So the strictest
//! of all of these acts, field by field (rule R8). A record that becomes durable takes the state before it
//! out of that set, whatever was logged since: what a durable record permits acts at that moment.

use std::collections::VecDeque;

use crate::error::{Capacity, Unavailable};
use crate::mutants::{self, Mutant};

/// Most changes of one SKU, of one merchant or of the engine's switch that may wait for the disk.
const CHANGES_IN_FLIGHT_MAX: usize = 256;
/// Memory for this many states is kept.
const KEPT: usize = 4;

/// The states after each change that is not durable, in the order of their records.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    states: VecDeque<T>,
}

/// What holds once a change is durable.
#[derive(Debug)]
pub(crate) struct Settled<T> {
    pub(crate) durable: T,
    /// What acts.
    pub(crate) acting: T,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { states: VecDeque::new() }
    }
}

impl<T: Clone> InFlight<T> {
    /// Whether one more change may be logged.
    pub(crate) fn check_room(&self) -> Result<(), Unavailable> {
        if self.states.len() < CHANGES_IN_FLIGHT_MAX {
            return Ok(());
        }
        let (what, bound) = (Capacity::RulesInFlight, CHANGES_IN_FLIGHT_MAX as u64);
        Err(Unavailable::AtCapacity { what, bound })
    }

    /// A change is logged.
    pub(crate) fn push(&mut self, state: T) {
        self.states.push_back(state);
    }

    /// The oldest change is durable. Returns its state, and the strictest of that and of all that came after
    /// it; `None`: nothing was in flight.
    pub(crate) fn settle(&mut self, stricter: impl Fn(&T, &T) -> T) -> Option<Settled<T>> {
        let durable = self.states.pop_front()?;
        if mutants::is(Mutant::PermitsWhenAllIsDurable) && !self.states.is_empty() {
            return None;
        }
        let first = durable.clone();
        let acting = self.states.iter().fold(first, |acting, state| stricter(&acting, state));
        if self.states.is_empty() {
            self.states.shrink_to(KEPT);
        }
        Some(Settled { durable, acting })
    }

    /// The states, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.states.iter()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_durable_state_and_those_after_it_act() {
        let mut in_flight = InFlight::default();
        assert!(in_flight.settle(|a: &u32, b| *a.max(b)).is_none());
        [1, 9, 3, 5, 2].into_iter().for_each(|state| in_flight.push(state));
        let settled = std::iter::from_fn(|| in_flight.settle(|a, b| *a.max(b)));
        let settled: Vec<_> = settled.map(|it| (it.durable, it.acting)).collect();
        assert_eq!(settled, [(1, 9), (9, 9), (3, 5), (5, 5), (2, 2)]);
    }

    #[test]
    fn the_changes_that_wait_are_bounded() {
        let mut in_flight = InFlight::default();
        (0..CHANGES_IN_FLIGHT_MAX).for_each(|state| {
            assert_eq!(in_flight.check_room(), Ok(()));
            in_flight.push(state);
        });
        let full = Unavailable::AtCapacity { what: Capacity::RulesInFlight, bound: 256 };
        assert_eq!(in_flight.check_room(), Err(full));
        assert!(in_flight.settle(|_, b| *b).is_some());
        assert_eq!(in_flight.check_room(), Ok(()));
    }
}
