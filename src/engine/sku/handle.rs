//! [`SkuHandle`]: a SKU that was found once.

use std::borrow::Borrow;
use std::fmt;

use crate::engine::{Engine, place};
use crate::error::PlaceError;
use crate::ids::SkuId;
use crate::log::Commit;
use crate::order::{Order, Placed, StockLevels};
use crate::stock::Sku;

/// A SKU of an engine, found once instead of with every order: for the SKU that everybody wants.
///
/// Answers what the engine answers; which order is placed through which handle decides nothing but the
/// cost. Keeps the engine open, as an [`Engine`] does. A cheap handle: clone it, share it between threads.
///
/// ```
/// use doorbuster::{Adjust, Engine, Options, Order, Placed, RequestKey};
///
/// # let folder = std::env::temp_dir().join(format!("doorbuster-doc-sku-{}", std::process::id()));
/// let engine = Engine::open(Options::new(&folder).segment_bytes(1 << 20))?;
/// engine.stock(42, Adjust::add(1).key(RequestKey::new(1)))?.wait()?;
/// let shoe = engine.sku(42).expect("it has stock");
///
/// let first = shoe.place(Order::new(7, RequestKey::new(1)).line(shoe.id(), 1))?.wait()?;
/// assert!(matches!(first, Placed::Held(_)));
/// let late = shoe.place(Order::new(8, RequestKey::new(1)).line(shoe.id(), 1))?.wait()?;
/// assert!(matches!(late, Placed::Refused(_)));
/// # engine.close()?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SkuHandle {
    engine: Engine,
    index: u32,
}

impl SkuHandle {
    pub(in crate::engine) fn find(engine: &Engine, id: SkuId) -> Option<Self> {
        let sku = engine.core().known_sku(id)?;
        Some(Self { index: sku.index, engine: engine.clone() })
    }

    /// The SKU.
    #[must_use]
    pub fn id(&self) -> SkuId {
        self.sku().id
    }

    /// As [`Engine::place`]. An order of this SKU alone costs less, a refusal because it is sold out most of
    /// all: it takes no lock, allocates nothing and writes to no memory that other threads read. An order
    /// of anything else is placed as well, at the usual cost.
    ///
    /// # Errors
    /// See [`PlaceError`]; nothing changed then, and the key is free.
    pub fn place(&self, order: impl Borrow<Order>) -> Result<Commit<Placed>, PlaceError> {
        place::place_of(self.engine.core(), self.sku(), order.borrow())
    }

    /// The SKU's units.
    #[must_use]
    pub fn levels(&self) -> StockLevels {
        self.sku().levels()
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn sku(&self) -> &Sku {
        self.engine.core().skus.get(self.index)
    }
}

impl fmt::Debug for SkuHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkuHandle").field("sku", &self.id()).finish_non_exhaustive()
    }
}
