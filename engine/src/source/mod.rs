//! Sources: where records come from.
//!
//! # Interface
//! A [`Source`] divides its data into splits and opens a [`SourceReader`] for each; a reader emits records into a
//! [`SourceOutput`] when it is polled. [`generate`] and [`from_items`] make sources of functions and collections,
//! [`text`], [`text_blocks`], [`csv`](csv()) and [`binary`](binary()) of files, and `parquet` with the feature of that name.
//!
//! # Algorithm
//! The subtasks of a source take splits from one queue, so a slow subtask takes fewer.

mod rows_bytes;
mod driver;
mod generators;
mod glob;
mod compression;
mod ahead_file;
mod files;
mod read_buffer;
mod part_reader;
mod text_reader;
mod text;
mod binary;
mod csv_fields;
mod csv_reader;
mod csv;
#[cfg(feature = "parquet")]
mod parquet;

pub use binary::{BinaryReader, BinarySource, binary};
pub use compression::Compression;
pub(crate) use csv::checked_dialect;
pub use csv::{CsvSource, CsvSplit, csv};
pub(crate) use csv_fields::Dialect;
pub use csv_reader::CsvReader;
pub use driver::{SourceOutput, SourceTask};
pub use files::{FileSplit, NotUtf8, Patterns};
pub use generators::{
    FromItems, Generate, GenerateKeyed, GenerateRows, from_items, generate, generate_keyed, generate_rows,
};
#[cfg(feature = "parquet")]
pub use parquet::{ParquetCounts, ParquetReader, ParquetSource, ParquetSplit, Predicate, parquet};
pub use rows_bytes::RowsBytes;
pub use text::{TextSource, text, text_blocks};
pub use text_reader::TextReader;

use crate::record::Record;
pub use crate::task::SourceStatus;
use forebay_memory::{Plan, Result};

/// A subtask's place among its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtask {
    /// In `[0, parallelism)`.
    pub index: usize,
    /// The number of subtasks.
    pub parallelism: usize,
}

/// Data to read, in splits.
pub trait Source: Send + Sync + 'static {
    /// The type of its records.
    type Out: Record;
    /// A part of the data that one reader reads.
    type Split: Send + 'static;
    /// Reads a split.
    type Reader: SourceReader<Out = Self::Out>;

    /// Called once, when the source becomes part of a job, with the plan that it will run under: for limits such as
    /// `record.max_size`.
    fn prepare(&mut self, plan: &Plan) {
        let _ = plan;
    }

    /// The parts of the data; about `parallelism` of them or more. Called once a job.
    ///
    /// # Errors
    /// Where the data cannot be listed.
    fn splits(&self, parallelism: usize) -> Result<Vec<Self::Split>>;

    /// Opens a part.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn reader(&self, split: Self::Split) -> Result<Self::Reader>;

    /// Whether the data ends. A job whose sources all do runs in batch mode by default.
    fn is_bounded(&self) -> bool {
        true
    }

    /// What is known of the bytes of all its rows before they are read. A join that was not told how to join, or which side to keep in
    /// memory, asks for it when it becomes part of the job: once a job, and a source whose data is not there or is damaged knows nothing
    /// (the job fails where it reads).
    fn rows_bytes(&self) -> RowsBytes {
        RowsBytes::UNKNOWN
    }

    /// Whether so many subtasks have about as much of it to read: its splits are as many at least, and none is much more than its share.
    /// What follows where the records are read is then shared out with the reading. A join whose other side goes everywhere asks for it when
    /// the job is planned; where nobody knows, as is said here, the records are dealt out to its subtasks, a batch to each in turn.
    fn divides_among(&self, subtasks: usize) -> bool {
        let _ = subtasks;
        false
    }
}

/// Reads one split.
pub trait SourceReader: Send {
    /// The type of its records.
    type Out: Record;

    /// Emits records until [`SourceOutput::is_full`], or until there are none now. Must not block for long: the worker's
    /// other tasks wait meanwhile.
    ///
    /// # Errors
    /// Where the data cannot be read or is malformed.
    fn poll(&mut self, out: &mut SourceOutput<'_, '_, Self::Out>) -> Result<SourceStatus>;
}
