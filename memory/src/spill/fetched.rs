//! Neighbouring blocks, read ahead by one large read into segments that the reader has.
//!
//! # Interface
//! [`SpillHandle::neighbours`] says how many blocks one read can fetch; [`SpillHandle::fetch`] asks for them and
//! [`SpillHandle::start_fetches`] starts what was asked for; [`SpillHandle::take_fetched`] gives one block after the other, and
//! segments back as soon as nothing that is wanted lies in them. Who has no memory to spare reads through the workspace, with a
//! [`BlockReader`](super::BlockReader).
//!
//! # Algorithm
//! A block that is stored as it is, and that has the rest of a segment to itself, is not copied: its segment changes places with the
//! one that the caller wanted it in. Other blocks are decoded there. Blocks are taken in the order in which they lie.
//!
//! # Invariants
//! I1. Segments belong to the transfer until it is over, then to the [`Fetched`]: who drops that before gets them back when the
//!     transfer is over, or with the end of the handle.

use std::ops::Range;
use std::sync::Arc;

use super::block::{BlockRef, HEADER_BYTES, payload_in_place};
use super::config::PAGE;
use super::device::Memory;
use super::handle::{SpillHandle, Walk};
use super::pipeline::Readers;
use super::scattered::Scattered;
use crate::error::Result;
use crate::segment::Segment;

/// A gap between two blocks that is read along.
const GAP: usize = 2 * PAGE;

/// Blocks that were asked for.
pub struct Fetched {
    state: State,
    /// Where the read starts in its extent.
    start: usize,
    readers: Arc<Readers>,
}

enum State {
    /// On their way, by ticket.
    Coming(u64),
    Here(Scattered),
    /// They did not come, or were given back.
    Over,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if let State::Coming(ticket) = self.state
            && let Ok(mut abandoned) = self.readers.abandoned.lock()
        {
            abandoned.push(ticket);
        }
    }
}

impl SpillHandle {
    /// How many of `blocks`, from the first on, one read of at most `limit` bytes can fetch, and its bytes. None where the first
    /// is not on disk yet, or larger.
    pub fn neighbours(&self, mut blocks: impl Iterator<Item = BlockRef>, limit: usize) -> (usize, usize) {
        let Some(first) = blocks.next() else {
            return (0, 0);
        };
        let start = first.offset() as usize & !(PAGE - 1);
        let mut end = first.end().next_multiple_of(PAGE);
        let extent = first.extent();
        if end - start > limit || self.first_pending(extent, start..end).is_some() {
            return (0, 0);
        }
        let mut count = 1;
        for block in blocks {
            let (from, to) = (block.offset() as usize, block.end().next_multiple_of(PAGE));
            let is_near = block.extent() == extent && from >= start && from <= end + GAP;
            if !is_near || to.max(end) - start > limit || self.first_pending(extent, from..to).is_some() {
                break;
            }
            end = end.max(to);
            count += 1;
        }
        (count, end - start)
    }

    /// Asks for `bytes` from `first` on, as [`SpillHandle::neighbours`] says them, in segments that hold as many and lie at whole
    /// pages of memory, as those of a budget do.
    ///
    /// # Errors
    /// Where the device cannot be opened.
    ///
    /// # Panics
    /// Where there are no segments.
    pub fn fetch(&mut self, first: &BlockRef, bytes: usize, segments: Vec<Segment>) -> Result<Fetched> {
        let start = first.offset() as usize & !(PAGE - 1);
        debug_assert!(
            segments
                .iter()
                .all(|segment| segment.as_ptr().addr().is_multiple_of(PAGE))
        );
        let readers = self.pipeline().readers.clone();
        let ticket = self
            .pipeline()
            .fetch_into(Scattered::new(segments), first.extent(), start, bytes)?;
        Ok(Fetched {
            state: State::Coming(ticket),
            start,
            readers,
        })
    }

    /// Starts what was asked for.
    pub fn start_fetches(&mut self) {
        self.pipeline().kick();
    }

    /// Reads a block of those that were fetched, waiting for them; where in `into`, which may have become another segment, its
    /// payload is. `next` is the block that will be taken next, behind this one; without one all memory comes back. Free segments
    /// are appended to `free`.
    ///
    /// # Errors
    /// As [`SpillHandle::read`]; the memory is given back then, and nothing more is to be had.
    ///
    /// # Panics
    /// After the last block.
    pub fn take_fetched(
        &mut self,
        fetched: &mut Fetched,
        block: &BlockRef,
        next: Option<&BlockRef>,
        into: &mut Segment,
        free: &mut Vec<Segment>,
    ) -> Result<Range<usize>> {
        let taken = self.take_block(fetched, block, next, into);
        if let State::Here(memory) = &mut fetched.state {
            let end = next.map_or(usize::MAX, |next| {
                (next.offset() as usize).saturating_sub(fetched.start)
            });
            free.extend(std::iter::from_fn(|| memory.take_before(end)));
            if next.is_none() || taken.is_err() {
                fetched.state = State::Over;
            }
        }
        taken
    }

    fn take_block(
        &mut self,
        fetched: &mut Fetched,
        block: &BlockRef,
        next: Option<&BlockRef>,
        into: &mut Segment,
    ) -> Result<Range<usize>> {
        self.check_read(block, into)?;
        if let State::Coming(ticket) = fetched.state {
            fetched.state = State::Over;
            let come = self.pipeline().wait_for(ticket);
            match come.expect("nothing takes back what goes to segments")? {
                Memory::Segments(memory) => fetched.state = State::Here(memory),
                Memory::Buffer(_) => unreachable!("segments were read into"),
            }
        }
        let State::Here(memory) = &mut fetched.state else {
            panic!("blocks are taken before their memory is given back");
        };
        let next = next.map(|next| (next.offset() as usize).saturating_sub(fetched.start));
        let place = match (block.offset() as usize).checked_sub(fetched.start) {
            Some(from) => from..from + block.stored_bytes(),
            None => 0..0,
        };
        if let Some((segment, at)) = memory.piece(&place)
            && segment.len() == into.len()
            && next.is_none_or(|next| next >= place.start - at + segment.len())
        {
            let bytes = &segment[at..at + place.len()];
            let payload = payload_in_place(bytes, block, block.offset());
            let payload = payload.map_err(|damage| self.damaged(block, block.offset() as usize, damage))?;
            if let Some(payload) = payload {
                std::mem::swap(segment, into);
                self.count_read(block);
                return Ok(at + payload.start..at + payload.end);
            }
        }
        let start = fetched.start;

        let most = self.pipeline().shared.geometry.fragment_bytes() + HEADER_BYTES;
        let mut walk = Walk::new(block);
        while !walk.is_done() {
            self.gathered.clear();
            if let Some(from) = walk.position.checked_sub(start) {
                let to = (from + most).min(block.end().saturating_sub(start));
                for piece in memory.pieces(from..to) {
                    self.gathered.extend_from_slice(piece);
                }
            }
            walk.take(&self.gathered, into)
                .map_err(|damage| self.damaged(block, walk.position, damage))?;
        }
        self.count_read(block);
        Ok(0..block.raw_bytes())
    }
}
