//! What the host knows of its orders.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use doorbuster::{Fill, Line, Order, OrderId, OrderState, RequestKey};

use super::At;
use super::retention::{Counting, Ended};

/// A request as the client sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) buyer: u64,
    pub(crate) key: u128,
    /// When the client made its key, if the key tells that.
    pub(crate) dated_ms: Option<u64>,
    pub(crate) lines: Vec<(u64, u32)>,
    pub(crate) policy: Policy,
    /// The buyer's priority class.
    pub(crate) class: u8,
    pub(crate) hold_ms: Option<u64>,
    pub(crate) payload: Filling,
}

/// What an order wants if there is less than its lines ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    AllOrNone,
    /// Of each line as much as there is, at least these units of these SKUs.
    Partial {
        minimums: BTreeMap<u64, u32>,
    },
    /// In full, at once or from the SKU's waiting list.
    Wait {
        patience_ms: u64,
    },
}

/// One byte, `count` times.
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
        let order = Order::new(self.buyer, self.request_key()).payload(self.payload.bytes());
        let order = match self.hold_ms {
            Some(hold_ms) => order.hold_for(Duration::from_millis(hold_ms)),
            None => order,
        };
        let order = self.lines.iter().fold(order, |order, (sku, units)| order.line(*sku, *units));
        let order = order.class(self.class);
        match &self.policy {
            Policy::AllOrNone => order,
            Policy::Partial { minimums } => {
                let order = order.fill(Fill::Partial);
                minimums.iter().fold(order, |order, (sku, units)| order.min_quantity(*sku, *units))
            }
            Policy::Wait { patience_ms } => {
                order.fill(Fill::Wait { patience: Duration::from_millis(*patience_ms) })
            }
        }
    }

    pub(super) fn request_key(&self) -> RequestKey {
        let opaque = RequestKey::new(self.key);
        let Some(dated_ms) = self.dated_ms else { return opaque };
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&dated_ms.to_be_bytes()[2..]);
        bytes[6] = 0x70;
        bytes[8] = 0x80;
        bytes[9..].copy_from_slice(&self.key.to_le_bytes()[..7]);
        RequestKey::uuid_v7(bytes).unwrap_or(opaque)
    }

    pub(super) fn is_partial(&self) -> bool {
        matches!(self.policy, Policy::Partial { .. })
    }

    /// The minimum of a line; 0 where it has none.
    pub(super) fn minimum(&self, sku: u64) -> u32 {
        match &self.policy {
            Policy::Partial { minimums } => minimums.get(&sku).copied().unwrap_or(0),
            Policy::AllOrNone | Policy::Wait { .. } => 0,
        }
    }

    /// With fewer units a line comes to nothing.
    pub(super) fn least(&self, sku: u64, units: u32) -> u32 {
        if self.is_partial() { self.minimum(sku).max(1) } else { units }
    }

    /// Whether two requests want the same, all told.
    pub(super) fn has_lines_of(&self, other: &Self) -> bool {
        let lines = self.folded();
        lines == other.folded() && lines.keys().all(|sku| self.minimum(*sku) == other.minimum(*sku))
    }

    pub(super) fn has_key_of(&self, other: &Self) -> bool {
        self.scope() == other.scope()
    }

    fn scope(&self) -> Scope {
        (self.buyer, self.key, self.dated_ms)
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

/// By which a repeat is found.
type Scope = (u64, u128, Option<u64>);

/// A state that an order was told to be in, and where that is durable.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) state: OrderState,
    /// When it came into that state, in engine time.
    pub(super) at_ms: u64,
    /// It has left memory, in that state. No caller knows, so this is never durable for certain.
    pub(super) retired: bool,
    pub(super) durable: Option<At>,
}

impl Moment {
    pub(super) fn new(state: OrderState, at_ms: u64) -> Self {
        Self { state, at_ms, retired: false, durable: None }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) asked: Asked,
    /// What it got or waits for, by SKU; of a partial order perhaps nothing of some.
    pub(super) lines: BTreeMap<u64, u32>,
    /// For how long it is held: one of these. Only of an order that waits there may be several, where a crash
    /// left it open which rules there are.
    pub(super) holds_ms: Vec<u64>,
    /// An order that joined a waiting list later has a higher one.
    pub(super) arrival: u64,
    /// Held or waiting first.
    pub(super) moments: Vec<Moment>,
    /// By SKU whose sale has ended since it was placed.
    pub(super) ended: BTreeMap<u64, Ended>,
    /// By SKU, whether its buyers were counted when the order left memory.
    pub(super) counted: BTreeMap<u64, Counting>,
}

impl Known {
    pub(super) fn state(&self) -> OrderState {
        self.moments.last().map_or(OrderState::Held, |moment| moment.state)
    }

    pub(super) fn skus(&self) -> BTreeSet<u64> {
        self.lines.keys().copied().collect()
    }

    /// What it wanted and did not get.
    pub(super) fn missing(&self) -> Vec<Line> {
        let wanted = self.asked.folded().into_iter();
        let got = |sku: u64| self.lines.get(&sku).copied().unwrap_or(0);
        let missing = wanted.map(|(sku, units)| (sku, units - got(sku)));
        let missing = missing.filter(|(_, units)| *units > 0);
        missing.map(|(sku, units)| Line { sku: sku.into(), quantity: units.into() }).collect()
    }

    pub(super) fn last(&self) -> usize {
        self.moments.len() - 1
    }

    pub(super) fn is_retired(&self) -> bool {
        self.moments.last().is_some_and(|moment| moment.retired)
    }

    /// The last answer that any caller received about it.
    pub(super) fn last_told(&self) -> &Moment {
        self.moments.iter().rfind(|moment| !moment.retired).unwrap_or(&self.moments[0])
    }

    /// Whether it counts towards its buyer's limit: for certain, and perhaps.
    fn counts(&self, sku: u64, counting: Counting) -> (bool, bool) {
        let ended = self.ended.get(&sku);
        let left = match self.is_retired() {
            true => self.counted.get(&sku).copied().unwrap_or(Counting::No),
            false => Counting::Yes,
        };
        // Until the end is durable all counts stay.
        let ended = ended.filter(|ended| **ended != Ended::InFlight);
        let is_sure = counting == Counting::Yes && ended.is_none() && left == Counting::Yes;
        let may_count = |ended: &Ended| matches!(ended, Ended::Perhaps | Ended::PerhapsInFlight);
        let has_ended = ended.is_some_and(|ended| !may_count(ended));
        (is_sure, counting != Counting::No && !has_ended && left != Counting::No)
    }

    /// What it returned is not with the others yet.
    pub(super) fn is_returning(&self) -> bool {
        let gave_back = matches!(self.state(), OrderState::Cancelled | OrderState::Expired);
        gave_back && self.has_been_held() && self.last_told().durable.is_none()
    }

    /// Whether its waiting ended with a hold.
    pub(super) fn was_served(&self) -> bool {
        self.has_waited() && self.moments.iter().any(|it| it.state == OrderState::Held)
    }

    pub(super) fn has_deadline(&self) -> bool {
        matches!(self.state(), OrderState::Held | OrderState::Waiting)
    }

    /// When its hold or its patience ends, or ended last.
    pub(super) fn deadline_ms(&self) -> u64 {
        let mut moments = self.moments.iter().rev();
        moments.find_map(|moment| self.ends_ms(moment)).unwrap_or(0)
    }

    /// When what began with this moment ends.
    pub(super) fn ends_ms(&self, moment: &Moment) -> Option<u64> {
        match (moment.state, &self.asked.policy) {
            (OrderState::Held, _) => Some(moment.at_ms + self.holds_ms[0]),
            (OrderState::Waiting, Policy::Wait { patience_ms }) => Some(moment.at_ms + patience_ms),
            _ => None,
        }
    }

    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.has_deadline() && self.deadline_ms() <= now_ms
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
    /// Of those that are in memory.
    keys: BTreeMap<Scope, OrderId>,
    /// In which partition each buyer's orders are.
    partitions: BTreeMap<u64, u64>,
    /// By partition, in the order of their records, what happened since the last open. Expiries and promotions are
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
        let order = *self.keys.get(&asked.scope())?;
        Some((order, self.known.get(&order)?))
    }

    pub(super) fn partition_of_buyer(&self, buyer: u64) -> Option<u64> {
        self.partitions.get(&buyer).copied()
    }

    pub(super) fn add(&mut self, order: OrderId, known: Known) {
        self.keys.insert(known.asked.scope(), order);
        self.partitions.insert(known.asked.buyer, partition_of(order));
        self.events.entry(partition_of(order)).or_default().push((order, 0));
        self.known.insert(order, known);
    }

    /// The order is now in this state; returns the moment.
    pub(super) fn moved(&mut self, order: OrderId, state: OrderState, now_ms: u64) -> usize {
        let Some(known) = self.known.get_mut(&order) else { return 0 };
        known.moments.push(Moment::new(state, now_ms));
        let moment = known.last();
        if !matches!(state, OrderState::Expired | OrderState::Held) {
            self.events.entry(partition_of(order)).or_default().push((order, moment));
        }
        moment
    }

    /// A crash took it; its key is free.
    pub(super) fn forget(&mut self, order: OrderId) {
        self.known.remove(&order);
    }

    /// It has left memory, and its key is free. Not among the events: one record may name many.
    pub(super) fn retired(&mut self, order: OrderId, counted: BTreeMap<u64, Counting>) {
        let Some(known) = self.known.get_mut(&order) else { return };
        let Moment { state, at_ms, .. } = *known.last_told();
        known.moments.push(Moment { retired: true, ..Moment::new(state, at_ms) });
        known.counted = counted;
        self.keys.retain(|_, of_key| *of_key != order);
    }

    /// After a crash some may be gone, others back. A key that has two is given.
    pub(super) fn find_keys(&mut self) -> Option<(OrderId, OrderId)> {
        self.keys.clear();
        let in_memory = self.known.iter().filter(|(_, known)| !known.is_retired());
        for (order, known) in in_memory {
            if let Some(other) = self.keys.insert(known.asked.scope(), *order) {
                return Some((other, *order));
            }
        }
        None
    }

    /// How much happened in a partition since the last open.
    pub(super) fn events_of(&self, partition: u64) -> usize {
        self.events.get(&partition).map_or(0, Vec::len)
    }

    pub(super) fn take_events(&mut self) -> BTreeMap<u64, Vec<(OrderId, usize)>> {
        std::mem::take(&mut self.events)
    }

    /// Whether some order has a line of a SKU.
    pub(super) fn name(&self, sku: u64) -> bool {
        self.known.values().any(|known| known.lines.contains_key(&sku))
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

    /// What counts towards a buyer's limit for certain, and what may, holds that are over included.
    pub(super) fn of_buyer(
        &self,
        buyer: u64,
        sku: u64,
        counting: Counting,
        now_ms: u64,
    ) -> (u64, u64) {
        let (mut least, mut most) = (0, 0);
        for known in self.known.values().filter(|known| known.asked.buyer == buyer) {
            let Some(units) = known.lines.get(&sku).map(|units| u64::from(*units)) else {
                continue;
            };
            if matches!(known.state(), OrderState::Cancelled | OrderState::Expired) {
                continue;
            }
            let (surely, perhaps) = known.counts(sku, counting);
            least += if surely && !known.is_due(now_ms) { units } else { 0 };
            most += if perhaps { units } else { 0 };
        }
        (least, most)
    }

    /// Pairs of buyer and SKU in one partition, at most.
    pub(super) fn most_pairs(&self) -> usize {
        let mut pairs = BTreeMap::<u64, BTreeSet<(u64, u64)>>::new();
        for (order, known) in &self.known {
            let of_partition = pairs.entry(partition_of(*order)).or_default();
            of_partition.extend(known.lines.keys().map(|sku| (known.asked.buyer, *sku)));
        }
        pairs.into_values().map(|pairs| pairs.len()).max().unwrap_or(0)
    }

    pub(super) fn due(&self, now_ms: u64) -> Vec<OrderId> {
        self.iter().filter(|(_, known)| known.is_due(now_ms)).map(|(id, _)| id).collect()
    }

    pub(super) fn deadlines(&self) -> Vec<u64> {
        self.known.values().filter(|known| known.has_deadline()).map(Known::deadline_ms).collect()
    }

    pub(super) fn most_in_a_partition(&self) -> usize {
        let mut counts = BTreeMap::<u64, usize>::new();
        let in_memory = self.iter().filter(|(_, known)| !known.is_retired());
        in_memory.for_each(|(id, _)| *counts.entry(partition_of(id)).or_default() += 1);
        counts.into_values().max().unwrap_or(0)
    }
}
