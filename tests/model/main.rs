//! The engine against a model of plain maps, step by step in one thread: every answer, every commit's durability,
//! every level, with crashes and reopenings among the operations.
//!
//! Each case has a seed of its own. A case that fails prints its seed, with the command that runs it again.

#![allow(clippy::let_underscore_future, reason = "a verb acts whether or not its commit is kept")]

mod answers;
mod corners;
mod driver;
mod life;
#[path = "../support/murmur.rs"]
mod murmur;
mod ops;
mod oracle;
mod promise;
mod share;
mod survivors;
mod verbs;

use std::hash::{BuildHasher, RandomState};

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::driver::{Checked, Driver};
use crate::ops::{Op, Setup};

/// How many cases run if `MODEL_CASES` is not set.
const CASES: u64 = 150;

#[test]
fn every_answer_is_the_models_and_survives_every_crash() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = variable("MODEL_SEED") {
        return run_case(seed);
    }
    let first = RandomState::new().hash_one(0_u8);
    for nth in 0..variable("MODEL_CASES").unwrap_or(CASES) {
        run_case(first.wrapping_add(nth));
    }
}

fn run_case(seed: u64) {
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    match runner.run(&ops::case(), |(setup, ops)| run(&setup, &ops)) {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("seed {seed}: {reason}"),
        Err(TestError::Fail(reason, (setup, ops))) => {
            let ops: Vec<String> = ops.iter().map(|op| format!("    {op:?}")).collect();
            panic!(
                "{reason}\nin {setup:?}\n{}\nrerun with\n    MODEL_SEED={seed} cargo test --test model",
                ops.join("\n")
            );
        }
    }
}

fn run(setup: &Setup, ops: &[Op]) -> Checked {
    let mut driver = Driver::new(setup)?;
    for op in ops {
        driver.run(op)?;
    }
    driver.finish()
}
