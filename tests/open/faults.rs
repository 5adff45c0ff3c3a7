//! A folder whose making, opening or closing was interrupted at any call, and a disk without room.

use std::collections::BTreeSet;
use std::sync::Arc;

use doorbuster::error::OrderError;
use doorbuster::testing::{Fault, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, OpenError, Order, RequestKey};
use fastrand::Rng;

use crate::samples::{ORDERS, SKU, any_shape, assert_complete, fill, filled, in_memory, order};

/// Stops the machine in the `nth` call from now on.
fn stop_in_call(storage: &MemoryStorage, nth: u64) {
    let at = storage.calls() + nth;
    storage.set_fault_hook(Some(Arc::new(move |call| match call.sequence == at {
        true => Fault::Crash,
        false => Fault::None,
    })));
}

/// Returns what a killed process, and what several losses of power, leave of a stopped machine.
fn images(storage: &MemoryStorage) -> Vec<MemoryStorage> {
    let copy = storage.deep_copy();
    let mut random = Rng::with_seed(1);
    let mut images = vec![storage.kill(), copy.crash(&mut |_| 0), copy.crash(&mut |_| 1)];
    images.extend((0..3).map(|_| copy.crash(&mut |below| random.u64(..below))));
    images
}

#[test]
fn making_a_folder_may_stop_in_any_call() {
    let mut nth = 0;
    loop {
        let storage = MemoryStorage::new();
        stop_in_call(&storage, nth);
        let opened = SteppedEngine::open(in_memory(&storage));
        if opened.is_ok() && storage.calls() <= nth {
            break;
        }
        drop(opened);
        for (which, image) in images(&storage).into_iter().enumerate() {
            // Another attempt, in the same shape or in another.
            for (partitions, shards) in [(4, 2), (2, 1)] {
                let image = image.deep_copy();
                let options = in_memory(&image).partitions(partitions).log_shards(shards);
                match SteppedEngine::open(options) {
                    // The folder was finished, so its shape counts.
                    Err(OpenError::ShapeMismatch { .. }) => {}
                    Err(error) => panic!("call {nth}, image {which}: {error}"),
                    Ok(engine) => {
                        assert_eq!(engine.levels(SKU), None);
                        engine.close().expect("closes");
                    }
                }
                let mut engine = SteppedEngine::open(any_shape(&image)).expect("opens again");
                fill(&mut engine);
                assert_complete(&engine);
                drop(engine);
                assert_complete(&SteppedEngine::open(any_shape(&image)).expect("and again"));
            }
        }
        nth += 1;
    }
    assert!(nth > 40, "making a folder takes more calls than {nth}");
}

#[test]
fn opening_a_folder_may_stop_in_any_call() {
    let start = filled();
    let mut nth = 0;
    loop {
        let storage = start.deep_copy();
        stop_in_call(&storage, nth);
        let opened = SteppedEngine::open(in_memory(&storage));
        if opened.is_ok() && storage.calls() <= nth {
            break;
        }
        drop(opened);
        for (which, image) in images(&storage).into_iter().enumerate() {
            let engine = SteppedEngine::open(in_memory(&image));
            let engine =
                engine.unwrap_or_else(|error| panic!("call {nth}, image {which}: {error}"));
            assert_complete(&engine);
        }
        nth += 1;
    }
    assert!(nth > 20, "an open makes more calls than {nth}");
}

#[test]
fn working_in_a_folder_may_stop_in_any_call() {
    let mut nth = 0;
    loop {
        let storage = MemoryStorage::new();
        let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
        stop_in_call(&storage, nth);
        let at = storage.calls() + nth;
        let mut told = Vec::new();
        if let Ok(added) = engine.stock(SKU, Adjust::add(100).key(1)) {
            engine.run_until_idle();
            told.push(added.is_durable());
        }
        for buyer in 0..ORDERS {
            let Ok(placed) = engine.place(order(buyer)) else { break };
            if placed.peek().and_then(|placed| placed.held()).is_none() {
                break;
            }
            engine.run_until_idle();
            told.push(placed.is_durable());
        }
        if told.len() as u64 == ORDERS + 1 && storage.calls() <= at {
            break;
        }
        let durable = told.iter().filter(|told| **told).count() as u64;
        assert!(told.is_sorted_by(|earlier, later| earlier >= later), "one after the other");
        drop(engine);
        for (which, image) in images(&storage).into_iter().enumerate() {
            let engine = SteppedEngine::open(in_memory(&image));
            let mut engine =
                engine.unwrap_or_else(|error| panic!("call {nth}, image {which}: {error}"));
            let held = engine.levels(SKU).map_or(0, |levels| levels.held as u64);
            let there = u64::from(engine.levels(SKU).is_some()) + held;
            assert!(there >= durable, "call {nth}, image {which}: {there} of {durable}");
            fill(&mut engine);
            assert_complete(&engine);
        }
        nth += 1;
    }
    assert!(nth > 20, "{ORDERS} orders make more calls than {nth}");
}

/// A caller received an order's id before its record was durable, and a crash took the order back. A host that kept
/// the id must not find another buyer's order under it (rule R3).
#[test]
fn an_id_that_a_crash_took_back_is_never_given_again() {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
    fill(&mut engine);
    let mut storage = storage;
    let (mut given, mut lost) = (BTreeSet::new(), Vec::new());
    for life in 0..8_u64 {
        for nth in 0..6 {
            let order = Order::new(nth, RequestKey::new(u128::from(life + 2))).line(SKU, 1);
            let placed = engine.place(order).expect("an answer");
            let id = placed.peek().and_then(|placed| placed.held()).expect("held").order;
            assert!(given.insert(id), "life {life}: {id} was given before");
            if nth < life % 3 {
                engine.run_until_idle();
            }
            if !placed.is_durable() {
                lost.push(id);
            }
        }
        if life % 4 == 3 {
            lost.clear();
            engine.close().expect("closes");
        } else {
            storage = storage.kill();
            drop(engine);
        }
        engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
        for id in &lost {
            assert_eq!(
                engine.order(*id).expect_err("it was never durable"),
                OrderError::UnknownOrder { order: *id }
            );
        }
    }
}

#[test]
fn closing_a_folder_may_stop_in_any_call() {
    let mut nth = 0;
    loop {
        let storage = MemoryStorage::new();
        let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
        fill(&mut engine);
        stop_in_call(&storage, nth);
        let at = storage.calls() + nth;
        let closed = engine.close();
        if storage.calls() <= at {
            closed.expect("nothing was in its way");
            break;
        }
        for (which, image) in images(&storage).into_iter().enumerate() {
            let engine = SteppedEngine::open(in_memory(&image));
            let engine =
                engine.unwrap_or_else(|error| panic!("call {nth}, image {which}: {error}"));
            assert_complete(&engine);
        }
        nth += 1;
    }
    assert!(nth > 4, "a close makes more calls than {nth}");
}

#[test]
fn a_disk_without_room_is_named_and_leaves_nothing_in_the_way() {
    let mut capacity = 0;
    let mut refused = 0;
    loop {
        let storage = MemoryStorage::new();
        storage.set_capacity_bytes(Some(capacity));
        match SteppedEngine::open(in_memory(&storage)) {
            Ok(_) => break,
            Err(OpenError::DiskFull { path, .. }) => {
                assert!(path.starts_with("memory"), "{path:?}");
                refused += 1;
            }
            Err(other) => panic!("with {capacity} bytes: {other:?}"),
        }
        storage.set_capacity_bytes(None);
        let mut engine = SteppedEngine::open(in_memory(&storage)).expect("there is room now");
        fill(&mut engine);
        assert_complete(&engine);
        capacity += 1_000;
    }
    assert!(refused > 60, "two segments of 32 KiB need more than {capacity} bytes");
}

#[test]
fn a_full_disk_keeps_a_folder_closed_and_loses_nothing() {
    let storage = filled();
    storage.set_capacity_bytes(Some(0));
    match SteppedEngine::open(in_memory(&storage)) {
        Err(OpenError::DiskFull { path, .. }) => assert!(path.ends_with("MANIFEST"), "{path:?}"),
        other => panic!("{other:?}"),
    }
    storage.set_capacity_bytes(None);
    assert_complete(&SteppedEngine::open(in_memory(&storage)).expect("opens"));
}
