//! Checkpoints: a log read from its beginning, and a checkpoint with the log behind it, give the same
//! state byte for byte, whatever went on while the checkpoint was taken, and wherever it was cut short.

#![allow(clippy::let_underscore_future, reason = "a verb acts whether or not its commit is kept")]

mod archive;
mod ask;
mod backup;
mod crash;
mod damage;
mod history;
mod pace;
#[path = "../support/power.rs"]
mod power;
mod rot;
mod same;
mod verify;
