//! Segments that one read fills one behind the other, as if they were one piece of memory.
//!
//! # Interface
//! [`Scattered::pieces_mut`] is where a transfer moves bytes to; [`Scattered::piece`] a range that lies in one segment.

use std::collections::VecDeque;
use std::ops::Range;

use crate::segment::Segment;

/// Segments of one size, of which some at the front may have been taken out.
#[derive(Debug)]
pub(crate) struct Scattered {
    segments: VecDeque<Segment>,
    segment_bytes: usize,
    /// How many were taken out.
    taken: usize,
}

impl Scattered {
    /// One piece of memory of as many bytes as the segments, at least one, have together.
    pub fn new(segments: Vec<Segment>) -> Self {
        Scattered {
            segment_bytes: segments[0].len(),
            segments: segments.into(),
            taken: 0,
        }
    }

    /// All bytes, those of segments that were taken out included.
    pub fn len(&self) -> usize {
        (self.taken + self.segments.len()) * self.segment_bytes
    }

    /// The memory of a range, segment by segment.
    pub fn pieces_mut(&mut self, range: Range<usize>) -> impl Iterator<Item = &mut [u8]> {
        let (size, taken) = (self.segment_bytes, self.taken);
        let segments = (taken..).zip(&mut self.segments);
        segments.filter_map(move |(index, segment)| {
            let places = within(index * size..(index + 1) * size, &range)?;
            Some(&mut segment[places])
        })
    }

    /// The bytes of a range, segment by segment: nothing of segments that were taken out.
    pub fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let (size, taken) = (self.segment_bytes, self.taken);
        let segments = (taken..).zip(&self.segments);
        segments.filter_map(move |(index, segment)| {
            let places = within(index * size..(index + 1) * size, &range)?;
            Some(&segment[places])
        })
    }

    /// The segment that has the whole of a range, and where it begins in it; nothing where it lies in several.
    pub fn piece(&mut self, range: &Range<usize>) -> Option<(&mut Segment, usize)> {
        let index = range.start / self.segment_bytes;
        let start = range.start - index * self.segment_bytes;
        if start + range.len() > self.segment_bytes {
            return None;
        }
        let segment = self.segments.get_mut(index.checked_sub(self.taken)?)?;
        Some((segment, start))
    }

    /// Takes the segment at the front where it ends at or before `end`.
    pub fn take_before(&mut self, end: usize) -> Option<Segment> {
        if (self.taken + 1) * self.segment_bytes > end {
            return None;
        }
        let segment = self.segments.pop_front()?;
        self.taken += 1;
        Some(segment)
    }
}

/// The part of `all` that is in `range`, counted from the start of `all`.
fn within(all: Range<usize>, range: &Range<usize>) -> Option<Range<usize>> {
    let (start, end) = (all.start.max(range.start), all.end.min(range.end));
    (start < end).then(|| start - all.start..end - all.start)
}
