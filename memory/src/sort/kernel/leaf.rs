//! Sorting what fits in the second-level cache: a radix sort by the highest bits in which keys differ, and what it leaves.
//!
//! # Algorithm
//! 1. Two or three digits of up to [`BITS`] bits are chosen, from the highest varying bit down, with about one bit more than
//!    the number of items has: most items are then alone with their digits. All digits are counted in one reading.
//! 2. Items are placed by the last digit first (least significant digit radix sort): from the chain to spare segments, from
//!    those back to the chain's, and so on. Place p is item p modulo the capacity of segment p over the capacity.
//! 3. What the digits leave is sorted by insertion, which finds most items in order. A group of equal digits that is long
//!    is sorted by comparisons of keys; if its keys are all equal, by the next words of its rows.
//!
//! # Cost
//! For random numbers of 64 bits about 7 ns each, of the 11 that the whole sort takes; for entries about 10.

use super::chunks::Chunks;
use super::distribute::Bits;
use super::in_place::{self, Space};
use super::item::Item;
use super::ties::{Ties, compare, compare_rest};
use crate::segment::Segment;

/// The most bytes of items: with as many to place them in, most of a second-level cache of 2 MiB.
const MOST_BYTES: usize = 1 << 20;

/// The most items.
pub(super) const fn most<T>() -> usize {
    MOST_BYTES / size_of::<T>()
}

/// The bits of a digit, and the most digits.
const BITS: u32 = 9;
const MOST_DIGITS: usize = 3;

/// Lists of fewer items are sorted by comparisons.
const FEW: usize = 128;

/// Insertion gives up after so many steps, and the group is sorted in another way.
const FAR: usize = 24;

/// The digits that items are placed by.
struct Digits {
    shifts: [u32; MOST_DIGITS],
    count: usize,
}

impl Digits {
    fn choose(varying: u64, items: usize) -> Digits {
        let wanted = (items - 1).ilog2() + 2;
        let (mut rest, mut found) = (varying, 0);
        let mut digits = Digits {
            shifts: [0; MOST_DIGITS],
            count: 0,
        };
        while rest != 0 && found + 2 < wanted && digits.count < MOST_DIGITS {
            // Bits above the highest one that varies are the same in all items; or those of the digit before.
            let shift = Bits::highest(rest, BITS).shift;
            digits.shifts[digits.count] = shift;
            digits.count += 1;
            let below = (1u64 << shift) - 1;
            found += (rest & !below).count_ones();
            rest &= below;
        }
        digits
    }
}

/// Sorts a chain of two items or more whose keys vary in the bits `varying`, some, and are word `depth` of their rows;
/// appends it to `output`, whose segments are all full but the last.
///
/// # Panics
/// Where the spare segments do not hold as many items.
pub(super) fn sort<T: Item>(
    mut input: Chunks<T>,
    output: &mut Chunks<T>,
    spares: &mut Vec<Segment>,
    varying: u64,
    depth: usize,
    ties: &mut impl Ties,
) {
    let (items, capacity) = (input.len(), input.segment_capacity());
    if items < FEW {
        input.compact(spares);
        let mut space = Space::new(input.spaces_mut(), capacity);
        sort_group(&mut space, 0, items, depth, ties);
        drop(space);
        output.append_dense(&mut input, spares);
        return;
    }
    let digits = Digits::choose(varying, items);
    let mut places = count(&input, &digits);
    let mut target = input.another();
    let segments = items.div_ceil(capacity);
    for segment in spares.drain(spares.len() - segments..) {
        target.push_segment(segment);
    }
    for digit in (1..digits.count).rev() {
        place(&input, &mut target, 0, digits.shifts[digit], &mut places[digit]);
        std::mem::swap(&mut input, &mut target);
        // The first time round: the input's chunks may have been many that were not full.
        target.truncate(segments, spares);
    }
    // The last time, items go where they stay: from the end of the output on.
    let start = match output.pop_partial() {
        Some(chunk) => {
            let start = chunk.len;
            target.push_front(chunk);
            start
        }
        None => 0,
    };
    place(&input, &mut target, start, digits.shifts[0], &mut places[0]);
    target.truncate_dense(spares);
    while let Some(chunk) = input.pop_front() {
        spares.push(chunk.segment);
    }

    let shift = digits.shifts[digits.count - 1];
    if !(T::KEY_IS_ALL && varying & ((1 << shift) - 1) == 0) {
        let mut space = Space::new(target.spaces_mut(), capacity);
        finish(&mut space, start, start + items, shift, depth, ties);
    }
    output.append(&mut target);
}

/// Copies all items to their places in the target, counted from `start` on.
fn place<T: Item>(input: &Chunks<T>, target: &mut Chunks<T>, start: usize, shift: u32, places: &mut Places) {
    let mut space = Space::new(target.spaces_mut(), input.segment_capacity());
    places.iter_mut().for_each(|place| *place += start as u32);
    for slice in input.slices() {
        for &item in slice {
            let place = &mut places[digit(item.key(), shift)];
            space.put(*place as usize, item);
            *place += 1;
        }
    }
    drop(space);
    target.set_dense(start + input.len());
}

type Places = [u32; 1 << BITS];

#[inline(always)]
fn digit(key: u64, shift: u32) -> usize {
    (key >> shift) as usize & ((1 << BITS) - 1)
}

/// For each value of each digit, the place of the first item that has it.
fn count<T: Item>(input: &Chunks<T>, digits: &Digits) -> [Places; MOST_DIGITS] {
    let mut places = [[0; 1 << BITS]; MOST_DIGITS];
    let [first, second, third] = digits.shifts;
    for slice in input.slices() {
        match digits.count {
            1 => slice
                .iter()
                .for_each(|item| places[0][digit(item.key(), first)] += 1),
            2 => slice.iter().for_each(|item| {
                places[0][digit(item.key(), first)] += 1;
                places[1][digit(item.key(), second)] += 1;
            }),
            _ => slice.iter().for_each(|item| {
                places[0][digit(item.key(), first)] += 1;
                places[1][digit(item.key(), second)] += 1;
                places[2][digit(item.key(), third)] += 1;
            }),
        }
    }
    for places in &mut places[..digits.count] {
        let mut sum = 0;
        for place in places {
            sum += std::mem::replace(place, sum);
        }
    }
    places
}

/// Sorts the items from place `from` to place `to`, which are in order but for the bits below `shift`.
fn finish<T: Item>(
    space: &mut Space<'_, T>,
    from: usize,
    to: usize,
    shift: u32,
    depth: usize,
    ties: &mut impl Ties,
) {
    let capacity = space.capacity();
    // Groups across the edges of segments.
    let mut done = 0;
    for edge in (capacity..to).step_by(capacity) {
        let digits = space.at(edge).key() >> shift;
        if edge < done || space.at(edge - 1).key() >> shift != digits {
            continue;
        }
        let (mut start, mut end) = (edge - 1, edge + 1);
        while start > from && space.at(start - 1).key() >> shift == digits {
            start -= 1;
        }
        while end < to && space.at(end).key() >> shift == digits {
            end += 1;
        }
        sort_group(space, start, end, depth, ties);
        done = end;
    }
    let mut end = from;
    while end < to {
        let start = end;
        end = to.min((start / capacity + 1) * capacity);
        let mut next = start + 1;
        while let Some(stuck) = insert(
            &mut space.slice(start, end).expect("a segment")[..],
            next - start,
            &mut |a, b| compare(ties, depth, a, b).is_lt(),
        ) {
            // A long group of equal digits, part of it sorted: all of it, or what of it is in this segment, where it
            // is sorted already if it crosses an edge.
            let digits = space.at(start + stuck).key() >> shift;
            let (mut first, mut last) = (start + stuck, start + stuck + 1);
            while first > start && space.at(first - 1).key() >> shift == digits {
                first -= 1;
            }
            while last < end && space.at(last).key() >> shift == digits {
                last += 1;
            }
            sort_group(space, first, last, depth, ties);
            next = last;
        }
    }
}

/// Sorts by insertion from item `next` on; answers the item that would have gone too far, everything being there still.
#[inline(always)]
fn insert<T: Item>(slice: &mut [T], next: usize, less: &mut impl FnMut(&T, &T) -> bool) -> Option<usize> {
    for i in next..slice.len() {
        if !less(&slice[i], &slice[i - 1]) {
            continue;
        }
        let item = slice[i];
        slice[i] = slice[i - 1];
        let mut place = i - 1;
        while place > 0 && less(&item, &slice[place - 1]) {
            slice[place] = slice[place - 1];
            place -= 1;
            if i - place > FAR {
                slice[place] = item;
                return Some(i);
            }
        }
        slice[place] = item;
    }
    None
}

/// Sorts a range by comparisons: by keys, which are word `depth` of their rows, and then what is equal.
fn sort_group<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    end: usize,
    depth: usize,
    ties: &mut impl Ties,
) {
    in_place::sort(space, start, end, &mut |a, b| a.key().cmp(&b.key()));
    if !T::KEY_IS_ALL {
        sort_ties(space, start, end, depth, ties);
    }
}

/// Sorts what is equal in a range that is sorted by keys, which are word `depth` of their rows.
pub(super) fn sort_ties<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    end: usize,
    depth: usize,
    ties: &mut impl Ties,
) {
    let mut first = start;
    while first < end {
        let key = space.at(first).key();
        let mut last = first + 1;
        while last < end && space.at(last).key() == key {
            last += 1;
        }
        if last - first > 1 {
            sort_equal_keys(space, first, last, key, depth, ties);
        }
        first = last;
    }
}

/// Sorts a range of items whose keys are all `key`.
fn sort_equal_keys<T: Item>(
    space: &mut Space<'_, T>,
    start: usize,
    end: usize,
    key: u64,
    depth: usize,
    ties: &mut impl Ties,
) {
    const COMPARED: usize = 8;
    let word = depth + 1;
    if end - start <= COMPARED || word >= ties.words() {
        in_place::sort(space, start, end, &mut |a, b| {
            compare_rest(ties, depth, a.rest(), b.rest())
        });
        return;
    }
    for place in start..end {
        let item = space.at(place);
        space.put(place, item.with_key(ties.word(item.rest(), word)));
    }
    sort_group(space, start, end, word, ties);
    for place in start..end {
        let item = space.at(place);
        space.put(place, item.with_key(key));
    }
}
