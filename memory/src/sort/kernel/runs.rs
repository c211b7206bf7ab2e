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
use std::collections::VecDeque;

use super::chunks::{Chunk, Chunks, all_mut};
use super::item::Item;
use super::merge::merge_slices;
use crate::segment::Segment;

/// The most runs that are merged: two levels of merging, about half the time of the radix sort.
const MOST_RUNS: usize = 4;

/// What [`Merging`] needs in spare segments at most.
pub(super) const SPARES: usize = 4 * MOST_RUNS;

/// Where a run ends, in items from the start of the list, and whether it descends.
#[derive(Debug, Clone, Copy)]
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
#[derive(Debug)]
pub(super) struct Runs {
    list: [Run; MOST_RUNS],
    count: usize,
}

/// Finds the runs of a list, of which it sees one slice after the other.
#[derive(Debug)]
pub(super) struct Finder {
    runs: Runs,
    /// The key before, and which way the run goes, once it has two keys that differ.
    before: Option<u64>,
    way: Ordering,
    /// How many items were seen.
    at: usize,
    has_given_up: bool,
}

impl Default for Finder {
    fn default() -> Self {
        let run = Run {
            end: 0,
            descends: false,
        };
        Finder {
            runs: Runs {
                list: [run; MOST_RUNS],
                count: 0,
            },
            before: None,
            way: Ordering::Equal,
            at: 0,
            has_given_up: false,
        }
    }
}

impl Finder {
    /// Whether there are too many runs.
    pub(super) fn has_given_up(&self) -> bool {
        self.has_given_up
    }

    /// Looks at the items that come next.
    #[inline]
    pub(super) fn look<T: Item>(&mut self, items: &[T]) {
        if !self.has_given_up {
            self.follow(items);
        }
    }

    fn follow<T: Item>(&mut self, mut rest: &[T]) {
        while let [first, ..] = rest {
            let last = self.before.unwrap_or(first.key());
            if self.way.is_eq() {
                self.way = last.cmp(&first.key());
            }
            let len = match self.way {
                Ordering::Greater => ordered(last, rest, |a, b| a >= b),
                _ => ordered(last, rest, |a, b| a <= b),
            };
            self.at += len;
            if len > 0 {
                self.before = Some(rest[len - 1].key());
                // Equal keys leave the way open.
                if self.way.is_eq() && self.before != Some(last) {
                    self.way = Ordering::Less;
                }
            }
            rest = &rest[len..];
            // Where keys were all equal so far, the next one says that the run descends.
            if !rest.is_empty() && self.way.is_ne() {
                if self.runs.count + 1 >= MOST_RUNS {
                    self.has_given_up = true;
                    return;
                }
                self.runs.push(self.at, self.way);
                (self.before, self.way) = (None, Ordering::Equal);
            }
        }
    }

    /// What was found.
    pub(super) fn end(mut self) -> Order {
        if self.has_given_up {
            return Order::None;
        }
        self.runs.push(self.at, self.way);
        match self.runs.list[..self.runs.count] {
            [Run { descends: false, .. }] => Order::Ascending,
            _ => Order::Runs(self.runs),
        }
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

/// Makes the runs of a list one, ascending by keys, step by step. Items of one run whose keys are equal may be in any order, and still
/// are.
pub(super) struct Merging<T> {
    /// Lists to be merged, and those that were in this round.
    lists: VecDeque<Chunks<T>>,
    merged: VecDeque<Chunks<T>>,
    pair: Option<Pair<T>>,
}

impl<T: Item> Merging<T> {
    /// The list's runs are taken apart; `spares` has [`SPARES`].
    pub(super) fn new(mut items: Chunks<T>, runs: &Runs, spares: &mut Vec<Segment>) -> Self {
        let mut lists = VecDeque::with_capacity(runs.count);
        let mut start = 0;
        for run in &runs.list[..runs.count] {
            let mut list = split_front(&mut items, run.end - start, spares);
            if run.descends {
                list.reverse();
            }
            lists.push_back(list);
            start = run.end;
        }
        while let Some(chunk) = items.pop_front() {
            spares.push(chunk.segment);
        }
        Merging {
            lists,
            merged: VecDeque::new(),
            pair: None,
        }
    }

    /// How many segments it has.
    pub(super) fn segments(&self) -> usize {
        let lists = self.lists.iter().chain(&self.merged).map(Chunks::segments);
        lists.sum::<usize>() + self.pair.as_ref().map_or(0, Pair::segments)
    }

    /// Merges until there is no work left, or one list is left: whether that is so.
    pub(super) fn step(&mut self, spares: &mut Vec<Segment>, left: &mut usize) -> bool {
        while *left > 0 {
            if let Some(pair) = &mut self.pair {
                if pair.step(spares, left)
                    && let Some(pair) = self.pair.take()
                {
                    self.merged.push_back(pair.end());
                }
                continue;
            }
            match (self.lists.pop_front(), self.lists.pop_front()) {
                (Some(first), Some(second)) => self.pair = Some(Pair::new(first, second, spares)),
                (Some(only), None) => self.merged.push_back(only),
                _ if self.merged.len() < 2 => return true,
                _ => std::mem::swap(&mut self.lists, &mut self.merged),
            }
        }
        false
    }

    /// The list, when one is left.
    pub(super) fn into_merged(mut self) -> Chunks<T> {
        self.merged.pop_front().expect("a list has a run")
    }
}

/// Takes the first `count` items off a list; a segment that has more is copied in part, to a spare one.
pub(super) fn split_front<T: Item>(
    items: &mut Chunks<T>,
    count: usize,
    spares: &mut Vec<Segment>,
) -> Chunks<T> {
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

/// Two ascending lists that are being merged; of equal keys, the first list's come first.
struct Pair<T> {
    first: Chunks<T>,
    second: Chunks<T>,
    /// The chunk of each that is being read, and how far it was.
    one: Option<Chunk>,
    other: Option<Chunk>,
    one_read: usize,
    other_read: usize,
    target: Chunk,
    output: Chunks<T>,
}

impl<T: Item> Pair<T> {
    fn new(mut first: Chunks<T>, mut second: Chunks<T>, spares: &mut Vec<Segment>) -> Self {
        Pair {
            output: first.another(),
            one: first.pop_front(),
            other: second.pop_front(),
            one_read: 0,
            other_read: 0,
            target: Chunk {
                segment: spares.pop().expect("there is a spare segment for each merge"),
                len: 0,
            },
            first,
            second,
        }
    }

    fn segments(&self) -> usize {
        let read = usize::from(self.one.is_some()) + usize::from(self.other.is_some());
        self.first.segments() + self.second.segments() + self.output.segments() + read + 1
    }

    /// Merges until there is no work left, or one of the lists is used up: whether that is so.
    fn step(&mut self, spares: &mut Vec<Segment>, left: &mut usize) -> bool {
        let capacity = self.output.segment_capacity();
        while let (Some(a), Some(b)) = (&self.one, &self.other) {
            if *left == 0 {
                return false;
            }
            let place = &mut all_mut::<T>(&mut self.target.segment)[self.target.len..];
            let (from_one, from_other) = merge_slices(
                &a.items()[self.one_read..],
                &b.items()[self.other_read..],
                place,
                &mut |a: &T, b: &T| a.key() < b.key(),
            );
            self.one_read += from_one;
            self.other_read += from_other;
            self.target.len += from_one + from_other;
            *left = left.saturating_sub(from_one + from_other);
            if self.one_read == a.len {
                let next = self.first.pop_front();
                spares.extend(std::mem::replace(&mut self.one, next).map(|chunk| chunk.segment));
                self.one_read = 0;
            }
            if let Some(b) = &self.other
                && self.other_read == b.len
            {
                let next = self.second.pop_front();
                spares.extend(std::mem::replace(&mut self.other, next).map(|chunk| chunk.segment));
                self.other_read = 0;
            }
            if self.target.len == capacity {
                let next = Chunk {
                    segment: spares.pop().expect("what was read is spare"),
                    len: 0,
                };
                self.output.push_chunk(std::mem::replace(&mut self.target, next));
            }
        }
        true
    }

    /// The merged list, when one of the two is used up.
    fn end(mut self) -> Chunks<T> {
        self.output.push_chunk(self.target);
        for (chunk, read, mut rest) in [
            (self.one, self.one_read, self.first),
            (self.other, self.other_read, self.second),
        ] {
            if let Some(mut chunk) = chunk {
                let len = chunk.len;
                all_mut::<T>(&mut chunk.segment).copy_within(read..len, 0);
                chunk.len = len - read;
                self.output.push_chunk(chunk);
            }
            self.output.append(&mut rest);
        }
        self.output
    }
}
