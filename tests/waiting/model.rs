//! Random histories against a list as a person would keep it on paper.
//!
//! After every operation everything is settled, so that the model knows which orders are held, which wait and at
//! which position, and what is available. Among the operations the process is killed and opened again, and
//! checkpoints are taken.

use std::collections::BTreeMap;
use std::time::Duration;

use doorbuster::{OrderId, OrderState, Placed, Refusal, SaleRules};
use fastrand::Rng;

use crate::seeds::{Rerun, seeds, stream};
use crate::shop::{SKU, Shop};
use crate::{buy, queue};

const STEPS: u64 = 120;
const PATIENCE_MS: u64 = 1_000_000;

/// An order on paper.
#[derive(Debug)]
struct Known {
    state: OrderState,
    units: u32,
    class: u8,
    arrival: u64,
    ends_ms: u64,
    hold_ms: u64,
}

#[derive(Default)]
struct Paper {
    available: u32,
    orders: BTreeMap<OrderId, Known>,
    arrivals: u64,
}

impl Paper {
    /// The orders that wait, in the order in which they are served.
    fn list(&self) -> Vec<OrderId> {
        let waits = |(_, known): &(&OrderId, &Known)| known.state == OrderState::Waiting;
        let mut list: Vec<_> = self.orders.iter().filter(waits).collect();
        list.sort_by_key(|(_, known)| (known.class, known.arrival));
        list.into_iter().map(|(order, _)| *order).collect()
    }

    fn serve(&mut self, now_ms: u64) {
        for order in self.list() {
            let Some(known) = self.orders.get_mut(&order) else { return };
            if known.units > self.available {
                return;
            }
            self.available -= known.units;
            known.state = OrderState::Held;
            known.ends_ms = now_ms + known.hold_ms;
        }
    }

    fn end(&mut self, order: OrderId, state: OrderState) {
        let Some(known) = self.orders.get_mut(&order) else { return };
        if known.state != OrderState::Waiting {
            self.available += known.units;
        }
        known.state = state;
    }

    fn expire(&mut self, now_ms: u64) {
        let is_due = |(_, known): &(&OrderId, &Known)| {
            matches!(known.state, OrderState::Waiting | OrderState::Held) && known.ends_ms <= now_ms
        };
        let due: Vec<_> = self.orders.iter().filter(is_due).map(|(order, _)| *order).collect();
        due.into_iter().for_each(|order| self.end(order, OrderState::Expired));
        self.serve(now_ms);
    }
}

struct Run {
    shop: Shop,
    paper: Paper,
    random: Rng,
    buyers: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = stream(seed, 0);
        let units = random.u64(..6) as u32;
        let shop = Shop::new(units + 1, 40);
        let paper = Paper { available: units + 1, ..Paper::default() };
        Self { shop, paper, random, buyers: 0 }
    }

    fn step(&mut self) {
        let now_ms = self.shop.engine.now_ms();
        match self.random.u64(..100) {
            0..25 => self.place(now_ms, true),
            25..40 => self.place(now_ms, false),
            40..60 => self.cancel(now_ms),
            60..70 => self.confirm(),
            70..80 => {
                let units = 1 + self.random.u64(..4) as u32;
                self.shop.restock(SKU, units);
                self.paper.available += units;
                self.paper.serve(now_ms);
            }
            80..92 => {
                let ms = [1, 500, 20_000, PATIENCE_MS / 2][self.random.u64(..4) as usize];
                self.shop.pass(Duration::from_millis(ms));
                self.paper.expire(now_ms + ms);
            }
            92..96 => self.shop.checkpoint(),
            _ => self.shop.kill(),
        }
    }

    fn place(&mut self, now_ms: u64, waits: bool) {
        self.buyers += 1;
        let (units, class) = (1 + self.random.u64(..3) as u32, self.random.u64(..3) as u8);
        let hold_ms = [1_000, 50_000, 3 * PATIENCE_MS][self.random.u64(..3) as usize];
        let order = if waits { queue(self.buyers, units) } else { buy(self.buyers, units) };
        let placed = self.shop.place(order.class(class).hold_for(Duration::from_millis(hold_ms)));
        let list = self.paper.list();
        let fits = list.is_empty() && units <= self.paper.available;
        let (order, state, ends_ms) = match placed {
            Placed::Held(held) if fits => (held.order, OrderState::Held, now_ms + hold_ms),
            Placed::Waiting(waiting) if waits && !fits && list.len() < 40 => {
                (waiting.order, OrderState::Waiting, now_ms + PATIENCE_MS)
            }
            Placed::Refused(Refusal::WaitingListFull { waiting: 40, bound: 40, .. })
                if waits && list.len() == 40 =>
            {
                return;
            }
            Placed::Refused(Refusal::OthersWaiting { .. }) if !waits && !list.is_empty() => return,
            Placed::Refused(Refusal::SoldOut { .. }) if !waits && list.is_empty() && !fits => {
                return;
            }
            other => panic!("{other:?} of {units} units, with {list:?} waiting"),
        };
        if state == OrderState::Held {
            self.paper.available -= units;
        }
        self.paper.arrivals += 1;
        let arrival = self.paper.arrivals;
        self.paper.orders.insert(order, Known { state, units, class, arrival, ends_ms, hold_ms });
        // An order of a better class may be first, and want less.
        self.paper.serve(now_ms);
    }

    /// Returns one of the orders in these states.
    fn draw(&mut self, states: &[OrderState]) -> Option<OrderId> {
        let orders = self.paper.orders.iter();
        let fit: Vec<_> = orders.filter(|(_, it)| states.contains(&it.state)).collect();
        let nth = self.random.u64(..fit.len().max(1) as u64) as usize;
        fit.get(nth).map(|(order, _)| **order)
    }

    fn cancel(&mut self, now_ms: u64) {
        let states = [OrderState::Waiting, OrderState::Held, OrderState::Confirmed];
        let Some(order) = self.draw(&states) else { return };
        self.shop.cancel(order);
        self.paper.end(order, OrderState::Cancelled);
        self.paper.serve(now_ms);
    }

    fn confirm(&mut self) {
        let Some(order) = self.draw(&[OrderState::Held]) else { return };
        self.shop.settle(|engine| engine.confirm(order).expect("held"));
        if let Some(known) = self.paper.orders.get_mut(&order) {
            known.state = OrderState::Confirmed;
        }
    }

    fn check(&self) {
        for (order, known) in &self.paper.orders {
            let view = self.shop.engine.order(*order).expect("known");
            assert_eq!(view.state, known.state, "{order}: {known:?}");
            if matches!(known.state, OrderState::Waiting | OrderState::Held) {
                assert_eq!(view.deadline_ms, known.ends_ms, "{order}: {known:?}");
            }
        }
        for (before, order) in (0_u64..).zip(self.paper.list()) {
            assert_eq!(self.shop.position(order), Some(before), "{order}");
        }
        assert_eq!(self.shop.levels(SKU).available, i64::from(self.paper.available));
    }
}

#[test]
fn random_histories_are_as_on_paper() {
    for seed in seeds("WAITING_SEED", 60) {
        let _rerun = Rerun::new("WAITING_SEED", seed, "--test waiting random_histories");
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
            run.check();
        }
    }
}

/// An order that smaller ones may pass is served as soon as there is enough for it and no other order takes it.
#[test]
fn nobody_waits_for_whom_there_is_enough() {
    for seed in seeds("WAITING_SEED", 40) {
        let _rerun = Rerun::new("WAITING_SEED", seed, "--test waiting nobody_waits");
        let mut run = Run::new(seed);
        run.shop.rules(SaleRules::new().waiting_passes(true));
        let mut orders = Vec::new();
        for buyer in 1..80 {
            let (units, class) = (1 + run.random.u64(..4) as u32, run.random.u64(..3) as u8);
            match run.shop.place(queue(buyer, units).class(class)) {
                Placed::Held(held) => orders.push((held.order, units)),
                Placed::Waiting(waiting) => orders.push((waiting.order, units)),
                other => drop(other),
            }
            if run.random.u64(..100) < 40 {
                let nth = run.random.u64(..orders.len().max(1) as u64) as usize;
                orders.get(nth).into_iter().for_each(|(order, _)| run.shop.cancel(*order));
            }
            if run.random.u64(..100) < 10 {
                run.shop.kill();
            }
            let available = run.shop.levels(SKU).available;
            let waits =
                |(order, _): &&(OrderId, u32)| run.shop.state(*order) == OrderState::Waiting;
            let least = orders.iter().filter(waits).map(|(_, units)| *units).min();
            assert!(least.is_none_or(|units| i64::from(units) > available), "{available} left");
        }
    }
}
