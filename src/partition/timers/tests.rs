//! The wheel against a [`BTreeMap`] of deadlines.

use std::collections::BTreeMap;

use super::*;
use crate::partition::random::Random;

/// A duration whose order of magnitude is random, up to `2^bits` ms.
fn span_ms(random: &mut Random, bits: u32) -> u64 {
    let bits = random.below(u64::from(bits) + 1);
    random.next() & ((1 << bits) - 1)
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Live,
    /// Its order ended: it may fire, or be forgotten.
    Cancelled,
    Fired,
}

/// The wheel beside a map that it must agree with. A handle is an index to `entries`.
struct Judged {
    timers: Timers,
    entries: Vec<(u64, Entry)>,
    live: BTreeMap<(u64, u32), ()>,
    now_ms: u64,
}

impl Judged {
    fn new(now_ms: u64) -> Self {
        let timers = Timers::new(now_ms);
        Self { timers, entries: Vec::new(), live: BTreeMap::new(), now_ms }
    }

    fn insert(&mut self, deadline_ms: u64) {
        let handle = self.entries.len() as u32;
        self.timers.insert(deadline_ms, handle);
        self.entries.push((deadline_ms, Entry::Live));
        self.live.insert((deadline_ms, handle), ());
    }

    fn cancel(&mut self, handle: u32) {
        let (deadline_ms, entry) = self.entries[handle as usize];
        if self.live.remove(&(deadline_ms, handle)).is_some() {
            assert_eq!(entry, Entry::Live);
            self.entries[handle as usize].1 = Entry::Cancelled;
        }
    }

    /// Advances in steps of at most `handles` handles.
    fn advance(&mut self, now_ms: u64, handles_max: usize) {
        self.now_ms = now_ms;
        while self.advance_once(handles_max) {}
        let next_ms = self.live.keys().next().map_or(u64::MAX, |&(deadline_ms, _)| deadline_ms);
        assert!(next_ms > now_ms, "due at {next_ms}, not fired by {now_ms}");
        assert!(self.timers.next_due_ms() <= next_ms);
        assert!(self.timers.next_due_ms() > now_ms);
        assert!(self.timers.len() >= self.live.len());
        assert_eq!(self.timers.len() == 0, self.timers.next_due_ms() == u64::MAX);
    }

    fn advance_once(&mut self, handles_max: usize) -> bool {
        let mut fired = Vec::new();
        let deadline_of = |handle: u32| match self.entries[handle as usize] {
            (deadline_ms, Entry::Live) => Some(deadline_ms),
            (_, Entry::Cancelled) => None,
            (_, Entry::Fired) => panic!("{handle} fired and moved"),
        };
        let due = |handle| fired.push(handle);
        let more = self.timers.advance_some(self.now_ms, handles_max, deadline_of, due);
        assert!(fired.len() <= handles_max);
        for handle in fired {
            let (deadline_ms, entry) = &mut self.entries[handle as usize];
            assert!(*deadline_ms <= self.now_ms, "{deadline_ms} fired at {}", self.now_ms);
            assert_ne!(*entry, Entry::Fired, "{handle} fired twice");
            *entry = Entry::Fired;
            self.live.remove(&(*deadline_ms, handle));
        }
        more
    }
}

#[test]
fn it_agrees_with_a_map_whatever_the_jumps() {
    let mut random = Random::new("it_agrees_with_a_map_whatever_the_jumps");
    for round in 0..30 {
        // From 0, from today, and from shortly before every level turns over at once.
        let start_ms = [0, 1_790_000_000_000, (419 << 32) - 300][round % 3];
        let mut judged = Judged::new(start_ms);
        let (jump_bits, span_bits) = (random.below(40) as u32, random.below(42) as u32);
        for _ in 0..600 {
            for _ in 0..random.below(20) {
                let span_ms = span_ms(&mut random, span_bits);
                let late = random.below(10) == 0;
                let now_ms = judged.now_ms;
                judged.insert(if late { now_ms.saturating_sub(span_ms) } else { now_ms + span_ms });
            }
            for _ in 0..random.below(5).min(judged.entries.len() as u64) {
                judged.cancel(random.below(judged.entries.len() as u64) as u32);
            }
            let jump_ms = span_ms(&mut random, jump_bits);
            let handles_max = [1, 7, usize::MAX][random.below(3) as usize];
            judged.advance(judged.now_ms + jump_ms, handles_max);
        }
        judged.advance(judged.now_ms + (1 << 43), usize::MAX);
        assert!(judged.live.is_empty());
        assert_eq!(judged.timers.len(), 0);
    }
}

#[test]
fn inserts_between_the_steps_of_one_advance_are_kept() {
    let mut random = Random::new("inserts_between_the_steps_of_one_advance_are_kept");
    let mut judged = Judged::new(1_790_000_000_000);
    for _ in 0..2_000 {
        judged.now_ms += span_ms(&mut random, 26);
        for _ in 0..random.below(40) {
            judged.insert(judged.now_ms - 500 + span_ms(&mut random, 26));
            if random.below(3) == 0 {
                judged.advance_once(random.below(4) as usize + 1);
            }
        }
    }
    judged.advance(judged.now_ms + (1 << 30), 3);
    assert!(judged.entries.iter().all(|&(_, entry)| entry == Entry::Fired));
}

#[test]
fn each_fires_at_its_millisecond_and_not_before() {
    let start_ms = (419 << 32) - 1_000;
    let spans_ms = [0, 1, 2, 255, 256, 257, 511, 512, 999, 1_000, 1_001, 65_535, 65_536, 65_537];
    let mut judged = Judged::new(start_ms);
    spans_ms.iter().for_each(|&span_ms| judged.insert(start_ms + span_ms));
    for now_ms in start_ms..start_ms + 70_000 {
        judged.advance(now_ms, usize::MAX);
    }
    assert_eq!(judged.timers.len(), 0);
}

#[test]
fn the_ends_of_time_do_no_harm() {
    let mut timers = Timers::new(u64::MAX - (1 << 36));
    timers.insert(u64::MAX, 1);
    timers.insert(0, 2);
    let mut fired = Vec::new();
    timers.advance(u64::MAX - 1, |_| Some(u64::MAX - 1), |handle| fired.push(handle));
    assert_eq!(fired, [2, 1], "the deadline was moved, and came");
    timers.insert(u64::MAX, 3);
    assert_eq!(timers.next_due_ms(), u64::MAX);
    timers.advance(u64::MAX, |_| Some(u64::MAX), |handle| fired.push(handle));
    timers.insert(u64::MAX, 4);
    timers.advance(u64::MAX, |_| None, |handle| fired.push(handle));
    assert_eq!(fired, [2, 1, 3, 4]);
}

#[test]
fn time_that_stands_still_or_steps_back_fires_nothing_new() {
    let mut judged = Judged::new(1_000);
    judged.insert(1_500);
    judged.advance(1_499, usize::MAX);
    judged.timers.advance(900, |_| None, |handle| panic!("{handle} fired"));
    judged.advance(1_500, usize::MAX);
    assert_eq!(judged.timers.len(), 0);
}

#[test]
fn a_long_chain_is_dropped_without_recursion() {
    let mut timers = Timers::new(0);
    (0..4_000_000).for_each(|handle| timers.insert(1 << 40, handle));
    assert_eq!(timers.len(), 4_000_000);
}

#[test]
fn drained_chunks_are_used_again_and_not_hoarded() {
    let mut timers = Timers::new(0);
    let mut fired = 0;
    for now_ms in 1..10 {
        (0..100_000).for_each(|handle| timers.insert(now_ms, handle));
        timers.advance(now_ms, |_| None, |_| fired += 1);
        assert_eq!(timers.free.len, FREE_CHUNKS_MAX);
    }
    assert_eq!((fired, timers.len()), (900_000, 0));
}

#[test]
fn the_next_bit_is_the_nearest_one_going_round() {
    for from in 0..SLOTS {
        assert_eq!(next_bit(&[0; 4], from), None);
        for ahead in 0..SLOTS {
            let mut words = [0; 4];
            for bit in [from + ahead, from + SLOTS - 1] {
                words[bit % SLOTS / 64] |= 1 << (bit % 64);
            }
            assert_eq!(next_bit(&words, from), Some(ahead));
        }
    }
}

#[test]
fn a_sweep_lets_go_what_is_not_needed_and_nothing_else() {
    let mut timers = Timers::new(1_000);
    let deadline = |handle: u32| 1_000 + u64::from(handle) * 700_001;
    (0..20_000).for_each(|handle| timers.insert(deadline(handle), handle));
    timers.start_sweep();
    let needed = |handle: u32| handle.is_multiple_of(10);
    let mut asked = 0;
    while timers.is_sweeping() {
        timers.sweep_some(256, |handle| {
            asked += 1;
            needed(handle).then(|| deadline(handle))
        });
    }
    assert!(asked < 40_000, "an entry is swept once, or twice where it moved");
    assert!(timers.len() <= 2_000 + FRESH_MAX);
    let mut fired = Vec::new();
    timers.advance(u64::MAX >> 1, |it| Some(deadline(it)), |it| fired.push(it));
    fired.retain(|it| needed(*it));
    assert!(fired.iter().copied().eq((0..20_000).step_by(10)), "each once, in order");
}
