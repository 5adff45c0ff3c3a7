//! Random histories of rules, orders and crashes against a model of plain values. For each SKU, each merchant and
//! the engine, the model keeps every state that a crash may leave; the strictest of each value acts. After a crash
//! a rule that was acknowledged is there. A rule that was not acknowledged may be there or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use doorbuster::testing::Fault;
use doorbuster::{
    Adjust, Commit, Engine, MerchantId, MerchantRules, Order, OrderId, OrderState, Placed, Refusal,
    RequestKey, SaleRules, Scope, SkuId, StockError, Switch, Transition,
};
use fastrand::Rng;

use crate::seeds::{Rerun, seeds, stream};
use crate::shop::{SKU, Shop};
use crate::{OTHER, ms};

const SKUS: [SkuId; 2] = [SKU, OTHER];
const MERCHANTS: [MerchantId; 2] = [MerchantId::new(1), MerchantId::new(2)];
const SWITCHES: [Switch; 3] = [Switch::Open, Switch::NoNewHolds, Switch::Halted];
const HOLD_DEFAULT_MS: u64 = 900_000;
/// More units than there are, so that none can be had.
const ALL: u32 = 1_000_000;
const STEPS: u64 = 400;

fn one_of<T: Copy>(random: &mut Rng, items: &[T]) -> T {
    items[random.usize(..items.len())]
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rules {
    opens_at_ms: u64,
    closes_at_ms: u64,
    /// Of class 1.
    early_ms: u64,
    hold_ms: Option<u64>,
    safety_stock: u32,
    switch: Switch,
    merchant: Option<MerchantId>,
}

const NO_RULES: Rules = Rules {
    opens_at_ms: 0,
    closes_at_ms: u64::MAX,
    early_ms: 0,
    hold_ms: None,
    safety_stock: 0,
    switch: Switch::Open,
    merchant: None,
};

/// What a crash may leave: the last durable state, then those that are in flight.
struct States<T> {
    states: Vec<T>,
    commits: Vec<Commit<()>>,
}

impl<T: Copy> States<T> {
    fn new(first: T) -> Self {
        Self { states: vec![first], commits: Vec::new() }
    }

    fn last(&self) -> T {
        self.states[self.states.len() - 1]
    }

    fn push(&mut self, state: T, commit: Commit<()>) {
        self.states.push(state);
        self.commits.push(commit);
    }

    fn see_durable(&mut self) {
        let durable = self.commits.iter().take_while(|commit| commit.is_durable()).count();
        self.states.drain(..durable);
        self.commits.drain(..durable);
        assert!(!self.commits.iter().any(Commit::is_durable), "durable, but for one before it");
    }
}

struct Held {
    order: OrderId,
    skus: Vec<SkuId>,
    deadline_ms: u64,
    state: OrderState,
}

struct Model {
    shop: Shop,
    random: Rng,
    skus: [States<Rules>; 2],
    merchants: [States<Switch>; 2],
    engine: States<Switch>,
    orders: Vec<Held>,
    /// Whether no other orders are held. After a crash there may be some.
    knows_all: bool,
    last_buyer: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let open = || States::new(Switch::Open);
        let mut shop = Shop::new();
        for sku in SKUS {
            drop(shop.engine.stock(sku, Adjust::add(100_000).key(9)).expect("accepted"));
        }
        shop.engine.run_until_idle();
        Self {
            shop,
            random: stream(seed, 0),
            skus: std::array::from_fn(|_| States::new(NO_RULES)),
            merchants: std::array::from_fn(|_| open()),
            engine: open(),
            orders: Vec::new(),
            knows_all: true,
            last_buyer: 0,
        }
    }

    fn see_durable(&mut self) {
        self.skus.iter_mut().for_each(States::see_durable);
        self.merchants.iter_mut().for_each(States::see_durable);
        self.engine.see_durable();
    }

    fn step(&mut self) {
        match self.random.u64(..100) {
            0..20 => self.rule(),
            20..26 => self.switch(),
            26..60 => self.place(),
            60..72 => self.end(),
            72..80 => self.shop.clock.advance(ms(self.random.u64(..4))),
            80..92 => {
                let shard = self.random.u64(..2) as usize;
                self.shop.engine.step_writer(shard);
            }
            92..94 => self.tick(),
            94..97 => self.idle(),
            _ => self.crash(),
        }
        self.see_durable();
        for (nth, sku) in SKUS.into_iter().enumerate() {
            let most = self.skus[nth].states.iter().map(|rules| rules.safety_stock).max();
            let levels = self.shop.levels(sku);
            assert_eq!(Some(levels.kept_back), most.map(i64::from), "{sku}");
        }
    }

    fn rule(&mut self) {
        let nth = self.random.u64(..2) as usize;
        let now_ms = self.shop.now_ms();
        let (mut rules, mut to) = (SaleRules::new(), self.skus[nth].last());
        for _ in 0..1 + self.random.u64(..3) {
            match self.random.u64(..7) {
                0 => {
                    to.opens_at_ms =
                        one_of(&mut self.random, &[0, now_ms + 1, now_ms + 3, now_ms - 1]);
                    rules = rules.opens_at_ms(to.opens_at_ms);
                }
                1 => {
                    to.closes_at_ms =
                        one_of(&mut self.random, &[u64::MAX, now_ms, now_ms + 2, now_ms + 9]);
                    rules = rules.closes_at_ms(to.closes_at_ms);
                }
                2 => {
                    to.early_ms = self.random.u64(..4);
                    rules = rules.early_access(1, ms(to.early_ms));
                }
                3 => {
                    to.hold_ms = one_of(&mut self.random, &[None, Some(5), Some(7)]);
                    rules = rules.hold_for(to.hold_ms.map(ms));
                }
                4 => {
                    to.safety_stock = one_of(&mut self.random, &[0, 3, ALL]);
                    rules = rules.safety_stock(to.safety_stock);
                }
                5 => {
                    to.switch = one_of(&mut self.random, &SWITCHES);
                    rules = rules.switch(to.switch);
                }
                _ => {
                    to.merchant =
                        one_of(&mut self.random, &[None, Some(MERCHANTS[0]), Some(MERCHANTS[1])]);
                    rules = rules.merchant(to.merchant);
                }
            }
        }
        match self.shop.engine.rules(SKUS[nth], rules) {
            Ok(commit) => {
                assert!(to.opens_at_ms < to.closes_at_ms);
                self.skus[nth].push(to, commit);
            }
            Err(error) => {
                let (opens_at_ms, closes_at_ms) = (to.opens_at_ms, to.closes_at_ms);
                let sku = SKUS[nth];
                let expected = StockError::ClosesBeforeItOpens { sku, opens_at_ms, closes_at_ms };
                assert!(error == expected && opens_at_ms >= closes_at_ms, "{error}");
            }
        }
    }

    fn switch(&mut self) {
        let to = one_of(&mut self.random, &SWITCHES);
        match self.random.u64(..5) {
            0 => {
                let commit = self.shop.engine.switch(to).expect("there is room");
                self.engine.push(to, commit);
            }
            nth => {
                let nth = nth as usize % 2;
                let rules = MerchantRules::new().switch(to);
                let commit =
                    self.shop.engine.merchant(MERCHANTS[nth], rules).expect("there is room");
                self.merchants[nth].push(to, commit);
            }
        }
    }

    fn place(&mut self) {
        self.last_buyer += 1;
        let nths: Vec<usize> = one_of(&mut self.random, &[&[0][..], &[1], &[0, 1]]).to_vec();
        let class = self.random.u64(..2) as u8;
        let order = Order::new(self.last_buyer, RequestKey::new(1)).class(class);
        let order = nths.iter().fold(order, |order, nth| order.line(SKUS[*nth], 1));
        let told = self.shop.answer(&order);
        let expected = self.view().expect(&nths, class);
        assert!(expected.iter().any(|it| it.is(&told)), "{told:?}, not one of {expected:?}");
        if let Placed::Held(held) = told {
            self.orders.push(Held {
                order: held.order,
                skus: nths.into_iter().map(|nth| SKUS[nth]).collect(),
                deadline_ms: held.deadline_ms,
                state: OrderState::Held,
            });
        }
    }

    fn strictest(&self, nths: &[usize]) -> (Switch, Vec<Scope>) {
        self.view().strictest(nths)
    }

    /// Returns every rule that may be in force.
    fn view(&self) -> View {
        View {
            now_ms: self.shop.now_ms(),
            engine: self.engine.states.clone(),
            merchants: self.merchants.each_ref().map(|it| it.states.clone()),
            skus: self.skus.each_ref().map(|it| it.states.clone()),
        }
    }

    fn end(&mut self) {
        if self.orders.is_empty() {
            return;
        }
        let now_ms = self.shop.now_ms();
        let picked = self.random.u64(..self.orders.len() as u64) as usize;
        let Held { order, ref skus, deadline_ms, state } = self.orders[picked];
        let nths: Vec<usize> = (0..2).filter(|nth| skus.contains(&SKUS[*nth])).collect();
        let (switch, scopes) = self.strictest(&nths);
        let halted = switch == Switch::Halted;
        let standing = match state {
            OrderState::Held if deadline_ms <= now_ms && !halted => OrderState::Expired,
            state => state,
        };
        let cancels = self.random.u64(..100) < 30;
        let verb = if cancels { Engine::cancel } else { Engine::confirm };
        let told = *verb(&self.shop.engine, order).expect("known").peek().expect("an answer");
        use OrderState::{Cancelled, Confirmed, Expired};
        let to = if cancels { Cancelled } else { Confirmed };
        let expected = match (standing, to) {
            (standing, to) if standing == to => Transition::AlreadyDone { state: to },
            (Expired | Cancelled, _) => Transition::NotAllowed { state: standing },
            (_, to) if !halted => Transition::Done { state: to },
            (state, _) => match told {
                Transition::Halted { scope, .. } if scopes.contains(&scope) => {
                    Transition::Halted { state, scope }
                }
                _ => panic!("{told:?}, not halted by {scopes:?}"),
            },
        };
        assert_eq!(told, expected, "model, then engine");
        self.orders[picked].state = told.state();
        let viewed = self.shop.engine.order(order).expect("known");
        assert_eq!(viewed.state, told.state());
    }

    fn tick(&mut self) {
        while self.shop.engine.step_timekeeper() {}
        self.check_due();
    }

    /// The timekeeper has run: what is due and not halted is over.
    fn check_due(&mut self) {
        let now_ms = self.shop.now_ms();
        for nth in 0..self.orders.len() {
            let skus = &self.orders[nth].skus;
            let nths: Vec<usize> = (0..2).filter(|nth| skus.contains(&SKUS[*nth])).collect();
            let halted = self.strictest(&nths).0 == Switch::Halted;
            let held = &mut self.orders[nth];
            if held.state == OrderState::Held && held.deadline_ms <= now_ms && !halted {
                held.state = OrderState::Expired;
            }
        }
        let held = |sku| {
            let orders = self.orders.iter().filter(|order| order.state == OrderState::Held);
            orders.filter(|order| order.skus.contains(&sku)).count() as i64
        };
        for sku in SKUS.into_iter().filter(|_| self.knows_all) {
            assert_eq!(self.shop.levels(sku).held, held(sku), "{sku}");
        }
    }

    fn idle(&mut self) {
        let taken =
            (self.random.u64(..100) < 50).then(|| self.shop.engine.checkpoint().expect("open"));
        self.shop.engine.run_until_idle();
        drop(taken);
        self.see_durable();
        assert!(self.engine.states.len() == 1 && self.skus.iter().all(|it| it.states.len() == 1));
        self.check_due();
    }

    /// Kills the process, between two writes or in one.
    fn crash(&mut self) {
        if self.random.u64(..100) < 50 {
            self.idle();
        } else {
            // Other tests check which orders survive.
            self.orders.clear();
            self.knows_all = false;
        }
        let in_a_write = self.random.u64(..100) < 60;
        if in_a_write {
            (0..self.random.u64(..3)).for_each(|_| self.rule());
            self.switch();
            let (left, seen) = (self.random.u64(..3), AtomicU64::new(0));
            self.shop.storage.set_fault_hook(Some(Arc::new(move |call| {
                let counts = call.operation.is_change();
                match counts && seen.fetch_add(1, Ordering::Relaxed) == left {
                    true => Fault::Crash,
                    false => Fault::None,
                }
            })));
            for nth in 0..4 {
                self.shop.engine.step_writer(nth % 2);
            }
            self.shop.storage.set_fault_hook(None);
            self.see_durable();
        }
        self.shop.kill();
        if !in_a_write {
            // Nothing was half written, so what was not durable is gone.
            self.skus.iter_mut().for_each(|it| *it = States::new(it.states[0]));
            self.merchants.iter_mut().for_each(|it| *it = States::new(it.states[0]));
            self.engine = States::new(self.engine.states[0]);
            return;
        }
        self.look_what_is_left();
    }

    /// What each SKU answers now must be what one of the states says that a crash may have left. Then all rules are
    /// set again, so that they are known.
    fn look_what_is_left(&mut self) {
        for (nth, sku) in SKUS.into_iter().enumerate() {
            let levels = self.shop.levels(sku);
            self.last_buyer += 1;
            let order = Order::new(self.last_buyer, RequestKey::new(1)).line(sku, 1);
            let told = self.shop.answer(&order);
            let mut expected = Vec::new();
            for engine in &self.engine.states {
                for (a, b) in pairs(&self.merchants) {
                    let left = |rules: &&Rules| i64::from(rules.safety_stock) == levels.kept_back;
                    for rules in self.skus[nth].states.iter().filter(left) {
                        let mut view = self.view();
                        view.engine = vec![*engine];
                        view.merchants = [vec![a], vec![b]];
                        view.skus[nth] = vec![*rules];
                        expected.extend(view.expect(&[nth], 0));
                    }
                }
            }
            assert!(expected.iter().any(|it| it.is(&told)), "{told:?}, not one of {expected:?}");
        }
        self.orders.clear();
        let open = MerchantRules::new().switch(Switch::Open);
        drop(self.shop.engine.switch(Switch::Open).expect("there is room"));
        for merchant in MERCHANTS {
            drop(self.shop.engine.merchant(merchant, open).expect("there is room"));
        }
        let rules = SaleRules::new().opens_at_ms(0).closes_at_ms(u64::MAX).hold_for(None);
        let rules = rules.early_access(1, ms(0)).safety_stock(0).switch(Switch::Open);
        let rules = rules.merchant(None);
        for sku in SKUS {
            drop(self.shop.engine.rules(sku, rules.clone()).expect("there is room"));
        }
        self.shop.engine.run_until_idle();
        self.skus = std::array::from_fn(|_| States::new(NO_RULES));
        self.merchants = std::array::from_fn(|_| States::new(Switch::Open));
        self.engine = States::new(Switch::Open);
        // Orders that were held and whose end was not durable are held again. The model does not know which.
        self.shop.pass(ms(HOLD_DEFAULT_MS));
        self.knows_all = true;
    }
}

/// Pairs each state of the one with each state of the other.
fn pairs(merchants: &[States<Switch>; 2]) -> Vec<(Switch, Switch)> {
    let [a, b] = merchants.each_ref().map(|it| &it.states);
    a.iter().flat_map(|a| b.iter().map(|b| (*a, *b))).collect()
}

/// Returns what may be in force now: the states of which the strictest acts.
struct View {
    now_ms: u64,
    engine: Vec<Switch>,
    merchants: [Vec<Switch>; 2],
    skus: [Vec<Rules>; 2],
}

/// The possible answers to a new order.
#[derive(Debug)]
enum Expected {
    Refused(Refusal),
    SoldOut(SkuId),
    /// Not open until then.
    Held(u64),
}

impl Expected {
    fn is(&self, told: &Placed) -> bool {
        match (self, told) {
            (Self::Refused(expected), Placed::Refused(refusal)) => expected == refusal,
            (Self::SoldOut(expected), Placed::Refused(Refusal::SoldOut { sku, .. })) => {
                expected == sku
            }
            (Self::Held(expected_ms), Placed::Held(held)) => {
                *expected_ms == held.deadline_ms && !held.replayed
            }
            _ => false,
        }
    }
}

impl View {
    /// Returns the scopes of the strictest switches that act on these SKUs. A refusal may name any of them.
    fn strictest(&self, nths: &[usize]) -> (Switch, Vec<Scope>) {
        fn most<'a>(states: impl Iterator<Item = &'a Switch>) -> Switch {
            states.copied().max().unwrap_or(Switch::Open)
        }
        let mut found = vec![(most(self.engine.iter()), 0, Scope::Engine)];
        for (place, nth) in nths.iter().enumerate() {
            let states = &self.skus[*nth];
            for (nth, merchant) in MERCHANTS.into_iter().enumerate() {
                if states.iter().any(|rules| rules.merchant == Some(merchant)) {
                    let switch = most(self.merchants[nth].iter());
                    found.push((switch, 1 + 2 * place, Scope::Merchant(merchant)));
                }
            }
            let switch = most(states.iter().map(|rules| &rules.switch));
            found.push((switch, 2 + 2 * place, Scope::Sku(SKUS[*nth])));
        }
        let strictest = found.iter().map(|(switch, ..)| *switch).max().unwrap_or(Switch::Open);
        found.retain(|(switch, ..)| *switch == strictest);
        let widest = found.iter().map(|(_, place, _)| *place).min();
        found.retain(|(_, place, _)| Some(*place) == widest);
        (strictest, found.into_iter().map(|(.., scope)| scope).collect())
    }

    fn expect(&self, nths: &[usize], class: u8) -> Vec<Expected> {
        let now_ms = self.now_ms;
        let (switch, scopes) = self.strictest(nths);
        if switch > Switch::Open {
            let refused = |scope| Expected::Refused(Refusal::Switched { scope, switch });
            return scopes.into_iter().map(refused).collect();
        }
        let mut hold_ms = Vec::new();
        for nth in nths {
            let (sku, states) = (SKUS[*nth], &self.skus[*nth]);
            let early_ms = states.iter().map(|rules| rules.early_ms).min().unwrap_or(0);
            let early_ms = if class == 1 { early_ms } else { 0 };
            let opens_at_ms = states.iter().map(|rules| rules.opens_at_ms).max().unwrap_or(0);
            let opens_at_ms = opens_at_ms.saturating_sub(early_ms);
            if now_ms < opens_at_ms {
                return vec![Expected::Refused(Refusal::NotOpen { sku, opens_at_ms, now_ms })];
            }
            let closes = states.iter().map(|rules| rules.closes_at_ms).min();
            if let Some(closed_at_ms) = closes.filter(|closes_at_ms| *closes_at_ms <= now_ms) {
                return vec![Expected::Refused(Refusal::Closed { sku, closed_at_ms })];
            }
            hold_ms.push(states.iter().filter_map(|rules| rules.hold_ms).min());
        }
        let kept_back =
            |nth: &&usize| self.skus[**nth].iter().any(|rules| rules.safety_stock == ALL);
        if let Some(nth) = nths.iter().find(kept_back) {
            return vec![Expected::SoldOut(SKUS[*nth])];
        }
        let hold_ms = hold_ms.into_iter().map(|ms| ms.unwrap_or(HOLD_DEFAULT_MS)).min();
        vec![Expected::Held(now_ms + hold_ms.unwrap_or(0))]
    }
}

#[test]
fn rules_and_crashes_are_as_the_model_says() {
    for seed in seeds("RULES_SEED", 12) {
        let _rerun = Rerun::new("RULES_SEED", seed, "--test rules rules_and_crashes");
        let mut model = Model::new(seed);
        (0..STEPS).for_each(|_| model.step());
    }
}
