//! The hash by which the engine spreads SKUs and buyers over shards and partitions. The log's format fixes it.

/// The finaliser of MurmurHash3, 64 bits (Austin Appleby, public domain).
pub(crate) fn murmur_finaliser(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}
