//! Which keys of spilled partitions come so often that they are worth a group in memory.
//!
//! # Interface
//! [`HotKeys::touch`] counts a row's hash and says whether its key is hot; [`HotKeys::watches`] says of each chunk whether its rows
//! are to be counted at all, [`HotKeys::is_on`] whether what is hot is to be folded. Nothing depends on the answers but speed: a row that
//! is folded into a group of a spilled partition and one that goes to its log are merged in the end.
//!
//! # Algorithm
//! Misra and Gries' frequent items (1982), in buckets of four: a hash that has an entry adds one to it, one that has none takes
//! one from an entry of its bucket, and its place at zero. So an entry stays whose key has more than its share of the rows that have
//! none: of Zipf-distributed keys about the most frequent ones. A key is hot from its second row in the entry on.
//! Where few rows are of hot keys, one chunk in 4 is counted, later one in 64, and none is folded.
//!
//! # Memory
//! 4 bytes an entry, in segments; as many entries as groups have room in a quarter of the memory.
//!
//! # Layout
//! ```text
//! 0  hot (bit 7), rows (0: free)      1  bits 24 to 47 of the hash
//! ```
//! The bucket is the hash's low bits: tables and partitions begin with the high ones.
//!
//! # Cost
//! A line of a second-level cache for each row that is counted.

use super::groups::{Chunk, Key};
use forebay_memory::pages::prefetch_line;
use forebay_memory::{Segment, SegmentSource};

/// Entries of a bucket.
const WAYS: usize = 4;
const BUCKET: usize = 4 * WAYS;

/// Rows in its entry with which a key becomes hot.
const HOT_FROM: u32 = 2;

const HOT: u32 = 0x80;
const ROWS: u32 = 0x7f;

/// One chunk in so many is counted where few rows are of hot keys: more and more rarely.
const LEAST_WATCHED: u32 = 4;
const MOST_WATCHED: u32 = 64;

/// Keys whose lines are fetched ahead.
const AHEAD: usize = 8;

/// Rows between two looks at how many were of hot keys.
const JUDGED_ROWS: u32 = 2 << 10;

/// Rows of hot keys are folded from one in so many on, and no longer below one in so many.
const ON_FROM: u32 = 10;
const OFF_BELOW: u32 = 16;

/// How often buffers of logs are given up for a page of hot keys.
const MOST_DENIALS: u32 = 100;

/// The most entries: 24 bits of the hash find a bucket.
const MOST_ENTRIES: usize = 1 << 24;

/// See the module.
pub(super) struct HotKeys {
    segments: Vec<Segment>,
    /// Entries in use, a power of two; those of a segment.
    entries: usize,
    in_segment_bits: u32,
    /// Which of its entries a full bucket takes one from: in turn.
    turn: usize,
    /// Keys that were hot and lost their entry since [`HotKeys::forget_groups`]: their groups are not used any more.
    left: usize,
    rows: u32,
    hits: u32,
    chunks: u32,
    /// One chunk in so many is counted.
    watched: u32,
    is_on: bool,
    was_on: bool,
    /// How often there was no memory for the first group.
    denials: u32,
}

impl HotKeys {
    /// Entries for `groups` groups or less, in a sixteenth of the memory at most; none where there is no memory for it.
    pub(super) fn new(source: &dyn SegmentSource, memory: usize, groups: usize) -> Option<HotKeys> {
        let size = source.segment_size();
        let most = (memory / 16).max(1) * (size / 4);
        let entries = 1usize << groups.min(most).clamp(WAYS, MOST_ENTRIES).ilog2();
        let count = (4 * entries).div_ceil(size);
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            let mut segment = source.try_take()?;
            segment.fill(0);
            segments.push(segment);
        }
        Some(HotKeys {
            segments,
            entries,
            in_segment_bits: (size / BUCKET).ilog2(),
            turn: 0,
            left: 0,
            rows: 0,
            hits: 0,
            chunks: 0,
            watched: LEAST_WATCHED,
            is_on: false,
            was_on: false,
            denials: 0,
        })
    }

    /// Whether rows of hot keys are to be folded.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether they ever were, so that there may be groups of hot keys.
    pub(super) fn was_on(&self) -> bool {
        self.was_on
    }

    /// Whether the rows of the next chunk are to be counted.
    pub(super) fn watches(&mut self) -> bool {
        self.chunks = self.chunks.wrapping_add(1);
        self.is_on || self.chunks.is_multiple_of(self.watched)
    }

    /// Counts the rows of keys; answers how many are of hot ones. Those go from `keys` to the chunk where rows of hot keys are
    /// folded: all rows of a key or none where they are to be folded in order.
    pub(super) fn touch_all(&mut self, keys: &mut Vec<Key>, chunk: &mut Chunk, is_ordered: bool) -> usize {
        let takes = self.is_on;
        if takes && is_ordered {
            let hits = keys.iter().filter(|key| self.touch(key.hash)).count();
            keys.retain(|key| {
                let is_hot = self.is_hot(key.hash);
                if is_hot {
                    chunk.push(*key);
                }
                !is_hot
            });
            return hits;
        }
        let (mut hits, mut rest) = (0, 0);
        for place in 0..keys.len() {
            if let Some(ahead) = keys.get(place + AHEAD) {
                let (segment, start) = self.bucket(ahead.hash);
                prefetch_line(&self.segments[segment][start..]);
            }
            let key = keys[place];
            let is_hot = self.touch(key.hash);
            hits += usize::from(is_hot);
            if is_hot && takes {
                chunk.push(key);
            } else {
                keys[rest] = key;
                rest += 1;
            }
        }
        keys.truncate(rest);
        hits
    }

    /// Whether a key is hot as of now.
    fn is_hot(&self, hash: u64) -> bool {
        let (segment, start) = self.bucket(hash);
        let places = self.segments[segment][start..start + BUCKET].as_chunks::<4>().0;
        let tag = (hash >> 24) as u32 & 0xff_ffff;
        places.iter().any(|place| {
            let entry = u32::from_le_bytes(*place);
            entry >> 8 == tag && entry & HOT != 0
        })
    }

    /// The segment of a hash's bucket, and where it begins.
    #[inline(always)]
    fn bucket(&self, hash: u64) -> (usize, usize) {
        let bucket = hash as usize & (self.entries / WAYS - 1);
        let in_segment = bucket & ((1 << self.in_segment_bits) - 1);
        (bucket >> self.in_segment_bits, in_segment * BUCKET)
    }

    /// Counts a row; whether its key is hot.
    #[inline(always)]
    fn touch(&mut self, hash: u64) -> bool {
        let (segment, start) = self.bucket(hash);
        let places = self.segments[segment][start..start + BUCKET]
            .as_chunks_mut::<4>()
            .0;
        let tag = (hash >> 24) as u32 & 0xff_ffff;
        let mut found = 0;
        for (index, place) in places.iter().enumerate() {
            found |= u32::from(u32::from_le_bytes(*place) >> 8 == tag) << index;
        }
        if found != 0 {
            let place = &mut places[found.trailing_zeros() as usize];
            let entry = u32::from_le_bytes(*place);
            let rows = ((entry & ROWS) + 1).min(ROWS);
            let hot = if rows >= HOT_FROM { HOT } else { entry & HOT };
            *place = (tag << 8 | hot | rows).to_le_bytes();
            return hot != 0;
        }
        self.turn = (self.turn + 1) % WAYS;
        let place = &mut places[self.turn];
        let entry = u32::from_le_bytes(*place);
        let is_taken = entry & ROWS <= 1;
        self.left += usize::from(is_taken && entry & HOT != 0);
        *place = if is_taken { tag << 8 | 1 } else { entry - 1 }.to_le_bytes();
        false
    }

    /// Says how many rows of a chunk were counted, and how many of them were of hot keys.
    pub(super) fn judge(&mut self, rows: usize, hits: usize) {
        self.rows += rows as u32;
        self.hits += hits as u32;
        if self.rows < JUDGED_ROWS {
            return;
        }
        let one_in = if self.is_on { OFF_BELOW } else { ON_FROM };
        self.is_on = self.hits.saturating_mul(one_in) >= self.rows;
        self.was_on |= self.is_on;
        self.watched = match self.is_on {
            true => LEAST_WATCHED,
            false => (2 * self.watched).min(MOST_WATCHED),
        };
        (self.rows, self.hits) = (0, 0);
    }

    /// Whether so many groups have lost their entries that those in memory are to be written.
    pub(super) fn has_old_groups(&self) -> bool {
        self.left > self.entries / 2
    }

    /// Says that the groups of hot keys have been written.
    pub(super) fn forget_groups(&mut self) {
        self.left = 0;
    }

    /// Says that there was no memory for the first group; false where that has been so too often.
    pub(super) fn is_denied(&mut self) -> bool {
        self.denials += 1;
        self.denials < MOST_DENIALS
    }

    /// Goes on with half as many entries; false where that is none that is worth it.
    pub(super) fn halve(&mut self) -> bool {
        self.entries /= 2;
        self.segments
            .truncate((4 * self.entries).div_ceil(self.segments[0].len()));
        self.segments.iter_mut().for_each(|segment| segment.fill(0));
        self.left = 0;
        self.entries > 4 * WAYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_memory::MemoryManager;
    use forebay_memory::hash::hash_u64;

    fn hot_keys(groups: usize) -> HotKeys {
        let manager = MemoryManager::with_segments(16, 0, 4096).expect("a pool");
        let budget = manager.budget("hot keys", 1, 16).expect("segments");
        HotKeys::new(&budget, 16, groups).expect("there is a segment")
    }

    /// A key that has one row in ten stays hot among others that never come again, and one in a thousand is found.
    #[test]
    fn frequent_keys_are_hot_and_others_are_not() {
        let mut hot = hot_keys(1024);
        let (mut found, mut rare, mut others) = (0, 0, 0);
        for row in 0..100_000u64 {
            let is_hot = |hot: &mut HotKeys, key: u64| usize::from(hot.touch(hash_u64(key)));
            match row {
                _ if row % 10 == 0 => found += is_hot(&mut hot, 7),
                _ if row % 1000 == 1 => rare += is_hot(&mut hot, 8),
                _ => others += is_hot(&mut hot, row + 100),
            }
        }
        assert!(found >= 9_990, "{found} of 10,000");
        assert!(rare >= 80, "{rare} of 100");
        assert!(others < 100, "{others} rows that never come again");
    }

    /// Keys of equal frequency, far more than entries: hardly any is taken for hot, and counting goes back to samples.
    #[test]
    fn uniform_keys_are_not_worth_it() {
        let mut hot = hot_keys(1024);
        let mut watched = 0;
        for chunk in 0..1_000u64 {
            if !hot.watches() {
                continue;
            }
            watched += 1;
            let hits = (0..256).filter(|row| hot.touch(hash_u64(hash_u64(chunk * 256 + row) % 100_000)));
            let hits = hits.count();
            hot.judge(256, hits);
            assert!(!hot.is_on());
        }
        assert!(watched < 100, "{watched} of 1,000 chunks were counted");
    }

    #[test]
    fn halving_ends() {
        let mut hot = hot_keys(5_000);
        assert_eq!(hot.entries, 1024);
        let halvings = (0..).take_while(|_| hot.halve()).count();
        assert!(halvings < 8);
        hot.touch(1);
    }
}
