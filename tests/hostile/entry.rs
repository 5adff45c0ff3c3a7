//! The ways by which bytes from a disk come into the engine, one function each: for the fuzzers, and for
//! the tests that run their corpus. A reader of checkpoints gets its own here, and a target beside the
//! others.
//!
//! An input is one byte and a file's content; where the byte is odd, checksums and hashes are put right
//! first. The rest of the folder is a real one, of `tests/fuzz/real`.

use crate::folder::{MANIFEST, open, segment, storage_of};
use crate::forge::{sign_log, sign_manifest};

const REAL_MANIFEST: &[u8] = include_bytes!("../fuzz/real/MANIFEST");
const REAL_SEGMENT: &[u8] = include_bytes!("../fuzz/real/segment");

/// A shard's first segment, behind a manifest that has seen no block of it.
pub(crate) fn log(input: &[u8]) {
    let Some((sign, content)) = input.split_first() else { return };
    let mut content = content.to_vec();
    if sign % 2 == 1 {
        sign_log(std::iter::once(&mut content));
    }
    try_open(REAL_MANIFEST, &content);
}

/// The manifest, of a real log.
pub(crate) fn manifest(input: &[u8]) {
    let Some((sign, content)) = input.split_first() else { return };
    let mut content = content.to_vec();
    if sign % 2 == 1 {
        sign_manifest(&mut content, &sign_log(std::iter::once(&mut REAL_SEGMENT.to_vec())));
    }
    try_open(&content, REAL_SEGMENT);
}

fn try_open(manifest: &[u8], content: &[u8]) {
    let first = segment(0, 0);
    let files = [(MANIFEST, manifest), (&*first, content)];
    for cut in [false, true] {
        let _ = open(&storage_of(files), cut, |_| {});
    }
}
