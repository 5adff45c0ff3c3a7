//! Names of things: SKUs, buyers, orders, request keys, and how many of something.
//!
//! All are newtypes, so that a buyer can never be passed where a SKU is meant. The crate interprets the bits of
//! two: an [`OrderId`] names its partition, and a [`RequestKey`] may carry the time at which it was made.

#[cfg(feature = "serde")]
mod serialised;
#[cfg(all(test, not(loom)))]
mod tests;
mod text;

use std::fmt;
use std::str::FromStr;

pub use text::ParseIdError;
use text::{hash_text, read_base32, read_hex, read_uuid, write_base32, write_hex};

/// How many low bits of an [`OrderId`] name its partition.
pub(crate) const PARTITION_BITS: u32 = 10;

/// Bits of the largest [`OrderId`]: a number that JavaScript, JSON and a signed column hold exactly.
const ORDER_ID_BITS: u32 = 53;

/// Sequences from here on are never used.
pub(crate) const SEQUENCE_END: u64 = 1 << (ORDER_ID_BITS - PARTITION_BITS);

/// Largest quantity that one line of an order may ask for, in units.
pub const LINE_QUANTITY_MAX: u32 = 1_000_000;

/// Largest number of units that one SKU can have in stock, and the largest adjustment.
pub const STOCK_MAX: u32 = u32::MAX;

/// A stock keeping unit: the thing with a count. The host chooses the number, or a text.
///
/// With the feature `serde` it is a number. In a text format such as JSON, a number above 2^53 - 1 is written as the
/// text of its decimal digits, because JavaScript would round it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SkuId(u64);

impl SkuId {
    /// Names a SKU by the host's own number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// Names a SKU by the host's own text: the first 8 bytes, little-endian, of BLAKE3 in key derivation mode,
    /// context `doorbuster 2026 sku id`. Equal texts have equal SKUs in every version of this crate. A text of
    /// digits is hashed too: it is not the SKU with that number.
    ///
    /// Among a million texts, the probability that any two have the same SKU is 1 in 36 million; among 67 million,
    /// the most SKUs that an engine holds, 1 in 8,000. A host that cannot accept that must number its SKUs.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(u64::from_le_bytes(hash_text("doorbuster 2026 sku id", text)))
    }

    /// Returns the number that [`SkuId::new`] received, or the hash of the text.
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
        write!(f, "SKU {}", self.0)
    }
}

/// A merchant: the owner of SKUs. The host chooses the number, or a text.
///
/// With the feature `serde` it is a number, as a [`SkuId`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MerchantId(u64);

impl MerchantId {
    /// Names a merchant by the host's own number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// Names a merchant by the host's own text, as [`SkuId::from_text`] does a SKU; the context is
    /// `doorbuster 2026 merchant id`.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(u64::from_le_bytes(hash_text("doorbuster 2026 merchant id", text)))
    }

    /// Returns the number that [`MerchantId::new`] received, or the hash of the text.
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
        write!(f, "merchant {}", self.0)
    }
}

/// A buyer, 128 bits. Limits and request keys are scoped to it.
///
/// A UUID is one buyer in every form: as bytes, as text in any spelling, or as a `Uuid`. A number is another buyer,
/// so a host that has both a number and a UUID for a buyer must always use the same one.
///
/// `Display`, `FromStr`, and serde in text formats use `buyer:` followed by the bytes as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuyerId([u8; 16]);

impl BuyerId {
    /// Names a buyer by the host's own number: its eight little-endian bytes, then eight zeros.
    #[must_use]
    pub const fn from_u64(id: u64) -> Self {
        Self((id as u128).to_le_bytes())
    }

    /// Names a buyer by a UUID, in its usual byte order.
    #[must_use]
    pub const fn from_uuid_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Names a buyer by a text. A UUID in any spelling (see [`RequestKey::from_text`]) is the buyer with that UUID.
    /// Any other text is the buyer with the first 16 bytes of BLAKE3 in key derivation mode, context
    /// `doorbuster 2026 buyer id`. Equal texts name equal buyers in every version of this crate.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(read_uuid(text).unwrap_or_else(|| hash_text("doorbuster 2026 buyer id", text)))
    }

    /// Returns the 16 bytes, as they are logged.
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

#[cfg(feature = "uuid")]
impl From<uuid::Uuid> for BuyerId {
    fn from(uuid: uuid::Uuid) -> Self {
        Self::from_uuid_bytes(uuid.into_bytes())
    }
}

impl FromStr for BuyerId {
    type Err = ParseIdError;

    /// Reads what `Display` writes. For a host's own name of a buyer use [`BuyerId::from_text`].
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        read_hex("a buyer", "buyer:", text).map(Self)
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
/// One UUID is one key in every form: as text in any spelling ([`RequestKey::from_text`]), as bytes
/// ([`RequestKey::from_uuid_bytes`]), as a `Uuid` (feature `uuid`), or as a number ([`RequestKey::new`]). A UUID of
/// version 7 carries the time at which it was made, and the engine checks its age: see [`KeyKind::UuidV7`].
///
/// | What the host has | What it calls |
/// |---|---|
/// | the text of a header, or any other text | [`RequestKey::from_text`] |
/// | a UUID | `RequestKey::from`, or [`RequestKey::from_uuid_bytes`] |
/// | a number of its own | [`RequestKey::new`] |
/// | 16 random bytes that are no UUID | [`RequestKey::token`] |
/// | UUIDs, and a rule that every key must carry its time | [`RequestKey::uuid_v7`], which refuses all others |
///
/// `Display`, `FromStr`, and serde in text formats use `key:` followed by the bytes as 32 hex digits, or `key7:` for
/// a key whose age is checked. That text is for the host's own tables. For a text that a client sent use
/// [`RequestKey::from_text`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestKey {
    bytes: [u8; 16],
    kind: KeyKind,
}

/// How a [`RequestKey`] was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum KeyKind {
    /// 128 bits that do not carry the time at which they were made. A retry that comes after the order has left memory
    /// makes a second order.
    Opaque,
    /// A UUID of version 7 (RFC 9562): its first 48 bits are a Unix time in milliseconds. A retry that comes after
    /// the order has left memory is refused as [`KeyTooOld`](crate::Refusal::KeyTooOld).
    UuidV7,
}

/// The times that a UUID of version 7 may carry, in milliseconds: the years 2020 to 2099. Version 7 is younger, and
/// random bits that look like one seldom carry such a time.
const UUID_V7_FROM_MS: u64 = 1_577_836_800_000;
const UUID_V7_BEFORE_MS: u64 = 4_102_444_800_000;

impl RequestKey {
    /// Makes a key from the host's own number, stored in little-endian order. A number that has the bits of a UUID
    /// of versions 1 to 8 (RFC 9562) is that UUID: `RequestKey::new(uuid.as_u128())` equals
    /// `RequestKey::from(uuid)`. No number below 2^76 is a UUID. For random numbers use [`RequestKey::token`].
    #[must_use]
    pub const fn new(key: u128) -> Self {
        let bytes = key.to_be_bytes();
        if matches!(bytes[6] >> 4, 1..=8) && bytes[8] >> 6 == 0b10 {
            return Self::from_uuid_bytes(bytes);
        }
        Self::token(key.to_le_bytes())
    }

    /// Makes the key of a UUID of any version, in its usual byte order. The engine checks the age of a UUID of
    /// version 7 whose time is in the years 2020 to 2099.
    #[must_use]
    pub const fn from_uuid_bytes(bytes: [u8; 16]) -> Self {
        match Self::uuid_v7(bytes) {
            Some(key) => key,
            None => Self::token(bytes),
        }
    }

    /// Makes a key of 16 bytes that are not a UUID, such as random bytes. They are never taken for a UUID. By
    /// contrast, one in 7,000 random tokens passed as a UUID or as 32 hex digits looks like a UUID of version 7, and
    /// most of these are far too old or too new.
    #[must_use]
    pub const fn token(bytes: [u8; 16]) -> Self {
        Self { bytes, kind: KeyKind::Opaque }
    }

    /// Makes a key that carries its time: a UUID of version 7. Returns `None` when the version or variant bits are
    /// those of another UUID, or when the time is not in the years 2020 to 2099.
    #[must_use]
    pub const fn uuid_v7(bytes: [u8; 16]) -> Option<Self> {
        let unix_ms = unix_ms_of(bytes);
        if bytes[6] >> 4 != 7
            || bytes[8] >> 6 != 0b10
            || unix_ms < UUID_V7_FROM_MS
            || unix_ms >= UUID_V7_BEFORE_MS
        {
            return None;
        }
        Some(Self { bytes, kind: KeyKind::UuidV7 })
    }

    /// Makes the key of a text, such as an `Idempotency-Key` header.
    ///
    /// A UUID in any spelling is [`RequestKey::from_uuid_bytes`] of its bytes. The spellings are: hyphenated, 32 hex
    /// digits without hyphens, in braces, after `urn:uuid:`; each in upper or lower case, and each also in double
    /// quotes. Any other text is hashed as it is: the first 16 bytes of BLAKE3 in key derivation mode, context
    /// `doorbuster 2026 request key`. A host whose clients send random tokens of 32 hex digits, not UUIDs, must
    /// pass their bytes to [`RequestKey::token`].
    ///
    /// ```
    /// use doorbuster::{KeyKind, RequestKey};
    ///
    /// let key = RequestKey::from_text("01981cf8-6d2b-7c4f-a1d2-0123456789ab");
    /// assert_eq!(key.kind(), KeyKind::UuidV7);
    /// assert_eq!(key, RequestKey::from_text("{01981CF8-6D2B-7C4F-A1D2-0123456789AB}"));
    /// assert_eq!(key, RequestKey::new(0x0198_1cf8_6d2b_7c4f_a1d2_0123_4567_89ab));
    /// assert_eq!(RequestKey::from_text("checkout 77").kind(), KeyKind::Opaque);
    /// ```
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        match read_uuid(text) {
            Some(bytes) => Self::from_uuid_bytes(bytes),
            None => Self::token(hash_text("doorbuster 2026 request key", text)),
        }
    }

    /// Returns how the key was made.
    #[must_use]
    pub const fn kind(self) -> KeyKind {
        self.kind
    }

    /// Returns the 16 bytes, as they are logged.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.bytes
    }

    /// Returns the Unix time in milliseconds that a [`KeyKind::UuidV7`] key carries.
    #[must_use]
    pub const fn unix_ms(self) -> Option<u64> {
        match self.kind {
            KeyKind::Opaque => None,
            KeyKind::UuidV7 => Some(unix_ms_of(self.bytes)),
        }
    }

    pub(crate) const fn from_logged(bytes: [u8; 16], kind: KeyKind) -> Self {
        Self { bytes, kind }
    }
}

const fn unix_ms_of(b: [u8; 16]) -> u64 {
    u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
}

#[cfg(feature = "uuid")]
impl From<uuid::Uuid> for RequestKey {
    fn from(uuid: uuid::Uuid) -> Self {
        Self::from_uuid_bytes(uuid.into_bytes())
    }
}

impl FromStr for RequestKey {
    type Err = ParseIdError;

    /// Reads what `Display` writes. For a text that a client sent use [`RequestKey::from_text`].
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let what = "a request key";
        match read_hex(what, "key7:", text) {
            Ok(bytes) => Self::uuid_v7(bytes).ok_or(ParseIdError::NotUuidV7 { what }),
            Err(ParseIdError::NoPrefix { .. }) => read_hex(what, "key:", text).map(Self::token),
            Err(error) => Err(error),
        }
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

/// The id of an order. An engine uses each id once, and never again, even when a crash erased its order.
///
/// The low 10 bits name the partition; the others are a sequence number that rises within it. Ids stay below 2^53,
/// so a signed column, JSON and JavaScript hold them exactly. A stop without a clean close skips at most 2^30 ids, so
/// at least 2^23 such stops are needed to use all of them. Then orders are refused as
/// [`OrderIds`](crate::error::Capacity::OrderIds).
///
/// `Display`, `FromStr`, and serde in text formats use `ord_` followed by the number in Crockford's base 32, such as
/// `ord_9wz4q0`. Its letters and digits need no escape in a URL and are not mistaken for each other. `FromStr` accepts
/// upper and lower case, and reads `i`, `l` and `o` as the digits that they look like; so compare ids, not texts.
///
/// ```
/// use doorbuster::OrderId;
///
/// let order = OrderId::from_u64(123_456_789);
/// assert_eq!(order.to_string(), "ord_3nqk8n");
/// assert_eq!("ORD_3NQK8N".parse(), Ok(order));
/// assert!("123456789".parse::<OrderId>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(u64);

impl OrderId {
    /// Makes the id with this number, as [`OrderId::get`] returned it. Any number is accepted here; the
    /// verbs refuse one that the engine never used.
    #[must_use]
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// Returns the number, for the host's own tables.
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
        write_base32(f, "ord_", self.0)
    }
}

impl FromStr for OrderId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        read_base32("an order id", "ord_", text).map(Self)
    }
}

/// A number of units. Zero can be written down; the verbs refuse it where it makes no sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Quantity(u32);

impl Quantity {
    /// Makes a quantity of `units` units.
    #[must_use]
    pub const fn new(units: u32) -> Self {
        Self(units)
    }

    /// Returns the number of units.
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
