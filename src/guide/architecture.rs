//! How the engine works, from a request to the disk and back.
//!
//! # The one principle: restrict at once, permit when durable
//!
//! Every change either takes something away (hold stock, lower stock, tighten a limit) or gives
//! something back (cancel, expire, restock, loosen a limit).
//!
//! - What takes away acts in memory *at once*, before its log record is durable.
//! - What gives back becomes visible to others *only once its record is durable*.
//!
//! This is the escrow method (O'Neil, "The escrow transactional method", ACM TODS 1986) joined with
//! group commit. From it follows that log shards need no order among each other: whatever prefix of
//! each shard survives a crash, the survivors never add up to more than the stock, since an order
//! that used a returned unit can be durable only if the return is. Recovery replays all shards in
//! parallel, and sums commute: `available = stocked - held - sold`.
//!
//! Inside one partition nobody waits even for that: its records share a lane, so any prefix of it is
//! consistent. A limit given back by a cancel may be used at once by the same buyer.
//!
//! # A request's way
//!
//! 1. **Validate**, touching no state: every bound, lines of one SKU folded, lines sorted by SKU, the
//!    digests by which a repeated key is compared.
//! 2. **Admit**: when a line is sold out for sure and the key has no order for sure, the refusal is
//!    told without a lock, without the log, and without a write to shared memory. Where refusals are
//!    [remembered](super::semantics#remembered-refusals), it goes on to step 3 and takes a record.
//! 3. **Lock the buyer's partition**, chosen by a fixed hash of the buyer.
//! 4. **Claim the key.** A key that has an order is answered with it, whatever else is true; one whose
//!    refusal is remembered, with that.
//! 5. **Check** what can fail: capacity, backlog, disk, the buyer's limits. The key becomes visible to
//!    the lock-free look of step 2 before stock is taken.
//! 6. **Hold the stock**: one compare-exchange for a line; a cart takes its lines in ascending order
//!    of SKU, as all carts do.
//! 7. **Create the order, append one record**, unlock.
//! 8. **Commit**: the shard's writer makes the block durable, gives back what its records give back,
//!    moves the durable marks, and only then wakes who waits.
//!
//! One request is one record in one lane, however many SKUs it spans: there is no two-phase commit
//! anywhere. Locks are taken in the order partition, SKU, lane; never two partitions; a writer never
//! locks a partition and never appends.
//!
//! # Stock
//!
//! A SKU's `available` is one atomic word, with the count of *tentative* units in it: those taken by
//! carts that may still fail. A buyer who finds `available < wanted` while `available + tentative >=
//! wanted` looks again for a bounded while instead of being told "sold out" because of a cart that
//! then fails. If that does not settle it, his request gives up its lock and tries again, and after
//! a bounded number of tries the answer is [`Contended`](crate::PlaceError::Contended), which is
//! retryable, and never "sold out". So answers are linearizable without a lock.
//!
//! # Keys
//!
//! A partition finds an order by the hash of (buyer, key) in an index that is written under the
//! partition's lock and read without one. It is a table by extendible hashing (Fagin et al., ACM TODS
//! 1979) with the cache-line buckets of CCEH (Nam et al., FAST 2019), which grows by one small part
//! at a time. Step 2 refuses only if the index says that the key is absent, and looks after it read
//! the stock. Who takes the last unit makes his key visible before; so a retry that finds his units
//! gone finds his key.
//!
//! # Orders
//!
//! Orders lie in pages, in the order of their ids: the id leads to the order without a table of
//! orders, and a new order goes into memory that is warm. An order of one line takes 80 bytes there.
//!
//! Finished orders are in a queue, in the order in which they finished, and leave memory in that order
//! when their [retention](super::retention) is over: the timekeeper takes some of them out under the
//! partition's lock and logs it in one record, which names them and says what they sold. Replay applies
//! that record like any other, so an order leaves at the same place in every replay, and no key comes
//! back. A page whose orders are gone is used again; of a page of which few are left, those that are
//! not finished move into pages of their own.
//!
//! # The log
//!
//! A record goes into its *lane*, one for each partition, and one in each shard for the SKUs' own
//! records. Each lane numbers its records without a gap. A shard's writer takes what its lanes hold,
//! puts it into one *block*, writes and syncs the block in one call, and takes again: what arrives
//! during a sync shares the next one. There is no timer; a lone order is written at once.
//!
//! The design that this started from had one append buffer a shard, with an LSN a shard. Lanes take
//! the lock of that buffer, on which all callers met, out of the request path; the price is a header
//! of 24 bytes for each lane that has records in a block.
//!
//! A block says which engine, open, shard and number it is, carries checksums (CRC-32C) and the hash
//! of the block before it (BLAKE3), the engine time, and the *durable vector*: for every shard the
//! last block that was durable when this one was closed. See
//! [`durability`](super::durability) for what these are for.
//!
//! Segments, the files of a shard, are written full of zeros once before they are used, since a
//! growing file takes twice as long to sync. They are named by an ordinal rather than by the first
//! LSN, as the first design had it: so the next one has its name, durably, before anyone needs it, and
//! no metadata changes on the way to an acknowledgement.
//!
//! # Checkpoints
//!
//! After [so many bytes](crate::Options::checkpoint_bytes) of log, or when
//! [asked](crate::Engine::checkpoint), a thread of its own writes the state into a file: partition by
//! partition, a page of orders (1,024) under the lock at a time, into memory that has been touched, and
//! from there to the disk outside of all locks. Orders go on meanwhile, so the copies are of different
//! moments. Each carries the number of the last record that is in it: a partition where it was begun,
//! an order or a SKU its own last one. A restart loads the file, reads the log from where it stood when
//! the first partition was begun, and skips what is in the copies already. What is available is never
//! stored: it is what is stocked less what orders have.
//!
//! Two checkpoints are kept. Segments before the older one's begin are *recycled*: renamed to the next
//! number and overwritten, which costs no writing of zeros. Blocks of their earlier life are told by
//! number, epoch and chain.
//!
//! # Time
//!
//! Deadlines are in engine time: milliseconds that only move forward. It starts at the later of the
//! wall clock and the latest time in the log, then follows the boot clock (`CLOCK_BOOTTIME`) and leans
//! towards the wall clock by at most 1 %. Within one boot a restart goes on exactly where the log
//! and the boot clock say. The open is refused when the wall clock is too far from that, because a boot clock
//! stands still while some machines sleep, and differs between time namespaces. The error names both times, and
//! the host decides: see [`Options::clock_jump_max`](crate::Options::clock_jump_max) and
//! [`Options::accept_clock_jump`](crate::Options::accept_clock_jump).
//! [`Stats::clock_skew_ms`](crate::Stats::clock_skew_ms) shows how far the wall clock is ahead of engine time. A
//! block's header cannot hold a time past the year 2116: a wall clock past it is refused at open, and engine time
//! does not follow it later.
//!
//! # Order ids
//!
//! An id consists of a partition's number and a sequence. The manifest holds a ceiling of the sequences. The engine
//! uses a sequence only when a manifest with a ceiling above it is durable, and every open begins at the ceiling that
//! it finds. So the id of an order that a crash erased is never used again. The ceiling is 2^20 sequences ahead. When
//! half of them are used, a thread of the engine writes a manifest with a higher ceiling; no request waits for that.
//!
//! Ids stay below 2^53. A stop without a clean close skips at most 2^20 sequences, which are 2^30 ids. When all ids
//! are used, new orders are refused as [`OrderIds`](crate::error::Capacity::OrderIds), and existing orders go on.
//!
//! # Bounds
//!
//! Everything has one; see [`Options`](crate::Options). Reaching one is a named refusal.
//!
//! # Threads
//!
//! Callers run the request path on their own threads. The engine owns a writer for each shard, one
//! thread that keeps time and serves the orders that [wait](super::waiting), one that keeps segments ready, one
//! that takes checkpoints, and one that calls wakers. The clock and the storage are traits;
//! with those of the `testing` feature and no threads at all, the whole engine runs step by step in
//! one thread.
//!
//! The timekeeper, the keeper of segments and the checkpointer work every 5 to 10 ms while blocks are written. They
//! rest while none are, because all their work follows from records; the first block wakes them.
//!
//! While no block is written, the timekeeper rests for a thousandth of the time until the next deadline, at least
//! 100 ms and at most 1 s, but not past that deadline. An idle engine can be that late to notice that its clock
//! jumped, or that a sale opened and its list can be served. The timekeeper handles a deadline at most 5 ms late,
//! unless the system keeps it from running. The other two rest for at most 10 s, and for less while work is under
//! way or is tried again. The log writers and the thread that calls wakers sleep until they have work.
//!
//! Wakers, the clock and the storage are the host's code. The engine holds no lock when it clones, calls or
//! drops a waker. A log writer calls the wakers of the [commits](crate::Commit) that it made durable. A thread of
//! its own calls all others: a waker that blocks there delays the wakers after it, and nothing else. A panic of a
//! waker is caught and dropped. A panic of the clock or the storage on one of the engine's threads latches the
//! engine, as a failed write does, because no other thread does the work of the one that ended.
