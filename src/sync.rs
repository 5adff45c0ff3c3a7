//! Atomics, locks and what threads sleep on, all from one place, so that a model checker can take theirs:
//! with `--cfg loom` all of it is [loom](https://docs.rs/loom)'s, and the `loom_tests` modules try every
//! interleaving and every value that an ordering lets a thread see. How to run them is in `.ci/run`.
//!
//! `Arc` stays std's: loom's cannot hold a slice or a trait object, and nothing here rests on when an
//! `Arc` is dropped. So do the locks of the simulated disk and clock, which stand for the outside world.

#[cfg(not(loom))]
pub(crate) use {
    crossbeam_utils::sync::{Parker, Unparker},
    parking_lot::{Mutex, MutexGuard},
    std::sync::OnceLock,
    std::sync::atomic::{
        AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    },
};

#[cfg(loom)]
pub(crate) use {
    loom::sync::MutexGuard,
    loom::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence},
    modelled::{AtomicBool, AtomicUsize, Mutex, OnceLock, Parker, Unparker},
};

/// What loom has not, or has in another shape, made of what it has.
#[cfg(loom)]
mod modelled {
    use std::sync::Arc;
    use std::time::Duration;

    use loom::sync::atomic::Ordering;

    pub(crate) type AtomicBool = FirstSeqCst<loom::sync::atomic::AtomicBool>;
    pub(crate) type AtomicUsize = FirstSeqCst<loom::sync::atomic::AtomicUsize>;

    /// What `SeqCst` loads are for here. Loom does not count an atomic's first value as stored by `SeqCst`,
    /// and would show it to a `SeqCst` load after a `SeqCst` store of another.
    #[derive(Debug)]
    pub(crate) struct FirstSeqCst<A>(A);

    impl AtomicBool {
        pub(crate) fn new(value: bool) -> Self {
            let atomic = loom::sync::atomic::AtomicBool::new(value);
            atomic.store(value, Ordering::SeqCst);
            Self(atomic)
        }
    }

    impl AtomicUsize {
        pub(crate) fn new(value: usize) -> Self {
            let atomic = loom::sync::atomic::AtomicUsize::new(value);
            atomic.store(value, Ordering::SeqCst);
            Self(atomic)
        }
    }

    impl Default for AtomicBool {
        fn default() -> Self {
            Self::new(false)
        }
    }

    impl Default for AtomicUsize {
        fn default() -> Self {
            Self::new(0)
        }
    }

    impl<A> std::ops::Deref for FirstSeqCst<A> {
        type Target = A;

        fn deref(&self) -> &A {
            &self.0
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a panic ends the model")
        }

        pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner().expect("a panic ends the model")
        }
    }

    /// A thread that sees the value sees what was before it; one that does not may see anything. One thread at a time
    /// sets it: loom could not wake another from std's.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        is_set: AtomicBool,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { value: std::sync::OnceLock::new(), is_set: AtomicBool::new(false) }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.value.set(value)?;
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }

        pub(crate) fn get_or_init(&self, value: impl FnOnce() -> T) -> &T {
            match self.get() {
                Some(value) => value,
                None => {
                    let value = self.value.get_or_init(value);
                    self.is_set.store(true, Ordering::Release);
                    value
                }
            }
        }
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    /// A thread's token, as crossbeam's.
    #[derive(Debug, Default)]
    pub(crate) struct Parker {
        unparker: Unparker,
    }

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Unparker {
        token: Arc<(loom::sync::Mutex<bool>, loom::sync::Condvar)>,
    }

    impl Parker {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn unparker(&self) -> &Unparker {
            &self.unparker
        }

        pub(crate) fn park(&self) {
            let (token, condvar) = &*self.unparker.token;
            let mut is_there = token.lock().expect("a panic ends the model");
            while !*is_there {
                is_there = condvar.wait(is_there).expect("a panic ends the model");
            }
            *is_there = false;
        }

        /// The time never comes: no thread may need it to be woken, and loom finds one that would.
        pub(crate) fn park_timeout(&self, _: Duration) {
            self.park();
        }
    }

    impl Unparker {
        pub(crate) fn unpark(&self) {
            let (token, condvar) = &*self.token;
            *token.lock().expect("a panic ends the model") = true;
            condvar.notify_one();
        }
    }
}
