//! Orders move, leave memory and are served between two parts of a scan: it returns each once all the same.

use std::collections::BTreeSet;

use doorbuster::{Adjust, Fill, Order, OrderId, OrderState, Placed, RequestKey, SaleRules, SkuId};

use crate::bench::{Bench, RETENTION, S, SKU, ids, one};
use crate::seed::{Random, Rerun, seeds};

const AWAITED: SkuId = SkuId::new(2);

/// One order in a hundred stays. The others leave memory, and it moves to a page of those that stay.
#[test]
fn orders_that_move_to_another_page_during_a_scan_are_returned_once() {
    let mut bench = Bench::new(1);
    let mut stay = BTreeSet::new();
    for buyer in 0..5_000_u64 {
        let order = bench.hold(&one(buyer, 7).hold_for(S * 1_000));
        match buyer % 100 {
            0 => drop(stay.insert(order)),
            _ => drop(bench.engine.cancel(order).expect("held")),
        }
    }
    bench.engine.run_until_idle();
    let mut scan = bench.engine.orders(None);
    let mut found: Vec<_> = scan.by_ref().take(2_000).collect();
    bench.clock.advance(RETENTION);
    bench.engine.run_until_idle();
    assert_eq!(bench.engine.stats().orders, stay.len() as u64, "the others have left memory");
    found.extend(scan);
    let stayed: Vec<_> = ids(&found).into_iter().filter(|it| stay.contains(it)).collect();
    assert_eq!(stayed, stay.iter().copied().collect::<Vec<_>>());
    assert!(found.len() < 2_300, "those that left memory before the scan came by are not returned");
    // Now they lie in places that are used again and again, which a scan passes in the order of their ids.
    assert_eq!(ids(&bench.scan()), stayed);
}

/// What may happen between two parts of a scan.
fn live_on(bench: &mut Bench, random: &mut Random, known: &mut BTreeSet<OrderId>, keys: &mut u128) {
    for _ in 0..random.below(250) {
        *keys += 1;
        let buyer = random.below(1_000);
        match random.below(10) {
            0..4 => {
                let hold = S * (1 + random.below(300) as u32);
                let order = one(buyer, *keys).hold_for(hold);
                known.insert(bench.hold(&order));
            }
            4..6 => {
                // Patience beyond the hold: an order that is served moves.
                let order = Order::new(buyer, RequestKey::new(*keys)).line(AWAITED, 1);
                let fill = Fill::Wait { patience: S * 1_000 };
                let placed = bench.engine.place(order.fill(fill).hold_for(S * 50)).expect("room");
                match placed.peek() {
                    Some(Placed::Waiting(waiting)) => drop(known.insert(waiting.order)),
                    Some(Placed::Held(held)) => drop(known.insert(held.order)),
                    other => panic!("{other:?}"),
                }
            }
            6 => {
                let add = Adjust::add(random.below(30) as u32 + 1).key(*keys);
                drop(bench.engine.stock(AWAITED, add).expect("room"));
            }
            _ => {
                let nth = random.below(known.len() as u64) as usize;
                let order = known.iter().nth(nth).copied();
                if let Some(order) = order {
                    match random.below(4) {
                        0 => drop(bench.engine.confirm(order)),
                        1 => drop(bench.engine.fulfil(order)),
                        _ => drop(bench.engine.cancel(order)),
                    }
                }
            }
        }
    }
    bench.clock.advance(S * random.below(20) as u32);
    for _ in 0..random.below(30) {
        bench.engine.step_timekeeper();
        bench.engine.step_writer(random.below(bench.engine.shards() as u64) as usize);
    }
    bench.engine.step_segments();
}

fn in_memory(bench: &Bench, known: &mut BTreeSet<OrderId>) -> BTreeSet<OrderId> {
    known.retain(|order| bench.engine.order(*order).is_ok());
    known.clone()
}

#[test]
fn an_order_that_is_there_during_a_whole_scan_is_returned_exactly_once() {
    for seed in seeds("READS_SEED", 2) {
        let _rerun = Rerun::new("READS_SEED", seed, "--test reads exactly_once");
        let mut random = Random::new(seed);
        let mut bench = Bench::new(if random.chance(50) { 1 } else { 2 });
        bench.settle(|engine| engine.stock(AWAITED, Adjust::add(1).key(1)).expect("room"));
        bench.settle(|engine| {
            engine.rules(AWAITED, SaleRules::new().waiting_max(1_000_000)).expect("known")
        });
        // Somebody waits from here on.
        let blocked = Order::new(1, RequestKey::new(1)).line(AWAITED, 1_000);
        let blocked = blocked.fill(Fill::Wait { patience: S * 80_000 });
        drop(bench.engine.place(blocked).expect("room"));
        bench.settle(|engine| {
            engine.rules(AWAITED, SaleRules::new().waiting_passes(true)).expect("known")
        });
        let (mut known, mut keys) = (BTreeSet::new(), 10);
        (0..20).for_each(|_| live_on(&mut bench, &mut random, &mut known, &mut keys));
        let (mut left, mut served) = (0, 0);
        for _ in 0..2 {
            let before = in_memory(&bench, &mut known);
            let mut returned = Vec::new();
            let mut scan = bench.engine.orders(None);
            loop {
                let part: Vec<_> = scan.by_ref().take(1 + random.below(300) as usize).collect();
                if part.is_empty() {
                    break;
                }
                returned.extend(part);
                live_on(&mut bench, &mut random, &mut known, &mut keys);
            }
            let once: BTreeSet<_> = returned.iter().map(|view| view.order).collect();
            assert_eq!(once.len(), returned.len(), "none twice");
            let after = in_memory(&bench, &mut known);
            let missing: Vec<_> =
                before.intersection(&after).filter(|it| !once.contains(it)).collect();
            assert!(missing.is_empty(), "{missing:?} were there all the time");
            left += before.difference(&after).count();
            served += bench
                .scan()
                .iter()
                .filter(|it| it.lines[0].sku == AWAITED && it.state == OrderState::Held)
                .count();
        }
        assert!(
            left > 50 && served > 0,
            "{left} left, {served} were served: the test tests little"
        );
        assert!(bench.engine.levels(SKU).is_some_and(|levels| levels.held > 0));
        bench.engine.run_until_idle();
    }
}
