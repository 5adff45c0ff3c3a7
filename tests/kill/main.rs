//! A process under load is killed at any moment, again and again, and its folder opens again. Everything that was
//! acknowledged is there, nothing was sold twice, no key has two orders.
//!
//! The child is this test binary. It reports what was acknowledged through its standard output. More rounds:
//! `ROUNDS=200 cargo test --all-features --test kill`.

mod child;
mod full_disk;
mod plan;
#[path = "../support/seeds.rs"]
mod seeds;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use doorbuster::{Adjusted, Engine, OrderId, OrderState, OrderView, Placed, SaleRules};
use fastrand::Rng;

use plan::{Key, LIMIT, LIMITED, SKUS, THREADS, WINDOW, delivery, plan};
use seeds::{Rerun, seeds, stream};

/// What the parent knows of a key.
#[derive(Clone, Debug, Default)]
struct Known {
    held: Option<(OrderId, u64)>,
    refused: bool,
    verbs: usize,
}

/// What the child reported in one life.
#[derive(Debug, Default)]
struct Told {
    acknowledged: u64,
    keys: BTreeMap<Key, Known>,
    deliveries: Vec<u64>,
}

/// When the parent kills the child.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// When the child begins to open the folder.
    Opening,
    /// After this number of acknowledgements.
    After(u64),
}

#[test]
#[ignore = "the part of the child process; the other test starts it"]
fn child_under_load() {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(folder), Some(seed), Some(round)) =
        (variable(child::FOLDER), variable(child::SEED), variable(child::ROUND))
    else {
        return;
    };
    let number = |text: String| text.parse().expect("a number");
    child::live(Path::new(&folder), number(seed), number(round));
}

#[test]
fn a_process_that_is_killed_under_load_loses_nothing_it_was_told() {
    let rounds = std::env::var("ROUNDS").map_or(50, |rounds| rounds.parse().expect("a number"));
    for seed in seeds("KILL_SEED", 1) {
        let _rerun = Rerun::new("KILL_SEED", seed, "--test kill");
        let folder = tempfile::tempdir().expect("a folder");
        let mut parent = Parent { seed, known: BTreeMap::new(), orders: HashMap::new() };
        let engine = Engine::open(child::options(folder.path(), 1)).expect("opens");
        for sku in 0..SKUS {
            let _ = engine.stock(sku, doorbuster::Adjust::set(0).expect(0).key(1 << 64));
        }
        let limit = SaleRules::new().buyer_limit(LIMIT);
        engine.rules(LIMITED, limit).expect("accepted").wait().expect("durable");
        engine.close().expect("closes");
        let mut random = Rng::with_seed(seed);
        for round in 0..rounds {
            let bits = random.u64(..13);
            let moment = match random.u64(..6) {
                0 => Moment::Opening,
                _ => Moment::After(random.u64(..1 << bits)),
            };
            let told = parent.run_child(folder.path(), round, moment);
            let engine = Engine::open(child::options(folder.path(), round)).expect("opens again");
            eprintln!(
                "round {round}, {moment:?}: {} acknowledged, {} orders, {:?}",
                told.acknowledged,
                engine.stats().orders,
                engine.recovery()
            );
            parent.check(&engine, round, told);
            if random.u64(..100) < 50 {
                engine.close().expect("closes");
            }
        }
    }
}

struct Parent {
    seed: u64,
    known: BTreeMap<Key, Known>,
    orders: HashMap<OrderId, Key>,
}

impl Parent {
    fn run_child(&self, folder: &Path, round: u64, moment: Moment) -> Told {
        let mut process = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "--ignored", "--nocapture", "child_under_load"])
            .env(child::FOLDER, folder)
            .env(child::SEED, self.seed.to_string())
            .env(child::ROUND, round.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut out = BufReader::new(process.stdout.take().expect("piped"));
        let mut told = Told::default();
        let mut killed = false;
        let mut line = String::new();
        while out.read_line(&mut line).expect("UTF-8") > 0 {
            // A line that the kill cut short does not count.
            if let Some(words) = line.strip_suffix('\n').and_then(|line| line.strip_prefix('!')) {
                told.note(words);
                let is_time = match moment {
                    Moment::Opening => true,
                    Moment::After(count) => words != "opening" && told.acknowledged >= count,
                };
                if is_time && !killed {
                    process.kill().expect("kills");
                    killed = true;
                }
            }
            line.clear();
        }
        let status = process.wait().expect("ends");
        assert!(killed && status.code().is_none(), "the child ended by itself: {status}");
        told
    }

    /// Checks that everything that was acknowledged is there. Then it sends every key again that the child may have
    /// sent, so that all orders are known and the sums can be checked.
    fn check(&mut self, engine: &Engine, round: u64, told: Told) {
        for (key, known) in &told.keys {
            let Some((order, deadline_ms)) = known.held else { continue };
            let plan = plan(self.seed, *key);
            let view = engine.order(order).unwrap_or_else(|error| panic!("{key:?}: {error}"));
            assert!(view.durable || view.state == OrderState::Expired, "{key:?}: {view:?}");
            assert_eq!((view.buyer, view.key), (plan.order.buyer(), plan.order.key()), "{key:?}");
            assert_eq!(view.deadline_ms, deadline_ms, "{key:?}");
            let states = plan.states_after(known.verbs);
            assert!(states.contains(&view.state), "{key:?}: {:?}, not in {states:?}", view.state);
        }
        let mut last = [None; THREADS as usize];
        for key in told.keys.keys() {
            last[key.thread as usize] = Some(key.nth);
        }
        for (thread, last) in (0..).zip(last) {
            for nth in 0..=last.map_or(WINDOW, |last| last + WINDOW) {
                let key = Key { round, thread, nth };
                let known = told.keys.get(&key).cloned().unwrap_or_default();
                self.send_again(engine, key, known);
            }
        }
        for sku in 0..SKUS {
            let (again, _) = delivery(self.seed, round, sku);
            let added = engine.stock(sku, again).expect("accepted").wait().expect("durable");
            let Adjusted::Done { replayed, .. } = added else { panic!("{added:?}") };
            assert!(replayed || !told.deliveries.contains(&sku), "delivery {round} of {sku}");
        }
        // Keys of earlier rounds too.
        let mut random = stream(self.seed ^ 3, round);
        let sent: Vec<Key> = self.known.keys().copied().collect();
        for _ in 0..200.min(sent.len()) {
            let key = sent[random.u64(..sent.len() as u64) as usize];
            self.send_again(engine, key, self.known[&key].clone());
        }
        self.add_up(engine, round);
    }

    fn send_again(&mut self, engine: &Engine, key: Key, mut known: Known) {
        let plan = plan(self.seed, key);
        let placed = engine.place(&plan.order).expect("accepted").wait().expect("durable");
        match (&placed, known.held) {
            (Placed::Held(held), Some((order, deadline_ms))) => {
                assert!(held.replayed, "{key:?} has an order, and got another: {held:?}");
                assert_eq!((held.order, held.deadline_ms), (order, deadline_ms), "{key:?}");
            }
            (Placed::Held(held), None) => {
                assert!(!held.replayed || !known.refused, "{key:?} was refused: {held:?}");
                known.held = Some((held.order, held.deadline_ms));
            }
            (Placed::Refused(_), None) => {}
            (_, _) => panic!("{key:?}, {known:?}: {placed:?}"),
        }
        if let Some((order, _)) = known.held {
            let other = self.orders.insert(order, key);
            assert!(
                other.is_none_or(|other| other == key),
                "{order} given to {key:?} and {other:?}"
            );
        } else {
            known.refused = true;
        }
        self.known.insert(key, known);
    }

    /// The sums of all orders are the engine's sums, and there is no order that the child did not send.
    fn add_up(&self, engine: &Engine, round: u64) {
        assert_eq!(engine.stats().orders, self.orders.len() as u64, "orders");
        let views: Vec<OrderView> = self
            .orders
            .keys()
            .map(|order| {
                let viewed = engine.order(*order).expect("known");
                viewed.when_durable().wait().expect("durable")
            })
            .collect();
        let mut of_buyer: HashMap<_, u32> = HashMap::new();
        for sku in 0..SKUS {
            let units = |states: &[OrderState]| -> i64 {
                let views = views.iter().filter(|view| states.contains(&view.state));
                let lines = views.flat_map(|view| &view.lines);
                lines.filter(|l| l.sku.get() == sku).map(|l| i64::from(l.quantity.get())).sum()
            };
            let held = units(&[OrderState::Held]);
            let sold = units(&[OrderState::Confirmed, OrderState::Fulfilled]);
            let stocked: i64 =
                (0..=round).map(|round| i64::from(delivery(self.seed, round, sku).1)).sum();
            let levels = engine.levels(sku).expect("known");
            assert_eq!((levels.stocked, levels.sold), (stocked, sold), "SKU {sku}");
            // A hold may end between the views and the figures.
            assert!(levels.held <= held, "SKU {sku}: {levels:?}, {held} held");
            assert!(held + sold <= stocked && levels.available >= 0, "SKU {sku} oversold");
        }
        for view in views {
            if matches!(view.state, OrderState::Cancelled | OrderState::Expired) {
                continue;
            }
            for line in view.lines.iter().filter(|line| line.sku == LIMITED) {
                let units = of_buyer.entry(view.buyer).or_default();
                *units += line.quantity.get();
                assert!(*units <= LIMIT, "{} has {units} units of {LIMITED}", view.buyer);
            }
        }
    }
}

impl Told {
    fn note(&mut self, words: &str) {
        let mut words = words.split(' ');
        let verb = words.next().expect("a verb");
        let mut number = || words.next().expect("a number").parse::<u64>().expect("a number");
        match verb {
            "opening" | "open" => return,
            "add" => self.deliveries.push(number()),
            _ => {
                let known = self.keys.entry(Key::from_number(number())).or_default();
                match verb {
                    "held" => known.held = Some((OrderId::from_u64(number()), number())),
                    "refused" => known.refused = true,
                    "ended" => known.verbs += 1,
                    other => panic!("the child said {other}"),
                }
            }
        }
        self.acknowledged += 1;
    }
}
