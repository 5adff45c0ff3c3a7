//! Opening and closing: what is refused and how it is named, who keeps whom out, and a folder whose
//! making was interrupted anywhere.

mod clocks;
mod faults;
mod folders;
mod forks;
mod knobs;
mod lives;
mod order_ids;
mod places;
mod processes;
mod progress;
mod reading;
mod samples;
mod shortages;
mod volumes;
mod witness;
