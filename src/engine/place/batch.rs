//! Many orders at once: they are placed in the order of the batch, as [`place`](super) places each. The memory that an
//! order needs is asked for while the orders before it are placed.

use crate::bounds::BATCH_ORDERS_MAX;
use crate::engine::core::Core;
use crate::engine::place::straight::Plain;
use crate::engine::place::{Answer, answer_order};
use crate::error::{BatchError, PlaceError};
use crate::log::{Commit, Target};
use crate::order::{Order, Placed};
use crate::partition::Partition;
use crate::routing::partition_of;
use crate::stock::Sku;

/// How many orders ahead memory is asked for: far enough for a line to come from anywhere, near enough for it to be
/// there still.
const ORDERS_AHEAD: usize = 12;
/// After this many orders the time is read anew.
const ORDERS_A_READING: usize = 64;

type Answers = Vec<Result<Placed, PlaceError>>;

pub(in crate::engine) fn place_batch(
    core: &Core,
    orders: &[Order],
) -> Result<Commit<Answers>, BatchError> {
    core.check_open()?;
    if orders.len() > BATCH_ORDERS_MAX {
        return Err(BatchError::TooManyOrders { orders: orders.len(), max: BATCH_ORDERS_MAX });
    }
    let mut last_lsns = vec![0; core.partitions.len()];
    let mut answers = Vec::with_capacity(orders.len());
    let mut coming = Coming::new(core, orders);
    for part in orders.chunks(ORDERS_A_READING) {
        // No order of this part is placed before this time.
        core.time.now_ms();
        for (order, arrival) in part.iter().zip(&mut coming) {
            let answer = place(core, arrival, order);
            answers.push(answer.map(|(placed, lsn)| {
                // A repeat rests on an older record than the order before it.
                let last_lsn: &mut u64 = &mut last_lsns[arrival.partition as usize];
                *last_lsn = lsn.map_or(*last_lsn, |lsn| lsn.max(*last_lsn));
                placed
            }));
        }
    }
    // An LSN is 1 at least.
    let targets = (0..).zip(last_lsns).filter(|(_, lsn)| *lsn > 0);
    let targets = targets.map(|(lane, lsn)| Target { lane, lsn }).collect();
    Ok(Commit::at_all(answers, &core.lanes, targets))
}

fn place(core: &Core, arrival: Arrival<'_>, order: &Order) -> Result<Answer, PlaceError> {
    let (partition, key_hash) = (arrival.partition(core), arrival.key_hash);
    let plain = |sku| Plain::new(core, partition, key_hash, sku, order)?.place_in_batch();
    match arrival.known.and_then(plain) {
        Some(answer) => Ok(answer),
        None => answer_order(core, partition, key_hash, arrival.known, order),
    }
}

/// An order of the batch whose memory was asked for.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    partition: u32,
    key_hash: u64,
    /// The SKU of an order of one line.
    known: Option<&'a Sku>,
}

impl<'a> Arrival<'a> {
    fn new(core: &'a Core, order: &Order) -> Self {
        let partition = partition_of(order.buyer(), core.partitions.len()) as u32;
        let key_hash = core.hasher.hash(order.buyer(), order.key());
        let arrival = Self { partition, key_hash, known: core.known_sku_of(order) };
        arrival.partition(core).prefetch();
        arrival.partition(core).keys.prefetch_to_read(key_hash);
        arrival
    }

    fn partition(&self, core: &'a Core) -> &'a Partition {
        &core.partitions[self.partition as usize]
    }
}

/// The orders of a batch, in its order; some of them are asked for ahead.
struct Coming<'a> {
    core: &'a Core,
    left: std::slice::Iter<'a, Order>,
    /// A ring: the next arrival is at `next`.
    ahead: [Option<Arrival<'a>>; ORDERS_AHEAD],
    next: usize,
}

impl<'a> Coming<'a> {
    fn new(core: &'a Core, orders: &'a [Order]) -> Self {
        let mut left = orders.iter();
        let ahead = std::array::from_fn(|_| left.next().map(|order| Arrival::new(core, order)));
        Self { core, left, ahead, next: 0 }
    }
}

impl<'a> Iterator for Coming<'a> {
    type Item = Arrival<'a>;

    fn next(&mut self) -> Option<Arrival<'a>> {
        let after = self.left.next().map(|order| Arrival::new(self.core, order));
        let arrival = std::mem::replace(&mut self.ahead[self.next], after);
        self.next = (self.next + 1) % ORDERS_AHEAD;
        arrival
    }
}
