//! The table of one hash partition of a join's build side: entries sorted by slot, and a directory that says where each
//! slot's entries are.
//!
//! # Interface
//! [`JoinTable::build`] from the entries as they came; [`JoinTable::find`] for the entries that may have a hash, walked
//! with [`JoinTable::settle`], [`JoinTable::entry`] and [`JoinTable::after`]; [`JoinTable::mark`] remembers that an entry has
//! matched.
//!
//! # Algorithm
//! The unchained table of Birler, Schmidt, Fent and Neumann (DaMoN 2024), in segments. A slot is a range of the hash bits
//! that follow the partition's.
//! 1. Count the units (rows, or 8 bytes where rows vary) of each slot in the directory.
//! 2. Make the counts positions: slots one behind the other, each in one segment if rows vary and it fits in one.
//! 3. Copy each entry to its slot's position, which moves on, and add its tag to the slot.
//!
//! A directory word then says where its slot's entries end, which is where the next slot's begin, and holds 8 bits of which
//! every entry has set two: a probe whose two are not among them has no match, and reads no entry.
//!
//! # Memory
//! The entries again, while they are copied; then 4 bytes for each, or 8 in partitions of more than 2^24 units.
//!
//! # Layout
//! ```text
//! directory word   tag (8 bits) | end: segment, unit in it
//! segment          entries … | a bit for each unit, where entries are marked
//! ```
//!
//! # Invariants
//! I1. Entries lie in the order of their slots; a segment is filled to its `filled`, where the next one goes on.
//! I2. Every entry is met by the walk of its hash, once: `tables_find_what_a_map_finds`.
//!
//! # Cost
//! A probe that fails costs a line of the directory; one that may succeed, a line of entries besides.

use super::entries::{EntryShape, Filled};
use crate::pages::prefetch_line;
use crate::segment::{Segment, SegmentSource};

/// Bits of a position in a directory word of 32 bits; the others are the tag.
const NARROW_BITS: u32 = 24;

/// Entries of a slot that are compared without asking how many there are: of slots of one entry on average, two of a hundred that
/// have any have more.
const FEW: usize = 4;

/// Bytes of entries that have code of their own: a key and a value, or two keys.
const NARROW_ENTRY: usize = 16;

/// Every set of two of eight bits, some twice: what an entry adds to the tag of its slot, by six bits of its hash.
const TAGS: [u8; 64] = tags();

const fn tags() -> [u8; 64] {
    let mut tags = [0; 64];
    let (mut place, mut first, mut second) = (0, 0, 1);
    while place < 64 {
        tags[place] = 1 << first | 1 << second;
        second += 1;
        if second == 8 {
            first = if first == 6 { 0 } else { first + 1 };
            second = first + 1;
        }
        place += 1;
    }
    tags
}

#[inline(always)]
fn tag(hash: u64) -> u8 {
    TAGS[(hash & 63) as usize]
}

/// Entries of one hash partition, to be found by their hash.
pub struct JoinTable {
    shape: EntryShape,
    rows: Vec<Segment>,
    /// Units in each segment.
    filled: Vec<u32>,
    directory: Vec<Segment>,
    slots: u64,
    /// Leading bits of the hash that all entries share.
    skip_bits: u32,
    /// Words of a directory segment are 2 to this.
    word_shift: u32,
    is_wide: bool,
    unit: usize,
    /// Bits of a position that are the unit in its segment.
    unit_bits: u32,
    /// Units of a segment.
    units: u32,
    /// Where the marks begin in a segment, if entries are marked.
    marks_at: Option<usize>,
}

/// A directory while it is made.
struct Words<'a> {
    segments: &'a mut [Segment],
    shift: u32,
    is_wide: bool,
}

impl Words<'_> {
    #[inline(always)]
    fn get(&self, index: u64) -> u64 {
        word(self.segments, self.shift, self.is_wide, index)
    }

    #[inline(always)]
    fn set(&mut self, index: u64, word: u64) {
        let segment = &mut self.segments[(index >> self.shift) as usize];
        let place = (index & ((1 << self.shift) - 1)) as usize;
        if self.is_wide {
            segment[place * 8..][..8].copy_from_slice(&word.to_le_bytes());
        } else {
            segment[place * 4..][..4].copy_from_slice(&(word as u32).to_le_bytes());
        }
    }
}

#[inline(always)]
fn word(segments: &[Segment], shift: u32, is_wide: bool, index: u64) -> u64 {
    let segment = &segments[(index >> shift) as usize];
    let place = (index & ((1 << shift) - 1)) as usize;
    if is_wide {
        let word: &[u8; 8] = segment[place * 8..]
            .first_chunk()
            .expect("words fill a segment evenly");
        u64::from_le_bytes(*word)
    } else {
        let word: &[u8; 4] = segment[place * 4..]
            .first_chunk()
            .expect("words fill a segment evenly");
        u64::from(u32::from_le_bytes(*word))
    }
}

/// Several segments, or none.
fn take(source: &dyn SegmentSource, count: usize) -> Option<Vec<Segment>> {
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        segments.push(source.try_take()?);
    }
    Some(segments)
}

impl JoinTable {
    /// A table of `count` entries, whose hashes share their first `skip_bits` bits and are told by `hash`. With `marks` each
    /// entry has one, and those of so many of the last pieces are marked from the start. Answers the entries where `source` has
    /// too few segments.
    ///
    /// # Panics
    /// Where an entry is larger than a segment.
    pub fn build(
        shape: EntryShape,
        entries: Vec<Filled>,
        count: usize,
        skip_bits: u32,
        marks: Option<usize>,
        source: &dyn SegmentSource,
        hash: impl Fn(&[u8]) -> u64,
    ) -> Result<JoinTable, Vec<Filled>> {
        let segment_size = source.segment_size();
        let unit = shape.unit();
        let units = match marks {
            Some(_) => segment_size * 8 / (unit * 8 + 1),
            None => segment_size / unit,
        };
        assert!(units > 0, "an entry is not larger than a segment");
        let unit_bits = usize::BITS - units.leading_zeros();
        let bytes: usize = entries.iter().map(|filled| filled.bytes).sum();
        // Where rows vary, less than the next slot's entries is left free before them, and in slots of several segments less
        // than half of each.
        let most_segments = 3 * (bytes / unit).div_ceil(units) as u64 + 2;
        let is_wide = most_segments << unit_bits >= 1 << NARROW_BITS;
        let word_size = if is_wide { 8 } else { 4 };
        let words_a_segment = segment_size / word_size;
        let slots = count.max(1) as u64;
        let Some(mut directory) = take(source, (slots as usize + 1).div_ceil(words_a_segment)) else {
            return Err(entries);
        };
        directory.iter_mut().for_each(|segment| segment.fill(0));
        let mut table = JoinTable {
            shape,
            rows: Vec::new(),
            filled: Vec::new(),
            directory,
            slots,
            skip_bits,
            word_shift: words_a_segment.trailing_zeros(),
            is_wide,
            unit,
            unit_bits,
            units: units as u32,
            marks_at: marks.map(|_| segment_size - units.div_ceil(8)),
        };
        table.count(&entries, &hash);
        let needed = table.place();
        let Some(rows) = take(source, needed) else {
            return Err(entries);
        };
        table.rows = rows;
        table.filled = vec![0; needed];
        if let Some(at) = table.marks_at {
            table.rows.iter_mut().for_each(|segment| segment[at..].fill(0));
        }
        let unmarked = entries.len() - marks.unwrap_or(0);
        for (number, filled) in entries.into_iter().enumerate() {
            match number < unmarked {
                true => table.copy::<false>(filled.entries(), &hash),
                false => table.copy::<true>(filled.entries(), &hash),
            }
        }
        Ok(table)
    }

    /// Counts the units of each slot in the word behind its own.
    fn count(&mut self, entries: &[Filled], hash: &impl Fn(&[u8]) -> u64) {
        let (shape, unit, units) = (self.shape, self.unit as u64, u64::from(self.units));
        let (slots, skip_bits) = (self.slots, self.skip_bits);
        let mut words = self.words();
        for filled in entries {
            let mut rest = filled.entries();
            while !rest.is_empty() {
                let slot = slot(hash(rest), skip_bits, slots);
                let (_, size) = shape.sizes(rest);
                let size_units = size as u64 / unit;
                let mut end = words.get(slot + 1);
                // An entry lies in one segment.
                if shape.stride() == 0 && end % units + size_units > units {
                    end = end.next_multiple_of(units);
                }
                words.set(slot + 1, end + size_units);
                rest = &rest[size..];
            }
        }
    }

    /// Turns counts into positions; answers how many segments the entries need.
    fn place(&mut self) -> usize {
        let (slots, units, unit_bits) = (self.slots, u64::from(self.units), self.unit_bits);
        let varies = self.shape.stride() == 0;
        let mut words = self.words();
        let mut position = 0;
        for index in 1..=slots {
            let count = words.get(index);
            if varies && count > 0 && position % units + count > units {
                position = position.next_multiple_of(units);
            }
            words.set(index, ((position / units) << unit_bits) | (position % units));
            position += count;
        }
        position.div_ceil(units) as usize
    }

    /// Copies entries to their slots, and marks them where `MARKS`.
    fn copy<const MARKS: bool>(&mut self, entries: &[u8], hash: &impl Fn(&[u8]) -> u64) {
        let (shape, unit, unit_bits) = (self.shape, self.unit, self.unit_bits);
        let (slots, skip_bits, units) = (self.slots, self.skip_bits, self.units as usize);
        let tag_shift = self.tag_shift();
        let position_mask = (1 << tag_shift) - 1;
        let unit_mask = (1u64 << unit_bits) - 1;
        let marks_at = self.marks_at.unwrap_or(0);
        let mut words = Words {
            segments: &mut self.directory,
            shift: self.word_shift,
            is_wide: self.is_wide,
        };
        let mut rest = entries;
        while !rest.is_empty() {
            let hash = hash(rest);
            let index = slot(hash, skip_bits, slots) + 1;
            let (_, size) = shape.sizes(rest);
            let word = words.get(index);
            let position = word & position_mask;
            let mut segment = (position >> unit_bits) as usize;
            let mut at = (position & unit_mask) as usize;
            let size_units = size / unit;
            if at + size_units > units {
                (segment, at) = (segment + 1, 0);
            }
            self.rows[segment][at * unit..][..size].copy_from_slice(&rest[..size]);
            if MARKS {
                self.rows[segment][marks_at + at / 8] |= 1 << (at % 8);
            }
            at += size_units;
            self.filled[segment] = self.filled[segment].max(at as u32);
            let tags = word & !position_mask | u64::from(tag(hash)) << tag_shift;
            words.set(index, tags | (segment as u64) << unit_bits | at as u64);
            rest = &rest[size..];
        }
    }

    fn words(&mut self) -> Words<'_> {
        Words {
            segments: &mut self.directory,
            shift: self.word_shift,
            is_wide: self.is_wide,
        }
    }

    #[inline(always)]
    fn tag_shift(&self) -> u32 {
        if self.is_wide { 56 } else { NARROW_BITS }
    }

    #[inline(always)]
    fn word(&self, index: u64) -> u64 {
        word(&self.directory, self.word_shift, self.is_wide, index)
    }

    /// The word of a slot, and that of the next.
    #[inline(always)]
    fn words_at(&self, index: u64) -> (u64, u64) {
        let segment = &self.directory[(index >> self.word_shift) as usize];
        let place = (index & ((1 << self.word_shift) - 1)) as usize;
        if let (false, Some(words)) = (self.is_wide, segment.get(place * 4..place * 4 + 8)) {
            let words: &[u8; 8] = words.first_chunk().expect("there are as many");
            let words = u64::from_le_bytes(*words);
            return (words & 0xffff_ffff, words >> 32);
        }
        (self.word(index), self.word(index + 1))
    }

    /// The segments that it has.
    pub fn segments(&self) -> usize {
        self.rows.len() + self.directory.len()
    }

    /// How its entries lie.
    pub fn shape(&self) -> EntryShape {
        self.shape
    }

    /// Asks for the line of the directory that [`JoinTable::find`] of the hash looks at.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        let index = slot(hash, self.skip_bits, self.slots);
        let size = if self.is_wide { 8 } else { 4 };
        let place = (index & ((1 << self.word_shift) - 1)) as usize;
        prefetch_line(&self.directory[(index >> self.word_shift) as usize][place * size..]);
    }

    /// Where the entries that may have the hash begin and end; `None` where there are none.
    #[inline(always)]
    pub fn find(&self, hash: u64) -> Option<(u64, u64)> {
        let index = slot(hash, self.skip_bits, self.slots);
        let end = self.word(index + 1);
        let (tag, tag_shift) = (tag(hash), self.tag_shift());
        if (end >> tag_shift) as u8 & tag != tag {
            return None;
        }
        let mask = (1 << tag_shift) - 1;
        Some((self.word(index) & mask, end & mask))
    }

    /// The same without a branch: where they would begin and end, and whether there may be any.
    #[inline(always)]
    pub fn look(&self, hash: u64) -> (u64, u64, bool) {
        let index = slot(hash, self.skip_bits, self.slots);
        let (start, end) = self.words_at(index);
        let (tag, tag_shift) = (tag(hash), self.tag_shift());
        let mask = (1 << tag_shift) - 1;
        (start & mask, end & mask, (end >> tag_shift) as u8 & tag == tag)
    }

    /// [`JoinTable::look`] for each of some hashes, in their order.
    #[inline(always)]
    pub fn look_all(&self, hashes: &[u64], mut found: impl FnMut(usize, (u64, u64, bool))) {
        if self.is_wide {
            for (number, hash) in hashes.iter().enumerate() {
                found(number, self.look(*hash));
            }
            return;
        }
        // What does not change is read once.
        let (skip_bits, slots, shift) = (self.skip_bits, self.slots, self.word_shift);
        let (directory, place_mask) = (&self.directory[..], (1 << shift) - 1);
        for (number, hash) in hashes.iter().enumerate() {
            let index = slot(*hash, skip_bits, slots);
            let segment = &directory[(index >> shift) as usize];
            let at = (index & place_mask) as usize * 4;
            let (start, end) = match segment.get(at..at + 8).and_then(|words| words.first_chunk()) {
                Some(words) => {
                    let words = u64::from_le_bytes(*words);
                    (words & 0xffff_ffff, words >> 32)
                }
                None => (
                    word(directory, shift, false, index),
                    word(directory, shift, false, index + 1),
                ),
            };
            let (tag, mask) = (tag(*hash), (1 << NARROW_BITS) - 1);
            let may_match = (end >> NARROW_BITS) as u8 & tag == tag;
            found(number, (start & mask, end & mask, may_match));
        }
    }

    /// Reads a byte of every line, so that a cache that is large enough has the table.
    pub fn warm(&self) {
        for segment in self.directory.iter().chain(&self.rows) {
            let lines = segment.chunks_exact(64);
            std::hint::black_box(lines.fold(0_u8, |sum, line| sum ^ line[0]));
        }
    }

    /// Calls `found` with the positions of the entries, from a position to another, that have `key` in the eight bytes at an offset;
    /// for entries of one size. It takes no branch that depends on how many there are in a slot of few.
    #[inline(always)]
    pub fn with_key(&self, start: u64, end: u64, at: usize, key: u64, mut found: impl FnMut(u64)) {
        let unit = (start & ((1 << self.unit_bits) - 1)) as usize;
        let segment = start >> self.unit_bits;
        let count = end.wrapping_sub(start);
        if count <= FEW as u64 && segment == end >> self.unit_bits {
            let rows = &self.rows[segment as usize];
            let from = unit * self.unit;
            // What is behind the slot's entries is compared, and does not count.
            if let Some(bytes) = rows.get(from..from + FEW * self.unit) {
                let equal = match (bytes.first_chunk(), self.unit) {
                    (Some(bytes), NARROW_ENTRY) => equal_narrow(bytes, at, key),
                    _ => (0..FEW).fold(0, |equal, number| {
                        equal | u32::from(read_key(bytes, number * self.unit + at) == key) << number
                    }),
                };
                let mut equal = equal & ((1 << count) - 1);
                while equal != 0 {
                    found(start + u64::from(equal.trailing_zeros()));
                    equal &= equal - 1;
                }
                return;
            }
        }
        let mut position = start;
        while position != end {
            position = self.settle(position);
            if read_key(self.entry(position), at) == key {
                found(position);
            }
            position += 1;
        }
    }

    /// Whether the entries from a position to another lie in more than two segments.
    #[inline(always)]
    pub fn is_long(&self, start: u64, end: u64) -> bool {
        (end >> self.unit_bits) - (start >> self.unit_bits) > 1
    }

    /// Entries of one size from a settled position to another: as many as lie in its segment, and the position behind them.
    #[inline(always)]
    pub fn piece(&self, position: u64, end: u64) -> (&[u8], u64) {
        let unit_mask = (1u64 << self.unit_bits) - 1;
        let segment = position >> self.unit_bits;
        let after = match segment == end >> self.unit_bits {
            true => end,
            false => segment << self.unit_bits | u64::from(self.units),
        };
        let bytes = (position & unit_mask) as usize * self.unit..(after & unit_mask) as usize * self.unit;
        (&self.rows[segment as usize][bytes], after)
    }

    /// Where all entries begin and end.
    pub fn all(&self) -> (u64, u64) {
        match self.filled.last() {
            Some(&filled) => {
                let last = (self.filled.len() - 1) as u64;
                (0, last << self.unit_bits | u64::from(filled))
            }
            None => (0, 0),
        }
    }

    /// A position, before the end, as one that an entry begins at.
    #[inline(always)]
    pub fn settle(&self, position: u64) -> u64 {
        let unit = position & ((1 << self.unit_bits) - 1);
        let segment = position >> self.unit_bits;
        // Rows of one size fill every segment but the last.
        let filled = match self.shape.stride() {
            0 => self.filled[segment as usize],
            _ => self.units,
        };
        if unit >= u64::from(filled) {
            (segment + 1) << self.unit_bits
        } else {
            position
        }
    }

    /// Asks for the line in which the entry at a position begins.
    #[inline(always)]
    pub fn prefetch_entry(&self, position: u64) {
        let unit = (position & ((1 << self.unit_bits) - 1)) as usize;
        let segment = &self.rows[(position >> self.unit_bits) as usize];
        prefetch_line(segment.get(unit * self.unit..).unwrap_or(&[]));
    }

    /// The bytes from the entry at a settled position on.
    #[inline(always)]
    pub fn entry(&self, position: u64) -> &[u8] {
        let unit = (position & ((1 << self.unit_bits) - 1)) as usize;
        &self.rows[(position >> self.unit_bits) as usize][unit * self.unit..]
    }

    /// The position behind an entry of `size` bytes.
    #[inline(always)]
    pub fn after(&self, position: u64, size: usize) -> u64 {
        match self.shape.stride() {
            0 => position + size as u64 / 8,
            _ => position + 1,
        }
    }

    /// Whether the entry at a settled position was marked.
    ///
    /// # Panics
    /// Where entries have no marks.
    #[inline(always)]
    pub fn is_marked(&self, position: u64) -> bool {
        let at = self.marks_at.expect("the table was built with marks");
        let unit = (position & ((1 << self.unit_bits) - 1)) as usize;
        let segment = &self.rows[(position >> self.unit_bits) as usize];
        segment[at + unit / 8] & 1 << (unit % 8) != 0
    }

    /// Marks the entry at a settled position; answers whether it was.
    ///
    /// # Panics
    /// Where entries have no marks.
    #[inline(always)]
    pub fn mark(&mut self, position: u64) -> bool {
        let at = self.marks_at.expect("the table was built with marks");
        let unit = (position & ((1 << self.unit_bits) - 1)) as usize;
        let segment = &mut self.rows[(position >> self.unit_bits) as usize];
        let byte = &mut segment[at + unit / 8];
        let was = *byte & 1 << (unit % 8) != 0;
        *byte |= 1 << (unit % 8);
        was
    }

    /// The entries, in the pieces in which they lie.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.rows.iter().zip(&self.filled);
        pieces.map(|(segment, filled)| &segment[..*filled as usize * self.unit])
    }

    /// Of each piece, the entries that were marked or those that were not, as few parts as they lie in, and how many there are.
    ///
    /// # Panics
    /// Where entries have no marks.
    pub fn pieces_marked(&self, is_marked: bool) -> impl Iterator<Item = (Vec<&[u8]>, usize)> {
        let segments = 0..self.rows.len() as u64;
        segments.zip(self.pieces()).map(move |(segment, piece)| {
            let (mut parts, mut count) = (Vec::new(), 0);
            let (mut at, mut start) = (0, 0);
            while at < piece.len() {
                let (_, size) = self.shape.sizes(&piece[at..]);
                if self.is_marked(segment << self.unit_bits | (at / self.unit) as u64) == is_marked {
                    count += 1;
                } else {
                    if start < at {
                        parts.push(&piece[start..at]);
                    }
                    start = at + size;
                }
                at += size;
            }
            if start < at {
                parts.push(&piece[start..at]);
            }
            (parts, count)
        })
    }
}

#[inline(always)]
fn read_key(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..].first_chunk().expect("the entry has a key");
    u64::from_le_bytes(*bytes)
}

/// Which of some entries, of a key and a value, have `key` at an offset: a bit for each.
#[inline(always)]
fn equal_narrow(entries: &[u8; FEW * NARROW_ENTRY], at: usize, key: u64) -> u32 {
    assert!(at <= NARROW_ENTRY - 8, "the key is in the entry");
    (0..FEW).fold(0, |equal, number| {
        equal | u32::from(read_key(entries, number * NARROW_ENTRY + at) == key) << number
    })
}

/// The slot of a hash: its bits after the first `skip_bits`, scaled to the number of slots.
#[inline(always)]
pub(super) fn slot(hash: u64, skip_bits: u32, slots: u64) -> u64 {
    ((hash << skip_bits) >> 32).wrapping_mul(slots) >> 32
}
