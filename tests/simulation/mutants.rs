//! Every mutant of `src/mutants.rs` is caught: the judge objects to it within a stated number of seeds, and to the right
//! engine in none of the same seeds.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorbuster::testing::{Mutant, SteppedEngine, at_pause, choose};
use doorbuster::{Commit, PlaceError, Placed};

use crate::judge::{Asked, Checked, Policy};
use crate::seeds::judge;
use crate::sim::Sim;

/// Each mutant is caught within this many seeds.
const SEEDS_MAX: u64 = 600;

#[test]
fn every_mutant_is_caught_and_the_right_engine_is_not() {
    let mut engines: Vec<Option<Mutant>> = vec![None];
    engines.extend(Mutant::ALL.iter().copied().map(Some));
    let next = AtomicUsize::new(0);
    let hunt_some = || {
        let mut found = Vec::new();
        while let Some(mutant) = engines.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.push((*mutant, hunt(*mutant)));
        }
        found
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(hunt_some)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a hunt does not panic"))
            .collect()
    });
    let mut escaped = Vec::new();
    for (mutant, found) in found {
        match (mutant, &found) {
            (Some(mutant), Some((seed, why))) => println!("{mutant:?}: seed {seed}: {why}"),
            (None, None) => println!("the right engine: {SEEDS_MAX} seeds"),
            _ => escaped.push(format!("{mutant:?}: {found:?}")),
        }
    }
    assert!(escaped.is_empty(), "of {SEEDS_MAX} seeds: {escaped:#?}");
}

/// The first seed in which the judge objects, and its words.
fn hunt(mutant: Option<Mutant>) -> Option<(u64, String)> {
    choose(mutant);
    let found = (0..SEEDS_MAX).find_map(|seed| {
        let objection = judge(seed).err()?;
        let first_line = objection.lines().next().unwrap_or_default();
        Some((seed, first_line.chars().take(200).collect()))
    });
    choose(None);
    found
}

/// What other buyers asked in the middle of a cart, and the answers.
type Told = Rc<RefCell<Vec<(Asked, Result<Commit<Placed>, PlaceError>)>>>;

impl Sim {
    /// Places an order. If it is a cart, others may have a turn when its first line is taken and the second
    /// is not: one asks for what the second wants, so that the cart may fail, then one for what the first
    /// has taken. Both are of other partitions, since the cart's is locked.
    ///
    /// The first answer counts as before the cart, the second as after it.
    pub(crate) fn place_interrupted(&mut self, engine: &SteppedEngine, cart: &Asked) -> Checked {
        let found = Told::default();
        let turns = self.turns(cart, engine.now_ms());
        let (handle, tells) = (engine.engine().clone(), found.clone());
        at_pause(turns.map(|turns| -> Box<dyn FnOnce()> {
            Box::new(move || {
                for asked in turns {
                    let answer = handle.place(asked.order());
                    tells.borrow_mut().push((asked, answer));
                }
            })
        }));
        let answer = engine.place(cart.order());
        at_pause(None);
        let mut found = found.take().into_iter();
        if let Some((asked, answer)) = found.next() {
            self.tell(format!("in between, place {asked:?}: {answer:?}"));
            self.judge.placed(engine, &asked, answer)?;
        }
        self.judge.placed(engine, cart, answer)?;
        if let Some((asked, answer)) = found.next() {
            self.tell(format!("in between, place {asked:?}: {answer:?}"));
            self.judge.placed_in_between(engine, &asked, answer)?;
        }
        Ok(())
    }

    fn turns(&mut self, cart: &Asked, now_ms: u64) -> Option<[Asked; 2]> {
        let mut skus: Vec<u64> = cart.lines.iter().map(|(sku, _)| *sku).collect();
        skus.sort_unstable();
        skus.dedup();
        let [first, second, ..] = skus[..] else { return None };
        // An order that takes the last token is answered before the cart comes to nothing.
        if self.judge.has_rates() {
            return None;
        }
        let mut ask = |sku: u64| {
            let mut asked = self.workload.order(&self.plan.shape, now_ms);
            let available = self.judge.available(sku).clamp(1, 1_000) as u32;
            let units = if self.draw.percent(70) { available } else { asked.lines[0].1 };
            (asked.lines, asked.policy) = (vec![(sku, units)], Policy::AllOrNone);
            self.judge.are_apart(cart.buyer, asked.buyer).then_some(asked)
        };
        Some([ask(second)?, ask(first)?])
    }
}
