//! The ways by which bytes from a disk come into the engine, one function each: for the fuzzers, and for
//! the tests that run their corpus.
//!
//! An input is one byte and a file's content; where the byte is odd, checksums and hashes are put right
//! first. The rest of the folder is a real one, of `tests/fuzz/real`.

use doorbuster::testing::MemoryStorage;

use crate::folder::{CHECKPOINT, MANIFEST, open, segment, storage_of};
use crate::forge::{sign_checkpoint, sign_log, sign_manifest};

const REAL_MANIFEST: &[u8] = include_bytes!("../fuzz/real/MANIFEST");
const REAL_SEGMENT: &[u8] = include_bytes!("../fuzz/real/segment");
/// Of a folder with a checkpoint, and the log from its beginning.
const CHECKPOINTED_MANIFEST: &[u8] = include_bytes!("../fuzz/real/checkpointed/MANIFEST");
const CHECKPOINTED_SEGMENT: &[u8] = include_bytes!("../fuzz/real/checkpointed/segment");

/// A shard's first segment, behind a manifest that has seen no block of it.
pub(crate) fn log(input: &[u8]) {
    let Some((sign, content)) = input.split_first() else { return };
    let mut content = content.to_vec();
    if sign % 2 == 1 {
        sign_log(std::iter::once(&mut content));
    }
    try_open(&[(MANIFEST, REAL_MANIFEST), (&segment(0, 0), &content)]);
}

/// The manifest, of a real log.
pub(crate) fn manifest(input: &[u8]) {
    let Some((sign, content)) = input.split_first() else { return };
    let mut content = content.to_vec();
    if sign % 2 == 1 {
        sign_manifest(&mut content, &sign_log(std::iter::once(&mut REAL_SEGMENT.to_vec())));
    }
    try_open(&[(MANIFEST, &content), (&segment(0, 0), REAL_SEGMENT)]);
}

/// The only checkpoint. Without it the log comes to the same.
pub(crate) fn checkpoint(input: &[u8]) {
    for cut in [false, true] {
        let Some(storage) = checkpointed(input) else { return };
        let _ = open(&storage, cut, |_| {});
    }
}

/// The folder with that checkpoint.
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
