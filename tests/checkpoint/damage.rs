//! Checkpoints that are cut short, damaged, missing, of another engine or of a newer version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use doorbuster::testing::{Fault, MemoryStorage, Operation};
use doorbuster::{Durability, OpenError, verify_on};

use crate::history::{History, SHARDS, write_file};
use crate::same::assert_same;

/// Two checkpoints, log after each of them, and segments that were recycled.
pub(crate) fn two_checkpoints() -> History {
    let mut history = History::new(21, Durability::Synced);
    for _ in 0..5 {
        history.act_for_segments(2);
        history.checkpoint_meanwhile();
    }
    history.act_for_segments(1);
    assert!(history.recycled() > 2, "nothing was recycled");
    let left = history.storage.kill();
    history.engine = None;
    history.storage = left;
    history
}

pub(crate) fn checkpoints(storage: &MemoryStorage) -> Vec<String> {
    let names = storage.list_files().into_iter();
    names.filter(|path| path.ends_with(".checkpoint")).collect()
}

fn refused(history: &History, storage: &MemoryStorage, what: &str) -> OpenError {
    let contents = |storage: &MemoryStorage| -> Vec<_> {
        let names = storage.list_files().into_iter();
        names.map(|path| (storage.read_file(&path).expect("listed"), path)).collect()
    };
    let before = contents(storage);
    let Err(error) = history.open(storage) else { panic!("{what}: opened") };
    assert!(contents(storage) == before, "{what}: changed by an open that was refused");
    error
}

/// The story: a sector goes bad anywhere in the newest checkpoint, or the end of the file is gone.
#[test]
fn a_damaged_newest_checkpoint_falls_back_to_the_one_before() {
    let history = two_checkpoints();
    let [_, newest] = &checkpoints(&history.storage)[..] else { panic!("not two") };
    let bytes = history.storage.read_file(newest).expect("listed");
    let mut damaged_at = 0;
    for at in (0..bytes.len()).step_by(97) {
        let storage = history.storage.deep_copy();
        storage.overwrite(newest, at as u64, &[bytes[at] ^ 0x10]).expect("listed");
        let opened = history.open(&storage.deep_copy());
        let report = opened.unwrap_or_else(|error| panic!("byte {at}: {error:?}")).recovery();
        // Damage to the zeros that fill up a page goes unnoticed.
        if report.checkpoint == Some(4) {
            assert_eq!((bytes[at], report.checkpoints_damaged), (0, 0), "byte {at}");
            continue;
        }
        damaged_at += 1;
        assert_eq!((report.checkpoint, report.checkpoints_damaged), (Some(3), 1), "byte {at}");
        if damaged_at % 10 == 0 {
            assert_same(&history, &storage, &format!("byte {at}"));
        }
    }
    assert!(damaged_at > 20);
    for len in (0..bytes.len()).step_by(4096).chain([1, 100, bytes.len() - 1]) {
        let storage = history.storage.deep_copy();
        storage.remove_file(newest).expect("listed");
        write_file(&storage, newest, &bytes[..len]).expect("there is room");
        assert_eq!(assert_same(&history, &storage, &format!("cut to {len}")), Some(3));
    }
}

/// The story: the newest checkpoint was damaged, and the engine opened from the one before. The next checkpoint
/// replaces the damaged one.
#[test]
fn an_engine_that_fell_back_goes_on_and_replaces_what_was_damaged() {
    let mut history = two_checkpoints();
    let [_, newest] = &checkpoints(&history.storage)[..] else { panic!("not two") };
    history.storage.overwrite(newest, 64, &[0xA5; 64]).expect("listed");
    history.reopen().expect("falls back");
    assert_eq!(history.engine().recovery().checkpoints_damaged, 1);
    history.checkpoint_meanwhile();
    history.act_for_segments(2);
    let left = history.storage.kill();
    assert_eq!(assert_same(&history, &left, "after the fall"), Some(5));
    assert!(!checkpoints(&left).contains(newest), "{:?}", checkpoints(&left));
}

/// The story: a chunk of the newest checkpoint is damaged, and an open falls back to the one before. The machine
/// stops at the moment in which the next checkpoint counts. The head of the damaged file is whole. If that file
/// were still there, the next open would fall back to it, and would recycle the log that the older checkpoint
/// needs. Then the newest is lost. Found by the simulation, seed 2779.
#[test]
fn a_checkpoint_that_an_open_found_damaged_is_gone_before_the_next_one_counts() {
    let mut history = two_checkpoints();
    let [_, newest] = &checkpoints(&history.storage)[..] else { panic!("not two") };
    let bytes = history.storage.read_file(newest).expect("listed");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("something is in it");
    history.storage.overwrite(newest, last as u64, &[bytes[last] ^ 1]).expect("listed");
    history.reopen().expect("falls back");
    assert_eq!(history.engine().recovery().checkpoint, Some(3));
    let (named, stopped) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let tell = stopped.clone();
    history.hook(Box::new(move |operation, path| {
        if operation.is_change() && named.load(Ordering::Relaxed) {
            tell.store(true, Ordering::Relaxed);
            return Fault::Crash;
        }
        let names = operation == Operation::Rename && path.starts_with("checkpoints/");
        named.fetch_or(names, Ordering::Relaxed);
        Fault::None
    }));
    let _ = history.engine().checkpoint().expect("open");
    while !stopped.load(Ordering::Relaxed) {
        history.engine().step_checkpointer();
        for shard in 0..SHARDS {
            history.engine().step_writer(shard);
        }
    }
    history.storage = history.storage.kill();
    history.reopen().expect("from the next one");
    assert_eq!(history.engine().recovery().checkpoint, Some(5));
    history.act_for_segments(3);
    let left = history.storage.kill();
    left.remove_file("checkpoints/0000000005.checkpoint").expect("listed");
    assert_eq!(assert_same(&history, &left, "the newest is lost"), Some(3));
}

#[test]
fn without_a_whole_checkpoint_a_recycled_log_is_refused_and_a_whole_one_read() {
    let history = two_checkpoints();
    let storage = history.storage.deep_copy();
    for path in checkpoints(&storage) {
        storage.overwrite(&path, 16, &[0xA5; 64]).expect("listed");
    }
    let error = refused(&history, &storage, "both damaged");
    assert!(
        matches!(&error, OpenError::Corrupt { path, .. } if path.ends_with("0000000004.checkpoint")),
        "{error:?}"
    );
    for path in checkpoints(&storage) {
        storage.remove_file(&path).expect("listed");
    }
    let error = refused(&history, &storage, "none");
    assert!(matches!(error, OpenError::Corrupt { shard: Some(_), .. }), "{error:?}");

    let mut young = History::new(22, Durability::Synced);
    young.checkpoint_meanwhile();
    let left = young.storage.kill();
    let [only] = &checkpoints(&left)[..] else { panic!("not one") };
    left.overwrite(only, 16, &[0xA5; 64]).expect("listed");
    let engine = young.open(&left).expect("the whole log is there");
    assert_eq!((engine.recovery().checkpoint, engine.recovery().checkpoints_damaged), (None, 1));
}

/// The story: an operator puts a folder together from two backups.
#[test]
fn a_checkpoint_of_another_engine_is_refused() {
    let (history, other) = (two_checkpoints(), two_checkpoints());
    for path in checkpoints(&history.storage) {
        let storage = history.storage.deep_copy();
        storage.remove_file(&path).expect("listed");
        let foreign = other.storage.read_file(&path).expect("the same history");
        write_file(&storage, &path, &foreign).expect("there is room");
        let error = refused(&history, &storage, &path);
        assert!(
            matches!(&error, OpenError::Corrupt { damage, .. } if damage.contains("another engine")),
            "{error:?}"
        );
    }
}

/// The story: the log after a checkpoint is lost: its newest segments are gone, or rolled back to an older copy.
/// The checkpoint says how far the log was durable.
#[test]
fn a_log_that_does_not_reach_its_checkpoint_is_refused() {
    let history = two_checkpoints();
    let storage = history.storage.deep_copy();
    let names = storage.list_files();
    for path in names.iter().filter(|path| path.starts_with("log/00/")) {
        let len = storage.read_file(path).expect("listed").len();
        storage.overwrite(path, 0, &vec![0; len]).expect("listed");
    }
    let error = refused(&history, &storage, "rolled back");
    assert!(matches!(error, OpenError::Corrupt { shard: Some(0), .. }), "{error:?}");
}

fn segments(storage: &MemoryStorage, shard: usize) -> Vec<String> {
    let names = storage.list_files().into_iter();
    names.filter(|path| path.starts_with(&format!("log/{shard:02}/"))).collect()
}

fn assert_names(error: &OpenError, shard: usize, named: &str) {
    assert!(
        matches!(error, OpenError::Corrupt { shard: Some(it), path, .. }
            if usize::from(*it) == shard && path.ends_with(named)),
        "{error:?}, where {named} is missing or wrong"
    );
}

/// The story: an operator deletes what looks like old files of the log. The newest checkpoint does not need them,
/// but the one before does, and the engine would reach them when it recycles.
#[test]
fn a_segment_that_is_missing_before_the_checkpoint_is_refused_and_named() {
    let history = two_checkpoints();
    let (mut refused_before, mut opened_without) = (0, 0);
    for shard in 0..SHARDS {
        let paths = segments(&history.storage, shard);
        for (nth, path) in paths.iter().enumerate() {
            let storage = history.storage.deep_copy();
            storage.remove_file(path).expect("listed");
            if let Ok(engine) = history.open(&storage.deep_copy()) {
                // The next segment to be recycled, or a spare at the end: no checkpoint needs either.
                assert!(nth == 0 || nth + 1 == paths.len(), "opened without {path} of {paths:?}");
                assert_eq!(engine.recovery().checkpoint, Some(4));
                drop(engine);
                opened_without += 1;
                go_on(two_checkpoints(), |storage| storage.remove_file(path).expect("listed"));
                continue;
            }
            assert_names(&refused(&history, &storage, path), shard, path);
            refused_before += u32::from(nth < 2);
        }
    }
    assert!(refused_before > 0 && opened_without > 0, "{refused_before}, {opened_without}");
}

/// The same with all segments from the oldest on. A file that only the checkpoint before the newest needs is missed
/// too.
#[test]
fn the_log_of_the_checkpoint_to_fall_back_to_is_missed_when_it_is_gone() {
    let history = two_checkpoints();
    for shard in 0..SHARDS {
        let storage = history.storage.deep_copy();
        let missed = segments(&storage, shard).into_iter().find_map(|path| {
            storage.remove_file(&path).expect("listed");
            let error = history.open(&storage.deep_copy()).err()?;
            assert_names(&error, shard, &path);
            Some(error.to_string())
        });
        assert!(
            missed.as_ref().is_some_and(|it| it.contains("checkpoint 3 needs it")),
            "{missed:?}"
        );
    }
}

/// The story: the folders of two shards are exchanged when disks are put back, and nothing was written after the
/// newest checkpoint. So the mistake lies before everything that an open reads.
#[test]
fn shards_in_each_others_place_before_the_checkpoint_are_refused() {
    let mut history = History::new(23, Durability::Synced);
    let close = |history: &mut History| history.engine.take().expect("open").close();
    // After this all blocks have their witness, and the spares after them are blank.
    close(&mut history).expect("closed");
    history.reopen().expect("closed");
    history.checkpoint_quietly();
    close(&mut history).expect("closed");
    let storage = history.storage.deep_copy();
    let content = |shard| -> Vec<(String, Vec<u8>)> {
        let paths = segments(&storage, shard).into_iter();
        paths.map(|path| (path.clone(), storage.read_file(&path).expect("listed"))).collect()
    };
    let both = [content(0), content(1)];
    for (shard, content) in both.iter().enumerate() {
        content.iter().for_each(|(path, _)| storage.remove_file(path).expect("listed"));
        for (path, bytes) in &both[1 - shard] {
            let path = path.replace(&format!("/{:02}/", 1 - shard), &format!("/{shard:02}/"));
            write_file(&storage, &path, bytes).expect("there is room");
        }
    }
    let error = refused(&history, &storage, "exchanged");
    assert!(matches!(error, OpenError::Corrupt { shard: Some(0), .. }), "{error:?}");
    assert!(matches!(verify_on(Arc::new(storage)), Err(OpenError::Corrupt { .. })));
}

/// The story: files of one shard are restored under each other's names.
#[test]
fn segments_under_each_others_names_before_the_checkpoint_are_refused() {
    let mut history = two_checkpoints();
    history.reopen().expect("killed");
    // Far enough apart that two whole segments lie between, which only the older one needs.
    history.act_for_segments(4);
    history.checkpoint_meanwhile();
    history.act_for_segments(4);
    history.checkpoint_meanwhile();
    let left = history.storage.kill();
    (history.engine, history.storage) = (None, left);
    for shard in 0..SHARDS {
        let paths = segments(&history.storage, shard);
        let mut told_by_names = 0;
        for pair in paths.windows(2) {
            let storage = history.storage.deep_copy();
            storage.rename_file(&pair[0], "aside").expect("listed");
            storage.rename_file(&pair[1], &pair[0]).expect("listed");
            storage.rename_file("aside", &pair[1]).expect("listed");
            match history.open(&storage.deep_copy()) {
                Err(OpenError::Corrupt { shard: Some(it), damage, .. }) => {
                    assert_eq!(usize::from(it), shard);
                    told_by_names += u32::from(damage.contains(" segment "));
                }
                Err(error) => panic!("{pair:?}: {error:?}"),
                // Two segments that no checkpoint needs, or two spares.
                Ok(_) => {}
            }
        }
        assert!(told_by_names >= 2, "{told_by_names} of {paths:?}");
    }
}

/// The story: the first page of a segment rots, and the newest checkpoint does not need that segment. Nothing is
/// lost: the engine opens, continues, and recycles the segment.
#[test]
fn rot_in_what_the_newest_checkpoint_does_not_need_hinders_nobody() {
    for (what, fill) in [("noise", 0xA5), ("zeros", 0)] {
        let history = two_checkpoints();
        for shard in 0..SHARDS {
            let oldest = segments(&history.storage, shard).swap_remove(0);
            go_on(two_checkpoints(), |storage| {
                storage.overwrite(&oldest, 0, &vec![fill; 4096]).expect("listed");
            });
            eprintln!("{what} in {oldest}");
        }
    }
}

/// Damages the folder, opens it, and continues until all segments that were there are recycled.
fn go_on(mut history: History, harm: impl FnOnce(&MemoryStorage)) {
    harm(&history.storage);
    history.reopen().expect("nothing that is needed is missing");
    let before = history.recycled();
    for _ in 0..3 {
        history.act_for_segments(3);
        history.checkpoint_meanwhile();
    }
    assert!(history.recycled() > before + 2, "nothing was recycled");
    let left = history.storage.kill();
    history.engine = None;
    history.open(&left).expect("and again");
}

/// The story: the older of two checkpoints is damaged after its head, where no open looks, while the log still goes
/// back to its beginning. The engine writes some more segments, then the newest checkpoint is damaged too. Segments
/// that were released for the sake of the older one would now be missing.
#[test]
fn the_log_before_an_older_checkpoint_that_is_damaged_is_not_given_up() {
    for is_damaged in [true, false] {
        let mut history = History::new(24, Durability::Synced);
        for _ in 0..2 {
            history.adjust_for_bytes(200_000);
            history.checkpoint_quietly();
        }
        assert_eq!(history.recycled(), 0);
        let left = history.storage.kill();
        (history.engine, history.storage) = (None, left);
        let [older, newest] = &checkpoints(&history.storage)[..] else { panic!("not two") };
        if is_damaged {
            let bytes = history.storage.read_file(older).expect("listed");
            let at = bytes.iter().rposition(|byte| *byte != 0).expect("written");
            history.storage.overwrite(older, at as u64, &[bytes[at] ^ 1]).expect("listed");
        }
        history.reopen().expect("the newest checkpoint is whole");
        history.engine().run_until_idle();
        history.adjust_for_bytes(200_000);
        assert_eq!(history.recycled() == 0, is_damaged);
        let left = history.storage.kill();
        left.overwrite(newest, 16, &[0xA5; 64]).expect("listed");
        let report = history.open(&left).expect("there is something to start from").recovery();
        assert_eq!(report.checkpoint, (!is_damaged).then_some(0));
        assert_eq!(report.checkpoints_damaged, 1 + u16::from(is_damaged));
    }
}

#[test]
fn a_foreign_name_among_the_checkpoints_is_named() {
    let history = two_checkpoints();
    let storage = history.storage.deep_copy();
    write_file(&storage, "checkpoints/notes.txt", b"mine").expect("there is room");
    let error = refused(&history, &storage, "foreign");
    assert!(
        matches!(&error, OpenError::NotAnEngine { found, .. } if found == "notes.txt"),
        "{error:?}"
    );
}

/// The story: a newer program has used a folder, and this one opens it. The head is whole, and names its format.
#[test]
fn a_checkpoint_of_a_newer_format_is_refused_with_both_versions() {
    // With four partitions and two shards the head's hash is at this place.
    const HASH_AT: usize = 688;
    let history = two_checkpoints();
    for path in checkpoints(&history.storage) {
        let storage = history.storage.deep_copy();
        let mut head = storage.read_file(&path).expect("listed")[..HASH_AT].to_vec();
        let hash = storage.read_file(&path).expect("listed")[HASH_AT..HASH_AT + 32].to_vec();
        assert_eq!(blake3::hash(&head).as_bytes()[..], hash, "the head ends there");
        head[8..10].copy_from_slice(&9_u16.to_le_bytes());
        head.extend_from_slice(blake3::hash(&head).as_bytes());
        storage.overwrite(&path, 0, &head).expect("listed");
        match refused(&history, &storage, "newer") {
            OpenError::NewerFormat { path: named, found: 9, known: 1 } => {
                assert!(named.ends_with(&path), "{named:?}");
            }
            error => panic!("{error:?}"),
        }
    }
}
