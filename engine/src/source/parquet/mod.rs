//! Parquet files as a source: only the columns of the record are read, only row groups and pages in which there may be what is
//! wanted, and, where few rows are, the columns of a predicate before the others.
//!
//! # Interface
//! [`parquet`] with a record type and patterns of files; [`ParquetSource::only`] with a [`Predicate`]; [`ParquetCounts`] say what
//! was read.

mod predicate;
mod file;
mod pruning;
mod page_index;
mod rows_size;
mod split;
mod row_batches;
mod sieve;
mod parquet_reader;
mod parquet_source;

pub use file::ParquetCounts;
pub use parquet_reader::ParquetReader;
pub use parquet_source::{ParquetSource, parquet};
pub use predicate::Predicate;
pub use split::ParquetSplit;
