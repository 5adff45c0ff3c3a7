//! Opening and closing: what is refused and how it is named, who keeps whom out, and a folder whose
//! making was interrupted anywhere.

#[path = "open/bench.rs"]
mod bench;
#[path = "open/clocks.rs"]
mod clocks;
#[path = "open/faults.rs"]
mod faults;
#[path = "open/folders.rs"]
mod folders;
#[path = "open/forks.rs"]
mod forks;
#[path = "open/knobs.rs"]
mod knobs;
#[path = "open/lives.rs"]
mod lives;
#[path = "open/order_ids.rs"]
mod order_ids;
#[path = "open/places.rs"]
mod places;
#[path = "open/processes.rs"]
mod processes;
#[path = "open/progress.rs"]
mod progress;
#[path = "open/reading.rs"]
mod reading;
#[path = "open/shortages.rs"]
mod shortages;
#[path = "open/volumes.rs"]
mod volumes;
#[path = "open/witness.rs"]
mod witness;
