//! Names of things: SKUs, buyers, orders, request keys, and how many of something.
//!
//! All are newtypes, so that a buyer can never be passed where a SKU is meant. None of them
//! interprets its bits, but [`OrderId`], which names its partition.

use std::fmt;

/// How many low bits of an [`OrderId`] name its partition.
pub(crate) const PARTITION_BITS: u32 = 10;

/// Sequences from here on do not fit an [`OrderId`].
pub(crate) const SEQUENCE_END: u64 = 1 << (u64::BITS - PARTITION_BITS);

/// Largest quantity that one line of an order may ask for, in units.
pub const LINE_QUANTITY_MAX: u32 = 1_000_000;

/// Largest number of units that one SKU can have in stock, and the largest adjustment.
pub const STOCK_MAX: u32 = u32::MAX;

/// A stock keeping unit: the thing with a count. The host chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SkuId(u64);

impl SkuId {
    /// Names a SKU by the host's own number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number given to [`SkuId::new`].
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for SkuId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for SkuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sku:{}", self.0)
    }
}

/// A merchant: whoever SKUs are of. The host chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MerchantId(u64);

impl MerchantId {
    /// Names a merchant by the host's own number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number given to [`MerchantId::new`].
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for MerchantId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for MerchantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "merchant:{}", self.0)
    }
}

/// A buyer, 128 bits. Limits and request keys are scoped to it.
///
/// A host should use one way of making these: a number and a UUID with the same bits are the same
/// buyer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BuyerId([u8; 16]);

impl BuyerId {
    /// The buyer with the host's own number: its eight little-endian bytes, then eight zeros.
    #[must_use]
    pub const fn from_u64(id: u64) -> Self {
        Self((id as u128).to_le_bytes())
    }

    /// The buyer with this UUID, in its usual byte order.
    #[must_use]
    pub const fn from_uuid_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The buyer with this name: the first 16 bytes of BLAKE3 in key derivation mode, context
    /// `doorbuster 2026 buyer id`. Equal texts give equal buyers in every version of this crate.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(hash_text("doorbuster 2026 buyer id", text))
    }

    /// The 16 bytes, as they are logged.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl From<u64> for BuyerId {
    fn from(id: u64) -> Self {
        Self::from_u64(id)
    }
}

impl fmt::Debug for BuyerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuyerId({self})")
    }
}

impl fmt::Display for BuyerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, "buyer:", &self.0)
    }
}

/// An idempotency key that a buyer's client sends with a request; its scope is (buyer, key).
///
/// Its kind is part of the key: the same 128 bits given by [`RequestKey::new`] and by
/// [`RequestKey::uuid_v7`] are two keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RequestKey {
    bytes: [u8; 16],
    kind: KeyKind,
}

/// How a [`RequestKey`] was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum KeyKind {
    /// 128 bits without a meaning of their own.
    Opaque,
    /// A UUID of version 7 (RFC 9562): its first 48 bits are a Unix time in milliseconds.
    UuidV7,
}

impl RequestKey {
    /// An opaque key; a [`u128`] is stored in little-endian order.
    #[must_use]
    pub const fn new(key: u128) -> Self {
        Self::from_uuid_bytes(key.to_le_bytes())
    }

    /// An opaque key from the 16 bytes of a UUID of any version, or of any other token.
    #[must_use]
    pub const fn from_uuid_bytes(bytes: [u8; 16]) -> Self {
        Self { bytes, kind: KeyKind::Opaque }
    }

    /// A key whose age can be told: a UUID of version 7. `None` when the version or variant bits
    /// say that it is no such UUID. A retry that comes after the order has left memory is refused as
    /// [`KeyTooOld`](crate::Refusal::KeyTooOld), where one of another kind makes a second order.
    #[must_use]
    pub const fn uuid_v7(bytes: [u8; 16]) -> Option<Self> {
        if bytes[6] >> 4 != 7 || bytes[8] >> 6 != 0b10 {
            return None;
        }
        Some(Self { bytes, kind: KeyKind::UuidV7 })
    }

    /// An opaque key from text, such as an `Idempotency-Key` header: the first 16 bytes of BLAKE3
    /// in key derivation mode, context `doorbuster 2026 request key`.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self::from_uuid_bytes(hash_text("doorbuster 2026 request key", text))
    }

    /// How the key was made.
    #[must_use]
    pub const fn kind(self) -> KeyKind {
        self.kind
    }

    /// The 16 bytes, as they are logged.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.bytes
    }

    /// The Unix time in milliseconds that a [`KeyKind::UuidV7`] key carries.
    #[must_use]
    pub const fn unix_ms(self) -> Option<u64> {
        match self.kind {
            KeyKind::Opaque => None,
            KeyKind::UuidV7 => {
                let b = self.bytes;
                Some(u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]))
            }
        }
    }

    pub(crate) const fn from_logged(bytes: [u8; 16], kind: KeyKind) -> Self {
        Self { bytes, kind }
    }
}

impl From<u128> for RequestKey {
    fn from(key: u128) -> Self {
        Self::new(key)
    }
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestKey({self})")
    }
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.kind {
            KeyKind::Opaque => "key:",
            KeyKind::UuidV7 => "key7:",
        };
        write_hex(f, prefix, &self.bytes)
    }
}

/// An order. Given once, never again, not even when a crash erased the order it was given to.
///
/// The low 10 bits name the partition; the others are a sequence number that rises within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OrderId(u64);

impl OrderId {
    /// The order with this number, as [`OrderId::get`] told it. Any number is accepted here; the
    /// verbs refuse one that the engine never gave.
    #[must_use]
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// The number, for the host's own tables.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_parts(partition: usize, sequence: u64) -> Self {
        Self(sequence << PARTITION_BITS | partition as u64)
    }

    pub(crate) const fn partition(self) -> usize {
        (self.0 & ((1 << PARTITION_BITS) - 1)) as usize
    }

    pub(crate) const fn sequence(self) -> u64 {
        self.0 >> PARTITION_BITS
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order:{}", self.0)
    }
}

/// A number of units. Zero can be written down; the verbs refuse it where it makes no sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Quantity(u32);

impl Quantity {
    /// That many units.
    #[must_use]
    pub const fn new(units: u32) -> Self {
        Self(units)
    }

    /// How many units.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl From<u32> for Quantity {
    fn from(units: u32) -> Self {
        Self(units)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn hash_text(context: &str, text: &str) -> [u8; 16] {
    let digest = blake3::derive_key(context, text.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

fn write_hex(f: &mut fmt::Formatter<'_>, prefix: &str, bytes: &[u8]) -> fmt::Result {
    f.write_str(prefix)?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_kind_is_another_key() {
        let mut bytes = [0x11; 16];
        bytes[6] = 0x7a;
        bytes[8] = 0x9b;
        let dated = RequestKey::uuid_v7(bytes).expect("a UUID of version 7");
        assert_ne!(dated, RequestKey::from_uuid_bytes(bytes));
        assert_eq!(dated.unix_ms(), Some(0x1111_1111_1111));
        bytes[6] = 0x4a;
        assert_eq!(RequestKey::uuid_v7(bytes), None);
    }

    #[test]
    fn names_from_text_never_change() {
        // Written into logs: a change here would make every retried key a new one.
        assert_eq!(
            BuyerId::from_text("alice").to_string(),
            "buyer:519b244e84fa0a4c9f69d1ed4c7eb64b"
        );
        assert_eq!(
            RequestKey::from_text("alice").to_string(),
            "key:a066483898df0dc77b8deff9f22b1c92"
        );
    }

    #[test]
    fn an_order_id_names_its_partition() {
        let id = OrderId::from_parts(1023, (1 << 54) - 1);
        assert_eq!((id.partition(), id.sequence()), (1023, (1 << 54) - 1));
        assert_eq!(OrderId::from_parts(5, 7), OrderId::from_u64(7 * 1024 + 5));
    }
}
