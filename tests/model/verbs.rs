//! Each verb, on the engine and on the model.

use std::collections::BTreeMap;
use std::time::Duration;

use doorbuster::{
    Adjust, Adjusted, Commit, Durability, Fill, Held, Line, Order, OrderError, OrderId, OrderState,
    OrderView, PartlyHeld, PlaceError, Placed, Refusal, RequestKey, SaleRules, Transition,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::answers::{Adjustment, Placement};
use crate::driver::{Checked, Driver};
use crate::ops::{Ending, Policy, Request, Verb};
use crate::oracle::{Adjusting, Kind, Placing, Record, Rest};
use crate::promise::Promise;

impl Driver {
    pub(crate) fn place(&mut self, request: &Request) -> Checked {
        self.sent.push(request.clone());
        let now_ms = self.now_ms();
        let placed = self.engine().place(order_of(request));
        let admitted =
            self.oracle.validate(request).and_then(|it| Ok((self.oracle.admit(&it)?, it)));
        let expected = self.expect_placement(admitted, now_ms)?;
        match placed {
            Err(error) => prop_assert_eq!(Some(error), expected.err(), "model, then engine"),
            Ok(commit) => {
                let answer = commit.peek().cloned();
                let rests = self.placed(answer.as_ref(), expected)?;
                if let Some(answer) = answer {
                    self.promise(commit, answer, rests)?;
                }
            }
        }
        Ok(())
    }

    /// What an order comes to after this admission; the engine has answered already.
    fn expect_placement(
        &mut self,
        admitted: Result<(Option<Placed>, Placing), PlaceError>,
        now_ms: u64,
    ) -> Result<Result<Placement, PlaceError>, TestCaseError> {
        let placing = match admitted {
            Err(error) => return Ok(Err(error)),
            Ok((Some(refused), _)) => return Ok(Ok(Placement::Told(refused, None))),
            Ok((None, placing)) => placing,
        };
        if self.oracle.is_kept_by_limit(&placing) {
            self.expire_due_in(self.oracle.partition_of(placing.buyer), now_ms)?;
        }
        Ok(self.oracle.place(placing, now_ms))
    }

    /// Compares an answer with the expected one, and adds a new order to the model. Returns the records that the
    /// answer rests on.
    fn placed(
        &mut self,
        answer: Option<&Placed>,
        expected: Result<Placement, PlaceError>,
    ) -> Result<Vec<Rest>, TestCaseError> {
        let expected = expected.map_err(|error| {
            TestCaseError::fail(format!("{answer:?}, where an error was expected: {error}"))
        })?;
        let placing = match expected {
            Placement::Repeated(held, missing, rest) => {
                prop_assert_eq!(answer, Some(&placed_of(held, &missing)), "model, then engine");
                self.counts.replayed += 1;
                return Ok(rest.into_iter().collect());
            }
            Placement::Told(placed, rest) => {
                prop_assert_eq!(answer, Some(&placed), "model, then engine");
                match placed {
                    Placed::KeyReused(_) => self.counts.keys_reused += 1,
                    Placed::Refused(Refusal::BuyerLimit { .. }) => {
                        self.counts.over_limit += 1;
                    }
                    _ => {}
                }
                return Ok(rest.into_iter().collect());
            }
            Placement::New(placing) => placing,
        };
        let held = answer.and_then(Placed::held).copied();
        let Some(held) = held else {
            return Err(TestCaseError::fail(format!("{answer:?}, where a hold was expected")));
        };
        let expected = (placing.deadline_ms, false, OrderState::Held);
        prop_assert_eq!((held.deadline_ms, held.replayed, held.state), expected);
        prop_assert_eq!(answer, Some(&placed_of(held, &placing.missing)), "model, then engine");
        let (id, lane) = (held.order.get(), self.oracle.partition_of(placing.buyer));
        prop_assert_eq!(
            crate::oracle::Lane::Partition(id % 1024),
            lane,
            "an id names its partition"
        );
        prop_assert!(!self.oracle.ids_given.contains(&id), "order {} was given before", id);
        self.oracle.ids_given.push(id);
        self.oracle.orders.insert(id, placing);
        self.counts.placed += 1;
        let rest = self.oracle.append(lane, Record::Placed { order: id });
        self.probe_order(id, rest)?;
        Ok(vec![rest])
    }

    pub(crate) fn place_batch(&mut self, requests: &[Request]) -> Checked {
        self.sent.extend_from_slice(requests);
        let now_ms = self.now_ms();
        let orders: Vec<Order> = requests.iter().map(order_of).collect();
        let commit = self.engine().place_batch(&orders);
        let commit = commit.map_err(|error| TestCaseError::fail(format!("a batch: {error}")))?;
        let answers = commit.peek().cloned().unwrap_or_default();
        prop_assert_eq!(answers.len(), requests.len());
        // They are placed one after the other.
        let mut rests = Vec::new();
        for (request, answer) in requests.iter().zip(&answers) {
            let admit = || {
                let placing = self.oracle.validate(request)?;
                Ok((self.oracle.admit(&placing)?, placing))
            };
            let expected = self.expect_placement(admit(), now_ms)?;
            match answer {
                Err(error) => prop_assert_eq!(Some(error.clone()), expected.err()),
                Ok(answer) => rests.extend(self.placed(Some(answer), expected)?),
            }
        }
        self.promise(commit, answers, rests)?;
        Ok(())
    }

    pub(crate) fn end(&mut self, verb: Verb, order: OrderId) -> Checked {
        let now_ms = self.now_ms();
        let id = order.get();
        let is_due = self.oracle.orders.contains_key(&id) && self.oracle.is_due(id, now_ms);
        let answer = match verb {
            Verb::Confirm => self.engine().confirm(order),
            Verb::Cancel => self.engine().cancel(order),
            Verb::Fulfil => self.engine().fulfil(order),
        };
        if is_due {
            // The verb itself has logged that the hold is over.
            self.expired(id, None)?;
        }
        self.ended(verb, order, answer)
    }

    fn ended(
        &mut self,
        verb: Verb,
        order: OrderId,
        answer: Result<Commit<Transition>, OrderError>,
    ) -> Checked {
        let id = order.get();
        let (commit, expected) = match (answer, self.oracle.transition(id, verb)) {
            (Ok(commit), Ok(expected)) => (commit, expected),
            (answer, expected) => {
                prop_assert_eq!(answer.err(), expected.err(), "model, then engine");
                return Ok(());
            }
        };
        if let Transition::Done { state } = expected {
            match state {
                OrderState::Confirmed => self.counts.confirmed += 1,
                OrderState::Fulfilled => self.counts.fulfilled += 1,
                _ => self.counts.cancelled += 1,
            }
            let lane = self.oracle.lane_of_order(id);
            let rest = self.oracle.append(lane, Record::Ended { order: id, to: state });
            self.probe_order(id, rest)?;
        }
        let rest = self.oracle.state(id).1;
        self.promise(commit, expected, vec![rest])?;
        Ok(())
    }

    pub(crate) fn view(&mut self, order: OrderId) -> Checked {
        let (id, now_ms) = (order.get(), self.now_ms());
        if !self.oracle.orders.contains_key(&id) {
            let found = self.engine().order(order).map(|viewed| viewed.view().clone());
            prop_assert_eq!(found, Err(OrderError::UnknownOrder { order }));
            return Ok(());
        }
        if self.oracle.is_due(id, now_ms) {
            return self.expired(id, None);
        }
        let rest = self.oracle.state(id).1;
        let viewed = self.engine().order(order);
        let viewed = viewed.map_err(|error| TestCaseError::fail(format!("{order}: {error}")))?;
        self.check_view(viewed.view(), id)?;
        prop_assert_eq!(viewed.durable, self.oracle.is_durable(rest));
        Ok(())
    }

    /// Reads an order whose last record is this one, so that the record's durability is known.
    pub(crate) fn probe_order(&mut self, order: u64, rest: Rest) -> Checked {
        let viewed = self.engine().order(OrderId::from_u64(order));
        let viewed = viewed.map_err(|error| TestCaseError::fail(format!("{order}: {error}")))?;
        self.check_view(viewed.view(), order)?;
        let was_durable = viewed.durable;
        let commit = viewed.when_durable();
        prop_assert_eq!(commit.is_durable(), was_durable);
        let Some(view) = commit.peek().cloned() else {
            return Err(TestCaseError::fail("a view without an answer"));
        };
        prop_assert!(view.durable, "as it will be");
        let promise = Promise::new(commit, view, vec![rest])?;
        self.set_probe(rest, self.promises.len());
        self.promises.push(promise);
        Ok(())
    }

    /// Compares everything in a view except whether it is durable.
    fn check_view(&self, view: &OrderView, order: u64) -> Checked {
        let Placing { buyer, key, lines, missing, hold_ms, payload_bytes, deadline_ms, .. } =
            &self.oracle.orders[&order];
        let of = |lines: &[Line]| -> Vec<_> {
            lines.iter().map(|line| (line.sku.get(), line.quantity.get())).collect()
        };
        let (found, lacks) = (of(&view.lines), of(&view.missing));
        prop_assert_eq!(view.order.get(), order);
        prop_assert_eq!((view.buyer, view.key), ((*buyer).into(), request_key(*key)));
        prop_assert_eq!(view.state, self.oracle.state(order).0, "model, then engine");
        prop_assert!(found.iter().map(|(sku, units)| (sku, units)).eq(lines), "{:?}", found);
        prop_assert!(lacks.iter().map(|(sku, units)| (sku, units)).eq(missing), "{:?}", lacks);
        prop_assert_eq!((view.deadline_ms, view.hold_ms), (*deadline_ms, *hold_ms));
        prop_assert_eq!(view.placed_ms, *deadline_ms - u64::from(*hold_ms));
        prop_assert_eq!((view.class, view.served_from_list), (None, false), "it never waited");
        match view.state {
            OrderState::Held => prop_assert_eq!(view.changed_ms, view.placed_ms),
            OrderState::Expired => prop_assert!(view.changed_ms >= view.deadline_ms),
            _ => prop_assert!(view.changed_ms >= view.placed_ms),
        }
        prop_assert_eq!(&view.payload[..], &payload(*payload_bytes)[..]);
        Ok(())
    }

    pub(crate) fn adjust(&mut self, asked: Adjusting) -> Checked {
        self.adjusted.push(asked.clone());
        let expected = self.oracle.adjust(&asked);
        match (self.engine().stock(asked.sku, adjust_of(&asked)), expected) {
            (Ok(commit), Ok(expected)) => self.adjusted(asked, commit, expected),
            (answer, expected) => {
                let answer = answer.map(|commit| commit.peek().cloned());
                prop_assert_eq!(answer.err(), expected.err(), "model, then engine: {:?}", asked);
                Ok(())
            }
        }
    }

    pub(crate) fn adjusted(
        &mut self,
        asked: Adjusting,
        commit: Commit<Adjusted>,
        expected: Adjustment,
    ) -> Checked {
        match expected {
            Adjustment::Told(told, rest) => {
                self.promise(commit, told, rest.into_iter().collect())?;
            }
            Adjustment::New(delta, told) => {
                let lane = self.oracle.home_of(asked.sku);
                let rest = self.oracle.append(lane, Record::Adjusted(asked, delta));
                let probe = self.promise(commit, told, vec![rest])?;
                self.set_probe(rest, probe);
            }
        }
        Ok(())
    }

    pub(crate) fn limit(&mut self, sku: u64, units: Option<u32>) -> Checked {
        let lanes = match units {
            Some(1..) if self.oracle.knows(sku) => self.oracle.lanes_to_count(sku),
            _ => Vec::new(),
        };
        // No read shows how many of the partitions' records survive a crash, so they are made durable at once.
        // `tests/orders/retention` has the crashes.
        if !lanes.is_empty() && self.is_armed() {
            return Ok(());
        }
        let rules = SaleRules::new();
        let rules = units.into_iter().fold(rules, |rules, units| rules.buyer_limit(units));
        let commit = match (self.engine().rules(sku, rules), self.oracle.check_limit(sku, units)) {
            (Ok(commit), Ok(())) => commit,
            (answer, expected) => {
                prop_assert_eq!(answer.map(drop), expected, "model, then engine");
                return Ok(());
            }
        };
        match units {
            // Nothing changes. The answer rests on the records that are there.
            None => {
                let rests = self.oracle.last_own(sku).into_iter().collect();
                self.promise(commit, (), rests)?;
            }
            Some(units) => {
                let lane = self.oracle.home_of(sku);
                let rest = self.oracle.append(lane, Record::Limited { sku, units });
                let probe = self.promise(commit, (), vec![rest])?;
                self.set_probe(rest, probe);
            }
        }
        if lanes.is_empty() {
            return Ok(());
        }
        for lane in lanes {
            self.oracle.append(lane, Record::Counted { sku });
        }
        self.idle()?;
        match self.oracle.setup.durabilities.contains(&Durability::Written) {
            // What a close made durable survives a loss of power.
            true => self.reopen(Ending::Close),
            false => Ok(()),
        }
    }
}

/// Returns the outcome of an order that did not receive these lines.
fn placed_of(held: Held, missing: &BTreeMap<u64, u32>) -> Placed {
    let line = |(sku, units): (&u64, &u32)| Line { sku: (*sku).into(), quantity: (*units).into() };
    match missing.is_empty() {
        true => Placed::Held(held),
        false => Placed::Partial(PartlyHeld { held, missing: missing.iter().map(line).collect() }),
    }
}

fn request_key(key: u8) -> RequestKey {
    RequestKey::new(u128::from(key))
}

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| at as u8).collect()
}

pub(crate) fn order_of(request: &Request) -> Order {
    let order = Order::new(request.buyer, request_key(request.key));
    let order = request.lines.iter().fold(order, |order, (sku, units)| order.line(*sku, *units));
    let hold = request.hold_us.map(Duration::from_micros);
    let order = hold.into_iter().fold(order, Order::hold_for);
    let order = match &request.policy {
        Policy::AllOrNone => order,
        Policy::Partial(minimums) => (minimums.iter())
            .fold(order.fill(Fill::Partial), |order, (sku, units)| {
                order.min_quantity(*sku, *units)
            }),
        Policy::Wait { patience_us } => {
            order.fill(Fill::Wait { patience: Duration::from_micros(*patience_us) })
        }
    }
    .class(request.class);
    match request.payload_bytes {
        0 => order,
        bytes => order.payload(payload(bytes)),
    }
}

pub(crate) fn adjust_of(asked: &Adjusting) -> Adjust {
    let adjust = match asked.kind {
        Kind::Add => Adjust::add(asked.units),
        Kind::Take => Adjust::take(asked.units),
        Kind::TakeUpTo => Adjust::take_up_to(asked.units),
        Kind::Set => Adjust::set(asked.units),
    };
    let adjust = asked.expected.into_iter().fold(adjust, Adjust::expect);
    adjust.key(request_key(asked.key)).reference("r".repeat(asked.reference_bytes))
}
