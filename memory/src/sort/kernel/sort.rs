//! Sorting a list of chunks in memory: the order in which the kernels are used.
//!
//! # Algorithm
//! 1. A list that is in order already stays as it is, one in reverse order is reversed.
//! 2. The highest bits in which keys differ distribute the items to buckets (`distribute`), and the buckets are sorted in the same
//!    way, until one fits in the second-level cache (`leaf`). Bits that all keys have in common are thereby skipped.
//! 3. Items of equal keys are a bucket of their own at last: their keys are exchanged for the next words of their rows, while
//!    there are any, and sorted; then rows are compared.
//! 4. Where there are too few spare segments for two buckets, the bucket is sorted in place (`in_place`).

use super::chunks::Chunks;
use super::distribute::{self, Bits, distribute};
use super::in_place::{self, Space};
use super::item::{Entry, Item, Pair};
use super::leaf;
use super::runs::{self, Order};
use super::ties::{ByRest, Ties, compare};
use crate::segment::Segment;

/// Sorts the index of rows whose normalized keys begin with their prefixes; `ties` orders rows of equal prefixes.
///
/// Segments are neither taken nor given back: at the end `entries` has as many as it needs, all full but
/// the last, and `spares` the others. Some 300 spares are enough for full speed, whatever the number of entries; with none the sort is in place,
/// and slower. The result is the same for the same entries, in whatever segments.
pub fn sort_entries(entries: &mut Chunks<Entry>, spares: &mut Vec<Segment>, ties: &mut impl Ties) {
    sort(entries, spares, ties);
}

/// Sorts numbers; segments as in [`sort_entries`].
pub fn sort_u64(numbers: &mut Chunks<u64>, spares: &mut Vec<Segment>) {
    sort(numbers, spares, &mut ByRest);
}

/// Sorts pairs by key, those of equal keys by payload; segments as in [`sort_entries`].
pub fn sort_pairs(pairs: &mut Chunks<Pair>, spares: &mut Vec<Segment>) {
    sort(pairs, spares, &mut ByRest);
}

fn sort<T: Item>(items: &mut Chunks<T>, spares: &mut Vec<Segment>, ties: &mut impl Ties) {
    let mut input = std::mem::replace(items, items.another());
    input = match runs::find(&input) {
        Order::Runs(found) if spares.len() >= runs::SPARES => runs::make_one(input, &found, spares),
        // Keys that are all equal are sorted by what comes after them.
        Order::Ascending if T::KEY_IS_ALL || input.first_key() != input.last_key() => {
            input.compact(spares);
            input
        }
        _ => {
            let mut sorter = Sorter {
                output: items,
                spares,
                ties,
            };
            return sorter.sort(input, 0);
        }
    };
    if !T::KEY_IS_ALL {
        let (len, capacity) = (input.len(), input.segment_capacity());
        leaf::sort_ties(&mut Space::new(input.spaces_mut(), capacity), 0, len, 0, ties);
    }
    items.append(&mut input);
}

/// The bits that all keys have, and those that any has. Without items, none.
fn bits_in_all_and_any<T: Item>(items: &Chunks<T>) -> (u64, u64) {
    let (mut all, mut any) = (u64::MAX, 0);
    for slice in items.slices() {
        for item in slice {
            all &= item.key();
            any |= item.key();
        }
    }
    if items.is_empty() { (0, 0) } else { (all, any) }
}

struct Sorter<'a, T, X> {
    output: &'a mut Chunks<T>,
    spares: &'a mut Vec<Segment>,
    ties: &'a mut X,
}

impl<T: Item, X: Ties> Sorter<'_, T, X> {
    /// Appends the items to the output, sorted; their keys are word `depth` of their rows.
    fn sort(&mut self, mut input: Chunks<T>, depth: usize) {
        let (all, any) = bits_in_all_and_any(&input);
        let (first, varying) = (all, all ^ any);
        let needed = input.len().div_ceil(input.segment_capacity());
        // Beyond the last word the key is the rest of the item.
        let is_all = T::KEY_IS_ALL || depth >= self.ties.words();
        if input.len() < 2 || (varying == 0 && is_all) {
            self.output.append_dense(&mut input, self.spares);
        } else if varying == 0 {
            self.sort_equal_keys(input, depth, first);
        } else if input.len() <= leaf::most::<T>() && self.spares.len() >= needed {
            leaf::sort(input, self.output, self.spares, varying, depth, self.ties);
        } else if self.spares.len() >= 4 {
            let wanted = (2 * input.len() / leaf::most::<T>()).max(2).ilog2() + 1;
            let affordable = self.spares.len().ilog2();
            let bits = wanted.min(affordable).min(distribute::MOST_BITS);
            for bucket in distribute(input, self.spares, Bits::highest(varying, bits)) {
                self.sort(bucket, depth);
            }
        } else {
            self.sort_in_place(input, depth);
        }
    }

    /// Sorts items whose keys are all `key`: by the next word, or by comparisons.
    fn sort_equal_keys(&mut self, mut input: Chunks<T>, depth: usize, key: u64) {
        let word = depth + 1;
        let next_word = word < self.ties.words();
        if !next_word && self.ties.may_differ() {
            self.sort_in_place(input, depth);
            return;
        }
        for slice in input.slices_mut() {
            for item in slice {
                let next = match next_word {
                    true => self.ties.word(item.rest(), word),
                    false => item.rest(),
                };
                *item = item.with_key(next);
            }
        }
        let mut sorted = input.another();
        Sorter {
            output: &mut sorted,
            spares: self.spares,
            ties: self.ties,
        }
        .sort(input, word);
        for slice in sorted.slices_mut() {
            slice.iter_mut().for_each(|item| *item = item.with_key(key));
        }
        self.output.append_dense(&mut sorted, self.spares);
    }

    fn sort_in_place(&mut self, mut input: Chunks<T>, depth: usize) {
        if !input.is_dense() {
            input.compact(self.spares);
        }
        let (items, capacity) = (input.len(), input.segment_capacity());
        let mut space = Space::new(input.spaces_mut(), capacity);
        in_place::sort_by_digits(&mut space, 0, items, &mut |a, b| compare(self.ties, depth, a, b));
        drop(space);
        self.output.append_dense(&mut input, self.spares);
    }
}
