//! Merging items that are rows: pieces in memory, by the items alone.
//!
//! # Algorithm
//! Two inputs: where one piece of a segment comes before the other it is taken whole, as with input that was in order; otherwise as
//! many items as the shorter has are merged without a branch. More inputs: the two with the least next items, by a tree of losers.
//!
//! # Cost
//! Two inputs about 1.5 ns an item; log₂ n comparisons for each of n.

use std::sync::Arc;

use super::items::Items;
use super::run::{MemoryRun, Piece, Run};

/// Items merged between two looks at the output.
const AT_ONCE: usize = 512;

/// Parts of these that are merged at a time.
const PARTS: usize = 4;

/// A piece in memory and how far it has been read.
struct Input<I: Items> {
    run: Arc<MemoryRun<I>>,
    chunk: usize,
    place: usize,
    left: u64,
}

impl<I: Items> Input<I> {
    /// The items from the next one on that lie in one segment.
    #[inline]
    fn items(&self) -> &[I::Item] {
        if self.left == 0 {
            return &[];
        }
        let items = &self.run.chunk(self.chunk)[self.place..];
        &items[..(items.len() as u64).min(self.left) as usize]
    }

    #[inline]
    fn take(&mut self, count: usize) {
        self.left -= count as u64;
        self.place += count;
        if self.left > 0 && self.place == self.run.chunk(self.chunk).len() {
            (self.chunk, self.place) = (self.chunk + 1, 0);
        }
    }
}

/// Pieces in memory, merged.
pub struct ItemMerge<I: Items> {
    inputs: Vec<Input<I>>,
    merged: Vec<I::Item>,
}

impl<I: Items> ItemMerge<I> {
    /// A merge of pieces that are all in memory; nothing where one is not, or where there are several and the items of one do not come
    /// in their own order, by which they are merged.
    pub fn of<'a>(pieces: impl Iterator<Item = &'a Piece<I>>) -> Option<Self>
    where
        I: 'a,
    {
        let mut inputs = Vec::new();
        for piece in pieces {
            let Run::Memory(run) = &piece.run else {
                return None;
            };
            let (chunk, place) = run.place(piece.from);
            inputs.push(Input {
                run: run.clone(),
                chunk,
                place,
                left: piece.rows(),
            });
        }
        if inputs.len() > 1 && !inputs.iter().all(|input| input.run.are_items_sorted()) {
            return None;
        }
        Some(ItemMerge {
            inputs,
            merged: Vec::with_capacity(AT_ONCE),
        })
    }

    /// Whether all items were taken.
    pub fn is_over(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Makes `rows`, room for whole rows of `stride` bytes, the next rows; how many.
    pub fn fill(&mut self, rows: &mut [u8], stride: usize) -> usize {
        let mut filled = 0;
        let room = rows.len() / stride;
        while filled < room {
            self.inputs.retain(|input| input.left > 0);
            let rows = &mut rows[filled * stride..];
            let most = room - filled;
            filled += match &mut self.inputs[..] {
                [] => break,
                [only] => {
                    let items = only.items();
                    let count = items.len().min(most);
                    only.run.items().write(&items[..count], rows);
                    only.take(count);
                    count
                }
                [left, right] => merge_two(left, right, most, &mut self.merged, rows),
                inputs => merge_many(inputs, most, &mut self.merged, rows),
            };
        }
        filled
    }
}

/// Takes a number of items of two inputs, which both have some.
fn merge_two<I: Items>(
    left: &mut Input<I>,
    right: &mut Input<I>,
    most: usize,
    merged: &mut Vec<I::Item>,
    rows: &mut [u8],
) -> usize {
    let run = left.run.clone();
    let form = run.items();
    let (a, b) = (left.items(), right.items());
    if form.at_most(&a[a.len() - 1], &b[0]) {
        let count = a.len().min(most);
        form.write(&a[..count], rows);
        left.take(count);
        return count;
    }
    if !form.at_most(&a[0], &b[b.len() - 1]) {
        let count = b.len().min(most);
        form.write(&b[..count], rows);
        right.take(count);
        return count;
    }
    let count = a.len().min(b.len()).min(most).min(AT_ONCE);
    let (a, b) = (&a[..count], &b[..count]);
    let is_first = |x: &I::Item, y: &I::Item| form.at_most(x, y);
    let (from_a, from_b) = merge_parts(a, b, is_first, merged);
    form.write(merged, rows);
    left.take(from_a);
    right.take(from_b);
    count
}

/// Merges the first items of two lists of one size, as many as one of them has: how many were of each. Parts of the result do not depend
/// on each other, so that the processor can work on all of them at a time.
#[inline]
fn merge_parts<T: Copy>(
    a: &[T],
    b: &[T],
    is_first: impl Fn(&T, &T) -> bool,
    merged: &mut Vec<T>,
) -> (usize, usize) {
    let count = a.len();
    let part = count / PARTS;
    let mut from_a: [usize; PARTS] = std::array::from_fn(|index| place_in(a, b, index * part, &is_first));
    let mut from_b: [usize; PARTS] = std::array::from_fn(|index| index * part - from_a[index]);
    merged.clear();
    merged.resize(count, a[0]);
    let mut rest = &mut merged[..];
    let mut parts: [&mut [T]; PARTS] = std::array::from_fn(|_| {
        let (first, others) = std::mem::take(&mut rest).split_at_mut(part);
        rest = others;
        first
    });
    for number in 0..part {
        for ((part, at_a), at_b) in parts.iter_mut().zip(&mut from_a).zip(&mut from_b) {
            part[number] = take_first(a, b, at_a, at_b, &is_first);
        }
    }
    let [.., mut at_a] = from_a;
    let [.., mut at_b] = from_b;
    for place in rest {
        *place = take_first(a, b, &mut at_a, &mut at_b, &is_first);
    }
    (at_a, at_b)
}

#[inline(always)]
fn take_first<T: Copy>(
    a: &[T],
    b: &[T],
    at_a: &mut usize,
    at_b: &mut usize,
    is_first: impl Fn(&T, &T) -> bool,
) -> T {
    let (x, y) = (a[*at_a], b[*at_b]);
    let is_a = is_first(&x, &y);
    *at_a += usize::from(is_a);
    *at_b += usize::from(!is_a);
    if is_a { x } else { y }
}

/// How many of the first `count` items of two lists are of the first, where that comes first among equals.
fn place_in<T>(a: &[T], b: &[T], count: usize, is_first: impl Fn(&T, &T) -> bool) -> usize {
    let (mut low, mut high) = (count.saturating_sub(b.len()), count.min(a.len()));
    while low < high {
        let middle = low.midpoint(high);
        match is_first(&a[middle], &b[count - middle - 1]) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

/// Takes a number of items of several inputs, which all have some.
fn merge_many<I: Items>(
    inputs: &mut [Input<I>],
    most: usize,
    merged: &mut Vec<I::Item>,
    rows: &mut [u8],
) -> usize {
    let run = inputs[0].run.clone();
    let form = run.items();
    merged.clear();
    let mut is_over = false;
    while merged.len() < most.min(AT_ONCE) && !is_over {
        let mut least = 0;
        for other in 1..inputs.len() {
            if !form.at_most(&inputs[least].items()[0], &inputs[other].items()[0]) {
                least = other;
            }
        }
        let input = &mut inputs[least];
        merged.push(input.items()[0]);
        input.take(1);
        is_over = input.left == 0;
    }
    form.write(merged, rows);
    merged.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_merged_as_the_whole() {
        let mut state = 5u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
            (state >> 33) % bound
        };
        let mut merged = Vec::new();
        for round in 0..3000u64 {
            let count = 1 + below(40) as usize;
            let keys = 1 + round % 50;
            // Which list an item is of, and where it was, shows among equals.
            let mut list = |of: u64| {
                let mut keys: Vec<u64> = (0..count).map(|_| below(keys) + 5 * of * (round % 2)).collect();
                keys.sort_unstable();
                let list = keys.into_iter().zip(0u64..).map(|(key, at)| (key, of, at));
                list.collect::<Vec<_>>()
            };
            let (a, b) = (list(0), list(1));
            let (from_a, from_b) = merge_parts(&a, &b, |x, y| x.0 <= y.0, &mut merged);
            let mut expected = [a, b].concat();
            expected.sort_unstable();
            assert_eq!(merged, expected[..count], "round {round}");
            assert_eq!(
                (from_a + from_b, merged.iter().filter(|item| item.1 == 0).count()),
                (count, from_a)
            );
        }
    }
}
