//! Aggregation of integer keys before the exchange: a table that folds what it has room for and lets the other rows pass.
//!
//! # Algorithm
//! 1. Rows are folded into groups until the table is as large as it may be; from then on only those whose key has a group. The others stay in
//!    their batch, which closes up and goes on: rows keep their type, and none is copied.
//! 2. The table closes where it does not reduce: while it grows, when most rows have new keys; when it is full, when fewer than a third have a
//!    group. Whole batches go on from then.
//! 3. A closed table is handed to the subtasks behind the exchange as it is ([`Handover`]).
//!
//! # Memory
//! No minimum; at most [`MOST_SEGMENTS`](super::local::MOST_SEGMENTS) of what others leave, and none where it may have fewer than 16. None of it is declared revocable.
//!
//! # Cost
//! About 4 ns a row with a group, where the exchange and a table behind it take 9. A table that closes has cost the look-ups of some
//! 8,000 rows.

use super::folding::{Folding, Lanes};
use super::groups::{CHUNK, Groups, LineGroups};
use super::handover::Handover;
use crate::aggregate::Aggregate;
use crate::batch::{Batch, variable_row_size};
use crate::metrics::OperatorMetrics;
use crate::operator::{Downstream, Finish, Operator};
use crate::record::{KeyFields, Record};
use forebay_memory::{Budget, Result};
use std::sync::Arc;

/// Rows between two looks at whether the table reduces.
const JUDGED_ROWS: usize = 4 << 10;

/// Groups from which on a table that grows is judged: fewer are soon folded again behind the exchange.
const JUDGED_GROUPS: usize = 8 << 10;

/// Segments that it must be able to have: where memory is so small, rows are better counted for hot keys behind the exchange.
const LEAST_TABLE: usize = 16;

/// Folds rows of `R` by `K` before the exchange.
pub(crate) struct LocalLines<R, K, A> {
    groups: Option<LineGroups<R, K>>,
    folding: Lanes<A>,
    handover: Arc<Handover>,
    /// While there are groups: what an open budget could take lessens the share of others.
    budget: Option<Budget>,
    /// Whether no group has been added since a segment was denied.
    is_full: bool,
    /// Rows since the last look, and those of them that had a group.
    rows: usize,
    hits: usize,
    /// By row of a batch, whether it goes on.
    passes: Vec<bool>,
    offsets: Vec<u32>,
    position: u64,
    peak_segments: usize,
    /// Groups handed over, and their bytes.
    handed_over: (u64, u64),
}

impl<R: Record, K: KeyFields<R>, A: Aggregate<R>> LocalLines<R, K, A> {
    /// An operator that lets everything pass where `is_bypassed`, and where there is little memory.
    pub(crate) fn new(
        keys: K,
        aggregate: A,
        budget: Budget,
        handover: Arc<Handover>,
        is_bypassed: bool,
    ) -> Self {
        let is_bypassed = is_bypassed || budget.maximum() < LEAST_TABLE;
        let groups = || LineGroups::new(keys, A::LANES, Arc::new(budget.clone()), 0);
        LocalLines {
            groups: (!is_bypassed).then(groups),
            folding: Lanes(aggregate),
            handover,
            budget: (!is_bypassed).then_some(budget),
            is_full: false,
            rows: 0,
            hits: 0,
            passes: Vec::new(),
            offsets: Vec::new(),
            position: 0,
            peak_segments: 0,
            handed_over: (0, 0),
        }
    }

    /// Folds what has a group or finds room for one; `passes` says which rows do not. Answers how many these are.
    fn fold(&mut self, batch: &Batch) -> usize {
        let Some(groups) = &mut self.groups else {
            return batch.len();
        };
        self.passes.clear();
        self.passes.resize(batch.len(), false);
        let (folding, is_full, hits) = (&mut self.folding, &mut self.is_full, &mut self.hits);
        let (bytes, mut offsets) = (batch.bytes(), std::mem::take(&mut self.offsets));
        let (mut row, mut start, mut passing) = (0, 0, 0);
        while row < batch.len() {
            let rows = row..batch.len().min(row + CHUNK);
            let passes = &mut self.passes[rows.clone()];
            let (first, count) = (start, rows.len());
            start = groups.take_rows(batch, rows, start, &mut offsets);
            let place = |number: usize| match R::STRIDE {
                0 => {
                    let at = offsets[number] as usize;
                    &bytes[at..at + variable_row_size(&bytes[at..])]
                }
                stride => &bytes[first + number * stride..][..stride],
            };
            let mut from = 0;
            if !*is_full {
                let before = groups.len();
                let progress = groups.update(0, |number, lanes, is_new| {
                    folding.fold_row(lanes, place(number), is_new);
                });
                from = progress.rows;
                *hits += from - (groups.len() - before);
                *is_full = progress.starved;
            }
            if *is_full {
                let missed = groups.update_present(
                    from,
                    |number, lanes| folding.fold_row(lanes, place(number), false),
                    |number| passes[number] = true,
                );
                *hits += count - from - missed;
                passing += missed;
            }
            row += count;
        }
        self.offsets = offsets;
        self.rows += batch.len();
        passing
    }

    /// Judges whether the table reduces.
    fn judge(&mut self) {
        let Some(groups) = &self.groups else {
            return;
        };
        if self.rows < JUDGED_ROWS {
            return;
        }
        let reduces = match self.is_full {
            true => 3 * self.hits >= self.rows,
            false => 8 * self.hits > self.rows || groups.len() < JUDGED_GROUPS,
        };
        (self.rows, self.hits) = (0, 0);
        if !reduces {
            self.close();
        }
    }

    fn held(&self) -> usize {
        self.budget.as_ref().map_or(0, Budget::held)
    }

    fn close(&mut self) {
        self.peak_segments = self.peak_segments.max(self.held());
        self.budget = None;
        if let Some(groups) = self.groups.take()
            && !groups.is_empty()
        {
            let table = groups.into_table();
            let of_group = size_of::<u64>() * (1 + table.lanes());
            self.handed_over = (table.len() as u64, (table.len() * of_group) as u64);
            self.handover.give(table);
        }
    }
}

impl<R: Record, K: KeyFields<R>, A: Aggregate<R>> Operator for LocalLines<R, K, A> {
    fn process(&mut self, mut batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        self.position += batch.len() as u64;
        let passing = self.fold(&batch);
        if passing == 0 {
            self.judge();
            return Ok(());
        }
        if passing < batch.len() {
            let mut passes = self.passes.iter();
            batch.retain::<R>(|_| Ok(*passes.next().expect("each row was looked at")))?;
        }
        self.judge();
        down.send(batch)
    }

    fn lets_all_pass(&self) -> bool {
        self.groups.is_none()
    }

    fn finish(&mut self, _: &mut Downstream<'_>) -> Result<Finish> {
        self.close();
        Ok(Finish::Done)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        (metrics.groups_handed_over, metrics.bytes_handed_over) = self.handed_over;
        metrics.segments_held = self.held() as u64;
        metrics.segments_peak = self.peak_segments.max(self.held()) as u64;
    }
}
