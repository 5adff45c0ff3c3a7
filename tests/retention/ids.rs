//! Ids: which were given, and which never were.

use doorbuster::{OrderError, OrderId, OrderState};

use crate::bench::{Bench, RETENTION, one, plain, retired};

/// Ids are a sequence above the number of the partition.
fn next(order: OrderId) -> OrderId {
    OrderId::from_u64(order.get() + (1 << 10))
}

#[test]
fn an_id_that_was_never_given_is_unknown_before_and_after_it_would_have_been_retired() {
    let mut bench = Bench::new(plain);
    let mut given = Vec::new();
    let mut never = Vec::new();
    for life in 0..4 {
        let order = bench.order_in(7, life, OrderState::Cancelled);
        given.push(order);
        // The kill leaves a gap of sequences behind the last order; its first one was given to an order
        // that nobody was told of.
        let lost = bench.engine.place(one(7, 100 + life)).expect("an answer");
        let lost = lost.peek().and_then(|placed| placed.held()).expect("held").order;
        assert_eq!(lost, next(order));
        never.extend([lost, next(lost)]);
        bench = bench.restart(plain);
    }
    never.extend([OrderId::from_u64(u64::MAX), OrderId::from_u64(given[0].get() ^ 4)]);
    for _ in 0..2 {
        bench.pass(RETENTION);
        for order in &given {
            assert_eq!(bench.state(*order), retired(*order));
        }
        for order in &never {
            let order = *order;
            assert_eq!(bench.state(order), Err(OrderError::UnknownOrder { order }));
        }
        bench = bench.restart(plain);
    }
}

#[test]
fn a_clean_close_leaves_no_id_in_doubt_either() {
    let mut bench = Bench::new(plain);
    let order = bench.order_in(7, 1, OrderState::Cancelled);
    let (storage, clock) = (bench.storage.clone(), bench.clock.clone());
    bench.engine.close().expect("nothing fails");
    let options = doorbuster::Options::on_storage(std::sync::Arc::new(storage.clone()))
        .clock(clock.clone())
        .segment_bytes(1 << 20)
        .retention(RETENTION);
    let engine = doorbuster::testing::SteppedEngine::open(options).expect("opens");
    bench = Bench { storage, clock, engine };
    bench.pass(RETENTION);
    assert_eq!(bench.state(order), retired(order));
    let order = next(order);
    assert_eq!(bench.state(order), Err(OrderError::UnknownOrder { order }));
}
