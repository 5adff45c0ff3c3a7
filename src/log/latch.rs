//! The latch: a write or sync failed, and the log takes nothing more.
//!
//! It is set once and never reset: what the operating system says after a failed sync proves
//! nothing, since Linux may have marked the pages clean (Rebello et al., USENIX ATC 2020). Only a new
//! open, which reads what the disk has, knows more.

use std::io;

use crate::error::{CloseError, Unavailable};
use crate::sync::{Mutex, OnceLock, Unparker};

#[derive(Clone, Debug)]
struct Cause {
    operation: &'static str,
    detail: String,
}

#[derive(Debug, Default)]
pub(crate) struct Latch {
    cause: OnceLock<Cause>,
    /// The writers: all learn of it at once, so that nobody waits for a log that is dead.
    writers: Mutex<Vec<Unparker>>,
}

impl Latch {
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
