//! Using the engine with tokio, or with any other async runtime.
//!
//! The engine has threads of its own and needs no runtime. Verbs return at once; their
//! [`Commit`](crate::Commit) is a plain future. The host awaits it on whatever runtime it has.
//!
//! ```
//! use doorbuster::{Engine, Order, Placed, Status};
//!
//! async fn buy(engine: &Engine, order: Order) -> Result<Placed, Box<dyn std::error::Error>> {
//!     // The order is placed when this returns, and durable when its commit resolves.
//!     Ok(engine.place_async(order).await?.await?)
//! }
//!
//! async fn alarm(engine: &Engine) {
//!     let mut status = engine.status();
//!     while let Some(changed) = engine.status_change(status).await {
//!         println!("the engine: {changed}");
//!         status = changed;
//!     }
//! }
//! # let _ = (buy, alarm);
//! ```
//!
//! # What can go where
//!
//! [`Engine`](crate::Engine) and [`SkuHandle`](crate::SkuHandle) are `Clone`, `Send` and `Sync`: give each task
//! a clone, or share one. [`Commit`](crate::Commit), [`Watch`](crate::Watch), [`Ready`](crate::Ready),
//! [`Checkpointing`](crate::Checkpointing) and [`StatusChange`](crate::StatusChange) are `Send` and `Unpin`.
//! They can be dropped at any time, in a `select!` for example. Dropping a commit does not undo its
//! order: send the same key again to learn the outcome.
//!
//! # What may run on a worker
//!
//! | call | how long it holds its thread |
//! |---|---|
//! | `place_async` | some microseconds; it yields to the runtime while carts in flight keep its answer open |
//! | `place`, through a handle too | the same, but it may sleep: up to 48 times 100 us while carts in flight keep its answer open |
//! | `place_batch` | some microseconds for each order of the batch, and sleeps like `place` for an order whose answer is open |
//! | `confirm`, `cancel`, `fulfil`, `stock` | some microseconds |
//! | `order`, `position`, `levels`, `watch`, `ready`, `status`, `checkpoint` | some microseconds |
//! | awaiting any of the futures | nothing is blocked |
//! | `stats` | locks one partition after the other |
//!
//! Each of these takes a partition's lock for a few microseconds at a time. None of them waits for the disk.
//!
//! # What must not
//!
//! Run these by `spawn_blocking`, or on a thread of the host's own:
//!
//! | call | because |
//! |---|---|
//! | `Engine::open`, `verify` | reads the checkpoint and the log: seconds |
//! | `close`, and dropping the last `Engine` or `SkuHandle` | waits for the disk, and for the engine's threads to end |
//! | `backup`, `backup_to` | copies the checkpoint and the log |
//! | `rules`, `merchant`, `switch`, `end_sale` | pass the lock of every partition; a first buyer limit looks at every order in memory |
//! | `wait` and `wait_timeout` of any future | block the thread; await the future instead |
//!
//! A task that may own the last handle drops it by `spawn_blocking(move || drop(engine))`. Or the host closes the
//! engine before the runtime ends: after a [close](crate::Engine::close), dropping handles costs nothing.
//!
//! # Wakers
//!
//! A log writer wakes the tasks whose commits it made durable. Wakers of runtimes only queue the task, which is
//! what the writer expects. A waker of the host's own must not block: see [`Commit`](crate::Commit). All other
//! futures are woken by a thread that does nothing else.
//!
//! # Forks
//!
//! A forked child that does not call `exec` has a copy of the engine without its threads. It must not use it: see
//! [`durability`](super::durability#forks).
