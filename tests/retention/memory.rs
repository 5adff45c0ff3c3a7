//! Memory stays flat at a steady rate, and comes back after a peak. Nothing is timed: pages and entries
//! are counted.

use doorbuster::{Options, OrderId};

use crate::bench::{Bench, RETENTION, one};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn one_partition(options: Options) -> Options {
    options.partitions(1).log_shards(1)
}

/// So many orders, fulfilled or cancelled.
fn trade(bench: &mut Bench, orders: u64, round: u64) -> Vec<OrderId> {
    let mut placed = Vec::new();
    for buyer in 0..orders {
        let commit = bench.engine.place(one(buyer, u128::from(round))).expect("room");
        placed.push(commit.peek().and_then(|placed| placed.held()).expect("held").order);
        if buyer % 100 == 99 {
            bench.engine.run_until_idle();
        }
    }
    for order in &placed {
        if order.get() % 3 == 0 {
            drop(bench.engine.cancel(*order).expect("held"));
        } else {
            drop(bench.engine.confirm(*order).expect("held"));
            drop(bench.engine.fulfil(*order).expect("confirmed"));
        }
    }
    bench.engine.run_until_idle();
    placed
}

#[test]
fn orders_that_come_and_go_at_a_steady_rate_take_no_more_memory() {
    let mut bench = Bench::new(one_partition);
    let mut bytes = Vec::new();
    for round in 0..500 {
        trade(&mut bench, 100, round);
        bench.pass(SECOND);
        bytes.push(bench.engine.stats().order_table_bytes);
        assert!(bench.engine.stats().orders <= 100 * 100);
    }
    // A hundred seconds of a hundred orders, in pages of 1,024; and a few for what is to come.
    let settled = &bytes[200..];
    assert!(settled.iter().all(|it| *it <= (10 + 1 + 8 + 1) * 80 * 1024), "{settled:?}");
    assert_eq!(bench.engine.stats().retired, 401 * 100);
    let figures = bench.figures();
    let bench = bench.restart(one_partition);
    assert_eq!(
        (bench.figures().0, bench.figures().1[..3].to_vec()),
        (figures.0, figures.1[..3].to_vec())
    );
}

#[test]
fn memory_comes_back_after_a_peak() {
    let mut bench = Bench::new(one_partition);
    trade(&mut bench, 50_000, 0);
    assert!(bench.engine.stats().order_table_bytes >= 50_000 * 80);
    bench.pass(RETENTION);
    assert_eq!(bench.engine.stats().orders, 0);
    assert!(bench.engine.stats().order_table_bytes <= 9 * 80 * 1024);
    let bench = bench.restart(one_partition);
    assert!(bench.engine.stats().order_table_bytes <= 9 * 80 * 1024);
}
