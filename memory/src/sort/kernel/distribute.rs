//! Distributing items to buckets by some bits of their keys: chains of segments that grow as the input's are used up.
//!
//! # Algorithm
//! Items are gathered in a line for each bucket (software write-combining), in the first-level cache, and go to the bucket's
//! segment a whole line at a time. A segment of the input whose items have gone is the next one that a bucket takes.
//!
//! # Memory
//! One segment for each bucket beyond the input's: with b buckets and n full segments of input, at most n + b are in use.

use super::chunks::{Chunk, Chunks};
use super::item::Item;
use crate::segment::Segment;

/// The most buckets: 2 to the power of this.
pub(super) const MOST_BITS: u32 = 8;

/// Items that go to a bucket's segment at once.
const LINE: usize = 8;

/// Some bits of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits {
    /// How many bits are below them.
    pub shift: u32,
    /// How many bits they are.
    pub count: u32,
}

impl Bits {
    /// The highest `count` bits in which keys differ, where `varying` has the bits in which they do.
    pub fn highest(varying: u64, count: u32) -> Bits {
        let below = 64 - varying.leading_zeros();
        let count = count.min(below);
        Bits {
            shift: below - count,
            count,
        }
    }

    #[inline(always)]
    pub(super) fn of(self, key: u64) -> usize {
        (key >> self.shift) as usize & ((1 << self.count) - 1)
    }

    /// How many values they have.
    pub fn buckets(self) -> usize {
        1 << self.count
    }
}

/// Distributes the items by `bits` of their keys, which are at most 8: bucket by bucket, in the order of the input.
///
/// # Panics
/// Where there are fewer spare segments than buckets.
pub fn distribute<T: Item>(mut input: Chunks<T>, spares: &mut Vec<Segment>, bits: Bits) -> Vec<Chunks<T>> {
    let count = bits.buckets();
    assert!(bits.count <= MOST_BITS, "{count} buckets are over 256");
    assert!(
        spares.len() >= count,
        "{} spare segments for {count} buckets",
        spares.len()
    );
    let mut buckets: Vec<Chunks<T>> = (0..count).map(|_| input.another()).collect();
    let mut lines = [[T::new_zeroed(); LINE]; 1 << MOST_BITS];
    let mut filled = [0u8; 1 << MOST_BITS];
    while let Some(chunk) = input.pop_front() {
        for &item in chunk.items::<T>() {
            let bucket = bits.of(item.key()) & (lines.len() - 1);
            let place = usize::from(filled[bucket]) % LINE;
            lines[bucket][place] = item;
            filled[bucket] = place as u8 + 1;
            if place == LINE - 1 {
                flush(&mut buckets[bucket], &lines[bucket], spares);
                filled[bucket] = 0;
            }
        }
        spares.push(chunk.segment);
    }
    for ((bucket, line), filled) in buckets.iter_mut().zip(&lines).zip(filled) {
        flush(bucket, &line[..usize::from(filled)], spares);
    }
    buckets
}

/// Appends a line, or the beginning of one: segments hold a whole number of lines, so it never straddles two.
#[inline(always)]
fn flush<T: Item>(bucket: &mut Chunks<T>, line: &[T], spares: &mut Vec<Segment>) {
    if line.is_empty() {
        return;
    }
    if bucket.room() == 0 {
        let segment = spares.pop().expect("there is a spare segment for each bucket");
        bucket.push_chunk(Chunk { segment, len: 0 });
    }
    bucket.push_line(line);
}
