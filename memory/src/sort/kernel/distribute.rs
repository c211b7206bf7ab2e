//! Distributing items to buckets by some bits of their keys: chains of segments that grow as the input's are used up.
//!
//! # Algorithm
//! Items are gathered in a line for each bucket (software write-combining), in the first-level cache, and go to the bucket's
//! segment a whole line at a time. A segment of the input whose items have gone is the next one that a bucket takes.
//!
//! # Memory
//! One segment for each bucket beyond the input's: with b buckets and n full segments of input, at most n + b are in use.

use zerocopy::IntoBytes;

use super::chunks::{Chunk, Chunks, all_mut};
use super::item::Item;
use super::stream::{self, copy_lines};
use crate::segment::Segment;

/// The most buckets: 2 to the power of this.
pub(super) const MOST_BITS: u32 = 8;

/// Bytes that go to a bucket's segment at once: two lines.
const LINE_BYTES: usize = 128;

/// As many items of eight bytes.
const MOST_ITEMS: usize = LINE_BYTES / 8;

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

    /// Their value in a key; at most 8 bits.
    #[inline(always)]
    pub(super) fn of(self, key: u64) -> usize {
        usize::from((key >> self.shift) as u8 & ((1u32 << self.count) - 1) as u8)
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
    let mut open: Vec<Option<Chunk>> = (0..count).map(|_| None).collect();
    let line_items = LINE_BYTES / size_of::<T>();
    let mut lines = [[T::new_zeroed(); MOST_ITEMS]; 1 << MOST_BITS];
    let mut filled = [0u8; 1 << MOST_BITS];
    let capacity = input.segment_capacity();
    while let Some(chunk) = input.pop_front() {
        for &item in chunk.items::<T>() {
            let bucket = bits.of(item.key());
            let place = usize::from(filled[bucket]) % line_items;
            lines[bucket][place] = item;
            filled[bucket] = place as u8 + 1;
            if place == line_items - 1 {
                filled[bucket] = 0;
                let target = match &mut open[bucket] {
                    Some(target) => target,
                    none => none.insert(fresh(spares)),
                };
                let start = target.len * size_of::<T>();
                let line = lines[bucket][..line_items].as_bytes();
                copy_lines(&mut target.segment[start..start + line.len()], line);
                target.len += line_items;
                if target.len == capacity {
                    buckets[bucket].push_chunk(open[bucket].take().expect("it was just filled"));
                }
            }
        }
        spares.push(chunk.segment);
    }
    stream::finish();
    for (bucket, open) in open.into_iter().enumerate() {
        let rest = &lines[bucket][..usize::from(filled[bucket])];
        let mut last = match open {
            Some(open) => open,
            None if rest.is_empty() => continue,
            None => fresh(spares),
        };
        all_mut::<T>(&mut last.segment)[last.len..last.len + rest.len()].copy_from_slice(rest);
        last.len += rest.len();
        buckets[bucket].push_chunk(last);
    }
    buckets
}

fn fresh(spares: &mut Vec<Segment>) -> Chunk {
    Chunk {
        segment: spares.pop().expect("there is a spare segment for each bucket"),
        len: 0,
    }
}
