use super::*;
use crate::clock::EngineTime;
use crate::log::latch::Latch;
use crate::sync::Parker;
use crate::testing::{Fault, ManualClock, MemoryStorage, Operation};

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

/// The first sync of a full segment fails; what it left is called clean by Linux, so that a second sync would
/// succeed. Whoever asks later receives the first error, and the file's name.
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

#[test]
fn a_shortage_is_told_from_a_failure() {
    use rustix::io::Errno;
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
