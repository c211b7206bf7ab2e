//! Sinks: where records go.
//!
//! # Interface
//! A [`Sink`] opens a [`SinkWriter`] for each subtask. [`Blackhole`], [`ForEach`], [`Collect`] and [`Print`] need no files;
//! [`FileSink`] writes text and CSV, [`BinarySink`] plain records, `ParquetSink` Parquet (with the feature of that name).

mod basic;
mod operator;
mod file_writers;
mod file_output;
mod file;
mod csv;
mod direct_file;
mod single_file;
mod target;
mod binary;
#[cfg(feature = "parquet")]
mod parquet;

pub use basic::{Blackhole, Collect, CollectWriter, Collected, ForEach, HashSink, Print, SinkHash};
pub use binary::{BinarySink, BinarySinkWriter};
pub use csv::CsvRows;
pub use file::{FileFormat, FileSink, FileSinkWriter, TextLines, TextWith};
pub use operator::SinkOperator;
#[cfg(feature = "parquet")]
pub use parquet::{ParquetCodec, ParquetSink, ParquetSinkWriter};

use crate::batch::Batch;
use crate::operator::FirstRanks;
use crate::record::Record;
use crate::source::Subtask;
use forebay_memory::{Plan, Result};

/// Takes the records of a stream.
pub trait Sink: Send + 'static {
    /// The type of the records.
    type In: Record;
    /// Takes the records of one subtask.
    type Writer: SinkWriter<In = Self::In>;

    /// Called once, when the sink becomes part of a job, with the plan that it will run under.
    fn prepare(&mut self, plan: &Plan) {
        let _ = plan;
    }

    /// Called once, after [`Sink::prepare`], where the sink is given what a sort sends, with nothing in between: subtask by subtask
    /// the records are in order, and `ranks` says at which each begins. It is known when the first record comes.
    fn take_ranks(&mut self, ranks: &FirstRanks) {
        let _ = ranks;
    }

    /// Whether it writes those records at the places that ranks say: it needs as many subtasks as the sort then, and a job where it has
    /// others is refused when it is planned.
    fn needs_ranks(&self) -> bool {
        false
    }

    /// Whether its writers block, on a device or a service: they then run on helper threads.
    fn is_blocking(&self) -> bool {
        false
    }

    /// Opens the writer of a subtask.
    ///
    /// # Errors
    /// Where it cannot be opened.
    fn writer(&self, subtask: Subtask) -> Result<Self::Writer>;
}

/// Takes the records of one subtask of a sink.
pub trait SinkWriter: Send {
    /// The type of the records.
    type In: Record;

    /// Whether the writer has a [`SinkWriter::write_batch`] of its own, which is then called instead of
    /// [`SinkWriter::write`]. Its failures are known to the batch, not to the record.
    const TAKES_BATCHES: bool = false;

    /// Takes a record.
    ///
    /// # Errors
    /// Where it cannot be written; the job fails.
    fn write(&mut self, row: <Self::In as Record>::View<'_>) -> Result<()>;

    /// Takes a batch of records where [`SinkWriter::TAKES_BATCHES`].
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        for row in batch.rows::<Self::In>() {
            self.write(row)?;
        }
        Ok(())
    }

    /// Called when no more input is at hand.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called once after the last record of a job that did not fail.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn finish(&mut self) -> Result<()> {
        self.flush()
    }
}
