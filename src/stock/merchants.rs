//! Merchants: whose switch and rate act on their SKUs.
//!
//! Invariants:
//! - A merchant, once in, is never moved or removed; his index counts up from 0.
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
    /// Read by whoever changes rules; the request path has indices.
    by_id: Mutex<HashMap<MerchantId, u32, ahash::RandomState>>,
    merchants_max: usize,
}

#[derive(Debug)]
pub(crate) struct Merchant {
    pub(crate) id: MerchantId,
    pub(crate) index: u32,
    /// Serialises the merchant's records.
    pub(crate) home: Mutex<MerchantHome>,
    switch: AtomicU32,
    /// The rate, as the bucket needs it; 0 ns: no rate. Written under `home`.
    interval_ns: AtomicU64,
    burst: AtomicU32,
    bucket: CachePadded<Bucket>,
}

/// What only the merchant's records change.
#[derive(Debug, Default)]
pub(crate) struct MerchantHome {
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

impl MerchantHome {
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

    /// The merchant, made if he is not there.
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
            home: Mutex::default(),
            switch: AtomicU32::new(0),
            interval_ns: AtomicU64::new(0),
            burst: AtomicU32::new(0),
            bucket: CachePadded::new(Bucket::default()),
        }
    }

    pub(crate) fn switch(&self) -> Switch {
        Switch::from_code(self.switch.load(Ordering::Acquire).into()).unwrap_or(Switch::Halted)
    }

    /// The rate in force, if there is one.
    pub(crate) fn pace(&self) -> Option<Pace> {
        let interval_ns = self.interval_ns.load(Ordering::Acquire);
        let burst = self.burst.load(Ordering::Relaxed);
        (interval_ns > 0).then_some(Pace { interval_ns, burst })
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// A change is logged: the stricter of old and new acts until it is durable.
    pub(crate) fn change(&self, home: &mut MerchantHome, to: MerchantState) {
        home.logged = to;
        home.acting = home.acting.stricter(to);
        home.in_flight.push(to);
        self.set(home.acting);
    }

    /// The oldest change that was not durable is.
    pub(crate) fn settle(&self) {
        let mut home = self.home.lock();
        if let Some(settled) = home.in_flight.settle(|a, b| a.stricter(*b)) {
            home.acting = settled.acting;
            self.set(home.acting);
        }
    }

    /// Replay: what is logged acts, because all of it is durable.
    pub(crate) fn put_in_force(&self, home: &mut MerchantHome) {
        home.acting = home.logged;
        self.set(home.acting);
    }

    fn set(&self, state: MerchantState) {
        let pace = state.rate.map_or(Pace { interval_ns: 0, burst: 0 }, Pace::of);
        self.burst.store(pace.burst, Ordering::Relaxed);
        self.interval_ns.store(pace.interval_ns, Ordering::Release);
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

    /// How far ahead of now the bucket may be for one more to fit.
    const fn slack_ns(self) -> u64 {
        self.interval_ns * self.burst.saturating_sub(1) as u64
    }
}

/// A token bucket in one word, as the generic cell rate algorithm in its form of virtual scheduling
/// (ITU-T I.371): the boot time at which the bucket is full again, if nothing more is taken.
///
/// One writer wins each change by compare-exchange, so no more is taken than there is; nothing else is
/// told by it, hence `Relaxed` but where a refusal rests on it (rule R1).
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    full_at_ns: AtomicU64,
}

/// Nothing is left in a bucket for so many nanoseconds.
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
    pub(crate) fn take(&self, pace: Pace, now_ns: u64) -> Result<(), Empty> {
        let mut full_at_ns = self.full_at_ns.load(Ordering::Acquire);
        loop {
            fits(full_at_ns, pace, now_ns)?;
            let next = full_at_ns.max(now_ns) + pace.interval_ns;
            let exchanged = self.full_at_ns.compare_exchange_weak(
                full_at_ns,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match exchanged {
                Ok(_) => return Ok(()),
                Err(now) => full_at_ns = now,
            }
        }
    }

    /// Gives a token back that was taken at this pace.
    pub(crate) fn give_back(&self, pace: Pace) {
        self.full_at_ns.fetch_sub(pace.interval_ns, Ordering::Release);
    }
}

fn fits(full_at_ns: u64, pace: Pace, now_ns: u64) -> Result<(), Empty> {
    match full_at_ns.saturating_sub(now_ns).checked_sub(pace.slack_ns()) {
        None | Some(0) => Ok(()),
        Some(for_ns) => Err(Empty { for_ns }),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn pace(orders_per_s: u32, burst: u32) -> Pace {
        Pace::of(Rate { orders_per_s, burst })
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (bucket, pace) = (Bucket::default(), pace(10, 3));
        let taken = |now_ns| (0..9).take_while(|_| bucket.take(pace, now_ns).is_ok()).count();
        assert_eq!(taken(100 * S), 3);
        assert_eq!(bucket.look(pace, 100 * S), Err(Empty { for_ns: S / 10 }));
        assert_eq!(taken(100 * S + S / 10 - 1), 0, "a nanosecond too early");
        assert_eq!(taken(100 * S + S / 10), 1);
        assert_eq!(taken(101 * S), 3, "no more than the burst after a pause");
    }

    #[test]
    fn a_token_that_is_given_back_can_be_taken_again() {
        let (bucket, pace) = (Bucket::default(), pace(1, 2));
        for _ in 0..50 {
            assert_eq!(bucket.take(pace, 5 * S), Ok(()));
            bucket.give_back(pace);
        }
        assert_eq!(bucket.take(pace, 5 * S), Ok(()));
        assert_eq!(bucket.take(pace, 5 * S), Ok(()));
        assert_eq!(bucket.take(pace, 5 * S), Err(Empty { for_ns: S }));
    }

    #[test]
    fn in_any_second_a_bucket_gives_at_most_rate_and_burst() {
        for (orders_per_s, burst) in [(1, 1), (3, 2), (7, 5), (1_000, 1), (999_983, 7)] {
            let (bucket, pace) = (Bucket::default(), pace(orders_per_s, burst));
            let mut taken = 0;
            let steps = u64::from(orders_per_s) * 4;
            for step in 0..=steps {
                taken += u32::from(bucket.take(pace, 7 * S + step * S / steps).is_ok());
            }
            assert!(taken <= orders_per_s + burst, "{taken} at {orders_per_s}, {burst}");
            assert!(taken >= orders_per_s.min(orders_per_s / 100 * 99 + burst), "{taken}");
        }
    }
}
