//! Finds a SKU by its id, without a lock and without a write to shared memory: every request does.
//!
//! Invariants:
//! - A SKU, once in, is never moved or removed; its index counts up from 0.
//! - A table holds SKU indices plus one, 0 being empty, by open addressing; it is at most half full.
//!   A fuller one is replaced by one of twice the size, filled before it is published; the old one
//!   stays readable, so a reader never waits. Only [`Registry::insert`] writes, under its lock.

use crossbeam_utils::CachePadded;

use crate::ids::SkuId;
use crate::routing::mix;
use crate::stock::sku::Sku;
use crate::sync::{AtomicU32, AtomicUsize, Mutex, OnceLock, Ordering};

/// SKUs to a chunk of memory.
const CHUNK: usize = 256;
/// Slots of the smallest table.
const SLOTS_MIN: usize = 1024;
/// Tables double up to this many times: 2^27 slots for 2^26 SKUs.
const TABLES: usize = 18;

type Chunk = Box<[OnceLock<CachePadded<Sku>>]>;

/// The bound on SKUs is reached.
#[derive(Debug)]
pub(crate) struct RegistryFull;

#[derive(Debug)]
pub(crate) struct Registry {
    /// Which table to search. Stored with `Release` after the table is filled; a reader that loads
    /// an older number searches a table that holds all that was inserted before its load.
    newest: AtomicUsize,
    tables: [OnceLock<Box<[AtomicU32]>>; TABLES],
    chunks: Box<[OnceLock<Chunk>]>,
    /// SKUs inserted; written under `inserting`, after the SKU is in its chunk.
    len: AtomicU32,
    inserting: Mutex<()>,
    skus_max: usize,
}

impl Registry {
    pub(crate) fn new(skus_max: usize) -> Self {
        let registry = Self {
            newest: AtomicUsize::new(0),
            tables: std::array::from_fn(|_| OnceLock::new()),
            chunks: (0..skus_max.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            len: AtomicU32::new(0),
            inserting: Mutex::new(()),
            skus_max,
        };
        registry.tables[0].get_or_init(|| empty_table(SLOTS_MIN));
        registry
    }

    /// The SKU, whether known to the host or only named by an order during replay.
    pub(crate) fn find(&self, id: SkuId) -> Option<&Sku> {
        let table = self.tables[self.newest.load(Ordering::Acquire)].get()?;
        let mut slot = mix(id.get()) as usize & (table.len() - 1);
        loop {
            match table[slot].load(Ordering::Acquire) {
                0 => return None,
                entry => {
                    let sku = self.get(entry - 1);
                    if sku.id == id {
                        return Some(sku);
                    }
                }
            }
            slot = (slot + 1) & (table.len() - 1);
        }
    }

    /// The SKU at an index that [`Sku::index`] told.
    pub(crate) fn get(&self, index: u32) -> &Sku {
        let (chunk, place) = (index as usize / CHUNK, index as usize % CHUNK);
        self.chunks[chunk]
            .get()
            .and_then(|chunk| chunk[place].get())
            .expect("an index is told only after its SKU is in place")
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sku> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All that were added; a thread that adds one later sees what the caller did before.
    pub(crate) fn iter_all(&self) -> impl Iterator<Item = &Sku> {
        drop(self.inserting.lock());
        self.iter()
    }

    /// The SKU, made if it is not there.
    pub(crate) fn find_or_insert(&self, id: SkuId) -> Result<&Sku, RegistryFull> {
        match self.find(id) {
            Some(sku) => Ok(sku),
            None => self.insert(id),
        }
    }

    fn insert(&self, id: SkuId) -> Result<&Sku, RegistryFull> {
        let _inserting = self.inserting.lock();
        if let Some(sku) = self.find(id) {
            return Ok(sku);
        }
        let index = self.len();
        if index as usize == self.skus_max {
            return Err(RegistryFull);
        }
        let (chunk, place) = (index as usize / CHUNK, index as usize % CHUNK);
        let chunk =
            self.chunks[chunk].get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        let sku = chunk[place].get_or_init(|| CachePadded::new(Sku::new(id, index)));
        self.len.store(index + 1, Ordering::Release);
        self.publish(id, index);
        Ok(sku)
    }

    fn publish(&self, id: SkuId, index: u32) {
        let newest = self.newest.load(Ordering::Relaxed);
        let table = self.tables[newest].get().expect("the newest table is there");
        if (index as usize + 1) * 2 <= table.len() {
            return put(table, id, index);
        }
        let larger = self.tables[newest + 1].get_or_init(|| {
            let larger = empty_table(table.len() * 2);
            self.iter().for_each(|sku| put(&larger, sku.id, sku.index));
            larger
        });
        debug_assert!(larger.len() >= self.len() as usize * 2);
        self.newest.store(newest + 1, Ordering::Release);
    }
}

fn empty_table(slots: usize) -> Box<[AtomicU32]> {
    (0..slots).map(|_| AtomicU32::new(0)).collect()
}

fn put(table: &[AtomicU32], id: SkuId, index: u32) {
    let mut slot = mix(id.get()) as usize & (table.len() - 1);
    while table[slot].load(Ordering::Relaxed) != 0 {
        slot = (slot + 1) & (table.len() - 1);
    }
    table[slot].store(index + 1, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sku_is_found_while_the_table_grows() {
        let registry = Registry::new(10_000);
        for id in 0..10_000_u64 {
            let sku = registry.find_or_insert(SkuId::new(id << 32)).expect("within the bound");
            assert_eq!(u64::from(sku.index), id);
        }
        for id in 0..10_000_u64 {
            assert_eq!(registry.find(SkuId::new(id << 32)).expect("inserted").id.get(), id << 32);
        }
        assert!(registry.find(SkuId::new(1)).is_none());
        assert!(registry.find_or_insert(SkuId::new(1)).is_err(), "the bound is 10,000");
    }

    #[test]
    fn what_one_thread_was_told_of_every_other_finds() {
        let registry = Registry::new(1 << 14);
        let told = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for id in 1..=1 << 14 {
                    registry.find_or_insert(SkuId::new(id)).expect("within the bound");
                    told.store(id, Ordering::Release);
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let last = told.load(Ordering::Acquire);
                        assert!(last == 0 || registry.find(SkuId::new(last)).is_some());
                        if last == 1 << 14 {
                            break;
                        }
                    }
                });
            }
        });
    }
}
