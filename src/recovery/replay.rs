//! Applies a log's records to tables that are empty or hold a checkpoint. All shards at once: a
//! partition's records are all in one shard, and a SKU's sums commute.
//!
//! A record is skipped exactly when the checkpoint holds what it did (see
//! [`checkpoint`](crate::checkpoint)): up to its lane's begin always, behind it if its order or SKU has
//! a last LSN as high. An order placed behind its lane's begin is never in the checkpoint.

use std::collections::BTreeSet;

use crate::clock::TimeMark;
use crate::error::OpenError;
use crate::ids::{STOCK_MAX, SkuId};
use crate::log::{
    AdjustRecord, BlockView, EndSaleRecord, MerchantRecord, Reader, Record, RulesRecord, Section,
    SwitchRecord, TailState, VectorEntry, full_time_ms, records,
};
use crate::order::{AdjustKind, RuleChanges, payload_digest};
use crate::recovery::progress::Progress;
use crate::recovery::replay_lane::{LaneReplay, Sums};
use crate::recovery::tables::{Misfit, States, Tables};
use crate::stock::{AdjustEntry, MerchantState};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

const STOCKED_MAX: i64 = STOCK_MAX as i64;

/// Ends of sales in the home lanes: a SKU's index, and the record's LSN.
type SaleEnds = BTreeSet<(u32, u64)>;

/// How far a lane is replayed; written by its shard's thread alone.
struct LaneEnd {
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

/// Applies records to tables, block by block: those of a folder that is opened, or of an engine that runs.
pub(super) struct Replay {
    pub(super) tables: Tables,
    lanes: Vec<LaneEnd>,
    pub(super) shards: u16,
    pub(super) sale_ends: Mutex<SaleEnds>,
    adjust_retention_ms: u64,
}

impl Replay {
    /// Goes on from what the tables hold.
    pub(super) fn new(tables: Tables, adjust_retention_ms: u64) -> Self {
        let lanes = tables.marks.iter().map(|marks| LaneEnd {
            last_lsn: AtomicU64::new(marks.begin_lsn),
            is_new: AtomicBool::new(true),
        });
        Self {
            lanes: lanes.collect(),
            shards: (tables.marks.len() - tables.partitions) as u16,
            tables,
            sale_ends: Mutex::default(),
            adjust_retention_ms,
        }
    }

    /// Returns the last LSN of every lane.
    pub(super) fn lane_lsns(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.last_lsn.load(Ordering::Relaxed)).collect()
    }

    /// Reads a shard to its end, or up to `limit` blocks, and applies all its records.
    pub(super) fn shard(
        &self,
        states: &(impl States + ?Sized),
        index: u16,
        first: u64,
        mut reader: Reader<'_>,
        limit: Option<u64>,
        progress: &Progress,
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
        let mut sums = Sums::new(&self.tables);
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
            progress.add_log(block.bytes, block.records.into());
            if let Err(misfit) = self.block(states, index, &block, &mut sums) {
                let number = block.number;
                return Err(match misfit {
                    Misfit::Damage(damage) => reader.corrupt(format!("block {number}: {damage}")),
                    Misfit::TooManySkus => self.tables.too_many_skus(),
                    Misfit::TooManyMerchants => self.tables.too_many_merchants(),
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

    /// Applies one verified block of a shard; a shard's blocks come in their order. What is available is not
    /// told before [`add_up`](Self::add_up).
    pub(super) fn block<'a>(
        &'a self,
        states: &(impl States + ?Sized),
        shard: u16,
        block: &BlockView<'_>,
        sums: &mut Sums<'a>,
    ) -> Result<(), Misfit> {
        let mut count = 0_u64;
        for section in block.sections() {
            let section = section.ok_or("a section is longer than its block")?;
            count += u64::from(section.records);
            self.section(states, shard, &section, block.time.engine_ms(), sums)?;
        }
        if count != u64::from(block.records) {
            return Err("its records are not as many as its header says".into());
        }
        Ok(())
    }

    fn section<'a>(
        &'a self,
        states: &(impl States + ?Sized),
        shard: u16,
        section: &Section<'_>,
        block_ms: u64,
        sums: &mut Sums<'a>,
    ) -> Result<(), Misfit> {
        let lane = section.lane as usize;
        let owner = match lane.checked_sub(self.tables.partitions) {
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
        let (tables, begin_lsn) = (&self.tables, self.tables.marks[lane].begin_lsn);
        let last = match lane < tables.partitions {
            true => {
                let buyers = *tables.buyer_marks[lane].lock();
                let state = &mut states.state(lane);
                LaneReplay { tables, partition: lane, state, buyers, block_ms, sums }
                    .section(section, begin_lsn)?
            }
            false => self.sku_section(section, begin_lsn, block_ms)?,
        };
        if last + 1 != first + u64::from(section.records) {
            return Err("a section's records are not as many as it says".into());
        }
        replayed.is_new.store(false, Ordering::Relaxed);
        replayed.last_lsn.store(last, Ordering::Relaxed);
        Ok(())
    }

    /// Applies SKUs' own records; returns the last one's LSN.
    fn sku_section(
        &self,
        section: &Section<'_>,
        begin_lsn: u64,
        block_ms: u64,
    ) -> Result<u64, Misfit> {
        let mut lsn = section.first_lsn - 1;
        for record in records(section.bytes) {
            lsn += 1;
            match record? {
                // A partition's part of it may be behind that lane's begin.
                Record::EndSale(record) if lsn <= begin_lsn => self.note_end(&record, lsn)?,
                _ if lsn <= begin_lsn => {}
                Record::Adjust(record) => self.adjust(&record, lsn, block_ms)?,
                Record::Rules(record) => self.rules(record, lsn)?,
                Record::EndSale(record) => self.end_sale(record, lsn)?,
                Record::Switch(record) => self.switch(record, lsn),
                Record::Merchant(record) => self.change_merchant(record, lsn)?,
                _ => return Err(Misfit::Damage(format!("record {lsn} is in the wrong lane"))),
            }
        }
        Ok(lsn)
    }

    fn adjust(&self, record: &AdjustRecord<'_>, lsn: u64, block_ms: u64) -> Result<(), Misfit> {
        let sku = self.tables.sku(record.sku)?;
        let mut ledger = sku.ledger.lock();
        if lsn <= ledger.last_lsn {
            return Ok(());
        }
        let stocked = ledger.stocked.checked_add(record.delta);
        ledger.stocked =
            stocked.filter(|units| (0..=STOCKED_MAX).contains(units)).ok_or_else(|| {
                Misfit::Damage(format!(
                    "{} has less than nothing in stock, or too much",
                    record.sku
                ))
            })?;
        ledger.last_lsn = lsn;
        let stocked = ledger.stocked.unsigned_abs();
        let at_ms = full_time_ms(record.time_low, block_ms);
        ledger.adjusts.forget_some(at_ms, self.adjust_retention_ms);
        // A key comes again when its time is over.
        let entry = AdjustEntry {
            kind: record.kind,
            units: record.units,
            expected: record.expected,
            reference_digest: payload_digest(record.reference),
            delta: record.delta,
            stocked,
            lsn,
            at_ms,
        };
        ledger.adjusts.insert(record.key, entry);
        sku.stocked.fetch_add(record.delta, Ordering::Relaxed);
        if matches!(record.kind, AdjustKind::Add | AdjustKind::Set) {
            sku.known.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn rules(&self, record: RulesRecord, lsn: u64) -> Result<(), Misfit> {
        self.change_rules(record.sku, &record.changes, lsn)
    }

    /// That a sale has ended is in the home lane.
    fn note_end(&self, record: &EndSaleRecord, lsn: u64) -> Result<(), Misfit> {
        let sku = self.tables.sku(record.sku)?.index;
        self.sale_ends.lock().insert((sku, lsn));
        Ok(())
    }

    fn end_sale(&self, record: EndSaleRecord, lsn: u64) -> Result<(), Misfit> {
        self.note_end(&record, lsn)?;
        let lifted = RuleChanges { buyer_limit: Some(0), ..RuleChanges::default() };
        self.change_rules(record.sku, &lifted, lsn)
    }

    fn change_rules(&self, sku: SkuId, changes: &RuleChanges, lsn: u64) -> Result<(), Misfit> {
        let sku = self.tables.sku(sku)?;
        let mut ledger = sku.ledger.lock();
        if lsn > ledger.last_lsn {
            ledger.last_lsn = lsn;
            ledger.replay_rules(changes);
        }
        Ok(())
    }

    fn switch(&self, record: SwitchRecord, lsn: u64) {
        let mut ledger = self.tables.switches.ledger.lock();
        if lsn > ledger.last_lsn {
            (ledger.last_lsn, ledger.logged) = (lsn, record.switch);
        }
    }

    fn change_merchant(&self, record: MerchantRecord, lsn: u64) -> Result<(), Misfit> {
        let merchant = self.tables.merchant(record.merchant)?;
        let mut ledger = merchant.ledger.lock();
        if lsn > ledger.last_lsn {
            ledger.last_lsn = lsn;
            ledger.logged = MerchantState { switch: record.switch, rate: record.rate };
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
