//! The log that no checkpoint needs any more is kept as long as the host asks for.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbuster::storage::Storage;
use doorbuster::testing::{Fault, ManualClock, MemoryStorage, Operation, SteppedEngine};
use doorbuster::{Adjust, OpenError, Options, VerifyReport, verify_on};

const SECOND: Duration = Duration::from_secs(1);
const KEPT: Duration = Duration::from_secs(10);
const SEGMENT_BYTES: u64 = 32_768;

/// A shop whose log grows by some segments a second, and which takes a checkpoint every second.
struct Shop {
    storage: MemoryStorage,
    clock: Arc<ManualClock>,
    engine: SteppedEngine,
    keys: u128,
    /// Of each recycled segment: the time of its last block, and the time of its recycling.
    recycled: Arc<Mutex<Vec<(u64, u64)>>>,
    now_ms: Arc<AtomicU64>,
}

fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(2)
        .log_shards(2)
        .segment_bytes(SEGMENT_BYTES)
        .block_bytes_max(16_384)
        .lines_max(4)
        .payload_bytes_max(3_000)
        .skus_max(64)
}

fn archived(options: Options) -> Options {
    options.log_retention(KEPT)
}

impl Shop {
    fn new() -> Self {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let engine = SteppedEngine::open(archived(options(&storage, &clock))).expect("opens");
        let (recycled, now_ms) = (Arc::default(), Arc::default());
        let shop = Self { storage, clock, engine, keys: 0, recycled, now_ms };
        shop.watch();
        shop
    }

    /// Looks at every segment that is renamed.
    fn watch(&self) {
        let (recycled, now_ms) = (self.recycled.clone(), self.now_ms.clone());
        let storage = self.storage.clone();
        self.storage.set_fault_hook(Some(Arc::new(move |call| {
            if call.operation == Operation::Rename && call.path.ends_with(".segment") {
                let bytes = storage.read_file(call.path).expect("it is there");
                let ended_ms = last_block_ms(&bytes);
                let seen = (ended_ms, now_ms.load(Ordering::Relaxed));
                recycled.lock().expect("no panic").push(seen);
            }
            Fault::None
        })));
    }

    fn reopen(self, adapt: impl Fn(Options) -> Options) -> Self {
        let storage = self.storage.kill();
        drop(self.engine);
        let engine = SteppedEngine::open(adapt(options(&storage, &self.clock))).expect("opens");
        let shop = Self { storage, engine, ..self };
        shop.watch();
        shop
    }

    fn recycled(&self) -> Vec<(u64, u64)> {
        self.recycled.lock().expect("no panic").clone()
    }

    fn segments(&self) -> BTreeSet<String> {
        let files = self.storage.list_files().into_iter();
        files.filter(|path| path.ends_with(".segment")).collect()
    }

    /// Lets a second pass, in which the log grows by two segments a shard, and takes a checkpoint.
    fn pass_a_second(&mut self) {
        self.write();
        let asked = self.engine.checkpoint().expect("open");
        self.engine.run_until_idle();
        asked.wait().expect("the checkpoint is taken");
    }

    fn write(&mut self) {
        self.clock.advance(SECOND);
        self.now_ms.store(self.engine.now_ms(), Ordering::Relaxed);
        self.write_now();
    }

    /// The log grows while the clock stands still.
    fn write_now(&mut self) {
        let goal = self.engine.stats().block_bytes + 4 * SEGMENT_BYTES;
        while self.engine.stats().block_bytes < goal {
            self.keys += 1;
            let adjust = Adjust::add(1).key(self.keys).reference("r".repeat(2_000));
            drop(self.engine.stock(1 + self.keys as u64 % 40, adjust).expect("there is room"));
            self.engine.run_until_idle();
        }
    }

    fn verify(&self) -> Result<VerifyReport, OpenError> {
        verify_on(Arc::new(self.storage.deep_copy()))
    }
}

/// Returns the engine time of the last block in a segment.
fn last_block_ms(bytes: &[u8]) -> u64 {
    block_times_ms(bytes).max().expect("it was written to")
}

fn block_times_ms(bytes: &[u8]) -> impl Iterator<Item = u64> {
    const TIME_AT: usize = 56;
    let blocks = bytes.chunks(4096).filter(|page| page.starts_with(b"dbrBLOCK"));
    blocks.map(|page| {
        let word = page[TIME_AT..TIME_AT + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(word) / 1_000_000
    })
}

/// The story: auditors ask for the log of the last ten seconds. It is there, whatever checkpoints were taken and
/// whether the engine was restarted meanwhile. Older segments are used again.
#[test]
fn segments_are_kept_until_they_are_as_old_as_was_asked_for() {
    let mut shop = Shop::new();
    (0..9).for_each(|_| shop.pass_a_second());
    assert_eq!(shop.recycled(), [], "all are young");
    assert!(shop.engine.stats().segments_archived >= 20, "{:?}", shop.engine.stats());
    shop = shop.reopen(archived);
    // The older checkpoint is read, so they are recycled.
    shop.engine.run_until_idle();
    assert!(shop.engine.stats().segments_archived >= 20, "a restart knows of them");
    (0..9).for_each(|_| shop.pass_a_second());
    let recycled = shop.recycled();
    assert!(recycled.len() > 20, "{recycled:?}");
    for (ended_ms, at_ms) in recycled {
        assert!(ended_ms + KEPT.as_millis() as u64 <= at_ms, "{ended_ms} at {at_ms}");
    }
    assert_eq!(shop.engine.stats().segments_recycled_early, 0);
    // This is the log that is written in that time. No more stays.
    let most = (KEPT.as_secs() as usize + 4) * 5;
    assert!(shop.segments().len() <= most, "{} segments", shop.segments().len());
}

/// A segment ends when the next one begins. It is kept from then on for the time that the host asked for, to the
/// millisecond.
#[test]
fn a_segment_is_kept_to_the_last_millisecond() {
    let (first, second) = ("log/00/0000000000.segment", "log/00/0000000001.segment");
    let mut shop = Shop::new();
    (0..5).for_each(|_| shop.pass_a_second());
    let bytes = shop.storage.read_file(second).expect("there");
    let ended_ms = block_times_ms(&bytes).next().expect("it was written to");
    let until_ms = ended_ms + KEPT.as_millis() as u64;
    shop.clock.advance(Duration::from_millis(until_ms - 1 - shop.engine.now_ms()));
    assert_eq!(shop.engine.now_ms(), until_ms - 1);
    shop.write_now();
    assert!(shop.segments().contains(first), "a millisecond before it");
    shop.clock.advance(Duration::from_millis(1));
    shop.write_now();
    assert!(!shop.segments().contains(first), "at the millisecond");
}

#[test]
fn without_a_log_retention_the_archive_is_used_up() {
    let mut shop = Shop::new();
    (0..6).for_each(|_| shop.pass_a_second());
    let before = shop.segments().len();
    shop = shop.reopen(|options| options);
    shop.write();
    assert!(shop.recycled().len() >= 4, "{:?}", shop.recycled());
    assert!(shop.segments().len() <= before + 1, "{:?} of {before}", shop.segments());
}

/// The story: a block of the archive rots, and its segment is old enough to go. The time of its end is read from
/// the segment after it.
#[test]
fn a_rotten_archive_is_kept_no_shorter_and_stops_nothing() {
    let mut shop = Shop::new();
    (0..6).for_each(|_| shop.pass_a_second());
    let segments: Vec<_> = shop.segments().into_iter().collect();
    for path in &segments[1..4] {
        shop.storage.overwrite(path, 0, &[0xA5; 4096]).expect("listed");
    }
    shop.storage.set_fault_hook(None);
    (0..4).for_each(|_| shop.pass_a_second());
    assert_eq!(shop.engine.stats().segments_recycled, 0);
    (0..9).for_each(|_| shop.pass_a_second());
    assert!(shop.engine.stats().segments_recycled > 9, "{:?}", shop.engine.stats());
    assert_eq!(shop.engine.stats().segments_recycled_early, 0);
}

/// The story: the disk is full, and orders arrive. The oldest archived segments are given up first, the metric
/// counts them, and no order is refused.
#[test]
fn on_a_full_disk_the_archive_gives_way_and_no_order_is_refused() {
    let mut shop = Shop::new();
    (0..8).for_each(|_| shop.pass_a_second());
    shop.storage.set_fault_hook(None);
    let oldest = shop.segments();
    let used = shop.storage.list_files();
    let len = |path: &String| shop.storage.read_file(path).expect("listed").len() as u64;
    let used_bytes: u64 = used.iter().map(len).sum();
    shop.storage.set_capacity_bytes(Some(used_bytes + SEGMENT_BYTES / 2));
    // `write` expects room for every adjustment.
    shop.write();
    shop.write();
    let stats = shop.engine.stats();
    assert!(stats.segments_recycled_early >= 6, "{stats:?}");
    assert_eq!(stats.segments_recycled, stats.segments_recycled_early);
    let gone: Vec<_> = oldest.difference(&shop.segments()).cloned().collect();
    for shard in ["log/00/", "log/01/"] {
        let of = |paths: &BTreeSet<String>| -> Vec<String> {
            paths.iter().filter(|path| path.starts_with(shard)).cloned().collect()
        };
        let gone: Vec<_> = gone.iter().filter(|path| path.starts_with(shard)).cloned().collect();
        assert!(!gone.is_empty() && of(&oldest).starts_with(&gone), "{gone:?}");
    }
    shop.verify().expect("what is left is whole");
    // An engine cannot archive what it never kept, so here the archive ends.
    let refused = (0..100).any(|_| {
        shop.keys += 1;
        let adjust = Adjust::add(1).key(shop.keys).reference("r".repeat(2_900));
        let refused = (1..40).any(|sku| shop.engine.stock(sku, adjust.clone()).is_err());
        shop.engine.run_until_idle();
        refused
    });
    assert!(refused, "{:?}", shop.engine.stats());
}

/// The story: an auditor checks a folder before relying on its archive.
#[test]
fn an_archive_is_verified_up_to_the_oldest_checkpoint() {
    let mut shop = Shop::new();
    (0..18).for_each(|_| shop.pass_a_second());
    assert!(!shop.segments().contains("log/00/0000000000.segment"), "it does not go back");
    let report = shop.verify().expect("whole");
    assert!(report.archived_segments >= 20, "{report:?}");
    assert_eq!(report.archived_segments, shop.engine.stats().segments_archived);
    assert!(report.archived_blocks > report.archived_segments, "{report:?}");

    let archived: Vec<_> = shop.segments().into_iter().take(15).collect();
    for path in &archived {
        for page in [0, 1] {
            let storage = shop.storage.deep_copy();
            storage.overwrite(path, page * 4096 + 40, &[0xA5; 8]).expect("listed");
            let verified = verify_on(Arc::new(storage.clone()));
            let error = verified.expect_err(&format!("{path}, page {page}"));
            assert!(matches!(error, OpenError::Corrupt { shard: Some(_), .. }), "{error:?}");
            SteppedEngine::open(options(&storage, &shop.clock)).expect("an open needs none of it");
        }
    }
    let storage = shop.storage.deep_copy();
    storage.remove_file(&archived[3]).expect("listed");
    verify_on(Arc::new(storage)).expect_err("one is missing");

    let copy = MemoryStorage::new();
    let to: Arc<dyn Storage> = Arc::new(copy.clone());
    shop.engine.backup_to(&to).expect("backed up");
    let report = verify_on(to).expect("whole");
    assert_eq!(report.archived_segments, 0, "a backup has no archive: {report:?}");
}
