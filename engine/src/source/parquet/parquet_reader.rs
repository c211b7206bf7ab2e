//! [`ParquetReader`]: the records of a split, row group by row group.
//!
//! # Algorithm
//! 1. The page index says which rows of a row group a predicate may want. Pages without any are passed over by their headers;
//!    those of lists are decoded where the headers (of version 1) do not say how many rows they have.
//! 2. A row group's columns are decoded in step, page by page, to record batches of about [`BATCH`] bytes.
//! 3. Their rows are made and emitted; those that are not wanted are not. A call opens one part of a row group at most, and
//!    decodes one batch at most.
//!
//! # Memory
//! On the user's heap, where the counting allocator sees it: for each column its dictionary and a page, compressed and plain, and
//! one batch: none of it grows with the row group. Strings are views of pages: a value that a dictionary has once is in memory once.
//! Under a predicate also what [`PageIndex`] has while a part is opened, and the ranges of rows that are wanted: these grow with the
//! pages of a row group.

use super::file::{OpenFile, ParquetCounts, guarded};
use super::page_index::PageIndex;
use super::parquet_source::ParquetOptions;
use super::split::{OpenFiles, ParquetSplit, Part};
use crate::arrow::ArrowReader;
use crate::record::Record;
use crate::source::files::FileInput;
use crate::source::{SourceOutput, SourceReader, SourceStatus};
use arrow_schema::ArrowError;
use forebay_memory::{Error, ErrorKind, Result};
use parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy,
};
use parquet::errors::ParquetError;
use std::ops::Range;
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
    /// The rows of it that are read.
    wanted: Vec<Range<u64>>,
    /// Of these rows, those before the batch that is being read, up to its end, and all.
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

    /// Opens the next part of a row group, if something of it is wanted: false after the last.
    fn open_next(&mut self) -> Result<bool> {
        let Some(part) = self.split.parts.pop_front() else {
            return Ok(false);
        };
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let missing_are_null = self.options.missing_are_null;
                let file = self
                    .files
                    .open::<R>(&self.split.file, missing_are_null, &self.counts)?;
                self.file.insert(file).clone()
            }
        };
        self.group = self.open_part(&file, part)?;
        Ok(true)
    }

    /// Opens a part of a row group, where something of it is wanted.
    fn open_part(&self, file: &OpenFile, part: Part) -> Result<Option<Group<R>>> {
        let path = &self.split.file.path;
        let groups = file.metadata.metadata().num_row_groups();
        let number = part.group;
        let replaced = |what: String| {
            let path = path.display();
            Error::corrupt(format!(
                "\"{path}\": {what}; the file was replaced while the job read it"
            ))
        };
        if number >= groups {
            return Err(replaced(format!(
                "row group {number} is gone, there are {groups}"
            )));
        }
        let rows = file.group_rows(number);
        if rows != part.group_rows {
            let was = part.group_rows;
            return Err(replaced(format!(
                "row group {number} has {rows} rows, and had {was}"
            )));
        }
        let is_whole = part.rows == (0..rows);
        let predicate = self.options.predicate.as_ref();
        let mut wanted = vec![part.rows.clone()];
        if let Some(predicate) = predicate.filter(|_| rows > 0) {
            let index = PageIndex::read(file, path, number, predicate)?;
            wanted = index.wanted_rows(file, path, number, predicate, part.rows.clone());
        }
        let count = wanted.iter().map(|rows| rows.end - rows.start).sum();
        self.counts
            .rows_are_skipped(part.rows.end - part.rows.start - count);
        let is_empty = count == 0 && rows > 0;
        if is_empty && is_whole {
            self.counts.groups_are_skipped(1);
        } else if part.rows.start == 0 {
            // The first part counts for all.
            self.counts.group_is_read();
        }
        if is_empty {
            return Ok(None);
        }
        let width = (file.group_bytes(number).1 / rows.max(1)).saturating_add(R::SIZE as u64 + 1);
        // The footer has no page index: pages are passed over by what their headers say ([`PageIndex`] says why).
        let footer = file.metadata.clone();
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.chunks.clone(), footer)
            .with_row_groups(vec![number])
            .with_projection(file.mask.clone())
            .with_batch_size((BATCH / width).clamp(1, MOST_ROWS) as usize);
        if count < rows {
            let ranges = wanted.iter().map(|rows| rows.start as usize..rows.end as usize);
            let selection = RowSelection::from_consecutive_ranges(ranges, rows as usize);
            builder = builder
                .with_row_selection(selection)
                .with_row_selection_policy(RowSelectionPolicy::Selectors);
        }
        let batches =
            guarded(path, || builder.build()).map_err(|error| error.within(format!("row group {number}")))?;
        let schema = arrow_array::RecordBatchReader::schema(&batches);
        let records = ArrowReader::<R>::of(&schema, self.options.missing_are_null)?;
        Ok(Some(Group {
            number,
            batches,
            wanted,
            start: 0,
            end: 0,
            rows: count,
            records,
        }))
    }

    /// Reads on: emits the rows of a batch, or decodes the next.
    fn advance(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        let mut has_decoded = false;
        while !out.is_full() {
            let Some(group) = &mut self.group else {
                if !self.open_next()? {
                    return Ok(SourceStatus::Done);
                }
                // One part a call: what the index excludes of many would be a long one.
                if self.group.is_none() {
                    break;
                }
                continue;
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

    /// The number in the row group of the row that is the `index`th wanted one.
    fn number_of(&self, index: u64) -> u64 {
        let mut before = 0;
        for rows in &self.wanted {
            let count = rows.end - rows.start;
            if index - before < count {
                return rows.start + (index - before);
            }
            before += count;
        }
        index
    }

    #[cold]
    fn misfit(&self, split: &ParquetSplit, found: crate::arrow::RowMisfit) -> Error {
        Error::corrupt(format!(
            "{}, row {}, column \"{}\": {}",
            self.place(split),
            self.number_of(self.start + found.row as u64),
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
                self.split.parts.clear();
                Ok(SourceStatus::Done)
            }
            other => other,
        }
    }
}
