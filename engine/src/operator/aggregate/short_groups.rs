//! The groups of short keys in a table that forgets: each key has one place, and whoever comes later takes it.
//!
//! # Interface
//! A [`ShortKey`] of `W` words is made of a key's canonical bytes, up to 8 × `W` − 1 of them. [`ShortGroups::lanes`] gives its lanes;
//! where another key had the place, that one and its lanes are handed out first.
//!
//! # Algorithm
//! A direct-mapped table: one multiplication for each half of the key, one line looked at, no search and no growth. What is
//! frequent is soon back where another key took its place, so of text nine words in ten find their group here; what
//! is handed out is a partial result, which is right wherever it is merged.
//!
//! # Memory
//! The segments that it is opened with, all of the time.
//!
//! # Layout
//! A place has a power of two of words of 8 bytes: those of the key, with its size + 1 in the last byte, 0 where there is
//! none; then the lanes.

use forebay_memory::{Segment, SegmentSource};
use zerocopy::{FromBytes, IntoBytes};

/// A key of at most 8 × `W` − 1 bytes, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShortKey<const W: usize>([u64; W]);

/// Canonical bytes at most of a key of two words, which is loaded without a loop.
const MOST_PAIR: usize = 15;

/// For each size, the bits of a key's two words that are its own.
const OWN_BITS: [[u64; 2]; MOST_PAIR + 1] = {
    let mut bits = [[0; 2]; MOST_PAIR + 1];
    let mut size = 1;
    while size <= MOST_PAIR {
        let own = u128::MAX >> (128 - 8 * size);
        bits[size] = [own as u64, (own >> 64) as u64];
        size += 1;
    }
    bits
};

impl ShortKey<2> {
    /// The key in `buffer[start..start + size]`; nothing where it is too long.
    #[inline(always)]
    pub(super) fn of(buffer: &[u8], start: usize, size: usize) -> Option<Self> {
        if size > MOST_PAIR {
            return None;
        }
        // What follows the key is read with it, where something follows: how long a key is, is hard to foretell.
        let bytes = match buffer.get(start..).and_then(|rest| rest.first_chunk::<16>()) {
            Some(bytes) => *bytes,
            None => {
                let mut bytes = [0; 16];
                bytes[..size].copy_from_slice(&buffer[start..start + size]);
                bytes
            }
        };
        let words = u128::from_le_bytes(bytes);
        let [low, high] = OWN_BITS[size];
        Some(ShortKey::sized(
            words as u64 & low,
            (words >> 64) as u64 & high,
            size,
        ))
    }

    /// The key that is all of `bytes`; nothing where it is too long.
    #[inline(always)]
    pub(super) fn of_all(bytes: &[u8]) -> Option<Self> {
        /// The bytes as a little-endian number, from loads of `N` at both ends that overlap.
        fn ends<const N: usize>(bytes: &[u8]) -> Option<(u64, u64)> {
            let number = |bytes: &[u8; N]| {
                bytes
                    .iter()
                    .rev()
                    .fold(0, |number, byte| number << 8 | u64::from(*byte))
            };
            Some((number(bytes.first_chunk()?), number(bytes.last_chunk()?)))
        }
        let size = bytes.len();
        if size > MOST_PAIR {
            return None;
        }
        let bits = 8 * size as u32;
        let (low, high) = if let Some((first, last)) = ends::<8>(bytes) {
            // Of the last eight bytes, those that are not among the first.
            (first, last.unbounded_shr(128 - bits))
        } else if let Some((first, last)) = ends::<4>(bytes) {
            (first | last << (bits - 32), 0)
        } else if let Some((first, last)) = ends::<2>(bytes) {
            (first | last << (bits - 16), 0)
        } else {
            (bytes.first().map_or(0, |byte| u64::from(*byte)), 0)
        };
        Some(ShortKey::sized(low, high, size))
    }

    #[inline(always)]
    fn sized(low: u64, high: u64, size: usize) -> Self {
        ShortKey([low, high | (size as u64 + 1) << 56])
    }
}

impl<const W: usize> ShortKey<W> {
    /// The key that is all of `bytes`, word by word; nothing where it is too long.
    #[inline]
    pub(super) fn of_words(bytes: &[u8]) -> Option<Self> {
        if bytes.len() >= 8 * W {
            return None;
        }
        let mut words = [0; W];
        let (whole, rest) = bytes.as_chunks::<8>();
        for (word, bytes) in words.iter_mut().zip(whole) {
            *word = u64::from_le_bytes(*bytes);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words[whole.len()] = u64::from_le_bytes(last);
        words[W - 1] |= (bytes.len() as u64 + 1) << 56;
        Some(ShortKey(words))
    }

    /// Whether it is none: what a place has while it is free.
    #[inline(always)]
    fn is_none(&self) -> bool {
        self.0[W - 1] == 0
    }

    /// Calls `then` with the key's canonical bytes.
    #[inline(always)]
    pub(super) fn with_bytes<T>(&self, then: impl FnOnce(&[u8]) -> T) -> T {
        let size = (self.0[W - 1] >> 56) as usize - 1;
        then(&self.0.as_bytes()[..size])
    }

    /// 32 bits that are evenly spread over keys.
    #[inline(always)]
    fn spread(&self) -> u64 {
        let mixed = self.0.iter().fold(0u64, |mixed, word| {
            (mixed.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        (mixed ^ mixed >> 32) & 0xffff_ffff
    }
}

/// Lanes for short keys, as many as there are places for.
pub(super) struct ShortGroups<const W: usize> {
    segments: Vec<Segment>,
    lanes: usize,
    /// Words of a place.
    place_words: usize,
    /// Places in all, and in each segment as a power of two.
    places: u64,
    segment_bits: u32,
    groups: usize,
}

/// A key that had to leave, with its lanes.
pub(super) struct Evicted<'a, const W: usize> {
    pub(super) key: ShortKey<W>,
    pub(super) lanes: &'a [u64],
}

impl<const W: usize> ShortGroups<W> {
    /// A table without memory, for groups of `lanes` lanes.
    pub(super) fn new(lanes: usize) -> Self {
        ShortGroups {
            segments: Vec::new(),
            lanes,
            place_words: (W + lanes).next_power_of_two(),
            places: 0,
            segment_bits: 0,
            groups: 0,
        }
    }

    /// Takes up to `most` segments; false where there are none.
    pub(super) fn open(&mut self, source: &dyn SegmentSource, most: usize) -> bool {
        let places = source.segment_size() / (8 * self.place_words);
        self.segment_bits = places.ilog2();
        while self.segments.len() < most {
            let Some(mut segment) = source.try_take() else {
                break;
            };
            segment.fill(0);
            self.segments.push(segment);
        }
        self.places = (self.segments.len() << self.segment_bits) as u64;
        self.is_open()
    }

    /// Whether the table has memory.
    pub(super) fn is_open(&self) -> bool {
        self.places > 0
    }

    /// Gives the memory back, and forgets what is in it.
    pub(super) fn close(&mut self) {
        self.segments = Vec::new();
        (self.places, self.groups) = (0, 0);
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.groups
    }

    /// Calls `fold` with the key's lanes, all zero where it is new. `evict` is called before that where another key had the
    /// place.
    ///
    /// # Panics
    /// Where the table is not open.
    #[inline(always)]
    pub(super) fn update(
        &mut self,
        key: ShortKey<W>,
        fold: impl FnOnce(&mut [u64], bool),
        evict: impl FnOnce(Evicted<'_, W>),
    ) {
        let place = ((key.spread() * self.places) >> 32) as usize;
        let segment = &mut self.segments[place >> self.segment_bits];
        let words = words_of(segment);
        let start = (place & ((1 << self.segment_bits) - 1)) * self.place_words;
        let place = &mut words[start..start + self.place_words];
        let (own, lanes) = place
            .split_first_chunk_mut::<W>()
            .expect("a place has a key and lanes");
        let lanes = &mut lanes[..self.lanes];
        let is_new = *own != key.0;
        if is_new {
            let before = ShortKey(*own);
            if before.is_none() {
                self.groups += 1;
            } else {
                evict(Evicted { key: before, lanes });
            }
            *own = key.0;
            lanes.fill(0);
        }
        fold(lanes, is_new);
    }

    /// Visits the groups of the places from `next` on, up to `limit` of them, and moves `next` behind them; false where
    /// that was the last place. Groups that were visited stay.
    pub(super) fn visit(
        &mut self,
        next: &mut usize,
        limit: usize,
        mut visit: impl FnMut(Evicted<'_, W>),
    ) -> bool {
        let mut visited = 0;
        while *next < self.places as usize && visited < limit {
            let words = words_of(&mut self.segments[*next >> self.segment_bits]);
            let start = (*next & ((1 << self.segment_bits) - 1)) * self.place_words;
            let key = words[start..].first_chunk().expect("a place has a key");
            let key = ShortKey(*key);
            if !key.is_none() {
                let lanes = start + W;
                visit(Evicted {
                    key,
                    lanes: &words[lanes..lanes + self.lanes],
                });
                visited += 1;
            }
            *next += 1;
        }
        *next < self.places as usize
    }
}

#[inline(always)]
fn words_of(segment: &mut Segment) -> &mut [u64] {
    <[u64]>::mut_from_bytes(segment).expect("segments are aligned and whole words")
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_memory::MemoryManager;
    use forebay_memory::hash::hash_u64;
    use std::collections::HashMap;

    fn key(bytes: &[u8]) -> Option<ShortKey<2>> {
        let key = ShortKey::of_all(bytes);
        assert_eq!(key, ShortKey::of_words(bytes));
        key
    }

    #[test]
    fn keys_are_their_bytes_whatever_lies_around_them() {
        let buffer: Vec<u8> = (0..40u8).map(|byte| byte.wrapping_mul(7)).collect();
        for start in 0..buffer.len() {
            for size in 0..=buffer.len() - start {
                let bytes = &buffer[start..start + size];
                let key = ShortKey::of(&buffer, start, size);
                assert_eq!(key, self::key(bytes), "{start}, {size}");
                match key {
                    Some(key) => key.with_bytes(|own| assert_eq!(own, bytes)),
                    None => assert!(size > MOST_PAIR),
                }
                match ShortKey::<5>::of_words(bytes) {
                    Some(key) => key.with_bytes(|own| assert_eq!(own, bytes)),
                    None => assert!(size > 39),
                }
            }
        }
        // Zeros at the end count.
        assert_ne!(key(b""), key(b"\0"));
        assert_ne!(key(b"a"), key(b"a\0"));
    }

    /// What was evicted and what is left add up to what a map counts.
    #[test]
    fn nothing_is_lost_where_keys_take_the_place_of_others() {
        nothing_is_lost::<2>();
        nothing_is_lost::<5>();
    }

    fn nothing_is_lost<const W: usize>() {
        const SEGMENT: usize = 4096;
        let manager = MemoryManager::with_segments(16 * SEGMENT, 0, SEGMENT).expect("a pool");
        for (seed, lanes) in [(1, 1), (2, 2), (3, 3), (4, 16)] {
            let budget = manager.budget("short groups", 1, 8).expect("segments");
            let mut groups = ShortGroups::<W>::new(lanes);
            assert!(groups.open(&budget, 3), "there is memory");
            assert_eq!(budget.held(), 3);
            let (mut counted, mut expected) = (HashMap::new(), HashMap::new());
            let mut evictions = 0;
            for row in 0..20_000u64 {
                let draw = hash_u64(seed << 32 | row);
                // Few keys often, many rarely; of any size, and some that differ in zeros alone.
                let number = if draw.is_multiple_of(3) {
                    draw >> 8 & 0xfff
                } else {
                    draw >> 8 & 0xf
                };
                let bytes = hash_u64(number).to_le_bytes();
                let bytes = &[bytes, [0; 8]].concat()[..(number % 16) as usize];
                *expected.entry(bytes.to_vec()).or_insert(0) += row;
                groups.update(
                    ShortKey::of_words(bytes).expect("a short key"),
                    |lanes, is_new| {
                        assert!(!is_new || lanes.iter().all(|lane| *lane == 0));
                        lanes.iter_mut().for_each(|lane| *lane += row);
                    },
                    |group| {
                        evictions += 1;
                        add(&mut counted, group);
                    },
                );
            }
            let (mut next, mut left) = (0, 0);
            while groups.visit(&mut next, 10, |group| {
                left += 1;
                add(&mut counted, group);
            }) {}
            assert_eq!(left, groups.len());
            assert!(evictions > 0, "seed {seed}: keys met");
            assert_eq!(counted, expected, "seed {seed}");
            groups.close();
            assert_eq!((groups.len(), groups.is_open(), budget.held()), (0, false, 0));
        }
        assert_eq!(manager.stats().managed_held, 0);
    }

    fn add<const W: usize>(counted: &mut HashMap<Vec<u8>, u64>, group: Evicted<'_, W>) {
        assert!(group.lanes.iter().all(|lane| *lane == group.lanes[0]));
        let key = group.key.with_bytes(<[u8]>::to_vec);
        *counted.entry(key).or_insert(0) += group.lanes[0];
    }
}
