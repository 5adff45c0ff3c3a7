//! Faults at rest: what happens to a medium that is not in use, and how it is undone.

use std::collections::{BTreeMap, BTreeSet};

use crate::judge::{Damage, list_checkpoints};
use crate::sim::Sim;

/// All files of a shard, by path.
type Files = BTreeMap<String, Vec<u8>>;

/// A shard as it was at some moment.
pub(crate) struct Snapshot {
    shard: usize,
    files: Files,
}

/// What was done to the medium, and what was there before.
pub(crate) struct Injury {
    before: Files,
    /// Shards whose files were renamed, removed or exchanged.
    moved: BTreeSet<usize>,
    manifest: bool,
    pub(crate) checkpoints: bool,
}

impl Injury {
    pub(crate) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }
}

const MANIFEST: &str = "MANIFEST";

impl Sim {
    pub(crate) fn take_snapshot(&mut self) {
        let shard = self.draw.below(self.plan.shape.shards as u64) as usize;
        let files = self.files_of(shard);
        self.snapshots.push(Snapshot { shard, files });
        self.tell(format!("snapshot of shard {shard}"));
    }

    fn files_of(&self, shard: usize) -> Files {
        let folder = format!("log/{shard:02}/");
        let files = self.storage.list_files().into_iter().filter(|path| path.starts_with(&folder));
        files
            .map(|path| (path.clone(), self.storage.read_file(&path).unwrap_or_default()))
            .collect()
    }

    fn checkpoint_files(&self) -> Files {
        let paths = list_checkpoints(&self.storage).into_iter().map(|(_, path)| path);
        paths
            .map(|path| (path.clone(), self.storage.read_file(&path).unwrap_or_default()))
            .collect()
    }

    /// Damages the medium in one way.
    pub(crate) fn injure(&mut self) {
        let shards = self.plan.shape.shards;
        let mut before: Files = (0..shards).flat_map(|shard| self.files_of(shard)).collect();
        if before.is_empty() {
            return;
        }
        before.extend(self.checkpoint_files());
        if let Ok(manifest) = self.storage.read_file(MANIFEST) {
            before.insert(MANIFEST.into(), manifest);
        }
        let mut injury =
            Injury { before, moved: BTreeSet::new(), manifest: false, checkpoints: false };
        let shard = self.draw.below(shards as u64) as usize;
        let what = match self.draw.weighted(&[10, 4, 2, 3, 2, 1, 8]) {
            0 => self.rot(&injury, shard, 1),
            1 => self.rot(&injury, shard, 512),
            2 => self.lose_segment(&mut injury, shard),
            3 => self.roll_back(&mut injury),
            4 => self.swap_shards(&mut injury),
            5 => self.rot_manifest(&mut injury),
            _ => self.injure_checkpoints(&mut injury),
        };
        self.tell(format!("damage: {what}"));
        self.injury = Some(injury);
    }

    /// Flips a bit, or spoils a sector, of one segment: mostly where something was written.
    fn rot(&mut self, injury: &Injury, shard: usize, bytes: usize) -> String {
        let folder = format!("log/{shard:02}/");
        let segments: Vec<_> = injury
            .before
            .iter()
            .filter(|(path, _)| path.starts_with(&folder) && path.ends_with(".segment"))
            .collect();
        let written: Vec<_> =
            segments.iter().filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)).collect();
        let Some((path, content)) = self.draw.pick(&written).copied().copied() else {
            return "none, nothing is written".into();
        };
        let end = content.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let within = if self.draw.percent(90) { end } else { content.len() };
        // The last block is where it matters most.
        let from = if self.draw.percent(50) { within.saturating_sub(4096) } else { 0 };
        let mut at = self.draw.between(from as u64, within as u64 - 1) as usize;
        let mut spoiled = content.clone();
        if bytes == 1 {
            spoiled[at] ^= 1 << self.draw.below(8);
        } else {
            at -= at % bytes;
            let until = (at + bytes).min(spoiled.len());
            let fill = self.draw.next() as u8;
            spoiled[at..until].fill(fill);
        }
        self.write_file(path, &spoiled);
        self.tally.met(if bytes == 1 { "bit rot" } else { "sector rot" });
        format!("{bytes} bytes of {path} at {at} rot")
    }

    fn rot_manifest(&mut self, injury: &mut Injury) -> String {
        let Some(mut bytes) = injury.before.get(MANIFEST).cloned() else {
            return "none, there is no manifest".into();
        };
        let at = self.draw.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << self.draw.below(8);
        self.write_file(MANIFEST, &bytes);
        injury.manifest = true;
        self.tally.met("manifest rot");
        format!("byte {at} of the manifest rots")
    }

    fn lose_segment(&mut self, injury: &mut Injury, shard: usize) -> String {
        let segments: Vec<String> =
            self.files_of(shard).into_keys().filter(|path| path.ends_with(".segment")).collect();
        let Some(path) = self.draw.pick(&segments).cloned() else { return "none".into() };
        injury.moved.insert(shard);
        if self.draw.percent(50) {
            self.storage.remove_file(&path).expect("it was listed");
            self.tally.met("missing segment");
            return format!("{path} is missing");
        }
        let to = match self.draw.percent(50) {
            true => format!("log/{shard:02}/0000000999.segment"),
            false => format!("log/{shard:02}/lost+found"),
        };
        self.storage.rename_file(&path, &to).expect("it was listed");
        self.tally.met("renamed segment");
        format!("{path} is renamed to {to}")
    }

    fn roll_back(&mut self, injury: &mut Injury) -> String {
        if self.snapshots.is_empty() {
            return "none, there is no snapshot".into();
        }
        let nth = self.draw.below(self.snapshots.len() as u64) as usize;
        let Snapshot { shard, files } = self.snapshots.swap_remove(nth);
        injury.moved.insert(shard);
        self.restore(shard, &files);
        self.tally.met("shard rolled back");
        format!("shard {shard} is rolled back")
    }

    fn swap_shards(&mut self, injury: &mut Injury) -> String {
        if self.plan.shape.shards < 2 {
            return "none, there is one shard".into();
        }
        let other = self.draw.between(1, self.plan.shape.shards as u64 - 1) as usize;
        let renamed = |files: Files, from: usize, to: usize| -> Files {
            let (from, to) = (format!("log/{from:02}/"), format!("log/{to:02}/"));
            files.into_iter().map(|(path, bytes)| (path.replace(&from, &to), bytes)).collect()
        };
        let (first, second) = (self.files_of(0), self.files_of(other));
        self.restore(0, &renamed(second, other, 0));
        self.restore(other, &renamed(first, 0, other));
        injury.moved.extend([0, other]);
        self.tally.met("shards exchanged");
        format!("shards 0 and {other} are exchanged")
    }

    /// Makes a shard's folder hold exactly these files.
    fn restore(&self, shard: usize, files: &Files) {
        for path in self.files_of(shard).keys().filter(|path| !files.contains_key(*path)) {
            self.storage.remove_file(path).expect("it was listed");
        }
        files.iter().for_each(|(path, bytes)| self.write_file(path, bytes));
    }

    fn write_file(&self, path: &str, bytes: &[u8]) {
        self.storage.write_file(path, bytes).expect("its folder is there");
    }

    /// Undoes the damage: the operator found a good copy.
    pub(crate) fn heal(&mut self) {
        let Some(injury) = self.injury.take() else { return };
        self.tell("the damage is undone".into());
        for shard in 0..self.plan.shape.shards {
            let folder = format!("log/{shard:02}/");
            let files = injury.before.iter().filter(|(path, _)| path.starts_with(&folder));
            let files = files.map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
            self.restore(shard, &files);
        }
        let checkpoints = injury.before.iter().filter(|(path, _)| path.starts_with("checkpoints/"));
        for (path, bytes) in checkpoints.filter(|_| injury.checkpoints) {
            self.write_file(path, bytes);
        }
        if let Some(manifest) = injury.before.get(MANIFEST) {
            self.write_file(MANIFEST, manifest);
        }
    }

    pub(crate) fn assess(&self) -> Damage {
        let base = self.judge.checkpoints.base(&self.storage, self.plan.shape.shards);
        match &self.injury {
            _ if self.lost_written => self.judge.blocks.assess_power_loss(base),
            None if !self.judge.blocks.has_lied() => Damage::none(base),
            injury => {
                let none = BTreeSet::new();
                let moved = injury.as_ref().map_or(&none, |injury| &injury.moved);
                let manifest = injury.as_ref().is_some_and(|injury| injury.manifest);
                self.judge.blocks.assess(&self.storage, base, moved, manifest)
            }
        }
    }
}
