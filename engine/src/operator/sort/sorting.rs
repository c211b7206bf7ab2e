//! The sort operator: gives rows to a sorter, meets the other subtasks, and sends its part of the order.
//!
//! # Algorithm
//! Rows go to a [`Sorter`], which spills what does not fit. After the last input the subtasks meet (`shared`), and each sends a
//! range of all rows in order: one subtask's rows come after those of the subtask before. What is to be done in between is done in
//! steps, one a call of `finish`; and so do rows leave while there is input, which waits meanwhile.
//!
//! # Memory
//! As the sorter's; while rows are sent, a segment or more for each run that is read.

use super::shared::{Arrival, Arrivals, Share, Shared, Stage};
use crate::batch::{Batch, BatchWriter, Batches};
use crate::metrics::OperatorMetrics;
use crate::operator::{Downstream, Finish, Operator};
use crate::record::Record;
use forebay_memory::sort::kernel::Bits;
use forebay_memory::sort::{Held, Items, Merger, RowOutput, Run, Sorted, Sorter, Step};
use forebay_memory::{Budget, Result, SegmentSource, SpillHandle, SpillStats};
use std::marker::PhantomData;
use std::sync::Arc;

/// Batches sent in one call of `finish`: cancellation waits for so long.
const BATCHES_A_FINISH: usize = 8;

/// Items that are worked on in one call of `finish`, each for some 4 to 20 ns and, where rows are looked at, more.
pub(super) const WORK: usize = 128 << 10;

/// Runs that a subtask whose input has ended says that it makes, when it has to give memory back.
const LATE_RUNS: usize = 16;

enum Phase<I: Items> {
    /// Rows come in.
    Filling(Box<Sorter<I>>),
    /// The input has ended; others' may not have.
    Arrived(Box<Sorter<I>>),
    /// Rows leave, so that all find memory for the merge.
    Settling(Box<Sorter<I>>, Arc<Arrivals>),
    /// They have left; others' may not have.
    Settled(Box<Sorter<I>>, Arc<Arrivals>),
    /// Memory is being taken for the merge.
    Preparing(Box<Sorter<I>>, Arc<Arrivals>),
    /// It was taken; others may not have theirs.
    Prepared(Box<Sorter<I>>, Arc<Arrivals>),
    /// Items are being distributed by bits that all subtasks know.
    Distributing(Box<Sorter<I>>, Bits),
    /// Buckets were handed in.
    Distributed(Box<Sorter<I>>, Bits),
    /// What is in memory is being sorted; whether it is this subtask's part of the whole.
    Sorting(Box<Sorter<I>>, bool),
    /// Runs were handed in.
    HandedIn(Box<Sorted<I>>),
    /// Rows are being sent.
    Merging(Box<Sorted<I>>, Box<Merger<I>>),
    Done,
}

/// Sorts rows of `R`.
pub(crate) struct Sorting<R: Record, I: Items> {
    phase: Phase<I>,
    shared: Arc<Shared<I>>,
    subtask: Share,
    writer: BatchWriter<R>,
    /// Input that waits until rows have left memory, and how much of it was taken.
    waiting: Option<(Batch, usize)>,
    position: u64,
    /// Runs that the others count on since this subtask has arrived, and that are not made yet.
    late_runs: usize,
    /// Rows that are still to be sent at most.
    left: u64,
    /// Of phases that are over.
    peak_segments: usize,
    spilled: SpillStats,
    record: PhantomData<fn(R)>,
}

impl<R: Record, I: Items> Sorting<R, I>
where
    I::Order: Clone,
{
    pub(crate) fn new(
        items: I,
        budget: Budget,
        handle: SpillHandle,
        batches: Batches,
        subtask: Share,
        shared: Arc<Shared<I>>,
    ) -> Self {
        Sorting {
            left: u64::MAX,
            phase: Phase::Filling(Box::new(Sorter::new(items, budget, handle))),
            shared,
            subtask,
            writer: BatchWriter::new(batches),
            waiting: None,
            position: 0,
            late_runs: 0,
            peak_segments: 0,
            spilled: SpillStats::default(),
            record: PhantomData,
        }
    }

    /// The same, of rows that come in their order.
    pub(crate) fn of_sorted(self) -> Self {
        let phase = match self.phase {
            Phase::Filling(sorter) => Phase::Filling(Box::new(sorter.of_sorted())),
            phase => phase,
        };
        Sorting { phase, ..self }
    }

    /// The same, of the first `limit` rows.
    pub(crate) fn with_limit(self, limit: u64) -> Self {
        let phase = match self.phase {
            Phase::Filling(sorter) => Phase::Filling(Box::new(sorter.with_limit(limit))),
            phase => phase,
        };
        Sorting {
            phase,
            left: limit,
            ..self
        }
    }

    /// Takes the rows of a batch from a byte on, as far as there is room; what is left waits.
    fn take(&mut self, batch: Batch, from: usize) -> Result<()> {
        let Phase::Filling(sorter) = &mut self.phase else {
            unreachable!("no rows come after the last");
        };
        let taken = from + sorter.push_some(&batch.bytes()[from..], WORK)?;
        sorter
            .budget()
            .set_revocable(sorter.revocable(), sorter.budget().segment_size());
        if taken < batch.bytes().len() {
            self.waiting = Some((batch, taken));
        }
        Ok(())
    }

    /// Sends a few batches of the subtask's part.
    fn send(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        let Phase::Merging(sorted, merger) = &mut self.phase else {
            unreachable!("rows are sent in the phase of merging");
        };
        for _ in 0..BATCHES_A_FINISH {
            if !down.has_room() {
                break;
            }
            let mut output = Batching {
                writer: &mut self.writer,
                full: None,
                left: &mut self.left,
            };
            let step = merger.step(&sorted.form, &sorted.budget, &mut sorted.handle, &mut output)?;
            if let Some(batch) = output.full {
                down.send(batch)?;
            }
            if step == Step::Done || self.left == 0 {
                if let Some(batch) = self.writer.take() {
                    down.send(batch)?;
                }
                return Ok(Finish::Done);
            }
        }
        self.peak_segments = self.peak_segments.max(sorted.budget.held());
        Ok(Finish::More)
    }
}

/// Takes merged rows until a batch is full.
struct Batching<'a, R> {
    writer: &'a mut BatchWriter<R>,
    full: Option<Batch>,
    left: &'a mut u64,
}

impl<R: Record> RowOutput for Batching<'_, R> {
    #[inline]
    fn push(&mut self, row: &[u8]) -> bool {
        if *self.left == 0 {
            return false;
        }
        *self.left -= 1;
        self.full = self.writer.push_row(row);
        self.full.is_none()
    }

    fn fill(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let most = usize::try_from(*self.left).unwrap_or(usize::MAX);
        if most == 0 {
            return false;
        }
        let (full, room) = self.writer.room(most.min(usize::MAX / R::STRIDE.max(1)));
        let rows = write(room);
        *self.left -= rows as u64;
        self.writer.advance(rows);
        self.full = match self.writer.is_single() {
            true => self.writer.take(),
            false => full,
        };
        self.full.is_none()
    }
}

impl<R: Record, I: Items> Operator for Sorting<R, I>
where
    I::Order: Clone,
{
    fn process(&mut self, batch: Batch, _: &mut Downstream<'_>) -> Result<()> {
        // Who has more for it than it can take now, from one batch of its own, is not kept waiting.
        while let Some((batch, from)) = self.waiting.take() {
            self.take(batch, from)?;
        }
        self.position += batch.len() as u64;
        self.take(batch, 0)
    }

    fn has_pending(&self) -> bool {
        self.waiting.is_some()
    }

    fn resume(&mut self, _: &mut Downstream<'_>) -> Result<()> {
        match self.waiting.take() {
            Some((batch, from)) => self.take(batch, from),
            None => Ok(()),
        }
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        assert!(self.waiting.is_none(), "input ends when all of it was taken");
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Filling(sorter) => {
                let arrival = Arrival {
                    spilled_runs: sorter.spilled_runs(),
                    largest: sorter.largest(),
                    rows: sorter.rows(),
                    spilled_bytes: sorter.spilled_bytes(),
                    held: sorter.held(),
                    free: sorter.budget().free_in_pool(),
                    bits: sorter.shared_bits(),
                };
                self.shared.arrive(self.subtask, arrival);
                self.phase = Phase::Arrived(sorter);
                Ok(Finish::More)
            }
            Phase::Arrived(sorter) => {
                let Some(arrivals) = self.shared.arrivals() else {
                    self.phase = Phase::Arrived(sorter);
                    return Ok(Finish::Waiting);
                };
                sorter.budget().set_revocable(0, 1);
                self.phase = Phase::Settling(sorter, arrivals);
                Ok(Finish::More)
            }
            Phase::Settling(mut sorter, arrivals) => {
                self.phase = match sorter.keep_to_share(&arrivals.together, self.subtask.index, WORK)? {
                    false => Phase::Settling(sorter, arrivals),
                    true => {
                        self.shared.reach(Stage::Settled);
                        Phase::Settled(sorter, arrivals)
                    }
                };
                Ok(Finish::More)
            }
            Phase::Settled(sorter, arrivals) => {
                let is_merged = arrivals.together.runs > 0;
                if is_merged && !self.shared.have_all_reached(Stage::Settled) {
                    self.phase = Phase::Settled(sorter, arrivals);
                    return Ok(Finish::Waiting);
                }
                self.phase = Phase::Preparing(sorter, arrivals);
                Ok(Finish::More)
            }
            Phase::Preparing(mut sorter, arrivals) => {
                let together = &arrivals.together;
                self.phase = match sorter.prepare_merge(together.runs, together.largest, WORK)? {
                    false => Phase::Preparing(sorter, arrivals),
                    true => {
                        self.shared.reach(Stage::Prepared);
                        Phase::Prepared(sorter, arrivals)
                    }
                };
                Ok(Finish::More)
            }
            Phase::Prepared(sorter, arrivals) => {
                let is_merged = arrivals.together.runs > 0;
                if is_merged && !self.shared.have_all_reached(Stage::Prepared) {
                    self.phase = Phase::Prepared(sorter, arrivals);
                    return Ok(Finish::Waiting);
                }
                self.phase = match arrivals.shared_bits {
                    Some(bits) => Phase::Distributing(sorter, bits),
                    None => Phase::Sorting(sorter, false),
                };
                Ok(Finish::More)
            }
            Phase::Distributing(mut sorter, bits) => {
                self.phase = match sorter.distribute(bits, WORK) {
                    None => Phase::Distributing(sorter, bits),
                    Some(buckets) => {
                        self.shared.hand_in_buckets(self.subtask, buckets);
                        Phase::Distributed(sorter, bits)
                    }
                };
                Ok(Finish::More)
            }
            Phase::Distributed(mut sorter, bits) => {
                let Some((buckets, is_part)) = self.shared.buckets(self.subtask) else {
                    self.phase = Phase::Distributed(sorter, bits);
                    return Ok(Finish::Waiting);
                };
                // Without any its items are still where they were.
                if !buckets.is_empty() {
                    sorter.take_buckets(buckets.into_iter(), bits);
                }
                self.phase = Phase::Sorting(sorter, is_part);
                Ok(Finish::More)
            }
            Phase::Sorting(mut sorter, is_part) => {
                if !sorter.sort(WORK) {
                    self.phase = Phase::Sorting(sorter, is_part);
                    return Ok(Finish::More);
                }
                let mut sorted = Box::new(sorter.finish()?);
                self.peak_segments = sorted.peak_segments;
                self.phase = match is_part {
                    true => {
                        let pieces = std::mem::take(&mut sorted.runs).into_iter().map(Run::whole);
                        Phase::Merging(sorted, Box::new(Merger::new(pieces, true, Vec::new())))
                    }
                    false => {
                        self.shared.hand_in(self.subtask, &mut sorted)?;
                        Phase::HandedIn(sorted)
                    }
                };
                Ok(Finish::More)
            }
            Phase::HandedIn(mut sorted) => {
                let Some(pieces) = self.shared.part(self.subtask) else {
                    self.phase = Phase::HandedIn(sorted);
                    return Ok(Finish::Waiting);
                };
                let is_own = self.subtask.parallelism == 1;
                let reserved = std::mem::take(&mut sorted.reserved);
                self.phase = Phase::Merging(sorted, Box::new(Merger::new(pieces, is_own, reserved)));
                Ok(Finish::More)
            }
            Phase::Merging(sorted, merger) => {
                self.phase = Phase::Merging(sorted, merger);
                let finish = self.send(down)?;
                if finish == Finish::Done
                    && let Phase::Merging(sorted, _) = std::mem::replace(&mut self.phase, Phase::Done)
                {
                    self.spilled = sorted.handle.stats();
                    self.shared.leave(sorted.handle);
                }
                Ok(finish)
            }
            Phase::Done => Ok(Finish::Done),
        }
    }

    fn yield_memory(&mut self) -> Result<()> {
        let has_arrived = matches!(self.phase, Phase::Arrived(_));
        if let Phase::Filling(sorter) | Phase::Arrived(sorter) = &mut self.phase {
            let wanted = sorter.budget().revocation_wanted();
            if wanted == 0 {
                return Ok(());
            }
            let held = sorter.budget().held().saturating_sub(wanted);
            // The others count on it that an order that is wholly in memory stays there: they are asked only where rows must leave.
            if has_arrived && sorter.give_up_spares(held) {
                if self.late_runs == 0 && self.shared.may_spill(self.subtask, LATE_RUNS) {
                    self.late_runs = LATE_RUNS;
                }
                if self.late_runs == 0 {
                    // They have begun already.
                    sorter
                        .budget()
                        .set_revocable(sorter.revocable(), sorter.budget().segment_size());
                    return Ok(());
                }
                // Said before, since the last may arrive meanwhile.
                let rows = sorter.held().rows.min(held);
                let held = Held { rows, spares: 0 };
                self.shared.correct(self.subtask, held, sorter.spilled_bytes());
            }
            let runs = sorter.spilled_runs();
            sorter.spill_to(held)?;
            if has_arrived {
                self.shared
                    .correct(self.subtask, sorter.held(), sorter.spilled_bytes());
            }
            self.late_runs = (self.late_runs).saturating_sub(sorter.spilled_runs() - runs);
            sorter
                .budget()
                .set_revocable(sorter.revocable(), sorter.budget().segment_size());
        }
        Ok(())
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        let (held, peak, spilled) = match &self.phase {
            Phase::Filling(sorter)
            | Phase::Arrived(sorter)
            | Phase::Settling(sorter, _)
            | Phase::Settled(sorter, _)
            | Phase::Preparing(sorter, _)
            | Phase::Prepared(sorter, _)
            | Phase::Distributing(sorter, _)
            | Phase::Distributed(sorter, _)
            | Phase::Sorting(sorter, _) => (
                sorter.budget().held(),
                sorter.peak_segments(),
                sorter.spill_stats(),
            ),
            Phase::HandedIn(sorted) | Phase::Merging(sorted, _) => {
                (sorted.budget.held(), sorted.budget.held(), sorted.handle.stats())
            }
            Phase::Done => (0, 0, self.spilled),
        };
        metrics.segments_held = held as u64;
        metrics.segments_peak = self.peak_segments.max(peak) as u64;
        metrics.spilled_bytes_written = spilled.bytes_written;
        metrics.spilled_bytes_read = spilled.bytes_read;
    }
}
