//! Ids: which were given out, and which never were.

use doorbuster::testing::SteppedEngine;
use doorbuster::{OrderError, OrderId, OrderState};

use super::{plain, retired};
use crate::shop::{Shop, options};
use crate::{RETENTION, one};

/// Returns the next id. Ids are a sequence above the number of the partition.
fn next(order: OrderId) -> OrderId {
    OrderId::from_u64(order.get() + (1 << 10))
}

#[test]
fn an_id_that_was_never_given_is_unknown_before_and_after_it_would_have_been_retired() {
    let mut shop = Shop::of_two_skus(plain);
    let mut given = Vec::new();
    let mut never = Vec::new();
    for life in 0..4 {
        let order = shop.order_in(7, life, OrderState::Cancelled);
        given.push(order);
        // The kill leaves a gap of sequences after the last order. The first id of the gap belonged to an order
        // that was never acknowledged.
        let lost = shop.engine.place(one(7, 100 + life)).expect("an answer");
        let lost = lost.peek().and_then(|placed| placed.held()).expect("held").order;
        assert_eq!(lost, next(order));
        never.extend([lost, next(lost)]);
        shop.kill();
    }
    never.extend([OrderId::from_u64(u64::MAX), OrderId::from_u64(given[0].get() ^ 4)]);
    for _ in 0..2 {
        shop.pass(RETENTION);
        for order in &given {
            assert_eq!(shop.state(*order), retired(*order));
        }
        for order in &never {
            let order = *order;
            assert_eq!(shop.state(order), Err(OrderError::UnknownOrder { order }));
        }
        shop.kill();
    }
}

#[test]
fn a_clean_close_leaves_no_id_in_doubt_either() {
    let mut shop = Shop::of_two_skus(plain);
    let order = shop.order_in(7, 1, OrderState::Cancelled);
    shop.engine.close().expect("nothing fails");
    let options = options(&shop.storage, &shop.clock).retention(RETENTION);
    shop.engine = SteppedEngine::open(options).expect("opens");
    shop.pass(RETENTION);
    assert_eq!(shop.state(order), retired(order));
    let order = next(order);
    assert_eq!(shop.state(order), Err(OrderError::UnknownOrder { order }));
}
