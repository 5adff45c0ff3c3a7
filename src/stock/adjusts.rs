//! A SKU's adjustments by key, each answered the same for as long as it is kept.
//!
//! Invariants:
//! - Entries stand in the order in which they came, and leave at the front, so that a checkpoint can copy them
//!   bit by bit. None leaves while one does.
//! - An entry whose time is over answers nothing, whether it has left or not: what a replay finds again is
//!   of no consequence.

use std::collections::{HashMap, VecDeque};

use crate::ids::RequestKey;
use crate::order::AdjustKind;

/// How many entries leave with one adjustment: more than come, so that a table becomes smaller again.
const FORGOTTEN_A_CHANGE: usize = 2;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Adjusts {
    entries: VecDeque<(RequestKey, AdjustEntry)>,
    /// Where a key's latest entry is, counted from the first that ever came.
    places: HashMap<RequestKey, u64, ahash::RandomState>,
    /// How many have left.
    left: u64,
    /// A dated key that is not newer than this may have had an entry that has left.
    pub(crate) forgotten_ms: u64,
}

/// An adjustment that happened: what it asked for and what it did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdjustEntry {
    pub(crate) kind: AdjustKind,
    pub(crate) units: u32,
    pub(crate) expected: u32,
    pub(crate) reference_digest: u64,
    pub(crate) delta: i64,
    pub(crate) stocked: u64,
    pub(crate) lsn: u64,
    /// In engine time.
    pub(crate) at_ms: u64,
}

impl AdjustEntry {
    /// Whether it is answered no more. A dated key is kept as if it had come at its own time, if that is
    /// later: until it is too old to count as new.
    pub(crate) fn is_over(&self, key: RequestKey, now_ms: u64, retention_ms: u64) -> bool {
        let from_ms = self.at_ms.max(key.unix_ms().unwrap_or(0));
        from_ms.saturating_add(retention_ms) <= now_ms
    }
}

impl Adjusts {
    pub(crate) fn get(&self, key: RequestKey) -> Option<&AdjustEntry> {
        let nth = self.places.get(&key)?.checked_sub(self.left)?;
        self.entries.get(nth as usize).map(|(_, entry)| entry)
    }

    /// The key's adjustment from now on.
    pub(crate) fn insert(&mut self, key: RequestKey, entry: AdjustEntry) {
        self.places.insert(key, self.left + self.entries.len() as u64);
        self.entries.push_back((key, entry));
    }

    /// Lets some go whose time is over.
    pub(crate) fn forget_some(&mut self, now_ms: u64, retention_ms: u64) {
        for _ in 0..FORGOTTEN_A_CHANGE {
            let Some((key, entry)) = self.entries.front().copied() else { return };
            if !entry.is_over(key, now_ms, retention_ms) {
                return;
            }
            self.entries.pop_front();
            // The key may have another entry by now.
            if self.places.get(&key) == Some(&self.left) {
                self.places.remove(&key);
            }
            self.left += 1;
            let dated_ms = key.unix_ms().unwrap_or(0);
            self.forgotten_ms = self.forgotten_ms.max(dated_ms);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// In the order in which they came.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestKey, &AdjustEntry)> {
        self.entries.iter().map(|(key, entry)| (*key, entry))
    }

    /// Some of them, the first of which is the `from`th.
    pub(crate) fn some(
        &self,
        from: usize,
        count: usize,
    ) -> impl Iterator<Item = (RequestKey, &AdjustEntry)> {
        let some = self.entries.range(from..from + count);
        some.map(|(key, entry)| (*key, entry))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn entry(at_ms: u64) -> AdjustEntry {
        AdjustEntry {
            kind: AdjustKind::Add,
            units: 1,
            expected: 0,
            reference_digest: 0,
            delta: 1,
            stocked: at_ms,
            lsn: at_ms,
            at_ms,
        }
    }

    #[test]
    fn entries_leave_at_the_front_a_few_at_a_time() {
        let mut adjusts = Adjusts::default();
        let key = |key: u64| RequestKey::new(key.into());
        (1..=5).for_each(|nth| adjusts.insert(key(nth), entry(nth)));
        adjusts.forget_some(103, 100);
        assert_eq!(adjusts.len(), 3, "two with one change");
        // A key whose time is over comes again before its entry has left.
        adjusts.insert(key(3), entry(103));
        adjusts.forget_some(103, 100);
        assert_eq!(adjusts.get(key(3)).map(|entry| entry.at_ms), Some(103));
        assert_eq!(adjusts.get(key(2)).map(|entry| entry.at_ms), None);
        assert_eq!(adjusts.get(key(4)).map(|entry| entry.at_ms), Some(4));
        let times = |adjusts: &Adjusts| adjusts.iter().map(|(_, it)| it.at_ms).collect::<Vec<_>>();
        assert_eq!(times(&adjusts), [4, 5, 103]);
        assert_eq!(adjusts.some(1, 2).map(|(_, it)| it.at_ms).collect::<Vec<_>>(), [5, 103]);
        adjusts.forget_some(1_000, 100);
        adjusts.forget_some(1_000, 100);
        assert_eq!((adjusts.len(), adjusts.places.len()), (0, 0));
    }
}
