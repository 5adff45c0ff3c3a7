//! Folders that earlier versions wrote open in this version, and come to the same state.
//!
//! `tests/golden/README.md` says what is kept there, and when and how it is written again.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorbuster::storage::Storage;
use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Commit, Fill, MerchantId, MerchantRules, Options, Order, OrderId, OrderState, Placed,
    RequestKey, SaleRules, SkuId, Switch, verify_on,
};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
/// A day after the folders were closed.
const OPENED_AT_MS: u64 = 1_767_225_600_000 + 24 * 3_600_000;
const MS: Duration = Duration::from_millis(1);

#[test]
fn folders_of_earlier_versions_open_and_come_to_what_they_came_to() {
    let folders = kept("folder.gz");
    assert!(!folders.is_empty(), "there is one of each format");
    for path in folders {
        let storage = unpack(&path);
        let format = format_of(&storage);
        let named = path.file_name().and_then(|name| name.to_str()).expect("a name of letters");
        let begins = format!("format-{format}");
        assert!(named.starts_with(&begins), "{named}: its manifest names format {format}");
        let report = verify_on(Arc::new(storage.clone())).expect("it is whole");
        assert!(report.checkpoints >= 1 && report.records > 0 && report.orders > 0, "{report:?}");
        let expected = fs::read_to_string(dump_path(&path)).expect("its dump is beside it");
        let mut engine = open(&storage);
        let found = engine.dump();
        let differs = found.lines().zip(expected.lines()).find(|(found, kept)| found != kept);
        assert!(found == expected, "{named}: {differs:?}, now and then");
        goes_on(&mut engine);
        engine.close().expect("closed");
    }
}

#[test]
fn there_is_a_folder_of_the_format_that_this_version_writes() {
    let storage = MemoryStorage::new();
    open(&storage).close().expect("closed");
    let path = folder_path(format_of(&storage));
    assert!(path.exists(), "see tests/golden/README.md: {} is missing", path.display());
}

/// A person runs this on purpose: see the README there.
#[test]
#[ignore = "writes into tests/golden"]
fn write_a_folder_of_this_format() {
    let (storage, before) = live();
    let path = folder_path(format_of(&storage));
    assert!(!path.exists(), "{}: remove it first, if you mean it", path.display());
    pack(&storage, &path);
    let engine = open(&unpack(&path));
    assert_eq!(engine.dump(), before, "a clean close loses nothing");
    fs::write(dump_path(&path), before).expect("written");
}

/// A person runs this on purpose, when the form of dumps changes: see the README there.
#[test]
#[ignore = "writes into tests/golden"]
fn write_the_dumps_anew() {
    for path in kept("folder.gz") {
        fs::write(dump_path(&path), open(&unpack(&path)).dump()).expect("written");
    }
}

fn options(storage: &MemoryStorage) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .partitions(4)
        .log_shards(2)
        .segment_bytes(64 << 10)
        .block_bytes_max(16 << 10)
        .lines_max(4)
        .payload_bytes_max(1000)
        .retention(Duration::from_secs(10))
        .returns_window(Duration::from_secs(48 * 3600))
        .key_ahead_max(Duration::from_secs(3600))
        .remember_refusals(Duration::from_secs(48 * 3600), 100)
        .clock_jump_max(Duration::from_secs(1000 * 24 * 3600))
}

/// Opens the folder a day later, after a boot. Nothing that is due by then is done yet.
fn open(storage: &MemoryStorage) -> SteppedEngine {
    let clock = ManualClock::new(OPENED_AT_MS);
    clock.reboot();
    SteppedEngine::open(options(storage).clock(Arc::new(clock))).expect("it opens")
}

/// The engine takes orders, and returns ids that it never returned before.
fn goes_on(engine: &mut SteppedEngine) {
    let added = engine.stock(SkuId::new(99), Adjust::add(1).key(1)).expect("open");
    engine.run_until_idle();
    assert!(added.is_durable());
    let order = Order::new(1, RequestKey::from_text("later")).line(SkuId::new(99), 1);
    let placed = engine.place(&order).expect("open");
    engine.run_until_idle();
    let held = placed.wait().expect("durable");
    assert!(held.held().is_some_and(|held| !held.replayed), "{held:?}");
}

/// An engine's life with records of every kind, before a checkpoint and after it.
struct Life {
    engine: SteppedEngine,
    clock: Arc<ManualClock>,
}

/// Returns the folder, and the dump of the engine when it was closed.
fn live() -> (MemoryStorage, String) {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
    let engine = SteppedEngine::open(options(&storage).clock(clock.clone())).expect("opens");
    let mut life = Life { engine, clock };
    life.chapter(1);
    let checkpoint = life.engine.checkpoint().expect("open");
    life.engine.run_until_idle();
    checkpoint.wait().expect("the checkpoint is taken");
    life.chapter(11);
    let dump = life.engine.dump();
    life.engine.close().expect("closed");
    (storage, dump)
}

impl Life {
    /// Calls every verb, with SKUs, merchants and buyers from this number on.
    fn chapter(&mut self, first: u64) {
        let [single, cart, limited, awaited] = [0, 1, 2, 3].map(|nth| SkuId::new(first + nth));
        let merchant = MerchantId::new(first);
        for sku in [single, cart, limited] {
            self.settle(|it| it.stock(sku, Adjust::add(100).key(1)).expect("there is room"));
        }
        self.settle(|it| {
            it.stock(single, Adjust::take(3).key(2).reference("damaged")).expect("there is room")
        });
        self.settle(|it| {
            it.stock(cart, Adjust::set(50).expect(100).key(3)).expect("there is room")
        });
        self.settle(|it| {
            it.merchant(merchant, MerchantRules::new().rate(1000, 100)).expect("there is room")
        });
        let rules = SaleRules::new().safety_stock(2).merchant(merchant);
        self.settle(|it| it.rules(single, rules).expect("known"));

        // Orders in every state: of single lines, carts and payloads, by both kinds of keys.
        let buyer = |nth: u64| first * 100 + nth;
        let _held = self.hold(Order::new(buyer(0), 7).line(single, 1).hold_for(3600 * 1000 * MS));
        let confirmed = self.hold(Order::new(buyer(1), 7).line(single, 2).payload(vec![1; 100]));
        self.settle(|it| it.confirm(confirmed).expect("held"));
        let fulfilled = self.hold(Order::new(buyer(2), 7).line(single, 1).line(cart, 3));
        self.settle(|it| it.confirm(fulfilled).expect("held"));
        self.settle(|it| it.fulfil(fulfilled).expect("confirmed"));
        let mut uuid = [first as u8; 16];
        // A UUID of version 7 that was made an hour after the clock starts.
        uuid[..6].copy_from_slice(&(OPENED_AT_MS - 23 * 3_600_000).to_be_bytes()[2..]);
        (uuid[6], uuid[8]) = (0x70, 0x80);
        let dated = RequestKey::uuid_v7(uuid).expect("of version 7");
        let cancelled = self.hold(Order::new(buyer(3), dated).line(cart, 2).payload(vec![2; 10]));
        self.settle(|it| it.cancel(cancelled).expect("held"));
        let expired = self.hold(Order::new(buyer(4), 7).line(single, 1).hold_for(50 * MS));
        self.clock.advance(60 * MS);
        self.engine.run_until_idle();
        assert_eq!(self.state(expired), OrderState::Expired);
        let partial = Order::new(buyer(5), 7).line(cart, 5).line(single, 1);
        let partial = self.hold(partial.min_quantity(cart, 2).fill(Fill::Partial));
        self.settle(|it| it.confirm(partial).expect("held"));

        // Limits that begin while orders are there, and a sale that ends.
        let _ = self.hold(Order::new(buyer(6), 7).line(limited, 2));
        self.settle(|it| it.rules(limited, SaleRules::new().buyer_limit(5)).expect("known"));
        let _ = self.hold(Order::new(buyer(7), 7).line(limited, 5));
        self.settle(|it| it.end_sale(limited).expect("known"));
        self.settle(|it| it.rules(limited, SaleRules::new().buyer_limit(4)).expect("known"));
        let _ = self.hold(Order::new(buyer(8), 7).line(limited, 4));

        // A refusal that is remembered.
        let too_much = Order::new(buyer(9), 7).line(single, 1000).payload(vec![3; 10]);
        let refused = self.settle(|engine| engine.place(&too_much).expect("open"));
        assert!(refused.refusal().is_some_and(|refusal| refusal.is_remembered()), "{refused:?}");

        self.wait_in_line(awaited, buyer(20));
        self.settle(|it| it.switch(Switch::NoNewHolds).expect("open"));
        self.settle(|it| it.switch(Switch::Open).expect("open"));

        // The cancelled and the expired one leave memory; the fulfilled one is kept for returns.
        self.clock.advance(11_000 * MS);
        self.engine.run_until_idle();
        assert!(self.engine.order(cancelled).is_err() && self.engine.order(fulfilled).is_ok());
    }

    /// Of the orders that wait, one receives what is returned, one leaves, one stays.
    fn wait_in_line(&mut self, sku: SkuId, buyer: u64) {
        self.settle(|it| it.stock(sku, Adjust::add(1).key(1)).expect("there is room"));
        self.settle(|it| it.rules(sku, SaleRules::new().waiting_max(10)).expect("known"));
        let first = self.hold(Order::new(buyer, 7).line(sku, 1));
        let fill = Fill::Wait { patience: 3600 * 1000 * MS };
        let waiting = [1, 2, 3].map(|nth| {
            let order = Order::new(buyer + nth, 7).line(sku, 1).fill(fill);
            match self.settle(|it| it.place(&order).expect("open")) {
                Placed::Waiting(waiting) => waiting.order,
                other => panic!("{other:?}, and not in line"),
            }
        });
        self.settle(|it| it.cancel(waiting[1]).expect("waiting"));
        self.settle(|it| it.cancel(first).expect("held"));
        assert_eq!(self.state(waiting[0]), OrderState::Held);
        assert_eq!(self.state(waiting[2]), OrderState::Waiting);
    }

    fn hold(&mut self, order: Order) -> OrderId {
        let placed = self.settle(|engine| engine.place(&order).expect("open"));
        placed.held().unwrap_or_else(|| panic!("held, and not {placed:?}")).order
    }

    fn state(&self, order: OrderId) -> OrderState {
        self.engine.order(order).expect("it is there").state
    }

    fn settle<T: std::fmt::Debug>(&mut self, verb: impl FnOnce(&SteppedEngine) -> Commit<T>) -> T {
        let commit = verb(&self.engine);
        self.engine.run_until_idle();
        commit.wait().expect("durable")
    }
}

/// Returns the version that the manifest names, after eight bytes of magic.
fn format_of(storage: &MemoryStorage) -> u16 {
    let manifest = storage.read_file("MANIFEST").expect("it is there");
    u16::from_le_bytes([manifest[8], manifest[9]])
}

fn folder_path(format: u16) -> PathBuf {
    Path::new(HERE).join(format!("format-{format}.folder.gz"))
}

fn dump_path(folder: &Path) -> PathBuf {
    // Without `.gz`, then without `.folder`.
    folder.with_extension("").with_extension("dump")
}

fn kept(ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(HERE).expect("it is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

/// Packs file by file: a line with its length and its path, then its content. Zeros compress to almost nothing.
fn pack(storage: &MemoryStorage, path: &Path) {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    for name in storage.list_files() {
        let bytes = storage.read_file(&name).expect("it is there");
        writeln!(gzip, "{} {name}", bytes.len()).expect("in memory");
        gzip.write_all(&bytes).expect("in memory");
    }
    fs::write(path, gzip.finish().expect("in memory")).expect("written");
}

fn unpack(path: &Path) -> MemoryStorage {
    let packed = fs::read(path).expect("it is there");
    let mut bytes = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("it was packed");
    let storage = MemoryStorage::new();
    storage.create_root().expect("in memory");
    let mut rest = &bytes[..];
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&rest[..end]).expect("a line of text");
        let (len, name) = line.split_once(' ').expect("a length and a path");
        let (file, behind) = rest[end + 1..].split_at(len.parse().expect("a length"));
        for (at, _) in name.match_indices('/') {
            let _ = storage.create_folder(&name[..at]);
        }
        storage.write_file(name, file).expect("its folder is there");
        rest = behind;
    }
    storage
}
