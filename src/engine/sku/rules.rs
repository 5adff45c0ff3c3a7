//! What a host rules: a SKU's rules, a merchant's, the whole engine's switch.
//!
//! Each is a record in a home lane. While it is not durable, the stricter of old and new acts (rule R8). Each change
//! takes every partition's lock once before it is answered (rule R9): a request that read the old rules has released
//! its partition's lock by then. One change at a time, by `core.passing`.

use crate::engine::core::Core;
use crate::engine::sku::buyer_counts;
use crate::error::{MerchantError, StockError, Unavailable};
use crate::ids::{MerchantId, SkuId};
use crate::log::{Commit, EffectKind, Lane, MerchantRecord, RulesRecord, SwitchRecord, Target};
use crate::order::{MerchantRules, RuleChanges, SaleRules, Switch};
use crate::stock::Sku;

/// Changes a SKU's rules.
pub(in crate::engine) fn rules(
    core: &Core,
    id: SkuId,
    rules: &SaleRules,
) -> Result<Commit<()>, StockError> {
    let changes = rules.validate(id, &core.bounds)?;
    let sku = core.known_sku(id).ok_or(StockError::UnknownSku { sku: id })?;
    let lane = core.home_lane(id);
    let _passing = core.passing.lock();
    core.check_room(lane, RulesRecord::bytes(&changes))?;
    check(core, sku, &changes)?;
    let mut targets = match changes.buyer_limit {
        Some(1..) => buyer_counts::count_buyers(core, sku)?,
        _ => Vec::new(),
    };
    let lsn = log_rules(core, lane, sku, changes)?;
    pass(core);
    targets.push(Target { lane: lane.index(), lsn });
    Ok(Commit::at_all((), &core.lanes, targets))
}

/// Checks that the SKU opens before it closes, and that its merchant can act. No other thread changes its rules
/// meanwhile.
fn check(core: &Core, sku: &Sku, changes: &RuleChanges) -> Result<(), StockError> {
    let rules = sku.ledger.lock().rules().with(changes);
    if rules.closes_at_ms <= rules.opens_at_ms {
        return Err(StockError::ClosesBeforeItOpens {
            sku: sku.id,
            opens_at_ms: rules.opens_at_ms,
            closes_at_ms: rules.closes_at_ms,
        });
    }
    sku.check_rules(&core.switches.merchants, changes)
}

fn log_rules(core: &Core, lane: &Lane, sku: &Sku, changes: RuleChanges) -> Result<u64, StockError> {
    let mut ledger = sku.ledger.lock();
    core.check_room(lane, RulesRecord::bytes(&changes))?;
    if changes == RuleChanges::default() {
        return Ok(ledger.last_lsn);
    }
    sku.restrict(&mut ledger, &core.switches.merchants, &changes, core.bounds.hold_default_ms)?;
    let record = RulesRecord { sku: sku.id, time_low: core.time.now_ms() as u32, changes };
    let effect = std::iter::once((sku.index, EffectKind::Rules));
    ledger.last_lsn = lane.append(|bytes| record.write(bytes), effect);
    Ok(ledger.last_lsn)
}

/// Changes a merchant's rules.
pub(in crate::engine) fn merchant(
    core: &Core,
    id: MerchantId,
    rules: MerchantRules,
) -> Result<Commit<()>, MerchantError> {
    rules.validate(id)?;
    let lane = core.merchant_lane(id);
    let _passing = core.passing.lock();
    core.check_room(lane, MerchantRecord::BYTES)?;
    let merchant = core.switches.merchants.find_or_insert(id)?;
    let mut ledger = merchant.ledger.lock();
    ledger.in_flight.check_room()?;
    if rules == MerchantRules::default() {
        return Ok(Commit::at((), lane, ledger.last_lsn));
    }
    let to = ledger.logged.with(rules);
    merchant.change(&mut ledger, to);
    let time_low = core.time.now_ms() as u32;
    let record = MerchantRecord { merchant: id, time_low, switch: to.switch, rate: to.rate };
    let effect = std::iter::once((merchant.index, EffectKind::Merchant));
    let lsn = lane.append(|bytes| record.write(bytes), effect);
    ledger.last_lsn = lsn;
    drop(ledger);
    pass(core);
    Ok(Commit::at((), lane, lsn))
}

/// Switches the whole engine.
pub(in crate::engine) fn switch(core: &Core, to: Switch) -> Result<Commit<()>, Unavailable> {
    let lane = core.switch_lane();
    let _passing = core.passing.lock();
    let mut ledger = core.switches.ledger.lock();
    core.check_room(lane, SwitchRecord::BYTES)?;
    ledger.in_flight.check_room()?;
    core.switches.change(&mut ledger, to);
    let record = SwitchRecord { time_low: core.time.now_ms() as u32, switch: to };
    let effect = std::iter::once((0, EffectKind::Switch));
    let lsn = lane.append(|bytes| record.write(bytes), effect);
    ledger.last_lsn = lsn;
    drop(ledger);
    pass(core);
    Ok(Commit::at((), lane, lsn))
}

/// A request that read the old rules has released its partition's lock afterwards.
fn pass(core: &Core) {
    for partition in &core.partitions {
        drop(partition.state.lock());
    }
}
