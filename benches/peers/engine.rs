//! doorbuster itself, in the same harness.

use std::collections::VecDeque;
use std::time::Duration;

use doorbuster::{
    Adjust, Commit, Durability, Engine, Options, Order, PlaceError, Placed, RequestKey, SkuId,
    Unavailable,
};

use crate::work::{Answer, Work, buyer, key};

const HOT: SkuId = SkuId::new(1);
/// How many commits a thread keeps in flight. The engine that keeps one file has the same.
pub(crate) const WINDOW: usize = 32 * 1024;

/// Sells on a new folder; returns how long the selling took.
pub(crate) fn sell(work: Work, durability: Durability) -> Duration {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options::new(folder.path()).durability(durability).orders_reserved(work.units);
    let engine = Engine::open(options).expect("an empty folder opens");
    let units = u32::try_from(work.units).expect("few enough");
    let stocked = engine.stock(HOT, Adjust::add(units).key(RequestKey::new(1)));
    let _ = stocked.expect("valid").wait().expect("durable");

    let (answers, elapsed) = work.call_all(|caller| call(&engine, work, caller));
    work.check(answers, |request| order_of(&place(&engine, request).wait().expect("durable")));
    engine.close().expect("closed");
    elapsed
}

fn call(engine: &Engine, work: Work, caller: u64) -> Vec<Answer> {
    let share = work.share(caller);
    let mut answers = Vec::with_capacity((share.end - share.start) as usize);
    let mut window: VecDeque<(u64, Commit<Placed>)> = VecDeque::with_capacity(WINDOW);
    let settle = |(request, commit): (u64, Commit<Placed>)| {
        (request, order_of(&commit.wait().expect("durable")))
    };
    for request in share {
        if window.len() == WINDOW {
            answers.extend(window.pop_front().map(settle));
        }
        window.push_back((request, place(engine, request)));
    }
    answers.extend(window.into_iter().map(settle));
    answers
}

fn place(engine: &Engine, request: u64) -> Commit<Placed> {
    let order = Order::new(buyer(request), RequestKey::new(key(request).into())).line(HOT, 1);
    loop {
        match engine.place(&order) {
            Ok(commit) => return commit,
            Err(PlaceError::Unavailable(Unavailable::Backlogged { .. })) => {
                engine.ready().wait().expect("the log goes on");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn order_of(placed: &Placed) -> Option<u64> {
    placed.held().map(|held| held.order.get())
}
