//! Looks at the stock in the very moment in which a commit wakes its caller: what its record returns must be there by
//! then.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use doorbuster::{Engine, StockLevels};

use super::{Checked, hold_to};

pub(super) struct Probe {
    engine: Engine,
    skus: Vec<u64>,
    seen: Mutex<Vec<StockLevels>>,
}

impl Probe {
    pub(super) fn new(engine: &Engine, skus: impl Iterator<Item = u64>) -> Arc<Self> {
        let (engine, skus) = (engine.clone(), skus.collect());
        Arc::new(Self { engine, skus, seen: Mutex::default() })
    }

    fn look(&self) -> Vec<StockLevels> {
        self.skus.iter().filter_map(|sku| self.engine.levels(*sku)).collect()
    }

    /// Called right after the step that made the commit durable, before anything else happens.
    pub(super) fn check(&self, what: &str) -> Checked {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.look();
        hold_to!(
            seen.is_empty() || seen == now,
            "{what}: when it woke, the stock was {seen:?}; after the step it is {now:?}"
        );
        Ok(())
    }
}

impl Wake for Probe {
    fn wake(self: Arc<Self>) {
        let seen = self.look();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}
