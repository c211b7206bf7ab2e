//! The source task: takes splits, polls their readers, and puts what they emit into batches.

use super::{Source, SourceReader};
use crate::batch::{Batch, BatchWriter, Batches};
use crate::clock::Instant;
use crate::operator::Downstream;
use crate::record::{PlainRecord, Record};
use crate::task::{SourceDriver, SourceStatus};
use crossbeam_queue::SegQueue;
use forebay_memory::{Error, Result};
use std::sync::Arc;

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

impl<R: PlainRecord> SourceOutput<'_, '_, R> {
    /// Emits up to `most` records that `fill` writes in place: it is given rows whose content is unspecified, and
    /// answers how many of them, from the first, it has filled. The fastest way to emit. The output is full after it.
    pub fn fill(&mut self, most: usize, fill: impl FnOnce(&mut [R]) -> usize) {
        let (full, bytes) = self.writer.room(most);
        let rows = R::rows_mut(bytes);
        let filled = fill(rows);
        assert!(
            filled <= rows.len(),
            "fill() answered {filled} for {} rows",
            rows.len()
        );
        self.writer.advance(filled);
        self.emitted += filled as u64;
        self.is_full = true;
        if let Some(full) = full {
            self.send(full);
        }
    }
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
