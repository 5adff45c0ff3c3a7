//! The rules of a sale: openings, closings, early access, holds, safety stock, switches, merchants and
//! their rates. What each does, that the stricter of old and new acts until a change is durable, and
//! that a restart keeps what was acknowledged.

#[path = "rules/bench.rs"]
mod bench;
#[path = "rules/durable.rs"]
mod durable;
#[path = "rules/fields.rs"]
mod fields;
#[path = "rules/halts.rs"]
mod halts;
#[path = "rules/in_flight.rs"]
mod in_flight;
#[path = "rules/input.rs"]
mod input;
#[path = "rules/merchants.rs"]
mod merchants;
#[path = "rules/model.rs"]
mod model;
#[path = "rules/openings.rs"]
mod openings;
#[path = "rules/stock.rs"]
mod stock;
#[path = "rules/threads.rs"]
mod threads;
