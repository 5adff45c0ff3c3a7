//! How the engine works, from a request to the disk and back.
//!
//! # The one principle: restrict at once, permit when durable
//!
//! Every change either restricts (holds stock, lowers stock, tightens a limit) or permits (returns stock, adds stock,
//! loosens a limit).
//!
//! - A restriction acts in memory *at once*, before its log record is durable.
//! - A permission becomes visible to others *only when its record is durable*.
//!
//! This is the escrow method (O'Neil, "The escrow transactional method", ACM TODS 1986) with group commit. It lets the
//! log shards write without any order among each other. An order that uses a returned unit becomes durable only after
//! the return, so the records that survive a crash never add up to more than the stock. Recovery replays all shards in
//! parallel, and the sums commute: `available = stocked - held - sold - kept back`.
//!
//! Inside one partition not even that wait is needed: its records share a lane, so every prefix of the lane is
//! consistent. When a cancel frees a buyer's limit, the same buyer can use it at once.
//!
//! # The rooms
//!
//! `tests/layers.rs` holds this table. Rooms of one row do not import each other. Inside a room no files import each
//! other in a circle, except a module and its own children.
//!
//! | row | room | what it does | may import |
//! |---|---|---|---|
//! | 1 | `bounds`, `ids`, `memory`, `mutants`, `prefetch`, `progress`, `sync` | bounds and ids; huge pages; planted bugs for tests; prefetch; a recovery's progress; the standard library's or loom's atomics and locks | no room |
//! | 2 | `routing`, `serialised`, `storage`, `wakes` | a buyer's partition and a SKU's shard; shared serde forms; the disk as a trait; the thread that calls wakers | row 1 |
//! | 3 | `clock`, `error` | engine time; every error | rows 1 and 2 |
//! | 4 | `options` | how an engine is opened | rows 1 to 3 |
//! | 5 | `order` | requests, outcomes, rules, the table of an order's states | rows 1 to 4 |
//! | 6 | `log` | records, lanes, blocks, segments, the writers | rows 1 to 5 |
//! | 7 | `partition`, `stock` | a buyer's tables; a SKU's stock, rules and waiting list | rows 1 to 6 |
//! | 8 | `checkpoint` | the file that makes a restart short | rows 1 to 7 |
//! | 9 | `estimate`, `recovery` | the memory, disk and restart of a workload; from the files of a folder to tables | rows 1 to 8 |
//! | 10 | `engine` | the verbs, and the threads beside them | rows 1 to 9 |
//! | 11 | `testing` | a clock, a disk and a stepped engine for tests | rows 1 to 10 |
//! | 12 | `guide` | these pages | rows 1 to 11 |
//! | 13 | `lib` | the public names | rows 1 to 12 |
//!
//! Inside `engine`:
//!
//! - `core` holds the state that all verbs share, and imports no verb. `open` builds it from what recovery found;
//!   `close` seals the manifest and releases the folder.
//! - `place` is the request path. `place/mod.rs` lists its eight steps, `place/straight.rs` takes them for a plain order.
//!   Its other files hold single steps, batches and remembered refusals.
//! - `transition` confirms, cancels, fulfils and expires an order. `expiry` calls it for orders whose deadline has
//!   passed.
//! - `waiting` lets orders join and leave a waiting list, `promotion` serves them, and `watch` reports it to the
//!   caller.
//! - `retire` removes finished orders from memory. `id_ceiling` reserves order ids.
//! - `sku` changes a SKU's stock and rules. `view`, `reads`, `stats` and `status` show what the engine holds.
//! - `effects` applies what a record permits when it is durable.
//! - `background` holds the threads, the checkpointer and backups.
//!
//! # A request's way
//!
//! 1. **Validate** the request without touching state: every bound. Lines of one SKU are folded,
//!    and lines are sorted by SKU. The engine computes the digests with which it compares a
//!    repeated key.
//! 2. **Admit.** If a line is surely sold out and the key surely has no order, the refusal is returned without a lock,
//!    without the log, and without a write to shared memory. If refusals are
//!    [remembered](super::semantics#remembered-refusals), the request goes on to step 3 and its refusal is logged.
//! 3. **Lock the buyer's partition**, chosen by a fixed hash of the buyer.
//! 4. **Claim the key.** A key that has an order is answered with that order, whatever else is true. A key whose
//!    refusal is remembered is answered with the refusal.
//! 5. **Check** what can fail: rules, capacity, backlog, disk, the buyer's limits. The key becomes visible to the
//!    lock-free look of step 2 before stock is taken.
//! 6. **Hold the stock.** A line is one compare-exchange. All carts take their lines in ascending order of SKU.
//! 7. **Create the order, append one record**, unlock.
//! 8. **Commit.** The shard's writer makes the block durable, applies what its records permit, advances the durable
//!    marks, and then wakes the callers that wait.
//!
//! A *plain* order takes these steps in one function, `place/straight.rs`: one line, in full or not at all, without a
//! payload, with an opaque key, of a SKU without rules, in an engine that remembers no refusals. That costs half the
//! instructions. Where anything else turns up, that function returns before it has changed anything, and the general
//! path begins anew.
//!
//! One request is one record in one lane, however many SKUs it spans, so there is no two-phase commit. Locks are taken
//! in the order partition, SKU, lane, and never two partitions at once. A writer never locks a partition and never
//! appends.
//!
//! # Stock
//!
//! A SKU's `available` is one atomic word. The word also counts *tentative* units: units that carts have taken and may
//! still return, because a later line may fail. A request that finds `available < wanted` and
//! `available + tentative >= wanted` looks again for a bounded time, because a cart that fails would make "sold out"
//! wrong. If that does not settle the answer, the request releases its lock and tries again. After a bounded number of
//! tries the answer is [`Contended`](crate::PlaceError::Contended), which the caller can retry, and never "sold out".
//! So answers are linearizable without a lock.
//!
//! # Keys
//!
//! A partition finds an order by the hash of buyer and key, in an index that is written under the partition's lock and
//! read without it. The index is a table by extendible hashing (Fagin et al., ACM TODS 1979) with the cache-line
//! buckets of CCEH (Nam et al., FAST 2019). It grows by one small part at a time. Step 2 refuses only if the index says
//! that the key is absent, and it looks after it has read the stock. The order that takes the last unit makes its key
//! visible before it takes the unit, so a retry that finds the unit gone finds the key.
//!
//! # Orders
//!
//! Orders lie in pages, in the order of their ids. The id leads to the order without a lookup table, and a new order
//! goes into memory that is warm. An order of one line takes 80 bytes there.
//!
//! Finished orders stand in a queue, in the order in which they finished. They leave memory in that order when their
//! [retention](super::retention) is over. The timekeeper removes some of them under the partition's lock, and logs one
//! record that names them and says what they sold. Replay applies that record like any other, so an order leaves at the
//! same place in every replay, and its key does not come back. A page without orders is used again. From a page with
//! few orders left, the unfinished ones move into pages of their own.
//!
//! # The log
//!
//! A record goes into a *lane*: one for each partition, and one in each shard for the SKUs' own records. Each lane
//! numbers its records without a gap. A shard's writer takes what its lanes hold, puts it into one *block*, writes and
//! syncs the block in one call, and takes again. Records that arrive during a sync share the next block. There is no
//! timer: a lone order is written at once.
//!
//! The first design had one append buffer for each shard. All callers met at its lock. Lanes remove that lock from the
//! request path, at the price of a header of 24 bytes for each lane that has records in a block.
//!
//! A block's header names its engine, open, shard and number. The block carries checksums (CRC-32C), the hash of the
//! block before it (BLAKE3), the engine time, and the *durable vector*: for every shard the last block that was durable
//! when this block was closed. [`durability`](super::durability) says what these are for.
//!
//! Segments are the files of a shard. Each is filled with zeros before it is used, because a growing file takes twice
//! as long to sync. A segment is named by an ordinal. The next segment has its name, durably, before it is needed, so
//! no metadata changes on the way to an acknowledgement.
//!
//! # Recovery
//!
//! Recovery loads a checkpoint into the tables (`src/recovery/tables.rs`) and replays the log after it, one verified
//! block at a time (`src/recovery/replay.rs`). Replay applies outcomes and never decides anew. The same code can apply
//! blocks to the tables of an engine that runs: a trait, `States`, is all that replay sees of the partitions.
//!
//! # Checkpoints
//!
//! After [some bytes](crate::Options::checkpoint_bytes) of log, or when
//! [asked](crate::Engine::checkpoint), the checkpointer, a thread of its own, writes the state into
//! a file. It copies one partition after the other into memory that was touched before. It holds a
//! partition's lock for one page of 1,024 orders at a time, and writes to the disk outside of all
//! locks. Orders go on meanwhile, so the copies are of different moments. Each copy carries the
//! number of the last record that is in it. A restart loads the file, and reads the log from the
//! place where it stood before the first partition was copied. It skips the records that the copies
//! hold already. What is available is never stored: recovery computes it.
//!
//! Two checkpoints are kept. Segments that lie before the start of the older one are *recycled*:
//! the engine renames them to the next number and overwrites them, so it need not fill them with
//! zeros. Number, epoch and chain tell a new block from a block of the segment's earlier life.
//!
//! # Time
//!
//! Deadlines are in engine time: milliseconds that only move forward. Engine time starts at the later of the wall clock
//! and the latest time in the log. Then it follows the boot clock (`CLOCK_BOOTTIME`), and leans towards the wall clock
//! by at most 1 %. Within one boot a restart continues exactly where the log and the boot clock say. The open is
//! refused when the wall clock is too far from that, because a boot clock stands still while some machines sleep, and
//! differs between time namespaces. The error names both times, and the host decides: see
//! [`Options::clock_jump_max`](crate::Options::clock_jump_max) and
//! [`Options::accept_clock_jump`](crate::Options::accept_clock_jump).
//! [`Stats::clock_skew_ms`](crate::Stats::clock_skew_ms) shows how far the wall clock is ahead of engine time. A
//! block's header cannot hold a time past the year 2116. A wall clock past it is refused at open, and engine time does
//! not follow it later.
//!
//! # Order ids
//!
//! An id consists of a partition's number and a sequence. The manifest holds a ceiling of the sequences. The engine
//! uses a sequence only when a manifest with a ceiling above it is durable, and every open begins at the ceiling that
//! it finds. So the id of an order that a crash erased is never used again. The ceiling is 2^20 sequences ahead. When
//! half of them are used, a thread of the engine writes a manifest with a higher ceiling; no request waits for that.
//!
//! Ids stay below 2^53. A stop without a clean close skips at most 2^20 sequences, which are 2^30 ids. When all ids are
//! used, new orders are refused as [`OrderIds`](crate::error::Capacity::OrderIds), and existing orders go on.
//!
//! # Bounds
//!
//! Everything has a bound; see [`Options`](crate::Options). Reaching one is a named refusal.
//!
//! # Threads
//!
//! Callers run the request path on their own threads. The engine owns a writer for each shard, one thread that keeps
//! time and serves [waiting orders](super::waiting), one that keeps segments ready, one that takes checkpoints, and one
//! that calls wakers. The clock and the storage are traits. With those of the `testing` feature and without threads,
//! the whole engine runs step by step in one thread.
//!
//! The timekeeper, the keeper of segments and the checkpointer work every 5 to 10 ms while blocks are written. They
//! rest while none are, because all their work follows from records. The first block wakes them.
//!
//! While no block is written, the timekeeper rests for a thousandth of the time until the next
//! deadline, at least 100 ms and at most 1 s, but not past that deadline. So an idle engine can
//! notice up to 1 s late that its clock jumped, or that a sale opened and its list can be served.
//! The timekeeper handles a deadline at most 5 ms late, unless the system keeps it from running.
//! The other two rest for at most 10 s, and for less while work is under way or is tried again. The
//! log writers and the thread that calls wakers sleep until they have work.
//!
//! Wakers, the clock and the storage are the host's code. The engine holds no lock when it clones, calls or drops a
//! waker. A log writer calls the wakers of the [commits](crate::Commit) that it made durable. A thread of its own calls
//! all others: a waker that blocks there delays the wakers after it, and nothing else. A panic of a waker is caught and
//! dropped. A panic of the clock or the storage on one of the engine's threads latches the engine, as a failed write
//! does, because no other thread does the work of the one that ended.
//!
//! # The rules that the code names
//!
//! Comments name these rules. Each closes a hole that was found by breaking a draft.
//!
//! | rule | what holds |
//! |---|---|
//! | R1 | A key that has an order is answered with that order. Its key is visible to the lock-free look before its stock is taken, and the look comes after the stock was read |
//! | R2 | An answer that shows an order's state resolves when the order's last record is durable |
//! | R3 | An order id is never used twice: sequences stay below a ceiling that was durable before |
//! | R4 | A repeated key is compared by digests that were fixed when the order was placed |
//! | R5 | All stock of an order is taken in one global order; waiting for tentative units is bounded |
//! | R7 | A short line of a partial order is final only at a moment at which nothing of its SKU is tentative |
//! | R8 | A SKU's own records are serialised by its lock, and logged as changes. Until a change of rules is durable, the stricter of old and new acts, field by field |
//! | R9 | A restriction that was acknowledged is in force: it passes every partition's lock once before its answer |
//! | R10 | A `set` below what is held and sold makes `available` negative; units that return repay that first |
//! | R11 | Readable is not durable: an open syncs what it read, and makes each cut durable, before it returns |
//! | R12 | A block counts only if every block that its durable vector names is there. What a record permits, such as units that return, takes effect only when the record is durable |
//! | R13 | The last block of a shard gets a witness: a later block or the manifest names it |
//! | R14 | Promises are in engine time, which never runs backwards |
//! | R16 | `available` is never stored, so recovery computes it. A record that a checkpoint holds is not applied again |
//! | R17 | That an order waits is a bit of the stock word, so no unit that returns slips past it. An engine thread serves the waiting orders, never a log writer |
//!
//! R6 (stock spread over several words) and R15 (payments that come after an expiry) are about what is not built.
//!
//! # Hand-written structures and why
//!
//! `cargo bench --bench parts` measures each structure beside a crate that could replace it, in one
//! run. The figures are of commit 0e3cfe6, on an AMD EPYC with two virtual processors. The spread is
//! within 15 %, and within 50 % for two threads on one word. The crates do more: DashMap, papaya and
//! scc let several threads write.
//!
//! | structure | why it is written by hand | measured |
//! |---|---|---|
//! | timer wheel (`partition/timers.rs`) | an entry is a handle of 4 bytes, and an insert under the partition's lock writes one line of memory | a million holds inserted and fired: 22 ms; `hierarchical_hash_wheel_timer` 1.4: 23 ms. So it is kept for its memory, not for its speed |
//! | key index (`partition/key_index.rs`) | it is read without a lock beside one writer, and grows by 16 KiB at a time | an insert among 2 million keys: 58 ns, and 23 ns if the key is asked for 16 keys ahead; DashMap 161 ns, scc 172 ns, papaya 242 ns. A look for an absent key: 39 ns; DashMap 20 ns, papaya 32 ns |
//! | shard wakers (`log/shard.rs`) | one map of waiters for each shard; the writer looks at it once for each block, and skips it when no caller waits | event-listener 86 ns, atomic-waker 24 ns in a separate measurement. The map: not measured |
//! | stock word (`stock/counter.rs`) | one compare-exchange on one word takes a line or refuses it; there is no crate for it | a unit taken: 3.4 ns; an addition to a word: 2.8 ns. With two threads 15 ns and 11 ns |
//! | order pages (`partition/orders.rs`) | the id is the place, so no table grows | an insert: 12 ns, the slowest of 2 million 0.3 ms; slab: 58 ns, the slowest 12 ms |
