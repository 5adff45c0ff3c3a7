//! How large an engine gets, and which options decide that.
//!
//! [`Options::estimate`](crate::Options::estimate) computes it all for a
//! [`Workload`](crate::Workload), from the sizes of the engine's own tables and records.
//!
//! # Memory
//!
//! | what | bytes each |
//! |---|---|
//! | an order of one line in memory | 80 in its page, 11 to 22 for its key, 5 for its timer |
//! | besides, once it is finished | 9 in the queue of finished orders |
//! | besides, once it has outlived most of its page | some 40, to be found there |
//! | a cart | 8 a line, and some 90 for the list |
//! | a payload | its own, and some 100 |
//! | a partition | 0.8 MB: eight emptied pages that are kept for the orders to come, and tables' least sizes |
//! | a SKU | 256, its place in the registry, and what it remembers of adjustments |
//! | a buyer who has something of a SKU with a limit | 40 to 80 |
//! | a refusal that is [remembered](crate::Options::remember_refusals) | some 150, its key's place included |
//! | a log shard | two blocks ([`Options::block_bytes_max`](crate::Options::block_bytes_max)) |
//! | records that wait for a disk that has fallen behind | twice [`Options::log_backlog_bytes_max`](crate::Options::log_backlog_bytes_max) at most |
//!
//! How many orders are in memory follows from how long they stay: from their placing to their end, and then
//! for [`Options::retention`](crate::Options::retention), or if they were fulfilled for
//! [`Options::returns_window`](crate::Options::returns_window). A day of either costs a day's orders at 120
//! bytes each: a million orders a day kept for two weeks more are 1.7 GB.
//!
//! [`Options::orders_max`](crate::Options::orders_max) is a bound and costs nothing.
//! [`Options::orders_reserved`](crate::Options::orders_reserved) takes and touches the memory at open, so
//! that no request pays for it: reserve what a sale's peak will add, rather than all that two days will hold.
//!
//! # Disk
//!
//! An order of one line takes 64 bytes of log for its placing, and some 40 more until it has left
//! memory. Nothing of that stays: a checkpoint is taken after
//! [`Options::checkpoint_bytes`](crate::Options::checkpoint_bytes) of log, or after as much log as
//! a checkpoint is large if that is more, and segments before the older of the last two are used
//! again. So the folder comes to three times that, three checkpoints of 96 bytes an order, and for
//! each shard some [segments](crate::Options::segment_bytes) ahead.
//!
//! A refusal that is remembered takes 96 bytes of log and 104 of a checkpoint.
//!
//! A block takes at least 4 KiB, and one that is written at once carries what came since the last
//! one: under little load a single record. Five million orders a day spread evenly write some 60 GB
//! of blocks, which is 0.7 MB a second; the same orders in one hour write less than a tenth of
//! that. These writes wear the drive, but the folder does not keep them.
//!
//! # Restart
//!
//! An open loads the newest checkpoint and replays the log after it. A smaller `checkpoint_bytes` means
//! less log to replay and more checkpoints to write; below the size of a checkpoint it changes nothing. Half of
//! the time and more goes into touching fresh memory, which is slow on virtual machines.
//!
//! # An example: five million orders a day, a million a second at the peak
//!
//! A marketplace takes five million orders a day, most of them in sales that begin on the hour; ten thousand
//! SKUs, of which some have buyer limits, with two million pairs of buyer and SKU in a sale's week. Orders are
//! paid within minutes and shipped within a day and a half. Two days of retention, as by default.
//!
//! ```
//! use std::time::Duration;
//! use doorbuster::{Options, Workload};
//!
//! let options = Options::new("./sale")
//!     .orders_max(40_000_000)
//!     .orders_reserved(20_000_000) // what is there on a usual day, and what a peak adds
//!     .log_backlog_bytes_max(256 << 20); // four seconds of the peak, if the disk stalls
//! let workload = Workload::a_day(5_000_000)
//!     .live_for(Duration::from_secs(36 * 3600))
//!     .skus(10_000)
//!     .limited(2_000_000);
//!
//! let estimate = options.estimate(&workload)?;
//! assert_eq!(estimate.orders, 17_500_000); // three and a half days
//! assert!(estimate.order_bytes <= 128);
//! assert!((2 << 30..3 << 30).contains(&estimate.memory_bytes)); // of a machine of 8 GB
//! assert!(estimate.checkpoint_bytes < 2 << 30);
//! assert!(estimate.disk_bytes < 16 << 30); // leave twice that
//! assert!(estimate.descriptors < 64); // of the process's limit
//! assert!(estimate.restart < Duration::from_secs(30));
//!
//! // A month for returns instead of two days:
//! let returns = options.clone().orders_max(200_000_000).returns_window(30 * Duration::from_secs(24 * 3600));
//! let more = returns.estimate(&workload)?.memory_bytes - estimate.memory_bytes;
//! let a_day = more / 28;
//! assert!((500_000_000..800_000_000).contains(&a_day)); // what each further day costs
//! # Ok::<(), doorbuster::OpenError>(())
//! ```
//!
//! What the peak needs:
//!
//! - **Calling threads.** Two of them place 2.0 to 3.6 million durable orders a second on two
//!   processors, by the machine of the day (see `benches/README.md`). The peak needs as many as the
//!   machine has processors, less one for each log shard.
//! - **Disk.** A million placements a second are 70 MB a second of log, in blocks of up to
//!   [`Options::block_bytes_max`](crate::Options::block_bytes_max). Any drive that syncs in a millisecond does
//!   that with the default two shards; one that syncs in five wants more shards, so that more is under way.
//! - **A stall of the disk.** What comes meanwhile waits in memory, 64 bytes an order: beyond
//!   `log_backlog_bytes_max` orders are refused as
//!   [`Backlogged`](crate::Unavailable::Backlogged), which a caller tries again.
//! - **Restart.** With a checkpoint of 1.7 GB: what the estimate says. Where that is too long, keep orders for a
//!   shorter time, or use a machine with memory that is fast to touch.
//!
//! # Figures of your own machine
//!
//! The rates of a restart differ by machine. [`Engine::recovery`](crate::Engine::recovery) says how
//! long each part of the last open took; pass the rates to [`Workload`](crate::Workload). The
//! example `soak` shows memory, disk and restart of a workload that runs.
