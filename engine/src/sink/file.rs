//! [`FileSink`]: records as lines of text or CSV, in files of a directory.
//!
//! # Interface
//! [`FileSink::text`] for strings, [`FileSink::text_with`] for a function that formats, [`FileSink::csv`] for columns; options
//! are methods.
//!
//! # Algorithm
//! Each subtask appends to its own file, `part-<subtask>-<number>`, under a hidden name, and begins another where the file has
//! reached the rolling size. When every subtask is through, all files get their final names.
//!
//! # Memory
//! A buffer of one segment's size for a subtask, on the user's heap; one record more while it is formatted.

use super::file_output::{Output, OutputOptions, PartFile, output_option_methods};
use super::{Sink, SinkWriter};
use crate::record::Record;
use crate::sink::csv::CsvRows;
use crate::source::Subtask;
use forebay_memory::{Plan, Result};
use std::fs::File;
use std::io::Write;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// How a [`FileSink`] writes records.
pub trait FileFormat: Clone + Send + 'static {
    /// The type of the records.
    type In: Record;

    /// Checks the format and makes it ready: called once in each subtask, before anything is written.
    ///
    /// # Errors
    /// `Config` where it contradicts itself.
    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    /// Appends what every file begins with.
    fn header(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Appends a record, with its line end.
    fn record(&mut self, row: <Self::In as Record>::View<'_>, out: &mut Vec<u8>);
}

/// Strings, a line each.
#[derive(Debug, Clone, Copy)]
pub struct TextLines;

impl FileFormat for TextLines {
    type In = String;

    fn record(&mut self, row: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(row.as_bytes());
        out.push(b'\n');
    }
}

/// Records as a function writes them, a line each.
pub struct TextWith<R, F> {
    function: F,
    line: String,
    record: PhantomData<fn(R)>,
}

impl<R, F: Clone> Clone for TextWith<R, F> {
    fn clone(&self) -> Self {
        TextWith {
            function: self.function.clone(),
            line: String::new(),
            record: PhantomData,
        }
    }
}

impl<R, F> FileFormat for TextWith<R, F>
where
    R: Record,
    F: for<'a> FnMut(R::View<'a>, &mut String) + Clone + Send + 'static,
{
    type In = R;

    fn record(&mut self, row: R::View<'_>, out: &mut Vec<u8>) {
        self.line.clear();
        (self.function)(row, &mut self.line);
        out.extend_from_slice(self.line.as_bytes());
        out.push(b'\n');
    }
}

/// A sink that writes files into a directory.
///
/// The directory is made where there is none; where it has files, the job fails before it starts, unless
/// [`overwrite`](FileSink::overwrite) or [`append`](FileSink::append) says otherwise. Files appear under their names when
/// every subtask has written everything, all of them or none; a job that fails or is cancelled before leaves nothing. What a killed
/// process leaves under hidden names is removed by the next sink in the directory (completed, where it was killed while files got their
/// names); a sink that is at work is known by a lock on a hidden file.
pub struct FileSink<F> {
    pub(super) format: F,
    options: OutputOptions,
    roll_size: u64,
    buffer_size: usize,
    output: OnceLock<Arc<Output>>,
}

impl<F> FileSink<F> {
    pub(super) fn new(directory: PathBuf, suffix: &str, format: F) -> Self {
        FileSink {
            format,
            options: OutputOptions::of(directory, suffix),
            roll_size: u64::MAX,
            buffer_size: 32 << 10,
            output: OnceLock::new(),
        }
    }

    /// Begins another file where one has at least so many bytes.
    pub fn roll_at(mut self, bytes: u64) -> Self {
        self.roll_size = bytes.max(1);
        self
    }

    output_option_methods!(options);
}

impl FileSink<TextLines> {
    /// A sink that writes strings, a line each.
    pub fn text(directory: impl Into<PathBuf>) -> Self {
        FileSink::new(directory.into(), "", TextLines)
    }

    /// A sink that writes records as `function` formats them into the string that it is given, a line each.
    ///
    /// ```
    /// use forebay::sink::FileSink;
    ///
    /// type Count = (String, u64);
    /// let sink = FileSink::text_with::<Count, _>("out", |(word, count), line| {
    ///     line.push_str(&format!("{count} {word}"));
    /// });
    /// # let _ = sink;
    /// ```
    pub fn text_with<R, F>(directory: impl Into<PathBuf>, function: F) -> FileSink<TextWith<R, F>>
    where
        R: Record,
        F: for<'a> FnMut(R::View<'a>, &mut String) + Clone + Send + 'static,
    {
        let format = TextWith {
            function,
            line: String::new(),
            record: PhantomData,
        };
        FileSink::new(directory.into(), "", format)
    }

    /// A sink that writes CSV with a header, the record's fields as columns.
    pub fn csv<R: Record>(directory: impl Into<PathBuf>) -> FileSink<CsvRows<R>> {
        FileSink::new(directory.into(), ".csv", CsvRows::new())
    }
}

impl<F: FileFormat> Sink for FileSink<F> {
    type In = F::In;
    type Writer = FileSinkWriter<F>;

    fn prepare(&mut self, plan: &Plan) {
        self.buffer_size = plan.segment_size();
    }

    fn is_blocking(&self) -> bool {
        self.options.syncs
    }

    fn writer(&self, subtask: Subtask) -> Result<FileSinkWriter<F>> {
        let mut format = self.format.clone();
        format.start()?;
        let output = self
            .output
            .get_or_init(|| Arc::new(Output::new(self.options.clone())))
            .clone();
        output.open()?;
        Ok(FileSinkWriter {
            format,
            subtask,
            roll_size: self.roll_size,
            current: None,
            written: Vec::new(),
            number: 0,
            buffer: Vec::with_capacity(self.buffer_size),
            buffer_size: self.buffer_size,
            output,
        })
    }
}

/// Writes the files of one subtask of a [`FileSink`].
pub struct FileSinkWriter<F> {
    format: F,
    subtask: Subtask,
    roll_size: u64,
    current: Option<Current>,
    /// Files that are complete.
    written: Vec<PartFile>,
    number: u64,
    buffer: Vec<u8>,
    buffer_size: usize,
    /// Dropped after the files in it are.
    output: Arc<Output>,
}

struct Current {
    file: File,
    part: PartFile,
    /// Bytes written, without those in the buffer.
    size: u64,
}

impl<F: FileFormat> FileSinkWriter<F> {
    fn begin(&mut self) -> Result<()> {
        let (file, part) = self.output.create(self.subtask.index, self.number)?;
        self.number += 1;
        self.current = Some(Current { file, part, size: 0 });
        self.format.header(&mut self.buffer);
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<()> {
        let current = self.current.as_mut().expect("what is in the buffer is of a file");
        if let Err(error) = current.file.write_all(&self.buffer) {
            let path = self.output.path(&current.part);
            return Err(self.output.fault("write", &path, error));
        }
        current.size += self.buffer.len() as u64;
        self.buffer.clear();
        // A large record has made it larger than the plan gives it.
        self.buffer.shrink_to(self.buffer_size);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if self.current.is_some() {
            self.write_buffer()?;
        }
        if let Some(Current { file, part, .. }) = self.current.take() {
            self.output.sync(&file, &part)?;
            self.written.push(part);
        }
        Ok(())
    }
}

impl<F: FileFormat> SinkWriter for FileSinkWriter<F> {
    type In = F::In;

    fn write(&mut self, row: <F::In as Record>::View<'_>) -> Result<()> {
        if self.current.is_none() {
            self.begin()?;
        }
        self.format.record(row, &mut self.buffer);
        let size = self.current.as_ref().map_or(0, |current| current.size) + self.buffer.len() as u64;
        if size >= self.roll_size {
            self.end()?;
        } else if self.buffer.len() >= self.buffer_size {
            self.write_buffer()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.end()?;
        self.output.finished(&mut self.written, self.subtask.parallelism)
    }
}
