//! The manifest: what an open must know before it reads the log, in one small file that is replaced
//! whole (written beside, synced, renamed, folder synced).
//!
//! It is replaced at every open before anything is served, while the engine runs whenever it reserves more
//! order ids, and at close. Replacing it at an open is what makes a cut of a torn tail durable: blocks at or
//! past a shard's mark count only if they carry the manifest's epoch. Reserving order ids changes nothing else.

use std::io;

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::clock::TimeMark;
use crate::error::OpenError;
use crate::ids::PARTITION_BITS;
use crate::log::format::{BlockMark, FORMAT_VERSION, Identity};
use crate::log::reader::Expected;
use crate::mutants::{self, Mutant};
use crate::storage::{Access, Storage, remove_if_there};

pub(crate) const MANIFEST: &str = "MANIFEST";
pub(crate) const MANIFEST_NEW: &str = "MANIFEST.new";
const MAGIC: [u8; 8] = *b"dbrMANIF";
const HASH_BYTES: usize = 32;
/// No version of this crate reserved ids up to a higher sequence.
const SEQUENCE_FLOOR_MAX: u64 = 1 << 55;
/// Far above the largest one; a longer file is damaged.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Fixed {
    magic: [u8; 8],
    version: U16,
    shards: U16,
    partitions: U32,
    engine_id: [u8; 16],
    epoch: U32,
    /// 1: the log may hold something; 0: creating the folder was not finished.
    born: u8,
    /// 0: synced; 1: only written.
    durability: u8,
    reserved: [u8; 2],
    sequence_floor: U64,
    engine_ns: U64,
    boot_ns: U64,
    boot_id: U64,
    more: [u8; 48],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ShardEntry {
    blocks: U64,
    epoch: U32,
    reserved: U32,
    hash: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) engine_id: [u8; 16],
    pub(crate) partitions: u32,
    pub(crate) epoch: u32,
    pub(crate) born: bool,
    pub(crate) synced: bool,
    /// No order id with this sequence or a higher one was ever given (rule R3).
    pub(crate) sequence_floor: u64,
    pub(crate) time: TimeMark,
    /// How far each shard had got when the manifest was written.
    pub(crate) shards: Vec<BlockMark>,
}

impl Manifest {
    /// Returns what the headers of this open's blocks say.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            engine_id: self.engine_id,
            epoch: self.epoch,
            shards: self.shards.len() as u16,
            synced: self.synced,
        }
    }

    /// Returns what a reader of a shard's log must find; `cut_at_damage` as in [`Expected`].
    pub(crate) fn expected(&self, shard: u16, cut_at_damage: bool) -> Expected {
        Expected {
            engine_id: self.engine_id,
            shard,
            shards: self.shards.len() as u16,
            epoch: self.epoch,
            mark: self.shards[usize::from(shard)],
            cut_at_damage,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let fixed = Fixed {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            shards: (self.shards.len() as u16).into(),
            partitions: self.partitions.into(),
            engine_id: self.engine_id,
            epoch: self.epoch.into(),
            born: u8::from(self.born),
            durability: u8::from(!self.synced),
            reserved: [0; 2],
            sequence_floor: self.sequence_floor.into(),
            engine_ns: self.time.engine_ns.into(),
            boot_ns: self.time.boot_ns.into(),
            boot_id: self.time.boot_id.into(),
            more: [0; 48],
        };
        let mut bytes = fixed.as_bytes().to_vec();
        for mark in &self.shards {
            let entry = ShardEntry {
                blocks: mark.blocks.into(),
                epoch: mark.epoch.into(),
                reserved: 0.into(),
                hash: mark.hash,
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    /// Reads a manifest; any bytes return one or a named reason.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let damaged = |what| Err(ManifestError::Damaged(what));
        let Some(body) = bytes.len().checked_sub(HASH_BYTES).map(|end| &bytes[..end]) else {
            return damaged("too short");
        };
        let Ok((fixed, rest)) = Fixed::ref_from_prefix(body) else {
            return damaged("too short");
        };
        if fixed.magic != MAGIC {
            return damaged("no manifest magic");
        }
        if blake3::hash(body).as_bytes() != &bytes[body.len()..] {
            return damaged("its hash differs");
        }
        if fixed.version.get() > FORMAT_VERSION {
            return Err(ManifestError::Newer(fixed.version.get()));
        }
        let Ok(entries) = <[ShardEntry]>::ref_from_bytes(rest) else {
            return damaged("shard marks cut short");
        };
        let partitions = fixed.partitions.get();
        if entries.len() != usize::from(fixed.shards.get())
            || entries.is_empty()
            || !partitions.is_power_of_two()
            || partitions > 1 << PARTITION_BITS
            // There must be a next one.
            || fixed.epoch.get() == u32::MAX
            || fixed.sequence_floor.get() > SEQUENCE_FLOOR_MAX
        {
            return damaged("its shape makes no sense");
        }
        let time = TimeMark {
            engine_ns: fixed.engine_ns.get(),
            boot_ns: fixed.boot_ns.get(),
            boot_id: fixed.boot_id.get(),
        };
        if !time.is_possible() {
            return damaged("its time makes no sense");
        }
        Ok(Self {
            engine_id: fixed.engine_id,
            partitions,
            epoch: fixed.epoch.get(),
            born: fixed.born != 0,
            synced: fixed.durability == 0,
            sequence_floor: fixed.sequence_floor.get(),
            time,
            shards: entries
                .iter()
                .map(|entry| BlockMark {
                    blocks: entry.blocks.get(),
                    epoch: entry.epoch.get(),
                    hash: entry.hash,
                })
                .collect(),
        })
    }

    /// The folder's manifest; `None` when it has none.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Option<Self>, OpenError> {
        let path = storage.root().join(MANIFEST);
        let file = match storage.open(MANIFEST, Access::Cached) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| OpenError::io("open", &path, error))?,
        };
        let io = |error| OpenError::io("read", &path, error);
        let len = file.len().map_err(io)?;
        let corrupt = |damage: &str| OpenError::Corrupt {
            shard: None,
            path: path.clone(),
            offset: 0,
            damage: format!("the manifest is damaged: {damage}"),
        };
        if len > MANIFEST_BYTES_MAX {
            return Err(corrupt("it is far too long"));
        }
        let mut bytes = vec![0; len as usize];
        let read = file.read_at(&mut bytes, 0).map_err(io)?;
        match Self::decode(&bytes[..read]) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(ManifestError::Damaged(damage)) => Err(corrupt(damage)),
            Err(ManifestError::Newer(found)) => {
                Err(OpenError::NewerFormat { path, found, known: FORMAT_VERSION })
            }
        }
    }

    /// Replaces the folder's manifest, durably.
    pub(crate) fn write(&self, storage: &dyn Storage) -> Result<(), OpenError> {
        let replace = || -> io::Result<()> {
            remove_if_there(storage, MANIFEST_NEW)?;
            let file = storage.create(MANIFEST_NEW, Access::Cached)?;
            file.write_durable(&self.encode(), 0)?;
            storage.rename(MANIFEST_NEW, MANIFEST)?;
            if mutants::is(Mutant::SkipsManifestFolderSync) {
                return Ok(());
            }
            storage.sync_folder("")
        };
        replace().map_err(|error| OpenError::io("replace", storage.root().join(MANIFEST), error))
    }
}

/// Why bytes are no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ManifestError {
    Damaged(&'static str),
    Newer(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            engine_id: [7; 16],
            partitions: 64,
            epoch: 3,
            born: true,
            synced: false,
            sequence_floor: 99,
            time: TimeMark { engine_ns: 1, boot_ns: 2, boot_id: 3 },
            shards: vec![BlockMark { blocks: 5, epoch: 2, hash: [9; 32] }; 2],
        }
    }

    #[test]
    fn a_manifest_reads_back_as_written() {
        assert_eq!(Manifest::decode(&manifest().encode()), Ok(manifest()));
    }

    #[test]
    fn any_change_of_any_byte_is_noticed() {
        let bytes = manifest().encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            assert!(Manifest::decode(&changed).is_err(), "byte {at}");
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_manifest_is_named_as_such() {
        let mut bytes = manifest().encode();
        bytes[8..10].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let body = bytes.len() - HASH_BYTES;
        let hash = *blake3::hash(&bytes[..body]).as_bytes();
        bytes[body..].copy_from_slice(&hash);
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Newer(FORMAT_VERSION + 1)));
    }
}
