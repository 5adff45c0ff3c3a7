//! Orders: what a buyer asks for, what became of it, and how it may go on.

mod content;
mod fill;
mod levels;
mod outcome;
mod request;
mod ruled;
mod rules;
mod state;
mod waiting;
mod words;

pub(crate) use content::{Content, Refused};
pub use fill::{CLASS_MAX, Fill};
pub(crate) use fill::{Filling, Policy, filling_digest};
pub use levels::StockLevels;
pub use outcome::{
    Adjusted, Held, KeyField, KeyReused, PartlyHeld, Placed, Refusal, RefusedBefore, Transition,
    Waiting,
};
pub use request::{Adjust, Line, Order};
pub(crate) use request::{AdjustKind, Lines, PlainRequest, Request, lines_digest, payload_digest};
pub use ruled::{MerchantLimits, Ruled, SkuRules};
pub use rules::{EARLY_ACCESS_MAX, MerchantRules, RATE_MAX, SaleRules, Scope, Switch};
pub(crate) use rules::{NEVER_CLOSES, Rate, RuleChanges, Rules};
pub use state::OrderState;
pub(crate) use state::{Step, Verb};
pub(crate) use waiting::{LIST_SEQUENCE_MAX, ListPlace};
