//! What orders cost in memory and how long a restart takes, beside Redis on the same machine.
//!
//! `cargo bench --bench restart`. The same orders as in the bench `peers`, of one unit of one SKU each, idempotent
//! by (buyer, key), are put into both; each is then started anew from its log and from its snapshot, always as a
//! process of its own, and must have every order. `DOORBUSTER_RESTART_ORDERS` says how many: 800,000 if it does
//! not. Redis is `redis-server` from the path, on a free port, with a folder that is removed afterwards; where it
//! is not installed, it is left out.
//!
//! Beside doorbuster's starts stand their parts: reading its files past the page cache, and the same start from
//! files in memory, where there is nothing left but to build the tables. The files are read whole, as an open
//! does: what stands behind the log's end tells a torn write from damage.
//!
//! Prints Markdown. What is unfair is printed below the table.

mod engine;
mod files;
#[path = "../../examples/trials/shared/machine.rs"]
mod machine;
#[path = "../../examples/trials/shared/memory.rs"]
mod memory;
mod redis;
#[path = "../shared/resp.rs"]
#[allow(dead_code, reason = "another bench uses the rest")]
mod resp;
#[path = "../peers/work.rs"]
#[allow(dead_code, reason = "another bench uses the rest")]
mod work;

use std::time::Duration;

const ORDERS_DEFAULT: u64 = 800_000;
const ORDERS: &str = "DOORBUSTER_RESTART_ORDERS";

/// What one of the two took.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Resident memory that the orders added.
    resident_bytes: u64,
    log_bytes: u64,
    snapshot_bytes: u64,
    /// From the start of the process until it answers.
    from_log: Duration,
    from_snapshot: Duration,
    parts: Option<Parts>,
}

/// What a start cannot do without, each by itself.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// Reading the files, at the disk's own speed.
    reading_log: Duration,
    reading_snapshot: Duration,
    /// The same start from files in memory: building the tables.
    log_in_memory: Duration,
    snapshot_in_memory: Duration,
}

fn main() {
    if engine::is_child() {
        return engine::child();
    }
    let orders = match std::env::var(ORDERS) {
        Ok(orders) => orders.parse().unwrap_or_else(|_| panic!("{ORDERS}: a number of orders")),
        Err(_) => ORDERS_DEFAULT,
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ours = engine::measure(&folder.path().join("doorbuster"), orders);
    let theirs = redis::measure(&folder.path().join("redis"), orders);
    print(folder.path(), orders, ours, theirs);
}

fn print(folder: &std::path::Path, orders: u64, ours: Measured, theirs: Option<Measured>) {
    for (what, value) in machine::describe(folder) {
        println!("- {what}: {value}");
    }
    println!("\n| {orders} orders | doorbuster | Redis |\n|---|---|---|");
    let row = |what: &str, tell: &dyn Fn(Measured) -> String| {
        let theirs = theirs.map_or_else(|| "not measured".into(), tell);
        println!("| {what} | {} | {theirs} |", tell(ours));
    };
    let each = |bytes: u64| format!("{:.0}", bytes as f64 / orders as f64);
    let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
    row("resident memory, bytes an order", &|it| each(it.resident_bytes));
    row("log, bytes an order", &|it| each(it.log_bytes));
    row("snapshot, bytes an order", &|it| each(it.snapshot_bytes));
    row("start from the log, s", &|it| seconds(it.from_log));
    row("start from the snapshot, s", &|it| seconds(it.from_snapshot));
    if let Some(parts) = ours.parts {
        let row = |what: &str, time: Duration| println!("| {what}, s | {} | |", seconds(time));
        row("reading all files before the start from the log, and nothing else", parts.reading_log);
        row("the same start from a log in memory", parts.log_in_memory);
        row(
            "reading all files before the start from the snapshot, and nothing else",
            parts.reading_snapshot,
        );
        row("the same start from a snapshot in memory", parts.snapshot_in_memory);
    }
    println!(
        "\nUnfair to Redis: it keeps a hash from (buyer, key) to order and nothing else by choice of the script, in a \
         general store; it loads with one thread. Unfair to doorbuster: an order has a state, a deadline and a \
         timer; its log is read past the page cache and its ends are synced before it answers, where Redis reads \
         pages that it has just written."
    );
}
