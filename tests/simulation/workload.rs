//! What the clients ask for next.

use std::collections::BTreeMap;

use doorbuster::Switch;

use crate::draw::Draw;
use crate::judge::{Adjusting, Asked, Filling, Kind, Policy, Rate, Ruling, Throttle};
use crate::plan::{Shape, Waits, Work};

pub(crate) struct Workload {
    pub(crate) draw: Draw,
    pub(crate) work: Work,
    /// Requests as they were sent, for retries.
    sent: Vec<Asked>,
    adjusted: Vec<Adjusting>,
}

/// A request sent again may be one of this many last ones.
const RECENT: usize = 12;

impl Workload {
    pub(crate) fn new(draw: Draw, work: &Work) -> Self {
        Self { draw, work: work.clone(), sent: Vec::new(), adjusted: Vec::new() }
    }

    pub(crate) fn sku(&mut self) -> u64 {
        match self.draw.percent(self.work.hot_percent) {
            true => 1,
            false => self.draw.between(1, self.work.skus),
        }
    }

    /// A new request, or an earlier one again, perhaps with other content.
    pub(crate) fn order(&mut self, shape: &Shape, now_ms: u64) -> Asked {
        if self.draw.percent(self.work.retry_percent) && !self.sent.is_empty() {
            let from = match self.draw.percent(70) {
                true => self.sent.len().saturating_sub(RECENT),
                false => 0,
            };
            let nth = self.draw.between(from as u64, self.sent.len() as u64 - 1);
            let mut asked = self.sent[nth as usize].clone();
            match self.draw.below(15) {
                0 => asked.payload = self.payload(),
                1 => asked.hold_ms = self.hold_ms(),
                2 => {
                    asked.lines = self.lines(shape);
                    asked.policy = self.policy(shape, &asked.lines);
                }
                3 => asked.lines.reverse(),
                4 => asked.policy = self.policy(shape, &asked.lines),
                5 => asked.class = self.class(),
                _ => {}
            }
            return asked;
        }
        let lines = self.lines(shape);
        let asked = Asked {
            policy: self.policy(shape, &lines),
            class: self.class(),
            buyer: self.draw.between(1, self.work.buyers),
            key: u128::from(self.draw.below(self.work.keys)),
            dated_ms: self.dated_ms(shape, now_ms),
            lines,
            hold_ms: self.hold_ms(),
            payload: self.payload(),
        };
        self.sent.push(asked.clone());
        asked
    }

    /// When the client made a key, by its own clock.
    fn dated_ms(&mut self, shape: &Shape, now_ms: u64) -> Option<u64> {
        if !self.draw.percent(self.work.dated_percent) {
            return None;
        }
        let far_ms = 2 * shape.retention_ms.min(10_000);
        Some(match self.draw.below(10) {
            0 => now_ms + self.draw.below(far_ms),
            1..=3 => now_ms.saturating_sub(self.draw.below(far_ms)),
            _ => now_ms.saturating_sub(self.draw.below(3)),
        })
    }

    fn lines(&mut self, shape: &Shape) -> Vec<(u64, u32)> {
        // Now and then one line more than the bound.
        let most = self.work.lines.min(shape.lines_max as u64 + 1);
        let lines = if self.draw.percent(60) { 1 } else { self.draw.between(1, most) };
        // Now and then a SKU that is never stocked.
        (0..lines)
            .map(|_| {
                let sku = if self.draw.percent(2) { 99 } else { self.sku() };
                (sku, self.draw.between(1, self.work.quantity) as u32)
            })
            .collect()
    }

    fn policy(&mut self, shape: &Shape, lines: &[(u64, u32)]) -> Policy {
        let is_of_one_sku = lines.iter().all(|(sku, _)| *sku == lines[0].0);
        if is_of_one_sku && self.draw.percent(self.work.waits.percent) {
            return Policy::Wait { patience_ms: self.patience_ms(shape) };
        }
        if !self.draw.percent(self.work.partial_percent) {
            return Policy::AllOrNone;
        }
        let mut minimums = BTreeMap::new();
        for (sku, units) in lines {
            // 0 is as good as none.
            if self.draw.percent(40) {
                minimums.insert(*sku, self.draw.below(u64::from(*units) + 1) as u32);
            }
        }
        Policy::Partial { minimums }
    }

    fn patience_ms(&mut self, shape: &Shape) -> u64 {
        // Now and then more than the bound.
        let longest_ms = shape.patience_max_ms + u64::from(self.draw.percent(2));
        match self.draw.percent(self.work.waits.impatient_percent) {
            true => self.draw.between(1, longest_ms.min(30)),
            false => self.draw.between(longest_ms / 2 + 1, longest_ms),
        }
    }

    /// How a SKU's list begins.
    pub(crate) fn list_ruling(&mut self) -> Option<Ruling> {
        let Waits { percent, list_max, passes, .. } = self.work.waits;
        let waiting_max = Some(self.draw.below(list_max + 1) as u32);
        let waiting_passes = passes.then(|| self.draw.percent(50));
        (percent > 0).then(|| Ruling { waiting_max, waiting_passes, ..Ruling::default() })
    }

    fn class(&mut self) -> u8 {
        if self.draw.percent(60) { 0 } else { self.draw.below(8) as u8 }
    }

    fn hold_ms(&mut self) -> Option<u64> {
        self.draw.percent(80).then(|| self.draw.between(1, self.work.hold_ms))
    }

    fn payload(&mut self) -> Filling {
        let bytes = match self.draw.percent(50) {
            true => 0,
            false => self.draw.below(self.work.payload_bytes + 1),
        };
        Filling { byte: self.draw.next() as u8, len: bytes as usize }
    }

    pub(crate) fn adjusting(&mut self, stocked: i64) -> Adjusting {
        if self.draw.percent(self.work.retry_percent) && !self.adjusted.is_empty() {
            let nth = self.draw.below(self.adjusted.len() as u64) as usize;
            let mut again = self.adjusted[nth].clone();
            if self.draw.percent(10) {
                again.units += 1;
            }
            return again;
        }
        let units = self.draw.between(1, self.work.stock) as u32;
        let expected = stocked.clamp(0, 1 << 30) as u32;
        let (kind, units) = match self.draw.below(10) {
            0 => (Kind::Take, units),
            1 => (Kind::TakeUpTo, units),
            2 => (Kind::Set { expected }, self.draw.below(self.work.stock * 2) as u32),
            3 => (Kind::Set { expected: expected + 1 }, units),
            _ => (Kind::Add, units),
        };
        let key = u128::from(self.draw.below(1 << 40));
        let reference = self.draw.below(self.work.payload_bytes + 1) as usize;
        let asked = Adjusting { sku: self.sku(), key, kind, units, reference };
        self.adjusted.push(asked.clone());
        asked
    }

    /// Some rules of a sale, mostly one.
    pub(crate) fn ruling(&mut self, shape: &Shape, now_ms: u64) -> Ruling {
        let mut ruling = Ruling::default();
        for _ in 0..1 + self.draw.below(2) * self.draw.below(3) {
            match self.draw.weighted(&self.work.rules) {
                0 => ruling.limit = Some(self.draw.below(self.work.limit + 1) as u32),
                1 => ruling.opens_at_ms = Some(self.opens_at_ms(now_ms)),
                2 => ruling.closes_at_ms = Some(self.closes_at_ms(now_ms)),
                3 => {
                    let early_ms = self.soon_ms() * self.draw.below(2);
                    ruling.early_ms.insert(self.class(), early_ms);
                }
                4 => {
                    // Now and then more than the bound.
                    let most_ms = shape.hold_max_ms + self.draw.below(2);
                    let hold_ms = self.draw.percent(70).then(|| self.draw.between(1, most_ms));
                    ruling.hold_ms = Some(hold_ms);
                }
                5 => {
                    let units = self.draw.below(self.work.stock + 2) * self.draw.below(2);
                    ruling.safety_stock = Some(units as u32);
                }
                6 => ruling.switch = Some(self.switch()),
                7 => {
                    let most = self.work.waits.list_max;
                    ruling.waiting_max = Some(self.draw.below(most + 1) as u32);
                }
                8 => ruling.waiting_passes = Some(self.draw.percent(50)),
                _ => {
                    let merchant = self.draw.percent(70).then(|| self.merchant());
                    ruling.merchant = Some(merchant);
                }
            }
        }
        ruling
    }

    pub(crate) fn merchant(&mut self) -> u64 {
        self.draw.between(1, 2)
    }

    /// Mostly one that lets things go on.
    pub(crate) fn switch(&mut self) -> Switch {
        [Switch::Open, Switch::NoNewHolds, Switch::Halted][self.draw.weighted(&[3, 1, 1])]
    }

    pub(crate) fn throttle(&mut self) -> Throttle {
        let mut throttle = Throttle::default();
        if self.draw.percent(50) {
            throttle.switch = Some(self.switch());
        }
        if throttle.switch.is_none() || self.draw.percent(20) {
            let orders_per_s = [1, 7, 300, 1_000_000][self.draw.below(4) as usize];
            let burst = self.draw.between(1, 6) as u32;
            throttle.rate = Some(self.draw.percent(70).then_some(Rate { orders_per_s, burst }));
        }
        throttle
    }

    fn opens_at_ms(&mut self, now_ms: u64) -> u64 {
        match self.draw.below(10) {
            0..=3 => 0,
            4 => now_ms - self.soon_ms().min(now_ms),
            _ => now_ms + self.soon_ms(),
        }
    }

    fn closes_at_ms(&mut self, now_ms: u64) -> u64 {
        match self.draw.below(10) {
            0..=5 => u64::MAX,
            6 => now_ms - self.soon_ms().min(now_ms),
            _ => now_ms + self.soon_ms(),
        }
    }

    fn soon_ms(&mut self) -> u64 {
        let far_ms = [4, 40, 3_000][self.draw.weighted(&[3, 3, 1])];
        self.draw.below(far_ms)
    }

    /// How far the clock moves: to a deadline or a turn of a sale and the moments around it, or anywhere.
    pub(crate) fn advance_ms(&mut self, now_ms: u64, deadlines: &[u64]) -> u64 {
        let ahead: Vec<u64> = deadlines.iter().copied().filter(|at| *at > now_ms).collect();
        if self.draw.percent(40)
            && let Some(deadline_ms) = self.draw.pick(&ahead)
        {
            let at_ms = deadline_ms + self.draw.below(3);
            return (at_ms - now_ms).saturating_sub(1).min(20 * 86_400_000);
        }
        match self.draw.below(10) {
            0..=4 => self.draw.below(4),
            5..=7 => self.draw.below(20),
            8 => self.draw.below(3_000),
            _ => self.draw.below(2 * self.work.hold_ms),
        }
    }
}
