//! What the rules say about a request (steps 2 and 5 of the request path) and about an order's verbs:
//! switches, opening and closing, the hold time, the merchants' rates.
//!
//! All of it is read from words that hardly ever change, without a lock. The look under the partition's lock counts:
//! a change of rules takes every partition's lock once before it is answered (rule R9). An earlier look may answer a
//! request whose key has no order by then, as a refusal that is certain (rule R1). An opening is compared with engine
//! time, which is one for all partitions and never steps back: after one request was held, no later request is
//! refused as not open.

use crate::engine::core::Core;
use crate::engine::place::skus::Skus;
use crate::mutants::{self, Mutant};
use crate::order::{Refusal, Request, Scope, Switch};
use crate::partition::Slot;
use crate::stock::{Empty, Sku, Token};

const NS_PER_MS: u64 = 1_000_000;

/// Under which terms a request may be held.
pub(in crate::engine) struct Terms {
    /// No rule is about any of its SKUs.
    pub(in crate::engine) is_plain: bool,
    pub(in crate::engine) hold_ms: u32,
    /// The engine time by which the rules were looked at, and the hold begins.
    pub(in crate::engine) now_ms: u64,
}

/// Whether the rules let a request be held now; the caller has read the time under the partition's lock.
pub(in crate::engine) fn check(
    core: &Core,
    request: &Request<'_>,
    skus: &Skus<'_>,
    now_ms: u64,
) -> Result<Terms, Refusal> {
    match is_plain(core, skus.iter()) {
        true => Ok(Terms { is_plain: true, hold_ms: request.hold_ms, now_ms }),
        false => look(core, request, skus, now_ms),
    }
}

/// A refusal by the rules that is certain now, returned without a lock; the caller looks at the key afterwards.
pub(in crate::engine) fn certain_refusal(
    core: &Core,
    request: &Request<'_>,
    skus: &Skus<'_>,
) -> Option<Refusal> {
    look(core, request, skus, core.time.now_ms()).err()
}

/// The merchant that has no token left for this request now, found without a lock.
pub(in crate::engine) fn certainly_rate_limited(core: &Core, skus: &Skus<'_>) -> Option<Refusal> {
    let mut owners = skus.iter().filter_map(Sku::rules).flat_map(|rules| rules.owners());
    owners.find_map(|owner| {
        let merchant = core.switches.merchants.get(owner);
        let looked = merchant.bucket().look(merchant.pace()?, core.time.boot_ns());
        looked.err().map(|empty| rate_limited(core, owner, empty))
    })
}

/// Whether no rule is about any of these SKUs.
#[inline]
pub(in crate::engine) fn is_plain<'a>(
    core: &Core,
    mut skus: impl Iterator<Item = &'a Sku>,
) -> bool {
    skus.all(Sku::is_plain) && core.switches.engine() == Switch::Open
}

#[cold]
#[inline(never)]
fn look(
    core: &Core,
    request: &Request<'_>,
    skus: &Skus<'_>,
    now_ms: u64,
) -> Result<Terms, Refusal> {
    if let Some(refusal) = switched(core, skus.iter()) {
        return Err(refusal);
    }
    let mut hold_ms = None;
    for sku in skus.iter() {
        let rules = sku.rules();
        if let Some(rules) = rules {
            let opens_at_ms = rules.opens_at_ms(request.class);
            if now_ms < opens_at_ms {
                return Err(Refusal::NotOpen { sku: sku.id, opens_at_ms, now_ms });
            }
            let closed_at_ms = rules.closes_at_ms();
            if now_ms >= closed_at_ms {
                return Err(Refusal::Closed { sku: sku.id, closed_at_ms });
            }
        }
        let its_ms = rules.and_then(|rules| rules.hold_ms()).unwrap_or(request.hold_ms);
        hold_ms = Some(hold_ms.map_or(its_ms, |hold_ms: u32| hold_ms.min(its_ms)));
    }
    let left_to_us = hold_ms.filter(|_| request.default_hold);
    let hold_ms = left_to_us.unwrap_or(request.hold_ms).min(core.bounds.hold_max_ms);
    Ok(Terms { is_plain: false, hold_ms, now_ms })
}

/// What a switch says about a request for these SKUs, unless all are open.
pub(in crate::engine) fn switched<'a>(
    core: &Core,
    skus: impl Iterator<Item = &'a Sku>,
) -> Option<Refusal> {
    strictest(core, skus)
        .filter(|(_, switch)| {
            *switch != Switch::NoNewHolds || !mutants::is(Mutant::HoldsUnderNoNewHolds)
        })
        .map(|(scope, switch)| Refusal::Switched { scope, switch })
}

/// The strictest switch that acts on any of these SKUs, unless all are open; of several the widest, of the
/// first SKU.
fn strictest<'a>(core: &Core, skus: impl Iterator<Item = &'a Sku>) -> Option<(Scope, Switch)> {
    let mut strictest = (Scope::Engine, core.switches.engine());
    let mut note = |scope, switch| {
        if switch > strictest.1 {
            strictest = (scope, switch);
        }
    };
    for sku in skus {
        let Some(rules) = sku.rules() else { continue };
        for owner in rules.owners() {
            let merchant = core.switches.merchants.get(owner);
            note(Scope::Merchant(merchant.id), merchant.switch());
        }
        note(Scope::Sku(sku.id), rules.switch());
    }
    Some(strictest).filter(|(_, switch)| *switch > Switch::Open)
}

/// Whether a waiting order of this class may be served with this SKU now.
pub(in crate::engine) fn lets_serve(core: &Core, sku: &Sku, class: u8, now_ms: u64) -> bool {
    let is_on_sale = sku
        .rules()
        .is_none_or(|rules| now_ms >= rules.opens_at_ms(class) && now_ms < rules.closes_at_ms());
    let is_off = strictest(core, std::iter::once(sku)).is_some();
    is_on_sale && (!is_off || mutants::is(Mutant::ServesWhenSwitchedOff))
}

/// Whose halt keeps an order as it is; `None`: it may go on.
pub(in crate::engine) fn halt(core: &Core, slot: &Slot) -> Option<Scope> {
    let skus = || slot.lines().map(|line| core.skus.get(line.sku));
    if is_plain(core, skus()) {
        return None;
    }
    strictest(core, skus()).filter(|(_, switch)| *switch == Switch::Halted).map(|(scope, _)| scope)
}

/// Tokens taken of the merchants of a request's SKUs: one of each that has a rate.
#[derive(Default)]
pub(in crate::engine) struct Tokens {
    /// By far the most requests are of one merchant.
    first: Option<(u32, Token)>,
    more: Vec<(u32, Token)>,
}

impl Tokens {
    /// Takes the tokens, all or none. The key is claimed before: a request that took the last token and is repeated
    /// is answered with its order.
    pub(in crate::engine) fn take(core: &Core, skus: &Skus<'_>) -> Result<Self, Refusal> {
        let mut tokens = Self::default();
        for owner in skus.iter().filter_map(Sku::rules).flat_map(|rules| rules.owners()) {
            let merchant = core.switches.merchants.get(owner);
            let Some(pace) = merchant.pace().filter(|_| !tokens.are_of(owner)) else { continue };
            let token = match merchant.bucket().take(pace, core.time.boot_ns()) {
                Ok(token) => token,
                Err(empty) => {
                    tokens.give_back(core);
                    return Err(rate_limited(core, owner, empty));
                }
            };
            match tokens.first {
                None => tokens.first = Some((owner, token)),
                Some(_) => tokens.more.push((owner, token)),
            }
        }
        Ok(tokens)
    }

    /// Nothing was held for them.
    pub(in crate::engine) fn give_back(self, core: &Core) {
        for (owner, token) in self.first.into_iter().chain(self.more) {
            let bucket = core.switches.merchants.get(owner).bucket();
            bucket.give_back(token, || core.time.boot_ns());
        }
    }

    fn are_of(&self, merchant: u32) -> bool {
        let mut taken = self.first.iter().chain(&self.more);
        taken.any(|(owner, _)| *owner == merchant)
    }
}

fn rate_limited(core: &Core, owner: u32, Empty { for_ns }: Empty) -> Refusal {
    let merchant = core.switches.merchants.get(owner).id;
    Refusal::RateLimited { merchant, retry_after_ms: for_ns.div_ceil(NS_PER_MS) }
}
