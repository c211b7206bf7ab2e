//! [`TextReader`]: finds the lines of a split in what is read, checks that they are text, and emits them.
//!
//! # Algorithm
//! 1. Of what is unread, a piece of whole lines that fits in a batch is taken (or one line that is longer).
//! 2. The piece is checked as a whole: UTF-8 has no line end inside a character, so a check of the whole is one of
//!    every line. Where it fails, each line is checked by itself and the policy decides.
//! 3. Its lines are emitted, or the piece as it is. A full batch ends the poll in the middle of a piece; the rest is checked
//!    again in the next.
//!
//! # Cost
//! A line: one search for its end and one copy to its row. Nothing is allocated but the buffer.

use super::files::{FileInput, FileSplit, NotUtf8};
use super::part_reader::PartReader;
use super::read_buffer::place;
use super::{SourceOutput, SourceReader, SourceStatus};
use crate::batch::BATCH_HEADER;
use crate::record::Record;
use forebay_memory::{Error, Result};
use memchr::{memchr, memchr_iter, memrchr};
use std::borrow::Cow;
use std::path::Path;
use std::str;
use std::sync::Arc;

/// Bytes checked at a time where lines are emitted: about what fills a batch, as some are checked twice.
const LINES_PIECE: usize = 16 << 10;

/// Reads the lines of a [`FileSplit`].
pub struct TextReader {
    part: PartReader,
    emits_blocks: bool,
    /// Bytes of a piece, at most, unless it is one line.
    piece_size: usize,
    /// Bytes of a line with its end, at most.
    most: usize,
}

impl TextReader {
    pub(super) fn new(input: Arc<FileInput>, split: FileSplit, emits_blocks: bool) -> TextReader {
        // What a string's row takes besides its bytes; its size is rounded up to 8.
        let overhead = String::row_size("");
        let block = (input.segment_size - BATCH_HEADER - overhead) & !7;
        let most = (input.max_record & !7).saturating_sub(overhead);
        // Lines lose their ends, blocks do not.
        let most = if emits_blocks { most } else { most + 1 };
        TextReader {
            part: PartReader::new(input, split),
            emits_blocks,
            piece_size: if emits_blocks { block } else { LINES_PIECE }.min(most),
            most,
        }
    }

    /// Emits a piece, or reads more. Closes the file behind the part's last line.
    fn advance(&mut self, out: &mut SourceOutput<'_, '_, String>) -> Result<()> {
        if !self.part.find_start()? {
            return Ok(());
        }
        let Some(piece) = self.next_piece()? else {
            return self.part.read_on();
        };
        let PartReader { buffer, input, .. } = &self.part;
        let piece = &buffer.unread()[..piece];
        let path = self.part.path();
        let policy = input.not_utf8;
        let consumed = match (str::from_utf8(piece), self.emits_blocks) {
            (Ok(text), false) => emit_lines(text, out),
            (Ok(text), true) => {
                out.push(text);
                piece.len()
            }
            (Err(_), false) => emit_damaged_lines(piece, policy, buffer.offset(), path, out)?,
            (Err(_), true) => {
                let block = mended_block(piece, policy, buffer.offset(), path)?;
                if !block.is_empty() {
                    out.push(&block);
                }
                piece.len()
            }
        };
        self.part.buffer.consume(consumed);
        Ok(())
    }

    /// The length of the next piece: whole lines that start before the limit. Nothing where more must be read first.
    fn next_piece(&self) -> Result<Option<usize>> {
        let PartReader { buffer, limit, .. } = &self.part;
        let unread = buffer.unread();
        let window = &unread[..unread.len().min(self.piece_size)];
        let length = match memrchr(b'\n', window) {
            Some(end) => end + 1,
            None => {
                let longer = memchr(b'\n', &unread[window.len()..]).map(|end| window.len() + end + 1);
                match longer {
                    Some(length) => length,
                    None if buffer.is_at_end() && !unread.is_empty() => unread.len(),
                    None if unread.len() > self.most => return Err(self.too_long(unread.len())),
                    None => return Ok(None),
                }
            }
        };
        // The last line may reach over the limit, but what follows it is of the next part.
        let length = match usize::try_from(limit - buffer.offset()) {
            Ok(starts) if starts < length => {
                memchr(b'\n', &unread[starts - 1..length]).map_or(length, |end| starts + end)
            }
            _ => length,
        };
        if length > self.most {
            // A piece of several lines is no longer than the window, and that is no longer than this.
            return Err(self.too_long(length));
        }
        Ok(Some(length))
    }

    fn too_long(&self, length: usize) -> Error {
        Error::memory(format!(
            "{}: a line of {length} bytes or more is over record.max_size ({} B with its row's {} B); raise \
             record.max_size",
            self.part.place(),
            self.part.input.max_record,
            String::row_size(""),
        ))
    }
}

impl SourceReader for TextReader {
    type Out = String;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, String>) -> Result<SourceStatus> {
        while !out.is_full() {
            if !self.part.is_open()? {
                return Ok(SourceStatus::Done);
            }
            self.advance(out)?;
        }
        Ok(SourceStatus::More)
    }
}

/// Emits the lines of `text` until the output is full: how many bytes they were.
#[inline]
fn emit_lines(text: &str, out: &mut SourceOutput<'_, '_, String>) -> usize {
    let bytes = text.as_bytes();
    let mut start = 0;
    for end in memchr_iter(b'\n', bytes) {
        // By bytes: `strip_suffix` of a character costs a call of memcmp, a sixth of all there is to do for a line.
        let has_return = end > start && bytes[end - 1] == b'\r';
        out.push(&text[start..end - usize::from(has_return)]);
        start = end + 1;
        if out.is_full() {
            return start;
        }
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    text.len()
}

/// As [`emit_lines`], for bytes of which some are not text.
#[cold]
fn emit_damaged_lines(
    piece: &[u8],
    policy: NotUtf8,
    offset: u64,
    path: &Path,
    out: &mut SourceOutput<'_, '_, String>,
) -> Result<usize> {
    let mut start = 0;
    while start < piece.len() && !out.is_full() {
        let line = next_line(&piece[start..]);
        if let Some(text) = mended(line, policy, offset + start as u64, path)? {
            out.push(match text.strip_suffix('\n') {
                Some(text) => text.strip_suffix('\r').unwrap_or(text),
                None => &text,
            });
        }
        start += line.len();
    }
    Ok(start)
}

#[cold]
fn mended_block(piece: &[u8], policy: NotUtf8, offset: u64, path: &Path) -> Result<String> {
    let mut block = String::with_capacity(piece.len());
    let mut start = 0;
    while start < piece.len() {
        let line = next_line(&piece[start..]);
        if let Some(text) = mended(line, policy, offset + start as u64, path)? {
            block.push_str(&text);
        }
        start += line.len();
    }
    Ok(block)
}

/// The first line of `bytes` with its end, if it has one.
fn next_line(bytes: &[u8]) -> &[u8] {
    match memchr(b'\n', bytes) {
        Some(end) => &bytes[..=end],
        None => bytes,
    }
}

/// A line as text, as the policy makes it so; nothing where the line is left out.
pub(super) fn mended<'a>(
    line: &'a [u8],
    policy: NotUtf8,
    offset: u64,
    path: &Path,
) -> Result<Option<Cow<'a, str>>> {
    match (str::from_utf8(line), policy) {
        (Ok(text), _) => Ok(Some(text.into())),
        (Err(_), NotUtf8::Replace) => Ok(Some(String::from_utf8_lossy(line))),
        (Err(_), NotUtf8::Skip) => Ok(None),
        (Err(error), NotUtf8::Error) => {
            let at = error.valid_up_to();
            Err(Error::new(
                forebay_memory::ErrorKind::Corrupt,
                format!(
                    "{}: byte {} (0x{:02x}) is not UTF-8 text; read on with NotUtf8::Replace or NotUtf8::Skip",
                    place(path, offset + at as u64),
                    offset + at as u64,
                    line[at],
                ),
            ))
        }
    }
}
