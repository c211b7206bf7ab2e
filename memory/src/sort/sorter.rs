//! The sorter: takes rows in any order, sorts what there is memory for, and spills the rest as runs.
//!
//! # Interface
//! [`Sorter::push`] rows, or [`Sorter::push_some`] in steps; [`Sorter::spill_to`] where others want memory. Then, where several sorters
//! merge their runs together, [`Sorter::keep_to_share`]; [`Sorter::prepare_merge`] and [`Sorter::sort`], step by step, and
//! [`Sorter::finish`] to runs, the last of them in memory. `split` divides them between threads, `merger` merges them.
//! Where items are rows, [`Sorter::distribute`] gives those in memory in buckets, for threads to share these ([`Sorter::take_buckets`]):
//! they are not merged then.
//!
//! # Algorithm
//! 1. Rows go to segments, their items to others, until the budget has no more, but for a reserve with which runs are merged.
//! 2. Then the rows that came first leave: their items are sorted, and the rows written in order. A sixteenth of them the first
//!    time and twice as many each time after, until half of them leave at a time, and all of them where many times as many have left:
//!    so only the excess is spilled where it is small, and there are few runs where it is large.
//! 3. What is left after the last row is sorted and stays in memory.
//! 4. Where only the first rows are wanted, so many are kept each time that there are twice as many, and the last of them is the
//!    *bound*: of the rows that come then those behind it are not even taken. Runs are as short. Each row costs a comparison with the
//!    bound, and each that is kept, some of the sort of twice as many rows; a heap of rows would cost log₂ n for each that is kept.
//!
//! # Memory
//! Least: 8 segments and twice those of the largest row. One is kept for writing runs. Who has filled half of a share takes up to 64
//! segments to sort with: when there is no more memory they would not be to be had.

mod preparing;

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

use self::preparing::Preparing;
use super::items::Items;
use super::kernel::{Bits, Chunks, Distribution, Item, Seen, Sort};
use super::order::{KeyScratch, RowOrder};
use super::rows::Scratch;
use super::run::{MemoryRun, Run, RunWriter};
use super::together::Held;
use crate::error::{Error, Result};
use crate::manager::Budget;
use crate::segment::{Segment, SegmentSource};
use crate::spill::{SpillHandle, SpillStats};

/// The part of the budget that is kept for merging: with 256 MiB in segments of 32 KiB, for 512 runs.
const RESERVED_PART: usize = 16;

/// The part of the rows that leaves first.
const FIRST_PART: usize = 16;

/// Where so many times the rows in memory have left, all of them leave at a time: half as many runs are worth more than the part of
/// them that would not have had to leave in the end.
const MANY_LEFT: u64 = 8;

/// So many bytes are written for the work of an item.
const BYTES_A_WORK: usize = 16;

/// And so many rows are written before it is looked how many bytes they have.
const ROWS_A_PIECE: usize = 16;

/// Where few rows are wanted, so many more are taken before they are sorted.
const LEAST_BEHIND: u64 = 4096;

/// And how often it is looked whether there is memory for them.
const ROWS_A_LOOK: u64 = 16;

/// Segments that the sort of items makes good use of.
const SPARES: usize = 288;

/// And those that make it nearly as fast. A sort has as many of its own where they are no more than a part of its fair share, so that rows
/// which leave because there is no memory are not sorted in place, which takes three times as long.
const OWN_SPARES: usize = 64;

/// A budget up to a number of segments.
struct Bounded {
    budget: Budget,
    most: AtomicUsize,
}

impl SegmentSource for Bounded {
    fn segment_size(&self) -> usize {
        self.budget.segment_size()
    }

    fn try_take(&self) -> Option<Segment> {
        match self.budget.held() < self.most.load(Atomic::Relaxed) {
            true => self.budget.try_take(),
            false => None,
        }
    }
}

/// Rows on their way to a run.
enum Leaving<T> {
    /// They are sorted first, with the help of other segments.
    Sorting(Sort<T>, Vec<Segment>),
    /// They are written, `left` of them at most, from place `next` of the first segment on.
    Writing {
        items: Chunks<T>,
        next: usize,
        writer: RunWriter,
        left: u64,
    },
}

/// What is in memory at the end.
enum Rest<T> {
    Distributing(Box<Distribution<T>>),
    InSort(Sort<T>),
    Sorted(Chunks<T>),
}

/// Sorts rows in any budget.
pub struct Sorter<I: Items> {
    items: I,
    filling: Chunks<I::Item>,
    source: Bounded,
    handle: SpillHandle,
    runs: Vec<Run<I>>,
    /// The memory with which runs are written.
    staging: Option<Segment>,
    /// The part of the rows that leaves next: one in so many.
    part: usize,
    /// How many segments with which it sorts are its own, when it has many rows.
    own_spares: usize,
    rows: u64,
    largest: usize,
    /// Whether rows come in their order.
    is_in_order: bool,
    /// What is known of all items that have come; where some have left, only that they come in no order, and in which bits they differ.
    seen: Option<Seen>,
    /// Rows that are leaving.
    leaving: Option<Leaving<I::Item>>,
    /// How much memory merging is to have.
    preparing: Option<Preparing>,
    /// How much it may hold besides, where several merge together.
    keep: Option<usize>,
    /// Whether rows have left for merging.
    has_let_leave: bool,
    /// The sort of what is in memory at the end.
    sorting: Option<Rest<I::Item>>,
    /// How many rows are wanted; all where it is `None`.
    limit: Option<u64>,
    /// The first word and the bytes of a row behind which no row is wanted.
    bound: Option<Bound>,
    /// Memory for the merge, and for the sort before it.
    reserved: Vec<Segment>,
    /// How much of it is for the merge, where there is more.
    kept: Option<usize>,
    peak: usize,
    keys: KeyScratch,
    scratch: Scratch,
}

impl<I: Items> Sorter<I>
where
    I::Order: Clone,
{
    /// A sorter of rows that are kept as `items`.
    pub fn new(items: I, budget: Budget, handle: SpillHandle) -> Self {
        let most = budget.maximum();
        let reserved = (most / RESERVED_PART).max(3).min(most / 2);
        Sorter {
            items,
            filling: Chunks::new(budget.segment_size()),
            source: Bounded {
                budget,
                most: AtomicUsize::new(most - reserved),
            },
            handle,
            runs: Vec::new(),
            staging: None,
            part: FIRST_PART,
            own_spares: 0,
            rows: 0,
            largest: 0,
            is_in_order: false,
            seen: Some(Seen::default()),
            leaving: None,
            preparing: None,
            keep: None,
            has_let_leave: false,
            sorting: None,
            limit: None,
            bound: None,
            reserved: Vec::new(),
            kept: None,
            peak: 0,
            keys: KeyScratch::default(),
            scratch: Scratch::default(),
        }
    }

    /// The same, of which only the first `limit` rows are wanted: its runs have at least these, each.
    pub fn with_limit(self, limit: u64) -> Self {
        Sorter {
            limit: Some(limit),
            seen: None,
            ..self
        }
    }

    /// The same for rows that come in their order, and are not sorted again: what leaves memory is one run after the other.
    pub fn of_sorted(self) -> Self {
        Sorter {
            is_in_order: true,
            seen: None,
            ..self
        }
    }

    /// The order of its rows.
    pub fn order(&self) -> &I::Order {
        self.items.order()
    }

    /// Its budget.
    pub fn budget(&self) -> &Budget {
        &self.source.budget
    }

    /// Its way to the spill store.
    pub fn handle(&mut self) -> &mut SpillHandle {
        &mut self.handle
    }

    /// What its handle has done.
    pub fn spill_stats(&self) -> SpillStats {
        self.handle.stats()
    }

    /// The most segments it has held.
    pub fn peak_segments(&self) -> usize {
        self.peak.max(self.budget().held())
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The size of the largest row so far.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// How many runs are on disk.
    pub fn spilled_runs(&self) -> usize {
        self.runs.len()
    }

    /// Segments that could be given back.
    pub fn revocable(&self) -> usize {
        let leaving = match &self.leaving {
            None => 0,
            Some(Leaving::Sorting(sort, spares)) => sort.segments() + spares.len(),
            Some(Leaving::Writing { items, .. }) => items.segments(),
        };
        self.filling.segments() + self.items.segments() + leaving + self.reserved.len()
    }

    /// Takes rows, packed one behind the other.
    ///
    /// # Errors
    /// Those of the spill store; `Memory` where a row finds no room even by itself.
    pub fn push(&mut self, rows: &[u8]) -> Result<()> {
        match self.limit {
            None => self.take(rows),
            Some(limit) => self.take_first(rows, limit),
        }
    }

    /// Takes rows until some have to leave, or does so much of the work that their leaving is: how many bytes of rows were taken.
    ///
    /// # Errors
    /// As [`Sorter::push`].
    pub fn push_some(&mut self, rows: &[u8], work: usize) -> Result<usize> {
        if self.limit.is_some() {
            return self.push(rows).map(|()| rows.len());
        }
        match self.step_spill(work)? {
            true => self.take_some(rows),
            false => Ok(0),
        }
    }

    /// Takes those of some rows that may be among the first `limit`.
    fn take_first(&mut self, mut rows: &[u8], limit: u64) -> Result<()> {
        while !rows.is_empty() {
            let size = self.items.order().row_size(rows);
            let (row, rest) = rows.split_at(size);
            rows = rest;
            if limit == 0 || self.is_behind_bound(row) {
                continue;
            }
            self.take(row)?;
            let rows = self.filling.len() as u64;
            if rows / 2 >= limit && rows - limit >= LEAST_BEHIND || self.is_time_to_keep(limit, rows) {
                self.keep_first(limit)?;
            }
        }
        Ok(())
    }

    /// Whether memory for the first rows will not be there if more are taken.
    #[inline]
    fn is_time_to_keep(&self, limit: u64, rows: u64) -> bool {
        if !rows.is_multiple_of(ROWS_A_LOOK) || 4 * rows < limit.saturating_mul(5) {
            return false;
        }
        let needed = self.revocable() as u64 * limit / rows + 2;
        (self.source.budget.available() as u64) < 2 * needed
    }

    #[inline]
    fn is_behind_bound(&mut self, row: &[u8]) -> bool {
        let Some(bound) = &self.bound else {
            return false;
        };
        let order = self.items.order();
        match order.word(row, 0, &mut self.keys).cmp(&bound.0) {
            Ordering::Equal => order.compare(row, bytes_of(bound), &mut self.keys).is_ge(),
            order => order.is_gt(),
        }
    }

    /// Keeps the first `limit` of the rows in memory: there, or, where there is no memory to copy them to, on disk.
    fn keep_first(&mut self, limit: u64) -> Result<()> {
        let segment_size = self.source.segment_size();
        self.draw(SPARES);
        let mut spares = std::mem::take(&mut self.reserved);
        let mut sort = Sort::new(
            std::mem::replace(&mut self.filling, Chunks::new(segment_size)),
            None,
        );
        while !self.items.sort_step(&mut sort, &mut spares, usize::MAX) {}
        self.filling = sort.into_sorted();
        drop(spares);
        let (mut kept, mut items) = (Chunks::new(segment_size), self.items.fresh(segment_size));
        let first = self.filling.iter().take(limit as usize);
        let is_kept = first.into_iter().all(|item| {
            if kept.room() == 0 {
                match self.source.budget.try_take() {
                    Some(segment) => kept.push_segment(segment),
                    None => return false,
                }
            }
            let row = self.items.row(item, &mut self.scratch);
            let put = items.put(row, kept.room_mut(), &self.source.budget, &mut self.keys);
            kept.advance(put.rows);
            put.rows > 0
        });
        if is_kept {
            self.set_bound(limit);
            (self.filling, self.items) = (kept, items);
            return Ok(());
        }
        drop((kept, items));
        self.source.budget.withdraw();
        self.spill(self.filling.segments())
    }

    /// Notes that no row behind number `limit` of the sorted rows in memory is wanted.
    fn set_bound(&mut self, limit: u64) {
        if let Some(item) = self.filling.iter().nth(limit as usize - 1) {
            self.bound = Some(bound_of(&self.items, item, &mut self.scratch));
        }
    }

    fn take(&mut self, mut rows: &[u8]) -> Result<()> {
        loop {
            self.finish_spill()?;
            let taken = self.take_some(rows)?;
            if taken == rows.len() {
                return Ok(());
            }
            rows = &rows[taken..];
        }
    }

    /// Takes rows until some have to leave: how many bytes of them.
    fn take_some(&mut self, mut rows: &[u8]) -> Result<usize> {
        let bytes = rows.len();
        while !rows.is_empty() && self.leaving.is_none() {
            if self.filling.room() == 0 {
                self.extend(self.items.order().row_size(rows))?;
                continue;
            }
            let room = self.filling.room_mut();
            let put = (self.items).put(rows, room, &self.source, &mut self.keys);
            if let Some(seen) = &mut self.seen {
                seen.look(&room[..put.rows]);
            }
            if put.rows == 0 {
                self.make_room(self.items.order().row_size(rows))?;
                continue;
            }
            self.filling.advance(put.rows);
            self.rows += put.rows as u64;
            self.largest = self.largest.max(put.largest);
            rows = &rows[put.bytes..];
        }
        Ok(bytes - rows.len())
    }

    #[cold]
    fn extend(&mut self, size: usize) -> Result<()> {
        if self.staging.is_none() {
            self.staging = Some(self.take_one()?);
        }
        self.take_own_spares();
        match self.source.try_take() {
            Some(segment) => self.filling.push_segment(segment),
            None => self.make_room(size)?,
        }
        Ok(())
    }

    /// Takes memory to sort with for its own, when it has filled half of its share.
    #[inline]
    fn take_own_spares(&mut self) {
        let budget = &self.source.budget;
        let fair = budget.fair_share();
        // Where the share is all that it may have, a part of that is kept already.
        if self.own_spares > 0
            || self.is_in_order
            || fair >= self.source.most.load(Atomic::Relaxed)
            || 2 * budget.held() < fair
        {
            return;
        }
        self.own_spares = (fair / RESERVED_PART).min(OWN_SPARES);
        self.draw(self.own_spares);
    }

    /// Takes free memory to sort with until there are `count` segments, as far as there are.
    fn draw(&mut self, count: usize) {
        let budget = &self.source.budget;
        let more = budget.available().min(count.saturating_sub(self.reserved.len()));
        let spares = std::iter::from_fn(|| budget.try_take()).take(more);
        self.reserved.extend(spares);
        budget.withdraw();
    }

    fn take_one(&self) -> Result<Segment> {
        let mut reservation = self.source.budget.reserve(1)?;
        Ok(reservation.take().expect("one was reserved"))
    }

    /// Begins to let rows leave, so that there is memory for one of `size` bytes.
    #[cold]
    fn make_room(&mut self, size: usize) -> Result<()> {
        self.source.budget.withdraw();
        if self.filling.is_empty() {
            if !self.reserved.is_empty() {
                // A row that is larger than what it has to sort with.
                self.reserved.clear();
                return Ok(());
            }
            let budget = &self.source.budget;
            let (most, needed) = (
                self.source.most.load(Atomic::Relaxed),
                size.div_ceil(budget.segment_size()) + 2,
            );
            if most < budget.maximum() {
                // There is nothing to merge it with yet.
                self.source.most.store(budget.maximum(), Atomic::Relaxed);
                return Ok(());
            }
            return Err(Error::memory(format!(
                "{}: a row of {size} B needs {needed} segments, its budget has {}; raise memory.managed_size",
                budget.owner(),
                budget.available()
            )));
        }
        if let Some(limit) = self.limit
            && 4 * self.filling.len() as u64 >= limit.saturating_mul(5)
        {
            return self.keep_first(limit);
        }
        let count = self.filling.segments().div_ceil(self.part);
        self.begin_spill(count);
        let in_memory = self.source.budget.held() * self.source.segment_size();
        let least = match self.handle.stats().raw_bytes_written >= MANY_LEFT * in_memory as u64 {
            true => 1,
            false => 2,
        };
        self.part = (self.part / 2).max(least);
        Ok(())
    }

    /// Sorts the rows of the first `count` segments of items and writes them.
    fn spill(&mut self, count: usize) -> Result<()> {
        self.begin_spill(count);
        self.finish_spill()
    }

    fn finish_spill(&mut self) -> Result<()> {
        while !self.step_spill(usize::MAX)? {}
        Ok(())
    }

    /// Begins to do so.
    fn begin_spill(&mut self, count: usize) {
        debug_assert!(self.leaving.is_none(), "rows leave once");
        self.peak = self.peak_segments();
        self.seen = self.seen.take().filter(Seen::is_disordered);
        let mut leaving = Chunks::new(self.source.segment_size());
        for _ in 0..count {
            if let Some(chunk) = self.filling.pop_front() {
                leaving.push_chunk(chunk);
            }
        }
        if leaving.is_empty() {
            return;
        }
        // Those that come in order are sorted already.
        let sort = match self.is_in_order {
            true => Sort::of_buckets(leaving, std::iter::empty(), 0),
            false => Sort::new(leaving, None),
        };
        if !self.is_in_order {
            self.draw(SPARES);
        }
        let spares = std::mem::take(&mut self.reserved);
        self.leaving = Some(Leaving::Sorting(sort, spares));
    }

    /// Does a piece of the work of letting rows leave: whether they have left.
    fn step_spill(&mut self, work: usize) -> Result<bool> {
        match self.leaving.take() {
            None => return Ok(true),
            Some(Leaving::Sorting(mut sort, mut spares)) => {
                self.leaving = Some(match self.items.sort_step(&mut sort, &mut spares, work) {
                    false => Leaving::Sorting(sort, spares),
                    true => {
                        spares.truncate(self.own_spares);
                        self.reserved = spares;
                        self.begin_run(sort.into_sorted())?
                    }
                });
            }
            Some(Leaving::Writing {
                items: mut leaving,
                mut next,
                mut writer,
                mut left,
            }) => {
                let most = work.saturating_mul(BYTES_A_WORK);
                let before = writer.bytes();
                while writer.bytes() - before < most {
                    let Some(chunk) = leaving.chunks().next() else {
                        break;
                    };
                    let items = &chunk.items::<I::Item>()[next..];
                    let piece = if I::ARE_ROWS { items.len() } else { ROWS_A_PIECE };
                    let count = piece
                        .min(items.len())
                        .min(usize::try_from(left).unwrap_or(usize::MAX));
                    if I::ARE_ROWS {
                        writer.push_items(&self.items, &items[..count], &mut self.handle)?;
                    } else {
                        for (place, item) in items[..count].iter().enumerate() {
                            if let Some(next) = items.get(place + 8) {
                                self.items.prefetch(*next);
                            }
                            let row = self.items.row(*item, &mut self.scratch);
                            writer.push(item.key(), row, &mut self.handle)?;
                        }
                    }
                    left -= count as u64;
                    next += count;
                    if next == chunk.len || left == 0 {
                        leaving.pop_front();
                        next = 0;
                    }
                }
                if leaving.segments() > 0 {
                    self.leaving = Some(Leaving::Writing {
                        items: leaving,
                        next,
                        writer,
                        left,
                    });
                    return Ok(false);
                }
                drop(leaving);
                let (run, staging) = writer.finish(&mut self.handle)?;
                self.staging = Some(staging);
                self.runs.push(Run::Spilled(Arc::new(run)));
                let first = self.filling.iter().next();
                self.items.release_before(first);
                // What has become free is to be had now.
                self.draw(self.own_spares);
            }
        }
        Ok(self.leaving.is_none())
    }

    /// Begins to write sorted rows.
    fn begin_run(&mut self, leaving: Chunks<I::Item>) -> Result<Leaving<I::Item>> {
        let staging = match self.staging.take() {
            Some(staging) => staging,
            None => self.take_one()?,
        };
        if let Some(limit) = self.limit
            && let Some(last) = leaving.iter().nth(limit.saturating_sub(1) as usize)
        {
            let bound = bound_of(&self.items, last, &mut self.scratch);
            let is_tighter = !self.is_behind_bound(bytes_of(&bound));
            if is_tighter {
                self.bound = Some(bound);
            }
        }
        let writer = RunWriter::new(staging, self.are_items_sorted());
        Ok(Leaving::Writing {
            items: leaving,
            next: 0,
            writer,
            left: self.limit.unwrap_or(u64::MAX),
        })
    }

    /// Whether items come in their own order when they are sorted: rows that came in order may differ in what their order does not look
    /// at, and items in that, too.
    fn are_items_sorted(&self) -> bool {
        !self.is_in_order || I::Item::KEY_IS_ALL
    }

    /// Gives up what rows are sorted with, as far as it holds more than `held` segments: whether rows must leave for it to hold no more.
    pub fn give_up_spares(&mut self, held: usize) -> bool {
        let excess = self.budget().held().saturating_sub(held);
        self.reserved.truncate(self.reserved.len().saturating_sub(excess));
        let has_rows = !self.filling.is_empty() || self.leaving.is_some();
        has_rows && self.budget().held() > held
    }

    /// Lets rows leave until it holds at most `held` segments, or has none of them any more.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn spill_to(&mut self, held: usize) -> Result<()> {
        self.finish_spill()?;
        while self.give_up_spares(held) {
            let (excess, all) = (self.budget().held() - held, self.revocable().max(1));
            self.spill((self.filling.segments() * excess).div_ceil(all))?;
        }
        if self.budget().held() > held && self.filling.is_empty() {
            self.filling = Chunks::new(self.source.segment_size());
            self.items.release_before(None);
            self.staging = None;
        }
        Ok(())
    }

    /// Bytes of rows that have left.
    pub fn spilled_bytes(&self) -> u64 {
        self.handle.stats().raw_bytes_written
    }

    /// Segments that it holds, but for those to sort and merge with.
    fn held_by_rows(&self) -> usize {
        self.budget().held() - self.reserved.len()
    }

    /// What it holds.
    pub fn held(&self) -> Held {
        Held {
            rows: self.held_by_rows(),
            spares: self.reserved.len(),
        }
    }

    /// The bits that all keys have, and those that any has, where rows in memory may be shared out by them, because items are rows that
    /// come in no order; and into how many buckets there will be memory to distribute them.
    pub fn shared_bits(&self) -> Option<(u64, u64, usize)> {
        let seen = self.seen.as_ref().filter(|seen| seen.is_disordered())?;
        let (all, any) = seen.bits();
        let budget = &self.source.budget;
        let share = budget.fair_share().saturating_sub(budget.held());
        let spares = self.reserved.len() + budget.available().min(share);
        I::ARE_ROWS.then_some((all, any, spares))
    }

    /// Distributes what is in memory by `bits` of keys, in steps of so much work, in place of [`Sorter::sort`]: its buckets when it is
    /// done. Where there is not memory for it, no buckets, at once.
    pub fn distribute(&mut self, bits: Bits, work: usize) -> Option<Vec<Chunks<I::Item>>> {
        let mut distribution = match self.sorting.take() {
            Some(Rest::Distributing(distribution)) => distribution,
            Some(Rest::InSort(_) | Rest::Sorted(_)) => {
                unreachable!("items are distributed before they are sorted")
            }
            None => {
                self.kept.get_or_insert(self.reserved.len());
                self.draw(bits.buckets());
                if self.reserved.len() < bits.buckets() {
                    return Some(Vec::new());
                }
                let filling = Chunks::new(self.source.segment_size());
                let items = std::mem::replace(&mut self.filling, filling);
                Box::new(Distribution::new(items, bits, &mut self.reserved))
            }
        };
        let mut left = work;
        if distribution.step(&mut self.reserved, &mut left) {
            return Some(distribution.into_buckets(&mut self.reserved));
        }
        self.sorting = Some(Rest::Distributing(distribution));
        None
    }

    /// Takes buckets, made by `bits` of keys, in the place of what was in memory, to be sorted by [`Sorter::sort`]: each comes before the
    /// next.
    pub fn take_buckets(&mut self, buckets: impl DoubleEndedIterator<Item = Chunks<I::Item>>, bits: Bits) {
        assert!(self.sorting.is_none(), "buckets come when all was distributed");
        self.draw(OWN_SPARES);
        let output = Chunks::new(self.source.segment_size());
        self.sorting = Some(Rest::InSort(Sort::of_buckets(output, buckets, bits.below)));
    }

    /// Sorts what is in memory, in steps of so much work: whether it is sorted.
    pub fn sort(&mut self, work: usize) -> bool {
        let mut sort = match self.sorting.take() {
            Some(Rest::InSort(sort)) => sort,
            Some(done @ Rest::Sorted(_)) => {
                self.sorting = Some(done);
                return true;
            }
            Some(Rest::Distributing(_)) => unreachable!("items are sorted when all were distributed"),
            None => {
                let filling = Chunks::new(self.source.segment_size());
                let items = std::mem::replace(&mut self.filling, filling);
                if self.is_in_order || items.is_empty() {
                    self.sorting = Some(Rest::Sorted(items));
                    return true;
                }
                // What is kept for merging, and not needed yet, helps too.
                self.kept.get_or_insert(self.reserved.len());
                self.draw(SPARES);
                Sort::new(items, self.seen.take())
            }
        };
        if !self.items.sort_step(&mut sort, &mut self.reserved, work) {
            self.sorting = Some(Rest::InSort(sort));
            return false;
        }
        self.sorting = Some(Rest::Sorted(sort.into_sorted()));
        true
    }

    /// Sorts what is in memory, if it is not sorted yet, and gives all runs: those on disk can be read by others' handles too.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn finish(mut self) -> Result<Sorted<I>> {
        self.finish_spill()?;
        while !self.sort(usize::MAX) {}
        let are_items_sorted = self.are_items_sorted();
        let Sorter {
            items,
            sorting,
            source,
            mut handle,
            mut runs,
            mut reserved,
            kept,
            peak,
            ..
        } = self;
        let peak = peak.max(source.budget.held());
        reserved.truncate(kept.unwrap_or(reserved.len()));
        let form = items.fresh(source.budget.segment_size());
        let Some(Rest::Sorted(sorted)) = sorting else {
            unreachable!("all was sorted");
        };
        if !sorted.is_empty() {
            let run = MemoryRun::new(items, sorted, are_items_sorted);
            runs.push(Run::Memory(Arc::new(run)));
        }
        if runs.iter().any(|run| matches!(run, Run::Spilled(_))) {
            handle.flush()?;
        }
        Ok(Sorted {
            runs,
            form,
            budget: source.budget,
            reserved,
            handle,
            peak_segments: peak,
        })
    }
}

/// A row behind which none is wanted.
type Bound = (u64, Vec<u128>, usize);

fn bound_of<I: Items>(items: &I, item: I::Item, scratch: &mut Scratch) -> Bound {
    let row = items.row(item, scratch);
    let mut words = vec![0u128; row.len().div_ceil(16)];
    zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice())[..row.len()].copy_from_slice(row);
    (item.key(), words, row.len())
}

fn bytes_of((_, words, size): &Bound) -> &[u8] {
    &zerocopy::IntoBytes::as_bytes(words.as_slice())[..*size]
}

/// What a sorter leaves.
pub struct Sorted<I: Items> {
    /// All its rows.
    pub runs: Vec<Run<I>>,
    /// Their form and order.
    pub form: I,
    /// Its budget, for merging.
    pub budget: Budget,
    /// Memory for it.
    pub reserved: Vec<Segment>,
    /// Its way to the spill store.
    pub handle: SpillHandle,
    /// The most segments that were held.
    pub peak_segments: usize,
}
