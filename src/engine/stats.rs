//! [`Stats`]: counters and gauges.

use crate::engine::core::Core;
use crate::stock::Sku;
use crate::sync::Ordering;

/// What an engine holds, and what it has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stats {
    /// Orders in memory.
    pub orders: u64,
    /// Orders in memory that can still end: held or confirmed.
    pub live_orders: u64,
    /// Orders that stand in a waiting list, those included that are leaving it.
    pub waiting: u64,
    /// SKUs.
    pub skus: u64,
    /// Orders placed.
    pub placed: u64,
    /// Repeats answered with the first outcome.
    pub replayed: u64,
    /// Repeats with other content.
    pub keys_reused: u64,
    /// Sold-out answers that took the partition's lock. Answers without the lock are not counted: a refusal then
    /// writes nothing that other threads read.
    pub sold_out_locked: u64,
    /// Orders refused because of a buyer limit.
    pub over_limit: u64,
    /// Orders confirmed.
    pub confirmed: u64,
    /// Orders fulfilled.
    pub fulfilled: u64,
    /// Orders cancelled.
    pub cancelled: u64,
    /// Holds that expired, and orders whose patience did.
    pub expired: u64,
    /// Orders that were served from a waiting list.
    pub promoted: u64,
    /// Finished orders that left memory.
    pub retired: u64,
    /// Verbs on orders that found their partition locked by another. Each cost a wait of some hundred
    /// nanoseconds, or of a thread's turn.
    pub lock_waits: u64,
    /// Times an order found its SKU's stock changed by another between the read and the change, and did
    /// both again.
    pub stock_retries: u64,
    /// Requests answered [`Contended`](crate::PlaceError::Contended).
    pub contended: u64,
    /// Pairs of buyer and SKU that are counted for buyer limits.
    pub buyers_tracked: u64,
    /// Refusals that are remembered, some of them beyond their time:
    /// [`Options::remember_refusals`](crate::Options::remember_refusals).
    pub refusals_remembered: u64,
    /// Bytes set aside for orders, in use or not, without carts and payloads.
    pub order_table_bytes: u64,
    /// Bytes of records that wait for the disk.
    pub backlog_bytes: u64,
    /// Blocks written; each was one write and, under
    /// [`Durability::Synced`](crate::Durability::Synced), one sync.
    pub blocks: u64,
    /// Records written.
    pub records: u64,
    /// Bytes of these records.
    pub record_bytes: u64,
    /// Bytes of the blocks: records, headers and padding.
    pub block_bytes: u64,
    /// Log segments that were used again instead of being made anew.
    pub segments_recycled: u64,
    /// Log segments that no checkpoint needs: archived ones
    /// ([`Options::log_retention`](crate::Options::log_retention)), and those to be recycled next.
    pub segments_archived: u64,
    /// Archived log segments that were recycled before their time, for the disk was full.
    pub segments_recycled_early: u64,
    /// Attempts to make or open a log segment that failed because the process or the system was short of
    /// file descriptors or memory. The engine tries again.
    pub segment_shortages: u64,
    /// Log shards whose last block went through the page cache. Under
    /// [`Durability::Written`](crate::Durability::Written) these are all shards. Under
    /// [`Durability::Synced`](crate::Durability::Synced) they are those whose file system refused direct access
    /// (`O_DIRECT`), at the open or at a later call; the engine then writes each block and syncs it in a
    /// second call.
    pub shards_cached: u16,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Checkpoints that could not be taken: the disk has no room, or a call failed.
    pub checkpoints_failed: u64,
    /// How often the engine reserved more order ids.
    pub order_ids_reserved: u64,
    /// How often such a reservation failed. The engine tries again; when all reserved ids are used, new orders are
    /// refused as [`OrderIds`](crate::error::Capacity::OrderIds).
    pub order_id_reservations_failed: u64,
    /// Whether the path of the engine's folder led to another folder when the engine last looked: a
    /// volume was mounted over it, or a link or a name changed. The engine goes on in the folder that
    /// it opened, but the next open will follow the path. The engine looks at the end of the open, at
    /// every checkpoint and backup, and at the close.
    pub folder_displaced: bool,
    /// How far the wall clock is ahead of engine time, in milliseconds; negative: behind. Engine time leans
    /// towards the wall clock by at most 1 %, so a large value means that the wall clock jumped, or that the
    /// boot clock stood still while the machine slept. See
    /// [`Options::accept_clock_jump`](crate::Options::accept_clock_jump).
    pub clock_skew_ms: i64,
}

pub(super) fn collect(core: &Core) -> Stats {
    let mut stats = Stats { skus: u64::from(core.skus.len()), ..Stats::default() };
    for partition in &core.partitions {
        let state = partition.state.lock();
        let counts = state.counts;
        stats.orders += state.orders.len();
        stats.live_orders += state.live();
        stats.placed += state.orders.len() + counts.retired - counts.replayed_at_open;
        stats.replayed += counts.replayed;
        stats.keys_reused += counts.keys_reused;
        stats.sold_out_locked += counts.sold_out;
        stats.over_limit += counts.over_limit;
        stats.confirmed += counts.confirmed;
        stats.fulfilled += counts.fulfilled;
        stats.cancelled += counts.cancelled;
        stats.expired += counts.expired;
        stats.promoted += counts.promoted;
        stats.retired += counts.retired;
        stats.lock_waits += counts.lock_waits;
        stats.buyers_tracked += state.limits.len() as u64;
        stats.refusals_remembered += state.refusals.as_ref().map_or(0, |it| it.len() as u64);
        stats.order_table_bytes += state.orders.memory_bytes();
    }
    let lists = core.skus.iter().filter_map(Sku::list);
    stats.waiting = lists.map(|list| list.lock().len()).sum();
    stats.stock_retries = core.skus.iter().map(|sku| sku.hot.available.retries()).sum();
    stats.contended = core.contended.load(Ordering::Relaxed);
    stats.backlog_bytes = core.lanes.iter().map(|lane| lane.backlog_bytes()).sum();
    for counters in &core.counters {
        stats.blocks += counters.blocks.load(Ordering::Relaxed);
        stats.records += counters.records.load(Ordering::Relaxed);
        stats.record_bytes += counters.record_bytes.load(Ordering::Relaxed);
        stats.block_bytes += counters.written_bytes.load(Ordering::Relaxed);
    }
    stats.segments_recycled = core.shards.iter().map(|shard| shard.recycled()).sum();
    stats.segments_archived = core.shards.iter().map(|shard| shard.unneeded()).sum();
    stats.segments_recycled_early = core.shards.iter().map(|shard| shard.recycled_early()).sum();
    stats.segment_shortages = core.shards.iter().map(|shard| shard.shortages()).sum();
    stats.shards_cached = core.shards.iter().map(|shard| u16::from(shard.is_cached())).sum();
    stats.checkpoints = core.checkpoint_counts.taken.load(Ordering::Relaxed);
    stats.checkpoints_failed = core.checkpoint_counts.failed.load(Ordering::Relaxed);
    stats.order_ids_reserved = core.ids.raised.load(Ordering::Relaxed);
    stats.order_id_reservations_failed = core.ids.failed.load(Ordering::Relaxed);
    stats.folder_displaced = core.is_displaced();
    stats.clock_skew_ms = core.time.skew_ms();
    stats
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::task::{Context, Poll, Wake, Waker};

    use crate::error::{PlaceError, StockError};
    use crate::ids::SkuId;
    use crate::options::Options;
    use crate::order::{Adjust, Order};
    use crate::stock::Take;
    use crate::sync::Ordering;
    use crate::testing::{MemoryStorage, SteppedEngine};

    const SKU: SkuId = SkuId::new(1);

    fn engine() -> SteppedEngine {
        let options = Options::on_storage(Arc::new(MemoryStorage::new()))
            .partitions(1)
            .log_shards(1)
            .segment_bytes(1 << 20);
        let mut engine = SteppedEngine::open(options).expect("opens");
        drop(engine.stock(SKU, Adjust::add(1_000_000).key(0)).expect("takes it"));
        engine.run_until_idle();
        engine
    }

    #[test]
    fn what_nobody_contends_for_counts_nothing() {
        let engine = engine();
        for buyer in 0..100_u64 {
            drop(engine.place(Order::new(buyer, 1).line(SKU, 1)).expect("there is enough"));
        }
        let stats = engine.stats();
        assert_eq!((stats.lock_waits, stats.stock_retries, stats.contended), (0, 0, 0));
    }

    #[test]
    fn a_request_that_a_cart_keeps_open_is_counted_as_contended() {
        let engine = engine();
        let sku = engine.core().skus.find(SKU).expect("known");
        // A cart that never comes to its end.
        assert_eq!(sku.hot.available.take_tentatively(1_000_000), Take::Taken);
        let placed = engine.place(Order::new(1, 1).line(SKU, 1));
        assert!(matches!(placed, Err(PlaceError::Contended { sku: SKU, .. })));
        let taken = engine.stock(SKU, Adjust::take_up_to(1).key(1));
        assert!(matches!(taken, Err(StockError::Contended { sku: SKU, .. })));
        assert_eq!(engine.stats().contended, 2);
        let _ = sku.hot.available.undo(1_000_000);
    }

    /// The story: a cart keeps the answer open. An order on an async worker lets other tasks run meanwhile, and has
    /// its answer when the cart is done.
    #[test]
    fn an_order_on_an_async_worker_yields_while_a_cart_keeps_it_open() {
        let engine = engine();
        let sku = engine.core().skus.find(SKU).expect("known");
        assert_eq!(sku.hot.available.take_tentatively(1_000_000), Take::Taken);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut placing = pin!(engine.place_async(Order::new(1, 1).line(SKU, 1)));
        for polls in 1..=3 {
            assert!(placing.as_mut().poll(&mut context).is_pending());
            assert_eq!(woken.0.load(Ordering::Relaxed), polls, "it asks for another turn");
        }
        let _ = sku.hot.available.undo(1_000_000);
        let Poll::Ready(Ok(placed)) = placing.as_mut().poll(&mut context) else {
            panic!("there is enough")
        };
        assert!(placed.peek().is_some_and(|placed| placed.held().is_some()), "{placed:?}");
    }

    #[test]
    fn an_order_on_an_async_worker_is_contended_in_the_end() {
        let engine = engine();
        let sku = engine.core().skus.find(SKU).expect("known");
        assert_eq!(sku.hot.available.take_tentatively(1_000_000), Take::Taken);
        let mut context = Context::from_waker(Waker::noop());
        let mut placing = pin!(engine.place_async(Order::new(1, 1).line(SKU, 1)));
        let placed = loop {
            match placing.as_mut().poll(&mut context) {
                Poll::Ready(placed) => break placed,
                Poll::Pending => std::thread::yield_now(),
            }
        };
        assert!(matches!(placed, Err(PlaceError::Contended { sku: SKU, .. })), "{placed:?}");
        assert_eq!(engine.stats().contended, 1);
        let _ = sku.hot.available.undo(1_000_000);
    }

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// However the threads are scheduled, sooner or later one finds the only partition locked.
    #[test]
    fn verbs_that_wait_for_a_partition_are_counted() {
        const ORDERS_MAX: u64 = 1_000_000;
        let stepped = engine();
        let engine = stepped.engine();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                scope.spawn(move || {
                    for buyer in 0..ORDERS_MAX {
                        let order = Order::new(thread << 32 | buyer, 1).line(SKU, 1);
                        drop(engine.place(order));
                        if buyer % 64 == 0 && engine.stats().lock_waits > 0 {
                            return;
                        }
                    }
                    panic!("nobody ever waited");
                });
            }
        });
        assert!(engine.stats().lock_waits > 0);
    }
}
