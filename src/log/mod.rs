//! The write-ahead log (steps 7 and 8 of the request path): sharded, appended to under the
//! partitions' own locks, made durable block by block.
//!
//! A record goes into its *lane*: one for each partition, one in each shard for the SKUs' own records. A lane numbers
//! its records (the LSN) without a gap. A shard's writer gathers what its lanes hold into a *block*, writes it, and
//! then advances the lanes' durable marks.

mod activity;
mod archive;
mod commit;
mod durable_mark;
mod effect;
mod format;
mod lane;
mod latch;
mod manifest;
mod reader;
mod record;
mod segment;
mod segment_name;
mod shard;
mod space;
mod writer;

#[cfg(all(test, loom))]
mod loom_tests;

pub(crate) use activity::Activity;
pub(crate) use archive::Archive;
pub use commit::{Commit, Ready};
pub(crate) use commit::{Target, block_on};
pub(crate) use effect::{Effect, EffectKind};
pub(crate) use format::{
    BlockMark, FORMAT_VERSION, LogPosition, Section, VectorEntry, hash_prefix,
};
pub(crate) use lane::Lane;
#[cfg(any(test, feature = "testing"))]
pub(crate) use lane::LaneBuffer;
pub(crate) use latch::Latch;
pub(crate) use manifest::{MANIFEST, MANIFEST_NEW, Manifest};
pub(crate) use reader::{BlockView, Expected, Reader, TailState, first_block};
pub(crate) use record::{
    AdjustRecord, BuyersRecord, Counting, END_BUYERS_BYTES, EndSaleRecord, Joins, LEAVE_BYTES,
    LoggedLines, LoggedOrders, LoggedParts, MerchantRecord, ORDER_BYTES, OrderRecord, PLACE_BYTES,
    PROMOTE_BYTES, PlaceRecord, PromoteRecord, REFUSE_BYTES, Record, RefuseRecord, RefusedBody,
    RetireRecord, RulesRecord, SKU_BYTES, SwitchRecord, full_time_ms, place_bytes, records,
    retire_bytes, rule_words, rules_of_words,
};
pub(crate) use segment::{
    FoundSegments, Provided, SPARES_OPEN_MAX, Segment, Segments, Spare, UNSYNCED_MAX,
};
pub(crate) use segment_name::{LOG_FOLDER, LOST_AND_FOUND, SegmentName, is_unfinished, ordinals};
pub(crate) use shard::{Marks, Shard};
pub(crate) use space::{Room, kept_bytes};
#[cfg(any(test, feature = "testing"))]
pub(crate) use writer::WriterStep;
pub(crate) use writer::{Writer, WriterCounters, WriterStart};
