//! Damage anywhere but in the last blocks: each kind is a named error, and the refused folder stays as it was.

use doorbuster::testing::MemoryStorage;
use doorbuster::{OpenError, Options};

use crate::books::{Books, SEGMENT_BYTES, SHARDS, open, options};

const MANIFEST: &str = "MANIFEST";
/// Where the format has a version after a magic number, in a block and in the manifest.
const VERSION_AT: u64 = 8;

fn killed() -> Books {
    let mut books = Books::of_two_lives();
    books.kill();
    books
}

fn folder(shard: usize) -> String {
    format!("log/{shard:02}")
}

fn segment(shard: usize, ordinal: usize) -> String {
    format!("{}/{ordinal:010}.segment", folder(shard))
}

fn contents(storage: &MemoryStorage) -> Vec<(String, Vec<u8>)> {
    let files = storage.list_files().into_iter();
    files.map(|path| (path.clone(), storage.read_file(&path).expect("listed"))).collect()
}

/// Opens a folder that must be refused, and checks that nothing was changed.
fn refused(storage: &MemoryStorage, books: &Books) -> OpenError {
    let before = contents(storage);
    let error = match open(storage, &books.clock) {
        Ok(engine) => panic!("opened, {:?}", engine.recovery()),
        Err(error) => error,
    };
    assert!(contents(storage) == before, "changed by an open that was refused: {error}");
    error
}

fn assert_corrupt(error: &OpenError, named: Option<usize>) {
    assert!(
        matches!(error, OpenError::Corrupt { shard, .. } if shard.map(usize::from) == named),
        "{error:?}, where shard {named:?} is damaged"
    );
}

/// The story: a sector in the middle of the log goes bad, years after it was written. Everything after it is whole,
/// so this is no torn write.
#[test]
fn a_block_that_is_damaged_in_the_middle_is_refused() {
    let books = killed();
    for shard in 0..SHARDS {
        let blocks = &books.blocks[shard];
        for block in &blocks[..blocks.len() - 1] {
            for (what, bytes) in [("noise", vec![0xA5; 512]), ("zeros", vec![0; 4096])] {
                let storage = books.storage.deep_copy();
                let at = block.range.start as u64;
                storage.overwrite(&block.path, at, &bytes).expect("a segment");
                let error = refused(&storage, &books);
                assert!(
                    matches!(error, OpenError::Corrupt { shard: Some(it), .. } if it as usize == shard),
                    "{what} in {block:?}: {error:?}"
                );
            }
        }
    }
}

/// The story: the first page of a segment reads as zeros, because a write went elsewhere or a disk remapped the
/// page. The segment then looks like a spare that was never written; but the blocks after that page are whole and
/// were acknowledged. Here is only one shard, so no neighbour's vector names them.
#[test]
fn a_segment_whose_first_page_reads_as_zeros_is_refused() {
    let storage = MemoryStorage::new();
    let clock = std::sync::Arc::default();
    let alone = || options(&storage, &clock).log_shards(1);
    let mut engine = doorbuster::testing::SteppedEngine::open(alone()).expect("new");
    let mut key = 0;
    // Past the first segment's end, and some blocks into the second.
    while storage.read_file(&segment(0, 1)).map_or(0, |bytes| blocks_in(&bytes)) < 4 {
        key += 1;
        let add = engine.stock(1, doorbuster::Adjust::add(1).key(key)).expect("there is room");
        engine.run_until_idle();
        assert!(add.is_durable(), "acknowledged");
    }
    drop(engine);
    let storage = storage.kill();
    storage.overwrite(&segment(0, 1), 0, &[0; 4096]).expect("a segment");
    let opened = doorbuster::testing::SteppedEngine::open(options(&storage, &clock).log_shards(1));
    match opened {
        Err(error) => assert_corrupt(&error, Some(0)),
        Ok(engine) => {
            panic!("opened with {} of {key} acknowledged records", engine.recovery().records)
        }
    }
}

fn blocks_in(segment: &[u8]) -> usize {
    segment.chunks(4096).filter(|page| page.starts_with(b"dbrBLOCK")).count()
}

/// The story: an operator deletes what looks like old files.
#[test]
fn a_missing_segment_is_refused() {
    let books = killed();
    for shard in 0..SHARDS {
        let last = &books.blocks[shard].last().expect("blocks").path;
        for ordinal in 0.. {
            let path = segment(shard, ordinal);
            let storage = books.storage.deep_copy();
            storage.remove_file(&path).expect("a segment");
            assert_corrupt(&refused(&storage, &books), Some(shard));
            if path == *last {
                break;
            }
        }
        let storage = books.storage.deep_copy();
        for path in storage.list_files().iter().filter(|path| path.starts_with(&folder(shard))) {
            storage.remove_file(path).expect("listed");
        }
        assert_corrupt(&refused(&storage, &books), Some(shard));
    }
}

/// The story: files are restored from a backup under each other's names.
#[test]
fn segments_under_each_others_names_are_refused() {
    let books = killed();
    let has_two =
        |shard: &usize| books.blocks[*shard].iter().any(|block| block.path == segment(*shard, 1));
    let shards: Vec<usize> = (0..SHARDS).filter(has_two).collect();
    assert!(!shards.is_empty());
    for shard in shards {
        let storage = books.storage.deep_copy();
        swap(&storage, &segment(shard, 0), &segment(shard, 1));
        assert_corrupt(&refused(&storage, &books), Some(shard));

        let storage = books.storage.deep_copy();
        storage.rename_file(&segment(shard, 0), &segment(shard, 900)).expect("a segment");
        assert_corrupt(&refused(&storage, &books), Some(shard));
    }
}

/// The story: the folders of two shards are restored under each other's names.
#[test]
fn shards_in_each_others_place_are_refused() {
    let books = killed();
    let storage = books.storage.deep_copy();
    let (left, right) = (files_in(&storage, 0), files_in(&storage, 2));
    let rename = |from: String, to: String| storage.rename_file(&from, &to).expect("a segment");
    left.iter().for_each(|name| rename(format!("{}/{name}", folder(0)), format!("aside-{name}")));
    for name in &right {
        rename(format!("{}/{name}", folder(2)), format!("{}/{name}", folder(0)));
    }
    left.iter().for_each(|name| rename(format!("aside-{name}"), format!("{}/{name}", folder(2))));
    assert_corrupt(&refused(&storage, &books), Some(0));
}

fn files_in(storage: &MemoryStorage, shard: usize) -> Vec<String> {
    let prefix = format!("{}/", folder(shard));
    let files = storage.list_files().into_iter();
    files.filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned)).collect()
}

fn swap(storage: &MemoryStorage, a: &str, b: &str) {
    storage.rename_file(a, "aside").expect("a file");
    storage.rename_file(b, a).expect("a file");
    storage.rename_file("aside", b).expect("a file");
}

/// The story: one shard's disk is restored from last night's snapshot, and the other shards are newer. What the
/// others have seen of it since is gone.
#[test]
fn a_shard_that_was_rolled_back_is_refused() {
    let mut books = Books::new();
    books.stock_up();
    let old = books.storage.deep_copy();
    for buyer in 0..8 {
        books.place(buyer, 1, 1, 0);
    }
    (0..SHARDS).for_each(|shard| books.write(shard));
    books.place(9, 1, 1, 0);
    // Once more, so that each shard is named by its neighbours.
    (0..8).for_each(|buyer| _ = books.place(buyer, 2, 1, 0));
    (0..SHARDS).for_each(|shard| books.write(shard));
    books.kill();
    for shard in 0..SHARDS {
        let storage = books.storage.deep_copy();
        for path in storage.list_files().iter().filter(|path| path.starts_with(&folder(shard))) {
            let bytes = old.read_file(path).expect("an older copy");
            storage.overwrite(path, 0, &bytes).expect("a segment");
        }
        assert_corrupt(&refused(&storage, &books), Some(shard));
    }
}

/// The story: the manifest of last night lies over today's log. The log has blocks of an open that this manifest
/// does not know.
#[test]
fn a_manifest_that_was_rolled_back_is_refused() {
    let mut books = Books::new();
    books.stock_up();
    let old = books.storage.read_file(MANIFEST).expect("a manifest");
    books.close();
    books.open();
    books.stock_up();
    books.kill();
    replace(&books.storage, MANIFEST, &old);
    assert!(matches!(refused(&books.storage, &books), OpenError::Corrupt { shard: Some(_), .. }));
}

fn replace(storage: &MemoryStorage, path: &str, bytes: &[u8]) {
    storage.overwrite(path, 0, bytes).expect("a file");
    storage.truncate(path, bytes.len() as u64).expect("a file");
}

/// The story: a log folder is copied into the folder of another engine.
#[test]
fn a_shard_of_another_engine_is_refused() {
    let (books, other) = (killed(), killed());
    for path in books.storage.list_files().iter().filter(|path| path.starts_with(&folder(1))) {
        let bytes = other.storage.read_file(path).expect("the same work");
        books.storage.overwrite(path, 0, &bytes).expect("a segment");
    }
    assert_corrupt(&refused(&books.storage, &books), Some(1));

    // And its manifest alone.
    let (books, other) = (killed(), killed());
    let bytes = other.storage.read_file(MANIFEST).expect("a manifest");
    books.storage.overwrite(MANIFEST, 0, &bytes).expect("a manifest");
    assert!(matches!(refused(&books.storage, &books), OpenError::Corrupt { shard: Some(_), .. }));
}

/// The story: a newer version of the program wrote to the folder, then the deployment was rolled back.
#[test]
fn a_newer_format_is_refused_and_both_versions_are_named() {
    let books = killed();
    for block in books.blocks.iter().map(|blocks| blocks.last().expect("blocks")) {
        let storage = books.storage.deep_copy();
        let mut bytes =
            storage.read_file(&block.path).expect("a segment")[block.range.clone()].to_vec();
        bytes[VERSION_AT as usize] = 9;
        sign_block(&mut bytes);
        storage.overwrite(&block.path, block.range.start as u64, &bytes).expect("a segment");
        assert_newer(&refused(&storage, &books), &block.path);
    }

    let storage = books.storage.deep_copy();
    let mut bytes = storage.read_file(MANIFEST).expect("a manifest");
    bytes[VERSION_AT as usize] = 9;
    let body = bytes.len() - 32;
    let hash = *blake3::hash(&bytes[..body]).as_bytes();
    bytes[body..].copy_from_slice(&hash);
    storage.overwrite(MANIFEST, 0, &bytes).expect("a manifest");
    assert_newer(&refused(&storage, &books), MANIFEST);
}

/// The header's checksum covers header and vector, with zeros in its own place.
fn sign_block(bytes: &mut [u8]) {
    const CRC_AT: usize = 116;
    let prefix = 128 + 24 * SHARDS;
    bytes[CRC_AT..CRC_AT + 4].fill(0);
    let crc = crc32c::crc32c(&bytes[..prefix]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

fn assert_newer(error: &OpenError, file: &str) {
    assert!(
        matches!(error, OpenError::NewerFormat { path, found: 9, known: 1 } if path.ends_with(file)),
        "{error:?}"
    );
}

/// The story: the manifest rots, or is deleted, or is cut short by a copy that did not finish. Without it no open
/// could say which blocks count.
#[test]
fn a_manifest_that_is_damaged_or_gone_is_refused() {
    let books = killed();
    let bytes = books.storage.read_file(MANIFEST).expect("a manifest");
    for (at, byte) in bytes.iter().enumerate() {
        let storage = books.storage.deep_copy();
        storage.overwrite(MANIFEST, at as u64, &[byte ^ 0x10]).expect("a manifest");
        assert_corrupt(&refused(&storage, &books), None);

        let storage = books.storage.deep_copy();
        storage.truncate(MANIFEST, at as u64).expect("a manifest");
        assert_corrupt(&refused(&storage, &books), None);
    }
    let storage = books.storage.deep_copy();
    storage.remove_file(MANIFEST).expect("a manifest");
    assert_corrupt(&refused(&storage, &books), None);
}

/// The story: an operator points the engine at a home folder, or leaves another file in the log's folder.
#[test]
fn a_folder_with_foreign_files_is_refused_and_left_alone() {
    use doorbuster::storage::{Access, Storage};
    let books = killed();
    let foreign = MemoryStorage::new();
    foreign.create_root().expect("a root");
    drop(foreign.create("holiday.jpg", Access::Cached).expect("a file"));
    assert!(
        matches!(refused(&foreign, &books), OpenError::NotAnEngine { found, .. } if found == "holiday.jpg")
    );

    let storage = books.storage.deep_copy();
    drop(storage.create("log/01/notes.txt", Access::Cached).expect("a file"));
    assert!(
        matches!(refused(&storage, &books), OpenError::NotAnEngine { found, .. } if found == "notes.txt")
    );
}

/// The story: a host changes its settings and opens a folder that was made with others.
#[test]
fn a_folder_of_another_shape_is_refused() {
    let books = killed();
    let with = |change: fn(Options) -> Options| {
        let options = change(options(&books.storage, &books.clock));
        doorbuster::testing::SteppedEngine::open(options).map(drop)
    };
    let shards = with(|options| options.log_shards(2));
    assert!(matches!(shards, Err(OpenError::ShapeMismatch { field: "log_shards", .. })));
    let partitions = with(|options| options.partitions(8));
    assert!(matches!(partitions, Err(OpenError::ShapeMismatch { field: "partitions", .. })));
    assert!(
        with(|options| options.segment_bytes(2 * SEGMENT_BYTES)).is_ok(),
        "this one may change"
    );
}

/// The story: the disk cannot read a sector. Its content is not known, so nothing may be cut off.
#[test]
fn a_read_error_refuses_the_open_and_cuts_nothing() {
    use doorbuster::testing::{Fault, Operation};
    let books = killed();
    for nth in 0.. {
        let storage = books.storage.deep_copy();
        let seen = std::sync::atomic::AtomicU64::new(0);
        storage.set_fault_hook(Some(std::sync::Arc::new(move |call| {
            let is_read =
                matches!(call.operation, Operation::Read | Operation::Open | Operation::List);
            let seen =
                if is_read { seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) } else { 0 };
            match is_read && seen == nth {
                true => Fault::Error(std::io::ErrorKind::Other),
                false => Fault::None,
            }
        })));
        let before = contents(&storage);
        match open(&storage, &books.clock) {
            // Opened files that need only be synced come last.
            Ok(_) => {
                assert!(nth > 12, "no read fails");
                break;
            }
            Err(OpenError::Io { path, .. }) => assert!(path.starts_with("memory")),
            Err(error) => panic!("read {nth}: {error:?}"),
        }
        storage.set_fault_hook(None);
        assert!(contents(&storage) == before, "read {nth}: changed");
        let engine = open(&storage, &books.clock).expect("the disk reads again");
        books.replay(&books.all()).check(&engine).expect("all is there");
    }
}
