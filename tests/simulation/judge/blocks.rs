//! Which blocks the disk was told to keep, what they are and name, and so what damage must be noticed.
//!
//! The judge knows three things about the log: a write to a segment during a writer's step is one block;
//! a block names how many blocks every shard had when it was closed; the manifest names all blocks at an
//! open and at a clean close. It never reads what is in a block.
//!
//! Blocks that lie before what an open starts from, the begin of a checkpoint, are not read: their damage is not
//! noticed, and nothing is lost by it. Those of segments that were recycled are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use doorbuster::testing::MemoryStorage;

use super::At;
use super::checkpoints::Base;
use crate::disk::BlockWrite;

#[derive(Debug)]
struct Block {
    path: String,
    offset: u64,
    len: usize,
    /// Up to the last byte that is not 0: what follows may be padding. `None`: the disk lied, and has
    /// something else.
    bytes: Option<Vec<u8>>,
    /// What an open accepted behind that; `None` is zeros.
    rest: Option<Vec<u8>>,
    /// That was changed where no open has read it since.
    is_doubtful: bool,
    /// How many blocks each shard had.
    names: Vec<usize>,
    /// The engine time at which it was written; `None` in a close.
    at_ms: Option<u64>,
}

/// Where a block may be, or a part of one, that no caller had an answer from.
#[derive(Debug)]
struct Unsure {
    path: String,
    range: Range<usize>,
    /// What was there when an open accepted it.
    accepted: Option<Vec<u8>>,
    /// That was damaged where no open has read it since.
    is_spoilt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Intact,
    /// Something behind its last byte that is not 0 was changed: padding, or not.
    Touched,
    Damaged,
}

#[derive(Debug)]
pub(crate) struct Blocks {
    shards: Vec<Vec<Block>>,
    /// How many of each shard the manifest names.
    named: Vec<usize>,
    /// How many of each shard were recycled.
    recycled: Vec<usize>,
    unsure: Vec<Unsure>,
    /// The disk lied since the last open.
    lied: bool,
    /// There are blocks that this does not know of: a cut after a power loss left no one knows which.
    blind: bool,
    /// A block that no caller had an answer from was changed at rest, once.
    has_rotted: bool,
}

/// What damage to the medium means for an open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damage {
    /// Why the open must be refused.
    pub(crate) must_refuse: Option<String>,
    /// Whose names in an error would be right.
    pub(crate) shards: BTreeSet<usize>,
    pub(crate) manifest: bool,
    /// From which block on each shard may end.
    cuts: Vec<Option<usize>>,
    /// Power was lost under a durability that does not promise to survive that.
    pub(crate) is_power_loss: bool,
    /// The disk lied when it was written, so the right bytes are nowhere.
    pub(crate) is_beyond_repair: bool,
    /// What the open starts from.
    pub(crate) base: Base,
    /// The medium was looked at, block by block.
    is_assessed: bool,
}

impl Damage {
    /// The medium is as it should be.
    pub(crate) fn none(base: Base) -> Self {
        Self { base, ..Self::default() }
    }

    /// Whether there is any that is known of.
    pub(crate) fn is_any(&self) -> bool {
        self.is_assessed || self.is_power_loss
    }

    pub(crate) fn may_refuse(&self) -> bool {
        self.manifest || !self.shards.is_empty() || self.base.is_missing()
    }

    /// Whether the damage may have taken what was durable there.
    pub(super) fn may_have_taken(&self, at: At) -> bool {
        match at {
            At::Manifest => false,
            At::Block { shard, block } => {
                self.cuts.get(shard).copied().flatten().is_some_and(|cut| cut <= block)
            }
            At::Somewhere => self.cuts.iter().any(Option::is_some),
        }
    }
}

/// `log/<shard>/…`
pub(crate) fn shard_of(path: &str) -> Option<usize> {
    path.strip_prefix("log/")?.split('/').next()?.parse().ok()
}

impl Blocks {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Vec::new()).collect(),
            named: vec![0; shards],
            recycled: vec![0; shards],
            unsure: Vec::new(),
            lied: false,
            blind: false,
            has_rotted: false,
        }
    }

    /// A block was written, or should have been; where what it carries is durable.
    pub(crate) fn wrote(
        &mut self,
        storage: &MemoryStorage,
        write: &BlockWrite,
        at_ms: Option<u64>,
    ) -> At {
        let Some(shard) = shard_of(&write.path) else { return At::Somewhere };
        let range = write.offset as usize..write.offset as usize + write.len;
        if write.failed {
            self.unsure.push(Unsure {
                path: write.path.clone(),
                range,
                accepted: None,
                is_spoilt: false,
            });
            return At::Somewhere;
        }
        self.lied |= write.lied;
        let bytes = (!write.lied).then(|| {
            let file = storage.read_file(&write.path).unwrap_or_default();
            let block = file.get(range).unwrap_or_default();
            let used = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            block[..used].to_vec()
        });
        let names = self.lens();
        let (path, offset, len) = (write.path.clone(), write.offset, write.len);
        self.shards[shard].push(Block {
            path,
            offset,
            len,
            bytes,
            rest: None,
            is_doubtful: false,
            names,
            at_ms,
        });
        At::Block { shard, block: self.shards[shard].len() - 1 }
    }

    /// How many blocks each shard has.
    pub(crate) fn lens(&self) -> Vec<usize> {
        self.shards.iter().map(Vec::len).collect()
    }

    /// When the last block of a segment was written, as far as that is known.
    pub(super) fn ended_ms(&self, path: &str) -> Option<u64> {
        let blocks = &self.shards[shard_of(path)?];
        blocks.iter().filter(|block| block.path == path).filter_map(|block| block.at_ms).max()
    }

    /// What was in a segment is gone.
    pub(crate) fn recycled(&mut self, path: &str) {
        let Some(shard) = shard_of(path) else { return };
        // Segments are written to in the order of their names.
        let gone =
            self.shards[shard].iter().take_while(|block| block.path.as_str() <= path).count();
        self.recycled[shard] = self.recycled[shard].max(gone);
        self.unsure.retain(|unsure| unsure.path != path);
    }

    /// The first block of each shard that an open from there reads.
    fn first_read(&self, base: &Base) -> Vec<usize> {
        self.recycled.iter().zip(&base.begins).map(|(gone, begin)| *gone.max(begin)).collect()
    }

    /// The manifest was replaced.
    pub(crate) fn named_by_manifest(&mut self) {
        self.named = self.lens();
    }

    /// Whether the disk may differ from what it was told.
    pub(crate) fn has_lied(&self) -> bool {
        self.lied
    }

    /// What damage there is, and what it means. `moved` are shards whose files were renamed, removed or
    /// exchanged.
    pub(crate) fn assess(
        &self,
        storage: &MemoryStorage,
        base: Base,
        moved: &BTreeSet<usize>,
        manifest: bool,
    ) -> Damage {
        let conditions: Vec<Vec<Condition>> = self.conditions(storage);
        let first_read = self.first_read(&base);
        let first = |shard: usize, least: Condition| {
            let mut read = conditions[shard].iter().enumerate().skip(first_read[shard]);
            let is_bad =
                |condition: &Condition| *condition == Condition::Damaged || *condition == least;
            read.find(|(_, condition)| is_bad(condition)).map(|(number, _)| number)
        };
        let mut damage = Damage {
            manifest,
            shards: moved.clone(),
            is_assessed: true,
            base,
            ..Damage::default()
        };
        if damage.base.is_missing() {
            damage.must_refuse = Some("no checkpoint is whole, and the log was recycled".into());
            damage.shards.extend(0..self.shards.len());
        }
        if self.blind || self.has_rotted {
            damage.shards.extend(0..self.shards.len());
        }
        let mut begins = damage.base.begins.iter().zip(&self.recycled);
        if damage.base.is_given_up && begins.any(|(begin, gone)| *gone > 0 && begin <= gone) {
            damage.shards.extend(0..self.shards.len());
        }
        if manifest {
            damage.must_refuse = Some("the manifest is damaged".into());
        }
        for (shard, blocks) in self.shards.iter().enumerate() {
            let touched = first(shard, Condition::Touched);
            damage.cuts.push(touched);
            if touched.is_some() || self.touches_unsure(storage, shard) {
                damage.shards.insert(shard);
            }
            // An open looks whether the segments before what it reads are where they belong.
            let mut before = conditions[shard].iter().take(first_read[shard]);
            if before.any(|condition| *condition == Condition::Damaged) {
                damage.shards.insert(shard);
            }
            let Some(damaged) = first(shard, Condition::Damaged) else { continue };
            let mut read = blocks.iter().skip(first_read[shard]);
            damage.is_beyond_repair |= read.any(|block| block.bytes.is_none());
            let of_checkpoint = (damage.base.names[shard] > damaged)
                .then(|| "the checkpoint says that it was durable".to_owned());
            if let Some(witness) = of_checkpoint.or(self.witness(&conditions, shard, damaged)) {
                damage.must_refuse =
                    Some(format!("block {damaged} of shard {shard} is damaged, and {witness}"));
            }
        }
        damage
    }

    /// Power was lost, and nothing was synced since the last open but for a checkpoint: all that neither it
    /// nor the manifest names may be gone.
    pub(crate) fn assess_power_loss(&self, base: Base) -> Damage {
        let durable = self.named.iter().zip(&base.names);
        Damage {
            shards: (0..self.shards.len()).collect(),
            cuts: durable.map(|(named, by_checkpoint)| Some(*named.max(by_checkpoint))).collect(),
            is_power_loss: true,
            base,
            ..Damage::default()
        }
    }

    /// An open cut the shards back to a state that is consistent.
    pub(crate) fn cut_back(&mut self) {
        self.shards.iter_mut().for_each(Vec::clear);
        self.recycled.fill(0);
        self.unsure.clear();
        self.blind = true;
        self.named_by_manifest();
    }

    /// The witnesses that name a block of a shard, or a later one.
    fn witness(
        &self,
        conditions: &[Vec<Condition>],
        shard: usize,
        damaged: usize,
    ) -> Option<String> {
        if self.named[shard] > damaged {
            return Some("the manifest names it".into());
        }
        for (other, blocks) in self.shards.iter().enumerate() {
            for (number, block) in blocks.iter().enumerate() {
                let names = match other == shard {
                    true => number > damaged,
                    false => block.names[shard] > damaged,
                };
                if names && conditions[other][number] == Condition::Intact {
                    return Some(format!(
                        "block {number} of shard {other}, which is intact, names it"
                    ));
                }
            }
        }
        None
    }

    /// Whether every block is known, and as it was written.
    pub(crate) fn are_intact(&self, storage: &MemoryStorage) -> bool {
        if self.blind || self.lied || self.has_rotted {
            return false;
        }
        let mut all = self.conditions(storage).into_iter().flatten();
        all.all(|condition| condition == Condition::Intact)
    }

    fn conditions(&self, storage: &MemoryStorage) -> Vec<Vec<Condition>> {
        let mut files = BTreeMap::new();
        let mut condition = |block: &Block| {
            let Some(bytes) = &block.bytes else { return Condition::Damaged };
            let file: &Vec<u8> = files
                .entry(block.path.clone())
                .or_insert_with(|| storage.read_file(&block.path).unwrap_or_default());
            let start = block.offset as usize;
            let (used, end) = (start + bytes.len(), start + block.len);
            if file.get(start..used) != Some(bytes.as_slice()) {
                return Condition::Damaged;
            }
            let rest = file.get(used..end).unwrap_or_default();
            let is_intact = match &block.rest {
                Some(accepted) => rest == accepted.as_slice(),
                None => rest.len() == end - used && rest.iter().all(|byte| *byte == 0),
            };
            if is_intact { Condition::Intact } else { Condition::Touched }
        };
        let shards = self.shards.iter();
        shards.map(|blocks| blocks.iter().map(&mut condition).collect()).collect()
    }

    /// Whether a block that no caller had an answer from may have been there, and damage may have hit it.
    fn touches_unsure(&self, storage: &MemoryStorage, shard: usize) -> bool {
        let in_shard = self.unsure.iter().filter(|unsure| shard_of(&unsure.path) == Some(shard));
        in_shard.into_iter().any(|unsure| match &unsure.accepted {
            Some(accepted) => unsure.is_spoilt || unsure.read(storage) != *accepted,
            None => true,
        })
    }

    /// An open accepted the medium as it is: shards end where they were damaged.
    pub(crate) fn accepted(&mut self, storage: &MemoryStorage, damage: &Damage) {
        if damage.is_assessed {
            let conditions = self.conditions(storage);
            let first_read = self.first_read(&damage.base);
            let of_shards = self.shards.iter_mut().zip(conditions).zip(first_read);
            for ((blocks, conditions), first_read) in of_shards {
                let is_damaged = |number: &usize| conditions[*number] == Condition::Damaged;
                let end = (first_read..blocks.len()).find(is_damaged);
                blocks.truncate(end.unwrap_or(blocks.len()));
                for (number, block) in blocks.iter_mut().enumerate() {
                    match conditions[number] {
                        // Not read, and so not undone: an open from an older checkpoint will miss it.
                        Condition::Damaged => block.bytes = None,
                        Condition::Touched if number < first_read => block.is_doubtful = true,
                        Condition::Touched => block.accept_rest(storage),
                        Condition::Intact => block.is_doubtful = false,
                    }
                }
            }
            let left = self.shards.iter().zip(&self.recycled);
            self.lied = left
                .flat_map(|(blocks, gone)| blocks.iter().skip(*gone))
                .any(|block| block.bytes.is_none() || block.is_doubtful);
        }
        let first_read = self.first_read(&damage.base);
        for unsure in &mut self.unsure {
            let found = unsure.read(storage);
            let last_unread = shard_of(&unsure.path)
                .and_then(|shard| self.shards[shard].get(first_read[shard].checked_sub(1)?));
            let is_unread = last_unread.is_some_and(|block| unsure.path <= block.path);
            let has_changed = unsure.accepted.as_ref().is_some_and(|accepted| *accepted != found);
            unsure.is_spoilt |= is_unread && has_changed;
            self.has_rotted |= has_changed;
            unsure.accepted = Some(found);
        }
        self.lied |= self.unsure.iter().any(|unsure| unsure.is_spoilt);
        let is_blank = |unsure: &Unsure| unsure.accepted.iter().flatten().all(|byte| *byte == 0);
        self.unsure.retain(|unsure| !is_blank(unsure));
        self.named_by_manifest();
    }
}

impl Unsure {
    fn read(&self, storage: &MemoryStorage) -> Vec<u8> {
        let file = storage.read_file(&self.path).unwrap_or_default();
        file.get(self.range.clone()).unwrap_or_default().to_vec()
    }
}

impl Block {
    /// What was changed there is padding, as an open has shown.
    fn accept_rest(&mut self, storage: &MemoryStorage) {
        let file = storage.read_file(&self.path).unwrap_or_default();
        let from = self.offset as usize + self.bytes.as_ref().map_or(0, Vec::len);
        let until = self.offset as usize + self.len;
        self.rest = Some(file.get(from..until).unwrap_or_default().to_vec());
        self.is_doubtful = false;
    }
}
