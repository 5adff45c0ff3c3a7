//! Deadlines: exact to the millisecond of engine time, through restarts and clocks that jump.

#[path = "expiry/bench.rs"]
mod bench;
#[path = "expiry/clocks.rs"]
mod clocks;
#[path = "expiry/deadlines.rs"]
mod deadlines;
#[path = "expiry/restarts.rs"]
mod restarts;
#[path = "threads/seed.rs"]
mod seed;
