//! How a host waits for an engine whose answer is "not now": it sends the same request again.

use doorbuster::{Engine, OrderError, PlaceError, StockError, Unavailable};

/// How often a request is sent that carts of other threads keep contended.
const CONTENDED_TRIES_MAX: u32 = 10_000;

/// What an error asks the caller to do before the next try.
pub(crate) enum Advice {
    /// Wait until the log has room.
    AwaitRoom,
    /// Let the other threads go on.
    Yield,
    /// It would fail again.
    GiveUp,
}

/// An error of a verb that says whether to try again.
pub(crate) trait Advise {
    fn advice(&self) -> Advice;
}

impl Advise for Unavailable {
    fn advice(&self) -> Advice {
        match self {
            Self::Backlogged { .. } => Advice::AwaitRoom,
            _ => Advice::GiveUp,
        }
    }
}

impl Advise for PlaceError {
    fn advice(&self) -> Advice {
        match self {
            Self::Contended { .. } => Advice::Yield,
            Self::Unavailable(unavailable) => unavailable.advice(),
            _ => Advice::GiveUp,
        }
    }
}

impl Advise for StockError {
    fn advice(&self) -> Advice {
        match self {
            Self::Contended { .. } => Advice::Yield,
            Self::Unavailable(unavailable) => unavailable.advice(),
            _ => Advice::GiveUp,
        }
    }
}

impl Advise for OrderError {
    fn advice(&self) -> Advice {
        match self {
            Self::Unavailable(unavailable) => unavailable.advice(),
            _ => Advice::GiveUp,
        }
    }
}

/// Sends a request until the engine answers it, or says that it never will.
pub(crate) fn ask<T, E: Advise>(
    engine: &Engine,
    mut request: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut contended = 0;
    loop {
        let error = match request() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match error.advice() {
            // An engine that will never have room again says why at the next try.
            Advice::AwaitRoom => drop(engine.ready().wait()),
            Advice::Yield if contended < CONTENDED_TRIES_MAX => {
                contended += 1;
                std::thread::yield_now();
            }
            Advice::Yield | Advice::GiveUp => return Err(error),
        }
    }
}
