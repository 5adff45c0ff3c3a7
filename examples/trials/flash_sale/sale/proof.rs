//! What is proved after the kill: every acknowledged order is there, no unit was sold twice, no key has two orders,
//! every retry receives its first order, the levels add up.

use std::error::Error;
use std::sync::Mutex;

use doorbuster::{Engine, Held, OrderState, Placed, Quantity};

use super::caller::{self, Answered, Listener};
use super::ledger::{Known, Ledger};
use super::plan::{Plan, SKU};
use crate::shared::findings::Findings;
use crate::shared::progress::Progress;

type Failure = Box<dyn Error + Send + Sync>;

/// How many answers a thread gathers before it takes the lock.
const ANSWERS_PER_LOCK: usize = 1024;

/// Looks up every acknowledged order by its id and compares all of its content with the request.
pub(crate) fn look_up(
    engine: &Engine,
    plan: &Plan,
    acknowledged: &[(u32, Known)],
    findings: &mut Findings,
) {
    let progress =
        Progress::new("look-up of acknowledged orders", "orders", acknowledged.len() as u64);
    for (key, known) in acknowledged {
        match engine.order(known.order) {
            Err(error) => findings.lost(|| format!("an acknowledged order is gone: {error}")),
            Ok(view) => {
                let same = view.order == known.order
                    && view.deadline_ms == known.deadline_ms
                    && view.buyer == plan.buyer(*key)
                    && view.key == Plan::request_key(*key)
                    && matches!(view.lines[..], [line]
                        if line.sku == SKU && line.quantity == Quantity::new(1))
                    && view.payload.is_empty()
                    && view.state == OrderState::Held
                    && view.durable;
                if !same {
                    let view = &*view;
                    findings.lost(|| format!("acknowledged, but changed: {known:?}, now {view:?}"));
                }
            }
        }
        progress.add(1);
    }
    progress.finish();
}

/// Sends the requests that no answer is known to and enters their answers.
pub(crate) fn send_remaining(
    engine: &Engine,
    plan: &Plan,
    remaining: &[u32],
    threads: usize,
    ledger: &mut Ledger<'_>,
) -> Result<(), Failure> {
    let progress = Progress::new("sale, after the kill", "requests", remaining.len() as u64);
    let shared = Mutex::new(|batch: &[(u32, Option<Held>)]| {
        for &(request, held) in batch {
            ledger.enter(request, held);
        }
    });
    let clerks = (0..threads).map(|_| Clerk::new(&shared, &progress)).collect();
    caller::send_all(engine, plan, remaining, clerks)?;
    progress.finish();
    Ok(())
}

/// Sends every key that has an order once more: each must receive that order, now that nothing is left to sell.
pub(crate) fn retry_all(
    engine: &Engine,
    plan: &Plan,
    ledger: &Ledger<'_>,
    threads: usize,
    findings: &mut Findings,
) -> Result<(), Failure> {
    // The number of a key is the request that had it first.
    let keys: Vec<u32> = ledger.orders().into_iter().map(|(key, _)| key).collect();
    let progress = Progress::new("retries of every held key", "requests", keys.len() as u64);
    let shared = Mutex::new(|batch: &[(u32, Option<Held>)]| {
        for &(key, held) in batch {
            check_retry(key, held, ledger.order(key), findings);
        }
    });
    let clerks = (0..threads).map(|_| Clerk::new(&shared, &progress)).collect();
    caller::send_all(engine, plan, &keys, clerks)?;
    progress.finish();
    Ok(())
}

fn check_retry(key: u32, held: Option<Held>, known: Option<Known>, findings: &mut Findings) {
    let first = known.map(|known| (known.order, known.deadline_ms));
    match held {
        None => findings.lost(|| format!("key {key} has an order, but its retry was refused")),
        Some(held) if Some((held.order, held.deadline_ms)) != first || !held.replayed => {
            findings.duplicated(1, || format!("retry of key {key}: {held:?}, first {first:?}"));
        }
        Some(_) => {}
    }
}

/// Compares the engine's books with the ledger, once every request has an answer.
pub(crate) fn compare_books(
    engine: &Engine,
    plan: &Plan,
    stock: u32,
    ledger: &Ledger<'_>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let levels = engine.levels(SKU).ok_or("the SKU of the sale is gone")?;
    let tally = ledger.tally();
    let stock = u64::from(stock);
    let levels_held = u64::try_from(levels.held).unwrap_or(0);

    let breaches = ledger.duplicated();
    findings.duplicated(breaches, || format!("{breaches} answers gave a key a second order"));
    let orders = engine.stats().orders;
    let surplus = orders.saturating_sub(tally.held);
    findings.duplicated(surplus, || format!("{surplus} orders that answer to no request"));
    findings.oversold = tally.held.max(levels_held).max(orders).saturating_sub(stock);

    let oversold = tally.held.max(levels_held).max(orders).saturating_sub(stock);
    findings.prove(oversold == 0, || format!("{oversold} units were sold that were never stocked"));
    findings.prove(levels.add_up(), || format!("the levels do not add up: {levels:?}"));
    findings
        .prove(levels.stocked == stock as i64 && levels.sold == 0 && levels.returning == 0, || {
            format!("{stock} units were stocked and none was paid or given back, but {levels:?}")
        });
    findings.prove(levels_held == tally.held && orders == tally.held, || {
        format!("{} keys have an order, but {orders} orders and {levels:?}", tally.held)
    });
    let answered = tally.held + tally.refused + tally.replayed;
    findings.prove(answered == u64::from(plan.requests()), || {
        format!("{answered} of {} requests were answered", plan.requests())
    });
    let sold = plan.units_sold(stock as u32);
    findings.prove(tally.held == sold, || {
        format!("{sold} units should have been sold in the end, but {} were", tally.held)
    });
    Ok(())
}

/// A calling thread's listener that hands its answers over in batches.
struct Clerk<'a, F> {
    shared: &'a Mutex<F>,
    batch: Vec<(u32, Option<Held>)>,
    progress: &'a Progress,
}

impl<'a, F: FnMut(&[(u32, Option<Held>)])> Clerk<'a, F> {
    fn new(shared: &'a Mutex<F>, progress: &'a Progress) -> Self {
        Self { shared, batch: Vec::with_capacity(ANSWERS_PER_LOCK), progress }
    }

    fn hand_over(&mut self) {
        let mut take = self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        take(&self.batch);
        self.progress.add(self.batch.len() as u64);
        self.batch.clear();
    }
}

impl<F: FnMut(&[(u32, Option<Held>)])> Listener for Clerk<'_, F> {
    fn answered(&mut self, answer: Answered) -> Result<(), Failure> {
        let held = match answer.placed {
            Placed::Held(held) => Some(held),
            Placed::Refused(_) => None,
            other => return Err(format!("request {} heard {other:?}", answer.request).into()),
        };
        self.batch.push((answer.request, held));
        if self.batch.len() == ANSWERS_PER_LOCK {
            self.hand_over();
        }
        Ok(())
    }

    fn resting(&mut self) -> Result<(), Failure> {
        self.hand_over();
        Ok(())
    }
}
