//! The records of what a host rules: of a SKU, a merchant, the whole engine.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{MerchantId, SkuId};
use crate::log::record::{KIND_MERCHANT, KIND_RULES, KIND_SWITCH, RecordHeader, header};
use crate::order::{Rate, RuleChanges, Switch};

/// The values of the rules that change follow (u64 each), by ascending bit, but that of the buyer limit.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RulesBody {
    sku: U64,
    /// Which rules the record sets, as the constants below.
    fields: U32,
    buyer_limit: U32,
}

const BUYER_LIMIT: u32 = 0;
const OPENS_AT: u32 = 1;
const CLOSES_AT: u32 = 2;
const HOLD: u32 = 3;
const SAFETY_STOCK: u32 = 4;
const WAITING_MAX: u32 = 5;
const WAITING_PASSES: u32 = 6;
const SWITCH: u32 = 7;
const MERCHANT: u32 = 8;
/// The SKU has no merchant; the value is 0.
const NO_MERCHANT: u32 = 9;
/// Of class 0; those of the others follow.
const EARLY_ACCESS: u32 = 16;
const FIELDS: u32 = 24;

/// The host changed a SKU's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RulesRecord {
    pub(crate) sku: SkuId,
    pub(crate) time_low: u32,
    pub(crate) changes: RuleChanges,
}

/// The host switched the whole engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SwitchRecord {
    pub(crate) time_low: u32,
    pub(crate) switch: Switch,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SwitchBody {
    switch: u8,
    reserved: [u8; 7],
}

/// The host changed a merchant's rules; all of them, as they are from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MerchantRecord {
    pub(crate) merchant: MerchantId,
    pub(crate) time_low: u32,
    pub(crate) switch: Switch,
    pub(crate) rate: Option<Rate>,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MerchantBody {
    merchant: U64,
    /// 0: no rate.
    orders_per_s: U32,
    burst: U32,
    switch: u8,
    reserved: [u8; 7],
}

impl RulesRecord {
    /// Bytes that the record of these changes takes.
    pub(crate) fn bytes(changes: &RuleChanges) -> usize {
        let fixed = size_of::<RecordHeader>() + size_of::<RulesBody>();
        fixed + words(changes).count() * size_of::<u64>()
    }

    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let bytes = Self::bytes(&self.changes);
        let body = RulesBody {
            sku: self.sku.get().into(),
            fields: fields(&self.changes).into(),
            buyer_limit: self.changes.buyer_limit.unwrap_or(0).into(),
        };
        to.extend_from_slice(header(KIND_RULES, 0, bytes, self.time_low).as_bytes());
        to.extend_from_slice(body.as_bytes());
        for value in words(&self.changes) {
            to.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Behind the fixed part, in which the buyer limit has its place.
fn words(changes: &RuleChanges) -> impl Iterator<Item = u64> {
    values(changes).filter(|(bit, _)| *bit != BUYER_LIMIT).map(|(_, value)| value)
}

pub(super) fn parse_rules(header: &RecordHeader, body: &[u8]) -> Result<RulesRecord, &'static str> {
    let (rules, rest) = RulesBody::ref_from_prefix(body).map_err(|_| "rules record too short")?;
    let fields = rules.fields.get();
    let limited = fields & (1 << BUYER_LIMIT) != 0;
    let mut changes = read(fields & !(1 << BUYER_LIMIT), rest)?;
    changes.buyer_limit = limited.then(|| rules.buyer_limit.get());
    Ok(RulesRecord { sku: rules.sku.get().into(), time_low: header.time_low.get(), changes })
}

/// The rules that change, as a checkpoint holds them: which they are, then their values.
pub(crate) fn rule_words(changes: &RuleChanges) -> Vec<u64> {
    let mut words = vec![u64::from(fields(changes))];
    words.extend(values(changes).map(|(_, value)| value));
    words
}

/// What [`rule_words`] told.
pub(crate) fn rules_of_words(words: &[U64]) -> Result<RuleChanges, &'static str> {
    let Some((fields, values)) = words.split_first() else { return Ok(RuleChanges::default()) };
    let fields = u32::try_from(fields.get()).map_err(|_| "rules that nobody knows")?;
    read(fields, values.as_bytes())
}

fn fields(changes: &RuleChanges) -> u32 {
    values(changes).fold(0, |fields, (bit, _)| fields | 1 << bit)
}

fn read(fields: u32, bytes: &[u8]) -> Result<RuleChanges, &'static str> {
    if fields >> FIELDS != 0 {
        return Err("rules that nobody knows");
    }
    let (values, rest) = bytes.as_chunks();
    let bits = (0..FIELDS).filter(|bit| fields & 1 << bit != 0);
    if bits.clone().count() != values.len() || !rest.is_empty() {
        return Err("rules are not as many as their record says");
    }
    let mut changes = RuleChanges::default();
    for (bit, value) in bits.zip(values) {
        set(&mut changes, bit, u64::from_le_bytes(*value))?;
    }
    Ok(changes)
}

/// By ascending bit.
fn values(changes: &RuleChanges) -> impl Iterator<Item = (u32, u64)> {
    let merchant = changes.merchant.flatten().map(MerchantId::get);
    let nobody = changes.merchant.is_some_and(|merchant| merchant.is_none());
    let fixed = [
        (BUYER_LIMIT, changes.buyer_limit.map(u64::from)),
        (OPENS_AT, changes.opens_at_ms),
        (CLOSES_AT, changes.closes_at_ms),
        (HOLD, changes.hold_ms.map(u64::from)),
        (SAFETY_STOCK, changes.safety_stock.map(u64::from)),
        (WAITING_MAX, changes.waiting_max.map(u64::from)),
        (WAITING_PASSES, changes.waiting_passes.map(u64::from)),
        (SWITCH, changes.switch.map(|switch| switch as u64)),
        (MERCHANT, merchant),
        (NO_MERCHANT, nobody.then_some(0)),
    ];
    let early = (EARLY_ACCESS..).zip(changes.early_ms).map(|(bit, ms)| (bit, ms.map(u64::from)));
    fixed.into_iter().chain(early).filter_map(|(bit, value)| Some((bit, value?)))
}

fn set(changes: &mut RuleChanges, bit: u32, value: u64) -> Result<(), &'static str> {
    let number = || u32::try_from(value).map_err(|_| "a rule out of its range");
    match bit {
        BUYER_LIMIT => changes.buyer_limit = Some(number()?),
        OPENS_AT => changes.opens_at_ms = Some(value),
        CLOSES_AT => changes.closes_at_ms = Some(value),
        HOLD => changes.hold_ms = Some(number()?),
        SAFETY_STOCK => changes.safety_stock = Some(number()?),
        WAITING_MAX => changes.waiting_max = Some(number()?),
        WAITING_PASSES => changes.waiting_passes = Some(value != 0),
        SWITCH => changes.switch = Some(Switch::from_code(value).ok_or("an unknown switch")?),
        MERCHANT => changes.merchant = Some(Some(MerchantId::new(value))),
        NO_MERCHANT => changes.merchant = Some(None),
        _ => {
            let class = bit.checked_sub(EARLY_ACCESS).map(|class| class as usize);
            let early_ms = class.and_then(|class| changes.early_ms.get_mut(class));
            *early_ms.ok_or("rules that nobody knows")? = Some(number()?);
        }
    }
    Ok(())
}

impl SwitchRecord {
    /// Bytes that it takes.
    pub(crate) const BYTES: usize = size_of::<RecordHeader>() + size_of::<SwitchBody>();

    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let body = SwitchBody { switch: self.switch as u8, reserved: [0; 7] };
        to.extend_from_slice(header(KIND_SWITCH, 0, Self::BYTES, self.time_low).as_bytes());
        to.extend_from_slice(body.as_bytes());
    }
}

pub(super) fn parse_switch(
    header: &RecordHeader,
    body: &[u8],
) -> Result<SwitchRecord, &'static str> {
    let (body, _) = SwitchBody::ref_from_prefix(body).map_err(|_| "switch record too short")?;
    let switch = Switch::from_code(body.switch.into()).ok_or("an unknown switch")?;
    Ok(SwitchRecord { time_low: header.time_low.get(), switch })
}

impl MerchantRecord {
    /// Bytes that it takes.
    pub(crate) const BYTES: usize = size_of::<RecordHeader>() + size_of::<MerchantBody>();

    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let body = MerchantBody {
            merchant: self.merchant.get().into(),
            orders_per_s: self.rate.map_or(0, |rate| rate.orders_per_s).into(),
            burst: self.rate.map_or(0, |rate| rate.burst).into(),
            switch: self.switch as u8,
            reserved: [0; 7],
        };
        to.extend_from_slice(header(KIND_MERCHANT, 0, Self::BYTES, self.time_low).as_bytes());
        to.extend_from_slice(body.as_bytes());
    }
}

pub(super) fn parse_merchant(
    header: &RecordHeader,
    body: &[u8],
) -> Result<MerchantRecord, &'static str> {
    let (body, _) = MerchantBody::ref_from_prefix(body).map_err(|_| "merchant record too short")?;
    let (orders_per_s, burst) = (body.orders_per_s.get(), body.burst.get());
    Ok(MerchantRecord {
        merchant: MerchantId::new(body.merchant.get()),
        time_low: header.time_low.get(),
        switch: Switch::from_code(body.switch.into()).ok_or("an unknown switch")?,
        rate: (orders_per_s > 0).then_some(Rate { orders_per_s, burst }),
    })
}
