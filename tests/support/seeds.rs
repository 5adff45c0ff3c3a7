//! Where the seed of a random test comes from, and what a failed test prints so that the seed can be run again.

use std::hash::{BuildHasher, RandomState};

use fastrand::Rng;

/// Returns the seeds to run: the one that the environment variable names, or else `count` fresh ones.
pub(crate) fn seeds(variable: &str, count: usize) -> Vec<u64> {
    match std::env::var(variable) {
        Ok(seed) => {
            vec![seed.parse().unwrap_or_else(|_| panic!("{variable} is no number: {seed}"))]
        }
        Err(_) => (0..count).map(|nth| RandomState::new().hash_one(nth)).collect(),
    }
}

/// Returns the generator of the `nth` thread, round or key, independent of all others of the seed.
pub(crate) fn stream(seed: u64, nth: u64) -> Rng {
    Rng::with_seed(seed ^ nth.wrapping_mul(0xd605_1f2b_9c5a_7d6b)).fork()
}

/// Prints the command that runs the seed again if the test fails while this value lives.
pub(crate) struct Rerun(String);

impl Rerun {
    /// `rest` is the rest of the command after `cargo test`: `--test threads name_of_the_test`.
    pub(crate) fn new(variable: &str, seed: u64, rest: &str) -> Self {
        Self(format!("rerun: {variable}={seed} cargo test --all-features {rest}"))
    }
}

impl std::fmt::Display for Rerun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Drop for Rerun {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self}");
        }
    }
}
