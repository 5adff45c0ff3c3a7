//! The story: a host kept an index of its own, and was killed. Seventeen orders were durable whose answers it had
//! not seen, and nothing in the engine's interface could name them.

use std::collections::{BTreeMap, BTreeSet};

use doorbuster::{BuyerId, Commit, OrderId, Placed, RequestKey};

use crate::one;
use crate::shop::Shop;

const ORDERS: u64 = 200;
/// Orders that are durable and not in the host's index.
const UNSEEN: usize = 17;

fn key(buyer: u64) -> RequestKey {
    RequestKey::new(1000 + u128::from(buyer))
}

fn order_of(placed: &Commit<Placed>) -> OrderId {
    placed.peek().and_then(Placed::held).expect("held").order
}

/// Places orders, some of them durable, and kills the process. Returns the index that the host had, and the durable
/// orders by buyer.
fn sell_and_be_killed(shop: &mut Shop) -> (BTreeSet<OrderId>, BTreeMap<u64, OrderId>) {
    let mut commits = Vec::new();
    for buyer in 0..ORDERS {
        commits.push((
            buyer,
            shop.engine.place(one(buyer, 1000 + u128::from(buyer))).expect("there is room"),
        ));
        if buyer == ORDERS / 2 {
            shop.engine.run_until_idle();
        }
    }
    // One shard has written all of its orders, the other shard half of them.
    shop.engine.step_writer(0);
    let durable = commits.iter().filter(|(_, placed)| placed.is_durable());
    let durable: BTreeMap<_, _> =
        durable.map(|(buyer, placed)| (*buyer, order_of(placed))).collect();
    assert!(durable.len() < commits.len(), "some are lost in the kill");
    let index = durable.values().copied().take(durable.len() - UNSEEN).collect();
    shop.kill();
    (index, durable)
}

#[test]
fn after_a_kill_a_scan_rebuilds_the_index_of_the_host() {
    let mut shop = Shop::of_partitions(4);
    let (index, durable) = sell_and_be_killed(&mut shop);
    let rebuilt: BTreeMap<OrderId, BuyerId> =
        shop.engine.orders(None).map(|view| (view.order, view.buyer)).collect();
    let unseen = rebuilt.keys().filter(|order| !index.contains(order)).count();
    assert_eq!(unseen, UNSEEN);
    let expected: BTreeMap<OrderId, BuyerId> =
        durable.iter().map(|(buyer, order)| (*order, BuyerId::from_u64(*buyer))).collect();
    assert_eq!(rebuilt, expected);
    assert!(shop.engine.orders(None).all(|view| view.durable), "what an open found is durable");
    // After a kill, new ids are far above those that were given out.
    let placed = (0..ORDERS).map(|buyer| shop.accept(&one(buyer, 1))).collect::<BTreeSet<_>>();
    let found = shop.engine.orders(None).map(|view| view.order);
    let found: BTreeSet<_> = found.filter(|order| !rebuilt.contains_key(order)).collect();
    assert_eq!(found, placed);
}

#[test]
fn after_a_kill_the_order_of_a_key_is_found() {
    let mut shop = Shop::of_partitions(4);
    let (_, durable) = sell_and_be_killed(&mut shop);
    for buyer in 0..ORDERS {
        let found = shop.engine.order_by_key(buyer, key(buyer)).expect("nothing is due");
        let found = found.map(|viewed| viewed.view().clone());
        assert_eq!(found.as_ref().map(|view| view.order), durable.get(&buyer).copied());
        if let Some(view) = found {
            let by_id = shop.engine.order(view.order).expect("it is there");
            assert_eq!((&view, view.key), (by_id.view(), key(buyer)));
        }
    }
    let other = |buyer: u64, key| shop.engine.order_by_key(buyer, key).expect("nothing is due");
    assert!(other(0, key(1)).is_none(), "another buyer's key");
    assert!(other(ORDERS, key(0)).is_none(), "a buyer without orders");
}
