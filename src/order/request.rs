//! What a host asks for: [`Order`], [`Adjust`], and their validation (step 1 of the request path), which
//! touches no state.

#[cfg(feature = "serde")]
mod serialised;

use std::time::Duration;

use bytes::Bytes;

use crate::bounds::{Bounds, HOLD_MAX, LINES_MAX, PAYLOAD_BYTES_MAX};
use crate::error::{PlaceError, StockError};
use crate::ids::{BuyerId, KeyKind, LINE_QUANTITY_MAX, Quantity, RequestKey, STOCK_MAX, SkuId};
use crate::order::fill::check_filling;
use crate::order::{CLASS_MAX, Fill, Filling, Policy, filling_digest};
use crate::routing::mix;

/// One SKU of an order and how many units of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Line {
    /// What is wanted.
    pub sku: SkuId,
    /// How many units of it.
    pub quantity: Quantity,
}

/// A buyer's request to hold stock.
///
/// Building one never fails; [`Engine::place`](crate::Engine::place) refuses what is out of bounds
/// and names the field. Building a one-line order allocates nothing.
///
/// ```
/// use std::time::Duration;
/// use doorbuster::{BuyerId, Order, RequestKey, SkuId};
///
/// let order = Order::new(BuyerId::from_u64(7), RequestKey::new(1))
///     .line(SkuId::new(42), 1)
///     .hold_for(Duration::from_secs(900))
///     .payload(&b"address 12"[..]);
/// assert_eq!(order.lines().len(), 1);
/// ```
#[must_use = "an order does nothing until it is placed"]
#[derive(Clone, Debug)]
pub struct Order {
    buyer: BuyerId,
    key: RequestKey,
    lines: Lines,
    hold: Option<Duration>,
    fill: Fill,
    minimums: Vec<Line>,
    class: u8,
    payload: Bytes,
}

impl Order {
    /// Creates a request of this buyer, with the idempotency key that the buyer's client sent. It has no lines yet.
    pub fn new(buyer: impl Into<BuyerId>, key: impl Into<RequestKey>) -> Self {
        Self {
            buyer: buyer.into(),
            key: key.into(),
            lines: Lines::None,
            hold: None,
            fill: Fill::AllOrNone,
            minimums: Vec::new(),
            class: 0,
            payload: Bytes::new(),
        }
    }

    /// Adds a line: `quantity` units of a SKU. Lines of one SKU are added up before anything is checked or compared;
    /// their order does not matter.
    pub fn line(mut self, sku: impl Into<SkuId>, quantity: impl Into<Quantity>) -> Self {
        let line = Line { sku: sku.into(), quantity: quantity.into() };
        self.lines.push(line);
        self
    }

    /// How long the stock is held, in engine time, rounded up to whole milliseconds; 1 ms to
    /// [`Options::hold_max`](crate::Options::hold_max). Default:
    /// [`Options::hold_default`](crate::Options::hold_default).
    pub fn hold_for(mut self, hold: Duration) -> Self {
        self.hold = Some(hold);
        self
    }

    /// What is wanted if there is less than the lines ask for. Default: [`Fill::AllOrNone`].
    pub fn fill(mut self, fill: Fill) -> Self {
        self.fill = fill;
        self
    }

    /// The least that the line of a SKU takes, of an order with [`Fill::Partial`]: with less it is refused, with all
    /// its other lines. At most what the line asks for; the last minimum of a SKU counts. Default: 0; but an order
    /// that could have nothing of any line is refused.
    pub fn min_quantity(mut self, sku: impl Into<SkuId>, units: impl Into<Quantity>) -> Self {
        self.minimums.push(Line { sku: sku.into(), quantity: units.into() });
        self
    }

    /// The buyer's priority class: 0, which is served first, to [`CLASS_MAX`]. Default: 0. A host maps
    /// what it knows of its buyers to it, such as the tiers of its members.
    pub fn class(mut self, class: u8) -> Self {
        self.class = class;
        self
    }

    /// Bytes that the engine keeps with the order and returns with it. At most
    /// [`Options::payload_bytes_max`](crate::Options::payload_bytes_max); default: none.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Whose request it is.
    #[must_use]
    pub fn buyer(&self) -> BuyerId {
        self.buyer
    }

    /// The idempotency key.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        self.key
    }

    /// The lines as they were added, not yet folded.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        self.lines.as_slice()
    }

    /// The line of an order that is surely valid, has one, and takes all of it or nothing; looks at nothing
    /// that costs.
    #[inline]
    pub(crate) fn valid_line(&self, bounds: &Bounds) -> Option<&Line> {
        let Lines::One(line) = &self.lines else { return None };
        let is_valid = check_quantity(line.sku, line.quantity.get().into()).is_ok()
            && matches!(self.fill, Fill::AllOrNone)
            && self.minimums.is_empty()
            && self.class <= CLASS_MAX
            && self.payload.len() <= bounds.payload_bytes_max
            && self.hold.is_none_or(|hold| {
                whole_hold_ms(hold, bounds.hold_max_ms).is_ok_and(|ms| ms <= bounds.hold_max_ms)
            });
        is_valid.then_some(line)
    }

    /// The order as a plain one, within every bound: one line that is taken in full or not at all, no payload, and a
    /// key that does not carry its time. Looks at nothing that costs.
    #[inline]
    pub(crate) fn plain(&self, bounds: &Bounds) -> Option<PlainRequest> {
        let Lines::One(line) = self.lines else { return None };
        let is_plain = matches!(self.fill, Fill::AllOrNone)
            && self.minimums.is_empty()
            && self.payload.is_empty()
            && self.class <= CLASS_MAX
            && self.key.kind() == KeyKind::Opaque
            && check_quantity(line.sku, line.quantity.get().into()).is_ok();
        let hold_ms = match self.hold {
            None => bounds.hold_default_ms,
            Some(hold) => whole_hold_ms(hold, bounds.hold_max_ms).ok()?,
        };
        if !is_plain || hold_ms > bounds.hold_max_ms {
            return None;
        }
        Some(PlainRequest { line, hold_ms, default_hold: self.hold.is_none() })
    }

    /// Step 1 of the request path: checks the bounds that no engine exceeds, folds and sorts the lines,
    /// and takes the digests by which a repeated key is compared (rule R4). The engine's own bounds are
    /// for [`Request::check`]: a key that has an order is answered even if they were tightened since.
    pub(crate) fn validate(&self, bounds: &Bounds) -> Result<Request<'_>, PlaceError> {
        let hold_ms = match self.hold {
            None => bounds.hold_default_ms,
            Some(hold) => whole_hold_ms(hold, bounds.hold_max_ms)?,
        };
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            check_payload(self.payload.len(), bounds.payload_bytes_max)?;
        }
        let lines_given = self.lines.as_slice().len().max(self.minimums.len());
        if lines_given > LINES_MAX {
            check_lines(lines_given, bounds.lines_max)?;
        }
        let lines = self.lines.fold()?;
        let filling =
            check_filling(self.fill, &self.minimums, lines.as_slice(), bounds.patience_max_ms)?;
        if self.class > CLASS_MAX {
            return Err(PlaceError::ClassOutOfRange { class: self.class, max: CLASS_MAX });
        }
        Ok(Request {
            buyer: self.buyer,
            key: self.key,
            hold_ms,
            default_hold: self.hold.is_none(),
            lines_given,
            lines_digest: filling_digest(lines.as_slice(), &filling.minimums),
            filling,
            class: self.class,
            payload_digest: payload_digest(&self.payload),
            lines,
            payload: &self.payload,
        })
    }
}

/// `max_ms` is what an error names; what it refuses is more than any engine allows.
fn whole_hold_ms(hold: Duration, max_ms: u32) -> Result<u32, PlaceError> {
    let part_ms = hold.subsec_nanos().div_ceil(1_000_000);
    let hold_ms = hold.as_secs().saturating_mul(1000).saturating_add(part_ms.into());
    match u32::try_from(hold_ms) {
        Ok(hold_ms) if hold_ms > 0 && u128::from(hold_ms) <= HOLD_MAX.as_millis() => Ok(hold_ms),
        _ => Err(PlaceError::HoldOutOfRange { hold_ms, min_ms: 1, max_ms }),
    }
}

fn check_payload(bytes: usize, max: usize) -> Result<(), PlaceError> {
    if bytes > max {
        return Err(PlaceError::PayloadTooLong { bytes, max });
    }
    Ok(())
}

fn check_lines(lines: usize, max: usize) -> Result<(), PlaceError> {
    if lines > max {
        return Err(PlaceError::TooManyLines { lines, max });
    }
    Ok(())
}

/// A validated order that is plain, see [`Order::plain`], without its buyer and key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainRequest {
    pub(crate) line: Line,
    pub(crate) hold_ms: u32,
    pub(crate) default_hold: bool,
}

/// A validated order: lines folded, sorted by SKU, every number within its bound.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) buyer: BuyerId,
    pub(crate) key: RequestKey,
    pub(crate) hold_ms: u32,
    /// The order left its hold time to the engine.
    pub(crate) default_hold: bool,
    pub(crate) filling: Filling,
    /// The buyer's priority class.
    pub(crate) class: u8,
    /// Before folding.
    lines_given: usize,
    pub(crate) lines: Lines,
    pub(crate) lines_digest: u64,
    pub(crate) payload_digest: u64,
    pub(crate) payload: &'a Bytes,
}

impl Request<'_> {
    /// Whether it stands in line for what there is too little of.
    pub(crate) fn may_wait(&self) -> bool {
        self.filling.policy == Policy::Wait
    }

    /// Checks the engine's own bounds.
    pub(crate) fn check(&self, bounds: &Bounds) -> Result<(), PlaceError> {
        if self.hold_ms > bounds.hold_max_ms {
            return Err(PlaceError::HoldOutOfRange {
                hold_ms: u64::from(self.hold_ms),
                min_ms: 1,
                max_ms: bounds.hold_max_ms,
            });
        }
        if self.filling.patience_ms > bounds.patience_max_ms {
            return Err(PlaceError::PatienceOutOfRange {
                patience_ms: u64::from(self.filling.patience_ms),
                min_ms: 1,
                max_ms: bounds.patience_max_ms,
            });
        }
        check_payload(self.payload.len(), bounds.payload_bytes_max)?;
        check_lines(self.lines_given, bounds.lines_max)
    }
}

/// Lines of an order; one line, by far the most common, needs no allocation.
#[derive(Clone, Debug)]
pub(crate) enum Lines {
    None,
    One(Line),
    Many(Vec<Line>),
}

impl Lines {
    pub(crate) fn as_slice(&self) -> &[Line] {
        match self {
            Self::None => &[],
            Self::One(line) => std::slice::from_ref(line),
            Self::Many(lines) => lines,
        }
    }

    fn push(&mut self, line: Line) {
        match self {
            Self::None => *self = Self::One(line),
            Self::One(first) => *self = Self::Many(vec![*first, line]),
            Self::Many(lines) => lines.push(line),
        }
    }

    /// Lines of one SKU added up, sorted by SKU: the global order in which stock is taken (R5).
    /// The number of lines is bounded before folding, each quantity after.
    fn fold(&self) -> Result<Self, PlaceError> {
        if let Self::One(line) = self {
            check_quantity(line.sku, u64::from(line.quantity.get()))?;
            return Ok(Self::One(*line));
        }
        let given = self.as_slice();
        if given.is_empty() {
            return Err(PlaceError::NoLines);
        }
        if let Some(line) = given.iter().find(|line| line.quantity.get() == 0) {
            return Err(PlaceError::ZeroQuantity { sku: line.sku });
        }
        let mut folded = given.to_vec();
        folded.sort_unstable_by_key(|line| line.sku);
        let (mut first, mut len) = (0, 0);
        while let Some(&Line { sku, .. }) = folded.get(first) {
            let same = folded[first..].iter().take_while(|line| line.sku == sku);
            let (lines, units) = same.fold((0, 0), |(lines, units), line| {
                (lines + 1, units + u64::from(line.quantity.get()))
            });
            check_quantity(sku, units)?;
            folded[len] = Line { sku, quantity: Quantity::new(units as u32) };
            (first, len) = (first + lines, len + 1);
        }
        folded.truncate(len);
        Ok(match folded[..] {
            [line] => Self::One(line),
            _ => Self::Many(folded),
        })
    }
}

fn check_quantity(sku: SkuId, units: u64) -> Result<(), PlaceError> {
    if units == 0 {
        return Err(PlaceError::ZeroQuantity { sku });
    }
    if units > u64::from(LINE_QUANTITY_MAX) {
        return Err(PlaceError::QuantityTooLarge { sku, units, max: LINE_QUANTITY_MAX });
    }
    Ok(())
}

/// Digest of folded, sorted lines by which a repeated key is compared. It is taken anew from the
/// logged lines at replay, so it must never change.
///
/// The finaliser of MurmurHash3 (Austin Appleby, public domain), chained over SKU and quantity. It need not withstand
/// an attacker: a buyer who forges a collision only makes two of their own requests count as one.
pub(crate) fn lines_digest(lines: &[Line]) -> u64 {
    lines.iter().fold(lines.len() as u64, |digest, line| {
        mix(mix(digest ^ line.sku.get()).wrapping_add(u64::from(line.quantity.get())))
    })
}

/// Digest of a payload: the first eight bytes of its BLAKE3 hash, 0 for an empty one.
pub(crate) fn payload_digest(payload: &[u8]) -> u64 {
    if payload.is_empty() {
        return 0;
    }
    let hash = blake3::hash(payload);
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

/// A change of a SKU's stock by the host, with its own idempotency key.
///
/// ```
/// use doorbuster::{Adjust, RequestKey};
///
/// let delivery = Adjust::add(10_000).key(RequestKey::from_text("PO-7")).reference("PO-7");
/// let stocktaking = Adjust::set(9_950).expect(10_000).key(RequestKey::from_text("count 3"));
/// # let _ = (delivery, stocktaking);
/// ```
#[must_use = "an adjustment does nothing until it is given to `Engine::stock`"]
#[derive(Clone, Debug)]
pub struct Adjust {
    pub(crate) kind: AdjustKind,
    pub(crate) units: u32,
    pub(crate) expected: Option<u32>,
    pub(crate) key: Option<RequestKey>,
    pub(crate) reference: String,
}

/// What an [`Adjust`] does with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub(crate) enum AdjustKind {
    Add,
    Take,
    TakeUpTo,
    Set,
}

impl AdjustKind {
    const ALL: [Self; 4] = [Self::Add, Self::Take, Self::TakeUpTo, Self::Set];

    /// Its number in records and checkpoints.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl Adjust {
    /// Puts units into stock, creating the SKU if need be. Buyers can have them once the record is
    /// durable.
    pub fn add(units: impl Into<Quantity>) -> Self {
        Self::of(AdjustKind::Add, units.into())
    }

    /// Takes units out of stock at once, all of them or none: more than is available is refused.
    pub fn take(units: impl Into<Quantity>) -> Self {
        Self::of(AdjustKind::Take, units.into())
    }

    /// Takes what is available, at most `units`, and says how many were taken.
    pub fn take_up_to(units: impl Into<Quantity>) -> Self {
        Self::of(AdjustKind::TakeUpTo, units.into())
    }

    /// Sets the stocked figure (available + held + sold + returning), creating the SKU if need be.
    /// Needs [`Adjust::expect`]. Below what is held and sold, the SKU owes: `available` is negative
    /// until enough has come back.
    pub fn set(units: impl Into<Quantity>) -> Self {
        Self::of(AdjustKind::Set, units.into())
    }

    /// The stocked figure that a [`Adjust::set`] replaces, 0 for a new SKU. When it is another, the
    /// answer is [`Adjusted::Unexpected`](crate::Adjusted::Unexpected) and nothing changes.
    pub fn expect(mut self, stocked: impl Into<Quantity>) -> Self {
        self.expected = Some(stocked.into().get());
        self
    }

    /// The idempotency key, scoped to the SKU. Every adjustment needs one: a retried delivery must
    /// not count twice.
    pub fn key(mut self, key: impl Into<RequestKey>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// A text for the books, such as a purchase order number; at most
    /// [`Options::payload_bytes_max`](crate::Options::payload_bytes_max) bytes.
    pub fn reference(mut self, text: impl Into<String>) -> Self {
        self.reference = text.into();
        self
    }

    fn of(kind: AdjustKind, units: Quantity) -> Self {
        Self { kind, units: units.get(), expected: None, key: None, reference: String::new() }
    }

    /// Checks every bound; returns the key.
    pub(crate) fn validate(&self, sku: SkuId, bounds: &Bounds) -> Result<RequestKey, StockError> {
        let key = self.key.ok_or(StockError::MissingKey { sku })?;
        match (self.kind, self.units, self.expected) {
            (AdjustKind::Set, _, None) => return Err(StockError::MissingExpected { sku }),
            (AdjustKind::Set, _, Some(_)) => {}
            (_, _, Some(expected)) => {
                return Err(StockError::ExpectedWithoutSet { sku, expected });
            }
            (_, 0, None) => return Err(StockError::ZeroQuantity { sku }),
            _ => {}
        }
        if self.reference.len() > bounds.payload_bytes_max {
            return Err(StockError::ReferenceTooLong {
                bytes: self.reference.len(),
                max: bounds.payload_bytes_max,
            });
        }
        Ok(key)
    }
}

const _: () = assert!(STOCK_MAX as u64 == u32::MAX as u64, "an adjustment reaches the bound");

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: u64, quantity: u32) -> Line {
        Line { sku: SkuId::new(sku), quantity: Quantity::new(quantity) }
    }

    #[test]
    fn lines_of_one_sku_are_folded_and_sorted() {
        let order = Order::new(1, 1).line(9, 2).line(4, 1).line(9, 3);
        let request = order.validate(&Bounds::default()).expect("valid");
        assert_eq!(request.lines.as_slice(), [line(4, 1), line(9, 5)]);
    }

    #[test]
    fn digests_never_change() {
        // Compared with what a log holds: a change would turn retries into `KeyReused`.
        assert_eq!(lines_digest(&[line(42, 1)]), 13_232_922_520_137_285_814);
        assert_eq!(payload_digest(b"address 12"), 12_164_234_206_223_344_144);
        assert_eq!(payload_digest(b""), 0);
    }

    #[test]
    fn a_quantity_is_bounded_after_folding() {
        let half = LINE_QUANTITY_MAX / 2 + 1;
        let order = Order::new(1, 1).line(9, half).line(9, half);
        assert!(matches!(
            order.validate(&Bounds::default()),
            Err(PlaceError::QuantityTooLarge { units, max: LINE_QUANTITY_MAX, .. })
                if units == u64::from(half) * 2
        ));
    }
}
