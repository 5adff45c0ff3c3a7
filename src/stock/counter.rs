//! A SKU's `available`, one atomic word.
//!
//! | bits | what |
//! |---|---|
//! | 63..30 | available units, signed: negative when the SKU owes |
//! | 29..1 | tentative units: taken by carts that may still fail and return them |
//! | 0 | an order waits: what is available is for waiting orders (rule R17) |
//!
//! Invariants:
//! - Units leave `available` only if it stays at or above zero (but for [`Counter::force`], by which
//!   the host lowers the stocked figure), so nothing is oversold.
//! - A refusal is returned only when `available + tentative < wanted`, so no cart that fails later makes it false;
//!   while `available < wanted <= available + tentative` the answer is open. Both figures are read in one load: every
//!   hold and every refusal has one moment at which it is true.
//! - Whether an order waits is a bit of the same word. An order that finds too few units sets it by the same
//!   compare-exchange by which others take. So no unit returns unseen between its look and its joining the list: the
//!   thread that returns units sees the bit, and asks the promoter.

use crate::mutants::{self, Mutant};
use crate::sync::{AtomicU64, Ordering};

const AVAILABLE_SHIFT: u32 = 30;
const TENTATIVE_SHIFT: u32 = 1;
const SOMEBODY_WAITS: u64 = 1;
const TENTATIVE_MAX: u64 = (1 << (AVAILABLE_SHIFT - TENTATIVE_SHIFT)) - 1;

/// See the module. One writer wins each change by compare-exchange. A thread that takes or returns units does so with
/// `Release`, and a thread that takes units or is refused reads with `Acquire`. So a refused request sees the key
/// that the last unit's order claimed before (rule R1), and an order that takes a returned unit sees what made the
/// return durable (rule R12). Every change is a read-modify-write, so the ones in between break no such pair.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    word: AtomicU64,
    /// How often a thread lost a change of the word to another. On the line that the thread wants anyway.
    retries: AtomicU64,
}

/// What an attempt to take units found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// They are taken.
    Taken,
    /// There are not enough, whatever carts in flight do.
    Short {
        /// What there is.
        available: i64,
    },
    /// It depends on carts in flight: look again.
    Open,
    /// Others wait for what there is.
    OthersWait,
}

/// What an attempt to take as much as there is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeSome {
    /// So many are taken.
    Taken(u32),
    /// There are too few, or none, whatever carts in flight do.
    Short {
        /// What there is.
        available: i64,
    },
    /// How many it could be depends on carts in flight: look again.
    Open,
    /// Others wait for what there is.
    OthersWait,
}

impl Counter {
    /// What is available now.
    pub(crate) fn available(&self) -> i64 {
        available(self.word.load(Ordering::Relaxed))
    }

    /// Why a request for `units` is refused as of now; `None` when it is not, or not for sure.
    pub(crate) fn short_of(&self, units: u32) -> Option<Take> {
        let word = self.word.load(Ordering::Acquire);
        if word & SOMEBODY_WAITS != 0 {
            return Some(Take::OthersWait);
        }
        let is_short = available(word) + tentative(word) < i64::from(units);
        is_short.then(|| Take::Short { available: available(word) })
    }

    /// Takes units for good: one compare-exchange.
    pub(crate) fn take(&self, units: u32) -> Take {
        let passed = if mutants::is(Mutant::LetsNewcomersPass) { SOMEBODY_WAITS } else { 0 };
        let taken = |word: u64| Some(word.wrapping_sub(u64::from(units) << AVAILABLE_SHIFT));
        self.change(units, passed, taken)
    }

    /// Takes units out of stock, even if orders wait.
    pub(crate) fn take_out(&self, units: u32) -> Take {
        let taken = |word: u64| Some(word.wrapping_sub(u64::from(units) << AVAILABLE_SHIFT));
        self.change(units, SOMEBODY_WAITS, taken)
    }

    /// Takes units for a cart that may still fail; [`Counter::settle`] or [`Counter::undo`] follows.
    pub(crate) fn take_tentatively(&self, units: u32) -> Take {
        self.change(units, 0, |word| {
            let room = TENTATIVE_MAX - tentative(word) as u64 >= u64::from(units);
            room.then(|| {
                word.wrapping_sub(u64::from(units) << AVAILABLE_SHIFT)
                    + (counted(units) << TENTATIVE_SHIFT)
            })
        })
    }

    /// The cart succeeded: its units are no longer tentative.
    pub(crate) fn settle(&self, units: u32) {
        self.word.fetch_sub(counted(units) << TENTATIVE_SHIFT, Ordering::Relaxed);
    }

    /// The cart failed: its units are available again. Returns whether an order waits for them.
    #[must_use]
    pub(crate) fn undo(&self, units: u32) -> bool {
        let back = (u64::from(units) << AVAILABLE_SHIFT) - (counted(units) << TENTATIVE_SHIFT);
        self.word.fetch_add(back, Ordering::Relaxed) & SOMEBODY_WAITS != 0
    }

    /// Whether an order waits.
    pub(crate) fn somebody_waits(&self) -> bool {
        self.word.load(Ordering::Acquire) & SOMEBODY_WAITS != 0
    }

    /// Takes units, unless there are too few or other orders wait; then an order waits from now on. The caller holds
    /// the lock of the list, and puts the order there. Returns whether the units are taken.
    pub(crate) fn take_or_wait(&self, units: u32) -> bool {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let is_free = word & SOMEBODY_WAITS == 0;
            let takes = is_free && available(word) >= i64::from(units);
            let next = match takes {
                true => word.wrapping_sub(u64::from(units) << AVAILABLE_SHIFT),
                false => word | SOMEBODY_WAITS,
            };
            match self.exchange(word, next) {
                Ok(()) => return takes,
                Err(now) => word = now,
            }
        }
    }

    /// Takes units for a waiting order, if there are enough. The caller holds the lock of the list.
    pub(crate) fn take_for_waiter(&self, units: u32) -> bool {
        let taken = |word: u64| Some(word.wrapping_sub(u64::from(units) << AVAILABLE_SHIFT));
        self.change(units, SOMEBODY_WAITS, taken) == Take::Taken
    }

    /// Notes that an order waits, after replay, before any other thread can look.
    pub(crate) fn restore_waiting(&self) {
        self.word.fetch_or(SOMEBODY_WAITS, Ordering::Relaxed);
    }

    /// The list is empty. The caller has its lock.
    pub(crate) fn nobody_waits(&self) {
        self.word.fetch_and(!SOMEBODY_WAITS, Ordering::Release);
    }

    /// Takes what there is, at most `units`; `Err` while carts in flight keep that open.
    pub(crate) fn take_up_to(&self, units: u32) -> Result<u32, Open> {
        match self.take_share(0, units, SOMEBODY_WAITS, false) {
            TakeSome::Taken(taken) => Ok(taken),
            TakeSome::Open => Err(Open),
            _ => Ok(0),
        }
    }

    /// Takes what there is: at least `least` and one unit, at most `most`. Fewer than `most` only if no
    /// cart in flight could make it more. With `tentatively`, [`Counter::settle`] or [`Counter::undo`]
    /// of what was taken follows.
    pub(crate) fn take_some(&self, least: u32, most: u32, tentatively: bool) -> TakeSome {
        self.take_share(least, most, 0, tentatively)
    }

    /// `passed`: bits that do not keep the caller from taking.
    fn take_share(&self, least: u32, most: u32, passed: u64, tentatively: bool) -> TakeSome {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & SOMEBODY_WAITS & !passed != 0 {
                return TakeSome::OthersWait;
            }
            let (available, tentative) = (available(word), tentative(word));
            let now = available.clamp(0, i64::from(most)) as u32;
            let at_best = (available + tentative).clamp(0, i64::from(most)) as u32;
            if at_best < least.max(1) {
                return TakeSome::Short { available };
            }
            let counted = if tentatively { counted(now) } else { 0 };
            if now < at_best || TENTATIVE_MAX - (tentative as u64) < counted {
                return TakeSome::Open;
            }
            let next =
                word.wrapping_sub(u64::from(now) << AVAILABLE_SHIFT) + (counted << TENTATIVE_SHIFT);
            match self.exchange(word, next) {
                Ok(()) => return TakeSome::Taken(now),
                Err(changed) => word = changed,
            }
        }
    }

    /// Puts units back into stock. Returns whether an order waits for them.
    #[must_use]
    pub(crate) fn give(&self, units: u32) -> bool {
        let back = u64::from(units) << AVAILABLE_SHIFT;
        self.word.fetch_add(back, Ordering::Release) & SOMEBODY_WAITS != 0
    }

    /// Whether `units` units can be [forced](Self::force) as of now. The error is what the SKU would owe.
    pub(crate) fn check_force(&self, units: u32) -> Result<(), u64> {
        let left = self.available() - i64::from(units);
        if left < -i64::from(u32::MAX) { Err(left.unsigned_abs()) } else { Ok(()) }
    }

    /// Takes units even if there are too few: `available` may become negative (rule R10), but by no
    /// more than any stock is. What it would owe is the error.
    pub(crate) fn force(&self, units: u32) -> Result<(), u64> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let left = available(word) - i64::from(units);
            if left < -i64::from(u32::MAX) {
                return Err(left.unsigned_abs());
            }
            match self.exchange(word, word.wrapping_sub(u64::from(units) << AVAILABLE_SHIFT)) {
                Ok(()) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// How often a change was lost to another and made again, since the open.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Sets `available` after replay, before anyone else can look.
    pub(crate) fn restore(&self, units: i64) {
        self.word.store((units << AVAILABLE_SHIFT) as u64, Ordering::Relaxed);
    }

    /// `passed`: bits that do not keep the caller from taking.
    fn change(&self, units: u32, passed: u64, next: impl Fn(u64) -> Option<u64>) -> Take {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & SOMEBODY_WAITS & !passed != 0 {
                return Take::OthersWait;
            }
            let (available, tentative) = (available(word), tentative(word));
            if available < i64::from(units) {
                return match available + tentative < i64::from(units) {
                    true => Take::Short { available },
                    false => Take::Open,
                };
            }
            let Some(next) = next(word) else { return Take::Open };
            match self.exchange(word, next) {
                Ok(()) => return Take::Taken,
                Err(now) => word = now,
            }
        }
    }

    fn exchange(&self, word: u64, next: u64) -> Result<(), u64> {
        let exchanged =
            self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire);
        if exchanged.is_err() {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        exchanged.map(drop)
    }
}

/// The answer depends on carts in flight.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Open;

/// What a cart's units add to the tentative count.
fn counted(units: u32) -> u64 {
    if mutants::is(Mutant::ForgetsTentative) { 0 } else { u64::from(units) }
}

fn available(word: u64) -> i64 {
    word as i64 >> AVAILABLE_SHIFT
}

fn tentative(word: u64) -> i64 {
    ((word >> TENTATIVE_SHIFT) & TENTATIVE_MAX) as i64
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn holding(units: i64) -> Counter {
        let counter = Counter::default();
        counter.restore(units);
        counter
    }

    #[test]
    fn a_refusal_waits_for_carts_that_may_still_fail() {
        let counter = holding(2);
        assert_eq!(counter.take_tentatively(2), Take::Taken);
        assert_eq!(counter.take(1), Take::Open);
        assert_eq!(counter.short_of(1), None);
        assert_eq!(counter.take(3), Take::Short { available: 0 }, "no cart could change this");
        let _ = counter.undo(2);
        assert_eq!(counter.take(2), Take::Taken);
        assert_eq!(counter.take(1), Take::Short { available: 0 });
    }

    #[test]
    fn a_cart_that_succeeded_no_longer_keeps_anyone_waiting() {
        let counter = holding(2);
        assert_eq!(counter.take_tentatively(2), Take::Taken);
        counter.settle(2);
        assert_eq!(counter.take(1), Take::Short { available: 0 });
        assert_eq!(counter.short_of(1), Some(Take::Short { available: 0 }));
    }

    #[test]
    fn a_change_that_was_lost_to_another_is_counted() {
        let counter = holding(5);
        let seen = counter.word.load(Ordering::Relaxed);
        assert_eq!((counter.take(1), counter.retries()), (Taken, 0));
        let lost = counter.exchange(seen, seen - (1 << AVAILABLE_SHIFT));
        assert_eq!((lost.is_err(), counter.retries(), counter.available()), (true, 1, 4));
    }

    #[test]
    fn a_deficit_is_repaid_first() {
        let counter = holding(5);
        assert_eq!(counter.force(8), Ok(()));
        assert_eq!(counter.available(), -3);
        assert_eq!(counter.take_up_to(1), Ok(0));
        let _ = counter.give(4);
        assert_eq!(counter.take_up_to(9), Ok(1));
    }

    #[test]
    fn the_extremes_of_stock_do_not_touch_the_other_fields() {
        let max = u32::MAX;
        let counter = holding(i64::from(max));
        assert_eq!(counter.take_tentatively(1_000_000), Taken);
        let _ = counter.undo(1_000_000);
        assert_eq!(counter.force(max), Ok(()));
        assert_eq!(counter.force(max), Ok(()));
        assert_eq!(counter.force(1), Err(u64::from(max) + 1), "it owes as much as any stock is");
        assert_eq!(counter.available(), -i64::from(max));
        assert_eq!(counter.short_of(1), Some(Take::Short { available: -i64::from(max) }));
        let _ = counter.give(max);
        let _ = counter.give(max);
        assert_eq!(counter.take(max), Taken);
        assert_eq!(counter.available(), 0);
    }

    #[test]
    fn tentative_units_never_overflow_their_field() {
        let counter = holding(i64::from(u32::MAX));
        let carts = (0..1_000).take_while(|_| counter.take_tentatively(1_000_000) == Taken).count();
        assert_eq!(carts as u64, TENTATIVE_MAX / 1_000_000);
        (0..carts).for_each(|_| {
            let _ = counter.undo(1_000_000);
        });
        assert_eq!(counter.available(), i64::from(u32::MAX));
    }

    #[test]
    fn tentative_shares_never_overflow_their_field() {
        let (counter, step) = (holding(i64::from(u32::MAX)), 1_000_000);
        let shares =
            (0..1_000).take_while(|_| counter.take_some(0, step, true) == TakeSome::Taken(step));
        let shares = shares.count() as u64;
        assert_eq!(shares, TENTATIVE_MAX / u64::from(step));
        assert_eq!(counter.take_some(0, step, true), TakeSome::Open, "until a cart is settled");
        let rest = (TENTATIVE_MAX % u64::from(step)) as u32;
        assert_eq!(counter.take_some(0, rest, true), TakeSome::Taken(rest), "the field is full");
        assert_eq!(counter.take_some(0, 1, true), TakeSome::Open);
        assert_eq!(counter.take_some(0, 1, false), TakeSome::Taken(1), "for good: not counted");
        (0..shares).for_each(|_| assert!(!counter.undo(step)));
        assert!(!counter.undo(rest));
        assert_eq!(counter.available(), i64::from(u32::MAX) - 1);
        assert_eq!(
            counter.short_of(u32::MAX),
            Some(Take::Short { available: counter.available() })
        );
    }

    #[test]
    fn what_is_there_is_for_waiting_orders() {
        let counter = holding(1);
        assert!(!counter.take_or_wait(2) && counter.somebody_waits());
        assert_eq!(
            (counter.take(1), counter.take_tentatively(1)),
            (Take::OthersWait, Take::OthersWait)
        );
        assert!(!counter.take_or_wait(1), "he stands behind the other");
        assert!(!counter.take_for_waiter(2) && counter.give(1) && counter.take_for_waiter(2));
        counter.nobody_waits();
        assert!(!counter.give(1) && counter.take_or_wait(1) && !counter.somebody_waits());
    }

    #[test]
    fn the_host_takes_out_although_orders_wait() {
        let counter = holding(2);
        counter.restore_waiting();
        assert_eq!((counter.take_out(1), counter.take_up_to(9)), (Taken, Ok(1)));
        assert!(counter.somebody_waits());
    }

    #[test]
    fn a_short_fill_waits_for_carts_that_may_still_fail() {
        let counter = holding(5);
        assert_eq!(counter.take_tentatively(3), Taken);
        assert_eq!(counter.take_some(0, 2, true), TakeSome::Taken(2), "in full, whatever they do");
        assert!(!counter.undo(2));
        assert_eq!(counter.take_some(0, 3, true), TakeSome::Open, "2, or 3 if the cart fails");
        assert_eq!(counter.take_some(6, 9, false), TakeSome::Short { available: 2 }, "5 at best");
        counter.settle(3);
        assert_eq!(counter.take_some(3, 9, true), TakeSome::Short { available: 2 });
        assert_eq!(counter.take_some(2, 9, true), TakeSome::Taken(2));
        assert_eq!(counter.take_some(0, 1, true), TakeSome::Open, "its own cart may fail too");
        counter.settle(2);
        assert_eq!(counter.take_some(0, 1, true), TakeSome::Short { available: 0 });
        assert_eq!(counter.force(4), Ok(()));
        assert!(!counter.give(2));
        assert_eq!(counter.take_some(0, 1, false), TakeSome::Short { available: -2 });
        counter.restore_waiting();
        assert_eq!(counter.take_some(0, 1, false), TakeSome::OthersWait);
    }

    #[test]
    fn a_share_is_never_out_of_its_bounds() {
        let shares = |available: i64, tentative: u32| {
            let counter = holding(available + i64::from(tentative));
            assert!(tentative == 0 || counter.take_tentatively(tentative) == Taken);
            counter
        };
        for (available, tentative) in (0..5).flat_map(|a| (0..4).map(move |t| (a, t))) {
            for (least, most) in (1..6).flat_map(|most| (0..=most).map(move |least| (least, most)))
            {
                for tentatively in [false, true] {
                    let counter = shares(available, tentative);
                    let before = counter.available();
                    let told = counter.take_some(least, most, tentatively);
                    let at_best = available + i64::from(tentative);
                    match told {
                        TakeSome::Taken(units) => {
                            assert!(units >= least.max(1) && units <= most);
                            assert!(units == most || i64::from(units) == at_best);
                            assert_eq!(counter.available(), before - i64::from(units));
                            if tentatively {
                                assert!(!counter.undo(units));
                                assert_eq!(counter.available(), before);
                            }
                        }
                        TakeSome::Short { .. } => assert!(at_best < i64::from(least.max(1))),
                        TakeSome::Open => assert!(tentative > 0 && before < i64::from(most)),
                        TakeSome::OthersWait => panic!("nobody waits"),
                    }
                }
            }
        }
    }

    use Take::Taken;
}
