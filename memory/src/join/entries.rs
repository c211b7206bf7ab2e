//! Entries: rows as joins keep them, one after the other in segments and in spilled blocks.
//!
//! # Layout
//! A row, and where [`EntryShape::is_hashed`] the hash of its key behind it (8 bytes, little endian). Rows are of one size, or begin
//! with their own (four bytes, little endian, a multiple of 8). With a hash, entries of fixed rows are padded so that each
//! row is aligned as the first is.

use crate::scatter::SEGMENT_HEADER_SIZE;
use crate::segment::Segment;

/// Bytes of a hash behind a row.
const HASH_SIZE: usize = 8;

/// How the entries of one side of a join lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryShape {
    /// Bytes of a row, 0 where they vary.
    row: usize,
    /// Bytes of an entry, 0 where they vary.
    stride: usize,
    is_hashed: bool,
}

impl EntryShape {
    /// Entries of rows of `stride` bytes, or of their own sizes where that is 0, each starting at a multiple of `align`;
    /// with the hash of their keys behind them where `is_hashed`.
    ///
    /// # Panics
    /// Where rows of fixed size are not themselves of a multiple of `align`.
    pub fn new(stride: usize, align: usize, is_hashed: bool) -> Self {
        assert!(stride.is_multiple_of(align), "rows lie one behind the other");
        let with_hash = (stride + HASH_SIZE).next_multiple_of(align);
        EntryShape {
            row: stride,
            stride: match (stride, is_hashed) {
                (0, _) => 0,
                (_, true) => with_hash,
                (_, false) => stride,
            },
            is_hashed,
        }
    }

    /// Bytes of every entry, 0 where they vary.
    #[inline(always)]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Whether the hash of its key is behind each row.
    #[inline(always)]
    pub fn is_hashed(&self) -> bool {
        self.is_hashed
    }

    /// The row's size, and the entry's, of the entry that `bytes` begin with.
    ///
    /// # Panics
    /// Where rows vary in size and `bytes` are too few to hold one.
    #[inline(always)]
    pub fn sizes(&self, bytes: &[u8]) -> (usize, usize) {
        if self.stride > 0 {
            return (self.row, self.stride);
        }
        let size = bytes.first_chunk().expect("a row begins with its size");
        let row = u32::from_le_bytes(*size) as usize;
        (row, self.with_hash(row))
    }

    /// Bytes of the entry of a row of `row` bytes.
    #[inline(always)]
    pub fn with_hash(&self, row: usize) -> usize {
        match (self.stride, self.is_hashed) {
            (0, true) => row + HASH_SIZE,
            (0, false) => row,
            (stride, _) => stride,
        }
    }

    /// The hash behind the row of an entry.
    ///
    /// # Panics
    /// Where there is none.
    #[inline(always)]
    pub fn hash(&self, entry: &[u8]) -> u64 {
        let (row, _) = self.sizes(entry);
        let hash = entry[row..].first_chunk().expect("a hash is behind the row");
        u64::from_le_bytes(*hash)
    }

    /// Writes an entry.
    ///
    /// # Panics
    /// Where `entry` has another size.
    #[inline(always)]
    pub fn write(&self, row: &[u8], hash: u64, entry: &mut [u8]) {
        let (place, rest) = entry.split_at_mut(row.len());
        place.copy_from_slice(row);
        if self.is_hashed {
            let (place, padding) = rest.split_at_mut(HASH_SIZE);
            place.copy_from_slice(&hash.to_le_bytes());
            padding.fill(0);
        }
    }

    /// The smallest unit that every entry is a multiple of.
    pub(super) fn unit(&self) -> usize {
        match self.stride {
            0 => 8,
            stride => stride,
        }
    }
}

/// Whole entries in a segment, behind its header.
pub struct Filled {
    /// The segment.
    pub segment: Segment,
    /// Bytes of entries.
    pub bytes: usize,
}

impl Filled {
    /// The entries.
    pub fn entries(&self) -> &[u8] {
        &self.segment[SEGMENT_HEADER_SIZE..][..self.bytes]
    }

    /// Takes the first entries of another, as many as there is room for.
    pub fn take_from(&mut self, other: &mut Filled, shape: EntryShape) {
        let room = self.segment.len() - SEGMENT_HEADER_SIZE - self.bytes;
        let entries = other.entries();
        let mut taken = 0;
        while taken < entries.len() {
            let (_, size) = shape.sizes(&entries[taken..]);
            if taken + size > room {
                break;
            }
            taken += size;
        }
        self.segment[SEGMENT_HEADER_SIZE + self.bytes..][..taken].copy_from_slice(&entries[..taken]);
        self.bytes += taken;
        let rest = SEGMENT_HEADER_SIZE + taken..SEGMENT_HEADER_SIZE + other.bytes;
        other.segment.copy_within(rest, SEGMENT_HEADER_SIZE);
        other.bytes -= taken;
    }
}
