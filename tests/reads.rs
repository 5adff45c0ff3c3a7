//! Reading back what an engine holds: scans of all orders, orders by key, SKUs, merchants.

#[path = "reads/after_a_kill.rs"]
mod after_a_kill;
#[path = "reads/bench.rs"]
mod bench;
#[path = "reads/moving.rs"]
mod moving;
#[path = "reads/names.rs"]
mod names;
#[path = "reads/rules.rs"]
mod rules;
#[path = "reads/scan.rs"]
mod scan;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "threads/seed.rs"]
mod seed;
#[path = "reads/threads.rs"]
mod threads;
#[path = "reads/views.rs"]
mod views;
