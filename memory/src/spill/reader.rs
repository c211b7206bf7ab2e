//! Many blocks in a given order, read ahead and in large pieces.
//!
//! # Algorithm
//! Neighbouring blocks become one *window* of at most one large read. As many windows are asked for ahead as this
//! handle's share of the workspace holds, up to a depth shared by all readers of the handle; and several at a
//! time, so that one system call starts them. A window that had to be taken back, and a block that is still in
//! memory, is read when its turn comes: slower, never wrong.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::block::{BlockRef, Damage};
use super::config::PAGE;
use super::handle::{SpillHandle, Walk};
use super::pipeline::Readers;
use crate::error::Result;

/// Windows ahead at most, over all readers of a handle: the depth at which the disk reaches its limit.
const DEPTH: usize = 32;
/// Windows are no larger than lets this many of them fit the handle's share, so that some are on their way while
/// one is used.
const WINDOWS: usize = 4;
/// A gap between two blocks that is read along rather than starting another window.
const GAP: usize = 2 * PAGE;

/// Reads blocks in order. The handle is given to each call, so that one handle can have many readers.
pub struct BlockReader {
    blocks: Vec<BlockRef>,
    /// The next block to hand out.
    next: usize,
    /// The next block to plan.
    planned: usize,
    ahead: VecDeque<Ahead>,
    readers: Arc<Readers>,
}

/// Blocks up to `end` of the list, in one window.
struct Ahead {
    end: usize,
    ticket: Option<u64>,
    /// Where the window starts in its extent.
    start: usize,
}

impl BlockReader {
    pub(crate) fn new(blocks: Vec<BlockRef>, readers: Arc<Readers>) -> Self {
        readers.count.fetch_add(1, Ordering::Relaxed);
        BlockReader {
            blocks,
            next: 0,
            planned: 0,
            ahead: VecDeque::new(),
            readers,
        }
    }

    /// Blocks not handed out yet.
    pub fn remaining(&self) -> usize {
        self.blocks.len() - self.next
    }

    /// The blocks not handed out yet.
    pub fn rest(&self) -> &[BlockRef] {
        &self.blocks[self.next..]
    }

    /// Reads the next block's payload to the start of `into`; returns its length, or `None` after the last.
    ///
    /// `handle` is the one that made this reader.
    ///
    /// # Errors
    /// As [`SpillHandle::read`]; the reader then stands behind the block that failed.
    pub fn next(&mut self, handle: &mut SpillHandle, into: &mut [u8]) -> Result<Option<usize>> {
        let Some(block) = self.blocks.get(self.next).copied() else {
            return Ok(None);
        };
        handle.check_read(&block, into)?;
        self.plan(handle)?;
        let result = self.read(handle, &block, into);
        self.next += 1;
        if let Some(front) = self.ahead.front().filter(|front| front.end <= self.next) {
            if let Some(ticket) = front.ticket {
                handle.pipeline().forget(ticket);
            }
            self.ahead.pop_front();
        }
        result.map(Some)
    }

    fn read(&mut self, handle: &mut SpillHandle, block: &BlockRef, into: &mut [u8]) -> Result<usize> {
        let front = self.ahead.front_mut().expect("plan has put the next block there");
        let Some(ticket) = front.ticket else {
            return handle.read(block, into);
        };
        let Some(window) = handle.pipeline().window(ticket) else {
            front.ticket = None;
            return handle.read(block, into);
        };
        let bytes = window?;
        let mut walk = Walk::new(block);
        let mut taken = Ok(());
        while taken.is_ok() && !walk.is_done() {
            let rest = walk
                .position
                .checked_sub(front.start)
                .and_then(|at| bytes.get(at..));
            taken = walk.take(rest.unwrap_or(&[]), into);
        }
        taken.map_err(|damage: Damage| handle.damaged(block, walk.position, damage))?;
        handle.count_read(block);
        Ok(block.raw_bytes())
    }

    /// Asks for windows ahead, as many as there is memory to lend.
    fn plan(&mut self, handle: &mut SpillHandle) -> Result<()> {
        let readers = self.readers.count.load(Ordering::Relaxed).max(1);
        let depth = (DEPTH / readers).max(2);
        if self.ahead.len() > depth / 2 {
            return Ok(());
        }
        let share = handle.pipeline().lent_share() / readers;
        let mut asked = false;
        while self.planned < self.blocks.len() && self.ahead.len() < depth {
            let (end, extent, start, bytes) = self.window(handle, share / WINDOWS);
            let ticket = match bytes {
                0 => None,
                _ => handle.pipeline().fetch_ahead(extent, start, bytes)?,
            };
            asked |= ticket.is_some();
            // Without memory to spare, only the block that is wanted now is planned, to be read by itself.
            if ticket.is_none() && bytes > 0 && !self.ahead.is_empty() {
                break;
            }
            let end = if ticket.is_some() { end } else { self.planned + 1 };
            self.ahead.push_back(Ahead { end, ticket, start });
            self.planned = end;
        }
        if asked {
            handle.pipeline().kick();
        }
        Ok(())
    }

    /// The next window: the end of its blocks, its extent, start and size; size 0 where the first block is better
    /// read by itself.
    fn window(&self, handle: &mut SpillHandle, share: usize) -> (usize, u32, usize, usize) {
        let first = &self.blocks[self.planned];
        let extent = first.extent();
        let start = first.offset() as usize & !(PAGE - 1);
        let limit = handle.pipeline().shared.geometry.buffer_bytes;
        let mut end = first.end().next_multiple_of(PAGE);
        if end - start > limit || handle.first_pending(extent, start..end).is_some() {
            return (self.planned + 1, extent, start, 0);
        }
        let mut count = 1;
        let limit = limit.min(share).max(end - start);
        for block in &self.blocks[self.planned + 1..] {
            let from = block.offset() as usize;
            let to = block.end().next_multiple_of(PAGE);
            let near = block.extent() == extent && from >= start && from <= end + GAP;
            if !near || to.max(end) - start > limit || handle.first_pending(extent, from..to).is_some() {
                break;
            }
            end = end.max(to);
            count += 1;
        }
        (self.planned + count, extent, start, end - start)
    }
}

impl Drop for BlockReader {
    fn drop(&mut self) {
        self.readers.count.fetch_sub(1, Ordering::Relaxed);
        // The handle is not here: it takes its windows back when it next looks.
        if let Ok(mut abandoned) = self.readers.abandoned.lock() {
            abandoned.extend(self.ahead.iter().filter_map(|ahead| ahead.ticket));
        }
    }
}
