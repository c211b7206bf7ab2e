//! The state of a group that is not lanes alone: lanes and byte strings in one piece, so that it moves as one.
//!
//! # Interface
//! A [`GroupState`] owns the bytes of a state that is being folded; a [`State`] is the share that one aggregate of a tuple has
//! in it; [`StateBytes`] is one byte string, which grows and shrinks like a vector. [`StateRef`] reads a state wherever it
//! lies.
//!
//! # Layout
//! ```text
//!  0  lanes, 8 bytes each
//!     where each byte string ends, counted from the end of this part: u32 each, then zeros up to a multiple of 8
//!     the byte strings, one after the other
//! ```
//! As it is stored (in a table, a spilled block, or a row on its way), a state is one or more *records*: size (u32), zeros (u32), the
//! bytes above, zeros up to a multiple of 8. Several records are states of the same key that were not merged yet; a size of 0
//! ends them early.

use std::ops::{Deref, DerefMut, Range};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes before a record's state.
pub(crate) const RECORD_HEADER: usize = 8;

/// The state of a group while it is folded.
#[derive(Debug, Default)]
pub struct GroupState {
    /// The state, and room.
    words: Vec<u64>,
    used: usize,
    lanes: usize,
    parts: usize,
}

/// Where the byte strings begin in a state.
#[inline(always)]
const fn strings_at(lanes: usize, parts: usize) -> usize {
    8 * lanes + (4 * parts).next_multiple_of(8)
}

#[inline(always)]
fn u32_at(bytes: &[u8], at: usize) -> usize {
    let bytes = bytes[at..].first_chunk().expect("a state has all its ends");
    u32::from_le_bytes(*bytes) as usize
}

/// Where byte string `part` lies in a state.
#[inline(always)]
fn range_of(bytes: &[u8], lanes: usize, parts: usize, part: usize) -> Range<usize> {
    assert!(part < parts, "a state has {parts} byte strings");
    let start = strings_at(lanes, parts);
    let before = match part {
        0 => 0,
        part => u32_at(bytes, 8 * lanes + 4 * (part - 1)),
    };
    start + before..start + u32_at(bytes, 8 * lanes + 4 * part)
}

impl GroupState {
    /// The state of no record: lanes of zeros and empty byte strings.
    pub(crate) fn new(lanes: usize, parts: usize) -> Self {
        let mut state = GroupState {
            words: Vec::new(),
            used: 0,
            lanes,
            parts,
        };
        state.reset();
        state
    }

    /// Makes it the state of no record.
    pub(crate) fn reset(&mut self) {
        self.used = strings_at(self.lanes, self.parts);
        self.words.clear();
        self.words.resize(self.used / 8, 0);
    }

    /// Makes it a copy of a state's bytes.
    #[inline]
    pub(crate) fn load(&mut self, bytes: &[u8]) {
        self.used = bytes.len();
        let words = bytes.len().div_ceil(8);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        self.words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    }

    /// The state's bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.used]
    }

    /// The state, to be read.
    #[inline]
    pub(crate) fn as_ref(&self) -> StateRef<'_> {
        StateRef::new(self.bytes(), self.lanes, self.parts)
    }

    /// The state, to be folded into.
    #[inline]
    pub(crate) fn as_mut(&mut self) -> State<'_> {
        State {
            lanes: 0..self.lanes,
            parts: 0..self.parts,
            state: self,
        }
    }

    /// Replaces `range` of the byte strings, which is in string `part`, by `size` bytes, the new ones zeros.
    fn splice(&mut self, part: usize, range: Range<usize>, size: usize) {
        let (old_end, new_end) = (range.end, range.start + size);
        let used = self.used - range.len() + size;
        assert!(u32::try_from(used).is_ok(), "a group's state has less than 4 GiB");
        let words = used.div_ceil(8);
        if self.words.len() < words {
            // Geometric growth is the vector's own.
            self.words.resize(words, 0);
        }
        let ends = 8 * self.lanes;
        let bytes = self.words.as_mut_bytes();
        bytes.copy_within(old_end..self.used, new_end);
        if new_end > old_end {
            bytes[old_end..new_end].fill(0);
        }
        for later in part..self.parts {
            let at = ends + 4 * later;
            let end = u32_at(bytes, at) + size - range.len();
            bytes[at..at + 4].copy_from_slice(&(end as u32).to_le_bytes());
        }
        self.used = used;
    }
}

/// The share of an aggregate in the state of a group: its lanes and its byte strings.
#[derive(Debug)]
pub struct State<'s> {
    state: &'s mut GroupState,
    lanes: Range<usize>,
    parts: Range<usize>,
}

impl State<'_> {
    /// The lanes.
    #[inline(always)]
    pub fn lanes(&mut self) -> &mut [u64] {
        &mut self.state.words[self.lanes.clone()]
    }

    /// Byte string number `part`.
    ///
    /// # Panics
    /// Where the aggregate has fewer.
    #[inline(always)]
    pub fn part(&mut self, part: usize) -> StateBytes<'_> {
        assert!(part < self.parts.len(), "an aggregate has its own byte strings");
        let part = self.parts.start + part;
        let range = range_of(self.state.bytes(), self.state.lanes, self.state.parts, part);
        StateBytes {
            state: self.state,
            part,
            start: range.start,
            end: range.end,
        }
    }

    /// The share of one aggregate of a tuple: so many lanes and byte strings from these on.
    #[inline(always)]
    pub fn share(&mut self, first_lane: usize, lanes: usize, first_part: usize, parts: usize) -> State<'_> {
        let (lane, part) = (self.lanes.start + first_lane, self.parts.start + first_part);
        State {
            lanes: lane..lane + lanes,
            parts: part..part + parts,
            state: self.state,
        }
    }
}

/// A byte string in the state of a group. It is a `[u8]`, and may be made longer or shorter.
#[derive(Debug)]
pub struct StateBytes<'s> {
    state: &'s mut GroupState,
    part: usize,
    start: usize,
    end: usize,
}

impl StateBytes<'_> {
    /// Appends bytes.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.len();
        self.grow(bytes.len()).copy_from_slice(bytes);
        debug_assert_eq!(self.len(), end + bytes.len());
    }

    /// Appends `size` zeros and answers where they are.
    #[inline]
    pub fn grow(&mut self, size: usize) -> &mut [u8] {
        let end = self.end;
        self.state.splice(self.part, end..end, size);
        self.end += size;
        &mut self.state.words.as_mut_bytes()[end..end + size]
    }

    /// Replaces a range of the bytes by others.
    ///
    /// # Panics
    /// Where the range is not inside.
    pub fn splice(&mut self, range: Range<usize>, bytes: &[u8]) {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "a range of a byte string is inside it"
        );
        let from = self.start + range.start;
        self.state
            .splice(self.part, from..self.start + range.end, bytes.len());
        self.end = self.end - range.len() + bytes.len();
        self.state.words.as_mut_bytes()[from..from + bytes.len()].copy_from_slice(bytes);
    }

    /// Keeps the first `size` bytes, where there are more.
    pub fn truncate(&mut self, size: usize) {
        if size < self.len() {
            self.splice(size..self.len(), &[]);
        }
    }

    /// Replaces all of it.
    pub fn set(&mut self, bytes: &[u8]) {
        self.splice(0..self.len(), bytes);
    }
}

impl Deref for StateBytes<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.state.words.as_bytes()[self.start..self.end]
    }
}

impl DerefMut for StateBytes<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.state.words.as_mut_bytes()[self.start..self.end]
    }
}

/// A state, or the share of an aggregate in it, to be read.
#[derive(Debug, Clone)]
pub struct StateRef<'s> {
    bytes: &'s [u8],
    all_lanes: usize,
    all_parts: usize,
    lanes: Range<usize>,
    parts: Range<usize>,
}

impl<'s> StateRef<'s> {
    /// The state in `bytes`, which begin at a multiple of 8.
    pub(crate) fn new(bytes: &'s [u8], lanes: usize, parts: usize) -> Self {
        StateRef {
            bytes,
            all_lanes: lanes,
            all_parts: parts,
            lanes: 0..lanes,
            parts: 0..parts,
        }
    }

    /// The lanes.
    #[inline(always)]
    pub fn lanes(&self) -> &'s [u64] {
        let bytes = &self.bytes[8 * self.lanes.start..8 * self.lanes.end];
        <[u64]>::ref_from_bytes(bytes).expect("states begin at multiples of 8")
    }

    /// Byte string number `part`.
    ///
    /// # Panics
    /// Where the aggregate has fewer.
    #[inline(always)]
    pub fn part(&self, part: usize) -> &'s [u8] {
        assert!(part < self.parts.len(), "an aggregate has its own byte strings");
        &self.bytes[range_of(
            self.bytes,
            self.all_lanes,
            self.all_parts,
            self.parts.start + part,
        )]
    }

    /// The share of one aggregate of a tuple, as [`State::share`].
    #[inline(always)]
    pub fn share(&self, first_lane: usize, lanes: usize, first_part: usize, parts: usize) -> StateRef<'s> {
        let (lane, part) = (self.lanes.start + first_lane, self.parts.start + first_part);
        StateRef {
            lanes: lane..lane + lanes,
            parts: part..part + parts,
            ..*self
        }
    }
}

/// Bytes of a state's record.
#[inline]
pub(crate) const fn record_size(state: usize) -> usize {
    RECORD_HEADER + state.next_multiple_of(8)
}

/// Appends a state as a record.
#[inline]
pub(crate) fn write_record(state: &[u8], out: &mut Vec<u8>) {
    let end = out.len() + record_size(state.len());
    out.extend_from_slice(&(state.len() as u64).to_le_bytes());
    out.extend_from_slice(state);
    out.resize(end, 0);
}

/// The states of records, one after the other.
pub(crate) struct Records<'r> {
    rest: &'r [u8],
}

impl<'r> Records<'r> {
    /// The records at the start of `bytes`.
    pub(crate) fn of(bytes: &'r [u8]) -> Self {
        Records { rest: bytes }
    }

    /// The bytes of the first record, header and padding included.
    pub(crate) fn first_size(&self) -> Option<usize> {
        let size = u64::from_le_bytes(*self.rest.first_chunk()?) as usize;
        (size > 0).then(|| record_size(size))
    }
}

impl<'r> Iterator for Records<'r> {
    type Item = &'r [u8];

    #[inline]
    fn next(&mut self) -> Option<&'r [u8]> {
        let size = u64::from_le_bytes(*self.rest.first_chunk()?) as usize;
        if size == 0 {
            return None;
        }
        let state = &self.rest[RECORD_HEADER..RECORD_HEADER + size];
        self.rest = self.rest.get(record_size(size)..).unwrap_or(&[]);
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_memory::hash::hash_u64;

    /// Byte strings of one state against as many vectors, under random changes.
    #[test]
    fn byte_strings_are_like_vectors() {
        for (lanes, parts) in [(0, 1), (1, 1), (2, 3), (5, 4)] {
            let mut state = GroupState::new(lanes, parts);
            let mut model = vec![Vec::<u8>::new(); parts];
            for step in 0..4_000u64 {
                let draw = hash_u64(step << 8 | lanes as u64);
                let (part, bytes) = ((draw >> 8) as usize % parts, draw.to_le_bytes());
                let bytes = &bytes[..(draw >> 16) as usize % 9];
                let mut own = state.as_mut();
                own.lanes().iter_mut().for_each(|lane| *lane += 1);
                let (mut string, vector) = (own.part(part), &mut model[part]);
                match draw % 8 {
                    0..=3 => {
                        string.extend_from_slice(bytes);
                        vector.extend_from_slice(bytes);
                    }
                    4 => {
                        let start = (draw >> 24) as usize % (vector.len() + 1);
                        let end = start + (draw >> 32) as usize % (vector.len() - start + 1);
                        string.splice(start..end, bytes);
                        vector.splice(start..end, bytes.iter().copied());
                    }
                    5 => {
                        let size = (draw >> 24) as usize % 200;
                        string.truncate(size);
                        vector.truncate(size);
                    }
                    6 if step % 50 == 0 => {
                        string.set(bytes);
                        *vector = bytes.to_vec();
                    }
                    _ => {
                        string.grow(3)[1] = 7;
                        vector.extend_from_slice(&[0, 7, 0]);
                        let last = vector.len() - 1;
                        string[last] = 9;
                        vector[last] = 9;
                    }
                }
                for (part, vector) in model.iter().enumerate() {
                    assert_eq!(&*state.as_mut().part(part), &vector[..]);
                    assert_eq!(state.as_ref().part(part), &vector[..]);
                }
                assert!(state.as_ref().lanes().iter().all(|lane| *lane == step + 1));
                if step % 7 == 0 {
                    let copy = state.bytes().to_vec();
                    state.reset();
                    assert!(state.as_ref().part(0).is_empty());
                    state.load(&copy);
                }
            }
        }
    }

    #[test]
    fn shares_are_apart() {
        let mut state = GroupState::new(3, 2);
        let mut all = state.as_mut();
        let mut second = all.share(1, 2, 1, 1);
        second.lanes()[0] = 5;
        second.part(0).extend_from_slice(b"second");
        all.share(0, 1, 0, 1).part(0).extend_from_slice(b"first");
        assert_eq!(state.as_ref().lanes(), [0, 5, 0]);
        assert_eq!(state.as_ref().part(0), b"first");
        assert_eq!(state.as_ref().share(1, 2, 1, 1).part(0), b"second");
    }

    #[test]
    fn records_follow_each_other_and_end() {
        let mut stored = Vec::new();
        for state in [&b"12345678"[..], b"123", b"123456789"] {
            write_record(state, &mut stored);
        }
        let all: Vec<&[u8]> = Records::of(&stored).collect();
        assert_eq!(all, [&b"12345678"[..], b"123", b"123456789"]);
        stored.extend_from_slice(&[0; 24]);
        assert_eq!(Records::of(&stored).count(), 3);
        assert_eq!(Records::of(&[]).count(), 0);
    }
}
