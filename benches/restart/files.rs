//! What a restart cannot do without: reading the files, and what comes after they are read.

use std::path::Path;
use std::time::{Duration, Instant};

use doorbuster::storage::{Access, AlignedBuffer, Disk, Storage};
use doorbuster::testing::MemoryStorage;

/// Read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Reads so many bytes of each group's files, one after the other, the groups side by side; how long that
/// takes past the page cache, and nothing else.
pub(crate) fn read(folder: &Path, groups: &[Vec<String>], bytes: u64) -> Duration {
    let disk = Disk::new(folder);
    let each = bytes / groups.len() as u64;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for group in groups {
            scope.spawn(|| read_group(&disk, group, each));
        }
    });
    began.elapsed()
}

fn read_group(disk: &Disk, paths: &[String], mut bytes: u64) {
    let mut piece = AlignedBuffer::zeroed(PIECE_BYTES);
    for path in paths {
        let file = disk.open(path, Access::Direct).expect("it was listed");
        let mut offset = 0;
        while bytes > 0 {
            let read = file.read_at(&mut piece, offset).expect("it is there") as u64;
            if read == 0 {
                break;
            }
            offset += read;
            bytes = bytes.saturating_sub(read);
        }
    }
}

/// A folder's files, ascending, with its name in front.
pub(crate) fn list(folder: &Path, name: &str) -> Vec<String> {
    let mut names = Disk::new(folder).list(name).expect("a folder");
    names.sort();
    names.into_iter().map(|file| format!("{name}/{file}")).collect()
}

/// The whole folder in memory: an open of that reads no disk.
pub(crate) fn in_memory(folder: &Path) -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_root().expect("in memory");
    copy(folder, "", &storage);
    storage
}

fn copy(folder: &Path, below: &str, storage: &MemoryStorage) {
    for entry in std::fs::read_dir(folder.join(below)).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type().expect("a kind").is_dir() {
            storage.create_folder(&path).and_then(|()| storage.sync_folder(below)).expect("new");
            copy(folder, &path, storage);
        } else {
            let bytes = std::fs::read(folder.join(&path)).expect("a file");
            storage.write_file(&path, &bytes).expect("new");
        }
    }
}
