//! Applies the records of one partition's lane.

use std::collections::BTreeMap;

use crate::ids::{BuyerId, OrderId, SkuId};
use crate::log::{
    BuyersRecord, Counting, LoggedParts, OrderRecord, PlaceRecord, PromoteRecord, Record,
    RefuseRecord, RetireRecord, Section, full_time_ms, records,
};
use crate::mutants::{self, Mutant};
use crate::order::{Line, OrderState, Step, Verb, filling_digest, lines_digest, payload_digest};
use crate::partition::{Ending, Extra, NewOrder, PartitionState, SkuUnits, Slot, Waited, map_of};
use crate::recovery::tables::{BuyerMarks, Misfit, Tables};
use crate::routing::partition_of;
use crate::stock::Sku;
use crate::sync::Ordering;

/// How many records ahead the memory is asked for that a record will touch: by then it is there.
pub(super) const AHEAD: usize = 12;

/// One section's worth of work on a partition.
pub(super) struct LaneReplay<'a, 'b> {
    pub(super) tables: &'a Tables,
    pub(super) partition: usize,
    pub(super) state: &'b mut PartitionState,
    /// What the checkpoint holds of its counts of buyers.
    pub(super) buyers: BuyerMarks,
    pub(super) block_ms: u64,
    pub(super) sums: &'b mut Sums<'a>,
}

impl LaneReplay<'_, '_> {
    /// Applies the records after `begin_lsn`; returns the last one's LSN.
    pub(super) fn section(&mut self, section: &Section<'_>, begin_lsn: u64) -> Result<u64, Misfit> {
        let mut lsn = section.first_lsn - 1;
        let mut ahead = records(section.bytes);
        ahead.by_ref().take(AHEAD).for_each(|record| self.prefetch(record));
        for record in records(section.bytes) {
            lsn += 1;
            ahead.next().into_iter().for_each(|record| self.prefetch(record));
            match record? {
                _ if lsn <= begin_lsn => {}
                Record::Place(record) => self.place(&record, lsn)?,
                Record::Order(record) => self.order(record, lsn)?,
                Record::Promote(record) => self.promote(record, lsn)?,
                Record::Retire(record) => self.retire(&record, lsn)?,
                Record::Refuse(record) => self.refuse(record, lsn)?,
                Record::Buyers(record) => self.change_buyers(record, lsn)?,
                _ => return Err(Misfit::Damage(format!("record {lsn} is in the wrong lane"))),
            }
        }
        self.state.tidy_replayed(&self.tables.hasher);
        Ok(lsn)
    }

    fn prefetch(&self, record: Result<Record<'_>, &'static str>) {
        match record {
            Ok(Record::Place(record)) => {
                let hash = self.tables.hasher.hash(record.buyer, record.key);
                self.state.keys.shared().prefetch(hash);
            }
            Ok(Record::Order(record)) => self.state.orders.prefetch(record.order.sequence()),
            _ => {}
        }
    }

    fn place(&mut self, record: &PlaceRecord<'_>, lsn: u64) -> Result<(), Misfit> {
        let sequence = record.order.sequence();
        let mut lines = record.lines.iter();
        let first_line = lines.next();
        let (Some(first_line), false) = (
            first_line,
            record.order.partition() != self.partition
                || partition_of(record.buyer, self.tables.partitions) != self.partition
                || sequence < self.state.orders.next_sequence(),
        ) else {
            return Err(Misfit::Damage(format!("{} does not fit its partition", record.order)));
        };
        let counts = lsn > self.counted_to(record.buyer);
        let first = match record.joins {
            None => self.hold(record.buyer, first_line, counts)?,
            Some(_) => self.wait(record.buyer, first_line, counts)?,
        };
        let mut cart = Vec::new();
        for line in lines {
            if cart.is_empty() {
                cart.push(first);
            }
            cart.push(self.hold(record.buyer, line, counts)?);
        }
        let (digest, missing) = match (record.parts, cart.is_empty()) {
            (LoggedParts::None, true) => (lines_digest(&[first_line]), Vec::new()),
            (LoggedParts::None, false) => {
                (lines_digest(&record.lines.iter().collect::<Vec<_>>()), Vec::new())
            }
            _ => self.parts(record)?,
        };
        let placed_ms = full_time_ms(record.time_low, self.block_ms);
        let waited = record.joins.map(|joins| Waited {
            place: joins.place,
            patience_ends_ms: placed_ms.saturating_add(u64::from(joins.patience_ms)),
            patience_ms: joins.patience_ms,
            served: false,
        });
        let is_plain = cart.is_empty() && missing.is_empty() && record.payload.is_empty();
        let extra = (!is_plain || waited.is_some()).then(|| {
            Box::new(Extra {
                lines: cart.into(),
                missing: missing.into(),
                payload: bytes::Bytes::copy_from_slice(record.payload),
                payload_digest: payload_digest(record.payload),
                waited,
            })
        });
        let held_until_ms = placed_ms.saturating_add(u64::from(record.hold_ms));
        let order = NewOrder {
            buyer: record.buyer,
            key: record.key,
            hold_ms: record.hold_ms,
            default_hold: record.default_hold,
            policy: record.policy,
            deadline_ms: waited.map_or(held_until_ms, |waited| waited.patience_ends_ms),
            lines_digest: digest,
            first,
            extra,
        };
        let state = &mut *self.state;
        state.orders.skip_to(sequence);
        let handle = state.orders.insert(order, lsn).ok_or("more orders than handles")?;
        if !mutants::is(Mutant::DropsKeyOnReplay) {
            state.keys.insert(self.tables.hasher.hash(record.buyer, record.key), handle);
        }
        Ok(())
    }

    /// The digest of what a partial order asked for, and what it lacks.
    fn parts(&mut self, record: &PlaceRecord<'_>) -> Result<(u64, Vec<SkuUnits>), Misfit> {
        let (mut wanted, mut minimums, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for (held, part) in record.lines.iter().zip(record.parts.iter()) {
            let units = held.quantity.get().checked_add(part.missing);
            let units = units.filter(|_| held.quantity.get() >= part.minimum);
            let units =
                units.ok_or("a line that holds less than its minimum, or lacks too much")?;
            wanted.push(Line { sku: held.sku, quantity: units.into() });
            minimums.push(part.minimum);
            if part.missing > 0 {
                let sku = self.sums.find(held.sku)?.index;
                missing.push(SkuUnits { sku, units: part.missing });
                if held.quantity.get() == 0 {
                    self.tables.lacked.lock().insert(sku);
                }
            }
        }
        Ok((filling_digest(&wanted, &minimums), missing))
    }

    /// An order waits for a line's units; if it `counts`, its buyer has them as if it held them.
    fn wait(&mut self, buyer: BuyerId, line: Line, counts: bool) -> Result<SkuUnits, Misfit> {
        let (units, sku) = (line.quantity.get(), self.sums.find(line.sku)?);
        self.tables.somebody_waits.store(true, Ordering::Relaxed);
        if counts {
            self.state.limits.add(buyer, sku.index, units);
        }
        Ok(SkuUnits { sku: sku.index, units })
    }

    /// An order holds a line's units; if it `counts`, for its buyer too.
    fn hold(&mut self, buyer: BuyerId, line: Line, counts: bool) -> Result<SkuUnits, Misfit> {
        let units = line.quantity.get();
        let sku = self.sums.find(line.sku)?;
        self.sums.add(sku, i64::from(units), 0);
        if counts {
            self.state.limits.add(buyer, sku.index, units);
        }
        Ok(SkuUnits { sku: sku.index, units })
    }

    fn order(&mut self, record: OrderRecord, lsn: u64) -> Result<(), Misfit> {
        let OrderRecord { order, verb, time_low, list_sequence } = record;
        let unknown = || not_there(lsn, order);
        let handle = self.find(order).ok_or_else(unknown)?;
        self.skip_list(handle, list_sequence);
        let counted_to = |buyer| self.buyers.maps[map_of(buyer)];
        let PartitionState { orders, limits, .. } = &mut *self.state;
        let slot = orders.get_mut(handle).ok_or_else(unknown)?;
        // What buyers have was copied at a moment of its own.
        if matches!(verb, Verb::Cancel | Verb::Expire) && lsn > counted_to(slot.buyer()) {
            for line in slot.lines() {
                if limits.counts_order(line.sku, order.sequence()) {
                    limits.remove(slot.buyer(), line.sku, line.units);
                }
            }
        }
        // It changed after the partition was begun and before it was copied.
        if lsn <= slot.last_lsn() && !mutants::is(Mutant::AppliesRecordsTwice) {
            return Ok(());
        }
        let from = slot.state();
        let Step::To(to) = from.step(verb) else { return Err(misstep(lsn, verb, order, from)) };
        if (from == OrderState::Waiting) != (list_sequence > 0) {
            return Err(misstep(lsn, verb, order, from));
        }
        slot.change(to, lsn, full_time_ms(time_low, self.block_ms));
        slot.clear_timed();
        for line in slot.lines() {
            let (sku, units) = (self.tables.skus.get(line.sku), i64::from(line.units));
            match (from, verb) {
                (_, Verb::Confirm) => self.sums.add(sku, -units, units),
                (OrderState::Held, Verb::Cancel | Verb::Expire) => self.sums.add(sku, -units, 0),
                (OrderState::Confirmed, Verb::Cancel) => self.sums.add(sku, 0, -units),
                _ => {}
            }
        }
        self.state.note_change(handle);
        Ok(())
    }

    /// An order that waited was served.
    fn promote(&mut self, record: PromoteRecord, lsn: u64) -> Result<(), Misfit> {
        let PromoteRecord { order, time_low, list_sequence } = record;
        let unknown = || not_there(lsn, order);
        let handle = self.find(order).ok_or_else(unknown)?;
        self.skip_list(handle, list_sequence);
        let orders = &mut self.state.orders;
        let slot = orders.get(handle).ok_or_else(unknown)?;
        if lsn <= slot.last_lsn() {
            return Ok(());
        }
        let from = slot.state();
        if from != OrderState::Waiting {
            let damage = format!("record {lsn}: promotion of {order}, which is {from:?}");
            return Err(Misfit::Damage(damage));
        }
        for line in slot.lines() {
            let sku = self.tables.skus.get(line.sku);
            self.sums.add(sku, i64::from(line.units), 0);
        }
        let held_ms = full_time_ms(time_low, self.block_ms);
        let deadline_ms = held_ms.saturating_add(u64::from(slot.hold_ms()));
        orders.hold(handle, deadline_ms, lsn);
        Ok(())
    }

    /// What happened to an order in its list had this number; 0: it had nothing to do with a list.
    fn skip_list(&self, handle: u32, list_sequence: u64) {
        let slot = self.state.orders.get(handle).filter(|_| list_sequence > 0);
        for line in slot.into_iter().flat_map(Slot::lines) {
            self.tables.skus.get(line.sku).skip_list_to(list_sequence);
        }
    }

    /// Orders leave memory. What they sold was counted when they sold it; the record's sums must say
    /// the same.
    fn retire(&mut self, record: &RetireRecord<'_>, lsn: u64) -> Result<(), Misfit> {
        if record.finished_ms > self.block_ms {
            return Err("orders finished after they had left memory".into());
        }
        let mut sold = BTreeMap::<u32, u64>::new();
        for order in record.orders.iter() {
            let unknown = || not_there(lsn, order);
            let handle = self.find(order).ok_or_else(unknown)?;
            let slot = self.state.orders.get(handle).ok_or_else(unknown)?;
            if slot.state().has_deadline() {
                return Err(Misfit::Damage(format!(
                    "record {lsn}: {order} left memory, not finished"
                )));
            }
            let key_hash = self.tables.hasher.hash(slot.buyer(), slot.key());
            let slot = self.state.retire(handle, key_hash).ok_or_else(unknown)?;
            for line in slot.lines().filter(|_| slot.state().is_sold()) {
                *sold.entry(line.sku).or_default() += u64::from(line.units);
            }
        }
        for sum in record.sums.iter() {
            let sku = self.tables.sku(sum.sku)?;
            if sold.remove(&sku.index) != Some(u64::from(sum.quantity.get())) {
                return Err(Misfit::Damage(format!(
                    "record {lsn}: its sum of {} is wrong",
                    sum.sku
                )));
            }
            sku.retired.fetch_add(i64::from(sum.quantity.get()), Ordering::Relaxed);
        }
        if !sold.is_empty() {
            return Err(Misfit::Damage(format!("record {lsn}: sums are missing")));
        }
        self.state.retired_to_ms = self.state.retired_to_ms.max(record.finished_ms);
        self.state.forget_gone();
        Ok(())
    }

    /// A request was refused.
    fn refuse(&mut self, record: RefuseRecord, lsn: u64) -> Result<(), Misfit> {
        let refused = record.refused;
        if partition_of(refused.buyer, self.tables.partitions) != self.partition {
            return Err(Misfit::Damage(format!("record {lsn} is of a buyer of another partition")));
        }
        if !mutants::is(Mutant::ForgetsRefusalsOnReplay) {
            self.state.restore_refusal(refused, lsn, &self.tables.hasher);
        }
        Ok(())
    }

    fn change_buyers(&mut self, record: BuyersRecord, lsn: u64) -> Result<(), Misfit> {
        let sku = self.tables.sku(record.sku)?;
        sku.set_counts_buyers();
        if lsn <= self.buyers.sales_lsn {
            return Ok(());
        }
        let limits = &mut self.state.limits;
        match record.counting {
            // Logged only when the end before it was durable, or void.
            Counting::Begins => {
                limits.settle_end(sku.index);
                self.state.count_buyers_as_of(sku.index, lsn);
            }
            Counting::Ends { home_lsn } => {
                limits.settle_end(sku.index);
                let next_sequence = self.state.orders.next_sequence();
                limits.begin_end(sku.index, Ending { next_sequence, home_lsn });
            }
            Counting::Forgotten => {
                limits.settle_end(sku.index);
                limits.end(sku.index, self.state.orders.next_sequence());
            }
            Counting::GoesOn => limits.void_end(sku.index),
        }
        Ok(())
    }

    /// Up to which LSN what this buyer has is in the tables already.
    fn counted_to(&self, buyer: BuyerId) -> u64 {
        self.buyers.maps[map_of(buyer)]
    }

    fn find(&self, order: OrderId) -> Option<u32> {
        let handle = self.state.orders.find(order.sequence());
        handle.filter(|_| order.partition() == self.partition)
    }
}

fn misstep(lsn: u64, verb: Verb, order: OrderId, from: OrderState) -> Misfit {
    Misfit::Damage(format!("record {lsn}: {verb:?} of {order}, which is {from:?}"))
}

fn not_there(lsn: u64, order: OrderId) -> Misfit {
    Misfit::Damage(format!("record {lsn} is about {order}, which is not there"))
}

/// What the orders of one thread add to the sums of a SKU, kept back as long as they are of one SKU: in
/// a sale of one hot SKU the threads would meet at its sums with every order.
pub(super) struct Sums<'a> {
    tables: &'a Tables,
    sku: Option<&'a Sku>,
    held: i64,
    sold: i64,
}

impl<'a> Sums<'a> {
    pub(super) fn new(tables: &'a Tables) -> Self {
        Self { tables, sku: None, held: 0, sold: 0 }
    }

    /// The SKU, made if it is not there.
    pub(super) fn find(&self, id: SkuId) -> Result<&'a Sku, Misfit> {
        match self.sku.filter(|sku| sku.id == id) {
            Some(sku) => Ok(sku),
            None => self.tables.sku(id),
        }
    }

    pub(super) fn add(&mut self, sku: &'a Sku, held: i64, sold: i64) {
        if self.sku.is_none_or(|last| last.index != sku.index) {
            self.settle();
            self.sku = Some(sku);
        }
        self.held += held;
        self.sold += sold;
    }

    fn settle(&mut self) {
        if let Some(sku) = self.sku {
            sku.hot.held.fetch_add(std::mem::take(&mut self.held), Ordering::Relaxed);
            sku.sold.fetch_add(std::mem::take(&mut self.sold), Ordering::Relaxed);
        }
    }
}

impl Drop for Sums<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}
