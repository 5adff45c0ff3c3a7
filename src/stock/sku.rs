//! A SKU: its stock word, its sums, its rules, and its home, the part of it that its own records
//! change.

use indexmap::IndexMap;

use crate::ids::{RequestKey, SkuId};
use crate::order::{AdjustKind, StockLevels};
use crate::stock::counter::Counter;
use crate::sync::{AtomicBool, AtomicI64, AtomicU32, Mutex, Ordering};

/// While so many units are available, admission need not look how many there are.
const PLENTY: u32 = 4096;

/// One SKU. Lives until the engine is dropped, at an index that never changes.
///
/// `stocked = available + held + sold + returning` when nothing is in flight; each is counted on its
/// own, with `Relaxed` additions, since nothing is decided from them but `available`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Sku {
    pub(crate) hot: Hot,
    pub(crate) id: SkuId,
    pub(crate) index: u32,
    /// Units a buyer may have; 0: no limit. The stricter of the durable rule and of one on its way
    /// (rule R8). Written under `home`, read under a partition's lock.
    buyer_limit: AtomicU32,
    /// Whether partitions may count what each buyer has of this SKU. Set before the first limit, by
    /// passing every partition's lock; never cleared while the engine is open.
    pub(crate) counts_buyers: AtomicBool,
    /// Whether an `add` or `set` made it known. During replay an order may come first.
    pub(crate) known: AtomicBool,
    /// A hint for admission: at least [`PLENTY`] units were available after the last change. Whoever
    /// changes the stock word sees to it; `Relaxed`, since whoever trusts it wrongly finds the truth in
    /// the stock word a moment later.
    is_plenty: AtomicBool,
    /// Units of confirmed and fulfilled orders.
    pub(crate) sold: AtomicI64,
    /// Those of them whose orders have left memory.
    pub(crate) retired: AtomicI64,
    /// Units given back whose record is not durable.
    pub(crate) returning: AtomicI64,
    /// Units put in less units taken out, as far as they are in force.
    pub(crate) stocked: AtomicI64,
    /// Serialises the SKU's own records (rule R8).
    pub(crate) home: Mutex<Home>,
}

/// What every hold changes, in a line of its own: it moves between the processors with every order. The
/// line after it, which every request reads too, stays with all of them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Hot {
    pub(crate) available: Counter,
    /// Units of held orders. In the line of `available`, which a hold has just made its own.
    pub(crate) held: AtomicI64,
}

/// What only the SKU's own records change.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// The stocked figure as logged, durable or not: what an expected value is compared with.
    pub(crate) stocked: i64,
    /// The buyer limit as last logged.
    pub(crate) buyer_limit: u32,
    /// How many limits are logged and not yet durable: until then the strictest acts.
    pub(crate) limits_in_flight: u32,
    /// LSN of the SKU's last own record: what a reply about it waits for (rule R2).
    pub(crate) last_lsn: u64,
    /// Adjustments by key, each answered the same for ever. In the order in which they came: a
    /// checkpoint copies them bit by bit.
    pub(crate) adjusts: IndexMap<RequestKey, AdjustEntry, ahash::RandomState>,
}

/// An adjustment that happened: what it asked for and what it did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdjustEntry {
    pub(crate) kind: AdjustKind,
    pub(crate) units: u32,
    pub(crate) expected: u32,
    pub(crate) reference_digest: u64,
    pub(crate) delta: i64,
    pub(crate) stocked: u64,
    pub(crate) lsn: u64,
}

impl Sku {
    pub(crate) fn new(id: SkuId, index: u32) -> Self {
        Self {
            hot: Hot::default(),
            id,
            index,
            buyer_limit: AtomicU32::new(0),
            counts_buyers: AtomicBool::new(false),
            known: AtomicBool::new(false),
            is_plenty: AtomicBool::new(false),
            sold: AtomicI64::new(0),
            retired: AtomicI64::new(0),
            returning: AtomicI64::new(0),
            stocked: AtomicI64::new(0),
            home: Mutex::new(Home::default()),
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// Whether there are surely so many units, as far as anyone can tell who does not take the stock
    /// word's line away from those who sell.
    pub(crate) fn has_plenty(&self, units: u32) -> bool {
        units <= PLENTY && self.is_plenty.load(Ordering::Relaxed)
    }

    /// The stock word was changed. Writes only what is new.
    pub(crate) fn note_change(&self) {
        let is_plenty = self.hot.available.available() >= i64::from(PLENTY);
        if self.is_plenty.load(Ordering::Relaxed) != is_plenty {
            self.is_plenty.store(is_plenty, Ordering::Relaxed);
        }
    }

    /// The limit in force; `None`: no limit.
    pub(crate) fn buyer_limit(&self) -> Option<u32> {
        Some(self.buyer_limit.load(Ordering::Acquire)).filter(|limit| *limit > 0)
    }

    pub(crate) fn counts_buyers(&self) -> bool {
        self.counts_buyers.load(Ordering::Acquire)
    }

    /// Puts a limit in force. The caller holds `home`.
    pub(crate) fn set_buyer_limit(&self, limit: u32) {
        self.buyer_limit.store(limit, Ordering::Release);
    }

    pub(crate) fn levels(&self) -> StockLevels {
        let read = |term: &AtomicI64| term.load(Ordering::Acquire);
        StockLevels {
            sku: self.id,
            stocked: read(&self.stocked),
            available: self.hot.available.available(),
            held: read(&self.hot.held),
            sold: read(&self.sold),
            returning: read(&self.returning),
        }
    }
}

/// The stricter of two limits, 0 being none.
pub(crate) fn stricter(a: u32, b: u32) -> u32 {
    match (a, b) {
        (0, other) | (other, 0) => other,
        _ => a.min(b),
    }
}
