//! The index against a [`HashMap`], with good hashes and with bad ones, and against readers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

use super::segment::{Line, WINDOW, home_of, tag_in};
use super::*;
use crate::partition::random::Random;

impl KeyIndexWriter {
    /// How many pairs are in.
    fn len(&self) -> usize {
        self.len
    }

    /// What it all takes, the list's nodes by estimate.
    fn memory_bytes(&self) -> usize {
        let shared = &self.shared;
        let directories = shared.directories.iter().filter_map(OnceLock::get);
        let chunks = shared.grown.iter().filter_map(OnceLock::get);
        size_of::<Self>()
            + size_of::<KeyIndex>()
            + self.segments.len() * size_of::<Segment>()
            + self.segments.capacity() * size_of::<SegmentState>()
            + directories.map(|directory| size_of_val(&**directory)).sum::<usize>()
            + chunks.map(|chunk| size_of_val(&**chunk)).sum::<usize>()
            + self.list.len() * 2 * size_of::<u64>()
    }
}

/// How the hashes of a random run look.
#[derive(Clone, Copy, Debug)]
enum Hashes {
    Spread,
    /// All the same.
    Equal,
    /// The directory cannot part them: tags are the same.
    EqualTags,
    /// They share all the bits by which the directory goes, but not their home lines.
    EqualTops,
    /// They share a home line, but not a segment.
    EqualHomes,
    /// Few different ones.
    Few,
}

const ALL: [Hashes; 6] = [
    Hashes::Spread,
    Hashes::Equal,
    Hashes::EqualTags,
    Hashes::EqualTops,
    Hashes::EqualHomes,
    Hashes::Few,
];

impl Hashes {
    fn next(self, random: &mut Random) -> u64 {
        let hash = random.next();
        match self {
            Self::Spread => hash,
            Self::Equal => 0x0123_4567_89AB_CDEF,
            Self::EqualTags => hash >> 32 | 7 << 60,
            Self::EqualTops => hash >> 22 | 7 << 60,
            Self::EqualHomes => hash & !(0x1FF << 32),
            Self::Few => (hash % 50) << 57 | 1,
        }
    }
}

/// The index beside a map that it must agree with.
struct Judged {
    index: KeyIndexWriter,
    model: HashMap<u64, Vec<u32>>,
    pairs: Vec<(u64, u32)>,
    handles: u32,
}

impl Judged {
    fn new(keys: usize) -> Self {
        let index = KeyIndexWriter::with_capacity(keys);
        Self { index, model: HashMap::new(), pairs: Vec::new(), handles: 0 }
    }

    fn insert(&mut self, hash: u64) {
        self.handles += 1;
        // As the general path adds a key, and as the straight path does.
        match self.handles % 2 {
            0 => self.index.insert(hash, self.handles),
            _ => {
                let vacancy = self.index.find_or_vacancy(hash, |_| false).expect_err("it is new");
                self.index.occupy(vacancy, self.handles);
            }
        }
        self.model.entry(hash).or_default().push(self.handles);
        self.pairs.push((hash, self.handles));
        self.check(hash);
    }

    fn remove(&mut self, nth: usize) {
        let (hash, handle) = self.pairs.swap_remove(nth);
        assert!(self.index.remove(hash, handle));
        assert!(!self.index.remove(hash, handle), "it is gone");
        let handles = self.model.get_mut(&hash).expect("inserted");
        handles.retain(|&other| other != handle);
        self.check(hash);
    }

    fn replace(&mut self, nth: usize) {
        self.handles += 1;
        let (hash, from) = self.pairs[nth];
        assert!(self.index.replace(hash, from, self.handles));
        assert!(!self.index.replace(hash, from, self.handles), "it has another handle now");
        let handles = self.model.get_mut(&hash).expect("inserted");
        handles.iter_mut().filter(|it| **it == from).for_each(|it| *it = self.handles);
        self.pairs[nth].1 = self.handles;
        self.check(hash);
    }

    /// Every handle of the key is found, none twice, and none that left.
    fn check(&self, hash: u64) {
        let mut candidates = Vec::new();
        assert_eq!(self.index.find(hash, |handle| (candidates.push(handle), false).1), None);
        let expected = self.model.get(&hash).map_or(&[][..], |handles| handles);
        for &handle in expected {
            assert_eq!(candidates.iter().filter(|&&other| other == handle).count(), 1);
        }
        if let Some(&last) = expected.last() {
            assert_eq!(self.index.find(hash, |handle| handle == last), Some(last));
            let found = self.index.find_or_vacancy(hash, |handle| handle == last);
            assert_eq!(found.ok(), Some(last));
            assert!(!self.index.shared().surely_absent(hash));
        }
        assert_eq!(self.index.len(), self.pairs.len());
    }

    fn check_all(&self) {
        self.model.keys().for_each(|&hash| self.check(hash));
        assert_counts(&self.index);
    }
}

/// Each line counts exactly those that passed it, each segment those that it holds.
fn assert_counts(index: &KeyIndexWriter) {
    let mut len = index.list.len();
    for (nth, state) in index.segments.iter().enumerate() {
        let segment = index.shared.segment(nth);
        let mut passed = [0; LINES];
        let mut keys = 0;
        for (nth, line) in segment.lines.iter().enumerate() {
            let entries = line.entries.iter().map(|entry| entry.load(Ordering::Relaxed));
            for tag in entries.filter(|&entry| entry != 0).map(tag_in) {
                let home = home_of(tag);
                let distance = (nth + LINES - home) % LINES;
                assert!(distance < WINDOW);
                assert!(std::ptr::eq(index.shared.segment_of(tag), segment));
                (home..home + distance).for_each(|line| passed[line % LINES] += 1);
                keys += 1;
            }
        }
        assert_eq!(keys, state.len);
        assert!(segment.lines.iter().map(Line::passed).eq(passed));
        len += keys as usize;
    }
    assert_eq!(len, index.len());
}

#[test]
fn it_agrees_with_a_map_however_bad_the_hashes() {
    let mut random = Random::new("it_agrees_with_a_map_however_bad_the_hashes");
    for hashes in ALL {
        let keys = match hashes {
            Hashes::Equal | Hashes::Few => 300,
            Hashes::EqualTags | Hashes::EqualHomes => 500,
            _ => 8_000,
        };
        let mut judged = Judged::new(random.below(5_000) as usize);
        for _ in 0..3 {
            while judged.pairs.len() < keys {
                judged.insert(hashes.next(&mut random));
                match random.below(6) {
                    0 | 1 => judged.remove(random.below(judged.pairs.len() as u64) as usize),
                    2 => judged.replace(random.below(judged.pairs.len() as u64) as usize),
                    _ => {}
                }
            }
            judged.check_all();
            while judged.pairs.len() > keys / 10 {
                judged.remove(random.below(judged.pairs.len() as u64) as usize);
            }
            judged.check_all();
        }
        let bytes = judged.index.memory_bytes();
        assert!(bytes < 2_000_000, "{hashes:?}: {bytes} bytes for at most {keys} keys");
    }
}

#[test]
fn a_key_that_was_removed_can_come_back() {
    let mut index = KeyIndexWriter::with_capacity(1);
    for round in 0..10_000 {
        index.insert(42 << 32, round);
        assert_eq!(index.find(42 << 32, |_| true), Some(round));
        assert!(!index.shared().surely_absent(42 << 32));
        assert!(index.remove(42 << 32, round));
        assert!(index.shared().surely_absent(42 << 32));
    }
    assert_eq!(index.segments.len(), 1);
}

#[test]
fn hardly_a_split_up_to_the_keys_it_was_sized_for() {
    let mut random = Random::new("hardly_a_split_up_to_the_keys_it_was_sized_for");
    for keys in [1, 1_000, 1_344, 1_345, 77_777, 300_000] {
        let mut index = KeyIndexWriter::with_capacity(keys);
        let segments = index.segments.len();
        (0..keys).for_each(|handle| index.insert(random.next(), handle as u32));
        // 0.01 are expected; three have a chance of one in a million.
        assert!(index.segments.len() <= segments + 2, "{keys} keys");
        assert_eq!(index.list.len(), 0);
    }
}

#[test]
fn a_key_that_is_not_in_is_nearly_always_known_to_be_absent() {
    let mut random = Random::new("a_key_that_is_not_in_is_nearly_always_known_to_be_absent");
    let mut index = KeyIndexWriter::with_capacity(1_000);
    (0..100_000).for_each(|handle| index.insert(random.next(), handle));
    let unsure = (0..100_000).filter(|_| !index.shared().surely_absent(random.next())).count();
    assert!(unsure < 100, "{unsure} of 100,000; five are to be expected");
}

#[test]
fn every_depth_and_range_has_its_place() {
    for (nth, place) in [(0, (0, 0)), (31, (0, 31)), (32, (1, 0)), (95, (1, 63)), (96, (2, 0))] {
        assert_eq!(grown_place(nth), place);
    }
    assert!(grown_place(SEGMENTS_MAX).0 < GROWN_CHUNKS);
    let index = KeyIndexWriter::with_capacity(3 * KEYS_PER_SEGMENT);
    assert_eq!(index.shared.place(u32::MAX, 0), 2);
    assert_eq!(index.shared.place(u32::MAX, 20), (3 << 20) - 1);
}

/// One writer inserts, splits, replaces handles, removes; readers look for all that the writer said is in.
#[test]
fn what_was_told_to_be_in_is_never_surely_absent() {
    const KEYS: usize = 200_000;
    const READERS: usize = 3;
    let mut random = Random::new("what_was_told_to_be_in_is_never_surely_absent");
    let hashes: Vec<u64> = (0..KEYS).map(|_| random.next()).collect();
    let others: Vec<u64> = (0..KEYS).map(|_| random.next()).collect();
    let mut index = KeyIndexWriter::with_capacity(1);
    let shared = Arc::clone(index.shared());
    let (told, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for reader in 0..READERS {
            let (hashes, shared, told, done) = (&hashes, &shared, &told, &done);
            scope.spawn(move || {
                let mut nth = reader;
                loop {
                    let last_look = done.load(Ordering::Acquire);
                    let told = told.load(Ordering::Acquire);
                    for _ in 0..64.min(told) {
                        nth = (nth.wrapping_mul(5) + 1) % told;
                        assert!(!shared.surely_absent(hashes[nth]), "key {nth} of {told}");
                        // The newest key is the one that a missing ordering would lose.
                        assert!(!shared.surely_absent(hashes[told - 1]), "newest of {told}");
                    }
                    if last_look {
                        break;
                    }
                }
            });
        }
        for (nth, &hash) in hashes.iter().enumerate() {
            index.insert(hash, nth as u32);
            told.store(nth + 1, Ordering::Release);
            // Others come and go, so that slots are vacated and taken anew under the readers' eyes.
            index.insert(others[nth], nth as u32);
            if let Some(before) = nth.checked_sub(100) {
                assert!(index.remove(others[before], before as u32));
            }
            // The key at which all readers look, while places before it are vacated.
            assert!(index.replace(hash, nth as u32, (KEYS + nth) as u32));
        }
        done.store(true, Ordering::Release);
    });
    assert!(index.segments.len() > 64);
    assert_counts(&index);
}
