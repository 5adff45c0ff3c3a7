//! Applies a log's records to tables that are empty or hold a checkpoint. All shards at once: a
//! partition's records are all in one shard, and a SKU's sums commute.
//!
//! A record is skipped exactly when the checkpoint holds what it did (see
//! [`checkpoint`](crate::checkpoint)): up to its lane's begin always, behind it if its order or SKU has
//! a last LSN as high. An order placed behind its lane's begin is never in the checkpoint.

use std::collections::BTreeMap;

use indexmap::map::Entry;

use crate::checkpoint::{Head, LaneMarks};
use crate::clock::TimeMark;
use crate::error::OpenError;
use crate::ids::{BuyerId, OrderId, SkuId};
use crate::log::{
    AdjustRecord, BlockView, BuyersRecord, EndSaleRecord, Manifest, OrderRecord, PlaceRecord,
    Reader, Record, RetireRecord, RulesRecord, Section, SegmentName, TailState, VectorEntry,
    full_time_ms, records,
};
use crate::options::Options;
use crate::order::{AdjustKind, OrderState, Step, Verb, lines_digest, mix, payload_digest};
use crate::partition::{
    Extra, Keep, KeyHasher, KeyIndexWriter, MAPS, NewOrder, PartitionState, SkuUnits, map_of,
    partition_of, share,
};
use crate::stock::{AdjustEntry, Registry, Sku};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

/// Tables that fill while the shards are read.
pub(super) struct Replay {
    skus: Registry,
    skus_max: usize,
    pub(super) hasher: KeyHasher,
    pub(super) states: Vec<Mutex<PartitionState>>,
    lanes: Vec<LaneReplay>,
    /// What is in the tables already: a lane's marks, and a partition's first sequence that is not.
    pub(super) marks: Vec<LaneMarks>,
    pub(super) next_sequences: Vec<u64>,
    /// By partition; of its counts of buyers.
    pub(super) buyer_marks: Vec<Mutex<BuyerMarks>>,
    shards: u16,
}

/// Up to which LSN of a partition's lane its counts of buyers are in the tables already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BuyerMarks {
    /// Which sales are counted.
    pub(super) sales_lsn: u64,
    /// What buyers have, by map.
    pub(super) maps: [u64; MAPS],
}

/// How far a lane is replayed; written by its shard's thread alone.
struct LaneReplay {
    last_lsn: AtomicU64,
    /// No record of it has been read yet. The first one may be any up to the one behind the
    /// checkpoint's begin, since the log is read from a block that was written before that.
    is_new: AtomicBool,
}

/// What the replay of a shard found.
#[derive(Debug)]
pub(super) struct ShardReplay {
    pub(super) index: u16,
    /// The number of the first block that was read.
    pub(super) first: u64,
    pub(super) tail: TailState,
    /// Of the last block.
    pub(super) time: TimeMark,
    pub(super) last_vector: Vec<VectorEntry>,
    /// The first bytes of every block's hash, from the first one on: what other shards name.
    pub(super) hash_prefixes: Vec<u64>,
    pub(super) records: u64,
    pub(super) block_bytes: u64,
    pub(super) blocks_cut: u64,
}

/// Why a record cannot be applied.
pub(super) enum Misfit {
    Damage(String),
    TooManySkus,
}

impl From<&'static str> for Misfit {
    fn from(damage: &'static str) -> Self {
        Self::Damage(damage.into())
    }
}

impl Replay {
    /// Empty tables; with a checkpoint's head, with room for what it holds, which is then loaded.
    pub(super) fn new(
        options: &Options,
        keep: Keep,
        manifest: &Manifest,
        head: Option<&Head>,
    ) -> Self {
        let (partitions, shards) = (manifest.partitions as usize, manifest.shards.len());
        let share = share(options.orders_reserved, partitions as u64) as usize;
        let part = |partition: usize| head.map(|head| head.parts[partition]).unwrap_or_default();
        let largest = (0..partitions).map(|nth| part(nth).entries_max()).max();
        let reserved = largest.map_or(share, |largest| largest.max(share));
        let marks = head.map_or_else(
            || vec![LaneMarks::default(); partitions + shards],
            |head| head.lanes.clone(),
        );
        Self {
            skus: Registry::new(options.skus_max),
            skus_max: options.skus_max,
            hasher: KeyHasher::default(),
            states: (KeyIndexWriter::many(partitions, reserved).into_iter().enumerate())
                .map(|(partition, keys)| {
                    Mutex::new(PartitionState::new(partition, reserved, keys, keep))
                })
                .collect(),
            lanes: (marks.iter())
                .map(|marks| LaneReplay {
                    last_lsn: AtomicU64::new(marks.begin_lsn),
                    is_new: AtomicBool::new(true),
                })
                .collect(),
            marks,
            buyer_marks: (0..partitions).map(|_| Mutex::default()).collect(),
            next_sequences: (0..partitions).map(|nth| part(nth).next_sequence).collect(),
            shards: shards as u16,
        }
    }

    /// Reads a shard to its end, or up to `limit` blocks, and applies all its records.
    pub(super) fn shard(
        &self,
        index: u16,
        first: u64,
        mut reader: Reader<'_>,
        limit: Option<u64>,
    ) -> Result<ShardReplay, OpenError> {
        let mut found = ShardReplay {
            index,
            first,
            tail: TailState::default(),
            time: TimeMark::default(),
            last_vector: Vec::new(),
            hash_prefixes: Vec::new(),
            records: 0,
            block_bytes: 0,
            blocks_cut: 0,
        };
        loop {
            if limit == Some(first + found.hash_prefixes.len() as u64) {
                break;
            }
            let Some(block) = reader.next_block()? else { break };
            found.time = block.time;
            found.last_vector.clear();
            found.last_vector.extend_from_slice(block.vector);
            found.hash_prefixes.push(block.mark.hash_prefix());
            found.records += u64::from(block.records);
            if let Err(misfit) = self.block(index, &block) {
                let number = block.number;
                return Err(match misfit {
                    Misfit::Damage(damage) => reader.corrupt(format!("block {number}: {damage}")),
                    Misfit::TooManySkus => OpenError::InvalidOption {
                        field: "skus_max",
                        value: self.skus_max.to_string(),
                        bound: "must hold the SKUs that are in the log".into(),
                    },
                });
            }
        }
        found.tail = reader.tail()?;
        found.block_bytes = reader.bytes_read();
        if limit.is_some() {
            while reader.next_block()?.is_some() {
                found.blocks_cut += 1;
            }
        }
        Ok(found)
    }

    fn block(&self, shard: u16, block: &BlockView<'_>) -> Result<(), Misfit> {
        let mut count = 0;
        for section in block.sections() {
            let section = section.ok_or("a section is longer than its block")?;
            count += section.records;
            self.section(shard, &section, block.time.engine_ms())?;
        }
        if count != block.records {
            return Err("its records are not as many as its header says".into());
        }
        Ok(())
    }

    fn section(&self, shard: u16, section: &Section<'_>, block_ms: u64) -> Result<(), Misfit> {
        let lane = section.lane as usize;
        let owner = match lane.checked_sub(self.states.len()) {
            None => lane % usize::from(self.shards),
            Some(sku_lane) => sku_lane,
        };
        let replayed = self.lanes.get(lane).filter(|_| owner == usize::from(shard));
        let Some(replayed) = replayed else {
            return Err(Misfit::Damage(format!("lane {lane} is not of this shard")));
        };
        let next = replayed.last_lsn.load(Ordering::Relaxed) + 1;
        let first = section.first_lsn;
        let fits = first == next || replayed.is_new.load(Ordering::Relaxed) && first < next;
        if !fits || first == 0 {
            return Err(Misfit::Damage(format!(
                "lane {lane} goes on with record {first}, not {next}"
            )));
        }
        let mut lsn = first - 1;
        let begin_lsn = self.marks[lane].begin_lsn;
        let mut state = self.states.get(lane).map(Mutex::lock);
        for record in records(section.bytes) {
            lsn += 1;
            if lsn <= begin_lsn {
                record?;
                continue;
            }
            match (record?, state.as_deref_mut()) {
                (Record::Place(record), Some(state)) => {
                    self.place(lane, state, &record, lsn, block_ms)?;
                }
                (Record::Order(record), Some(state)) => {
                    self.order(lane, state, record, lsn, block_ms)?;
                }
                (Record::Retire(record), Some(state)) => self.retire(lane, state, &record, lsn)?,
                (Record::Buyers(record), Some(state)) => self.buyers(lane, state, record, lsn)?,
                (Record::Adjust(record), None) => self.adjust(&record, lsn)?,
                (Record::Rules(record), None) => self.rules(record, lsn)?,
                (Record::EndSale(record), None) => self.end_sale(record, lsn)?,
                _ => return Err(Misfit::Damage(format!("record {lsn} is in the wrong lane"))),
            }
        }
        if lsn + 1 != first + u64::from(section.records) {
            return Err("a section's records are not as many as it says".into());
        }
        replayed.is_new.store(false, Ordering::Relaxed);
        replayed.last_lsn.store(lsn, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn sku(&self, id: SkuId) -> Result<&Sku, Misfit> {
        self.skus.find_or_insert(id).map_err(|_| Misfit::TooManySkus)
    }

    fn place(
        &self,
        partition: usize,
        state: &mut PartitionState,
        record: &PlaceRecord<'_>,
        lsn: u64,
        block_ms: u64,
    ) -> Result<(), Misfit> {
        let lines: Vec<_> = record.lines.iter().collect();
        let sequence = record.order.sequence();
        if record.order.partition() != partition
            || partition_of(record.buyer, self.states.len()) != partition
            || sequence < state.orders.next_sequence()
            || lines.is_empty()
        {
            return Err(Misfit::Damage(format!("{} does not fit its partition", record.order)));
        }
        let counted_to = self.counted_to(partition, record.buyer);
        let mut units = Vec::with_capacity(lines.len());
        for line in &lines {
            let sku = self.sku(line.sku)?;
            sku.hot.held.fetch_add(i64::from(line.quantity.get()), Ordering::Relaxed);
            units.push(SkuUnits { sku: sku.index, units: line.quantity.get() });
            if lsn > counted_to {
                state.limits.add(record.buyer, sku.index, line.quantity.get());
            }
        }
        let first = units[0];
        let cart = units.len() > 1;
        let extra = (cart || !record.payload.is_empty()).then(|| {
            Box::new(Extra {
                lines: if cart { units.into() } else { Box::default() },
                payload: bytes::Bytes::copy_from_slice(record.payload),
                payload_digest: payload_digest(record.payload),
            })
        });
        let placed_ms = full_time_ms(record.time_low, block_ms);
        let order = NewOrder {
            buyer: record.buyer,
            key: record.key,
            hold_ms: record.hold_ms,
            default_hold: record.default_hold,
            deadline_ms: placed_ms.saturating_add(u64::from(record.hold_ms)),
            lines_digest: lines_digest(&lines),
            first,
            extra,
        };
        state.orders.skip_to(sequence);
        let handle = state.orders.insert(order, lsn).ok_or("more orders than handles")?;
        state.keys.insert(self.hasher.hash(record.buyer, record.key), handle);
        Ok(())
    }

    fn order(
        &self,
        partition: usize,
        state: &mut PartitionState,
        record: OrderRecord,
        lsn: u64,
        block_ms: u64,
    ) -> Result<(), Misfit> {
        let OrderRecord { order, verb, time_low } = record;
        let unknown = || not_there(lsn, order);
        let handle = find(partition, state, order).ok_or_else(unknown)?;
        let PartitionState { orders, limits, .. } = state;
        let slot = orders.get_mut(handle).ok_or_else(unknown)?;
        // What buyers have was copied at a moment of its own.
        if matches!(verb, Verb::Cancel | Verb::Expire)
            && lsn > self.counted_to(partition, slot.buyer())
        {
            for line in slot.lines() {
                if limits.counts_order(line.sku, order.sequence()) {
                    limits.remove(slot.buyer(), line.sku, line.units);
                }
            }
        }
        // It changed after the partition was begun and before it was copied.
        if lsn <= slot.last_lsn() {
            return Ok(());
        }
        let from = slot.state();
        let Step::To(to) = from.step(verb) else {
            return Err(Misfit::Damage(format!(
                "record {lsn}: {verb:?} of {order}, which is {from:?}"
            )));
        };
        slot.change(to, lsn, full_time_ms(time_low, block_ms));
        slot.clear_timed();
        for line in slot.lines() {
            let (sku, units) = (self.skus.get(line.sku), i64::from(line.units));
            match (from, verb) {
                (_, Verb::Confirm) => {
                    sku.hot.held.fetch_sub(units, Ordering::Relaxed);
                    sku.sold.fetch_add(units, Ordering::Relaxed);
                }
                (OrderState::Held, Verb::Cancel | Verb::Expire) => {
                    sku.hot.held.fetch_sub(units, Ordering::Relaxed);
                }
                (OrderState::Confirmed, Verb::Cancel) => {
                    sku.sold.fetch_sub(units, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        state.note_change(handle);
        Ok(())
    }

    /// Orders leave memory. What they sold was counted when they sold it; the record's sums must say
    /// the same.
    fn retire(
        &self,
        partition: usize,
        state: &mut PartitionState,
        record: &RetireRecord<'_>,
        lsn: u64,
    ) -> Result<(), Misfit> {
        let mut sold = BTreeMap::<u32, u64>::new();
        for order in record.orders.iter() {
            let unknown = || not_there(lsn, order);
            let handle = find(partition, state, order).ok_or_else(unknown)?;
            let slot = state.orders.get(handle).ok_or_else(unknown)?;
            let key_hash = self.hasher.hash(slot.buyer(), slot.key());
            let slot = state.retire(handle, key_hash).ok_or_else(unknown)?;
            for line in slot.lines().filter(|_| slot.state().is_sold()) {
                *sold.entry(line.sku).or_default() += u64::from(line.units);
            }
        }
        for sum in record.sums.iter() {
            let units = sold.remove(&self.sku(sum.sku)?.index);
            if units != Some(u64::from(sum.quantity.get())) {
                return Err(Misfit::Damage(format!(
                    "record {lsn}: its sum of {} is wrong",
                    sum.sku
                )));
            }
        }
        if !sold.is_empty() {
            return Err(Misfit::Damage(format!("record {lsn}: sums are missing")));
        }
        for sum in record.sums.iter() {
            let units = i64::from(sum.quantity.get());
            self.sku(sum.sku)?.retired.fetch_add(units, Ordering::Relaxed);
        }
        state.retired_to_ms = state.retired_to_ms.max(record.finished_ms);
        state.forget_gone();
        Ok(())
    }

    /// Up to which LSN what this buyer has is in the tables already.
    fn counted_to(&self, partition: usize, buyer: BuyerId) -> u64 {
        self.buyer_marks[partition].lock().maps[map_of(buyer)]
    }

    fn buyers(
        &self,
        partition: usize,
        state: &mut PartitionState,
        record: BuyersRecord,
        lsn: u64,
    ) -> Result<(), Misfit> {
        let sku = self.sku(record.sku)?;
        sku.counts_buyers.store(true, Ordering::Release);
        if lsn <= self.buyer_marks[partition].lock().sales_lsn {
            return Ok(());
        }
        if record.counted {
            state.count_buyers_as_of(sku.index, lsn);
        } else {
            let next_sequence = state.orders.next_sequence();
            state.limits.end(sku.index, next_sequence);
        }
        Ok(())
    }

    fn adjust(&self, record: &AdjustRecord<'_>, lsn: u64) -> Result<(), Misfit> {
        let sku = self.sku(record.sku)?;
        let mut home = sku.home.lock();
        if lsn <= home.last_lsn {
            return Ok(());
        }
        home.stocked += record.delta;
        home.last_lsn = lsn;
        let stocked = u64::try_from(home.stocked).map_err(|_| {
            Misfit::Damage(format!("{} has less than nothing in stock", record.sku))
        })?;
        match home.adjusts.entry(record.key) {
            Entry::Occupied(_) => {
                return Err(Misfit::Damage(format!("{} of {} came twice", record.key, record.sku)));
            }
            Entry::Vacant(entry) => entry.insert(AdjustEntry {
                kind: record.kind,
                units: record.units,
                expected: record.expected,
                reference_digest: payload_digest(record.reference),
                delta: record.delta,
                stocked,
                lsn,
            }),
        };
        sku.stocked.fetch_add(record.delta, Ordering::Relaxed);
        if matches!(record.kind, AdjustKind::Add | AdjustKind::Set) {
            sku.known.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn rules(&self, record: RulesRecord, lsn: u64) -> Result<(), Misfit> {
        let sku = self.sku(record.sku)?;
        let mut home = sku.home.lock();
        if lsn <= home.last_lsn {
            return Ok(());
        }
        home.last_lsn = lsn;
        if let Some(limit) = record.buyer_limit {
            home.buyer_limit = limit;
            sku.set_buyer_limit(limit);
        }
        Ok(())
    }

    /// All that the checkpoint holds must be in the log too.
    fn check_ends(&self, options: &Options) -> Result<(), OpenError> {
        for (lane, (replayed, marks)) in self.lanes.iter().zip(&self.marks).enumerate() {
            let last = replayed.last_lsn.load(Ordering::Relaxed);
            if last < marks.end_lsn {
                let shard = lane.checked_sub(self.states.len());
                let shard = shard.unwrap_or(lane % usize::from(self.shards)) as u16;
                return Err(OpenError::Corrupt {
                    shard: Some(shard),
                    path: options.folder().join(SegmentName::of_shard(shard).folder),
                    offset: 0,
                    damage: format!(
                        "lane {lane} ends with record {last}, but a checkpoint holds record {}",
                        marks.end_lsn
                    ),
                });
            }
        }
        Ok(())
    }

    fn end_sale(&self, record: EndSaleRecord, lsn: u64) -> Result<(), Misfit> {
        let sku = self.sku(record.sku)?;
        let mut home = sku.home.lock();
        if lsn <= home.last_lsn {
            return Ok(());
        }
        home.last_lsn = lsn;
        home.buyer_limit = 0;
        sku.set_buyer_limit(0);
        Ok(())
    }

    /// What can be told only when all shards are read: what is available, and who has how much of a
    /// SKU with a limit.
    pub(super) fn finish(self, options: &Options) -> Result<Replayed, OpenError> {
        self.check_ends(options)?;
        for sku in self.skus.iter() {
            let levels = sku.levels();
            // That its buyers are counted may be in the log while what made it known is not.
            let is_used = levels.held != 0 || levels.sold != 0 || !sku.counts_buyers();
            if !sku.is_known() && is_used {
                return Err(OpenError::Corrupt {
                    shard: Some(home_shard(sku.id, self.shards)),
                    path: options.folder(),
                    offset: 0,
                    damage: format!("orders hold {}, which no record made known", sku.id),
                });
            }
            sku.hot.available.restore(levels.stocked - levels.held - levels.sold);
        }
        let mut states: Vec<_> = self.states.into_iter().map(Mutex::into_inner).collect();
        let counted_anew = states.iter_mut().map(|state| count_orders(&self.skus, state)).collect();
        Ok(Replayed {
            skus: self.skus,
            hasher: self.hasher,
            states,
            lane_lsns: self.lanes.into_iter().map(|lane| lane.last_lsn.into_inner()).collect(),
            counted_anew,
        })
    }
}

/// What a replay gives.
pub(super) struct Replayed {
    pub(super) skus: Registry,
    pub(super) hasher: KeyHasher,
    pub(super) states: Vec<PartitionState>,
    pub(super) lane_lsns: Vec<u64>,
    /// By partition: SKUs whose buyers are counted from now on, which no record says yet.
    pub(super) counted_anew: Vec<Vec<SkuId>>,
}

fn not_there(lsn: u64, order: OrderId) -> Misfit {
    Misfit::Damage(format!("record {lsn} is about {order}, which is not there"))
}

fn find(partition: usize, state: &PartitionState, order: OrderId) -> Option<u32> {
    state.orders.find(order.sequence()).filter(|_| order.partition() == partition)
}

/// Has the buyers of every SKU with a limit counted. A limit's record may have survived a crash where
/// a partition's, that it counts from now on, has not.
fn count_orders(skus: &Registry, state: &mut PartitionState) -> Vec<SkuId> {
    let limited = skus.iter().filter(|sku| sku.buyer_limit().is_some());
    let anew = limited
        .filter(|sku| {
            sku.counts_buyers.store(true, Ordering::Release);
            state.count_buyers_of(sku.index)
        })
        .map(|sku| sku.id)
        .collect();
    while state.limits.clear_some() {}
    state.ended = state.orders.iter().filter(|(_, slot)| slot.state().is_final()).count() as u64;
    state.counts.replayed_at_open = state.orders.len();
    anew
}

/// The shard that logs a SKU's own records. Fixed for ever: the log relies on it.
pub(crate) fn home_shard(sku: SkuId, shards: u16) -> u16 {
    (mix(sku.get()) % u64::from(shards)) as u16
}
