//! [`Status`]: what the engine accepts now, and a future that resolves when that changes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::core::Core;
use crate::error::Unavailable;
use crate::log::{Room, block_on};

/// What an engine accepts now, for health checks and alarms. The answer of a verb takes precedence over it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Status {
    /// The engine accepts everything.
    Serving,
    /// A log shard refused something because the disk is too slow, and its backlog has not come down to half of the
    /// bound since: see [`Unavailable::Backlogged`].
    Backlogged,
    /// There is no room for another log segment. Orders can end, and new ones are refused: see
    /// [`Unavailable::DiskFull`].
    DiskFull,
    /// The process or the system is short of file descriptors or memory for another log segment. New orders are
    /// refused: see [`Unavailable::SystemShort`].
    SystemShort,
    /// A write or sync failed, or one of the engine's threads panicked. Only reads go on until the folder is opened
    /// anew: see [`Unavailable::Latched`].
    Latched {
        /// What failed.
        operation: &'static str,
        /// The operating system's words, and the path; or the thread, and the words of its panic.
        detail: String,
    },
    /// [`Engine::close`](crate::Engine::close) was called, or the engine was
    /// [opened for reading only](crate::Engine::open_read_only). Only reads go on.
    Closed,
}

impl Status {
    /// Returns whether a [`StatusChange`] from this status ends at once, with `None`: the engine accepts no verb any
    /// more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Latched { .. } | Self::Closed)
    }

    pub(super) fn of(core: &Core) -> Self {
        if let Err(Unavailable::Latched { operation, detail }) = core.latch.check() {
            return Self::Latched { operation, detail };
        }
        if core.is_closing() {
            return Self::Closed;
        }
        // A full disk comes first: it needs the host, and a shortage may pass.
        let mut is_short = false;
        for shard in &core.shards {
            match shard.space.room() {
                Room::DiskFull => return Self::DiskFull,
                Room::Short => is_short = true,
                Room::Enough => {}
            }
        }
        if is_short {
            return Self::SystemShort;
        }
        let is_behind =
            core.lanes.iter().any(|lane| lane.shard().is_backlogged() && !lane.has_ample_room());
        if is_behind { Self::Backlogged } else { Self::Serving }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving => f.write_str("serving"),
            Self::Backlogged => f.write_str("the disk is behind"),
            Self::DiskFull => f.write_str("no room for another log segment"),
            Self::SystemShort => {
                f.write_str("too few file descriptors or too little memory for another log segment")
            }
            Self::Latched { operation, detail } => {
                write!(f, "latched by a failed {operation}: {detail}")
            }
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// A future that resolves with the new status when it differs from the one that the caller knows, and with `None`
/// if the known one is [final](Status::is_final).
///
/// It is tied to no runtime; a thread can [wait](StatusChange::wait) for it. It does not keep the engine
/// open. A status that lasts only for a moment may pass unseen.
#[must_use = "it does nothing until it is awaited or waited for"]
pub struct StatusChange {
    core: Arc<Core>,
    known: Status,
    ticket: Option<u64>,
}

impl StatusChange {
    pub(super) fn new(core: &Arc<Core>, known: Status) -> Self {
        Self { core: core.clone(), known, ticket: None }
    }

    /// Blocks the thread until the status differs from the known one.
    #[must_use]
    pub fn wait(mut self) -> Option<Status> {
        block_on(&mut self)
    }

    fn deregister(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.core.latch.bell().deregister(ticket);
        }
    }
}

impl Future for StatusChange {
    type Output = Option<Status>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.known.is_final() {
            return Poll::Ready(None);
        }
        // Before the look: a change after it finds the waker.
        self.ticket = Some(self.core.latch.bell().register(self.ticket, context.waker()));
        let now = Status::of(&self.core);
        if now == self.known {
            return Poll::Pending;
        }
        self.deregister();
        Poll::Ready(Some(now))
    }
}

impl Drop for StatusChange {
    fn drop(&mut self) {
        self.deregister();
    }
}

impl fmt::Debug for StatusChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusChange").field("known", &self.known).finish_non_exhaustive()
    }
}
