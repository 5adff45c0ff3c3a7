//! The ways by which bytes from a disk reach the engine, one function each. The fuzzers call them, and so do the
//! tests that run their corpus.
//!
//! An input is one byte and a file's content. If the byte is odd, checksums and hashes are made right first. The
//! rest of the folder is a real one, of `tests/fuzz/real`.

use doorbuster::testing::MemoryStorage;

use crate::folder::{CHECKPOINT, MANIFEST, open, segment, storage_of};
use crate::forge::{sign_checkpoint, sign_log, sign_manifest};

const REAL_MANIFEST: &[u8] = include_bytes!("../fuzz/real/MANIFEST");
const REAL_SEGMENT: &[u8] = include_bytes!("../fuzz/real/segment");
/// The files of a folder with a checkpoint, and with the log from its beginning.
const CHECKPOINTED_MANIFEST: &[u8] = include_bytes!("../fuzz/real/checkpointed/MANIFEST");
const CHECKPOINTED_SEGMENT: &[u8] = include_bytes!("../fuzz/real/checkpointed/segment");

/// The input is a shard's first segment. The manifest has seen no block of it.
pub(crate) fn log(input: &[u8]) {
    let Some((sign, content)) = input.split_first() else { return };
    let mut content = content.to_vec();
    if sign % 2 == 1 {
        sign_log(std::iter::once(&mut content));
    }
    try_open(&[(MANIFEST, REAL_MANIFEST), (&segment(0, 0), &content)]);
}

/// The input is the manifest of a real log.
pub(crate) fn manifest(input: &[u8]) {
    let Some((sign, content)) = input.split_first() else { return };
    let mut content = content.to_vec();
    if sign % 2 == 1 {
        sign_manifest(&mut content, &sign_log(std::iter::once(&mut REAL_SEGMENT.to_vec())));
    }
    try_open(&[(MANIFEST, &content), (&segment(0, 0), REAL_SEGMENT)]);
}

/// The input is the only checkpoint. Without it the log comes to the same state.
pub(crate) fn checkpoint(input: &[u8]) {
    for cut in [false, true] {
        let Some(storage) = checkpointed(input) else { return };
        let _ = open(&storage, cut, |_| {});
    }
}

/// Returns the folder with that checkpoint.
pub(crate) fn checkpointed(input: &[u8]) -> Option<MemoryStorage> {
    let (sign, content) = input.split_first()?;
    let mut content = content.to_vec();
    if sign % 2 == 1 {
        let hashes = sign_log(std::iter::once(&mut CHECKPOINTED_SEGMENT.to_vec()));
        sign_checkpoint(&mut content, &hashes);
    }
    let first = segment(0, 0);
    Some(storage_of([
        (MANIFEST, CHECKPOINTED_MANIFEST),
        (&*first, CHECKPOINTED_SEGMENT),
        (CHECKPOINT, &*content),
    ]))
}

fn try_open(files: &[(&str, &[u8])]) {
    for cut in [false, true] {
        let _ = open(&storage_of(files.iter().copied()), cut, |_| {});
    }
}
