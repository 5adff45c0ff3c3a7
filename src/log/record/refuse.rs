//! The record of a refusal that is remembered.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{BuyerId, MerchantId, Quantity, SkuId};
use crate::log::record::{KIND_REFUSE, RecordHeader, header, key_flag, logged_key};
use crate::order::{Content, Policy, Refusal, Refused, Scope, Switch};

/// Bytes of a refusal.
pub(crate) const REFUSE_BYTES: usize = size_of::<RecordHeader>() + size_of::<RefusedBody>();

/// The hold time was the engine's default; 1 is that of the key.
const FLAG_DEFAULT_HOLD: u8 = 2;
/// From this bit on the two of the request's [`Policy`].
const POLICY_SHIFT: u32 = 2;

/// A refusal, as records and checkpoints hold it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RefusedBody {
    buyer: [u8; 16],
    key: [u8; 16],
    lines_digest: U64,
    payload_digest: U64,
    until_ms: U64,
    /// What the refusal tells, see [`words_of`].
    words: [U64; 3],
    hold_ms: U32,
    /// Which refusal.
    code: u8,
    flags: u8,
    reserved: [u8; 2],
}

const _: () = assert!(REFUSE_BYTES == 96);

/// A request was refused, and that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefuseRecord {
    pub(crate) refused: Refused,
    pub(crate) time_low: u32,
}

impl RefuseRecord {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(header(KIND_REFUSE, 0, REFUSE_BYTES, self.time_low).as_bytes());
        to.extend_from_slice(RefusedBody::of(&self.refused).as_bytes());
    }
}

pub(super) fn parse_refuse(
    header: &RecordHeader,
    body: &[u8],
) -> Result<RefuseRecord, &'static str> {
    let (body, _) = RefusedBody::ref_from_prefix(body).map_err(|_| "refusal too short")?;
    Ok(RefuseRecord { refused: body.read()?, time_low: header.time_low.get() })
}

impl RefusedBody {
    pub(crate) fn of(refused: &Refused) -> Self {
        let Refused { buyer, key, content, refusal, until_ms } = refused;
        let (code, words) = words_of(refusal);
        Self {
            buyer: buyer.to_bytes(),
            key: key.to_bytes(),
            lines_digest: content.lines_digest.into(),
            payload_digest: content.payload_digest.into(),
            until_ms: (*until_ms).into(),
            words: words.map(U64::new),
            hold_ms: content.hold_ms.into(),
            code,
            flags: key_flag(*key)
                | if content.default_hold { FLAG_DEFAULT_HOLD } else { 0 }
                | content.policy.bits() << POLICY_SHIFT,
            reserved: [0; 2],
        }
    }

    pub(crate) fn read(&self) -> Result<Refused, &'static str> {
        Ok(Refused {
            buyer: BuyerId::from_uuid_bytes(self.buyer),
            key: logged_key(self.key, self.flags),
            content: Content {
                lines_digest: self.lines_digest.get(),
                payload_digest: self.payload_digest.get(),
                hold_ms: self.hold_ms.get(),
                default_hold: self.flags & FLAG_DEFAULT_HOLD != 0,
                policy: Policy::from_bits(self.flags >> POLICY_SHIFT)?,
            },
            refusal: refusal_of(self.code, self.words.map(U64::get))?,
            until_ms: self.until_ms.get(),
        })
    }
}

/// A refusal's number and what it tells.
fn words_of(refusal: &Refusal) -> (u8, [u64; 3]) {
    match *refusal {
        Refusal::SoldOut { sku, wanted, available } => {
            (0, [sku.get(), wanted.get().into(), available as u64])
        }
        Refusal::OthersWaiting { sku } => (1, [sku.get(), 0, 0]),
        Refusal::WaitingListFull { sku, waiting, bound } => (2, [sku.get(), waiting, bound]),
        Refusal::BuyerLimit { sku, wanted, taken, limit } => {
            let both = u64::from(limit.get()) << 32 | u64::from(wanted.get());
            (3, [sku.get(), taken, both])
        }
        Refusal::NotOpen { sku, opens_at_ms, now_ms } => (4, [sku.get(), opens_at_ms, now_ms]),
        Refusal::Closed { sku, closed_at_ms } => (5, [sku.get(), closed_at_ms, 0]),
        Refusal::Switched { scope, switch } => {
            let (kind, id) = match scope {
                Scope::Engine => (0, 0),
                Scope::Merchant(merchant) => (1, merchant.get()),
                Scope::Sku(sku) => (2, sku.get()),
            };
            (6, [kind, id, switch as u64])
        }
        Refusal::RateLimited { merchant, retry_after_ms } => {
            (7, [merchant.get(), retry_after_ms, 0])
        }
        Refusal::KeyTooOld { key_ms, oldest_ms } => (8, [key_ms, oldest_ms, 0]),
        Refusal::KeyTooNew { key_ms, newest_ms } => (9, [key_ms, newest_ms, 0]),
    }
}

fn refusal_of(code: u8, words: [u64; 3]) -> Result<Refusal, &'static str> {
    let [first, second, third] = words;
    let (sku, high) = (SkuId::new(first), (third >> 32) as u32);
    Ok(match code {
        0 => {
            let wanted = u32::try_from(second).map_err(|_| "a refusal of too large a quantity")?;
            Refusal::SoldOut { sku, wanted: Quantity::new(wanted), available: third as i64 }
        }
        1 => Refusal::OthersWaiting { sku },
        2 => Refusal::WaitingListFull { sku, waiting: second, bound: third },
        3 => {
            let (wanted, limit) = (Quantity::new(third as u32), Quantity::new(high));
            Refusal::BuyerLimit { sku, wanted, taken: second, limit }
        }
        4 => Refusal::NotOpen { sku, opens_at_ms: second, now_ms: third },
        5 => Refusal::Closed { sku, closed_at_ms: second },
        6 => {
            let scope = match first {
                0 => Scope::Engine,
                1 => Scope::Merchant(MerchantId::new(second)),
                2 => Scope::Sku(SkuId::new(second)),
                _ => return Err("a refusal by a switch of nobody"),
            };
            let switch = Switch::from_code(third).ok_or("an unknown switch")?;
            Refusal::Switched { scope, switch }
        }
        7 => Refusal::RateLimited { merchant: MerchantId::new(first), retry_after_ms: second },
        8 => Refusal::KeyTooOld { key_ms: first, oldest_ms: second },
        9 => Refusal::KeyTooNew { key_ms: first, newest_ms: second },
        _ => return Err("a refusal of an unknown kind"),
    })
}
