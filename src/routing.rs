//! Where things belong: a buyer's partition, and the log shard of a SKU, of a merchant, of the engine's switch.
//!
//! All of it is fixed forever, because the log relies on it.

use crate::ids::{BuyerId, MerchantId, SkuId};

/// Returns the partition of a buyer, of `partitions`, a power of two. Fixed forever: the log relies on it.
///
/// Both halves of the id, little-endian, through MurmurHash3's finaliser; the high bits count.
pub(crate) fn partition_of(buyer: BuyerId, partitions: usize) -> usize {
    let bytes = buyer.to_bytes();
    let half = |at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("half of 16 bytes is eight"))
    };
    let hash = mix(half(0) ^ mix(half(8)));
    ((u128::from(hash) * partitions as u128) >> 64) as usize
}

/// Returns the shard that logs a SKU's own records. Fixed forever: the log relies on it.
pub(crate) fn home_shard(sku: SkuId, shards: u16) -> u16 {
    (mix(sku.get()) % u64::from(shards)) as u16
}

/// Returns the shard that logs a merchant's records. Fixed forever: the log relies on it.
pub(crate) fn merchant_shard(merchant: MerchantId, shards: u16) -> u16 {
    (mix(merchant.get()) % u64::from(shards)) as u16
}

/// The shard that logs the engine's switch. Fixed forever: the log relies on it.
pub(crate) const SWITCH_SHARD: u16 = 0;

/// MurmurHash3's 64-bit finaliser: a bijection that spreads every input bit over all output bits.
pub(crate) const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_a_buyer_never_changes() {
        let of = |buyer| partition_of(buyer, 64);
        assert_eq!(of(BuyerId::from_u64(1)), 45);
        assert_eq!(of(BuyerId::from_u64(1_000_003)), 57);
        assert_eq!(of(BuyerId::from_text("alice")), 26);
    }

    #[test]
    fn consecutive_buyers_spread_evenly() {
        let mut buyers = [0_u32; 64];
        (0..64_000).for_each(|buyer| buyers[partition_of(BuyerId::from_u64(buyer), 64)] += 1);
        assert!(buyers.iter().all(|count| (800..1200).contains(count)), "{buyers:?}");
    }
}
