//! What survives what, and how that is known.
//!
//! # What an acknowledgement means
//!
//! | | [`Synced`](crate::Durability::Synced) (default) | [`Written`](crate::Durability::Written) |
//! |---|---|---|
//! | a block is acknowledged when | the disk says that it has it | the operating system has it |
//! | the process is killed | nothing acknowledged is lost | nothing acknowledged is lost |
//! | the machine loses power | nothing acknowledged is lost | the latest blocks may be lost; the folder is then refused, or cut back to a consistent state by [`Options::cut_after_power_loss`](crate::Options::cut_after_power_loss) |
//!
//! A crash before an acknowledgement loses only what no caller received. A request without an answer is there as a
//! whole afterwards, or not at all; sending the same key again shows which.
//!
//! "Sold out" and "limit reached" are returned at once, and may rest on holds that a crash then erases. Refusals that
//! are [remembered](super::semantics#remembered-refusals) are returned when they are durable. Every other answer
//! rests on durable state only.
//!
//! # Backup and verification
//!
//! [`Engine::backup`](crate::Engine::backup) copies the newest checkpoint and the log after it, up to a
//! cut through all shards that contains every block which another block in it names. So a backup is the engine's
//! state at one moment between call and return, and contains all that was durable before the call. The manifest is
//! written last. A backup that was cut short has none, so an open refuses it and never takes it for a new engine.
//!
//! [`verify`](crate::verify()) reads everything that an open would rely on or fall back to, checkpoint by
//! checkpoint, and compares the states that they lead to. It also names damage that an open would survive.
//!
//! # The folder
//!
//! An open follows the path of the folder once, and the engine then holds the folder by descriptor. It stays in
//! that folder when a volume is mounted over the path, a link is changed, or the folder is renamed. The next open
//! follows the path anew, so the engine reports when the path leads elsewhere. It looks at the end of the open, at
//! each checkpoint and backup, and at the close: see [`Stats::folder_displaced`](crate::Stats::folder_displaced)
//! and [`CloseError::Displaced`](crate::CloseError::Displaced).
//!
//! One engine at a time has the folder open. It locks (`flock`) the folder itself and the file
//! `LOCK` in it. The file is for file systems that cannot lock folders, such as NFS: there the host
//! must not remove `LOCK` while the engine runs. A running [backup](crate::Engine::backup) keeps
//! the lock, even when its engine is closed meanwhile. [`verify`](crate::verify) and
//! [`served_in_turn`](crate::served_in_turn) take no lock: run them while no engine has the folder
//! open.
//!
//! # A volume that is only read
//!
//! [`Engine::open_read_only`](crate::Engine::open_read_only) shows the state that an open would recover, and writes
//! nothing. It is for snapshots, and for volumes that are mounted for reading only. Several processes may open a
//! folder in this way at once; while an engine has the folder open, it is refused. Open a backup, or a snapshot of
//! the whole folder at one moment. A copy that was made file by file under a running engine is neither.
//!
//! # What is assumed of the medium
//!
//! - Files of the log are written past the page cache (`O_DIRECT`) where the file system allows it. Where it
//!   refuses that, at the open or at a read or write, they go through the page cache and each block is synced;
//!   [`Stats::shards_cached`](crate::Stats::shards_cached) counts the shards that do. An open then writes the end of
//!   each shard anew, because the page cache may show what the disk does not have.
//! - A write with `O_DSYNC`, or a `fdatasync`, that reported success has reached stable storage. A
//!   drive that lies about that loses acknowledged orders. An open detects the loss if another shard or the manifest
//!   names what is missing.
//! - A write changes nothing outside the 4 KiB units it covers. Within them anything may be torn.
//! - A rename is atomic. It, and the creation of a file, is durable once the folder is synced.
//! - A failed write or sync proves nothing about what the disk has. The log is latched then: callers that wait
//!   receive [`CommitError::Unknown`](crate::CommitError::Unknown), later verbs are refused, reads go on. A sync is
//!   never tried again, because Linux may have marked the pages clean (Rebello et al., "Can applications recover from
//!   fsync failures?", USENIX ATC 2020). Only an open, which reads past the page cache, knows more.
//!
//! # Forks
//!
//! A child that the process forks has a copy of its memory and none of the engine's threads, so nothing that the
//! child asks for becomes durable. The engine detects this in every call that would wait for those threads, by one
//! system call. The verbs on orders do not make that system call:
//!
//! | in the child | answer |
//! |---|---|
//! | waiting for a [`Commit`](crate::Commit), [`Watch`](crate::Watch) or [`Ready`](crate::Ready), or polling it | [`CommitError::Forked`](crate::CommitError::Forked) |
//! | [`checkpoint`](crate::Engine::checkpoint), [`backup`](crate::Engine::backup) | [`Unavailable::Forked`](crate::Unavailable::Forked) |
//! | [`close`](crate::Engine::close) | [`CloseError::Forked`](crate::CloseError::Forked); the engine stays open in the process that opened it |
//! | dropping the last handle | nothing is done, and the memory is not freed |
//! | a verb on an order, a read | the answer as of the fork; waiting for the verb's commit fails as above |
//!
//! A lock that another thread held at the moment of the fork stays locked in the child, so a verb may block there
//! forever. A child should only call `exec`.
//!
//! # When the process dies
//!
//! | at this point | is on the disk | the next open | shown by, in `tests/` |
//! |---|---|---|---|
//! | before the block with the record is written | nothing of it | the order never was; its key is free | `model` |
//! | while the block is written | a part of it | finds a torn tail: cuts it off, durably | `log_damage/tail.rs` |
//! | after the block is written, before it is synced | perhaps all of it | reads past the page cache; what is whole is made durable before it counts | `log_damage/crash.rs`: `what_an_open_has_read_is_durable_before_any_answer` |
//! | after it is durable, before the caller received it | all of it | the order is there; a retry of its key receives it | `model`, `kill` |
//! | while a segment is prepared | a file with another name | ignores and replaces it | `open/faults.rs`: `working_in_a_folder_may_stop_in_any_call` |
//! | while the folder is created | a manifest that says so | starts over: nothing was served | `open/faults.rs`: `making_a_folder_may_stop_in_any_call` |
//! | while an open makes durable what it read | what was there, and perhaps zeros after its end | does the same again | `open/faults.rs`: `opening_a_folder_may_stop_in_any_call` |
//! | while the manifest is replaced | the old one or the new one | both are true | `open/faults.rs`: `closing_a_folder_may_stop_in_any_call`, `open/order_ids.rs`: `a_crash_in_any_call_while_ids_are_reserved_gives_none_twice` |
//! | while a checkpoint is written | a part of it, with another name | ignores it; the ones before it and their log are untouched | `checkpoint/crash.rs` |
//! | while a checkpoint is renamed | the new one, or the two before it | each is true with the log after it | `checkpoint/crash.rs` |
//! | after that, before the third-newest is given up | three checkpoints | takes the newest | `checkpoint/crash.rs` |
//! | while the third-newest is written over | some of both, with another name | ignores it | `checkpoint/crash.rs` |
//! | while a segment is recycled | it has its old name or its new one; what is in it is older than every log position that counts | tells its blocks by number, epoch and chain | `checkpoint/crash.rs` |
//!
//! `tests/simulation` draws all of these together from seeds, with disks that fail, lie and rot,
//! and clocks that jump. The machine may stop in any call of the storage, again and again: also in
//! an open, a checkpoint, a backup or the recycling of the log. After every open a judge that
//! shares no code with the engine compares all that was acknowledged with all that is there. It
//! also compares the orders that have left memory with those that should have. A checkpoint, the
//! one before it, the whole log and a backup must come to the same state. Engines with one planted
//! bug each show that the judge finds real ones (`tests/simulation/mutants.rs`).
//!
//! # Checkpoints
//!
//! A checkpoint holds the state to which the log before it leads. It counts once the log is durable
//! up to all that it holds, its file is synced and was read back, and its name is durable. The
//! engine keeps the newest two, and the log after the older one. If the newest is cut short or
//! damaged, an open falls back to the one before, loses nothing, and reports it in
//! [`RecoveryReport::checkpoints_damaged`](crate::RecoveryReport::checkpoints_damaged). If neither
//! is whole, the open reads the whole log. It is refused if the log no longer goes back to the
//! beginning. A checkpoint of another engine or of a newer format is refused.
//!
//! A checkpoint also says how far the log of every shard was durable when it was taken. A log that
//! ends before that is corrupt, whichever checkpoint is used. An open also looks at the segments
//! before the place where it begins to read, among them the log of the checkpoint to fall back to.
//! Their names must have no gap from the oldest on. The first blocks that it can read of them must
//! be of that shard and in the order of the names. So an open names a file that is missing or
//! misplaced before it needs that file.
//!
//! A checkpoint that cannot be written, on a full disk or a failing one, only makes the next
//! restart slower. The caller that asked for it receives the error, and
//! [`Stats::checkpoints_failed`](crate::Stats::checkpoints_failed) counts it. The engine tries
//! again, with a new file, after a quarter of
//! [`Options::checkpoint_bytes`](crate::Options::checkpoint_bytes) more log.
//!
//! # How the open tells damage from a crash
//!
//! A crash can only tear the last write of a shard, and only before it was acknowledged. So damage is *torn*, and is
//! cut off, if it is the last thing in its shard and no other shard saw it durable. It is *corrupt*, and the folder
//! is refused with the shard, file, offset and cause, if
//!
//! - a later block of the shard follows it;
//! - another shard's block names it in its durable vector, or names a later one;
//! - the manifest names it, or a later one: it holds every shard's end as of the last open or close;
//! - a block is of another engine or shard, its number does not follow that of the block before, or
//!   it does not carry that block's hash: blocks form a chain (BLAKE3), so a changed, dropped,
//!   inserted or older block does not fit.
//!
//! A read error refuses the open; it never cuts anything off. A folder of a newer format is refused.
//!
//! # The window that remains
//!
//! The last acknowledged blocks of a shard can rot, or the shard can be rolled back to an older
//! copy of itself. An open cannot notice this while no later block of the shard, no other shard's
//! vector and no manifest names them. To keep that window short, a shard that has had nothing to
//! append for 5 ms writes a *witness*, a block without records. A close does so too, and then notes
//! every shard's end in the manifest. If all shards are rolled back together to one earlier moment,
//! the folder looks as it did then. To notice that, the host must record elsewhere what the engine
//! acknowledged.
//!
//! The chain is not keyed: it shows accidents, and it shows tampering to a reader that noted a later hash.
//!
//! # A full disk
//!
//! Each shard keeps room for endings ahead of the segment in use: one segment, or 8 KiB for each of
//! up to 8,192 live orders if that is more. To this it adds 32 bytes for every live order (its
//! confirm, and its fulfil or cancel). It keeps one more segment for new orders. When the disk has
//! no room to replace that segment, [archived](super::retention#the-log) segments are used for it.
//! When there are none, new orders go on until only the kept room is left. Then new orders,
//! adjustments and rules are refused with [`DiskFull`](crate::Unavailable::DiskFull), while
//! confirm, cancel, fulfil and expiry go on in the kept room. A block takes at least 4 KiB. The
//! endings of 8,192 orders may each come alone in a block; those of further orders must share
//! blocks, as they do under load. The engine looks for room again at growing intervals of at most 5
//! s, and accepts orders again by itself when there is some.
//!
//! A checkpoint is written over the file of a checkpoint that is no longer kept, so it needs no
//! more room than that file had. The engine keeps no other room for it. After an open there is no
//! such file until a new checkpoint has replaced an older one. While the disk is full, a longer
//! checkpoint cannot be written. Without one no segment is released, though orders end and leave
//! memory. Then the host must free room for one or two checkpoints.
//!
//! Some file systems write a copy instead of overwriting: btrfs, ZFS and bcachefs, and any file
//! system under a snapshot. They need room even for a block in a segment that is already allocated
//! in full. [`RecoveryReport::file_system`](crate::RecoveryReport::file_system) shows the kind
//! where it is known. When such a file system has no room for a block, the shard writes the block
//! again, because nothing of it was acknowledged. At the first attempt the shard makes no other
//! file meanwhile. If there is still no room, it removes its last spare segment and tries once
//! more. So the room that was kept serves endings there too, one spare at a time. This is weaker
//! than overwriting: the file system may need room for its own records, and removing a file does
//! not free what a snapshot holds. When no spare is left, waiting changes are neither lost nor
//! acknowledged until there is room, and the engine is not latched. Keep a reserve of free space
//! there.
//!
//! # A system that is short of descriptors or memory
//!
//! A spare segment that cannot be made or opened because descriptors or memory have run out (`EMFILE`,
//! `ENFILE`, `ENOMEM`, `EAGAIN`, `EINTR`) holds nothing that was acknowledged. The engine tries again, at the same
//! growing intervals as on a full disk, and counts the failed attempts in
//! [`Stats::segment_shortages`](crate::Stats::segment_shortages). Orders go on in the spares that are there. When
//! only the room that is kept for endings is left, or the next spare cannot be opened, new orders are refused with
//! [`SystemShort`](crate::Unavailable::SystemShort), and [`Engine::status`](crate::Engine::status) is
//! [`SystemShort`](crate::Status::SystemShort). A failed write or sync of a block that is being
//! acknowledged, or of a full segment, still latches the log. So does a failed sync of a shard's folder, unless the
//! folder could not be opened for it (`EMFILE`, `ENFILE`).
//!
//! An engine keeps few descriptors open: for each shard the segment that is written, two spares, and one segment
//! that is being made. A file that is written past the page cache has two descriptors.
//! [`Estimate::descriptors`](crate::Estimate::descriptors) shows the bound. The limit of the process (`ulimit -n`)
//! must leave room for it and for the host's own descriptors.
//!
//! # When the kept room is counted
//!
//! The engine counts the room that is kept for endings when a shard takes a segment, and every 10
//! ms while blocks are written. Orders that come in between on a disk that fills up at that moment
//! go to the segment that was just taken. If the backlog of a shard may be larger than a segment
//! ([`Options::log_backlog_bytes_max`](crate::Options::log_backlog_bytes_max),
//! [`Options::segment_bytes`](crate::Options::segment_bytes); by default it may not), the rest
//! waits for room before it is acknowledged. A close that cannot write the rest returns an error,
//! and the answer of the commits that wait is
//! [`CommitError::Unknown`](crate::CommitError::Unknown).
