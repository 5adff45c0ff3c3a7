//! A clock that is set by hand and a disk in memory, for tests of the engine and of its hosts.
//!
//! [`MemoryStorage`] keeps apart what a disk has for certain and what merely reads back. So a test can cut the power
//! at any call ([`MemoryStorage::crash`]), kill the process ([`MemoryStorage::kill`]), make one call fail or lie
//! ([`MemoryStorage::set_fault_hook`]), or spoil bytes at rest ([`MemoryStorage::overwrite`]). Nothing here depends
//! on the time or on chance: the same calls and the same draws make the same bytes.
//!
//! ```
//! use std::time::Duration;
//! use doorbuster::clock::Clock;
//! use doorbuster::storage::{Access, Storage};
//! use doorbuster::testing::{ManualClock, MemoryStorage};
//!
//! let clock = ManualClock::new(1_000);
//! clock.advance(Duration::from_secs(1));
//! assert_eq!(clock.wall_ms(), 2_000);
//!
//! let storage = MemoryStorage::new();
//! storage.create_root()?;
//! let file = storage.create("name", Access::Cached)?;
//! file.write_durable(b"content", 0)?;
//! let after = storage.crash(&mut |_| 0);
//! assert!(after.list("")?.is_empty(), "the content was synced, its name was not");
//! assert!(file.sync().is_err(), "the old handles are dead");
//! # Ok::<(), std::io::Error>(())
//! ```

mod clock;
mod dump;
mod memory;
#[doc(hidden)]
pub mod parts;
mod stepped;

#[cfg(doorbuster_mutants)]
pub use crate::mutants::{Mutant, at_pause, choose};
pub use clock::ManualClock;
pub use dump::dump;
pub use memory::{Fault, FaultHook, MemoryStorage, Operation, StorageCall};
pub use stepped::{CheckpointProgress, Step, SteppedEngine, reserve_order_ids};
