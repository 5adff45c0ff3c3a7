//! The idempotency index of one partition: from the hash of (buyer, key) to the handle of its
//! order.
//!
//! Extendible hashing with segments as in CCEH (Nam et al., "Write-Optimized Dynamic Hashing for
//! Persistent Memory", FAST 2019): a directory, indexed by the hash, names segments of 16 KiB; a
//! segment that is too full is split in two, and no other moves. So the index grows without a
//! stall.
//!
//! Three departures:
//! - A key's *tag* (the upper half of its hash) alone decides on segment and line, and is stored,
//!   so a split needs neither keys nor orders.
//! - The directory starts at any length, not only at powers of two: position = tag × length, as a
//!   fraction of 2^32, and each doubling adds one bit below the point. An index sized up front has
//!   just the segments that it needs, in one piece of memory, and uses no directory until it
//!   splits.
//! - A key that finds its window full where a split would not help, which takes hashes that are
//!   alike, goes to an ordered list beside the table: bad hashes cost a logarithm each, not memory.
//!
//! Invariants:
//! - An entry lies in the segment that the directory names for its tag, within [`WINDOW`] lines
//!   from its home line, and stays where it is until it is removed or its segment is split.
//! - A line counts the entries that lie beyond it though their home is not beyond it, so a search
//!   ends at the first line that counts none. A home line is marked when a key of its own is on the
//!   list.
//! - Every key is in the table or on the list, never in both; a pair of key and handle is in only
//!   once.
//! - One thread at a time writes (`&mut KeyIndexWriter`, under the partition's lock); readers hold
//!   no lock, write nothing and never wait. [`KeyIndex::surely_absent`] never says so of a key
//!   whose insert happened before the call and whose removal did not begin (rule R1).
//!   A key whose order moves gets its new handle by [`KeyIndexWriter::replace`], and is in throughout.
//! - Segments are never freed: memory stays at the most keys there ever were.
//!
//! The hash must be keyed with a secret when strangers choose the keys: else they could choose them
//! all for the list.

mod segment;
mod split;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::memory::vec_in_huge_pages;
use crate::prefetch;
use crate::sync::{AtomicU32, OnceLock, Ordering, fence};
use segment::{LINES, LISTED, SLOTS, Segment, entry_of, handle_in, tag_of};
use split::Layout;

/// Keys to a segment when sized up front: three quarters of its room.
const KEYS_PER_SEGMENT: usize = LINES * SLOTS * 3 / 4;
/// Bytes a key where memory was set aside, rounded up.
pub(super) const RESERVED_BYTES: usize = size_of::<Segment>().div_ceil(KEYS_PER_SEGMENT);
/// Bytes a key just after a split, rounded up.
pub(super) const GROWN_BYTES_MAX: usize = (2 * size_of::<Segment>()).div_ceil(SPLIT_LEN as usize);
/// What an index of no keys takes.
pub(super) const FIXED_BYTES: usize = size_of::<Segment>();
/// A segment with this many keys is split, for the sake of misses: they look at 3 lines on average
/// here, and would at 7 before a window is full.
const SPLIT_LEN: u32 = (LINES * SLOTS * 17).div_ceil(20) as u32;
/// One with fewer is not, though a window be full: its keys are alike, and a split would not part
/// them.
const SPLIT_LEN_MIN: u32 = (LINES * SLOTS / 2) as u32;
/// Splits that one insert may pay for; then its key goes to the list.
const SPLITS_PER_INSERT_MAX: usize = 2;
/// 64 GiB of segments, far more than there are handles for.
const SEGMENTS_MAX: usize = 1 << 22;
/// The directory doubles no further than this many entries to a segment: hashes that need it are
/// not spread evenly.
const DIRECTORY_PER_SEGMENT_MAX: usize = 16;
const DIRECTORY_ALWAYS: usize = 1024;
/// Depths of the directory: at depth `d` it has `base.len() << d` entries.
const DEPTHS: usize = 23;
/// Segments of the first chunk of grown ones; each further chunk has twice as many.
const GROWN_CHUNK: usize = 32;
const GROWN_CHUNKS: usize = 18;

/// An index's part of the segments that were made for many indexes at once: together they fill huge pages.
#[derive(Debug)]
struct Share {
    segments: Arc<Vec<Segment>>,
    first: usize,
    len: usize,
}

impl Share {
    #[inline]
    fn get(&self, index: usize) -> Option<&Segment> {
        if index < self.len { self.segments.get(self.first + index) } else { None }
    }
}

type GrownChunk = Box<[OnceLock<Box<Segment>>]>;

/// The part that is read without a lock. See the module.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    /// A seqlock: odd while a split moves entries. A reader that sees it odd, or changed, is not
    /// sure of anything.
    ///
    /// The writer stores the odd number, then the directory and the old segment, then the even
    /// number; each of its stores after the odd one, in this split or ever after, is `Release`. A
    /// reader loads the number (`Acquire`), looks (`Relaxed`), and loads the number again behind an
    /// `Acquire` fence. If it saw any word stored after a split began, even by a later insert on
    /// another thread, that store synchronises with the fence, so the second load sees the split.
    /// If it did not, all that it saw is of the time between two splits; and an insert that
    /// happened before the call is in what it saw, because no word is seen older than one that
    /// happened before. `loom_tests` fails when any of these orderings of the number or of an entry
    /// is weakened.
    splits: AtomicU32,
    /// How often the directory doubled; at 0 it is the identity and not stored. Stored with
    /// `Release` after the directory of that depth is in place.
    depth: AtomicU32,
    /// Segments made up front.
    base: Share,
    /// Segments made by splits, append-only: a reader with an old directory finds them all.
    grown: [OnceLock<GrownChunk>; GROWN_CHUNKS],
    /// By depth. Older ones stay for readers that are on their way, and together are no larger than
    /// the newest. Entries are stored with `Release` after the segment they name is in place.
    directories: [OnceLock<Box<[AtomicU32]>>; DEPTHS],
}

/// The part that writes: it belongs to the partition's state. See the module.
#[derive(Debug)]
pub(crate) struct KeyIndexWriter {
    shared: Arc<KeyIndex>,
    segments: Vec<SegmentState>,
    /// Entries whose window was full. Readers see only [`LISTED`].
    list: BTreeSet<u64>,
    len: usize,
}

/// Where a key that is not in goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vacancy {
    hash: u64,
    segment: usize,
    /// Of the home line; none of it if an insert has to look further.
    slot: usize,
}

/// What only the writer knows of a segment.
#[derive(Clone, Copy, Debug, Default)]
struct SegmentState {
    /// How many directory bits below the point its keys have in common.
    depth: u32,
    len: u32,
}

impl KeyIndex {
    /// Whether the key is not in, for sure. `false` says nothing.
    pub(crate) fn surely_absent(&self, hash: u64) -> bool {
        let splits = self.splits.load(Ordering::Acquire);
        if splits % 2 == 1 {
            return false;
        }
        let absent = self.segment_of(tag_of(hash)).lacks(tag_of(hash));
        fence(Ordering::Acquire);
        absent && self.splits.load(Ordering::Relaxed) == splits
    }

    /// Has the line loaded where a look for the key begins, so that the miss overlaps with other work.
    pub(crate) fn prefetch(&self, hash: u64) {
        let tag = tag_of(hash);
        prefetch::for_write(self.segment_of(tag).line(tag, 0));
    }

    /// The same for a look that may be all: the line stays with the processors that read it.
    pub(crate) fn prefetch_to_read(&self, hash: u64) {
        let tag = tag_of(hash);
        prefetch::for_read(self.segment_of(tag).line(tag, 0));
    }

    #[inline]
    fn segment_of(&self, tag: u32) -> &Segment {
        self.segment(self.segment_index(tag))
    }

    #[inline]
    fn segment_index(&self, tag: u32) -> usize {
        match self.depth.load(Ordering::Acquire) {
            0 => self.place(tag, 0),
            depth => self.redirected(tag, depth),
        }
    }

    #[inline(never)]
    fn redirected(&self, tag: u32, depth: u32) -> usize {
        self.directory(depth)[self.place(tag, depth)].load(Ordering::Acquire) as usize
    }

    /// The tag's index in the directory of this depth.
    fn place(&self, tag: u32, depth: u32) -> usize {
        ((u64::from(tag) * self.base.len as u64) >> (32 - depth)) as usize
    }

    fn directory(&self, depth: u32) -> &[AtomicU32] {
        self.directories[depth as usize].get().expect("a depth is published after its directory")
    }

    #[inline]
    fn segment(&self, index: usize) -> &Segment {
        match self.base.get(index) {
            Some(segment) => segment,
            None => self.grown(index - self.base.len),
        }
    }

    #[inline(never)]
    fn grown(&self, nth: usize) -> &Segment {
        let (chunk, offset) = grown_place(nth);
        self.grown[chunk]
            .get()
            .and_then(|chunk| chunk[offset].get())
            .expect("a segment is named after it is in place")
    }
}

impl KeyIndexWriter {
    #[cfg(test)]
    pub(crate) fn with_capacity(keys: usize) -> Self {
        Self::many(1, keys).remove(0)
    }

    /// So many indexes, each with room for `keys` before its first split, as far as chance allows (one
    /// segment in 30,000 splits earlier), all of it touched: no page fault is left for later.
    pub(crate) fn many(indexes: usize, keys: usize) -> Vec<Self> {
        let base = keys.div_ceil(KEYS_PER_SEGMENT).clamp(1, SEGMENTS_MAX / 2);
        let mut segments = vec_in_huge_pages(indexes * base);
        segments.resize_with(indexes * base, Segment::new);
        let segments = Arc::new(segments);
        (0..indexes).map(|nth| Self::on(&segments, nth * base, base)).collect()
    }

    fn on(segments: &Arc<Vec<Segment>>, first: usize, base: usize) -> Self {
        let shared = KeyIndex {
            splits: AtomicU32::new(0),
            depth: AtomicU32::new(0),
            base: Share { segments: segments.clone(), first, len: base },
            grown: std::array::from_fn(|_| OnceLock::new()),
            directories: std::array::from_fn(|_| OnceLock::new()),
        };
        Self {
            shared: Arc::new(shared),
            segments: vec![SegmentState::default(); base],
            list: BTreeSet::new(),
            len: 0,
        }
    }

    /// The part that is read without a lock.
    pub(crate) fn shared(&self) -> &Arc<KeyIndex> {
        &self.shared
    }

    /// The handle of the key, among those that may be its own: `is_it` decides on each.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag_of(hash);
        let segment = self.shared.segment_of(tag);
        if let Some(handle) = segment.find(tag, &mut is_it) {
            return Some(handle);
        }
        if !segment.line(tag, 0).is_listed() {
            return None;
        }
        let alike = self.list.range(entry_of(tag, 0)..=entry_of(tag, u32::MAX));
        alike.map(|&entry| handle_in(entry)).find(|&handle| is_it(handle))
    }

    /// The handle of the key, as [`find`](Self::find) returns it; or where the key goes, for
    /// [`occupy`](Self::occupy). Almost always one look at the home line tells both.
    #[inline]
    pub(crate) fn find_or_vacancy(
        &self,
        hash: u64,
        mut is_it: impl FnMut(u32) -> bool,
    ) -> Result<u32, Vacancy> {
        let tag = tag_of(hash);
        let segment = self.shared.segment_index(tag);
        let home = self.shared.segment(segment).line(tag, 0);
        if home.meta.load(Ordering::Relaxed) != 0 {
            // An entry lies beyond it, or on the list.
            return self.find(hash, is_it).ok_or(Vacancy { hash, segment, slot: SLOTS });
        }
        match home.vacant_without(tag) {
            Ok(slot) => Err(Vacancy { hash, segment, slot }),
            // Its tag is there: almost always that of this key.
            Err(handle) if is_it(handle) => Ok(handle),
            Err(_) => self.find(hash, is_it).ok_or(Vacancy { hash, segment, slot: SLOTS }),
        }
    }

    /// Adds a pair that is not in, where it goes, as [`insert`](Self::insert) does. Nothing was added or removed since
    /// the vacancy was found.
    #[inline]
    pub(crate) fn occupy(&mut self, vacancy: Vacancy, handle: u32) {
        let Vacancy { hash, segment, slot } = vacancy;
        let tag = tag_of(hash);
        let state = &mut self.segments[segment];
        let home = self.shared.segment(segment).line(tag, 0);
        match home.entries.get(slot) {
            Some(entry) if state.len < SPLIT_LEN => {
                entry.store(entry_of(tag, handle), Ordering::Release);
                state.len += 1;
                self.len += 1;
            }
            _ => self.insert(hash, handle),
        }
    }

    /// Adds a pair that is not in. A thread that sees anything that the caller does afterwards no longer finds the
    /// key [absent](KeyIndex::surely_absent).
    pub(crate) fn insert(&mut self, hash: u64, handle: u32) {
        self.len += 1;
        let tag = tag_of(hash);
        let mut splits = 0;
        loop {
            let index = self.shared.segment_index(tag);
            if self.segments[index].len < SPLIT_LEN && self.put(index, tag, handle) {
                return;
            }
            if splits == SPLITS_PER_INSERT_MAX || !self.split(index, tag) {
                if !self.put(index, tag, handle) {
                    self.put_on_list(index, tag, handle);
                }
                return;
            }
            splits += 1;
        }
    }

    /// Removes the pair; whether it was in.
    pub(crate) fn remove(&mut self, hash: u64, handle: u32) -> bool {
        let tag = tag_of(hash);
        let index = self.shared.segment_index(tag);
        let segment = self.shared.segment(index);
        let was_in = if segment.take(tag, handle) {
            self.segments[index].len -= 1;
            true
        } else {
            segment.line(tag, 0).is_listed() && self.list.remove(&entry_of(tag, handle))
        };
        self.len -= usize::from(was_in);
        was_in
    }

    /// Replaces the handle of a key's pair, by one store in the place where the pair lies. So no look misses the key
    /// in between, as one could if the new pair went in before the old one came out: it may pass the new place early
    /// and the old one late. Returns whether the pair was in.
    pub(crate) fn replace(&mut self, hash: u64, from: u32, to: u32) -> bool {
        let tag = tag_of(hash);
        let segment = self.shared.segment_of(tag);
        if segment.replace(tag, from, to) {
            return true;
        }
        // Readers see only that something is on the list.
        let was_in = segment.line(tag, 0).is_listed() && self.list.remove(&entry_of(tag, from));
        was_in && self.list.insert(entry_of(tag, to))
    }

    fn put(&mut self, index: usize, tag: u32, handle: u32) -> bool {
        let done = self.shared.segment(index).put(tag, handle);
        self.segments[index].len += u32::from(done);
        done
    }

    fn put_on_list(&mut self, index: usize, tag: u32, handle: u32) {
        let is_new = self.list.insert(entry_of(tag, handle));
        debug_assert!(is_new, "a pair is in only once");
        let home = self.shared.segment(index).line(tag, 0);
        home.meta.store(home.meta.load(Ordering::Relaxed) | LISTED, Ordering::Release);
    }

    /// Moves half of a segment's range to a new segment; `false` where that would not help. About
    /// 30 us, for a part of which, the writing, readers are not sure.
    ///
    /// Never part of [`KeyIndexWriter::insert`]: its 60 KiB of stack would be touched there, page by page,
    /// by every order.
    #[cold]
    #[inline(never)]
    fn split(&mut self, index: usize, tag: u32) -> bool {
        let SegmentState { depth, len } = self.segments[index];
        if len < SPLIT_LEN_MIN || self.segments.len() == SEGMENTS_MAX {
            return false;
        }
        if depth == self.shared.depth.load(Ordering::Relaxed) && !self.prepare_directory(depth + 1)
        {
            return false;
        }
        let new_index = self.segments.len();
        let (shared, depth) = (&*self.shared, depth + 1);
        let old = shared.segment(index);
        let mut entries = [0; LINES * SLOTS];
        let (stay, leave) = old.part(&mut entries, |tag| shared.place(tag, depth) % 2 == 1);
        let (stay, leave) = (Layout::new(old, stay), Layout::new(old, leave));
        // No reader can reach the new segment yet, so readers are disturbed only by the rest.
        leave.write(shared.grow(new_index - shared.base.len));

        let splits = shared.splits.load(Ordering::Relaxed);
        shared.splits.store(splits.wrapping_add(1), Ordering::Relaxed);
        shared.depth.fetch_max(depth, Ordering::Release);
        shared.redirect(shared.place(tag, depth) | 1, depth, new_index);
        stay.write(old);
        shared.splits.store(splits.wrapping_add(2), Ordering::Release);

        self.segments[index] = SegmentState { depth, len: stay.len };
        self.segments.push(SegmentState { depth, len: leave.len });
        self.list.extend(stay.homeless.iter().chain(&leave.homeless));
        true
    }

    /// Copies the directory to twice its length, for the depth to be published.
    fn prepare_directory(&self, depth: u32) -> bool {
        let shared = &*self.shared;
        let len = shared.base.len << depth;
        let len_max = DIRECTORY_ALWAYS.max(self.segments.len() * DIRECTORY_PER_SEGMENT_MAX);
        if depth as usize >= DEPTHS || len > len_max {
            return false;
        }
        shared.directories[depth as usize].get_or_init(|| {
            let half = |place: usize| match depth {
                1 => place as u32 / 2,
                _ => shared.directory(depth - 1)[place / 2].load(Ordering::Relaxed),
            };
            (0..len).map(|place| AtomicU32::new(half(place))).collect()
        });
        true
    }
}

/// What the writer calls during a split.
impl KeyIndex {
    fn grow(&self, nth: usize) -> &Segment {
        let (chunk, offset) = grown_place(nth);
        let segments = GROWN_CHUNK << chunk;
        self.grown[chunk].get_or_init(|| (0..segments).map(|_| OnceLock::new()).collect())[offset]
            .get_or_init(|| Box::new(Segment::new()))
    }

    /// Names a segment in all of its range, told by its place in the directory of its own depth.
    fn redirect(&self, place: usize, depth: u32, index: usize) {
        let newest = self.depth.load(Ordering::Relaxed);
        let range = place << (newest - depth)..(place + 1) << (newest - depth);
        for entry in &self.directory(newest)[range] {
            entry.store(index as u32, Ordering::Release);
        }
    }
}

/// Chunk and offset of the nth segment made by a split.
fn grown_place(nth: usize) -> (usize, usize) {
    let chunk = (nth / GROWN_CHUNK + 1).ilog2() as usize;
    (chunk, nth - GROWN_CHUNK * ((1 << chunk) - 1))
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
