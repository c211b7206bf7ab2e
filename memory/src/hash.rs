//! The two hashes of the engine, stable across versions and platforms because savepoints contain them.
//!
//! # Interface
//! [`hash_u64`] and its inverse [`unhash_u64`]; [`hash_bytes`]; [`key_group`] and [`subtask_of`].
//!
//! # Algorithm
//! Integer keys: two rounds of xor-shift by 32 and multiplication by an odd constant. Every step is a
//! bijection, so a table may keep the hash in the key's place. Bytes: XXH3, 64 bits, seed 0.
//! The top bits choose key group, subtask and directory entry; the 32 low bits the home line in a page.

use xxhash_rust::xxh3::xxh3_64;

const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;
const INVERSE: u64 = inverse(MULTIPLIER);

/// The inverse of an odd number modulo 2^64, by Newton's iteration.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut round = 0;
    while round < 6 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        round += 1;
    }
    x
}

/// The hash of an integer key of up to 64 bits: a bijection with `hash_u64(0) == 0`.
#[inline(always)]
pub const fn hash_u64(key: u64) -> u64 {
    let x = (key ^ (key >> 32)).wrapping_mul(MULTIPLIER);
    (x ^ (x >> 32)).wrapping_mul(MULTIPLIER)
}

/// The key whose hash is `hash`.
#[inline(always)]
pub const fn unhash_u64(hash: u64) -> u64 {
    let x = hash.wrapping_mul(INVERSE);
    let x = (x ^ (x >> 32)).wrapping_mul(INVERSE);
    x ^ (x >> 32)
}

/// The hash of a key's canonical bytes.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The key group of a hash: its top bits, scaled to `max_parallelism` (a power of two).
#[inline(always)]
pub const fn key_group(hash: u64, max_parallelism: u32) -> u32 {
    (((hash >> 32) * max_parallelism as u64) >> 32) as u32
}

/// The subtask that owns a key group, in `[0, parallelism)`.
#[inline(always)]
pub const fn subtask_of(key_group: u32, max_parallelism: u32, parallelism: u32) -> u32 {
    ((key_group as u64 * parallelism as u64) / max_parallelism as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_hash_is_a_bijection() {
        let mut key = 1u64;
        for _ in 0..10_000 {
            assert_eq!(unhash_u64(hash_u64(key)), key);
            key = key
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
        }
        assert_eq!(hash_u64(0), 0);
    }

    /// Savepoints contain these values: they never change.
    #[test]
    fn hashes_are_pinned() {
        let integers = [
            (1, 0x4179_b061_a1b9_50b1),
            (2, 0x1c99_6330_4372_a162),
            (42, 0x63eb_4d09_6dd7_0bfa),
            (0x0123_4567_89ab_cdef, 0x3efd_ea49_fb6d_1ea5),
            (u64::MAX, 0x448e_29ce_909e_1d97),
        ];
        for (key, hash) in integers {
            assert_eq!(hash_u64(key), hash, "key {key}");
        }
        // One length for each branch of XXH3: none, 1 to 3, 4 to 8, 17 to 128, more than 240 bytes.
        let long: Vec<u8> = (0..=255).chain(0..=255).collect();
        let strings: [(&[u8], u64); 5] = [
            (b"", 0x2d06_8005_38d3_94c2),
            (b"a", 0xe6c6_32b6_1e96_4e1f),
            (b"forebay", 0x3794_3e07_b656_4785),
            (
                b"the quick brown fox jumps over the lazy dog",
                0xe454_1a9c_acf5_45aa,
            ),
            (&long, 0x1059_105a_d19b_fa09),
        ];
        for (bytes, hash) in strings {
            assert_eq!(hash_bytes(bytes), hash, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn key_groups_are_pinned() {
        assert_eq!(key_group(0x4179_b061_a1b9_50b1, 128), 32);
        assert_eq!(key_group(0xe6c6_32b6_1e96_4e1f, 128), 115);
        assert_eq!(
            [0, 41, 42, 43, 85, 86, 127].map(|group| subtask_of(group, 128, 3)),
            [0, 0, 0, 1, 1, 2, 2]
        );
    }

    #[test]
    fn key_groups_are_ranges_of_the_hash() {
        assert_eq!(key_group(0, 128), 0);
        assert_eq!(key_group(u64::MAX, 128), 127);
        assert_eq!(subtask_of(127, 128, 3), 2);
        assert!((0..128).map(|group| subtask_of(group, 128, 3)).is_sorted());
    }
}
