//! Runs: sorted rows, in memory or spilled, and ranges of them.
//!
//! # Interface
//! [`RunWriter::push`] rows in order and [`RunWriter::finish`] to a [`SpilledRun`]; [`MemoryRun::new`] from sorted items. A
//! [`Piece`] is a range of the rows of one.
//!
//! # Layout
//! A spilled run is blocks of at most one segment, of whole rows packed one behind the other. A row larger than a segment has
//! blocks of its own: the first begins with it, and those after it, which begin no row, go on with it. The other blocks are smaller than
//! a segment by a block's header, so that one that is stored as it is can be read, header and all, into one segment, and stays there.
//!
//! # Memory
//! 40 bytes for each block: where it is, the first word of its first row, and the number of that row.

use std::ops::Range;
use std::sync::Arc;

use super::items::Items;
use super::kernel::{Chunk, Chunks, Item};
use super::order::RowOrder;
use super::rows::Scratch;
use crate::error::Result;
use crate::segment::Segment;
use crate::spill::{BlockRef, HEADER_BYTES, SpillHandle};

/// What is known of a block without reading it.
#[derive(Debug, Clone, Copy)]
pub struct RunBlock {
    /// Where it is.
    pub reference: BlockRef,
    /// The first word of the key of the first row that begins in it, or, where none does, of the row that goes on in it.
    pub word: u64,
    /// The number of that row in its run.
    pub row: u64,
}

/// Sorted rows on disk.
#[derive(Debug, Default)]
pub struct SpilledRun {
    /// Its blocks, in order.
    pub blocks: Vec<RunBlock>,
    /// How many rows it has.
    pub rows: u64,
    /// The size of its largest row.
    pub largest: usize,
    /// Whether the items of its rows come in their own order, which may decide more than that of rows.
    pub are_items_sorted: bool,
}

impl SpilledRun {
    /// The blocks of the rows from number `from` to before number `to`.
    pub fn blocks_of(&self, from: u64, to: u64) -> Range<usize> {
        self.block_of(from)..self.blocks.partition_point(|block| block.row < to)
    }

    /// The index of the block in which row `row` begins.
    pub fn block_of(&self, row: u64) -> usize {
        // Blocks that go on with a row have its number too: the first of them is the one that it begins in.
        let after = self.blocks.partition_point(|block| block.row <= row);
        let number = self.blocks[after - 1].row;
        self.blocks[..after].partition_point(|block| block.row < number)
    }
}

/// Writes rows that come in order.
pub struct RunWriter {
    /// Bytes of the rows so far.
    bytes: usize,
    staging: Segment,
    filled: usize,
    /// Of the first row in `staging`.
    word: u64,
    row: u64,
    run: SpilledRun,
}

impl RunWriter {
    /// A writer that gathers blocks in `staging`, of rows whose items come in their own order where `are_items_sorted`.
    pub fn new(staging: Segment, are_items_sorted: bool) -> Self {
        RunWriter {
            bytes: 0,
            staging,
            filled: 0,
            word: 0,
            row: 0,
            run: SpilledRun {
                are_items_sorted,
                ..SpilledRun::default()
            },
        }
    }

    /// Bytes of the rows that were appended.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a row, whose first word is `word`.
    ///
    /// # Errors
    /// Those of the spill store.
    #[inline]
    pub fn push(&mut self, word: u64, row: &[u8], handle: &mut SpillHandle) -> Result<()> {
        self.bytes += row.len();
        let room = self.staging.len() - HEADER_BYTES;
        if self.filled + row.len() > room {
            self.write(handle)?;
            if row.len() > room {
                return self.push_large(word, row, handle);
            }
        }
        if self.filled == 0 {
            (self.word, self.row) = (word, self.run.rows);
        }
        self.staging[self.filled..self.filled + row.len()].copy_from_slice(row);
        self.filled += row.len();
        self.run.rows += 1;
        self.run.largest = self.run.largest.max(row.len());
        Ok(())
    }

    /// Appends the rows of items that [are rows](Items::ARE_ROWS).
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn push_items<I: Items>(
        &mut self,
        form: &I,
        mut items: &[I::Item],
        handle: &mut SpillHandle,
    ) -> Result<()> {
        let stride = form.order().stride();
        let room = self.staging.len() - HEADER_BYTES;
        debug_assert!(stride <= room, "items are small");
        while let [first, ..] = items {
            let count = ((room - self.filled) / stride).min(items.len());
            if count == 0 {
                self.write(handle)?;
                continue;
            }
            if self.filled == 0 {
                (self.word, self.row) = (first.key(), self.run.rows);
            }
            let (now, later) = items.split_at(count);
            form.write(now, &mut self.staging[self.filled..][..count * stride]);
            self.filled += count * stride;
            self.bytes += count * stride;
            self.run.rows += count as u64;
            self.run.largest = stride;
            items = later;
        }
        Ok(())
    }

    #[cold]
    fn push_large(&mut self, word: u64, row: &[u8], handle: &mut SpillHandle) -> Result<()> {
        for piece in row.chunks(self.staging.len()) {
            let reference = handle.write(&[piece])?;
            let row = self.run.rows;
            self.run.blocks.push(RunBlock { reference, word, row });
        }
        self.run.rows += 1;
        self.run.largest = self.run.largest.max(row.len());
        Ok(())
    }

    fn write(&mut self, handle: &mut SpillHandle) -> Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let reference = handle.write(&[&self.staging[..self.filled]])?;
        self.run.blocks.push(RunBlock {
            reference,
            word: self.word,
            row: self.row,
        });
        self.filled = 0;
        Ok(())
    }

    /// The run, and the memory it was written with.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn finish(mut self, handle: &mut SpillHandle) -> Result<(SpilledRun, Segment)> {
        self.write(handle)?;
        Ok((self.run, self.staging))
    }
}

/// Sorted rows in memory.
pub struct MemoryRun<I: Items> {
    items: I,
    /// Sorted items, with the number of the first in each segment.
    chunks: Vec<(u64, Chunk)>,
    rows: u64,
    /// Whether items come in their own order, which may decide more than that of rows.
    are_items_sorted: bool,
}

impl<I: Items> MemoryRun<I> {
    /// A run of items whose rows are sorted, and the items themselves where `are_items_sorted`.
    pub fn new(items: I, mut sorted: Chunks<I::Item>, are_items_sorted: bool) -> Self {
        let mut chunks = Vec::with_capacity(sorted.segments());
        let mut rows = 0;
        while let Some(chunk) = sorted.pop_front() {
            if chunk.len > 0 {
                let row = rows;
                rows += chunk.len as u64;
                chunks.push((row, chunk));
            }
        }
        MemoryRun {
            items,
            chunks,
            rows,
            are_items_sorted,
        }
    }

    /// Whether items come in their own order.
    pub fn are_items_sorted(&self) -> bool {
        self.are_items_sorted
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How its rows are kept.
    pub fn items(&self) -> &I {
        &self.items
    }

    /// The chunk that has row `row`, and the row's place in it.
    pub fn place(&self, row: u64) -> (usize, usize) {
        let chunk = self.chunks.partition_point(|(first, _)| *first <= row) - 1;
        (chunk, (row - self.chunks[chunk].0) as usize)
    }

    /// The items of a chunk.
    #[inline]
    pub fn chunk(&self, index: usize) -> &[I::Item] {
        self.chunks[index].1.items()
    }

    /// Row number `row` and its first word.
    pub fn row_at<'a>(&'a self, row: u64, scratch: &'a mut Scratch) -> (u64, &'a [u8]) {
        let (chunk, place) = self.place(row);
        let item = self.chunk(chunk)[place];
        (item.key(), self.items.row(item, scratch))
    }
}

/// A run, shared by those who read parts of it.
pub enum Run<I: Items> {
    /// In memory.
    Memory(Arc<MemoryRun<I>>),
    /// On disk.
    Spilled(Arc<SpilledRun>),
}

impl<I: Items> Clone for Run<I> {
    fn clone(&self) -> Self {
        match self {
            Run::Memory(run) => Run::Memory(run.clone()),
            Run::Spilled(run) => Run::Spilled(run.clone()),
        }
    }
}

impl<I: Items> Run<I> {
    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        match self {
            Run::Memory(run) => run.rows(),
            Run::Spilled(run) => run.rows,
        }
    }

    /// Whether items come in their own order, which may decide more than that of rows.
    pub fn are_items_sorted(&self) -> bool {
        match self {
            Run::Memory(run) => run.are_items_sorted(),
            Run::Spilled(run) => run.are_items_sorted,
        }
    }

    /// The piece that is all of it.
    pub fn whole(self) -> Piece<I> {
        let end = self.rows();
        Piece {
            run: self,
            from: 0,
            to: end,
        }
    }
}

/// A range of a run's rows.
pub struct Piece<I: Items> {
    /// The run.
    pub run: Run<I>,
    /// The number of the first row.
    pub from: u64,
    /// The number of the row after the last.
    pub to: u64,
}

impl<I: Items> Piece<I> {
    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.to - self.from
    }

    /// Segments that a reader of it needs in a budget.
    pub fn segments(&self, segment_size: usize) -> usize {
        match &self.run {
            Run::Memory(_) => 0,
            Run::Spilled(run) => run.largest.div_ceil(segment_size).max(1),
        }
    }
}
