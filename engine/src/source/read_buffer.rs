//! The buffer between a file and the reader that finds records in it.
//!
//! # Interface
//! [`ReadBuffer::open`] a file at an offset; [`ReadBuffer::unread`] is what has been read and not consumed;
//! [`ReadBuffer::consume`] takes from its front; [`ReadBuffer::fill`] reads more behind it.
//!
//! # Memory
//! 256 KiB, or less for a small split; more while a record is larger, which its reader bounds. The buffer lasts
//! as long as its split, through all its files.
//!
//! # Cost
//! One `read` a buffer, into warm memory: what is left of the buffer before is moved to its front, usually part of a line.

use super::compression::{Compression, FileBytes};
use super::files::{cannot_read, ends_early};
use forebay_memory::Result;
use std::path::Path;

/// Large enough that a system call costs little, small enough that it stays in L2.
const SIZE: usize = 256 << 10;
const LEAST_SIZE: usize = 4 << 10;

/// Bytes of a file, in order.
pub(super) struct ReadBuffer {
    file: Option<FileBytes>,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The offset in the file of the first unread byte.
    offset: u64,
    /// The file's size when it was listed: it is damaged if it ends before.
    size: u64,
    is_at_end: bool,
}

impl ReadBuffer {
    /// A buffer without a file, for parts of about `expected` bytes.
    pub(super) fn new(expected: u64) -> ReadBuffer {
        let size = usize::try_from(expected)
            .unwrap_or(SIZE)
            .next_power_of_two()
            .clamp(LEAST_SIZE, SIZE);
        ReadBuffer {
            file: None,
            bytes: vec![0; size],
            start: 0,
            end: 0,
            offset: 0,
            size: 0,
            is_at_end: true,
        }
    }

    /// Starts reading a file of `size` bytes at `offset`; a compressed one has no size, and is read from its start.
    pub(super) fn open(
        &mut self,
        path: &Path,
        compression: Compression,
        size: u64,
        offset: u64,
    ) -> Result<()> {
        self.close();
        let file = FileBytes::open(path, compression, offset);
        self.file = Some(file.map_err(|error| cannot_read(path, error))?);
        (self.offset, self.size, self.is_at_end) = (offset, size, false);
        Ok(())
    }

    /// Closes the file and forgets what is unread.
    pub(super) fn close(&mut self) {
        self.file = None;
        (self.start, self.end, self.is_at_end) = (0, 0, true);
    }

    /// Whether a file is open.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// What was read and not consumed.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Where the first unread byte is in the file.
    #[inline]
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether nothing follows what is unread.
    #[inline]
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Takes `count` bytes from the front.
    #[inline]
    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "only what was read is consumed");
        self.start += count;
        self.offset += count as u64;
    }

    /// Reads more behind what is unread, and grows where there is no room; `path` is for errors.
    pub(super) fn fill(&mut self, path: &Path) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            self.bytes.resize(2 * self.bytes.len(), 0);
        }
        let reached = self.offset + self.end as u64;
        let count = file.read(&mut self.bytes[self.end..], path, reached)?;
        self.end += count;
        if count == 0 {
            self.is_at_end = true;
            if reached < self.size {
                return Err(ends_early(path, reached, self.size));
            }
        }
        Ok(())
    }
}

/// Where `offset` of the text is, for people: `path:line`, or the byte where counting lines would take long or is not possible.
pub(super) fn place(path: &Path, offset: u64) -> String {
    match line_number(path, offset) {
        Some(line) => format!("{}:{line}", path.display()),
        None => format!("{}, byte {offset}", path.display()),
    }
}

/// The largest offset for which lines are counted: a second of reading.
const MOST_COUNTED: u64 = 2 << 30;

fn line_number(path: &Path, offset: u64) -> Option<u64> {
    if offset > MOST_COUNTED || !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut file = FileBytes::sniff(path).ok()?;
    let mut buffer = vec![0; LEAST_SIZE.max(SIZE / 4)];
    let (mut lines, mut read) = (1, 0);
    loop {
        let left = usize::try_from(offset - read)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if left == 0 {
            return Some(lines);
        }
        match file.read(&mut buffer[..left], path, read).ok()? {
            0 => return None,
            count => {
                lines += memchr::memchr_iter(b'\n', &buffer[..count]).count() as u64;
                read += count as u64;
            }
        }
    }
}
