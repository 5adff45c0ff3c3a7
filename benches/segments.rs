//! What the next segment costs: written full of zeros, or recycled; and whether writing to it differs.
//!
//! `cargo bench --bench segments`. Both are what the log does (`src/log/segment.rs`): a fresh segment is
//! created, filled, synced, renamed and its folder synced; a recycled one is renamed and its folder
//! synced.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use doorbuster::storage::{Access, AlignedBuffer, Disk, Storage, StorageFile};

const SEGMENT_BYTES: u64 = 64 << 20;
const FILL_BYTES: usize = 1 << 20;
const BLOCK_BYTES: usize = 64 << 10;

fn fill(file: &dyn StorageFile, byte: u8) {
    let mut part = AlignedBuffer::zeroed(FILL_BYTES);
    part.fill(byte);
    for offset in (0..SEGMENT_BYTES).step_by(FILL_BYTES) {
        file.write_at(&part, offset).expect("written");
    }
    file.sync().expect("synced");
}

fn fresh(storage: &Disk, name: &str) -> Arc<dyn StorageFile> {
    let file = storage.create("prepare", Access::Direct).expect("created");
    fill(file.as_ref(), 0);
    storage.rename("prepare", name).expect("renamed");
    storage.sync_folder("").expect("synced");
    file
}

/// A segment that was full of blocks.
fn used(storage: &Disk) {
    fill(storage.create("old", Access::Direct).expect("created").as_ref(), 0xA5);
    storage.sync_folder("").expect("synced");
}

fn recycled(storage: &Disk, name: &str) -> Arc<dyn StorageFile> {
    let file = storage.open("old", Access::Direct).expect("opened");
    storage.rename("old", name).expect("renamed");
    storage.sync_folder("").expect("synced");
    file
}

/// The segment is what the log would get: of its whole length, past the page cache where that can be had, alone
/// under its new name, and with what was in it.
fn check(storage: &Disk, file: &dyn StorageFile, byte: u8) {
    assert_eq!(file.len().expect("measured"), SEGMENT_BYTES);
    assert_eq!(storage.list("").expect("listed"), ["new"]);
    let mut page = AlignedBuffer::zeroed(BLOCK_BYTES);
    for offset in [0, SEGMENT_BYTES - BLOCK_BYTES as u64] {
        assert_eq!(file.read_at(&mut page, offset).expect("read"), BLOCK_BYTES);
        assert!(page.iter().all(|it| *it == byte), "at {offset}");
    }
}

fn segments(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let storage = Disk::new(folder.path());
    storage.create_root().expect("created");
    let remove = |name: &str| storage.remove(name).expect("removed");
    check(&storage, fresh(&storage, "new").as_ref(), 0);
    remove("new");
    used(&storage);
    let file = recycled(&storage, "new");
    check(&storage, file.as_ref(), 0xA5);
    println!("past the page cache: {}", file.is_direct());
    remove("new");

    let mut group = criterion.benchmark_group("next segment of 64 MiB");
    group.sample_size(10);
    group.bench_function("fresh", |bencher| {
        bencher.iter_batched(
            || (),
            |()| {
                fresh(&storage, "new");
                remove("new");
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("recycled", |bencher| {
        bencher.iter_batched(
            || used(&storage),
            |()| {
                recycled(&storage, "new");
                remove("new");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let block = AlignedBuffer::zeroed(BLOCK_BYTES);
    let mut group = criterion.benchmark_group("durable 64 KiB blocks");
    group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    for (kind, make) in [
        ("fresh", fresh as fn(&Disk, &str) -> Arc<dyn StorageFile>),
        ("recycled", recycled as fn(&Disk, &str) -> Arc<dyn StorageFile>),
    ] {
        used(&storage);
        let file = make(&storage, "new");
        let mut at = 0;
        group.bench_function(format!("into a {kind} segment"), |bencher| {
            bencher.iter(|| {
                file.write_durable(&block, at).expect("written");
                at = (at + BLOCK_BYTES as u64) % SEGMENT_BYTES;
            });
        });
        remove("new");
        let _ = storage.remove("old");
    }
    group.finish();
}

criterion_group!(benches, segments);
criterion_main!(benches);
