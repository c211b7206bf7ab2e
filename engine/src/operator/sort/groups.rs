//! Groups of rows, streamed from a sort: a function sees the rows of one key after the other and never has them all in memory.
//!
//! # Algorithm
//! Each subtask sorts the rows of its keys, and merges its runs when the input has ended. The function is called at the first row of
//! each key and pulls rows as it wants them; what it leaves is skipped.
//!
//! # Memory
//! As the sorter's; besides a buffer of [`BUFFER`] bytes, or one row, on the heap, and what the function emits in one call.

use crate::batch::{Batch, BatchWriter, Batches};
use crate::metrics::OperatorMetrics;
use crate::operator::{Collector, Downstream, Finish, Operator};
use crate::record::{KeyFields, Record};
use forebay_memory::sort::{Items, Merger, RowOutput, Run, Sorted, Sorter, Step};
use forebay_memory::{Budget, Error, Result, SpillHandle, SpillStats};
use std::marker::PhantomData;
use zerocopy::IntoBytes;

/// Bytes of rows that are taken from the merge at once.
const BUFFER: usize = 8 << 10;

/// Rows between two looks at whoever waits.
const ROWS_A_STEP: u64 = 16 << 10;

/// The rows of a group, in order. It is an iterator, but that each row is there only until the next is asked for.
pub struct Group<'g, R: Record> {
    rows: &'g mut dyn SortedRows,
    /// Whether the current row was handed out, and whether it was the last.
    has_begun: bool,
    has_ended: bool,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Group<'_, R> {
    /// The next row, or nothing after the last.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's items may not borrow from it"
    )]
    #[inline]
    pub fn next(&mut self) -> Option<R::View<'_>> {
        if self.has_begun {
            self.has_ended = self.has_ended || !self.rows.advance();
        }
        self.has_begun = true;
        if self.has_ended {
            return None;
        }
        Some(R::read_row(self.rows.row()))
    }

    /// Calls `each` with every row that is left.
    #[inline]
    pub fn for_each(&mut self, mut each: impl for<'a> FnMut(R::View<'a>)) {
        while let Some(row) = self.next() {
            each(row);
        }
    }

    /// How many rows are left; they are gone then.
    pub fn count(&mut self) -> u64 {
        let mut count = 0;
        while self.next().is_some() {
            count += 1;
        }
        count
    }
}

/// The rows of the group at hand, one at a time.
trait SortedRows {
    /// The current row.
    fn row(&self) -> &[u8];

    /// Moves on to the next row; false where the group has no more.
    fn advance(&mut self) -> bool;
}

/// Sorted rows on their way from the merge.
struct Reader<R, K, I: Items> {
    keys: K,
    sorted: Box<Sorted<I>>,
    merger: Box<Merger<I>>,
    /// Rows, and where the current one is.
    buffer: Vec<u64>,
    filled: usize,
    at: usize,
    is_done: bool,
    error: Option<Error>,
    /// The canonical bytes of the group's key, and of the current row's.
    key: Vec<u8>,
    scratch: Vec<u8>,
    rows: u64,
    record: PhantomData<fn(R)>,
}

/// The buffer, being filled.
struct Rows<'b> {
    words: &'b mut Vec<u64>,
    filled: usize,
    stride: usize,
}

impl Rows<'_> {
    /// Room for so many bytes more.
    fn room(&mut self, size: usize) -> &mut [u8] {
        let end = self.filled + size;
        if self.words.len() < end.div_ceil(8) {
            self.words.resize(end.div_ceil(8), 0);
        }
        &mut self.words.as_mut_bytes()[self.filled..end]
    }
}

impl RowOutput for Rows<'_> {
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

impl<R: Record, K: KeyFields<R>, I: Items> Reader<R, K, I>
where
    I::Order: Clone,
{
    /// Makes sure that there is a current row, where there is one at all.
    fn fill(&mut self) -> Result<()> {
        while self.at == self.filled && !self.is_done {
            let sorted = &mut *self.sorted;
            let mut output = Rows {
                words: &mut self.buffer,
                filled: 0,
                stride: R::STRIDE,
            };
            let step = self
                .merger
                .step(&sorted.order, &sorted.budget, &mut sorted.handle, &mut output)?;
            (self.at, self.filled) = (0, output.filled);
            self.is_done = step == Step::Done;
        }
        Ok(())
    }

    /// The current row, of whatever group.
    fn current(&self) -> Option<&[u8]> {
        if self.at == self.filled {
            return None;
        }
        let rest = &self.buffer.as_bytes()[self.at..self.filled];
        Some(&rest[..R::row_size_at(rest)])
    }

    /// Writes the canonical bytes of the current row's key to `key`; false where there is no row.
    fn key_of_row(&mut self, key: &mut Vec<u8>) -> Result<bool> {
        self.fill()?;
        Ok(self.current().is_some_and(|row| {
            key.clear();
            self.keys.encode_key(R::read_row(row), key);
            true
        }))
    }
}

impl<R: Record, K: KeyFields<R>, I: Items> SortedRows for Reader<R, K, I>
where
    I::Order: Clone,
{
    fn row(&self) -> &[u8] {
        self.current().expect("a group has a row where one is asked for")
    }

    fn advance(&mut self) -> bool {
        self.at += self.row().len();
        self.rows += 1;
        let mut key = std::mem::take(&mut self.scratch);
        let is_own = match self.key_of_row(&mut key) {
            Ok(found) => found && key == self.key,
            Err(error) => {
                // Nothing more comes; the operator fails with it when the function has come back.
                self.error = Some(error);
                false
            }
        };
        self.scratch = key;
        is_own
    }
}

enum Phase<R, K, I: Items> {
    Filling(Box<Sorter<I>>),
    Grouping(Box<Reader<R, K, I>>),
    Done,
}

/// Calls `F` for the rows of each key of `R`.
pub(crate) struct SortedGroups<R: Record, K: KeyFields<R>, P: Record, I: Items, F> {
    keys: K,
    phase: Phase<R, K, I>,
    function: F,
    /// The canonical bytes of the key of the group at hand.
    key: Vec<u8>,
    writer: BatchWriter<P>,
    position: u64,
    peak_segments: usize,
    spilled: SpillStats,
}

impl<R, K, P, I, F> SortedGroups<R, K, P, I, F>
where
    R: Record,
    K: KeyFields<R>,
    P: Record,
    I: Items<Order: Clone>,
    F: for<'a, 'b, 'g, 'c, 'd> FnMut(
        <K::Key as Record>::View<'a>,
        &'b mut Group<'g, R>,
        &'c mut Collector<'d, P>,
    ),
{
    /// An operator that has no rows.
    pub(crate) fn new(
        keys: K,
        function: F,
        items: I,
        budget: Budget,
        handle: SpillHandle,
        batches: Batches,
    ) -> Self {
        SortedGroups {
            keys,
            phase: Phase::Filling(Box::new(Sorter::new(items, budget, handle))),
            function,
            key: Vec::new(),
            writer: BatchWriter::new(batches),
            position: 0,
            peak_segments: 0,
            spilled: SpillStats::default(),
        }
    }

    /// Calls the function for a few groups.
    fn step(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        let Phase::Grouping(reader) = &mut self.phase else {
            unreachable!("groups are made in the phase of grouping");
        };
        let end = reader.rows + ROWS_A_STEP;
        let mut full = Vec::new();
        while reader.rows < end && down.has_room() {
            if !reader.key_of_row(&mut self.key)? {
                self.spilled = reader.sorted.handle.stats();
                self.phase = Phase::Done;
                let rest = self.writer.take();
                return rest
                    .map_or(Ok(()), |batch| down.send(batch))
                    .map(|()| Finish::Done);
            }
            reader.key.clone_from(&self.key);
            self.position = reader.rows + 1;
            let mut group = Group {
                rows: &mut **reader,
                has_begun: false,
                has_ended: false,
                record: PhantomData,
            };
            let mut put = |batch| full.push(batch);
            let mut out = Collector::new(&mut self.writer, &mut put);
            let function = &mut self.function;
            self.keys
                .with_key(&self.key, |key| function(key, &mut group, &mut out))
                .expect("the key's bytes are canonical");
            while group.next().is_some() {}
            if let Some(error) = reader.error.take() {
                return Err(error);
            }
            full.drain(..).try_for_each(|batch| down.send(batch))?;
        }
        self.peak_segments = self.peak_segments.max(reader.sorted.budget.held());
        Ok(Finish::More)
    }
}

impl<R, K, P, I, F> Operator for SortedGroups<R, K, P, I, F>
where
    R: Record,
    K: KeyFields<R>,
    P: Record,
    I: Items<Order: Clone>,
    F: for<'a, 'b, 'g, 'c, 'd> FnMut(
            <K::Key as Record>::View<'a>,
            &'b mut Group<'g, R>,
            &'c mut Collector<'d, P>,
        ) + Send,
{
    fn process(&mut self, batch: Batch, _: &mut Downstream<'_>) -> Result<()> {
        let Phase::Filling(sorter) = &mut self.phase else {
            unreachable!("no rows come after the last");
        };
        sorter.push(batch.bytes())?;
        sorter.budget().set_revocable(sorter.revocable(), 1);
        Ok(())
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Filling(mut sorter) => {
                sorter.budget().set_revocable(0, 1);
                let (runs, largest) = (sorter.spilled_runs(), sorter.largest());
                sorter.prepare_merge(runs, largest)?;
                let mut sorted = Box::new(sorter.finish()?);
                self.peak_segments = sorted.peak_segments;
                let pieces = std::mem::take(&mut sorted.runs).into_iter().map(Run::whole);
                let reserved = std::mem::take(&mut sorted.reserved);
                self.phase = Phase::Grouping(Box::new(Reader {
                    keys: self.keys,
                    merger: Box::new(Merger::new(pieces, true, reserved)),
                    sorted,
                    buffer: Vec::new(),
                    filled: 0,
                    at: 0,
                    is_done: false,
                    error: None,
                    key: Vec::new(),
                    scratch: Vec::new(),
                    rows: 0,
                    record: PhantomData,
                }));
                Ok(Finish::More)
            }
            Phase::Grouping(reader) => {
                self.phase = Phase::Grouping(reader);
                self.step(down)
            }
            Phase::Done => Ok(Finish::Done),
        }
    }

    fn yield_memory(&mut self) -> Result<()> {
        if let Phase::Filling(sorter) = &mut self.phase {
            let wanted = sorter.budget().revocation_wanted();
            if wanted > 0 {
                let held = sorter.budget().held();
                sorter.spill_to(held.saturating_sub(wanted))?;
                sorter.budget().set_revocable(sorter.revocable(), 1);
            }
        }
        Ok(())
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        let (held, peak, spilled) = match &self.phase {
            Phase::Filling(sorter) => (
                sorter.budget().held(),
                sorter.peak_segments(),
                sorter.spill_stats(),
            ),
            Phase::Grouping(reader) => {
                let sorted = &reader.sorted;
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
