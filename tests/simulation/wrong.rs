//! The net holds fish: engines with one mistake each, see `src/wrong.rs`. For each of them the judge must
//! object within a stated number of seeds, and to the right engine in none of the same seeds.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorbuster::testing::{SteppedEngine, Wrong, at_pause, choose};
use doorbuster::{Commit, PlaceError, Placed};

use crate::judge::{Asked, Checked};
use crate::seeds::judge;
use crate::sim::Sim;

/// Each wrong engine is caught in one of so many seeds.
const SEEDS_MAX: u64 = 300;

#[test]
fn every_wrong_engine_is_caught_and_the_right_one_is_not() {
    let mut engines: Vec<Option<Wrong>> = vec![None];
    engines.extend(Wrong::ALL.map(Some));
    let next = AtomicUsize::new(0);
    let hunt_some = || {
        let mut told = Vec::new();
        while let Some(wrong) = engines.get(next.fetch_add(1, Ordering::Relaxed)) {
            told.push((*wrong, hunt(*wrong)));
        }
        told
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let told: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(hunt_some)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a hunt does not panic"))
            .collect()
    });
    let mut escaped = Vec::new();
    for (wrong, found) in told {
        match (wrong, &found) {
            (Some(wrong), Some((seed, why))) => println!("{wrong:?}: seed {seed}: {why}"),
            (None, None) => println!("the right engine: {SEEDS_MAX} seeds"),
            _ => escaped.push(format!("{wrong:?}: {found:?}")),
        }
    }
    assert!(escaped.is_empty(), "of {SEEDS_MAX} seeds: {escaped:#?}");
}

/// The first seed in which the judge objects, and its words.
fn hunt(wrong: Option<Wrong>) -> Option<(u64, String)> {
    choose(wrong);
    let found = (0..SEEDS_MAX).find_map(|seed| {
        let objection = judge(seed).err()?;
        let first_line = objection.lines().next().unwrap_or_default();
        Some((seed, first_line.chars().take(200).collect()))
    });
    choose(None);
    found
}

/// Another buyer's turn in the middle of a cart, and what he was told.
type Told = Rc<RefCell<Option<(Asked, Result<Commit<Placed>, PlaceError>)>>>;

#[derive(Default)]
pub(crate) struct Interruption {
    told: Told,
}

impl Sim {
    /// Lets another buyer ask for the cart's first SKU when its line is taken and the next one is not. His
    /// orders are known to be in another partition, since the cart's is locked.
    pub(crate) fn interrupt(&mut self, engine: &SteppedEngine, cart: &Asked) {
        let first = cart.lines.iter().map(|(sku, _)| *sku).min();
        let is_cart = cart.lines.iter().any(|(sku, _)| Some(*sku) != first);
        let (true, Some(sku)) = (is_cart && self.draw.percent(30), first) else { return };
        let mut asked = self.workload.order(&self.plan.shape);
        asked.lines = vec![(sku, asked.lines[0].1)];
        if !self.judge.are_apart(cart.buyer, asked.buyer) {
            return;
        }
        let (engine, told) = (engine.engine().clone(), self.interruption.told.clone());
        at_pause(Some(Box::new(move || {
            let answer = engine.place(asked.order());
            *told.borrow_mut() = Some((asked, answer));
        })));
    }

    pub(crate) fn judge_interruption(&mut self, engine: &SteppedEngine) -> Checked {
        at_pause(None);
        let Some((asked, answer)) = self.interruption.told.take() else { return Ok(()) };
        self.tell(format!("in between, place {asked:?}: {answer:?}"));
        self.judge.placed_in_between(engine, &asked, answer)
    }
}
