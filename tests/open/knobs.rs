//! Options out of their range, and clocks out of their range.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::clock::Clock;
use doorbuster::testing::{ManualClock, MemoryStorage, Step, SteppedEngine};
use doorbuster::{
    Adjust, Durability, HOLD_MAX, LINES_MAX, OpenError, Options, Order, PATIENCE_MAX,
    PAYLOAD_BYTES_MAX, RequestKey,
};

use crate::samples::{SKU, assert_complete, content, fill, in_memory, refusal};

fn defaults(storage: &MemoryStorage) -> Options {
    Options::on_storage(Arc::new(storage.clone())).segment_bytes(1 << 20)
}

#[test]
fn every_option_out_of_its_range_is_named_with_value_and_bound() {
    type Set = fn(Options) -> Options;
    let cases: Vec<(&str, &str, &str, Set)> = vec![
        ("partitions", "0", "power of two from 1 to 1024", |o| o.partitions(0)),
        ("partitions", "3", "power of two from 1 to 1024", |o| o.partitions(3)),
        ("partitions", "2048", "power of two from 1 to 1024", |o| o.partitions(2048)),
        ("log_shards", "0", "1 to 64", |o| o.log_shards(0)),
        ("log_shards", "65", "1 to 64", |o| o.log_shards(65)),
        ("log_shards", "3", "1 to 2", |o| o.partitions(2).log_shards(3)),
        ("lines_max", "0", "1 to 4096", |o| o.lines_max(0)),
        ("lines_max", "4097", "1 to 4096", |o| o.lines_max(LINES_MAX + 1)),
        ("payload_bytes_max", "65537", "0 to 65536", |o| {
            o.payload_bytes_max(PAYLOAD_BYTES_MAX + 1)
        }),
        ("block_bytes_max", "94208", "multiple of 4096 from 98304 to 4194304", |o| {
            o.block_bytes_max(94_208)
        }),
        ("block_bytes_max", "4198400", "to 4194304", |o| {
            o.block_bytes_max((4 << 20) + 4096).segment_bytes(1 << 30)
        }),
        ("block_bytes_max", "98305", "multiple of 4096", |o| o.block_bytes_max(98_305)),
        ("block_bytes_max", "12288", "from 16384", |o| {
            o.lines_max(1).payload_bytes_max(0).block_bytes_max(12_288)
        }),
        ("segment_bytes", "520192", "multiple of 4096 from 524288 to 1099511627776", |o| {
            o.segment_bytes(520_192)
        }),
        ("segment_bytes", "1048577", "multiple of 4096", |o| o.segment_bytes((1 << 20) + 1)),
        ("segment_bytes", "1099511631872", "1099511627776", |o| o.segment_bytes((1 << 40) + 4096)),
        ("log_backlog_bytes_max", "11041791", "at least 11041792 with 64 partitions", |o| {
            o.log_backlog_bytes_max(11_041_791)
        }),
        ("orders_max", "0", "1 to 1099511627776", |o| o.orders_max(0)),
        ("orders_max", "1099511627777", "1 to 1099511627776", |o| o.orders_max((1 << 40) + 1)),
        ("skus_max", "0", "1 to 67108864", |o| o.skus_max(0)),
        ("skus_max", "67108865", "1 to 67108864", |o| o.skus_max((1 << 26) + 1)),
        ("hold_max", "0ns", "1 ms to 2592000s", |o| o.hold_max(Duration::ZERO)),
        ("hold_max", "999.999µs", "1 ms to 2592000s", |o| {
            o.hold_max(Duration::from_nanos(999_999))
        }),
        ("hold_max", "2592000.000000001s", "2592000s", |o| {
            o.hold_max(HOLD_MAX + Duration::from_nanos(1))
        }),
        ("patience_max", "0ns", "1 ms to 2592000s", |o| o.patience_max(Duration::ZERO)),
        ("patience_max", "2592000.001s", "1 ms to 2592000s", |o| {
            o.patience_max(PATIENCE_MAX + Duration::from_millis(1))
        }),
        ("hold_default", "0ns", "1 ms to 2592000s", |o| o.hold_default(Duration::ZERO)),
        ("hold_default", "900s", "1 ms to 60s", |o| o.hold_max(Duration::from_secs(60))),
        ("hold_default", "61s", "1 ms to 60s", |o| {
            o.hold_max(Duration::from_secs(60)).hold_default(Duration::from_secs(61))
        }),
    ];
    for (named, given, wanted, set) in cases {
        let storage = MemoryStorage::new();
        let error = refusal(set(defaults(&storage)));
        let words = error.to_string();
        match error {
            OpenError::InvalidOption { field, value, bound } => {
                assert_eq!((field, value.as_str()), (named, given), "{words}");
                assert!(bound.contains(wanted), "{named} = {given}: {bound}");
                assert!(words.contains(named) && words.contains(given) && words.contains(&bound));
            }
            other => panic!("{named} = {given}: {other:?}"),
        }
        assert_eq!(storage.calls(), 0, "{named}: the folder was not touched");
    }
}

#[test]
fn every_option_at_its_bounds_is_taken() {
    type Set = fn(Options) -> Options;
    let cases: Vec<Set> = vec![
        |o| o.partitions(1),
        |o| o.partitions(1024).log_shards(1).log_backlog_bytes_max(1 << 30),
        |o| o.partitions(64).log_shards(64).lines_max(1).payload_bytes_max(0),
        |o| o.lines_max(1).payload_bytes_max(0).block_bytes_max(16_384).segment_bytes(32_768),
        |o| o.lines_max(LINES_MAX).payload_bytes_max(PAYLOAD_BYTES_MAX).partitions(1),
        |o| o.block_bytes_max(98_304).segment_bytes(196_608),
        |o| o.block_bytes_max(4 << 20).segment_bytes(8 << 20),
        |o| o.log_backlog_bytes_max(11_041_792),
        |o| o.log_backlog_bytes_max(u64::MAX),
        |o| o.orders_max(1),
        |o| o.orders_max(1 << 40),
        |o| o.skus_max(1),
        |o| o.skus_max(1 << 26),
        |o| o.hold_max(Duration::from_millis(1)).hold_default(Duration::from_millis(1)),
        |o| o.hold_max(HOLD_MAX).hold_default(HOLD_MAX),
        // Real clocks may differ by a millisecond between a close and the next open.
        |o| o.clock(Arc::new(ManualClock::default())).clock_jump_max(Duration::ZERO),
        |o| o.clock_jump_max(Duration::MAX),
        |o| o.durability(Durability::Written),
    ];
    for (nth, set) in cases.into_iter().enumerate() {
        let storage = MemoryStorage::new();
        let engine = SteppedEngine::open(set(defaults(&storage)));
        let mut engine = engine.unwrap_or_else(|error| panic!("case {nth}: {error}"));
        drop(engine.stock(SKU, Adjust::add(1).key(1)).expect("accepted"));
        engine.run_until_idle();
        let placed = engine.place(Order::new(1, RequestKey::new(1)).line(SKU, 1));
        let placed = placed.unwrap_or_else(|error| panic!("case {nth}: {error}"));
        engine.run_until_idle();
        assert!(placed.is_durable(), "case {nth}");
        engine.close().expect("closes");
        SteppedEngine::open(set(defaults(&storage))).expect("opens again");
    }
}

/// The share of the backlog follows from the folder's number of partitions, whether or not the options name it. A
/// share without room for the largest order would refuse that order forever.
#[test]
fn the_backlog_is_checked_against_the_partitions_that_the_folder_has() {
    let storage = MemoryStorage::new();
    let options = |storage: &MemoryStorage| {
        defaults(storage).payload_bytes_max(PAYLOAD_BYTES_MAX).lines_max(1)
    };
    let made = options(&storage).partitions(1024).log_backlog_bytes_max(1 << 30);
    let mut engine = SteppedEngine::open(made).expect("opens");
    drop(engine.stock(SKU, Adjust::add(10).key(1)).expect("accepted"));
    engine.run_until_idle();
    engine.close().expect("closes");
    for backlog_bytes in [64 << 20, 16 << 20] {
        let asked = options(&storage).log_backlog_bytes_max(backlog_bytes);
        let before = content(&storage);
        let engine = match SteppedEngine::open(asked) {
            Err(OpenError::InvalidOption { field: "log_backlog_bytes_max", .. }) => {
                assert_eq!(content(&storage), before, "a refusal changes nothing");
                continue;
            }
            opened => opened.expect("opens"),
        };
        let largest = Order::new(1, RequestKey::new(u128::from(backlog_bytes)))
            .line(SKU, 1)
            .payload(vec![1; PAYLOAD_BYTES_MAX]);
        let placed = engine.place(&largest);
        assert!(placed.is_ok(), "an idle engine refuses forever: {placed:?}");
    }
}

#[test]
fn skus_that_are_in_the_log_must_fit() {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
    for sku in 0..5_u64 {
        drop(engine.stock(sku, Adjust::add(1).key(1)).expect("accepted"));
        engine.run_until_idle();
    }
    drop(engine);
    let before = content(&storage);
    match refusal(in_memory(&storage).skus_max(4)) {
        OpenError::InvalidOption { field: "skus_max", value, .. } => assert_eq!(value, "4"),
        other => panic!("{other:?}"),
    }
    assert_eq!(content(&storage), before);
    SteppedEngine::open(in_memory(&storage).skus_max(5)).expect("opens");
}

/// Segments that were prepared under other options are there when the engine opens with larger blocks. A block that
/// is larger than such a segment is written elsewhere, and is there after a restart. On a disk without room it
/// waits, and does not latch the log.
#[test]
fn a_folder_opens_with_larger_blocks_than_its_segments_were_made_for() {
    let clock = Arc::new(ManualClock::default());
    let larger = |storage: &MemoryStorage| {
        let options = Options::on_storage(Arc::new(storage.clone())).clock(clock.clone());
        options.payload_bytes_max(PAYLOAD_BYTES_MAX).segment_bytes(1 << 20)
    };
    // A loss of power while a spare was made longer leaves any length.
    for (room, torn) in [(true, false), (false, false), (true, true)] {
        let storage = MemoryStorage::new();
        let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
        fill(&mut engine);
        engine.step_segments();
        engine.close().expect("closes");
        for path in storage.list_files().into_iter().filter(|path| path.ends_with(".segment")) {
            let bytes = storage.read_file(&path).expect("listed");
            if torn && bytes.iter().all(|byte| *byte == 0) {
                storage.truncate(&path, bytes.len() as u64 - 7 * 512).expect("listed");
            }
        }
        let mut engine = SteppedEngine::open(larger(&storage)).expect("opens");
        if !room {
            storage.set_capacity_bytes(Some(0));
        }
        let large = |nth: u128| {
            let order = Order::new(1, RequestKey::new(100 + nth)).line(SKU, 1);
            order.payload(vec![nth as u8; PAYLOAD_BYTES_MAX])
        };
        let orders: Vec<Order> = (0..3).map(large).collect();
        let placed = engine.place_batch(&orders).expect("accepted");
        assert!(placed.peek().expect("an answer").iter().all(|placed| placed.is_ok()));
        for shard in 0..engine.shards() {
            while engine.step_writer(shard) == Step::Wrote {}
            let step = engine.step_writer(shard);
            assert!(step != Step::Ended, "with room: {room}, the log is latched");
        }
        storage.set_capacity_bytes(None);
        engine.run_until_idle();
        assert!(placed.is_durable());
        let engine = SteppedEngine::open(larger(&storage.kill())).expect("opens");
        for order in &orders {
            let again = engine.place(order).expect("an answer");
            let again = again.peek().and_then(|placed| placed.held()).expect("held");
            assert!(again.replayed);
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_wall_clock_too_far_ahead_of_the_log_is_named_and_can_be_overridden() {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
    let options = |storage: &MemoryStorage| in_memory(storage).clock(clock.clone());
    let mut engine = SteppedEngine::open(options(&storage)).expect("opens");
    fill(&mut engine);
    let log_ms = engine.now_ms();
    drop(engine);
    let storage = storage.kill();
    clock.set_wall_ms(clock.wall_ms() + 8 * DAY.as_millis() as u64);
    // `clocks` tests the same within one boot.
    clock.reboot();

    let before = content(&storage);
    let week_ms = 7 * DAY.as_millis() as u64;
    let error = refusal(options(&storage));
    let words = error.to_string();
    match error {
        OpenError::ClockJump { wall_ms, log_ms: seen_ms, max_ms } => {
            assert_eq!((wall_ms, seen_ms), (clock.wall_ms(), log_ms));
            assert_eq!(max_ms, week_ms);
            assert!(words.contains(&wall_ms.to_string()) && words.contains(&max_ms.to_string()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(content(&storage), before, "a refusal changes nothing");
    let too_little = 8 * DAY - Duration::from_millis(1);
    let jump_max = |jump| options(&storage.deep_copy()).clock_jump_max(jump);
    assert!(matches!(refusal(jump_max(too_little)), OpenError::ClockJump { .. }));

    let enough = [8 * DAY, 1_000 * DAY, Duration::from_secs(1 << 61), Duration::MAX];
    let opened = enough.map(|jump| (jump, SteppedEngine::open(jump_max(jump))));
    for (jump, opened) in opened {
        let engine = opened.unwrap_or_else(|error| panic!("{jump:?}: {error}"));
        assert_eq!(engine.now_ms(), clock.wall_ms());
        assert_complete(&engine);
    }
    let accepts = options(&storage).accept_clock_jump(true);
    assert_complete(&SteppedEngine::open(accepts).expect("opens"));
    // The log knows the new time now.
    assert_complete(&SteppedEngine::open(options(&storage.kill())).expect("opens"));
}

#[test]
fn a_wall_clock_behind_the_log_is_no_error() {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
    let options = |storage: &MemoryStorage| in_memory(storage).clock(clock.clone());
    let mut engine = SteppedEngine::open(options(&storage)).expect("opens");
    fill(&mut engine);
    let log_ms = engine.now_ms();
    clock.set_wall_ms(0);
    clock.reboot();
    let engine = SteppedEngine::open(options(&storage.kill())).expect("opens");
    assert_eq!(engine.now_ms(), log_ms);
    assert_complete(&engine);
}
