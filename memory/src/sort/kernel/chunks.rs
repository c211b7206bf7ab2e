//! A list of items in segments: what the kernels take and what they answer.
//!
//! # Interface
//! [`Chunks::push_segment`] and [`Chunks::push`] fill a list; [`Chunks::slices`] reads it in order;
//! [`Chunks::pop_front`] takes it apart, segment by segment, as its items are used up.
//!
//! # Memory
//! One segment for each [`Chunk`]; 40 bytes of the heap for each segment (0.12 % of 32 KiB), as every holder of segments has.
//!
//! # Invariants
//! I1. `items` is the sum of the chunks' `len`, each at most what a segment holds (`push_chunk` asserts it).

use std::collections::VecDeque;
use std::marker::PhantomData;

use zerocopy::FromBytes;

use super::item::Item;
use crate::segment::Segment;

/// A segment with items at its start.
#[derive(Debug)]
pub struct Chunk {
    /// The memory.
    pub segment: Segment,
    /// How many items it has, from its first byte on.
    pub len: usize,
}

impl Chunk {
    /// Its items.
    #[inline]
    pub fn items<T: Item>(&self) -> &[T] {
        &all(&self.segment)[..self.len]
    }

    /// Its items, to change.
    #[inline]
    pub fn items_mut<T: Item>(&mut self) -> &mut [T] {
        &mut all_mut(&mut self.segment)[..self.len]
    }
}

/// A segment as items: all that it holds, whatever they are.
#[inline]
pub(super) fn all<T: Item>(segment: &Segment) -> &[T] {
    let count = segment.len() / size_of::<T>();
    <[T]>::ref_from_bytes(&segment[..count * size_of::<T>()]).expect("segments are aligned to 64 bytes")
}

/// A segment as items, to change.
#[inline]
pub(super) fn all_mut<T: Item>(segment: &mut Segment) -> &mut [T] {
    let count = segment.len() / size_of::<T>();
    <[T]>::mut_from_bytes(&mut segment[..count * size_of::<T>()]).expect("segments are aligned to 64 bytes")
}

/// Items in segments, in order. A chunk need not be full.
#[derive(Debug)]
pub struct Chunks<T> {
    list: VecDeque<Chunk>,
    items: usize,
    capacity: usize,
    item: PhantomData<T>,
}

impl<T: Item> Chunks<T> {
    /// An empty list of segments of `segment_size` bytes.
    ///
    /// # Panics
    /// Where that is not a power of two, of 128 or more.
    pub fn new(segment_size: usize) -> Self {
        assert!(
            segment_size.is_power_of_two() && segment_size >= 128,
            "{segment_size} B are not a segment: a power of two is, from 128 on"
        );
        Chunks {
            list: VecDeque::new(),
            items: 0,
            capacity: segment_size / size_of::<T>(),
            item: PhantomData,
        }
    }

    /// An empty list of segments of the same size.
    pub(super) fn another(&self) -> Self {
        Chunks {
            list: VecDeque::new(),
            items: 0,
            capacity: self.capacity,
            item: PhantomData,
        }
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.list.len()
    }

    /// How many items a segment holds: a power of two.
    pub fn segment_capacity(&self) -> usize {
        self.capacity
    }

    /// How many items the last segment has room for.
    pub fn room(&self) -> usize {
        self.list.back().map_or(0, |chunk| self.capacity - chunk.len)
    }

    /// Appends an item; false where the last segment has no room for it.
    #[inline]
    pub fn push(&mut self, item: T) -> bool {
        let Some(chunk) = self.list.back_mut() else {
            return false;
        };
        let Some(place) = all_mut::<T>(&mut chunk.segment).get_mut(chunk.len) else {
            return false;
        };
        *place = item;
        chunk.len += 1;
        self.items += 1;
        true
    }

    /// The places that the last segment has room for, to be filled from the first on; see [`Chunks::advance`].
    #[inline]
    pub fn room_mut(&mut self) -> &mut [T] {
        match self.list.back_mut() {
            Some(chunk) => &mut all_mut(&mut chunk.segment)[chunk.len..],
            None => &mut [],
        }
    }

    /// Counts items that were written to [`Chunks::room_mut`].
    ///
    /// # Panics
    /// Where there was no room for so many.
    #[inline]
    pub fn advance(&mut self, items: usize) {
        assert!(items <= self.room(), "items are written where there is room");
        if let Some(chunk) = self.list.back_mut() {
            chunk.len += items;
            self.items += items;
        }
    }

    /// Appends an empty segment, to be filled.
    pub fn push_segment(&mut self, segment: Segment) {
        self.push_chunk(Chunk { segment, len: 0 });
    }

    /// Appends a segment with items.
    ///
    /// # Panics
    /// Where the segment is of another size, or too small for its items.
    pub fn push_chunk(&mut self, chunk: Chunk) {
        assert_eq!(
            chunk.segment.len(),
            self.capacity * size_of::<T>(),
            "segments of one list have one size"
        );
        assert!(
            chunk.len <= self.capacity,
            "{} items in a segment for {}",
            chunk.len,
            self.capacity
        );
        self.items += chunk.len;
        self.list.push_back(chunk);
    }

    /// Takes the first segment and its items off the list.
    pub fn pop_front(&mut self) -> Option<Chunk> {
        let chunk = self.list.pop_front()?;
        self.items -= chunk.len;
        Some(chunk)
    }

    /// Moves all of `other` to the end.
    pub fn append(&mut self, other: &mut Self) {
        self.items += other.items;
        self.list.append(&mut other.list);
        other.items = 0;
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> impl DoubleEndedIterator<Item = &Chunk> {
        self.list.iter()
    }

    /// The items of a chunk.
    #[inline]
    pub(super) fn chunk(&self, index: usize) -> &[T] {
        self.list[index].items()
    }

    /// The items of a chunk, to change.
    #[inline]
    pub(super) fn chunk_mut(&mut self, index: usize) -> &mut [T] {
        self.list[index].items_mut()
    }

    /// The items of each chunk, in order.
    pub fn slices(&self) -> impl DoubleEndedIterator<Item = &[T]> {
        self.list.iter().map(Chunk::items)
    }

    /// The items of each chunk, in order, to change.
    pub fn slices_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut [T]> {
        self.list.iter_mut().map(Chunk::items_mut)
    }

    /// All items, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> {
        self.slices().flatten().copied()
    }

    /// All that its segments hold, beyond their items too: for kernels that place items by position.
    pub(super) fn spaces_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.list.iter_mut().map(|chunk| all_mut(&mut chunk.segment))
    }

    /// The same from segment number `first` on.
    pub(super) fn spaces_from(&mut self, first: usize) -> impl Iterator<Item = &mut [T]> {
        let chunks = self.list.range_mut(first..);
        chunks.map(|chunk| all_mut(&mut chunk.segment))
    }

    /// Takes the items from a position on off a list whose chunks are full but for the last; a segment that has items before it, too, is
    /// copied in part, to a spare one.
    pub(super) fn split_off(&mut self, position: usize, spares: &mut Vec<Segment>) -> Self {
        debug_assert!(self.is_dense(), "positions are places of dense lists");
        let (chunk, kept) = (position / self.capacity, position % self.capacity);
        let mut tail = self.another();
        tail.list = self.list.split_off(chunk + usize::from(kept > 0));
        tail.items = tail.list.iter().map(|chunk| chunk.len).sum();
        if kept > 0 {
            let cut = &mut self.list[chunk];
            let mut segment = spares.pop().expect("there is a spare segment for each cut");
            let len = cut.len - kept;
            all_mut::<T>(&mut segment)[..len].copy_from_slice(&cut.items()[kept..]);
            cut.len = kept;
            tail.push_front(Chunk { segment, len });
        }
        self.items -= tail.items;
        tail
    }

    /// How many items at the beginning of a sorted list a predicate is true of.
    pub(super) fn count_first(&self, is_first: impl Fn(&T) -> bool) -> usize {
        let mut count = 0;
        for items in self.slices() {
            if items.last().is_none_or(&is_first) {
                count += items.len();
            } else {
                return count + items.partition_point(is_first);
            }
        }
        count
    }

    /// Says that the first `items` places, counted over all segments, are the items.
    pub(super) fn set_dense(&mut self, items: usize) {
        assert!(
            items <= self.list.len() * self.capacity,
            "{items} items do not fit"
        );
        let mut left = items;
        for chunk in &mut self.list {
            chunk.len = left.min(self.capacity);
            left -= chunk.len;
        }
        self.items = items;
    }

    /// Keeps the first segments, whose items are nobody's any more.
    pub(super) fn truncate(&mut self, segments: usize, spares: &mut Vec<Segment>) {
        let kept = segments.min(self.list.len());
        spares.extend(self.list.drain(kept..).map(|chunk| chunk.segment));
        self.set_dense(0);
    }

    /// Gives up the segments without items at its end.
    pub(super) fn truncate_dense(&mut self, spares: &mut Vec<Segment>) {
        let kept = self.items.div_ceil(self.capacity);
        spares.extend(self.list.drain(kept..).map(|chunk| chunk.segment));
    }

    /// Whether every chunk but the last is full, so that an item's position is its place.
    pub(super) fn is_dense(&self) -> bool {
        let last = self.list.len().max(1) - 1;
        self.list
            .iter()
            .take(last)
            .all(|chunk| chunk.len == self.capacity)
    }

    /// Puts the items in the opposite order, in the segments that they are in.
    pub(super) fn reverse(&mut self) {
        self.slices_mut().for_each(<[T]>::reverse);
        self.list.make_contiguous().reverse();
    }

    pub(super) fn first_key(&self) -> Option<u64> {
        self.slices().find_map(|items| items.first()).map(T::key)
    }

    pub(super) fn last_key(&self) -> Option<u64> {
        self.slices().rev().find_map(|items| items.last()).map(T::key)
    }

    /// The item at a position of a list whose chunks are full but for the last.
    #[inline]
    pub(super) fn at(&self, position: usize) -> T {
        self.list[position / self.capacity].items()[position % self.capacity]
    }

    /// Moves items forward until every chunk but the last is full; segments that are empty then go to `spares`.
    pub fn compact(&mut self, spares: &mut Vec<Segment>) {
        self.compact_from(0, spares);
    }

    /// As `compact`, for the chunks from number `first` on.
    fn compact_from(&mut self, first: usize, spares: &mut Vec<Segment>) {
        let (mut to, mut filled) = (first, 0);
        for from in first..self.list.len() {
            let len = self.list[from].len;
            let mut taken = 0;
            while taken < len {
                if filled == self.capacity {
                    self.list[to].len = filled;
                    (to, filled) = (to + 1, 0);
                }
                let count = (len - taken).min(self.capacity - filled);
                if to == from {
                    // What is left of the chunk moves within it; it all fits.
                    if taken != filled {
                        all_mut::<T>(&mut self.list[to].segment).copy_within(taken..taken + count, filled);
                    }
                } else {
                    let mut pair = self.list.range_mut(to..=from);
                    let (target, source) = (pair.next(), pair.next_back());
                    let (target, source) = target.zip(source).expect("to comes before from");
                    all_mut::<T>(&mut target.segment)[filled..filled + count]
                        .copy_from_slice(&source.items()[taken..taken + count]);
                }
                taken += count;
                filled += count;
            }
        }
        if filled > 0 {
            self.list[to].len = filled;
            to += 1;
        }
        spares.extend(self.list.drain(to..).map(|chunk| chunk.segment));
    }

    /// Moves all of `other` to the end, by copying, so that no segment between them is left with room.
    pub(super) fn append_dense(&mut self, other: &mut Self, spares: &mut Vec<Segment>) {
        let last = self.list.len().saturating_sub(1);
        self.append(other);
        self.compact_from(last, spares);
    }

    /// Takes the last segment off the list, if it has room.
    pub(super) fn pop_partial(&mut self) -> Option<Chunk> {
        if self.room() == 0 {
            return None;
        }
        let chunk = self.list.pop_back()?;
        self.items -= chunk.len;
        Some(chunk)
    }

    /// Prepends a segment with items.
    pub(super) fn push_front(&mut self, chunk: Chunk) {
        self.items += chunk.len;
        self.list.push_front(chunk);
    }
}
