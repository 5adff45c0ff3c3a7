//! Mutant engines, to prove that the simulation's judge finds real bugs.
//!
//! Each [`Mutant`] is a bug that an engine of this kind may well have. The engine asks [`is`] at the place
//! where it would make that mistake. Built as usual, the answer is a constant "no" and nothing of it is left
//! in the machine code; built with `--cfg doorbuster_mutants`, which is no cargo feature so that no
//! dependency can switch it on, a test chooses one for its own thread.

use crate::ids::BuyerId;
use crate::routing::partition_of;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(doorbuster_mutants), allow(dead_code))]
#[cfg_attr(not(doorbuster_mutants), allow(unreachable_pub))]
#[allow(missing_docs, reason = "the names say it")]
pub enum Mutant {
    GivesBackBeforeDurable,
    WakesBeforeGivingBack,
    ForgetsTentative,
    RefusesHeldKey,
    AnswersRepeatBeforeDurable,
    ServesUnsynced,
    GivesIdTwice,
    AcknowledgesBeforeSync,
    RetriesFailedSync,
    AcceptsDamagedMiddle,
    SkipsFolderSync,
    ExpiresByWallClock,
    DropsKeyOnReplay,
    IgnoresNeighbours,
    ConfirmsAfterDeadline,
    LoosensLimitAtOnce,
    KeepsLinesOfFailedCart,
    SkipsManifestFolderSync,
    ForgetsTimersOnReplay,
    EvictsTooEarly,
    ForgetsWhatRetiredOrdersSold,
    PublishesBeforeLogIsDurable,
    RecyclesBelowNewerCheckpoint,
    AppliesRecordsTwice,
    OpensEarlyInOnePartition,
    ClosesLate,
    RestrictsWhenDurable,
    LiftsSwitchAtOnce,
    HoldsUnderNoNewHolds,
    CancelsUnderHalt,
    GivesEarlyAccessToNextClass,
    IgnoresHoldOfRules,
    HandsOutSafetyStock,
    TakesNoTokenForPartialOrders,
    TakesBelowMinimum,
    ForgetsRefusalsOnReplay,
    TellsRefusalBeforeDurable,
    RemembersRefusalTooLong,
    SellsToRefusedKey,
    PromotesBeforeDurable,
    ServesNewestFirst,
    IgnoresClass,
    LetsNewcomersPass,
    ForgetsWaitingInLimit,
    DropsListOnReplay,
    NumbersListAnew,
    KeepsDeadlineOfPatience,
    ServesAfterPatience,
    OverfillsList,
    ServesWhenSwitchedOff,
    ServesBehindWhoLeaves,
    ServesNobodyAtOpen,
    LeavesWatchersAsleep,
    TellsWatchBeforeDurable,
    PermitsWhenAllIsDurable,
}

#[cfg(not(doorbuster_mutants))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

/// [`Mutant::EvictsTooEarly`]: so much before its time.
#[inline]
pub(crate) fn early_ms() -> u64 {
    if is(Mutant::EvictsTooEarly) { 5 } else { 0 }
}

/// [`Mutant::OpensEarlyInOnePartition`]: sales open so much before their time for buyers of the first.
#[inline]
pub(crate) fn opens_early_ms(buyer: BuyerId, partitions: usize) -> u64 {
    if is(Mutant::OpensEarlyInOnePartition) && partition_of(buyer, partitions) == 0 { 3 } else { 0 }
}

/// Between two lines of a cart: here a test lets another caller have a turn.
#[cfg(not(doorbuster_mutants))]
pub(crate) const fn pause() {}

#[cfg(doorbuster_mutants)]
mod chosen {
    use std::cell::{Cell, RefCell};

    use super::Mutant;

    impl Mutant {
        /// Every one.
        pub const ALL: [Self; 55] = [
            Self::GivesBackBeforeDurable,
            Self::WakesBeforeGivingBack,
            Self::ForgetsTentative,
            Self::RefusesHeldKey,
            Self::AnswersRepeatBeforeDurable,
            Self::ServesUnsynced,
            Self::GivesIdTwice,
            Self::AcknowledgesBeforeSync,
            Self::RetriesFailedSync,
            Self::AcceptsDamagedMiddle,
            Self::SkipsFolderSync,
            Self::ExpiresByWallClock,
            Self::DropsKeyOnReplay,
            Self::IgnoresNeighbours,
            Self::ConfirmsAfterDeadline,
            Self::LoosensLimitAtOnce,
            Self::KeepsLinesOfFailedCart,
            Self::SkipsManifestFolderSync,
            Self::ForgetsTimersOnReplay,
            Self::EvictsTooEarly,
            Self::ForgetsWhatRetiredOrdersSold,
            Self::PublishesBeforeLogIsDurable,
            Self::RecyclesBelowNewerCheckpoint,
            Self::AppliesRecordsTwice,
            Self::OpensEarlyInOnePartition,
            Self::ClosesLate,
            Self::RestrictsWhenDurable,
            Self::LiftsSwitchAtOnce,
            Self::HoldsUnderNoNewHolds,
            Self::CancelsUnderHalt,
            Self::GivesEarlyAccessToNextClass,
            Self::IgnoresHoldOfRules,
            Self::HandsOutSafetyStock,
            Self::TakesNoTokenForPartialOrders,
            Self::TakesBelowMinimum,
            Self::ForgetsRefusalsOnReplay,
            Self::TellsRefusalBeforeDurable,
            Self::RemembersRefusalTooLong,
            Self::SellsToRefusedKey,
            Self::PromotesBeforeDurable,
            Self::ServesNewestFirst,
            Self::IgnoresClass,
            Self::LetsNewcomersPass,
            Self::ForgetsWaitingInLimit,
            Self::DropsListOnReplay,
            Self::NumbersListAnew,
            Self::KeepsDeadlineOfPatience,
            Self::ServesAfterPatience,
            Self::OverfillsList,
            Self::ServesWhenSwitchedOff,
            Self::ServesBehindWhoLeaves,
            Self::ServesNobodyAtOpen,
            Self::LeavesWatchersAsleep,
            Self::TellsWatchBeforeDurable,
            Self::PermitsWhenAllIsDurable,
        ];
    }

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
        static AT_PAUSE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    }

    pub(crate) fn is(wrong: Mutant) -> bool {
        CHOSEN.get() == Some(wrong)
    }

    pub(crate) fn pause() {
        // Taken out first: the turn may come here itself.
        let turn = AT_PAUSE.with_borrow_mut(Option::take);
        turn.into_iter().for_each(|turn| turn());
    }

    /// Engines that run on this thread make this mistake from now on; `None` for none.
    pub fn choose(wrong: Option<Mutant>) {
        CHOSEN.set(wrong);
    }

    /// The next cart on this thread that holds its second line is interrupted by this, once, with its first
    /// line taken and its buyer's partition locked. `None` takes an earlier one back.
    pub fn at_pause(turn: Option<Box<dyn FnOnce()>>) {
        AT_PAUSE.set(turn);
    }
}

#[cfg(doorbuster_mutants)]
pub use chosen::{at_pause, choose};
#[cfg(doorbuster_mutants)]
pub(crate) use chosen::{is, pause};

/// [`Mutant::ExpiresByWallClock`]: ends what was replayed as held, by a clock that is not engine time's.
#[cfg(doorbuster_mutants)]
pub(crate) fn expire_replayed(
    states: &mut [crate::partition::PartitionState],
    skus: &crate::stock::Registry,
    wall_ms: u64,
) {
    use crate::order::OrderState;

    if !is(Mutant::ExpiresByWallClock) {
        return;
    }
    for state in states {
        let held = |slot: &crate::partition::Slot| slot.state() == OrderState::Held;
        let due: Vec<u32> = (state.orders.iter())
            .filter(|(_, slot)| held(slot) && slot.deadline_ms() <= wall_ms)
            .map(|(handle, _)| handle)
            .collect();
        for handle in due {
            let Some(slot) = state.orders.get_mut(handle) else { continue };
            slot.change(OrderState::Expired, slot.last_lsn(), wall_ms);
            for line in slot.lines() {
                let sku = skus.get(line.sku);
                sku.hot.held.fetch_sub(i64::from(line.units), crate::sync::Ordering::Relaxed);
                let _ = sku.hot.available.give(line.units);
            }
        }
    }
}
