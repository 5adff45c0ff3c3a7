//! What the model answers to each verb, in the engine's words.

use std::collections::BTreeMap;

use doorbuster::{
    Adjusted, CLASS_MAX, Capacity, HOLD_MAX, Held, KeyField, KeyReused, LINE_QUANTITY_MAX,
    OrderError, OrderId, OrderState, PATIENCE_MAX, PlaceError, Placed, Quantity, STOCK_MAX, SkuId,
    StockError, Transition, Unavailable,
};

use crate::ops::{Change, Policy, Request, Setup, Verb};
use crate::oracle::{
    Adjusting, COUNTED_BYTES, Kind, LIMITED_BYTES, Lane, Oracle, Placing, Rest, adjusted_bytes,
};
use crate::share::Share;

/// What the model answers to a place.
pub(crate) enum Placement {
    /// This answer. It rests on this record, if on any.
    Told(Placed, Option<Rest>),
    /// The first outcome of an order that did not receive these lines.
    Repeated(Held, BTreeMap<u64, u32>, Option<Rest>),
    /// A new order.
    New(Placing),
}

/// What the model answers to an adjustment.
pub(crate) enum Adjustment {
    Told(Adjusted, Option<Rest>),
    /// A record that changes the figure by this much.
    New(i64, Adjusted),
}

impl Oracle {
    /// Step 1 of the request path.
    pub(crate) fn validate(&self, request: &Request) -> Result<Placing, PlaceError> {
        let hold_us = request.hold_us.unwrap_or(Setup::HOLD_DEFAULT.as_micros() as u64);
        let (hold_ms, max_ms) = (hold_us.div_ceil(1_000), Setup::HOLD_MAX.as_millis() as u32);
        let bad_hold = PlaceError::HoldOutOfRange { hold_ms, min_ms: 1, max_ms };
        if hold_ms == 0 || u128::from(hold_ms) > HOLD_MAX.as_millis() {
            return Err(bad_hold);
        }
        let (bytes, max) = (request.payload_bytes, Setup::PAYLOAD_BYTES_MAX);
        let minimums: &[(u64, u32)] = match &request.policy {
            Policy::Partial(minimums) => minimums,
            _ => &[],
        };
        let lines = request.lines.len().max(minimums.len());
        let patience = patience_of(request);
        let exceeds = if hold_ms > u64::from(max_ms) {
            Some(bad_hold)
        } else if let Err(bad_patience) = patience.clone() {
            Some(bad_patience)
        } else if bytes > max {
            Some(PlaceError::PayloadTooLong { bytes, max })
        } else if lines > Setup::LINES_MAX {
            Some(PlaceError::TooManyLines { lines, max: Setup::LINES_MAX })
        } else {
            None
        };
        if request.lines.is_empty() {
            return Err(PlaceError::NoLines);
        }
        if let Some((sku, _)) = request.lines.iter().find(|(_, units)| *units == 0) {
            return Err(PlaceError::ZeroQuantity { sku: SkuId::new(*sku) });
        }
        let mut folded: BTreeMap<u64, u32> = BTreeMap::new();
        for (sku, units) in &request.lines {
            *folded.entry(*sku).or_default() += units;
        }
        if let Some((sku, units)) = folded.iter().find(|(_, units)| **units > LINE_QUANTITY_MAX) {
            let (sku, units, max) = (SkuId::new(*sku), u64::from(*units), LINE_QUANTITY_MAX);
            return Err(PlaceError::QuantityTooLarge { sku, units, max });
        }
        let minimums = minimums_of(minimums, &folded)?;
        if let Policy::Wait { patience_us } = request.policy {
            let is_impossible = !(1..=PATIENCE_MAX.as_micros()).contains(&u128::from(patience_us));
            if let Err(bad_patience) = patience
                && is_impossible
            {
                return Err(bad_patience);
            }
            if folded.len() > 1 {
                return Err(PlaceError::WaitWithSeveralLines { lines: folded.len() });
            }
        }
        if request.class > CLASS_MAX {
            return Err(PlaceError::ClassOutOfRange { class: request.class, max: CLASS_MAX });
        }
        Ok(Placing {
            buyer: request.buyer,
            key: request.key,
            lines: folded,
            missing: BTreeMap::new(),
            policy: request.policy.clone(),
            minimums,
            hold_ms: hold_ms as u32,
            payload_bytes: request.payload_bytes,
            deadline_ms: 0,
            exceeds,
        })
    }

    /// Before any lock: an unknown SKU, or a refusal of a key without an order.
    pub(crate) fn admit(&self, placing: &Placing) -> Result<Option<Placed>, PlaceError> {
        let has_order = self.order_of_key(placing.buyer, placing.key).is_some();
        if let Some(error) = placing.exceeds.clone().filter(|_| !has_order) {
            return Err(error);
        }
        if let Some(sku) = placing.lines.keys().find(|sku| !self.knows(**sku)) {
            return Err(PlaceError::UnknownSku { sku: SkuId::new(*sku) });
        }
        match self.order_of_key(placing.buyer, placing.key) {
            Some(_) => Ok(None),
            None => Ok(self.surely_sold_out(placing)),
        }
    }

    /// Returns the answer to an admitted request.
    pub(crate) fn place(&self, placing: Placing, now_ms: u64) -> Result<Placement, PlaceError> {
        if let Some(order) = self.order_of_key(placing.buyer, placing.key) {
            return Ok(self.repeat(order, &placing));
        }
        self.check_room(&placing)?;
        Ok(match self.share(&placing) {
            Share::Refused(refusal) => Placement::Told(Placed::Refused(refusal), None),
            Share::Held(lines) => {
                let deadline_ms = now_ms + u64::from(placing.hold_ms);
                let missing = placing.lines.iter().map(|(sku, units)| (*sku, units - lines[sku]));
                let missing = missing.filter(|(_, units)| *units > 0).collect();
                Placement::New(Placing { deadline_ms, missing, lines, ..placing })
            }
        })
    }

    /// Whether only the buyer's limit keeps a new order from being held. Then the engine looks whether holds of
    /// that buyer are over.
    pub(crate) fn is_kept_by_limit(&self, placing: &Placing) -> bool {
        self.order_of_key(placing.buyer, placing.key).is_none()
            && self.check_room(placing).is_ok()
            && self.is_limited(placing)
    }

    fn check_room(&self, placing: &Placing) -> Result<(), PlaceError> {
        if let Some(error) = &placing.exceeds {
            return Err(error.clone());
        }
        let lane = self.partition_of(placing.buyer);
        let (bytes, max) = (self.waiting_bytes(lane), self.setup.backlog_share());
        if bytes + placing.room_bytes() > max {
            return Err(Unavailable::Backlogged { bytes, max }.into());
        }
        let bound = self.orders_bound();
        if self.orders_in(lane) >= bound {
            return Err(Unavailable::AtCapacity { what: Capacity::Orders, bound }.into());
        }
        Ok(())
    }

    fn repeat(&self, order: u64, placing: &Placing) -> Placement {
        let first = &self.orders[&order];
        let (id, rest) = (OrderId::from_u64(order), Some(self.state(order).1));
        let kind = std::mem::discriminant(&first.policy);
        let differs = if first.wanted() != placing.lines || first.minimums != placing.minimums {
            KeyField::Lines
        } else if first.hold_ms != placing.hold_ms {
            KeyField::Hold
        } else if kind != std::mem::discriminant(&placing.policy) {
            KeyField::Policy
        } else if first.payload_bytes != placing.payload_bytes {
            KeyField::Payload
        } else {
            let deadline_ms = first.deadline_ms;
            let (state, _) = self.state(order);
            let held = Held { order: id, deadline_ms, replayed: true, state };
            return Placement::Repeated(held, first.missing.clone(), rest);
        };
        Placement::Told(Placed::KeyReused(KeyReused { order: Some(id), field: differs }), rest)
    }

    /// Whether a hold is over that no record has ended yet.
    pub(crate) fn is_due(&self, order: u64, now_ms: u64) -> bool {
        self.state(order).0 == OrderState::Held && self.orders[&order].deadline_ms <= now_ms
    }

    /// Returns what a verb does to an order that is not due.
    pub(crate) fn transition(&self, order: u64, verb: Verb) -> Result<Transition, OrderError> {
        use OrderState::{Cancelled, Confirmed, Fulfilled, Held};
        if !self.orders.contains_key(&order) {
            return Err(OrderError::UnknownOrder { order: OrderId::from_u64(order) });
        }
        let from = self.state(order).0;
        Ok(match (from, verb) {
            (Held, Verb::Confirm) => Transition::Done { state: Confirmed },
            (Held | Confirmed, Verb::Cancel) => Transition::Done { state: Cancelled },
            (Confirmed, Verb::Fulfil) => Transition::Done { state: Fulfilled },
            (Confirmed, Verb::Confirm) | (Cancelled, Verb::Cancel) | (Fulfilled, Verb::Fulfil) => {
                Transition::AlreadyDone { state: from }
            }
            _ => Transition::NotAllowed { state: from },
        })
    }

    /// Returns what is asked for, with the expected figure of a `set` filled in.
    pub(crate) fn adjusting(
        &self,
        sku: u64,
        key: u8,
        change: Change,
        reference: usize,
    ) -> Adjusting {
        let recorded = self.recorded_stock(sku) as u32;
        let (kind, units, expected) = match change {
            Change::Add(units) => (Kind::Add, units, None),
            Change::Take(units) => (Kind::Take, units, None),
            Change::TakeUpTo(units) => (Kind::TakeUpTo, units, None),
            Change::Set(units, off) => (Kind::Set, units, Some(recorded.saturating_add(off))),
        };
        Adjusting { sku, key, kind, units, expected, reference_bytes: reference }
    }

    pub(crate) fn adjust(&self, it: &Adjusting) -> Result<Adjustment, StockError> {
        let sku = SkuId::new(it.sku);
        if it.kind != Kind::Set && it.units == 0 {
            return Err(StockError::ZeroQuantity { sku });
        }
        let (bytes, max) = (it.reference_bytes, Setup::PAYLOAD_BYTES_MAX);
        if bytes > max {
            return Err(StockError::ReferenceTooLong { bytes, max });
        }
        if matches!(it.kind, Kind::Take | Kind::TakeUpTo) && !self.knows(it.sku) {
            return Err(StockError::UnknownSku { sku });
        }
        let mut stocked = 0;
        for (earlier, delta, _, rest) in self.adjustments(it.sku) {
            stocked += delta;
            if earlier.key == it.key {
                return Ok(Adjustment::Told(repeat(earlier, delta, stocked, it), Some(rest)));
            }
        }
        self.check_backlog(it.sku, adjusted_bytes(it.reference_bytes))?;
        let refused = |answer| Ok(Adjustment::Told(answer, self.last_own(it.sku)));
        let (wanted, available) = (i64::from(it.units), self.levels(it.sku).available);
        let delta = match it.kind {
            Kind::Add if stocked + wanted > i64::from(STOCK_MAX) => {
                let units = (stocked + wanted) as u64;
                return Err(StockError::StockTooLarge { sku, units, max: STOCK_MAX });
            }
            Kind::Add => wanted,
            Kind::Take if available < wanted => {
                return refused(Adjusted::TooFew { wanted: Quantity::new(it.units), available });
            }
            Kind::Take => -wanted,
            Kind::TakeUpTo => -available.clamp(0, wanted),
            Kind::Set => {
                let expected = it.expected.unwrap_or(0);
                if stocked != i64::from(expected) {
                    let (expected, stocked) = (Quantity::new(expected), stocked as u64);
                    return refused(Adjusted::Unexpected { expected, stocked });
                }
                wanted - stocked
            }
        };
        Ok(Adjustment::New(delta, done(it, delta, stocked + delta, false)))
    }

    /// Whether a SKU's limit can be changed.
    pub(crate) fn check_limit(&self, sku: u64, units: Option<u32>) -> Result<(), StockError> {
        if !self.knows(sku) {
            return Err(StockError::UnknownSku { sku: SkuId::new(sku) });
        }
        self.check_backlog(sku, LIMITED_BYTES)?;
        if units.unwrap_or(0) > 0 && !self.lanes_to_count(sku).is_empty() {
            for (lane, max) in self.logs.keys().zip(std::iter::repeat(self.setup.backlog_share())) {
                let bytes = self.waiting_bytes(*lane);
                if matches!(lane, Lane::Partition(_)) && bytes + COUNTED_BYTES > max {
                    return Err(Unavailable::Backlogged { bytes, max }.into());
                }
            }
        }
        Ok(())
    }

    fn check_backlog(&self, sku: u64, record_bytes: u64) -> Result<(), StockError> {
        let (bytes, max) = (self.waiting_bytes(self.home_of(sku)), self.setup.backlog_share());
        match bytes + record_bytes > max {
            true => Err(Unavailable::Backlogged { bytes, max }.into()),
            false => Ok(()),
        }
    }
}

/// Returns the patience, if any, or the bound that it breaks.
fn patience_of(request: &Request) -> Result<(), PlaceError> {
    let Policy::Wait { patience_us } = request.policy else { return Ok(()) };
    let (patience_ms, max_ms) =
        (patience_us.div_ceil(1_000), Setup::PATIENCE_MAX.as_millis() as u32);
    match (1..=u64::from(max_ms)).contains(&patience_ms) {
        true => Ok(()),
        false => Err(PlaceError::PatienceOutOfRange { patience_ms, min_ms: 1, max_ms }),
    }
}

/// Of each SKU the last minimum counts. The error names the first one, by SKU, that does not fit its line.
fn minimums_of(
    given: &[(u64, u32)],
    lines: &BTreeMap<u64, u32>,
) -> Result<BTreeMap<u64, u32>, PlaceError> {
    let mut minimums: BTreeMap<u64, u32> = given.iter().copied().collect();
    for (sku, minimum) in &minimums {
        let (sku, minimum, quantity) = (SkuId::new(*sku), *minimum, lines.get(sku).copied());
        let Some(quantity) = quantity else {
            return Err(PlaceError::MinimumWithoutLine { sku, minimum });
        };
        if minimum > quantity {
            return Err(PlaceError::MinimumTooLarge { sku, minimum, quantity });
        }
    }
    minimums.retain(|_, minimum| *minimum > 0);
    Ok(minimums)
}

/// Returns the answer to a repeated key.
pub(crate) fn repeat(earlier: &Adjusting, delta: i64, stocked: i64, asked: &Adjusting) -> Adjusted {
    let field = if earlier.kind != asked.kind {
        KeyField::Adjustment
    } else if earlier.units != asked.units {
        KeyField::Quantity
    } else if earlier.expected != asked.expected {
        KeyField::Expected
    } else if earlier.reference_bytes != asked.reference_bytes {
        KeyField::Payload
    } else {
        return done(earlier, delta, stocked, true);
    };
    Adjusted::KeyReused { field }
}

fn done(it: &Adjusting, delta: i64, stocked: i64, replayed: bool) -> Adjusted {
    let shortfall = match it.kind {
        Kind::TakeUpTo => it.units - delta.unsigned_abs() as u32,
        _ => 0,
    };
    let (stocked, shortfall) = (stocked as u64, Quantity::new(shortfall));
    Adjusted::Done { delta, stocked, shortfall, replayed }
}
