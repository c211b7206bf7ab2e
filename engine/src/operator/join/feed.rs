//! Entries that are read back piece by piece: segments that were kept, entries that no segment holds, and blocks of the spill store.
//!
//! # Interface
//! [`Feed::of_blocks`] or the fields; [`Feed::next`] until there is nothing more, [`Feed::end`] where there is to be no more.
//!
//! # Memory
//! A segment to read blocks to, or heap for blocks that are larger, and where there is no segment.

use super::partitions::Large;
use super::probing::{Input, ReadBuffer};
use forebay_memory::join::Filled;
use forebay_memory::spill::{BlockReader, BlockRef};
use forebay_memory::{Budget, Result, SegmentSource, SpillHandle};

/// Entries that are read one piece after the other.
#[derive(Default)]
pub(super) struct Feed {
    pub(super) kept: Vec<Filled>,
    pub(super) large: Vec<Large>,
    /// With the blocks, to be given back at the end.
    pub(super) reader: Option<(BlockReader, Vec<BlockRef>)>,
    /// The largest block.
    pub(super) largest: usize,
    pub(super) buffer: Option<ReadBuffer>,
}

impl Feed {
    /// Entries in blocks, given back at the end where `frees`.
    pub(super) fn of_blocks(blocks: Vec<BlockRef>, frees: bool, handle: &mut SpillHandle) -> Feed {
        let largest = blocks.iter().map(BlockRef::raw_bytes).max().unwrap_or(0);
        let to_free = if frees { blocks.clone() } else { Vec::new() };
        Feed {
            largest,
            reader: (!blocks.is_empty()).then(|| (handle.reader(blocks), to_free)),
            ..Feed::default()
        }
    }

    /// The next piece; `last` is the one before it, whose buffer is used again.
    pub(super) fn next(
        &mut self,
        last: Option<Input>,
        budget: &Budget,
        handle: &mut SpillHandle,
    ) -> Result<Option<Input>> {
        if let Some(Input::Block(buffer, _)) = last {
            self.buffer = Some(buffer);
        }
        if let Some(filled) = self.kept.pop() {
            return Ok(Some(Input::Kept(filled)));
        }
        if let Some(large) = self.large.pop() {
            let mut entry = Vec::new();
            large.copy_to(&mut entry);
            return Ok(Some(Input::Large(entry)));
        }
        if let Some((reader, _)) = &mut self.reader {
            let mut buffer = match self.buffer.take() {
                Some(buffer) => buffer,
                None if self.largest > budget.segment_size() => ReadBuffer::Heap(vec![0; self.largest]),
                None => match budget.try_take() {
                    Some(segment) => ReadBuffer::Segment(segment),
                    None => ReadBuffer::Heap(vec![0; self.largest]),
                },
            };
            if let Some(size) = reader.next(handle, buffer.bytes_mut())? {
                return Ok(Some(Input::Block(buffer, size)));
            }
        }
        self.end(handle);
        Ok(None)
    }

    /// Gives everything back.
    pub(super) fn end(&mut self, handle: &mut SpillHandle) {
        if let Some((_, blocks)) = self.reader.take() {
            blocks.into_iter().for_each(|block| handle.free(block));
        }
        *self = Feed::default();
    }
}

impl Feed {
    /// Takes back the buffer of a piece that is done, where it has room for the blocks to come: others may have been added meanwhile.
    pub(super) fn take_back(&mut self, piece: Input) {
        if let Input::Block(buffer, _) = piece
            && buffer.bytes().len() >= self.largest
        {
            self.buffer = Some(buffer);
        }
    }

    /// Adds blocks behind those that it has left.
    pub(super) fn add(&mut self, blocks: Vec<BlockRef>, handle: &mut SpillHandle) {
        let mut left: Vec<BlockRef> = Vec::new();
        if let Some((reader, _)) = &self.reader {
            left.extend_from_slice(reader.rest());
        }
        left.extend(blocks);
        let buffer = self.buffer.take();
        *self = Feed {
            buffer: buffer.filter(|buffer| {
                let largest = left.iter().map(BlockRef::raw_bytes).max();
                largest.is_none_or(|largest| buffer.bytes().len() >= largest)
            }),
            ..Feed::of_blocks(left, false, handle)
        };
    }
}
