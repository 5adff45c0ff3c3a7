//! Random operations on the engine and on a model of plain maps, with kills and reopenings among them.
//!
//! All lanes are in one shard, so a writer makes everything durable or nothing: a kill leaves the model as it was
//! at the last write. Nothing is computed from a log, so the model knows nothing of retirement except what a host
//! was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use OrderState::{Cancelled, Confirmed, Expired, Fulfilled, Held};
use doorbuster::testing::{Fault, Step};
use doorbuster::{
    KeyKind, Options, Order, OrderError, OrderId, OrderState, Placed, Refusal, RequestKey,
    SaleRules, SkuId, Transition,
};
use fastrand::Rng;

use super::OTHER;
use crate::RETENTION;
use crate::murmur::murmur_finaliser;
use crate::seeds::{Rerun, seeds};
use crate::shop::{SKU, Shop};

const CASES: usize = 40;
const OPERATIONS: usize = 400;
const BUYERS: u64 = 6;
const RETENTION_MS: u64 = RETENTION.as_millis() as u64;

fn one_of<T: Copy>(draw: &mut Rng, all: &[T]) -> T {
    all[draw.u64(..all.len() as u64) as usize]
}

#[derive(Clone, Debug)]
struct Known {
    buyer: u64,
    key: RequestKey,
    lines: BTreeMap<SkuId, u32>,
    state: OrderState,
    changed_ms: u64,
    deadline_ms: u64,
    /// The sale of each SKU in which it was placed.
    sales: BTreeMap<SkuId, u32>,
    /// Whether it counts towards a limit of a SKU: it was in memory at a moment at which its sale's first limit was
    /// set, or it was placed later.
    counted: BTreeSet<SkuId>,
    retired: bool,
}

#[derive(Clone, Debug, Default)]
struct Model {
    orders: BTreeMap<OrderId, Known>,
    limits: BTreeMap<SkuId, u32>,
    /// SKUs whose buyers are counted.
    counting: BTreeSet<SkuId>,
    sales: BTreeMap<SkuId, u32>,
    /// By partition: when the last of the retired orders was finished.
    retired_to_ms: BTreeMap<u64, u64>,
}

impl Known {
    fn is_sold(&self) -> bool {
        matches!(self.state, Confirmed | Fulfilled)
    }

    fn units(&self, sku: SkuId) -> u64 {
        u64::from(self.lines.get(&sku).copied().unwrap_or(0))
    }
}

struct Case {
    shop: Shop,
    returns_ms: u64,
    finish_on_confirm: bool,
    /// As it is, and as a kill would leave it.
    live: Model,
    durable: Model,
    given: Vec<OrderId>,
    seen: Seen,
}

/// How often the events happened that the test is about.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    retired: u32,
    key_too_old: u32,
    key_new_again: u32,
    /// A limit refused a buyer because of orders that have left.
    limit_outlived: u32,
    kills: u32,
}

fn fulfils(options: Options) -> Options {
    options.log_shards(1).returns_window(2 * RETENTION)
}

fn never_fulfils(options: Options) -> Options {
    options.log_shards(1).finish_on_confirm(true)
}

impl Case {
    fn new(draw: &mut Rng) -> Self {
        let finish_on_confirm = draw.u64(..2) == 0;
        let rules = if finish_on_confirm { never_fulfils } else { fulfils };
        Self {
            shop: Shop::of_two_skus(rules),
            returns_ms: if finish_on_confirm { RETENTION_MS } else { 2 * RETENTION_MS },
            finish_on_confirm,
            live: Model::default(),
            durable: Model::default(),
            given: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn step(&mut self, draw: &mut Rng) {
        match draw.u64(..100) {
            0..35 => self.place(draw),
            35..60 => self.end(draw),
            60..66 => self.limit(draw),
            66..68 => self.end_sale(draw),
            68..80 => {
                let ms = one_of(draw, &[1, 10, RETENTION_MS / 10, RETENTION_MS / 2, RETENTION_MS]);
                self.shop.clock.advance(Duration::from_millis(ms));
                // Whether the timekeeper runs at once, or after other calls.
                if draw.u64(..4) > 0 {
                    self.keep_time();
                }
            }
            80..90 => self.write(),
            90..93 => self.kill(),
            93..97 => self.lose_power_in_a_write(draw),
            _ => {
                self.keep_time();
                self.write();
            }
        }
        self.check();
    }

    fn now_ms(&self) -> u64 {
        self.shop.engine.now_ms()
    }

    fn place(&mut self, draw: &mut Rng) {
        let (buyer, now_ms) = (draw.u64(..BUYERS), self.now_ms());
        let nth = draw.u64(..12);
        let key = if nth < 6 {
            RequestKey::new(u128::from(nth))
        } else {
            // Keys that were made a while ago, within half of the retention.
            let half = RETENTION_MS / 2;
            dated((now_ms / half - draw.u64(..4)) * half, nth as u8)
        };
        let mut lines = BTreeMap::from([(SKU, 1 + draw.u64(..2) as u32)]);
        if draw.u64(..3) == 0 {
            lines = BTreeMap::from([(OTHER, 1)]);
        } else if draw.u64(..3) == 0 {
            lines.insert(OTHER, 2);
        }
        let hold_ms = one_of(draw, &[10, RETENTION_MS / 2, 20 * RETENTION_MS]);
        let order = lines
            .iter()
            .fold(Order::new(buyer, key), |order, (sku, units)| order.line(*sku, *units));
        let order = order.hold_for(Duration::from_millis(hold_ms));
        let placed = self.shop.engine.place(order).expect("an answer");
        let placed = placed.peek().expect("an answer").clone();

        let has_it = |it: &Known| !it.retired && (it.buyer, it.key) == (buyer, key);
        let earlier = self.live.orders.iter().find(|(_, it)| has_it(it)).map(|(id, _)| *id);
        if let Some(order) = earlier {
            // Rule R1, whatever else is true.
            match placed {
                Placed::Held(held) => assert!(held.replayed && held.order == order, "{held:?}"),
                Placed::KeyReused(reused) => assert_eq!(reused.order, Some(order)),
                other => panic!("{other:?}, and the key has {order}"),
            }
            return;
        }
        if let Some(oldest_ms) = self.too_old(buyer, key, now_ms) {
            let key_ms = key.unix_ms().expect("dated");
            assert_eq!(placed, Placed::Refused(Refusal::KeyTooOld { key_ms, oldest_ms }));
            self.seen.key_too_old += 1;
            return;
        }
        if self.over_limit(buyer, &lines).is_some() {
            // Holds that are over do not count: the engine looks before it refuses.
            self.expire_due_of(buyer);
        }
        if let Some((sku, taken)) = self.over_limit(buyer, &lines) {
            let told = match placed {
                Placed::Refused(Refusal::BuyerLimit { sku, taken, .. }) => Some((sku, taken)),
                _ => None,
            };
            assert_eq!(told, Some((sku, taken)), "{placed:?}");
            let there = self.live.orders.values().filter(|it| it.buyer == buyer && !it.retired);
            let there = there.filter(|it| it.is_sold() || it.state == Held);
            let units: u64 = there.map(|it| it.units(sku)).sum();
            self.seen.limit_outlived += u32::from(units < taken);
            return;
        }
        let held = *placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"));
        assert!(!held.replayed && !self.given.contains(&held.order), "{held:?}");
        self.given.push(held.order);
        let had_it = |it: &Known| it.retired && (it.buyer, it.key) == (buyer, key);
        self.seen.key_new_again += u32::from(self.live.orders.values().any(had_it));
        let counted = lines.keys().copied().filter(|sku| self.live.counting.contains(sku));
        let known = Known {
            buyer,
            key,
            counted: counted.collect(),
            sales: lines.keys().map(|sku| (*sku, self.sale(*sku))).collect(),
            lines,
            state: Held,
            changed_ms: 0,
            deadline_ms: now_ms + hold_ms,
            retired: false,
        };
        self.live.orders.insert(held.order, known);
    }

    fn sale(&self, sku: SkuId) -> u32 {
        self.live.sales.get(&sku).copied().unwrap_or(0)
    }

    /// Returns the time of the oldest key that is accepted, if this key is older.
    fn too_old(&self, buyer: u64, key: RequestKey, now_ms: u64) -> Option<u64> {
        if key.kind() == KeyKind::Opaque {
            return None;
        }
        let retired_to_ms = self.live.retired_to_ms.get(&self.partition(buyer)).copied();
        let oldest_ms = (now_ms + 1 - RETENTION_MS).max(retired_to_ms.map_or(0, |it| it + 1));
        (key.unix_ms() < Some(oldest_ms)).then_some(oldest_ms)
    }

    /// Returns the partition of a buyer, as the buyer's order ids name it.
    fn partition(&self, buyer: u64) -> u64 {
        let finalised = murmur_finaliser(buyer ^ murmur_finaliser(0));
        ((u128::from(finalised) * 4) >> 64) as u64
    }

    fn taken(&self, buyer: u64, sku: SkuId) -> u64 {
        let counts = |it: &&Known| {
            it.buyer == buyer
                && it.counted.contains(&sku)
                && it.sales.get(&sku) == Some(&self.sale(sku))
                && (it.is_sold() || it.state == Held)
        };
        self.live.orders.values().filter(counts).map(|it| it.units(sku)).sum()
    }

    fn over_limit(&self, buyer: u64, lines: &BTreeMap<SkuId, u32>) -> Option<(SkuId, u64)> {
        lines.iter().find_map(|(sku, units)| {
            let (limit, taken) = (*self.live.limits.get(sku)?, self.taken(buyer, *sku));
            (taken + u64::from(*units) > u64::from(limit)).then_some((*sku, taken))
        })
    }

    fn end(&mut self, draw: &mut Rng) {
        if self.given.is_empty() {
            return;
        }
        // Mostly one of the last ones.
        let among = 8 * (1 + draw.u64(..8));
        let back = draw.u64(..among).min(self.given.len() as u64 - 1);
        let order = self.given[self.given.len() - 1 - back as usize];
        self.expire_if_due(order);
        let to = one_of(draw, &[Confirmed, Cancelled, Fulfilled]);
        let answer = match to {
            Confirmed => self.shop.engine.confirm(order),
            Cancelled => self.shop.engine.cancel(order),
            _ => self.shop.engine.fulfil(order),
        };
        let answer = answer.map(|commit| *commit.peek().expect("an answer"));
        let now_ms = self.now_ms();
        let expected = match self.live.orders.get_mut(&order) {
            None => Err(OrderError::UnknownOrder { order }),
            Some(known) if known.retired => Err(OrderError::Retired { order }),
            Some(known) => Ok(match (known.state, to) {
                (Held, Confirmed | Cancelled) | (Confirmed, Cancelled | Fulfilled) => {
                    (known.state, known.changed_ms) = (to, now_ms);
                    Transition::Done { state: to }
                }
                (state, to) if state == to => Transition::AlreadyDone { state },
                (state, _) => Transition::NotAllowed { state },
            }),
        };
        assert_eq!(answer, expected);
    }

    fn limit(&mut self, draw: &mut Rng) {
        let (sku, units) = (one_of(draw, &[SKU, OTHER]), draw.u64(..5) as u32);
        drop(self.shop.engine.rules(sku, SaleRules::new().buyer_limit(units)).expect("known"));
        // While the change is not durable, the stricter of the two limits acts. The model acts only on durable
        // ones.
        if units > 0 && self.live.counting.insert(sku) {
            let sale = self.sale(sku);
            for it in self.live.orders.values_mut().filter(|it| !it.retired) {
                if it.sales.get(&sku) == Some(&sale) {
                    it.counted.insert(sku);
                }
            }
        }
        match units {
            0 => drop(self.live.limits.remove(&sku)),
            _ => drop(self.live.limits.insert(sku, units)),
        }
        self.write();
    }

    fn end_sale(&mut self, draw: &mut Rng) {
        let sku = one_of(draw, &[SKU, OTHER]);
        drop(self.shop.engine.end_sale(sku).expect("known"));
        *self.live.sales.entry(sku).or_default() += 1;
        self.live.counting.remove(&sku);
        self.live.limits.remove(&sku);
        self.write();
    }

    fn expire_if_due(&mut self, order: OrderId) {
        let now_ms = self.now_ms();
        if let Some(known) = self.live.orders.get_mut(&order)
            && known.state == Held
            && known.deadline_ms <= now_ms
        {
            (known.state, known.changed_ms) = (Expired, now_ms);
        }
    }

    fn expire_due_of(&mut self, buyer: u64) {
        let partition = self.partition(buyer);
        let orders = self.live.orders.iter();
        let of_partition = orders.filter(|(_, it)| self.partition(it.buyer) == partition);
        let of_partition: Vec<_> = of_partition.map(|(order, _)| *order).collect();
        of_partition.into_iter().for_each(|order| self.expire_if_due(order));
    }

    /// The timekeeper runs until nothing is due.
    fn keep_time(&mut self) {
        let idle = (0..1000).any(|_| !self.shop.engine.step_timekeeper());
        assert!(idle, "the timekeeper does not stop");
        let orders: Vec<_> = self.live.orders.keys().copied().collect();
        orders.into_iter().for_each(|order| self.expire_if_due(order));
        let now_ms = self.now_ms();
        let mut left = Vec::new();
        for it in self.live.orders.values_mut().filter(|it| !it.retired) {
            let keep_ms = match it.state {
                Cancelled | Expired => RETENTION_MS,
                Confirmed if self.finish_on_confirm => RETENTION_MS,
                Fulfilled => self.returns_ms,
                _ => continue,
            };
            if it.changed_ms + keep_ms <= now_ms {
                it.retired = true;
                left.push((it.buyer, it.changed_ms));
            }
        }
        self.seen.retired += left.len() as u32;
        for (buyer, changed_ms) in left {
            let partition = self.partition(buyer);
            let to_ms = self.live.retired_to_ms.entry(partition).or_default();
            *to_ms = changed_ms.max(*to_ms);
        }
    }

    fn write(&mut self) {
        while self.shop.engine.step_writer(0) == Step::Wrote {}
        self.shop.engine.step_segments();
        self.durable = self.live.clone();
    }

    fn kill(&mut self) {
        self.seen.kills += 1;
        self.shop.kill();
        self.live = self.durable.clone();
    }

    /// The power goes in one of the calls of a write, or just after it. What was written survives whole or not at
    /// all.
    fn lose_power_in_a_write(&mut self, draw: &mut Rng) {
        let (calls, fired) = (draw.u64(..3), Arc::new(AtomicU64::new(0)));
        let seen = fired.clone();
        self.shop.storage.set_fault_hook(Some(Arc::new(move |call| {
            let is_it = call.operation.is_change() && seen.fetch_add(1, Relaxed) == calls;
            if is_it { Fault::Crash } else { Fault::None }
        })));
        let step = self.shop.engine.step_writer(0);
        self.shop.storage.set_fault_hook(None);
        let left = self.shop.storage.crash(&mut |below| draw.u64(..below));
        self.seen.kills += 1;
        self.shop.reopen(left);
        if step != Step::Wrote && !self.reads_as(&self.live) {
            self.live = self.durable.clone();
        }
        // The open made durable what is there now.
        self.durable = self.live.clone();
    }

    fn expected(&self, model: &Model, order: OrderId) -> Option<Result<OrderState, OrderError>> {
        let now_ms = self.now_ms();
        Some(match model.orders.get(&order) {
            None => Err(OrderError::UnknownOrder { order }),
            Some(known) if known.retired => Err(OrderError::Retired { order }),
            // Reading the order would end it.
            Some(known) if known.state == Held && known.deadline_ms <= now_ms => return None,
            Some(known) => Ok(known.state),
        })
    }

    /// Whether the orders in memory are the model's. A dump shows it, because a read may end an order.
    fn reads_as(&self, model: &Model) -> bool {
        let dump = self.shop.engine.dump();
        let found = dump.lines().filter_map(|line| {
            let mut words = line.strip_prefix("order ")?.split(' ');
            let order = words.next()?.parse::<u64>().ok()?;
            Some((order, words.find_map(|word| word.strip_prefix("state="))?.to_owned()))
        });
        let there = model.orders.iter().filter(|(_, it)| !it.retired);
        let expected = there.map(|(order, it)| (order.get(), format!("{:?}", it.state)));
        found.collect::<BTreeMap<_, _>>() == expected.collect::<BTreeMap<_, _>>()
    }

    /// Compares everything that can be read without changing anything.
    fn check(&self) {
        for order in &self.given {
            if let Some(expected) = self.expected(&self.live, *order) {
                assert_eq!(self.shop.state(*order), expected, "model, then engine");
            }
        }
        for sku in [SKU, OTHER] {
            let levels = self.shop.levels(sku);
            let sum = |counts: fn(&Known) -> bool| -> i64 {
                let orders = self.live.orders.values().filter(|it| counts(it));
                orders.map(|it| it.units(sku) as i64).sum()
            };
            assert_eq!(levels.sold, sum(Known::is_sold), "units sold of {sku}");
            assert_eq!(levels.held, sum(|it| it.state == Held), "units held of {sku}");
            assert!(levels.add_up());
        }
        let stats = self.shop.engine.stats();
        let there = self.live.orders.values().filter(|it| !it.retired);
        assert_eq!(stats.orders, there.clone().count() as u64);
        let live = there.filter(|it| matches!(it.state, Held | Confirmed));
        assert_eq!(stats.live_orders, live.count() as u64);
    }
}

#[test]
fn every_answer_is_the_models_through_retirement_and_kills() {
    let mut seen = Vec::new();
    for seed in seeds("RETENTION_SEED", CASES) {
        let _rerun = Rerun::new("RETENTION_SEED", seed, "--test orders every_answer");
        let mut draw = Rng::with_seed(seed);
        let mut case = Case::new(&mut draw);
        for _ in 0..OPERATIONS {
            case.step(&mut draw);
        }
        case.keep_time();
        case.write();
        let dump = case.shop.engine.dump();
        // A second replay comes to the same state.
        case.kill();
        case.check();
        let without_floor = |dump: &str| dump.split_once('\n').map(|(_, rest)| rest.to_owned());
        assert_eq!(without_floor(&case.shop.engine.dump()), without_floor(&dump));
        seen.push(case.seen);
    }
    let sum = |count: fn(&Seen) -> u32| seen.iter().map(count).sum::<u32>();
    let all = [
        sum(|it| it.retired),
        sum(|it| it.key_too_old),
        sum(|it| it.key_new_again),
        sum(|it| it.limit_outlived),
        sum(|it| it.kills),
    ];
    println!("{all:?} in {} cases", seen.len());
    assert!(seen.len() < CASES || all.iter().all(|count| *count > 0), "{all:?}");
}

/// A UUID of version 7 with this time.
fn dated(unix_ms: u64, rest: u8) -> RequestKey {
    let mut bytes = [rest; 16];
    bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
    (bytes[6], bytes[8]) = (0x70, 0x80);
    RequestKey::uuid_v7(bytes).expect("a UUID of version 7")
}
