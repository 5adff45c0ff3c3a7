//! What a caller can do about an error: its kind, and whether the same call may succeed later.

use std::fmt;
use std::time::Duration;

use crate::error::{
    BackupError, BatchError, Capacity, CheckpointError, CloseError, CommitError, MerchantError,
    OpenError, OrderError, PlaceError, StockError, Unavailable, WatchError,
};

/// The kind of an error, for a caller that maps errors to answers such as HTTP statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input breaks a bound or contradicts itself. The same input never succeeds.
    InvalidInput,
    /// The SKU or the order is not known.
    NotFound,
    /// The order was there and is no longer kept.
    Gone,
    /// The engine or a SKU is busy: the same call succeeds soon.
    Busy,
    /// A bound of the engine is reached.
    AtCapacity,
    /// The disk has no room.
    DiskFull,
    /// The system has too few file descriptors or too little memory.
    SystemShort,
    /// The engine or the file system is there for reading only.
    ReadOnly,
    /// It is not known whether the change happened. Send the same key again after the next open.
    Unknown,
    /// The engine is latched: the host must open the folder anew.
    Latched,
    /// The engine was closed.
    Closed,
    /// Another engine has the folder.
    InUse,
    /// The folder is not an engine's, has another shape, is of a newer version, or its path leads elsewhere now.
    WrongFolder,
    /// The operating system does not permit it.
    PermissionDenied,
    /// Another error of the operating system.
    Io,
    /// Data that was acknowledged is damaged or missing.
    Corrupt,
    /// The wall clock does not fit the log.
    WrongClock,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidInput => "invalid input",
            Self::NotFound => "not found",
            Self::Gone => "no longer kept",
            Self::Busy => "busy",
            Self::AtCapacity => "at capacity",
            Self::DiskFull => "disk full",
            Self::SystemShort => "system short of resources",
            Self::ReadOnly => "read only",
            Self::Unknown => "unknown outcome",
            Self::Latched => "latched",
            Self::Closed => "closed",
            Self::InUse => "in use",
            Self::WrongFolder => "wrong folder",
            Self::PermissionDenied => "permission denied",
            Self::Io => "input or output failed",
            Self::Corrupt => "corrupt",
            Self::WrongClock => "wrong clock",
        })
    }
}

/// A kind, and after which time the same call may succeed with nothing changed by the caller or the host.
type Verdict = (ErrorKind, Option<Duration>);

/// A cart that kept an answer open is over by then.
const AFTER_A_CART: Option<Duration> = Some(Duration::from_millis(1));
/// The log has written some blocks, and ids were reserved, by then.
const AFTER_SOME_BLOCKS: Option<Duration> = Some(Duration::from_millis(10));
/// Orders leave memory, disks get room and processes end that slowly.
const AFTER_A_WHILE: Option<Duration> = Some(Duration::from_secs(1));

macro_rules! impl_verdict {
    ($($error:ident),*) => {$(
        impl $error {
            /// Returns the kind of the error.
            #[must_use]
            pub fn kind(&self) -> ErrorKind {
                self.verdict().0
            }

            /// Returns whether the same call may succeed later although neither the caller nor the host changes
            /// anything. A retry of an order sends the same key.
            #[must_use]
            pub fn is_retryable(&self) -> bool {
                self.verdict().1.is_some()
            }

            /// Returns how long to wait before the same call, if it [may succeed](Self::is_retryable). The time is a
            /// suggestion: an earlier call does no harm.
            #[must_use]
            pub fn retry_after(&self) -> Option<Duration> {
                self.verdict().1
            }
        }

        /// Written as its kind, its message, and the milliseconds after which the call may be tried again.
        #[cfg(feature = "serde")]
        impl serde::Serialize for $error {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let (kind, after) = self.verdict();
                serialize(kind, &self.to_string(), after, serializer)
            }
        }
    )*};
}

#[cfg(feature = "serde")]
fn serialize<S: serde::Serializer>(
    kind: ErrorKind,
    message: &str,
    after: Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeStruct;

    let mut form = serializer.serialize_struct("Error", 3)?;
    form.serialize_field("kind", &kind)?;
    form.serialize_field("message", message)?;
    form.serialize_field("retry_after_ms", &after.map(crate::serialised::whole_ms::of))?;
    form.end()
}

impl_verdict!(
    PlaceError,
    OrderError,
    BatchError,
    StockError,
    MerchantError,
    Unavailable,
    CommitError,
    WatchError,
    CheckpointError,
    BackupError,
    CloseError,
    OpenError
);

const INVALID: Verdict = (ErrorKind::InvalidInput, None);

impl PlaceError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::NoLines
            | Self::TooManyLines { .. }
            | Self::ZeroQuantity { .. }
            | Self::QuantityTooLarge { .. }
            | Self::HoldOutOfRange { .. }
            | Self::PatienceOutOfRange { .. }
            | Self::WaitWithSeveralLines { .. }
            | Self::MinimumWithoutPartial { .. }
            | Self::MinimumWithoutLine { .. }
            | Self::MinimumTooLarge { .. }
            | Self::ClassOutOfRange { .. }
            | Self::PayloadTooLong { .. } => INVALID,
            Self::UnknownSku { .. } => (ErrorKind::NotFound, None),
            Self::Contended { .. } => (ErrorKind::Busy, AFTER_A_CART),
            Self::Unavailable(unavailable) => unavailable.verdict(),
        }
    }
}

impl OrderError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::UnknownOrder { .. } => (ErrorKind::NotFound, None),
            Self::Retired { .. } => (ErrorKind::Gone, None),
            Self::Unavailable(unavailable) => unavailable.verdict(),
        }
    }
}

impl BatchError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::TooManyOrders { .. } => INVALID,
            Self::Unavailable(unavailable) => unavailable.verdict(),
        }
    }
}

impl StockError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::MissingKey { .. }
            | Self::MissingExpected { .. }
            | Self::ExpectedWithoutSet { .. }
            | Self::ZeroQuantity { .. }
            | Self::ReferenceTooLong { .. }
            | Self::StockTooLarge { .. }
            | Self::ClosesBeforeItOpens { .. }
            | Self::ClassOutOfRange { .. }
            | Self::EarlyAccessOutOfRange { .. }
            | Self::HoldOutOfRange { .. } => INVALID,
            Self::UnknownSku { .. } => (ErrorKind::NotFound, None),
            Self::Contended { .. } => (ErrorKind::Busy, AFTER_A_CART),
            Self::OwesTooMuch { .. } | Self::MerchantsInFlight { .. } | Self::SaleEnding { .. } => {
                (ErrorKind::Busy, AFTER_SOME_BLOCKS)
            }
            Self::Unavailable(unavailable) => unavailable.verdict(),
        }
    }
}

impl MerchantError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::RateOutOfRange { .. } => INVALID,
            Self::Unavailable(unavailable) => unavailable.verdict(),
        }
    }
}

impl Unavailable {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Backlogged { .. } => (ErrorKind::Busy, AFTER_SOME_BLOCKS),
            Self::AtCapacity { what, .. } => (ErrorKind::AtCapacity, what.is_free_after()),
            Self::DiskFull { .. } => (ErrorKind::DiskFull, AFTER_A_WHILE),
            Self::SystemShort { .. } => (ErrorKind::SystemShort, AFTER_A_WHILE),
            Self::ReadOnly => (ErrorKind::ReadOnly, None),
            Self::Latched { .. } => (ErrorKind::Latched, None),
            Self::Closed | Self::Forked => (ErrorKind::Closed, None),
        }
    }
}

impl Capacity {
    /// When there may be room again, if that needs nothing of the host.
    fn is_free_after(self) -> Option<Duration> {
        match self {
            Self::Orders | Self::AdjustKeys => AFTER_A_WHILE,
            Self::OrderIds | Self::RulesInFlight => AFTER_SOME_BLOCKS,
            Self::Skus | Self::Merchants | Self::BuyersTracked => None,
        }
    }
}

impl CommitError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Unknown => (ErrorKind::Unknown, None),
            Self::Closed | Self::Forked => (ErrorKind::Closed, None),
        }
    }
}

impl WatchError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Commit(error) => error.verdict(),
            Self::Order(error) => error.verdict(),
        }
    }
}

impl CheckpointError {
    fn verdict(&self) -> Verdict {
        match self {
            // The next one is a new file.
            Self::Failed { .. } => (ErrorKind::Io, AFTER_A_WHILE),
            Self::Unavailable(unavailable) => unavailable.verdict(),
        }
    }
}

impl BackupError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::NotEmpty { .. } | Self::Inside { .. } => INVALID,
            Self::Unavailable(unavailable) => unavailable.verdict(),
            Self::Failed(error) => error.verdict(),
        }
    }
}

impl CloseError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Latched { .. } => (ErrorKind::Latched, None),
            Self::Displaced { .. } => (ErrorKind::WrongFolder, None),
            Self::Forked => (ErrorKind::Closed, None),
        }
    }
}

impl OpenError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::InvalidOption { .. } => INVALID,
            Self::ShapeMismatch { .. } | Self::NotAnEngine { .. } | Self::NewerFormat { .. } => {
                (ErrorKind::WrongFolder, None)
            }
            // The next open finds the folder to which the path leads by then.
            Self::Displaced { .. } => (ErrorKind::WrongFolder, AFTER_A_WHILE),
            Self::InUse { .. } => (ErrorKind::InUse, AFTER_A_WHILE),
            Self::PermissionDenied { .. } => (ErrorKind::PermissionDenied, None),
            Self::DiskFull { .. } => (ErrorKind::DiskFull, AFTER_A_WHILE),
            Self::OutOfMemory { .. } => (ErrorKind::SystemShort, AFTER_A_WHILE),
            Self::Io { .. } => (ErrorKind::Io, None),
            Self::Corrupt { .. } => (ErrorKind::Corrupt, None),
            Self::ReadOnly { .. } => (ErrorKind::ReadOnly, None),
            Self::ClockJump { .. } | Self::ClockBehind { .. } | Self::ClockOutOfRange { .. } => {
                (ErrorKind::WrongClock, None)
            }
        }
    }
}
