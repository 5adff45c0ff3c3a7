//! What a record permits when it is durable: units return to stock, rules loosen, lists move on.

use std::sync::Arc;

use crate::engine::core::Core;
use crate::engine::waiting;
use crate::log::{Effect, EffectKind};
use crate::stock::{Promotions, Registry, Sku, Switches};
use crate::sync::Ordering;

/// Everything that an effect may change.
pub(super) struct GivesBack {
    skus: Arc<Registry>,
    switches: Arc<Switches>,
    promotions: Arc<Promotions>,
    hold_default_ms: u32,
}

impl Core {
    /// What the effects of this engine's records change.
    pub(super) fn gives_back(&self) -> GivesBack {
        GivesBack {
            skus: self.skus.clone(),
            switches: self.switches.clone(),
            promotions: self.promotions.clone(),
            hold_default_ms: self.bounds.hold_default_ms,
        }
    }
}

/// Applies an effect, because its record is durable now.
pub(super) fn give_back(to: &GivesBack, effect: &Effect) {
    let GivesBack { skus, switches, promotions, hold_default_ms } = to;
    let give = |sku: &Sku, units| {
        if sku.hot.available.give(units) {
            promotions.ask(sku);
        }
        sku.note_change();
    };
    match effect.kind {
        EffectKind::Return { units } => {
            let sku = skus.get(effect.sku);
            sku.returning.fetch_sub(i64::from(units), Ordering::Relaxed);
            give(sku, units);
        }
        EffectKind::Restock { units } => {
            let sku = skus.get(effect.sku);
            sku.stocked.fetch_add(i64::from(units), Ordering::Relaxed);
            give(sku, units);
        }
        EffectKind::Left(place) => waiting::left(skus.get(effect.sku), place, promotions),
        EffectKind::Rules | EffectKind::EndSale => {
            let sku = skus.get(effect.sku);
            sku.settle_rules(&switches.merchants, *hold_default_ms);
            // Less may be kept back now, and smaller orders may pass.
            if sku.hot.available.somebody_waits() {
                promotions.ask(sku);
            }
            if effect.kind == EffectKind::EndSale {
                sku.ledger.lock().note_ended(effect.lsn);
                promotions.note_ended(effect.sku, effect.lsn);
            }
            switches.note_lift();
        }
        EffectKind::Merchant => {
            switches.merchants.get(effect.sku).settle();
            switches.note_lift();
        }
        EffectKind::Switch => {
            switches.settle();
            switches.note_lift();
        }
    }
}
