//! Segments that no checkpoint needs any more and that are kept for audits and feeds
//! ([`Options::log_retention`](crate::Options::log_retention)).
//!
//! They stay where they are, under their names: nothing moves, so a crash can come between nothing; their
//! ordinals go on counting up without a gap, and an open reads no more than their first page. A segment is as
//! old as its last block, and that is no younger than the first block of the next segment.

use std::ops::Range;
use std::sync::Arc;

use crate::clock::EngineTime;
use crate::log::format::Prefix;
use crate::log::segment_name::SegmentName;
use crate::storage::{ALIGN_BYTES, Access, AlignedBuffer, Storage};

/// See the module.
#[derive(Debug)]
pub(crate) struct Archive {
    retention_ms: Option<u64>,
    time: Arc<EngineTime>,
    /// An ordinal, and until when that segment is kept: looked up once.
    until_ms: Option<(u64, u64)>,
}

impl Archive {
    pub(crate) fn new(retention_ms: Option<u64>, time: Arc<EngineTime>) -> Self {
        Self { retention_ms, time, until_ms: None }
    }

    /// Whether the first of these segments, which no checkpoint needs, is still kept.
    pub(crate) fn keeps_first(
        &mut self,
        storage: &dyn Storage,
        name: &SegmentName,
        unneeded: &Range<u64>,
    ) -> bool {
        let Some(retention_ms) = self.retention_ms else { return false };
        let first = unneeded.start;
        let until_ms = match self.until_ms.filter(|(ordinal, _)| *ordinal == first) {
            Some((_, until_ms)) => until_ms,
            None => {
                // A block that cannot be read says no time: then the one after it counts, which makes
                // it younger. The segment behind them is needed, so the last of these reads is of one.
                let mut later = first + 1..=unneeded.end;
                let ended_ms = later.find_map(|next| first_block_ms(storage, &name.path(next)));
                let Some(ended_ms) = ended_ms else { return true };
                ended_ms.saturating_add(retention_ms)
            }
        };
        self.until_ms = Some((first, until_ms));
        self.time.now_ms() < until_ms
    }
}

/// The engine time of a segment's first block.
fn first_block_ms(storage: &dyn Storage, path: &str) -> Option<u64> {
    let file = storage.open_for_reading(path, Access::Direct).ok()?;
    let mut bytes = AlignedBuffer::zeroed(ALIGN_BYTES);
    let read = file.read_at(&mut bytes, 0).ok()?;
    let prefix = Prefix::parse(&bytes[..read]).ok()?;
    Some(prefix.time().engine_ms())
}
