//! What a recovery reports to the host: how much there is to read, before it is read, and never less than is read.

use std::sync::{Arc, Mutex};

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, Options, Order, RecoveryProgress, RecoveryReport, RequestKey};

use crate::samples::SKU;

const PAYLOAD_BYTES: usize = 32 << 10;

fn options(storage: &MemoryStorage, partitions: usize) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(Arc::new(ManualClock::default()))
        .partitions(partitions)
        .log_shards(partitions.min(2))
        .payload_bytes_max(PAYLOAD_BYTES)
        .block_bytes_max(256 << 10)
        .segment_bytes(1 << 20)
        .checkpoint_bytes(1 << 40)
}

/// The parts of a life. After each of them a checkpoint is taken, or not.
fn live(partitions: usize, parts: &[(u64, bool)]) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(options(&storage, partitions)).expect("opens");
    drop(engine.stock(SKU, Adjust::add(10_000).key(1)).expect("there is room"));
    engine.run_until_idle();
    for (nth, (orders, is_checkpointed)) in parts.iter().enumerate() {
        for buyer in 0..*orders {
            let order = Order::new(buyer, RequestKey::new(nth as u128)).line(SKU, 1);
            let placed =
                engine.place(order.payload(vec![1; PAYLOAD_BYTES])).expect("there is room");
            engine.run_until_idle();
            assert!(placed.is_durable());
        }
        if *is_checkpointed {
            let taken = engine.checkpoint().expect("open");
            engine.run_until_idle();
            let _ = taken.wait().expect("the checkpoint is taken");
        }
    }
    storage.kill()
}

/// Opens the folder. Returns what was reported meanwhile, and what the open found.
fn open(storage: &MemoryStorage, partitions: usize) -> (Vec<RecoveryProgress>, RecoveryReport) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let options = options(storage, partitions)
        .on_recovery(move |progress| tell.lock().expect("no panic").push(progress));
    let report = SteppedEngine::open(options).expect("opens").recovery();
    let told = told.lock().expect("no panic").clone();
    (told, report)
}

/// Checks what holds of every recovery of a folder that is not empty.
fn check(told: &[RecoveryProgress], report: &RecoveryReport) {
    let (first, last) = (told[0], told[told.len() - 1]);
    assert!(
        first.bytes == 0 && first.bytes_max > 0,
        "the size is known before anything is read: {first:?}"
    );
    assert!(told.is_sorted_by_key(|it| it.bytes) && told.is_sorted_by_key(|it| it.bytes_max));
    let passed = told.iter().find(|it| it.bytes > it.bytes_max);
    assert_eq!(passed, None, "more was read than there was to read");
    assert!(last.bytes >= report.block_bytes);
    assert_eq!(last.records, report.records);
}

#[test]
fn progress_shows_at_the_start_how_much_there_is_to_read() {
    // The folders: a log alone; a checkpoint alone; a checkpoint with a little and with much of a log after it;
    // and a folder with no more than a segment a shard.
    let lives: [&[(u64, bool)]; 6] = [
        &[(400, false)],
        &[(400, true)],
        &[(400, true), (20, false)],
        &[(40, true), (400, false)],
        &[(200, true), (100, true), (100, false)],
        &[(3, false)],
    ];
    for partitions in [1, 4] {
        for parts in lives {
            let storage = live(partitions, parts);
            let (told, report) = open(&storage, partitions);
            check(&told, &report);
            let is_much = parts.iter().map(|(orders, _)| orders).sum::<u64>() > 100;
            assert!(told.len() > if is_much { 3 } else { 1 }, "{parts:?}: {told:?}");
            let is_constant = told.iter().all(|it| it.bytes_max == told[0].bytes_max);
            assert!(is_constant, "{partitions} partitions, {parts:?}: {told:?}");
        }
    }
}

#[test]
fn an_open_that_goes_back_before_a_damaged_checkpoint_tells_that_more_is_read() {
    // Back to the checkpoint before it, or to the beginning of the log.
    let lives: [&[(u64, bool)]; 2] =
        [&[(200, true), (200, true), (10, false)], &[(200, true), (10, false)]];
    for partitions in [1, 4] {
        for parts in lives {
            let storage = live(partitions, parts);
            let files = storage.list_files().into_iter();
            let newest = files
                .filter(|it| it.ends_with(".checkpoint"))
                .max()
                .expect("the checkpoint is taken");
            // The damage is in its last payload, so that the open has read nearly all of it in vain.
            let bytes = storage.read_file(&newest).expect("listed");
            let is_payload = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 1);
            let at = bytes.chunks_exact(512).rposition(is_payload).expect("a payload") * 512;
            storage.overwrite(&newest, at as u64, &[2]).expect("listed");
            let (told, report) = open(&storage, partitions);
            assert_eq!(report.checkpoints_damaged, 1);
            assert_eq!(report.checkpoint.is_some(), parts.len() == 3);
            check(&told, &report);
            assert!(told[0].bytes_max < told[told.len() - 1].bytes_max, "{told:?}");
        }
    }
}

#[test]
fn a_new_folder_has_nothing_to_read() {
    let (told, _) = open(&MemoryStorage::new(), 4);
    assert!(told.iter().all(|it| *it == RecoveryProgress::default()), "{told:?}");
}
