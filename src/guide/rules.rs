//! What the rules of a sale do, and to which orders.
//!
//! A SKU has rules ([`SaleRules`](crate::SaleRules), by [`Engine::rules`](crate::Engine::rules)), a merchant has
//! rules for all SKUs that belong to it ([`MerchantRules`](crate::MerchantRules), by
//! [`Engine::merchant`](crate::Engine::merchant)), and the whole engine has a switch
//! ([`Engine::switch`](crate::Engine::switch)). All of them are logged, and outlive restarts.
//!
//! # When a change acts
//!
//! What restricts acts at once: when the call returned, no request that begins afterwards gets around it, on
//! any partition. What permits acts when it is durable. In between the stricter of old and new acts, rule by
//! rule, since either may be what a crash leaves. Of several changes that are not durable the strictest acts.
//!
//! | rule | stricter is | when left out for good |
//! |---|---|---|
//! | buyer limit | the lower | no limit |
//! | opens at | the later | open at once |
//! | closes at | the earlier | never closes |
//! | early access, by class | the shorter | none |
//! | hold | the shorter | [`Options::hold_default`](crate::Options::hold_default) |
//! | safety stock | the more | nothing is kept back |
//! | switch | open, no new holds, halted: the later of these | open |
//! | merchant | both: the switches and rates of the old and the new act | no merchant |
//! | rate of a merchant | the lower; of the burst the smaller | none |
//!
//! After a crash a rule whose change was acknowledged is the new one; one whose change was not is the old one
//! or the new one, and nothing was held that either forbids.
//!
//! # What a change does to orders that are there
//!
//! | change | held, not paid | confirmed |
//! |---|---|---|
//! | buyer limit, opening, closing, early access | stays, can be paid until its deadline | stays |
//! | hold | keeps its deadline | stays |
//! | safety stock | stays; the SKU may owe until stock comes back | stays |
//! | merchant of the SKU | obeys the switch of the new one, once the change is durable | the same |
//! | rate | stays | stays |
//! | no new holds | stays; can be paid, cancelled, and expires | stays; can be fulfilled, cancelled |
//! | halt | stays as it is, past its deadline too | stays as it is |
//!
//! A key that has an order is answered with it under every rule: nothing is newly held by that.
//!
//! # What is allowed under which switch
//!
//! | | open | no new holds | halted |
//! |---|---|---|---|
//! | `place` of a new key | held, or refused by another rule | [`Switched`](crate::Refusal::Switched) | [`Switched`](crate::Refusal::Switched) |
//! | `place` of a key that has an order | its first outcome | its first outcome | its first outcome |
//! | `confirm`, `cancel`, `fulfil` that would change the order | done | done | [`Halted`](crate::Transition::Halted) |
//! | the same when it is done already, or can never be | says so | says so | says so |
//! | a deadline | the hold ends | the hold ends | the hold stays, and ends when the halt does |
//! | reading an order whose hold is over | expired | expired | held |
//! | retention of finished orders | goes on | goes on | goes on |
//! | `stock`, `rules`, `merchant`, `switch`, `end_sale` | done | done | done |
//!
//! Of the switches of the engine, of a SKU's merchant and of the SKU the strictest acts, and an
//! answer names it. If several are equally strict, the answer names the engine's; otherwise that of
//! the first such SKU, its merchant's before its own. A cart obeys the strictest of all its SKUs. A
//! verb that is refused by a halt changed nothing, and the caller can send it again afterwards. If
//! a payment comes during a halt, the host decides whether to keep or to refund it, because a hold
//! whose deadline passed under the halt is over when the halt ends.
//!
//! # Openings and closings
//!
//! Openings and closings are compared with one engine time, which never steps back, read under the
//! lock of the buyer's partition. A sale that opens at T is open from the millisecond T on for
//! every buyer. A request that was answered before T holds nothing, a request that began after T is
//! not refused as [`NotOpen`](crate::Refusal::NotOpen), and once one request was held, no later
//! request of its class is refused so. A class with early access has an opening of its own. At its
//! closing a sale ends in the same way: what was held before can be paid for.
//!
//! # Safety stock
//!
//! Safety stock is stocked but not available: no order and no `take` gets it. A raise lowers what is available at once,
//! even below zero: then the SKU owes, and units that return repay that first. After a cut, the units become available
//! when the change is durable. Safety stock costs an order nothing.
//!
//! # Rates
//!
//! A merchant with a rate has a bucket that holds `burst` tokens. Each new order of its SKUs takes one, and the
//! bucket fills at the rate. Repeats take none. An order that is refused for another reason returns its token, so a
//! [`RateLimited`](crate::Refusal::RateLimited) may rest on an order that comes to nothing a moment later. An order
//! whose SKUs belong to two merchants takes one token of each. The bucket is one word (the generic cell rate
//! algorithm of ITU-T I.371) on the clock of the boot; it is full again after a restart.
//!
//! # Which refusal is returned
//!
//! If several are true, the order is: a switch, the first SKU that is not open or is closed, the
//! buyer limit, then the rate or "sold out". A refusal that needs no more than a look, as "sold
//! out" does, is returned without a lock. A buyer limit needs the lock, so "sold out" or the rate
//! may come before it. The age of a key is checked under the lock, before all of these. The engine
//! looks for the key after it has read the rule, and refuses only a key that has no order.
