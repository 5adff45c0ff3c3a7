//! Random requests of few keys on the engine and on a model of plain maps, with the clock, kills, checkpoints and
//! lost writes in between. One key has one outcome.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use doorbuster::{
    Commit, Held, KeyField, KeyReused, Options, Order, PlaceError, Placed, Refusal, RefusedBefore,
    RequestKey,
};
use fastrand::Rng;

use crate::seeds::{Rerun, seeds};
use crate::shop::{Shop, settled};
use crate::{EMPTY, small};

const CASES: usize = 24;
const OPERATIONS: u32 = 300;
const BUYERS: u64 = 12;

type Answers = Vec<Result<Placed, PlaceError>>;

/// By buyer and units; a repeat with other units is other content.
type Request = (u64, u32);

/// What a partition of the engine must know. There is one partition.
#[derive(Clone, Default)]
struct Model {
    available: u32,
    held: BTreeMap<u64, (Held, u32)>,
    /// The oldest first.
    refused: VecDeque<(Request, RefusedBefore)>,
}

#[derive(Debug, Default)]
struct Seen {
    held: u32,
    held_again: u32,
    refused: u32,
    refused_again: u32,
    key_reused: u32,
    refused_key_reused: u32,
    key_new_again: u32,
    forgotten: u32,
    lost: u32,
    from_checkpoints: u32,
}

struct Case {
    shop: Shop,
    kept_ms: u64,
    count_max: u64,
    model: Model,
    /// As it was when everything was durable.
    durable: Model,
    pending: Vec<(Commit<Placed>, Placed)>,
    batches: Vec<(Commit<Answers>, Placed)>,
    next_key: u128,
    seen: Seen,
}

impl Case {
    fn new(draw: &mut Rng) -> Self {
        let (kept_ms, count_max) = (1 + draw.u64(..200), 1 + draw.u64(..9));
        let shop = Shop::new(move |options| adapt(options, kept_ms, count_max));
        Self {
            shop,
            kept_ms,
            count_max,
            model: Model::default(),
            durable: Model::default(),
            pending: Vec::new(),
            batches: Vec::new(),
            next_key: 1,
            seen: Seen::default(),
        }
    }

    fn step(&mut self, draw: &mut Rng) {
        match draw.u64(..100) {
            0..70 => {
                let request = (draw.u64(..BUYERS), 1 + draw.u64(..2) as u32);
                self.place(request, draw.u64(..100) < 30);
            }
            70..76 => self.restock(1 + draw.u64(..3) as u32),
            76..84 => {
                let by_ms = draw.u64(..self.kept_ms + 2);
                self.shop.clock.advance(Duration::from_millis(by_ms));
            }
            84..92 => self.settle(),
            92..94 => self.checkpoint(),
            94..97 => {
                self.settle();
                self.kill();
            }
            _ => self.kill(),
        }
    }

    fn place(&mut self, request: Request, in_batch: bool) {
        let (buyer, units) = request;
        let order = Order::new(buyer, RequestKey::new(7)).line(EMPTY, units);
        let now_ms = self.shop.engine.now_ms();
        let expected = self.answer(request, now_ms);
        if in_batch {
            let batch = self.shop.engine.place_batch(&[order]).expect("open");
            let found = batch.peek().expect("an answer")[0].clone().expect("an answer");
            let expected = self.check(request, found, expected, now_ms);
            self.batches.push((batch, expected));
        } else {
            let placed = self.shop.engine.place(order).expect("an answer");
            let found = placed.peek().expect("an answer").clone();
            let expected = self.check(request, found, expected, now_ms);
            self.pending.push((placed, expected));
        }
    }

    /// Returns the answer that a request must receive, or `None` if it is held as a new order.
    fn answer(&mut self, (buyer, units): Request, now_ms: u64) -> Option<Placed> {
        let reused = |order| Some(Placed::KeyReused(KeyReused { order, field: KeyField::Lines }));
        if let Some((held, its_units)) = self.model.held.get(&buyer) {
            if *its_units != units {
                self.seen.key_reused += 1;
                return reused(Some(held.order));
            }
            self.seen.held_again += 1;
            return Some(Placed::Held(Held { replayed: true, ..*held }));
        }
        let of_buyer = self.model.refused.iter().filter(|((other, _), _)| *other == buyer);
        let remembered = of_buyer.clone().find(|(_, before)| before.until_ms > now_ms);
        match remembered {
            Some(((_, its_units), _)) if *its_units != units => {
                self.seen.refused_key_reused += 1;
                reused(None)
            }
            Some((_, before)) => {
                self.seen.refused_again += 1;
                Some(Placed::RefusedBefore(*before))
            }
            None => {
                self.seen.key_new_again += u32::from(of_buyer.count() > 0);
                let (wanted, available) = (units.into(), self.model.available);
                (available < units).then_some(Placed::Refused(Refusal::SoldOut {
                    sku: EMPTY,
                    wanted,
                    available: available.into(),
                }))
            }
        }
    }

    /// Compares the answers, and notes what became of the key.
    fn check(
        &mut self,
        request: Request,
        found: Placed,
        expected: Option<Placed>,
        now_ms: u64,
    ) -> Placed {
        let (buyer, units) = request;
        let Some(expected) = expected else {
            let held = *found.held().unwrap_or_else(|| panic!("{found:?}, and not held"));
            assert!(!held.replayed, "{found:?}");
            self.model.available -= units;
            self.model.held.insert(buyer, (held, units));
            self.seen.held += 1;
            return found;
        };
        assert_eq!(found, expected, "{request:?} at {now_ms}");
        if let Placed::Refused(refusal) = expected {
            let before = RefusedBefore { refusal, until_ms: now_ms + self.kept_ms };
            self.model.refused.push_back((request, before));
            self.seen.refused += 1;
            if self.model.refused.len() as u64 > self.count_max {
                let forgotten = self.model.refused.pop_front();
                self.seen.forgotten +=
                    u32::from(forgotten.is_some_and(|(_, it)| it.until_ms > now_ms));
            }
        }
        expected
    }

    fn restock(&mut self, units: u32) {
        self.next_key += 1;
        let key = self.next_key;
        self.shop.add(EMPTY, units, key);
        self.model.available += units;
        self.settle();
    }

    /// Everything that was answered becomes durable.
    fn settle(&mut self) {
        self.shop.engine.run_until_idle();
        for (placed, expected) in self.pending.drain(..) {
            assert_eq!(settled(placed), expected);
        }
        for (batch, expected) in self.batches.drain(..) {
            assert_eq!(settled(batch), [Ok(expected)]);
        }
        self.durable = self.model.clone();
        let now_ms = self.shop.engine.now_ms();
        let there = self.model.refused.iter().filter(|(_, it)| it.until_ms > now_ms).count();
        assert_eq!(self.shop.engine.stats().refusals_remembered, there as u64);
    }

    fn checkpoint(&mut self) {
        self.settle();
        self.shop.checkpoint();
    }

    /// What was answered and not written is gone; it was never acknowledged.
    fn kill(&mut self) {
        self.seen.lost += (self.pending.len() + self.batches.len()) as u32;
        self.pending.clear();
        self.batches.clear();
        self.model = self.durable.clone();
        self.shop.kill();
        let is_loaded = self.shop.engine.recovery().checkpoint.is_some();
        self.seen.from_checkpoints += u32::from(is_loaded);
    }
}

fn adapt(options: Options, kept_ms: u64, count_max: u64) -> Options {
    let options = small(options).partitions(1).log_shards(1);
    options.remember_refusals(Duration::from_millis(kept_ms), count_max)
}

#[test]
fn every_key_has_one_outcome_through_time_kills_and_checkpoints() {
    let mut seen = Vec::new();
    for seed in seeds("REMEMBERED_SEED", CASES) {
        let _rerun = Rerun::new("REMEMBERED_SEED", seed, "--test refusals every_key_has_one");
        let mut draw = Rng::with_seed(seed);
        let mut case = Case::new(&mut draw);
        for _ in 0..OPERATIONS {
            case.step(&mut draw);
        }
        case.settle();
        let dump = case.shop.engine.dump();
        case.kill();
        let without_floor = |dump: &str| dump.split_once('\n').map(|(_, rest)| rest.to_owned());
        assert_eq!(without_floor(&case.shop.engine.dump()), without_floor(&dump));
        seen.push(case.seen);
    }
    let sum = |count: fn(&Seen) -> u32| seen.iter().map(count).sum::<u32>();
    let all = [
        sum(|it| it.held),
        sum(|it| it.held_again),
        sum(|it| it.refused),
        sum(|it| it.refused_again),
        sum(|it| it.key_reused),
        sum(|it| it.refused_key_reused),
        sum(|it| it.key_new_again),
        sum(|it| it.forgotten),
        sum(|it| it.lost),
        sum(|it| it.from_checkpoints),
    ];
    println!("{all:?} in {} cases", seen.len());
    assert!(seen.len() < CASES || all.iter().all(|count| *count > 0), "{all:?}");
}
