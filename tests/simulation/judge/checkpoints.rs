//! Which checkpoints there are, and from which blocks on the log counts behind each.
//!
//! The judge knows two things about a checkpoint: what was durable before it was begun is in it, and the
//! log that it was copied from was durable before it had its name. It never reads what is in one: it is
//! whole if it has the bytes that it had when it got its name, up to the last that was written.

use std::collections::{BTreeMap, BTreeSet};

use doorbuster::testing::MemoryStorage;

use super::{Broken, Checked, hold_to};
use crate::disk::CheckpointCall;

/// A checkpoint, or one on its way.
#[derive(Clone, Debug)]
struct Taken {
    /// How many blocks each shard had when it was begun.
    begins: Vec<usize>,
    /// And when the last part was copied: it says that they were durable.
    names: Vec<usize>,
    /// What it holds; behind them its file may have some of one that it was written over.
    bytes: Vec<u8>,
    end: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    taken: BTreeMap<u64, Taken>,
    run: Option<Taken>,
    /// Those that the engine has no reason to take for damaged.
    trusted: BTreeSet<u64>,
    /// The older of the two newest of them, when a segment was last recycled: the log of those before it is
    /// given up.
    relied_on: Option<u64>,
    /// The medium has damaged one, or taken one away.
    pub(crate) were_injured: bool,
}

/// What an open has to start from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    /// The newest that is whole.
    pub(crate) number: Option<u64>,
    /// From which block on each shard's log counts.
    pub(super) begins: Vec<usize>,
    /// How many blocks of each shard it says are durable.
    pub(super) names: Vec<usize>,
    /// Newer ones that are not whole.
    pub(crate) damaged: usize,
    /// Older ones that are not.
    older_damaged: usize,
    /// The log does not go back to its beginning.
    pub(crate) is_recycled: bool,
    /// When segments were recycled there were two newer ones, and no damage to these was known.
    pub(crate) is_given_up: bool,
}

impl Base {
    pub(crate) fn is_missing(&self) -> bool {
        self.number.is_none() && self.is_recycled
    }
}

pub(crate) const FOLDER: &str = "checkpoints/";

/// The numbers of the checkpoints that are there, ascending, with their paths.
pub(crate) fn list(storage: &MemoryStorage) -> Vec<(u64, String)> {
    let number = |path: &str| path.strip_prefix(FOLDER)?.strip_suffix(".checkpoint")?.parse().ok();
    let files = storage.list_files().into_iter();
    let mut found: Vec<_> = files.filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort();
    found
}

impl Checkpoints {
    /// What the engine asked of the disk in a step; `lens` are the blocks that each shard had.
    pub(crate) fn called(
        &mut self,
        storage: &MemoryStorage,
        call: &CheckpointCall,
        lens: &[usize],
    ) {
        match call {
            CheckpointCall::Opened if self.run.is_some() => {}
            CheckpointCall::Begun | CheckpointCall::Opened => {
                let (begins, names) = (lens.to_vec(), lens.to_vec());
                self.run = Some(Taken { begins, names, bytes: Vec::new(), end: 0 });
            }
            CheckpointCall::Written { start, end } => {
                if let Some(run) = &mut self.run {
                    run.end = run.end.max(*end);
                    if *start > 0 {
                        run.names = lens.to_vec();
                    }
                }
            }
            CheckpointCall::Named(path) => {
                let mut bytes = storage.read_file(path).unwrap_or_default();
                let number = list(storage).into_iter().find(|(_, named)| named == path);
                if let (Some(run), Some((number, _))) = (self.run.take(), number) {
                    bytes.truncate(run.end);
                    self.taken.insert(number, Taken { bytes, ..run });
                    self.trusted.insert(number);
                }
            }
        }
    }

    pub(crate) fn engine_ended(&mut self) {
        self.run = None;
    }

    pub(crate) fn is_on_its_way(&self) -> bool {
        self.run.is_some()
    }

    /// How much of a checkpoint's file counts.
    pub(crate) fn bytes(&self, number: u64) -> usize {
        self.taken.get(&number).map_or(0, |taken| taken.bytes.len())
    }

    /// A segment got another name.
    pub(crate) fn recycled(&mut self) -> Checked {
        self.relied_on = self.trusted.iter().rev().nth(1).copied().or(self.relied_on);
        let trusted = &self.trusted;
        hold_to!(trusted.len() > 1, "a segment is recycled, with checkpoints {trusted:?} alone");
        Ok(())
    }

    /// What the next open has to start from.
    pub(crate) fn base(&self, storage: &MemoryStorage, shards: usize) -> Base {
        let zeros = vec![0; shards];
        let mut base = Base { begins: zeros.clone(), names: zeros, ..Base::default() };
        for (number, path) in list(storage).into_iter().rev() {
            let bytes = storage.read_file(&path).unwrap_or_default();
            let whole = self.taken.get(&number).filter(|taken| bytes.starts_with(&taken.bytes));
            match (whole, base.number) {
                (Some(taken), None) => {
                    base.number = Some(number);
                    (base.begins, base.names) = (taken.begins.clone(), taken.names.clone());
                }
                (None, None) => base.damaged += 1,
                (None, Some(_)) => base.older_damaged += 1,
                (Some(_), Some(_)) => {}
            }
        }
        base.is_given_up = base.number.is_some_and(|number| Some(number) < self.relied_on);
        base.is_recycled = (0..shards).any(|shard| {
            let folder = format!("log/{shard:02}/");
            let files = storage.list_files().into_iter();
            let first =
                files.filter(|path| path.starts_with(&folder) && path.ends_with(".segment")).min();
            first.is_some_and(|first| !first.ends_with("/0000000000.segment"))
        });
        base
    }

    /// An open cut the shards: they have only this many blocks now.
    pub(crate) fn cut_to(&mut self, lens: &[usize]) {
        for taken in self.taken.values_mut() {
            for (shard, len) in lens.iter().enumerate() {
                taken.begins[shard] = taken.begins[shard].min(*len);
                taken.names[shard] = taken.names[shard].min(*len);
            }
        }
    }

    /// An open started from the newest that is whole, and said so.
    pub(crate) fn check_opened(
        &mut self,
        base: &Base,
        used: Option<u64>,
        damaged: usize,
    ) -> Checked {
        hold_to!(
            used == base.number,
            "opened from checkpoint {used:?}, the newest that is whole is {:?}",
            base.number
        );
        self.trusted.retain(|number| Some(*number) <= used);
        let (least, most) = (base.damaged, base.damaged + base.older_damaged);
        hold_to!(
            (least..=most).contains(&damaged),
            "{damaged} damaged checkpoints were reported, but {least} to {most} are"
        );
        if most > 0 && !self.were_injured {
            return Err(Broken(format!("{most} checkpoints are not whole, but nobody hurt them")));
        }
        Ok(())
    }
}
