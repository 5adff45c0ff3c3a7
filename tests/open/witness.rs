//! The last block of a shard at close.

use std::sync::Arc;

use doorbuster::OpenError;
use doorbuster::testing::{Fault, MemoryStorage, SteppedEngine};

use crate::samples::{fill, in_memory, refusal};

const PAGE_BYTES: usize = 4096;

/// Returns a shard's last page that is not blank: file and offset.
fn last_page(storage: &MemoryStorage, shard: &str) -> (String, u64) {
    let files = storage.list_files().into_iter().filter(|path| path.starts_with(shard));
    let pages = files.filter_map(|path| {
        let bytes = storage.read_file(&path).expect("listed");
        let page = bytes.chunks(PAGE_BYTES).rposition(|page| page.iter().any(|byte| *byte != 0))?;
        Some((path, (page * PAGE_BYTES) as u64))
    });
    pages.max().expect("there are blocks")
}

/// The story: the engine is closed, and the machine loses power before the manifest that names the last blocks is
/// replaced. Then the last block with records rots. Without a witness after it the rot would look like a write that
/// the crash tore, and the open would cut off what the block acknowledged (rule R13).
#[test]
fn a_close_leaves_a_witness_after_every_last_block() {
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(in_memory(&storage)).expect("opens");
    fill(&mut engine);
    let shards = ["log/00", "log/01"];
    let last = shards.map(|shard| last_page(&storage, shard));
    storage.set_fault_hook(Some(Arc::new(|call| match call.path.starts_with("MANIFEST") {
        true => Fault::Crash,
        false => Fault::None,
    })));
    engine.close().expect_err("the machine stopped");
    let left = storage.crash(&mut |_| 0);
    for (shard, (path, offset)) in shards.into_iter().zip(last) {
        assert_ne!(last_page(&left, shard), (path.clone(), offset), "{shard} has no witness");
        let rotten = left.deep_copy();
        rotten.overwrite(&path, offset + 200, &[0xaa; 8]).expect("there");
        match refusal(in_memory(&rotten)) {
            OpenError::Corrupt { path: named, .. } => assert!(named.ends_with(&path), "{named:?}"),
            other => panic!("{other:?}"),
        }
    }
    SteppedEngine::open(in_memory(&left)).expect("opens if nothing rots");
}
