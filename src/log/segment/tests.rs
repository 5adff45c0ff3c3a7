use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::clock::EngineTime;
use crate::error::Unavailable;
use crate::log::latch::Latch;
use crate::sync::Parker;
use crate::testing::{Fault, ManualClock, MemoryStorage, Operation};
use rustix::io::Errno;

const BYTES: u64 = 64 << 10;

fn segments(storage: &MemoryStorage) -> Segments {
    storage.create_root().expect("new");
    storage.create_folder("log/00").expect("new");
    let clock = Arc::new(ManualClock::default());
    let time = Arc::new(EngineTime::start(clock, None, None).expect("no log"));
    let unparker = Parker::new().unparker().clone();
    let shard = Arc::new(Shard::new(0, Arc::new(Latch::default()), unparker, BYTES));
    let lane = Arc::new(Lane::new(0, shard.clone(), 1 << 20, 0));
    lane.set_live_orders(100);
    Segments::new(
        Arc::new(storage.clone()),
        shard,
        Access::Cached,
        BYTES,
        vec![lane],
        FoundSegments { spares: Vec::new(), oldest_ordinal: 0, next_ordinal: 0 },
        Archive::new(None, time),
    )
}

/// The first sync of a full segment fails. Linux calls the pages clean that it left, so a second sync would succeed.
/// A later caller receives the first error, and the file's name.
#[test]
fn a_failed_sync_of_a_full_segment_is_remembered() {
    let storage = MemoryStorage::new();
    let segments = segments(&storage);
    let (first, second) = (segments.take().expect("room"), segments.take().expect("room"));
    segments.turn_to(&first, None);
    first.file.write_at(&[1; 4096], 0).expect("room");
    segments.turn_to(&second, Some(first));
    storage.set_fault_hook(Some(Arc::new(|call| match call.operation {
        Operation::Sync => Fault::Error(io::ErrorKind::Other),
        _ => Fault::None,
    })));
    assert!(segments.sync_left().is_err());
    storage.set_fault_hook(None);
    for synced in [segments.sync_left(), segments.sync_written(), segments.sync_left()] {
        let error = synced.expect_err("it is not known to be durable");
        assert_eq!(error.path, "log/00/0000000000.segment");
    }
}

#[test]
fn only_the_first_spares_are_open_and_the_next_one_is_opened_in_time() {
    let storage = MemoryStorage::new();
    let segments = segments(&storage);
    while segments.provide().expect("room") == Provided::One {}
    let open = || {
        let spares = segments.spares.lock();
        let open: Vec<_> = spares.segments.iter().map(|spare| spare.file.is_some()).collect();
        open
    };
    assert!(open().len() > 10);
    assert_eq!(open().iter().filter(|is_open| **is_open).count(), SPARES_OPEN_MAX);
    for ordinal in 0..20 {
        assert_eq!(segments.take().expect("a spare").ordinal, ordinal);
        segments.provide().expect("room");
        assert!(open().iter().take(SPARES_OPEN_MAX).all(|is_open| *is_open));
        assert_eq!(open().iter().filter(|is_open| **is_open).count(), SPARES_OPEN_MAX);
    }
}

/// A retry after a shortage goes on with the folder's sync, and leaves no gap wherever a crash comes.
#[test]
fn a_shortage_at_the_sync_of_the_folder_keeps_the_name_that_was_given() {
    let storage = MemoryStorage::new();
    let segments = segments(&storage);
    drop(segments.take().expect("room"));
    drop(segments.take().expect("room"));
    segments.release_before(1);
    storage.set_fault_hook(Some(Arc::new(|call| match call.operation {
        Operation::SyncFolder => Fault::System(rustix::io::Errno::MFILE.raw_os_error()),
        _ => Fault::None,
    })));
    for _ in 0..3 {
        assert_eq!(segments.provide().expect("not latched"), Provided::Short);
    }
    let names = storage.list_files();
    assert_eq!(names, ["log/00/0000000001.segment", "log/00/0000000002.segment"]);
    storage.set_fault_hook(None);
    assert_eq!(segments.provide().expect("room"), Provided::One);
    assert_eq!(segments.take().expect("a spare").ordinal, 2);
    assert_eq!(storage.list_files(), names);
    assert_eq!(segments.shard.shortages(), 3);
}

/// Makes every call of one kind fail, and counts them.
fn fail(storage: &MemoryStorage, operation: Operation, errno: Errno) -> Arc<AtomicU32> {
    let calls = Arc::new(AtomicU32::new(0));
    let counts = calls.clone();
    storage.set_fault_hook(Some(Arc::new(move |call| {
        if call.operation != operation {
            return Fault::None;
        }
        counts.fetch_add(1, Ordering::Relaxed);
        Fault::System(errno.raw_os_error())
    })));
    calls
}

fn provide_all(segments: &Segments) {
    while segments.provide().expect("room") == Provided::One {}
}

fn ordinals_of(segments: &Segments) -> Vec<u64> {
    segments.spares.lock().segments.iter().map(|spare| spare.ordinal).collect()
}

fn full() -> io::Result<()> {
    Err(io::ErrorKind::StorageFull.into())
}

/// A sync of the folder that was begun and failed may have lost the name, and a second one would succeed.
#[test]
fn a_failed_sync_of_the_folder_is_never_tried_again() {
    for errno in [Errno::INTR, Errno::NOMEM, Errno::AGAIN, Errno::NOSPC, Errno::DQUOT, Errno::IO] {
        let storage = MemoryStorage::new();
        let segments = segments(&storage);
        let calls = fail(&storage, Operation::SyncFolder, errno);
        let error = segments.provide().expect_err("a failed sync");
        assert_eq!((error.operation, error.path.as_str()), ("sync", "log/00"), "{errno:?}");
        let error = segments.take().expect_err("the writer comes before the latch");
        assert!(!error.is_full() && !error.is_passing(), "{errno:?}: {error}");
        let error = segments.provide().expect_err("it is remembered");
        assert!(error.to_string().contains(&io::Error::from(errno).to_string()), "{error}");
        assert_eq!(calls.load(Ordering::Relaxed), 1, "{errno:?}");
    }
}

/// The same for the sync after a spare was removed. One that was not begun is tried before the next removal.
#[test]
fn a_failed_sync_after_a_spare_was_removed_is_never_tried_again() {
    let storage = MemoryStorage::new();
    let segments = segments(&storage);
    provide_all(&segments);
    let spares = ordinals_of(&segments);
    let calls = fail(&storage, Operation::SyncFolder, Errno::MFILE);
    for _ in 0..2 {
        let waits = segments.make_room(full).expect("not latched").expect_err("no room yet");
        assert!(is_full(&waits), "{waits}");
        assert_eq!(ordinals_of(&segments), spares[..spares.len() - 1]);
    }
    assert_eq!((calls.load(Ordering::Relaxed), segments.shard.shortages()), (2, 2));
    let calls = fail(&storage, Operation::SyncFolder, Errno::INTR);
    for _ in 0..2 {
        let error = segments.make_room(full).expect_err("a failed sync");
        assert!(!error.is_full() && !error.is_passing(), "{error}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// A full copy-on-write disk, or a shortage, may refuse even the removal. The spare stays one then.
#[test]
fn a_spare_that_cannot_be_removed_for_now_is_kept() {
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::INTR, Errno::NOMEM] {
        let storage = MemoryStorage::new();
        let segments = segments(&storage);
        provide_all(&segments);
        let spares = ordinals_of(&segments);
        fail(&storage, Operation::Remove, errno);
        segments.make_room(full).expect("not latched").expect_err("no room yet");
        assert_eq!(ordinals_of(&segments), spares, "{errno:?}");
        storage.set_fault_hook(None);
        provide_all(&segments);
        for ordinal in 0..spares.len() as u64 + 2 {
            assert_eq!(segments.take().expect("room").ordinal, ordinal, "{errno:?}");
        }
    }
    let storage = MemoryStorage::new();
    let segments = segments(&storage);
    provide_all(&segments);
    fail(&storage, Operation::Remove, Errno::IO);
    segments.make_room(full).expect_err("the disk fails");
}

/// What the keeper prepares may take the last room. When it is gone again, the block has room and every spare
/// is kept.
#[test]
fn a_spare_is_given_up_only_if_the_block_has_no_room_while_nothing_is_prepared() {
    let storage = MemoryStorage::new();
    let segments = segments(&storage);
    provide_all(&segments);
    let spares = ordinals_of(&segments);
    segments.make_room(|| Ok(())).expect("not latched").expect("written");
    assert_eq!(ordinals_of(&segments), spares);
    let writes = Cell::new(0);
    let written = segments.make_room(|| match writes.replace(writes.get() + 1) {
        0 => full(),
        _ => Ok(()),
    });
    written.expect("not latched").expect("written");
    assert_eq!((writes.get(), ordinals_of(&segments).len()), (2, spares.len() - 1));
}

/// The keeper opens a spare that the writer might give up: the writer waits until it is open.
#[test]
fn a_spare_that_is_being_opened_is_not_removed() {
    let storage = MemoryStorage::new();
    let segments = Arc::new(segments(&storage));
    segments.lanes[0].set_live_orders(0);
    provide_all(&segments);
    segments.spares.lock().segments.back_mut().expect("a spare").file = None;
    let writer = segments.clone();
    storage.set_fault_hook(Some(Arc::new(move |call| {
        let is_free = call.operation == Operation::Open && writer.next.try_lock().is_some();
        if is_free {
            let written = writer.make_room(full);
            drop(written.expect("the spare is removed").expect_err("no room"));
        }
        Fault::None
    })));
    segments.provide().expect("healthy");
    assert!(segments.spares.lock().segments.back().is_some_and(|spare| spare.file.is_some()));
    storage.set_fault_hook(None);
}

/// Orders end, and what is there is enough again: the disk is not known to be full any more.
#[test]
fn enough_spares_end_what_was_known_of_a_full_disk() {
    let storage = MemoryStorage::new();
    let segments = segments(&storage);
    for _ in 0..4 {
        assert_eq!(segments.provide().expect("room"), Provided::One);
    }
    for (errno, lacking) in [(Errno::NOSPC, Room::DiskFull), (Errno::MFILE, Room::Short)] {
        segments.lanes[0].set_live_orders(100);
        fail(&storage, Operation::Create, errno);
        assert_ne!(segments.provide().expect("not latched"), Provided::One);
        assert_eq!(segments.spares.lock().room, lacking);
        segments.lanes[0].set_live_orders(0);
        assert_eq!(segments.provide().expect("enough"), Provided::Enough);
        assert_eq!(segments.spares.lock().room, Room::Enough);
    }
}

/// Spares that cannot be opened are of no use: new orders are refused by name while the writer may come to
/// need one, and not before.
#[test]
fn a_first_spare_that_cannot_be_opened_refuses_new_orders() {
    let storage = MemoryStorage::new();
    let segments = segments(&storage);
    provide_all(&segments);
    // There are more than enough, so that it is not their number which refuses.
    segments.lanes[0].set_live_orders(50);
    fail(&storage, Operation::Open, Errno::MFILE);
    for _ in 0..SPARES_OPEN_MAX {
        assert_eq!(segments.shard.space.check(), Ok(()));
        segments.take().expect("an open one");
        assert_eq!(segments.provide().expect("not latched"), Provided::Short);
    }
    let refused = Err(Unavailable::SystemShort { segment_bytes: BYTES });
    assert_eq!(segments.shard.space.check(), refused);
    let error = segments.take().expect_err("it cannot be opened");
    assert!(error.is_passing(), "{error}");
    assert_eq!(segments.shard.space.check(), refused);
    storage.set_fault_hook(None);
    provide_all(&segments);
    assert_eq!(segments.shard.space.check(), Ok(()));
}

#[test]
fn a_shortage_is_distinguished_from_a_failure() {
    let error = |errno: Errno| SegmentError::new("open", "x")(errno.into());
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::INTR] {
        assert!(error(errno).is_passing() && !error(errno).is_full(), "{errno:?}");
    }
    for errno in [Errno::IO, Errno::ROFS, Errno::NOENT, Errno::ACCESS, Errno::NXIO] {
        assert!(!error(errno).is_passing() && !error(errno).is_full(), "{errno:?}");
    }
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        assert!(!error(errno).is_passing() && error(errno).is_full(), "{errno:?}");
    }
}
