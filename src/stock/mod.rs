//! Stock: the units of each SKU, and which orders may have them (step 6 of the request path).

mod adjusts;
mod counter;
mod in_flight;
mod merchants;
mod promotions;
mod registry;
mod rules;
mod sku;
mod switches;
mod waiting;

pub(crate) use adjusts::AdjustEntry;
#[cfg(any(test, feature = "testing"))]
pub(crate) use counter::Counter;
pub(crate) use counter::{Open, Take, TakeSome};
pub(crate) use merchants::{Empty, Merchant, MerchantState, Token};
pub(crate) use promotions::Promotions;
pub(crate) use registry::Registry;
pub(crate) use sku::{Sku, SkuLedger};
pub(crate) use switches::Switches;
pub(crate) use waiting::{Waiter, WaitingList};
