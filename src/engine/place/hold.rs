//! Step 6 of the request path: the stock of an order's lines.
//!
//! All orders take their lines in ascending order of SKU, so no two of them can wait for each other. What a cart has
//! taken is tentative until it has its last line (rule R5). A request that finds too little in between waits for the
//! outcome of that cart.
//!
//! A line of a partial order is filled short only at a moment at which nothing of its SKU was tentative: no cart that
//! fails later could have made it more. That holds line by line (rule R7). The lines of a partial order are short as
//! of different moments, all between its call and its answer.

use std::borrow::Cow;

use crossbeam_utils::Backoff;

use crate::engine::core::Core;
use crate::engine::place::gate::Tokens;
use crate::engine::place::holding::{Holding, Wanted, note_held};
use crate::engine::place::skus::Skus;
use crate::engine::waiting;
use crate::ids::{OrderId, Quantity};
use crate::mutants::{self, Mutant};
use crate::order::{Line, Policy, Refusal, Request};
use crate::stock::{Sku, Take, TakeSome};

pub(in crate::engine) fn hold<'a>(core: &Core, skus: &Skus<'_>, wanted: Wanted<'a>) -> Holding<'a> {
    match wanted.filling.policy {
        Policy::Partial => hold_some(core, skus, wanted),
        _ => hold_all(core, skus, wanted.lines),
    }
}

/// Holds stock of SKUs with rules: their merchants may have a rate, and the order may wait.
pub(in crate::engine) fn hold_by_rules<'a>(
    core: &Core,
    request: &Request<'_>,
    skus: &Skus<'_>,
    wanted: Wanted<'a>,
    order: OrderId,
) -> Holding<'a> {
    let tokens = match Tokens::take(core, skus) {
        Ok(tokens) => tokens,
        Err(refusal) => return Holding::Short(refusal),
    };
    let holding = match list_of(request, skus) {
        Some((sku, bound)) => waiting::take_or_join(core, sku, bound, request, wanted, order),
        None => hold(core, skus, wanted),
    };
    if !matches!(holding, Holding::Held(_) | Holding::Waits(_)) {
        tokens.give_back(core);
    }
    holding
}

/// Returns the SKU that the order may wait for, and how many orders may wait.
fn list_of<'a>(request: &Request<'_>, skus: &Skus<'a>) -> Option<(&'a Sku, u32)> {
    let sku = skus.single().filter(|_| request.may_wait())?;
    Some((sku, sku.waiting_max())).filter(|(_, bound)| *bound > 0)
}

/// A single line is one compare-exchange.
fn hold_all<'a>(core: &Core, skus: &Skus<'_>, lines: &'a [Line]) -> Holding<'a> {
    if let ([line], Some(sku)) = (lines, skus.single()) {
        let units = line.quantity.get();
        let take = settle_open(Take::Open, || sku.hot.available.take(units));
        if let Some(holding) = failed(sku, units, take) {
            return holding;
        }
        note_held(sku, units);
        return Holding::Held(Cow::Borrowed(lines));
    }
    if let Some((nth, sku, take)) = take_full(skus, lines)
        && let Some(holding) = failed(sku, lines[nth].quantity.get(), take)
    {
        undo(core, skus, &lines[..nth]);
        return holding;
    }
    settle(skus, lines);
    Holding::Held(Cow::Borrowed(lines))
}

/// Takes the lines of a cart in full, tentatively, up to the first one that cannot be had.
#[inline]
fn take_full<'a>(skus: &Skus<'a>, lines: &[Line]) -> Option<(usize, &'a Sku, Take)> {
    for (nth, (sku, line)) in skus.iter().zip(lines).enumerate() {
        if nth > 0 {
            mutants::pause();
        }
        let units = line.quantity.get();
        let take = settle_open(Take::Open, || sku.hot.available.take_tentatively(units));
        if take != Take::Taken {
            return Some((nth, sku, take));
        }
    }
    None
}

fn failed<'a>(sku: &Sku, units: u32, take: Take) -> Option<Holding<'a>> {
    match take {
        Take::Taken => None,
        Take::Short { available } => Some(short(sku, units, available)),
        Take::Open => Some(Holding::Open(sku.id)),
        Take::OthersWait => Some(Holding::Short(Refusal::OthersWaiting { sku: sku.id })),
    }
}

fn short<'a>(sku: &Sku, wanted: u32, available: i64) -> Holding<'a> {
    // A thread that was held up between its change and its note may have left a wrong hint.
    sku.note_change();
    Holding::Short(Refusal::SoldOut { sku: sku.id, wanted: Quantity::new(wanted), available })
}

/// Takes of each line as much as there is, at least its minimum, and of one line at least one unit.
fn hold_some<'a>(core: &Core, skus: &Skus<'_>, wanted: Wanted<'a>) -> Holding<'a> {
    let is_cart = wanted.lines.len() > 1;
    let mut held = Cow::Borrowed(wanted.lines);
    let mut first = 0;
    // Mostly there is enough of all lines. Then it costs what a cart costs that takes all or nothing.
    if is_cart && wanted.caps.is_empty() {
        match take_full(skus, wanted.lines) {
            Some((nth, ..)) => first = nth,
            None => {
                settle(skus, wanted.lines);
                return Holding::Held(held);
            }
        }
    }
    let mut nothing = None;
    for (nth, (sku, line)) in skus.iter().zip(wanted.lines).enumerate().skip(first) {
        if nth > 0 {
            mutants::pause();
        }
        let (least, most) = (wanted.filling.minimum(nth), wanted.most(nth));
        let least = if mutants::is(Mutant::TakesBelowMinimum) { 0 } else { least };
        let taken = settle_open(TakeSome::Open, || match most {
            0 => TakeSome::Taken(0),
            _ => sku.hot.available.take_some(least, most, is_cart),
        });
        let refused = match taken {
            TakeSome::Taken(units) => {
                if units != line.quantity.get() {
                    held.to_mut()[nth].quantity = Quantity::new(units);
                }
                continue;
            }
            TakeSome::Short { available } => short(sku, least.max(1), available),
            TakeSome::OthersWait => Holding::Short(Refusal::OthersWaiting { sku: sku.id }),
            TakeSome::Open => Holding::Open(sku.id),
        };
        if least > 0 || taken == TakeSome::Open {
            undo(core, skus, &held[..nth]);
            return refused;
        }
        held.to_mut()[nth].quantity = Quantity::new(0);
        nothing.get_or_insert(refused);
    }
    match nothing.filter(|_| held.iter().all(|line| line.quantity.get() == 0)) {
        Some(refused) => refused,
        None => {
            settle(skus, &held);
            Holding::Held(held)
        }
    }
}

/// The order is held: the units of a cart are no longer tentative.
fn settle(skus: &Skus<'_>, held: &[Line]) {
    let is_cart = held.len() > 1;
    for (sku, line) in skus.iter().zip(held).filter(|(_, line)| line.quantity.get() > 0) {
        if is_cart {
            sku.hot.available.settle(line.quantity.get());
        }
        note_held(sku, line.quantity.get());
    }
}

/// A later line cannot be had: the lines before it are returned to stock.
fn undo(core: &Core, skus: &Skus<'_>, taken: &[Line]) {
    for (sku, line) in skus.iter().zip(taken).filter(|(_, line)| line.quantity.get() > 0) {
        if sku.hot.available.undo(line.quantity.get()) {
            core.promotions.ask(sku);
        }
    }
}

/// Looks again for a bounded time while carts in flight keep the answer open.
pub(super) fn settle_open<T: PartialEq>(open: T, mut take: impl FnMut() -> T) -> T {
    let backoff = Backoff::new();
    loop {
        let taken = take();
        if taken != open || backoff.is_completed() {
            return taken;
        }
        backoff.snooze();
    }
}
