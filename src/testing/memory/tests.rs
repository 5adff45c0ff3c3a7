//! The promises of [`MemoryStorage`] through its public face; those of its parts are tested beside
//! them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::storage::{AlignedBuffer, Disk};

fn storage() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_root().expect("root");
    storage
}

fn aligned(len: usize, fill: u8) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::zeroed(len);
    buffer.fill(fill);
    buffer
}

fn read(file: &dyn StorageFile) -> Vec<u8> {
    let len = usize::try_from(file.len().expect("len")).expect("small");
    let mut buffer = AlignedBuffer::zeroed(len.next_multiple_of(4096));
    assert_eq!(file.read_at(&mut buffer, 0).expect("read"), len);
    buffer[..len].to_vec()
}

/// A storage with a durable file of 4096 ones, that file through the page cache, and past it.
fn with_file() -> (MemoryStorage, Arc<dyn StorageFile>, Arc<dyn StorageFile>) {
    let storage = storage();
    let cached = storage.create("file", Access::Cached).expect("create");
    cached.write_durable(&[1; 4096], 0).expect("write");
    storage.sync_folder("").expect("sync");
    let direct = storage.open("file", Access::Direct).expect("open");
    (storage, cached, direct)
}

/// Makes each call of one operation end in one fault.
fn fail(storage: &MemoryStorage, operation: Operation, fault: Fault) {
    let hook = move |call: &StorageCall<'_>| {
        if call.operation == operation { fault } else { Fault::None }
    };
    storage.set_fault_hook(Some(Arc::new(hook)));
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("an error").kind()
}

/// What the engine may rely on, whichever disk it has.
fn keep_the_contract(storage: &dyn Storage) {
    assert_eq!(kind(storage.create("early", Access::Cached)), io::ErrorKind::NotFound);
    storage.create_root().expect("root");
    storage.create_root().expect("again");
    storage.create_folder("log/0").expect("folders");
    storage.create_folder("log/0").expect("again");
    let lock = storage.lock().expect("lock").expect("free");
    assert!(storage.lock().expect("lock").is_none());
    drop(lock);
    drop(storage.lock().expect("lock").expect("free again"));

    assert_eq!(kind(storage.open("log/0/a", Access::Direct)), io::ErrorKind::NotFound);
    assert_eq!(kind(storage.open("log", Access::Cached)), io::ErrorKind::IsADirectory);
    let file = storage.create("log/0/a", Access::Direct).expect("create");
    assert_eq!(kind(storage.create("log/0/a", Access::Direct)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(storage.create("no/a", Access::Direct)), io::ErrorKind::NotFound);
    assert_eq!(kind(storage.create("../a", Access::Direct)), io::ErrorKind::InvalidInput);
    file.write_at(&aligned(8192, 1), 8192).expect("after a gap");
    file.write_durable(&aligned(4096, 2), 12288).expect("inside");
    file.sync().expect("sync");
    assert_eq!(read(&*file), [vec![0; 8192], vec![1; 4096], vec![2; 4096]].concat());

    let cached = storage.create("b", Access::Cached).expect("create");
    assert!(!cached.is_direct() && cached.is_empty().expect("len"));
    cached.write_at(b"odd", 4095).expect("unaligned");
    assert_eq!(cached.len().expect("len"), 4098);
    cached.write_at(b"", 9000).expect("nothing");
    assert_eq!(cached.len().expect("len"), 4098, "no bytes, no growth");
    assert_eq!(cached.read_at(&mut [0; 9], 9000).expect("past the end"), 0);
    let direct = storage.open("b", Access::Direct).expect("open");
    assert_eq!(direct.read_at(&mut aligned(4096, 0), 4096).expect("short"), 2);

    storage.rename("b", "log/0/a").expect("replaces");
    assert_eq!(kind(storage.rename("b", "c")), io::ErrorKind::NotFound);
    assert_eq!(storage.list("log/0").expect("list"), ["a"]);
    let mut names = storage.list("").expect("list");
    names.sort();
    assert_eq!(names, ["LOCK", "log"]);
    assert_eq!(kind(storage.list("log/1")), io::ErrorKind::NotFound);
    storage.remove("log/0/a").expect("remove");
    assert_eq!(kind(storage.remove("log/0/a")), io::ErrorKind::NotFound);
    assert_eq!(cached.len().expect("open, unnamed"), 4098);
    storage.sync_folder("log/0").expect("sync");
    assert_eq!(cached.len().expect("still"), 4098);
    assert_eq!(kind(storage.sync_folder("log/1")), io::ErrorKind::NotFound);
}

#[test]
fn memory_and_disk_keep_one_contract() {
    keep_the_contract(&MemoryStorage::new());
    keep_the_contract(&MemoryStorage::new().direct(false));
    let folder = format!("doorbuster-contract-{}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    let kept = std::panic::catch_unwind(|| keep_the_contract(&Disk::new(&folder)));
    std::fs::remove_dir_all(&folder).expect("cleaned up");
    kept.expect("the disk keeps it");
}

#[test]
fn direct_access_can_be_absent() {
    let storage = storage().direct(false);
    let file = storage.create("file", Access::Direct).expect("create");
    assert!(!file.is_direct());
    file.write_at(b"odd", 1).expect("unaligned is fine");
}

#[test]
fn unaligned_direct_calls_are_refused() {
    let (_storage, _cached, direct) = with_file();
    let mut buffer = aligned(8192, 0);
    for (range, offset) in [(0..4096, 512), (0..512, 0), (1..4097, 0)] {
        let buffer = &mut buffer[range];
        assert_eq!(kind(direct.read_at(buffer, offset)), io::ErrorKind::InvalidInput);
        assert_eq!(kind(direct.write_at(buffer, offset)), io::ErrorKind::InvalidInput);
        assert_eq!(kind(direct.write_durable(buffer, offset)), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn an_offset_past_the_end_of_the_world_is_refused() {
    let (storage, cached, _direct) = with_file();
    assert_eq!(kind(cached.write_at(&[0; 2], u64::MAX)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(storage.overwrite("file", u64::MAX, &[0; 2])), io::ErrorKind::InvalidInput);
    fail(&storage, Operation::Write, Fault::Misdirected { offset: u64::MAX });
    assert_eq!(kind(cached.write_at(&[0; 2], 0)), io::ErrorKind::InvalidInput);
}

#[test]
fn a_durable_write_outlives_a_power_loss_and_a_plain_one_may_not() {
    let (storage, cached, direct) = with_file();
    direct.write_durable(&aligned(4096, 2), 4096).expect("write");
    cached.write_at(&[3; 10], 0).expect("write");
    let lost = storage.crash(&mut |_| 0).read_file("file").expect("there");
    assert_eq!(lost, [[1; 4096], [2; 4096]].concat());
    let kept = storage.crash(&mut |_| 1).read_file("file").expect("a second image");
    assert_eq!(kept[..10], [3; 10]);
}

#[test]
fn a_killed_process_leaves_what_reads_back_but_is_not_durable() {
    let (storage, cached, _direct) = with_file();
    cached.write_at(&[2; 10], 0).expect("write");
    storage.create("new", Access::Cached).expect("create");
    let next = storage.kill();
    assert_eq!(next.list_files(), ["file", "new"]);
    let direct = next.open("file", Access::Direct).expect("open");
    assert_eq!(read(&*direct)[..10], [2; 10]);
    let after = next.deep_copy().crash(&mut |_| 0);
    assert_eq!(after.list_files(), ["file"]);
    assert_eq!(after.read_file("file").expect("there"), [1; 4096]);
    let cached = next.open("file", Access::Cached).expect("open");
    cached.sync().expect("a sync by another process makes it durable");
    assert_eq!(next.crash(&mut |_| 0).read_file("file").expect("there")[..10], [2; 10]);
}

#[test]
fn a_dead_process_can_do_nothing_more() {
    for power_loss in [false, true] {
        let (storage, cached, direct) = with_file();
        let lock = storage.lock().expect("lock").expect("free");
        let next = if power_loss { storage.crash(&mut |_| 1) } else { storage.kill() };
        let held = next.lock().expect("lock").expect("a crash gives locks back");
        drop(lock);
        assert!(next.lock().expect("lock").is_none(), "not the dead one's to give back");
        drop(held);

        storage.create_root().expect_err("dead");
        storage.create_folder("x").expect_err("dead");
        storage.list("").expect_err("dead");
        storage.create("x", Access::Cached).expect_err("dead");
        storage.open("file", Access::Cached).expect_err("dead");
        storage.rename("file", "x").expect_err("dead");
        storage.remove("file").expect_err("dead");
        storage.sync_folder("").expect_err("dead");
        storage.lock().expect_err("dead");
        cached.len().expect_err("dead");
        cached.sync().expect_err("dead");
        cached.write_at(b"x", 0).expect_err("dead");
        cached.read_at(&mut [0; 4], 0).expect_err("dead");
        direct.write_durable(&aligned(4096, 9), 0).expect_err("dead");
        assert_eq!(next.read_file("file").expect("there"), [1; 4096]);
    }
}

#[test]
fn a_copy_shares_nothing() {
    let (storage, cached, _direct) = with_file();
    let copy = storage.deep_copy();
    cached.write_durable(&[2; 10], 0).expect("write");
    copy.overwrite("file", 10, &[3; 10]).expect("there");
    assert_eq!(storage.read_file("file").expect("there")[..20], [[2; 10], [1; 10]].concat());
    assert_eq!(copy.read_file("file").expect("there")[..20], [[1; 10], [3; 10]].concat());
}

#[test]
fn a_failed_sync_fools_cached_reads_and_not_direct_ones() {
    // A sync fails, the process dies, the next one must not believe the page cache (rule R11).
    let (storage, cached, direct) = with_file();
    cached.write_at(&[2; 10], 0).expect("write");
    fail(&storage, Operation::Sync, Fault::Error(io::ErrorKind::Other));
    cached.sync().expect_err("as told");
    storage.set_fault_hook(None);
    cached.sync().expect("a second try says yes");
    assert_eq!(read(&*cached)[..10], [2; 10]);
    assert_eq!(read(&*direct), [1; 4096]);
    let next = storage.kill();
    assert_eq!(next.read_file("file").expect("there")[..10], [2; 10]);
    assert_eq!(next.crash(&mut |_| 1).read_file("file").expect("there"), [1; 4096]);
}

#[test]
fn a_failed_durable_write_is_seen_through_the_page_cache_only() {
    let (storage, cached, direct) = with_file();
    fail(&storage, Operation::WriteDurable, Fault::Error(io::ErrorKind::Other));
    cached.write_durable(&[2; 10], 0).expect_err("as told");
    assert_eq!(read(&*cached)[..10], [2; 10]);
    assert_eq!(read(&*direct), [1; 4096]);
    direct.write_durable(&aligned(4096, 3), 0).expect_err("as told");
    assert_eq!(read(&*direct), [1; 4096], "a direct one leaves no trace");
}

#[test]
fn a_torn_write_leaves_a_prefix_unsynced() {
    let (storage, _cached, direct) = with_file();
    fail(&storage, Operation::WriteDurable, Fault::Torn { bytes: 1000 });
    direct.write_durable(&aligned(4096, 2), 0).expect_err("as told");
    let torn = [vec![2; 1000], vec![1; 3096]].concat();
    assert_eq!(read(&*direct), torn);
    assert_eq!(storage.crash(&mut |_| 1).read_file("file").expect("there"), torn);
    assert_eq!(storage.crash(&mut |_| 0).read_file("file").expect("there"), [1; 4096]);
}

#[test]
fn a_disk_that_lies_reports_success() {
    let (storage, cached, direct) = with_file();
    fail(&storage, Operation::WriteDurable, Fault::Lost);
    direct.write_durable(&aligned(4096, 2), 0).expect("it says");
    assert_eq!(read(&*direct), [1; 4096]);
    fail(&storage, Operation::WriteDurable, Fault::Misdirected { offset: 100 });
    cached.write_durable(&[2; 10], 0).expect("it says");
    assert_eq!(read(&*cached)[95..115], [[1; 5].as_slice(), &[2; 10], &[1; 5]].concat());
    fail(&storage, Operation::Read, Fault::Misdirected { offset: 100 });
    let mut buffer = [0; 10];
    cached.read_at(&mut buffer, 0).expect("it says");
    assert_eq!(buffer, [2; 10]);
    fail(&storage, Operation::Sync, Fault::Lost);
    cached.write_at(&[4; 10], 0).expect("write");
    cached.sync().expect("it says");
    fail(&storage, Operation::Rename, Fault::Lost);
    storage.rename("file", "x").expect("it says");
    fail(&storage, Operation::SyncFolder, Fault::Lost);
    storage.create("new", Access::Cached).expect("create");
    storage.sync_folder("").expect("it says");
    assert_eq!(storage.list_files(), ["file", "new"]);
    let after = storage.crash(&mut |_| 0);
    assert_eq!(after.list_files(), ["file"]);
    assert_eq!(after.read_file("file").expect("there")[..10], [1; 10]);
}

#[test]
fn a_crash_in_a_call_stops_everything_and_leaves_a_write_unsynced() {
    let (storage, cached, direct) = with_file();
    fail(&storage, Operation::WriteDurable, Fault::Crash);
    direct.write_durable(&aligned(4096, 2), 0).expect_err("as told");
    cached.len().expect_err("stopped");
    storage.open("file", Access::Cached).expect_err("stopped");
    assert_eq!(storage.crash(&mut |_| 0).read_file("file").expect("there"), [1; 4096]);
    assert_eq!(storage.crash(&mut |_| 1).read_file("file").expect("there"), [2; 4096]);
    let next = storage.kill();
    assert_eq!(next.read_file("file").expect("there"), [2; 4096]);
    next.create("new", Access::Cached).expect("the image runs, and has no hook");
    fail(&next, Operation::Rename, Fault::Crash);
    next.rename("new", "other").expect_err("as told");
    assert_eq!(next.kill().list_files(), ["file", "new"]);
}

#[test]
fn a_full_disk_does_not_keep_the_machine_from_stopping() {
    let (storage, cached, _direct) = with_file();
    storage.set_capacity_bytes(Some(0));
    fail(&storage, Operation::Write, Fault::Crash);
    cached.write_at(&[2; 5000], 0).expect_err("as told");
    cached.len().expect_err("stopped");
}

#[test]
fn the_hook_sees_every_call_in_order_and_may_look_at_the_storage() {
    let (storage, cached, _direct) = with_file();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let first = storage.calls();
    let (log, view) = (seen.clone(), storage.clone());
    storage.set_fault_hook(Some(Arc::new(move |call| {
        assert_eq!(view.list_files().len(), 1);
        let line = (call.sequence - first, call.operation, call.offset, call.len);
        log.lock().push((line, call.path.to_owned(), call.new_path.map(str::to_owned)));
        Fault::None
    })));
    cached.write_at(&[0; 3], 7).expect("write");
    storage.rename("file", "new").expect("rename");
    cached.len().expect("len");
    let expected = [
        ((0, Operation::Write, 7, 3), "file".to_owned(), None),
        ((1, Operation::Rename, 0, 0), "file".to_owned(), Some("new".to_owned())),
        ((2, Operation::Len, 0, 0), "file".to_owned(), None),
    ];
    assert_eq!(*seen.lock(), expected);
    storage.set_fault_hook(None);
}

#[test]
fn a_full_disk_takes_no_growth_and_still_takes_overwrites() {
    let (storage, cached, direct) = with_file();
    storage.set_capacity_bytes(Some(5000));
    cached.write_at(&[2; 904], 4096).expect("just fits");
    assert_eq!(kind(cached.write_at(&[2; 10], 4995)), io::ErrorKind::StorageFull);
    let full = direct.write_durable(&aligned(8192, 3), 0);
    assert_eq!(kind(full), io::ErrorKind::StorageFull);
    assert_eq!(cached.len().expect("len"), 5000);
    cached.write_at(&[4; 5000], 0).expect("no growth");
    let other = storage.create("other", Access::Cached).expect("a name needs no room");
    assert_eq!(kind(other.write_at(&[0], 0)), io::ErrorKind::StorageFull);
    assert_eq!(
        kind(storage.deep_copy().crash(&mut |_| 1).with_new_byte()),
        io::ErrorKind::StorageFull
    );
    drop((cached, direct));
    storage.remove("file").expect("remove");
    storage.sync_folder("").expect("sync");
    other.write_at(&[0], 0).expect("room again");
}

impl MemoryStorage {
    fn with_new_byte(&self) -> io::Result<()> {
        self.create("another", Access::Cached)?.write_at(&[0], 0)
    }
}

#[test]
fn damage_needs_no_running_machine_and_outlives_a_power_loss() {
    let (storage, _cached, _direct) = with_file();
    let _ = storage.crash(&mut |_| 0);
    storage.overwrite("file", 4095, &[7; 2]).expect("there");
    storage.rename_file("file", "other").expect("there");
    assert_eq!(storage.read_file("other").expect("there")[4095..], [7; 2]);
    storage.truncate("other", 1).expect("there");
    let after = storage.crash(&mut |_| 0);
    assert_eq!(after.read_file("other").expect("there"), [1]);
    after.remove_file("other").expect("there");
    assert!(after.crash(&mut |_| 1).list_files().is_empty());
    assert_eq!(kind(after.read_file("other")), io::ErrorKind::NotFound);
    assert_eq!(kind(after.truncate("other", 0)), io::ErrorKind::NotFound);
}

/// One file, told naively: `seen` and `durable` are vectors.
#[test]
fn random_calls_agree_with_a_naive_model() {
    const SEEDS: u64 = 200;
    for seed in 0..SEEDS {
        let state = AtomicU64::new(seed);
        let draw = |below: u64| {
            let mut word = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (word ^ (word >> 31)) % below
        };
        let (storage, mut cached, mut direct) = with_file();
        let mut machine = storage;
        let (mut seen, mut durable) = (vec![1; 4096], vec![1; 4096]);
        for step in 0..60 {
            let fill = step as u8 + 2;
            let put = |model: &mut Vec<u8>, offset: usize, len: usize| {
                model.resize(model.len().max(offset + len), 0);
                model[offset..offset + len].fill(fill);
            };
            match draw(8) {
                0..3 => {
                    let (offset, len) = (draw(12_000) as usize, draw(6_000) as usize + 1);
                    cached.write_at(&vec![fill; len], offset as u64).expect("write");
                    put(&mut seen, offset, len);
                }
                3 => {
                    let (offset, len) = (draw(3) as usize * 4096, draw(2) as usize * 4096 + 4096);
                    direct.write_durable(&aligned(len, fill), offset as u64).expect("write");
                    put(&mut seen, offset, len);
                    put(&mut durable, offset, len);
                }
                4 => {
                    cached.sync().expect("sync");
                    durable.clone_from(&seen);
                }
                5 => {
                    let lost = machine.deep_copy().crash(&mut |_| 0).read_file("file");
                    assert_eq!(lost.expect("there"), durable, "seed {seed}, step {step}");
                    let kept = machine.deep_copy().crash(&mut |_| 1).read_file("file");
                    assert_eq!(kept.expect("there"), seen, "seed {seed}, step {step}");
                }
                6 => {
                    machine = machine.kill();
                    cached = machine.open("file", Access::Cached).expect("open");
                    direct = machine.open("file", Access::Direct).expect("open");
                }
                _ => {
                    machine = machine.crash(&mut |below| draw(below));
                    cached = machine.open("file", Access::Cached).expect("open");
                    direct = machine.open("file", Access::Direct).expect("open");
                    let left = read(&*cached);
                    assert!(left.len() >= durable.len() && left.len() <= seen.len());
                    (seen, durable) = (left.clone(), left);
                }
            }
            assert_eq!(read(&*cached), seen, "seed {seed}, step {step}");
            assert_eq!(read(&*direct), seen, "seed {seed}, step {step}");
        }
    }
}

#[test]
fn a_file_put_there_from_a_copy_is_durable_and_replaces_what_was_there() {
    let storage = MemoryStorage::new();
    storage.create_root().expect("root");
    let file = storage.create("file", Access::Cached).expect("create");
    file.write_at(&[1; 5000], 0).expect("write");
    storage.write_file("file", b"older").expect("replaces");
    storage.write_file("missing", b"copy").expect("creates");
    assert!(storage.write_file("no/folder", b"").is_err());
    for image in [storage.deep_copy().crash(&mut |_| 0), storage.crash(&mut |_| 1)] {
        assert_eq!(image.read_file("missing").expect("its name is durable"), b"copy");
        assert_eq!(image.read_file("file").expect("its name is, too"), b"older");
    }
}
