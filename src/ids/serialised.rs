//! Ids for serde: text where a person may read it, numbers and bytes in compact formats.
//!
//! No number that JavaScript would round is written: it holds 53 bits.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{BuyerId, KeyKind, MerchantId, OrderId, RequestKey, SkuId};

/// The largest number that is written as one where a person may read it.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// Reads what `FromStr` reads.
struct Text<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, super::ParseIdError>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as text", self.what)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

impl Serialize for OrderId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => serializer.serialize_u64(self.get()),
        }
    }
}

impl<'de> Deserialize<'de> for OrderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_str(Text { what: "an order id", parse: str::parse }),
            false => u64::deserialize(deserializer).map(Self::from_u64),
        }
    }
}

impl Serialize for BuyerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => self.to_bytes().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for BuyerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_str(Text { what: "a buyer", parse: str::parse }),
            false => <[u8; 16]>::deserialize(deserializer).map(Self::from_uuid_bytes),
        }
    }
}

impl Serialize for RequestKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => (self.kind(), self.to_bytes()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RequestKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(Text { what: "a request key", parse: str::parse });
        }
        match <(KeyKind, [u8; 16])>::deserialize(deserializer)? {
            (KeyKind::Opaque, bytes) => Ok(Self::token(bytes)),
            (KeyKind::UuidV7, bytes) => {
                let invalid = || D::Error::invalid_value(Unexpected::Bytes(&bytes), &"a UUIDv7");
                Self::uuid_v7(bytes).ok_or_else(invalid)
            }
        }
    }
}

/// Reads a number, or one that is written as text.
struct Number;

impl Visitor<'_> for Number {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of 64 bits, or its decimal digits as text")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| text.parse().ok()).flatten();
        number.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

fn serialize_number<S: Serializer>(number: u64, serializer: S) -> Result<S::Ok, S::Error> {
    match serializer.is_human_readable() && number > NUMBER_MAX {
        true => serializer.collect_str(&number),
        false => serializer.serialize_u64(number),
    }
}

fn deserialize_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match deserializer.is_human_readable() {
        true => deserializer.deserialize_any(Number),
        false => u64::deserialize(deserializer),
    }
}

impl Serialize for SkuId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_number(self.get(), serializer)
    }
}

impl<'de> Deserialize<'de> for SkuId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_number(deserializer).map(Self::new)
    }
}

impl Serialize for MerchantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_number(self.get(), serializer)
    }
}

impl<'de> Deserialize<'de> for MerchantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_number(deserializer).map(Self::new)
    }
}
