//! Checkpoints: the whole log, and a checkpoint with the log after it, come to the same state byte for byte. That
//! holds whatever happened while the checkpoint was taken, and wherever it was cut short.

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
