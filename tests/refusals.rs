//! Bad input and refusals: each has a name, a value and a bound, nothing changes, and the key stays
//! free, unless refusals are remembered. A key that has an order is answered with it, whatever else is true.

#[path = "refusals/bench.rs"]
mod bench;
#[path = "refusals/handle.rs"]
mod handle;
#[path = "refusals/held_keys.rs"]
mod held_keys;
#[path = "refusals/input.rs"]
mod input;
#[path = "refusals/limits.rs"]
mod limits;
#[path = "refusals/remembered.rs"]
mod remembered;
#[path = "refusals/remembered_model.rs"]
mod remembered_model;
#[path = "refusals/remembered_threads.rs"]
mod remembered_threads;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "threads/seed.rs"]
mod seed;
#[path = "refusals/states.rs"]
mod states;
#[path = "refusals/unchanged.rs"]
mod unchanged;
