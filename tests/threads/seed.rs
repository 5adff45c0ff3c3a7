//! Chance in tests: where a seed comes from, and what a failure prints to get it back.

use std::hash::{BuildHasher, RandomState};

/// The seeds to run: the one that `variable` names, or `count` fresh ones.
pub(crate) fn seeds(variable: &str, count: usize) -> Vec<u64> {
    match std::env::var(variable) {
        Ok(seed) => {
            vec![seed.parse().unwrap_or_else(|_| panic!("{variable} is no number: {seed}"))]
        }
        Err(_) => (0..count).map(|nth| RandomState::new().hash_one(nth)).collect(),
    }
}

/// Prints how to run a failure again, when the test that made it fails.
pub(crate) struct Rerun(String);

impl Rerun {
    /// `rest` is what comes after `cargo test`: `--test threads name_of_the_test`.
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

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for the `nth` thread, round or key.
    pub(crate) fn nth(seed: u64, nth: u64) -> Self {
        Self(Self(seed ^ nth.wrapping_mul(0xd605_1f2b_9c5a_7d6b)).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, as good as evenly.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
