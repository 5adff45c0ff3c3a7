//! Breaches that a proof found.

use std::ops::AddAssign;

/// This many breaches of one kind are printed in words; all are counted.
pub(crate) const WORDS_MAX: u64 = 3;

/// Breaches found.
#[derive(Clone, Default)]
pub(crate) struct Findings {
    /// Units.
    pub(crate) oversold: u64,
    /// Acknowledged orders that are gone, changed, or not shown to a retry.
    pub(crate) lost: u64,
    /// Second orders of a key, and orders that no request asked for.
    pub(crate) duplicated: u64,
    /// Each proof that failed, in words.
    pub(crate) words: Vec<String>,
}

impl Findings {
    pub(crate) fn lost(&mut self, words: impl FnOnce() -> String) {
        if self.lost < WORDS_MAX {
            self.words.push(words());
        }
        self.lost += 1;
    }

    pub(crate) fn duplicated(&mut self, breaches: u64, words: impl FnOnce() -> String) {
        if breaches > 0 && self.duplicated < WORDS_MAX {
            self.words.push(words());
        }
        self.duplicated += breaches;
    }

    pub(crate) fn prove(&mut self, holds: bool, words: impl FnOnce() -> String) {
        if !holds {
            self.words.push(words());
        }
    }
}

impl AddAssign for Findings {
    fn add_assign(&mut self, other: Self) {
        self.oversold += other.oversold;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.words.extend(other.words);
    }
}
