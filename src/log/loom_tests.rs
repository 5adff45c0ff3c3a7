//! A shard's writer and the callers that wait for it, in every interleaving. The writer here does what
//! [`Writer`](super::Writer) does, without a disk: take, set durable, wake, sleep. A lost wake-up leaves all threads
//! asleep, which loom reports as a deadlock. Each ordering in `lane` and `shard` was weakened once by hand, and one
//! of these tests failed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::lane::LaneBuffer;
use super::{Commit, Lane, Latch, Ready, Shard};
use crate::error::CommitError;
use crate::sync::{AtomicU64, Ordering, Parker, Unparker};

struct Log {
    shard: Arc<Shard>,
    lanes: Arc<[Arc<Lane>]>,
    /// How many effects were applied; written and read without any ordering.
    given_back: AtomicU64,
}

const BACKLOG_BYTES_MAX: u64 = 16;

impl Log {
    fn new(lanes: u32) -> (Arc<Self>, Parker) {
        let parker = Parker::new();
        let shard =
            Arc::new(Shard::new(0, Arc::new(Latch::default()), parker.unparker().clone(), 0));
        let lane = |index| Arc::new(Lane::new(index, shard.clone(), BACKLOG_BYTES_MAX, 0));
        let lanes = (0..lanes).map(lane).collect();
        (Arc::new(Self { shard, lanes, given_back: AtomicU64::new(0) }), parker)
    }

    fn append(&self, lane: usize) -> Commit<()> {
        let lane = &self.lanes[lane];
        let lsn = lane.append(|bytes| bytes.extend([0; 16]), std::iter::empty());
        Commit::at((), lane, lsn)
    }

    /// A thread that makes `records` records durable.
    fn spawn_writer(
        self: &Arc<Self>,
        records: u32,
        parker: Parker,
        lingers: bool,
    ) -> loom::thread::JoinHandle<()> {
        let log = self.clone();
        spawn(move || log.write(records, &parker, lingers))
    }

    /// Makes `records` records durable.
    fn write(&self, records: u32, parker: &Parker, lingers: bool) {
        let mut left = records;
        while left > 0 {
            let before = left;
            let taken = self.lanes.iter().filter_map(|lane| {
                let mut buffer = LaneBuffer::new(BACKLOG_BYTES_MAX);
                lane.take(&mut buffer).then_some((lane, buffer))
            });
            for (lane, buffer) in taken.collect::<Vec<_>>() {
                let given_back = self.given_back.load(Ordering::Relaxed);
                self.given_back.store(given_back + u64::from(buffer.records), Ordering::Relaxed);
                let last_lsn = buffer.first_lsn + u64::from(buffer.records) - 1;
                lane.set_durable(last_lsn, buffer.bytes.len() as u64);
                left -= buffer.records;
            }
            if left == before {
                let is_dirty = || self.lanes.iter().any(|lane| lane.is_dirty());
                self.shard.sleep(is_dirty, || parker.park());
                continue;
            }
            let mut wakers = Vec::new();
            self.shard.collect_settled(&mut wakers);
            wakers.into_iter().for_each(Waker::wake);
            if lingers && left > 0 {
                self.shard.linger(|| parker.park());
            }
        }
    }
}

struct Unpark(Unparker);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    let parker = Parker::new();
    let waker = Waker::from(Arc::new(Unpark(parker.unparker().clone())));
    loop {
        match Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => parker.park(),
        }
    }
}

fn spawn<T: 'static>(run: impl FnOnce() -> T + 'static) -> loom::thread::JoinHandle<T> {
    loom::thread::spawn(run)
}

fn end<T>(thread: loom::thread::JoinHandle<T>) -> T {
    thread.join().expect("no panic")
}

#[test]
fn a_caller_that_waits_for_a_sleeping_writer_is_answered() {
    loom::model(|| {
        let (log, parker) = Log::new(1);
        let writer = log.spawn_writer(2, parker, false);
        // The second may come while the writer takes the first.
        drop(log.append(0));
        assert_eq!(block_on(log.append(0)), Ok(()));
        assert_eq!(log.given_back.load(Ordering::Relaxed), 2, "given back before it woke");
        end(writer);
    });
}

/// Each in its lane.
fn appenders_are_both_answered(lanes: [usize; 2]) {
    loom::model(move || {
        let (log, parker) = Log::new(1 + lanes[1] as u32);
        let other = spawn({
            let log = log.clone();
            move || block_on(log.append(lanes[1]))
        });
        let writer = log.spawn_writer(2, parker, false);
        assert_eq!(block_on(log.append(lanes[0])), Ok(()));
        assert_eq!(end(other), Ok(()));
        end(writer);
    });
}

#[test]
fn appenders_of_two_lanes_are_both_answered() {
    appenders_are_both_answered([0, 1]);
}

#[test]
fn appenders_of_one_lane_are_both_answered() {
    appenders_are_both_answered([0, 0]);
}

/// No caller waits for the first record, so the writer pauses after it.
#[test]
fn a_caller_that_begins_to_wait_ends_the_pause() {
    loom::model(|| {
        let (log, parker) = Log::new(1);
        let writer = log.spawn_writer(2, parker, true);
        drop(log.append(0));
        assert_eq!(block_on(log.append(0)), Ok(()));
        end(writer);
    });
}

#[test]
fn a_caller_that_waits_for_room_is_woken_when_there_is_some() {
    loom::model(|| {
        let (log, parker) = Log::new(1);
        drop(log.append(0));
        let writer = log.spawn_writer(1, parker, false);
        assert_eq!(block_on(Ready::new(log.lanes.clone())), Ok(()));
        assert!(log.lanes[0].room_for_new(16).is_ok());
        end(writer);
    });
}

#[test]
fn no_bytes_are_durable_before_they_are_appended() {
    loom::model(|| {
        let (log, parker) = Log::new(1);
        let writer = log.spawn_writer(1, parker, false);
        let reader = spawn({
            let log = log.clone();
            // It asserts that.
            move || log.lanes[0].backlog_bytes()
        });
        drop(log.append(0));
        assert!([0, 16].contains(&end(reader)));
        end(writer);
    });
}

/// A commit that is dropped while the writer looks for waiting callers takes no other caller's place.
#[test]
fn a_caller_that_stops_waiting_is_counted_once() {
    loom::model(|| {
        let (log, parker) = Log::new(1);
        let mut gives_up = log.append(0);
        let waker = Waker::noop();
        let writer = log.spawn_writer(1, parker, false);
        let _ = Pin::new(&mut gives_up).poll(&mut Context::from_waker(waker));
        drop(gives_up);
        end(writer);
        assert_eq!(log.shard.waiting(), 0);
    });
}

#[test]
fn when_the_writer_ends_every_waiting_caller_receives_why() {
    for latches in [false, true] {
        loom::model(move || {
            let (log, _parker) = Log::new(1);
            let first = log.append(0);
            let writer = spawn({
                let log = log.clone();
                move || {
                    log.lanes[0].set_durable(1, 16);
                    if latches {
                        log.shard.latch().set_detail("write", "failed".into());
                    }
                    log.shard.end();
                }
            });
            let never = log.append(0);
            let why = if latches { CommitError::Unknown } else { CommitError::Closed };
            assert_eq!(block_on(first), Ok(()), "it was durable before the writer ended");
            assert_eq!(block_on(never), Err(why));
            end(writer);
        });
    }
}
