//! Copies the engine's state into chunks, a little at a time.
//!
//! A caller that places orders waits at most until one page of orders is copied (some 50 us), or some of a SKU's
//! adjustments. The copies are written outside of all locks.

use std::collections::HashMap;

use crate::checkpoint::chunk::{
    AdjustedEntry, BuyerEntry, ChunkAbout, ChunkBuffer, ChunkKind, GapEntry, LineEntry,
    MerchantEntry, ORDER_DEFAULT_HOLD, ORDER_KEY_UUID_V7, ORDER_POLICY_SHIFT, ORDER_WAITED,
    OrderEntry, RefusalEntry, SaleEntry, SkuEntry, SwitchEntry, WaitedEntry, ms_bytes,
};
use crate::checkpoint::head::LaneMarks;
use crate::ids::{KeyKind, RequestKey};
use crate::log::{Lane, RefusedBody, rule_words};
use crate::order::{Policy, RuleChanges};
use crate::partition::{BuyerCounts, BuyerUnits, MAPS, Partition, SaleCounted, Slot, Waited};
use crate::stock::{AdjustEntry, Merchant, Registry, Sku, SkuLedger, Switches};
use crate::sync::Ordering;

/// How many buyers are copied under a partition's lock, and then the rest of a map.
const BUYERS_A_LOCK: usize = 2048;
/// How many refusals are copied under one.
const REFUSALS_A_LOCK: usize = 1024;
/// How many adjustments of a SKU are copied under its lock.
const ADJUSTS_A_LOCK: usize = 1024;

/// What is left to be copied of a partition.
#[derive(Debug)]
pub(crate) struct PartitionCursor {
    /// Complete when all is copied.
    pub(crate) marks: LaneMarks,
    /// Where the orders end that were there at the begin.
    pub(crate) next_sequence: u64,
    pub(crate) retired_to_ms: u64,
    gaps: Vec<(u64, u64)>,
    buyers: BuyersCursor,
    /// Refusals are copied up to this record; `None`: up to the begin. Those behind that are in the log.
    refusals_from_lsn: Option<u64>,
    /// Numbers of pages, the next one last.
    pages: Vec<u64>,
    from_sequence: u64,
}

impl PartitionCursor {
    /// Begins with a partition: its marks are of one moment under its lock. No order leaves memory from
    /// then on until all is copied.
    pub(crate) fn begin(partition: &Partition) -> Self {
        let state = partition.state.lock();
        let last_lsn = partition.lane.last_lsn();
        let next_sequence = state.orders.next_sequence();
        let mut pages = state.orders.pages_below(next_sequence);
        pages.reverse();
        Self {
            marks: LaneMarks { begin_lsn: last_lsn, end_lsn: last_lsn },
            next_sequence,
            retired_to_ms: state.retired_to_ms,
            gaps: state.orders.gaps().to_vec(),
            buyers: BuyersCursor::begin(&state.limits, last_lsn),
            refusals_from_lsn: state.refusals.is_some().then_some(0),
            pages,
            from_sequence: 0,
        }
    }

    /// Copies until the chunk is full, or all is copied of what has one kind of chunk; whether all is
    /// copied of the partition.
    pub(crate) fn fill(
        &mut self,
        partition: &Partition,
        skus: &Registry,
        chunk: &mut ChunkBuffer,
    ) -> bool {
        if !self.gaps.is_empty() {
            chunk.begin(ChunkAbout::of(ChunkKind::Gaps));
            while let Some((first, end)) = self.gaps.first().copied()
                && chunk.room() >= size_of::<GapEntry>()
            {
                chunk.entry(&GapEntry { first: first.into(), end: end.into() });
                self.gaps.remove(0);
            }
            return false;
        }
        if !self.buyers.is_done() {
            self.buyers.fill(partition, skus, chunk);
            return false;
        }
        if let Some(from_lsn) = self.refusals_from_lsn {
            chunk.begin(ChunkAbout::of(ChunkKind::Refusals));
            self.fill_refusals(partition, from_lsn, chunk);
            return false;
        }
        chunk.begin(ChunkAbout::of(ChunkKind::Orders));
        self.fill_orders(partition, skus, chunk)
    }

    /// What is forgotten before it is copied, a replay of the log behind the begin would forget too, or its time
    /// is over.
    fn fill_refusals(&mut self, partition: &Partition, mut from_lsn: u64, chunk: &mut ChunkBuffer) {
        let end_lsn = self.marks.begin_lsn;
        while chunk.room() >= REFUSALS_A_LOCK * size_of::<RefusalEntry>() {
            let state = partition.state.lock();
            let after_lsn = from_lsn;
            let behind = state.refusals.iter().flat_map(|refusals| refusals.behind(after_lsn));
            let mut left = behind.take_while(|entry| entry.lsn <= end_lsn);
            for entry in left.by_ref().take(REFUSALS_A_LOCK) {
                let refused = RefusedBody::of(&entry.refused);
                chunk.entry(&RefusalEntry { lsn: entry.lsn.into(), refused });
                from_lsn = entry.lsn;
            }
            self.refusals_from_lsn = left.next().map(|_| from_lsn);
            if self.refusals_from_lsn.is_none() {
                break;
            }
        }
    }

    fn fill_orders(
        &mut self,
        partition: &Partition,
        skus: &Registry,
        chunk: &mut ChunkBuffer,
    ) -> bool {
        while let Some(page) = self.pages.last().copied() {
            let state = partition.state.lock();
            for (sequence, slot) in state.orders.of_page(page, self.from_sequence) {
                if sequence >= self.next_sequence {
                    break;
                }
                if chunk.room() < order_bytes(slot) {
                    return false;
                }
                copy_order(sequence, slot, skus, chunk);
                self.from_sequence = sequence + 1;
            }
            self.pages.pop();
        }
        // Whatever was copied of the lane's records, they end here.
        let _state = partition.state.lock();
        self.marks.end_lsn = partition.lane.last_lsn();
        true
    }
}

/// What is left to be copied of a partition's counts of buyers.
///
/// Which sales are counted is of one moment. Buyers are copied later and in parts, each of its own
/// moment; should a sale have begun or ended in between, all of it is copied anew.
#[derive(Debug)]
struct BuyersCursor {
    sales: Vec<SaleCounted>,
    /// SKUs by the numbers of the sales.
    numbers: HashMap<u32, u32, ahash::RandomState>,
    sales_lsn: u64,
    changes: u64,
    /// How many sales are copied; `None`: their first chunk, which may be without entries, is not
    /// written.
    copied: Option<usize>,
    units: Vec<BuyerUnits>,
    units_lsn: u64,
    maps: [u8; 2],
}

impl BuyersCursor {
    fn begin(limits: &BuyerCounts, lsn: u64) -> Self {
        let sales = limits.sales();
        let numbers = sales.iter().filter_map(|sale| Some((sale.number?, sale.sku))).collect();
        // Without sales no buyers are counted, and there is nothing to write.
        let (copied, maps) = match sales.is_empty() {
            true => (Some(0), [MAPS as u8; 2]),
            false => (None, [0; 2]),
        };
        let (changes, units) = (limits.changes(), Vec::new());
        Self { sales, numbers, sales_lsn: lsn, changes, copied, units, units_lsn: lsn, maps }
    }

    fn is_done(&self) -> bool {
        let sales_are = self.copied == Some(self.sales.len());
        sales_are && self.units.is_empty() && usize::from(self.maps[1]) == MAPS
    }

    fn fill(&mut self, partition: &Partition, skus: &Registry, chunk: &mut ChunkBuffer) {
        if self.copied != Some(self.sales.len()) {
            return self.fill_sales(skus, chunk);
        }
        if self.units.is_empty() {
            let state = partition.state.lock();
            if state.limits.changes() != self.changes {
                *self = Self::begin(&state.limits, partition.lane.last_lsn());
                // The chunks before are void, even if there is nothing instead of them.
                self.copied = None;
                drop(state);
                return self.fill_sales(skus, chunk);
            }
            self.units_lsn = partition.lane.last_lsn();
            let from = self.maps[1];
            let next = state.limits.copy_maps(from.into(), BUYERS_A_LOCK, &mut self.units);
            self.maps = [from, next as u8];
        }
        let about = ChunkAbout { kind: ChunkKind::Buyers, lsn: self.units_lsn, maps: self.maps };
        chunk.begin(about);
        while chunk.room() >= size_of::<BuyerEntry>()
            && let Some(BuyerUnits { buyer, number, units }) = self.units.pop()
        {
            // What is left of a sale that ended has no SKU.
            if let Some(sku) = self.numbers.get(&number) {
                let sku = skus.get(*sku).id.get().into();
                chunk.entry(&BuyerEntry { buyer: buyer.to_bytes(), sku, units: units.into() });
            }
        }
    }

    fn fill_sales(&mut self, skus: &Registry, chunk: &mut ChunkBuffer) {
        let kind = match self.copied {
            None => ChunkKind::Sales,
            Some(_) => ChunkKind::MoreSales,
        };
        chunk.begin(ChunkAbout { kind, lsn: self.sales_lsn, maps: [0; 2] });
        let mut copied = self.copied.unwrap_or(0);
        while copied < self.sales.len() && chunk.room() >= size_of::<SaleEntry>() {
            let SaleCounted { sku, first_sequence, number } = self.sales[copied];
            chunk.entry(&SaleEntry {
                sku: skus.get(sku).id.get().into(),
                first_sequence: first_sequence.into(),
                counted: u8::from(number.is_some()),
                reserved: [0; 7],
            });
            copied += 1;
        }
        self.copied = Some(copied);
    }
}

fn order_bytes(slot: &Slot) -> usize {
    let lines = slot.cart_lines() * size_of::<LineEntry>();
    let missing = match slot.policy() {
        Policy::Partial => slot.cart_lines().max(1) * size_of::<u32>(),
        _ => 0,
    };
    let waited = slot.waited().map_or(0, |_| size_of::<WaitedEntry>());
    size_of::<OrderEntry>() + lines + missing + waited + slot.payload_bytes()
}

fn copy_order(sequence: u64, slot: &Slot, skus: &Registry, chunk: &mut ChunkBuffer) {
    let cart = slot.cart_lines();
    let single = slot.lines().next().filter(|_| cart == 0);
    let key = slot.key();
    let flags = (u8::from(key.kind() == KeyKind::UuidV7) * ORDER_KEY_UUID_V7)
        | (u8::from(slot.default_hold()) * ORDER_DEFAULT_HOLD)
        | (u8::from(slot.waited().is_some()) * ORDER_WAITED)
        | slot.policy().bits() << ORDER_POLICY_SHIFT;
    chunk.entry(&OrderEntry {
        sequence: sequence.into(),
        buyer: slot.buyer().to_bytes(),
        key: key.to_bytes(),
        last_lsn: slot.last_lsn().into(),
        deadline_ms: slot.deadline_ms().into(),
        changed_ms: slot.changed_ms().into(),
        lines_digest: slot.lines_digest().into(),
        sku: single.map_or(0, |line| skus.get(line.sku).id.get()).into(),
        units: single.map_or(0, |line| line.units).into(),
        hold_ms: slot.hold_ms().into(),
        payload_bytes: (slot.payload_bytes() as u32).into(),
        lines: (cart as u16).into(),
        state: slot.state() as u8,
        flags,
    });
    if cart > 0 {
        for line in slot.lines() {
            let sku = skus.get(line.sku).id.get().into();
            chunk.append(&LineEntry { sku, units: line.units.into() });
        }
    }
    if slot.policy() == Policy::Partial {
        let mut missing = slot.missing().iter().peekable();
        for line in slot.lines() {
            let units = missing.next_if(|it| it.sku == line.sku).map_or(0, |it| it.units);
            chunk.append_bytes(&units.to_le_bytes());
        }
    }
    if let Some(Waited { place, patience_ends_ms, patience_ms, served }) = slot.waited() {
        chunk.append(&WaitedEntry {
            arrival: place.arrival.into(),
            patience_ends_ms: patience_ends_ms.into(),
            class: place.class,
            served: served.into(),
            reserved: [0; 2],
            patience_ms: patience_ms.into(),
        });
    }
    if slot.payload_bytes() > 0 {
        chunk.append_bytes(&slot.payload());
    }
}

/// What is left to be copied of what has its records in the lanes of SKUs: the engine's switch, merchants,
/// SKUs.
#[derive(Debug)]
pub(crate) struct SkuCursor {
    switch_is_copied: bool,
    next_merchant: u32,
    /// Merchants that were there at the begin.
    merchants: u32,
    next: u32,
    /// SKUs that were there at the begin.
    end: u32,
    /// A SKU whose adjustments are copied in part.
    within: Option<Within>,
    /// One a shard.
    pub(crate) marks: Vec<LaneMarks>,
}

/// A SKU as it was when its first entry was copied. Adjustments are only added until all is copied, so the first
/// ones stay what they were.
#[derive(Debug)]
struct Within {
    entry: SkuEntry,
    rules: Vec<u64>,
    copied: usize,
    adjusts: usize,
}

impl SkuCursor {
    /// Begins. A record up to the begin may be appended and not yet applied, but its SKU is locked until
    /// it is; and a SKU is there before its first record.
    pub(crate) fn begin<'a>(
        lanes: impl Iterator<Item = &'a Lane>,
        skus: &Registry,
        switches: &Switches,
    ) -> Self {
        let marks = lanes
            .map(|lane| LaneMarks { begin_lsn: lane.last_lsn(), end_lsn: lane.last_lsn() })
            .collect();
        Self {
            switch_is_copied: false,
            next_merchant: 0,
            merchants: switches.merchants.len(),
            next: 0,
            end: skus.len(),
            within: None,
            marks,
        }
    }

    /// Copies until the chunk is full, or all is copied of what has one kind of chunk; whether all is
    /// copied.
    pub(crate) fn fill(
        &mut self,
        skus: &Registry,
        switches: &Switches,
        chunk: &mut ChunkBuffer,
    ) -> bool {
        if !self.switch_is_copied {
            self.switch_is_copied = true;
            copy_switch(switches, chunk);
            return false;
        }
        if self.next_merchant < self.merchants {
            self.fill_merchants(switches, chunk);
            return false;
        }
        chunk.begin(ChunkAbout::of(ChunkKind::Skus));
        while self.next < self.end {
            let sku = skus.get(self.next);
            let ledger = sku.ledger.lock();
            let within = self.within.take().or_else(|| Within::begin(sku, &ledger));
            let Some(mut within) = within else {
                self.next += 1;
                continue;
            };
            if !within.copy(&ledger, chunk) {
                self.within = Some(within);
                return false;
            }
            let is_done = within.copied == within.adjusts;
            self.within = (!is_done).then_some(within);
            self.next += u32::from(is_done);
        }
        true
    }

    fn fill_merchants(&mut self, switches: &Switches, chunk: &mut ChunkBuffer) {
        chunk.begin(ChunkAbout::of(ChunkKind::Merchants));
        while self.next_merchant < self.merchants && chunk.room() >= size_of::<MerchantEntry>() {
            copy_merchant(switches.merchants.get(self.next_merchant), chunk);
            self.next_merchant += 1;
        }
    }

    /// What was copied so far ends at most here.
    pub(crate) fn note_end<'a>(&mut self, lanes: impl Iterator<Item = &'a Lane>) {
        for (marks, lane) in self.marks.iter_mut().zip(lanes) {
            marks.end_lsn = lane.last_lsn();
        }
    }
}

impl Within {
    /// `None` for a SKU that no record made known and no order bought.
    fn begin(sku: &Sku, ledger: &SkuLedger) -> Option<Self> {
        let rules = ledger.rules();
        // It has a place of its own.
        let others = RuleChanges { buyer_limit: None, ..rules.as_changes() };
        let words = match others == RuleChanges::default() {
            true => Vec::new(),
            false => rule_words(&others),
        };
        let entry = SkuEntry {
            sku: sku.id.get().into(),
            stocked: ledger.stocked.into(),
            retired: sku.retired.load(Ordering::Relaxed).into(),
            last_lsn: ledger.last_lsn.into(),
            list_sequence: sku.list_sequence().into(),
            buyer_limit: rules.buyer_limit.into(),
            adjusts: 0.into(),
            known: u8::from(sku.is_known()),
            rules: words.len() as u8,
            forgotten_ms: ms_bytes(ledger.adjusts.forgotten_ms),
        };
        // An order that waits for a SKU waits for one that a record made known.
        let is_bought = sku.retired.load(Ordering::Relaxed) > 0;
        let is_used = ledger.last_lsn > 0 || is_bought || sku.is_known();
        is_used.then_some(Self { entry, rules: words, copied: 0, adjusts: ledger.adjusts.len() })
    }

    /// Copies the next adjustments, or none if there are none; `false`: there is no room for one.
    fn copy(&mut self, ledger: &SkuLedger, chunk: &mut ChunkBuffer) -> bool {
        let left = self.adjusts - self.copied;
        let fixed = size_of::<SkuEntry>() + size_of_val(&self.rules[..]);
        let Some(room) = chunk.room().checked_sub(fixed) else { return false };
        let fit = (room / size_of::<AdjustedEntry>()).min(left).min(ADJUSTS_A_LOCK);
        if fit == 0 && left > 0 {
            return false;
        }
        chunk.entry(&SkuEntry { adjusts: (fit as u32).into(), ..self.entry });
        self.rules.iter().for_each(|word| chunk.append_bytes(&word.to_le_bytes()));
        for (key, adjusted) in ledger.adjusts.some(self.copied, fit) {
            chunk.append(&adjusted_entry(key, adjusted));
        }
        self.copied += fit;
        true
    }
}

fn copy_switch(switches: &Switches, chunk: &mut ChunkBuffer) {
    chunk.begin(ChunkAbout::of(ChunkKind::Switch));
    let ledger = switches.ledger.lock();
    if ledger.last_lsn > 0 {
        let (last_lsn, switch) = (ledger.last_lsn.into(), ledger.logged as u8);
        chunk.entry(&SwitchEntry { last_lsn, switch, reserved: [0; 7] });
    }
}

/// A merchant without records is there because a SKU belongs to it, which the SKU's entry says.
fn copy_merchant(merchant: &Merchant, chunk: &mut ChunkBuffer) {
    let ledger = merchant.ledger.lock();
    if ledger.last_lsn > 0 {
        let rate = ledger.logged.rate;
        chunk.entry(&MerchantEntry {
            merchant: merchant.id.get().into(),
            last_lsn: ledger.last_lsn.into(),
            orders_per_s: rate.map_or(0, |rate| rate.orders_per_s).into(),
            burst: rate.map_or(0, |rate| rate.burst).into(),
            switch: ledger.logged.switch as u8,
            reserved: [0; 7],
        });
    }
}

fn adjusted_entry(key: RequestKey, adjusted: &AdjustEntry) -> AdjustedEntry {
    AdjustedEntry {
        key: key.to_bytes(),
        reference_digest: adjusted.reference_digest.into(),
        delta: adjusted.delta.into(),
        stocked: adjusted.stocked.into(),
        lsn: adjusted.lsn.into(),
        units: adjusted.units.into(),
        expected: adjusted.expected.into(),
        kind: adjusted.kind.code(),
        key_kind: u8::from(key.kind() == KeyKind::UuidV7),
        at_ms: ms_bytes(adjusted.at_ms),
    }
}
