//! A cursor: one sorted input of a merge, at its current row.
//!
//! # Interface
//! [`Cursor::open`] a piece of a run; [`Cursor::word`] and [`Cursor::row`] are those of the current row until
//! [`Cursor::advance`]; after the last, [`Cursor::is_over`].
//!
//! # Memory
//! A spilled piece needs [`Piece::segments`]: one, or as many as its run's largest row has. They change places with segments that were
//! read ahead.

use std::ops::Range;
use std::sync::Arc;

use super::ahead::Disk;
use super::items::Items;
use super::kernel::Item;
use super::order::{KeyScratch, RowOrder};
use super::rows::Scratch;
use super::run::{MemoryRun, Piece, Run, SpilledRun};
use crate::error::{Error, Result};
use crate::segment::Segment;

/// How far ahead rows in memory are asked for.
const PREFETCHED: usize = 8;

/// One sorted input.
pub struct Cursor<I: Items> {
    input: Input<I>,
    /// Rows from the current one on.
    left: u64,
    word: u64,
}

enum Input<I: Items> {
    Memory {
        run: Arc<MemoryRun<I>>,
        chunk: usize,
        place: usize,
    },
    Spilled(Spilled),
}

struct Spilled {
    run: Arc<SpilledRun>,
    /// Its blocks to be read.
    blocks: Range<usize>,
    /// Its number among the inputs that are read ahead.
    number: usize,
    segments: Vec<Segment>,
    /// Where the block in the first segment ends.
    filled: usize,
    /// Where the current row is, and its size: in more segments than one where it is larger.
    at: usize,
    size: usize,
    /// Whether blocks are given back when they were read.
    frees: bool,
}

impl<I: Items> Cursor<I> {
    /// A cursor at the first row of a piece, which has one, and is input `number` of those that are read ahead where it is spilled.
    /// `segments` are as many as it needs. Where nobody else reads the run, its blocks are freed as they are read.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn open(
        piece: &Piece<I>,
        number: usize,
        segments: Vec<Segment>,
        is_own: bool,
        disk: &mut Disk<'_>,
        order: &I::Order,
        keys: &mut KeyScratch,
    ) -> Result<Self> {
        let left = piece.rows();
        debug_assert!(left > 0, "a piece without rows is left out");
        let mut cursor = match &piece.run {
            Run::Memory(run) => {
                let (chunk, place) = run.place(piece.from);
                Cursor {
                    input: Input::Memory {
                        run: run.clone(),
                        chunk,
                        place,
                    },
                    left,
                    word: 0,
                }
            }
            Run::Spilled(run) => Cursor {
                input: Input::Spilled(Spilled {
                    run: run.clone(),
                    blocks: run.blocks_of(piece.from, piece.to),
                    number,
                    segments,
                    filled: 0,
                    at: 0,
                    size: 0,
                    frees: is_own,
                }),
                left,
                word: 0,
            },
        };
        if let Input::Spilled(spilled) = &mut cursor.input {
            let skipped = piece.from - spilled.run.blocks[spilled.blocks.start].row;
            for _ in 0..=skipped {
                spilled.advance(disk, order)?;
            }
        }
        cursor.look(order, keys);
        Ok(cursor)
    }

    /// Whether there is no current row any more.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// The first word of the current row's key.
    #[inline]
    pub fn word(&self) -> u64 {
        self.word
    }

    /// The current row: where it lies, or in `scratch`.
    #[inline]
    pub fn row<'a>(&'a self, scratch: &'a mut Scratch) -> &'a [u8] {
        match &self.input {
            Input::Memory { run, chunk, place } => run.items().row(run.chunk(*chunk)[*place], scratch),
            Input::Spilled(spilled) => spilled.row(scratch),
        }
    }

    /// Goes to the next row, if there is one.
    ///
    /// # Errors
    /// Those of the spill store.
    #[inline]
    pub fn advance(&mut self, disk: &mut Disk<'_>, order: &I::Order, keys: &mut KeyScratch) -> Result<()> {
        self.left -= 1;
        if self.left == 0 {
            return Ok(());
        }
        match &mut self.input {
            Input::Memory { run, chunk, place } => {
                *place += 1;
                if *place == run.chunk(*chunk).len() {
                    (*chunk, *place) = (*chunk + 1, 0);
                }
            }
            Input::Spilled(spilled) => spilled.advance(disk, order)?,
        }
        self.look(order, keys);
        Ok(())
    }

    /// Finds the first word of the current row.
    #[inline]
    fn look(&mut self, order: &I::Order, keys: &mut KeyScratch) {
        self.word = match &self.input {
            Input::Memory { run, chunk, place } => {
                let items = run.chunk(*chunk);
                if let Some(item) = items.get(*place + PREFETCHED) {
                    run.items().prefetch(*item);
                }
                items[*place].key()
            }
            Input::Spilled(spilled) => {
                if spilled.at + spilled.size <= spilled.filled {
                    order.word(&spilled.segments[0][spilled.at..][..spilled.size], 0, keys)
                } else {
                    // The row goes on in other segments; its block knows its word.
                    spilled.run.blocks[spilled.blocks.start - 1].word
                }
            }
        };
    }

    /// The memory that it was opened with.
    pub fn into_segments(self) -> Vec<Segment> {
        match self.input {
            Input::Memory { .. } => Vec::new(),
            Input::Spilled(spilled) => spilled.segments,
        }
    }
}

impl Spilled {
    #[inline]
    fn row<'a>(&'a self, scratch: &'a mut Scratch) -> &'a [u8] {
        if self.at + self.size <= self.filled {
            return &self.segments[0][self.at..self.at + self.size];
        }
        let row = scratch.bytes(self.size);
        let size = self.segments[0].len();
        for (piece, segment) in row.chunks_mut(size).zip(&self.segments) {
            piece.copy_from_slice(&segment[..piece.len()]);
        }
        row
    }

    #[inline]
    fn advance(&mut self, disk: &mut Disk<'_>, order: &impl RowOrder) -> Result<()> {
        self.at += self.size;
        if self.at >= self.filled {
            Range {
                start: self.at,
                end: self.filled,
            } = self.read(0, disk)?;
        }
        let size = order.row_size(&self.segments[0][self.at..self.filled]);
        if size == 0 || self.at + size > self.filled {
            return self.read_large(size, disk);
        }
        self.size = size;
        Ok(())
    }

    /// Reads the other blocks of a row that begins in the first segment.
    #[cold]
    fn read_large(&mut self, size: usize, disk: &mut Disk<'_>) -> Result<()> {
        let mut read = self.filled;
        let mut segment = 1;
        let is_whole = |read: usize| read == size;
        while self.at == 0 && read < size && segment < self.segments.len() {
            let payload = self.read(segment, disk)?;
            read += payload.len();
            self.segments[segment].copy_within(payload, 0);
            segment += 1;
        }
        if self.at > 0 || !is_whole(read) {
            return Err(Error::corrupt(format!(
                "a sorted run of operator \"{}\": a row of {size} B does not end where its blocks do ({read} B); the disk \
                 returned damaged data",
                disk.handle.owner()
            )));
        }
        self.size = size;
        Ok(())
    }

    /// Reads the next block to a segment; where in it.
    fn read(&mut self, segment: usize, disk: &mut Disk<'_>) -> Result<Range<usize>> {
        let block = self.blocks.next().expect("a piece's rows are in its blocks");
        let payload = disk.read(self.number, block, &mut self.segments[segment])?;
        if self.frees {
            disk.handle.free(self.run.blocks[block].reference);
        }
        Ok(payload)
    }
}
