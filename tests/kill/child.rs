//! The child process: it works through its plan until the parent kills it, and reports the answers that it
//! receives.
//!
//! One line for each acknowledgement, written in one piece when the answer is durable and not before.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;

use doorbuster::{Commit, Durability, Engine, Held, Options, OrderState, Placed, Transition};

use crate::plan::{Key, Plan, SKUS, THREADS, Verb, WINDOW, delivery, plan};
use crate::seeds::stream;

pub(crate) const FOLDER: &str = "DOORBUSTER_KILL_FOLDER";
pub(crate) const SEED: &str = "DOORBUSTER_KILL_CHILD_SEED";
pub(crate) const ROUND: &str = "DOORBUSTER_KILL_ROUND";

pub(crate) fn options(folder: &Path, round: u64) -> Options {
    let durability = [Durability::Written, Durability::Synced][round as usize % 2];
    Options::new(folder).partitions(8).log_shards(2).segment_bytes(1 << 19).durability(durability)
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // If the parent is gone, no process reads this, and the child ends soon.
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

pub(crate) fn live(folder: &Path, seed: u64, round: u64) {
    tell("!opening");
    let engine = Engine::open(options(folder, round)).expect("opens");
    tell("!open");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let engine = &engine;
            scope.spawn(move || work(engine, seed, round, thread));
        }
        for sku in 0..SKUS {
            let (delivery, _) = delivery(seed, round, sku);
            let added = engine.stock(sku, delivery).expect("accepted").wait();
            added.expect("durable");
            tell(&format!("!add {sku}"));
        }
    });
}

fn work(engine: &Engine, seed: u64, round: u64, thread: u64) {
    let mut random = stream(seed ^ 2, round << 8 | thread);
    let mut in_flight: VecDeque<(Key, Plan, Commit<Placed>)> = VecDeque::new();
    for nth in 0.. {
        let key = Key { round, thread, nth };
        let plan = plan(seed, key);
        let placed = engine.place(&plan.order).expect("accepted");
        in_flight.push_back((key, plan, placed));
        if (in_flight.len() as u64) < WINDOW {
            continue;
        }
        let Some((key, plan, placed)) = in_flight.pop_front() else { continue };
        match placed.wait().expect("durable") {
            Placed::Held(held) => {
                tell(&format!("!held {} {} {}", key.number(), held.order.get(), held.deadline_ms));
                end(engine, key, &plan, &held);
                if random.u64(..100) < 20 {
                    again(engine, key, &plan, &held);
                }
            }
            Placed::Refused(_) => tell(&format!("!refused {}", key.number())),
            other => panic!("{key:?}: {other:?}"),
        }
    }
}

fn end(engine: &Engine, key: Key, plan: &Plan, held: &Held) {
    for verb in plan.verbs {
        let ended = match verb {
            Verb::Confirm => engine.confirm(held.order),
            Verb::Fulfil => engine.fulfil(held.order),
            Verb::Cancel => engine.cancel(held.order),
        };
        match ended.expect("known").wait().expect("durable") {
            Transition::Done { .. } => tell(&format!("!ended {}", key.number())),
            other => panic!("{verb:?} of {key:?}: {other:?}"),
        }
    }
    let view = engine.order(held.order).expect("known");
    assert!(plan.expires || view.state != OrderState::Expired, "{view:?}");
}

fn again(engine: &Engine, key: Key, plan: &Plan, held: &Held) {
    let placed = engine.place(&plan.order).expect("accepted").wait().expect("durable");
    let first = placed.held().unwrap_or_else(|| panic!("{key:?} again: {placed:?}"));
    assert!(first.replayed && first.order == held.order, "{key:?} again: {first:?}");
}
