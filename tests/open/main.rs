//! Opening and closing: which opens are refused and with which error, which processes keep others out, and folders
//! whose making was interrupted anywhere.

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
