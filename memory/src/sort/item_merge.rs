//! Merging items that are rows: pieces in memory and on disk, by the items alone.
//!
//! # Interface
//! [`ItemMerge::ready`] sees to it that there are items that come next, [`ItemMerge::fill`] makes rows of them, until nothing is ready any
//! more.
//!
//! # Algorithm
//! In rounds. Each input shows a *window*: some of its next items.
//! 1. Where the window of one input comes before all others, as with input that was in order, it is taken as it is.
//! 2. Otherwise the least of the windows' last items is the *bound*: nothing that is not in a window yet comes before it. What is up to
//!    the bound is taken from every window and merged in pairs, without a branch on items, in the first-level cache: as many rounds of
//!    pairs as there are doublings in the number of inputs.
//! 3. Parts of a pair's result do not depend on each other, so four of them are made at a time: a binary search finds where they begin.
//! 4. More than [`FEW_INPUTS`] windows are *distributed*, not merged: what is up to the bound is sorted by the highest digits in which it
//!    differs (least significant digit first, `kernel/leaf.rs`), in the second-level cache, and the rest by insertion, which costs the same for any
//!    number of inputs. Where keys are so uneven that insertion would go far, this round and some after it are merged in pairs.
//!
//! # Memory
//! For each spilled piece a segment with the block that is being read, and its window of up to [`ROUND`] items; two buffers of the windows
//! together. These windows and buffers are on the heap, since they are small, sorted by places all over them, and do not grow with data: all windows
//! together have about [`ROUND`] items where there are at most ROUND / [`LEAST_WINDOW`] inputs (96 KiB with the buffers for numbers, 192 for pairs;
//! and at most a 20th of the inputs' segments of 32 KiB where there are more inputs), or [`WIDE_BYTES`] where they are distributed, which is 768 KiB
//! with the buffers, but no more than [`WIDE_PART`] of the budget: with fewer than [`LEAST_WIDE`] items nothing is distributed. They are a part of
//! the framework's heap, for each subtask that merges.
//!
//! # Cost
//! 1.5 ns an item and doubling of the number of inputs; a tree of losers, 14 inputs: 14 ns. Distributed, some 5 ns whatever
//! the number of inputs: [decision 033](../../../docs/decisions/033-many-runs-are-distributed.md).

use std::ops::Range;
use std::sync::Arc;

use super::ahead::{Disk, ReadAhead};
use super::items::Items;
use super::kernel::Item;
use super::order::RowOrder;
use super::run::{MemoryRun, Piece, Run, RunWriter, SpilledRun};
use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::spill::SpillHandle;
use zerocopy::FromZeros;

/// Items of all windows, and the fewest of one.
const ROUND: usize = 4096;
const LEAST_WINDOW: usize = 32;

/// Bytes of all windows that are distributed: with twice as many for the result, they are in a second-level cache of 1 MiB.
const WIDE_BYTES: usize = 256 << 10;

/// The windows and both buffers are at most one in so many parts of a budget.
const WIDE_PART: usize = 16;

/// Fewer items are not distributed.
const LEAST_WIDE: usize = 1024;

/// So many inputs, or fewer, are merged in pairs.
const FEW_INPUTS: usize = 8;

/// Bits of a digit, at most.
const DIGIT_BITS: u32 = 9;

/// Insertion gives up after so many steps.
const FAR: usize = 24;

/// How many rounds are merged in pairs after one that could not be distributed.
const ROUNDS_IN_PAIRS: usize = 64;

/// Parts of a pair's result that are made at a time.
const PARTS: usize = 4;

/// Pairs of fewer items are merged in one part.
const FEW: usize = 64;

/// A piece and how far it has been read.
struct Input<I: Items> {
    /// Items that were not taken, those of the window among them.
    left: u64,
    place: Place<I>,
}

enum Place<I: Items> {
    Memory {
        run: Arc<MemoryRun<I>>,
        chunk: usize,
        place: usize,
    },
    Spilled(Spilled<I>),
}

struct Spilled<I: Items> {
    run: Arc<SpilledRun>,
    /// Its blocks to be read.
    blocks: Range<usize>,
    /// Its number among the inputs that are read ahead.
    number: usize,
    /// The block that is being read; none when the input is over.
    segment: Option<Segment>,
    /// Bytes of the block in the segment that are not in the window yet.
    rest: Range<usize>,
    window: Vec<I::Item>,
    /// Items of the window that were taken.
    taken: usize,
    /// Whether blocks are given back when they were read.
    frees: bool,
}

impl<I: Items> Input<I> {
    /// Items from the next one on, at least one where there are any left.
    #[inline]
    fn items(&self) -> &[I::Item] {
        match &self.place {
            _ if self.left == 0 => &[],
            Place::Memory { run, chunk, place } => {
                let items = &run.chunk(*chunk)[*place..];
                &items[..(items.len() as u64).min(self.left) as usize]
            }
            Place::Spilled(spilled) => &spilled.window[spilled.taken..],
        }
    }

    /// Passes items.
    #[inline]
    fn take(&mut self, count: usize) {
        self.left -= count as u64;
        match &mut self.place {
            Place::Memory { run, chunk, place } => {
                *place += count;
                if self.left > 0 && *place == run.chunk(*chunk).len() {
                    (*chunk, *place) = (*chunk + 1, 0);
                }
            }
            Place::Spilled(spilled) => spilled.taken += count,
        }
    }

    /// Sees to it that there is a window of up to `most` items, half of that at least, where so many are left. Were it filled only when it
    /// is empty, each round would end with the one that is nearly empty.
    #[inline]
    fn look(&mut self, most: usize, form: &I, disk: &mut Disk<'_>) -> Result<()> {
        match &mut self.place {
            Place::Spilled(spilled) => {
                let shown = spilled.window.len() - spilled.taken;
                match shown < most.div_ceil(2) && (shown as u64) < self.left {
                    true => spilled.look(self.left, most, form, disk),
                    false => Ok(()),
                }
            }
            Place::Memory { .. } => Ok(()),
        }
    }
}

impl<I: Items> Spilled<I> {
    fn look(&mut self, left: u64, most: usize, form: &I, disk: &mut Disk<'_>) -> Result<()> {
        let stride = form.order().stride();
        let mut shown = self.window.len() - self.taken;
        self.window.copy_within(self.taken.., 0);
        self.taken = 0;
        let wanted = left.min(most as u64) as usize;
        self.window.resize(wanted.max(shown), I::Item::new_zeroed());
        while shown < wanted {
            if self.rest.is_empty() {
                self.read(disk)?;
            }
            let rows = (self.rest.len() / stride).min(wanted - shown);
            if rows == 0 {
                return Err(Error::corrupt(format!(
                    "a sorted run of operator \"{}\": a block ends with {} B of a row of {stride} B; the disk returned damaged data",
                    disk.handle.owner(),
                    self.rest.len()
                )));
            }
            let end = self.rest.start + rows * stride;
            let rows_of = self
                .segment
                .as_ref()
                .map_or(&[][..], |segment| &segment[self.rest.start..end]);
            form.read(rows_of, &mut self.window[shown..shown + rows]);
            self.rest.start = end;
            shown += rows;
        }
        Ok(())
    }

    fn read(&mut self, disk: &mut Disk<'_>) -> Result<()> {
        let block = self.blocks.next().expect("a piece's rows are in its blocks");
        let segment = self.segment.as_mut().expect("a spilled piece has a segment");
        self.rest = disk.read(self.number, block, segment)?;
        if self.frees {
            disk.handle.free(self.run.blocks[block].reference);
        }
        Ok(())
    }
}

/// What comes next.
#[derive(Clone, Copy)]
enum Ready {
    /// So many items of an input, as they are.
    Input(usize, usize),
    /// Those that were merged, from a number on.
    Merged(usize),
}

/// Pieces of items that are rows, merged.
pub(super) struct ItemMerge<I: Items> {
    inputs: Vec<Input<I>>,
    ahead: ReadAhead,
    /// Of inputs that are over.
    segments: Vec<Segment>,
    ready: Ready,
    merged: Vec<I::Item>,
    other: Vec<I::Item>,
    /// Where each list in `merged` ends.
    ends: Vec<usize>,
    /// Which inputs have how many items up to the bound.
    taken: Vec<(usize, usize)>,
    /// Rounds that are merged in pairs, however many inputs there are.
    in_pairs: usize,
    /// Items of all windows that are distributed.
    wide: usize,
}

/// Items of all windows that are distributed, with a budget of so many bytes; 0 where none are.
fn wide_round<T>(budget_bytes: usize) -> usize {
    let items = WIDE_BYTES.min(budget_bytes / WIDE_PART / 3) / size_of::<T>();
    if items < LEAST_WIDE { 0 } else { items }
}

impl<I: Items> ItemMerge<I> {
    /// Whether pieces can be merged in this way: where items are rows, and those of each come in their own order, which may decide more
    /// than that of rows. One by itself can be in any order.
    pub fn can<'a>(mut pieces: impl ExactSizeIterator<Item = &'a Piece<I>>) -> bool
    where
        I: 'a,
    {
        I::ARE_ROWS && (pieces.len() < 2 || pieces.all(|piece| piece.run.are_items_sorted()))
    }

    /// A merge of such pieces, none of them empty, whose spilled ones are those of `ahead`; each of these has a segment, and gives its
    /// blocks back where nobody else reads its run. The budget has at most `budget_bytes`.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn open(
        pieces: impl Iterator<Item = (Piece<I>, bool, Vec<Segment>)>,
        ahead: ReadAhead,
        form: &I,
        handle: &mut SpillHandle,
        budget_bytes: usize,
    ) -> Result<Self> {
        let mut merge = ItemMerge {
            inputs: Vec::new(),
            ahead,
            segments: Vec::new(),
            ready: Ready::Merged(0),
            merged: Vec::new(),
            other: Vec::new(),
            ends: Vec::new(),
            taken: Vec::new(),
            in_pairs: 0,
            wide: wide_round::<I::Item>(budget_bytes),
        };
        let mut number = 0;
        for (piece, is_own, mut segments) in pieces {
            let left = piece.rows();
            let place = match piece.run {
                Run::Memory(run) => {
                    let (chunk, place) = run.place(piece.from);
                    Place::Memory { run, chunk, place }
                }
                Run::Spilled(run) => {
                    let blocks = run.blocks_of(piece.from, piece.to);
                    let skipped = piece.from - run.blocks[blocks.start].row;
                    let mut spilled = Spilled {
                        run,
                        blocks,
                        number,
                        segment: segments.pop(),
                        rest: 0..0,
                        window: Vec::new(),
                        taken: 0,
                        frees: is_own,
                    };
                    let ahead = &mut merge.ahead;
                    spilled.read(&mut Disk { handle, ahead })?;
                    spilled.rest.start += skipped as usize * form.order().stride();
                    number += 1;
                    Place::Spilled(spilled)
                }
            };
            merge.inputs.push(Input { left, place });
        }
        Ok(merge)
    }

    /// Sees to it that there are items for [`ItemMerge::fill`]; false where all were taken.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn ready(&mut self, form: &I, handle: &mut SpillHandle) -> Result<bool> {
        match self.ready {
            Ready::Input(_, count) if count > 0 => Ok(true),
            Ready::Merged(from) if from < self.ends.last().copied().unwrap_or(0) => Ok(true),
            _ => self.round(form, handle),
        }
    }

    /// Makes `rows`, room for whole rows, the next of those that are ready; how many.
    pub fn fill(&mut self, form: &I, rows: &mut [u8]) -> usize {
        let most = rows.len() / form.order().stride();
        self.take(most, |items| form.write(items, rows))
    }

    /// Writes those that are ready to a run.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn write(&mut self, form: &I, writer: &mut RunWriter, handle: &mut SpillHandle) -> Result<usize> {
        let mut written = Ok(());
        let count = self.take(usize::MAX, |items| {
            written = writer.push_items(form, items, handle)
        });
        written.map(|()| count)
    }

    /// Takes up to `most` of the items that are ready.
    fn take(&mut self, most: usize, take: impl FnOnce(&[I::Item])) -> usize {
        match &mut self.ready {
            Ready::Input(number, left) => {
                let count = most.min(*left);
                *left -= count;
                let input = &mut self.inputs[*number];
                take(&input.items()[..count]);
                input.take(count);
                count
            }
            Ready::Merged(from) => {
                let end = self.ends.last().copied().unwrap_or(0);
                let count = most.min(end - *from);
                take(&self.merged[*from..*from + count]);
                *from += count;
                count
            }
        }
    }

    /// Finds what comes next; false where there is nothing.
    fn round(&mut self, form: &I, handle: &mut SpillHandle) -> Result<bool> {
        let segments = &mut self.segments;
        self.inputs.retain_mut(|input| {
            if input.left == 0
                && let Place::Spilled(spilled) = &mut input.place
            {
                segments.extend(spilled.segment.take());
            }
            input.left > 0
        });
        let is_wide = self.inputs.len() > FEW_INPUTS && self.in_pairs == 0 && self.wide > 0;
        self.in_pairs = self.in_pairs.saturating_sub(1);
        let round = match is_wide {
            true => self.wide,
            false => ROUND,
        };
        let most = (round / self.inputs.len().max(1)).max(LEAST_WINDOW);
        for input in &mut self.inputs {
            let ahead = &mut self.ahead;
            input.look(most, form, &mut Disk { handle, ahead })?;
        }
        let Some(first) = self.inputs.first() else {
            return Ok(false);
        };
        let (mut first, mut least) = (first.items()[0], 0);
        for (number, input) in self.inputs.iter().enumerate().skip(1) {
            let item = input.items()[0];
            if !form.at_most(&first, &item) {
                (first, least) = (item, number);
            }
        }
        let items = self.inputs[least].items();
        let last = &items[items.len() - 1];
        let mut others = self
            .inputs
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != least);
        if others.all(|(_, input)| form.at_most(last, &input.items()[0])) {
            self.ready = Ready::Input(least, items.len());
            return Ok(true);
        }
        self.merge(most, is_wide, form);
        Ok(true)
    }

    /// Merges what is up to the bound, by distributing it where it may.
    fn merge(&mut self, most: usize, is_wide: bool, form: &I) {
        let window = |input: &Input<I>| input.items().len().min(most);
        let lasts = self.inputs.iter().filter_map(|input| {
            let count = window(input);
            (count as u64 != input.left).then(|| input.items()[count - 1])
        });
        let bound = lasts.reduce(|a, b| if form.at_most(&a, &b) { a } else { b });
        self.taken.clear();
        let mut total = 0;
        for (number, input) in self.inputs.iter().enumerate() {
            let items = &input.items()[..window(input)];
            let count = match &bound {
                Some(bound) => items.partition_point(|item| form.at_most(item, bound)),
                None => items.len(),
            };
            if count > 0 {
                self.taken.push((number, count));
                total += count;
            }
        }
        if self.merged.len() < total {
            self.merged.resize(total, I::Item::new_zeroed());
            self.other.resize(total, I::Item::new_zeroed());
        }
        let is_first = |x: &I::Item, y: &I::Item| form.at_most(x, y);
        let items = |(number, count): (usize, usize)| &self.inputs[number].items()[..count];
        self.ends.clear();
        if is_wide {
            let lists = self.taken.iter().map(|taken| items(*taken));
            let merged = &mut self.merged[..total];
            if distribute(lists, merged, &mut self.other[..total], is_first) {
                self.ends.push(total);
                return self.pass();
            }
            self.in_pairs = ROUNDS_IN_PAIRS;
        }
        // Small lists first, so that what is in the largest is moved least; where a list is does not matter among equals, which are the same.
        self.taken.sort_unstable_by_key(|(_, count)| *count);
        let mut rest = &mut self.merged[..];
        for pair in self.taken.chunks(2) {
            let (a, b) = (items(pair[0]), pair.get(1).map_or(&[][..], |other| items(*other)));
            let (into, after) = rest.split_at_mut(a.len() + b.len());
            merge_two(a, b, into, is_first);
            self.ends
                .push(self.ends.last().copied().unwrap_or(0) + into.len());
            rest = after;
        }
        while self.ends.len() > 1 {
            let (mut start, mut kept) = (0, 0);
            for pair in 0..self.ends.len().div_ceil(2) {
                let middle = self.ends[2 * pair];
                let end = self.ends.get(2 * pair + 1).copied().unwrap_or(middle);
                let (a, b) = (&self.merged[start..middle], &self.merged[middle..end]);
                merge_two(a, b, &mut self.other[start..end], is_first);
                self.ends[pair] = end;
                (start, kept) = (end, pair + 1);
            }
            self.ends.truncate(kept);
            std::mem::swap(&mut self.merged, &mut self.other);
        }
        self.pass();
    }

    /// Passes what was merged.
    fn pass(&mut self) {
        for &(number, count) in &self.taken {
            self.inputs[number].take(count);
        }
        self.ready = Ready::Merged(0);
    }

    /// The memory of the inputs, and that with which they were read ahead.
    pub fn into_segments(self) -> impl Iterator<Item = Segment> {
        let inputs = self.inputs.into_iter().filter_map(|input| match input.place {
            Place::Memory { .. } => None,
            Place::Spilled(spilled) => spilled.segment,
        });
        inputs.chain(self.segments).chain(self.ahead.into_segments())
    }
}

/// Sorts the items of sorted lists, none of them empty, into `sorted`, which is as long as all of them together, as `other` is. False where
/// their keys are too uneven for that; then both have anything.
fn distribute<'a, T: Item>(
    lists: impl Iterator<Item = &'a [T]> + Clone,
    sorted: &mut [T],
    other: &mut [T],
    is_first: impl Fn(&T, &T) -> bool,
) -> bool {
    let ends = lists
        .clone()
        .map(|list| (list[0].key(), list[list.len() - 1].key()));
    let Some((least, most)) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
        return true;
    };
    // About one bit more than the number of items has, in two digits below what all keys have in common.
    let varying = 64 - (least ^ most).leading_zeros();
    let bits = (sorted.len().ilog2() + 2).div_ceil(2).min(DIGIT_BITS);
    let mask = (1u64 << bits) - 1;
    // Where fewer bits vary, the digits have some in common, or some that are the same in all keys.
    let high = varying.saturating_sub(bits);
    let low = varying.saturating_sub(2 * bits);
    let digit = |item: &T, shift: u32| (item.key() >> shift & mask) as usize & ((1 << DIGIT_BITS) - 1);
    let mut places = [[0u32; 1 << DIGIT_BITS]; 2];
    for list in lists.clone() {
        for item in list {
            places[0][digit(item, low)] += 1;
            places[1][digit(item, high)] += 1;
        }
    }
    for places in &mut places {
        let mut sum = 0;
        for place in places {
            sum += std::mem::replace(place, sum);
        }
    }
    let [low_places, high_places] = &mut places;
    for list in lists {
        for item in list {
            let place = &mut low_places[digit(item, low)];
            other[*place as usize] = *item;
            *place += 1;
        }
    }
    for item in &*other {
        let place = &mut high_places[digit(item, high)];
        sorted[*place as usize] = *item;
        *place += 1;
    }
    if low == 0 && T::KEY_IS_ALL {
        return true;
    }
    for place in 1..sorted.len() {
        let item = sorted[place];
        if is_first(&sorted[place - 1], &item) {
            continue;
        }
        let mut hole = place;
        while hole > 0 && !is_first(&sorted[hole - 1], &item) {
            if place - hole >= FAR {
                return false;
            }
            sorted[hole] = sorted[hole - 1];
            hole -= 1;
        }
        sorted[hole] = item;
    }
    true
}

/// Merges two lists to one that has room for both; among equals those of the first come first. Parts of the result do not depend on
/// each other, so that the processor can work on all of them at a time.
#[inline]
fn merge_two<T: Copy>(a: &[T], b: &[T], merged: &mut [T], is_first: impl Fn(&T, &T) -> bool) {
    let count = merged.len();
    if a.is_empty() || b.is_empty() || count < FEW {
        return merge_rest(a, b, merged, is_first);
    }
    let part = count / PARTS;
    let mut at_a: [usize; PARTS] = std::array::from_fn(|index| place_in(a, b, index * part, &is_first));
    let mut at_b: [usize; PARTS] = std::array::from_fn(|index| index * part - at_a[index]);
    let end = |starts: &[usize; PARTS], last: usize| -> [usize; PARTS] {
        std::array::from_fn(|index| starts.get(index + 1).copied().unwrap_or(last))
    };
    let (end_a, end_b) = (end(&at_a, a.len()), end(&at_b, b.len()));
    let mut rest = merged;
    let mut parts: [&mut [T]; PARTS] = std::array::from_fn(|index| {
        let size = end_a[index] - at_a[index] + end_b[index] - at_b[index];
        let (first, others) = std::mem::take(&mut rest).split_at_mut(size);
        rest = others;
        first
    });
    let mut done = 0;
    loop {
        // So many steps surely exhaust neither list of any part.
        let left = (0..PARTS).map(|part| (end_a[part] - at_a[part]).min(end_b[part] - at_b[part]));
        let steps = left.min().unwrap_or(0);
        if steps == 0 {
            break;
        }
        for number in done..done + steps {
            for ((part, at_a), at_b) in parts.iter_mut().zip(&mut at_a).zip(&mut at_b) {
                part[number] = take_first(a, b, at_a, at_b, &is_first);
            }
        }
        done += steps;
    }
    for (index, part) in parts.into_iter().enumerate() {
        let (a, b) = (&a[at_a[index]..end_a[index]], &b[at_b[index]..end_b[index]]);
        merge_rest(a, b, &mut part[done..], &is_first);
    }
}

/// Does so in one part.
fn merge_rest<T: Copy>(mut a: &[T], mut b: &[T], mut merged: &mut [T], is_first: impl Fn(&T, &T) -> bool) {
    loop {
        let surely = a.len().min(b.len());
        if surely == 0 {
            let (from_a, from_b) = merged.split_at_mut(a.len());
            from_a.copy_from_slice(a);
            return from_b.copy_from_slice(b);
        }
        let (now, later) = merged.split_at_mut(surely);
        let (mut at_a, mut at_b) = (0, 0);
        for place in now {
            *place = take_first(a, b, &mut at_a, &mut at_b, &is_first);
        }
        (a, b, merged) = (&a[at_a..], &b[at_b..], later);
    }
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

#[cfg(test)]
mod tests {
    use super::super::kernel::Pair;
    use super::*;

    /// What is distributed, with both buffers, is the part of a budget that it may be, and 768 KiB at most.
    #[test]
    fn what_is_distributed_is_a_small_part_of_the_budget() {
        for budget in (0..60).map(|step| (step * step) << 14) {
            for bytes in [8 * wide_round::<u64>(budget), 16 * wide_round::<Pair>(budget)] {
                assert!(3 * bytes <= (budget / 16).min(768 << 10), "{bytes} of {budget}");
            }
        }
        assert_eq!(wide_round::<u64>(28 << 20), 32 << 10);
        assert_eq!((wide_round::<u64>(1 << 18), wide_round::<Pair>(1 << 19)), (0, 0));
    }

    #[test]
    fn lists_of_any_keys_are_distributed_or_refused_as_by_sorting() {
        let mut state = 7u64;
        let mut next = move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
            state ^ (state >> 29)
        };
        let mut refused = [0; 7];
        for round in 0..1400 {
            let kind = round % 7;
            let bits = 1 + round as u32 / 7 % 64;
            let mut key = |index: u64| match kind {
                // Everywhere; few bits; above bits that are the same; the same; few; ever nearer to one end; two heaps.
                0 => next(),
                1 => next() >> (64 - bits),
                2 => (next() >> (64 - bits)) | (0xabcd << 48),
                3 => 77,
                4 => next() % 5,
                5 => u64::MAX >> (next() % 64),
                _ => ((next() % 2) << 63) | (next() % 4000) | (index << 2),
            };
            let lists: Vec<Vec<Pair>> = (0..1 + round as u64 % 40)
                .map(|list| {
                    let pair = |index| Pair {
                        key: key(index),
                        payload: (list * 7 + index * 13) % 11,
                    };
                    let mut list: Vec<Pair> = (0..1 + (list * round as u64) % 90).map(pair).collect();
                    list.sort_unstable();
                    list
                })
                .collect();
            let mut expected = lists.concat();
            expected.sort_unstable();
            let (mut sorted, mut other) = (expected.clone(), expected.clone());
            sorted.reverse();
            match distribute(
                lists.iter().map(Vec::as_slice),
                &mut sorted,
                &mut other,
                |a, b| a <= b,
            ) {
                true => assert_eq!(sorted, expected, "round {round}"),
                false => refused[kind] += 1,
            }
            let keys = |list: &Vec<Pair>| list.iter().map(|pair| pair.key).collect::<Vec<_>>();
            let lists: Vec<Vec<u64>> = lists.iter().map(keys).collect();
            let (mut sorted, mut other) = (vec![1; expected.len()], vec![2; expected.len()]);
            if distribute(
                lists.iter().map(Vec::as_slice),
                &mut sorted,
                &mut other,
                |a, b| a <= b,
            ) {
                assert_eq!(sorted, keys(&expected), "round {round}, numbers");
            }
        }
        assert_eq!(refused[0], 0, "random keys never go far");
        assert!(
            refused[3] > 0,
            "equal keys with payloads in disorder do: {refused:?}"
        );
    }

    #[test]
    fn two_lists_of_any_sizes_are_merged_in_parts_as_by_sorting() {
        let mut state = 5u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
            (state >> 33) % bound
        };
        for round in 0..3000u64 {
            let most = [3, 40, 400, 1000][(round / 500) as usize % 4];
            let keys = 1 + round % 50;
            // Which list an item is of, and where it was, shows among equals.
            let mut list = |of: u64| {
                let count = below(most);
                let mut keys: Vec<u64> = (0..count).map(|_| below(keys) + 5 * of * (round % 2)).collect();
                keys.sort_unstable();
                let list = keys.into_iter().zip(0u64..).map(|(key, at)| (key, of, at));
                list.collect::<Vec<_>>()
            };
            let (a, b) = (list(0), list(1));
            let mut merged = vec![(0, 0, 0); a.len() + b.len()];
            merge_two(&a, &b, &mut merged, |x, y| x.0 <= y.0);
            let mut expected = [a, b].concat();
            expected.sort_unstable();
            assert_eq!(merged, expected, "round {round}");
        }
    }
}
