//! An embeddable order-matching engine for flash sales: durable, idempotent, never oversold.
//!
//! A host service links the crate, and places orders from as many threads as it likes. Each order
//! receives one outcome: the stock is held for this buyer, or it is not.
//!
//! # What is promised
//!
//! - **Nothing is oversold**, and no request is refused as sold out while there is enough: single lines and carts are
//!   linearizable.
//! - **No order twice**: a buyer's request key makes at most one order, and a retry is answered
//!   with that order, also after a crash, for as long as the order is
//!   [remembered](guide::retention).
//! - **No acknowledged order is lost**: when a [`Commit`] has resolved, its record is on the disk.
//! - **Damage is never silent**: a log that is damaged where something was acknowledged is refused,
//!   with the place named. [`guide::durability`] states the one window that remains.
//!
//! # Example
//!
//! ```
//! use doorbuster::{Adjust, Engine, Options, Order, Placed, Refusal, RequestKey, SkuId};
//!
//! # let folder = std::env::temp_dir().join(format!("doorbuster-front-{}", std::process::id()));
//! # let options = Options::new(&folder).segment_bytes(1 << 20);
//! # /*
//! let options = Options::new("./sale");
//! # */
//! let engine = Engine::open(options)?; // recovers what is there
//! let sku = SkuId::new(42);
//! engine.stock(sku, Adjust::add(1).key(RequestKey::from_text("PO-7")))?.wait()?;
//!
//! let order = Order::new(7, RequestKey::from_text("tap 1")).line(sku, 1);
//! match engine.place(&order)?.wait()? { // or `.await`, on any runtime
//!     Placed::Held(held) => {
//!         engine.confirm(held.order)?.wait()?;
//!     }
//!     Placed::Refused(Refusal::SoldOut { available, .. }) => println!("{available} left"),
//!     other => println!("{other:?}"),
//! }
//! engine.close()?;
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to go from here
//!
//! | to learn | see |
//! |---|---|
//! | the verbs | [`Engine`] |
//! | whether the engine is well | [`Status`], [`Stats`] |
//! | what can be asked for | [`Order`], [`Fill`], [`Adjust`] |
//! | which rules a sale can have | [`SaleRules`], [`MerchantRules`], [`Switch`] |
//! | what is answered | [`Placed`], [`Transition`], [`Adjusted`], [`Commit`] |
//! | what can be read back | [`Engine::order`], [`Engine::order_by_key`], [`Engine::orders`], [`Engine::skus`] |
//! | what can go wrong | [`error`] |
//! | every bound | [`Options`] |
//! | how it works | [`guide::architecture`] |
//! | what survives what | [`guide::durability`] |
//! | what a retry receives, which request wins a race | [`guide::semantics`] |
//! | what openings, switches, merchants and their rates do | [`guide::rules`] |
//! | which orders may wait, and in what order they are served | [`guide::waiting`] |
//! | how long orders are remembered | [`guide::retention`] |
//! | how large an engine gets | [`guide::sizing`], [`Options::estimate`] |
//! | how to use it from async code | [`guide::tokio`] |
//! | how to test a host | `testing`, with the feature of that name |
//!
//! # Cargo features
//!
//! None is on by default.
//!
//! - `serde`: `Serialize` and `Deserialize` for what a host stores, sends and configures: ids,
//!   orders, adjustments, rules, options, outcomes, views and figures. Deserialising checks every
//!   bound. Errors can only be serialised.
//! - `uuid`: `From<Uuid>` for [`BuyerId`] and [`RequestKey`].
//! - `testing`: a clock set by hand, a disk in memory that crashes and fails on demand, and an engine
//!   that is stepped by its caller.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("doorbuster runs on Linux on x86-64 and aarch64 only");

mod bounds;
mod checkpoint;
pub mod clock;
mod engine;
pub mod error;
mod estimate;
pub mod guide;
mod ids;
mod log;
mod memory;
mod mutants;
mod options;
mod order;
mod partition;
mod prefetch;
mod progress;
mod recovery;
mod routing;
#[cfg(feature = "serde")]
mod serialised;
mod stock;
pub mod storage;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod wakes;

pub use bounds::{
    BATCH_ORDERS_MAX, HOLD_MAX, LINES_MAX, LOG_RETENTION_MAX, PATIENCE_MAX, PAYLOAD_BYTES_MAX,
    RETENTION_DEFAULT, RETENTION_MAX,
};
pub use checkpoint::{Checkpoint, Checkpointing};
pub use engine::{
    Backup, Engine, OrderView, Orders, SkuHandle, Stats, Status, StatusChange, Viewed, Watch,
};
pub use error::{
    BackupError, BatchError, Capacity, CheckpointError, CloseError, CommitError, ErrorKind,
    MerchantError, OpenError, OrderError, PlaceError, StockError, Unavailable, WatchError,
};
pub use estimate::{Estimate, Workload};
pub use ids::{
    BuyerId, KeyKind, LINE_QUANTITY_MAX, MerchantId, OrderId, ParseIdError, Quantity, RequestKey,
    STOCK_MAX, SkuId,
};
pub use log::{Commit, Ready};
pub use options::{Durability, Options};
pub use order::{
    Adjust, Adjusted, CLASS_MAX, EARLY_ACCESS_MAX, Fill, Held, KeyField, KeyReused, Line,
    MerchantLimits, MerchantRules, Order, OrderState, PartlyHeld, Placed, RATE_MAX, Refusal,
    RefusedBefore, Ruled, SaleRules, Scope, SkuRules, StockLevels, Switch, Transition, Waiting,
};
pub use progress::RecoveryProgress;
pub use recovery::{
    RecoveryReport, TurnsReport, VerifyReport, served_in_turn, served_in_turn_on, verify, verify_on,
};
