//! [`ParquetReader`]: the records of a split, row group by row group.
//!
//! # Algorithm
//! 1. The page index says which rows of a row group a predicate may want. Pages without any are passed over by their headers;
//!    those of lists are decoded where the headers (of version 1) do not say how many rows they have.
//! 2. Where the record has other columns than the predicate, a [`Sieve`] looks at the predicate's columns of these rows first.
//! 3. The columns of the rows that are left are decoded to record batches ([`RowBatches`]).
//! 4. Their rows are made and emitted; those that are not wanted are not. A call opens one part of a row group at most, and
//!    decodes one batch at most.
//!
//! # Memory
//! On the user's heap, where the counting allocator sees it: for each column its dictionary and a page, compressed and plain, and
//! one batch: none of it grows with the row group. Strings are views of pages: a value that a dictionary has once is in memory once.
//! Under a predicate also what [`PageIndex`] has while a part is opened, and the ranges of rows that are wanted: these grow with the
//! pages of a row group, or are as many as a [`Sieve`] has at most.

use super::file::{OpenFile, ParquetCounts};
use super::page_index::PageIndex;
use super::parquet_source::ParquetOptions;
use super::row_batches::RowBatches;
use super::sieve::Sieve;
use super::split::{OpenFiles, ParquetSplit, Part};
use crate::arrow::ArrowReader;
use crate::record::Record;
use crate::source::files::FileInput;
use crate::source::{SourceOutput, SourceReader, SourceStatus};
use forebay_memory::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;

/// After a sieve that was of no use, so many times as many rows as it has seen are read without one.
const REST: u64 = 16;

/// Reads the records of a [`ParquetSplit`].
pub struct ParquetReader<R: Record> {
    input: Arc<FileInput>,
    options: ParquetOptions<R>,
    files: Arc<OpenFiles>,
    counts: Arc<ParquetCounts>,
    split: ParquetSplit,
    file: Option<Arc<OpenFile>>,
    /// What looks at the row group that is read next, before it is.
    sieve: Option<(Part, Sieve<R>)>,
    group: Option<Group<R>>,
    /// Rows that are read before the next sieve.
    unsifted: u64,
    scratch: Vec<u8>,
}

/// A row group that is being read.
struct Group<R> {
    number: usize,
    batches: RowBatches,
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
            sieve: None,
            group: None,
            unsifted: 0,
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
        self.open_part(&file, part)?;
        Ok(true)
    }

    /// Opens a part of a row group, or a sieve of it, where something of it is wanted.
    fn open_part(&mut self, file: &OpenFile, part: Part) -> Result<()> {
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
            return Ok(());
        }
        if let Some(predicate) = predicate {
            let sieve = match self.unsifted {
                0 => Sieve::open(file, path, number, predicate, &wanted)?,
                _ => None,
            };
            self.unsifted = self.unsifted.saturating_sub(count);
            if let Some(sieve) = sieve {
                self.sieve = Some((part, sieve));
                return Ok(());
            }
        }
        self.open_group(file, number, wanted)
    }

    /// Opens rows of a row group.
    fn open_group(&mut self, file: &OpenFile, number: usize, wanted: Vec<Range<u64>>) -> Result<()> {
        let path = &self.split.file.path;
        let rows = file.group_rows(number);
        let width = (file.group_bytes(number).1 / rows.max(1)).saturating_add(R::SIZE as u64 + 1);
        let batches = RowBatches::open(file, path, number, file.mask.clone(), width, &wanted)?;
        let records = ArrowReader::<R>::of(&batches.schema(), self.options.missing_are_null)?;
        self.group = Some(Group {
            number,
            batches,
            rows: wanted.iter().map(|rows| rows.end - rows.start).sum(),
            wanted,
            start: 0,
            end: 0,
            records,
        });
        Ok(())
    }

    /// Looks at another batch of the predicate's columns, or opens the row group where there is none.
    fn sift(&mut self) -> Result<()> {
        let file = self.file.clone().expect("a sieve is of a file that is open");
        let Some((_, sieve)) = &mut self.sieve else {
            return Ok(());
        };
        if sieve.advance(&file, &self.split.file.path)? {
            return Ok(());
        }
        let (part, sieve) = self.sieve.take().expect("it was there before it advanced");
        if sieve.is_of_no_use() {
            self.unsifted = sieve.rows_looked_at().saturating_mul(REST);
        }
        self.counts.rows_are_sifted(sieve.rows_left_out());
        let wanted = sieve.into_wanted();
        match wanted.is_empty() {
            true => Ok(()),
            false => self.open_group(&file, part.group, wanted),
        }
    }

    /// Reads on: emits the rows of a batch, or decodes the next.
    fn advance(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        let (mut has_opened, mut has_decoded) = (false, false);
        while !out.is_full() {
            let Some(group) = &mut self.group else {
                if self.sieve.is_some() {
                    if has_decoded {
                        break;
                    }
                    has_decoded = true;
                    self.sift()?;
                    continue;
                }
                if has_opened {
                    break;
                }
                // One part a call: what the index excludes of many would be a long one.
                has_opened = true;
                if !self.open_next()? {
                    return Ok(SourceStatus::Done);
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
        let batch = match self.batches.next(&split.file.path)? {
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

impl<R: Record> SourceReader for ParquetReader<R> {
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        match self.advance(out) {
            Err(error) if error.kind() == ErrorKind::Io => {
                self.input.unreadable(error)?;
                self.group = None;
                self.sieve = None;
                self.split.parts.clear();
                Ok(SourceStatus::Done)
            }
            other => other,
        }
    }
}
