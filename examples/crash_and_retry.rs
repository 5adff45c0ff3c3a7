//! A process dies in the middle of a sale. The next one opens the folder, and clients retry with their keys.
//!
//! ```sh
//! cargo run --example crash_and_retry
//! ```
//!
//! The program starts itself as a child process, which sells and then aborts without closing the engine.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use doorbuster::{Adjust, Engine, Options, Order, OrderId, Placed, RequestKey, SkuId};

const TICKET: SkuId = SkuId::new(1);
const STOCK: u32 = 100;

type Failure = Box<dyn std::error::Error>;

fn open(folder: &Path) -> Result<Engine, Failure> {
    Ok(Engine::open(Options::new(folder).segment_bytes(1 << 20))?)
}

fn order(buyer: u64) -> Order {
    Order::new(buyer, RequestKey::from_text("tap 1")).line(TICKET, 1)
}

fn main() -> Result<(), Failure> {
    match std::env::args_os().nth(1) {
        Some(folder) => sell_and_abort(Path::new(&folder)),
        None => survive(),
    }
}

/// The child: prints each order that is durable, and aborts with orders in flight.
fn sell_and_abort(folder: &Path) -> Result<(), Failure> {
    let engine = open(folder)?;
    engine.stock(TICKET, Adjust::add(STOCK).key(RequestKey::from_text("delivery 1")))?.wait()?;
    for buyer in 1..=40 {
        let placed = engine.place(order(buyer))?.wait()?;
        let held = placed.held().ok_or("tickets are left")?;
        println!("{buyer} {}", held.order.get());
    }
    // No caller waits for these: after the crash each is there as a whole, or not at all.
    for buyer in 41..=60 {
        drop(engine.place(order(buyer))?);
    }
    std::process::abort();
}

/// The parent: opens the folder that the child left, and retries every request.
fn survive() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut child =
        Command::new(std::env::current_exe()?).arg(folder.path()).stdout(Stdio::piped()).spawn()?;
    let told = child.stdout.take().ok_or("the child's output is a pipe")?;
    let mut acknowledged = Vec::new();
    for line in BufReader::new(told).lines() {
        let line = line?;
        let (buyer, id) = line.split_once(' ').ok_or("a buyer and an order")?;
        acknowledged.push((buyer.parse::<u64>()?, OrderId::from_u64(id.parse()?)));
    }
    println!("the child ended: {}", child.wait()?);

    let engine = open(folder.path())?; // recovers
    for (buyer, id) in &acknowledged {
        // A retry receives the order that the child acknowledged, under the same id.
        let placed = engine.place(order(*buyer))?.wait()?;
        let held = placed.held().ok_or("an acknowledged order is never lost")?;
        assert!(held.replayed && held.order == *id);
    }
    println!("{} acknowledged orders, none lost", acknowledged.len());

    // The requests in flight: a retry makes the order if the crash took it. Never a second one.
    let mut replayed = 0;
    for buyer in 41..=60 {
        let Placed::Held(held) = engine.place(order(buyer))?.wait()? else {
            return Err("tickets are left".into());
        };
        replayed += u32::from(held.replayed);
    }
    println!("20 requests in flight: the crash kept {replayed}, the retries made the rest");

    let levels = engine.levels(TICKET).ok_or("the SKU is known")?;
    assert_eq!(levels.available, i64::from(STOCK) - 60, "nothing oversold, nothing doubled");
    println!("available: {} of {STOCK}", levels.available);
    engine.close()?;
    Ok(())
}
