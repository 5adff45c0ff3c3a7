//! What is checked when the orders are sent: no unit was sold that was never stocked, none is missing, every order
//! that can still be answered is there with its key, and no order is there that no caller received.

use std::error::Error;
use std::thread;

use doorbuster::{Engine, OrderError, OrderState, Placed, Quantity};

use crate::args::Args;
use crate::load::{Fulfilled, Ledger};
use crate::plan::Plan;
use crate::shared::findings::Findings;
use crate::shared::progress::Progress;

type Failure = Box<dyn Error + Send + Sync>;

/// How many orders a thread looks up before it tells its progress.
const ORDERS_PER_TELLING: u64 = 4096;

/// Compares the engine's sums with what was acknowledged over the whole run.
pub(crate) fn compare_levels(
    engine: &Engine,
    plan: &Plan,
    ledger: &Ledger,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let (mut oversold, mut lost, mut extra) = (0, 0, 0);
    let mut unlike = None;
    for sku in 0..plan.skus {
        let levels = engine.levels(Plan::sku(sku)).ok_or_else(|| format!("SKU {sku} is gone"))?;
        let (stocked, sold) = (plan.units(sku), ledger.sold(sku));
        let there = levels.sold.max(0) as u64;
        oversold += there.max(sold).saturating_sub(stocked);
        lost += sold.saturating_sub(there);
        extra += there.saturating_sub(sold);
        let is_so = levels.add_up()
            && (levels.stocked, levels.sold) == (stocked as i64, sold as i64)
            && (levels.held, levels.returning) == (0, 0);
        if !is_so {
            unlike.get_or_insert((sold, levels));
        }
    }
    findings.oversold = findings.oversold.max(oversold);
    findings.prove(oversold == 0, || format!("{oversold} units were sold that were never stocked"));
    findings.lost += lost;
    findings.prove(lost == 0, || format!("{lost} units of acknowledged orders are not sold"));
    findings.duplicated(extra, || format!("{extra} units are sold that no caller received"));
    if let Some((sold, levels)) = unlike {
        findings.words.push(format!("{sold} units sold by the answers, but {levels:?}"));
    }
    Ok(())
}

/// Looks up every order that may still be there and sends its key once more, looks up some that left long
/// ago, and asks for one unit more of what is sold out. The engine was closed at `closed_ms`.
pub(crate) fn look_up_and_retry(
    args: &Args,
    engine: &Engine,
    plan: &Plan,
    ledger: &Ledger,
    closed_ms: u64,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let there = engine.stats().orders;
    // Those asked for before may have left by the close.
    let kept_from_ms = closed_ms.saturating_sub(args.retention_ms.into());
    let proof = Proof { engine, plan, kept_from_ms };
    let progress = Progress::new("proof after the reopen", "orders", args.remembered());
    let parts = thread::scope(|scope| {
        let lookers: Vec<_> = ledger
            .latest()
            .into_iter()
            .map(|latest| scope.spawn(|| proof.look_up_all(latest, &progress)))
            .collect();
        lookers.into_iter().map(|looker| looker.join()).collect::<Vec<_>>()
    });
    progress.finish();
    let mut found = 0;
    for part in parts {
        let (part_found, part) = part.map_err(|_| "a proof panicked")??;
        found += part_found;
        *findings += part;
    }
    findings.duplicated(there.saturating_sub(found), || {
        format!("{there} orders are in memory, but {found} of those that were told can be")
    });
    proof.look_up_old(ledger, findings);
    proof.find_sold_out(findings)
}

struct Proof<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    /// Orders that were fulfilled later are still there.
    kept_from_ms: u64,
}

impl Proof<'_> {
    /// Returns how many are there.
    fn look_up_all(
        &self,
        latest: impl Iterator<Item = (u64, Fulfilled)>,
        progress: &Progress,
    ) -> Result<(u64, Findings), Failure> {
        let mut findings = Findings::default();
        let (mut found, mut looked) = (0, 0);
        for (number, fulfilled) in latest {
            found += u64::from(self.look_up(number, fulfilled, &mut findings)?);
            looked += 1;
            if looked == ORDERS_PER_TELLING {
                progress.add(std::mem::take(&mut looked));
            }
        }
        progress.add(looked);
        Ok((found, findings))
    }

    /// Whether it is there.
    fn look_up(
        &self,
        number: u64,
        fulfilled: Fulfilled,
        findings: &mut Findings,
    ) -> Result<bool, Failure> {
        let Fulfilled { order, asked_ms } = fulfilled;
        let view = match self.engine.order(order) {
            Ok(view) => view,
            Err(OrderError::Retired { .. }) if asked_ms <= self.kept_from_ms => return Ok(false),
            Err(error) => {
                findings.lost(|| format!("an acknowledged order is gone: {error}"));
                return Ok(false);
            }
        };
        let is_its_line = matches!(view.lines[..], [line]
            if line.sku == Plan::sku(self.plan.sku_of(number)) && line.quantity == Quantity::new(1));
        let is_same = view.order == order
            && view.buyer == self.plan.buyer(number)
            && view.key == Plan::key(number)
            && view.state == OrderState::Fulfilled
            && view.durable
            && is_its_line;
        if !is_same {
            findings.lost(|| format!("acknowledged, but changed: order {number}, now {:?}", *view));
        }
        match self.engine.place(self.plan.order(number))?.wait()? {
            Placed::Held(held) if held.replayed && held.order == order => {}
            other => findings
                .duplicated(1, || format!("retry of {order} after the reopen was told {other:?}")),
        }
        Ok(true)
    }

    /// An order that left long ago is never unknown.
    fn look_up_old(&self, ledger: &Ledger, findings: &mut Findings) {
        for (number, order) in ledger.old() {
            match self.engine.order(order) {
                Ok(view) if view.key == Plan::key(number) => {}
                Err(OrderError::Retired { .. }) => {}
                other => findings.lost(|| format!("order {number} of before is told {other:?}")),
            }
        }
    }

    fn find_sold_out(&self, findings: &mut Findings) -> Result<(), Failure> {
        for sku in 0..self.plan.skus {
            let available = self.engine.levels(Plan::sku(sku)).map(|levels| levels.available);
            if available != Some(0) {
                continue;
            }
            // A number that no order has.
            let number = self.plan.orders.next_multiple_of(self.plan.skus.into()) + u64::from(sku);
            let placed = self.engine.place(self.plan.order(number))?.wait()?;
            if placed.held().is_some() {
                findings.oversold += 1;
                findings.words.push(format!("{placed:?} of a SKU that is sold out"));
            }
        }
        Ok(())
    }
}
