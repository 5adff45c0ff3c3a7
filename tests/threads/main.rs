//! Many threads on one engine, on a real disk: there must be an order in which all their answers are true, and the
//! sums must add up.

mod hammer;
mod history;
mod limits;
mod moved;
mod sale;
#[path = "../support/seeds.rs"]
mod seeds;
mod short;
mod waiting;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use doorbuster::{Durability, Options};

/// More than there are processors.
const THREADS: u64 = 8;

/// Numbers the moments at which calls began and returned, in one order.
#[derive(Default)]
struct Moments(AtomicU64);

impl Moments {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Ends the process with a message. Other threads wait at a barrier, where a panic would leave them. The message
/// goes to the standard error itself, because the test harness would not show it.
fn abort(why: &str, rerun: &seeds::Rerun) -> ! {
    let _ = writeln!(std::io::stderr(), "{why}\n{rerun}");
    std::process::abort()
}

fn options(folder: &Path, durability: Durability) -> Options {
    Options::new(folder).partitions(4).log_shards(2).segment_bytes(1 << 20).durability(durability)
}
