//! What an engine really takes, compared with what `Options::estimate` says: memory by an allocator that counts,
//! disk by the size of the folder.
//!
//! This file has one test, so that nothing else runs in its process.

#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorbuster::{Adjust, Engine, Options, Order, Placed, RequestKey, SkuId, Workload};

/// Counts the bytes that are allocated.
struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: both methods hand their arguments on to the system's allocator unchanged, whose contract is the
// same; the others, by default, are made of these. Counting is an atomic that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ORDERS: u64 = 200_000;
const SKU: SkuId = SkuId::new(1);

#[test]
fn an_engine_takes_what_was_estimated_for_it() {
    // Orders live for half a day and are kept for half a day, so a day's orders are in memory.
    let half_a_day = Duration::from_secs(12 * 3600);
    for reserved in [0, ORDERS] {
        for payload_bytes in [0, 100] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let options = Options::new(folder.path())
                .partitions(8)
                .segment_bytes(1 << 20)
                .checkpoint_bytes(4 << 20)
                .log_backlog_bytes_max(1 << 20)
                .lines_max(16)
                .retention(half_a_day)
                .orders_reserved(reserved);
            let workload =
                Workload::a_day(ORDERS).live_for(half_a_day).skus(1).payload_bytes(payload_bytes);
            compare(options, &workload, payload_bytes, folder.path());
        }
    }
}

fn compare(options: Options, workload: &Workload, payload_bytes: usize, folder: &Path) {
    let estimate = options.estimate(workload).expect("it fits");
    assert_eq!(estimate.orders, ORDERS);
    let before = ALLOCATED.load(Ordering::Relaxed);
    let engine = Engine::open(options).expect("an empty folder opens");
    place_all(&engine, payload_bytes);
    let taken = ALLOCATED.load(Ordering::Relaxed) - before;
    let checkpoint =
        engine.checkpoint().expect("open").wait().expect("the checkpoint is taken").bytes;
    let disk = bytes_of(folder);
    engine.close().expect("closed");
    let story = format!("{estimate:?}, but {taken} in memory, {disk} on the disk");

    assert!(taken <= estimate.memory_bytes + estimate.backlog_bytes, "too little memory: {story}");
    // The estimate covers pages that are kept for reuse, and what the process takes. These are not there, or are
    // not counted.
    assert!(taken >= estimate.orders * estimate.order_bytes * 3 / 4, "too much memory: {story}");
    assert!(disk <= estimate.disk_bytes, "too little disk: {story}");
    let about = estimate.checkpoint_bytes..estimate.checkpoint_bytes * 21 / 20 + (1 << 20);
    assert!(about.contains(&checkpoint), "a checkpoint of {checkpoint}: {story}");
}

fn place_all(engine: &Engine, payload_bytes: usize) {
    let add = Adjust::add(ORDERS as u32).key(RequestKey::new(1));
    let _ = engine.stock(SKU, add).expect("valid").wait().expect("durable");
    let payload = vec![7; payload_bytes];
    let mut last = None;
    for buyer in 0..ORDERS {
        let order = Order::new(buyer, RequestKey::new(1)).line(SKU, 1).payload(payload.clone());
        let commit = loop {
            match engine.place(&order) {
                Ok(commit) => break commit,
                // The log is behind, because its bound is small.
                Err(error) => engine.ready().wait().unwrap_or_else(|_| panic!("{error}")),
            }
        };
        assert!(matches!(commit.peek(), Some(Placed::Held(_))), "there is enough");
        last = Some(commit);
    }
    let _ = last.expect("there are some").wait().expect("durable");
}

fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("it is there");
    let bytes = entries.map(|entry| {
        let entry = entry.expect("it can be read");
        match fs::metadata(entry.path()) {
            Ok(found) if found.is_dir() => bytes_of(&entry.path()),
            Ok(found) => found.len(),
            // A segment that is being made may be renamed meanwhile.
            Err(_) => 0,
        }
    });
    bytes.sum()
}
