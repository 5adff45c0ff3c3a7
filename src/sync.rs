//! Atomics and locks, all from one place, so that a model checker can take theirs.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

pub(crate) use parking_lot::Mutex;
