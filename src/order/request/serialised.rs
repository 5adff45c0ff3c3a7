//! [`Order`] and [`Adjust`] for serde. What is read is held to the bounds that no engine exceeds; an engine's own
//! bounds are checked when it gets it.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;
use crate::serialised::{payload, whole_ms};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "Order")]
struct OrderForm {
    buyer: BuyerId,
    key: RequestKey,
    lines: Vec<Line>,
    /// `null`: as long as the engine says.
    #[serde(default)]
    hold_ms: Option<u64>,
    #[serde(default)]
    fill: Fill,
    #[serde(default)]
    min_quantities: Vec<Line>,
    #[serde(default)]
    class: u8,
    #[serde(default, with = "payload")]
    payload: Bytes,
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { buyer, key, lines, hold, fill, minimums, class, payload } = self;
        let form = OrderForm {
            buyer: *buyer,
            key: *key,
            lines: lines.as_slice().to_vec(),
            hold_ms: hold.map(whole_ms::of),
            fill: *fill,
            min_quantities: minimums.clone(),
            class: *class,
            payload: payload.clone(),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = OrderForm::deserialize(deserializer)?;
        let mut lines = Lines::None;
        form.lines.iter().for_each(|line| lines.push(*line));
        let order = Self {
            buyer: form.buyer,
            key: form.key,
            lines,
            hold: form.hold_ms.map(Duration::from_millis),
            fill: form.fill,
            minimums: form.min_quantities,
            class: form.class,
            payload: form.payload,
        };
        order.validate(&Bounds::widest()).map_err(D::Error::custom)?;
        Ok(order)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "Adjust")]
struct AdjustForm {
    #[serde(rename = "adjust")]
    kind: AdjustKind,
    units: Quantity,
    #[serde(default)]
    expected: Option<Quantity>,
    key: Option<RequestKey>,
    #[serde(default)]
    reference: String,
}

impl Serialize for Adjust {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { kind, units, expected, key, reference } = self;
        let form = AdjustForm {
            kind: *kind,
            units: Quantity::new(*units),
            expected: expected.map(Quantity::new),
            key: *key,
            reference: reference.clone(),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Adjust {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = AdjustForm::deserialize(deserializer)?;
        let adjust = Self {
            kind: form.kind,
            units: form.units.get(),
            expected: form.expected.map(Quantity::get),
            key: form.key,
            reference: form.reference,
        };
        // Which SKU it is for is not known here.
        match adjust.validate(SkuId::new(0), &Bounds::widest()) {
            Ok(_) => Ok(adjust),
            Err(StockError::MissingKey { .. }) => Err(D::Error::missing_field("key")),
            Err(StockError::MissingExpected { .. }) => Err(D::Error::missing_field("expected")),
            Err(StockError::ExpectedWithoutSet { expected, .. }) => Err(D::Error::custom(
                format_args!("expected: {expected} given; only a set takes one"),
            )),
            Err(StockError::ZeroQuantity { .. }) => {
                Err(D::Error::custom("units: 0 given, at least 1 needed"))
            }
            Err(error) => Err(D::Error::custom(error)),
        }
    }
}
