//! Stock: what there is of each SKU, and who may have it (step 6 of the request path).

mod counter;
mod merchants;
mod registry;
mod rules;
mod sku;
mod switches;

pub(crate) use counter::{Open, Take};
pub(crate) use merchants::{Empty, Merchant, MerchantState, Pace};
pub(crate) use registry::Registry;
pub(crate) use sku::{AdjustEntry, Home, Sku};
pub(crate) use switches::Switches;
