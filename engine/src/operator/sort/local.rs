//! Sorting within a subtask, for operators that pull sorted rows: whatever stands for the rows, behind one type.
//!
//! # Interface
//! [`local_sort`] makes a [`LocalSort`]; it takes rows until [`LocalSort::end`], and gives them in order to [`LocalSort::fill`].
//!
//! # Memory
//! As the sorter's; besides [`BUFFER`] bytes of rows, or one row, on the heap.
//!
//! # Cost
//! A dynamic call a batch, and one for each buffer of rows.

use super::order::FieldOrder;
use super::sorting::WORK;
use crate::metrics::OperatorMetrics;
use crate::record::{Record, SortFields};
use forebay_memory::sort::{
    ColumnOrder, Items, Located, Merger, Narrow, NarrowRow, RowOutput, Run, Sorted, Sorter, Step,
};
use forebay_memory::{Budget, Result, SegmentSource, SpillHandle, SpillStats};
use zerocopy::IntoBytes;

/// Bytes of rows that are taken from the merge at once.
const BUFFER: usize = 8 << 10;

/// Rows on their way from the merge, packed one behind the other.
#[derive(Default)]
pub(crate) struct RowBuffer {
    /// Aligned like the most demanding plain record.
    words: Vec<u128>,
    filled: usize,
    /// 0 where rows vary.
    stride: usize,
}

impl RowBuffer {
    /// A buffer of rows of a stride.
    pub(crate) fn new(stride: usize) -> Self {
        RowBuffer {
            stride,
            ..RowBuffer::default()
        }
    }

    /// The rows.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.filled]
    }

    /// Room for so many bytes more.
    fn room(&mut self, size: usize) -> &mut [u8] {
        let end = self.filled + size;
        if self.words.len() < end.div_ceil(16) {
            self.words.resize(end.div_ceil(16), 0);
        }
        &mut self.words.as_mut_bytes()[self.filled..end]
    }
}

impl RowOutput for RowBuffer {
    fn push(&mut self, row: &[u8]) -> bool {
        self.room(row.len()).copy_from_slice(row);
        self.filled += row.len();
        self.filled < BUFFER
    }

    fn fill(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let rows = (BUFFER.saturating_sub(self.filled) / self.stride).max(1);
        let written = write(self.room(rows * self.stride));
        self.filled += written * self.stride;
        self.filled < BUFFER
    }
}

/// What a sort has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) held: usize,
    pub(crate) peak: usize,
    pub(crate) spilled: SpillStats,
}

impl Usage {
    /// Adds it to an operator's metrics.
    pub(crate) fn report(&self, metrics: &mut OperatorMetrics) {
        metrics.segments_held += self.held as u64;
        metrics.segments_peak += self.peak as u64;
        metrics.spilled_bytes_written += self.spilled.bytes_written;
        metrics.spilled_bytes_read += self.spilled.bytes_read;
    }
}

/// A sort of one subtask's rows.
pub(crate) trait LocalSort: Send {
    /// Takes rows, packed one behind the other.
    fn push(&mut self, rows: &[u8]) -> Result<()>;

    /// Hears that there are no more, and does a piece of what is to be done then: whether all is.
    fn end(&mut self) -> Result<bool>;

    /// Puts the next rows in the place of those of a buffer; none where there are no more. Called when [`LocalSort::end`] is done.
    fn fill(&mut self, buffer: &mut RowBuffer) -> Result<()>;

    /// Gives memory back that others want, while rows come.
    fn yield_memory(&mut self) -> Result<()>;

    /// What it has used.
    fn usage(&self) -> Usage;
}

enum Phase<I: Items> {
    Filling(Box<Sorter<I>>),
    /// Memory is being freed for the merge.
    Preparing(Box<Sorter<I>>),
    /// What is in memory is being sorted.
    Sorting(Box<Sorter<I>>),
    Merging(Box<Sorted<I>>, Box<Merger<I>>),
    Over,
}

struct Sort<I: Items> {
    phase: Phase<I>,
    /// Runs on disk when the last row had come.
    runs: usize,
    usage: Usage,
}

impl<I: Items> LocalSort for Sort<I> {
    fn push(&mut self, rows: &[u8]) -> Result<()> {
        let Phase::Filling(sorter) = &mut self.phase else {
            unreachable!("no rows come after the last");
        };
        sorter.push(rows)?;
        sorter
            .budget()
            .set_revocable(sorter.revocable(), sorter.budget().segment_size());
        Ok(())
    }

    fn end(&mut self) -> Result<bool> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Filling(sorter) => {
                sorter.budget().set_revocable(0, 1);
                self.runs = sorter.spilled_runs();
                Phase::Preparing(sorter)
            }
            Phase::Preparing(mut sorter) => {
                let largest = sorter.largest();
                match sorter.prepare_merge(self.runs, largest, WORK)? {
                    true => Phase::Sorting(sorter),
                    false => Phase::Preparing(sorter),
                }
            }
            Phase::Sorting(mut sorter) => match sorter.sort(WORK) {
                true => {
                    let mut sorted = Box::new(sorter.finish()?);
                    self.usage.peak = sorted.peak_segments;
                    let pieces = std::mem::take(&mut sorted.runs).into_iter().map(Run::whole);
                    let reserved = std::mem::take(&mut sorted.reserved);
                    let merger = Box::new(Merger::new(pieces, true, reserved));
                    Phase::Merging(sorted, merger)
                }
                false => Phase::Sorting(sorter),
            },
            done => done,
        };
        Ok(matches!(self.phase, Phase::Merging(..) | Phase::Over))
    }

    fn fill(&mut self, buffer: &mut RowBuffer) -> Result<()> {
        buffer.filled = 0;
        let Phase::Merging(sorted, merger) = &mut self.phase else {
            return Ok(());
        };
        let mut step = Step::More;
        while buffer.filled == 0 && step == Step::More {
            step = merger.step(&sorted.form, &sorted.budget, &mut sorted.handle, buffer)?;
            self.usage.peak = self.usage.peak.max(sorted.budget.held());
        }
        if step == Step::Done {
            self.usage.spilled = sorted.handle.stats();
            self.phase = Phase::Over;
        }
        Ok(())
    }

    fn yield_memory(&mut self) -> Result<()> {
        if let Phase::Filling(sorter) = &mut self.phase {
            let wanted = sorter.budget().revocation_wanted();
            if wanted > 0 {
                let held = sorter.budget().held();
                sorter.spill_to(held.saturating_sub(wanted))?;
                sorter
                    .budget()
                    .set_revocable(sorter.revocable(), sorter.budget().segment_size());
            }
        }
        Ok(())
    }

    fn usage(&self) -> Usage {
        let (held, peak, spilled) = match &self.phase {
            Phase::Filling(sorter) | Phase::Preparing(sorter) | Phase::Sorting(sorter) => (
                sorter.budget().held(),
                sorter.peak_segments(),
                sorter.spill_stats(),
            ),
            Phase::Merging(sorted, _) => {
                let held = sorted.budget.held();
                (held, held, sorted.handle.stats())
            }
            Phase::Over => (0, 0, self.usage.spilled),
        };
        Usage {
            held,
            peak: peak.max(self.usage.peak),
            spilled,
        }
    }
}

/// A sort of rows of `R` by fields; of rows that come in that order, nothing but a place where they wait.
pub(crate) fn local_sort<R: Record, F: SortFields<R>>(
    fields: F,
    budget: Budget,
    handle: SpillHandle,
    is_in_order: bool,
) -> Box<dyn LocalSort> {
    fn of<I: Items + 'static>(
        items: I,
        budget: Budget,
        handle: SpillHandle,
        is_in_order: bool,
    ) -> Box<dyn LocalSort> {
        let sorter = Sorter::new(items, budget, handle);
        let sorter = match is_in_order {
            true => sorter.of_sorted(),
            false => sorter,
        };
        Box::new(Sort {
            phase: Phase::Filling(Box::new(sorter)),
            runs: 0,
            usage: Usage::default(),
        })
    }
    let size = budget.segment_size();
    let Some(columns) = fields.key_columns() else {
        let items = Located::new(FieldOrder::<R, F>::new(fields), size);
        return of(items, budget, handle, is_in_order);
    };
    let narrow = NarrowRow::of(R::STRIDE, &columns);
    let order = ColumnOrder::new(R::STRIDE, columns);
    match narrow {
        None => of(Located::new(order, size), budget, handle, is_in_order),
        Some(NarrowRow::Number(form)) => of(Narrow::new(order, form), budget, handle, is_in_order),
        Some(NarrowRow::Pair(form)) => of(Narrow::new(order, form), budget, handle, is_in_order),
    }
}
