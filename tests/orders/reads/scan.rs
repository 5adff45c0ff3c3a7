//! What a scan returns, and what it does not change.

use std::io;
use std::sync::Arc;

use doorbuster::testing::{Fault, Operation};
use doorbuster::{OrderError, OrderState};

use super::ids;
use crate::shop::{SKU, Shop};
use crate::{RETENTION, S, one};

/// Places orders for several pages of each of four partitions, with different holds.
fn trade(shop: &mut Shop) {
    for buyer in 0..6_000_u64 {
        let order = shop.accept(&one(buyer, 7).hold_for(S * (1 + buyer as u32 % 50)));
        match buyer % 5 {
            0 => drop(shop.engine.cancel(order).expect("held")),
            1 => drop(shop.engine.confirm(order).expect("held")),
            _ => {}
        }
        if buyer % 1_000 == 999 {
            shop.engine.run_until_idle();
        }
    }
    shop.engine.run_until_idle();
}

#[test]
fn every_order_is_returned_once_partition_by_partition_and_by_age() {
    let mut shop = Shop::of_partitions(4);
    trade(&mut shop);
    let found = shop.scan();
    assert_eq!(found.len(), 6_000);
    let places: Vec<_> =
        found.iter().map(|view| (view.order.get() % 1024, view.order.get() / 1024)).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "each after the one before it");
    for view in &found {
        assert_eq!(view, shop.engine.order(view.order).expect("there").view());
    }
    shop.kill();
    assert_eq!(shop.scan(), found, "an open finds the same");
}

#[test]
fn a_scan_goes_on_after_any_order() {
    let mut shop = Shop::of_partitions(4);
    trade(&mut shop);
    let found = ids(&shop.scan());
    for nth in (0..found.len()).step_by(97).chain([0, 127, 128, 1023, 1024, found.len() - 1]) {
        let rest: Vec<_> = shop.engine.orders(found[nth]).map(|view| view.order).collect();
        assert_eq!(rest, found[nth + 1..], "after number {nth}");
    }
    let last = doorbuster::OrderId::from_u64(u64::MAX);
    assert_eq!(shop.engine.orders(last).count(), 0);
    // The order that a scan stopped at has left memory.
    let stopped_at = found.iter().find(|order| {
        shop.engine.order(**order).is_ok_and(|viewed| viewed.state == OrderState::Cancelled)
    });
    let stopped_at = *stopped_at.expect("one was cancelled");
    shop.pass(RETENTION);
    assert_eq!(
        shop.engine.order(stopped_at).err(),
        Some(OrderError::Retired { order: stopped_at })
    );
    let rest: Vec<_> = shop.engine.orders(stopped_at).map(|view| view.order).collect();
    let all = ids(&shop.scan());
    let from = all.partition_point(|order| {
        (order.get() % 1024, order.get()) < (stopped_at.get() % 1024, stopped_at.get())
    });
    assert_eq!(rest, all[from..]);
}

#[test]
fn a_scan_says_what_is_durable_and_changes_nothing() {
    let mut shop = Shop::of_partitions(1);
    let order = shop.accept(&one(1, 7).hold_for(S));
    assert_eq!(shop.scan().iter().map(|view| view.durable).collect::<Vec<_>>(), [false]);
    shop.engine.run_until_idle();
    let before = shop.engine.dump();
    shop.clock.advance(S);
    let found = shop.scan();
    assert_eq!((found[0].state, found[0].durable), (OrderState::Held, true), "not recorded yet");
    assert_eq!(shop.engine.dump(), before);
    // Reading the order itself records that its hold is over.
    let viewed = shop.engine.order_by_key(1, 7).expect("there is room").expect("there");
    assert_eq!((viewed.order, viewed.state, viewed.durable), (order, OrderState::Expired, false));
    assert_eq!(shop.scan()[0].state, OrderState::Expired);
    assert_eq!(shop.engine.levels(SKU).expect("known").returning, 1);
}

#[test]
fn a_scan_works_on_a_latched_and_on_a_closed_engine() {
    let mut shop = Shop::of_partitions(2);
    let durable = shop.accept(&one(1, 7).hold_for(S));
    shop.engine.run_until_idle();
    let engine = shop.engine.engine().clone();
    shop.storage.set_fault_hook(Some(Arc::new(|call| {
        let is_block = call.operation == Operation::WriteDurable && call.path.starts_with("log");
        if is_block { Fault::Error(io::ErrorKind::Other) } else { Fault::None }
    })));
    let lost = shop.accept(&one(1, 8));
    shop.engine.run_until_idle();
    assert!(shop.engine.place(one(1, 9)).is_err(), "latched");
    let durability = |engine: &doorbuster::Engine| -> Vec<_> {
        engine.orders(None).map(|view| (view.order, view.durable)).collect()
    };
    assert_eq!(durability(&engine), [(durable, true), (lost, false)]);
    drop(shop.engine.close());
    assert_eq!(durability(&engine), [(durable, true), (lost, false)]);
    let lost = engine.order_by_key(1, 8).expect("reads still work").expect("it is in memory");
    assert!(!lost.durable && lost.when_durable().wait().is_err());
    shop.clock.advance(S);
    let over = engine.order_by_key(1, 7).expect("reads still work").expect("there");
    assert_eq!((over.state, over.durable), (OrderState::Expired, false), "never recorded");
}
