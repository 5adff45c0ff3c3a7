//! What rots or is cut off while an engine runs is never copied as whole, and no later engine finds it again.

use std::sync::Arc;

use doorbuster::storage::Storage;
use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, BackupError, Durability, OpenError, Options, Order, verify_on};

struct Shop {
    storage: MemoryStorage,
    clock: Arc<ManualClock>,
    engine: SteppedEngine,
}

/// One shard, eight blocks a segment, and each order in a block of its own.
fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(1)
        .log_shards(1)
        .segment_bytes(32_768)
        .block_bytes_max(16_384)
        .lines_max(4)
        .payload_bytes_max(6_000)
        .skus_max(64)
}

impl Shop {
    fn new(adapt: impl Fn(Options) -> Options) -> Self {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let engine = SteppedEngine::open(adapt(options(&storage, &clock))).expect("opens");
        let mut shop = Self { storage, clock, engine };
        drop(shop.engine.stock(1, Adjust::add(1_000).key(1)).expect("accepted"));
        shop.engine.run_until_idle();
        shop
    }

    fn place(&mut self, buyers: impl IntoIterator<Item = u64>, payload_bytes: usize) {
        for buyer in buyers {
            let order = Order::new(buyer, 1).line(1, 1).payload(vec![7; payload_bytes]);
            drop(self.engine.place(order).expect("there is room"));
        }
        self.engine.run_until_idle();
    }

    fn backup(&self, copy: &MemoryStorage) -> Result<doorbuster::Backup, BackupError> {
        let copy: Arc<dyn Storage> = Arc::new(copy.clone());
        self.engine.backup_to(&copy)
    }
}

/// The story: power is lost under `Written`, and the folder is cut back. What was cut off stays on the disk after
/// the end. The next engine's blocks have other sizes, so they leave a part of it where they end.
#[test]
fn what_was_cut_off_is_not_taken_for_a_gap_by_a_later_life() {
    let written =
        |options: Options| options.durability(Durability::Written).cut_after_power_loss(true);
    let mut shop = Shop::new(written);
    (0..7).for_each(|buyer| shop.place([buyer], 0));
    let Shop { storage, clock, engine } = shop;
    drop(engine);
    // One of these blocks was not written back.
    storage.overwrite("log/00/0000000000.segment", 3 * 4096, &[0; 4096]).expect("there");
    let engine = SteppedEngine::open(written(options(&storage, &clock))).expect("cut back");
    let mut shop = Shop { storage, clock, engine };
    let kept = shop.engine.stats().orders;
    shop.place([100], 5_000);
    // Too long for the rest of the segment.
    shop.place([101, 102, 103], 5_000);
    shop.place([104], 0);
    shop.engine.close().expect("closed");
    verify_on(Arc::new(shop.storage.clone())).expect("whole");
    let engine = SteppedEngine::open(written(options(&shop.storage, &shop.clock)));
    assert_eq!(engine.expect("nothing is damaged").stats().orders, kept + 5);
}

/// The story: a block rots while its engine runs, and then a backup is taken.
#[test]
fn a_backup_of_a_log_that_has_rotted_is_refused() {
    let mut shop = Shop::new(|options| options);
    (0..5).for_each(|buyer| shop.place([buyer], 0));
    shop.storage.overwrite("log/00/0000000000.segment", 3 * 4096 + 200, &[0xee]).expect("there");
    match shop.backup(&MemoryStorage::new()) {
        Err(BackupError::Failed(OpenError::Corrupt { shard: Some(0), .. })) => {}
        other => panic!("{other:?}"),
    }
}

/// The same with the newest checkpoint. A copy of it could not be opened, since the log before it is not copied.
#[test]
fn a_backup_of_a_checkpoint_that_has_rotted_is_refused() {
    let mut shop = Shop::new(|options| options);
    for round in 0..3 {
        (0..12).for_each(|buyer| shop.place([100 * round + buyer], 0));
        let asked = shop.engine.checkpoint().expect("open");
        shop.engine.run_until_idle();
        assert!(matches!(asked.peek(), Some(Ok(_))));
    }
    shop.backup(&MemoryStorage::new()).expect("whole");
    shop.storage
        .overwrite("checkpoints/0000000002.checkpoint", 4096 + 100, &[0xee, 0xdd])
        .expect("there");
    match shop.backup(&MemoryStorage::new()) {
        Err(BackupError::Failed(OpenError::Corrupt { shard: None, .. })) => {}
        other => panic!("{other:?}"),
    }
}
