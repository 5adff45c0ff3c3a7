//! Refusals that are [remembered](crate::Options::remember_refusals): one key, one outcome, for refused requests too.
//!
//! A refusal is then an outcome like an order. It takes the partition's lock and a record, is returned when that is
//! durable, and is the answer to every repeat of its key until its time is over. No refusal is returned without the
//! lock, because a late duplicate of the request must receive the same one.

use crate::engine::core::Core;
use crate::engine::place::{Answer, Attempt};
use crate::error::{PlaceError, Unavailable};
use crate::log::{REFUSE_BYTES, RefuseRecord};
use crate::mutants::{self, Mutant};
use crate::order::{Content, KeyReused, Placed, Refusal, Refused, RefusedBefore, Request};
use crate::partition::{Entry, Partition, PartitionState};

/// Step 4 for a key without an order: what it was refused, or the field that differs.
#[cold]
#[inline(never)]
pub(super) fn repeat(
    state: &mut PartitionState,
    request: &Request<'_>,
    key_hash: u64,
    now_ms: u64,
) -> Option<Answer> {
    let refusals = state.refusals.as_ref().filter(|_| !mutants::is(Mutant::SellsToRefusedKey))?;
    let found = refusals.find(key_hash, request.buyer, request.key, now_ms)?;
    let Entry { refused: Refused { content, refusal, until_ms, .. }, lsn, .. } = *found;
    let placed = match content.differing_field(&Content::of(request)) {
        None => {
            state.counts.replayed += 1;
            Placed::RefusedBefore(RefusedBefore { refusal, until_ms })
        }
        Some(field) => {
            state.counts.keys_reused += 1;
            Placed::KeyReused(KeyReused { order: None, field })
        }
    };
    Some((placed, Some(lsn)))
}

/// Ends an attempt that is refused at this time; the caller holds the partition's lock. Fails if the refusal must be
/// remembered and cannot be logged: nothing changed then.
pub(super) fn refuse(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    request: &Request<'_>,
    key_hash: u64,
    refusal: Refusal,
    now_ms: u64,
) -> Result<Attempt, PlaceError> {
    let lsn = match core.bounds.remember_ms {
        Some(keep_ms) if refusal.is_remembered() => {
            let (buyer, key, content) = (request.buyer, request.key, Content::of(request));
            let until_ms = now_ms.saturating_add(keep_ms);
            let refused = Refused { buyer, key, content, refusal, until_ms };
            let lsn = remember(partition, state, refused, key_hash, now_ms)?;
            Some(lsn).filter(|_| !mutants::is(Mutant::TellsRefusalBeforeDurable))
        }
        _ => None,
    };
    Ok(Attempt::Answered((Placed::Refused(refusal), lsn)))
}

#[cold]
#[inline(never)]
fn remember(
    partition: &Partition,
    state: &mut PartitionState,
    refused: Refused,
    key_hash: u64,
    now_ms: u64,
) -> Result<u64, Unavailable> {
    partition.lane.room_for_new(REFUSE_BYTES)?;
    partition.lane.check_disk()?;
    let record = RefuseRecord { refused, time_low: now_ms as u32 };
    let lsn = partition.lane.append(|bytes| record.write(bytes), std::iter::empty());
    if let Some(refusals) = &mut state.refusals {
        refusals.add(refused, lsn, key_hash);
        // Refusals leave from the front. If the option was changed, the one after the oldest may be due now.
        partition.lower_next_due(refusals.next_due_ms());
    }
    Ok(lsn)
}
