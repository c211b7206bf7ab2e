//! [`TextSource`]: the lines of text files, or blocks of whole lines.
//!
//! # Interface
//! [`text`] emits every line as a `String`, [`text_blocks`] pieces of as many lines as fit in a batch; options are methods.
//!
//! # Algorithm
//! A line belongs to the split in which its first byte is. A split that does not start a file is read from one byte
//! before its start, up to and with the first line end: what comes before that is of the split before.
//!
//! # Memory
//! A read buffer a subtask (256 KiB, more while a line is longer); what decompression takes (`compression`); a name and a size for every file.
//!
//! # Not here
//! Patterns and splits are in `files`; the reading is in `text_reader`.

use super::compression::Compression;
use super::files::{FileInput, FileSplit, NotUtf8, Patterns};
use super::text_reader::TextReader;
use super::{RowsBytes, Source};
use forebay_memory::{Plan, Result};
use std::sync::Arc;

/// A source of the lines of text files, without their ends (`\n` or `\r\n`); the last line of a file may lack one. Files whose names
/// end in `.gz` or `.zst` are decompressed ([`TextSource::compression`]). In the order of the files' names, where one subtask reads.
///
/// ```
/// use forebay::source::{NotUtf8, text};
///
/// let lines = text("logs/**/*.log");
/// let some = text(["a.txt", "b-[0-9].{txt,md}"])
///     .not_utf8(NotUtf8::Replace)
///     .skip_unreadable();
/// # let _ = (lines, some);
/// ```
pub fn text(patterns: impl Into<Patterns>) -> TextSource {
    TextSource {
        input: Arc::new(FileInput::new(patterns.into()).compressed(Compression::ByName)),
        emits_blocks: false,
    }
}

/// A source of pieces of text files: as many whole lines, with their ends, as fit in a batch; a longer line is a piece of
/// its own. For functions that look at words or characters, what a record costs is then shared by hundreds of lines.
pub fn text_blocks(patterns: impl Into<Patterns>) -> TextSource {
    TextSource {
        emits_blocks: true,
        ..text(patterns)
    }
}

/// See [`text`] and [`text_blocks`].
#[derive(Debug, Clone)]
pub struct TextSource {
    input: Arc<FileInput>,
    emits_blocks: bool,
}

impl TextSource {
    fn with(mut self, change: impl FnOnce(&mut FileInput)) -> Self {
        change(Arc::make_mut(&mut self.input));
        self
    }

    /// What to do with bytes that are not UTF-8 text; by default the job fails.
    pub fn not_utf8(self, policy: NotUtf8) -> Self {
        self.with(|input| input.not_utf8 = policy)
    }

    /// Passes over files and directories that cannot be read, or vanish, with a warning in the log; by default the job
    /// fails. A pattern that matches nothing is an error all the same.
    pub fn skip_unreadable(self) -> Self {
        self.with(|input| input.skips_unreadable = true)
    }

    /// How the files are compressed; by default as the ending of each one's name says. Compressed files are not divided.
    pub fn compression(self, compression: Compression) -> Self {
        self.with(|input| input.compression = compression)
    }

    /// Bytes that one subtask reads at a time, at least 1; by default 4 to 64 MiB, by the size of the input.
    pub fn split_size(self, bytes: u64) -> Self {
        self.with(|input| input.split_size = Some(bytes))
    }
}

impl Source for TextSource {
    type Out = String;
    type Split = FileSplit;
    type Reader = TextReader;

    fn prepare(&mut self, plan: &Plan) {
        let input = Arc::make_mut(&mut self.input);
        input.max_record = plan.record.max_size;
        input.segment_size = plan.segment_size();
    }

    fn splits(&self, parallelism: usize) -> Result<Vec<FileSplit>> {
        self.input.splits(parallelism, Some(1))
    }

    fn reader(&self, split: FileSplit) -> Result<TextReader> {
        Ok(TextReader::new(self.input.clone(), split, self.emits_blocks))
    }

    /// About those of the files. (A line is a row of eight bytes and its text.) Of compressed files a quarter of them is the least.
    fn rows_bytes(&self) -> RowsBytes {
        self.input.rows_bytes(RowsBytes::about)
    }

    fn divides_among(&self, subtasks: usize) -> bool {
        self.input.divides_among(subtasks, Some(1))
    }
}
