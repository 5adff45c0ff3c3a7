//! What the random cases of the model avoid, each in a test of its own.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::clock::Clock;
use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, Adjusted, Options, Order, Placed};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(1)
        .segment_bytes(1 << 20)
}

/// The story: the wall clock was set an hour ahead, and for a day engine time leaned towards it. Then a buyer buys,
/// the process is killed, and another process opens the folder at once. Engine time does not go back behind what
/// the log says. (It may go back behind a time that was only read since the last block: no promise rests on that.)
#[test]
fn engine_time_does_not_run_backwards_behind_the_log() {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
    let mut engine = SteppedEngine::open(options(&storage, &clock)).expect("new");
    clock.set_wall_ms(clock.wall_ms() + 3_600_000);
    for _ in 0..24 {
        clock.advance(DAY / 24);
        engine.run_until_idle();
    }
    let bought = engine.stock(1, Adjust::add(1).key(1)).expect("there is room");
    engine.run_until_idle();
    assert!(bought.is_durable());
    let told_ms = engine.now_ms();
    drop((bought, engine));
    let engine = SteppedEngine::open(options(&storage.kill(), &clock)).expect("nothing is damaged");
    assert!(
        engine.now_ms() >= told_ms,
        "{} ms earlier than a time that was read before",
        told_ms - engine.now_ms()
    );
}

/// The story: a machine sleeps for a month with an order in memory that waits for the disk, then wakes up and
/// writes it. A record carries 32 bits of its time; the rest is in the block.
#[test]
fn a_record_that_waited_for_a_month_keeps_its_deadline() {
    for days in [24, 26, 48] {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let mut engine = SteppedEngine::open(options(&storage, &clock)).expect("new");
        let added = engine.stock(1, Adjust::add(1).key(1)).expect("there is room");
        engine.run_until_idle();
        assert!(added.is_durable());
        let order = || Order::new(1, 1).line(1, 1).hold_for(Duration::from_secs(60));
        let placed = engine.place(order()).expect("there is room");
        let told = placed.peek().and_then(Placed::held).expect("held").deadline_ms;
        clock.advance(DAY * days);
        // The writer runs before the timekeeper.
        (0..engine.shards()).for_each(|shard| _ = engine.step_writer(shard));
        assert!(placed.is_durable());
        drop((placed, engine));
        let engine =
            SteppedEngine::open(options(&storage.kill(), &clock)).expect("nothing is damaged");
        let again = engine.place(order()).expect("there is room");
        let held = *again.peek().and_then(Placed::held).expect("replayed");
        assert!(held.replayed);
        assert_eq!(held.deadline_ms, told, "after {days} days");
    }
}

/// The story: a script sets the stock of a mistyped SKU, again and again, and expects a figure that the SKU does
/// not have. Each call is refused and changes nothing, so it must not use up a place for a SKU.
#[test]
fn a_refused_set_leaves_no_sku_behind() {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
    let mut engine = SteppedEngine::open(options(&storage, &clock).skus_max(2)).expect("new");
    for sku in 100..104 {
        let refused = engine.stock(sku, Adjust::set(5).expect(3).key(1)).expect("an outcome");
        assert!(matches!(refused.peek(), Some(Adjusted::Unexpected { stocked: 0, .. })));
    }
    assert_eq!(engine.stats().skus, 0);
    let added = engine.stock(1, Adjust::add(1).key(1)).expect("there is a place");
    engine.run_until_idle();
    assert!(added.is_durable());
}
