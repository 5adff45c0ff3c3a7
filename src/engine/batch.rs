//! Many orders at once: each partition is locked once for many of them.

use crate::engine::core::Core;
use crate::engine::place::{self, Attempt, Skus, answer, attempt};
use crate::error::{BatchError, PlaceError, Unavailable};
use crate::log::{Commit, Target};
use crate::options::BATCH_ORDERS_MAX;
use crate::order::{Order, Placed, Request};
use crate::partition::partition_of;

/// Orders that are placed under one lock, at most; others of the partition come in between.
const ORDERS_A_LOCK: usize = 64;

/// A request of the batch that passed steps 1 and 2.
struct Item<'a> {
    index: usize,
    partition: usize,
    key_hash: u64,
    request: Request<'a>,
    skus: Skus<'a>,
}

pub(super) fn place_batch(
    core: &Core,
    orders: &[Order],
) -> Result<Commit<Vec<Result<Placed, PlaceError>>>, BatchError> {
    core.check_open()?;
    if orders.len() > BATCH_ORDERS_MAX {
        return Err(BatchError::TooManyOrders { orders: orders.len(), max: BATCH_ORDERS_MAX });
    }
    let mut answers: Vec<Option<Result<Placed, PlaceError>>> = Vec::new();
    answers.resize_with(orders.len(), || None);
    let mut items = Vec::with_capacity(orders.len());
    for (index, order) in orders.iter().enumerate() {
        match admit(core, index, order) {
            Ok(Admitted::Item(item)) => items.push(item),
            Ok(Admitted::Refused(placed)) => answers[index] = Some(Ok(placed)),
            Err(error) => answers[index] = Some(Err(error)),
        }
    }
    // Stable: two orders of one buyer stay in the order given.
    items.sort_by_key(|item| item.partition);
    let mut targets = Vec::new();
    for group in items.chunk_by(|a, b| a.partition == b.partition) {
        let mut last_lsn = None;
        for part in group.chunks(ORDERS_A_LOCK) {
            last_lsn = last_lsn.max(place_part(core, part, &mut answers));
        }
        let lane = &core.partitions[group[0].partition].lane;
        targets.extend(last_lsn.map(|lsn| Target { lane: lane.clone(), lsn }));
    }
    let answers = answers
        .into_iter()
        .map(|answer| answer.unwrap_or(Err(PlaceError::Unavailable(Unavailable::Closed))))
        .collect();
    Ok(Commit::at_all(answers, targets))
}

enum Admitted<'a> {
    Item(Item<'a>),
    Refused(Placed),
}

/// Steps 1 and 2 of one order. The look at the key also loads the line of the index that step 4 will
/// read, so that the misses of a whole batch overlap.
fn admit<'a>(core: &'a Core, index: usize, order: &'a Order) -> Result<Admitted<'a>, PlaceError> {
    let request = order.validate(&core.bounds)?;
    let partition = partition_of(request.buyer, core.partitions.len());
    let key_hash = core.hasher.hash(request.buyer, request.key);
    let keys = &core.partitions[partition];
    keys.keys.prefetch(key_hash);
    match place::admit(core, keys, &request, key_hash)? {
        place::Admitted::Refused(refusal) => Ok(Admitted::Refused(Placed::Refused(refusal))),
        place::Admitted::Skus(skus) => {
            Ok(Admitted::Item(Item { index, partition, key_hash, request, skus }))
        }
    }
}

/// Steps 3 to 7 of some orders of one partition, and the last record that their answers rest on.
fn place_part(
    core: &Core,
    part: &[Item<'_>],
    answers: &mut [Option<Result<Placed, PlaceError>>],
) -> Option<u64> {
    let partition = &core.partitions[part[0].partition];
    let mut last_lsn = None;
    let mut state = partition.state.lock();
    let mut rest = part.iter();
    for item in rest.by_ref() {
        match attempt(core, partition, &mut state, &item.request, item.key_hash, &item.skus) {
            Ok(Attempt::Answered((placed, lsn))) => {
                answers[item.index] = Some(Ok(placed));
                last_lsn = last_lsn.max(lsn);
            }
            Err(error) => answers[item.index] = Some(Err(error)),
            // This order and those behind it go one by one, so that the lock is not held while carts
            // in flight settle or holds that are over expire.
            Ok(Attempt::Open(_) | Attempt::Expired) => {
                drop(state);
                for item in std::iter::once(item).chain(rest.by_ref()) {
                    let answered = answer(core, partition, &item.request, item.key_hash);
                    answers[item.index] = Some(answered.map(|(placed, lsn)| {
                        last_lsn = last_lsn.max(lsn);
                        placed
                    }));
                }
                break;
            }
        }
    }
    last_lsn
}
