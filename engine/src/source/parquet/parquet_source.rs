//! [`ParquetSource`]: records from Parquet files.
//!
//! # Interface
//! [`parquet`] with a record type and patterns of files; options are methods.
//!
//! # Algorithm
//! Every footer is read and checked when the job is planned; row groups, as they come, are dealt out in splits of about one size.
//! A row group that is more than a subtask's share of the input is divided by rows.
//!
//! # Memory
//! On the user's heap: the footers of eight files; for each subtask what `parquet_reader` says.

use super::file::{OpenFile, ParquetCounts};
use super::parquet_reader::ParquetReader;
use super::predicate::Predicate;
use super::pruning::wanted_groups;
use super::rows_size::varied_bytes;
use super::split::{ListedFile, OpenFiles, ParquetSplit, Part};
use crate::record::Record;
use crate::source::files::{FileInput, InputFile, Patterns, are_even};
use crate::source::{RowsBytes, Source};
use forebay_memory::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// Parts of the input for each subtask, as far as row groups are divided for them: with three row groups of one size, two subtasks
/// have as much to read.
const PARTS_A_SUBTASK: u64 = 2;

/// Footers that are read, when the plan asks how large the input is, before all files are opened for their splits.
const FOOTERS_ASKED: usize = 16;

/// A source of records from Parquet files: their columns are found by the names of the record's fields, and no others are read.
/// A directory stands for all files below it whose names end in `.parquet`.
///
/// Columns may be of other types than the fields where all values fit; a table is in [`arrow`](crate::arrow). Compression with snappy,
/// LZ4 and gzip is read, and, with the feature `parquet-zstd`, zstd.
///
/// A reader has, for each column, a page compressed and plain and the column's dictionary, on the user's heap: with the
/// usual 1 MiB for each of them, about 3 MiB a column and subtask at most. Row groups may be larger than memory.
///
/// ```
/// use forebay::record::Record;
/// use forebay::source::parquet;
///
/// #[derive(Record)]
/// struct Sale {
///     shop: u64,
///     amount: Option<i64>,
/// }
///
/// let sales = parquet::<Sale>("sales/2026-*.parquet").only(Sale::shop.eq(7));
/// # let _ = sales;
/// ```
pub fn parquet<R: Record>(patterns: impl Into<Patterns>) -> ParquetSource<R> {
    ParquetSource {
        input: Arc::new(FileInput::new(patterns.into())),
        options: ParquetOptions {
            predicate: None,
            missing_are_null: false,
        },
        files: Arc::default(),
        counts: Arc::default(),
    }
}

/// See [`parquet`].
pub struct ParquetSource<R: Record> {
    input: Arc<FileInput>,
    options: ParquetOptions<R>,
    files: Arc<OpenFiles>,
    counts: Arc<ParquetCounts>,
}

/// A row group that may have wanted records.
struct WantedGroup {
    file: Arc<ListedFile>,
    number: usize,
    rows: u64,
    bytes: u64,
    can_be_divided: bool,
}

/// What the footers of some of the files say.
struct Sample {
    groups: Vec<WantedGroup>,
    /// Whether there are row groups that are not wanted.
    is_pruned: bool,
    /// Estimates of the bytes of rows, the least and the most: of wanted row groups where these are all files. Where they are some, of
    /// all row groups, because what the others have may be wanted.
    least: u64,
    most: u64,
    /// Bytes that the row groups have stored: of the columns that are read, and of all, which are the files without their footers.
    stored: [u64; 2],
    /// How many files, and their bytes.
    read: [u64; 2],
    /// The same of all files.
    all: [u64; 2],
}

impl Sample {
    /// What there is in all files where these have as much: by their number (0), or by their bytes (1). Files of one data set are alike.
    fn of_all(&self, by: usize, part: u64) -> u64 {
        let all = u128::from(part) * u128::from(self.all[by]) / u128::from(self.read[by].max(1));
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// Whether no file was left out.
    fn is_whole(&self) -> bool {
        self.read == self.all
    }

    /// The least and the most that the rows of all files are estimated to take. The most is the larger of two: files are alike, or stored
    /// bytes are, where a file of which no more is known may have no footer to speak of, and rows have as many bytes as are stored of them. (A
    /// row group of one row is for the most part headers.) If these files have stored nothing, there is no most.
    fn rows_of_all(&self) -> [u64; 2] {
        if self.is_whole() {
            return [self.least, self.most];
        }
        let unread = u128::from(self.all[1] - self.read[1]);
        let [of_read_columns, of_all_columns] = self.stored.map(u128::from);
        let of_rows = of_read_columns.max(self.most.into());
        let of_unread = of_rows.saturating_mul(unread).checked_div(of_all_columns);
        let by_stored = of_unread.and_then(|bytes| u64::try_from(bytes).ok()?.checked_add(self.most));
        let most = by_stored.unwrap_or(u64::MAX).max(self.of_all(0, self.most));
        [self.of_all(1, self.least), most]
    }
}

/// What is read.
pub(super) struct ParquetOptions<R: Record> {
    pub(super) predicate: Option<Predicate<R>>,
    pub(super) missing_are_null: bool,
}

impl<R: Record> Clone for ParquetOptions<R> {
    fn clone(&self) -> Self {
        ParquetOptions {
            predicate: self.predicate.clone(),
            ..*self
        }
    }
}

impl<R: Record> Clone for ParquetSource<R> {
    /// The same source, with counts and files of its own.
    fn clone(&self) -> Self {
        ParquetSource {
            input: self.input.clone(),
            options: self.options.clone(),
            files: Arc::default(),
            counts: Arc::default(),
        }
    }
}

impl<R: Record> ParquetSource<R> {
    fn with_input(mut self, change: impl FnOnce(&mut FileInput)) -> Self {
        change(Arc::make_mut(&mut self.input));
        self
    }

    /// Emits only records for which the predicate holds (and, where it was called before, that one too). Row groups whose
    /// statistics exclude it are not read, nor pages that the file's page index excludes.
    pub fn only(mut self, predicate: Predicate<R>) -> Self {
        self.options.predicate = Some(match self.options.predicate.take() {
            Some(before) => before.and(predicate),
            None => predicate,
        });
        self
    }

    /// Takes columns that a file does not have as null, where the field is an `Option`; by default they are an error.
    pub fn missing_columns_are_null(mut self) -> Self {
        self.options.missing_are_null = true;
        self
    }

    /// Passes over files and directories that cannot be read, or vanish, with a warning in the log; by default the job
    /// fails. A pattern that matches nothing is an error all the same, and so is a file that is no Parquet file.
    pub fn skip_unreadable(self) -> Self {
        self.with_input(|input| input.skips_unreadable = true)
    }

    /// Bytes of the columns that are read, compressed, that one subtask reads at a time, at least a row group; by default 4 to
    /// 64 MiB, by the size of the input. A row group of more bytes than that is divided among subtasks where it is more than half of the
    /// share of one.
    pub fn split_size(self, bytes: u64) -> Self {
        self.with_input(|input| input.split_size = Some(bytes))
    }

    /// What was read so far, by all subtasks.
    pub fn counts(&self) -> Arc<ParquetCounts> {
        self.counts.clone()
    }

    /// The records in all files, by their footers: those that [`ParquetSource::only`] leaves out, too.
    ///
    /// # Errors
    /// Where files cannot be listed, or one is no Parquet file with the record's columns.
    pub fn records(&self) -> Result<u64> {
        let mut records = 0_u64;
        for listed in self.list()? {
            let file = self
                .files
                .open::<R>(&listed, self.options.missing_are_null, &self.counts)?;
            records = add(records, file.rows, "records", &listed)?;
        }
        Ok(records)
    }

    /// Some of the files, of which the plan asks.
    fn sample(&self) -> Result<Sample> {
        let files = self.list_by(FileInput::list_quietly)?;
        let mut sample = Sample {
            groups: Vec::new(),
            is_pruned: false,
            least: 0,
            most: 0,
            stored: [0; 2],
            read: [0; 2],
            all: [files.len() as u64, files.iter().map(|file| file.size).sum()],
        };
        // Not in the source's own counts, nor among the files that readers share.
        let counts = Arc::default();
        let step = files.len().div_ceil(FOOTERS_ASKED).max(1);
        for listed in files.iter().step_by(step) {
            let missing_are_null = self.options.missing_are_null;
            let file = OpenFile::open::<R>(&listed.path, listed.size, missing_are_null, &counts)?;
            let all = file.metadata.metadata().num_row_groups();
            let wanted = self.wanted(listed, &file);
            sample.is_pruned |= wanted.len() < all;
            let counted: Vec<usize> = match step {
                1 => wanted.iter().map(|group| group.number).collect(),
                _ => (0..all).collect(),
            };
            for group in counted {
                let fixed = file.group_rows(group).saturating_mul(R::SIZE as u64);
                let (least, most) = match R::STRIDE {
                    0 => varied_bytes(&file, group),
                    _ => (0, 0),
                };
                sample.least = sample.least.saturating_add(fixed.saturating_add(least));
                sample.most = sample.most.saturating_add(fixed.saturating_add(most));
                let stored = file.metadata.metadata().row_group(group).compressed_size();
                let stored = [file.group_bytes(group).0, u64::try_from(stored).unwrap_or(0)];
                for (sum, bytes) in sample.stored.iter_mut().zip(stored) {
                    *sum = sum.saturating_add(bytes);
                }
            }
            sample.groups.extend(wanted);
            sample.read[0] += 1;
            sample.read[1] += listed.size;
        }
        Ok(sample)
    }

    /// The row groups of a file that may have wanted records.
    fn wanted(&self, listed: &Arc<ListedFile>, file: &OpenFile) -> Vec<WantedGroup> {
        let wanted = match &self.options.predicate {
            Some(predicate) => wanted_groups(file, predicate),
            None => (0..file.metadata.metadata().num_row_groups()).collect(),
        };
        let groups = wanted.into_iter().map(|group| WantedGroup {
            file: listed.clone(),
            number: group,
            rows: file.group_rows(group),
            bytes: file.group_bytes(group).0,
            can_be_divided: file.can_be_divided(),
        });
        groups.collect()
    }

    /// Deals row groups of `total` bytes out in splits.
    fn divide(&self, groups: Vec<WantedGroup>, total: u64, parallelism: usize) -> Vec<ParquetSplit> {
        let split_size = self.input.split_size(total, parallelism);
        let part_size = split_size.max(total.div_ceil(parallelism as u64 * PARTS_A_SUBTASK));
        let mut splits: Vec<ParquetSplit> = Vec::new();
        let mut size = 0;
        for group in groups {
            let count = match group.can_be_divided && parallelism > 1 {
                // To the nearest: parts are of two thirds of the size to one and a third.
                true => group.bytes.saturating_add(part_size / 2) / part_size.max(1),
                false => 1,
            };
            if count > 1 {
                splits.extend(
                    Part::divide(group.number, group.rows, count).map(|part| ParquetSplit {
                        file: group.file.clone(),
                        parts: VecDeque::from([part]),
                        bytes: group.bytes / count,
                    }),
                );
                // Nothing is added to a part.
                size = u64::MAX;
                continue;
            }
            let part = Part {
                group: group.number,
                group_rows: group.rows,
                rows: 0..group.rows,
            };
            match splits.last_mut() {
                Some(split)
                    if Arc::ptr_eq(&split.file, &group.file)
                        && size.saturating_add(group.bytes) <= split_size =>
                {
                    split.parts.push_back(part);
                    size += group.bytes;
                    split.bytes = size;
                }
                _ => {
                    splits.push(ParquetSplit {
                        file: group.file,
                        parts: VecDeque::from([part]),
                        bytes: group.bytes,
                    });
                    size = group.bytes;
                }
            }
        }
        splits
    }

    fn list(&self) -> Result<Vec<Arc<ListedFile>>> {
        self.list_by(FileInput::list)
    }

    fn list_by(
        &self,
        list: impl FnOnce(&FileInput) -> Result<Vec<InputFile>>,
    ) -> Result<Vec<Arc<ListedFile>>> {
        let directories = |pattern: &String| match Path::new(pattern).is_dir() {
            true => format!("{}/**/*.parquet", pattern.trim_end_matches('/')),
            false => pattern.clone(),
        };
        let files = list(&self.input.with_patterns(directories))?;
        let files = files.into_iter().map(|file| {
            Arc::new(ListedFile {
                path: file.path,
                size: file.size,
            })
        });
        Ok(files.collect())
    }
}

impl<R: Record> Source for ParquetSource<R> {
    type Out = R;
    type Split = ParquetSplit;
    type Reader = ParquetReader<R>;

    fn splits(&self, parallelism: usize) -> Result<Vec<ParquetSplit>> {
        // Each row group with its rows and bytes; a file's are next to each other.
        let mut groups: Vec<WantedGroup> = Vec::new();
        let mut total = 0_u64;
        for listed in self.list()? {
            let opened = self
                .files
                .open::<R>(&listed, self.options.missing_are_null, &self.counts);
            let file = match opened {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::Io => {
                    self.input.unreadable(error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let all = file.metadata.metadata().num_row_groups();
            let wanted = self.wanted(&listed, &file);
            self.counts.groups_are_skipped((all - wanted.len()) as u64);
            for group in &wanted {
                total = add(total, group.bytes, "bytes", &listed)?;
            }
            groups.extend(wanted);
        }
        Ok(self.divide(groups, total, parallelism))
    }

    fn reader(&self, split: ParquetSplit) -> Result<ParquetReader<R>> {
        Ok(ParquetReader::new(
            self.input.clone(),
            self.options.clone(),
            self.files.clone(),
            self.counts.clone(),
            split,
        ))
    }

    /// By the files' footers, of up to 16 files: rows of fixed size exactly, others about as their fixed parts and what strings and lists take
    /// without an encoding. Where writers have left that out, what is stored for strings is the least, and once for each value the most, if
    /// it was stored as a dictionary. Of row groups that [`ParquetSource::only`] may want, at most; where not all footers are read, of all row
    /// groups, because which are wanted of other files is not known. Files that are not there, or damaged, say nothing.
    fn rows_bytes(&self) -> RowsBytes {
        let Some(sample) = self.sample().ok().filter(|sample| sample.read[0] > 0) else {
            return RowsBytes::UNKNOWN;
        };
        let [least, most] = sample.rows_of_all();
        let bytes = match (R::STRIDE > 0, sample.is_whole()) {
            (true, true) => RowsBytes::exactly(most),
            _ => RowsBytes::about_between(least, most),
        };
        match self.options.predicate {
            Some(_) => bytes.of_some(),
            None => bytes,
        }
    }

    fn divides_among(&self, subtasks: usize) -> bool {
        let Ok(mut sample) = self.sample() else {
            return false;
        };
        if sample.is_pruned && !sample.is_whole() {
            // What is wanted may be in one file, or in those that were not looked at.
            return false;
        }
        let groups = std::mem::take(&mut sample.groups);
        let bytes = groups
            .iter()
            .fold(0, |sum: u64, group| sum.saturating_add(group.bytes));
        let splits = self.divide(groups, sample.of_all(1, bytes), subtasks);
        // Files of one data set are alike: of others there are as many.
        let count = sample.of_all(0, splits.len() as u64) as usize;
        are_even(
            splits.iter().map(|split| split.bytes).cycle().take(count),
            subtasks,
        )
    }
}

/// Adds what a file has to what the files before it have.
fn add(before: u64, of_file: u64, what: &str, file: &ListedFile) -> Result<u64> {
    before.checked_add(of_file).ok_or_else(|| {
        Error::corrupt(format!(
            "\"{}\": {of_file} {what} by its footer, with {before} of the files before it, are more than can be; a footer is damaged, \
             restore the file",
            file.path.display()
        ))
    })
}
