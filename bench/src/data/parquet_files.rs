//! Keyed records in Parquet files: columns `key` (u64) and `value` (i64). Without the feature `parquet`, what says how to have it.

use super::Keyed;
#[cfg(not(feature = "parquet"))]
use super::{TpchData, TpchTable};
use forebay::{Environment, Stream};
use forebay_memory::{Error, Result};
use std::path::Path;

/// Whether a path is that of a Parquet file.
pub fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "parquet")
}

/// Whether these patterns are of Parquet files.
///
/// # Errors
/// `Config` where only some are.
pub fn are_parquet(patterns: &[String]) -> Result<bool> {
    let count = patterns
        .iter()
        .filter(|pattern| is_parquet(Path::new(pattern)))
        .count();
    match count {
        0 => Ok(false),
        all if all == patterns.len() => Ok(true),
        _ => Err(Error::config(
            "--input: some names end in .parquet and some do not; give files of one kind",
        )),
    }
}

#[cfg(feature = "parquet")]
pub use super::tpch_parquet::write_table as write_tpch;
#[cfg(feature = "parquet")]
pub use with_parquet::{for_each_keyed, keyed_stream, write_keyed};

#[cfg(feature = "parquet")]
mod with_parquet {
    use super::*;
    use forebay::arrow::ArrowReader;
    use forebay::sink::{ParquetSink, Sink, SinkWriter};
    use forebay::source::{Patterns, Subtask, parquet};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::fs::File;

    /// A stream of the records in files, and how many there are.
    ///
    /// # Errors
    /// Where files cannot be read.
    pub fn keyed_stream(
        environment: &Environment,
        name: &str,
        input: &[String],
    ) -> Result<(Stream<Keyed>, u64)> {
        let source = parquet::<Keyed>(input);
        let records = source.records()?;
        Ok((environment.source(name, source), records))
    }

    /// Calls `each` with up to `most` of the records of files, those of `thread` of `threads`; without the engine's
    /// source. Answers how many they were.
    ///
    /// # Errors
    /// Where files cannot be read.
    pub fn for_each_keyed(
        input: &[String],
        thread: usize,
        threads: usize,
        most: u64,
        mut each: impl FnMut(Keyed),
    ) -> Result<u64> {
        let mut records = 0;
        for path in Patterns::from(input).files()? {
            let failed = |error: &dyn std::fmt::Display| {
                Error::corrupt(format!("cannot read {}: {error}", path.display()))
            };
            let file = File::open(&path).map_err(|error| failed(&error))?;
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| failed(&error))?;
            let count = (builder.metadata().file_metadata().num_rows().max(0) as u64).min(most);
            let bound = |thread: usize| count * thread as u64 / threads as u64;
            let (start, end) = (bound(thread), bound(thread + 1));
            let batches = builder
                .with_offset(start as usize)
                .with_limit((end - start) as usize)
                .build()
                .map_err(|error| failed(&error))?;
            for batch in batches {
                let batch = batch.map_err(|error| failed(&error))?;
                let mut reader = ArrowReader::<Keyed>::new(batch.schema_ref())?;
                reader.read(&batch)?;
                while let Some(record) = reader.next()? {
                    each(*record);
                    records += 1;
                }
            }
        }
        Ok(records)
    }

    /// Writes records to a file, which has its name when it is whole. What was there before is replaced.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_keyed(path: &Path, records: u64, record: impl Fn(u64) -> Keyed) -> Result<()> {
        let sink = ParquetSink::<Keyed>::file(path).overwrite();
        let mut writer = sink.writer(Subtask {
            index: 0,
            parallelism: 1,
        })?;
        (0..records).try_for_each(|index| writer.write(&record(index)))?;
        writer.finish()
    }
}

#[cfg(not(feature = "parquet"))]
pub use without_parquet::{for_each_keyed, keyed_stream, refused, write_keyed, write_tpch};

#[cfg(not(feature = "parquet"))]
mod without_parquet {
    use super::*;

    /// The error of everything that needs the feature.
    pub fn refused<T>() -> Result<T> {
        Err(Error::config(
            "this harness does not read or write Parquet; build it with it: cargo run --release --features parquet -- …",
        ))
    }

    /// An error that says how to have it.
    ///
    /// # Errors
    /// Always.
    pub fn keyed_stream(_: &Environment, _: &str, _: &[String]) -> Result<(Stream<Keyed>, u64)> {
        refused()
    }

    /// An error that says how to have it.
    ///
    /// # Errors
    /// Always.
    pub fn for_each_keyed(_: &[String], _: usize, _: usize, _: u64, _: impl FnMut(Keyed)) -> Result<u64> {
        refused()
    }

    /// An error that says how to have it.
    ///
    /// # Errors
    /// Always.
    pub fn write_tpch(_: TpchTable, _: &TpchData, _: &Path) -> Result<u64> {
        refused()
    }

    /// An error that says how to have it.
    ///
    /// # Errors
    /// Always.
    pub fn write_keyed(_: &Path, _: u64, _: impl Fn(u64) -> Keyed) -> Result<()> {
        refused()
    }
}
