//! Every interleaving of a few requests for one SKU, and every value that the orderings let them see. Each
//! ordering in the module was weakened once by hand, and one of these failed.

use std::sync::Arc;

use super::*;

/// A counter with so many units, and a word that is written and read beside it without any ordering.
fn shared(units: i64) -> (Arc<Counter>, Arc<AtomicU64>) {
    let counter = Counter::default();
    counter.restore(units);
    (Arc::new(counter), Arc::new(AtomicU64::new(0)))
}

fn spawn<T: 'static>(run: impl FnOnce() -> T + 'static) -> loom::thread::JoinHandle<T> {
    loom::thread::spawn(run)
}

fn end<T>(thread: loom::thread::JoinHandle<T>) -> T {
    thread.join().expect("no panic")
}

/// Takes a unit, waiting out the carts that keep the answer open.
fn take_settled(counter: &Counter) -> Take {
    loop {
        match counter.take(1) {
            Take::Open => loom::thread::yield_now(),
            taken => return taken,
        }
    }
}

#[test]
fn the_last_unit_goes_to_one_of_those_who_want_it() {
    loom::model(|| {
        let (counter, _) = shared(1);
        let others = [(); 2].map(|()| {
            let counter = counter.clone();
            spawn(move || counter.take(1))
        });
        let mut takes = others.map(end).to_vec();
        takes.push(counter.take(1));
        let taken = takes.iter().filter(|take| **take == Take::Taken).count();
        let short = takes.iter().filter(|take| **take == Take::Short { available: 0 }).count();
        assert_eq!((taken, short, counter.available()), (1, 2, 0));
    });
}

/// A cart takes the unit and fails at its next line; nobody else wants it but the buyer.
#[test]
fn a_cart_that_fails_makes_nobody_hear_sold_out() {
    loom::model(|| {
        let (counter, _) = shared(1);
        let cart = spawn({
            let counter = counter.clone();
            move || match counter.take_tentatively(1) {
                Take::Taken => counter.undo(1),
                // The buyer was here before.
                other => assert_eq!(other, Take::Short { available: 0 }),
            }
        });
        assert_eq!(counter.short_of(1), None, "the admission");
        assert_ne!(counter.take_up_to(1), Ok(0), "the host");
        end(cart);
    });
    loom::model(|| {
        let (counter, _) = shared(1);
        let cart = spawn({
            let counter = counter.clone();
            move || (counter.take_tentatively(1) == Take::Taken).then(|| counter.undo(1))
        });
        assert_eq!(take_settled(&counter), Take::Taken);
        end(cart);
        assert_eq!(counter.available(), 0);
    });
}

#[test]
fn a_cart_that_succeeds_keeps_its_units() {
    loom::model(|| {
        let (counter, _) = shared(1);
        let cart = spawn({
            let counter = counter.clone();
            move || {
                let taken = counter.take_tentatively(1) == Take::Taken;
                taken.then(|| counter.settle(1)).is_some()
            }
        });
        let buyer = take_settled(&counter);
        let cart = end(cart);
        assert_eq!(buyer == Take::Taken, !cart);
        assert!(buyer == Take::Taken || buyer == Take::Short { available: 0 });
        assert_eq!(counter.take(1), Take::Short { available: 0 });
    });
}

/// Rule R1: who reads that units are gone sees what was done before they were taken.
#[test]
fn who_hears_sold_out_sees_what_came_before_the_last_unit_went() {
    let takes: [fn(&Counter); 3] = [
        |counter| {
            counter.take(1);
        },
        |counter| {
            if counter.take_tentatively(1) == Take::Taken {
                counter.settle(1);
            }
        },
        |counter| counter.force(1).expect("room below"),
    ];
    let refusals: [fn(&Counter) -> bool; 3] = [
        |counter| counter.short_of(1).is_some(),
        |counter| matches!(counter.take(1), Take::Short { .. }),
        |counter| counter.take_up_to(1) == Ok(0),
    ];
    for take in takes {
        for refuses in refusals {
            loom::model(move || {
                let (counter, before) = shared(1);
                let taker = spawn({
                    let (counter, before) = (counter.clone(), before.clone());
                    move || {
                        before.store(1, Ordering::Relaxed);
                        take(&counter);
                    }
                });
                if refuses(&counter) {
                    assert_eq!(before.load(Ordering::Relaxed), 1);
                }
                end(taker);
            });
        }
    }
}

/// Rule R12: who gets a unit that was given back sees what was done before it was given.
#[test]
fn who_gets_a_unit_sees_what_came_before_it_was_given() {
    loom::model(|| {
        let (counter, before) = shared(0);
        let giver = spawn({
            let (counter, before) = (counter.clone(), before.clone());
            move || {
                before.store(1, Ordering::Relaxed);
                counter.give(1);
            }
        });
        if counter.take(1) == Take::Taken {
            assert_eq!(before.load(Ordering::Relaxed), 1);
        }
        end(giver);
    });
}

/// As before, where the word looks the same as before the unit went and came back.
#[test]
fn a_unit_that_went_and_came_back_is_not_taken_for_the_old_one() {
    loom::model(|| {
        let (counter, before) = shared(1);
        let other = spawn({
            let (counter, before) = (counter.clone(), before.clone());
            move || {
                let taken = counter.take(1) == Take::Taken;
                before.store(1, Ordering::Relaxed);
                taken.then(|| counter.give(1)).is_some()
            }
        });
        let taken = counter.take(1) == Take::Taken;
        let before = before.load(Ordering::Relaxed);
        // There is one unit, so whoever had it second had it from the first.
        assert!(!(end(other) && taken) || before == 1);
    });
}
