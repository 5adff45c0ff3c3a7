//! Orders that join while the promoter serves: after it has found the first order, and before it takes the unit.
//!
//! The promoter reads the clock in between, under the lock of the partition of the order that it wants to serve. So
//! a clock that calls the test can add an order there.

use std::fmt;
use std::sync::{Arc, Mutex};

use doorbuster::OrderState::{Held, Waiting};
use doorbuster::clock::Clock;
use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Engine, Fill, Options, Order, OrderId, Placed, RequestKey, SaleRules, served_in_turn_on,
};

use crate::PATIENCE;
use crate::shop::SKU;

type Meanwhile = Box<dyn FnMut() + Send>;

/// A clock that calls the test whenever the boot clock is read.
#[derive(Default)]
struct CallingClock {
    hands: ManualClock,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl CallingClock {
    fn set(&self, meanwhile: Option<Meanwhile>) -> Option<Meanwhile> {
        std::mem::replace(&mut self.meanwhile.lock().expect("no panic"), meanwhile)
    }
}

impl fmt::Debug for CallingClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallingClock").finish_non_exhaustive()
    }
}

impl Clock for CallingClock {
    fn wall_ms(&self) -> u64 {
        self.hands.wall_ms()
    }

    fn boot_ns(&self) -> u64 {
        // The closure is taken out while it runs, because it reads the clock, too.
        if let Some(mut meanwhile) = self.set(None) {
            meanwhile();
            self.set(Some(meanwhile));
        }
        self.hands.boot_ns()
    }

    fn boot_id(&self) -> u64 {
        self.hands.boot_id()
    }
}

/// Two buyers of different partitions, by the crate's fixed hash. While one partition is locked, the buyer of the
/// other can join.
const BUYERS: [u64; 2] = [1, 1_000_003];

/// The `nth` order, of a lower class than all before.
fn order(nth: u8) -> Order {
    let buyer = BUYERS[usize::from(nth) % 2];
    let order = Order::new(buyer, RequestKey::new(nth.into())).line(SKU, 1).class(7 - nth);
    order.fill(Fill::Wait { patience: PATIENCE })
}

fn join(engine: &Engine, nth: u8) -> OrderId {
    match engine.place(order(nth)).expect("an answer").peek().expect("an answer") {
        Placed::Waiting(waiting) => waiting.order,
        other => panic!("waiting, not {other:?}"),
    }
}

/// Whenever the promoter has found the first order, an order of a lower class joins, and is first from then on.
#[test]
fn an_order_that_joins_before_the_unit_is_taken_is_served_in_turn() {
    let (clock, storage) = (Arc::new(CallingClock::default()), MemoryStorage::new());
    let options = Options::on_storage(Arc::new(storage.clone()));
    let options = options.clock(clock.clone()).partitions(4).log_shards(1).segment_bytes(1 << 20);
    let mut engine = SteppedEngine::open(options).expect("opens");
    drop(engine.stock(SKU, Adjust::set(0).expect(0).key(1)).expect("there is room"));
    engine.run_until_idle();
    drop(engine.rules(SKU, SaleRules::new().waiting_max(10)).expect("known"));
    engine.run_until_idle();
    let joined = Arc::new(Mutex::new(vec![join(&engine, 0)]));
    drop(engine.stock(SKU, Adjust::add(1).key(2)).expect("there is room"));
    while engine.step_writer(0) == doorbuster::testing::Step::Wrote {}
    clock.set(Some(Box::new({
        let (engine, joined) = (engine.engine().clone(), joined.clone());
        move || {
            let mut joined = joined.lock().expect("no panic");
            let is_there = engine.levels(SKU).is_some_and(|levels| levels.available > 0);
            if is_there && joined.len() < 8 {
                let nth = joined.len() as u8;
                joined.push(join(&engine, nth));
            }
        }
    })));
    while engine.step_timekeeper() {}
    // The closure has a handle of the engine, which has the clock.
    drop(clock.set(None));
    engine.run_until_idle();
    let joined = std::mem::take(&mut *joined.lock().expect("no panic"));
    let states = joined.iter().map(|order| engine.order(*order).expect("known").state);
    let states: Vec<_> = states.collect();
    assert!(states.len() > 2, "the promoter reads the clock before it serves");
    let (last, others) = states.split_last().expect("some");
    assert_eq!(*last, Held, "{states:?}");
    assert!(others.iter().all(|state| *state == Waiting), "{states:?}");
    engine.close().expect("closes");
    let turns = served_in_turn_on(Arc::new(storage)).expect("a whole log");
    assert_eq!((turns.promoted, turns.out_of_turn), (1, 0));
}
