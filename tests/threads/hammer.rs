//! Retries: one key, many threads, one order; and whoever has the last unit never hears that it is
//! sold out (rule R1).

use std::sync::{Barrier, Mutex};

use doorbuster::error::PlaceError;
use doorbuster::{
    Adjust, Adjusted, Durability, Engine, Order, OrderId, Placed, Refusal, RequestKey,
};

use crate::seed::{Random, Rerun, seeds};
use crate::{Moments, THREADS, options};

/// A request with one of the two keys of a round.
struct Heard {
    key: usize,
    called: u64,
    answered: u64,
    /// The order, and whether it was told as a repeat; `None`: sold out.
    held: Option<(OrderId, bool)>,
}

/// Two buyers want the last unit, each from half of the threads, and everyone asks again and again.
#[test]
fn the_winner_of_the_last_unit_never_hears_sold_out() {
    let rounds = 1_500;
    for seed in seeds("HAMMER_SEED", 1) {
        let _rerun = Rerun::new("HAMMER_SEED", seed, "--test threads the_winner_of_the_last");
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Engine::open(options(folder.path(), Durability::Written)).expect("opens");
        let (moments, heard) = (Moments::default(), Mutex::new(Vec::new()));
        let barrier = Barrier::new(THREADS as usize + 1);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (engine, moments, heard, barrier) = (&engine, &moments, &heard, &barrier);
                scope.spawn(move || {
                    for round in 0..rounds {
                        barrier.wait();
                        let said = ask(engine, moments, seed, round, thread);
                        heard.lock().expect("no panic").extend(said);
                        barrier.wait();
                    }
                });
            }
            for round in 0..rounds {
                for sku in [round, 1_000_000 + round] {
                    let added = engine.stock(sku, Adjust::add(1).key(0)).expect("takes it");
                    let _ = added.wait().expect("durable");
                }
                barrier.wait();
                barrier.wait();
                let heard = std::mem::take(&mut *heard.lock().expect("no panic"));
                if let Err(wrong) = judge(&heard) {
                    // The others wait at the barrier; a panic here would leave them there.
                    eprintln!("round {round}: {wrong}");
                    eprintln!("rerun: HAMMER_SEED={seed} cargo test --all-features --test threads");
                    std::process::abort();
                }
            }
        });
        assert_eq!(engine.stats().orders, rounds);
    }
}

fn ask(engine: &Engine, moments: &Moments, seed: u64, round: u64, thread: u64) -> Vec<Heard> {
    let mut random = Random::nth(seed, round << 8 | thread);
    let key = (thread % 2) as usize;
    let buyer = 2 * round + key as u64;
    let order = Order::new(buyer, RequestKey::new(1)).line(round, 1);
    let cart = round % 2 == 1;
    let order = if cart { order.line(1_000_000 + round, 1) } else { order };
    let mut said = Vec::new();
    for _ in 0..12 {
        let called = moments.now();
        let placed = match random.chance(30) {
            true => {
                let twice = [order.clone(), order.clone()];
                let batch = engine.place_batch(&twice).expect("takes it");
                batch.peek().expect("an answer").clone()
            }
            false => {
                let placed = engine.place(&order);
                vec![placed.map(|placed| placed.peek().expect("an answer").clone())]
            }
        };
        let answered = moments.now();
        for placed in placed {
            let held = match placed {
                Ok(Placed::Held(held)) => Some((held.order, held.replayed)),
                Ok(Placed::Refused(Refusal::SoldOut { .. })) => None,
                Err(PlaceError::Contended { .. }) => continue,
                other => panic!("{other:?}"),
            };
            said.push(Heard { key, called, answered, held });
        }
        if random.chance(40) {
            std::thread::yield_now();
        }
    }
    said
}

fn judge(heard: &[Heard]) -> Result<(), String> {
    let winners: Vec<&Heard> = heard.iter().filter(|heard| heard.held.is_some()).collect();
    let Some(first) = winners.iter().min_by_key(|heard| heard.answered) else {
        return Err("nobody got the last unit".into());
    };
    let (order, _) = first.held.expect("a winner");
    if let Some(other) = winners.iter().find(|heard| heard.key != first.key) {
        return Err(format!("sold twice: to {} and {}", first.key, other.key));
    }
    if winners.iter().any(|heard| heard.held.is_none_or(|(other, _)| other != order)) {
        return Err("one key has two orders".into());
    }
    let fresh = winners.iter().filter(|heard| heard.held == Some((order, false))).count();
    if fresh != 1 {
        return Err(format!("{fresh} requests were told that they made the order"));
    }
    let wrong = heard.iter().find(|heard| {
        heard.key == first.key && heard.held.is_none() && heard.called > first.answered
    });
    match wrong {
        Some(wrong) => Err(format!(
            "called at {}, the winner heard sold out; held was told at {}",
            wrong.called, first.answered
        )),
        None => Ok(()),
    }
}

/// A `set` replaces one figure by another, so of many threads that count up by one, each from the
/// figure that it knows, none is lost and none counts twice, however often it is sent.
#[test]
fn sets_of_many_threads_replace_each_other_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(options(folder.path(), Durability::Written)).expect("opens");
    let _ = engine.stock(1, Adjust::set(0).expect(0).key(1 << 64)).expect("takes it").wait();
    let done = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, done) = (&engine, &done);
            scope.spawn(move || {
                let mut known = 0;
                for nth in 0..400 {
                    let key = u128::from(thread << 32 | nth);
                    let set = || Adjust::set(known + 1).expect(known).key(key);
                    let answer = engine.stock(1, set()).expect("takes it");
                    match answer.peek().expect("an answer") {
                        Adjusted::Done { delta: 1, stocked, replayed: false, .. } => {
                            done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            assert_eq!(*stocked, u64::from(known) + 1);
                            let again = engine.stock(1, set()).expect("takes it");
                            assert!(matches!(
                                again.wait().expect("durable"),
                                Adjusted::Done { replayed: true, .. }
                            ));
                            known += 1;
                        }
                        Adjusted::Unexpected { stocked, .. } => {
                            assert!(*stocked > u64::from(known), "figures only rise");
                            known = *stocked as u32;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    let done = done.into_inner();
    engine.close().expect("closes");
    assert_eq!(engine.levels(1).map(|levels| levels.stocked), Some(i64::from(done)));
    assert!(done > 0);
}
