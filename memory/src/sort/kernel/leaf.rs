//! Sorting what fits in the second-level cache: items are counted, placed, and their buckets sorted one by one.

use super::chunks::Chunks;
use super::distribute::Bits;
use super::in_place::{self, Space};
use super::item::Item;
use super::ties::{Ties, compare};
use crate::segment::Segment;

/// The most bytes of items: with as many to place them in, three quarters of a second-level cache of 2 MiB.
const MOST_BYTES: usize = 768 << 10;

/// The most items.
pub(super) const fn most<T>() -> usize {
    MOST_BYTES / size_of::<T>()
}

/// The most bits to place items by.
const MOST_BITS: u32 = 8;

/// Items of a bucket, on average, that the number of buckets is chosen for.
const BUCKET: usize = 64;

/// Sorts a chain whose keys vary in the bits `varying`, some, and are word `depth` of their rows.
///
/// # Panics
/// Where the spare segments do not hold as many items.
pub(super) fn sort<T: Item>(
    mut input: Chunks<T>,
    spares: &mut Vec<Segment>,
    varying: u64,
    depth: usize,
    ties: &mut impl Ties,
) -> Chunks<T> {
    let items = input.len();
    let count = items.div_ceil(input.segment_capacity());
    let wanted = (items / BUCKET).max(2).ilog2();
    let bits = Bits::highest(varying, wanted.clamp(1, MOST_BITS));

    let mut ends = [0usize; 1 << MOST_BITS];
    for &item in input.slices().flatten() {
        ends[bits.of(item.key()) & (ends.len() - 1)] += 1;
    }
    let mut sum = 0;
    for end in &mut ends {
        sum += std::mem::replace(end, sum);
    }

    let mut output = input.another();
    for segment in spares.drain(spares.len() - count..) {
        output.push_segment(segment);
    }
    let capacity = input.segment_capacity();
    let mut space = Space::new(output.spaces_mut(), capacity);
    while let Some(chunk) = input.pop_front() {
        for &item in chunk.items::<T>() {
            let end = &mut ends[bits.of(item.key()) & ((1 << MOST_BITS) - 1)];
            space.put(*end, item);
            *end += 1;
        }
        spares.push(chunk.segment);
    }
    let mut start = 0;
    for &end in &ends[..bits.buckets()] {
        in_place::sort(&mut space, start, end, &mut |a, b| compare(ties, depth, a, b));
        start = end;
    }
    output.set_dense(items);
    output
}
