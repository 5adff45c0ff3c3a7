//! A segment of the key index, and its lines. Only [the index](super) uses them.

use crate::sync::{AtomicU64, Ordering};

/// Lines of a segment, and entries of a line: 16 KiB of 64-byte lines. A model checker gets small
/// ones.
pub(super) const LINES: usize = if cfg!(loom) { 2 } else { 256 };
pub(super) const SLOTS: usize = if cfg!(loom) { 2 } else { 7 };
/// How many lines from its home an entry may lie. Far more than searches walk (1.1 lines on average
/// at three quarters full, since counts end them), so that one crowded spot does not split a
/// segment: with 8 a third of all segments split before three quarters, with 32 one in 30,000.
pub(super) const WINDOW: usize = if cfg!(loom) { 2 } else { 32 };

/// In [`Line::meta`]: a key with this home line is on the list. Stays set: after its last such key
/// is gone it costs a needless look, nothing else.
pub(super) const LISTED: u64 = 1 << 63;

/// One cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Line {
    /// Tag above, handle below; 0 is vacant. Stored with `Release` by the writer, loaded `Relaxed`
    /// by readers: that they see what they must is argued on `KeyIndex::splits`.
    pub(super) entries: [AtomicU64; SLOTS],
    /// How many entries passed this line, and [`LISTED`]. Only the writer changes it, each time by
    /// one store, so a reader never sees a count that leaves out a key that is in.
    pub(super) meta: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) lines: [Line; LINES],
}

impl Segment {
    pub(super) fn new() -> Self {
        let line = |_| Line {
            entries: std::array::from_fn(|_| AtomicU64::new(0)),
            meta: AtomicU64::new(0),
        };
        Self { lines: std::array::from_fn(line) }
    }

    pub(super) fn line(&self, tag: u32, distance: usize) -> &Line {
        &self.lines[(home_of(tag) + distance) % LINES]
    }

    /// Lines up to the last one where an entry with this tag may lie.
    pub(super) fn window(&self, tag: u32) -> impl Iterator<Item = &Line> {
        let mut more = true;
        (0..WINDOW).map_while(move |distance| {
            let line = more.then(|| self.line(tag, distance))?;
            more = line.passed() > 0;
            Some(line)
        })
    }

    pub(super) fn lacks(&self, tag: u32) -> bool {
        let home = self.line(tag, 0);
        match home.meta.load(Ordering::Relaxed) {
            // Almost always: no entry lies beyond its home line.
            0 => home.entries.iter().all(|entry| tag_in(entry.load(Ordering::Relaxed)) != tag),
            _ => !home.is_listed() && self.window(tag).all(|line| line.matches(tag) == 0),
        }
    }

    pub(super) fn find(&self, tag: u32, is_it: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        for line in self.window(tag) {
            let mut matches = line.matches(tag);
            while matches != 0 {
                let slot = matches.trailing_zeros() as usize;
                let handle = handle_in(line.entries[slot].load(Ordering::Relaxed));
                if is_it(handle) {
                    return Some(handle);
                }
                matches &= matches - 1;
            }
        }
        None
    }

    pub(super) fn put(&self, tag: u32, handle: u32) -> bool {
        for distance in 0..WINDOW {
            if let Some(slot) = self.line(tag, distance).slot_with(0) {
                (0..distance).for_each(|passed| self.line(tag, passed).count(1));
                slot.store(entry_of(tag, handle), Ordering::Release);
                return true;
            }
        }
        false
    }

    pub(super) fn take(&self, tag: u32, handle: u32) -> bool {
        for (distance, line) in self.window(tag).enumerate() {
            if let Some(slot) = line.slot_with(entry_of(tag, handle)) {
                slot.store(0, Ordering::Release);
                (0..distance).for_each(|passed| self.line(tag, passed).count(-1));
                return true;
            }
        }
        false
    }

    pub(super) fn replace(&self, tag: u32, from: u32, to: u32) -> bool {
        let slot = self.window(tag).find_map(|line| line.slot_with(entry_of(tag, from)));
        slot.into_iter().for_each(|slot| slot.store(entry_of(tag, to), Ordering::Release));
        slot.is_some()
    }
}

impl Line {
    /// Which slots hold this tag, as bits: one branch for all seven.
    pub(super) fn matches(&self, tag: u32) -> u32 {
        self.slots_where(|entry| tag_in(entry) == tag)
    }

    /// The first vacant slot, [`SLOTS`] if there is none. The error is the handle of an entry with this tag.
    pub(super) fn vacant_without(&self, tag: u32) -> Result<usize, u32> {
        let mut vacant = SLOTS;
        for (slot, entry) in self.entries.iter().enumerate().rev() {
            let entry = entry.load(Ordering::Relaxed);
            match tag_in(entry) {
                0 => vacant = slot,
                other if other == tag => return Err(handle_in(entry)),
                _ => {}
            }
        }
        Ok(vacant)
    }

    pub(super) fn slot_with(&self, wanted: u64) -> Option<&AtomicU64> {
        let found = self.slots_where(|entry| entry == wanted);
        self.entries.get(found.trailing_zeros() as usize)
    }

    pub(super) fn slots_where(&self, is_it: impl Fn(u64) -> bool) -> u32 {
        let bits = self.entries.iter().enumerate();
        bits.fold(0, |bits, (slot, entry)| {
            bits | u32::from(is_it(entry.load(Ordering::Relaxed))) << slot
        })
    }

    pub(super) fn passed(&self) -> u64 {
        self.meta.load(Ordering::Relaxed) & !LISTED
    }

    pub(super) fn is_listed(&self) -> bool {
        self.meta.load(Ordering::Relaxed) & LISTED != 0
    }

    pub(super) fn count(&self, by: i64) {
        let meta = self.meta.load(Ordering::Relaxed);
        debug_assert!(by > 0 || meta & !LISTED > 0, "an entry that passed was counted");
        self.meta.store(meta.wrapping_add_signed(by), Ordering::Release);
    }
}

/// The upper half of the hash, with one bit set, since 0 marks a vacant slot.
pub(super) fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

/// The low bits that tell tags apart; the directory goes by the high ones.
pub(super) fn home_of(tag: u32) -> usize {
    (tag >> 1) as usize % LINES
}

pub(super) fn entry_of(tag: u32, handle: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(handle)
}

pub(super) fn tag_in(entry: u64) -> u32 {
    (entry >> 32) as u32
}

pub(super) fn handle_in(entry: u64) -> u32 {
    entry as u32
}
