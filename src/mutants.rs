//! Planted bugs, to prove that the simulation's judge finds real ones.
//!
//! Each [`Mutant`] is a mistake that an engine of this kind may well make. The engine asks [`is`] at the place of the
//! mistake. In an ordinary build the answer is a constant `false`, and nothing of it is left in the machine code. Built
//! with `--cfg doorbuster_mutants`, a test chooses one mutant for its own thread. That is no cargo feature, so that no
//! dependency can switch it on.
//!
//! A hook is one expression, and leaves the shape of the right code alone. Mistakes that need more are in
//! `tests/mutants/shapes.patch`, which `.ci/mutants` applies to a copy of the crate before it runs the judge.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(doorbuster_mutants), allow(dead_code, unreachable_pub))]
        pub enum Mutant {
            $($(#[$doc])* $name,)*
        }

        #[cfg(doorbuster_mutants)]
        impl Mutant {
            /// Every mutant.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

mutants! {
    /// A cancelled order returns its units before its record is durable.
    GivesBackBeforeDurable,
    /// A writer wakes callers before it applies what the block permits.
    WakesBeforeGivingBack,
    /// A refusal ignores units that carts in flight may still return.
    ForgetsTentative,
    /// A refusal does not look at the key first.
    RefusesHeldKey,
    /// A repeat is answered before its order is durable.
    AnswersRepeatBeforeDurable,
    /// An open does not sync what it read.
    ServesUnsynced,
    /// An open ignores the floor of order ids.
    GivesIdTwice,
    /// A block is acknowledged without a sync.
    AcknowledgesBeforeSync,
    /// A sync that failed is tried again.
    RetriesFailedSync,
    /// Damage before the end of the log is taken for its end.
    AcceptsDamagedMiddle,
    /// A new segment's name is not synced.
    SkipsFolderSync,
    /// An open ends holds by the wall clock.
    ExpiresByWallClock,
    /// Replay forgets the keys of orders.
    DropsKeyOnReplay,
    /// An open does not check the blocks that other shards name.
    IgnoresNeighbours,
    /// A hold that is over can be confirmed.
    ConfirmsAfterDeadline,
    /// A higher buyer limit acts before it is durable.
    LoosensLimitAtOnce,
    /// A cart that fails keeps its first lines.
    KeepsLinesOfFailedCart,
    /// A new manifest's name is not synced.
    SkipsManifestFolderSync,
    /// Replay sets no timers.
    ForgetsTimersOnReplay,
    /// Finished orders leave memory 5 ms early.
    EvictsTooEarly,
    /// Orders that leave memory take their sold units with them.
    ForgetsWhatRetiredOrdersSold,
    /// A checkpoint is published before the log that it holds is durable.
    PublishesBeforeLogIsDurable,
    /// The log is recycled up to the newer checkpoint.
    RecyclesBelowNewerCheckpoint,
    /// Replay applies records that the checkpoint holds.
    AppliesRecordsTwice,
    /// A sale opens 3 ms early for the buyers of one partition.
    OpensEarlyInOnePartition,
    /// A sale closes 1 ms late.
    ClosesLate,
    /// A restriction acts only when it is durable.
    RestrictsWhenDurable,
    /// A switch is lifted before that is durable.
    LiftsSwitchAtOnce,
    /// New holds are taken under `Switch::NoNewHolds`.
    HoldsUnderNoNewHolds,
    /// A halted order can be cancelled.
    CancelsUnderHalt,
    /// Early access reaches one class too many.
    GivesEarlyAccessToNextClass,
    /// The hold time of the rules is ignored.
    IgnoresHoldOfRules,
    /// Units that are kept back can be held.
    HandsOutSafetyStock,
    /// A partial order takes no token of its merchant.
    TakesNoTokenForPartialOrders,
    /// A partial order ignores its minimum.
    TakesBelowMinimum,
    /// Replay forgets remembered refusals.
    ForgetsRefusalsOnReplay,
    /// A remembered refusal is returned before it is durable.
    TellsRefusalBeforeDurable,
    /// A refusal is remembered 1 ms too long.
    RemembersRefusalTooLong,
    /// A refused key is not looked up.
    SellsToRefusedKey,
    /// A waiting order receives units of a cancel that is not durable.
    PromotesBeforeDurable,
    /// The newest waiting order is served first.
    ServesNewestFirst,
    /// All waiting orders have one class.
    IgnoresClass,
    /// A new order takes units that others wait for.
    LetsNewcomersPass,
    /// A waiting order does not count towards its buyer's limit.
    ForgetsWaitingInLimit,
    /// Replay forgets the waiting lists.
    DropsListOnReplay,
    /// A list's numbers begin anew at an open.
    NumbersListAnew,
    /// A served order's hold ends with its patience.
    KeepsDeadlineOfPatience,
    /// An order whose patience is over is served.
    ServesAfterPatience,
    /// A list takes one order too many.
    OverfillsList,
    /// Waiting orders are served while sales are switched off.
    ServesWhenSwitchedOff,
    /// Later orders are served before a departure is durable.
    ServesBehindWhoLeaves,
    /// An open serves no waiting orders.
    ServesNobodyAtOpen,
    /// A watch is not woken by a promotion.
    LeavesWatchersAsleep,
    /// A watch resolves before the promotion is durable.
    TellsWatchBeforeDurable,
    /// A permission acts only when no change is in flight.
    PermitsWhenAllIsDurable,
}

#[cfg(not(doorbuster_mutants))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

/// Between two lines of a cart: here a test lets another caller have a turn.
#[cfg(not(doorbuster_mutants))]
pub(crate) const fn pause() {}

#[cfg(doorbuster_mutants)]
mod chosen {
    use std::cell::{Cell, RefCell};

    use super::Mutant;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
        static AT_PAUSE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }

    pub(crate) fn pause() {
        // Taken out first: the turn may come here itself.
        let turn = AT_PAUSE.with_borrow_mut(Option::take);
        turn.into_iter().for_each(|turn| turn());
    }

    /// Engines that run on this thread make this mistake from now on; `None` for none.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }

    /// Calls `turn` once, between the first and the second line of the next cart on this thread: its first line is
    /// taken then, and its buyer's partition is locked. `None` takes an earlier turn back.
    pub fn at_pause(turn: Option<Box<dyn FnOnce()>>) {
        AT_PAUSE.set(turn);
    }
}

#[cfg(doorbuster_mutants)]
pub use chosen::{at_pause, choose};
#[cfg(doorbuster_mutants)]
pub(crate) use chosen::{is, pause};
