//! What one would write by hand: a concurrent map from (buyer, key) to the order, an atomic for the stock, and
//! one file that one thread appends to and syncs, for all that came meanwhile at once.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::engine::WINDOW;
use crate::work::{Answer, Work, buyer, key};

/// What an answer promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// The record is on the disk.
    Synced,
    /// Nothing: it is in a buffer of the process.
    None,
}

const RECORD_BYTES: usize = 32;

struct Shop {
    held: DashMap<(u64, u64), u64, ahash::RandomState>,
    stock: AtomicI64,
    promise: Promise,
    log: Mutex<Log>,
    /// Records wait.
    waiting: Condvar,
    /// More is durable.
    synced: Condvar,
    /// Records that are durable. Read without the lock first, since most are when they are asked for.
    durable: AtomicU64,
}

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    records: u64,
    closed: bool,
}

impl Shop {
    fn new(work: Work, promise: Promise) -> Self {
        let hasher = ahash::RandomState::new();
        Self {
            held: DashMap::with_capacity_and_hasher(work.units as usize, hasher),
            stock: AtomicI64::new(work.units as i64),
            promise,
            log: Mutex::default(),
            waiting: Condvar::new(),
            synced: Condvar::new(),
            durable: AtomicU64::new(0),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics with it")
    }

    /// The order, if there was a unit, and the record that must be durable first.
    fn place(&self, request: u64) -> (Option<u64>, u64) {
        match self.held.entry((buyer(request), key(request))) {
            // Its record has this number: orders are numbered by records.
            Entry::Occupied(held) => (Some(*held.get()), *held.get()),
            Entry::Vacant(free) => {
                let taken = |left: i64| (left > 0).then(|| left - 1);
                let took = self.stock.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken);
                if took.is_err() {
                    return (None, 0);
                }
                let order = self.append(request);
                free.insert(order);
                (Some(order), order)
            }
        }
    }

    fn append(&self, request: u64) -> u64 {
        let mut log = self.log();
        log.records += 1;
        let order = log.records;
        for word in [order, buyer(request), key(request), 1] {
            log.bytes.extend_from_slice(&word.to_le_bytes());
        }
        if log.bytes.len() == RECORD_BYTES {
            self.waiting.notify_one();
        }
        order
    }

    fn await_durable(&self, record: u64) {
        if self.promise == Promise::None || self.durable.load(Ordering::Acquire) >= record {
            return;
        }
        let mut log = self.log();
        while self.durable.load(Ordering::Acquire) < record {
            log = self.synced.wait(log).expect("nobody panics with it");
        }
    }

    /// The writer thread: what came while it synced goes with the next sync.
    fn write(&self, file: File) {
        let mut file = BufWriter::new(file);
        let mut taken = Vec::new();
        loop {
            let mut log = self.log();
            while log.bytes.is_empty() && !log.closed {
                log = self.waiting.wait(log).expect("nobody panics with it");
            }
            if log.bytes.is_empty() {
                return;
            }
            std::mem::swap(&mut log.bytes, &mut taken);
            let records = log.records;
            drop(log);
            file.write_all(&taken).expect("written");
            taken.clear();
            if self.promise == Promise::Synced {
                file.flush().expect("written");
                file.get_ref().sync_data().expect("synced");
            }
            let log = self.log();
            self.durable.store(records, Ordering::Release);
            self.synced.notify_all();
            drop(log);
        }
    }

    fn call(&self, work: Work, caller: u64) -> Vec<Answer> {
        let share = work.share(caller);
        let mut answers = Vec::with_capacity((share.end - share.start) as usize);
        let mut window = VecDeque::with_capacity(WINDOW);
        for request in share {
            if window.len() == WINDOW {
                answers.extend(window.pop_front().map(|placed| self.settle(placed)));
            }
            let (order, record) = self.place(request);
            window.push_back((request, order, record));
        }
        answers.extend(window.into_iter().map(|placed| self.settle(placed)));
        answers
    }

    fn settle(&self, (request, order, record): (u64, Option<u64>, u64)) -> Answer {
        self.await_durable(record);
        (request, order)
    }
}

/// Sells into a new file; returns how long the selling took.
pub(crate) fn sell(work: Work, promise: Promise) -> Duration {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = File::create(folder.path().join("orders")).expect("created");
    let shop = Shop::new(work, promise);
    let (answers, elapsed) = std::thread::scope(|scope| {
        let shop = &shop;
        let writer = scope.spawn(move || shop.write(file));
        let sold = work.call_all(|caller| shop.call(work, caller));
        shop.log().closed = true;
        shop.waiting.notify_one();
        writer.join().expect("it goes through");
        sold
    });
    let logged = std::fs::metadata(folder.path().join("orders")).expect("it is there").len();
    assert_eq!(logged, work.units * RECORD_BYTES as u64, "every order is in the file");
    work.check(answers, |request| shop.place(request).0);
    elapsed
}
