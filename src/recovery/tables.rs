//! The tables that a checkpoint and the log's records fill.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::bounds::{Keep, share_reserved};
use crate::checkpoint::{Head, LaneMarks};
use crate::error::OpenError;
use crate::ids::{MerchantId, SkuId};
use crate::log::Manifest;
use crate::memory;
use crate::options::Options;
use crate::partition::{
    KeyHasher, KeyIndexWriter, MAPS, Partition, PartitionState, Refusals, costs,
};
use crate::recovery::parallel::on_each;
use crate::stock::{Merchant, Registry, Sku, Switches};
use crate::sync::{AtomicBool, Mutex, MutexGuard};

/// The partitions of an engine: those that an open fills, or those of one that runs.
pub(crate) trait States: Sync {
    fn state(&self, partition: usize) -> MutexGuard<'_, PartitionState>;
}

impl States for Vec<Mutex<PartitionState>> {
    fn state(&self, partition: usize) -> MutexGuard<'_, PartitionState> {
        self[partition].lock()
    }
}

impl States for [CachePadded<Partition>] {
    fn state(&self, partition: usize) -> MutexGuard<'_, PartitionState> {
        self[partition].state.lock()
    }
}

/// All tables but the partitions', and what is known of where they stand.
pub(super) struct Tables {
    pub(super) skus: Arc<Registry>,
    skus_max: usize,
    pub(super) switches: Arc<Switches>,
    merchants_max: usize,
    pub(super) hasher: KeyHasher,
    /// How many partitions there are.
    pub(super) partitions: usize,
    /// What is in the tables already: a lane's marks, and a partition's first sequence that is not.
    pub(super) marks: Vec<LaneMarks>,
    pub(super) next_sequences: Vec<u64>,
    /// By partition; of its counts of buyers.
    pub(super) buyer_marks: Vec<Mutex<BuyerMarks>>,
    /// SKUs of which a partial order holds nothing.
    pub(super) lacked: Mutex<BTreeSet<u32>>,
    /// Engine time of the checkpoint.
    pub(super) checkpoint_ms: u64,
    /// Orders may wait; `Relaxed`, since the threads that write it are joined before it is read.
    pub(super) somebody_waits: AtomicBool,
}

/// Up to which LSN of a partition's lane its counts of buyers are in the tables already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BuyerMarks {
    /// Which sales are counted.
    pub(super) sales_lsn: u64,
    /// What buyers have, by map.
    pub(super) maps: [u64; MAPS],
}

/// Why a record cannot be applied.
#[derive(Debug)]
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

impl Tables {
    /// Returns empty tables and partitions. With a checkpoint's head they have room for what it holds, which the
    /// caller then loads.
    pub(super) fn new(
        options: &Options,
        keep: Keep,
        manifest: &Manifest,
        head: Option<&Head>,
    ) -> Result<(Self, Vec<Mutex<PartitionState>>), OpenError> {
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
        let tables = Self {
            skus: Arc::new(Registry::new(options.skus_max)),
            skus_max: options.skus_max,
            switches: Arc::new(Switches::new(options.merchants_max)),
            merchants_max: options.merchants_max,
            hasher: KeyHasher::default(),
            partitions,
            marks,
            buyer_marks: (0..partitions).map(|_| Mutex::default()).collect(),
            next_sequences: (0..partitions).map(|nth| part(nth).next_sequence).collect(),
            lacked: Mutex::default(),
            checkpoint_ms: head.map_or(0, |head| head.time.engine_ms()),
            somebody_waits: AtomicBool::new(false),
        };
        Ok((tables, new_states(options, partitions, reserved, keep)))
    }

    /// Returns the tables of an engine that runs, into which nothing has been read yet.
    #[cfg(all(test, not(loom)))]
    pub(super) fn of_running(
        skus: Arc<Registry>,
        switches: Arc<Switches>,
        hasher: KeyHasher,
        partitions: usize,
        shards: usize,
    ) -> Self {
        Self {
            skus,
            skus_max: 0,
            switches,
            merchants_max: 0,
            hasher,
            partitions,
            marks: vec![LaneMarks::default(); partitions + shards],
            next_sequences: vec![0; partitions],
            buyer_marks: (0..partitions).map(|_| Mutex::default()).collect(),
            lacked: Mutex::default(),
            checkpoint_ms: 0,
            somebody_waits: AtomicBool::new(false),
        }
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

    pub(super) fn sku(&self, id: SkuId) -> Result<&Sku, Misfit> {
        self.skus.find_or_insert(id).map_err(|_| Misfit::TooManySkus)
    }

    pub(super) fn merchant(&self, id: MerchantId) -> Result<&Merchant, Misfit> {
        self.switches.merchants.find_or_insert(id).map_err(|_| Misfit::TooManyMerchants)
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
