//! Makes checksums, hashes and the chain right again after bytes were changed, so that the tests reach the code
//! after these checks. For logs of one shard, because shards name each other's hashes.

const PAGE_BYTES: usize = 4096;
const MAGIC: &[u8] = b"dbrBLOCK";
/// Where the format puts the fields of a block's header.
const SHARDS_AT: usize = 12;
const PAYLOAD_BYTES_AT: usize = 48;
const PREVIOUS_HASH_AT: usize = 80;
const PAYLOAD_CRC_AT: usize = 112;
const HEADER_CRC_AT: usize = 116;
const HEADER_BYTES: usize = 128;
const VECTOR_ENTRY_BYTES: usize = 24;
/// Where the manifest has its marks, and a mark its hash.
const MARKS_AT: usize = 120;
const MARK_HASH_AT: usize = 16;
const HASH_BYTES: usize = 32;

/// Where a checkpoint's head has its fields, and the length of its parts.
const HEAD_SHARDS_AT: usize = 10;
const HEAD_PARTITIONS_AT: usize = 12;
const HEAD_BYTES: usize = 128;
const LANE_BYTES: usize = 16;
const PART_BYTES: usize = 48;
const SPAN_BYTES: usize = 112;
/// Where a span has its two marks.
const SPAN_MARKS_AT: [usize; 2] = [0, 64];
const CHUNK_MAGIC: &[u8] = b"dbrCHUNK";
const CHUNK_PAYLOAD_BYTES_AT: usize = 32;
const CHUNK_PAYLOAD_CRC_AT: usize = 36;
const CHUNK_HEADER_CRC_AT: usize = 40;
const CHUNK_HEADER_BYTES: usize = 56;

fn number<const N: usize>(bytes: &[u8], at: usize) -> usize {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide) as usize
}

/// Returns the blocks of a segment: where each starts, where its sections start, where they end.
pub(crate) fn blocks(segment: &[u8]) -> Vec<[usize; 3]> {
    let pages = (0..segment.len()).step_by(PAGE_BYTES);
    let starts = pages.filter(|at| segment[*at..].starts_with(MAGIC));
    let blocks = starts.filter_map(|at| {
        let header = segment.get(at..at + HEADER_BYTES)?;
        let payload_at = at + HEADER_BYTES + number::<2>(header, SHARDS_AT) * VECTOR_ENTRY_BYTES;
        let end = payload_at + number::<4>(header, PAYLOAD_BYTES_AT);
        (payload_at <= at + PAGE_BYTES && end <= segment.len()).then_some([at, payload_at, end])
    });
    blocks.collect()
}

/// Signs all blocks of a shard's segments, and chains each to the one before it. Returns the hash of each.
pub(crate) fn sign_log<'a>(segments: impl Iterator<Item = &'a mut Vec<u8>>) -> Vec<[u8; 32]> {
    let mut hashes: Vec<[u8; 32]> = Vec::new();
    for segment in segments {
        for [at, payload_at, end] in blocks(segment) {
            let previous = hashes.last().copied().unwrap_or_default();
            let block = &mut segment[at..end];
            let payload_at = payload_at - at;
            block[PREVIOUS_HASH_AT..][..HASH_BYTES].copy_from_slice(&previous);
            if payload_at >= HEADER_BYTES + VECTOR_ENTRY_BYTES {
                block[HEADER_BYTES + 8..][..8].copy_from_slice(&previous[..8]);
            }
            let payload_crc = crc32c::crc32c(&block[payload_at..]);
            block[PAYLOAD_CRC_AT..][..4].copy_from_slice(&payload_crc.to_le_bytes());
            block[HEADER_CRC_AT..][..4].fill(0);
            let header_crc = crc32c::crc32c(&block[..payload_at]);
            block[HEADER_CRC_AT..][..4].copy_from_slice(&header_crc.to_le_bytes());
            hashes.push(*blake3::hash(block).as_bytes());
        }
    }
    hashes
}

/// Makes the manifest of one shard name what the log has, and signs it.
pub(crate) fn sign_manifest(manifest: &mut [u8], hashes: &[[u8; 32]]) {
    let Some(body) = manifest.len().checked_sub(HASH_BYTES) else { return };
    if body >= MARKS_AT + MARK_HASH_AT + HASH_BYTES {
        let last = number::<8>(manifest, MARKS_AT).checked_sub(1);
        if let Some(hash) = last.and_then(|last| hashes.get(last)) {
            manifest[MARKS_AT + MARK_HASH_AT..][..HASH_BYTES].copy_from_slice(hash);
        }
    }
    let hash = *blake3::hash(&manifest[..body]).as_bytes();
    manifest[body..].copy_from_slice(&hash);
}

/// Returns the chunks of a checkpoint: where each starts, where its entries start, where they end.
pub(crate) fn chunks(checkpoint: &[u8]) -> Vec<[usize; 3]> {
    let pages = (0..checkpoint.len()).step_by(PAGE_BYTES);
    let starts = pages.filter(|at| checkpoint[*at..].starts_with(CHUNK_MAGIC));
    let chunks = starts.filter_map(|at| {
        let header = checkpoint.get(at..at + CHUNK_HEADER_BYTES)?;
        let end = at + CHUNK_HEADER_BYTES + number::<4>(header, CHUNK_PAYLOAD_BYTES_AT);
        (end <= checkpoint.len()).then_some([at, at + CHUNK_HEADER_BYTES, end])
    });
    chunks.collect()
}

/// Returns where the spans of a checkpoint's head start, and where they end.
pub(crate) fn spans(checkpoint: &[u8]) -> Option<[usize; 2]> {
    let head = checkpoint.get(..HEAD_BYTES)?;
    let (partitions, shards) =
        (number::<4>(head, HEAD_PARTITIONS_AT), number::<2>(head, HEAD_SHARDS_AT));
    let start = HEAD_BYTES + (partitions + shards) * LANE_BYTES + (partitions + 1) * PART_BYTES;
    let end = start + shards * SPAN_BYTES;
    (end + HASH_BYTES <= checkpoint.len()).then_some([start, end])
}

/// Signs all chunks and the head, and makes it name what the log of one shard has.
pub(crate) fn sign_checkpoint(checkpoint: &mut [u8], hashes: &[[u8; 32]]) {
    for [at, payload_at, end] in chunks(checkpoint) {
        let payload_crc = crc32c::crc32c(&checkpoint[payload_at..end]);
        let header = &mut checkpoint[at..payload_at];
        header[CHUNK_PAYLOAD_CRC_AT..][..4].copy_from_slice(&payload_crc.to_le_bytes());
        header[CHUNK_HEADER_CRC_AT..][..4].fill(0);
        let header_crc = crc32c::crc32c(header);
        header[CHUNK_HEADER_CRC_AT..][..4].copy_from_slice(&header_crc.to_le_bytes());
    }
    let Some([start, end]) = spans(checkpoint) else { return };
    for at in SPAN_MARKS_AT
        .map(|at| start + at)
        .into_iter()
        .filter(|at| at + MARK_HASH_AT + HASH_BYTES <= end)
    {
        let last = number::<8>(checkpoint, at).checked_sub(1);
        if let Some(hash) = last.and_then(|last| hashes.get(last)) {
            checkpoint[at + MARK_HASH_AT..][..HASH_BYTES].copy_from_slice(hash);
        }
    }
    let hash = *blake3::hash(&checkpoint[..end]).as_bytes();
    checkpoint[end..end + HASH_BYTES].copy_from_slice(&hash);
}
