//! Waiting lists: who is served, when, and what a crash leaves of that.

#![allow(clippy::let_underscore_future, reason = "a verb acts whether or not its commit is kept")]

#[path = "waiting/bench.rs"]
mod bench;
#[path = "waiting/crashes.rs"]
mod crashes;
#[path = "waiting/joining.rs"]
mod joining;
#[path = "waiting/leaving.rs"]
mod leaving;
#[path = "waiting/meanwhile.rs"]
mod meanwhile;
#[path = "waiting/model.rs"]
mod model;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "threads/seed.rs"]
mod seed;
#[path = "waiting/serving.rs"]
mod serving;
#[path = "waiting/wakers.rs"]
mod wakers;
#[path = "waiting/watching.rs"]
mod watching;
