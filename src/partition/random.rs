//! Numbers for the tests of the tables.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). Says how to run the test again if it fails.
pub(crate) struct Random {
    test: &'static str,
    seed: u64,
    state: u64,
}

impl Random {
    /// From `DOORBUSTER_SEED` if that is set, else from an arbitrary seed.
    pub(crate) fn new(test: &'static str) -> Self {
        let given = std::env::var("DOORBUSTER_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| ahash::RandomState::new().hash_one(test));
        Self { test, seed, state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("rerun: DOORBUSTER_SEED={} cargo test --lib {}", self.seed, self.test);
        }
    }
}
