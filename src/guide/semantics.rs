//! What each verb answers: retries, races, refusals.
//!
//! # Idempotency
//!
//! The scope of a request key is (buyer, key); of an adjustment's key, (SKU, key). The content of
//! an order is its folded lines, with a partial order's minimums, the hold time, the kind of the
//! fill policy and the payload. The priority class is not compared, nor how long an order may wait.
//! The content of an adjustment is what it does, its units, the expected figure and the reference.
//!
//! | a key that | receives |
//! |---|---|
//! | has no order | a new outcome |
//! | has an order with the same content | its first outcome, marked `replayed`, whatever became of the order since, and whatever else is true now: sold out, over the limit, backlogged, at capacity |
//! | has an order with other content | [`KeyReused`](crate::Placed::KeyReused), naming the first field that differs; nothing changes |
//! | was refused | a new outcome: a refusal has no effect and leaves its key free, unless it is [remembered](#remembered-refusals) |
//! | had an order that has [left memory](super::retention) | a new outcome; [`KeyTooOld`](crate::Refusal::KeyTooOld) for a key that is a [UUID of version 7](crate::KeyKind::UuidV7) |
//!
//! One UUID is one key, in every spelling: see [`RequestKey`](crate::RequestKey).
//!
//! A replay resolves when what it reports is durable: not before the first request's record, and if the
//! order has changed since, not before that change.
//!
//! Two requests in flight with one key make at most one order. One of them may be refused, but only if the key had no
//! order at some moment between its call and its answer. A held key sent again with *other* SKUs may receive
//! their refusal instead of `KeyReused`; nothing changes then either.
//!
//! Content is compared by digests fixed when the order was placed: 64 bits of a mixing function for the lines, 64
//! bits of BLAKE3 for the payload. A buyer who makes two of their own requests collide receives the first one's
//! answer.
//!
//! # Remembered refusals
//!
//! A refusal leaves no trace: the same request sent again may be held, if stock has come back. That suits a buyer who
//! retries on purpose. It is wrong for a delayed duplicate: the buyer was refused, and the late copy buys anyway.
//! [`Options::remember_refusals`](crate::Options::remember_refusals) makes a refusal an outcome like an order, for a
//! time and up to a number:
//!
//! | a key without an order that | receives |
//! |---|---|
//! | was refused with the same content | [`RefusedBefore`](crate::Placed::RefusedBefore): the first refusal with its figures, whatever is true by now, and the engine time until which it is remembered; from that millisecond on the key counts as new |
//! | was refused with other content | [`KeyReused`](crate::Placed::KeyReused) without an order |
//! | was refused as `NotOpen` or `RateLimited` | a new outcome: these say when the same request may come again |
//! | was refused as `KeyTooOld` | that again: a key gets no younger |
//! | was refused, and is forgotten: its time is over, or its partition has refused more since than it remembers | a new outcome |
//! | got an error, such as [`Contended`](crate::PlaceError::Contended) or [`AtCapacity`](crate::Unavailable::AtCapacity) | a new outcome: an error is no outcome |
//!
//! A key that has an order is answered with the order, always. Two requests in flight with one key
//! come to one outcome, an order or a refusal. A refusal is returned when its record is durable, so
//! a caller that received one finds it after a crash. If the refusal cannot be logged, the call
//! returns an error instead. The engine looks for a remembered refusal before it looks at stock and
//! rules, so with this option it refuses nothing without the lock. Errors of the request itself (no
//! lines, a bound) still come first. Batches and [handles](crate::SkuHandle) do the same.
//!
//! # Fill policies
//!
//! What an order accepts when there is less stock than it asks for ([`Order::fill`](crate::Order::fill)):
//!
//! | policy | an exchange calls it | what is held | what is returned |
//! |---|---|---|---|
//! | [`AllOrNone`](crate::Fill::AllOrNone), the default | fill or kill | every line in full, or nothing | `Held`, or `Refused` |
//! | [`Partial`](crate::Fill::Partial) | immediate or cancel | of each line as much as there is, at least its [minimum](crate::Order::min_quantity) | `Held` if nothing is missing, [`Partial`](crate::Placed::Partial) with what is missing of each line, `Refused` if a line cannot have its minimum or none has anything |
//! | [`Wait`](crate::Fill::Wait) | good till time | the line in full | `Held`, [`Waiting`](crate::Placed::Waiting), or `Refused`; see [waiting](super::waiting) |
//!
//! What a partial order did not receive never follows, whatever comes back later: a buyer who still wants it places
//! another order, with another key. A repeat of the key receives the first outcome again, with what was missing then,
//! also after the order went on, after a crash, and when there is enough by now. Verbs act on what the order holds;
//! [`OrderView`](crate::OrderView) shows both.
//!
//! A buyer limit acts on a line as the stock does: the line takes what the limit leaves, and the
//! rest is missing. The order is refused with [`BuyerLimit`](crate::Refusal::BuyerLimit) when the
//! limit leaves less than a line's minimum, or nothing of any line; otherwise
//! [`SoldOut`](crate::Refusal::SoldOut) names the first line, by SKU, for which there was not
//! enough stock for its minimum, or for its first unit. If the lack of stock is certain without a
//! lock, `SoldOut` comes first: see [which refusal is
//! returned](super::rules#which-refusal-is-returned). Both refusals name in `wanted` the least that
//! the line would have taken. A line for which [other orders wait](super::waiting) receives
//! nothing. A refused order holds nothing, even of lines for which there was enough.
//!
//! All-or-none orders are linearizable, carts too. A partial order is linearizable line by line.
//! Each line receives what there was of it at one moment between the call and the answer, when no
//! cart in flight could have made it more. Different lines may have different moments. So of two
//! partial carts for the same two goods each may receive one. And if a partial order was refused
//! because no line had anything, there may have been no single moment at which all of its lines had
//! nothing.
//!
//! # States
//!
//! | state | confirm | cancel | fulfil | deadline |
//! |---|---|---|---|---|
//! | [waiting](super::waiting) | not allowed | → cancelled | not allowed | → expired |
//! | held | → confirmed | → cancelled | not allowed | → expired |
//! | confirmed | already done | → cancelled | → fulfilled | – |
//! | fulfilled | not allowed | not allowed | already done | – |
//! | cancelled | not allowed | already done | not allowed | – |
//! | expired | not allowed | not allowed | not allowed | – |
//!
//! A waiting order becomes held when it is [served](super::waiting).
//!
//! "Not allowed" is a value that names the state that stands. The partition's lock decides races; the loser receives
//! the state that won, once that is durable. Under a halt a verb that would change the order is answered `Halted`:
//! see [what rules do](super::rules).
//!
//! # Deadlines
//!
//! At its deadline a hold is over: a confirm at or after that millisecond of engine time finds the
//! order expired, whether or not the timekeeper has come by, and takes no stock. The stock comes back
//! to others once the expiry's record is durable. A wall clock that jumps while the engine runs moves
//! no deadline by more than 1 % of the time that passes.
//!
//! # Limits
//!
//! A buyer limit counts what the buyer has held, confirmed and fulfilled since the sale began: orders
//! that are in memory when the first limit is set, all that come after, and those of them that have
//! [left memory](super::retention) since. [`Engine::end_sale`](crate::Engine::end_sale) drops the limit
//! and what was counted; orders placed before it count towards no later limit, whatever becomes of
//! them. A stricter limit acts on every request that begins after
//! [`Engine::rules`](crate::Engine::rules) returned; a looser one, once it is durable. Orders that are
//! there already are not touched by either. For the other rules see [their page](super::rules).
//!
//! # Stock
//!
//! `set` compares its expected value with the stocked figure, which only adjustments change, and never with
//! `available`. A `set` below the units held and sold makes `available` negative; units that return repay that first.
//! `take` never takes more than is available. Safety stock is stocked but not available.
//!
//! # Batches
//!
//! [`Engine::place_batch`](crate::Engine::place_batch) is many orders, not one: each is answered by
//! itself, and a crash may keep a part of them. They are placed one after the other, in the order given.
