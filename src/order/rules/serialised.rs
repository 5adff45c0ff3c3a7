//! [`SaleRules`] and [`MerchantRules`] for serde: what stays as it was is left out. So they need a format that names
//! its fields. Values are checked when an engine gets them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;
use crate::serialised::{self, given};

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename = "SaleRules")]
struct SaleForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_at_ms: Option<u64>,
    /// `null`: never.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    closes_at_ms: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    early_access: Vec<EarlyForm>,
    /// `null`: the engine's default.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    hold_ms: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_stock: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_passes: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    switch: Option<Switch>,
    /// `null`: no merchant.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    merchant: Option<Option<MerchantId>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EarlyForm {
    class: u8,
    before_ms: u64,
}

impl Serialize for SaleRules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { changes, early, hold } = self;
        let never = |ms| (ms != NEVER_CLOSES).then_some(ms);
        let early = early.iter().map(|(class, before)| EarlyForm {
            class: *class,
            before_ms: serialised::whole_ms::of(*before),
        });
        let form = SaleForm {
            buyer_limit: changes.buyer_limit,
            opens_at_ms: changes.opens_at_ms,
            closes_at_ms: changes.closes_at_ms.map(never),
            early_access: early.collect(),
            hold_ms: hold.map(|hold| hold.map(serialised::whole_ms::of)),
            safety_stock: changes.safety_stock,
            waiting_max: changes.waiting_max,
            waiting_passes: changes.waiting_passes,
            switch: changes.switch,
            merchant: changes.merchant,
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SaleRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = SaleForm::deserialize(deserializer)?;
        let early = form.early_access.iter();
        Ok(Self {
            early: early.map(|it| (it.class, Duration::from_millis(it.before_ms))).collect(),
            hold: form.hold_ms.map(|hold_ms| hold_ms.map(Duration::from_millis)),
            changes: RuleChanges {
                buyer_limit: form.buyer_limit,
                opens_at_ms: form.opens_at_ms,
                closes_at_ms: form.closes_at_ms.map(|ms| ms.unwrap_or(NEVER_CLOSES)),
                safety_stock: form.safety_stock,
                waiting_max: form.waiting_max,
                waiting_passes: form.waiting_passes,
                switch: form.switch,
                merchant: form.merchant,
                ..RuleChanges::default()
            },
        })
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename = "MerchantRules")]
struct MerchantForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    switch: Option<Switch>,
    /// `null`: none.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    rate: Option<Option<RateForm>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateForm {
    orders_per_s: u32,
    burst: u32,
}

impl Serialize for MerchantRules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { switch, rate } = self;
        let form = |Rate { orders_per_s, burst }| RateForm { orders_per_s, burst };
        MerchantForm { switch: *switch, rate: rate.map(|rate| rate.map(form)) }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MerchantRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let MerchantForm { switch, rate } = MerchantForm::deserialize(deserializer)?;
        let rate_of = |RateForm { orders_per_s, burst }| Rate { orders_per_s, burst };
        Ok(Self { switch, rate: rate.map(|rate| rate.map(rate_of)) })
    }
}
