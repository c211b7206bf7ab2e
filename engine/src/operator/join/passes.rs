//! A pair of logs that the bits of the hash do not divide, joined in passes: a chunk of one side that fits in memory, against all of
//! the other.
//!
//! # Interface
//! [`Passes::load`] puts the next chunk in memory, [`Passes::begin`] starts to read the other side, and [`Passes::next`] has its rows.
//! When no chunk is left, [`Passes::end`] answers the second passes, if there are to be any.
//!
//! # Algorithm
//! The chunks are of a side whose rows are kept, so that marks say which of a chunk have no match. Where the rows of both are,
//! second passes follow with chunks of the other side, which look for its rows without a match alone.
//!
//! # Memory
//! What a chunk may take is counted as it is loaded: its rows twice, while they are sorted, and the directory. Where it finds no room
//! after all, its rows are read again, fewer at a time.

use super::feed::Feed;
use super::functions::{Kind, Pairs};
use super::partitions::{Left, Partitions, Role, Spilled};
use super::probing::Input;
use forebay_memory::join::EntryShape;
use forebay_memory::spill::BlockRef;
use forebay_memory::{Budget, Error, Result, SegmentSource, SpillHandle};

/// Segments that a pass needs beside its chunk: buffers of both sides, and of the blocks that are read.
const PASS_SEGMENTS: usize = 6;

/// The most that a segment has besides entries, in bytes.
const SEGMENT_HEADER: usize = 64;

/// Logs whose rows are to be joined.
pub(super) struct Pair {
    /// Left and right.
    pub(super) sides: [Spilled; 2],
    /// Rows of either that have matched, of one side at most: this is a build side.
    pub(super) matched: [Spilled; 2],
    pub(super) skip_bits: u32,
    /// What is to be sent of it: of what passes have left, not all that the join sends.
    pub(super) kind: Kind,
    /// Whether further bits of the hash do not divide it.
    pub(super) is_undivided: bool,
}

impl Pair {
    /// The pair that a partition has left.
    pub(super) fn of(left: Left, build_is_left: bool, skip_bits: u32, kind: Kind) -> Pair {
        let Left {
            build,
            matched,
            probe,
        } = left;
        let (mut sides, mut matched) = ([build, probe], [matched, Spilled::default()]);
        if !build_is_left {
            sides.reverse();
            matched.reverse();
        }
        Pair {
            sides,
            matched,
            skip_bits,
            kind,
            is_undivided: false,
        }
    }

    /// Bytes of the left side and the right side.
    pub(super) fn bytes(&self) -> [usize; 2] {
        [0, 1].map(|side| self.sides[side].bytes + self.matched[side].bytes)
    }

    /// Whether they have rows.
    pub(super) fn have_rows(&self) -> [bool; 2] {
        [0, 1].map(|side| self.sides[side].rows + self.matched[side].rows > 0)
    }

    /// Whether rows can come of it.
    pub(super) fn is_needed(&self) -> bool {
        let kind = self.kind;
        self.have_rows() == [true, true] && kind.pairs != Pairs::None
            || self.sides[0].rows > 0 && kind.keeps_left
            || self.sides[1].rows > 0 && kind.keeps_right
    }

    /// Whether the left side is to be the build side: the one whose rows have marks, or the smaller one.
    pub(super) fn builds_left(&self) -> bool {
        let [left, right] = self.bytes();
        match self.matched.each_ref().map(|side| side.rows > 0) {
            [false, false] => left <= right,
            [of_left, of_right] => {
                assert!(of_left != of_right, "one side is the build side");
                of_left
            }
        }
    }

    /// Frees its blocks.
    pub(super) fn free(self, handle: &mut SpillHandle) {
        let logs = self.sides.into_iter().chain(self.matched);
        logs.flat_map(|log| log.blocks)
            .for_each(|block| handle.free(block));
    }
}

/// A pair that is joined in passes.
pub(super) struct Passes {
    /// Whose chunks are in memory, and whose rows are looked at in each pass.
    pub(super) chunk_is_left: bool,
    /// What the passes send.
    pub(super) kind: Kind,
    pub(super) skip_bits: u32,
    /// Whether the passes for the other side's rows without a match are to come.
    has_second: bool,
    /// Rows of the chunks to come: without a match so far, and those that have had one.
    chunks: [Feed; 2],
    /// The piece at hand, and where its entries go on.
    piece: Option<(Input, usize, Role)>,
    /// The blocks of the chunks, to be given back, or to be the others of the second passes.
    own: [Vec<BlockRef>; 2],
    others: [Vec<BlockRef>; 2],
    /// What a chunk may take, in bytes.
    limit: usize,
    feed: Feed,
    /// Whether a piece of the other side has met the chunk.
    has_advanced: bool,
}

/// What a chunk may take of a budget of so many segments, in bytes.
fn chunk_limit(segments: usize, budget: &Budget) -> usize {
    segments.saturating_sub(PASS_SEGMENTS).max(1) * budget.segment_size()
}

/// What an entry of a size takes of segments: twice, while it is sorted, and a word of the directory. Of large ones few are in a
/// segment, and some of it is left over.
fn cost_of(size: usize, segment_size: usize) -> usize {
    match size {
        size if size > segment_size / 2 => 2 * size.next_multiple_of(segment_size),
        size if size > segment_size / 8 => 2 * segment_size / ((segment_size - SEGMENT_HEADER) / size).max(1),
        size => 2 * size + 16,
    }
}

impl Passes {
    /// Passes of a pair, which may count on `share` segments.
    pub(super) fn new(pair: Pair, share: usize, budget: &Budget, handle: &mut SpillHandle) -> Self {
        let [left_bytes, right_bytes] = pair.bytes();
        let kind = pair.kind;
        let chunk_is_left = match (kind.keeps_left || kind.pairs == Pairs::LeftOnce, kind.keeps_right) {
            (false, false) => left_bytes <= right_bytes,
            (keeps_left, _) => keeps_left,
        };
        let has_second = kind.keeps_left && kind.keeps_right;
        let [left, right] = pair.sides;
        let [left_matched, right_matched] = pair.matched;
        let (left, right) = (
            [left.blocks, left_matched.blocks],
            [right.blocks, right_matched.blocks],
        );
        let (own, others) = match chunk_is_left {
            true => (left, right),
            false => (right, left),
        };
        Passes {
            chunk_is_left,
            chunks: own
                .each_ref()
                .map(|blocks| Feed::of_blocks(blocks.clone(), false, handle)),
            piece: None,
            others,
            has_second,
            own,
            limit: chunk_limit(share, budget),
            skip_bits: pair.skip_bits,
            kind: Kind {
                keeps_right: kind.keeps_right && !has_second,
                ..kind
            },
            feed: Feed::default(),
            has_advanced: false,
        }
    }

    /// The chunks to come take no more than `share` segments allow: it may be less than when the passes began.
    pub(super) fn limit_to(&mut self, share: usize, budget: &Budget) {
        self.limit = self.limit.min(chunk_limit(share, budget));
    }

    /// Puts the next chunk in the only one of `partitions`; false where there is none. Its rows have a shape, and `hash` tells their
    /// hashes.
    pub(super) fn load(
        &mut self,
        partitions: &mut Partitions,
        shape: EntryShape,
        budget: &Budget,
        handle: &mut SpillHandle,
        hash: impl Fn(&[u8]) -> u64,
    ) -> Result<bool> {
        let (mut cost, mut has_rows) = (0, false);
        loop {
            let (piece, mut offset, role) = match self.piece.take() {
                Some(piece) => piece,
                None => match self.next_piece(budget, handle)? {
                    Some((piece, role)) => (piece, 0, role),
                    None => return Ok(has_rows),
                },
            };
            while offset < piece.bytes().len() {
                let entry = &piece.bytes()[offset..];
                let (row, size) = shape.sizes(entry);
                cost += cost_of(size, budget.segment_size());
                if cost > self.limit && has_rows {
                    self.piece = Some((piece, offset, role));
                    return Ok(true);
                }
                partitions.append(role, 0, &entry[..row], hash(entry), handle)?;
                has_rows = true;
                offset += size;
            }
            self.chunks[usize::from(role == Role::Matched)].take_back(piece);
        }
    }

    fn next_piece(&mut self, budget: &Budget, handle: &mut SpillHandle) -> Result<Option<(Input, Role)>> {
        for (chunks, role) in self.chunks.iter_mut().zip([Role::Build, Role::Matched]) {
            if let Some(piece) = chunks.next(None, budget, handle)? {
                return Ok(Some((piece, role)));
            }
        }
        Ok(None)
    }

    /// Starts to read the other side.
    pub(super) fn begin(&mut self, handle: &mut SpillHandle) {
        self.feed = Feed::of_blocks(self.others.concat(), false, handle);
        self.has_advanced = false;
    }

    /// Whether some of its rows have met the chunk.
    pub(super) fn has_advanced(&self) -> bool {
        self.has_advanced
    }

    /// The next rows of the other side; `last` are those before them.
    pub(super) fn next(
        &mut self,
        last: Option<Input>,
        budget: &Budget,
        handle: &mut SpillHandle,
    ) -> Result<Option<Input>> {
        self.has_advanced |= last.is_some();
        self.feed.next(last, budget, handle)
    }

    /// The chunk found no room after all: its rows, which have left memory, are to be read again, fewer at a time. What is guaranteed is
    /// enough for one.
    ///
    /// # Errors
    /// `Memory` where a single row found no room.
    pub(super) fn retry(&mut self, left: Left, budget: &Budget, handle: &mut SpillHandle) -> Result<()> {
        if self.limit == 0 {
            return Err(Error::memory(format!(
                "{}: finds no room for a single row of a pair that is joined in passes, in {} segments; raise memory.managed_size",
                budget.owner(),
                budget.minimum()
            )));
        }
        for (number, log) in [left.build, left.matched].into_iter().enumerate() {
            // Behind what is being read there is the rest of the chunks, so the chunk comes again at their end.
            self.chunks[number].add(log.blocks.clone(), handle);
            self.own[number].extend(log.blocks);
        }
        debug_assert_eq!(left.probe.rows, 0, "the other side is in its log");
        // Where others keep the rest, what is guaranteed is most often enough; where it is not, there are fewer rows each time.
        let least = chunk_limit(budget.minimum(), budget);
        self.limit = match self.limit > least {
            true => (self.limit / 2).max(least),
            false => self.limit / 2,
        };
        Ok(())
    }

    /// After the last chunk: the second passes, if there are any.
    pub(super) fn end(mut self, handle: &mut SpillHandle) -> Option<Passes> {
        self.chunks.iter_mut().for_each(|chunks| chunks.end(handle));
        if !self.has_second {
            let blocks = self.own.into_iter().chain(self.others).flatten();
            blocks.for_each(|block| handle.free(block));
            return None;
        }
        // Of the other side's rows, those that have had a match need no other.
        let chunks = Feed::of_blocks(self.others[0].clone(), false, handle);
        Some(Passes {
            chunk_is_left: !self.chunk_is_left,
            chunks: [chunks, Feed::default()],
            piece: None,
            others: self.own,
            has_second: false,
            own: self.others,
            kind: Kind {
                pairs: Pairs::None,
                keeps_left: !self.chunk_is_left,
                keeps_right: self.chunk_is_left,
            },
            ..self
        })
    }
}
