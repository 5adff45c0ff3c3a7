//! A disk fills up under load, in a process that is killed again and again. Everything that was acknowledged is
//! there, live orders can end, new ones are refused by name, and when there is room the engine takes orders again.
//!
//! The same story twice: with a child process on a small file system of its own, if this process may mount one; and
//! on a disk in memory, always.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use doorbuster::testing::{Fault, MemoryStorage, Operation, SteppedEngine};
use doorbuster::{
    Adjust, Commit, Durability, Engine, Options, Order, OrderError, OrderId, OrderState,
    PlaceError, RequestKey, Unavailable,
};

use crate::seeds::{Rerun, seeds, stream};

const SKU: u64 = 1;
const STOCKED: u32 = 1_000_000;
const THREADS: u64 = 3;
const ROUNDS: u64 = 8;
const SEGMENT_BYTES: u64 = 4 << 20;
/// The room at first, and the room that each round adds.
const DISK_BYTES: u64 = 6 * SEGMENT_BYTES;
const MORE_BYTES: u64 = SEGMENT_BYTES;
/// After this the disk counts as full. Nothing depends on whether it is.
const PATIENCE: Duration = Duration::from_millis(100);
const FOLDER: &str = "DOORBUSTER_FULL_FOLDER";
const ROUND: &str = "DOORBUSTER_FULL_ROUND";

fn small(options: Options, round: u64) -> Options {
    let durability = [Durability::Synced, Durability::Written][round as usize % 2];
    options.partitions(4).log_shards(2).segment_bytes(SEGMENT_BYTES).durability(durability)
}

/// An answer that a caller received.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Held {
        key: u64,
        order: OrderId,
    },
    Confirmed {
        key: u64,
    },
    /// The engine refuses new orders, or nothing becomes durable because the disk was full before the engine had
    /// looked.
    Full,
}

/// All answers that callers received.
#[derive(Default)]
struct Answers {
    held: BTreeMap<u64, OrderId>,
    confirmed: BTreeSet<u64>,
    full: u64,
}

impl Answers {
    fn note(&mut self, answer: Answer) {
        match answer {
            Answer::Held { key, order } => drop(self.held.insert(key, order)),
            Answer::Confirmed { key } => drop(self.confirmed.insert(key)),
            Answer::Full => self.full += 1,
        }
    }
}

fn order(key: u64) -> Order {
    Order::new(key % 50, RequestKey::new(u128::from(key))).line(SKU, 1)
}

/// Places orders, and confirms some of them. When the disk is full, it confirms those that are left. It returns
/// when the engine is dead.
fn work(engine: &Engine, round: u64, thread: u64, send: impl Fn(Answer)) {
    let mut mine: Vec<(u64, OrderId)> = Vec::new();
    for nth in 0.. {
        let key = round << 40 | thread << 32 | nth;
        let full = match engine.place(order(key)) {
            Ok(placed) => {
                let Some(placed) = wait(placed, &send) else { return };
                let held = placed.held().expect("there is plenty").order;
                send(Answer::Held { key, order: held });
                mine.push((key, held));
                false
            }
            Err(PlaceError::Unavailable(Unavailable::DiskFull { .. })) => {
                send(Answer::Full);
                true
            }
            Err(PlaceError::Unavailable(Unavailable::Latched { .. })) => return,
            Err(other) => panic!("{other}"),
        };
        if full || nth % 3 == 0 {
            let Some((key, order)) = mine.pop() else { continue };
            match engine.confirm(order) {
                Ok(confirmed) => {
                    let Some(transition) = wait(confirmed, &send) else { return };
                    assert_eq!(transition.state(), OrderState::Confirmed);
                    send(Answer::Confirmed { key });
                }
                Err(OrderError::Unavailable(Unavailable::Latched { .. })) => return,
                other => panic!("an ending has room: {other:?}"),
            }
        }
    }
}

/// Returns the answer when it is durable, or `None` when the engine is dead.
fn wait<T>(mut commit: Commit<T>, send: impl Fn(Answer)) -> Option<T> {
    loop {
        match commit.wait_timeout(PATIENCE) {
            Some(answer) => return answer.ok(),
            None => send(Answer::Full),
        }
    }
}

/// Checks that nothing that was acknowledged is gone.
fn check(engine: &Engine, answers: &Answers) {
    for (key, order) in &answers.held {
        let view = engine.order(*order).unwrap_or_else(|error| panic!("key {key}: {error}"));
        let confirmed = view.state == OrderState::Confirmed;
        assert!(confirmed || view.state == OrderState::Held, "{view:?}");
        assert!(confirmed || !answers.confirmed.contains(key), "{view:?}");
    }
    for (key, first) in answers.held.iter().rev().take(200) {
        let again = engine.place(self::order(*key)).expect("it has an order");
        let again = again.wait().expect("durable");
        assert!(again.held().is_some_and(|held| held.replayed && held.order == *first), "{key}");
    }
    let levels = engine.levels(SKU).expect("known");
    let orders = engine.stats().orders as i64;
    assert_eq!((levels.held + levels.sold, levels.stocked), (orders, i64::from(STOCKED)));
    assert!(levels.add_up(), "{levels:?}");
}

/// The disk has room: the engine takes new orders.
fn goes_on(engine: &Engine, answers: &mut Answers) {
    let key = u64::MAX;
    loop {
        match engine.place(order(key)) {
            Ok(placed) => {
                let held = placed.wait().expect("durable").held().expect("there is plenty").order;
                return answers.note(Answer::Held { key, order: held });
            }
            // The keeper of segments has not looked yet.
            Err(PlaceError::Unavailable(Unavailable::DiskFull { .. })) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
}

fn stock_up(engine: &Engine) {
    let added = engine.stock(SKU, Adjust::add(STOCKED).key(1)).expect("there is room");
    let _ = added.wait().expect("durable");
}

#[test]
fn a_disk_in_memory_that_fills_up_loses_nothing_acknowledged() {
    for seed in seeds("FULL_SEED", 1) {
        let _rerun = Rerun::new("FULL_SEED", seed, "--test kill a_disk_in_memory");
        let (mut storage, mut answers) = (MemoryStorage::new(), Answers::default());
        let open = |storage: &MemoryStorage, round| {
            let options = Options::on_storage(Arc::new(storage.clone()));
            Engine::open(small(options, round)).unwrap_or_else(|error| panic!("{round}: {error}"))
        };
        // The bound holds from the first round on: the log makes as many segments ahead as there is room for.
        storage.set_capacity_bytes(Some(DISK_BYTES));
        stock_up(&open(&storage, 0));
        for round in 0..ROUNDS {
            let mut random = stream(seed, round);
            storage.set_capacity_bytes(Some(DISK_BYTES + round * MORE_BYTES));
            let engine = open(&storage, round);
            let (sender, received) = mpsc::channel();
            storage = std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (engine, sender) = (&engine, sender.clone());
                    scope.spawn(move || {
                        work(engine, round, thread, |answer| {
                            sender.send(answer).expect("the receiver lives")
                        })
                    });
                }
                drop(sender);
                let end = answers.full + 1 + random.u64(..40);
                while answers.full < end {
                    answers.note(received.recv().expect("the threads send until the end"));
                }
                let after = storage.kill();
                received.iter().for_each(|answer| answers.note(answer));
                after
            });
            drop(engine);
            check(&open(&storage, round), &answers);
            storage = storage.kill();
        }
        storage.set_capacity_bytes(None);
        let engine = open(&storage, 0);
        goes_on(&engine, &mut answers);
        check(&engine, &answers);
    }
}

#[test]
#[ignore = "the part of the child process; the other test starts it"]
fn child_on_a_small_disk() {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(folder), Some(round)) = (variable(FOLDER), variable(ROUND)) else { return };
    let round = round.parse().expect("a number");
    let engine = Engine::open(small(Options::new(folder), round)).expect("opens");
    let send = |answer| {
        let line = match answer {
            Answer::Held { key, order } => format!("!held {key} {}\n", order.get()),
            Answer::Confirmed { key } => format!("!confirmed {key}\n"),
            Answer::Full => "!full\n".into(),
        };
        let mut out = std::io::stdout().lock();
        // If the parent is gone, no process reads this, and the child ends soon.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, send) = (&engine, &send);
            scope.spawn(move || work(engine, round, thread, send));
        }
    });
}

fn parse(line: &str) -> Option<Answer> {
    // A line that the kill cut short does not count.
    let mut words = line.strip_suffix('\n')?.strip_prefix('!')?.split(' ');
    let verb = words.next()?;
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
    Some(match verb {
        "held" => Answer::Held { key: number(), order: OrderId::from_u64(number()) },
        "confirmed" => Answer::Confirmed { key: number() },
        "full" => Answer::Full,
        other => panic!("the child wrote {other}"),
    })
}

#[test]
fn a_small_file_system_that_fills_up_loses_nothing_acknowledged() {
    let mount = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(mount.path()) else {
        return eprintln!("skipped: this process may not mount a file system");
    };
    for seed in seeds("FULL_SEED", 1) {
        let _rerun = Rerun::new("FULL_SEED", seed, "--test kill a_small_file_system");
        let folder = mount.path().join("engine");
        let mut answers = Answers::default();
        let open = |round| {
            Engine::open(small(Options::new(&folder), round))
                .unwrap_or_else(|error| panic!("{round}: {error}"))
        };
        disk.resize(DISK_BYTES);
        stock_up(&open(0));
        for round in 0..ROUNDS {
            let mut random = stream(seed, round);
            disk.resize(DISK_BYTES + round * MORE_BYTES);
            let full = answers.full + 1 + random.u64(..40);
            run_child(&folder, round, full, &mut answers);
            check(&open(round), &answers);
        }
        disk.resize(8 * DISK_BYTES);
        let engine = open(0);
        goes_on(&engine, &mut answers);
        check(&engine, &answers);
    }
}

/// Runs the child until it has reported this many times that the disk is full, and kills it.
fn run_child(folder: &Path, round: u64, full: u64, answers: &mut Answers) {
    let mut process = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "--ignored", "--nocapture", "full_disk::child_on_a_small_disk"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut out = BufReader::new(process.stdout.take().expect("piped"));
    let (mut line, mut killed) = (String::new(), false);
    while out.read_line(&mut line).expect("UTF-8") > 0 {
        if let Some(answer) = parse(&line) {
            answers.note(answer);
        }
        if answers.full >= full && !killed {
            process.kill().expect("kills");
            killed = true;
        }
        line.clear();
    }
    let status = process.wait().expect("ends");
    assert!(killed && status.code().is_none(), "the child ended by itself: {status}");
}

/// A file system in memory, mounted while this value lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path) -> Option<Self> {
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "doorbuster"])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn resize(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        let resized = Command::new("mount").args(["-o", &size]).arg(self.0).status();
        assert!(resized.expect("as before").success());
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily, because a panic may leave an engine open.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

/// The story: the process is killed after a segment that it was preparing has used up the last room, and before it
/// could remove that segment. The next open needs room for its manifest.
#[test]
fn a_segment_that_was_being_prepared_does_not_keep_the_folder_from_opening() {
    let storage = MemoryStorage::new();
    let options = || small(Options::on_storage(Arc::new(storage.clone())), 0);
    let mut engine = SteppedEngine::open(options()).expect("opens");
    let len = |path: &String| storage.read_file(path).expect("listed").len() as u64;
    let used_bytes: u64 = storage.list_files().iter().map(len).sum();
    storage.set_capacity_bytes(Some(used_bytes + SEGMENT_BYTES / 2));
    let has_written = AtomicBool::new(false);
    storage.set_fault_hook(Some(Arc::new(move |call| match call.operation {
        Operation::Write => {
            has_written.store(true, Ordering::SeqCst);
            Fault::None
        }
        Operation::Remove if has_written.load(Ordering::SeqCst) => Fault::Crash,
        _ => Fault::None,
    })));
    engine.step_segments();
    drop(engine);
    let storage = storage.kill();
    let engine = Engine::open(small(Options::on_storage(Arc::new(storage.clone())), 0));
    engine.expect("what was left over makes room");
}
