//! What a split writes: which entries stay in a segment, which leave it, and where each lies then.

use crate::partition::key_index::segment::{
    LINES, LISTED, SLOTS, Segment, WINDOW, home_of, tag_in,
};
use crate::sync::Ordering;

impl Segment {
    /// Parts the entries that stay from those that move, without a branch that depends on which.
    pub(super) fn part<'a>(
        &self,
        entries: &'a mut [u64; LINES * SLOTS],
        moves: impl Fn(u32) -> bool,
    ) -> (&'a [u64], &'a [u64]) {
        let (mut stay, mut leave) = (0, entries.len());
        for slot in self.lines.iter().flat_map(|line| &line.entries) {
            let entry = slot.load(Ordering::Relaxed);
            let moves = moves(tag_in(entry));
            // What is written to the gap between the two, or of a vacant slot, is overwritten.
            entries[stay] = entry;
            stay += usize::from(entry != 0 && !moves);
            entries[leave - 1] = entry;
            leave -= usize::from(entry != 0 && moves);
        }
        (&entries[..stay], &entries[leave..])
    }
}

/// What a segment holds after a split, each entry as near to its home as there is room.
pub(super) struct Layout {
    entries: [[u64; SLOTS]; LINES],
    metas: [u64; LINES],
    pub(super) len: u32,
    /// Entries whose window is full, for the list.
    pub(super) homeless: Vec<u64>,
}

impl Layout {
    /// Of some of the entries of `old`, and all its marks.
    pub(super) fn new(old: &Segment, entries: &[u64]) -> Self {
        let mut layout = Self {
            entries: [[0; SLOTS]; LINES],
            metas: std::array::from_fn(|nth| old.lines[nth].meta.load(Ordering::Relaxed) & LISTED),
            len: entries.len() as u32,
            homeless: Vec::new(),
        };
        let mut filled = [0; LINES];
        for &entry in entries {
            let home = home_of(tag_in(entry));
            let mut lines = (home..home + WINDOW).map(|line| line % LINES);
            match lines.position(|line| filled[line] < SLOTS) {
                Some(distance) => {
                    let line = (home + distance) % LINES;
                    layout.entries[line][filled[line]] = entry;
                    filled[line] += 1;
                    (home..home + distance).for_each(|passed| layout.metas[passed % LINES] += 1);
                }
                None => {
                    layout.metas[home] |= LISTED;
                    layout.len -= 1;
                    layout.homeless.push(entry);
                }
            }
        }
        layout
    }

    pub(super) fn write(&self, segment: &Segment) {
        for (line, (entries, &meta)) in
            segment.lines.iter().zip(self.entries.iter().zip(&self.metas))
        {
            for (slot, &entry) in line.entries.iter().zip(entries) {
                slot.store(entry, Ordering::Release);
            }
            line.meta.store(meta, Ordering::Release);
        }
    }
}
