//! Counts the instructions of each verb with valgrind's callgrind, and compares them with a bound.
//!
//! A count does not depend on the machine's load. It depends on the compiler, so the bounds have some room. The engine is
//! stepped by this program, so that no other thread adds to a count; it writes to memory. Requests are built before,
//! and answers are checked after the part that is counted.
//!
//! `cargo run --release --manifest-path benches/instructions/Cargo.toml` prints a table. With `--check` the program fails
//! if a count exceeds its bound.

use std::env;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use doorbuster::testing::{MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Commit, Durability, Options, Order, OrderId, Placed, RequestKey, SkuId, Transition,
};

/// How many times each verb is called while it is counted.
const CALLS: u64 = 4096;
const HOT: SkuId = SkuId::new(1);
/// Its only unit is sold.
const SOLD_OUT: SkuId = SkuId::new(9);

/// A verb, the most instructions of one call, and what is called.
struct Work {
    name: &'static str,
    instructions_max: u64,
    run: fn(&mut SteppedEngine),
}

const WORKS: [Work; 10] = [
    Work { name: "place", instructions_max: 970, run: place },
    Work { name: "place by handle", instructions_max: 925, run: place_by_handle },
    Work { name: "batch of 64, an order", instructions_max: 1_060, run: batch },
    Work { name: "cart of 3 lines", instructions_max: 3_430, run: cart },
    Work { name: "refusal by handle", instructions_max: 355, run: refusal },
    Work { name: "repeat of a held key", instructions_max: 755, run: repeat },
    Work { name: "confirm", instructions_max: 800, run: confirm },
    Work { name: "cancel", instructions_max: 920, run: cancel },
    Work { name: "wait for a durable commit", instructions_max: 125, run: look },
    Work { name: "writer, a record", instructions_max: 310, run: write },
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        None => table(false),
        Some("--check") => table(true),
        Some("--run") => run(&args[1]),
        Some(other) => {
            eprintln!("{other}: unknown; no argument, or --check");
            ExitCode::from(2)
        }
    }
}

fn table(checks: bool) -> ExitCode {
    let mut is_exceeded = false;
    println!("| verb | instructions | bound |\n|---|---|---|");
    for work in &WORKS {
        let Some(counted) = count(work.name) else {
            eprintln!("valgrind cannot be run: `apt-get install valgrind`");
            return ExitCode::from(2);
        };
        let Work { name, instructions_max, .. } = work;
        println!("| {name} | {counted} | {instructions_max} |");
        is_exceeded |= counted > *instructions_max;
    }
    if checks && is_exceeded {
        eprintln!("a count exceeds its bound");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs one work under valgrind, in another process. Returns the instructions of one call.
fn count(name: &str) -> Option<u64> {
    let program = env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*counted*")
        .arg(program)
        .args(["--run", name])
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {told}");
    let collected = told.lines().find_map(|line| line.split("Collected : ").nth(1))?;
    let instructions: u64 = collected.trim().parse().ok()?;
    assert!(instructions > CALLS, "{name}: {instructions} instructions counted in all");
    Some(instructions / CALLS)
}

fn run(name: &str) -> ExitCode {
    let work = WORKS.iter().find(|work| work.name == name).expect("a work of the table");
    let mut engine = engine();
    (work.run)(&mut engine);
    ExitCode::SUCCESS
}

fn engine() -> SteppedEngine {
    let options = Options::on_storage(Arc::new(MemoryStorage::new()))
        .durability(Durability::Written)
        .orders_reserved(64 * 1024);
    let mut engine = SteppedEngine::open(options).expect("an empty folder opens");
    for sku in 1..=4_u64 {
        drop(engine.stock(sku, Adjust::add(1 << 20).key(1)).expect("takes it"));
    }
    drop(engine.stock(SOLD_OUT, Adjust::add(1).key(1)).expect("takes it"));
    engine.run_until_idle();
    drop(engine.place(Order::new(u64::MAX, key()).line(SOLD_OUT, 1)).expect("sells it"));
    // Caches, tables and buffers are as in a sale that runs.
    for buyer in 0..CALLS {
        drop(engine.place(order(1 << 32 | buyer)).expect("sells it"));
    }
    engine.run_until_idle();
    engine
}

fn key() -> RequestKey {
    RequestKey::new(1)
}

fn order(buyer: u64) -> Order {
    Order::new(buyer, key()).line(HOT, 1)
}

fn orders() -> Vec<Order> {
    (0..CALLS).map(order).collect()
}

/// Everything inside is counted, and nothing else.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

fn all_held(engine: &mut SteppedEngine, commits: Vec<Commit<Placed>>) -> Vec<OrderId> {
    engine.run_until_idle();
    let held = commits.iter().map(|commit| {
        let Some(Placed::Held(held)) = commit.peek() else { panic!("{commit:?}") };
        held.order
    });
    held.collect()
}

fn place(engine: &mut SteppedEngine) {
    let (orders, mut commits) = (orders(), Vec::with_capacity(CALLS as usize));
    counted(|| {
        for order in &orders {
            commits.push(engine.place(order).expect("sells it"));
        }
    });
    all_held(engine, commits);
}

fn place_by_handle(engine: &mut SteppedEngine) {
    let (orders, mut commits) = (orders(), Vec::with_capacity(CALLS as usize));
    let sku = engine.sku(HOT).expect("is known");
    counted(|| {
        for order in &orders {
            commits.push(sku.place(order).expect("sells it"));
        }
    });
    all_held(engine, commits);
}

fn batch(engine: &mut SteppedEngine) {
    let (orders, mut commits) = (orders(), Vec::new());
    counted(|| {
        for batch in orders.chunks(64) {
            commits.push(engine.place_batch(batch).expect("takes it"));
        }
    });
    engine.run_until_idle();
    let answers = commits.iter().filter_map(|commit| commit.peek()).flatten();
    let held = answers.filter(|answer| matches!(answer, Ok(Placed::Held(_))));
    assert_eq!(held.count() as u64, CALLS);
}

fn cart(engine: &mut SteppedEngine) {
    let orders: Vec<_> = orders().into_iter().map(|order| order.line(2, 1).line(3, 1)).collect();
    let mut commits = Vec::with_capacity(CALLS as usize);
    counted(|| {
        for order in &orders {
            commits.push(engine.place(order).expect("sells it"));
        }
    });
    all_held(engine, commits);
}

fn refusal(engine: &mut SteppedEngine) {
    let orders: Vec<_> =
        (0..CALLS).map(|buyer| Order::new(buyer, key()).line(SOLD_OUT, 1)).collect();
    let sku = engine.sku(SOLD_OUT).expect("is known");
    let mut commits = Vec::with_capacity(CALLS as usize);
    counted(|| {
        for order in &orders {
            commits.push(sku.place(order).expect("answers"));
        }
    });
    let is_refused = |commit: &Commit<Placed>| matches!(commit.peek(), Some(Placed::Refused(_)));
    assert!(commits.iter().all(is_refused));
}

fn repeat(engine: &mut SteppedEngine) {
    let orders: Vec<_> = (0..CALLS).map(|buyer| order(1 << 32 | buyer)).collect();
    let mut commits = Vec::with_capacity(CALLS as usize);
    counted(|| {
        for order in &orders {
            commits.push(engine.place(order).expect("answers"));
        }
    });
    let is_replayed = |commit: &Commit<Placed>| matches!(commit.peek(), Some(Placed::Held(held)) if held.replayed);
    assert!(commits.iter().all(is_replayed));
}

fn placed(engine: &mut SteppedEngine) -> Vec<OrderId> {
    let commits = orders().iter().map(|order| engine.place(order).expect("sells it")).collect();
    all_held(engine, commits)
}

fn end(engine: &mut SteppedEngine, verb: impl Fn(&SteppedEngine, OrderId) -> Commit<Transition>) {
    let (orders, mut commits) = (placed(engine), Vec::with_capacity(CALLS as usize));
    counted(|| {
        for order in &orders {
            commits.push(verb(engine, *order));
        }
    });
    engine.run_until_idle();
    let is_done =
        |commit: &Commit<Transition>| matches!(commit.peek(), Some(Transition::Done { .. }));
    assert!(commits.iter().all(is_done));
}

fn confirm(engine: &mut SteppedEngine) {
    end(engine, |engine, order| engine.confirm(order).expect("is there"));
}

fn cancel(engine: &mut SteppedEngine) {
    end(engine, |engine, order| engine.cancel(order).expect("is there"));
}

fn look(engine: &mut SteppedEngine) {
    let commits: Vec<_> =
        orders().iter().map(|order| engine.place(order).expect("sells it")).collect();
    engine.run_until_idle();
    let mut answers = Vec::with_capacity(CALLS as usize);
    counted(|| answers.extend(commits.into_iter().map(Commit::wait)));
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Placed::Held(_)))));
}

fn write(engine: &mut SteppedEngine) {
    let commits: Vec<_> =
        orders().iter().map(|order| engine.place(order).expect("sells it")).collect();
    counted(|| engine.run_until_idle());
    all_held(engine, commits);
}
