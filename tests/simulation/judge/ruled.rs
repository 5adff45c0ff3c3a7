//! What was ruled of something, and what of it may act: the rules of a SKU's sale, of a merchant, the
//! switch of the whole engine.
//!
//! Each change is one record, and the records of one home survive a crash up to some point. What restricts acts at
//! once, what permits acts when it is durable: the strictest of the durable rules and of all that were logged since
//! acts, rule by rule. What no caller knows to be durable may be there after a crash, or not, but wholly: as soon as
//! an answer shows which, the judge holds the engine to that.

use std::fmt::Debug;

use super::At;

/// Rules of which each has a value.
pub(super) trait Rules: Clone + PartialEq + Debug {
    type Change: Clone + Debug;

    /// With these values changed.
    fn with(&self, change: &Self::Change) -> Self;

    /// Of each rule the stricter.
    fn stricter(&self, other: &Self) -> Self;
}

#[derive(Clone, Debug)]
pub(super) struct Ruling<C> {
    pub(super) change: C,
    pub(super) durable: Option<At>,
    /// It may be in force before its commit says that it is durable: that waits for other records, too.
    pub(super) may_be_early: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Ruled<R: Rules> {
    /// Each begins with what may have been logged at the last open, and goes on with the rules as logged
    /// after each change since.
    tracks: Vec<Vec<R>>,
    /// Since the last open.
    changes: Vec<Ruling<R::Change>>,
}

impl<R: Rules> Ruled<R> {
    pub(super) fn new(rules: R) -> Self {
        Self { tracks: vec![vec![rules]], changes: Vec::new() }
    }

    pub(super) fn changes(&self) -> &[Ruling<R::Change>] {
        &self.changes
    }

    /// A change was answered; returns its place.
    pub(super) fn change(&mut self, change: R::Change, may_be_early: bool) -> usize {
        for track in &mut self.tracks {
            let next = track[track.len() - 1].with(&change);
            track.push(next);
        }
        self.changes.push(Ruling { change, durable: None, may_be_early });
        self.changes.len() - 1
    }

    pub(super) fn is_durable(&self) -> bool {
        self.changes.iter().all(|ruling| ruling.durable.is_some())
    }

    pub(super) fn note_durable(&mut self, nth: usize, at: At) {
        if let Some(ruling) = self.changes.get_mut(nth) {
            ruling.durable.get_or_insert(at);
        }
    }

    /// From which changes on the strictest may act: since the last durable one, and since any later one that may
    /// be durable unseen. What a durable change permits acts, whatever is in flight after it.
    fn starts(&self) -> Vec<usize> {
        let durable = self.changes.iter().rposition(|ruling| ruling.durable.is_some());
        let first = durable.map_or(0, |last| last + 1);
        let later = self.changes.iter().enumerate().skip(first);
        let unseen = later.filter(|(_, ruling)| ruling.may_be_early).map(|(nth, _)| nth + 1);
        std::iter::once(first).chain(unseen).collect()
    }

    fn acting_of(track: &[R], start: usize) -> R {
        let (first, later) = (&track[start], &track[start + 1..]);
        later.iter().fold(first.clone(), |acting, rules| acting.stricter(rules))
    }

    /// All rules that may be in force.
    pub(super) fn acting(&self) -> Vec<R> {
        let starts = self.starts();
        let mut acting = Vec::with_capacity(self.tracks.len() * starts.len());
        for track in &self.tracks {
            for start in &starts {
                let rules = Self::acting_of(track, *start);
                if !acting.contains(&rules) {
                    acting.push(rules);
                }
            }
        }
        acting
    }

    pub(super) fn may_be(&self, is: impl Fn(&R) -> bool) -> bool {
        self.acting().iter().any(is)
    }

    /// An answer shows that such rules are in force: forgets what cannot have been logged then. False if
    /// nothing is left.
    #[must_use]
    pub(super) fn narrow(&mut self, is: impl Fn(&R) -> bool) -> bool {
        let starts = self.starts();
        let fits = |track: &Vec<R>| starts.iter().any(|start| is(&Self::acting_of(track, *start)));
        if !self.tracks.iter().any(fits) {
            return false;
        }
        self.tracks.retain(fits);
        true
    }

    /// The same of the rules as they were last logged.
    #[must_use]
    pub(super) fn narrow_logged(&mut self, is: impl Fn(&R) -> bool) -> bool {
        let fits = |track: &Vec<R>| track.last().is_some_and(&is);
        if !self.tracks.iter().any(fits) {
            return false;
        }
        self.tracks.retain(fits);
        true
    }

    /// After a reopen: the rules after the last change that is certain, or after any later one.
    pub(super) fn reopen(&mut self, is_certain: impl Fn(At) -> bool) {
        let certain = self.changes.iter().rposition(|it| it.durable.is_some_and(&is_certain));
        let first = certain.map_or(0, |last| last + 1);
        let mut tracks: Vec<Vec<R>> = Vec::new();
        for rules in self.tracks.drain(..).flat_map(|track| track.into_iter().skip(first)) {
            if tracks.iter().all(|track| track[0] != rules) {
                tracks.push(vec![rules]);
            }
        }
        *self = Self { tracks, changes: Vec::new() };
    }
}
