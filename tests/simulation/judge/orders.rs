//! What the host knows of its orders.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use doorbuster::{Order, OrderId, OrderState, RequestKey};

use super::At;

/// A request as the client sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) buyer: u64,
    pub(crate) key: u128,
    pub(crate) lines: Vec<(u64, u32)>,
    pub(crate) hold_ms: Option<u64>,
    pub(crate) payload: Filling,
}

/// One byte so many times.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filling {
    pub(crate) byte: u8,
    pub(crate) len: usize,
}

impl Filling {
    pub(crate) const NONE: Self = Self { byte: 0, len: 0 };

    pub(super) fn bytes(self) -> Vec<u8> {
        vec![self.byte; self.len]
    }
}

impl fmt::Debug for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{:02x}", self.len, self.byte)
    }
}

impl Asked {
    pub(crate) fn order(&self) -> Order {
        let order = Order::new(self.buyer, RequestKey::new(self.key)).payload(self.payload.bytes());
        let order = match self.hold_ms {
            Some(hold_ms) => order.hold_for(Duration::from_millis(hold_ms)),
            None => order,
        };
        self.lines.iter().fold(order, |order, (sku, units)| order.line(*sku, *units))
    }

    /// Units by SKU.
    pub(super) fn folded(&self) -> BTreeMap<u64, u32> {
        let mut folded = BTreeMap::new();
        for (sku, units) in &self.lines {
            *folded.entry(*sku).or_default() += units;
        }
        folded
    }
}

/// A state that an order was told to be in, and where that is durable.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) state: OrderState,
    pub(super) durable: Option<At>,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) asked: Asked,
    pub(super) lines: BTreeMap<u64, u32>,
    pub(super) hold_ms: u64,
    pub(super) deadline_ms: u64,
    /// Held first.
    pub(super) moments: Vec<Moment>,
}

impl Known {
    pub(super) fn state(&self) -> OrderState {
        self.moments.last().map_or(OrderState::Held, |moment| moment.state)
    }

    pub(super) fn last(&self) -> usize {
        self.moments.len() - 1
    }

    /// What was given back by it is not with the others yet.
    pub(super) fn is_returning(&self) -> bool {
        let gave_back = matches!(self.state(), OrderState::Cancelled | OrderState::Expired);
        gave_back && self.moments.last().is_some_and(|moment| moment.durable.is_none())
    }

    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.state() == OrderState::Held && self.deadline_ms <= now_ms
    }
}

/// Where units of a SKU are, as far as orders go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) held: i64,
    pub(super) sold: i64,
    pub(super) returning: i64,
}

#[derive(Debug, Default)]
pub(super) struct Orders {
    known: BTreeMap<OrderId, Known>,
    keys: BTreeMap<(u64, u128), OrderId>,
    /// In which partition each buyer's orders are.
    partitions: BTreeMap<u64, u64>,
    /// By partition, in the order of their records, what happened since the last open. Expiries are
    /// left out: they are seen after they happened.
    events: BTreeMap<u64, Vec<(OrderId, usize)>>,
}

/// The low bits of an order's id, as its documentation says.
pub(super) fn partition_of(order: OrderId) -> u64 {
    order.get() & 1023
}

impl Orders {
    pub(super) fn ids(&self) -> impl Iterator<Item = OrderId> + '_ {
        self.known.keys().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (OrderId, &Known)> {
        self.known.iter().map(|(id, known)| (*id, known))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (OrderId, &mut Known)> {
        self.known.iter_mut().map(|(id, known)| (*id, known))
    }

    pub(super) fn get(&self, order: OrderId) -> Option<&Known> {
        self.known.get(&order)
    }

    pub(super) fn get_mut(&mut self, order: OrderId) -> Option<&mut Known> {
        self.known.get_mut(&order)
    }

    pub(super) fn of_key(&self, asked: &Asked) -> Option<(OrderId, &Known)> {
        let order = *self.keys.get(&(asked.buyer, asked.key))?;
        Some((order, self.known.get(&order)?))
    }

    pub(super) fn partition_of_buyer(&self, buyer: u64) -> Option<u64> {
        self.partitions.get(&buyer).copied()
    }

    pub(super) fn add(&mut self, order: OrderId, known: Known) {
        self.keys.insert((known.asked.buyer, known.asked.key), order);
        self.partitions.insert(known.asked.buyer, partition_of(order));
        self.events.entry(partition_of(order)).or_default().push((order, 0));
        self.known.insert(order, known);
    }

    /// The order is now in this state; gives the moment.
    pub(super) fn moved(&mut self, order: OrderId, state: OrderState) -> usize {
        let Some(known) = self.known.get_mut(&order) else { return 0 };
        known.moments.push(Moment { state, durable: None });
        let moment = known.last();
        if state != OrderState::Expired {
            self.events.entry(partition_of(order)).or_default().push((order, moment));
        }
        moment
    }

    /// A crash took it; its key is free.
    pub(super) fn forget(&mut self, order: OrderId) {
        if let Some(known) = self.known.remove(&order) {
            self.keys.remove(&(known.asked.buyer, known.asked.key));
        }
    }

    pub(super) fn take_events(&mut self) -> BTreeMap<u64, Vec<(OrderId, usize)>> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn taken(&self, sku: u64) -> Taken {
        let mut taken = Taken::default();
        for known in self.known.values() {
            let Some(units) = known.lines.get(&sku) else { continue };
            let units = i64::from(*units);
            match known.state() {
                OrderState::Held => taken.held += units,
                OrderState::Confirmed | OrderState::Fulfilled => taken.sold += units,
                _ if known.is_returning() => taken.returning += units,
                _ => {}
            }
        }
        taken
    }

    /// What counts towards a buyer's limit, and what would if its hold were not over.
    pub(super) fn of_buyer(&self, buyer: u64, sku: u64, now_ms: u64) -> (u64, u64) {
        let (mut counted, mut over) = (0, 0);
        for known in self.known.values().filter(|known| known.asked.buyer == buyer) {
            let Some(units) = known.lines.get(&sku) else { continue };
            match known.state() {
                OrderState::Cancelled | OrderState::Expired => {}
                _ if known.is_due(now_ms) => over += u64::from(*units),
                _ => counted += u64::from(*units),
            }
        }
        (counted, over)
    }

    pub(super) fn due(&self, now_ms: u64) -> Vec<OrderId> {
        self.iter().filter(|(_, known)| known.is_due(now_ms)).map(|(id, _)| id).collect()
    }

    pub(super) fn deadlines(&self) -> Vec<u64> {
        let held = self.known.values().filter(|known| known.state() == OrderState::Held);
        held.map(|known| known.deadline_ms).collect()
    }

    pub(super) fn most_in_a_partition(&self) -> usize {
        let mut counts = BTreeMap::<u64, usize>::new();
        self.ids().for_each(|id| *counts.entry(partition_of(id)).or_default() += 1);
        counts.into_values().max().unwrap_or(0)
    }
}
