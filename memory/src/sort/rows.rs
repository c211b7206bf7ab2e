//! Rows in segments, in the order in which they came, each found again by a locator.
//!
//! # Interface
//! [`RowStore::push`] appends a row and gives its locator; [`RowStore::row`] finds it; [`RowStore::release_before`] gives the
//! segments back whose rows came before one.
//!
//! # Layout
//! A row lies in one segment, packed behind the row before it, or at the next segment's start where it has no room; a row larger
//! than a segment begins one and goes on in those after it. A locator is the number of the segment that the row begins in,
//! counted from the first one ever, in its upper half, and the offset in the lower: locators compare as rows came.
//!
//! # Memory
//! Segments of the source that each call is given. A row of n segments is put together in a [`Scratch`] to be read.

use std::collections::VecDeque;

use crate::segment::{Segment, SegmentSource};

/// Memory for a row that lies in pieces, aligned as the most demanding row.
#[derive(Debug, Default)]
pub struct Scratch {
    words: Vec<u128>,
}

impl Scratch {
    /// The first `size` bytes of it.
    pub fn bytes(&mut self, size: usize) -> &mut [u8] {
        let words = size.div_ceil(16);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        &mut zerocopy::IntoBytes::as_mut_bytes(self.words.as_mut_slice())[..size]
    }
}

/// Rows in segments.
#[derive(Debug)]
pub struct RowStore {
    segments: VecDeque<Segment>,
    /// The number of the first segment.
    first: u32,
    /// Bytes of the last segment that have rows.
    used: usize,
    stride: usize,
    segment_size: usize,
}

impl RowStore {
    /// A store of rows of `stride` bytes; 0 where they begin with their size.
    pub fn new(stride: usize, segment_size: usize) -> Self {
        RowStore {
            segments: VecDeque::new(),
            first: 0,
            used: segment_size,
            stride,
            segment_size,
        }
    }

    /// How many segments it has.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Appends a row; its locator, or nothing where the source has no segment for it.
    #[inline]
    pub fn push(&mut self, row: &[u8], source: &dyn SegmentSource) -> Option<u64> {
        if self.used + row.len() > self.segment_size {
            return self.push_in_next(row, source);
        }
        let at = self.used;
        let last = self.segments.back_mut().expect("an empty store has no room");
        last[at..at + row.len()].copy_from_slice(row);
        self.used += row.len();
        Some(self.locator(self.segments.len() - 1, at))
    }

    /// Appends rows of fixed size, as many of them as the last segment or the next has room for; how many, and the locator of the
    /// first: those of the others are a row's size apart. Nothing where the source has no segment.
    #[inline]
    pub fn push_many(&mut self, rows: &[u8], source: &dyn SegmentSource) -> Option<(usize, u64)> {
        debug_assert!(self.stride > 0, "rows of fixed size");
        if self.used + self.stride > self.segment_size {
            let locator = self.push_in_next(&rows[..self.stride], source)?;
            return Some((1, locator));
        }
        let at = self.used;
        let count = ((self.segment_size - at) / self.stride).min(rows.len() / self.stride);
        let bytes = count * self.stride;
        let last = self.segments.back_mut().expect("an empty store has no room");
        last[at..at + bytes].copy_from_slice(&rows[..bytes]);
        self.used += bytes;
        Some((count, self.locator(self.segments.len() - 1, at)))
    }

    fn locator(&self, index: usize, offset: usize) -> u64 {
        (u64::from(self.first) + index as u64) << 32 | offset as u64
    }

    #[cold]
    fn push_in_next(&mut self, row: &[u8], source: &dyn SegmentSource) -> Option<u64> {
        let count = row.len().div_ceil(self.segment_size).max(1);
        let start = self.segments.len();
        for _ in 0..count {
            match source.try_take() {
                Some(segment) => self.segments.push_back(segment),
                None => {
                    self.segments.truncate(start);
                    return None;
                }
            }
        }
        let mut rest = row;
        for segment in self.segments.range_mut(start..) {
            let (piece, after) = rest.split_at(rest.len().min(self.segment_size));
            segment[..piece.len()].copy_from_slice(piece);
            self.used = piece.len();
            rest = after;
        }
        Some(self.locator(start, 0))
    }

    /// The row at a locator: where it lies, or, where it lies in pieces, in `scratch`.
    #[inline]
    pub fn row<'a>(&'a self, locator: u64, scratch: &'a mut Scratch) -> &'a [u8] {
        let index = ((locator >> 32) as u32 - self.first) as usize;
        let start = &self.segments[index][locator as u32 as usize..];
        let size = match self.stride {
            0 => {
                let size = start
                    .first_chunk()
                    .expect("a row that varies begins with its size");
                u32::from_le_bytes(*size) as usize
            }
            stride => stride,
        };
        match start.get(..size) {
            Some(row) => row,
            None => self.gathered(index, size, scratch),
        }
    }

    #[cold]
    fn gathered<'a>(&self, index: usize, size: usize, scratch: &'a mut Scratch) -> &'a [u8] {
        let bytes = scratch.bytes(size);
        let pieces = bytes.chunks_mut(self.segment_size);
        for (piece, segment) in pieces.zip(self.segments.range(index..)) {
            piece.copy_from_slice(&segment[..piece.len()]);
        }
        bytes
    }

    /// Asks for the first line of a row that will be read soon.
    #[inline(always)]
    pub fn prefetch(&self, locator: u64) {
        let index = ((locator >> 32) as u32).wrapping_sub(self.first) as usize;
        if let Some(segment) = self.segments.get(index) {
            crate::pages::prefetch_line(&segment[locator as u32 as usize..]);
        }
    }

    /// How many segments come before the one that the row at `locator` begins in.
    pub fn segments_before(&self, locator: u64) -> usize {
        ((locator >> 32) as u32 - self.first) as usize
    }

    /// Gives back the segments before the one that the row at `locator` begins in; all where it is `None`.
    pub fn release_before(&mut self, locator: Option<u64>) {
        let count = match locator {
            Some(locator) => self.segments_before(locator),
            None => self.segments.len(),
        };
        self.segments.drain(..count);
        self.first += count as u32;
        if self.segments.is_empty() {
            self.used = self.segment_size;
        }
    }
}
