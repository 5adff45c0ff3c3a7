//! Reading back what the engine holds: orders by id, by key and one after the other, SKUs, merchants, rules.
//!
//! A read copies what it shows under one lock, and a scan holds no lock for longer than a bounded part of a
//! page takes. All but the looks at one order change nothing, so they work on a closed or latched engine too.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use crate::engine::core::Core;
use crate::engine::view::{OrderView, show};
use crate::ids::{MerchantId, OrderId, SkuId};
use crate::order::{MerchantLimits, Ruled, SkuRules, Switch};
use crate::partition::first_sequence;
use crate::stock::MerchantState;

/// How many orders a scan copies under one lock.
const ORDERS_A_LOCK: usize = 128;

/// A SKU's rules; `None`: it is not known.
pub(super) fn sku_rules(core: &Core, id: SkuId) -> Option<Ruled<SkuRules>> {
    let sku = core.known_sku(id)?;
    let merchants = &core.switches.merchants;
    // Under which its rules are put in force.
    let ledger = sku.ledger.lock();
    let owners = sku.rules().into_iter().flat_map(|rules| rules.owners());
    let owners = owners.map(|owner| merchants.get(owner).id).collect();
    let logged = ledger.rules();
    Some(Ruled {
        acting: SkuRules::new(&ledger.acting_rules(), owners),
        logged: SkuRules::new(&logged, logged.merchant.into_iter().collect()),
        durable: core.home_lane(id).is_durable(ledger.last_lsn),
    })
}

/// A merchant's rules; `None`: it has none, and no SKU is its own.
pub(super) fn merchant_rules(core: &Core, id: MerchantId) -> Option<Ruled<MerchantLimits>> {
    let ledger = core.switches.merchants.find(id)?.ledger.lock();
    let limits = |state: MerchantState| MerchantLimits::new(state.switch, state.rate);
    Some(Ruled {
        acting: limits(ledger.acting()),
        logged: limits(ledger.logged),
        durable: core.merchant_lane(id).is_durable(ledger.last_lsn),
    })
}

/// The engine's switch.
pub(super) fn switch_state(core: &Core) -> Ruled<Switch> {
    let ledger = core.switches.ledger.lock();
    Ruled {
        acting: core.switches.engine(),
        logged: ledger.logged,
        durable: core.switch_lane().is_durable(ledger.last_lsn),
    }
}

/// The SKUs that are known, in the order in which the engine came to know them. Without a lock.
pub(super) fn skus(core: &Arc<Core>) -> impl Iterator<Item = SkuId> + Send + Sync + use<> {
    let core = core.clone();
    let mut index = 0;
    std::iter::from_fn(move || {
        while index < core.skus.len() {
            let sku = core.skus.get(index);
            index += 1;
            if sku.is_known() {
                return Some(sku.id);
            }
        }
        None
    })
}

/// The merchants, in the order in which the engine came to know them.
pub(super) fn merchants(
    core: &Arc<Core>,
) -> impl Iterator<Item = MerchantId> + Send + Sync + use<> {
    let core = core.clone();
    let mut index = 0;
    std::iter::from_fn(move || {
        let merchants = &core.switches.merchants;
        (index < merchants.len()).then(|| {
            index += 1;
            merchants.get(index - 1).id
        })
    })
}

/// All orders in memory, one after the other: see [`Engine::orders`](crate::Engine::orders).
#[must_use = "it reads nothing until it is asked for the next order"]
pub struct Orders {
    core: Arc<Core>,
    /// Where the next page begins.
    partition: usize,
    sequence: u64,
    page: VecDeque<OrderView>,
}

impl Orders {
    pub(super) fn new(core: &Arc<Core>, after: Option<OrderId>) -> Self {
        let (partition, sequence) =
            after.map_or((0, 0), |after| (after.partition(), after.sequence().saturating_add(1)));
        Self { core: core.clone(), partition, sequence, page: VecDeque::new() }
    }

    /// Copies some orders of one page under its partition's lock. Returns the sequence at which the next ones begin;
    /// `None` if the partition has no more.
    fn copy_some(&mut self) -> Option<u64> {
        let partition = &self.core.partitions[self.partition];
        let state = partition.state.lock();
        let page = state.orders.page_from(self.sequence)?;
        let mut orders = state.orders.of_page(page, self.sequence);
        for (sequence, slot) in orders.by_ref().take(ORDERS_A_LOCK) {
            let order = OrderId::from_parts(self.partition, sequence);
            self.page.push_back(show(&self.core, partition, order, slot));
        }
        Some(orders.next().map_or(first_sequence(page + 1), |(sequence, _)| sequence))
    }
}

impl Iterator for Orders {
    type Item = OrderView;

    fn next(&mut self) -> Option<OrderView> {
        while self.page.is_empty() && self.partition < self.core.partitions.len() {
            match self.copy_some() {
                Some(sequence) => self.sequence = sequence,
                None => (self.partition, self.sequence) = (self.partition + 1, 0),
            }
        }
        self.page.pop_front()
    }
}

impl FusedIterator for Orders {}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("folder", &self.core.folder).finish_non_exhaustive()
    }
}
