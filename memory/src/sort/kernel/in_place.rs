//! Sorting within the segments that the items are in, by positions: for when there is no other memory.
//!
//! # Algorithm
//! [`sort_by_digits`]: the highest eight bits in which keys differ are counted, and each item is exchanged with the one that is in its
//! place until all are in theirs (American flag sort; McIlroy, Bostic and McIlroy 1993); then each bucket in the same way, down to
//! [`FEW`] items or one segment.
//!
//! [`sort`], by comparisons: quicksort over positions (pivot: the median of three; Hoare's partition, which divides equal items
//! evenly) until a range is in one segment, where `sort_unstable_by` takes over. A range that has been divided 2·log₂ n times is
//! sorted by heap. A range that is in order is left alone.
//!
//! # Cost
//! By digits some three times the time of the radix sort that has other memory, by comparisons eight times.

use std::cmp::Ordering;

use super::item::Item;

/// Ranges across segments of at most this many items are sorted by insertion.
const INSERTION: usize = 24;

/// Segments of one size, a power of two of items, as one row of places.
pub(super) struct Space<'a, T> {
    segments: Vec<&'a mut [T]>,
    shift: u32,
    mask: usize,
}

impl<'a, T: Item> Space<'a, T> {
    pub(super) fn new(segments: impl Iterator<Item = &'a mut [T]>, capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Space {
            segments: segments.collect(),
            shift: capacity.trailing_zeros(),
            mask: capacity - 1,
        }
    }

    /// The items of a segment.
    pub(super) fn capacity(&self) -> usize {
        self.mask + 1
    }

    #[inline(always)]
    pub(super) fn at(&self, place: usize) -> T {
        self.segments[place >> self.shift][place & self.mask]
    }

    #[inline(always)]
    pub(super) fn put(&mut self, place: usize, item: T) {
        self.segments[place >> self.shift][place & self.mask] = item;
    }

    /// The places from `start` to `end` as a slice, where they are in one segment.
    #[inline]
    pub(super) fn slice(&mut self, start: usize, end: usize) -> Option<&mut [T]> {
        let segment = start >> self.shift;
        if start == end {
            return Some(&mut []);
        }
        if (end - 1) >> self.shift != segment {
            return None;
        }
        let first = start & self.mask;
        Some(&mut self.segments[segment][first..first + (end - start)])
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (one, other) = (self.at(a), self.at(b));
        self.put(a, other);
        self.put(b, one);
    }
}

/// Ranges of at most this many items are sorted by comparisons.
const FEW: usize = 512;

/// Sorts the places from `start` to `end` by keys, and by `compare`, which agrees with them.
pub(super) fn sort_by_digits<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    end: usize,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) {
    if end - start <= FEW || space.slice(start, end).is_some() {
        sort(space, start, end, compare);
        return;
    }
    let (mut all, mut any) = (u64::MAX, 0);
    for place in start..end {
        let key = space.at(place).key();
        all &= key;
        any |= key;
    }
    let varying = all ^ any;
    if varying == 0 {
        sort(space, start, end, compare);
        return;
    }
    let shift = (64 - varying.leading_zeros()).saturating_sub(8);
    let digit = |item: &T| usize::from((item.key() >> shift) as u8);
    let mut next = [0usize; 256];
    for place in start..end {
        next[digit(&space.at(place))] += 1;
    }
    let mut ends = [0usize; 256];
    let mut sum = start;
    for (next, end) in next.iter_mut().zip(&mut ends) {
        sum += std::mem::replace(next, sum);
        *end = sum;
    }
    for bucket in 0..256 {
        while next[bucket] < ends[bucket] {
            let hole = next[bucket];
            let mut item = space.at(hole);
            loop {
                let target = digit(&item);
                let place = next[target];
                next[target] += 1;
                if target == bucket {
                    space.put(hole, item);
                    break;
                }
                let displaced = space.at(place);
                space.put(place, item);
                item = displaced;
            }
        }
    }
    let mut first = start;
    for end in ends {
        sort_by_digits(space, first, end, compare);
        first = end;
    }
}

/// Sorts the places from `start` to `end` by comparisons.
pub(super) fn sort<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    end: usize,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) {
    if space.slice(start, end).is_none()
        && (start + 1..end).all(|place| compare(&space.at(place - 1), &space.at(place)).is_le())
    {
        return;
    }
    let divisions = 2 * (end - start).max(1).ilog2();
    divide(space, start, end, compare, divisions);
}

fn divide<T: Item>(
    space: &mut Space<'_, T>,
    mut start: usize,
    mut end: usize,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
    mut divisions: u32,
) {
    loop {
        if let Some(slice) = space.slice(start, end) {
            slice.sort_unstable_by(&mut *compare);
            return;
        }
        if end - start <= INSERTION {
            insert(space, start, end, compare);
            return;
        }
        if divisions == 0 {
            heap(space, start, end, compare);
            return;
        }
        divisions -= 1;
        let middle = partition(space, start, end, compare);
        // The smaller part by recursion, so that the stack stays at log₂ n.
        if middle - start < end - middle {
            divide(space, start, middle, compare, divisions);
            start = middle;
        } else {
            divide(space, middle, end, compare, divisions);
            end = middle;
        }
    }
}

/// Divides a range of three or more in two that are not empty: no item of the first comes after one of the second.
fn partition<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    end: usize,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) -> usize {
    let (middle, last) = (start + (end - start) / 2, end - 1);
    for (a, b) in [(start, middle), (middle, last), (start, middle)] {
        if compare(&space.at(a), &space.at(b)).is_gt() {
            space.swap(a, b);
        }
    }
    let pivot = space.at(middle);
    // `start` is not after the pivot and `last` not before it: both walks end inside.
    let (mut left, mut right) = (start + 1, last - 1);
    loop {
        while compare(&space.at(left), &pivot).is_lt() {
            left += 1;
        }
        while compare(&space.at(right), &pivot).is_gt() {
            right -= 1;
        }
        if left >= right {
            return right + 1;
        }
        space.swap(left, right);
        left += 1;
        right -= 1;
    }
}

fn insert<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    end: usize,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) {
    for next in start + 1..end {
        let item = space.at(next);
        let mut place = next;
        while place > start && compare(&space.at(place - 1), &item).is_gt() {
            let before = space.at(place - 1);
            space.put(place, before);
            place -= 1;
        }
        space.put(place, item);
    }
}

fn heap<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    end: usize,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) {
    let mut sift = |space: &mut Space<'_, T>, mut root: usize, len: usize| {
        let item = space.at(start + root);
        loop {
            let mut child = 2 * root + 1;
            if child >= len {
                break;
            }
            if child + 1 < len && compare(&space.at(start + child), &space.at(start + child + 1)).is_lt() {
                child += 1;
            }
            let largest = space.at(start + child);
            if compare(&item, &largest).is_ge() {
                break;
            }
            space.put(start + root, largest);
            root = child;
        }
        space.put(start + root, item);
    };
    let len = end - start;
    for root in (0..len / 2).rev() {
        sift(space, root, len);
    }
    for last in (1..len).rev() {
        space.swap(start, start + last);
        sift(space, 0, last);
    }
}
