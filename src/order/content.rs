//! What of a request is compared when its key comes again (rule R4), and a refusal that is kept for that.

use crate::ids::{BuyerId, RequestKey};
use crate::order::{KeyField, PlainRequest, Policy, Refusal, Request, lines_digest};

/// By which two requests with one key are compared: fixed when the first was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) lines_digest: u64,
    pub(crate) payload_digest: u64,
    pub(crate) hold_ms: u32,
    /// It left its hold time to the engine.
    pub(crate) default_hold: bool,
    pub(crate) policy: Policy,
}

impl Content {
    pub(crate) fn of(request: &Request<'_>) -> Self {
        Self {
            lines_digest: request.lines_digest,
            payload_digest: request.payload_digest,
            hold_ms: request.hold_ms,
            default_hold: request.default_hold,
            policy: request.filling.policy,
        }
    }

    pub(crate) fn of_plain(request: &PlainRequest) -> Self {
        Self {
            lines_digest: lines_digest(&[request.line]),
            payload_digest: 0,
            hold_ms: request.hold_ms,
            default_hold: request.default_hold,
            policy: Policy::AllOrNone,
        }
    }

    /// The first field that differs in a later request.
    pub(crate) fn differing_field(&self, later: &Self) -> Option<KeyField> {
        if self.lines_digest != later.lines_digest {
            return Some(KeyField::Lines);
        }
        // Two requests that left it to the engine are alike, though its default changed in between.
        if self.hold_ms != later.hold_ms && !(self.default_hold && later.default_hold) {
            return Some(KeyField::Hold);
        }
        if self.policy != later.policy {
            return Some(KeyField::Policy);
        }
        (self.payload_digest != later.payload_digest).then_some(KeyField::Payload)
    }
}

/// A refusal that is remembered: the outcome of its key until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) buyer: BuyerId,
    pub(crate) key: RequestKey,
    pub(crate) content: Content,
    pub(crate) refusal: Refusal,
    /// In engine time: from this millisecond on the key counts as new.
    pub(crate) until_ms: u64,
}
