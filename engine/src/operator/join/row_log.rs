//! A log of rows that is read several times, in any budget: the rows of one key on one side of a sort-merge join.
//!
//! # Algorithm
//! Rows are packed in the segment that is open. When it is full it is kept, and another one opened; where there is none, it is written
//! to the spill store, and filled again. The log is read piece by piece, what is open being the last.
//!
//! # Memory
//! Least: [`LEAST_SEGMENTS`], one open and one to read into. A row larger than a segment is a block by itself, and on the heap while
//! it is read.

use crate::batch::variable_row_size;
use forebay_memory::spill::BlockRef;
use forebay_memory::{Budget, Result, Segment, SegmentSource, SpillHandle};
use zerocopy::IntoBytes;

/// Segments that a log cannot do without.
pub(crate) const LEAST_SEGMENTS: usize = 2;

enum Piece {
    Kept(Segment, usize),
    Block(BlockRef),
}

/// Rows, in the order in which they came.
pub(super) struct RowLog {
    pieces: Vec<Piece>,
    open: Segment,
    filled: usize,
    /// The piece that was read into memory, and where it is.
    loaded: Option<usize>,
    read: Segment,
    large: Vec<u128>,
    loaded_bytes: usize,
    rows: u64,
}

impl RowLog {
    /// A log without rows, with memory of its own.
    ///
    /// # Errors
    /// `Memory` where the budget has not even the least.
    pub(super) fn new(budget: &Budget) -> Result<Self> {
        let mut reservation = budget.reserve(LEAST_SEGMENTS)?;
        let mut take = || reservation.take().expect("they were reserved");
        Ok(RowLog {
            pieces: Vec::new(),
            open: take(),
            filled: 0,
            loaded: None,
            read: take(),
            large: Vec::new(),
            loaded_bytes: 0,
            rows: 0,
        })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// Those of the spill store.
    #[inline]
    pub(super) fn push(&mut self, row: &[u8], budget: &Budget, handle: &mut SpillHandle) -> Result<()> {
        if self.filled + row.len() > self.open.len() {
            self.close(budget, handle)?;
            if row.len() > self.open.len() {
                self.pieces.push(Piece::Block(handle.write(&[row])?));
                self.rows += 1;
                return Ok(());
            }
        }
        self.open[self.filled..self.filled + row.len()].copy_from_slice(row);
        self.filled += row.len();
        self.rows += 1;
        Ok(())
    }

    #[cold]
    fn close(&mut self, budget: &Budget, handle: &mut SpillHandle) -> Result<()> {
        if self.filled > 0 {
            self.pieces.push(match budget.try_take() {
                Some(fresh) => Piece::Kept(std::mem::replace(&mut self.open, fresh), self.filled),
                None => {
                    // It goes on without: nobody is to be asked for it.
                    budget.withdraw();
                    Piece::Block(handle.write(&[&self.open[..self.filled]])?)
                }
            });
            self.filled = 0;
        }
        Ok(())
    }

    /// How many pieces there are, the open one included.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len() + 1
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Makes sure that a piece is in memory, until another one is.
    ///
    /// # Errors
    /// Those of the spill store.
    pub(super) fn load(&mut self, piece: usize, handle: &mut SpillHandle) -> Result<()> {
        let Some(Piece::Block(block)) = self.pieces.get(piece) else {
            return Ok(());
        };
        if self.loaded == Some(piece) {
            return Ok(());
        }
        self.loaded = None;
        let size = block.raw_bytes();
        self.loaded_bytes = match size <= self.read.len() {
            true => handle.read(block, &mut self.read)?,
            false => {
                self.large.resize(size.div_ceil(16), 0);
                handle.read(block, &mut self.large.as_mut_bytes()[..size])?
            }
        };
        self.loaded = Some(piece);
        Ok(())
    }

    /// The rows of a piece that is in memory.
    #[inline]
    pub(super) fn bytes(&self, piece: usize) -> &[u8] {
        match self.pieces.get(piece) {
            None => &self.open[..self.filled],
            Some(Piece::Kept(segment, filled)) => &segment[..*filled],
            Some(Piece::Block(_)) if self.loaded_bytes <= self.read.len() => &self.read[..self.loaded_bytes],
            Some(Piece::Block(_)) => &self.large.as_bytes()[..self.loaded_bytes],
        }
    }

    /// Forgets all rows, and gives back what it has beyond the least.
    pub(super) fn clear(&mut self, handle: &mut SpillHandle) {
        for piece in self.pieces.drain(..) {
            if let Piece::Block(block) = piece {
                handle.free(block);
            }
        }
        (self.filled, self.rows, self.loaded) = (0, 0, None);
        self.large = Vec::new();
    }
}

/// The first of packed rows of a stride, 0 where they vary.
#[inline(always)]
pub(super) fn first_row(bytes: &[u8], stride: usize) -> &[u8] {
    match stride {
        0 => &bytes[..variable_row_size(bytes)],
        _ => &bytes[..stride],
    }
}
