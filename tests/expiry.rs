//! Deadlines: exact to the millisecond of engine time, through restarts and clocks that jump.

#![allow(clippy::let_underscore_future, reason = "a verb acts whether or not its commit is kept")]

#[path = "expiry/bench.rs"]
mod bench;
#[path = "expiry/clocks.rs"]
mod clocks;
#[path = "expiry/deadlines.rs"]
mod deadlines;
#[path = "expiry/restarts.rs"]
mod restarts;
#[allow(dead_code, reason = "another test crate uses the rest")]
#[path = "threads/seed.rs"]
mod seed;
