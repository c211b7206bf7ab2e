//! [`PartReader`]: the parts of a split one after the other, each from the start of its first line to its limit.
//!
//! # Interface
//! [`PartReader::is_open`] goes to the next part where there is no open one; [`PartReader::find_start`] says whether a record
//! may start where the buffer is; [`PartReader::read_on`] reads more, and closes a part that has no more.

use super::compression::Compression;
use super::files::{FileInput, FileSplit};
use super::read_buffer::{ReadBuffer, place};
use forebay_memory::{ErrorKind, Result};
use memchr::memchr;
use std::path::Path;
use std::sync::Arc;

pub(super) struct PartReader {
    pub(super) input: Arc<FileInput>,
    split: FileSplit,
    pub(super) buffer: ReadBuffer,
    /// Records that start here or behind it are not of this part.
    pub(super) limit: u64,
    /// Whether the end of a line of the part before has still to be found.
    pub(super) is_inside_line: bool,
    /// Whether nothing of the part has been looked at.
    pub(super) is_new: bool,
}

impl PartReader {
    pub(super) fn new(input: Arc<FileInput>, split: FileSplit) -> PartReader {
        PartReader {
            buffer: ReadBuffer::new(split.size()),
            input,
            split,
            limit: 0,
            is_inside_line: false,
            is_new: false,
        }
    }

    /// The file being read.
    pub(super) fn path(&self) -> &Path {
        &self.split.current().path
    }

    /// Where the buffer is, for errors.
    pub(super) fn place(&self) -> String {
        place(self.path(), self.buffer.offset())
    }

    /// Whether a part is open, after opening the next where none was: false after the last.
    pub(super) fn is_open(&mut self) -> Result<bool> {
        if self.buffer.is_open() {
            return Ok(true);
        }
        while let Some(range) = self.split.next_part() {
            let file = self.split.current();
            self.limit = range.end;
            self.is_inside_line = range.start > 0;
            self.is_new = true;
            // One byte before the part: where that ends a line, the part starts with one.
            let start = range.start.saturating_sub(1);
            let size = match file.compression {
                Compression::None => file.size,
                _ => 0,
            };
            match self.buffer.open(&file.path, file.compression, size, start) {
                Ok(()) => return Ok(true),
                Err(error) => self.input.unreadable(error)?,
            }
        }
        Ok(false)
    }

    /// Whether a record of this part may start at the buffer's offset. Where it may not, the part has been closed or more of
    /// it read.
    pub(super) fn find_start(&mut self) -> Result<bool> {
        if self.buffer.offset() >= self.limit {
            self.buffer.close();
            return Ok(false);
        }
        if !self.is_inside_line {
            return Ok(true);
        }
        let unread = self.buffer.unread();
        match memchr(b'\n', unread) {
            Some(end) => {
                self.is_inside_line = false;
                self.buffer.consume(end + 1);
            }
            None => {
                self.buffer.consume(unread.len());
                self.read_on()?;
            }
        }
        Ok(false)
    }

    /// Reads more. Where there is none, and where it cannot be read and that is passed over, the part is closed.
    pub(super) fn read_on(&mut self) -> Result<()> {
        if self.buffer.is_at_end() {
            self.buffer.close();
            return Ok(());
        }
        match self.buffer.fill(&self.split.current().path) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.buffer.close();
                match error.kind() {
                    ErrorKind::Io => self.input.unreadable(error),
                    _ => Err(error),
                }
            }
        }
    }
}
