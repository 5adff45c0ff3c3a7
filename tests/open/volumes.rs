//! Folders as volumes and file systems make them.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use doorbuster::storage::Storage;
use doorbuster::testing::{Fault, MemoryStorage, Operation, SteppedEngine};
use doorbuster::{Engine, OpenError, verify_on};

use crate::samples::{assert_complete, fill, filled, in_memory, on_disk, refusal};

/// A volume has this folder in its root. Shards' folders, the checkpoints' folder and a backup may have it too.
#[test]
fn a_volume_with_lost_and_found_in_its_root_is_a_folder() {
    let storage = MemoryStorage::new();
    storage.create_root().expect("made");
    storage.create_folder("lost+found").expect("made");
    let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
    fill(&mut engine);
    for folder in ["log", "log/00", "log/01", "checkpoints"] {
        storage.create_folder(&format!("{folder}/lost+found")).expect("made");
    }
    drop(engine.checkpoint().expect("open"));
    engine.run_until_idle();
    let backup = MemoryStorage::new();
    backup.create_root().expect("made");
    backup.create_folder("lost+found").expect("made");
    let to: Arc<dyn Storage> = Arc::new(backup.clone());
    engine.backup_to(&to).expect("it is empty");
    engine.close().expect("closes");
    for storage in [storage.kill(), backup.kill()] {
        verify_on(Arc::new(storage.clone())).expect("whole");
        assert_complete(&SteppedEngine::open(in_memory(&storage)).expect("opens"));
    }
}

/// A shard on a new volume, and an attempt to make the folder that was not finished.
#[test]
fn lost_and_found_in_a_folder_that_is_being_made_stays_there() {
    let storage = MemoryStorage::new();
    storage.create_root().expect("made");
    for folder in ["lost+found", "log/00/lost+found", "log/01/lost+found"] {
        storage.create_folder(folder).expect("made");
    }
    // A log without a manifest is what is left of an engine.
    assert!(matches!(refusal(in_memory(&storage)), OpenError::Corrupt { .. }));
}

#[test]
fn a_volume_that_is_mounted_for_reading_only_is_named_as_such() {
    for operation in [Operation::Lock, Operation::Create, Operation::SyncFolder] {
        let storage = filled();
        storage.set_fault_hook(Some(Arc::new(move |call| match call.operation == operation {
            true => Fault::Error(ErrorKind::ReadOnlyFilesystem),
            false => Fault::None,
        })));
        let error = refusal(in_memory(&storage));
        let words = error.to_string();
        assert!(matches!(error, OpenError::ReadOnly { .. }), "{operation:?}: {error:?}");
        assert!(words.contains("reading only") && !words.contains("permission"), "{words}");
    }
}

/// The temporary folder may be on any file system. Asking for it never fails.
#[test]
fn the_report_names_the_file_system() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(on_disk(folder.path())).expect("opens");
    let told = engine.recovery().file_system;
    engine.close().expect("closes");
    let disk = doorbuster::storage::Disk::new(folder.path());
    assert_eq!(disk.file_system().expect("it is there"), told);
    assert!(doorbuster::storage::Disk::new(Path::new("/nowhere/at/all")).file_system().is_err());
}

/// The folder above is on a file system that cannot sync folders, and nothing is made in it. (`fsync` of
/// `/proc/self/fd` returns `EINVAL`; some network and user-space file systems do the same.)
#[test]
fn a_parent_that_cannot_be_synced_does_not_matter_where_nothing_is_made() {
    use std::os::fd::AsRawFd;
    let folder = tempfile::tempdir().expect("a folder");
    let open = std::fs::File::open(folder.path()).expect("there");
    let path = format!("/proc/self/fd/{}", open.as_raw_fd());
    let above = std::fs::File::open("/proc/self/fd").and_then(|above| above.sync_all());
    assert!(above.is_err(), "the folder above can be synced after all");
    Engine::open(on_disk(Path::new(&path))).expect("opens").close().expect("closes");
    Engine::open(on_disk(folder.path())).expect("the same folder").close().expect("closes");
}
