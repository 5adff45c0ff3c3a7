//! The whole engine in one thread over a simulated disk and clock, with everything that happens
//! following from one seed, and a judge that shares no code with it.
//!
//! ```text
//! cargo test --release --test simulation                           what the gate runs
//! SEED=7 cargo test --release --test simulation                    one seed; STORY=1 tells all of it
//! SEEDS=100000 SEED_BASE=1 cargo test --release --test simulation  a soak, some 20 minutes on two cores
//! ```
//!
//! The proof that the judge finds real bugs needs a build of its own:
//!
//! ```text
//! CARGO_TARGET_DIR=target/mutants RUSTFLAGS="--cfg doorbuster_mutants" cargo test --release --test simulation -- mutant
//! ```
//!
//! | read | to learn |
//! |---|---|
//! | `plan` | what a seed draws |
//! | `workload` | what the clients ask |
//! | `disk`, `damage` | what goes wrong, in calls and at rest |
//! | `checkpoints` | how checkpoints are taken, and how they suffer |
//! | `backups`, `same` | that a backup, an older checkpoint and the whole log come to the same state |
//! | `sim`, `life` | the loop, and how lives end and begin |
//! | `lists` | what clients do with waiting lists |
//! | `judge` | what must hold: of answers, refusals, rules and switches, of who waits and is served, of what left memory, of time, after an open |
//! | `mutants` | the proof that the judge finds real bugs |

mod backups;
mod checkpoints;
mod damage;
mod disk;
mod draw;
mod judge;
mod life;
mod lists;
#[cfg(doorbuster_mutants)]
mod mutants;
mod plan;
mod same;
mod seeds;
mod sim;
mod tally;
mod workload;

use seeds::{run_all, seeds_of_this_run};
use tally::MUST_BE_MET;

#[test]
fn every_promise_holds_in_every_seed() {
    let (seeds, whence) = seeds_of_this_run();
    println!("simulation: {} seeds, {whence}", seeds.len());
    let tally = run_all(&seeds);
    tally.print();
    if seeds.len() >= 1_000 {
        // Or the net has a hole.
        let never: Vec<_> = MUST_BE_MET.iter().filter(|what| tally.of(what) == 0).collect();
        assert!(never.is_empty(), "{} seeds never met {never:?}", seeds.len());
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in [1, 2, 3] {
        assert_eq!(sim::run(seed).trail, sim::run(seed).trail, "seed {seed}");
    }
}
