//! A Parquet file that is open: its footer, which of its columns are read, and reads that are counted.
//!
//! # Memory
//! The footer, on the heap: about 100 bytes for each column of each row group, and names and statistics.

use super::super::files::{cannot_read, ends_early};
use crate::arrow::{ArrowReader, Leaf, leaves};
use crate::record::Record;
use arrow_schema::{DataType as ArrowType, Field, Fields, Schema as ArrowSchema, TimeUnit};
use bytes::Bytes;
use forebay_memory::{Error, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{Compression, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a page's header that are read at a time; most headers have fewer.
const HEADER: usize = 512;

/// What the subtasks of a source have read so far.
#[derive(Debug, Default)]
pub struct ParquetCounts {
    bytes: AtomicU64,
    groups_read: AtomicU64,
    groups_skipped: AtomicU64,
    rows_skipped: AtomicU64,
    rows_sifted: AtomicU64,
}

impl ParquetCounts {
    /// Bytes of files, footers included.
    pub fn bytes_read(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Row groups that were opened: once, also where several subtasks share one.
    pub fn row_groups_read(&self) -> u64 {
        self.groups_read.load(Ordering::Relaxed)
    }

    /// Row groups that were passed over, because their statistics say that none of their records is wanted.
    pub fn row_groups_skipped(&self) -> u64 {
        self.groups_skipped.load(Ordering::Relaxed)
    }

    /// Rows of row groups that were opened, or looked into, which the page index says are not wanted.
    pub fn rows_skipped(&self) -> u64 {
        self.rows_skipped.load(Ordering::Relaxed)
    }

    /// Rows of which the columns of the predicate were read, and no others.
    pub fn rows_sifted(&self) -> u64 {
        self.rows_sifted.load(Ordering::Relaxed)
    }

    pub(super) fn rows_are_sifted(&self, count: u64) {
        self.rows_sifted.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn rows_are_skipped(&self, count: u64) {
        self.rows_skipped.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn group_is_read(&self) {
        self.groups_read.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn groups_are_skipped(&self, count: u64) {
        self.groups_skipped.fetch_add(count, Ordering::Relaxed);
    }
}

/// Reads parts of a file, and counts them.
#[derive(Clone)]
pub(super) struct Chunks {
    file: Arc<File>,
    size: u64,
    counts: Arc<ParquetCounts>,
}

/// Reads on from somewhere in a file.
pub(super) struct ReadOn {
    chunks: Chunks,
    at: u64,
}

impl Read for ReadOn {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.chunks.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        self.chunks
            .counts
            .bytes
            .fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<ReadOn>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let from = ReadOn {
            chunks: self.clone(),
            at: start,
        };
        Ok(BufReader::with_capacity(HEADER, from))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        // Before memory is taken: the length is what the file says.
        if start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(ParquetError::EOF(format!(
                "{length} B at byte {start} reach out of the file of {} B",
                self.size
            )));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        self.counts.bytes.fetch_add(length as u64, Ordering::Relaxed);
        Ok(bytes.into())
    }
}

/// A file that is open, with its footer read and checked against a record type.
pub(super) struct OpenFile {
    pub(super) chunks: Chunks,
    pub(super) metadata: ArrowReaderMetadata,
    pub(super) mask: ProjectionMask,
    /// The columns that are read.
    pub(super) leaves: Vec<Leaf>,
    /// Of all row groups together.
    pub(super) rows: u64,
}

impl OpenFile {
    /// Opens a file that had `size` bytes when it was listed, and checks that it has the columns of `R`.
    pub(super) fn open<R: Record>(
        path: &Path,
        size: u64,
        missing_are_null: bool,
        counts: &Arc<ParquetCounts>,
    ) -> Result<OpenFile> {
        let file = File::open(path).map_err(|error| cannot_read(path, error))?;
        let found = file.metadata().map_err(|error| cannot_read(path, error))?.len();
        if found < size {
            return Err(ends_early(path, found, size));
        }
        let chunks = Chunks {
            file: Arc::new(file),
            size: found,
            counts: counts.clone(),
        };
        if found < 12 {
            return Err(Error::corrupt(format!(
                "\"{}\": {found} B are no Parquet file, which has at least 12 B; it was cut, or holds something else",
                path.display()
            )));
        }
        let plain = guarded(path, || ArrowReaderMetadata::load(&chunks, options()))?;
        let within = |error: Error| error.within(format!("\"{}\"", path.display()));
        ArrowReader::<R>::of(plain.schema(), missing_are_null).map_err(within)?;
        let leaves = leaves::<R>(plain.schema()).map_err(within)?;
        check_codecs::<R>(&plain, &leaves).map_err(within)?;
        let hinted = hinted(&plain);
        let metadata = guarded(path, || {
            ArrowReaderMetadata::try_new(plain.metadata().clone(), options().with_schema(Arc::new(hinted)))
        })?;
        let mask = ProjectionMask::leaves(metadata.parquet_schema(), leaves.iter().map(|leaf| leaf.number));
        let mut file = OpenFile {
            chunks,
            metadata,
            mask,
            leaves,
            rows: 0,
        };
        file.rows = file.check_sizes().map_err(within)?;
        file.check_nulls::<R>().map_err(within)?;
        Ok(file)
    }

    /// Refuses sizes that no row group can have: those of what is read, and their sums over all row groups, are in range afterwards.
    /// Answers how many rows there are.
    fn check_sizes(&self) -> Result<u64> {
        let mut sums = [0_u64; 3];
        for (index, group) in self.metadata.metadata().row_groups().iter().enumerate() {
            let wrong = |what: &str, found: i64| {
                Error::corrupt(format!(
                    "row group {index} (of {}) has {found} {what} by the footer, in a file of {} B; the footer is damaged, restore \
                     the file",
                    self.metadata.metadata().num_row_groups(),
                    self.chunks.size
                ))
            };
            let mut add = |sum: usize, what: &str, found: i64, most: u64| {
                let size = u64::try_from(found).ok().filter(|size| *size <= most);
                let added = size.and_then(|size| sums[sum].checked_add(size));
                sums[sum] = added.ok_or_else(|| wrong(what, found))?;
                Ok::<(), Error>(())
            };
            add(0, "rows", group.num_rows(), u64::MAX)?;
            for leaf in &self.leaves {
                let column = group.column(leaf.number);
                let compressed = format!("compressed bytes of column \"{}\"", leaf.path);
                add(1, &compressed, column.compressed_size(), self.chunks.size)?;
                let plain = format!("bytes of column \"{}\"", leaf.path);
                add(2, &plain, column.uncompressed_size(), u64::MAX)?;
            }
        }
        Ok(sums[0])
    }

    /// Refuses nulls that statistics tell of, where the record cannot have them.
    fn check_nulls<R: Record>(&self) -> Result<()> {
        for leaf in self.leaves.iter().filter(|leaf| leaf.is_top && !leaf.is_nullable) {
            for (index, group) in self.metadata.metadata().row_groups().iter().enumerate() {
                let statistics = group.column(leaf.number).statistics();
                let nulls = statistics
                    .and_then(|statistics| statistics.null_count_opt())
                    .unwrap_or(0);
                if nulls > 0 {
                    return Err(Error::config(format!(
                        "column \"{}\" has {nulls} nulls in row group {index} (of {}), but the field of {} is no Option; make it \
                         one",
                        leaf.path,
                        self.metadata.metadata().num_row_groups(),
                        R::schema().name
                    )));
                }
            }
        }
        Ok(())
    }

    /// Bytes of the columns that are read, of one row group: compressed, and not. The sums are in range ([`OpenFile::check_sizes`]).
    pub(super) fn group_bytes(&self, group: usize) -> (u64, u64) {
        let group = self.metadata.metadata().row_group(group);
        self.leaves.iter().fold((0, 0), |(compressed, plain), leaf| {
            let column = group.column(leaf.number);
            (
                compressed + column.compressed_size() as u64,
                plain + column.uncompressed_size() as u64,
            )
        })
    }

    /// Whether rows in the middle of a row group can be read without decoding those before them: the pages of lists need not say
    /// how many rows they have.
    pub(super) fn can_be_divided(&self) -> bool {
        let schema = self.metadata.parquet_schema();
        self.leaves
            .iter()
            .all(|leaf| schema.column(leaf.number).max_rep_level() == 0)
    }

    pub(super) fn group_rows(&self, group: usize) -> u64 {
        self.metadata.metadata().row_group(group).num_rows() as u64
    }
}

/// What other writers put beside the file's own schema is passed over: the file's types are what its values have.
fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// Refuses columns that are compressed as this build cannot read.
fn check_codecs<R: Record>(metadata: &ArrowReaderMetadata, leaves: &[Leaf]) -> Result<()> {
    for group in metadata.metadata().row_groups() {
        for leaf in leaves {
            let codec = group.column(leaf.number).compression();
            let remedy = match codec {
                Compression::ZSTD(_) if cfg!(feature = "parquet-zstd") => continue,
                Compression::ZSTD(_) => {
                    "build with the feature parquet-zstd, or write it with snappy, LZ4 or gzip"
                }
                Compression::BROTLI(_) | Compression::LZO => "write it with snappy, LZ4 or gzip",
                _ => continue,
            };
            return Err(Error::config(format!(
                "column \"{}\" of {} is compressed with {codec}, which this build does not read; {remedy}",
                leaf.path,
                R::schema().name
            )));
        }
    }
    Ok(())
}

/// The file's schema, with strings and bytes as views, so that a value of a dictionary is in memory once and not for each row
/// that has it, and old timestamps of 96 bits in milliseconds, which have room for all of them.
fn hinted(metadata: &ArrowReaderMetadata) -> ArrowSchema {
    let is_old = |leaf: usize| metadata.parquet_schema().column(leaf).physical_type() == PhysicalType::INT96;
    let mut next = 0;
    let schema = metadata.schema();
    let fields: Fields = schema
        .fields()
        .iter()
        .map(|field| hinted_field(field, &is_old, &mut next))
        .collect();
    ArrowSchema::new_with_metadata(fields, schema.metadata().clone())
}

fn hinted_field(field: &Field, is_old: &impl Fn(usize) -> bool, next: &mut usize) -> Field {
    let mut inner = |field: &Field| Arc::new(hinted_field(field, is_old, next));
    let data_type = match field.data_type() {
        ArrowType::Struct(fields) => ArrowType::Struct(fields.iter().map(|field| inner(field)).collect()),
        ArrowType::List(element) => ArrowType::List(inner(element)),
        ArrowType::LargeList(element) => ArrowType::LargeList(inner(element)),
        ArrowType::FixedSizeList(element, count) => ArrowType::FixedSizeList(inner(element), *count),
        ArrowType::Map(entries, is_sorted) => ArrowType::Map(inner(entries), *is_sorted),
        leaf => {
            let number = *next;
            *next += 1;
            match leaf {
                ArrowType::Utf8 => ArrowType::Utf8View,
                ArrowType::Binary => ArrowType::BinaryView,
                ArrowType::Timestamp(_, zone) if is_old(number) => {
                    ArrowType::Timestamp(TimeUnit::Millisecond, zone.clone())
                }
                other => other.clone(),
            }
        }
    };
    field.clone().with_data_type(data_type)
}

/// Runs what reads damaged bytes: the Parquet library answers most damage with an error, and some with a panic.
pub(super) fn guarded<T>(path: &Path, read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    // What the closure has borrowed is not looked at after an error.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| fault(path, error)),
        Err(panic) => {
            let what = (panic.downcast_ref::<&str>().map(|text| (*text).to_string()))
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "unknown damage".into());
            Err(fault(path, ParquetError::General(what)))
        }
    }
}

/// What went wrong in a file.
#[cold]
pub(super) fn fault(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) => cannot_read(path, *error),
            Err(error) => Error::corrupt(format!("\"{}\": {error}", path.display())),
        },
        ParquetError::NYI(what) => Error::config(format!(
            "\"{}\": {what}: this is not read; write the file without it",
            path.display()
        )),
        error => {
            let text = error.to_string();
            let what = [
                "Parquet error: ",
                "EOF: ",
                "Arrow: Parquet argument error: ",
                "Arrow: ",
            ]
            .iter()
            .fold(text.as_str(), |text, start| {
                text.strip_prefix(start).unwrap_or(text)
            });
            Error::corrupt(format!(
                "\"{}\": {what}; the file is damaged, or no Parquet file",
                path.display()
            ))
        }
    }
}
