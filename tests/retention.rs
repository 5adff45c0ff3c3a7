//! What becomes of finished orders: how long they are answered for, and what is left of them.

#![allow(clippy::let_underscore_future, reason = "a verb acts whether or not its commit is kept")]

#[path = "retention/adjusts.rs"]
mod adjusts;
#[path = "retention/bench.rs"]
mod bench;
#[path = "retention/ids.rs"]
mod ids;
#[path = "retention/keys.rs"]
mod keys;
#[path = "retention/limits.rs"]
mod limits;
#[path = "retention/memory.rs"]
mod memory;
#[path = "retention/model.rs"]
mod model;
#[path = "retention/options.rs"]
mod options;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "threads/seed.rs"]
mod seed;
#[path = "retention/threads.rs"]
mod threads;
#[path = "retention/windows.rs"]
mod windows;
