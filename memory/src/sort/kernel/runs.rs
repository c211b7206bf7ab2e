//! Lists that are in order already, in whole or in a few long runs: found, and made one run by merging.
//!
//! # Algorithm
//! 1. Runs are found one after the other, ascending ones (each key at least the one before) and descending ones, and the
//!    search ends with the first that makes more than [`MOST_RUNS`]: random keys cost a few dozen comparisons.
//! 2. Descending runs are turned round, segment by segment and then their list.
//! 3. Neighbouring runs are merged in pairs, without branches on their keys. Segments that have been read through are written next.
//!
//! # Memory
//! A spare segment for each cut between two runs, and up to three more for each merge.
//!
//! # Cost
//! Looking: 0.5 ns an item. Merging: 2 to 3 ns an item and level.

use std::cmp::Ordering;

use super::chunks::{Chunk, Chunks, all_mut};
use super::item::Item;
use super::merge::merge_slices;
use crate::segment::Segment;

/// The most runs that are merged: two levels of merging, about half the time of the radix sort.
const MOST_RUNS: usize = 4;

/// What [`make_one`] needs in spare segments at most.
pub(super) const SPARES: usize = 4 * MOST_RUNS;

/// Where a run ends, in items from the start of the list, and whether it descends.
#[derive(Clone, Copy)]
struct Run {
    end: usize,
    descends: bool,
}

/// What is known of a list's order.
pub(super) enum Order {
    /// Ascending by keys.
    Ascending,
    /// In a few runs.
    Runs(Runs),
    /// Anything else.
    None,
}

/// The runs of a list.
pub(super) struct Runs {
    list: [Run; MOST_RUNS],
    count: usize,
}

/// Finds the runs of a list.
pub(super) fn find<T: Item>(items: &Chunks<T>) -> Order {
    let run = Run {
        end: 0,
        descends: false,
    };
    let mut runs = Runs {
        list: [run; MOST_RUNS],
        count: 0,
    };
    // The key before, and which way the run goes, once it has two keys that differ.
    let (mut before, mut way) = (None, Ordering::Equal);
    let mut at = 0;
    for slice in items.slices() {
        let mut rest = slice;
        while let [first, ..] = rest {
            let last = before.unwrap_or(first.key());
            if way.is_eq() {
                way = last.cmp(&first.key());
            }
            let len = match way {
                Ordering::Greater => ordered(last, rest, |a, b| a >= b),
                _ => ordered(last, rest, |a, b| a <= b),
            };
            at += len;
            if len > 0 {
                before = Some(rest[len - 1].key());
                // Equal keys leave the way open.
                if way.is_eq() && before != Some(last) {
                    way = Ordering::Less;
                }
            }
            rest = &rest[len..];
            // Where keys were all equal so far, the next one says that the run descends.
            if !rest.is_empty() && way.is_ne() {
                if runs.count + 1 >= MOST_RUNS {
                    return Order::None;
                }
                runs.push(at, way);
                (before, way) = (None, Ordering::Equal);
            }
        }
    }
    runs.push(at, way);
    match runs.list[..runs.count] {
        [Run { descends: false, .. }] => Order::Ascending,
        _ => Order::Runs(runs),
    }
}

/// How many items at the beginning are in order, after a key.
fn ordered<T: Item>(before: u64, items: &[T], in_order: impl Fn(u64, u64) -> bool) -> usize {
    // A block at a time, so that the comparisons of a block wait for none of its branches.
    const BLOCK: usize = 16;
    let mut last = before;
    let mut done = 0;
    for block in items.chunks_exact(BLOCK) {
        let mut fine = in_order(last, block[0].key());
        for pair in block.windows(2) {
            fine &= in_order(pair[0].key(), pair[1].key());
        }
        if !fine {
            break;
        }
        last = block[BLOCK - 1].key();
        done += BLOCK;
    }
    for item in &items[done..] {
        if !in_order(last, item.key()) {
            break;
        }
        last = item.key();
        done += 1;
    }
    done
}

impl Runs {
    fn push(&mut self, end: usize, way: Ordering) {
        self.list[self.count] = Run {
            end,
            descends: way.is_gt(),
        };
        self.count += 1;
    }
}

/// Makes the runs of a list one, ascending by `less`. Items of one run that `less` knows how to order, and whose keys are equal, may be in
/// any order, and still are.
pub(super) fn make_one<T: Item>(mut items: Chunks<T>, runs: &Runs, spares: &mut Vec<Segment>) -> Chunks<T> {
    let mut lists: Vec<Chunks<T>> = Vec::with_capacity(runs.count);
    let mut start = 0;
    for run in &runs.list[..runs.count] {
        let mut list = split_front(&mut items, run.end - start, spares);
        if run.descends {
            list.reverse();
        }
        lists.push(list);
        start = run.end;
    }
    while lists.len() > 1 {
        let mut merged = Vec::with_capacity(lists.len().div_ceil(2));
        let mut pairs = lists.into_iter();
        while let Some(first) = pairs.next() {
            merged.push(match pairs.next() {
                Some(second) => merge_lists(first, second, spares),
                None => first,
            });
        }
        lists = merged;
    }
    let mut list = lists.pop().unwrap_or(items);
    list.compact(spares);
    list
}

/// Takes the first `count` items off a list; a segment that has more is copied in part.
fn split_front<T: Item>(items: &mut Chunks<T>, count: usize, spares: &mut Vec<Segment>) -> Chunks<T> {
    let mut front = items.another();
    while front.len() < count {
        let mut chunk = items.pop_front().expect("the list has the items of its runs");
        let wanted = count - front.len();
        if chunk.len > wanted {
            let mut rest = spares.pop().expect("there is a spare segment for each cut");
            let left = chunk.len - wanted;
            all_mut::<T>(&mut rest)[..left].copy_from_slice(&chunk.items()[wanted..]);
            items.push_front(Chunk {
                segment: rest,
                len: left,
            });
            chunk.len = wanted;
        }
        front.push_chunk(chunk);
    }
    front
}

/// Merges two ascending lists; of equal keys, the first list's come first.
fn merge_lists<T: Item>(mut first: Chunks<T>, mut second: Chunks<T>, spares: &mut Vec<Segment>) -> Chunks<T> {
    let mut output = first.another();
    let capacity = first.segment_capacity();
    let (mut one, mut other) = (first.pop_front(), second.pop_front());
    let (mut one_read, mut other_read) = (0, 0);
    let mut target = Chunk {
        segment: spares.pop().expect("there is a spare segment for each merge"),
        len: 0,
    };
    while let (Some(a), Some(b)) = (&one, &other) {
        let place = &mut all_mut::<T>(&mut target.segment)[target.len..];
        let (from_one, from_other) = merge_slices(
            &a.items()[one_read..],
            &b.items()[other_read..],
            place,
            &mut |a: &T, b: &T| a.key() < b.key(),
        );
        (one_read, other_read) = (one_read + from_one, other_read + from_other);
        target.len += from_one + from_other;
        if one_read == a.len {
            spares.extend(std::mem::replace(&mut one, first.pop_front()).map(|chunk| chunk.segment));
            one_read = 0;
        }
        if let Some(b) = &other
            && other_read == b.len
        {
            spares.extend(std::mem::replace(&mut other, second.pop_front()).map(|chunk| chunk.segment));
            other_read = 0;
        }
        if target.len == capacity {
            let full = std::mem::replace(
                &mut target,
                Chunk {
                    segment: spares.pop().expect("what was read is spare"),
                    len: 0,
                },
            );
            output.push_chunk(full);
        }
    }
    output.push_chunk(target);
    for (chunk, read, rest) in [(one, one_read, &mut first), (other, other_read, &mut second)] {
        if let Some(mut chunk) = chunk {
            let len = chunk.len;
            all_mut::<T>(&mut chunk.segment).copy_within(read..len, 0);
            chunk.len = len - read;
            output.push_chunk(chunk);
        }
        output.append(rest);
    }
    output
}
