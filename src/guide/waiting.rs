//! Waiting lists: which orders may wait for a SKU, in what order they are served, and what a crash leaves of that.
//!
//! A SKU has a list if its [rules](crate::SaleRules::waiting_max) set its length. An order with
//! [`Fill::Wait`](crate::Fill::Wait) takes its units if there are enough and no order waits. Otherwise it joins the
//! list: [`Placed::Waiting`](crate::Placed::Waiting). It has an id and its key from then on.
//!
//! # The order of service
//!
//! Lower [classes](crate::Order::class) come first, and within a class earlier arrivals. Units that come back (a
//! cancel, an expiry, a delivery), once durable, go to the first order, and no other request can have a unit
//! meanwhile:
//!
//! | a new order, while an order waits | receives |
//! |---|---|
//! | that may wait | [`Waiting`](crate::Placed::Waiting), after those of its class; served at once if it is first by its class and there is enough |
//! | that may wait, while the list is full | [`WaitingListFull`](crate::Refusal::WaitingListFull) |
//! | of any other kind | [`OthersWaiting`](crate::Refusal::OthersWaiting), even if there is enough |
//! | of a key that has an order | that order's first outcome, as always |
//!
//! A first order that wants more than there is blocks the orders after it, which might want less, unless the rules
//! let them [pass](crate::SaleRules::waiting_passes). An order for which there is enough never waits.
//!
//! A served order is held from that moment on, for as long as it asked for, and may be confirmed.
//! [`Engine::watch`](crate::Engine::watch) resolves when that is durable. While the SKU's sale is closed, or a
//! [switch](crate::Switch) refuses new holds, no order is served; waiting orders keep their places, until their
//! patience is over.
//!
//! Waiting counts towards the buyer's limit. [`Engine::position`](crate::Engine::position) tells how many
//! are before an order.
//!
//! # Leaving the list
//!
//! An order leaves by a cancel, or at the end of its patience. From that moment on it can no longer be served. But
//! the orders after it are served only once that is durable, because a crash that took the record would put it back
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
//! An order that was acknowledged as waiting stands where it stood. A crash may take a promotion that no caller
//! received. Then the unit is there again, the order is first again, and it is served again before the first call
//! after the restart. The unit is never sold to another order, nor handed out twice.
//!
//! Joins, promotions and leavings are numbered in one sequence a SKU, over all partitions and restarts, so
//! that [`served_in_turn`](crate::served_in_turn) can tell from the log alone whether an order was served out
//! of turn.
//!
//! # How it works
//!
//! "An order waits" is a bit of the stock word. An order that finds too few units sets it by the same
//! compare-exchange by which others take. So no unit returns between its look and its joining without the returning
//! thread seeing the bit. That thread then asks the promoter, a task of the timekeeper's thread. The promoter looks
//! for the first order, locks its partition, looks again, takes the units and appends one record to that partition's
//! lane. An interruption in between leaves the units available and the bit set: no other request takes them, and the
//! next look finds them. The bit goes when the list is empty.
//!
//! A place in a list costs 24 bytes, and some 100 bytes with the order. Joining, leaving and asking for a position
//! cost one step for every 512 orders before.
