//! Damage to the log, byte by byte, and disks that fail: what was acknowledged is there, or the open returns an
//! error that names what is wrong.

#![allow(clippy::let_underscore_future, reason = "a verb acts whether or not its commit is kept")]

mod books;
mod crash;
mod damage;
mod full;
mod latch;
#[path = "../support/murmur.rs"]
mod murmur;
#[path = "../support/power.rs"]
mod power;
mod tail;
