//! The engine: verbs, reads, opening and closing.
//!
//! A newcomer reads [`place`] first: the request path, steps 1 to 8, in one file.

mod background;
mod close;
mod core;
mod effects;
mod expiry;
mod id_ceiling;
#[cfg(all(test, loom))]
mod loom_tests;
mod open;
mod place;
mod promotion;
mod reads;
mod retire;
mod sku;
mod stats;
mod status;
mod transition;
mod view;
mod waiting;
mod watch;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::checkpoint::Checkpointing;
use crate::error::{
    BackupError, BatchError, CloseError, MerchantError, OpenError, OrderError, PlaceError,
    StockError, Unavailable,
};
use crate::ids::{BuyerId, MerchantId, OrderId, RequestKey, SkuId};
use crate::log::{Commit, Ready};
use crate::options::Options;
use crate::order::{
    Adjust, Adjusted, MerchantLimits, MerchantRules, Order, Placed, Ruled, SaleRules, SkuRules,
    StockLevels, Switch, Transition, Verb,
};
use crate::recovery::RecoveryReport;
use crate::storage::{Disk, ReadOnly, Storage};

pub use background::Backup;
#[cfg(any(test, feature = "testing"))]
pub(crate) use background::{CheckpointStep, Checkpointer, Housekeeper, IdKeeper};
use background::{Running, Threads};
pub(crate) use core::Core;
#[cfg(any(test, feature = "testing"))]
pub(crate) use open::Parts;
pub use reads::Orders;
pub use sku::SkuHandle;
pub use stats::Stats;
pub use status::{Status, StatusChange};
pub use view::{OrderView, Viewed};
pub use watch::Watch;

/// An order engine on a folder. It is a cheap handle: clone it, and share it between threads.
///
/// Verbs return a [`Commit`], which resolves when the answer is durable. Dropping the last handle closes the engine
/// and ignores errors; [`Engine::close`] returns them.
///
/// ```
/// use doorbuster::{Adjust, Engine, Options, Order, Placed, RequestKey, SkuId};
///
/// # let folder = std::env::temp_dir().join(format!("doorbuster-doc-{}", std::process::id()));
/// let engine = Engine::open(Options::new(&folder).segment_bytes(1 << 20))?;
/// let sku = SkuId::new(42);
/// engine.stock(sku, Adjust::add(1).key(RequestKey::new(1)))?.wait()?;
///
/// let order = Order::new(7, RequestKey::new(1)).line(sku, 1);
/// let Placed::Held(held) = engine.place(&order)?.wait()? else { panic!("there is one") };
/// engine.confirm(held.order)?.wait()?;
///
/// let late = Order::new(8, RequestKey::new(1)).line(sku, 1);
/// assert!(matches!(engine.place(&late)?.wait()?, Placed::Refused(_)));
/// engine.close()?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

/// Closes the engine when the last [`Engine`] is dropped.
struct Handle {
    core: Arc<Core>,
    running: Running,
}

impl Engine {
    /// Opens the engine in a folder and recovers what is there. Makes the folder if it does not exist.
    ///
    /// Reads the newest checkpoint and the log after it (see [`RecoveryReport`]), and, for a new folder, writes one
    /// segment for each log shard.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let (core, parts) = Core::open(&options)?;
        let threads = Threads::start(&core, parts)
            .map_err(|error| OpenError::io("start a thread for", options.folder(), error))?;
        Ok(Self { handle: Arc::new(Handle { core, running: Running::new(Some(threads)) }) })
    }

    /// Opens a folder for reading only: orders, levels, statistics. Nothing is written, so the folder may be on a
    /// volume that is mounted for reading only, such as a snapshot.
    ///
    /// Shows the state that an open would recover, at the present engine time: a hold that is over is shown as
    /// expired, and the expiry never becomes durable. Every verb returns [`Unavailable::ReadOnly`]. A block that a
    /// crash tore is skipped and stays in the folder. The wall clock is accepted as it is.
    ///
    /// Several processes may open a folder in this way at once; until the last of them has ended, [`Engine::open`]
    /// is refused. While an engine runs in the folder, this call is refused: open a snapshot or a
    /// [backup](Engine::backup) instead.
    ///
    /// # Errors
    /// See [`OpenError`]; [`OpenError::InUse`] while an engine runs in the folder.
    pub fn open_read_only(options: Options) -> Result<Self, OpenError> {
        let storage = ReadOnly::hold(&options.storage)
            .map_err(|error| OpenError::io("open", options.folder(), error))?;
        let core = Core::open_read_only(&Options { storage, accept_clock_jump: true, ..options })?;
        Ok(Self { handle: Arc::new(Handle { core, running: Running::new(None) }) })
    }

    /// An engine without threads of its own; the caller steps it.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn open_stepped(options: Options) -> Result<(Self, Parts), OpenError> {
        let (core, parts) = Core::open(&Options { single_threaded: true, ..options })?;
        Ok((Self { handle: Arc::new(Handle { core, running: Running::new(None) }) }, parts))
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// Changes a SKU's stock. Repeated with the same key, the change counts once.
    ///
    /// Buyers can have the units of an `add` or of a higher `set` when it is durable. A `take` or a lower `set` acts
    /// at once.
    ///
    /// # Errors
    /// See [`StockError`]; nothing changed then.
    pub fn stock(
        &self,
        sku: impl Into<SkuId>,
        adjust: Adjust,
    ) -> Result<Commit<Adjusted>, StockError> {
        sku::adjust(self.core(), sku.into(), &adjust)
    }

    /// Changes a SKU's rules. A restriction acts at once, for every request that begins after this call returned. A
    /// permission acts when it is durable. Existing orders are not touched; see
    /// [`guide::semantics`](crate::guide::semantics).
    ///
    /// Takes every partition's lock once. The first limit of a sale counts what buyers already have: one pass over
    /// the orders in memory, and a record in every partition's log. The commit waits for all of them. Orders that
    /// were [retired](crate::guide::retention) before are not counted, so set a limit that must count everything
    /// before the sale begins. Limits outlive retention: what was counted stays counted until [`Engine::end_sale`].
    ///
    /// # Errors
    /// See [`StockError`]; nothing changed then.
    pub fn rules(&self, sku: impl Into<SkuId>, rules: SaleRules) -> Result<Commit<()>, StockError> {
        sku::rules(self.core(), sku.into(), &rules)
    }

    /// Changes the rules of a merchant, for all SKUs that [`SaleRules::merchant`](crate::SaleRules::merchant) assigns
    /// to it: one call throttles or delists the merchant. A restriction acts at once, for every request that begins
    /// after this call returned. A permission acts when it is durable. Takes every partition's lock once.
    ///
    /// # Errors
    /// See [`MerchantError`]; nothing changed then.
    pub fn merchant(
        &self,
        merchant: impl Into<MerchantId>,
        rules: MerchantRules,
    ) -> Result<Commit<()>, MerchantError> {
        sku::merchant(self.core(), merchant.into(), rules)
    }

    /// Switches the whole engine, as [`Engine::rules`] switches a SKU and [`Engine::merchant`] a merchant. The switch
    /// outlives a restart.
    ///
    /// # Errors
    /// See [`Unavailable`]; nothing changed then.
    pub fn switch(&self, to: Switch) -> Result<Commit<()>, Unavailable> {
        sku::switch(self.core(), to)
    }

    /// Ends a SKU's sale. When the end is durable, the buyer limit is lifted and the engine forgets what buyers have
    /// of the SKU; until then both stay, also through a crash. Stock and orders stay as they are. A limit set later
    /// counts only what is ordered after this call.
    ///
    /// Wait for the commit before the next limit is set or the sale is ended again: until then both are refused as
    /// [`StockError::SaleEnding`].
    ///
    /// Takes every partition's lock once, and writes a record for each.
    ///
    /// # Errors
    /// See [`StockError`]; nothing changed then. If the engine is closed or latched meanwhile, the sale may
    /// have ended for a part of the buyers: ask again after the next open.
    pub fn end_sale(&self, sku: impl Into<SkuId>) -> Result<Commit<()>, StockError> {
        sku::end_sale(self.core(), sku.into())
    }

    /// Holds stock for a buyer: all lines or nothing, unless [`Order::fill`](crate::Order::fill) says otherwise.
    ///
    /// One record in one log shard, however many SKUs. The same key with the same content returns the first outcome
    /// again, marked as replayed, whatever else is true by now. Takes an order by value or by reference.
    ///
    /// # Errors
    /// See [`PlaceError`]; nothing changed then, and the key is free.
    pub fn place(&self, order: impl Borrow<Order>) -> Result<Commit<Placed>, PlaceError> {
        place::place(self.core(), order.borrow())
    }

    /// Places an order as [`Engine::place`] does, for async workers: the thread never sleeps. While carts in flight
    /// keep the answer open, the task yields to its runtime instead. The order is placed when this future resolves,
    /// and durable when its commit resolves.
    ///
    /// # Errors
    /// See [`PlaceError`]; nothing changed then, and the key is free.
    pub async fn place_async(
        &self,
        order: impl Borrow<Order>,
    ) -> Result<Commit<Placed>, PlaceError> {
        place::place_yielding(self.core(), order.borrow()).await
    }

    /// Returns a handle of a SKU, which makes its orders cheaper; `None` when no stock was ever set for it. The
    /// handle stays valid as long as the engine is open, whatever becomes of the stock.
    #[must_use]
    pub fn sku(&self, sku: impl Into<SkuId>) -> Option<SkuHandle> {
        SkuHandle::find(self, sku.into())
    }

    /// Places many orders for less than as many calls cost: one after the other, in the order of `orders`, while the
    /// memory of those to come is loaded. Each order has its own answer, at the same place. The commit resolves when
    /// all are durable; a crash may keep a part of them. At most [`BATCH_ORDERS_MAX`](crate::BATCH_ORDERS_MAX).
    ///
    /// # Errors
    /// When the engine takes nothing at all: see [`BatchError`]. An error of one order is in its own answer.
    pub fn place_batch(
        &self,
        orders: &[Order],
    ) -> Result<Commit<Vec<Result<Placed, PlaceError>>>, BatchError> {
        place::place_batch(self.core(), orders)
    }

    /// Confirms an order: the buyer paid, and its held units are sold. At or after the deadline the answer is that
    /// the order has expired.
    ///
    /// # Errors
    /// See [`OrderError`]; nothing changed then.
    pub fn confirm(&self, order: OrderId) -> Result<Commit<Transition>, OrderError> {
        transition::end(self.core(), order, Verb::Confirm)
    }

    /// Cancels an order. Other buyers can have its units when that is durable.
    ///
    /// # Errors
    /// See [`OrderError`]; nothing changed then.
    pub fn cancel(&self, order: OrderId) -> Result<Commit<Transition>, OrderError> {
        transition::end(self.core(), order, Verb::Cancel)
    }

    /// Fulfils a confirmed order: it was shipped or picked up, as a whole.
    ///
    /// # Errors
    /// See [`OrderError`]; nothing changed then.
    #[doc(alias = "fulfill")]
    pub fn fulfil(&self, order: OrderId) -> Result<Commit<Transition>, OrderError> {
        transition::end(self.core(), order, Verb::Fulfil)
    }

    /// Returns an order as it stands, whether durable or not. Works on a latched or closed engine too; a hold that is
    /// over is shown as expired there, but never becomes durable.
    ///
    /// # Errors
    /// [`OrderError::UnknownOrder`], [`OrderError::Retired`];
    /// [`Unavailable::Backlogged`](crate::Unavailable::Backlogged) if its hold is over, and the disk is
    /// so far behind that this cannot be logged yet.
    pub fn order(&self, order: OrderId) -> Result<Viewed, OrderError> {
        view::view(self.core(), order)
    }

    /// Returns the order that a buyer's key made, as [`Engine::order`] does; `None`: no order in memory has the
    /// key, because no order was ever made with it or the order is [retired](crate::guide::retention).
    ///
    /// # Errors
    /// [`Unavailable::Backlogged`](crate::Unavailable::Backlogged), as for [`Engine::order`].
    pub fn order_by_key(
        &self,
        buyer: impl Into<BuyerId>,
        key: impl Into<RequestKey>,
    ) -> Result<Option<Viewed>, OrderError> {
        view::view_by_key(self.core(), buyer.into(), key.into())
    }

    /// Scans all orders in memory, or those that come after an order in the sequence of the scan. A host can use
    /// it to rebuild an index of its own, for example after a crash.
    ///
    /// **What a scan returns.** An order that is in memory from the call until the scan has ended is
    /// returned exactly once, whatever happens to it meanwhile. An order that is placed or retired
    /// meanwhile is returned once or not at all. Each order is shown as it stood at one moment of the scan, and
    /// [`OrderView::durable`](crate::OrderView::durable) says whether a crash at that moment would have left
    /// it in that state. A scan that goes on after the last order that an earlier scan returned, in the same process
    /// or after a restart, returns the orders that the earlier scan would have returned next.
    ///
    /// **What it does not do.** The scan changes nothing: a hold that is over is shown as held until the engine
    /// has recorded its expiry. The scan works on a closed or latched engine.
    ///
    /// **What it costs.** Orders come partition by partition, and in a partition by age. The scan copies at
    /// most 128 of them at a time under their partition's lock, and holds no lock in between.
    pub fn orders(&self, after: impl Into<Option<OrderId>>) -> Orders {
        Orders::new(self.core(), after.into())
    }

    /// Returns a future that resolves when an order no longer waits. Any number of tasks may watch one order.
    ///
    /// # Errors
    /// [`OrderError::UnknownOrder`], [`OrderError::Retired`].
    pub fn watch(&self, order: OrderId) -> Result<Watch, OrderError> {
        Watch::new(self.core(), order)
    }

    /// Returns how many orders are before this one in its waiting list, including those that are about to leave it;
    /// `None` if it does not wait. Costs one step for every 512 orders before it.
    ///
    /// # Errors
    /// [`OrderError::UnknownOrder`], [`OrderError::Retired`].
    pub fn position(&self, order: OrderId) -> Result<Option<u64>, OrderError> {
        view::position(self.core(), order)
    }

    /// Returns a SKU's units; `None` when no stock was ever set for it.
    #[must_use]
    pub fn levels(&self, sku: impl Into<SkuId>) -> Option<StockLevels> {
        self.core().known_sku(sku.into()).map(|sku| sku.levels())
    }

    /// Returns a SKU's rules: those that act now, those that are logged, and whether a crash would leave the logged
    /// ones. `None` when no stock was ever set for the SKU.
    #[must_use]
    pub fn sku_rules(&self, sku: impl Into<SkuId>) -> Option<Ruled<SkuRules>> {
        reads::sku_rules(self.core(), sku.into())
    }

    /// Returns a merchant's rules, as [`Engine::sku_rules`] does those of a SKU. `None` when the merchant
    /// never received rules and no SKU was ever assigned to it.
    #[must_use]
    pub fn merchant_rules(&self, merchant: impl Into<MerchantId>) -> Option<Ruled<MerchantLimits>> {
        reads::merchant_rules(self.core(), merchant.into())
    }

    /// Returns the switch of the whole engine, as [`Engine::sku_rules`] does the rules of a SKU.
    #[must_use]
    pub fn switch_state(&self) -> Ruled<Switch> {
        reads::switch_state(self.core())
    }

    /// Returns the SKUs for which stock was ever set, each once, in the order in which they became known to the
    /// engine; a restart may change that order. A SKU that becomes known meanwhile comes last. Takes no lock.
    pub fn skus(&self) -> impl Iterator<Item = SkuId> + Send + Sync + use<> {
        reads::skus(self.core())
    }

    /// Returns the merchants that ever received rules or were named by a SKU's rules, each once, as
    /// [`Engine::skus`] returns SKUs.
    pub fn merchants(&self) -> impl Iterator<Item = MerchantId> + Send + Sync + use<> {
        reads::merchants(self.core())
    }

    /// Returns what the engine holds, and what it has done since it was opened. Locks one partition after the other.
    #[must_use]
    pub fn stats(&self) -> Stats {
        stats::collect(self.core())
    }

    /// Returns what the open found.
    #[must_use]
    pub fn recovery(&self) -> RecoveryReport {
        self.core().report
    }

    /// Takes a checkpoint, besides those that the engine takes by itself (see [`Options::checkpoint_bytes`]). Orders
    /// go on meanwhile; one of the engine's threads does the work.
    ///
    /// When it resolves, a restart reads this checkpoint and the log written since it was begun, and the log before
    /// the preceding checkpoint is recycled as room is needed. A checkpoint that is on its way already does not
    /// count: this one begins after it. Several requests share one checkpoint.
    ///
    /// # Errors
    /// [`Unavailable::Closed`], [`Unavailable::Latched`] and [`Unavailable::Forked`].
    pub fn checkpoint(&self) -> Result<Checkpointing, Unavailable> {
        self.core().check_process()?;
        self.core().check_open()?;
        Ok(self.core().checkpoint_requests.ask())
    }

    /// Writes a copy of the engine, as of a moment between the call and its return, into a folder that does not exist
    /// or is empty: the newest checkpoint and the log after it. The copy opens as an engine does. To restore, open
    /// it, or copy it to its place first.
    ///
    /// Blocks the calling thread; orders go on. A backup taken right after a [checkpoint](Engine::checkpoint) is
    /// small and opens quickly. Everything that was durable before the call is in it. Meanwhile the log is not
    /// recycled, and no other engine can open the folder, even if this engine is closed.
    ///
    /// Let only one of two engines serve that were opened from one backup: they would sell the same units.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn backup(&self, folder: impl AsRef<std::path::Path>) -> Result<Backup, BackupError> {
        self.backup_to(&(Arc::new(Disk::new(folder.as_ref())) as Arc<dyn Storage>))
    }

    /// Writes a backup to another [`Storage`], as [`Engine::backup`] does to a folder.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn backup_to(&self, storage: &Arc<dyn Storage>) -> Result<Backup, BackupError> {
        self.core().check_process()?;
        background::backup(self.core(), storage)
    }

    /// Returns what the engine accepts now.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(self.core())
    }

    /// Returns a future that resolves when the status differs from `known`, and at once if it differs already. So
    /// a change between two calls is seen by the second, unless the status has changed back by then.
    pub fn status_change(&self, known: Status) -> StatusChange {
        StatusChange::new(self.core(), known)
    }

    /// Returns a future that resolves when the log has room again after a
    /// [`Backlogged`](crate::Unavailable::Backlogged).
    pub fn ready(&self) -> Ready {
        Ready::new(self.core().lanes.clone())
    }

    /// Returns engine time in milliseconds, in the range of Unix time: the time of all deadlines. It never runs
    /// backwards while the engine is open, and after a restart it is never before anything in the log.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.core().time.now_ms()
    }

    /// Refuses new verbs, makes everything durable that was asked for, and ends the engine's threads. Reads go on.
    /// Closing again is no error.
    ///
    /// # Errors
    /// See [`CloseError`].
    pub fn close(&self) -> Result<(), CloseError> {
        self.handle.close()
    }
}

impl Handle {
    fn close(&self) -> Result<(), CloseError> {
        if self.core.latch.is_in_forked_child() {
            self.running.forget();
            return Err(CloseError::Forked);
        }
        self.core.refuse_new_verbs();
        self.running.stop(&self.core);
        if self.core.is_read_only() {
            self.core.release_folder();
        }
        if let Some(error) = self.core.latch.close_error() {
            return Err(error);
        }
        match self.core.is_displaced() {
            true => Err(CloseError::Displaced { path: self.core.folder.clone() }),
            false => Ok(()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // No caller is left to receive the error; the next open finds out.
        let _ = self.close();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("folder", &self.core().folder).finish_non_exhaustive()
    }
}
