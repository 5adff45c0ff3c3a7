//! Retries: one key, many threads, one order. The buyer of the last unit is never refused as sold out (rule R1).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};

use doorbuster::error::{PlaceError, StockError};
use doorbuster::{
    Adjust, Adjusted, Durability, Engine, Order, OrderId, Placed, Refusal, RequestKey,
};

use crate::seeds::{Rerun, seeds, stream};
use crate::{Moments, THREADS, abort, options};

/// SKUs that never run out; they make a cart long.
const PLENTY: std::ops::Range<u64> = 5_000_000..5_000_200;

/// A request with one of the two keys of a round.
struct Heard {
    key: usize,
    called: u64,
    answered: u64,
    /// The order, and whether the answer was a repeat; `None`: sold out.
    held: Option<(OrderId, bool)>,
}

/// Two buyers want the last unit, each from half of the threads, and every thread asks again and again. Or one
/// buyer is alone: then no other buyer can have it, and no thread receives "sold out" at all.
#[test]
fn the_winner_of_the_last_unit_never_receives_sold_out() {
    let rounds = 800;
    for seed in seeds("HAMMER_SEED", 1) {
        let rerun = Rerun::new("HAMMER_SEED", seed, "--test threads the_winner_of_the_last");
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Engine::open(options(folder.path(), Durability::Written)).expect("opens");
        for sku in PLENTY {
            let _ = engine.stock(sku, Adjust::add(1_000_000).key(0)).expect("accepted").wait();
        }
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
                let added = engine.stock(round, Adjust::add(1).key(0)).expect("accepted");
                let _ = added.wait().expect("durable");
                barrier.wait();
                barrier.wait();
                let heard = std::mem::take(&mut *heard.lock().expect("no panic"));
                if let Err(wrong) = judge(&heard, round % 4 < 2) {
                    abort(&format!("round {round}: {wrong}"), &rerun);
                }
            }
        });
        assert_eq!(engine.stats().orders, rounds);
    }
}

fn ask(engine: &Engine, moments: &Moments, seed: u64, round: u64, thread: u64) -> Vec<Heard> {
    let mut random = stream(seed, round << 8 | thread);
    let key = if round % 4 < 2 { 0 } else { (thread % 2) as usize };
    let buyer = 2 * round + key as u64;
    let mut order = Order::new(buyer, RequestKey::new(1)).line(round, 1);
    if round % 2 == 1 {
        order = PLENTY.fold(order, |order, sku| order.line(sku, 1));
    }
    let mut said = Vec::new();
    for _ in 0..12 {
        let called = moments.now();
        let placed = match random.u64(..100) < 30 {
            true => {
                let twice = [order.clone(), order.clone()];
                let batch = engine.place_batch(&twice).expect("accepted");
                batch.peek().expect("an answer").clone()
            }
            false => {
                let placed = match random.u64(..100) < 50 {
                    true => engine.place(&order),
                    false => engine.sku(round).expect("it has stock").place(&order),
                };
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
        if random.u64(..100) < 40 {
            std::thread::yield_now();
        }
    }
    said
}

fn judge(heard: &[Heard], alone: bool) -> Result<(), String> {
    let winners: Vec<&Heard> = heard.iter().filter(|heard| heard.held.is_some()).collect();
    let Some(first) = winners.iter().min_by_key(|heard| heard.answered) else {
        return Err("no buyer received the last unit".into());
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
        return Err(format!("{fresh} requests received the answer that they made the order"));
    }
    let wrong = heard.iter().find(|heard| {
        let is_sold_out = heard.key == first.key && heard.held.is_none();
        is_sold_out && (alone || heard.called > first.answered)
    });
    match wrong {
        Some(wrong) => Err(format!(
            "called at {}: the winner received \"sold out\", after \"held\" at {}",
            wrong.called, first.answered
        )),
        None => Ok(()),
    }
}

/// Carts that fall short at their last line hold the scarce SKU for a while and return it. Only one buyer ever
/// receives it, so for that buyer it is never sold out (rule R5).
///
/// A cart that is certainly short is refused before it takes anything. So each comes in a batch after the order
/// that takes what it will lack.
#[test]
fn carts_that_fail_make_nobody_hear_sold_out() {
    const SCARCE: u64 = 1;
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(options(folder.path(), Durability::Written)).expect("opens");
    let failing = THREADS - 2;
    let last = |thread: u64| 6_000_000 + thread;
    for sku in (0..failing).map(last).chain([SCARCE]) {
        let _ = engine.stock(sku, Adjust::add(1).key(0)).expect("accepted").wait();
    }
    for sku in PLENTY {
        let _ = engine.stock(sku, Adjust::add(1_000_000).key(0)).expect("accepted").wait();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..failing {
            let (engine, over) = (&engine, &over);
            scope.spawn(move || {
                for nth in 0_u128.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let order = |key: u128| Order::new(1_000 + thread, RequestKey::new(key));
                    let cart = order(2 * nth + 1).line(last(thread), 1).line(SCARCE, 1);
                    let cart = PLENTY.fold(cart, |cart, sku| cart.line(sku, 1));
                    let taker = order(2 * nth).line(last(thread), 1);
                    let batch = engine.place_batch(&[taker, cart]).expect("accepted");
                    let answers = batch.wait().expect("durable");
                    let held = answers[0].as_ref().expect("an answer").held().expect("held").order;
                    match &answers[1] {
                        Ok(Placed::Refused(Refusal::SoldOut { sku, .. })) => {
                            assert!([SCARCE, last(thread)].contains(&sku.get()), "{sku}");
                        }
                        Err(PlaceError::Contended { .. }) => {}
                        other => panic!("{other:?}"),
                    }
                    let _ = engine.cancel(held).expect("known").wait().expect("durable");
                }
            });
        }
        let end = scope.spawn(|| {
            let mut got = [0, 0];
            for nth in 0..1_500_u64 {
                let order = Order::new(nth, RequestKey::new(1)).line(SCARCE, 1);
                match engine.place(&order).map(|placed| placed.wait().expect("durable")) {
                    Ok(Placed::Held(held)) => {
                        got[0] += 1;
                        let _ = engine.cancel(held.order).expect("known").wait().expect("durable");
                    }
                    Err(PlaceError::Contended { .. }) => {}
                    other => panic!("order {nth}: {other:?}"),
                }
                let taken = engine.stock(SCARCE, Adjust::take_up_to(1).key(u128::from(nth) + 9));
                match taken.map(|taken| taken.wait().expect("durable")) {
                    Ok(Adjusted::Done { delta, shortfall, .. }) => {
                        got[1] += 1;
                        assert_eq!((delta, shortfall.get()), (-1, 0), "take {nth}");
                        let back = Adjust::add(1).key(u128::from(nth) << 32 | 1 << 100);
                        let _ = engine.stock(SCARCE, back).expect("accepted").wait();
                    }
                    Err(StockError::Contended { .. }) => {}
                    other => panic!("take {nth}: {other:?}"),
                }
            }
            got
        });
        let got = end.join();
        over.store(true, Ordering::SeqCst);
        let got = got.expect("no answer is \"sold out\"");
        assert!(got.iter().all(|got| *got > 0), "all were contended: {got:?}");
    });
}

/// A `set` replaces one figure by another. When many threads count up by one, each from the figure that it knows,
/// none is lost and none counts twice, however often it is sent.
#[test]
fn sets_of_many_threads_replace_each_other_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(options(folder.path(), Durability::Written)).expect("opens");
    let _ = engine.stock(1, Adjust::set(0).expect(0).key(1 << 64)).expect("accepted").wait();
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, done) = (&engine, &done);
            scope.spawn(move || {
                let mut known = 0;
                for nth in 0..400 {
                    let key = u128::from(thread << 32 | nth);
                    let set = || Adjust::set(known + 1).expect(known).key(key);
                    let answer = engine.stock(1, set()).expect("accepted");
                    match answer.peek().expect("an answer") {
                        Adjusted::Done { delta: 1, stocked, replayed: false, .. } => {
                            done.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(*stocked, u64::from(known) + 1);
                            let again = engine.stock(1, set()).expect("accepted");
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
