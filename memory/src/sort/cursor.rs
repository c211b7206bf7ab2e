//! A cursor: one sorted input of a merge, at its current row.
//!
//! # Interface
//! [`Cursor::open`] a piece of a run; [`Cursor::code`] and [`Cursor::row`] are those of the current row until
//! [`Cursor::advance`]; after the last, [`Cursor::is_over`].
//!
//! # Algorithm
//! A row's code is where its key differs from that of the row before it, and the word there. Mostly that is the first; where it is not, the
//! two rows are compared by words. A row whose block is about to be replaced leaves its words, if the next one begins as it does.
//!
//! # Memory
//! A spilled piece needs [`Piece::segments`]: one, or as many as its run's largest row has. They change places with segments that were
//! read ahead.

use std::ops::Range;
use std::sync::Arc;

use super::ahead::Disk;
use super::items::Items;
use super::kernel::Item;
use super::order::{KeyScratch, MOST_WORDS, RowOrder, differ};
use super::rows::Scratch;
use super::run::{MemoryRun, Piece, Run, SpilledRun};
use crate::error::{Error, Result};
use crate::pages::prefetch_line;
use crate::segment::Segment;

/// How far ahead rows in memory are asked for.
const PREFETCHED: usize = 8;

/// One sorted input.
pub struct Cursor<I: Items> {
    input: Input<I>,
    /// Rows from the current one on.
    left: u64,
    word: u64,
    /// Words that it has in common with the row before, and the next.
    code: (u32, u64),
    /// Whether more than first words are needed to tell keys apart.
    is_deep: bool,
    /// The words of a row that is not in memory any more, each with whether the next may decide.
    kept: Vec<(u64, bool)>,
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
        let input = match &piece.run {
            Run::Memory(run) => {
                let (chunk, place) = run.place(piece.from);
                Input::Memory {
                    run: run.clone(),
                    chunk,
                    place,
                }
            }
            Run::Spilled(run) => Input::Spilled(Spilled {
                run: run.clone(),
                blocks: run.blocks_of(piece.from, piece.to),
                number,
                segments,
                filled: 0,
                at: 0,
                size: 0,
                frees: is_own,
            }),
        };
        let mut cursor = Cursor {
            input,
            left,
            word: 0,
            code: (0, 0),
            is_deep: order.key_size().is_none_or(|size| size > 8),
            kept: Vec::new(),
        };
        if let Input::Spilled(spilled) = &mut cursor.input {
            let skipped = piece.from - spilled.run.blocks[spilled.blocks.start].row;
            for _ in 0..=skipped {
                spilled.advance(disk, order)?;
            }
        }
        cursor.look(order, keys);
        cursor.code = (0, cursor.word);
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

    /// How many words the current row's key has in common with that of the row before it, 0 of the first row; and the word behind these:
    /// as [`differ`] finds them.
    #[inline]
    pub fn code(&self) -> (u32, u64) {
        self.code
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
        let word = self.word;
        let mut before = Before::Kept;
        match &mut self.input {
            Input::Memory { run, chunk, place } => {
                before = Before::Item(*chunk, *place);
                *place += 1;
                if *place == run.chunk(*chunk).len() {
                    (*chunk, *place) = (*chunk + 1, 0);
                }
            }
            Input::Spilled(spilled) => {
                let (start, end) = (spilled.at, spilled.at + spilled.size);
                if end < spilled.filled {
                    before = Before::Row(start, end);
                } else if self.is_deep {
                    spilled.keep(word, order, keys, &mut self.kept);
                }
                spilled.advance(disk, order)?;
            }
        }
        self.look(order, keys);
        self.code = match self.is_deep && self.word == word {
            false => (0, self.word),
            true => self.code_after(before, order, keys),
        };
        Ok(())
    }

    /// The code of the current row, which has its first word in common with the row before it.
    #[inline(never)]
    fn code_after(&self, before: Before, order: &I::Order, keys: &mut KeyScratch) -> (u32, u64) {
        let (mut first, mut second) = (Scratch::default(), Scratch::default());
        let row = self.row(&mut second);
        let before = match (before, &self.input) {
            (Before::Item(chunk, place), Input::Memory { run, .. }) => {
                run.items().row(run.chunk(chunk)[place], &mut first)
            }
            (Before::Row(start, end), Input::Spilled(spilled)) => &spilled.segments[0][start..end],
            _ => {
                // What was not kept has another first word.
                let difference = differ(order.are_words_exact(), 0, |depth| {
                    let word = order.word_on(row, 8 * depth as usize, keys);
                    [self.kept[depth as usize], word]
                });
                return (difference.common, difference.words[1]);
            }
        };
        let difference = order.differ([before, row], 0, keys);
        (difference.common, difference.words[1])
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

/// Where the row is that was before the current one.
#[derive(Clone, Copy)]
enum Before {
    /// That of an item in memory: chunk, and place in it.
    Item(usize, usize),
    /// In the first segment, from an offset to another.
    Row(usize, usize),
    /// Nowhere: its words were kept.
    Kept,
}

impl Spilled {
    /// Keeps the words of the current row, whose first is `word`, if the first row of the next block has the same first.
    fn keep(&self, word: u64, order: &impl RowOrder, keys: &mut KeyScratch, kept: &mut Vec<(u64, bool)>) {
        kept.clear();
        let next = self
            .blocks
            .clone()
            .next()
            .map(|block| self.run.blocks[block].word);
        if next != Some(word) {
            return;
        }
        let mut scratch = Scratch::default();
        let row = self.row(&mut scratch);
        for depth in 0..MOST_WORDS as usize {
            let here = order.word_on(row, 8 * depth, keys);
            kept.push(here);
            if !here.1 {
                break;
            }
        }
    }

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
        // Before its turn comes those of all other inputs do: it would not be in a cache any more.
        let rest = &self.segments[0][(self.at + size).min(self.filled)..];
        prefetch_line(rest);
        prefetch_line(rest.get(64..).unwrap_or(&[]));
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
