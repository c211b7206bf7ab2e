//! [`ParquetSink`]: records as Parquet files, in a directory or in one file.
//!
//! # Interface
//! [`FileSink::parquet`] writes part files, [`ParquetSink::file`] one file; options are methods.
//!
//! # Algorithm
//! Rows become record batches of about [`BATCH`] bytes, which are encoded as they come. Encoded pages are kept until they are a row
//! group, because its columns lie one behind the other in the file.
//!
//! # Memory
//! A row group for each subtask, on the user's heap.
//!
//! # Not here
//! How columns are made of rows (`arrow`); how files get their names (`file_output`, `single_file`).

use super::file::{FileSink, TextLines};
use super::file_output::{PartFile, output_option_methods};
use super::target::{Place, Target};
use super::{Sink, SinkWriter};
use crate::arrow::{ArrowOptions, ArrowWriter};
use crate::batch::Batch;
use crate::record::Record;
use crate::source::Subtask;
use forebay_memory::{Error, Plan, Result};
use parquet::arrow::ArrowWriter as FileWriter;
use parquet::basic::{Compression, GzipLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of rows that become a record batch.
const BATCH: usize = 256 << 10;

/// What a subtask's row group takes at least, and, by default, at most.
const LEAST_GROUP: u64 = 256 << 10;
const MOST_GROUP: u64 = 64 << 20;

/// The part of the user's heap that row groups take by default.
const HEAP_SHARE: u64 = 4;

/// How a [`ParquetSink`] compresses pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ParquetCodec {
    /// Not at all.
    None,
    /// Snappy: fast, and read by everybody.
    #[default]
    Snappy,
    /// LZ4, as `LZ4_RAW`.
    Lz4,
    /// Gzip.
    Gzip,
    /// Zstd; it needs the feature `parquet-zstd`.
    #[cfg(feature = "parquet-zstd")]
    Zstd,
}

impl ParquetCodec {
    fn compression(self) -> Compression {
        match self {
            ParquetCodec::None => Compression::UNCOMPRESSED,
            ParquetCodec::Snappy => Compression::SNAPPY,
            ParquetCodec::Lz4 => Compression::LZ4_RAW,
            ParquetCodec::Gzip => Compression::GZIP(GzipLevel::default()),
            #[cfg(feature = "parquet-zstd")]
            ParquetCodec::Zstd => Compression::ZSTD(Default::default()),
        }
    }
}

/// A sink that writes Parquet files, a column for each field of the record; which types columns have is told in
/// [`arrow`](crate::arrow). [`source::parquet`](crate::source::parquet()) reads the records back. Its writers run on helper threads
/// (`exec.helper_threads`).
///
/// A row group is in memory until it is written, on the user's heap: by default a quarter of it (`memory.user_size`) for all subtasks
/// together, and 64 MiB at most for each.
pub struct ParquetSink<R> {
    place: Place,
    codec: ParquetCodec,
    columns: ArrowOptions,
    group_bytes: Option<u64>,
    group_rows: usize,
    heap: u64,
    record: PhantomData<fn() -> R>,
}

impl FileSink<TextLines> {
    /// A sink that writes records as Parquet, a file for each subtask that has some, into a directory; about the directory and its
    /// files see [`FileSink`].
    ///
    /// ```
    /// use forebay::record::{Decimal, Record};
    /// use forebay::sink::{FileSink, ParquetCodec};
    ///
    /// #[derive(Record)]
    /// struct Sale {
    ///     shop: u64,
    ///     amount: Decimal,
    /// }
    ///
    /// let sink = FileSink::parquet::<Sale>("sales").decimal_scale(2).codec(ParquetCodec::Lz4);
    /// # let _ = sink;
    /// ```
    pub fn parquet<R: Record>(directory: impl Into<PathBuf>) -> ParquetSink<R> {
        ParquetSink::at(Place::directory(directory.into(), ".parquet"))
    }
}

impl<R: Record> ParquetSink<R> {
    fn at(place: Place) -> Self {
        ParquetSink {
            place,
            codec: ParquetCodec::default(),
            columns: ArrowOptions::new(),
            group_bytes: None,
            group_rows: 1 << 20,
            heap: MOST_GROUP * HEAP_SHARE,
            record: PhantomData,
        }
    }

    /// A sink that writes one file, of a stream for which the sink has one subtask
    /// ([`parallelism(1)`](crate::StreamEnd::parallelism)). The file has its name when everything is written; one that is there
    /// already is refused before anything runs, unless [`overwrite`](ParquetSink::overwrite) says otherwise.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        ParquetSink::at(Place::file(path.into()))
    }

    /// How pages are compressed; with snappy by default.
    pub fn codec(mut self, codec: ParquetCodec) -> Self {
        self.codec = codec;
        self
    }

    /// Bytes that a row group may take in memory before it is written, at least 256 KiB. Readers divide files by row groups, and
    /// pass over those that they do not want.
    pub fn row_group_size(mut self, bytes: u64) -> Self {
        self.group_bytes = Some(bytes.max(LEAST_GROUP));
        self
    }

    /// Records of a row group at most, at least 1; 1,048,576 by default.
    pub fn row_group_rows(mut self, rows: usize) -> Self {
        self.group_rows = rows.max(1);
        self
    }

    /// Digits after the point in columns of decimals: a column has one scale, where each
    /// [`Decimal`](crate::record::Decimal) has its own. A value that has more digits fails the job.
    pub fn decimal_scale(mut self, scale: u8) -> Self {
        self.columns = self.columns.decimal_scale(scale);
        self
    }

    /// Digits after the point in the column of one field; of a record in a record, `outer.inner`.
    pub fn decimal_scale_of(mut self, field: impl Into<String>, scale: u8) -> Self {
        self.columns = self.columns.decimal_scale_of(field, scale);
        self
    }

    output_option_methods!(place.options);
}

impl<R: Record> Sink for ParquetSink<R> {
    type In = R;
    type Writer = ParquetSinkWriter<R>;

    fn prepare(&mut self, plan: &Plan) {
        self.heap = plan.user_bytes();
    }

    fn is_blocking(&self) -> bool {
        true
    }

    fn writer(&self, subtask: Subtask) -> Result<ParquetSinkWriter<R>> {
        let rows = ArrowWriter::new(&self.columns)?;
        if rows.schema().fields().is_empty() {
            return Err(Error::config(format!(
                "file sink: {} has no fields, and a Parquet file at least one column; add a field",
                R::schema().name
            )));
        }
        let target = self.place.open(
            subtask,
            false,
            "the row groups of several would come in any order; give the sink parallelism(1), or write part files into a directory",
        )?;
        let share = self.heap / HEAP_SHARE / subtask.parallelism as u64;
        let properties = WriterProperties::builder()
            .set_compression(self.codec.compression())
            .set_max_row_group_row_count(Some(self.group_rows))
            .build();
        Ok(ParquetSinkWriter {
            rows,
            bytes: 0,
            group_bytes: self.group_bytes.unwrap_or(share.clamp(LEAST_GROUP, MOST_GROUP)),
            properties,
            file: None,
            part: None,
            subtask,
            target,
        })
    }
}

/// Writes what one subtask of a [`ParquetSink`] is given.
pub struct ParquetSinkWriter<R> {
    rows: ArrowWriter<R>,
    /// Bytes of the rows that are in no record batch yet.
    bytes: usize,
    group_bytes: u64,
    properties: WriterProperties,
    /// Open when the first record has come.
    file: Option<FileWriter<File>>,
    part: Option<PartFile>,
    subtask: Subtask,
    /// Dropped after the file is.
    target: Target,
}

impl<R: Record> ParquetSinkWriter<R> {
    fn begin(&mut self) -> Result<()> {
        let (hidden, part) = self.target.begin(self.subtask)?;
        self.part = part;
        let file = File::options()
            .write(true)
            .open(hidden)
            .map_err(|error| self.target.fault("create", self.part.as_ref(), error))?;
        let schema = Arc::clone(self.rows.schema());
        let writer = FileWriter::try_new(file, schema, Some(self.properties.clone()));
        self.file = Some(writer.map_err(|error| self.fault(error))?);
        Ok(())
    }

    /// Encodes the rows so far, and writes a row group where one is large enough.
    fn encode(&mut self) -> Result<()> {
        if self.file.is_none() {
            self.begin()?;
        }
        let file = self.file.as_mut().expect("it was begun");
        let batch = self.rows.take()?;
        self.bytes = 0;
        let written = file
            .write(&batch)
            .and_then(|()| match file.memory_size() as u64 >= self.group_bytes {
                true => file.flush(),
                false => Ok(()),
            });
        written.map_err(|error| self.fault(error))
    }

    /// Bytes that are in memory: rows, and pages of the row group.
    fn fault(&self, error: ParquetError) -> Error {
        let error = match error {
            ParquetError::External(error) => match error.downcast::<io::Error>() {
                Ok(error) => *error,
                Err(error) => io::Error::other(error),
            },
            error => io::Error::other(error),
        };
        self.target.fault("write", self.part.as_ref(), error)
    }

    fn push(&mut self, row: &[u8]) -> Result<()> {
        self.rows.push_row(row)?;
        self.bytes += row.len();
        match self.bytes >= BATCH {
            true => self.encode(),
            false => Ok(()),
        }
    }
}

impl<R: Record> SinkWriter for ParquetSinkWriter<R> {
    type In = R;

    const TAKES_BATCHES: bool = true;

    fn write(&mut self, view: R::View<'_>) -> Result<()> {
        self.rows.push(view)?;
        self.bytes += R::row_size(view);
        match self.bytes >= BATCH {
            true => self.encode(),
            false => Ok(()),
        }
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        batch.row_bytes::<R>().try_for_each(|row| self.push(row))
    }

    fn finish(&mut self) -> Result<()> {
        let needs_file = matches!(self.target, Target::File(_)) && self.file.is_none();
        if !self.rows.is_empty() || needs_file {
            self.encode()?;
        }
        if let Some(writer) = self.file.take() {
            let file = writer.into_inner().map_err(|error| self.fault(error))?;
            if self.target.syncs() {
                file.sync_all()
                    .map_err(|error| self.target.fault("sync", self.part.as_ref(), error))?;
            }
        }
        self.target.finished(self.part.take(), self.subtask.parallelism)
    }
}
