//! The names of segments, and which names a shard's folder may have.

/// The folder that holds the shards' folders.
pub(crate) const LOG_FOLDER: &str = "log";
const PREPARE_PREFIX: &str = "prepare-";

/// How segments are named.
#[derive(Clone, Debug)]
pub(crate) struct SegmentName {
    pub(crate) folder: String,
}

impl SegmentName {
    pub(crate) fn of_shard(shard: u16) -> Self {
        Self { folder: format!("{LOG_FOLDER}/{shard:02}") }
    }

    pub(crate) fn path(&self, ordinal: u64) -> String {
        format!("{}/{ordinal:010}.segment", self.folder)
    }

    pub(super) fn prepare_path(&self, ordinal: u64) -> String {
        format!("{}/{PREPARE_PREFIX}{ordinal:010}", self.folder)
    }

    fn ordinal(name: &str) -> Option<u64> {
        name.strip_suffix(".segment").filter(|digits| digits.len() == 10)?.parse().ok()
    }
}

/// Whether a file was being prepared, and is no segment.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with(PREPARE_PREFIX)
}

/// The folder that some file systems keep in a volume's root. A shard, or the checkpoints, may have a
/// volume of their own.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";

/// The ordinals of a shard's segments, sorted; the first foreign name as an error. Files that were
/// being prepared are not segments yet.
pub(crate) fn ordinals(names: &[String]) -> Result<Vec<u64>, String> {
    let mut ordinals = Vec::new();
    let is_expected = |name: &&String| !is_unfinished(name) && *name != LOST_AND_FOUND;
    for name in names.iter().filter(is_expected) {
        ordinals.push(SegmentName::ordinal(name).ok_or_else(|| name.clone())?);
    }
    ordinals.sort_unstable();
    Ok(ordinals)
}
