//! What a host switches for more than one SKU: merchants, and the whole engine.

use crate::mutants::{self, Mutant};
use crate::order::Switch;
use crate::stock::in_flight::InFlight;
use crate::stock::merchants::Merchants;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};

#[derive(Debug)]
pub(crate) struct Switches {
    pub(crate) merchants: Merchants,
    /// The stricter of the durable switch of the engine and of those on their way (rule R8).
    engine: AtomicU32,
    /// Serialises the records of the engine's switch.
    pub(crate) ledger: Mutex<SwitchLedger>,
    /// How often something was permitted that may have been halted before. Raised after the permission acts, so that
    /// a thread that reads an old number and then sees a halt looks again later.
    lifts: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct SwitchLedger {
    pub(crate) logged: Switch,
    acting: Switch,
    pub(crate) in_flight: InFlight<Switch>,
    pub(crate) last_lsn: u64,
}

impl Switches {
    pub(crate) fn new(merchants_max: usize) -> Self {
        Self {
            merchants: Merchants::new(merchants_max),
            engine: AtomicU32::new(0),
            ledger: Mutex::default(),
            lifts: AtomicU64::new(0),
        }
    }

    /// The engine's switch in force.
    pub(crate) fn engine(&self) -> Switch {
        match self.engine.load(Ordering::Acquire) {
            0 => Switch::Open,
            1 => Switch::NoNewHolds,
            _ => Switch::Halted,
        }
    }

    /// A change of the engine's switch is logged.
    pub(crate) fn change(&self, ledger: &mut SwitchLedger, to: Switch) {
        ledger.logged = to;
        ledger.acting =
            if mutants::is(Mutant::LiftsSwitchAtOnce) { to } else { ledger.acting.max(to) };
        ledger.in_flight.push(to);
        self.engine.store(ledger.acting as u32, Ordering::Release);
    }

    /// The oldest change of the engine's switch that was not durable is.
    pub(crate) fn settle(&self) {
        let mut ledger = self.ledger.lock();
        if let Some(settled) = ledger.in_flight.settle(|a, b| *a.max(b)) {
            ledger.acting = settled.acting;
            self.engine.store(ledger.acting as u32, Ordering::Release);
        }
    }

    /// Replay: what is logged acts, because all of it is durable.
    pub(crate) fn put_in_force(&self, ledger: &mut SwitchLedger) {
        ledger.acting = ledger.logged;
        self.engine.store(ledger.acting as u32, Ordering::Release);
    }

    pub(crate) fn lifts(&self) -> u64 {
        self.lifts.load(Ordering::Acquire)
    }

    /// Something was permitted.
    pub(crate) fn note_lift(&self) {
        self.lifts.fetch_add(1, Ordering::AcqRel);
    }
}
