//! Adjustments of a SKU's stock. Serialised by the SKU's ledger lock, logged in its home shard as deltas
//! (rule R8).

use crate::engine::core::Core;
use crate::error::{Capacity, StockError, Unavailable, at_capacity};
use crate::ids::{Quantity, RequestKey, STOCK_MAX, SkuId};
use crate::log::{AdjustRecord, Commit, EffectKind, Lane};
use crate::order::{Adjust, AdjustKind, Adjusted, KeyField, payload_digest};
use crate::stock::{AdjustEntry, Open, Sku, SkuLedger, Take};
use crate::sync::Ordering;

/// How often an adjustment looks again when carts in flight keep its answer open.
const TRIES_MAX: u32 = 64;
/// Adjustment keys that one SKU remembers.
const ADJUST_KEYS_MAX: usize = 1 << 20;

pub(in crate::engine) fn adjust(
    core: &Core,
    id: SkuId,
    adjust: &Adjust,
) -> Result<Commit<Adjusted>, StockError> {
    let key = adjust.validate(id, &core.bounds)?;
    let creates = matches!(adjust.kind, AdjustKind::Add | AdjustKind::Set);
    let sku = match core.skus.find(id).filter(|sku| creates || sku.is_known()) {
        Some(sku) => sku,
        None if creates => {
            // What is refused makes no SKU.
            if let Some(expected) = adjust.expected.filter(|expected| *expected > 0) {
                let expected = Quantity::new(expected);
                core.check_open()?;
                return Ok(Commit::ready(Adjusted::Unexpected { expected, stocked: 0 }));
            }
            check_room(core, core.home_lane(id), adjust)?;
            if let Some(refused) = key_out_of_date(core, key, 0, core.time.now_ms()) {
                return Ok(Commit::ready(refused));
            }
            (core.skus.find_or_insert(id))
                .map_err(|_| at_capacity(Capacity::Skus, core.skus_max as u64))?
        }
        None => return Err(StockError::UnknownSku { sku: id }),
    };
    for tries in 0..TRIES_MAX {
        if tries > 0 {
            std::thread::yield_now();
        }
        if let Some(commit) = attempt(core, sku, key, adjust)? {
            return Ok(commit);
        }
    }
    core.contended.fetch_add(1, Ordering::Relaxed);
    Err(StockError::Contended { sku: id, tries: TRIES_MAX })
}

/// `None`: carts in flight keep the answer open.
fn attempt(
    core: &Core,
    sku: &Sku,
    key: RequestKey,
    adjust: &Adjust,
) -> Result<Option<Commit<Adjusted>>, StockError> {
    let lane = core.home_lane(sku.id);
    let mut ledger = sku.ledger.lock();
    core.check_open()?;
    let reference_digest = payload_digest(adjust.reference.as_bytes());
    let (now_ms, retention_ms) = (core.time.now_ms(), core.bounds.adjust_retention_ms);
    let kept = ledger.adjusts.get(key).filter(|entry| !entry.is_over(key, now_ms, retention_ms));
    if let Some(entry) = kept {
        return Ok(Some(Commit::at(repeat(entry, adjust, reference_digest), lane, entry.lsn)));
    }
    if let Some(refused) = key_out_of_date(core, key, ledger.adjusts.forgotten_ms, now_ms) {
        return Ok(Some(Commit::ready(refused)));
    }
    check_room(core, lane, adjust)?;
    // A checkpoint that copies them counts from the first.
    if !core.retirement_paused.load(Ordering::Relaxed) {
        ledger.adjusts.forget_some(now_ms, retention_ms);
    }
    if ledger.adjusts.len() >= ADJUST_KEYS_MAX {
        Err(at_capacity(Capacity::AdjustKeys, ADJUST_KEYS_MAX as u64))?;
    }
    let decision = decide(sku, &ledger, adjust)?;
    sku.note_change();
    let delta = match decision {
        Decision::By(delta) => delta,
        Decision::Open => return Ok(None),
        Decision::Refused(answer) => {
            // It shows figures of the SKU's records.
            return Ok(Some(Commit::at(answer, lane, ledger.last_lsn)));
        }
    };
    sku.known.store(true, Ordering::Release);
    let record = AdjustRecord {
        sku: sku.id,
        key,
        time_low: now_ms as u32,
        kind: adjust.kind,
        units: adjust.units,
        expected: adjust.expected.unwrap_or(0),
        delta,
        reference: adjust.reference.as_bytes(),
    };
    let restock = u32::try_from(delta).ok().filter(|units| *units > 0);
    let effect = restock.map(|units| (sku.index, EffectKind::Restock { units }));
    let lsn = lane.append(|bytes| record.write(bytes), effect.into_iter());
    ledger.stocked += delta;
    ledger.last_lsn = lsn;
    let entry = AdjustEntry {
        kind: adjust.kind,
        units: adjust.units,
        expected: adjust.expected.unwrap_or(0),
        reference_digest,
        delta,
        stocked: ledger.stocked.unsigned_abs(),
        lsn,
        at_ms: now_ms,
    };
    ledger.adjusts.insert(key, entry);
    Ok(Some(Commit::at(done(&entry, false), lane, lsn)))
}

/// The refusal of a dated key that has no adjustment: it may have had one that is not kept any more, or the engine
/// could not tell for a long time that the key is too old.
fn key_out_of_date(
    core: &Core,
    key: RequestKey,
    forgotten_ms: u64,
    now_ms: u64,
) -> Option<Adjusted> {
    let key_ms = key.unix_ms()?;
    let kept_from_ms = (now_ms + 1).saturating_sub(core.bounds.adjust_retention_ms);
    // A retention that was shorter before let go keys that are younger than those that the one of now keeps.
    let oldest_ms = kept_from_ms.max(forgotten_ms + 1);
    if key_ms < oldest_ms {
        return Some(Adjusted::KeyTooOld { key_ms, oldest_ms });
    }
    let newest_ms = now_ms.max(core.time.wall_ms()).saturating_add(core.bounds.key_ahead_max_ms);
    (key_ms > newest_ms).then_some(Adjusted::KeyTooNew { key_ms, newest_ms })
}

fn check_room(core: &Core, lane: &Lane, adjust: &Adjust) -> Result<(), Unavailable> {
    core.check_room(lane, AdjustRecord::bytes(adjust.reference.len()))
}

enum Decision {
    /// The stocked figure changes by so much; what is taken is taken already.
    By(i64),
    Refused(Adjusted),
    Open,
}

fn decide(sku: &Sku, ledger: &SkuLedger, adjust: &Adjust) -> Result<Decision, StockError> {
    let units = adjust.units;
    let lower = |units: u32| {
        sku.stocked.fetch_sub(i64::from(units), Ordering::Relaxed);
        Decision::By(-i64::from(units))
    };
    Ok(match adjust.kind {
        AdjustKind::Add => {
            let sum = ledger.stocked + i64::from(units);
            if sum > i64::from(STOCK_MAX) {
                return Err(StockError::StockTooLarge {
                    sku: sku.id,
                    units: sum.unsigned_abs(),
                    max: STOCK_MAX,
                });
            }
            Decision::By(i64::from(units))
        }
        AdjustKind::Take => match sku.hot.available.take_out(units) {
            Take::Taken => lower(units),
            Take::Open | Take::OthersWait => Decision::Open,
            Take::Short { available } => {
                Decision::Refused(Adjusted::TooFew { wanted: Quantity::new(units), available })
            }
        },
        AdjustKind::TakeUpTo => match sku.hot.available.take_up_to(units) {
            Ok(taken) => lower(taken),
            Err(Open) => Decision::Open,
        },
        AdjustKind::Set => {
            let expected = adjust.expected.unwrap_or(0);
            if ledger.stocked != i64::from(expected) {
                return Ok(Decision::Refused(Adjusted::Unexpected {
                    expected: Quantity::new(expected),
                    stocked: ledger.stocked.unsigned_abs(),
                }));
            }
            if let Some(fewer) = expected.checked_sub(units).filter(|fewer| *fewer > 0) {
                let too_many =
                    |units| StockError::OwesTooMuch { sku: sku.id, units, max: STOCK_MAX };
                sku.hot.available.force(fewer).map_err(too_many)?;
                lower(fewer)
            } else {
                Decision::By(i64::from(units) - i64::from(expected))
            }
        }
    })
}

fn done(entry: &AdjustEntry, replayed: bool) -> Adjusted {
    let taken = entry.delta.unsigned_abs() as u32;
    let shortfall = match entry.kind {
        AdjustKind::TakeUpTo => entry.units - taken,
        _ => 0,
    };
    Adjusted::Done {
        delta: entry.delta,
        stocked: entry.stocked,
        shortfall: Quantity::new(shortfall),
        replayed,
    }
}

fn repeat(entry: &AdjustEntry, adjust: &Adjust, reference_digest: u64) -> Adjusted {
    let differs = if entry.kind != adjust.kind {
        Some(KeyField::Adjustment)
    } else if entry.units != adjust.units {
        Some(KeyField::Quantity)
    } else if entry.expected != adjust.expected.unwrap_or(0) {
        Some(KeyField::Expected)
    } else if entry.reference_digest != reference_digest {
        Some(KeyField::Payload)
    } else {
        None
    };
    differs.map_or_else(|| done(entry, true), |field| Adjusted::KeyReused { field })
}
