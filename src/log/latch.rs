//! The latch: a write or sync failed, or one of the engine's threads panicked, and the log takes nothing more.
//!
//! It is set once and never reset: what the operating system says after a failed sync proves
//! nothing, since Linux may have marked the pages clean (Rebello et al., USENIX ATC 2020). Only a new
//! open, which reads what the disk has, knows more.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{CloseError, Unavailable};
use crate::sync::{Mutex, OnceLock, Unparker};
use crate::wakes::{self, Bell};

#[derive(Clone, Debug)]
struct Cause {
    operation: &'static str,
    detail: String,
}

#[derive(Debug)]
pub(crate) struct Latch {
    /// The process that opened the engine. Its threads are not in a child that it forks.
    process: u32,
    cause: OnceLock<Cause>,
    /// Rung when the engine's status may be another.
    bell: Bell,
    /// The writers: all learn of it at once, so that no caller waits for a log that is dead.
    writers: Mutex<Vec<Unparker>>,
}

impl Default for Latch {
    fn default() -> Self {
        let process = std::process::id();
        Self {
            process,
            cause: OnceLock::default(),
            bell: Bell::default(),
            writers: Mutex::default(),
        }
    }
}

impl Latch {
    /// Whether this is a forked child of the process that opened the engine. Costs a system call, so it is
    /// asked where a thread is about to wait, and never by a verb on an order.
    pub(crate) fn is_in_forked_child(&self) -> bool {
        self.process != std::process::id()
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(crate) fn add_writer(&self, unparker: Unparker) {
        self.writers.lock().push(unparker);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.cause.get().is_some()
    }

    pub(crate) fn set(&self, operation: &'static str, path: &str, error: &io::Error) {
        self.set_detail(operation, format!("{path}: {error}"));
    }

    pub(crate) fn set_detail(&self, operation: &'static str, detail: String) {
        // The first cause stands; the others follow from it.
        let _ = self.cause.set(Cause { operation, detail });
        self.writers.lock().iter().for_each(Unparker::unpark);
        self.bell.ring();
    }

    /// Runs a part of an engine's thread. A panic in it, which may come from the host's storage or clock, latches and
    /// names the thread, because no other thread does its work. Returns `None` then.
    pub(crate) fn guard<T>(&self, thread: &str, work: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => Some(done),
            Err(panic) => {
                let said = wakes::message(panic.as_ref());
                self.set_detail("thread", format!("{thread} panicked: {said}"));
                wakes::discard(panic);
                None
            }
        }
    }

    pub(crate) fn check(&self) -> Result<(), Unavailable> {
        match self.cause.get() {
            None => Ok(()),
            Some(Cause { operation, detail }) => {
                Err(Unavailable::Latched { operation, detail: detail.clone() })
            }
        }
    }

    pub(crate) fn close_error(&self) -> Option<CloseError> {
        let Cause { operation, detail } = self.cause.get()?.clone();
        Some(CloseError::Latched { operation, detail })
    }
}
