//! One order in memory.

use bytes::Bytes;

use crate::ids::{BuyerId, KeyKind, RequestKey};
use crate::order::{Content, ListPlace, OrderState, Policy};

/// One order in memory: 80 bytes, and a box for carts and payloads.
#[derive(Debug)]
pub(crate) struct Slot {
    buyer: BuyerId,
    key: [u8; 16],
    lines_digest: u64,
    extra: Option<Box<Extra>>,
    /// LSN of the order's last record: what a reply about it waits for (rule R2).
    last_lsn: U48,
    deadline_ms: U48,
    /// When the order came into its state: what its retention counts from. 0 of a hold.
    changed_ms: U48,
    /// The SKU's index; unused for a cart.
    sku: u32,
    units: u32,
    hold_ms: u32,
    /// [`UUID_V7`], [`DEFAULT_HOLD`], [`TIMED`], and the policy from [`POLICY_SHIFT`] on.
    flags: u8,
    /// `None`: vacant.
    state: Option<OrderState>,
}

const _: () = assert!(size_of::<Slot>() == 80);

/// A number below 2^48: a time until the year 10889, or more records than a lane will ever have. One
/// that is larger is taken for the largest.
#[derive(Clone, Copy, Debug)]
struct U48([u8; 6]);

impl U48 {
    const MAX: u64 = (1 << 48) - 1;

    fn new(number: u64) -> Self {
        let [a, b, c, d, e, f, ..] = number.min(Self::MAX).to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    fn get(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// The key is a [`KeyKind::UuidV7`].
const UUID_V7: u8 = 1;
/// The order left its hold time to the engine.
const DEFAULT_HOLD: u8 = 2;
/// A timer has the order's handle.
const TIMED: u8 = 4;
/// Behind these, the two bits of its [`Policy`].
const POLICY_SHIFT: u32 = 3;

/// What most orders do not have.
#[derive(Debug)]
pub(crate) struct Extra {
    /// All lines of a cart; empty for an order of one line.
    pub(crate) lines: Box<[SkuUnits]>,
    /// Of a partial order the units that it did not get; only lines that miss some.
    pub(crate) missing: Box<[SkuUnits]>,
    pub(crate) payload: Bytes,
    pub(crate) payload_digest: u64,
    /// Of an order that waits or waited.
    pub(crate) waited: Option<Waited>,
}

/// Where an order stands or stood in a waiting list, and until when it would wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waited {
    pub(crate) place: ListPlace,
    pub(crate) patience_ends_ms: u64,
    /// From when it was placed until its patience ends.
    pub(crate) patience_ms: u32,
    /// Its waiting ended with a hold.
    pub(crate) served: bool,
}

/// A line by the SKU's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SkuUnits {
    pub(crate) sku: u32,
    pub(crate) units: u32,
}

/// What an order is made of.
#[derive(Debug)]
pub(crate) struct NewOrder {
    pub(crate) buyer: BuyerId,
    pub(crate) key: RequestKey,
    pub(crate) hold_ms: u32,
    pub(crate) default_hold: bool,
    pub(crate) policy: Policy,
    pub(crate) deadline_ms: u64,
    pub(crate) lines_digest: u64,
    /// The line, or of a cart the first one.
    pub(crate) first: SkuUnits,
    pub(crate) extra: Option<Box<Extra>>,
}

impl Slot {
    pub(super) fn vacant() -> Self {
        Self {
            buyer: BuyerId::from_uuid_bytes([0; 16]),
            key: [0; 16],
            lines_digest: 0,
            extra: None,
            last_lsn: U48::new(0),
            deadline_ms: U48::new(0),
            changed_ms: U48::new(0),
            sku: 0,
            units: 0,
            hold_ms: 0,
            flags: 0,
            state: None,
        }
    }

    /// A hold, or an order that waits; its timer is the caller's to set.
    #[inline(always)]
    pub(super) fn new(order: NewOrder, lsn: u64) -> Self {
        let waits = order.extra.as_ref().is_some_and(|extra| extra.waited.is_some());
        let flags = match order.key.kind() {
            KeyKind::Opaque => TIMED,
            KeyKind::UuidV7 => TIMED | UUID_V7,
        } | if order.default_hold { DEFAULT_HOLD } else { 0 }
            | order.policy.bits() << POLICY_SHIFT;
        Self {
            buyer: order.buyer,
            key: order.key.to_bytes(),
            lines_digest: order.lines_digest,
            extra: order.extra,
            last_lsn: U48::new(lsn),
            deadline_ms: U48::new(order.deadline_ms),
            changed_ms: U48::new(0),
            sku: order.first.sku,
            units: order.first.units,
            hold_ms: order.hold_ms,
            flags,
            state: Some(if waits { OrderState::Waiting } else { OrderState::Held }),
        }
    }

    /// An order as a checkpoint holds it. Its timer, if it needs one, is the caller's to set.
    pub(crate) fn restore(&mut self, state: OrderState, changed_ms: u64) {
        self.state = Some(state);
        self.changed_ms = U48::new(changed_ms);
        if !state.has_deadline() {
            self.clear_timed();
        }
    }

    /// The record with this LSN ended its waiting: it is held now.
    pub(super) fn hold(&mut self, deadline_ms: u64, lsn: u64) {
        self.state = Some(OrderState::Held);
        self.last_lsn = U48::new(lsn);
        self.deadline_ms = U48::new(deadline_ms);
        if let Some(waited) = self.extra.as_mut().and_then(|extra| extra.waited.as_mut()) {
            waited.served = true;
        }
    }

    pub(crate) fn waited(&self) -> Option<Waited> {
        self.extra.as_ref()?.waited
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.state.is_none()
    }

    pub(crate) fn buyer(&self) -> BuyerId {
        self.buyer
    }

    pub(crate) fn key(&self) -> RequestKey {
        RequestKey::from_logged(self.key, self.key_kind())
    }

    fn key_kind(&self) -> KeyKind {
        if self.flags & UUID_V7 == 0 { KeyKind::Opaque } else { KeyKind::UuidV7 }
    }

    /// Where the order stands. A handle from the tables never leads to a vacant place.
    pub(crate) fn state(&self) -> OrderState {
        self.state.unwrap_or(OrderState::Cancelled)
    }

    /// The record with this LSN moved the order there, at this time.
    pub(crate) fn change(&mut self, state: OrderState, lsn: u64, now_ms: u64) {
        self.state = Some(state);
        self.last_lsn = U48::new(lsn);
        self.changed_ms = U48::new(now_ms);
    }

    pub(crate) fn last_lsn(&self) -> u64 {
        self.last_lsn.get()
    }

    pub(crate) fn deadline_ms(&self) -> u64 {
        self.deadline_ms.get()
    }

    pub(crate) fn changed_ms(&self) -> u64 {
        self.changed_ms.get()
    }

    pub(crate) fn hold_ms(&self) -> u32 {
        self.hold_ms
    }

    /// When the order was placed.
    pub(crate) fn placed_ms(&self) -> u64 {
        match self.waited() {
            Some(it) => it.patience_ends_ms.saturating_sub(it.patience_ms.into()),
            None => self.held_from_ms(),
        }
    }

    /// When the order came into the state in which it is.
    pub(crate) fn in_state_from_ms(&self) -> u64 {
        match self.state() {
            OrderState::Waiting => self.placed_ms(),
            OrderState::Held => self.held_from_ms(),
            _ => self.changed_ms(),
        }
    }

    /// When its hold began, if there was one.
    fn held_from_ms(&self) -> u64 {
        self.deadline_ms().saturating_sub(self.hold_ms.into())
    }

    /// The order left its hold time to the engine.
    pub(crate) fn default_hold(&self) -> bool {
        self.flags & DEFAULT_HOLD != 0
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::from_bits(self.flags >> POLICY_SHIFT).unwrap_or_default()
    }

    /// Whether a timer has the order's handle.
    pub(super) fn is_timed(&self) -> bool {
        self.flags & TIMED != 0
    }

    pub(super) fn set_timed(&mut self) {
        self.flags |= TIMED;
    }

    /// No timer has the order's handle any more.
    pub(crate) fn clear_timed(&mut self) {
        self.flags &= !TIMED;
    }

    pub(crate) fn lines_digest(&self) -> u64 {
        self.lines_digest
    }

    pub(crate) fn payload_digest(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.payload_digest)
    }

    /// What a repeat of the key is compared with.
    pub(crate) fn content(&self) -> Content {
        Content {
            lines_digest: self.lines_digest,
            payload_digest: self.payload_digest(),
            hold_ms: self.hold_ms,
            default_hold: self.default_hold(),
            policy: self.policy(),
        }
    }

    pub(crate) fn payload(&self) -> Bytes {
        self.extra.as_ref().map(|extra| extra.payload.clone()).unwrap_or_default()
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.payload.len())
    }

    /// How many lines a cart has; 0 for an order of one line.
    pub(crate) fn cart_lines(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.lines.len())
    }

    /// The lines, in the order in which they were placed, with what the order has: of a partial one
    /// perhaps nothing of some.
    pub(crate) fn lines(&self) -> impl Iterator<Item = SkuUnits> + '_ {
        let cart = self.extra.as_ref().map_or(&[][..], |extra| &extra.lines);
        let single = cart.is_empty().then_some(SkuUnits { sku: self.sku, units: self.units });
        single.into_iter().chain(cart.iter().copied())
    }

    /// What the order did not get, in the order of its lines.
    pub(crate) fn missing(&self) -> &[SkuUnits] {
        self.extra.as_ref().map_or(&[], |extra| &extra.missing)
    }

    pub(super) fn is_of(&self, buyer: BuyerId, key: RequestKey) -> bool {
        self.buyer == buyer
            && self.key == key.to_bytes()
            && self.key_kind() == key.kind()
            && self.state.is_some()
    }
}
