//! [`BinarySource`]: files of plain records, their bytes one after the other.
//!
//! # Interface
//! [`binary`] reads files of a [`PlainRecord`]; options are methods.
//!
//! # Algorithm
//! A file is cut between records, and its bytes are read straight into the rows of a batch: nothing is done for a record. What
//! says no size, a pipe, is read to its end by one subtask.
//!
//! # Memory
//! None but the batch; a name and a size for every file. Where files are read ahead, past the page cache (`ahead_file`), a few pieces of
//! up to 1 MiB for each subtask.
//!
//! # Cost
//! One `pread` a batch (32 KiB). From the page cache that is 4 to 5 µs, of which the call itself is a tenth: larger reads
//! would need a buffer and a second copy, and measure slower. What is not there costs more than its reading: `ahead_file`.

use super::ahead_file::{AheadFile, SMALLEST_PIECE};
use super::files::{FileInput, FileSplit, Patterns, cannot_read, ends_early};
use super::{RowsBytes, Source, SourceOutput, SourceReader, SourceStatus};
use crate::record::PlainRecord;
use forebay_memory::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// A source of files that hold records of `R` as they lie in memory, one after the other: little-endian, padding included.
/// In the order of the files' names, where one subtask reads. A file that does not end with a record is an error.
///
/// ```
/// use forebay::record::Record;
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Clone, Copy, Record, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// #[record(plain)]
/// struct Sale {
///     shop: u64,
///     amount: i64,
/// }
///
/// let sales = forebay::source::binary::<Sale>("sales/*.bin");
/// # let _ = sales;
/// ```
pub fn binary<R: PlainRecord>(patterns: impl Into<Patterns>) -> BinarySource<R> {
    BinarySource {
        input: Arc::new(FileInput::new(patterns.into())),
        record: PhantomData,
    }
}

/// See [`binary`].
pub struct BinarySource<R> {
    input: Arc<FileInput>,
    record: PhantomData<fn() -> R>,
}

impl<R> Clone for BinarySource<R> {
    fn clone(&self) -> Self {
        BinarySource {
            input: self.input.clone(),
            record: PhantomData,
        }
    }
}

impl<R: PlainRecord> BinarySource<R> {
    fn with(mut self, change: impl FnOnce(&mut FileInput)) -> Self {
        change(Arc::make_mut(&mut self.input));
        self
    }

    /// Passes over files and directories that cannot be read, or vanish, with a warning in the log; by default the job
    /// fails. A pattern that matches nothing is an error all the same, and so is a file of another size.
    pub fn skip_unreadable(self) -> Self {
        self.with(|input| input.skips_unreadable = true)
    }

    /// Bytes that one subtask reads at a time, at least a record; by default 4 to 64 MiB, by the size of the input.
    pub fn split_size(self, bytes: u64) -> Self {
        self.with(|input| input.split_size = Some(bytes))
    }

    /// Whether files are read ahead, past the page cache: what is there already is read from the disk again, and what is read pushes nothing
    /// out of it. By default that is done where they have more than a quarter of the memory, so that they would not stay there, and are
    /// not there for the most part.
    pub fn past_page_cache(self, is_past: bool) -> Self {
        self.with(|input| input.is_past_cache = Some(is_past))
    }

    /// The records in all files.
    ///
    /// # Errors
    /// Where files cannot be listed, or one does not hold whole records.
    pub fn records(&self) -> Result<u64> {
        let files = self.input.list()?;
        let counts = files
            .iter()
            .map(|file| check_size::<R>(&file.path, file.size).map(|()| file.size / size_of::<R>() as u64));
        counts.sum()
    }
}

/// Refuses a file of `size` bytes that does not hold whole records.
fn check_size<R: PlainRecord>(path: &Path, size: u64) -> Result<()> {
    let width = size_of::<R>() as u64;
    if size.is_multiple_of(width) {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "\"{}\": {size} B is no whole number of records of {}, which have {width} B: {} B are left over; the file was cut, or \
         holds something else",
        path.display(),
        R::schema().name,
        size % width
    )))
}

impl<R: PlainRecord> Source for BinarySource<R> {
    type Out = R;
    type Split = FileSplit;
    type Reader = BinaryReader<R>;

    fn splits(&self, parallelism: usize) -> Result<Vec<FileSplit>> {
        let files = self.input.list()?;
        files
            .iter()
            .try_for_each(|file| check_size::<R>(&file.path, file.size))?;
        let mut splits = self.input.divide(files, parallelism, Some(size_of::<R>() as u64));
        self.input.choose_ahead(&mut splits, parallelism);
        Ok(splits)
    }

    fn reader(&self, split: FileSplit) -> Result<BinaryReader<R>> {
        Ok(BinaryReader {
            input: self.input.clone(),
            split,
            part: None,
            record: PhantomData,
        })
    }

    /// Those of the files; what has no size, as a pipe, or empty files alone, may have any number.
    fn rows_bytes(&self) -> RowsBytes {
        self.input.rows_bytes(RowsBytes::exactly)
    }

    fn divides_among(&self, subtasks: usize) -> bool {
        self.input.divides_among(subtasks, Some(size_of::<R>() as u64))
    }
}

/// Reads the records of a [`FileSplit`].
pub struct BinaryReader<R> {
    input: Arc<FileInput>,
    split: FileSplit,
    part: Option<Part>,
    record: PhantomData<fn() -> R>,
}

/// A part of a file that is being read.
struct Part {
    bytes: Bytes,
    /// Bytes of the file that are to come: without an end where its size is not known.
    next: u64,
    end: u64,
}

/// Where they come from.
enum Bytes {
    /// Read where they are wanted.
    File(File),
    /// Read ahead.
    Ahead(AheadFile),
}

impl<R: PlainRecord> BinaryReader<R> {
    /// Goes to the next part: false after the last.
    fn open_next(&mut self) -> Result<bool> {
        while let Some(range) = self.split.next_part() {
            let file = self.split.current();
            let path = &file.path;
            let is_long = file.size > 0 && range.end - range.start >= SMALLEST_PIECE as u64;
            let ahead = self.split.ahead().filter(|_| is_long);
            // Without a thread for it, it is read where it is wanted; what is wrong with the file is found there, too.
            let ahead = ahead.and_then(|piece| AheadFile::open(path, range.clone(), piece).ok());
            let bytes = match ahead {
                Some(file) => Ok(Bytes::Ahead(file)),
                None => File::open(path).map(Bytes::File),
            };
            match bytes {
                Ok(bytes) => {
                    self.part = Some(Part {
                        bytes,
                        next: range.start,
                        end: range.end,
                    });
                    return Ok(true);
                }
                Err(error) => self.input.unreadable(cannot_read(path, error))?,
            }
        }
        Ok(false)
    }
}

impl Part {
    /// Reads as many whole records as `rows` takes and the part has.
    fn read<R: PlainRecord>(&mut self, path: &Path, size: u64, rows: &mut [R]) -> Result<usize> {
        let width = size_of::<R>() as u64;
        let bytes = rows.as_mut_bytes();
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = &mut bytes[filled..];
            let read = match &mut self.bytes {
                Bytes::File(file) if size == 0 => file.read(rest),
                Bytes::File(file) => file.read_at(rest, self.next),
                Bytes::Ahead(file) => file.read(rest),
            };
            match read {
                Ok(0) if size == 0 => {
                    check_size::<R>(path, self.next)?;
                    self.end = self.next;
                    break;
                }
                Ok(0) => return Err(ends_early(path, self.next, size)),
                Ok(count) => {
                    filled += count;
                    self.next += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(cannot_read(path, error)),
            }
        }
        Ok(filled / width as usize)
    }
}

impl<R: PlainRecord> SourceReader for BinaryReader<R> {
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        if self.part.is_none() && !self.open_next()? {
            return Ok(SourceStatus::Done);
        }
        let file = self.split.current();
        let part = self.part.as_mut().expect("it was opened above");
        let left = usize::try_from((part.end - part.next) / size_of::<R>() as u64).unwrap_or(usize::MAX);
        let mut result = Ok(());
        out.fill(left, |rows| match part.read(&file.path, file.size, rows) {
            Ok(count) => count,
            Err(error) => {
                result = Err(error);
                0
            }
        });
        let is_over = part.next == part.end;
        if result.is_err() || is_over {
            self.part = None;
        }
        match result {
            Ok(()) => Ok(SourceStatus::More),
            Err(error) if error.kind() == forebay_memory::ErrorKind::Io => {
                self.input.unreadable(error).map(|()| SourceStatus::More)
            }
            Err(error) => Err(error),
        }
    }
}
