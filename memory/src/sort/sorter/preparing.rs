//! What a sorter does between its last row and the merge: it sees to the memory for that.
//!
//! # Interface
//! [`Sorter::keep_to_share`], where several merge together, then [`Sorter::prepare_merge`].
//!
//! # Algorithm
//! Merging wants a segment for each run and some to read ahead with, within the fair share. What is free goes to that first; what is given
//! up when it is not there, comes in this order: what would be read ahead with because it was free; rows, first as many as are missing, then,
//! where others have taken what they left, all that are more than the share; and when there are no rows in memory, the rest of what
//! would be read ahead with.

use super::super::ahead::segments_for;
use super::super::together::{Terms, Together};
use super::{FIRST_PART, Items, RESERVED_PART, Sorter};
use crate::error::Result;
use crate::segment::SegmentSource;

/// The most that rows leave for reading runs ahead, besides the share of the memory: a part of what was spilled.
const SPILLED_PART: usize = 16;

/// Segments that merging needs, at least and in all, and those with which runs are read ahead.
#[derive(Clone, Copy)]
pub(super) struct Preparing {
    least: usize,
    needed: usize,
    ahead: usize,
    /// So many of those are worth it that rows leave for them.
    worth: usize,
    /// And more than so many are of no use.
    useful: usize,
    /// Whether rows have left for them since all have settled.
    has_made_room: bool,
}

impl<I: Items> Sorter<I>
where
    I::Order: Clone,
{
    /// Lets rows leave, in steps of so much work, where what it holds and what it needs to merge its part are more than it may have, as
    /// sorter number `index` of those that merge together. Whether they have left. [`Sorter::prepare_merge`] comes next, when all sorters
    /// have done so: each finds as much then as the others.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn keep_to_share(&mut self, together: &Together, index: usize, work: usize) -> Result<bool> {
        if self.leaving.is_some() {
            return self.step_spill(work).map(|_| false);
        }
        if together.runs == 0 {
            return Ok(true);
        }
        // Once it was said it stays so: what leaves then is what was missing when all had come.
        let keep = self.keep.unwrap_or_else(|| self.divide(together, index));
        let missing = self.held_by_rows().saturating_sub(keep);
        if missing > 0 && !self.filling.is_empty() {
            self.let_leave(missing);
            return Ok(false);
        }
        if let Some(Preparing { needed, ahead, .. }) = self.preparing {
            // More than that is others' now; what is left when all have theirs is good for sorting.
            self.reserved.truncate(needed + ahead);
        }
        Ok(true)
    }

    /// Finds out how much it is to have for merging, and how many segments it may hold besides.
    #[cold]
    fn divide(&mut self, together: &Together, index: usize) -> usize {
        let sorters = together.held.len();
        let spilled = together.spilled_bytes / sorters as u64;
        // What leaves now makes one run more of each.
        let budget = self.budget();
        let share = budget.fair_share();
        let mut preparing = self.wants(together.runs + sorters, together.largest, spilled, share);
        let terms = Terms {
            minimum: budget.minimum(),
            maximum: budget.maximum(),
            share,
            total: preparing.needed + preparing.ahead,
        };
        let part = together.part(index, &terms);
        preparing.ahead = (preparing.ahead + part.more).min(preparing.useful);
        self.preparing = Some(preparing);
        self.keep = Some(part.keep);
        part.keep
    }

    /// Begins to let rows leave, so that so many segments become free, in one run.
    fn let_leave(&mut self, missing: usize) {
        let all = self.filling.segments();
        let rest = self.filling.chunks().skip(1);
        let is_enough = |count: usize, rest: Option<&I::Item>| {
            let of_rows = rest.map_or(self.items.segments(), |item| self.items.segments_before(*item));
            count + of_rows >= missing
        };
        let count = (1..all)
            .zip(rest)
            .find(|(count, chunk)| is_enough(*count, chunk.items().first()))
            .map_or(all, |(count, _)| count);
        // Where others take what has become free there are not many small runs.
        let least = match self.has_let_leave {
            true => all.div_ceil(FIRST_PART),
            false => 1,
        };
        self.has_let_leave = true;
        self.begin_spill(count.max(least));
    }

    /// What merging so many runs is to have, where so many bytes that were spilled are its part, if nothing is free; no more than a share.
    fn wants(&self, runs: usize, largest: usize, spilled_bytes: u64, share: usize) -> Preparing {
        let budget = &self.source.budget;
        let each = largest.div_ceil(budget.segment_size()).max(1);
        let least = 2 * each + 1;
        // The others have as much: more than a share is theirs. What runs are written with is given up only then.
        let share = share.saturating_sub(1).max(least);
        let wanted = runs * each;
        let needed = wanted.min(budget.maximum() / RESERVED_PART).min(share).max(least);
        let useful = segments_for(runs, budget.segment_size()) + wanted.saturating_sub(needed);
        let useful = useful.min(share - needed);
        // More than that is worth a small part of what was spilled.
        let spilled = spilled_bytes as usize / budget.segment_size();
        let worth = useful.min(spilled / SPILLED_PART);
        Preparing {
            least,
            needed,
            ahead: worth,
            worth,
            useful,
            has_made_room: false,
        }
    }

    /// The same with what is free, which is not needed for anything else any more.
    #[cold]
    fn wants_alone(&self, runs: usize, largest: usize) -> Preparing {
        let budget = &self.source.budget;
        let share = budget.fair_share();
        let mut preparing = self.wants(runs + 1, largest, self.spilled_bytes(), share);
        let room = share.saturating_sub(1 + self.held_by_rows());
        let free = (budget.available() + self.reserved.len()).min(room);
        let ahead = free.saturating_sub(preparing.needed).max(preparing.worth);
        preparing.ahead = ahead.min(preparing.useful);
        preparing
    }

    /// Sees to it, in steps of so much work, that there is memory to merge `runs` runs on disk, its own and others', whose largest row has
    /// `largest` bytes: what is kept for it, and at least enough for two of them; and to read them ahead. More rows leave where it is not
    /// there. Whether it is there now.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn prepare_merge(&mut self, runs: usize, largest: usize, work: usize) -> Result<bool> {
        if self.leaving.is_some() {
            return self.step_spill(work).map(|_| false);
        }
        if runs == 0 {
            self.staging = None;
            // Nothing is kept: there is nothing to be merged with other memory.
            self.kept = Some(0);
            return Ok(true);
        }
        let mut preparing = self.preparing.unwrap_or_else(|| self.wants_alone(runs, largest));
        let Preparing {
            least,
            needed,
            ahead,
            worth,
            ..
        } = preparing;
        let budget = &self.source.budget;
        let more = (needed + ahead).saturating_sub(self.reserved.len());
        match budget.reserve(more) {
            Ok(mut reservation) => {
                self.staging = None;
                self.reserved.extend(std::iter::from_fn(|| reservation.take()));
                // What rows were sorted with as they left may be more.
                self.reserved.truncate(needed + ahead);
                return Ok(true);
            }
            // It was to be had because it was free: no row leaves for it, and nobody else's.
            Err(_) if ahead > worth => {
                budget.withdraw();
                preparing.ahead = worth.max(ahead / 2);
            }
            // What runs are written with is given up last: others may have taken it when it is wanted again.
            Err(error) if self.filling.is_empty() => {
                if ahead > 0 {
                    preparing.ahead = ahead / 2;
                    preparing.worth = preparing.ahead;
                } else if needed > least {
                    // Others have the rest, and keep it: fewer runs are merged at a time.
                    preparing.needed = (needed / 2).max(least);
                } else if self.staging.take().is_none() {
                    return Err(error);
                }
            }
            Err(_) => {
                let mut missing = more.saturating_sub(budget.available());
                if preparing.has_made_room {
                    // Others have taken what has become free. All that cannot be counted on leaves, in one run: not a few segments again
                    // and again.
                    let all = self.held_by_rows() + needed + ahead;
                    missing = missing.max(all.saturating_sub(budget.fair_share()));
                }
                preparing.has_made_room = true;
                self.let_leave(missing);
            }
        }
        self.preparing = Some(preparing);
        Ok(false)
    }
}
