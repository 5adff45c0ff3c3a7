//! How long orders are remembered, and what a host does about an order that is no longer remembered.
//!
//! # What stays how long
//!
//! | what | stays |
//! |---|---|
//! | a held order | until it ends |
//! | a confirmed order | until it is fulfilled or cancelled, however long that takes; with [`Options::finish_on_confirm`](crate::Options::finish_on_confirm) for the retention |
//! | a cancelled or expired order | for [`Options::retention`](crate::Options::retention) (48 hours) after it ended |
//! | a fulfilled order | for [`Options::returns_window`](crate::Options::returns_window) (as long) after it was fulfilled |
//! | an order's request key, lines and payload | as long as the order |
//! | what an order sold | forever, in [`Engine::levels`](crate::Engine::levels) |
//! | what a buyer has of a SKU with a buyer limit | until [`Engine::end_sale`](crate::Engine::end_sale) |
//! | an adjustment's key | for [`Options::adjust_retention`](crate::Options::adjust_retention) after the adjustment (by default as long as an order, at least 48 hours) |
//! | a SKU, its rules, and what its adjustments did | forever |
//!
//! All of this is in engine time, so time in which the engine is not open counts. An order may be answered
//! for a little longer than promised, never shorter: the timekeeper takes it out of memory in small steps,
//! and pauses while the disk has fallen far behind or is full.
//!
//! # An id after its retention
//!
//! Every verb and read on it answers [`OrderError::Retired`](crate::OrderError::Retired), and never
//! [`UnknownOrder`](crate::OrderError::UnknownOrder), which is for ids that this engine never used, or
//! used for an order that a crash erased before it was acknowledged. The engine tells the two apart for
//! as long as the folder exists.
//!
//! What a host does then:
//!
//! - **A payment arrives.** The order ended long ago and the engine no longer knows how: most likely it expired or
//!   was cancelled, and its units were sold to another buyer. Look the order up in your own books (the
//!   [`Transition`](crate::Transition)s that you received, or a feed of them). If they show it as confirmed, the
//!   payment was counted already and this is a repeat of it; if not, or if they say nothing, refund it. Never take
//!   [`Retired`](crate::OrderError::Retired) for a confirm.
//! - **A cancel or a fulfil is retried.** It did its work, or found that it could not, while the order was
//!   there; the answer is in your books.
//! - **Goods come back.** Return their units by [`Adjust::add`](crate::Adjust::add) with the id in its
//!   reference and its key. For returns that the engine should check itself, choose a longer
//!   [`Options::returns_window`](crate::Options::returns_window).
//!
//! So the retention should be longer than the slowest thing that can still happen to an order: the
//! payment provider's last retry, not its usual one.
//!
//! # A key after its retention
//!
//! A buyer's client that retries after two days would make a second order. Keys that are UUIDs of version 7
//! ([`KeyKind::UuidV7`](crate::KeyKind::UuidV7)) prevent that, because they carry the time at which the
//! client made them. Such a key that has no order and is older than the retention is refused as
//! [`Refusal::KeyTooOld`](crate::Refusal::KeyTooOld). A key that still has an order is answered with it,
//! however old it is. For other keys, which are opaque to the engine, the host must ensure that no client
//! retries for that long.
//!
//! The time in the key is the client's. A client whose clock is some minutes ahead keeps its keys fresh for that much
//! longer than its orders may stay. So a key without an order whose time is more than
//! [`Options::key_ahead_max`](crate::Options::key_ahead_max) (5 minutes) ahead is refused as
//! [`Refusal::KeyTooNew`](crate::Refusal::KeyTooNew). If a smaller difference matters, make keys on machines
//! whose clock you control, or add that time to the retention. When a later open changes the retention, keys of orders
//! that left under a shorter one stay refused.
//!
//! The key of an adjustment is kept for [`Options::adjust_retention`](crate::Options::adjust_retention). After that
//! a key that is a UUID of version 7 is answered with [`Adjusted::KeyTooOld`](crate::Adjusted::KeyTooOld), and any
//! other key counts as new. A SKU keeps at most 1,048,576 keys at a time.
//!
//! # Buyer limits
//!
//! Counting begins when the first limit of a sale is set. It includes the orders in memory at that
//! moment and all later ones, also those that have left memory since. It goes on until the sale
//! ends, also while no limit is set for some time. Orders that left memory before are not counted:
//! counting every buyer of every SKU in case a limit comes would cost more memory than the orders
//! do. So set the limit before the sale begins, even a generous one. When the sale is over,
//! [`Engine::end_sale`](crate::Engine::end_sale) frees the memory.
//!
//! # What it costs
//!
//! A finished order of one line takes some 120 bytes until it leaves: 80 in its page, 20 for its key and
//! timer, 9 in the queue of finished orders, the rest in unused parts of pages and tables. Five
//! million orders a day, two days of retention: 1.2 GB. Each further day, or day of returns: 0.6 GB.
//! Payloads and the lines of carts come on top.
//!
//! Pages of 1,024 orders go when all their orders are gone. When an eighth of a page or less is
//! left, the unfinished orders move elsewhere, so an order that is never fulfilled takes up to
//! eight places before its move, and one after it. Places of orders that moved are used again, and
//! not freed. An open keeps no page for few orders either, whether it reads them from a checkpoint
//! or from the log. So it takes no more memory than the engine had.
//!
//! Orders leave a few at a time, with rests three times as long as the work. While a checkpoint is copied none
//! leaves. Without the rests, what fell due meanwhile would keep a processor from the callers. So an order may stay
//! longer than its retention. The rests get shorter only when an order is late by more than half of its retention.
//!
//! In the log, retirement costs 8 bytes an order and 12 for each SKU that a batch of up to 64 sold.
//!
//! # The log
//!
//! The log is kept as long as one of the newest two checkpoints needs it, and then recycled. For audits, and
//! for feeds that must reach back, [`Options::log_retention`](crate::Options::log_retention) keeps it
//! longer: a segment is recycled when its last block is that old, in engine time, and room is needed.
//!
//! Archived segments stay where they are, `log/<shard>/<ordinal>.segment`. A folder of their own was considered and
//! rejected. Moving a file there and back takes two more renames. A crash at either may leave the file in one folder or
//! the other, and an open would have to tell the gap in the ordinals from a loss. Nothing is gained. As it is, ordinals
//! count up without a gap from the oldest archived segment to the newest spare, nothing is moved or copied, and of what
//! lies before the older checkpoint an open reads no more than the page that says whose a segment is. When no
//! checkpoint is whole and the archive goes back to the first segment, an open reads it.
//!
//! [`verify`](crate::verify()) checks archived blocks and their chain too, up to the checkpoint that they lead to,
//! and reports how many there were. A block that rots there stops neither the engine nor an open. A
//! [backup](crate::Engine::backup) has no archive: to keep it beyond the machine, copy it from the folder, file by
//! file; archived segments are not written to.
//!
//! A full disk takes from the archive first, the oldest segment first, before new orders are refused:
//! [`Stats::segments_recycled_early`](crate::Stats::segments_recycled_early) counts the segments that were taken,
//! [`Stats::segments_archived`](crate::Stats::segments_archived) those that are there. If you must not lose any of
//! it, copy it away in time, or set an alarm on the disk's room.
//!
//! The folder does not shrink after a busy week: segments that are old enough wait to be recycled.
