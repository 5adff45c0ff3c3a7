//! What the child does with each key. It follows from the seed alone, so that the parent knows it too.

use std::time::Duration;

use doorbuster::{Adjust, Order, OrderState, RequestKey, SkuId};

use crate::seeds::stream;

pub(crate) const SKUS: u64 = 6;
/// Has a buyer limit of [`LIMIT`].
pub(crate) const LIMITED: SkuId = SkuId::new(5);
pub(crate) const LIMIT: u32 = 2;
/// Orders that a thread of the child has in flight.
pub(crate) const WINDOW: u64 = 8;
pub(crate) const THREADS: u64 = 3;

/// A request key: its round, the thread that sends it, and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) round: u64,
    pub(crate) thread: u64,
    pub(crate) nth: u64,
}

impl Key {
    pub(crate) fn number(self) -> u64 {
        self.round << 40 | self.thread << 32 | self.nth
    }

    pub(crate) fn from_number(number: u64) -> Self {
        Self { round: number >> 40, thread: number >> 32 & 0xff, nth: number & 0xffff_ffff }
    }
}

/// A verb that comes after the hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Confirm,
    Fulfil,
    Cancel,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) order: Order,
    pub(crate) verbs: &'static [Verb],
    /// The hold is so short that it may end at any time.
    pub(crate) expires: bool,
}

pub(crate) fn plan(seed: u64, key: Key) -> Plan {
    let mut random = stream(seed, key.number());
    let mut order = Order::new(random.u64(..400), RequestKey::new(u128::from(key.number())));
    for _ in 0..if random.u64(..100) < 70 { 1 } else { 2 + random.u64(..3) } {
        order = order.line(random.u64(..SKUS), 1 + random.u64(..3) as u32);
    }
    if random.u64(..100) < 20 {
        order = order.payload(vec![key.nth as u8; random.u64(..200) as usize]);
    }
    let endings: [&[Verb]; 6] = [
        &[],
        &[],
        &[Verb::Confirm],
        &[Verb::Confirm, Verb::Fulfil],
        &[Verb::Cancel],
        &[Verb::Confirm, Verb::Cancel],
    ];
    let ending = random.u64(..6) as usize;
    let expires = ending == 0;
    let hold = if expires { Duration::from_millis(1 + random.u64(..30)) } else { HOLD };
    Plan { order: order.hold_for(hold), verbs: endings[ending], expires }
}

/// Longer than the test.
const HOLD: Duration = Duration::from_secs(24 * 3600);

impl Plan {
    /// Returns the states that the order may be in when this number of its verbs was acknowledged.
    pub(crate) fn states_after(&self, acknowledged: usize) -> Vec<OrderState> {
        let of = |verb: &Verb| match verb {
            Verb::Confirm => OrderState::Confirmed,
            Verb::Fulfil => OrderState::Fulfilled,
            Verb::Cancel => OrderState::Cancelled,
        };
        let path = [OrderState::Held].into_iter().chain(self.verbs.iter().map(of));
        let expired = self.expires.then_some(OrderState::Expired);
        path.skip(acknowledged).chain(expired).collect()
    }
}

/// Returns the delivery of a SKU in a round.
pub(crate) fn delivery(seed: u64, round: u64, sku: u64) -> (Adjust, u32) {
    let units = 1 + stream(seed ^ 1, round * SKUS + sku).u64(..600) as u32;
    (Adjust::add(units).key(u128::from(round)).reference(format!("round {round}")), units)
}
