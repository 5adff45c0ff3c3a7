//! Buyer limits that change while orders run (rule R9): after `rules` returned, no order above the stricter limit
//! is newly held; and no order is refused by a limit that was not in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};

use doorbuster::{
    Adjust, Durability, Engine, Order, OrderId, PlaceError, Placed, Refusal, RequestKey, SaleRules,
    SkuId, Unavailable,
};
use fastrand::Rng;

use crate::seeds::{Rerun, seeds, stream};
use crate::{Moments, THREADS, options};

const SKU: SkuId = SkuId::new(9);
const BUYERS: u64 = 6;
/// No limit, as a number.
const NO_LIMIT: u64 = u64::MAX;

/// A change of the limit. It may act from `called` on. If it is stricter, it acts from `returned` on.
#[derive(Clone, Copy, Debug)]
struct Rule {
    limit: u64,
    called: u64,
    returned: u64,
    /// When it was known to be durable, and so the only one in force; `MAX`: no thread waited for that.
    durable: u64,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    buyer: u64,
    units: u64,
    called: u64,
    answered: u64,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Returned between these moments, if at all.
    Held {
        order: OrderId,
        back_called: u64,
        back_answered: u64,
    },
    Limited {
        taken: u64,
        limit: u64,
    },
}

#[test]
fn a_limit_that_was_returned_is_in_force() {
    for seed in seeds("LIMIT_SEED", 2) {
        let _rerun = Rerun::new("LIMIT_SEED", seed, "--test threads a_limit_that_was_returned");
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Engine::open(options(folder.path(), Durability::Written)).expect("opens");
        let _ = engine.stock(SKU, Adjust::add(1_000_000).key(0)).expect("accepted").wait();
        let (moments, over) = (Moments::default(), AtomicBool::new(false));
        let requests = Mutex::new(Vec::new());
        let mut rules =
            vec![Rule { limit: NO_LIMIT, called: 0, returned: 0, durable: moments.now() }];
        std::thread::scope(|scope| {
            for thread in 1..THREADS {
                let (engine, moments, over, requests) = (&engine, &moments, &over, &requests);
                scope.spawn(move || {
                    let made = buy(engine, moments, over, seed, thread);
                    requests.lock().expect("no panic").extend(made);
                });
            }
            let mut random = Rng::with_seed(seed);
            for _ in 0..150 {
                let limit = random.u64(..5) as u32;
                let called = moments.now();
                let rule = engine.rules(SKU, SaleRules::new().buyer_limit(limit));
                let rule = rule.expect("accepted");
                let returned = moments.now();
                let durable = match random.u64(..100) < 60 {
                    true => {
                        rule.wait().expect("durable");
                        moments.now()
                    }
                    false => u64::MAX,
                };
                let limit = if limit == 0 { NO_LIMIT } else { u64::from(limit) };
                rules.push(Rule { limit, called, returned, durable });
                for _ in 0..random.u64(..200) {
                    std::thread::yield_now();
                }
            }
            over.store(true, Ordering::SeqCst);
        });
        let requests = requests.into_inner().expect("no panic");
        for request in &requests {
            check(request, &requests, &rules);
        }
        let held = requests.iter().filter(|request| is_held_at_the_end(request));
        let units: u64 = held.map(|request| request.units).sum();
        assert_eq!(engine.levels(SKU).map(|levels| levels.held as u64), Some(units));
    }
}

/// Every buyer has a unit, so under a limit of one no buyer may have another. Long carts, since the limit is
/// checked before the first line is taken: when `rules` returns, a cart that was checked before is held already, or
/// will not be held.
#[test]
fn no_order_is_held_after_a_stricter_limit_was_returned() {
    const PLENTY: std::ops::Range<u64> = 1_000..1_300;
    const ROUNDS: u64 = 16;
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(options(folder.path(), Durability::Written)).expect("opens");
    for sku in PLENTY.chain([SKU.get()]) {
        let _ = engine.stock(sku, Adjust::add(1_000_000).key(0)).expect("accepted").wait();
    }
    let cart = |buyer: u64, key: u64| {
        let order = Order::new(buyer, RequestKey::new(u128::from(key))).line(SKU, 1);
        PLENTY.fold(order, |order, sku| order.line(sku, 1))
    };
    let held = || engine.levels(SKU).expect("known").held;
    let limit = |units: u32| engine.rules(SKU, SaleRules::new().buyer_limit(units));
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for buyer in 1..THREADS {
            let first = engine.place(cart(buyer, u64::MAX)).expect("an answer");
            assert!(matches!(first.peek(), Some(Placed::Held(_))));
            let (engine, barrier) = (&engine, &barrier);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    barrier.wait();
                    let mut more = Vec::new();
                    for nth in 0.. {
                        let placed = match engine.place(cart(buyer, round << 32 | nth)) {
                            // The log's writers had no turn.
                            Err(PlaceError::Unavailable(Unavailable::Backlogged { .. })) => {
                                std::thread::yield_now();
                                continue;
                            }
                            placed => placed.expect("an answer"),
                        };
                        match placed.peek().expect("an answer") {
                            Placed::Held(held) => more.push(held.order),
                            Placed::Refused(Refusal::BuyerLimit { .. }) => break,
                            other => panic!("{other:?}"),
                        }
                    }
                    barrier.wait();
                    barrier.wait();
                    more.into_iter().for_each(|order| drop(engine.cancel(order).expect("known")));
                    barrier.wait();
                }
            });
        }
        let mut wrong = Vec::new();
        for round in 0..ROUNDS as i64 {
            limit(0).expect("accepted").wait().expect("durable");
            let start = held();
            barrier.wait();
            while held() < start + 1 + round % 7 {
                std::thread::yield_now();
            }
            let rule = limit(1).expect("accepted");
            let before = held();
            barrier.wait();
            // The other threads are at the barrier; a panic here would leave them there.
            wrong.extend((held() != before).then_some((round, before, held())));
            barrier.wait();
            rule.wait().expect("durable");
            barrier.wait();
        }
        assert_eq!(wrong, [], "newly held after the limit was returned");
    });
}

fn is_held_at_the_end(request: &Request) -> bool {
    matches!(request.answer, Answer::Held { back_called: u64::MAX, .. })
}

fn buy(
    engine: &Engine,
    moments: &Moments,
    over: &AtomicBool,
    seed: u64,
    thread: u64,
) -> Vec<Request> {
    let mut random = stream(seed, thread);
    let mut requests: Vec<Request> = Vec::new();
    for nth in 0_u64.. {
        // The check compares every pair.
        if over.load(Ordering::SeqCst) || nth == 1_500 {
            break;
        }
        let mine = requests.iter().position(is_held_at_the_end);
        if let Some(mine) = mine.filter(|_| random.u64(..100) < 45) {
            let Answer::Held { order, back_called, back_answered } = &mut requests[mine].answer
            else {
                continue;
            };
            *back_called = moments.now();
            drop(engine.cancel(*order).expect("known"));
            *back_answered = moments.now();
            continue;
        }
        let (buyer, units) = (random.u64(..BUYERS), 1 + random.u64(..3));
        let key = RequestKey::new(u128::from(thread << 32 | nth));
        let order = Order::new(buyer, key).line(SKU, units as u32);
        let called = moments.now();
        let placed = match random.u64(..100) < 25 {
            false => engine.place(&order).map(|placed| placed.peek().expect("an answer").clone()),
            true => {
                let batch = engine.place_batch(std::slice::from_ref(&order)).expect("accepted");
                batch.peek().expect("an answer")[0].clone()
            }
        };
        let answered = moments.now();
        let answer = match placed.expect("an answer") {
            Placed::Held(held) => {
                Answer::Held { order: held.order, back_called: u64::MAX, back_answered: u64::MAX }
            }
            Placed::Refused(Refusal::BuyerLimit { taken, limit, .. }) => {
                Answer::Limited { taken, limit: u64::from(limit.get()) }
            }
            other => panic!("{other:?}"),
        };
        requests.push(Request { buyer, units, called, answered, answer });
    }
    requests
}

fn check(request: &Request, requests: &[Request], rules: &[Rule]) {
    let Request { buyer, units, called, answered, .. } = *request;
    let others = requests.iter().filter(|other| other.buyer == buyer);
    let others = others.filter(|other| !std::ptr::eq(*other, request));
    match request.answer {
        Answer::Held { .. } => {
            // What the buyer had for certain, all the time.
            let had: u64 = others
                .filter(|other| match other.answer {
                    Answer::Held { back_called, .. } => {
                        other.answered < called && back_called > answered
                    }
                    Answer::Limited { .. } => false,
                })
                .map(|other| other.units)
                .sum();
            let next = |nth: usize| rules.get(nth + 1).map_or(u64::MAX, |rule| rule.returned);
            let loosest = (rules.iter().enumerate())
                .filter(|(nth, rule)| rule.called < answered && next(*nth) > called)
                .map(|(_, rule)| rule.limit)
                .max()
                .expect("one is always in force");
            assert!(had + units <= loosest, "{request:?}: had {had}, limit {loosest}; {rules:?}");
        }
        Answer::Limited { taken, limit } => {
            assert!(taken + units > limit, "{request:?}");
            // It acts until a later one is durable.
            let gone = |nth: usize| rules[nth + 1..].iter().map(|rule| rule.durable).min();
            let was_in_force = rules.iter().enumerate().any(|(nth, rule)| {
                rule.limit == limit
                    && rule.called < answered
                    && gone(nth).unwrap_or(u64::MAX) > called
            });
            assert!(was_in_force, "{request:?}: {limit} was not in force; {rules:?}");
            let at_most: u64 = others
                .filter(|other| match other.answer {
                    Answer::Held { back_answered, .. } => {
                        other.called < answered && back_answered > called
                    }
                    Answer::Limited { .. } => false,
                })
                .map(|other| other.units)
                .sum();
            assert!(taken <= at_most, "{request:?}: the buyer had at most {at_most}");
        }
    }
}
