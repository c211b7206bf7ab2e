//! [`ParquetReader`]: the records of a split, row group by row group.
//!
//! # Algorithm
//! 1. A row group's columns are decoded in step, page by page, to record batches of about [`BATCH`] bytes.
//! 2. Their rows are made and emitted; those that are not wanted are not. A call decodes one batch at most.
//!
//! # Memory
//! On the user's heap, where the counting allocator sees it: for each column its dictionary and a page, compressed and plain, and
//! one batch. None of it grows with the row group. Strings are views of pages: a value that a dictionary has once is in memory once.

use super::file::{OpenFile, ParquetCounts, guarded};
use super::parquet_source::ParquetOptions;
use super::split::{OpenFiles, ParquetSplit};
use crate::arrow::ArrowReader;
use crate::record::Record;
use crate::source::files::FileInput;
use crate::source::{SourceOutput, SourceReader, SourceStatus};
use arrow_schema::ArrowError;
use forebay_memory::{Error, ErrorKind, Result};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use std::sync::Arc;

/// Bytes of a record batch: a few network buffers, which fit into the second-level cache.
const BATCH: u64 = 256 << 10;
const MOST_ROWS: u64 = 8192;

/// Reads the records of a [`ParquetSplit`].
pub struct ParquetReader<R: Record> {
    input: Arc<FileInput>,
    options: ParquetOptions<R>,
    files: Arc<OpenFiles>,
    counts: Arc<ParquetCounts>,
    split: ParquetSplit,
    file: Option<Arc<OpenFile>>,
    group: Option<Group<R>>,
    scratch: Vec<u8>,
}

/// A row group that is being read.
struct Group<R> {
    number: usize,
    batches: ParquetRecordBatchReader,
    /// Rows of it before the batch that is being read, and up to its end.
    start: u64,
    end: u64,
    rows: u64,
    records: ArrowReader<R>,
}

impl<R: Record> ParquetReader<R> {
    pub(super) fn new(
        input: Arc<FileInput>,
        options: ParquetOptions<R>,
        files: Arc<OpenFiles>,
        counts: Arc<ParquetCounts>,
        split: ParquetSplit,
    ) -> Self {
        ParquetReader {
            input,
            options,
            files,
            counts,
            split,
            file: None,
            group: None,
            scratch: Vec::new(),
        }
    }

    /// Opens the next row group: false after the last.
    fn open_next(&mut self) -> Result<bool> {
        let Some(number) = self.split.groups.pop_front() else {
            return Ok(false);
        };
        let file = match &self.file {
            Some(file) => file,
            None => {
                let missing_are_null = self.options.missing_are_null;
                let file = self
                    .files
                    .open::<R>(&self.split.file, missing_are_null, &self.counts)?;
                self.file.insert(file)
            }
        };
        let path = &self.split.file.path;
        let groups = file.metadata.metadata().num_row_groups();
        if number >= groups {
            return Err(Error::corrupt(format!(
                "\"{}\": row group {number} is gone, there are {groups}; the file was replaced while the job read it",
                path.display()
            )));
        }
        let rows = file.group_rows(number);
        let width = R::SIZE as u64 + 1 + file.group_bytes(number).1 / rows.max(1);
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file.chunks.clone(), file.metadata.clone())
                .with_row_groups(vec![number])
                .with_projection(file.mask.clone())
                .with_batch_size((BATCH / width).clamp(1, MOST_ROWS) as usize);
        let batches =
            guarded(path, || builder.build()).map_err(|error| error.within(format!("row group {number}")))?;
        let schema = arrow_array::RecordBatchReader::schema(&batches);
        let records = ArrowReader::<R>::of(&schema, self.options.missing_are_null)?;
        self.counts.group_is_read();
        self.group = Some(Group {
            number,
            batches,
            start: 0,
            end: 0,
            rows,
            records,
        });
        Ok(true)
    }

    /// Reads on: emits the rows of a batch, or decodes the next.
    fn advance(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        let mut has_decoded = false;
        while !out.is_full() {
            let Some(group) = &mut self.group else {
                match self.open_next()? {
                    true => continue,
                    false => return Ok(SourceStatus::Done),
                }
            };
            if group.records.rows_left() == 0 {
                if has_decoded {
                    break;
                }
                has_decoded = true;
                if !group.decode(&self.split)? {
                    self.group = None;
                }
                continue;
            }
            if group.records.is_fixed() && self.options.predicate.is_none() {
                let records = &mut group.records;
                out.fill_bytes(records.rows_left(), |rows| records.fill_rows(rows));
                continue;
            }
            let misfit = match group.records.advance() {
                Ok(Some(view)) => {
                    let predicate = self.options.predicate.as_ref();
                    if predicate.is_none_or(|predicate| predicate.holds_with(view, &mut self.scratch)) {
                        out.push(view);
                    }
                    None
                }
                Ok(None) => None,
                Err(misfit) => Some(misfit),
            };
            if let Some(misfit) = misfit {
                return Err(group.misfit(&self.split, misfit));
            }
        }
        Ok(SourceStatus::More)
    }
}

impl<R: Record> Group<R> {
    fn place(&self, split: &ParquetSplit) -> String {
        format!("\"{}\", row group {}", split.file.path.display(), self.number)
    }

    /// Decodes the next batch: false after the last.
    fn decode(&mut self, split: &ParquetSplit) -> Result<bool> {
        let path = &split.file.path;
        let decoded = guarded(path, || self.batches.next().transpose().map_err(parquet_error));
        let batch = match decoded.map_err(|error| error.within(format!("row group {}", self.number)))? {
            Some(batch) => batch,
            None if self.end < self.rows => {
                return Err(Error::corrupt(format!(
                    "{}: it ends after {} of {} rows; the file is damaged",
                    self.place(split),
                    self.end,
                    self.rows
                )));
            }
            None => return Ok(false),
        };
        self.start = self.end;
        self.end += batch.num_rows() as u64;
        match self.records.begin(&batch) {
            Ok(()) => Ok(true),
            Err(misfit) => Err(self.misfit(split, misfit)),
        }
    }

    #[cold]
    fn misfit(&self, split: &ParquetSplit, found: crate::arrow::RowMisfit) -> Error {
        Error::corrupt(format!(
            "{}, row {}, column \"{}\": {}",
            self.place(split),
            self.start + found.row as u64,
            found.misfit.path,
            found.misfit.what
        ))
    }
}

/// What a decoder answers, as other parts of its library do.
fn parquet_error(error: ArrowError) -> ParquetError {
    match error {
        ArrowError::ParquetError(what) => ParquetError::General(what),
        ArrowError::ExternalError(error) => ParquetError::External(error),
        other => ParquetError::General(other.to_string()),
    }
}

impl<R: Record> SourceReader for ParquetReader<R> {
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        match self.advance(out) {
            Err(error) if error.kind() == ErrorKind::Io => {
                self.input.unreadable(error)?;
                self.group = None;
                self.split.groups.clear();
                Ok(SourceStatus::Done)
            }
            other => other,
        }
    }
}
