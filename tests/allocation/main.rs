//! `place` allocates nothing on an engine that was sized for its load. An allocator that counts shows it.
//!
//! This file has one test, so that nothing else runs in its process.

#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use doorbuster::testing::{MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, Adjusted, Options, Order, Placed, RequestKey, SkuId};

/// Counts what the calling thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no locals any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every method hands its arguments on to the system's allocator unchanged, whose contract is
// the same; counting writes a thread's own `Cell`, which has no destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns how often `work` allocated on this thread.
fn allocations<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.get();
    let done = work();
    (ALLOCATIONS.get() - before, done)
}

const HOT: SkuId = SkuId::new(1);
/// How many orders are placed before they are made durable together: 8 KiB of log a partition. The engine is
/// stepped, so that no stall of a writer makes it more.
const ROUND: u64 = 8192;
const ROUNDS: u64 = 15;
/// With the order that is placed before the first round.
const ORDERS: u64 = ROUND * ROUNDS + 1;
/// Refusals and retries that are counted.
const REPEATS: u64 = 1000;

fn order(buyer: u64) -> Order {
    Order::new(buyer, RequestKey::new(1)).line(HOT, 1)
}

/// Places a round of orders and makes it durable. Returns how often the calls allocated.
fn place_round(stepped: &mut SteppedEngine, buyers: Range<u64>) -> u64 {
    let mut commits = Vec::with_capacity(ROUND as usize);
    let (allocated, ()) = allocations(|| {
        for buyer in buyers {
            commits.push(stepped.engine().place(order(buyer)).expect("there is room"));
        }
    });
    stepped.run_until_idle();
    for commit in commits {
        assert!(commit.wait().expect("durable").held().is_some(), "there is a unit for each");
    }
    allocated
}

#[test]
fn placing_an_order_of_one_line_allocates_nothing() {
    let options = Options::on_storage(Arc::new(MemoryStorage::new()))
        .segment_bytes(16 << 20)
        .log_backlog_bytes_max(64 << 20)
        .orders_reserved(ORDERS);
    let mut stepped = SteppedEngine::open(options).expect("an empty storage opens");
    let add = Adjust::add(ORDERS as u32).key(RequestKey::new(1));
    let stocked = stepped.engine().stock(HOT, add).expect("valid");
    stepped.run_until_idle();
    assert!(matches!(stocked.wait(), Ok(Adjusted::Done { .. })));

    // The first order, so that the calling thread has what it allocates once.
    place_round(&mut stepped, 0..1);
    for round in 0..ROUNDS {
        let first = 1 + round * ROUND;
        let allocated = place_round(&mut stepped, first..first + ROUND);
        assert_eq!(allocated, 0, "allocations in {ROUND} calls, round {round}");
    }

    let engine = stepped.engine();
    let (allocated, ()) = allocations(|| {
        for buyer in ORDERS..ORDERS + REPEATS {
            let refused = engine.place(order(buyer)).expect("open");
            assert!(matches!(refused.peek(), Some(Placed::Refused(_))));
        }
    });
    assert_eq!(allocated, 0, "allocations in {REPEATS} refusals");
    let sku = engine.sku(HOT).expect("it has stock");
    let (allocated, ()) = allocations(|| {
        for buyer in ORDERS..ORDERS + REPEATS {
            let refused = sku.place(order(buyer)).expect("open");
            assert!(matches!(refused.peek(), Some(Placed::Refused(_))));
        }
    });
    assert_eq!(allocated, 0, "allocations in {REPEATS} refusals by handle");
    let (allocated, ()) = allocations(|| {
        for buyer in 0..REPEATS {
            let replayed = engine.place(order(buyer)).expect("open").wait().expect("durable");
            assert!(replayed.held().is_some_and(|held| held.replayed));
        }
    });
    assert_eq!(allocated, 0, "allocations in {REPEATS} retries");
}
