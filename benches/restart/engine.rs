//! The engine, each time in a process of its own: this program with other variables.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbuster::{Adjust, Engine, Options, Order, RequestKey};

use crate::memory::rss_bytes;
use crate::work::{buyer, key};
use crate::{Measured, ORDERS, Parts, files};

const PART: &str = "DOORBUSTER_RESTART_PART";
const FOLDER: &str = "DOORBUSTER_RESTART_FOLDER";
const FILL: &str = "fill";
const FROM_LOG: &str = "from log";
const FROM_CHECKPOINT: &str = "from checkpoint";
/// The same from files in memory.
const MEMORY: &str = " in memory";
const SKU: u64 = 1;

/// Whether this process is to play a part of the measurement.
pub(crate) fn is_child() -> bool {
    std::env::var_os(PART).is_some()
}

pub(crate) fn measure(folder: &Path, orders: u64) -> Measured {
    let filled = run(FILL, folder, orders);
    // Before the start from the disk: that leaves a checkpoint behind.
    let reading_log = files::read(folder);
    let from_log_in_memory = run(&format!("{FROM_LOG}{MEMORY}"), folder, orders);
    let from_log = run(FROM_LOG, folder, orders);
    let reading_snapshot = files::read(folder);
    let from_checkpoint_in_memory = run(&format!("{FROM_CHECKPOINT}{MEMORY}"), folder, orders);
    let from_checkpoint = run(FROM_CHECKPOINT, folder, orders);
    Measured {
        resident_bytes: filled[0],
        log_bytes: filled[1],
        snapshot_bytes: from_log[1],
        from_log: Duration::from_micros(from_log[0]),
        from_snapshot: Duration::from_micros(from_checkpoint[0]),
        parts: Some(Parts {
            reading_log,
            log_in_memory: Duration::from_micros(from_log_in_memory[0]),
            reading_snapshot,
            snapshot_in_memory: Duration::from_micros(from_checkpoint_in_memory[0]),
        }),
    }
}

/// Has a child play a part; returns the two numbers that it prints.
fn run(part: &str, folder: &Path, orders: u64) -> [u64; 2] {
    let child = Command::new(std::env::current_exe().expect("this program"))
        .env(PART, part)
        .env(FOLDER, folder)
        .env(ORDERS, orders.to_string())
        .stderr(Stdio::inherit())
        .output()
        .expect("a child");
    assert!(child.status.success(), "{part}: {}", child.status);
    let told = String::from_utf8(child.stdout).expect("UTF-8");
    let mut numbers = told.split_whitespace().map(|it| it.parse().expect("a number"));
    [(); 2].map(|()| numbers.next().expect("two numbers"))
}

/// Plays the part that the variables tell, and prints two numbers.
pub(crate) fn child() {
    let mut began = Instant::now();
    let variable = |name: &str| std::env::var(name).expect("the parent set it");
    let orders = variable(ORDERS).parse().expect("a number");
    let (folder, part) = (variable(FOLDER), variable(PART));
    let mut options = Options::new(&folder);
    let part = part
        .strip_suffix(MEMORY)
        .inspect(|_| {
            options = Options::on_storage(Arc::new(files::in_memory(folder.as_ref())));
            began = Instant::now();
        })
        .unwrap_or(&part);
    // No checkpoint but those that are asked for.
    let options = options.checkpoint_bytes(1 << 50);
    let before_bytes = rss_bytes();
    let engine = Engine::open(options).expect("opens");
    let took_us = began.elapsed().as_micros();
    if part == FILL {
        fill(&engine, orders);
        let bytes = rss_bytes().saturating_sub(before_bytes);
        println!("{bytes} {}", engine.stats().block_bytes);
    } else {
        let report = engine.recovery();
        assert_eq!(report.checkpoint.is_some(), part == FROM_CHECKPOINT);
        let taken = engine.checkpoint().expect("open").wait().expect("taken");
        println!("{took_us} {}", taken.bytes);
    }
    check(&engine, orders);
    engine.close().expect("closed");
}

fn fill(engine: &Engine, orders: u64) {
    let add = Adjust::add(u32::try_from(orders).expect("fewer than units are")).key(1);
    let _ = engine.stock(SKU, add).expect("room").wait().expect("durable");
    let mut last = None;
    for request in 0..orders {
        let order = order(request);
        last = Some(loop {
            match engine.place(&order) {
                Ok(placed) => break placed,
                // The log is behind.
                Err(error) => engine.ready().wait().unwrap_or_else(|_| panic!("{error}")),
            }
        });
    }
    if let Some(last) = last {
        assert!(last.wait().expect("durable").held().is_some(), "there is enough");
    }
}

fn order(request: u64) -> Order {
    // Held until the last part has looked.
    let held_for = Duration::from_secs(24 * 3600);
    Order::new(buyer(request), RequestKey::new(key(request).into())).line(SKU, 1).hold_for(held_for)
}

/// Every order is there, and a retry receives its first outcome.
fn check(engine: &Engine, orders: u64) {
    assert_eq!(engine.stats().orders, orders);
    let levels = engine.levels(SKU).expect("known");
    assert_eq!((levels.available, levels.held), (0, orders as i64));
    for request in (0..orders).step_by(10_007) {
        let again = engine.place(order(request)).expect("it has an order");
        assert!(again.wait().expect("durable").held().is_some_and(|held| held.replayed));
    }
}
