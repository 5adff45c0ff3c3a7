//! Bad input and refusals: each has a name, a value and a bound, nothing changes, and the key stays
//! free. A key that has an order is answered with it, whatever else is true.

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
#[path = "refusals/states.rs"]
mod states;
