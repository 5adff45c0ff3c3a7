//! Damages real files at random: single bytes, numbers, pages, whole files. It prefers the places that the engine
//! relies on.

use std::collections::BTreeMap;

use doorbuster::testing::MemoryStorage;
use fastrand::Rng;

use crate::folder::{MANIFEST, segment};
use crate::forge::{blocks, chunks, sign_checkpoint, sign_log, sign_manifest, spans};

const PAGE_BYTES: usize = 4096;

/// A folder's files by name.
pub(crate) struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    pub(crate) fn of(storage: &MemoryStorage) -> Self {
        let names = storage.list_files().into_iter().filter(|name| name != "LOCK");
        Self(names.map(|name| (name.clone(), storage.read_file(&name).expect("listed"))).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, bytes)| (&**name, &**bytes))
    }

    fn any(&self, random: &mut Rng) -> String {
        let nth = random.u64(..self.0.len() as u64) as usize;
        self.0.keys().nth(nth).expect("below the length").clone()
    }

    /// Damages anything.
    pub(crate) fn spoil(&mut self, random: &mut Rng) {
        let name = self.any(random);
        let other = self.any(random);
        match random.u64(..12) {
            0 if self.0.len() > 1 => drop(self.0.remove(&name)),
            1 => {
                let copy = self.0[&name].clone();
                self.0.insert(other, copy);
            }
            2 => {
                let shard = random.u64(..3) as usize;
                let copy = self.0[&name].clone();
                self.0.insert(segment(shard, random.u64(..6) as usize), copy);
            }
            3 => {
                let bytes = self.0.get_mut(&name).expect("there");
                let len = random.u64(..2 * bytes.len() as u64 + 1) as usize;
                let len = if random.u64(..100) < 50 { len / PAGE_BYTES * PAGE_BYTES } else { len };
                bytes.resize(len, 0);
            }
            4..=6 => {
                let bytes = self.0.get_mut(&name).expect("there");
                let pages = (bytes.len() / PAGE_BYTES) as u64;
                if pages > 0 {
                    let mut page = || random.u64(..pages) as usize * PAGE_BYTES;
                    let (from, to) = (page(), page());
                    match random.u64(..3) {
                        0 => bytes[to..to + PAGE_BYTES].fill(0),
                        1 => bytes.copy_within(from..from + PAGE_BYTES, to),
                        _ => bytes[to..to + PAGE_BYTES].fill_with(|| random.u64(..) as u8),
                    }
                }
            }
            _ => self.spoil_number(&name, random),
        }
    }

    /// Changes numbers in blocks, checkpoints or the manifest, and makes checksums, hashes and the chain right
    /// again.
    pub(crate) fn spoil_signed(&mut self, random: &mut Rng) {
        for _ in 0..1 + random.u64(..3) {
            let name = if random.u64(..100) < 25 { MANIFEST.into() } else { self.any(random) };
            self.spoil_number(&name, random);
        }
        self.sign();
    }

    /// Of a log with one shard.
    pub(crate) fn sign(&mut self) {
        let logs = self.0.iter_mut().filter(|(name, _)| name.starts_with("log/"));
        let hashes = sign_log(logs.map(|(_, bytes)| bytes));
        sign_manifest(self.0.get_mut(MANIFEST).expect("never removed"), &hashes);
        let checkpoints = self.0.iter_mut().filter(|(name, _)| name.starts_with("checkpoints/"));
        checkpoints.for_each(|(_, bytes)| sign_checkpoint(bytes, &hashes));
    }

    /// Replaces a number where a block, a checkpoint or the manifest has some.
    fn spoil_number(&mut self, name: &str, random: &mut Rng) {
        let bytes = self.0.get_mut(name).expect("there");
        let mut blocks = blocks(bytes);
        if name.starts_with("checkpoints/") {
            blocks = chunks(bytes);
            // Damages its head about as often as all chunks together.
            let heads = spans(bytes).into_iter().flat_map(|[spans, end]| [[0, spans, end]; 4]);
            blocks.extend(heads);
        }
        let (start, end) = match blocks.len() as u64 {
            0 => (0, bytes.len()),
            count => {
                let [at, payload_at, end] = blocks[random.u64(..count) as usize];
                // The header, or the sections.
                if random.u64(..100) < 30 { (at, payload_at) } else { (payload_at, end) }
            }
        };
        let width = [1, 1, 2, 4, 4, 8, 8][random.u64(..7) as usize];
        let places = ((end - start) / width) as u64;
        if places == 0 {
            return;
        }
        // Most records begin near the start.
        let place = random.u64(..places).min(if random.u64(..100) < 50 { 16 } else { places - 1 });
        let at = start + place as usize * width;
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(&bytes[at..at + width]);
        let was = u64::from_le_bytes(wide);
        let number = match random.u64(..9) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => was.wrapping_add(1),
            4 => was.wrapping_sub(1),
            5 => was ^ 1 << random.u64(..8 * width as u64),
            6 => (1 << (8 * width as u64 - 1)) - random.u64(..2),
            7 => was.wrapping_add(8 * random.u64(..9)),
            _ => random.u64(..),
        };
        bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
    }
}
