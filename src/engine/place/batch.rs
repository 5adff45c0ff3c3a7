//! Many orders at once: each partition is locked once for many of them, and the memory that one order needs is
//! prefetched while other orders are placed.

use crate::bounds::BATCH_ORDERS_MAX;
use crate::engine::core::Core;
use crate::engine::place::skus::Skus;
use crate::engine::place::{self, Admitted, Attempt, answer, attempt};
use crate::error::{BatchError, PlaceError, Unavailable};
use crate::log::{Commit, Target};
use crate::order::{Order, Placed, Request};
use crate::partition::Partition;
use crate::routing::partition_of;

/// Most orders that are placed under one lock; other requests of the partition come in between.
const ORDERS_A_LOCK: usize = 64;
/// How many orders ahead memory is asked for: far enough for a line to come from anywhere, near enough for
/// it to be there still.
const ORDERS_AHEAD: usize = 24;

/// Where an order of the batch belongs.
#[derive(Clone, Copy)]
struct Arrival {
    partition: u32,
    /// Its place in the batch.
    index: u32,
    key_hash: u64,
}

/// A request of the batch that passed steps 1 and 2.
struct Item<'a> {
    arrival: Arrival,
    request: Request<'a>,
    skus: Skus<'a>,
}

type Answers = Vec<Result<Placed, PlaceError>>;

pub(in crate::engine) fn place_batch(
    core: &Core,
    orders: &[Order],
) -> Result<Commit<Answers>, BatchError> {
    core.check_open()?;
    if orders.len() > BATCH_ORDERS_MAX {
        return Err(BatchError::TooManyOrders { orders: orders.len(), max: BATCH_ORDERS_MAX });
    }
    let mut answers = Vec::with_capacity(orders.len());
    answers.resize_with(orders.len(), || Err(PlaceError::Unavailable(Unavailable::Closed)));
    let arrivals = by_partition(core, orders);
    let mut ahead = Ahead { core, coming: arrivals.iter(), last_partition: None };
    ahead.load(ORDERS_AHEAD);
    let mut targets = Vec::new();
    let mut items = Vec::new();
    for group in arrivals.chunk_by(|a, b| a.partition == b.partition) {
        let partition = &core.partitions[group[0].partition as usize];
        let mut last_lsn = None;
        for part in group.chunks(ORDERS_A_LOCK) {
            ahead.load(part.len());
            for &arrival in part {
                let order = &orders[arrival.index as usize];
                match admit(core, partition, arrival, order) {
                    Ok(Outcome::Item(item)) => items.push(item),
                    Ok(Outcome::Refused(placed)) => answers[arrival.index as usize] = Ok(placed),
                    Err(error) => answers[arrival.index as usize] = Err(error),
                }
            }
            last_lsn = last_lsn.max(place_part(core, partition, &items, &mut answers));
            items.clear();
        }
        targets.extend(last_lsn.map(|lsn| Target { lane: partition.lane.index(), lsn }));
    }
    Ok(Commit::at_all(answers, &core.lanes, targets))
}

/// The orders of each partition together, in the order of the batch: two orders of one buyer stay in it.
fn by_partition(core: &Core, orders: &[Order]) -> Vec<Arrival> {
    let arrivals = (0..).zip(orders).map(|(index, order)| Arrival {
        partition: partition_of(order.buyer(), core.partitions.len()) as u32,
        index,
        key_hash: core.hasher.hash(order.buyer(), order.key()),
    });
    let mut arrivals: Vec<_> = arrivals.collect();
    arrivals.sort_unstable_by_key(|arrival| (arrival.partition, arrival.index));
    arrivals
}

/// Asks for the memory of orders before their turn.
struct Ahead<'a> {
    core: &'a Core,
    coming: std::slice::Iter<'a, Arrival>,
    last_partition: Option<u32>,
}

impl Ahead<'_> {
    fn load(&mut self, orders: usize) {
        for arrival in self.coming.by_ref().take(orders) {
            let partition = &self.core.partitions[arrival.partition as usize];
            if self.last_partition.replace(arrival.partition) != Some(arrival.partition) {
                partition.prefetch();
            }
            partition.keys.prefetch(arrival.key_hash);
        }
    }
}

enum Outcome<'a> {
    Item(Item<'a>),
    Refused(Placed),
}

/// Steps 1 and 2 of one order.
fn admit<'a>(
    core: &'a Core,
    partition: &Partition,
    arrival: Arrival,
    order: &'a Order,
) -> Result<Outcome<'a>, PlaceError> {
    let request = order.validate(&core.bounds)?;
    match place::admit(core, partition, &request, arrival.key_hash, None)? {
        Admitted::Refused(refusal) => Ok(Outcome::Refused(Placed::Refused(refusal))),
        Admitted::Skus(skus) => Ok(Outcome::Item(Item { arrival, request, skus })),
    }
}

/// Steps 3 to 7 of some orders of one partition, and the last record that their answers rest on.
fn place_part(
    core: &Core,
    partition: &Partition,
    part: &[Item<'_>],
    answers: &mut [Result<Placed, PlaceError>],
) -> Option<u64> {
    if part.is_empty() {
        return None;
    }
    let mut last_lsn = None;
    let mut state = partition.lock();
    let now_ms = core.time.now_ms();
    let mut rest = part.iter();
    for Item { arrival, request, skus } in rest.by_ref() {
        let answered = &mut answers[arrival.index as usize];
        match attempt(core, partition, &mut state, request, arrival.key_hash, skus, now_ms) {
            Ok(Attempt::Answered((placed, lsn))) => {
                *answered = Ok(placed);
                last_lsn = last_lsn.max(lsn);
            }
            Err(error) => *answered = Err(error),
            // This order and those after it go one by one, so that the lock is not held while carts in flight settle
            // or holds that are over expire.
            Ok(Attempt::Open(_) | Attempt::Expired) => {
                drop(state);
                let left = &part[part.len() - rest.len() - 1..];
                return last_lsn.max(place_one_by_one(core, partition, left, answers));
            }
        }
    }
    last_lsn
}

fn place_one_by_one(
    core: &Core,
    partition: &Partition,
    items: &[Item<'_>],
    answers: &mut [Result<Placed, PlaceError>],
) -> Option<u64> {
    let mut last_lsn = None;
    for Item { arrival, request, .. } in items {
        let answered = answer(core, partition, request, arrival.key_hash, None);
        answers[arrival.index as usize] = answered.map(|(placed, lsn)| {
            last_lsn = last_lsn.max(lsn);
            placed
        });
    }
    last_lsn
}
