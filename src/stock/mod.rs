//! Stock: what there is of each SKU, and who may have it (step 6 of the request path).

mod counter;
mod registry;
mod sku;

pub(crate) use counter::{Open, Take};
pub(crate) use registry::Registry;
pub(crate) use sku::{AdjustEntry, Home, Sku, stricter};
