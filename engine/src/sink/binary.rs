//! [`BinarySink`]: plain records as their bytes, in files of a directory or in one file.
//!
//! # Interface
//! [`FileSink::binary`] writes part files, [`BinarySink::file`] one file; options are methods.
//!
//! # Algorithm
//! A batch's rows are a file's bytes: they are copied into the piece that goes to disk, and nothing is done for a record. One file at
//! parallelism above 1 is for sorted streams: each subtask is told the rank of its first record, and writes from there on.
//!
//! # Memory
//! Three pieces of up to 1 MiB for each subtask, on the user's heap, and 16 MiB for all of them at most (`direct_file`).
//!
//! # Not here
//! How pieces reach the disk (`direct_file`); how files get their names (`file_output`, `single_file`).

use super::direct_file::DirectFile;
use super::file::{FileSink, TextLines};
use super::file_output::{PartFile, output_option_methods};
use super::target::{Place, Target};
use super::{Sink, SinkWriter};
use crate::batch::Batch;
use crate::operator::FirstRanks;
use crate::record::PlainRecord;
use crate::source::Subtask;
use forebay_memory::{Error, Result};
use std::io;
use std::marker::PhantomData;
use std::path::PathBuf;
use zerocopy::IntoBytes;

/// A sink of plain records, which writes them as they lie in memory, one after the other, so that
/// [`source::binary`](crate::source::binary()) reads them back. What is written goes past the page cache where the file system allows it:
/// it is not in memory when it is read again. A thread of each writer's own does so, and its task waits for it only where the disk does not
/// keep up, or where no thread is to be had; with `sync()` the task is on a helper thread (`exec.helper_threads`).
pub struct BinarySink<R> {
    place: Place,
    ranks: Option<FirstRanks>,
    record: PhantomData<fn() -> R>,
}

impl FileSink<TextLines> {
    /// A sink that writes plain records as their bytes, a file for each subtask that has some, into a directory; about the directory
    /// and its files see [`FileSink`].
    ///
    /// ```
    /// use forebay::record::Record;
    /// use forebay::sink::FileSink;
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
    /// let sink = FileSink::binary::<Sale>("sales").suffix(".bin");
    /// # let _ = sink;
    /// ```
    pub fn binary<R: PlainRecord>(directory: impl Into<PathBuf>) -> BinarySink<R> {
        BinarySink::at(Place::directory(directory.into(), ""))
    }
}

impl<R: PlainRecord> BinarySink<R> {
    fn at(place: Place) -> Self {
        BinarySink {
            place,
            ranks: None,
            record: PhantomData,
        }
    }

    /// A sink that writes one file: of a sorted stream, in its order, with as many subtasks as the sort has, or of any stream where
    /// the sink has one subtask ([`parallelism(1)`](crate::StreamEnd::parallelism)). The file has its name when everything is written;
    /// one that is there already is refused before anything runs, unless [`overwrite`](BinarySink::overwrite) says otherwise.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        BinarySink::at(Place::file(path.into()))
    }

    output_option_methods!(place.options);
}

impl<R: PlainRecord> Sink for BinarySink<R> {
    type In = R;
    type Writer = BinarySinkWriter<R>;

    fn is_blocking(&self) -> bool {
        self.place.options.syncs
    }

    fn take_ranks(&mut self, ranks: &FirstRanks) {
        self.ranks = Some(ranks.clone());
    }

    fn needs_ranks(&self) -> bool {
        self.ranks.is_some() && self.place.is_file()
    }

    fn writer(&self, subtask: Subtask) -> Result<BinarySinkWriter<R>> {
        let target = self.place.open(
            subtask,
            self.ranks.is_some(),
            "records of a stream that is not sorted have no place in it; put sort_by directly before the sink, give the sink \
             parallelism(1), or write part files into a directory",
        )?;
        Ok(BinarySinkWriter {
            target,
            ranks: self.ranks.clone(),
            subtask,
            current: None,
            part: None,
            written: 0,
            record: PhantomData,
        })
    }
}

/// Writes what one subtask of a [`BinarySink`] is given.
pub struct BinarySinkWriter<R> {
    /// Open when the first record has come.
    current: Option<DirectFile>,
    part: Option<PartFile>,
    ranks: Option<FirstRanks>,
    subtask: Subtask,
    /// Bytes so far.
    written: u64,
    /// Dropped after the file is.
    target: Target,
    record: PhantomData<fn(R)>,
}

impl<R: PlainRecord> BinarySinkWriter<R> {
    /// Takes records, as [`SinkWriter::write`] takes one: for programs that write files without a job.
    ///
    /// # Errors
    /// `Io` where they cannot be written.
    pub fn write_rows(&mut self, rows: &[R]) -> Result<()> {
        self.append(rows.as_bytes())
    }

    /// Begins to write, where the first record belongs.
    fn begin(&mut self) -> Result<&mut DirectFile> {
        let Subtask { index, parallelism } = self.subtask;
        let first = match (&self.target, &self.ranks) {
            (Target::Directory(_), _) | (_, None) => 0,
            (_, Some(ranks)) if ranks.subtasks() == Some(parallelism) => {
                ranks.range(index).map_or(0, |range| range.start)
            }
            (Target::File(file), Some(ranks)) => {
                return Err(Error::config(format!(
                    "file sink: \"{}\" is written by {parallelism} subtasks, but the stream was sorted by {}: between them \
                     its order is lost; give both the same parallelism",
                    file.name().display(),
                    ranks.subtasks().unwrap_or(0),
                )));
            }
        };
        let (hidden, part) = self.target.begin(self.subtask)?;
        self.part = part;
        let file = DirectFile::open(&hidden, first * size_of::<R>() as u64, parallelism)
            .map_err(|error| self.target.fault("create", self.part.as_ref(), error))?;
        Ok(self.current.insert(file))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let file = match &mut self.current {
            Some(file) => file,
            None => self.begin()?,
        };
        let result = file.write(bytes);
        self.written += bytes.len() as u64;
        result.map_err(|error| self.fault(error))
    }

    fn fault(&self, error: io::Error) -> Error {
        self.target.fault("write", self.part.as_ref(), error)
    }

    /// Checks that a subtask of a sorted stream has sent what it said.
    fn check_ranks(&self) {
        let range = self
            .ranks
            .as_ref()
            .filter(|ranks| ranks.subtasks() == Some(self.subtask.parallelism))
            .and_then(|ranks| ranks.range(self.subtask.index));
        if let Some(range) = range {
            assert_eq!(
                self.written,
                (range.end - range.start) * size_of::<R>() as u64,
                "subtask {} of a sort sends the records that it said it would",
                self.subtask.index
            );
        }
    }
}

impl<R: PlainRecord> SinkWriter for BinarySinkWriter<R> {
    type In = R;

    const TAKES_BATCHES: bool = true;

    fn write(&mut self, row: &R) -> Result<()> {
        self.append(row.as_bytes())
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        self.append(batch.bytes())
    }

    fn finish(&mut self) -> Result<()> {
        self.check_ranks();
        if let Some(mut file) = self.current.take() {
            let finished = file.finish().and_then(|()| match self.target.syncs() {
                true => file.sync(),
                false => Ok(()),
            });
            finished.map_err(|error| self.fault(error))?;
        }
        self.target.finished(self.part.take(), self.subtask.parallelism)
    }
}
