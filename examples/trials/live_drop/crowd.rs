//! The buyers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use doorbuster::{
    Commit, Fill, Order, OrderId, OrderState, Placed, Refusal, RequestKey, Scope, Transition, Watch,
};

use crate::Failure;
use crate::args::Args;
use crate::shared::random::Random;
use crate::stage::{
    DROP, GOLD, HOLD, KNOCK_OFF, OPENING_TICK, OTHERS, PATIENCE, ROGUE, SILVER, Stage, TICK_MS,
};

/// Of a hundred buyers this many are gold, silver, and come for the other merchant.
const GOLD_PERCENT: u64 = 5;
const SILVER_PERCENT: u64 = 15;
const KNOCK_OFF_PERCENT: u64 = 10;
/// So many would rather go than wait, never pay, and leave the line before their patience is over.
const HASTY_PERCENT: u64 = 15;
const ABANDON_PERCENT: u64 = 25;
const LEAVE_PERCENT: u64 = 5;
/// The crowd comes within a minute around the opening, most of it in the first seconds.
const ARRIVALS_END_TICK: u64 = OPENING_TICK + 600;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Requests sent.
    pub(crate) placed: u64,
    /// Held at once.
    pub(crate) held: u64,
    /// Of these, before the opening.
    pub(crate) early_access: u64,
    /// Stood in line.
    pub(crate) waited: u64,
    /// Served from the line.
    pub(crate) promoted: u64,
    /// Left the line by themselves.
    pub(crate) left: u64,
    pub(crate) lost_patience: u64,
    pub(crate) paid: u64,
    pub(crate) paid_units: u64,
    /// Held and not paid in time.
    pub(crate) abandoned: u64,
    pub(crate) not_open: u64,
    pub(crate) sold_out: u64,
    pub(crate) others_waiting: u64,
    pub(crate) list_full: u64,
    pub(crate) over_limit: u64,
    /// Refused because of the merchant: over its rate, or delisted.
    pub(crate) by_merchant: u64,
    pub(crate) otherwise: u64,
}

impl Tally {
    pub(crate) fn refused(&self) -> u64 {
        let stock = self.not_open + self.sold_out + self.others_waiting + self.list_full;
        stock + self.over_limit + self.by_merchant + self.otherwise
    }
}

/// What a buyer does later, by tick.
enum Later {
    Pay { order: OrderId, units: u32 },
    WalkAway,
    Leave(OrderId),
}

/// An order in line, and its buyer, who sleeps until the order has left the line.
struct InLine {
    watch: Watch,
    order: OrderId,
    units: u32,
}

/// Every waker rings here.
#[derive(Default)]
struct Bell(Mutex<Vec<usize>>);

struct Ring {
    bell: Arc<Bell>,
    buyer: usize,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.bell.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.buyer);
    }
}

/// See the module.
pub(crate) struct Crowd {
    random: Random,
    /// Ticks at which a buyer comes, the last one first.
    arrivals: Vec<u64>,
    in_line: Vec<Option<InLine>>,
    bell: Arc<Bell>,
    later: BTreeMap<u64, Vec<Later>>,
    next_buyer: u64,
    pub(crate) tally: Tally,
}

/// A request whose answer is not durable yet.
struct Asked {
    commit: Commit<Placed>,
    units: u32,
    buyer_leaves: bool,
}

impl Crowd {
    pub(crate) fn new(args: &Args) -> Self {
        let mut random = Random::new(args.seed);
        let mut arrivals: Vec<u64> = (0..args.buyers).map(|_| arrival(&mut random)).collect();
        arrivals.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            random,
            arrivals,
            in_line: Vec::new(),
            bell: Arc::default(),
            later: BTreeMap::new(),
            next_buyer: 1,
            tally: Tally::default(),
        }
    }

    pub(crate) fn in_line(&self) -> usize {
        self.in_line.iter().flatten().count()
    }

    /// All that buyers do in a tick.
    pub(crate) fn act(&mut self, stage: &mut Stage, tick: u64) -> Result<(), Failure> {
        self.hear(tick)?;
        for later in self.later.remove(&tick).unwrap_or_default() {
            self.go_on(stage, later)?;
        }
        let mut asked = Vec::new();
        while self.arrivals.last().is_some_and(|arrival| *arrival <= tick) {
            self.arrivals.pop();
            asked.push(self.ask(stage)?);
        }
        stage.settle();
        for asked in asked {
            self.answer(stage, tick, asked)?;
        }
        Ok(())
    }

    /// A buyer comes.
    fn ask(&mut self, stage: &Stage) -> Result<Asked, Failure> {
        let tier = self.random.below(100);
        let class = match tier {
            0..GOLD_PERCENT => GOLD,
            tier if tier < GOLD_PERCENT + SILVER_PERCENT => SILVER,
            _ => OTHERS,
        };
        let knock_off = self.random.below(100) < KNOCK_OFF_PERCENT;
        let units = 1 + (self.random.below(4) / 3) as u32;
        let buyer = self.next_buyer;
        self.next_buyer += 1;
        let sku = if knock_off { KNOCK_OFF } else { DROP };
        let order = Order::new(buyer, RequestKey::new(1)).line(sku, units).class(class);
        let hasty = self.random.below(100) < HASTY_PERCENT;
        let order = match hasty {
            true => order,
            false => order.fill(Fill::Wait { patience: PATIENCE }),
        };
        self.tally.placed += 1;
        let buyer_leaves = self.random.below(100) < LEAVE_PERCENT;
        Ok(Asked { commit: stage.engine.place(&order)?, units, buyer_leaves })
    }

    fn answer(&mut self, stage: &Stage, tick: u64, asked: Asked) -> Result<(), Failure> {
        let Asked { commit, units, buyer_leaves } = asked;
        match commit.wait()? {
            Placed::Held(held) => {
                self.tally.held += 1;
                self.tally.early_access += u64::from(tick < OPENING_TICK);
                self.decide(tick, held.order, units);
            }
            Placed::Waiting(waiting) => {
                self.tally.waited += 1;
                if buyer_leaves {
                    let ticks = 10 + self.random.below(PATIENCE.as_millis() as u64 / TICK_MS);
                    let leave = Later::Leave(waiting.order);
                    self.later.entry(tick + ticks).or_default().push(leave);
                }
                let watch = stage.engine.watch(waiting.order)?;
                self.in_line.push(Some(InLine { watch, order: waiting.order, units }));
                self.look(tick, self.in_line.len() - 1)?;
            }
            Placed::Refused(refusal) => self.count(refusal),
            _ => self.tally.otherwise += 1,
        }
        Ok(())
    }

    fn count(&mut self, refusal: Refusal) {
        let tally = &mut self.tally;
        *match refusal {
            Refusal::NotOpen { .. } => &mut tally.not_open,
            Refusal::SoldOut { .. } => &mut tally.sold_out,
            Refusal::OthersWaiting { .. } => &mut tally.others_waiting,
            Refusal::WaitingListFull { .. } => &mut tally.list_full,
            Refusal::BuyerLimit { .. } => &mut tally.over_limit,
            Refusal::RateLimited { merchant: ROGUE, .. }
            | Refusal::Switched { scope: Scope::Merchant(ROGUE), .. } => &mut tally.by_merchant,
            _ => &mut tally.otherwise,
        } += 1;
    }

    /// A buyer with a hold pays before it ends, or never.
    fn decide(&mut self, tick: u64, order: OrderId, units: u32) {
        let ticks = HOLD.as_millis() as u64 / TICK_MS;
        let (later, after) = match self.random.below(100) < ABANDON_PERCENT {
            true => (Later::WalkAway, ticks),
            false => (Later::Pay { order, units }, 5 + self.random.below(ticks - 10)),
        };
        self.later.entry(tick + after).or_default().push(later);
    }

    fn go_on(&mut self, stage: &mut Stage, later: Later) -> Result<(), Failure> {
        match later {
            Later::Pay { order, units } => {
                let commit = stage.engine.confirm(order)?;
                stage.settle();
                if commit.wait()? == (Transition::Done { state: OrderState::Confirmed }) {
                    self.tally.paid += 1;
                    self.tally.paid_units += u64::from(units);
                }
            }
            Later::WalkAway => self.tally.abandoned += 1,
            Later::Leave(order) => {
                if stage.engine.order(order)?.state == OrderState::Waiting {
                    let commit = stage.engine.cancel(order)?;
                    stage.settle();
                    commit.wait()?;
                }
            }
        }
        Ok(())
    }

    /// The buyers that were woken look how their orders went on.
    fn hear(&mut self, tick: u64) -> Result<(), Failure> {
        let rung = std::mem::take(&mut *self.bell.0.lock().unwrap_or_else(PoisonError::into_inner));
        for buyer in rung {
            self.look(tick, buyer)?;
        }
        Ok(())
    }

    fn look(&mut self, tick: u64, buyer: usize) -> Result<(), Failure> {
        let waker = Waker::from(Arc::new(Ring { bell: self.bell.clone(), buyer }));
        let Some(in_line) = &mut self.in_line[buyer] else { return Ok(()) };
        let Poll::Ready(view) = Pin::new(&mut in_line.watch).poll(&mut Context::from_waker(&waker))
        else {
            return Ok(());
        };
        let (order, units) = (in_line.order, in_line.units);
        self.in_line[buyer] = None;
        match view?.state {
            OrderState::Cancelled => self.tally.left += 1,
            OrderState::Expired => self.tally.lost_patience += 1,
            _ => {
                self.tally.promoted += 1;
                self.decide(tick, order, units);
            }
        }
        Ok(())
    }
}

/// A few come early; most come in the seconds after the opening, and fewer and fewer later.
fn arrival(random: &mut Random) -> u64 {
    match random.below(10) {
        0 | 1 => random.below(OPENING_TICK),
        _ => {
            let spread = ARRIVALS_END_TICK - OPENING_TICK;
            OPENING_TICK + random.below(spread).min(random.below(spread)).min(random.below(spread))
        }
    }
}
