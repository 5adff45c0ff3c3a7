//! Every interleaving of a few requests for one SKU, and every value that the orderings let them see. Each
//! ordering in the module was weakened once by hand, and one of these failed.

use std::sync::Arc;

use super::*;

struct Shared {
    counter: Counter,
    /// Written and read beside the counter, without any ordering.
    before: AtomicU64,
}

type Run<T> = fn(&Shared) -> T;

/// Runs two requests at once, on a counter with `units` units. Loom forgets which thread loaded a word when another
/// thread loads it, and with that some of the orders to try; so each request is once the main thread's, which goes
/// first.
fn at_once<A: 'static, B: 'static>(
    units: i64,
    one: Run<A>,
    other: Run<B>,
    check: fn(&Shared, A, B),
) {
    fn run<A, B: 'static>(units: i64, one: Run<A>, other: Run<B>) -> (Arc<Shared>, A, B) {
        let shared = Shared { counter: Counter::default(), before: AtomicU64::new(0) };
        shared.counter.restore(units);
        let shared = Arc::new(shared);
        let thread = loom::thread::spawn({
            let shared = shared.clone();
            move || other(&shared)
        });
        let told = one(&shared);
        let other_told = thread.join().expect("no panic");
        (shared, told, other_told)
    }
    loom::model(move || {
        let (shared, one, other) = run(units, one, other);
        check(&shared, one, other);
    });
    loom::model(move || {
        let (shared, other, one) = run(units, other, one);
        check(&shared, one, other);
    });
}

/// Takes a unit, waiting out the carts that keep the answer open.
fn take_settled(shared: &Shared) -> Take {
    loop {
        match shared.counter.take(1) {
            Take::Open => loom::thread::yield_now(),
            taken => return taken,
        }
    }
}

fn cart_that_fails(shared: &Shared) {
    if shared.counter.take_tentatively(1) == Take::Taken {
        let _ = shared.counter.undo(1);
    }
}

fn cart_that_succeeds(shared: &Shared) -> bool {
    let taken = shared.counter.take_tentatively(1) == Take::Taken;
    if taken {
        shared.counter.settle(1);
    }
    taken
}

#[test]
fn the_last_unit_goes_to_one_caller() {
    at_once(
        1,
        |shared| shared.counter.take(1),
        |shared| shared.counter.take(1),
        |shared, a, b| {
            assert!(
                [a, b].contains(&Take::Taken) && [a, b].contains(&Take::Short { available: 0 })
            );
            assert_eq!(shared.counter.available(), 0);
        },
    );
    at_once(1, cart_that_succeeds, take_settled, |shared, cart, buyer| {
        assert_eq!(buyer, if cart { Take::Short { available: 0 } } else { Take::Taken });
        assert_eq!(shared.counter.take(1), Take::Short { available: 0 }, "nothing is open");
    });
}

/// A cart takes the unit and fails at its next line; one other request wants it.
#[test]
fn a_cart_that_fails_makes_nobody_hear_sold_out() {
    at_once(
        1,
        cart_that_fails,
        |shared| shared.counter.short_of(1),
        |_, (), short| {
            assert_eq!(short, None);
        },
    );
    at_once(
        1,
        cart_that_fails,
        |shared| shared.counter.take_up_to(1),
        |_, (), taken| {
            assert_ne!(taken, Ok(0));
        },
    );
    at_once(1, cart_that_fails, take_settled, |shared, (), taken| {
        assert_eq!((taken, shared.counter.available()), (Take::Taken, 0));
    });
}

/// As much as there is, waiting out the carts that keep that open.
fn take_some_settled(shared: &Shared, least: u32, most: u32) -> TakeSome {
    loop {
        match shared.counter.take_some(least, most, true) {
            TakeSome::Open => loom::thread::yield_now(),
            taken => return taken,
        }
    }
}

/// A cart takes a unit and fails at its next line. A partial order then gets that unit too, and must not be answered
/// as if it were the last but one. If it returns all units, a third request finds them.
#[test]
fn a_line_is_short_only_when_no_cart_could_make_it_more() {
    at_once(
        2,
        cart_that_fails,
        |shared| take_some_settled(shared, 0, 3),
        |shared, (), share| {
            assert_eq!((share, shared.counter.available()), (TakeSome::Taken(2), 0));
        },
    );
    at_once(
        2,
        |shared| {
            let TakeSome::Taken(units) = take_some_settled(shared, 0, 2) else { return };
            let _ = shared.counter.undo(units);
        },
        |shared| {
            let share = take_some_settled(shared, 2, 2);
            shared.counter.settle(2);
            share
        },
        |_, (), share| assert_eq!(share, TakeSome::Taken(2)),
    );
}

#[test]
fn two_partial_carts_share_what_there_is() {
    at_once(
        3,
        |shared| {
            let share = take_some_settled(shared, 0, 2);
            if let TakeSome::Taken(units) = share {
                shared.counter.settle(units);
            }
            share
        },
        |shared| shared.counter.take_some(0, 2, false),
        |shared, cart, other| {
            let units = |share| match share {
                TakeSome::Taken(units) => units,
                _ => 0,
            };
            // The other request looks once, and may find open whether it could have two.
            assert!(other == TakeSome::Open || units(cart) + units(other) == 3);
            let left = 3 - units(cart) - units(other);
            assert_eq!(shared.counter.available(), i64::from(left));
        },
    );
}

/// Whether the other request's word is seen.
fn sees(shared: &Shared) -> bool {
    shared.before.load(Ordering::Relaxed) == 1
}

/// Rule R1: a request that reads that units are gone sees what was done before they were taken.
#[test]
fn a_refused_caller_sees_what_came_before_the_last_unit_went() {
    fn before(shared: &Shared) {
        shared.before.store(1, Ordering::Relaxed);
    }
    let takes: [Run<()>; 3] = [
        |shared| {
            before(shared);
            shared.counter.take(1);
        },
        |shared| {
            before(shared);
            cart_that_succeeds(shared);
        },
        |shared| {
            before(shared);
            let _ = shared.counter.force(1);
        },
    ];
    let refusals: [Run<bool>; 5] = [
        |shared| matches!(shared.counter.take_some(0, 1, true), TakeSome::Taken(_)) || sees(shared),
        |shared| shared.counter.short_of(1).is_none() || sees(shared),
        |shared| shared.counter.take(1) == Take::Taken || sees(shared),
        |shared| shared.counter.take_tentatively(1) == Take::Taken || sees(shared),
        |shared| shared.counter.take_up_to(1) == Ok(1) || sees(shared),
    ];
    for take in takes {
        for refusal in refusals {
            at_once(1, take, refusal, |_, (), is_right| assert!(is_right));
        }
    }
}

/// Rule R12: an order that takes a returned unit sees what was done before the return.
#[test]
fn a_caller_that_takes_a_unit_sees_what_came_before_its_return() {
    fn gives(shared: &Shared) {
        shared.before.store(1, Ordering::Relaxed);
        let _ = shared.counter.give(1);
    }
    let takes: [Run<bool>; 4] = [
        |shared| shared.counter.take_some(0, 1, true) != TakeSome::Taken(1) || sees(shared),
        |shared| shared.counter.take(1) != Take::Taken || sees(shared),
        |shared| shared.counter.take_up_to(1) != Ok(1) || sees(shared),
        |shared| !cart_that_succeeds(shared) || sees(shared),
    ];
    for take in takes {
        at_once(0, gives, take, |_, (), is_right| assert!(is_right));
    }
}

/// As before, where the word looks the same as before the unit went and came back.
#[test]
fn a_unit_that_went_and_came_back_is_not_taken_for_the_old_one() {
    fn takes_and_gives(shared: &Shared) -> bool {
        let taken = shared.counter.take(1) == Take::Taken;
        shared.before.store(1, Ordering::Relaxed);
        if taken {
            let _ = shared.counter.give(1);
        }
        taken
    }
    // There is one unit, so the second order to have it had it from the first.
    at_once(
        1,
        takes_and_gives,
        |shared| shared.counter.take(1) == Take::Taken && !sees(shared),
        |_, first_had_it, is_wrong| assert!(!(first_had_it && is_wrong)),
    );
}

/// Whether the thread that returns a unit asks the promoter.
type Asked = bool;

/// Rule R17: no unit returns unseen between an order's look and its joining the list.
#[test]
fn a_unit_that_comes_back_is_taken_or_handed_on() {
    let gives: [Run<Asked>; 2] = [
        |shared| {
            shared.before.store(1, Ordering::Relaxed);
            shared.counter.give(1)
        },
        |shared| {
            shared.before.store(1, Ordering::Relaxed);
            shared.counter.take_tentatively(1) == Take::Taken && shared.counter.undo(1)
        },
    ];
    for (units, give) in (0..).zip(gives) {
        at_once(
            units,
            give,
            |shared| shared.counter.take_or_wait(1),
            |shared, asked, taken| {
                assert!(taken || asked, "the unit is there, and nobody is asked to hand it on");
                assert!(!(taken && asked) && shared.counter.somebody_waits() != taken);
                // The promoter, when asked, finds it.
                assert_eq!(shared.counter.take_for_waiter(1), !taken);
            },
        );
    }
}

/// The promoter takes a unit, or a request after no order waits any more; never another request before.
#[test]
fn nobody_takes_what_somebody_waits_for() {
    at_once(
        1,
        |shared| {
            shared.counter.restore_waiting();
            let served = shared.counter.take_for_waiter(1);
            shared.counter.nobody_waits();
            served
        },
        take_settled,
        |shared, served, buyer| {
            assert!(served != (buyer == Take::Taken));
            assert_eq!((shared.counter.available(), shared.counter.somebody_waits()), (0, false));
        },
    );
}
