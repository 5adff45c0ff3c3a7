//! What a restart cannot do without: reading the files, and what comes after they are read.

use std::path::Path;
use std::time::{Duration, Instant};

use doorbuster::storage::{Access, AlignedBuffer, Disk, Storage};
use doorbuster::testing::MemoryStorage;

/// Read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Reads all files, those of a folder one after the other, the folders side by side; how long that takes past
/// the page cache, and nothing else.
pub(crate) fn read(folder: &Path) -> Duration {
    let disk = Disk::new(folder);
    let mut folders = list(&disk, "log");
    folders.push("checkpoints".into());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for name in &folders {
            scope.spawn(|| list(&disk, name).iter().for_each(|path| read_file(&disk, path)));
        }
    });
    began.elapsed()
}

fn read_file(disk: &Disk, path: &str) {
    let mut piece = AlignedBuffer::zeroed(PIECE_BYTES);
    let file = disk.open(path, Access::Direct).expect("it was listed");
    let mut offset = 0;
    loop {
        match file.read_at(&mut piece, offset).expect("it is there") {
            0 => return,
            read => offset += read as u64,
        }
    }
}

/// What is in a folder, its name in front; nothing if there is no such folder.
fn list(disk: &Disk, name: &str) -> Vec<String> {
    let names = disk.list(name).unwrap_or_default();
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
