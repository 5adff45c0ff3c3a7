//! Applies a log's records to tables that are empty or hold a checkpoint. All shards at once: a
//! partition's records are all in one shard, and a SKU's sums commute.
//!
//! A record is skipped exactly when the checkpoint holds what it did (see
//! [`checkpoint`](crate::checkpoint)): up to its lane's begin always, behind it if its order or SKU has
//! a last LSN as high. An order placed behind its lane's begin is never in the checkpoint.

use std::collections::BTreeSet;

use crate::bounds::{Keep, share_reserved};
use crate::checkpoint::{Head, LaneMarks};
use crate::clock::TimeMark;
use crate::error::OpenError;
use crate::ids::{MerchantId, STOCK_MAX, SkuId};
use crate::log::{
    AdjustRecord, BlockView, EndSaleRecord, Manifest, MerchantRecord, Reader, Record, RulesRecord,
    Section, SegmentName, SwitchRecord, TailState, VectorEntry, full_time_ms, records,
};
use crate::memory;
use crate::mutants::{self, Mutant};
use crate::options::Options;
use crate::order::{AdjustKind, RuleChanges, payload_digest};
use crate::partition::{KeyHasher, KeyIndexWriter, MAPS, PartitionState, Refusals, costs};
use crate::recovery::lane::{LaneReplay, Sums};
use crate::recovery::lists;
use crate::recovery::parallel::on_each;
use crate::recovery::progress::Progress;
use crate::routing::home_shard;
use crate::stock::{AdjustEntry, Merchant, MerchantState, Registry, Sku, Switches};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

const STOCKED_MAX: i64 = STOCK_MAX as i64;

/// Tables that fill while the shards are read.
pub(super) struct Replay {
    pub(super) skus: Registry,
    skus_max: usize,
    pub(super) switches: Switches,
    merchants_max: usize,
    pub(super) hasher: KeyHasher,
    pub(super) states: Vec<Mutex<PartitionState>>,
    lanes: Vec<LaneEnd>,
    /// What is in the tables already: a lane's marks, and a partition's first sequence that is not.
    pub(super) marks: Vec<LaneMarks>,
    pub(super) next_sequences: Vec<u64>,
    /// By partition; of its counts of buyers.
    pub(super) buyer_marks: Vec<Mutex<BuyerMarks>>,
    shards: u16,
    /// SKUs of which a partial order holds nothing.
    pub(super) lacked: Mutex<BTreeSet<u32>>,
    sale_ends: Mutex<SaleEnds>,
    adjust_retention_ms: u64,
    /// Engine time of the checkpoint.
    pub(super) checkpoint_ms: u64,
    /// Orders may wait; `Relaxed`, since the threads that write it are joined before it is read.
    pub(super) somebody_waits: AtomicBool,
}

/// Ends of sales in the home lanes: a SKU's index, and the record's LSN.
type SaleEnds = BTreeSet<(u32, u64)>;

/// What recovery found out about a partition's counts of buyers, and no record says yet. By index of the SKU.
#[derive(Debug, Default)]
pub(crate) struct SalesAnew {
    /// They are counted from now on.
    pub(crate) counted: Vec<u32>,
    /// Their last end is void: the crash took its record in the home lane.
    pub(crate) not_ended: Vec<u32>,
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

/// Why a record cannot be applied.
pub(super) enum Misfit {
    Damage(String),
    TooManySkus,
    TooManyMerchants,
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
    ) -> Result<Self, OpenError> {
        let (partitions, shards) = (manifest.partitions as usize, manifest.shards.len());
        let share = share_reserved(options.orders_reserved, partitions as u64) as usize;
        let part = |partition: usize| head.map(|head| head.parts[partition]).unwrap_or_default();
        let largest = (0..partitions).map(|nth| part(nth).entries_max()).max();
        let reserved = largest.map_or(share, |largest| largest.max(share));
        check_memory(reserved as u64 * partitions as u64, partitions)?;
        let marks = head.map_or_else(
            || vec![LaneMarks::default(); partitions + shards],
            |head| head.lanes.clone(),
        );
        Ok(Self {
            skus: Registry::new(options.skus_max),
            skus_max: options.skus_max,
            switches: Switches::new(options.merchants_max),
            merchants_max: options.merchants_max,
            hasher: KeyHasher::default(),
            states: new_states(options, partitions, reserved, keep),
            lanes: (marks.iter())
                .map(|marks| LaneEnd {
                    last_lsn: AtomicU64::new(marks.begin_lsn),
                    is_new: AtomicBool::new(true),
                })
                .collect(),
            marks,
            buyer_marks: (0..partitions).map(|_| Mutex::default()).collect(),
            next_sequences: (0..partitions).map(|nth| part(nth).next_sequence).collect(),
            shards: shards as u16,
            lacked: Mutex::default(),
            sale_ends: Mutex::default(),
            adjust_retention_ms: options.adjust_retention_ms(),
            checkpoint_ms: head.map_or(0, |head| head.time.engine_ms()),
            somebody_waits: AtomicBool::new(false),
        })
    }

    /// Reads a shard to its end, or up to `limit` blocks, and applies all its records.
    pub(super) fn shard(
        &self,
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
        let mut sums = Sums::new(self);
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
            if let Err(misfit) = self.block(index, &block, &mut sums) {
                let number = block.number;
                return Err(match misfit {
                    Misfit::Damage(damage) => reader.corrupt(format!("block {number}: {damage}")),
                    Misfit::TooManySkus => self.too_many_skus(),
                    Misfit::TooManyMerchants => self.too_many_merchants(),
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

    pub(super) fn too_many_skus(&self) -> OpenError {
        OpenError::InvalidOption {
            field: "skus_max",
            value: self.skus_max.to_string(),
            bound: "must hold the SKUs that are in the folder".into(),
        }
    }

    pub(super) fn too_many_merchants(&self) -> OpenError {
        OpenError::InvalidOption {
            field: "merchants_max",
            value: self.merchants_max.to_string(),
            bound: "must hold the merchants that are in the folder".into(),
        }
    }

    fn block<'a>(
        &'a self,
        shard: u16,
        block: &BlockView<'_>,
        sums: &mut Sums<'a>,
    ) -> Result<(), Misfit> {
        let mut count = 0_u64;
        for section in block.sections() {
            let section = section.ok_or("a section is longer than its block")?;
            count += u64::from(section.records);
            self.section(shard, &section, block.time.engine_ms(), sums)?;
        }
        if count != u64::from(block.records) {
            return Err("its records are not as many as its header says".into());
        }
        Ok(())
    }

    fn section<'a>(
        &'a self,
        shard: u16,
        section: &Section<'_>,
        block_ms: u64,
        sums: &mut Sums<'a>,
    ) -> Result<(), Misfit> {
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
        let last = match self.states.get(lane) {
            Some(state) => {
                let buyers = *self.buyer_marks[lane].lock();
                let state = &mut state.lock();
                LaneReplay { replay: self, partition: lane, state, buyers, block_ms, sums }
                    .section(section, self.marks[lane].begin_lsn)?
            }
            None => self.sku_section(section, self.marks[lane].begin_lsn, block_ms)?,
        };
        if last + 1 != first + u64::from(section.records) {
            return Err("a section's records are not as many as it says".into());
        }
        replayed.is_new.store(false, Ordering::Relaxed);
        replayed.last_lsn.store(last, Ordering::Relaxed);
        Ok(())
    }

    /// Applies SKUs' own records; gives the last one's LSN.
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

    pub(super) fn sku(&self, id: SkuId) -> Result<&Sku, Misfit> {
        self.skus.find_or_insert(id).map_err(|_| Misfit::TooManySkus)
    }

    fn adjust(&self, record: &AdjustRecord<'_>, lsn: u64, block_ms: u64) -> Result<(), Misfit> {
        let sku = self.sku(record.sku)?;
        let mut home = sku.home.lock();
        if lsn <= home.last_lsn {
            return Ok(());
        }
        let stocked = home.stocked.checked_add(record.delta);
        home.stocked =
            stocked.filter(|units| (0..=STOCKED_MAX).contains(units)).ok_or_else(|| {
                Misfit::Damage(format!(
                    "{} has less than nothing in stock, or too much",
                    record.sku
                ))
            })?;
        home.last_lsn = lsn;
        let stocked = home.stocked.unsigned_abs();
        let at_ms = full_time_ms(record.time_low, block_ms);
        home.adjusts.forget_some(at_ms, self.adjust_retention_ms);
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
        home.adjusts.insert(record.key, entry);
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
        let sku = self.sku(record.sku)?.index;
        self.sale_ends.lock().insert((sku, lsn));
        Ok(())
    }

    fn end_sale(&self, record: EndSaleRecord, lsn: u64) -> Result<(), Misfit> {
        self.note_end(&record, lsn)?;
        let lifted = RuleChanges { buyer_limit: Some(0), ..RuleChanges::default() };
        self.change_rules(record.sku, &lifted, lsn)
    }

    fn change_rules(&self, sku: SkuId, changes: &RuleChanges, lsn: u64) -> Result<(), Misfit> {
        let sku = self.sku(sku)?;
        let mut home = sku.home.lock();
        if lsn > home.last_lsn {
            home.last_lsn = lsn;
            home.replay_rules(changes);
        }
        Ok(())
    }

    fn switch(&self, record: SwitchRecord, lsn: u64) {
        let mut home = self.switches.home.lock();
        if lsn > home.last_lsn {
            (home.last_lsn, home.logged) = (lsn, record.switch);
        }
    }

    fn change_merchant(&self, record: MerchantRecord, lsn: u64) -> Result<(), Misfit> {
        let merchant = self.merchant(record.merchant)?;
        let mut home = merchant.home.lock();
        if lsn > home.last_lsn {
            home.last_lsn = lsn;
            home.logged = MerchantState { switch: record.switch, rate: record.rate };
        }
        Ok(())
    }

    pub(super) fn merchant(&self, id: MerchantId) -> Result<&Merchant, Misfit> {
        self.switches.merchants.find_or_insert(id).map_err(|_| Misfit::TooManyMerchants)
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

    fn misfit_of(&self, options: &Options, sku: &Sku, damage: String) -> OpenError {
        let shard = Some(home_shard(sku.id, self.shards));
        OpenError::Corrupt { shard, path: options.folder(), offset: 0, damage }
    }

    /// All that is logged is durable, and acts.
    fn put_rules_in_force(&self) -> Result<(), OpenError> {
        for merchant in self.switches.merchants.iter() {
            merchant.put_in_force(&mut merchant.home.lock());
        }
        self.switches.put_in_force(&mut self.switches.home.lock());
        for sku in self.skus.iter() {
            let mut home = sku.home.lock();
            if let Some(merchant) = home.rules().merchant {
                self.merchant(merchant).map_err(|_| self.too_many_merchants())?;
            }
            sku.restore_kept_back(&home);
            sku.put_rules_in_force(&mut home, &self.switches.merchants);
        }
        Ok(())
    }

    /// What can be told only when all shards are read: what is available.
    pub(super) fn add_up(self, options: &Options) -> Result<Replayed, OpenError> {
        self.check_ends(options)?;
        self.put_rules_in_force()?;
        for sku in self.lacked.lock().iter().map(|sku| self.skus.get(*sku)) {
            // Its first delivery may be lost, of which that order knew: it has no unit of it. The order's
            // retries find it.
            let levels = sku.levels();
            if levels.held == 0 && levels.sold == 0 {
                sku.known.store(true, Ordering::Release);
            }
        }
        for sku in self.skus.iter() {
            let levels = sku.levels();
            // That its buyers are counted may be in the log while what made it known is not.
            let is_used = levels.held != 0 || levels.sold != 0 || !sku.counts_buyers();
            if !sku.is_known() && is_used {
                let damage = format!("orders hold {}, which no record made known", sku.id);
                return Err(self.misfit_of(options, sku, damage));
            }
            let available = levels.stocked - levels.held - levels.sold - levels.kept_back;
            if available < -STOCKED_MAX {
                let damage =
                    format!("{} owes {} units, more than any stock is", sku.id, -available);
                return Err(self.misfit_of(options, sku, damage));
            }
            sku.hot.available.restore(available);
        }
        let states: Vec<_> = self.states.into_iter().map(Mutex::into_inner).collect();
        let is_dropped = mutants::is(Mutant::DropsListOnReplay);
        if self.somebody_waits.load(Ordering::Relaxed) && !is_dropped {
            lists::fill(&self.skus, &states).map_err(|(sku, order)| {
                let sku = self.skus.get(sku);
                let damage = format!("{order} waits for {} where another does", sku.id);
                let shard = Some(home_shard(sku.id, self.shards));
                OpenError::Corrupt { shard, path: options.folder(), offset: 0, damage }
            })?;
        }
        Ok(Replayed {
            skus: self.skus,
            switches: self.switches,
            hasher: self.hasher,
            states,
            sale_ends: self.sale_ends.into_inner(),
            lane_lsns: self.lanes.into_iter().map(|lane| lane.last_lsn.into_inner()).collect(),
        })
    }
}

/// Refuses an open whose tables the system has no memory for, before any of them is made: an allocation that
/// fails halfway would end the process.
pub(super) fn check_memory(orders: u64, partitions: usize) -> Result<(), OpenError> {
    let tables = orders.saturating_mul(costs::RESERVED_BYTES);
    let bytes = tables.saturating_add(partitions as u64 * costs::PARTITION_BYTES);
    match memory::would_get(bytes) {
        true => Ok(()),
        false => Err(OpenError::OutOfMemory { orders, bytes }),
    }
}

/// Empty partitions; each thread touches the memory of some.
fn new_states(
    options: &Options,
    partitions: usize,
    reserved: usize,
    keep: Keep,
) -> Vec<Mutex<PartitionState>> {
    let keys = KeyIndexWriter::many(partitions, reserved);
    let mut states: Vec<_> = keys.into_iter().map(|keys| (Some(keys), None)).enumerate().collect();
    on_each(options.recovery_threads(), &mut states, |(partition, (keys, state))| {
        *state = keys.take().map(|keys| PartitionState::new(*partition, reserved, keys, keep));
    });
    let mut states: Vec<_> = states.into_iter().filter_map(|(_, (_, state))| state).collect();
    if let Some(count_max) = options.refusals_share(partitions) {
        for (state, index) in states.iter_mut().zip(KeyIndexWriter::many(partitions, 0)) {
            state.refusals = Some(Box::new(Refusals::new(count_max, index)));
        }
    }
    states.into_iter().map(Mutex::new).collect()
}

/// What a replay gives.
pub(super) struct Replayed {
    pub(super) skus: Registry,
    pub(super) switches: Switches,
    pub(super) hasher: KeyHasher,
    pub(super) states: Vec<PartitionState>,
    sale_ends: SaleEnds,
    pub(super) lane_lsns: Vec<u64>,
}

impl Replayed {
    /// No partition gives a sequence below the manifest's floor, or one that any has given (rule R3); gives
    /// the next one.
    pub(super) fn skip_to_floor(&mut self, manifest: &Manifest) -> u64 {
        let floor = if mutants::is(Mutant::GivesIdTwice) { 0 } else { manifest.sequence_floor };
        let given = self.states.iter().map(|state| state.orders.next_sequence());
        let next = given.max().unwrap_or(0).max(floor);
        self.states.iter_mut().for_each(|state| state.orders.skip_to(next));
        next
    }

    /// Counts who has how much of a SKU with a limit, and has deadlines kept. Gives, by partition, what no record
    /// says yet.
    pub(super) fn start(&mut self, threads: usize, now_ms: u64) -> Vec<SalesAnew> {
        let states = self.states.iter_mut();
        let mut found: Vec<_> = states.map(|state| (state, SalesAnew::default())).collect();
        on_each(threads, &mut found, |(state, anew)| {
            let ends = &self.sale_ends;
            anew.not_ended =
                state.limits.resolve_ends(|sku, home_lsn| ends.contains(&(sku, home_lsn)));
            anew.counted = count_buyers(&self.skus, state);
            state.start(now_ms, !mutants::is(Mutant::ForgetsTimersOnReplay));
        });
        found.into_iter().map(|(_, anew)| anew).collect()
    }
}

/// Has the buyers of every SKU with a limit counted. A limit's record may have survived a crash where
/// a partition's, that it counts from now on, has not.
fn count_buyers(skus: &Registry, state: &mut PartitionState) -> Vec<u32> {
    let limited = skus.iter().filter(|sku| sku.buyer_limit().is_some());
    let anew = limited
        .filter(|sku| {
            sku.set_counts_buyers();
            state.count_buyers_of(sku.index)
        })
        .map(|sku| sku.index)
        .collect();
    while state.limits.clear_some() {}
    anew
}
