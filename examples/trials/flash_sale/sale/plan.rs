//! The requests of a sale, drawn from the seed: the parent and the child draw the same ones.

use std::time::Duration;

use doorbuster::{BuyerId, Order, RequestKey, SkuId};

use crate::shared::random::{Random, mix, scale};

/// What is sold.
pub(crate) const SKU: SkuId = SkuId::new(1);

/// Longer than any run: no hold may expire while its order is being proved.
const HOLD: Duration = Duration::from_secs(24 * 3600);

/// One request in this many resends an earlier key.
const REQUESTS_PER_RETRY: u32 = 5;

/// Half of all retries resend one of the last requests, this many back at most, as an impatient click does: most of
/// those keys are still in flight. The other half resend any earlier one.
const CLICK_DISTANCE_MAX: u64 = 1000;

/// Every request of the sale. Each wants one unit.
pub(crate) struct Plan {
    /// By request: the request that first had its key, which is itself unless this is a retry.
    firsts: Vec<u32>,
    buyers: u64,
    seed: u64,
    /// How many different keys there are.
    keys: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64, requests: u32, buyers: u32) -> Self {
        let mut random = Random::new(sequence(seed, Purpose::Requests));
        let mut retries_left = requests / REQUESTS_PER_RETRY;
        let keys = u64::from(requests - retries_left);
        let mut firsts: Vec<u32> = Vec::with_capacity(requests as usize);
        for request in 0..requests {
            let requests_left = u64::from(requests - request);
            // Spreads exactly as many retries as planned; the first request cannot be one.
            if request > 0 && random.below(requests_left) < u64::from(retries_left) {
                retries_left -= 1;
                let distance_max = match random.below(2) {
                    0 => CLICK_DISTANCE_MAX.min(u64::from(request)),
                    _ => u64::from(request),
                };
                let resent = request - 1 - random.below(distance_max) as u32;
                firsts.push(firsts[resent as usize]);
            } else {
                firsts.push(request);
            }
        }
        Self { firsts, buyers: u64::from(buyers), seed, keys }
    }

    /// How many requests there are.
    pub(crate) fn requests(&self) -> u32 {
        self.firsts.len() as u32
    }

    /// The key of a request, as the number of the request that had it first.
    pub(crate) fn key(&self, request: u32) -> u32 {
        self.firsts[request as usize]
    }

    /// Whose key it is.
    pub(crate) fn buyer(&self, key: u32) -> BuyerId {
        let drawn = mix(sequence(self.seed, Purpose::Buyers) ^ u64::from(key));
        BuyerId::from_u64(scale(drawn, self.buyers))
    }

    /// The key as the engine knows it.
    pub(crate) fn request_key(key: u32) -> RequestKey {
        RequestKey::new(u128::from(key))
    }

    /// What is sent.
    pub(crate) fn order(&self, request: u32) -> Order {
        let key = self.key(request);
        Order::new(self.buyer(key), Self::request_key(key)).line(SKU, 1).hold_for(HOLD)
    }

    /// The unit at which the child is killed: 20 to 80 % of the units that the sale will sell.
    pub(crate) fn kill_at_unit(&self, stock: u32) -> u64 {
        let sold = self.units_sold(stock);
        let (low, high) = (sold.div_ceil(5).max(1), (sold * 4 / 5).max(1));
        low + Random::new(sequence(self.seed, Purpose::Kill)).below(high.saturating_sub(low) + 1)
    }

    /// How many units are sold when every request has been answered.
    pub(crate) fn units_sold(&self, stock: u32) -> u64 {
        self.keys.min(u64::from(stock))
    }
}

/// What random numbers are for: each purpose has a sequence of its own.
#[derive(Clone, Copy)]
enum Purpose {
    Requests = 1,
    Buyers = 2,
    Kill = 3,
}

/// The sequence of one purpose.
fn sequence(seed: u64, purpose: Purpose) -> u64 {
    mix(mix(seed.wrapping_add(1)) ^ purpose as u64)
}
