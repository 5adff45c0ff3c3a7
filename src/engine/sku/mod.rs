//! What a host sets for a SKU: its stock, its rules, the end of its sale.

mod adjust;
pub(super) mod buyer_counts;
mod handle;
mod rules;

pub(super) use adjust::adjust;
pub(super) use buyer_counts::end_sale;
pub use handle::SkuHandle;
pub(super) use rules::{merchant, rules, switch};
