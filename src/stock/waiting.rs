//! The orders that wait for a SKU: by class, then by arrival.
//!
//! Each class is a queue in chunks. So leaving from the middle, and asking how many orders are before one, cost one
//! chunk, and one step for each chunk before it.
//!
//! Invariants:
//! - Arrivals ascend within a class. Joins, departures and promotions have numbers of one sequence, which only grows:
//!   the log proves by it the order of service.
//! - No chunk is empty, and `units_min` of one is at most what any of its waiters wants.

use std::collections::VecDeque;

use crate::ids::OrderId;
use crate::mutants::{self, Mutant};
use crate::order::{CLASS_MAX, ListPlace};

const CLASSES: usize = CLASS_MAX as usize + 1;
/// Waiters to a chunk.
const CHUNK_WAITERS: usize = 512;

/// An order that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) arrival: u64,
    pub(crate) order: OrderId,
    pub(crate) units: u32,
    /// It can no longer be served, but the orders after it wait until that is durable.
    pub(crate) is_leaving: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct WaitingList {
    classes: [Queue; CLASSES],
    len: u64,
    /// The units that they want, the leaving orders included.
    units: u64,
    next_sequence: u64,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    len: u64,
}

#[derive(Debug, Default)]
struct Chunk {
    waiters: VecDeque<Waiter>,
    units_min: u32,
}

impl WaitingList {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn units(&self) -> u64 {
        self.units
    }

    /// Empties the list; its numbers go on.
    pub(crate) fn clear(&mut self) {
        self.classes = Default::default();
        (self.len, self.units) = (0, 0);
    }

    /// The number of what happens next, used up.
    pub(crate) fn next(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    /// The number of what happened last.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// This number was used.
    pub(crate) fn skip_to(&mut self, sequence: u64) {
        if mutants::is(Mutant::NumbersListAnew) {
            return;
        }
        self.next_sequence = self.next_sequence.max(sequence);
    }

    /// Puts an order behind all others of its class.
    pub(crate) fn join(&mut self, class: u8, order: OrderId, units: u32) -> ListPlace {
        let arrival = self.next();
        self.push(ListPlace { class, arrival }, order, units);
        ListPlace { class, arrival }
    }

    /// Puts an order behind the others of its class, which all came before it.
    pub(crate) fn push(&mut self, place: ListPlace, order: OrderId, units: u32) {
        let Some(queue) = self.classes.get_mut(usize::from(place.class)) else { return };
        let is_full = |chunk: &Chunk| chunk.waiters.len() >= CHUNK_WAITERS;
        if queue.chunks.back().is_none_or(is_full) {
            queue.chunks.push_back(Chunk { units_min: u32::MAX, ..Chunk::default() });
        }
        if let Some(chunk) = queue.chunks.back_mut() {
            let arrival = place.arrival;
            debug_assert!(chunk.waiters.back().is_none_or(|last| last.arrival < arrival));
            chunk.waiters.push_back(Waiter { arrival, order, units, is_leaving: false });
            chunk.units_min = chunk.units_min.min(units);
        }
        queue.len += 1;
        self.len += 1;
        self.units += u64::from(units);
        self.skip_to(place.arrival);
    }

    /// The waiting orders, in the order in which they are served if there is enough for all.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        let chunks = self.classes.iter().flat_map(|queue| &queue.chunks);
        chunks.flat_map(|chunk| &chunk.waiters)
    }

    /// Returns the next order to serve from these units: the first one, or, where others may pass it, the first one
    /// for which there are enough. No order is served in the place of one that is leaving.
    pub(crate) fn first(&self, available: i64, passes: bool) -> Option<(ListPlace, Waiter)> {
        let fits = |units: u32| i64::from(units) <= available;
        let may_be = |chunk: &&Chunk| !passes || fits(chunk.units_min);
        for (class, queue) in (0_u8..).zip(&self.classes) {
            for chunk in queue.chunks.iter().filter(may_be) {
                let mut waiters = chunk.waiters.iter();
                let may_be = |waiter: &&Waiter| !passes || fits(waiter.units);
                let waiter = match mutants::is(Mutant::ServesNewestFirst) {
                    true => waiters.rfind(may_be),
                    false => waiters.find(may_be),
                };
                if let Some(waiter) = waiter {
                    let place = ListPlace { class, arrival: waiter.arrival };
                    let is_served = !waiter.is_leaving && fits(waiter.units);
                    return is_served.then_some((place, *waiter));
                }
            }
        }
        None
    }

    /// How many orders are before this place; `None`: no order has it.
    pub(crate) fn position(&self, place: ListPlace) -> Option<u64> {
        let class = usize::from(place.class);
        let queue = self.classes.get(class)?;
        let (nth, within) = queue.find(place.arrival)?;
        let earlier_classes: u64 = self.classes[..class].iter().map(|queue| queue.len).sum();
        let chunks = queue.chunks.iter().take(nth);
        let earlier: usize = chunks.map(|chunk| chunk.waiters.len()).sum();
        Some(earlier_classes + (earlier + within) as u64)
    }

    /// Marks the order at this place as one that can no longer be served.
    pub(crate) fn note_leaving(&mut self, place: ListPlace) {
        if let Some(queue) = self.classes.get_mut(usize::from(place.class))
            && let Some((nth, within)) = queue.find(place.arrival)
        {
            let waiter = &mut queue.chunks[nth].waiters[within];
            waiter.is_leaving = true;
        }
    }

    /// Removes the order at this place.
    pub(crate) fn remove(&mut self, place: ListPlace) -> Option<Waiter> {
        let queue = self.classes.get_mut(usize::from(place.class))?;
        let (nth, within) = queue.find(place.arrival)?;
        let chunk = &mut queue.chunks[nth];
        let waiter = chunk.waiters.remove(within)?;
        if chunk.waiters.is_empty() {
            queue.chunks.remove(nth);
        } else if waiter.units == chunk.units_min && within > 0 {
            chunk.units_min = chunk.waiters.iter().map(|it| it.units).min().unwrap_or(u32::MAX);
        }
        queue.len -= 1;
        self.len -= 1;
        self.units -= u64::from(waiter.units);
        Some(waiter)
    }
}

impl Queue {
    /// The chunk of an arrival, and its place in that.
    fn find(&self, arrival: u64) -> Option<(usize, usize)> {
        let is_before =
            |chunk: &Chunk| chunk.waiters.back().is_some_and(|last| last.arrival < arrival);
        let nth = self.chunks.partition_point(is_before);
        let within = self.chunks.get(nth)?.waiters.binary_search_by_key(&arrival, |it| it.arrival);
        within.ok().map(|within| (nth, within))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::routing::mix;

    fn order(sequence: u64) -> OrderId {
        OrderId::from_parts(0, sequence)
    }

    /// A list as one would write it down.
    #[derive(Default)]
    struct Model(Vec<(ListPlace, Waiter)>);

    impl Model {
        fn first(&self, available: i64, passes: bool) -> Option<(ListPlace, Waiter)> {
            let fits = |waiter: &Waiter| i64::from(waiter.units) <= available;
            let first = self.0.iter().find(|(_, waiter)| !passes || fits(waiter))?;
            (!first.1.is_leaving && fits(&first.1)).then_some(*first)
        }
    }

    #[test]
    fn a_list_is_what_one_would_write_down() {
        for seed in 0..40_u64 {
            let (mut list, mut model) = (WaitingList::default(), Model::default());
            let mut state = seed;
            let mut draw = |below: u64| {
                state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
                state % below
            };
            // Now longer, now shorter than a chunk.
            let joins = 40 + 30 * (seed % 3);
            for step in 0..4_000_u64 {
                let nth = |len: usize, drawn: u64| drawn as usize % len.max(1);
                match draw(100) {
                    drawn if drawn < joins => {
                        let (class, units) = (draw(3) as u8, 1 + draw(5) as u32);
                        let place = list.join(class, order(step), units);
                        let (arrival, order) = (place.arrival, order(step));
                        let waiter = Waiter { arrival, order, units, is_leaving: false };
                        let at = model.0.partition_point(|(other, _)| *other < place);
                        model.0.insert(at, (place, waiter));
                    }
                    0..80 if !model.0.is_empty() => {
                        let (place, _) = model.0[nth(model.0.len(), draw(1 << 20))];
                        let at = model.0.partition_point(|(other, _)| *other < place);
                        assert_eq!(list.position(place), Some(at as u64), "seed {seed}");
                        assert_eq!(list.remove(place), Some(model.0.remove(at).1));
                        assert_eq!((list.position(place), list.remove(place)), (None, None));
                    }
                    80..84 if !model.0.is_empty() => {
                        let at = nth(model.0.len(), draw(1 << 20));
                        model.0[at].1.is_leaving = true;
                        list.note_leaving(model.0[at].0);
                    }
                    _ => {
                        let available = draw(7) as i64 - 1;
                        for passes in [false, true] {
                            let (found, expected) =
                                (list.first(available, passes), model.first(available, passes));
                            assert_eq!(found, expected, "seed {seed}, step {step}");
                        }
                    }
                }
                let units: u64 = model.0.iter().map(|(_, waiter)| u64::from(waiter.units)).sum();
                assert_eq!((list.len(), list.units()), (model.0.len() as u64, units));
            }
        }
    }
}
