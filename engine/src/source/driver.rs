//! The source task: takes splits, polls their readers, and puts what they emit into batches.

use super::{Source, SourceReader};
use crate::batch::{Batch, BatchWriter, Batches};
use crate::clock::Instant;
use crate::operator::Downstream;
use crate::record::{Field, IntegerColumn, PlainRecord, Record};
use crate::task::{SourceDriver, SourceStatus};
use crossbeam_queue::SegQueue;
use forebay_memory::{Error, Result};
use std::sync::Arc;

/// Rows of so many bytes are worth placing one by one. A copy of 100 bytes costs more than is saved by hashing keys and
/// choosing channels for a whole batch: 152 against 124 M records/s on two cores. A copy of 16 bytes does not: 130
/// against 149.
const LEAST_PLACED: usize = 64;

/// Where a reader puts its records.
pub struct SourceOutput<'a, 'd, R: Record> {
    writer: &'a mut BatchWriter<R>,
    down: &'a mut Downstream<'d>,
    failure: Option<Error>,
    emitted: u64,
    /// Where `emitted` is added in the end, also when the reader panics.
    total: &'a mut u64,
    is_full: bool,
    now: Instant,
}

impl<R: Record> Drop for SourceOutput<'_, '_, R> {
    fn drop(&mut self) {
        *self.total += self.emitted;
    }
}

impl<R: Record> SourceOutput<'_, '_, R> {
    /// Emits a record.
    #[inline(always)]
    pub fn push(&mut self, row: R::View<'_>) {
        self.emitted += 1;
        if let Some(full) = self.writer.push(row) {
            self.send(full);
        }
    }

    /// Whether a batch is full, so that the reader should return.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// The job's clock.
    pub fn now(&self) -> Instant {
        self.now
    }

    #[cold]
    #[inline(never)]
    fn send(&mut self, full: Batch) {
        self.is_full = true;
        if self.failure.is_none() {
            self.failure = self.down.send(full).err();
        }
    }
}

impl<R: Record> SourceOutput<'_, '_, R> {
    /// [`SourceOutput::fill`] for all records whose rows are of fixed size: it is given their bytes.
    pub(crate) fn fill_bytes(&mut self, most: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let (full, bytes) = self.writer.room(most);
        let rows = bytes.len() / R::STRIDE;
        let filled = fill(bytes);
        assert!(filled <= rows, "fill() answered {filled} for {rows} rows");
        self.writer.advance(filled);
        self.emitted += filled as u64;
        self.is_full = true;
        let full = match self.writer.is_single() {
            true => self.writer.take(),
            false => full,
        };
        if let Some(full) = full {
            self.send(full);
        }
    }
}

impl<R: PlainRecord> SourceOutput<'_, '_, R> {
    /// Emits up to `most` records that `fill` writes in place: it is given rows whose content is unspecified, and
    /// answers how many of them, from the first, it has filled. The fastest way to emit. The output is full after it.
    #[inline]
    pub fn fill(&mut self, most: usize, fill: impl FnOnce(&mut [R]) -> usize) {
        self.fill_bytes(most, |bytes| fill(R::rows_mut(bytes)));
    }
}

impl<R: PlainRecord> SourceOutput<'_, '_, R> {
    /// Emits about a batch of records, up to `most`, and answers how many. Record `n` of them has the key that
    /// `key_of(n)` says, which the engine writes into its field `key`; `fill(rest, row)` writes everything else of it in
    /// place, from what `key_of` has found besides; what the row holds before that is unspecified. The output is full
    /// after it.
    ///
    /// Where records go to the tasks that own their keys, this is the fastest way to emit: the row is made in the network
    /// buffer of its receiver, and never copied before it is read there. That holds for rows of at least 64 bytes that fit
    /// into a segment, where the source has one consumer, with no operator in between, and `network.buffer_timeout` is
    /// not 0; elsewhere rows are made in a batch first.
    ///
    /// # Panics
    /// Where the field is not an integer (or `bool`, timestamp, date) of up to 64 bits.
    pub fn fill_keyed<T: Record, S>(
        &mut self,
        key: Field<R, T>,
        most: usize,
        key_of: impl Fn(usize) -> (T, S),
        fill: impl Fn(S, &mut R),
    ) -> usize {
        let column = key
            .integer_layout()
            .expect("the key of records that are placed by it is an integer of up to 64 bits");
        self.is_full = true;
        if R::STRIDE >= LEAST_PLACED
            && self.writer.is_empty()
            && let Some(mut direct) = self.down.direct(column)
        {
            let most = most.min(self.writer.rows_a_batch());
            let mut number = 0;
            while number < most {
                let (key, rest) = key_of(number);
                let bits = T::to_u64(key.view());
                let Some(row) = direct.place(bits, R::STRIDE) else {
                    break;
                };
                write_keyed::<R, T, S>(row, column, bits, rest, &fill);
                number += 1;
            }
            self.emitted += number as u64;
            return number;
        }
        let (full, bytes) = self.writer.room(most);
        let filled = bytes.len() / R::STRIDE;
        for (number, row) in bytes.chunks_exact_mut(R::STRIDE).enumerate() {
            let (key, rest) = key_of(number);
            write_keyed::<R, T, S>(row, column, T::to_u64(key.view()), rest, &fill);
        }
        self.writer.advance(filled);
        self.emitted += filled as u64;
        let full = match self.writer.is_single() {
            true => self.writer.take(),
            false => full,
        };
        if let Some(full) = full {
            self.send(full);
        }
        filled
    }
}

/// Writes a row in place, its key last: whatever `fill` has put there.
#[inline(always)]
fn write_keyed<R: PlainRecord, T: Record, S>(
    row: &mut [u8],
    column: IntegerColumn,
    bits: u64,
    rest: S,
    fill: &impl Fn(S, &mut R),
) {
    fill(rest, R::row_mut(row));
    // The width is the type's, so that the compiler knows it.
    let width = T::INTEGER.map_or(column.width, |integer| integer.width);
    IntegerColumn { width, ..column }.write(row, bits);
}

/// One subtask of a source.
pub struct SourceTask<S: Source> {
    source: Arc<S>,
    splits: Arc<SegQueue<S::Split>>,
    reader: Option<S::Reader>,
    writer: BatchWriter<S::Out>,
    emitted: u64,
}

impl<S: Source> SourceTask<S> {
    /// A subtask that reads splits of the shared queue.
    pub fn new(source: Arc<S>, splits: Arc<SegQueue<S::Split>>, batches: Batches) -> Self {
        SourceTask {
            source,
            splits,
            reader: None,
            writer: BatchWriter::new(batches),
            emitted: 0,
        }
    }
}

impl<S: Source> SourceDriver for SourceTask<S> {
    fn poll(&mut self, down: &mut Downstream<'_>, now: Instant) -> Result<SourceStatus> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => match self.splits.pop() {
                Some(split) => self.reader.insert(self.source.reader(split)?),
                None => return Ok(SourceStatus::Done),
            },
        };
        let mut out = SourceOutput {
            writer: &mut self.writer,
            down,
            failure: None,
            emitted: 0,
            total: &mut self.emitted,
            is_full: false,
            now,
        };
        let status = reader.poll(&mut out);
        if let Some(error) = out.failure.take() {
            return Err(error);
        }
        drop(out);
        match status? {
            SourceStatus::Done => {
                self.reader = None;
                Ok(SourceStatus::More)
            }
            other => Ok(other),
        }
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn position(&self) -> u64 {
        self.emitted
    }
}
