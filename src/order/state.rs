//! The states of an order and the one table that says how it may go on.

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
#[repr(u8)]
pub enum OrderState {
    /// Rests in a waiting list until stock comes back.
    Waiting = 0,
    /// Stock is set aside until the deadline.
    Held = 1,
    /// Paid for.
    Confirmed = 2,
    /// Shipped or picked up.
    Fulfilled = 3,
    /// Called off; the stock went back.
    Cancelled = 4,
    /// The deadline passed before a confirm; the stock went back.
    Expired = 5,
}

impl OrderState {
    const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Held,
        Self::Confirmed,
        Self::Fulfilled,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The state with this number, as checkpoints hold it.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Whether no verb can change the order any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Fulfilled | Self::Cancelled | Self::Expired)
    }

    /// Whether the order's units are sold.
    pub(crate) const fn is_sold(self) -> bool {
        matches!(self, Self::Confirmed | Self::Fulfilled)
    }

    /// Whether the order's units count towards its buyer's limit: sold to the buyer, held for them, or wanted by
    /// them.
    pub(crate) const fn counts(self) -> bool {
        self.has_deadline() || self.is_sold()
    }

    /// Whether the order's time runs out, unless something happens.
    pub(crate) const fn has_deadline(self) -> bool {
        matches!(self, Self::Waiting | Self::Held)
    }
}

/// What can be done to an order that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Verb {
    Confirm = 0,
    Cancel = 1,
    Fulfil = 2,
    Expire = 3,
}

/// What a verb does in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The order moves there.
    To(OrderState),
    /// It is there already: a retry.
    Stays,
    /// The verb is not allowed.
    Never,
}

/// Rows: the state that stands; columns: confirm, cancel, fulfil, expire. How one that waits is served, its list
/// decides.
const STEPS: [[Step; 4]; 6] = {
    use OrderState::{Cancelled, Confirmed, Expired, Fulfilled};
    use Step::{Never, Stays, To};
    [
        /* Waiting   */ [Never, To(Cancelled), Never, To(Expired)],
        /* Held      */ [To(Confirmed), To(Cancelled), Never, To(Expired)],
        /* Confirmed */ [Stays, To(Cancelled), To(Fulfilled), Never],
        /* Fulfilled */ [Never, Never, Stays, Never],
        /* Cancelled */ [Never, Stays, Never, Never],
        /* Expired   */ [Never, Never, Never, Stays],
    ]
};

impl OrderState {
    /// What `verb` does to an order in this state.
    pub(crate) const fn step(self, verb: Verb) -> Step {
        STEPS[self as usize][verb as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OrderState::{Cancelled, Confirmed, Expired, Fulfilled, Held, Waiting};

    const VERBS: [Verb; 4] = [Verb::Confirm, Verb::Cancel, Verb::Fulfil, Verb::Expire];

    #[test]
    fn every_pair_of_state_and_verb_is_as_the_design_says() {
        let allowed = [
            (Waiting, Verb::Cancel, Cancelled),
            (Waiting, Verb::Expire, Expired),
            (Held, Verb::Confirm, Confirmed),
            (Held, Verb::Cancel, Cancelled),
            (Held, Verb::Expire, Expired),
            (Confirmed, Verb::Fulfil, Fulfilled),
            (Confirmed, Verb::Cancel, Cancelled),
        ];
        let repeats = [
            (Confirmed, Verb::Confirm),
            (Cancelled, Verb::Cancel),
            (Fulfilled, Verb::Fulfil),
            (Expired, Verb::Expire),
        ];
        for state in OrderState::ALL {
            for verb in VERBS {
                let moves = allowed.iter().find(|(s, v, _)| (*s, *v) == (state, verb));
                let expected = match moves {
                    Some((_, _, to)) => Step::To(*to),
                    None if repeats.contains(&(state, verb)) => Step::Stays,
                    None => Step::Never,
                };
                assert_eq!(state.step(verb), expected, "{state:?} {verb:?}");
            }
        }
    }

    #[test]
    fn a_final_state_is_left_by_no_verb() {
        for state in OrderState::ALL {
            let leaves = VERBS.into_iter().any(|verb| matches!(state.step(verb), Step::To(_)));
            assert_eq!(state.is_final(), !leaves, "{state:?}");
        }
    }
}
