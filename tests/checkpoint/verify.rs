//! Verifying a folder changes nothing.

use std::sync::Arc;

use doorbuster::testing::{Fault, MemoryStorage};
use doorbuster::{Durability, OpenError, VerifyReport, verify_on};

use crate::damage::{checkpoints, two_checkpoints};
use crate::history::{History, write_file};

/// Verifies, and checks that nothing was written.
fn verify(storage: &MemoryStorage) -> Result<VerifyReport, OpenError> {
    storage.set_fault_hook(Some(Arc::new(|call| {
        assert!(!call.operation.is_change(), "{call:?}");
        Fault::None
    })));
    verify_on(Arc::new(storage.clone()))
}

#[test]
fn a_whole_folder_is_verified_and_the_report_names_what_was_read() {
    let history = two_checkpoints();
    let opened = history.open(&history.storage.deep_copy()).expect("killed");
    let report = verify(&history.storage).expect("whole");
    assert_eq!(report.checkpoints, 2);
    assert_eq!((report.orders, report.skus), (opened.stats().orders, opened.stats().skus));
    assert!(report.records > opened.recovery().records, "the log after the older one is longer");

    let young = History::new(5, Durability::Synced);
    let left = young.storage.deep_copy();
    let report = verify(&left).expect("whole");
    assert_eq!((report.checkpoints, report.skus), (0, 5));
    assert!(report.records >= 5);
}

/// The story: a sector of a folder goes bad while no program reads it. An open would fall back to the older
/// checkpoint, or refuse. The nightly check reports it before an open has to.
#[test]
fn the_report_names_damage_even_where_an_open_would_fall_back() {
    let history = two_checkpoints();
    for path in checkpoints(&history.storage) {
        let bytes = history.storage.read_file(&path).expect("listed");
        let used = (0..bytes.len()).filter(|at| bytes[*at] != 0);
        for at in used.step_by(509) {
            let storage = history.storage.deep_copy();
            storage.overwrite(&path, at as u64, &[bytes[at] ^ 0x10]).expect("listed");
            let error = verify(&storage).expect_err("damaged");
            assert!(matches!(error, OpenError::Corrupt { .. }), "{path} at {at}: {error:?}");
        }
    }
    // The part of the log that an open from the older checkpoint would read.
    let storage = history.storage.deep_copy();
    let names = storage.list_files();
    let mut refused = 0;
    for path in names.iter().filter(|path| path.starts_with("log/")) {
        let storage = history.storage.deep_copy();
        let len = storage.read_file(path).expect("listed").len();
        storage.overwrite(path, 0, &vec![0xA5; len]).expect("listed");
        refused += u32::from(verify(&storage).is_err());
    }
    assert!(refused >= 3, "{refused} of {names:?}");
}

#[test]
fn a_folder_without_an_engine_is_named() {
    let nothing = MemoryStorage::new();
    let error = verify(&nothing).expect_err("nothing is there");
    assert!(matches!(error, OpenError::Corrupt { .. } | OpenError::Io { .. }), "{error:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let error = doorbuster::verify(folder.path().join("sale")).expect_err("nothing is there");
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

/// The story: a file system or an operator brought back a third checkpoint, and the log that it would need was
/// recycled long ago. No open would start from it.
#[test]
fn a_checkpoint_that_was_left_over_makes_no_folder_corrupt() {
    let mut history = History::new(31, Durability::Synced);
    let mut old = None;
    for _ in 0..5 {
        history.act_for_segments(2);
        history.checkpoint_meanwhile();
        let oldest = checkpoints(&history.storage).swap_remove(0);
        old.get_or_insert((history.storage.read_file(&oldest).expect("listed"), oldest));
    }
    history.act_for_segments(2);
    let storage = history.storage.kill();
    assert!(history.recycled() > 2, "the log from before it is there");
    let (bytes, path) = old.expect("the checkpoint is taken");
    write_file(&storage, &path, &bytes).expect("there is room");
    assert_eq!(checkpoints(&storage).len(), 3);
    assert_eq!(verify(&storage).expect("healthy").checkpoints, 2);
    storage.set_fault_hook(None);
    assert_eq!(history.open(&storage).expect("healthy").recovery().checkpoint, Some(4));
}
