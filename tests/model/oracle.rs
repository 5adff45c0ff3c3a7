//! The model: every record in the order in which it was made, lane by lane, and how many of each lane are durable.
//! Everything else is computed from them again at every question, with plain maps and sums. Nothing is kept up to
//! date, so nothing can drift.
//!
//! It shares no code with the engine. What the engine's log fixes forever (which partition a buyer belongs to,
//! which shard a record goes to, how long a record is) is written down here again.

use std::collections::{BTreeMap, BTreeSet};

use doorbuster::{OrderState, PlaceError};

use crate::murmur::murmur_finaliser;
use crate::ops::{Policy, Setup};

/// Records whose order is kept: a prefix of them survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Partition(u64),
    /// The SKUs' own records of one shard.
    Stock(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Placed {
        order: u64,
    },
    Ended {
        order: u64,
        to: OrderState,
    },
    Adjusted(Adjusting, i64),
    Limited {
        sku: u64,
        units: u32,
    },
    /// From here on the partition counts what its buyers have of the SKU.
    Counted {
        sku: u64,
    },
}

/// What an adjustment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Adjusting {
    pub(crate) sku: u64,
    pub(crate) key: u8,
    pub(crate) kind: Kind,
    pub(crate) units: u32,
    pub(crate) expected: Option<u32>,
    pub(crate) reference_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Add,
    Take,
    TakeUpTo,
    Set,
}

/// The content of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placing {
    pub(crate) buyer: u64,
    pub(crate) key: u8,
    /// What it wants; after it was placed, what it has.
    pub(crate) lines: BTreeMap<u64, u32>,
    /// What it did not receive; empty before it was placed.
    pub(crate) missing: BTreeMap<u64, u32>,
    pub(crate) policy: Policy,
    /// Those that are not 0.
    pub(crate) minimums: BTreeMap<u64, u32>,
    pub(crate) hold_ms: u32,
    pub(crate) payload_bytes: usize,
    pub(crate) deadline_ms: u64,
    /// The engine's own bound that it breaks. That is an error, unless its key has an order.
    pub(crate) exceeds: Option<PlaceError>,
}

impl Placing {
    pub(crate) fn is_partial(&self) -> bool {
        matches!(self.policy, Policy::Partial(_))
    }

    pub(crate) fn minimum(&self, sku: u64) -> u32 {
        self.minimums.get(&sku).copied().unwrap_or(0)
    }

    /// What it asked for.
    pub(crate) fn wanted(&self) -> BTreeMap<u64, u32> {
        let missing = |sku| self.missing.get(&sku).copied().unwrap_or(0);
        self.lines.iter().map(|(sku, units)| (*sku, units + missing(*sku))).collect()
    }

    /// The time of its record.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_with(!self.missing.is_empty() || !self.minimums.is_empty())
    }

    fn bytes_with(&self, parts: bool) -> u64 {
        let (lines, payload_bytes) = (self.lines.len(), self.payload_bytes);
        let cart = if lines > 1 { 12 * lines } else { 0 };
        let parts = if parts { 8 * lines } else { 0 };
        let payload = if payload_bytes > 0 { 4 + payload_bytes } else { 0 };
        (64 + cart + parts + payload).next_multiple_of(8) as u64
    }

    /// The room that it needs. An order that may wait also records its place, a partial one also records what it
    /// lacks.
    pub(crate) fn room_bytes(&self) -> u64 {
        let joins = if matches!(self.policy, Policy::Wait { .. }) { 16 } else { 0 };
        self.bytes_with(self.is_partial()) + joins
    }
}

/// A record, with a name that it keeps wherever it stands.
pub(crate) type Rest = (Lane, u64);

#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) name: u64,
    pub(crate) record: Record,
    pub(crate) bytes: u64,
    /// Records of one pass of the timekeeper share this number, because their order is not promised.
    pub(crate) made_in: u64,
    /// The driver's promise that tells whether it is durable.
    pub(crate) probe: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<Logged>,
    pub(crate) durable: usize,
    /// The records that were durable when this life of the engine began. Not even a loss of power takes them.
    pub(crate) floor: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) stocked: i64,
    pub(crate) available: i64,
    pub(crate) held: i64,
    pub(crate) sold: i64,
    pub(crate) returning: i64,
}

pub(crate) struct Oracle {
    pub(crate) setup: Setup,
    pub(crate) logs: BTreeMap<Lane, Log>,
    /// Orders that exist.
    pub(crate) orders: BTreeMap<u64, Placing>,
    /// Every id that was ever given out, in this order.
    pub(crate) ids_given: Vec<u64>,
    next_name: u64,
}

impl Oracle {
    pub(crate) fn new(setup: &Setup) -> Self {
        let partitions = (0..setup.partitions as u64).map(Lane::Partition);
        let lanes = partitions.chain((0..setup.shards as u64).map(Lane::Stock));
        Self {
            setup: setup.clone(),
            logs: lanes.map(|lane| (lane, Log::default())).collect(),
            orders: BTreeMap::new(),
            ids_given: Vec::new(),
            next_name: 0,
        }
    }

    pub(crate) fn partition_of(&self, buyer: u64) -> Lane {
        // Of the 16 bytes of a buyer with a number, the upper eight are zero.
        let hash = murmur_finaliser(buyer ^ murmur_finaliser(0));
        let partition = (u128::from(hash) * self.setup.partitions as u128) >> 64;
        Lane::Partition(partition as u64)
    }

    pub(crate) fn home_of(&self, sku: u64) -> Lane {
        Lane::Stock(murmur_finaliser(sku) % self.setup.shards as u64)
    }

    pub(crate) fn shard_of(&self, lane: Lane) -> usize {
        match lane {
            Lane::Partition(partition) => partition as usize % self.setup.shards,
            Lane::Stock(shard) => shard as usize,
        }
    }

    pub(crate) fn log(&self, lane: Lane) -> &Log {
        &self.logs[&lane]
    }

    pub(crate) fn log_mut(&mut self, lane: Lane) -> &mut Log {
        self.logs.get_mut(&lane).expect("all lanes are there from the start")
    }

    /// Adds a record; `probe` is set once a promise covers it.
    pub(crate) fn append(&mut self, lane: Lane, record: Record) -> Rest {
        self.append_in(lane, record, None)
    }

    pub(crate) fn append_in(&mut self, lane: Lane, record: Record, made_in: Option<u64>) -> Rest {
        let name = self.next_name;
        self.next_name += 1;
        let bytes = self.record_bytes(&record);
        let made_in = made_in.unwrap_or(name);
        self.log_mut(lane).records.push(Logged { name, record, bytes, made_in, probe: usize::MAX });
        (lane, name)
    }

    pub(crate) fn next_name(&self) -> u64 {
        self.next_name
    }

    pub(crate) fn is_durable(&self, (lane, name): Rest) -> bool {
        let log = self.log(lane);
        log.records[..log.durable].iter().any(|logged| logged.name == name)
    }

    pub(crate) fn waiting_bytes(&self, lane: Lane) -> u64 {
        let log = self.log(lane);
        log.records[log.durable..].iter().map(|logged| logged.bytes).sum()
    }

    fn record_bytes(&self, record: &Record) -> u64 {
        match record {
            Record::Placed { order } => {
                let placing = &self.orders[order];
                placing.bytes()
            }
            Record::Ended { .. } => 16,
            Record::Adjusted(adjusting, _) => adjusted_bytes(adjusting.reference_bytes),
            Record::Limited { .. } => LIMITED_BYTES,
            Record::Counted { .. } => COUNTED_BYTES,
        }
    }

    pub(crate) fn lane_of_order(&self, order: u64) -> Lane {
        self.partition_of(self.orders[&order].buyer)
    }

    /// Returns where an order stands after the first `len` records of its lane, and the last record about it.
    pub(crate) fn standing(
        &self,
        lane: Lane,
        len: usize,
        order: u64,
    ) -> Option<(OrderState, Rest, usize)> {
        let records = self.log(lane).records[..len].iter().enumerate().rev();
        records.clone().find_map(|(place, logged)| match logged.record {
            Record::Placed { order: it } if it == order => {
                Some((OrderState::Held, (lane, logged.name), place))
            }
            Record::Ended { order: it, to } if it == order => {
                Some((to, (lane, logged.name), place))
            }
            _ => None,
        })
    }

    /// Returns the same after all records, for an order that exists.
    pub(crate) fn state(&self, order: u64) -> (OrderState, Rest) {
        let lane = self.lane_of_order(order);
        let standing = self.standing(lane, self.log(lane).records.len(), order);
        let (state, rest, _) = standing.expect("an order that exists has a record");
        (state, rest)
    }

    pub(crate) fn order_of_key(&self, buyer: u64, key: u8) -> Option<u64> {
        let mut orders = self.orders.iter();
        orders.find(|(_, placing)| (placing.buyer, placing.key) == (buyer, key)).map(|(id, _)| *id)
    }

    /// Adjustments of a SKU in order, and whether each is durable.
    pub(crate) fn adjustments(
        &self,
        sku: u64,
    ) -> impl Iterator<Item = (&Adjusting, i64, bool, Rest)> {
        let (lane, log) = (self.home_of(sku), self.log(self.home_of(sku)));
        log.records.iter().enumerate().filter_map(move |(place, logged)| match &logged.record {
            Record::Adjusted(adjusting, delta) if adjusting.sku == sku => {
                Some((adjusting, *delta, place < log.durable, (lane, logged.name)))
            }
            _ => None,
        })
    }

    /// Whether an `add` or a `set` ever made the SKU known. A crash may take that record back and leave an order
    /// that received nothing of the SKU.
    pub(crate) fn knows(&self, sku: u64) -> bool {
        self.is_lacked(sku)
            || self.adjustments(sku).any(|(it, ..)| matches!(it.kind, Kind::Add | Kind::Set))
    }

    /// Whether an order was placed that received nothing of the SKU.
    pub(crate) fn is_lacked(&self, sku: u64) -> bool {
        let has = |placing: &Placing| placing.lines.get(&sku).is_some_and(|units| *units > 0);
        self.orders.values().any(|order| order.missing.contains_key(&sku) && !has(order))
    }

    /// The stocked figure as recorded, durable or not.
    pub(crate) fn recorded_stock(&self, sku: u64) -> i64 {
        self.adjustments(sku).map(|(_, delta, ..)| delta).sum()
    }

    /// The SKU's last own record.
    pub(crate) fn last_own(&self, sku: u64) -> Option<Rest> {
        let lane = self.home_of(sku);
        let mut records = self.log(lane).records.iter().rev();
        records.find_map(|logged| match &logged.record {
            Record::Adjusted(it, _) if it.sku == sku => Some((lane, logged.name)),
            Record::Limited { sku: it, .. } if *it == sku => Some((lane, logged.name)),
            _ => None,
        })
    }

    /// Restrict at once, permit when durable.
    pub(crate) fn levels(&self, sku: u64) -> Levels {
        let mut levels = Levels::default();
        for (_, delta, durable, _) in self.adjustments(sku) {
            if delta < 0 || durable {
                levels.stocked += delta;
                levels.available += delta;
            }
        }
        for (order, placing) in &self.orders {
            let units = i64::from(placing.lines.get(&sku).copied().unwrap_or(0));
            let (state, rest) = self.state(*order);
            match state {
                OrderState::Held => levels.held += units,
                OrderState::Confirmed | OrderState::Fulfilled => levels.sold += units,
                _ if self.is_durable(rest) => continue,
                _ => levels.returning += units,
            }
            levels.available -= units;
        }
        levels
    }

    /// Whether the host ever set the figure below another. Then the SKU may owe.
    pub(crate) fn was_lowered(&self, sku: u64) -> bool {
        self.adjustments(sku).any(|(it, delta, ..)| it.kind == Kind::Set && delta < 0)
    }

    /// What the buyer has: held, confirmed and fulfilled.
    pub(crate) fn taken(&self, buyer: u64, sku: u64) -> u64 {
        let of_buyer = self.orders.iter().filter(|(_, placing)| placing.buyer == buyer);
        let live = of_buyer.filter(|(order, _)| {
            !matches!(self.state(**order).0, OrderState::Cancelled | OrderState::Expired)
        });
        live.map(|(_, placing)| u64::from(placing.lines.get(&sku).copied().unwrap_or(0))).sum()
    }

    /// Returns the limit that acts: while changes are not durable, the strictest of them and of the one before.
    pub(crate) fn limit(&self, sku: u64) -> Option<u32> {
        let log = self.log(self.home_of(sku));
        let mut acting: Vec<u32> = Vec::new();
        for (place, logged) in log.records.iter().enumerate() {
            match logged.record {
                Record::Limited { sku: it, units } if it == sku => {
                    if place < log.durable {
                        acting.clear();
                    }
                    acting.push(units);
                }
                _ => {}
            }
        }
        acting.into_iter().filter(|units| *units > 0).min()
    }

    /// Returns the partitions that do not count yet what their buyers have of a SKU.
    pub(crate) fn lanes_to_count(&self, sku: u64) -> Vec<Lane> {
        let counts =
            |log: &Log| log.records.iter().any(|logged| logged.record == Record::Counted { sku });
        let partitions = self.logs.iter().filter(|(lane, _)| matches!(lane, Lane::Partition(_)));
        partitions.filter(|(_, log)| !counts(log)).map(|(lane, _)| *lane).collect()
    }

    /// Orders of a partition, and its bound.
    pub(crate) fn orders_in(&self, lane: Lane) -> u64 {
        let in_lane = |placing: &&Placing| self.partition_of(placing.buyer) == lane;
        self.orders.values().filter(in_lane).count() as u64
    }

    pub(crate) fn orders_bound(&self) -> u64 {
        let partitions = self.setup.partitions as u64;
        let part = self.setup.orders_max.div_ceil(partitions);
        if partitions == 1 { part } else { part + part.div_ceil(4) }
    }

    /// Forgets what a crash took of a lane. The rest is durable.
    pub(crate) fn keep(&mut self, lane: Lane, len: usize) {
        let log = self.log_mut(lane);
        log.records.truncate(len);
        (log.durable, log.floor) = (len, len);
        let kept: BTreeSet<u64> = self.logs.values().flat_map(|log| &log.records).fold(
            BTreeSet::new(),
            |mut kept, logged| {
                if let Record::Placed { order } = logged.record {
                    kept.insert(order);
                }
                kept
            },
        );
        self.orders.retain(|order, _| kept.contains(order));
    }
}

pub(crate) const LIMITED_BYTES: u64 = 24;
pub(crate) const COUNTED_BYTES: u64 = 16;

pub(crate) fn adjusted_bytes(reference_bytes: usize) -> u64 {
    (56 + reference_bytes).next_multiple_of(8) as u64
}
