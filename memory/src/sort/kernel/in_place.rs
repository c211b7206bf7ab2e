//! Sorting within the segments that the items are in, by positions: for when there is no other memory, and where only comparisons help.
//!
//! # Interface
//! [`InPlace::by_digits`] or [`InPlace::by_comparison`] of a range, and [`InPlace::step`] until it is done; [`sort`] does all at once.
//!
//! # Algorithm
//! By digits: the highest eight bits in which keys differ are counted, and each item is exchanged with the one that is in its
//! place until all are in theirs (American flag sort; McIlroy, Bostic and McIlroy 1993); then each bucket in the same way, down to
//! [`FEW`] items or one segment.
//!
//! By comparisons: quicksort over positions (pivot: the median of three; Hoare's partition, which divides equal items
//! evenly) until a range is in one segment, where `sort_unstable_by` takes over. A range that has been divided 2·log₂ n times is
//! sorted by heap. A range that is in order is left alone.
//!
//! What is to be done is a stack of tasks. Between two steps every item is in some place.
//!
//! # Invariants
//! I1. A step of so much work moves no more items than that and a piece's, and compares no more often than a piece needs:
//!     `no_step_moves_or_compares_more_than_its_work_and_a_piece`.
//!
//! # Cost
//! By digits some three times the time of the radix sort that has other memory, by comparisons eight times.

use std::cmp::Ordering;
use std::ops::Range;

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

    /// Whether a range is sorted at once.
    fn is_piece(&self, range: &Range<usize>) -> bool {
        range.len() <= PIECE
            && (range.is_empty() || range.start >> self.shift == (range.end - 1) >> self.shift)
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (one, other) = (self.at(a), self.at(b));
        self.put(a, other);
        self.put(b, one);
    }
}

/// Ranges of at most this many items are sorted by comparisons.
const FEW: usize = 512;

/// As many items of one segment are sorted at once: a segment of numbers.
const PIECE: usize = 4096;

/// Looking at so many items is as much work as moving one.
const LOOKS: usize = 8;

/// A comparison is as much work as moving so many items: rows are looked at, that are in no cache.
pub(super) const COMPARISON: usize = 4;

/// Items of each digit, or places.
type Digits = Box<[usize; 256]>;

#[inline(always)]
fn digit<T: Item>(item: &T, shift: u32) -> usize {
    usize::from((item.key() >> shift) as u8)
}

/// What is to be done with a range.
enum Task<T> {
    /// To find out in which bits its keys differ, from place `next` on, and then to sort it by them.
    Look {
        range: Range<usize>,
        next: usize,
        all: u64,
        any: u64,
    },
    /// To count the digits at `shift`, from place `next` on.
    Count {
        range: Range<usize>,
        shift: u32,
        next: usize,
        counts: Digits,
    },
    /// To bring items to the buckets of their digits, each of which is full up to place `next`; those before `bucket` are full.
    Exchange {
        start: usize,
        shift: u32,
        next: Digits,
        ends: Digits,
        bucket: usize,
    },
    /// To see whether it is in order, from place `next` on, and to sort it if it is not.
    Check { range: Range<usize>, next: usize },
    /// To sort it by comparisons; it may be divided so many times.
    Divide { range: Range<usize>, divisions: u32 },
    /// To divide it: what comes before `left` is not behind the pivot, what comes after `right` not before it.
    Partition {
        range: Range<usize>,
        left: usize,
        right: usize,
        pivot: T,
        divisions: u32,
    },
    /// To sort it by heap: so many places were sifted.
    Heap { range: Range<usize>, sifted: usize },
}

/// A sort in place that is done step by step.
pub(super) struct InPlace<T> {
    /// What comes first is last.
    tasks: Vec<Task<T>>,
}

impl<T: Item> InPlace<T> {
    /// A sort of a range by keys, and then by a comparison that agrees with them.
    pub(super) fn by_digits(range: Range<usize>) -> Self {
        let next = range.start;
        let (all, any) = (u64::MAX, 0);
        InPlace {
            tasks: vec![Task::Look {
                range,
                next,
                all,
                any,
            }],
        }
    }

    /// A sort of a range by comparisons.
    pub(super) fn by_comparison(range: Range<usize>) -> Self {
        let next = range.start + 1;
        InPlace {
            tasks: vec![Task::Check { range, next }],
        }
    }

    /// Does a piece of the work, and answers whether all of it is done.
    pub(super) fn step(
        &mut self,
        space: &mut Space<'_, T>,
        compare: &mut impl FnMut(&T, &T) -> Ordering,
        left: &mut usize,
    ) -> bool {
        let mut counted = Counted { compare, left };
        while let Some(task) = self.tasks.pop() {
            if counted.is_spent() {
                self.tasks.push(task);
                return false;
            }
            self.run(task, space, &mut counted);
        }
        true
    }

    /// Does a task, or some of it, and leaves what is to be done then.
    fn run(
        &mut self,
        task: Task<T>,
        space: &mut Space<'_, T>,
        counted: &mut Counted<'_, impl FnMut(&T, &T) -> Ordering>,
    ) {
        match task {
            Task::Look {
                range,
                mut next,
                mut all,
                mut any,
            } => {
                if range.len() <= FEW || space.is_piece(&range) {
                    let next = range.start + 1;
                    self.tasks.push(Task::Check { range, next });
                    return;
                }
                for place in counted.look(next..range.end) {
                    let key = space.at(place).key();
                    all &= key;
                    any |= key;
                    next += 1;
                }
                let varying = all ^ any;
                self.tasks.push(if next < range.end {
                    Task::Look {
                        range,
                        next,
                        all,
                        any,
                    }
                } else if varying == 0 {
                    let next = range.start + 1;
                    Task::Check { range, next }
                } else {
                    Task::Count {
                        shift: (64 - varying.leading_zeros()).saturating_sub(8),
                        next: range.start,
                        range,
                        counts: Box::new([0; 256]),
                    }
                });
            }
            Task::Count {
                range,
                shift,
                mut next,
                mut counts,
            } => {
                for place in counted.look(next..range.end) {
                    counts[digit(&space.at(place), shift)] += 1;
                    next += 1;
                }
                if next < range.end {
                    self.tasks.push(Task::Count {
                        range,
                        shift,
                        next,
                        counts,
                    });
                    return;
                }
                let mut ends = Box::new([0; 256]);
                let mut sum = range.start;
                for (count, end) in counts.iter_mut().zip(ends.iter_mut()) {
                    sum += std::mem::replace(count, sum);
                    *end = sum;
                }
                self.tasks.push(Task::Exchange {
                    start: range.start,
                    shift,
                    next: counts,
                    ends,
                    bucket: 0,
                });
            }
            Task::Exchange {
                start,
                shift,
                mut next,
                ends,
                mut bucket,
            } => {
                while bucket < ends.len() {
                    if next[bucket] == ends[bucket] {
                        bucket += 1;
                        continue;
                    }
                    if counted.is_spent() {
                        self.tasks.push(Task::Exchange {
                            start,
                            shift,
                            next,
                            ends,
                            bucket,
                        });
                        return;
                    }
                    let hole = next[bucket];
                    let mut item = space.at(hole);
                    loop {
                        let target = digit(&item, shift);
                        // What is in hand when there is no work left waits in the hole.
                        if target == bucket || counted.is_spent() {
                            space.put(hole, item);
                            next[bucket] += usize::from(target == bucket);
                            counted.spend(1);
                            break;
                        }
                        let displaced = space.at(next[target]);
                        space.put(next[target], item);
                        next[target] += 1;
                        item = displaced;
                        counted.spend(1);
                    }
                }
                let mut start = start;
                let mut buckets = Vec::new();
                for &end in ends.iter() {
                    if end - start > 1 {
                        buckets.push(start..end);
                    }
                    start = end;
                }
                let sorts = buckets
                    .into_iter()
                    .rev()
                    .flat_map(|range| InPlace::by_digits(range).tasks);
                self.tasks.extend(sorts);
            }
            Task::Check { range, mut next } => {
                let is_piece = space.is_piece(&range);
                while !is_piece && next < range.end {
                    if counted.is_spent() {
                        self.tasks.push(Task::Check { range, next });
                        return;
                    }
                    if counted.order(&space.at(next - 1), &space.at(next)).is_gt() {
                        break;
                    }
                    next += 1;
                }
                if is_piece || next < range.end {
                    let divisions = 2 * range.len().max(1).ilog2();
                    self.tasks.push(Task::Divide { range, divisions });
                }
            }
            Task::Divide { range, divisions } => {
                let (start, end) = (range.start, range.end);
                if space.is_piece(&range)
                    && let Some(slice) = space.slice(start, end)
                {
                    slice.sort_unstable_by(|a, b| counted.order(a, b));
                } else if range.len() <= INSERTION {
                    insert(space, start, end, &mut |a, b| counted.order(a, b));
                } else if divisions == 0 {
                    self.tasks.push(Task::Heap { range, sifted: 0 });
                } else {
                    let (middle, last) = (start + (end - start) / 2, end - 1);
                    for (a, b) in [(start, middle), (middle, last), (start, middle)] {
                        if counted.order(&space.at(a), &space.at(b)).is_gt() {
                            space.swap(a, b);
                        }
                    }
                    // The first is not after the pivot and the last not before it: both walks end inside.
                    self.tasks.push(Task::Partition {
                        range,
                        left: start + 1,
                        right: last - 1,
                        pivot: space.at(middle),
                        divisions: divisions - 1,
                    });
                }
            }
            Task::Partition {
                range,
                mut left,
                mut right,
                pivot,
                divisions,
            } => {
                // Who stops for want of work has gone on by a place since it began.
                let is_divided = 'walk: loop {
                    while counted.order(&space.at(left), &pivot).is_lt() {
                        left += 1;
                        if counted.is_spent() {
                            break 'walk false;
                        }
                    }
                    while counted.order(&space.at(right), &pivot).is_gt() {
                        right -= 1;
                        if counted.is_spent() {
                            break 'walk false;
                        }
                    }
                    if left >= right {
                        break true;
                    }
                    space.swap(left, right);
                    left += 1;
                    right -= 1;
                    if counted.is_spent() {
                        break false;
                    }
                };
                if !is_divided {
                    self.tasks.push(Task::Partition {
                        range,
                        left,
                        right,
                        pivot,
                        divisions,
                    });
                    return;
                }
                // Both are not empty, unless the comparison contradicts itself.
                let middle = (right + 1).clamp(range.start + 1, range.end - 1);
                let (one, other) = (range.start..middle, middle..range.end);
                // The smaller part is next, so that the stack stays at log₂ n.
                let (larger, smaller) = match one.len() < other.len() {
                    true => (other, one),
                    false => (one, other),
                };
                for range in [larger, smaller] {
                    self.tasks.push(Task::Divide { range, divisions });
                }
            }
            Task::Heap { range, mut sifted } => {
                let (start, len) = (range.start, range.len());
                let half = len / 2;
                while sifted < half + len - 1 {
                    if counted.is_spent() {
                        self.tasks.push(Task::Heap { range, sifted });
                        return;
                    }
                    if sifted < half {
                        sift(space, start, half - 1 - sifted, len, counted);
                    } else {
                        let last = len - 1 - (sifted - half);
                        space.swap(start, start + last);
                        sift(space, start, 0, last, counted);
                    }
                    sifted += 1;
                }
            }
        }
    }
}

/// A comparison, and how much work is left.
struct Counted<'a, F> {
    compare: &'a mut F,
    left: &'a mut usize,
}

impl<F> Counted<'_, F> {
    #[inline(always)]
    fn is_spent(&self) -> bool {
        *self.left == 0
    }

    #[inline(always)]
    fn spend(&mut self, work: usize) {
        *self.left = self.left.saturating_sub(work);
    }

    /// Those of some places that there is work for, to be looked at.
    fn look(&mut self, places: Range<usize>) -> Range<usize> {
        let count = places.len().min(self.left.saturating_mul(LOOKS));
        self.spend(count.div_ceil(LOOKS));
        places.start..places.start + count
    }

    #[inline(always)]
    fn order<T>(&mut self, a: &T, b: &T) -> Ordering
    where
        F: FnMut(&T, &T) -> Ordering,
    {
        self.spend(COMPARISON);
        (self.compare)(a, b)
    }
}

/// Sorts the places from `start` to `end` by comparisons, all at once.
pub(super) fn sort<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    end: usize,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) {
    match space.slice(start, end) {
        Some(slice) => slice.sort_unstable_by(compare),
        None => {
            let is_done = InPlace::by_comparison(start..end).step(space, compare, &mut { usize::MAX });
            assert!(is_done, "there is work for all");
        }
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

/// Brings the item at a place of the heap of the first `len` places from `start` on below those that come after it.
fn sift<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    mut root: usize,
    len: usize,
    counted: &mut Counted<'_, impl FnMut(&T, &T) -> Ordering>,
) {
    let item = space.at(start + root);
    loop {
        let mut child = 2 * root + 1;
        if child >= len {
            break;
        }
        if child + 1 < len
            && counted
                .order(&space.at(start + child), &space.at(start + child + 1))
                .is_lt()
        {
            child += 1;
        }
        let largest = space.at(start + child);
        if counted.order(&item, &largest).is_ge() {
            break;
        }
        space.put(start + root, largest);
        root = child;
    }
    space.put(start + root, item);
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 128;

    /// Keys whose lower byte the comparison does not look at, of some shapes.
    fn shapes(count: u64) -> Vec<Vec<u64>> {
        let mut state = 1u64;
        let mut random = || {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            state >> 20
        };
        vec![
            (0..count).map(|_| random()).collect(),
            (0..count).collect(),
            (0..count).rev().collect(),
            (0..count).map(|i| i.min(count - i)).collect(),
            (0..count).map(|_| random() % 3).collect(),
            vec![7; count as usize],
            // All but the last in order.
            (1..count).chain([0]).collect(),
            // The median of three is next to the least again and again.
            (0..count)
                .map(|i| if i % 2 == 0 { i } else { count - i / 8 })
                .collect(),
        ]
    }

    #[test]
    fn no_step_moves_or_compares_more_than_its_work_and_a_piece() {
        for keys in shapes(4000) {
            let mut expected = keys.clone();
            expected.sort_unstable();
            for (is_by_digits, divisions) in [(true, None), (false, None), (false, Some(0))] {
                for work in [40, 1000] {
                    let mut sort = match is_by_digits {
                        true => InPlace::by_digits(0..keys.len()),
                        false => InPlace::by_comparison(0..keys.len()),
                    };
                    if let Some(divisions) = divisions {
                        let range = 0..keys.len();
                        sort.tasks = vec![Task::Divide { range, divisions }];
                    }
                    let mut items = keys.clone();
                    let mut is_done = false;
                    while !is_done {
                        let before = items.clone();
                        let mut comparisons = 0;
                        let mut space = Space::new(items.chunks_mut(CAPACITY), CAPACITY);
                        let mut compare = |a: &u64, b: &u64| {
                            comparisons += 1;
                            a.cmp(b)
                        };
                        is_done = sort.step(&mut space, &mut compare, &mut { work });
                        drop(space);
                        let moved = items
                            .iter()
                            .zip(&before)
                            .filter(|(now, then)| now != then)
                            .count();
                        assert!(moved <= work + CAPACITY, "{moved} moved for {work}");
                        // Twice n · log₂ n for a piece.
                        let most = work / COMPARISON + 2 * CAPACITY * CAPACITY.ilog2() as usize;
                        assert!(comparisons <= most, "{comparisons} comparisons for {work}");
                    }
                    assert!(items == expected);
                }
            }
        }
    }
}
