//! Folders that belong to something else, have another shape or a newer format, or are not whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorbuster::storage::{Access, Storage};
use doorbuster::testing::{Fault, MemoryStorage, Operation, SteppedEngine};
use doorbuster::{Engine, OpenError};

use crate::samples::{
    SKU, any_shape, assert_complete, content, filled, in_memory, on_disk, refusal,
};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_folder_that_is_not_ours_is_named_and_left_as_it_is() {
    let cases: [(&[&str], &str); 3] = [
        (&["notes.txt"], "notes.txt"),
        (&["src/main.rs", "LOCK"], "src"),
        (&["log/app.log", "web.conf"], "web.conf"),
    ];
    for (files, found) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, b"theirs").expect("written");
        }
        let before = names(folder.path());
        match Engine::open(on_disk(folder.path())) {
            Err(OpenError::NotAnEngine { path, found: name }) => {
                assert_eq!((path.as_path(), name.as_str()), (folder.path(), found));
            }
            other => panic!("{files:?}: {other:?}"),
        }
        assert_eq!(names(folder.path()), before);
    }
}

#[test]
fn a_manifest_of_another_program_is_named_and_the_folder_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    for bytes in [&b""[..], b"Manifest-Version: 1.0\n", &[0; 4096]] {
        fs::write(folder.path().join("MANIFEST"), bytes).expect("written");
        let error = Engine::open(on_disk(folder.path())).expect_err("not ours");
        let named = error.to_string();
        assert!(named.contains(&*folder.path().join("MANIFEST").to_string_lossy()), "{named}");
        assert_eq!(fs::read(folder.path().join("MANIFEST")).expect("there"), bytes);
        assert_eq!(names(folder.path()), ["MANIFEST"]);
    }
}

#[test]
fn a_file_in_the_place_of_the_folder_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sale");
    fs::write(&file, b"theirs").expect("written");
    for path in [file.clone(), file.join("below")] {
        match Engine::open(on_disk(&path)) {
            Err(OpenError::Io { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fs::read(&file).expect("there"), b"theirs");
}

#[test]
fn a_missing_folder_is_made_with_its_parents() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a/b/sale");
    let engine = Engine::open(on_disk(&path)).expect("opens");
    engine.close().expect("closes");
    assert_eq!(names(&path), ["LOCK", "MANIFEST", "log"]);
}

#[test]
fn what_is_missing_of_an_engine_is_named() {
    let cases = [
        ("MANIFEST", "MANIFEST", "the manifest is missing"),
        ("log/00/0000000000.segment", "log/00/0000000000.segment", "segment is missing"),
        ("log/01/0000000000.segment", "log/01/0000000000.segment", "segment is missing"),
    ];
    for (lost, named, words) in cases {
        let storage = filled();
        storage.remove_file(lost).expect("it was there");
        let before = content(&storage);
        match refusal(in_memory(&storage)) {
            OpenError::Corrupt { path, damage, .. } => {
                assert_eq!(path, Path::new("memory").join(named));
                assert!(damage.contains(words), "{damage}");
            }
            other => panic!("{lost}: {other:?}"),
        }
        assert_eq!(content(&storage), before);
    }
}

#[test]
fn a_foreign_file_in_a_shard_is_named() {
    let storage = filled();
    storage.create("log/01/0000000001.segment.bak", Access::Cached).expect("made");
    match refusal(in_memory(&storage)) {
        OpenError::NotAnEngine { path, found } => {
            assert_eq!(path, Path::new("memory/log/01"));
            assert_eq!(found, "0000000001.segment.bak");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_shape_is_named_with_what_was_asked_and_what_is_there() {
    let storage = filled();
    let before = content(&storage);
    let cases = [
        ("partitions", 8, 4, in_memory(&storage).partitions(8)),
        ("partitions", 2, 4, in_memory(&storage).partitions(2)),
        ("log_shards", 1, 2, in_memory(&storage).log_shards(1)),
        ("log_shards", 4, 2, in_memory(&storage).log_shards(4)),
    ];
    for (wanted, asked_for, there, options) in cases {
        match refusal(options) {
            OpenError::ShapeMismatch { field, asked, found, path } => {
                assert_eq!((field, asked, found), (wanted, asked_for, there));
                assert_eq!(path, Path::new("memory"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(content(&storage), before);
    assert_complete(
        &SteppedEngine::open(any_shape(&storage)).expect("the open uses the folder's shape"),
    );
}

/// A header of a later version: whole, with its checksums right.
#[test]
fn a_newer_format_is_named_with_both_versions_and_left_as_it_is() {
    let storage = filled();
    let mut manifest = storage.read_file("MANIFEST").expect("there");
    manifest[8..10].copy_from_slice(&2_u16.to_le_bytes());
    let body = manifest.len() - 32;
    let hash = *blake3::hash(&manifest[..body]).as_bytes();
    manifest[body..].copy_from_slice(&hash);
    storage.overwrite("MANIFEST", 0, &manifest).expect("there");
    assert_newer(&storage, "memory/MANIFEST");

    for (segment, offset) in [("log/00/0000000000.segment", 0), ("log/01/0000000000.segment", 4096)]
    {
        let storage = filled();
        let bytes = storage.read_file(segment).expect("there");
        let mut header = bytes[offset..offset + 128 + 2 * 24].to_vec();
        assert_eq!(&header[..8], b"dbrBLOCK");
        header[8..10].copy_from_slice(&2_u16.to_le_bytes());
        header[116..120].fill(0);
        let crc = crc32c::crc32c(&header);
        header[116..120].copy_from_slice(&crc.to_le_bytes());
        storage.overwrite(segment, offset as u64, &header).expect("there");
        assert_newer(&storage, &format!("memory/{segment}"));
    }
}

fn assert_newer(storage: &MemoryStorage, file: &str) {
    let before = content(storage);
    let error = refusal(in_memory(storage));
    let words = error.to_string();
    assert!(words.contains("format version 2") && words.contains("only up to 1"), "{words}");
    match error {
        OpenError::NewerFormat { path, found: 2, known: 1 } => {
            assert_eq!(path, PathBuf::from(file));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(content(storage), before);
}

/// Whichever call of an open fails, the operating system's error is returned with its file, the folder's lock is
/// free again, and nothing is lost.
#[test]
fn every_call_of_an_open_may_be_refused() {
    type IsNamed = fn(&OpenError) -> bool;
    let refusals: [(io::ErrorKind, IsNamed); 3] = [
        (io::ErrorKind::PermissionDenied, |e| matches!(e, OpenError::PermissionDenied { .. })),
        (io::ErrorKind::StorageFull, |e| matches!(e, OpenError::DiskFull { .. })),
        (io::ErrorKind::Other, |e| matches!(e, OpenError::Io { .. })),
    ];
    for (start, filled) in [(MemoryStorage::new(), false), (filled(), true)] {
        for (kind, is_named) in refusals {
            let mut nth = 0;
            loop {
                let storage = start.deep_copy();
                storage.set_fault_hook(Some(Arc::new(move |call| match call.sequence == nth {
                    true => Fault::Error(kind),
                    false => Fault::None,
                })));
                match SteppedEngine::open(in_memory(&storage)) {
                    Err(error) => {
                        assert!(is_named(&error), "call {nth}, {kind:?}: {error:?}");
                        assert!(error.to_string().contains("memory"), "{error}");
                    }
                    Ok(engine) if storage.calls() > nth => drop(engine),
                    Ok(_) => break,
                }
                storage.set_fault_hook(None);
                let engine = SteppedEngine::open(in_memory(&storage))
                    .unwrap_or_else(|error| panic!("again after call {nth}, {kind:?}: {error}"));
                match filled {
                    true => assert_complete(&engine),
                    false => assert_eq!(engine.levels(SKU), None),
                }
                nth += 1;
            }
            assert!(nth > 20, "an open makes more calls than {nth}");
        }
    }
}

/// A read that fails proves nothing, so not one byte of the log is cut off because of it.
#[test]
fn a_read_error_cuts_nothing_off() {
    let storage = filled();
    let before = content(&storage);
    storage.set_fault_hook(Some(Arc::new(|call| {
        let in_tail = call.operation == Operation::Read && call.path.starts_with("log/01");
        if in_tail { Fault::Error(io::ErrorKind::Other) } else { Fault::None }
    })));
    match refusal(in_memory(&storage)) {
        OpenError::Io { operation: "read", path, .. } => {
            assert!(path.starts_with("memory/log/01"), "{path:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(content(&storage), before);
    storage.set_fault_hook(None);
    assert_complete(&SteppedEngine::open(in_memory(&storage)).expect("opens"));
}
