//! A filter of the hashes of one side of a hash partition: rows of the other side that it does not let pass have no match, and need not
//! be kept.
//!
//! # Interface
//! [`JoinFilter::new`] for a number of hashes, [`JoinFilter::insert`] each, then [`JoinFilter::may_have`], with
//! [`JoinFilter::prefetch`] before.
//!
//! # Algorithm
//! A Bloom filter of blocks of a word (Putze, Sanders and Singler, 2007): a hash sets up to four bits of one word. With eight bits
//! for each hash it lets one of twenty others pass, with four one of six.
//!
//! # Memory
//! Segments: a byte for each hash, or less, and not under half of that.

use super::table::slot;
use crate::pages::prefetch_line;
use crate::segment::Segment;

/// Hashes of a word, usually and at most.
const USUAL: usize = 8;
const MOST: usize = 16;

/// Hashes that were inserted, and a few others.
pub struct JoinFilter {
    segments: Vec<Segment>,
    words: u64,
    /// Words of a segment are 2 to this.
    word_shift: u32,
    /// Leading bits of the hash that all of them share.
    skip_bits: u32,
}

fn bits(hash: u64) -> u64 {
    1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63) | 1 << (hash >> 18 & 63)
}

impl JoinFilter {
    /// The segments that a filter for `count` hashes takes, of at most `most`; `None` where it would be of no use in these.
    pub fn segments_for(count: usize, most: usize, segment_size: usize) -> Option<usize> {
        let words = segment_size / 8;
        let segments = count.div_ceil(USUAL * words).min(most);
        (segments > 0 && count <= segments * words * MOST).then_some(segments)
    }

    /// A filter in segments that are empty, of hashes that share their first `skip_bits` bits.
    ///
    /// # Panics
    /// Where there is no segment.
    pub fn new(mut segments: Vec<Segment>, skip_bits: u32) -> JoinFilter {
        let words = segments.first().expect("a filter has a segment").len() / 8;
        segments.iter_mut().for_each(|segment| segment.fill(0));
        JoinFilter {
            words: (words * segments.len()) as u64,
            word_shift: words.trailing_zeros(),
            skip_bits,
            segments,
        }
    }

    /// The segments that it has.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The segment and the byte in it at which the word of a hash is.
    #[inline(always)]
    fn place(&self, hash: u64) -> (usize, usize) {
        let word = slot(hash, self.skip_bits, self.words);
        let in_segment = word & ((1 << self.word_shift) - 1);
        ((word >> self.word_shift) as usize, in_segment as usize * 8)
    }

    /// Adds a hash.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        let (segment, at) = self.place(hash);
        let place = &mut self.segments[segment][at..at + 8];
        let word = u64::from_le_bytes(place.try_into().expect("a word has eight bytes"));
        place.copy_from_slice(&(word | bits(hash)).to_le_bytes());
    }

    /// Asks for the line that [`JoinFilter::may_have`] of the hash looks at.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        let (segment, at) = self.place(hash);
        prefetch_line(&self.segments[segment][at..]);
    }

    /// Whether the hash was added; sometimes true where it was not.
    #[inline(always)]
    pub fn may_have(&self, hash: u64) -> bool {
        let (segment, at) = self.place(hash);
        let word = self.segments[segment][at..at + 8].try_into();
        let bits = bits(hash);
        u64::from_le_bytes(word.expect("a word has eight bytes")) & bits == bits
    }
}
