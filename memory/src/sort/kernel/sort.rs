//! Sorting a list of chunks in memory: the order in which the kernels are used.
//!
//! # Interface
//! [`Sort::new`] of a list, [`Sort::step`] until it is done, [`Sort::into_sorted`]. [`Seen`] looks at items while they come, so that less
//! is to be found out later. [`sort_entries`], [`sort_u64`] and [`sort_pairs`] do all at once.
//!
//! # Algorithm
//! 1. A list that is in order already stays as it is, one in reverse order is reversed; few items of one key are sorted by comparison
//!    there, many as in 3.
//! 2. The highest bits in which keys differ distribute the items to buckets (`distribute`), and the buckets are sorted in the same
//!    way, until one fits in the second-level cache (`leaf`). Bits that all keys have in common are thereby skipped.
//! 3. Items of equal keys are a bucket of their own at last: their keys are exchanged for the next words of their rows, while
//!    there are any, and sorted; then rows are compared.
//! 4. Where there are too few spare segments for two buckets, the bucket is sorted in place (`in_place`); and so are, where they came
//!    to be, rows that only comparisons tell apart.
//!
//! What is to be done is a stack of tasks, so that a sort can stop after any of them, or within one, and go on later.
//!
//! # Cost
//! A step ends after so much *work*, counted in items that were placed once or sorted in cache, some 4 to 20 ns each; a comparison of
//! rows is the work of four. What fits in cache is sorted in one step, but for comparisons of rows.
//!
//! # Invariants
//! I1. No step compares more rows than its work and a segment's: `no_step_compares_all_rows_of_one_key` (`memory/tests/sort_kernel.rs`).

use std::ops::Range;

use super::chunks::Chunks;
use super::distribute::{self, Bits, Distribution};
use super::in_place::{self, COMPARISON, InPlace, Space};
use super::item::{Entry, Item, Pair};
use super::leaf;
use super::runs::{self, Finder, Merging, Order};
use super::ties::{ByRest, Ties, compare, compare_rest};
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

/// By how many bits `items` items are distributed, if their keys are spread evenly: at most `most` of [`MOST_BITS`], and more than
/// eight only where each bucket is sorted in cache then.
///
/// [`MOST_BITS`]: distribute::MOST_BITS
pub fn distribution_bits<T: Item>(items: u64, most: u32) -> u32 {
    // Some buckets are larger than the average.
    let fits = |bits: u32| items >> bits <= (leaf::most::<T>() / 8 * 7) as u64;
    (distribute::USUAL_BITS..=most.min(distribute::MOST_BITS))
        .find(|&bits| fits(bits))
        .unwrap_or(most.min(distribute::USUAL_BITS))
}

fn sort<T: Item>(items: &mut Chunks<T>, spares: &mut Vec<Segment>, ties: &mut impl Ties) {
    let another = items.another();
    let mut sort = Sort::new(std::mem::replace(items, another), None);
    while !sort.step(spares, ties, usize::MAX) {}
    *items = sort.into_sorted();
}

/// What is known of a list from looking at its items as they came.
#[derive(Debug)]
pub struct Seen {
    finder: Finder,
    all: u64,
    any: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Seen {
            finder: Finder::default(),
            all: u64::MAX,
            any: 0,
        }
    }
}

impl Seen {
    /// Looks at the items that come next.
    #[inline]
    pub fn look<T: Item>(&mut self, items: &[T]) {
        for item in items {
            self.all &= item.key();
            self.any |= item.key();
        }
        self.finder.look(items);
    }

    /// The bits that all keys have, and those that any has.
    pub fn bits(&self) -> (u64, u64) {
        (self.all, self.any)
    }

    /// Whether they come in no order that is of use.
    pub fn is_disordered(&self) -> bool {
        self.finder.has_given_up()
    }
}

/// What is to be done.
enum Task<T> {
    /// To find out in which order a list is, from chunk `next` on.
    Find {
        input: Chunks<T>,
        next: usize,
        finder: Finder,
    },
    /// To make a list one run.
    Merge(Box<Merging<T>>),
    /// To find out in which bits keys, which are word `depth` of their rows, differ, from chunk `next` on; and then to sort them.
    /// They differ in none but those of `within`.
    Look {
        input: Chunks<T>,
        depth: usize,
        next: usize,
        all: u64,
        any: u64,
        within: u64,
    },
    /// To distribute a list, and then to sort the buckets.
    Distribute(Box<Distribution<T>>, usize),
    /// To exchange keys that are all `key`, word `depth` of their rows, for the next word, from chunk `next` on; and then to sort.
    NextWords {
        input: Chunks<T>,
        depth: usize,
        next: usize,
        key: u64,
    },
    /// To give the items of the output from a place on, as far as there are any now, `key` back.
    Restore { from: usize, key: u64 },
    /// To move a list to the output.
    Append { input: Chunks<T> },
    /// To move the items of `input` to the end of `list`, and to sort that where it is by keys, which are word `depth` of their rows.
    InPlace {
        list: Chunks<T>,
        input: Chunks<T>,
        sort: Option<InPlace<T>>,
        depth: usize,
    },
    /// To sort by comparison what is equal between two places of the output, where keys, word `depth` of their rows, are in order; the
    /// first group goes on at least up to place `seen`.
    Groups {
        places: Range<usize>,
        seen: usize,
        sort: Option<InPlace<T>>,
        depth: usize,
    },
    /// To sort what is equal in a list whose keys are in order, and in the output from a place on, where its keys are the list's first.
    Ties { input: Chunks<T>, from: usize },
}

impl<T: Item> Task<T> {
    fn look(input: Chunks<T>, depth: usize, within: u64) -> Self {
        Task::Look {
            input,
            depth,
            next: 0,
            all: u64::MAX,
            any: 0,
            within,
        }
    }

    fn groups(places: Range<usize>, depth: usize) -> Self {
        Task::Groups {
            seen: places.start,
            places,
            sort: None,
            depth,
        }
    }
}

/// Groups of at most so many items are sorted in one step.
const FEW: usize = 24;

/// Items of one key that are more than so many segments are a list of their own, in lists whose keys are in order.
const LARGE_TIE: usize = 2;

/// So many items are looked at before it is seen whether that is enough.
const LOOKED_AT_ONCE: usize = 64;

/// Looking at an item is so much less than placing it.
const LOOKS: usize = 8;

/// A sort that is done step by step.
pub struct Sort<T> {
    output: Chunks<T>,
    /// What comes first is last.
    tasks: Vec<Task<T>>,
}

impl<T: Item> Sort<T> {
    /// A sort of a list, of which something may be known.
    pub fn new(input: Chunks<T>, seen: Option<Seen>) -> Self {
        let output = input.another();
        let mut sort = Sort {
            output,
            tasks: Vec::new(),
        };
        match seen {
            Some(seen) if seen.is_disordered() => sort.tasks.push(Task::Look {
                next: input.segments(),
                input,
                depth: 0,
                all: seen.all,
                any: seen.any,
                within: u64::MAX,
            }),
            Some(seen) => sort.tasks.push(Task::Find {
                next: input.segments(),
                input,
                finder: seen.finder,
            }),
            None => sort.tasks.push(Task::Find {
                input,
                next: 0,
                finder: Finder::default(),
            }),
        }
        sort
    }

    /// A sort of lists each of which comes before the next, as distribution leaves them, and of which `output` are the first, sorted.
    /// Keys in one list differ in no bits but those of `within`.
    pub fn of_buckets(
        output: Chunks<T>,
        buckets: impl DoubleEndedIterator<Item = Chunks<T>>,
        within: u64,
    ) -> Self {
        let tasks = buckets.rev().map(|bucket| Task::look(bucket, 0, within));
        Sort {
            output,
            tasks: tasks.collect(),
        }
    }

    /// How many segments it has.
    pub fn segments(&self) -> usize {
        let tasks = self.tasks.iter().map(|task| match task {
            Task::Find { input, .. }
            | Task::Look { input, .. }
            | Task::NextWords { input, .. }
            | Task::Append { input }
            | Task::Ties { input, .. } => input.segments(),
            Task::Merge(merging) => merging.segments(),
            Task::Distribute(distribution, _) => distribution.segments(),
            Task::InPlace { list, input, .. } => list.segments() + input.segments(),
            Task::Restore { .. } | Task::Groups { .. } => 0,
        });
        self.output.segments() + tasks.sum::<usize>()
    }

    /// Does a piece of the work, and answers whether all of it is done.
    pub fn step(&mut self, spares: &mut Vec<Segment>, ties: &mut impl Ties, work: usize) -> bool {
        let mut left = work;
        while let Some(task) = self.tasks.pop() {
            self.run(task, spares, ties, &mut left);
            if left == 0 {
                break;
            }
        }
        self.tasks.is_empty()
    }

    /// The sorted list.
    ///
    /// # Panics
    /// Before all is done.
    pub fn into_sorted(self) -> Chunks<T> {
        assert!(self.tasks.is_empty(), "the sort is done");
        self.output
    }

    /// Does a task, or some of it, and leaves what is to be done then.
    fn run(&mut self, task: Task<T>, spares: &mut Vec<Segment>, ties: &mut impl Ties, left: &mut usize) {
        match task {
            Task::Find {
                input,
                mut next,
                mut finder,
            } => {
                while next < input.segments() && !finder.has_given_up() {
                    if *left == 0 {
                        self.tasks.push(Task::Find { input, next, finder });
                        return;
                    }
                    let items = input.chunk(next);
                    finder.look(items);
                    *left = left.saturating_sub(items.len().div_ceil(LOOKS));
                    next += 1;
                }
                self.found(input, finder, spares);
            }
            Task::Merge(mut merging) => match merging.step(spares, left) {
                true => self.tasks.push(Task::Ties {
                    input: merging.into_merged(),
                    from: 0,
                }),
                false => self.tasks.push(Task::Merge(merging)),
            },
            Task::Append { mut input } => {
                move_chunks(&mut input, &mut self.output, spares, left);
                if input.segments() > 0 {
                    self.tasks.push(Task::Append { input });
                }
            }
            Task::InPlace {
                mut list,
                mut input,
                mut sort,
                depth,
            } => {
                move_chunks(&mut input, &mut list, spares, left);
                if input.segments() == 0 && *left > 0 {
                    let (items, capacity) = (list.len(), list.segment_capacity());
                    let sort = sort.get_or_insert_with(|| InPlace::by_digits(0..items));
                    let mut space = Space::new(list.spaces_mut(), capacity);
                    if sort.step(&mut space, &mut |a, b| compare(ties, depth, a, b), left) {
                        drop(space);
                        self.tasks.push(Task::Append { input: list });
                        return;
                    }
                }
                self.tasks.push(Task::InPlace {
                    list,
                    input,
                    sort,
                    depth,
                });
            }
            Task::Groups {
                places,
                seen,
                sort,
                depth,
            } => self.sort_groups(places, seen, sort, depth, ties, left),
            Task::Ties { input, from } => self.sort_ties(input, from, spares, ties, left),
            Task::Look {
                input,
                depth,
                mut next,
                mut all,
                mut any,
                within,
            } => {
                // Of random keys the first few differ in all bits in which any do.
                while next < input.segments() && !is_all_seen(all, any, within) {
                    if *left == 0 {
                        self.tasks.push(Task::Look {
                            input,
                            depth,
                            next,
                            all,
                            any,
                            within,
                        });
                        return;
                    }
                    let mut looked = 0;
                    for piece in input.chunk(next).chunks(LOOKED_AT_ONCE) {
                        for item in piece {
                            all &= item.key();
                            any |= item.key();
                        }
                        looked += piece.len();
                        if is_all_seen(all, any, within) {
                            break;
                        }
                    }
                    *left = left.saturating_sub(looked.div_ceil(LOOKS));
                    next += 1;
                }
                debug_assert!(
                    all & !any != 0 || (all ^ any) & !within == 0,
                    "keys of a bucket differ in bits by which it was made"
                );
                self.looked(input, depth, (all, any), spares, ties, left);
            }
            Task::Distribute(mut distribution, depth) => match distribution.step(spares, left) {
                true => {
                    let below = distribution.bits().below;
                    let buckets = distribution.into_buckets(spares);
                    let tasks = buckets
                        .into_iter()
                        .rev()
                        .map(|bucket| Task::look(bucket, depth, below));
                    self.tasks.extend(tasks);
                }
                false => self.tasks.push(Task::Distribute(distribution, depth)),
            },
            Task::NextWords {
                mut input,
                depth,
                mut next,
                key,
            } => {
                let word = depth + 1;
                while next < input.segments() {
                    if *left == 0 {
                        self.tasks.push(Task::NextWords {
                            input,
                            depth,
                            next,
                            key,
                        });
                        return;
                    }
                    for item in input.chunk_mut(next) {
                        let next = match word < ties.words() {
                            true => ties.word(item.rest(), word),
                            false => item.rest(),
                        };
                        *item = item.with_key(next);
                    }
                    *left = left.saturating_sub(input.chunk(next).len());
                    next += 1;
                }
                let from = self.output.len();
                self.tasks.push(Task::Restore { from, key });
                self.tasks.push(Task::look(input, word, u64::MAX));
            }
            Task::Restore { mut from, key } => {
                while from < self.output.len() {
                    if *left == 0 {
                        self.tasks.push(Task::Restore { from, key });
                        return;
                    }
                    let capacity = self.output.segment_capacity();
                    let items = &mut self.output.chunk_mut(from / capacity)[from % capacity..];
                    items.iter_mut().for_each(|item| *item = item.with_key(key));
                    *left = left.saturating_sub(items.len().div_ceil(LOOKS));
                    from += items.len();
                }
            }
        }
    }

    /// Goes on with a list of which it is known whether it comes in some order.
    fn found(&mut self, input: Chunks<T>, finder: Finder, spares: &mut Vec<Segment>) {
        match finder.end() {
            Order::Runs(found) if spares.len() >= runs::SPARES => {
                let merging = Merging::new(input, &found, spares);
                self.tasks.push(Task::Merge(Box::new(merging)));
            }
            // Keys that are all equal are sorted by what comes after them.
            Order::Ascending if T::KEY_IS_ALL || input.first_key() != input.last_key() => {
                self.tasks.push(Task::Ties { input, from: 0 });
            }
            _ => self.tasks.push(Task::look(input, 0, u64::MAX)),
        }
    }

    /// Moves a list whose keys are in order to the output, and sorts what is equal there from place `from` on.
    fn sort_ties(
        &mut self,
        mut input: Chunks<T>,
        mut from: usize,
        spares: &mut Vec<Segment>,
        ties: &mut impl Ties,
        left: &mut usize,
    ) {
        let large = LARGE_TIE * input.segment_capacity();
        while *left > 0
            && let Some(chunk) = input.pop_front()
        {
            *left = left.saturating_sub(chunk.len.max(1));
            let Some(last) = chunk.items::<T>().last().map(T::key) else {
                spares.push(chunk.segment);
                continue;
            };
            let before_last = chunk.items::<T>().partition_point(|item| item.key() < last);
            let start = self.output.len() + before_last;
            let mut next = input.another();
            next.push_chunk(chunk);
            self.output.append_dense(&mut next, spares);
            if T::KEY_IS_ALL {
                continue;
            }
            if self.output.at(from).key() != last {
                // Items of the last key may go on in the next chunk.
                let places = from..start;
                from = start;
                if !self.sort_ties_within(&places, ties) {
                    self.tasks.push(Task::Ties { input, from });
                    self.tasks.push(Task::groups(places, 0));
                    return;
                }
            } else if ties.words() > 1 && self.output.len() - from > large && spares.len() >= 2 {
                let mut equal = self.output.split_off(from, spares);
                let more = input.count_first(|item| item.key() == last);
                equal.append(&mut runs::split_front(&mut input, more, spares));
                from += equal.len();
                self.tasks.push(Task::Ties { input, from });
                self.tasks.push(Task::Look {
                    next: equal.segments(),
                    input: equal,
                    depth: 0,
                    all: last,
                    any: last,
                    within: 0,
                });
                return;
            }
        }
        if !input.is_empty() {
            self.tasks.push(Task::Ties { input, from });
            return;
        }
        while let Some(chunk) = input.pop_front() {
            spares.push(chunk.segment);
        }
        let places = from..self.output.len();
        if !T::KEY_IS_ALL && !self.sort_ties_within(&places, ties) {
            self.tasks.push(Task::groups(places, 0));
        }
    }

    /// Sorts what is equal between two places of the output, where keys are in order; false where that is too much for one step.
    fn sort_ties_within(&mut self, places: &Range<usize>, ties: &mut impl Ties) -> bool {
        let capacity = self.output.segment_capacity();
        if ties.may_differ() || places.len() > 2 * LARGE_TIE * capacity {
            return false;
        }
        let first = places.start / capacity;
        let (start, end) = (places.start - first * capacity, places.end - first * capacity);
        let mut space = Space::new(self.output.spaces_from(first), capacity);
        leaf::sort_ties(&mut space, start, end, 0, ties);
        true
    }

    /// Sorts groups of equal keys in the output, as [`Task::Groups`] says.
    fn sort_groups(
        &mut self,
        mut places: Range<usize>,
        mut seen: usize,
        mut sort: Option<InPlace<T>>,
        depth: usize,
        ties: &mut impl Ties,
        left: &mut usize,
    ) {
        let capacity = self.output.segment_capacity();
        // A sort that goes on counts places from the segment that its group begins in.
        let mut segment = places.start / capacity;
        let mut space = Space::new(self.output.spaces_from(segment), capacity);
        let mut order = |a: &T, b: &T| compare_rest(ties, depth, a.rest(), b.rest());
        while !places.is_empty() {
            if *left == 0 {
                drop(space);
                self.tasks.push(Task::Groups {
                    places,
                    seen,
                    sort,
                    depth,
                });
                return;
            }
            let mut first = places.start - segment * capacity;
            if sort.is_none() {
                let end = places.end.min(seen.saturating_add(left.saturating_mul(LOOKS)));
                let (key, looked) = (space.at(first).key(), seen);
                while seen < end && space.at(seen - segment * capacity).key() == key {
                    seen += 1;
                }
                *left = left.saturating_sub((seen - looked).div_ceil(LOOKS));
                if seen == end && end < places.end {
                    continue;
                }
            }
            let count = seen - places.start;
            if count <= FEW {
                let mut counted = |a: &T, b: &T| {
                    *left = left.saturating_sub(COMPARISON);
                    order(a, b)
                };
                if count > 1 {
                    in_place::sort(&mut space, first, first + count, &mut counted);
                }
            } else {
                if sort.is_none() && first >= capacity {
                    drop(space);
                    segment = places.start / capacity;
                    space = Space::new(self.output.spaces_from(segment), capacity);
                    first = places.start - segment * capacity;
                }
                let sort = sort.get_or_insert_with(|| InPlace::by_comparison(first..first + count));
                if !sort.step(&mut space, &mut order, left) {
                    continue;
                }
            }
            (sort, places.start) = (None, seen);
        }
    }

    /// Goes on with a list of which it is known in which bits keys differ.
    fn looked(
        &mut self,
        input: Chunks<T>,
        depth: usize,
        (all, any): (u64, u64),
        spares: &mut Vec<Segment>,
        ties: &mut impl Ties,
        left: &mut usize,
    ) {
        let varying = if input.is_empty() { 0 } else { all ^ any };
        let needed = input.len().div_ceil(input.segment_capacity());
        // Beyond the last word the key is the rest of the item.
        let is_all = T::KEY_IS_ALL || depth >= ties.words();
        let done = input.len();
        if input.len() < 2 || (varying == 0 && is_all) {
            self.tasks.push(Task::Append { input });
            return;
        } else if varying == 0 {
            let next_word = depth + 1 < ties.words();
            if !next_word && ties.may_differ() {
                self.sort_in_place(input, depth);
                return;
            } else {
                self.tasks.push(Task::NextWords {
                    input,
                    depth,
                    next: 0,
                    key: all,
                });
                return;
            }
        } else if input.len() <= leaf::most::<T>() && spares.len() >= needed {
            if ties.may_differ() && !is_all {
                // Rows are compared in steps of their own.
                let from = self.output.len();
                leaf::sort(input, &mut self.output, spares, varying, depth, &mut ByRest);
                self.tasks.push(Task::groups(from..self.output.len(), depth));
            } else {
                leaf::sort(input, &mut self.output, spares, varying, depth, ties);
            }
        } else if spares.len() >= 4 {
            let wanted = (2 * input.len() / leaf::most::<T>()).max(2).ilog2() + 1;
            let affordable = spares.len().ilog2();
            let bits = wanted.min(affordable).min(distribute::USUAL_BITS);
            let distribution = Distribution::new(input, Bits::highest(varying, bits), spares);
            self.tasks.push(Task::Distribute(Box::new(distribution), depth));
            return;
        } else {
            self.sort_in_place(input, depth);
            return;
        }
        *left = left.saturating_sub(done);
    }

    /// Leaves a list to be sorted where it is.
    fn sort_in_place(&mut self, input: Chunks<T>, depth: usize) {
        let nothing = input.another();
        let (list, input) = match input.is_dense() {
            true => (input, nothing),
            false => (nothing, input),
        };
        self.tasks.push(Task::InPlace {
            list,
            input,
            sort: None,
            depth,
        });
    }
}

/// Whether keys of which `all` have these bits and `any` those differ in all bits of `within`, so that others say nothing new.
fn is_all_seen(all: u64, any: u64, within: u64) -> bool {
    let is_none_seen = all & !any != 0;
    !is_none_seen && all ^ any == within
}

/// Moves items to the end of a list whose chunks are full but for the last, as many as there is work for.
fn move_chunks<T: Item>(
    input: &mut Chunks<T>,
    list: &mut Chunks<T>,
    spares: &mut Vec<Segment>,
    left: &mut usize,
) {
    while *left > 0
        && let Some(chunk) = input.pop_front()
    {
        *left = left.saturating_sub(chunk.len.div_ceil(LOOKS).max(1));
        let mut next = input.another();
        next.push_chunk(chunk);
        list.append_dense(&mut next, spares);
    }
}
