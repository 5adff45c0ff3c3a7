//! The folder of an engine: whether it is one, and how it becomes one.

use crate::checkpoint::{self, CHECKPOINT_FOLDER};
use crate::clock::TimeMark;
use crate::error::OpenError;
use crate::log::{
    BlockMark, LOG_FOLDER, LOST_AND_FOUND, MANIFEST, MANIFEST_NEW, Manifest, SegmentName,
};
use crate::options::{Durability, Options};
use crate::recovery::segments;

/// The file that is locked.
pub(super) const LOCK: &str = "LOCK";

/// Whether the names in the root are an engine's.
pub(super) fn check_names(options: &Options, names: &[String]) -> Result<(), OpenError> {
    let has = |name: &str| names.iter().any(|other| other == name);
    let ours = [MANIFEST, MANIFEST_NEW, LOCK, LOG_FOLDER, CHECKPOINT_FOLDER, LOST_AND_FOUND];
    let foreign = names.iter().find(|name| !ours.contains(&name.as_str()));
    if let Some(found) = foreign.filter(|_| !has(MANIFEST)) {
        return Err(OpenError::NotAnEngine { path: options.folder(), found: found.clone() });
    }
    let left = [LOG_FOLDER, CHECKPOINT_FOLDER].into_iter().find(|folder| has(folder));
    if let Some(folder) = left.filter(|_| !has(MANIFEST)) {
        let damage = match folder {
            LOG_FOLDER => "the manifest is missing; there is a log",
            _ => "the manifest is missing; there are checkpoints",
        };
        let path = options.folder().join(MANIFEST);
        return Err(OpenError::Corrupt { shard: None, path, offset: 0, damage: damage.into() });
    }
    Ok(())
}

/// Makes a folder an engine's: a manifest that says it is not finished, folders, and (by the caller)
/// a manifest that says it is.
pub(super) fn create(
    options: &Options,
    unfinished: Option<Manifest>,
) -> Result<Manifest, OpenError> {
    let storage = options.storage.as_ref();
    if !checkpoint::list(storage)?.is_empty() {
        let damage = "the manifest says that nothing was served; there are checkpoints".into();
        let path = options.folder().join(MANIFEST);
        return Err(OpenError::Corrupt { shard: None, path, offset: 0, damage });
    }
    let (partitions, shards) = options.shape_for_new_folder();
    let manifest = Manifest {
        engine_id: random_id(),
        partitions: partitions as u32,
        epoch: unfinished.map_or(0, |manifest| manifest.epoch),
        born: false,
        synced: options.durability == Durability::Synced,
        sequence_floor: 0,
        time: TimeMark::default(),
        shards: vec![BlockMark::default(); shards],
    };
    manifest.write(storage)?;
    let root = options.folder();
    let make = |folder: &str| -> Result<(), OpenError> {
        let io = |error| OpenError::io("create", root.join(folder), error);
        storage.create_folder(folder).map_err(io)?;
        for name in storage.list(folder).map_err(io)? {
            let path = format!("{folder}/{name}");
            let is_shard = folder == LOG_FOLDER;
            // Left by an attempt that was not finished; it never served anyone.
            if !is_shard && name != LOST_AND_FOUND {
                storage.remove(&path).map_err(io)?;
            }
        }
        storage.sync_folder(folder).map_err(io)
    };
    make(LOG_FOLDER)?;
    for shard in 0..shards {
        make(&SegmentName::of_shard(shard as u16).folder)?;
    }
    for folder in [LOG_FOLDER, ""] {
        storage
            .sync_folder(folder)
            .map_err(|error| OpenError::io("sync", root.join(folder), error))?;
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

/// The manifest and the log's files of a folder in which an engine was made, changing nothing.
pub(super) fn look_at(options: &Options) -> Result<(Manifest, Vec<Vec<u64>>), OpenError> {
    let manifest = Manifest::read(options.storage.as_ref())?;
    let manifest = manifest.ok_or_else(|| without_manifest(options, "there is no manifest"))?;
    check_shape(options, &manifest)?;
    let files = segments::list(options, &manifest)?;
    Ok((manifest, files))
}

/// The manifest of a folder that was made to its end, changing nothing.
pub(super) fn finished_manifest(options: &Options) -> Result<Manifest, OpenError> {
    let manifest = Manifest::read(options.storage.as_ref())?;
    let manifest = manifest.ok_or_else(|| without_manifest(options, "there is no manifest"))?;
    if !manifest.born {
        let damage = "the making of the folder was not finished; nothing was served from it";
        return Err(without_manifest(options, damage));
    }
    check_shape(options, &manifest)?;
    Ok(manifest)
}

fn without_manifest(options: &Options, damage: &str) -> OpenError {
    let path = options.folder().join(MANIFEST);
    OpenError::Corrupt { shard: None, path, offset: 0, damage: damage.into() }
}

/// Partitions and shards are fixed when a folder is created.
pub(super) fn check_shape(options: &Options, manifest: &Manifest) -> Result<(), OpenError> {
    let check = |field, asked: Option<usize>, found: usize| match asked {
        Some(asked) if asked != found => Err(OpenError::ShapeMismatch {
            field,
            asked: asked as u64,
            found: found as u64,
            path: options.folder(),
        }),
        _ => Ok(()),
    };
    check("partitions", options.partitions, manifest.partitions as usize)?;
    check("log_shards", options.log_shards, manifest.shards.len())
}
