//! Waiting lists: who may stand in line for a SKU, who is served when, and what a crash leaves of that.
//!
//! A SKU has a list if its [rules](crate::SaleRules::waiting_max) say for how many. An order with
//! [`Fill::Wait`](crate::Fill::Wait) takes what it wants if there is enough and nobody waits, and joins the
//! list otherwise: [`Placed::Waiting`](crate::Placed::Waiting). It has an id and its key from then on.
//!
//! # Who is served
//!
//! Lower [classes](crate::Order::class) first, then who came first. What comes back (a cancel, an expiry, a
//! delivery), once durable, goes to whoever is first, and nobody else can have a unit meanwhile:
//!
//! | a new order, while somebody waits | hears |
//! |---|---|
//! | that may wait | [`Waiting`](crate::Placed::Waiting), behind those of its class; served at once if it is first by its class and there is enough |
//! | that may wait, the list being full | [`WaitingListFull`](crate::Refusal::WaitingListFull) |
//! | of any other kind | [`OthersWaiting`](crate::Refusal::OthersWaiting), even if there is enough |
//! | of a key that has an order | that order's first outcome, as always |
//!
//! Whoever is first and wants more than there is blocks those behind him, who might want less, unless the
//! rules let them [pass](crate::SaleRules::waiting_passes). Whom there is enough for never waits.
//!
//! An order that is served is held from that moment on, for as long as it asked for, and may be confirmed.
//! [`Engine::watch`](crate::Engine::watch) tells its host, once that is durable. While the SKU's sale is
//! closed, or a [switch](crate::Switch) keeps new holds out, nobody is served; those who wait keep their
//! places, until their patience is over.
//!
//! Waiting counts towards the buyer's limit. [`Engine::position`](crate::Engine::position) tells how many
//! are before an order.
//!
//! # Who leaves
//!
//! A cancel, or the end of the order's patience. From that moment on it is not served any more; but whoever
//! is behind it is served only once that is durable, since a crash that took the record would put it back
//! where it stood.
//!
//! | at the same moment | comes out as |
//! |---|---|
//! | cancel and promotion | the one that has the partition's lock first: cancelled, or held and then cancelled (the unit goes to the next) |
//! | patience's end and promotion | expired at that millisecond or later, served before it |
//! | confirm and promotion | not allowed while it waits, confirmed once it is held |
//! | a stricter rule and promotion | limits were counted when it joined; a switch or a closing stops promotions from the call's return on |
//!
//! # After a crash
//!
//! An order that was told that it waits stands where it stood. A promotion that nobody was told of may be
//! lost; then the unit is there again, the order is first again, and it is served again before the first
//! call after the restart. It is never lost to somebody else, nor given twice.
//!
//! Joins, promotions and leavings are numbered in one sequence a SKU, over all partitions and restarts, so
//! that [`served_in_turn`](crate::served_in_turn) can tell from the log alone whether anyone was served out
//! of turn.
//!
//! # How it works
//!
//! "Somebody waits" is a bit of the stock word. Who finds too little sets it by the same compare-exchange by
//! which others take, so nothing is given back between his look and his joining without the giver seeing
//! the bit; the giver then asks the promoter, a task of the timekeeper's thread. It looks who is first,
//! locks that order's partition, looks again, takes the units and appends one record to that partition's
//! lane. Whatever is interrupted in between leaves the units available and the bit set: nobody else takes
//! them, and the next look finds them. The bit goes when the list is empty.
//!
//! A place in a list costs 24 bytes and a box of some 100 with the order; joining, leaving and asking for a
//! position cost one step for every 512 orders before.
