//! The sorter: takes rows in any order, sorts what there is memory for, and spills the rest as runs.
//!
//! # Interface
//! [`Sorter::push`] rows; [`Sorter::spill_to`] where others want memory; then [`Sorter::prepare_merge`], and
//! [`Sorter::finish`] to runs, the last of them in memory. `split` divides them between threads, `merger` merges them.
//!
//! # Algorithm
//! 1. Rows go to segments, their items to others, until the budget has no more, but for a reserve with which runs are merged.
//! 2. Then the rows that came first leave: their items are sorted, and the rows written in order. A sixteenth of them the first
//!    time and twice as many each time after, until half of them leave at a time: so only the excess is spilled where it is
//!    small, and there are few runs where it is large.
//! 3. What is left after the last row is sorted and stays in memory.
//!
//! # Memory
//! Least: 8 segments and twice those of the largest row. One is kept for writing runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::items::Items;
use super::kernel::{Chunks, Item};
use super::order::{KeyScratch, RowOrder};
use super::rows::Scratch;
use super::run::{MemoryRun, Run, RunWriter};
use crate::error::{Error, Result};
use crate::manager::Budget;
use crate::segment::{Segment, SegmentSource};
use crate::spill::{SpillHandle, SpillStats};

/// The part of the budget that is kept for merging: with 256 MiB in segments of 32 KiB, for 512 runs.
const RESERVED_PART: usize = 16;

/// The part of the rows that leaves first.
const FIRST_PART: usize = 16;

/// Segments that the sort of items makes good use of.
const SPARES: usize = 288;

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
        match self.budget.held() < self.most.load(Ordering::Relaxed) {
            true => self.budget.try_take(),
            false => None,
        }
    }
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
    rows: u64,
    largest: usize,
    /// Memory for the merge.
    reserved: Vec<Segment>,
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
            rows: 0,
            largest: 0,
            reserved: Vec::new(),
            peak: 0,
            keys: KeyScratch::default(),
            scratch: Scratch::default(),
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
        self.filling.segments() + self.items.segments()
    }

    /// Takes rows, packed one behind the other.
    ///
    /// # Errors
    /// Those of the spill store; `Memory` where a row finds no room even by itself.
    pub fn push(&mut self, mut rows: &[u8]) -> Result<()> {
        while !rows.is_empty() {
            let size = self.items.order().row_size(rows);
            let (row, rest) = rows.split_at(size);
            self.push_row(row)?;
            rows = rest;
        }
        Ok(())
    }

    #[inline]
    fn push_row(&mut self, row: &[u8]) -> Result<()> {
        loop {
            if self.filling.room() == 0 {
                self.extend(row.len())?;
                continue;
            }
            let Some(item) = self.items.put(row, &self.source, &mut self.keys) else {
                self.make_room(row.len())?;
                continue;
            };
            self.filling.push(item);
            self.rows += 1;
            self.largest = self.largest.max(row.len());
            return Ok(());
        }
    }

    #[cold]
    fn extend(&mut self, size: usize) -> Result<()> {
        if self.staging.is_none() {
            self.staging = Some(self.take_one()?);
        }
        match self.source.try_take() {
            Some(segment) => self.filling.push_segment(segment),
            None => self.make_room(size)?,
        }
        Ok(())
    }

    fn take_one(&self) -> Result<Segment> {
        let mut reservation = self.source.budget.reserve(1)?;
        Ok(reservation.take().expect("one was reserved"))
    }

    /// Lets rows leave, so that there is memory for one of `size` bytes.
    #[cold]
    fn make_room(&mut self, size: usize) -> Result<()> {
        self.source.budget.withdraw();
        if self.filling.is_empty() {
            let budget = &self.source.budget;
            let (most, needed) = (
                self.source.most.load(Ordering::Relaxed),
                size.div_ceil(budget.segment_size()) + 2,
            );
            if most < budget.maximum() {
                // There is nothing to merge it with yet.
                self.source.most.store(budget.maximum(), Ordering::Relaxed);
                return Ok(());
            }
            return Err(Error::memory(format!(
                "{}: a row of {size} B needs {needed} segments, its budget has {}; raise memory.managed_size",
                budget.owner(),
                budget.available()
            )));
        }
        let count = self.filling.segments().div_ceil(self.part);
        self.spill(count)?;
        self.part = (self.part / 2).max(2);
        Ok(())
    }

    /// Sorts the rows of the first `count` segments of items and writes them.
    fn spill(&mut self, count: usize) -> Result<()> {
        self.peak = self.peak_segments();
        let mut leaving = Chunks::new(self.source.segment_size());
        for _ in 0..count {
            if let Some(chunk) = self.filling.pop_front() {
                leaving.push_chunk(chunk);
            }
        }
        if leaving.is_empty() {
            return Ok(());
        }
        let mut spares = self.spares();
        self.items.sort(&mut leaving, &mut spares);
        drop(spares);
        let staging = match self.staging.take() {
            Some(staging) => staging,
            None => self.take_one()?,
        };
        let mut writer = RunWriter::new(staging);
        while let Some(chunk) = leaving.pop_front() {
            let items = chunk.items::<I::Item>();
            for (place, item) in items.iter().enumerate() {
                if let Some(next) = items.get(place + 8) {
                    self.items.prefetch(*next);
                }
                let row = self.items.row(*item, &mut self.scratch);
                writer.push(item.key(), row, &mut self.handle)?;
            }
        }
        let (run, staging) = writer.finish(&mut self.handle)?;
        self.staging = Some(staging);
        self.runs.push(Run::Spilled(Arc::new(run)));
        let first = self.filling.iter().next();
        self.items.release_before(first);
        Ok(())
    }

    /// Free segments that a sort may use, as many as it makes good use of.
    fn spares(&self) -> Vec<Segment> {
        let budget = &self.source.budget;
        let count = budget.available().min(SPARES);
        let spares = std::iter::from_fn(|| budget.try_take()).take(count).collect();
        budget.withdraw();
        spares
    }

    /// Lets rows leave until it holds at most `held` segments, or has none of them any more.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn spill_to(&mut self, held: usize) -> Result<()> {
        while self.budget().held() > held && !self.filling.is_empty() {
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

    /// Sees to it that there is memory to merge `runs` runs on disk, its own and others', whose largest row has `largest` bytes:
    /// what is kept for it, and at least enough for two of them. More rows leave where it is not there.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn prepare_merge(&mut self, runs: usize, largest: usize) -> Result<()> {
        self.staging = None;
        if runs == 0 {
            return Ok(());
        }
        let budget = &self.source.budget;
        let each = largest.div_ceil(budget.segment_size()).max(1);
        let least = 2 * each + 1;
        // What has left since the subtasks counted their runs makes one more.
        let wanted = (runs + 1) * each;
        let needed = wanted.min(budget.maximum() / RESERVED_PART).max(least);
        let mut reservation = loop {
            match self.source.budget.reserve(needed) {
                Ok(reservation) => break reservation,
                Err(error) if self.filling.is_empty() => return Err(error),
                Err(_) => {
                    let count = self.filling.segments().div_ceil(FIRST_PART);
                    self.spill(count)?;
                    self.staging = None;
                }
            }
        };
        self.reserved.extend(std::iter::from_fn(|| reservation.take()));
        Ok(())
    }

    /// Sorts what is in memory, and gives all runs: those on disk can be read by others' handles too.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn finish(self) -> Result<Sorted<I>> {
        let Sorter {
            items,
            mut filling,
            source,
            mut handle,
            mut runs,
            reserved,
            peak,
            ..
        } = self;
        let peak = peak.max(source.budget.held());
        let order = items.order().clone();
        if !filling.is_empty() {
            let budget = &source.budget;
            let count = budget.available().min(SPARES);
            let mut spares = std::iter::from_fn(|| budget.try_take()).take(count).collect();
            items.sort(&mut filling, &mut spares);
            drop(spares);
            budget.withdraw();
            runs.push(Run::Memory(Arc::new(MemoryRun::new(items, filling))));
        }
        if runs.iter().any(|run| matches!(run, Run::Spilled(_))) {
            handle.flush()?;
        }
        Ok(Sorted {
            runs,
            order,
            budget: source.budget,
            reserved,
            handle,
            peak_segments: peak,
        })
    }
}

/// What a sorter leaves.
pub struct Sorted<I: Items> {
    /// All its rows.
    pub runs: Vec<Run<I>>,
    /// Their order.
    pub order: I::Order,
    /// Its budget, for merging.
    pub budget: Budget,
    /// Memory for it.
    pub reserved: Vec<Segment>,
    /// Its way to the spill store.
    pub handle: SpillHandle,
    /// The most segments that were held.
    pub peak_segments: usize,
}
