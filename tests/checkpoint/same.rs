//! The state from a checkpoint is the state from the whole log.

use std::time::Duration;

use doorbuster::testing::{CheckpointProgress, MemoryStorage, SteppedEngine};
use doorbuster::{Durability, Order, SaleRules};
use fastrand::Rng;

use crate::history::{History, SHARDS};
use crate::power::lose_power;

/// Opens a folder with and without its checkpoints, and compares. Returns the checkpoint that was used.
pub(crate) fn assert_same(history: &History, storage: &MemoryStorage, what: &str) -> Option<u64> {
    let whole = history.without_checkpoints(storage);
    let mut from_log =
        history.open(&whole).unwrap_or_else(|error| panic!("{what}, log: {error:?}"));
    let copy = storage.deep_copy();
    let mut opened = history.open(&copy).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_dumps_agree(&opened, &from_log, what);
    for id in history.ids() {
        let (found, expected) = (opened.order(id).err(), from_log.order(id).err());
        assert_eq!(found, expected, "{what}: {id}");
    }
    assert!(opened.recovery().records <= from_log.recovery().records);
    // Finished orders leave memory at their time, in both.
    history.clock.advance(Duration::from_millis(400));
    opened.run_until_idle();
    from_log.run_until_idle();
    assert_dumps_agree(&opened, &from_log, &format!("{what}, later"));
    opened.recovery().checkpoint
}

fn assert_dumps_agree(opened: &SteppedEngine, from_log: &SteppedEngine, what: &str) {
    let (found, expected) = (opened.dump(), from_log.dump());
    if found != expected {
        let differs = |(a, b): &(&str, &str)| a != b;
        let at = found.lines().zip(expected.lines()).find(differs);
        panic!("{what}: the checkpoint's state differs from the log's: {at:?}");
    }
}

/// Runs one seed: lives of random length with checkpoints among random acts. Each life ends with a close, a kill or
/// a loss of power.
fn live(seed: u64, durability: Durability) {
    let mut history = History::new(seed, durability);
    let mut random = Rng::with_seed(!seed);
    let mut used = 0;
    for life in 0..8 {
        let what = format!("seed {seed} {durability:?}, life {life}");
        for _ in 0..random.u64(..3) {
            history.act_for_segments(random.u64(..3) as usize);
            history.checkpoint_meanwhile();
        }
        (0..random.u64(..200)).for_each(|_| history.act());
        let ending = random.u64(..4);
        if ending == 0 {
            // A checkpoint that is being taken.
            let _asked = history.engine().checkpoint().expect("open");
            (0..random.u64(..30)).for_each(|_| history.act());
        }
        let left = match ending {
            1 => {
                history.engine.take().expect("open").close().expect("closed");
                history.storage.deep_copy()
            }
            2 => lose_power(&history.storage, 3 + random.u64(..50)),
            _ => history.storage.kill(),
        };
        used += u64::from(assert_same(&history, &left, &what).is_some());
        history.engine = None;
        history.storage = left;
        history.reopen().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    }
    assert!(used > 0, "seed {seed}: no life was opened from a checkpoint");
}

#[test]
fn a_checkpoint_and_the_rest_of_the_log_come_to_what_the_whole_log_comes_to() {
    let first = match std::env::var("CHECKPOINT_SEED") {
        Ok(seed) => return live(seed.parse().expect("a number"), Durability::Synced),
        Err(_) => 1,
    };
    println!("one seed alone: CHECKPOINT_SEED=n cargo test --all-features --test checkpoint");
    for seed in first..first + 30 {
        live(seed, Durability::Synced);
        live(seed, Durability::Written);
    }
}

/// The story: while a partition is copied, the host ends a SKU's sale and limits the next one, and a buyer cancels.
/// The order is copied as cancelled. Only its last record says whether it counted when the limit came.
#[test]
fn a_limit_that_comes_while_its_partition_is_copied_counts_its_buyers_then() {
    let mut history = History::of_one_partition();
    let place = |history: &mut History, buyer: u64, key: u128| {
        let order = Order::new(buyer, key).line(1, 2).hold_for(Duration::from_secs(60));
        let placed = history.engine().place(order).expect("there is room");
        placed.peek().and_then(|placed| placed.held()).expect("held").order
    };
    let (cancelled, _kept) = (place(&mut history, 7, 1), place(&mut history, 7, 2));
    history.engine().run_until_idle();
    let asked = history.engine().checkpoint().expect("open");
    assert_eq!(history.engine().step_checkpointer(), CheckpointProgress::Worked);
    let _ = history.engine().rules(1, SaleRules::new().buyer_limit(9)).expect("known");
    let _ = history.engine().cancel(cancelled).expect("known");
    let _later = place(&mut history, 7, 3);
    history.engine().run_until_idle();
    asked.wait().expect("the checkpoint is taken");
    let left = history.storage.kill();
    assert_eq!(assert_same(&history, &left, "limited"), Some(0));
    let opened = history.open(&left).expect("killed");
    assert!(
        opened.dump().contains("buyer 07000000000000000000000000000000 4"),
        "{}",
        opened.dump()
    );
}

/// The story: the engine runs for a long time. It recycles its log, so the folder stays as large as it is, and
/// every restart from it is right.
#[test]
fn a_log_is_recycled_below_the_older_checkpoint_and_the_folder_stops_growing() {
    let mut history = History::new(77, Durability::Synced);
    let mut sizes = Vec::new();
    for round in 0..12 {
        history.adjust_for_bytes(300_000);
        let asked = history.engine().checkpoint().expect("open");
        history.engine().run_until_idle();
        asked.wait().expect("the checkpoint is taken");
        let left = history.storage.deep_copy();
        assert_eq!(assert_same(&history, &left, &format!("round {round}")), Some(round));
        let names = left.list_files();
        let of = |end: &str| names.iter().filter(|path| path.ends_with(end)).count();
        assert_eq!(of(".checkpoint"), 2.min(round as usize + 1), "{names:?}");
        sizes.push(of(".segment"));
    }
    assert!(history.recycled() > 50, "{} recycled, sizes {sizes:?}", history.recycled());
    // An interval is not a whole number of segments.
    assert!(sizes[11] <= sizes[3] + 2 * SHARDS, "segments: {sizes:?}");
}
