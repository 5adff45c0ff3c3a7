//! When which hold ends: a hierarchical timing wheel (Varghese and Lauck, "Hashed and Hierarchical
//! Timing Wheels", SOSP 1987), one a partition, of four levels with 256 slots.
//!
//! A slot of level 0 is one millisecond, of level 1 256 of them, and so on: 2^32 ms, or 49 days, in all. An entry
//! goes to the lowest level that reaches as far as its deadline. When time enters a slot of a higher level, its
//! entries are placed anew, each on a lower level. So an entry moves at most three times, and once more for every 49
//! days.
//!
//! An entry is a handle, 4 bytes. The wheel asks the caller for its deadline when it moves. Nothing is looked up to
//! cancel it: a handle that fires may belong to an order that ended long ago, or is gone, so the caller checks
//! whether it is really due. A thread that changes a deadline inserts the handle again.
//!
//! Invariants:
//! - What is due at or before `at_ms` has fired or is in `due` or `unsorted`; nothing fires early.
//! - A slot of level `l` holds entries whose deadline, in units of that level, is 0 (for a slot
//!   that starts right now, before it is emptied) to 255 after `at_ms` in those units: a slot has
//!   one start, never two. The slot that ends the highest level also holds what is due after the
//!   wheel's reach.
//! - A bit of `occupied` is set exactly when its slot holds anything.
//! - `due` and `unsorted` are empty when a slot is taken because its time has come, `unsorted` when one
//!   is swept; so chains are moved, never joined.
//!
//! Entries that are not needed any more go when they move or fire, which for those on the highest level
//! may take weeks. When they are many, a *sweep* has every slot's entries placed anew.

const LEVELS: usize = 4;
const SLOT_BITS: usize = 8;
const SLOTS: usize = 1 << SLOT_BITS;
/// A chunk is 256 bytes.
const CHUNK_HANDLES: usize = 61;
/// Bytes an entry, rounded up.
pub(super) const ENTRY_BYTES: usize = size_of::<Chunk>().div_ceil(CHUNK_HANDLES);
/// What there is whatever the number of entries, and a chunk partly full for each slot of one level.
pub(super) const FIXED_BYTES: usize =
    LEVELS * SLOTS * size_of::<Chain>() + (SLOTS + FREE_CHUNKS_MAX) * size_of::<Chunk>();
/// Deadlines asked for in one go, so that the caller's cache misses overlap.
const BATCH: usize = 16;
/// Inserts that are placed in one go.
const FRESH_MAX: usize = 32;
/// Chunks kept for reuse, 16 KiB, unless more were set aside.
const FREE_CHUNKS_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Timers {
    len: usize,
    /// Inserted of late, not yet in a slot. An insert writes here alone, one line of memory instead of
    /// five; the slots get them by the batch.
    fresh: Fresh,
    /// The time up to which the wheel has turned.
    at_ms: u64,
    /// Fires next: what was late when inserted, or the rest of a slot whose time has come.
    due: Chain,
    /// A slot of a higher level whose time has come, in part placed anew.
    unsorted: Chain,
    /// Level by level.
    slots: Box<[Chain]>,
    occupied: [[u64; SLOTS / 64]; LEVELS],
    free: FreeChunks,
    /// Slots that the sweep under way has still to take: those before this one.
    to_sweep: usize,
}

/// Entries that have their deadline with them.
#[derive(Debug)]
#[repr(C)]
struct Fresh {
    len: usize,
    earliest_ms: u64,
    latest_ms: u64,
    entries: [(u64, u32); FRESH_MAX],
}

impl Fresh {
    const EMPTY: Self =
        Self { len: 0, earliest_ms: u64::MAX, latest_ms: 0, entries: [(0, 0); FRESH_MAX] };
}

/// Where the next entries are.
#[derive(Clone, Copy, Debug)]
struct NextSlot {
    start_ms: u64,
    level: usize,
    slot: usize,
}

impl Timers {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            at_ms: now_ms,
            len: 0,
            fresh: Fresh::EMPTY,
            due: Chain::default(),
            unsorted: Chain::default(),
            slots: (0..LEVELS * SLOTS).map(|_| Chain::default()).collect(),
            occupied: [[0; SLOTS / 64]; LEVELS],
            free: FreeChunks::default(),
            to_sweep: 0,
        }
    }

    /// Begins a sweep, unless one is under way.
    pub(crate) fn start_sweep(&mut self) {
        if self.to_sweep == 0 {
            self.to_sweep = LEVELS * SLOTS;
        }
    }

    pub(crate) fn is_sweeping(&self) -> bool {
        self.to_sweep > 0
    }

    /// Goes on with a sweep by at most `handles_max` entries, those that are due left to the next
    /// advance.
    pub(crate) fn sweep_some(
        &mut self,
        handles_max: usize,
        mut deadline_of: impl FnMut(u32) -> Option<u64>,
    ) {
        let mut left = handles_max;
        while left > 0 && (!self.unsorted.is_empty() || self.sweep_slot()) {
            // Placing them anew puts those that are due with the others of that kind.
            left -= self.place_anew(left, 0, &mut deadline_of, |_| {});
        }
    }

    /// Takes memory for `entries` entries, so that no insert of these does: of every slot of a level one chunk may be
    /// partly full.
    pub(crate) fn set_aside(&mut self, entries: usize) {
        let chunks = entries.div_ceil(CHUNK_HANDLES) + entries.min(SLOTS);
        self.free.kept_max = self.free.kept_max.max(chunks);
        while self.free.len < chunks {
            self.free.put(Chunk::new(None));
        }
    }

    /// Forgets all entries and starts at another time, with the memory that was set aside.
    pub(crate) fn restart(&mut self, now_ms: u64) {
        let free = std::mem::take(&mut self.free);
        *self = Self { free, ..Self::new(now_ms) };
    }

    /// The handle will fire, once, at the first advance to its deadline or past it.
    pub(crate) fn insert(&mut self, deadline_ms: u64, handle: u32) {
        self.len += 1;
        let fresh = &mut self.fresh;
        fresh.entries[fresh.len] = (deadline_ms, handle);
        fresh.earliest_ms = fresh.earliest_ms.min(deadline_ms);
        fresh.latest_ms = fresh.latest_ms.max(deadline_ms);
        fresh.len += 1;
        if fresh.len == FRESH_MAX {
            self.place_fresh();
        }
    }

    fn place_fresh(&mut self) {
        let Fresh { earliest_ms, latest_ms, .. } = self.fresh;
        let len = std::mem::take(&mut self.fresh.len);
        (self.fresh.earliest_ms, self.fresh.latest_ms) = (u64::MAX, 0);
        // Holds of one length that began together end together: almost always one slot takes them all.
        if len > 0 && earliest_ms > self.at_ms {
            let place = self.place_of(earliest_ms);
            if place == self.place_of(latest_ms) {
                let handles = self.fresh.entries[..len].iter().map(|(_, handle)| *handle);
                handles.for_each(|handle| self.slots[place].push(handle, &mut self.free));
                return self.set_occupied(place);
            }
        }
        for nth in 0..len {
            let (deadline_ms, handle) = self.fresh.entries[nth];
            self.place(deadline_ms, handle);
        }
    }

    #[cfg(test)]
    /// Calls `due` with every handle whose deadline is at or before `now_ms`, in no promised order
    /// within a millisecond. `deadline_of` tells a handle's deadline, `None` to forget the handle.
    pub(crate) fn advance(
        &mut self,
        now_ms: u64,
        deadline_of: impl Fn(u32) -> Option<u64>,
        due: impl FnMut(u32),
    ) {
        let more = self.advance_some(now_ms, usize::MAX, deadline_of, due);
        debug_assert!(!more, "there are fewer entries than that");
    }

    /// Like [`Timers::advance`], but handles at most `handles_max` entries, fired or moved, so that
    /// a lock is never held long; whether there is more to do. A later call goes on where it
    /// stopped.
    pub(crate) fn advance_some(
        &mut self,
        now_ms: u64,
        handles_max: usize,
        mut deadline_of: impl FnMut(u32) -> Option<u64>,
        mut due: impl FnMut(u32),
    ) -> bool {
        self.place_fresh();
        let mut left = handles_max.max(1);
        while left > 0 {
            if self.due.is_empty() && self.unsorted.is_empty() && !self.turn(now_ms) {
                return false;
            }
            if let Some(handle) = self.due.pop(&mut self.free) {
                self.len -= 1;
                left -= 1;
                due(handle);
            } else {
                left -= self.place_anew(left, now_ms, &mut deadline_of, &mut due);
            }
        }
        self.next_due_ms() <= self.at_ms.max(now_ms)
    }

    /// No handle is due before this time; `u64::MAX` when there is none.
    pub(crate) fn next_due_ms(&self) -> u64 {
        let placed_ms = match self.due.is_empty() && self.unsorted.is_empty() {
            true => self.next_slot().map_or(u64::MAX, |next| next.start_ms),
            false => self.at_ms,
        };
        placed_ms.min(self.fresh.earliest_ms)
    }

    /// Entries, those included whose order ended.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn place(&mut self, deadline_ms: u64, handle: u32) {
        if deadline_ms <= self.at_ms {
            return self.due.push(handle, &mut self.free);
        }
        let place = self.place_of(deadline_ms);
        self.slots[place].push(handle, &mut self.free);
        self.set_occupied(place);
    }

    /// The place in `slots` of an entry with this deadline, which is ahead.
    fn place_of(&self, deadline_ms: u64) -> usize {
        let reach = SLOTS as u64 - 1;
        let ahead = |level: usize| units(deadline_ms, level) - units(self.at_ms, level);
        let level = (0..LEVELS - 1).find(|&level| ahead(level) <= reach).unwrap_or(LEVELS - 1);
        let last = units(self.at_ms, level).saturating_add(reach);
        level * SLOTS + units(deadline_ms, level).min(last) as usize % SLOTS
    }

    fn set_occupied(&mut self, place: usize) {
        let (level, slot) = (place / SLOTS, place % SLOTS);
        self.occupied[level][slot / 64] |= 1 << (slot % 64);
    }

    /// Places some entries of `unsorted` where they belong now; how many.
    fn place_anew(
        &mut self,
        handles_max: usize,
        now_ms: u64,
        mut deadline_of: impl FnMut(u32) -> Option<u64>,
        mut due: impl FnMut(u32),
    ) -> usize {
        let mut batch = [(0, None); BATCH];
        let mut len = 0;
        while len < handles_max.min(BATCH)
            && let Some(handle) = self.unsorted.pop(&mut self.free)
        {
            batch[len] = (handle, deadline_of(handle));
            len += 1;
        }
        for &(handle, deadline_ms) in &batch[..len] {
            match deadline_ms {
                Some(deadline_ms) if deadline_ms > now_ms => self.place(deadline_ms, handle),
                Some(_) => {
                    self.len -= 1;
                    due(handle);
                }
                None => self.len -= 1,
            }
        }
        len
    }

    /// Turns to the next slot that holds anything and takes it; `false` if that is after `now_ms`.
    fn turn(&mut self, now_ms: u64) -> bool {
        debug_assert!(self.due.is_empty() && self.unsorted.is_empty());
        let next = self.next_slot().filter(|next| next.start_ms <= now_ms.max(self.at_ms));
        let Some(NextSlot { start_ms, level, slot }) = next else {
            self.at_ms = self.at_ms.max(now_ms);
            return false;
        };
        debug_assert!(start_ms >= self.at_ms, "a slot is taken when its time comes");
        self.at_ms = start_ms;
        self.occupied[level][slot / 64] &= !(1 << (slot % 64));
        let chain = std::mem::take(&mut self.slots[level * SLOTS + slot]);
        match level {
            0 => self.due = chain,
            _ => self.unsorted = chain,
        }
        true
    }

    /// Takes the next slot that the sweep has not taken and that holds anything; `false` when there is
    /// none. From the highest on, so that an entry that is placed anew may be swept again, not missed.
    fn sweep_slot(&mut self) -> bool {
        while let Some(nth) = self.to_sweep.checked_sub(1) {
            self.to_sweep = nth;
            let chain = std::mem::take(&mut self.slots[nth]);
            if !chain.is_empty() {
                let (level, slot) = (nth / SLOTS, nth % SLOTS);
                self.occupied[level][slot / 64] &= !(1 << (slot % 64));
                self.unsorted = chain;
                return true;
            }
        }
        false
    }

    /// The slot that starts first; of several the one on the highest level.
    fn next_slot(&self) -> Option<NextSlot> {
        let next_of = |level| {
            let now = units(self.at_ms, level);
            let ahead = next_bit(&self.occupied[level], now as usize % SLOTS)?;
            let start_ms = (now + ahead as u64) << (level * SLOT_BITS);
            Some(NextSlot { start_ms, level, slot: (now as usize + ahead) % SLOTS })
        };
        (0..LEVELS).rev().filter_map(next_of).min_by_key(|next| next.start_ms)
    }
}

/// A time in slots of a level.
fn units(ms: u64, level: usize) -> u64 {
    ms >> (level * SLOT_BITS)
}

/// How far after bit `from` the next one is set, going round; 0 if it is that bit.
fn next_bit(words: &[u64; SLOTS / 64], from: usize) -> Option<usize> {
    let (first, bit) = (from / 64, from % 64);
    // The first word is looked at twice: at the bits from `from` on, and at last at those before.
    (0..=words.len()).find_map(|step| {
        let nth = (first + step) % words.len();
        let seen = match step {
            0 => !0 << bit,
            _ if step == words.len() => !(!0 << bit),
            _ => !0,
        };
        let hit = words[nth] & seen;
        (hit != 0).then(|| (nth * 64 + hit.trailing_zeros() as usize + SLOTS - from) % SLOTS)
    })
}

/// Handles in chunks, so that none is ever copied to make room. Only the first chunk is partly
/// full.
#[derive(Debug, Default)]
struct Chain {
    /// Never an empty chunk.
    first: Option<Box<Chunk>>,
}

#[derive(Debug)]
struct Chunk {
    next: Option<Box<Chunk>>,
    len: u32,
    handles: [u32; CHUNK_HANDLES],
}

const _: () = assert!(size_of::<Chunk>() == 256);

impl Chunk {
    fn new(next: Option<Box<Chunk>>) -> Box<Self> {
        Box::new(Self { next, len: 0, handles: [0; CHUNK_HANDLES] })
    }
}

impl Chain {
    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn push(&mut self, handle: u32, free: &mut FreeChunks) {
        let full = self.first.as_ref().is_none_or(|first| first.len as usize == CHUNK_HANDLES);
        if full {
            let next = self.first.take();
            self.first = Some(free.take(next));
        }
        if let Some(first) = &mut self.first {
            first.handles[first.len as usize] = handle;
            first.len += 1;
        }
    }

    fn pop(&mut self, free: &mut FreeChunks) -> Option<u32> {
        let first = self.first.as_mut()?;
        first.len -= 1;
        let handle = first.handles[first.len as usize];
        if first.len == 0 {
            let mut emptied = self.first.take()?;
            self.first = emptied.next.take();
            free.put(emptied);
        }
        Some(handle)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        drop_all(self.first.take());
    }
}

/// Chunk by chunk: a chunk that dropped its successor would overflow the stack.
fn drop_all(mut next: Option<Box<Chunk>>) {
    while let Some(mut chunk) = next {
        next = chunk.next.take();
    }
}

/// Chunks that were drained or set aside, a list.
#[derive(Debug)]
struct FreeChunks {
    first: Option<Box<Chunk>>,
    len: usize,
    /// Chunks that are drained beyond this are freed.
    kept_max: usize,
}

impl Default for FreeChunks {
    fn default() -> Self {
        Self { first: None, len: 0, kept_max: FREE_CHUNKS_MAX }
    }
}

impl FreeChunks {
    fn take(&mut self, next: Option<Box<Chunk>>) -> Box<Chunk> {
        match self.first.take() {
            Some(mut chunk) => {
                self.first = std::mem::replace(&mut chunk.next, next);
                self.len -= 1;
                chunk
            }
            None => Chunk::new(next),
        }
    }

    fn put(&mut self, mut chunk: Box<Chunk>) {
        debug_assert!(chunk.len == 0 && chunk.next.is_none());
        if self.len < self.kept_max {
            chunk.next = self.first.take();
            self.first = Some(chunk);
            self.len += 1;
        }
    }
}

impl Drop for FreeChunks {
    fn drop(&mut self) {
        drop_all(self.first.take());
    }
}

#[cfg(test)]
mod tests;
