//! What moves bytes between buffers and files: the one trait that io_uring, threads and the simulated disk
//! implement.
//!
//! A transfer owns its buffer, so nobody can touch memory that is being read into, and a device that is dropped
//! waits for what is in flight: there is no way to free a buffer under a running transfer.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::file::SpillFile;
use super::scattered::Scattered;
use super::workspace::Buffer;

/// One read or write.
pub(crate) struct Transfer {
    /// Chosen by the caller, comes back with the completion.
    pub ticket: u64,
    pub file: Arc<SpillFile>,
    /// Where in the file: a multiple of the page size.
    pub offset: u64,
    pub payload: Payload,
}

/// The memory of a transfer, and which of its bytes take part.
pub(crate) enum Payload {
    /// From memory to disk; others may read the buffer meanwhile.
    Write(Arc<Buffer>, Range<usize>),
    /// From disk to memory.
    Read(Memory, Range<usize>),
}

/// What is read into.
pub(crate) enum Memory {
    /// A piece of the workspace.
    Buffer(Buffer),
    /// Segments of whoever reads.
    Segments(Scattered),
}

impl Memory {
    /// The bytes of a range, piece by piece.
    pub fn pieces_mut(&mut self, range: Range<usize>) -> impl Iterator<Item = &mut [u8]> {
        let (buffer, segments) = match self {
            Memory::Buffer(buffer) => (Some(&mut buffer[range]), None),
            Memory::Segments(segments) => (None, Some(segments.pieces_mut(range))),
        };
        buffer.into_iter().chain(segments.into_iter().flatten())
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        match self {
            Memory::Buffer(buffer) => buffer.len(),
            Memory::Segments(segments) => segments.len(),
        }
    }
}

/// Reads to pieces of memory one after the other, each with `read`, until one is not filled; how many bytes.
///
/// # Errors
/// That of the first piece: what came before a later one is what was read.
pub(crate) fn read_pieces<'a>(
    pieces: impl Iterator<Item = &'a mut [u8]>,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = 0;
    for piece in pieces {
        match read(piece, moved as u64) {
            Ok(count) => {
                moved += count;
                if count < piece.len() {
                    break;
                }
            }
            Err(error) if moved == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(moved)
}

/// A transfer that is over: how many bytes were moved, perhaps fewer than asked.
pub(crate) struct Completion {
    pub ticket: u64,
    pub payload: Payload,
    pub result: io::Result<usize>,
}

/// Moves bytes; every submitted transfer completes exactly once.
pub(crate) trait Device: Send {
    /// Which way bytes travel, as stats show it.
    fn name(&self) -> &'static str;

    /// Whether time means anything here.
    fn has_clock(&self) -> bool {
        true
    }

    /// Takes a transfer; it may start only at the next [`Device::kick`] or [`Device::complete`].
    fn submit(&mut self, transfer: Transfer);

    /// Starts everything that was submitted.
    fn kick(&mut self);

    /// Appends the transfers that are over; with `wait` and any in flight, at least one.
    fn complete(&mut self, wait: bool, done: &mut Vec<Completion>);

    /// How many transfers have been submitted and not yet returned by [`Device::complete`].
    fn in_flight(&self) -> usize;
}
