//! A SKU's handle returns the same answers as the engine.

use std::time::Duration;

use doorbuster::error::{PlaceError, Unavailable};
use doorbuster::{
    HOLD_MAX, KeyField, LINE_QUANTITY_MAX, Order, Placed, Quantity, Refusal, RequestKey, SkuHandle,
};

use crate::shop::{SKU, Shop, settled};
use crate::{EMPTY, OTHER, UNKNOWN, order, plain, replayed};

/// The answer that the handle and the engine both return.
fn said(shop: &Shop, sku: &SkuHandle, order: &Order) -> Result<Placed, PlaceError> {
    let by_handle = sku.place(order).map(settled);
    let by_engine = shop.engine.place(order).map(settled);
    assert_eq!(by_handle, by_engine, "{order:?}");
    by_handle
}

#[test]
fn a_handle_refuses_what_is_sold_out_and_knows_held_keys() {
    let mut shop = Shop::new(plain);
    let sku = shop.engine.sku(SKU).expect("it has stock");
    assert_eq!((sku.id(), sku.levels().available), (SKU, 100));
    let held = sku.place(order(1, 1)).expect("an answer");
    shop.engine.run_until_idle();
    let first = settled(held).held().expect("held").order;
    shop.hold(&Order::new(2, RequestKey::new(1)).line(SKU, 99));

    let seen = shop.seen();
    let refused = Refusal::SoldOut { sku: SKU, wanted: Quantity::new(1), available: 0 };
    assert_eq!(said(&shop, &sku, &order(3, 1)), Ok(Placed::Refused(refused)));
    assert_eq!(shop.seen(), seen, "a refusal changes nothing");
    assert_eq!(replayed(&said(&shop, &sku, &order(1, 1)).expect("an answer")), Some(first));
    let other = said(&shop, &sku, &order(1, 1).hold_for(Duration::from_secs(1)));
    assert!(matches!(other, Ok(Placed::KeyReused(reused)) if reused.field == KeyField::Hold));
}

#[test]
fn what_is_not_of_the_handles_sku_is_placed_as_well() {
    let mut shop = Shop::new(plain);
    let empty = shop.engine.sku(EMPTY).expect("it is known");
    assert!(shop.engine.sku(UNKNOWN).is_none());
    let new = |buyer| Order::new(buyer, RequestKey::new(1));
    let all = [new(1).line(OTHER, 1), new(2).line(SKU, 1).line(OTHER, 2)];
    for order in &all {
        let placed = empty.place(order).expect("an answer");
        shop.engine.run_until_idle();
        assert!(settled(placed).held().is_some_and(|held| !held.replayed));
    }
    assert_eq!((shop.available(SKU), shop.available(OTHER)), (99, 97));
    let cart = said(&shop, &empty, &new(3).line(OTHER, 1).line(EMPTY, 1));
    assert!(matches!(cart, Ok(Placed::Refused(Refusal::SoldOut { sku: EMPTY, .. }))));
    let unknown = said(&shop, &empty, &new(3).line(UNKNOWN, 1));
    assert_eq!(unknown, Err(PlaceError::UnknownSku { sku: UNKNOWN }));
    assert_eq!(said(&shop, &empty, &new(3)), Err(PlaceError::NoLines));
}

/// A mistake in the order is found before its lines are looked at.
#[test]
fn a_handle_refuses_bad_input_though_it_is_sold_out() {
    let shop = Shop::new(|options| options.payload_bytes_max(8).hold_max(HOLD_MAX / 2));
    let empty = shop.engine.sku(EMPTY).expect("it is known");
    let new = |units: u32| Order::new(1, RequestKey::new(1)).line(EMPTY, units);
    let wrong = [
        new(0),
        new(LINE_QUANTITY_MAX + 1),
        new(1).payload(vec![0; 9]),
        new(1).hold_for(Duration::ZERO),
        new(1).hold_for(HOLD_MAX),
        new(1).hold_for(Duration::MAX),
    ];
    for order in &wrong {
        assert!(said(&shop, &empty, order).is_err(), "{order:?}");
    }
    let right = [new(1), new(LINE_QUANTITY_MAX), new(1).payload(vec![0; 8])];
    for order in right.iter().chain([&new(1).hold_for(HOLD_MAX / 2)]) {
        let refused = said(&shop, &empty, order);
        assert!(matches!(refused, Ok(Placed::Refused(Refusal::SoldOut { available: 0, .. }))));
    }
}

#[test]
fn a_handle_of_a_closed_engine_says_so() {
    let shop = Shop::new(plain);
    let empty = shop.engine.sku(EMPTY).expect("it is known");
    shop.engine.close().expect("closes");
    let order = Order::new(1, RequestKey::new(1)).line(EMPTY, 1);
    let closed = empty.place(order).map(settled);
    assert_eq!(closed, Err(PlaceError::Unavailable(Unavailable::Closed)));
}
