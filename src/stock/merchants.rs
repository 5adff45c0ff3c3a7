//! Merchants: whose switch and rate act on their SKUs.
//!
//! Invariants:
//! - A merchant, once added, is never moved or removed; its index counts up from 0.
//! - Like a SKU's rules, a merchant's are the strictest of all that may come back in a crash (rule R8).

use std::collections::HashMap;

use crossbeam_utils::CachePadded;

use crate::error::{Capacity, Unavailable};
use crate::ids::MerchantId;
use crate::order::{MerchantRules, Rate, Switch};
use crate::stock::in_flight::InFlight;
use crate::sync::{AtomicU32, AtomicU64, Mutex, OnceLock, Ordering};

/// Merchants to a chunk of memory.
const CHUNK: usize = 64;

type Chunk = Box<[OnceLock<Merchant>]>;

#[derive(Debug)]
pub(crate) struct Merchants {
    chunks: Box<[OnceLock<Chunk>]>,
    /// Read by threads that change rules; the request path has indices.
    by_id: Mutex<HashMap<MerchantId, u32, ahash::RandomState>>,
    merchants_max: usize,
}

#[derive(Debug)]
pub(crate) struct Merchant {
    pub(crate) id: MerchantId,
    pub(crate) index: u32,
    /// Serialises the merchant's records.
    pub(crate) ledger: Mutex<MerchantLedger>,
    switch: AtomicU32,
    /// The rate, as the bucket needs it, in one word, so that no request reads a part of one rate and a part of
    /// another; see [`Pace::word`]. 0: no rate. Written under `ledger`.
    pace: AtomicU64,
    bucket: CachePadded<Bucket>,
}

/// What only the merchant's records change.
#[derive(Debug, Default)]
pub(crate) struct MerchantLedger {
    pub(crate) logged: MerchantState,
    acting: MerchantState,
    pub(crate) in_flight: InFlight<MerchantState>,
    pub(crate) last_lsn: u64,
}

/// A merchant's rules, each with a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MerchantState {
    pub(crate) switch: Switch,
    pub(crate) rate: Option<Rate>,
}

impl MerchantState {
    pub(crate) fn with(self, rules: MerchantRules) -> Self {
        Self { switch: rules.switch.unwrap_or(self.switch), rate: rules.rate.unwrap_or(self.rate) }
    }

    fn stricter(self, other: Self) -> Self {
        Self { switch: self.switch.max(other.switch), rate: Rate::stricter(self.rate, other.rate) }
    }
}

impl MerchantLedger {
    /// The rules in force.
    pub(crate) fn acting(&self) -> MerchantState {
        self.acting
    }
}

impl Merchants {
    pub(crate) fn new(merchants_max: usize) -> Self {
        Self {
            chunks: (0..merchants_max.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            by_id: Mutex::default(),
            merchants_max,
        }
    }

    /// The merchant at an index that [`Merchant::index`] told.
    pub(crate) fn get(&self, index: u32) -> &Merchant {
        let (chunk, place) = (index as usize / CHUNK, index as usize % CHUNK);
        self.chunks[chunk]
            .get()
            .and_then(|chunk| chunk[place].get())
            .expect("an index is told only after its merchant is in place")
    }

    pub(crate) fn find(&self, id: MerchantId) -> Option<&Merchant> {
        let index = self.by_id.lock().get(&id).copied();
        index.map(|index| self.get(index))
    }

    /// Returns the merchant, made if it is not there.
    pub(crate) fn find_or_insert(&self, id: MerchantId) -> Result<&Merchant, Unavailable> {
        let mut by_id = self.by_id.lock();
        if let Some(index) = by_id.get(&id) {
            return Ok(self.get(*index));
        }
        let index = by_id.len();
        if index == self.merchants_max {
            let (what, bound) = (Capacity::Merchants, index as u64);
            return Err(Unavailable::AtCapacity { what, bound });
        }
        let chunk = self.chunks[index / CHUNK]
            .get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        let merchant = chunk[index % CHUNK].get_or_init(|| Merchant::new(id, index as u32));
        by_id.insert(id, index as u32);
        Ok(merchant)
    }

    /// The index of a merchant; `None`: it is not there, and there is room for it.
    pub(crate) fn check(&self, id: MerchantId) -> Result<Option<u32>, Unavailable> {
        let by_id = self.by_id.lock();
        let index = by_id.get(&id).copied();
        if index.is_none() && by_id.len() == self.merchants_max {
            let (what, bound) = (Capacity::Merchants, self.merchants_max as u64);
            return Err(Unavailable::AtCapacity { what, bound });
        }
        Ok(index)
    }

    pub(crate) fn len(&self) -> u32 {
        self.by_id.lock().len() as u32
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Merchant> {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl Merchant {
    fn new(id: MerchantId, index: u32) -> Self {
        Self {
            id,
            index,
            ledger: Mutex::default(),
            switch: AtomicU32::new(0),
            pace: AtomicU64::new(0),
            bucket: CachePadded::new(Bucket::default()),
        }
    }

    pub(crate) fn switch(&self) -> Switch {
        Switch::from_code(self.switch.load(Ordering::Acquire).into()).unwrap_or(Switch::Halted)
    }

    /// The rate in force, if there is one.
    pub(crate) fn pace(&self) -> Option<Pace> {
        Pace::from_word(self.pace.load(Ordering::Acquire))
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// A change is logged: the stricter of old and new acts until it is durable.
    pub(crate) fn change(&self, ledger: &mut MerchantLedger, to: MerchantState) {
        ledger.logged = to;
        ledger.acting = ledger.acting.stricter(to);
        ledger.in_flight.push(to);
        self.set(ledger.acting);
    }

    /// The oldest change that was not durable is.
    pub(crate) fn settle(&self) {
        let mut ledger = self.ledger.lock();
        if let Some(settled) = ledger.in_flight.settle(|a, b| a.stricter(*b)) {
            ledger.acting = settled.acting;
            self.set(ledger.acting);
        }
    }

    /// Replay: what is logged acts, because all of it is durable.
    pub(crate) fn put_in_force(&self, ledger: &mut MerchantLedger) {
        ledger.acting = ledger.logged;
        self.set(ledger.acting);
    }

    fn set(&self, state: MerchantState) {
        let word = state.rate.map_or(0, |rate| Pace::of(rate).word());
        self.pace.store(word, Ordering::Release);
        self.switch.store(state.switch as u32, Ordering::Release);
    }
}

/// A rate in the bucket's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    interval_ns: u64,
    burst: u32,
}

impl Pace {
    /// An interval is rounded up: never more orders than the rate allows.
    fn of(rate: Rate) -> Self {
        let interval_ns = 1_000_000_000_u64.div_ceil(rate.orders_per_s.max(1).into());
        Self { interval_ns, burst: rate.burst }
    }

    /// Both in one word: an interval is at most a second, and so below 2^32 ns.
    const fn word(self) -> u64 {
        self.interval_ns << 32 | self.burst as u64
    }

    fn from_word(word: u64) -> Option<Self> {
        (word > 0).then_some(Self { interval_ns: word >> 32, burst: word as u32 })
    }

    /// How far ahead of now the bucket may be for one more to fit.
    const fn slack_ns(self) -> u64 {
        self.interval_ns * self.burst.saturating_sub(1) as u64
    }
}

/// A token bucket, as the generic cell rate algorithm in its form of virtual scheduling (ITU-T I.371): one word
/// holds the boot time at which the bucket is full again, if nothing more is taken.
///
/// One writer wins each change by compare-exchange, so no more is taken than there is. A refusal rests on the
/// word, hence `Acquire` and `Release` (rule R1).
///
/// A returned token counts for less the longer it was out. Meanwhile the bucket may have become full without it, and
/// a full bucket takes no more. So only the part of the token that is still ahead of now comes back, which is all of
/// it as long as other orders keep the bucket busy. Then the orders that kept their tokens are within rate and burst,
/// as if the others had taken that much less. Where several tokens are out of a nearly full bucket at once, some of
/// what they took may stay taken, for one interval each.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    full_at_ns: AtomicU64,
    /// What was returned so far, in all. Stored under `giving_back` after `full_at_ns` is changed, and read before a
    /// token is taken: so whatever is not in it came back after that token was taken.
    given_back_ns: AtomicU64,
    giving_back: Mutex<()>,
}

/// A token that was taken for an order that may still fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The pace at which it was taken.
    interval_ns: u64,
    /// When the bucket was to be full again, as of the moment after it was taken.
    full_at_ns: u64,
    /// What had been returned before.
    given_back_ns: u64,
}

/// The bucket has no token for this many nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Empty {
    pub(crate) for_ns: u64,
}

impl Bucket {
    /// Whether a token could be taken now.
    pub(crate) fn look(&self, pace: Pace, now_ns: u64) -> Result<(), Empty> {
        fits(self.full_at_ns.load(Ordering::Acquire), pace, now_ns)
    }

    /// Takes a token.
    pub(crate) fn take(&self, pace: Pace, now_ns: u64) -> Result<Token, Empty> {
        let given_back_ns = self.given_back_ns.load(Ordering::Acquire);
        let mut before_ns = self.full_at_ns.load(Ordering::Acquire);
        loop {
            fits(before_ns, pace, now_ns)?;
            let full_at_ns = before_ns.max(now_ns) + pace.interval_ns;
            let exchanged = self.full_at_ns.compare_exchange_weak(
                before_ns,
                full_at_ns,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match exchanged {
                Ok(_) => {
                    return Ok(Token { interval_ns: pace.interval_ns, full_at_ns, given_back_ns });
                }
                Err(now) => before_ns = now,
            }
        }
    }

    /// Returns what of a token is still ahead of now.
    ///
    /// Since it was taken, the bucket was to be full no earlier than `token.full_at_ns` less what others gave back
    /// since. Nothing that is ahead of now by that reckoning was ever lost to a full bucket.
    pub(crate) fn give_back(&self, token: Token, now_ns: impl Fn() -> u64) {
        let _giving_back = self.giving_back.lock();
        let given_back_ns = self.given_back_ns.load(Ordering::Relaxed);
        let by_others_ns = given_back_ns.saturating_sub(token.given_back_ns);
        let at_least_ns = token.full_at_ns.saturating_sub(by_others_ns);
        let mut before_ns = self.full_at_ns.load(Ordering::Acquire);
        loop {
            // The clock after the word: whatever the word shows was taken by now.
            let left_ns = at_least_ns.saturating_sub(now_ns()).min(token.interval_ns);
            let exchanged = self.full_at_ns.compare_exchange_weak(
                before_ns,
                before_ns - left_ns,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match exchanged {
                Ok(_) => {
                    self.given_back_ns.store(given_back_ns + left_ns, Ordering::Release);
                    return;
                }
                Err(now) => before_ns = now,
            }
        }
    }
}

fn fits(full_at_ns: u64, pace: Pace, now_ns: u64) -> Result<(), Empty> {
    match full_at_ns.saturating_sub(now_ns).checked_sub(pace.slack_ns()) {
        None | Some(0) => Ok(()),
        Some(for_ns) => Err(Empty { for_ns }),
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
