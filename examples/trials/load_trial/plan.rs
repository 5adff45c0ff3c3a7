//! The requests of a trial, drawn from the seed before the clock starts, so that drawing costs the calling
//! threads nothing: making a request reads a few bytes in sequence.
//!
//! Requests are numbered. A request's number is its key; a retry has the number of the request that had the key
//! first.

use std::ops::Range;
use std::time::Duration;

use doorbuster::{BuyerId, Order, OrderState, RequestKey, SkuId};

use crate::args::{Args, Scenario};
use crate::shared::random::{Random, mix, scale};

/// Longer than any trial: no hold may end before its order is proved.
const HOLD: Duration = Duration::from_secs(24 * 3600);
/// What is to expire within a trial.
const SHORT_HOLD: Duration = Duration::from_millis(200);

/// One request in this many resends a key.
const REQUESTS_PER_RETRY: u64 = 5;
/// Half of all retries resend one of the thread's last requests, this many back at most, as an impatient click does:
/// most of those are in flight. The others resend any earlier one.
const CLICK_DISTANCE_MAX: u64 = 1000;
/// How much is sold before `soldout` starts its clock: what a flash sale has, or a tenth of its requests.
const SOLD_BEFORE_MAX: u32 = 10_000;
const SOLD_BEFORE_DIVISOR: u32 = 10;
/// SKUs are numbered from here.
const FIRST_SKU: u64 = 1;

/// Every request of a trial.
pub(crate) struct Plan {
    scenario: Scenario,
    seed: u64,
    skus: u32,
    /// Requests that are sent before the clock starts.
    before: u32,
    /// All of them.
    requests: u32,
    /// By request, this many at a time: the SKUs of its lines. Empty when there is one SKU.
    drawn: Vec<u32>,
    lines: usize,
    /// By request: the first request with its key. Empty without retries.
    firsts: Vec<u32>,
}

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Held,
    Confirmed,
    Fulfilled,
    Cancelled,
    Expired,
}

impl Fate {
    pub(crate) fn state(self) -> OrderState {
        match self {
            Self::Held => OrderState::Held,
            Self::Confirmed => OrderState::Confirmed,
            Self::Fulfilled => OrderState::Fulfilled,
            Self::Cancelled => OrderState::Cancelled,
            Self::Expired => OrderState::Expired,
        }
    }
}

impl Plan {
    pub(crate) fn new(args: &Args) -> Self {
        let (scenario, measured) = (args.scenario, args.requests());
        let before = match scenario {
            Scenario::Soldout => (measured / SOLD_BEFORE_DIVISOR).clamp(1, SOLD_BEFORE_MAX),
            _ => 0,
        };
        let requests = before + measured;
        let lines = if scenario == Scenario::Carts { 3 } else { 1 };
        let mut random = Random::new(mix(args.seed));
        let drawn = match scenario {
            Scenario::Zipf => draw_zipf(&mut random, args.skus(), requests),
            Scenario::Carts => draw_carts(&mut random, args.skus(), requests, lines),
            _ => Vec::new(),
        };
        let mut plan = Self {
            scenario,
            seed: args.seed,
            skus: args.skus(),
            before,
            requests,
            drawn,
            lines,
            firsts: Vec::new(),
        };
        plan.firsts = match scenario {
            Scenario::Retries => plan.draw_retries(&mut random, args.threads()),
            Scenario::Soldout => (0..requests)
                .map(|request| match request >= before && random.below(REQUESTS_PER_RETRY) == 0 {
                    true => random.below(u64::from(before)) as u32,
                    false => request,
                })
                .collect(),
            _ => Vec::new(),
        };
        plan
    }

    /// A thread resends its own requests only, so that it knows which of two came first.
    fn draw_retries(&self, random: &mut Random, threads: u32) -> Vec<u32> {
        let mut firsts: Vec<u32> = Vec::with_capacity(self.requests as usize);
        for thread in 0..threads {
            let share = self.share(self.measured(), thread, threads);
            for request in share.clone() {
                let sent = u64::from(request - share.start);
                let retry = sent > 0 && random.below(REQUESTS_PER_RETRY) == 0;
                firsts.push(if retry {
                    let distance_max = match random.below(2) {
                        0 => CLICK_DISTANCE_MAX.min(sent),
                        _ => sent,
                    };
                    firsts[request as usize - 1 - random.below(distance_max) as usize]
                } else {
                    request
                });
            }
        }
        firsts
    }

    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    /// Requests that are sent before the clock starts.
    pub(crate) fn before(&self) -> Range<u32> {
        0..self.before
    }

    /// Requests that are measured.
    pub(crate) fn measured(&self) -> Range<u32> {
        self.before..self.requests
    }

    /// The part of `requests` that one of `threads` sends.
    pub(crate) fn share(&self, requests: Range<u32>, thread: u32, threads: u32) -> Range<u32> {
        let count = u64::from(requests.end - requests.start);
        let at =
            |thread: u32| requests.start + (count * u64::from(thread) / u64::from(threads)) as u32;
        at(thread)..at(thread + 1)
    }

    /// The first request with this request's key: itself, unless it is a retry.
    pub(crate) fn first(&self, request: u32) -> u32 {
        self.firsts.get(request as usize).copied().unwrap_or(request)
    }

    pub(crate) fn buyer(&self, first: u32) -> BuyerId {
        // One to one: every key has a buyer of its own.
        BuyerId::from_u64(u64::from(first) ^ (self.seed << 32))
    }

    pub(crate) fn key(first: u32) -> RequestKey {
        RequestKey::new(first as u128)
    }

    /// What is sent. Orders of several lines allocate, as they do for a host.
    pub(crate) fn order(&self, request: u32) -> Order {
        let first = self.first(request);
        let hold = match self.fate(first) {
            Fate::Expired => SHORT_HOLD,
            _ => HOLD,
        };
        let mut order = Order::new(self.buyer(first), Self::key(first)).hold_for(hold);
        for sku in self.lines(first) {
            order = order.line(sku, 1);
        }
        order
    }

    /// The SKUs of a request's lines, each of one unit.
    pub(crate) fn lines(&self, request: u32) -> impl Iterator<Item = SkuId> {
        let begin = request as usize * self.lines;
        let drawn = self.drawn.get(begin..begin + self.lines);
        let one = drawn.is_none().then_some(0);
        drawn.unwrap_or_default().iter().copied().chain(one).map(Self::sku)
    }

    pub(crate) fn sku(index: u32) -> SkuId {
        SkuId::new(FIRST_SKU + u64::from(index))
    }

    /// The place of a SKU in [`Plan::stock`].
    pub(crate) fn sku_index(sku: SkuId) -> usize {
        (sku.get() - FIRST_SKU) as usize
    }

    /// Whether some should be refused.
    pub(crate) fn sells_out(&self) -> bool {
        self.scenario == Scenario::Soldout
    }

    /// What becomes of the order that this request makes.
    pub(crate) fn fate(&self, first: u32) -> Fate {
        if self.scenario != Scenario::Lifecycle {
            return Fate::Held;
        }
        match scale(mix(mix(self.seed) ^ u64::from(first)), 10) {
            0..5 => Fate::Fulfilled,
            5..7 => Fate::Confirmed,
            7..9 => Fate::Cancelled,
            _ => Fate::Expired,
        }
    }

    /// By SKU: units stocked, one for every key that asks for one; `soldout` stocks what is sold before.
    pub(crate) fn stock(&self) -> Vec<u32> {
        let mut units = vec![0; self.skus as usize];
        let keys = match self.scenario {
            Scenario::Soldout => self.before,
            _ => self.requests,
        };
        for request in (0..keys).filter(|&request| self.first(request) == request) {
            for sku in self.lines(request) {
                units[Self::sku_index(sku)] += 1;
            }
        }
        // Every SKU is known, also one that no request asks for.
        units.iter_mut().for_each(|units| *units = (*units).max(1));
        units
    }
}

/// Random numbers from 0 to below 1 are drawn in this many steps.
const UNIT_STEPS: u64 = 1 << 32;

/// SKUs by their popularity, the n-th as popular as 1/n: the cumulated weights, searched.
fn draw_zipf(random: &mut Random, skus: u32, requests: u32) -> Vec<u32> {
    let mut sum = 0.0;
    let cumulated: Vec<f64> = (1..=skus)
        .map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        })
        .collect();
    (0..requests)
        .map(|_| {
            let drawn = random.below(UNIT_STEPS) as f64 / UNIT_STEPS as f64 * sum;
            cumulated.partition_point(|&weight| weight <= drawn).min(skus as usize - 1) as u32
        })
        .collect()
}

/// Different SKUs for the lines of each order.
fn draw_carts(random: &mut Random, skus: u32, requests: u32, lines: usize) -> Vec<u32> {
    let mut drawn: Vec<u32> = Vec::with_capacity(requests as usize * lines);
    for _ in 0..requests {
        let begin = drawn.len();
        while drawn.len() < begin + lines {
            let sku = random.below(u64::from(skus)) as u32;
            if !drawn[begin..].contains(&sku) {
                drawn.push(sku);
            }
        }
    }
    drawn
}
