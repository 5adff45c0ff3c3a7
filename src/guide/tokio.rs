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
//! [`Engine`](crate::Engine) and [`SkuHandle`](crate::SkuHandle) are `Clone`, `Send` and `Sync`: each task can own
//! a clone, or all tasks share one. [`Commit`](crate::Commit), [`Watch`](crate::Watch), [`Ready`](crate::Ready),
//! [`Checkpointing`](crate::Checkpointing) and [`StatusChange`](crate::StatusChange) are `Send` and `Unpin`.
//! They can be dropped at any time, for example in a `select!`. Dropping a commit does not undo its
//! order: send the same key again to learn the outcome.
//!
//! # What may run on a worker
//!
//! | call | how long it holds its thread |
//! |---|---|
//! | `place_async` | some microseconds; while carts in flight keep its answer open, it yields to the runtime |
//! | `place`, through a handle too | some microseconds; while carts in flight keep its answer open, it sleeps up to 47 times for 100 us |
//! | `place_batch` | some microseconds for each order of the batch; for an order whose answer is open it sleeps as `place` does |
//! | `confirm`, `cancel`, `fulfil`, `stock` | some microseconds |
//! | `order`, `order_by_key`, `position`, `levels`, `watch`, `ready`, `status`, `checkpoint` | some microseconds |
//! | awaiting any of the futures | nothing is blocked |
//! | `stats` | locks one partition after the other |
//!
//! None of these holds a lock for longer than a few microseconds at a time, and none waits for the disk.
//!
//! # What must not run on a worker
//!
//! Run these with `spawn_blocking`, or on one of the host's own threads:
//!
//! | call | because |
//! |---|---|
//! | `Engine::open`, `Engine::open_read_only`, `verify` | read the checkpoint and the log: seconds |
//! | `close`, and dropping the last `Engine` or `SkuHandle` | wait for the disk, and for the engine's threads to end |
//! | `backup`, `backup_to` | copy the checkpoint and the log |
//! | `rules`, `merchant`, `switch`, `end_sale` | pass the lock of every partition; a first buyer limit looks at every order in memory |
//! | `wait` and `wait_timeout` of any future | block the thread; await the future instead |
//!
//! A task that may own the last handle drops it with `spawn_blocking(move || drop(engine))`. Or the host closes the
//! engine before the runtime ends: after a [close](crate::Engine::close), dropping handles costs nothing.
//!
//! # Wakers
//!
//! A log writer calls the wakers of the commits that it made durable. A runtime's waker only queues its task, which
//! is what the writer expects. A waker that the host wrote must not block: see [`Commit`](crate::Commit). A thread
//! that does nothing else calls the wakers of all other futures.
//!
//! # Forks
//!
//! A forked child that does not call `exec` has a copy of the engine without its threads, and must not use it: see
//! [`durability`](super::durability#forks).
