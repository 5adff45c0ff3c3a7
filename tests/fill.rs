//! Fill policies: what a partial order gets, what it is told, and that this stays so.

#[allow(dead_code, reason = "shared with `tests/refusals.rs`")]
#[path = "refusals/bench.rs"]
mod bench;
#[path = "fill/partial.rs"]
mod partial;
#[path = "fill/races.rs"]
mod races;
#[allow(dead_code, reason = "shared with `tests/threads.rs`")]
#[path = "threads/seed.rs"]
mod seed;
