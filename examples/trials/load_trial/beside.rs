//! What the machine does by itself, beside which figures are read.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use doorbuster::storage::{ALIGN_BYTES, Access, AlignedBuffer, Disk, Storage};

type Failure = Box<dyn Error + Send + Sync>;

const FILE_BYTES: usize = 4 << 20;
const WRITES: usize = 2000;
const ROUNDS: u64 = 200;
const ADDITIONS: u64 = 4_000_000;

/// The median of durable writes of 4 KiB into a file that was written before.
pub(crate) fn durable_write_us(folder: &Path) -> Result<f64, Failure> {
    let disk = Disk::new(folder);
    disk.create_root()?;
    let file = disk.create("file", Access::Direct)?;
    file.write_at(&AlignedBuffer::zeroed(FILE_BYTES), 0)?;
    file.sync()?;
    let block = AlignedBuffer::zeroed(ALIGN_BYTES);
    let mut took_ns = Vec::with_capacity(WRITES);
    for nth in 0..WRITES {
        let start = Instant::now();
        file.write_durable(&block, (nth * ALIGN_BYTES % FILE_BYTES) as u64)?;
        took_ns.push(start.elapsed().as_nanos());
    }
    std::fs::remove_dir_all(folder)?;
    took_ns.sort_unstable();
    Ok(took_ns[WRITES / 2] as f64 / 1e3)
}

/// How many sleeping threads one thread wakes in a second, each once in a round, as a writer does whose block all
/// these callers wait for. With as many blocking callers no more orders are placed in that time.
pub(crate) fn wake_ups_per_s(sleepers: u64) -> f64 {
    let (round, awake) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let sleep = || {
            for seen in 0..ROUNDS {
                while round.load(Ordering::Acquire) == seen {
                    thread::park();
                }
                awake.fetch_add(1, Ordering::AcqRel);
            }
        };
        let threads: Vec<_> = (0..sleepers).map(|_| scope.spawn(sleep)).collect();
        let start = Instant::now();
        for nth in 1..=ROUNDS {
            round.store(nth, Ordering::Release);
            threads.iter().for_each(|sleeper| sleeper.thread().unpark());
            while awake.load(Ordering::Acquire) < nth * sleepers {
                thread::yield_now();
            }
        }
        (ROUNDS * sleepers) as f64 / start.elapsed().as_secs_f64()
    })
}

/// How long an addition to one number takes, when `threads` threads add to it.
pub(crate) fn addition_ns(threads: u64) -> f64 {
    let number = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..ADDITIONS {
                    black_box(number.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
    start.elapsed().as_nanos() as f64 / (threads * ADDITIONS) as f64
}
