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
pub const MOST_BITS: u32 = 10;

/// The most buckets whose lines are in the first-level cache: 2 to the power of this. More are worth it only where none of them is
/// distributed again: 100 M numbers on two threads take 1.27 s with 256, and 1.10 s with 1024 (decision 028).
pub(super) const USUAL_BITS: u32 = 8;

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
    /// The bits below them in which keys may differ: in a bucket no others do.
    pub below: u64,
}

impl Bits {
    /// The highest `count` bits in which keys differ, where `varying` has the bits in which they do.
    pub fn highest(varying: u64, count: u32) -> Bits {
        let below = 64 - varying.leading_zeros();
        let count = count.min(below);
        let shift = below - count;
        Bits {
            shift,
            count,
            below: varying & !u64::MAX.checked_shl(shift).unwrap_or(0),
        }
    }

    /// Their value in a key; at most [`MOST_BITS`].
    #[inline(always)]
    pub(super) fn of(self, key: u64) -> usize {
        (key >> self.shift) as usize & ((1 << self.count) - 1) & ((1 << MOST_BITS) - 1)
    }

    /// How many values they have.
    pub fn buckets(self) -> usize {
        1 << self.count
    }
}

/// Items on their way to buckets, by bits of their keys.
pub struct Distribution<T> {
    input: Chunks<T>,
    bits: Bits,
    buckets: Vec<Chunks<T>>,
    open: Vec<Option<Chunk>>,
    lines: Box<[[T; MOST_ITEMS]; 1 << MOST_BITS]>,
    filled: Box<[u8; 1 << MOST_BITS]>,
    /// Segments of the input whose items have gone, and spares.
    free: Vec<Segment>,
}

impl<T: Item> Distribution<T> {
    /// A distribution of items by `bits` of their keys, which are at most [`MOST_BITS`]. A spare segment for each bucket is its own until its end.
    ///
    /// # Panics
    /// Where there are fewer spare segments than buckets.
    pub fn new(input: Chunks<T>, bits: Bits, spares: &mut Vec<Segment>) -> Self {
        let count = bits.buckets();
        assert!(
            bits.count <= MOST_BITS,
            "{count} buckets are over {}",
            1 << MOST_BITS
        );
        assert!(
            spares.len() >= count,
            "{} spare segments for {count} buckets",
            spares.len()
        );
        Distribution {
            bits,
            buckets: (0..count).map(|_| input.another()).collect(),
            open: (0..count).map(|_| None).collect(),
            lines: vec![[T::new_zeroed(); MOST_ITEMS]; 1 << MOST_BITS]
                .try_into()
                .unwrap_or_else(|_| unreachable!("there is a line for each bucket")),
            filled: Box::new([0; 1 << MOST_BITS]),
            free: spares.split_off(spares.len() - count),
            input,
        }
    }

    /// The bits by which it does so.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// How many segments it has.
    pub fn segments(&self) -> usize {
        let buckets = self.buckets.iter().map(Chunks::segments).sum::<usize>();
        self.input.segments() + buckets + self.open.iter().flatten().count() + self.free.len()
    }

    /// Distributes items until there is no work left, or none is left to be distributed: whether that is so. Segments of the input
    /// that nobody needs go to `spares`.
    pub fn step(&mut self, spares: &mut Vec<Segment>, left: &mut usize) -> bool {
        let line_items = LINE_BYTES / size_of::<T>();
        let capacity = self.input.segment_capacity();
        let bits = self.bits;
        let (lines, filled) = (&mut *self.lines, &mut *self.filled);
        while *left > 0
            && let Some(chunk) = self.input.pop_front()
        {
            for &item in chunk.items::<T>() {
                let bucket = bits.of(item.key());
                let place = usize::from(filled[bucket]) % line_items;
                lines[bucket][place] = item;
                filled[bucket] = place as u8 + 1;
                if place == line_items - 1 {
                    filled[bucket] = 0;
                    let target = match &mut self.open[bucket] {
                        Some(target) => target,
                        none => none.insert(fresh(&mut self.free)),
                    };
                    let start = target.len * size_of::<T>();
                    let line = lines[bucket][..line_items].as_bytes();
                    copy_lines(&mut target.segment[start..start + line.len()], line);
                    target.len += line_items;
                    if target.len == capacity {
                        let full = self.open[bucket].take().expect("it was just filled");
                        self.buckets[bucket].push_chunk(full);
                    }
                }
            }
            *left = left.saturating_sub(chunk.len);
            self.free.push(chunk.segment);
        }
        stream::finish();
        if !self.input.is_empty() {
            return false;
        }
        // Segments without items too.
        while let Some(chunk) = self.input.pop_front() {
            spares.push(chunk.segment);
        }
        true
    }

    /// The buckets, when all was distributed: each in the order of the input.
    pub fn into_buckets(mut self, spares: &mut Vec<Segment>) -> Vec<Chunks<T>> {
        assert!(self.input.is_empty(), "all items were distributed");
        for (bucket, open) in self.open.into_iter().enumerate() {
            let rest = &self.lines[bucket][..usize::from(self.filled[bucket])];
            let mut last = match open {
                Some(open) => open,
                None if rest.is_empty() => continue,
                None => fresh(&mut self.free),
            };
            all_mut::<T>(&mut last.segment)[last.len..last.len + rest.len()].copy_from_slice(rest);
            last.len += rest.len();
            self.buckets[bucket].push_chunk(last);
        }
        spares.append(&mut self.free);
        self.buckets
    }
}

fn fresh(free: &mut Vec<Segment>) -> Chunk {
    Chunk {
        segment: free.pop().expect("there is a spare segment for each bucket"),
        len: 0,
    }
}
