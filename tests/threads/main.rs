//! Many threads on one engine, on a real disk: what they are answered must have an order in which it
//! makes sense, and the sums must add up.

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

/// One order of all moments at which something was called or answered.
#[derive(Default)]
struct Moments(AtomicU64);

impl Moments {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Fails where other threads wait at a barrier, and a panic would leave them there. Past the harness, which
/// would keep the words to itself.
fn abort(why: &str, rerun: &seeds::Rerun) -> ! {
    let _ = writeln!(std::io::stderr(), "{why}\n{rerun}");
    std::process::abort()
}

fn options(folder: &Path, durability: Durability) -> Options {
    Options::new(folder).partitions(4).log_shards(2).segment_bytes(1 << 20).durability(durability)
}
