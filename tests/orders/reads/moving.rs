//! Orders move, leave memory and are served between two parts of a scan. The scan still returns each once.

use std::collections::BTreeSet;

use doorbuster::{Adjust, Fill, Order, OrderId, OrderState, Placed, RequestKey, SaleRules, SkuId};
use fastrand::Rng;

use super::ids;
use crate::seeds::{Rerun, seeds};
use crate::shop::{SKU, Shop};
use crate::{RETENTION, S, one};

const AWAITED: SkuId = SkuId::new(2);

/// One order in a hundred stays. The others leave memory, and it moves to a page of those that stay.
#[test]
fn orders_that_move_to_another_page_during_a_scan_are_returned_once() {
    let mut shop = Shop::of_partitions(1);
    let mut stay = BTreeSet::new();
    for buyer in 0..5_000_u64 {
        let order = shop.accept(&one(buyer, 7).hold_for(S * 1_000));
        match buyer % 100 {
            0 => drop(stay.insert(order)),
            _ => drop(shop.engine.cancel(order).expect("held")),
        }
    }
    shop.engine.run_until_idle();
    let mut scan = shop.engine.orders(None);
    let mut found: Vec<_> = scan.by_ref().take(2_000).collect();
    shop.pass(RETENTION);
    assert_eq!(shop.engine.stats().orders, stay.len() as u64, "the others have left memory");
    found.extend(scan);
    let stayed: Vec<_> = ids(&found).into_iter().filter(|it| stay.contains(it)).collect();
    assert_eq!(stayed, stay.iter().copied().collect::<Vec<_>>());
    assert!(found.len() < 2_300, "those that left memory before the scan came by are not returned");
    // Now the orders lie in places that are used again and again. A scan still passes them in the order of their
    // ids.
    assert_eq!(ids(&shop.scan()), stayed);
}

/// Does what may happen between two parts of a scan.
fn live_on(shop: &mut Shop, random: &mut Rng, known: &mut BTreeSet<OrderId>, keys: &mut u128) {
    for _ in 0..random.u64(..250) {
        *keys += 1;
        let buyer = random.u64(..1_000);
        match random.u64(..10) {
            0..4 => {
                let hold = S * (1 + random.u64(..300) as u32);
                let order = one(buyer, *keys).hold_for(hold);
                known.insert(shop.accept(&order));
            }
            4..6 => {
                // The patience is longer than the hold, so that an order that is served moves.
                let order = Order::new(buyer, RequestKey::new(*keys)).line(AWAITED, 1);
                let fill = Fill::Wait { patience: S * 1_000 };
                let placed =
                    shop.engine.place(order.fill(fill).hold_for(S * 50)).expect("there is room");
                match placed.peek() {
                    Some(Placed::Waiting(waiting)) => drop(known.insert(waiting.order)),
                    Some(Placed::Held(held)) => drop(known.insert(held.order)),
                    other => panic!("{other:?}"),
                }
            }
            6 => {
                let add = Adjust::add(random.u64(..30) as u32 + 1).key(*keys);
                drop(shop.engine.stock(AWAITED, add).expect("there is room"));
            }
            _ => {
                let nth = random.usize(..known.len().max(1));
                let order = known.iter().nth(nth).copied();
                if let Some(order) = order {
                    match random.u64(..4) {
                        0 => drop(shop.engine.confirm(order)),
                        1 => drop(shop.engine.fulfil(order)),
                        _ => drop(shop.engine.cancel(order)),
                    }
                }
            }
        }
    }
    shop.clock.advance(S * random.u64(..20) as u32);
    for _ in 0..random.u64(..30) {
        shop.engine.step_timekeeper();
        shop.engine.step_writer(random.u64(..shop.engine.shards() as u64) as usize);
    }
    shop.engine.step_segments();
}

fn in_memory(shop: &Shop, known: &mut BTreeSet<OrderId>) -> BTreeSet<OrderId> {
    known.retain(|order| shop.engine.order(*order).is_ok());
    known.clone()
}

#[test]
fn an_order_that_is_there_during_a_whole_scan_is_returned_exactly_once() {
    for seed in seeds("READS_SEED", 2) {
        let _rerun = Rerun::new("READS_SEED", seed, "--test orders exactly_once");
        let mut random = Rng::with_seed(seed);
        let mut shop = Shop::of_partitions(if random.u64(..100) < 50 { 1 } else { 2 });
        shop.settle(|engine| engine.stock(AWAITED, Adjust::add(1).key(1)).expect("there is room"));
        shop.settle(|engine| {
            engine.rules(AWAITED, SaleRules::new().waiting_max(1_000_000)).expect("known")
        });
        // From here on an order waits.
        let blocked = Order::new(1, RequestKey::new(1)).line(AWAITED, 1_000);
        let blocked = blocked.fill(Fill::Wait { patience: S * 80_000 });
        drop(shop.engine.place(blocked).expect("there is room"));
        shop.settle(|engine| {
            engine.rules(AWAITED, SaleRules::new().waiting_passes(true)).expect("known")
        });
        let (mut known, mut keys) = (BTreeSet::new(), 10);
        (0..20).for_each(|_| live_on(&mut shop, &mut random, &mut known, &mut keys));
        let (mut left, mut served) = (0, 0);
        for _ in 0..2 {
            let before = in_memory(&shop, &mut known);
            let mut returned = Vec::new();
            let mut scan = shop.engine.orders(None);
            loop {
                let part: Vec<_> = scan.by_ref().take(1 + random.u64(..300) as usize).collect();
                if part.is_empty() {
                    break;
                }
                returned.extend(part);
                live_on(&mut shop, &mut random, &mut known, &mut keys);
            }
            let once: BTreeSet<_> = returned.iter().map(|view| view.order).collect();
            assert_eq!(once.len(), returned.len(), "none twice");
            let after = in_memory(&shop, &mut known);
            let missing: Vec<_> =
                before.intersection(&after).filter(|it| !once.contains(it)).collect();
            assert!(missing.is_empty(), "{missing:?} were there all the time");
            left += before.difference(&after).count();
            served += shop
                .scan()
                .iter()
                .filter(|it| it.lines[0].sku == AWAITED && it.state == OrderState::Held)
                .count();
        }
        assert!(
            left > 50 && served > 0,
            "{left} left, {served} were served: the test tests little"
        );
        assert!(shop.engine.levels(SKU).is_some_and(|levels| levels.held > 0));
        shop.engine.run_until_idle();
    }
}
