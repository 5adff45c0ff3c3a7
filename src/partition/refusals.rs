//! Refusals that are remembered, of one partition: until their time is over, and at most `count_max`.
//!
//! They are kept in the order in which they were logged, and leave from the front: the oldest when there is
//! one too many, and those whose time is over. That is never logged. A replay meets them in the same order,
//! so under the same bound the same ones are left; and whose time is over is not told, there or not.
//!
//! Invariants:
//! - LSNs ascend from the front to the back.
//! - The index holds each entry's key hash with its handle, and nothing else.

use std::collections::VecDeque;

use crate::ids::{BuyerId, RequestKey};
use crate::mutants::{self, Mutant};
use crate::order::Refused;
use crate::partition::key_index::{self, KeyIndexWriter};

/// Entries of a chunk, which comes and goes at once: no refusal pays for moving many others.
const CHUNK_ENTRIES: usize = 64;
/// Bytes a refusal, at worst: just after the parts of the index split.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>() + key_index::GROWN_BYTES_MAX;
const _: () = assert!(size_of::<Entry>() <= 136);
/// What they take however many there are: a segment of the index, two chunks in part.
pub(super) const FIXED_BYTES: usize =
    key_index::FIXED_BYTES + 2 * CHUNK_ENTRIES * size_of::<Entry>();

/// See the module.
#[derive(Debug)]
pub(crate) struct Refusals {
    count_max: usize,
    chunks: VecDeque<Vec<Entry>>,
    /// Entries that are gone from the first chunk.
    taken: usize,
    len: usize,
    /// Of the entry at the front; handles follow each other, and wrap.
    first: u32,
    index: KeyIndexWriter,
}

/// A refusal and where it is logged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) refused: Refused,
    pub(crate) lsn: u64,
    key_hash: u64,
}

impl Refusals {
    /// Remembers none yet, and at most `count_max` later, at least one. `index` is empty.
    pub(crate) fn new(count_max: u64, index: KeyIndexWriter) -> Self {
        let count_max = count_max.clamp(1, u64::from(u32::MAX / 2)) as usize;
        Self { count_max, chunks: VecDeque::new(), taken: 0, len: 0, first: 0, index }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What the key was refused last, if that counts at this time. One that was forgotten and refused again has
    /// two when the log is replayed under a larger bound, or at an earlier time.
    pub(crate) fn find(
        &self,
        key_hash: u64,
        buyer: BuyerId,
        key: RequestKey,
        now_ms: u64,
    ) -> Option<&Entry> {
        let late_ms = u64::from(mutants::is(Mutant::RemembersRefusalTooLong));
        let mut last: Option<&Entry> = None;
        self.index.find(key_hash, |handle| {
            let entry = self.get(handle).filter(|Entry { refused, .. }| {
                refused.buyer == buyer && refused.key == key && refused.until_ms + late_ms > now_ms
            });
            last = last.into_iter().chain(entry).max_by_key(|entry| entry.lsn);
            false
        });
        last
    }

    /// Remembers a refusal that was logged behind all others; the oldest is forgotten if there are too many.
    pub(crate) fn add(&mut self, refused: Refused, lsn: u64, key_hash: u64) {
        if self.len == self.count_max {
            self.forget_first();
        }
        let handle = self.first.wrapping_add(self.len as u32);
        self.index.insert(key_hash, handle);
        if self.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK_ENTRIES) {
            self.chunks.push_back(Vec::with_capacity(CHUNK_ENTRIES));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.push(Entry { refused, lsn, key_hash });
            self.len += 1;
        }
    }

    /// Forgets at most `count_max` refusals whose time is over; returns whether there may be more. If the option was
    /// changed, a refusal may be over before an older one is. It is forgotten after that one.
    pub(crate) fn forget_due(&mut self, now_ms: u64, count_max: usize) -> bool {
        for _ in 0..count_max {
            if self.next_due_ms() > now_ms {
                return false;
            }
            self.forget_first();
        }
        true
    }

    /// When one can be forgotten; `u64::MAX` when there is none.
    pub(crate) fn next_due_ms(&self) -> u64 {
        self.at(0).map_or(u64::MAX, |entry| entry.refused.until_ms)
    }

    /// Of the one that was logged last, of those that are there; 0: there is none.
    pub(crate) fn last_lsn(&self) -> u64 {
        self.len.checked_sub(1).and_then(|last| self.at(last)).map_or(0, |entry| entry.lsn)
    }

    /// Those that are there and were logged behind this LSN, in their order.
    pub(crate) fn behind(&self, lsn: u64) -> impl Iterator<Item = &Entry> {
        let (mut from, mut to) = (0, self.len);
        while from < to {
            let middle = from.midpoint(to);
            match self.at(middle).is_some_and(|entry| entry.lsn <= lsn) {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        (from..self.len).filter_map(|nth| self.at(nth))
    }

    fn get(&self, handle: u32) -> Option<&Entry> {
        self.at(handle.wrapping_sub(self.first) as usize)
    }

    /// The entry so far from the front.
    fn at(&self, nth: usize) -> Option<&Entry> {
        let place = self.taken + nth;
        self.chunks.get(place / CHUNK_ENTRIES)?.get(place % CHUNK_ENTRIES)
    }

    fn forget_first(&mut self) {
        let Some(Entry { key_hash, .. }) = self.at(0) else { return };
        self.index.remove(*key_hash, self.first);
        self.first = self.first.wrapping_add(1);
        self.len -= 1;
        self.taken += 1;
        if self.taken == CHUNK_ENTRIES || self.len == 0 {
            self.chunks.pop_front();
            self.taken = 0;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ids::SkuId;
    use crate::order::{Content, Policy, Refusal};
    use crate::partition::random::Random;
    use crate::routing::mix;

    fn refused(buyer: u64, until_ms: u64) -> Refused {
        Refused {
            buyer: BuyerId::from_u64(buyer),
            key: RequestKey::new(7),
            content: Content {
                lines_digest: mix(buyer),
                payload_digest: 0,
                hold_ms: 1,
                default_hold: false,
                policy: Policy::AllOrNone,
            },
            refusal: Refusal::OthersWaiting { sku: SkuId::new(buyer) },
            until_ms,
        }
    }

    /// What the model says of all that is there, and of a buyer.
    fn assert_same(refusals: &Refusals, model: &VecDeque<(Refused, u64)>, buyer: u64, now_ms: u64) {
        let hash = hash_of(buyer);
        let (id, key) = (BuyerId::from_u64(buyer), RequestKey::new(7));
        let found = refusals.find(hash, id, key, now_ms).map(|entry| (entry.refused, entry.lsn));
        let counts =
            |(refused, _): &&(Refused, u64)| refused.buyer == id && refused.until_ms > now_ms;
        assert_eq!(found, model.iter().find(counts).copied());
        assert_eq!(refusals.len(), model.len());
    }

    /// Few hashes, so that many are alike.
    fn hash_of(buyer: u64) -> u64 {
        mix(buyer % 64) << 32
    }

    #[test]
    fn they_agree_with_a_list_whatever_comes_and_goes() {
        let mut random = Random::new("they_agree_with_a_list_whatever_comes_and_goes");
        for _ in 0..40 {
            let count_max = 1 + random.below(400);
            let mut refusals = Refusals::new(count_max, KeyIndexWriter::with_capacity(0));
            // Handles wrap.
            refusals.first = u32::MAX - 100;
            let (mut model, mut now_ms, mut lsn) = (VecDeque::new(), 0, 0);
            for _ in 0..3_000 {
                let buyer = random.below(500);
                let is_there = refusals.find(
                    hash_of(buyer),
                    BuyerId::from_u64(buyer),
                    RequestKey::new(7),
                    now_ms,
                );
                if is_there.is_none() {
                    lsn += 1 + random.below(3);
                    let refused = refused(buyer, now_ms + 1 + random.below(300));
                    refusals.add(refused, lsn, hash_of(buyer));
                    model.push_back((refused, lsn));
                    if model.len() as u64 > count_max {
                        model.pop_front();
                    }
                }
                if random.below(10) == 0 {
                    now_ms += random.below(100);
                    let more = refusals.forget_due(now_ms, 16);
                    let mut left = 16;
                    while left > 0 && model.front().is_some_and(|(it, _)| it.until_ms <= now_ms) {
                        model.pop_front();
                        left -= 1;
                    }
                    assert_eq!(more, left == 0);
                }
                assert_same(&refusals, &model, random.below(500), now_ms);
            }
            let from = random.below(lsn + 2);
            let behind: VecDeque<_> =
                refusals.behind(from).map(|it| (it.refused, it.lsn)).collect();
            model.retain(|(_, lsn)| *lsn > from);
            assert_eq!(behind, model);
        }
    }
}
