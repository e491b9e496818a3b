//! Kafka's default placing of keyed records: murmur2 over the key's bytes.
//!
//! Every client of Kafka places by this function, so a record written by one is found by all. Records without a key
//! have no place of their own; who produces them spreads them.

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;

/// The partition that a record with this key belongs to; 0 if there are no partitions.
///
/// ```
/// use headwater_core::record::murmur2_partition;
///
/// assert_eq!(murmur2_partition(b"abc", 4), 3);
/// ```
#[must_use]
pub fn murmur2_partition(key: &[u8], partitions: u32) -> u32 {
    // Kafka makes the hash positive by dropping its sign, not by taking its absolute value.
    (murmur2(key) & 0x7fff_ffff).checked_rem(partitions).unwrap_or(0)
}

fn murmur2(bytes: &[u8]) -> u32 {
    // The reference works on Java ints, so a length wraps as they do.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the reference takes the length as 32 bits"
    )]
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_kafkas() {
        let known = [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_gives_a_partition_and_no_partitions_give_none() {
        assert_eq!(murmur2_partition(b"21", 10), 973_932_308_u32.wrapping_neg() % (1 << 31) % 10);
        assert_eq!(murmur2_partition(b"21", 0), 0);
    }
}
