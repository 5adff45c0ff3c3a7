//! The folder of an engine: whether it is one, and how it becomes one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::{self, CHECKPOINT_FOLDER};
use crate::clock::TimeMark;
use crate::error::OpenError;
use crate::log::{
    BlockMark, LOG_FOLDER, LOST_AND_FOUND, MANIFEST, MANIFEST_NEW, Manifest, SegmentName,
};
use crate::storage::{Access, ReadOnly, Storage};

/// The folder that is recovered: how its files are reached, and how errors name them.
pub(crate) struct Folder {
    pub(super) storage: Arc<dyn Storage>,
    root: PathBuf,
    /// How files of the log are opened.
    pub(super) access: Access,
}

impl Folder {
    pub(crate) fn new(storage: &Arc<dyn Storage>, access: Access) -> Self {
        Self { root: storage.root(), storage: storage.clone(), access }
    }

    /// Returns the folder of an engine that is not running, for reading alone. A folder that is not there is held by
    /// its name, so that the caller finds out which file is missing.
    pub(super) fn read_only(storage: &Arc<dyn Storage>) -> Result<Self, OpenError> {
        let held = ReadOnly::hold(storage);
        let held = held.map_err(|error| OpenError::io("open", storage.root(), error))?;
        Ok(Self::new(&held, Access::Direct))
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }

    /// Returns the path of one of the folder's files, or with an empty name its own, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    /// Returns the error of a call to the system about a file.
    pub(super) fn io(&self, operation: &'static str, name: &str, source: io::Error) -> OpenError {
        OpenError::io(operation, self.path(name), source)
    }

    /// Returns the error of a file that is not what it should be.
    pub(super) fn corrupt(
        &self,
        shard: Option<u16>,
        name: &str,
        offset: u64,
        damage: impl Into<String>,
    ) -> OpenError {
        OpenError::Corrupt { shard, path: self.path(name), offset, damage: damage.into() }
    }

    /// Returns the error of a segment of the log that is not what it should be.
    pub(super) fn corrupt_segment(
        &self,
        shard: u16,
        (ordinal, offset): (u64, u64),
        damage: impl Into<String>,
    ) -> OpenError {
        let name = SegmentName::of_shard(shard).path(ordinal);
        self.corrupt(Some(shard), &name, offset, damage)
    }

    fn without_manifest(&self, damage: &str) -> OpenError {
        self.corrupt(None, MANIFEST, 0, damage)
    }

    /// Returns the manifest of a folder that has one.
    pub(super) fn manifest(&self) -> Result<Manifest, OpenError> {
        let manifest = Manifest::read(self.storage())?;
        manifest.ok_or_else(|| self.without_manifest("there is no manifest"))
    }

    /// Returns the manifest of a folder whose making was finished.
    pub(super) fn finished_manifest(&self) -> Result<Manifest, OpenError> {
        let manifest = self.manifest()?;
        match manifest.born {
            true => Ok(manifest),
            false => Err(self.without_manifest(
                "the making of the folder was not finished; nothing was served from it",
            )),
        }
    }
}

/// The file that is locked.
pub(super) const LOCK: &str = "LOCK";

/// Whether the names in the root are an engine's.
pub(super) fn check_names(folder: &Folder, names: &[String]) -> Result<(), OpenError> {
    let has = |name: &str| names.iter().any(|other| other == name);
    let ours = [MANIFEST, MANIFEST_NEW, LOCK, LOG_FOLDER, CHECKPOINT_FOLDER, LOST_AND_FOUND];
    let foreign = names.iter().find(|name| !ours.contains(&name.as_str()));
    if let Some(found) = foreign.filter(|_| !has(MANIFEST)) {
        return Err(OpenError::NotAnEngine { path: folder.path(""), found: found.clone() });
    }
    let left = [LOG_FOLDER, CHECKPOINT_FOLDER].into_iter().find(|folder| has(folder));
    if let Some(left) = left.filter(|_| !has(MANIFEST)) {
        let damage = match left {
            LOG_FOLDER => "the manifest is missing; there is a log",
            _ => "the manifest is missing; there are checkpoints",
        };
        return Err(folder.without_manifest(damage));
    }
    Ok(())
}

/// Makes a folder an engine's: a manifest that says it is not finished, folders, and (by the caller)
/// a manifest that says it is.
pub(super) fn create(
    folder: &Folder,
    (partitions, shards): (usize, usize),
    synced: bool,
    unfinished: Option<Manifest>,
) -> Result<Manifest, OpenError> {
    let storage = folder.storage();
    if !checkpoint::list(storage)?.is_empty() {
        let damage = "the manifest says that nothing was served; there are checkpoints";
        return Err(folder.without_manifest(damage));
    }
    let manifest = Manifest {
        engine_id: random_id(),
        partitions: partitions as u32,
        epoch: unfinished.map_or(0, |manifest| manifest.epoch),
        born: false,
        synced,
        sequence_floor: 0,
        time: TimeMark::default(),
        shards: vec![BlockMark::default(); shards],
    };
    manifest.write(storage)?;
    let make = |part: &str| -> Result<(), OpenError> {
        let io = |error| folder.io("create", part, error);
        storage.create_folder(part).map_err(io)?;
        for name in storage.list(part).map_err(io)? {
            let path = format!("{part}/{name}");
            let is_shard = part == LOG_FOLDER;
            // Left by an attempt that was not finished; it never served anyone.
            if !is_shard && name != LOST_AND_FOUND {
                storage.remove(&path).map_err(io)?;
            }
        }
        storage.sync_folder(part).map_err(io)
    };
    make(LOG_FOLDER)?;
    for shard in 0..shards {
        make(&SegmentName::of_shard(shard as u16).folder)?;
    }
    for part in [LOG_FOLDER, ""] {
        storage.sync_folder(part).map_err(|error| folder.io("sync", part, error))?;
    }
    Ok(manifest)
}

fn random_id() -> [u8; 16] {
    // Each `RandomState` is seeded from the operating system.
    let half = || ahash::RandomState::new().hash_one(0_u8).to_le_bytes();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&half());
    id[8..].copy_from_slice(&half());
    id
}

/// Partitions and shards are fixed when a folder is created.
pub(super) fn check_shape(
    folder: &Folder,
    partitions: Option<usize>,
    log_shards: Option<usize>,
    manifest: &Manifest,
) -> Result<(), OpenError> {
    let check = |field, asked: Option<usize>, found: usize| match asked {
        Some(asked) if asked != found => Err(OpenError::ShapeMismatch {
            field,
            asked: asked as u64,
            found: found as u64,
            path: folder.path(""),
        }),
        _ => Ok(()),
    };
    check("partitions", partitions, manifest.partitions as usize)?;
    check("log_shards", log_shards, manifest.shards.len())
}
