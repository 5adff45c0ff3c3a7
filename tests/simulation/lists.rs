//! What clients do with waiting lists, besides joining and leaving, and rules that stand from the start.

use std::sync::Arc;

use doorbuster::served_in_turn_on;

use crate::judge::{Broken, Checked, Rate, Ruling, Throttle};
use crate::sim::Sim;

impl Sim {
    /// Sets waiting lists, so that orders may wait.
    pub(crate) fn open_lists(&mut self) -> Checked {
        for sku in 1..=self.plan.work.skus {
            let Some(engine) = &self.engine else { return Ok(()) };
            if let Some(ruling) = self.workload.list_ruling() {
                self.judge.rule(engine, sku, &ruling)?;
            }
        }
        Ok(())
    }

    /// Every SKU belongs to one merchant, whose rate lets few orders through.
    pub(crate) fn limit_rates(&mut self) -> Checked {
        if !self.plan.work.is_rate_limited {
            return Ok(());
        }
        let rate = Rate { orders_per_s: 1, burst: self.draw.between(1, 4) as u32 };
        for sku in 1..=self.plan.work.skus {
            let Some(engine) = &self.engine else { return Ok(()) };
            let ruling = Ruling { merchant: Some(Some(1)), ..Ruling::default() };
            self.judge.rule(engine, sku, &ruling)?;
        }
        let Some(engine) = &self.engine else { return Ok(()) };
        self.judge.throttle(engine, 1, Throttle { switch: None, rate: Some(Some(rate)) })?;
        self.tell(format!("merchant 1 has all SKUs: {rate:?}"));
        Ok(())
    }

    /// Watches an order until it no longer waits, mostly one that does.
    pub(crate) fn watch(&mut self) -> Checked {
        let waiting = self.judge.waiting_orders();
        let known = self.judge.known_orders();
        let of = if waiting.is_empty() || self.draw.percent(10) { known } else { waiting };
        let order = self.draw.pick(&of).copied();
        let (Some(engine), Some(order)) = (&self.engine, order) else { return Ok(()) };
        self.judge.watch(engine, order)?;
        self.tell(format!("watch {order}"));
        Ok(())
    }

    /// An engine was just opened from a whole log: that alone says that all were served in their turn.
    pub(crate) fn check_turns_of_log(&self) -> Checked {
        let copy = self.storage.deep_copy();
        if self.plan.work.waits.percent == 0 || !self.judge.blocks.are_intact(&copy) {
            return Ok(());
        }
        match served_in_turn_on(Arc::new(copy)) {
            Ok(report) => self.judge.check_turns(&report),
            Err(error) => Err(Broken(format!("who was served when: {error}"))),
        }
    }
}
