//! doorbuster: front page comes here.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("doorbuster runs on Linux on x86-64 and aarch64 only");

mod admission;
pub mod clock;
mod engine;
pub mod error;
mod ids;
mod log;
mod options;
mod order;
mod partition;
mod recovery;
mod stock;
pub mod storage;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use engine::{Engine, Stats};
pub use error::{
    Capacity, CloseError, CommitError, OpenError, OrderError, PlaceError, StockError, Unavailable,
};
pub use ids::{
    BuyerId, KeyKind, LINE_QUANTITY_MAX, OrderId, Quantity, RequestKey, STOCK_MAX, SkuId,
};
pub use log::{Commit, Ready};
pub use options::{Durability, HOLD_MAX, LINES_MAX, Options, PAYLOAD_BYTES_MAX};
pub use order::{
    Adjust, Adjusted, Held, KeyField, KeyReused, Line, Order, OrderState, OrderView, Placed,
    Refusal, SaleRules, StockLevels, Transition, Viewed,
};
pub use recovery::RecoveryReport;
