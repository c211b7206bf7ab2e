//! A task's way to the spill store: it packs blocks into large writes, finds them again and frees them.
//!
//! # Interface
//! [`SpillHandle::write`] blocks; [`SpillHandle::flush`] where others are to read them; [`SpillHandle::read`] one,
//! or [`SpillHandle::reader`] for many; [`SpillHandle::free`]. Dropping the handle frees the rest.
//!
//! # Algorithm
//! Fragments are copied, or compressed, one behind the other into a buffer, at multiples of 64 bytes. A full
//! buffer becomes one write behind at the next page of the handle's open extent. A fragment never straddles
//! buffers, so it never needs more than one read; a block never straddles extents.
//!
//! # Memory
//! Two slots of the workspace, and what the workspace lends; see its file.
//!
//! # Cost
//! One copy, and one XXH3 pass each way (32 KiB: about 2 µs each); LZ4 where it pays.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::block::{
    BlockRef, Damage, FragmentInfo, HEADER_BYTES, STORED_LZ4, STORED_RAW, decode_block_fragment,
    encode_header,
};
use super::codec::Compressor;
use super::config::{Codec, PAGE};
use super::pipeline::Pipeline;
use super::reader::BlockReader;
use super::stats::SpillStats;
use super::store::Shared;
use super::workspace::Buffer;
use crate::error::{Error, ErrorKind, Result};

/// The first fragment of a block starts at a multiple of this.
pub(super) const BLOCK_ALIGNMENT: usize = 64;
/// And at the next page, where no more bytes are in between: blocks that are a little less than whole pages are read without being
/// copied then (`fetched`).
const SKIPPED: usize = PAGE / 8;

/// One task's way to its store. Its blocks are freed when it is dropped.
pub struct SpillHandle {
    id: u64,
    owner: Arc<str>,
    owner_hash: u64,
    pipeline: Pipeline,
    compressor: Option<Compressor>,
    /// Parts of a fragment gathered for compression; bounded by the fragment's size.
    pub(super) gathered: Vec<u8>,
    open: Option<Open>,
}

/// The extent that is being written to.
struct Open {
    extent: u32,
    /// Where the next buffer goes: a multiple of the page size.
    position: usize,
    filling: Option<Filling>,
}

struct Filling {
    buffer: Buffer,
    used: usize,
}

impl SpillHandle {
    pub(crate) fn new(shared: Arc<Shared>, id: u64, owner: &str, seat: Vec<Buffer>) -> Self {
        SpillHandle {
            id,
            owner: owner.into(),
            owner_hash: xxh3_64(owner.as_bytes()),
            pipeline: Pipeline::new(shared, seat),
            compressor: None,
            gathered: Vec::new(),
            open: None,
        }
    }

    /// The operator this handle belongs to.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Copies a block, its payload given in parts, and writes it behind.
    ///
    /// It can be read at once: from memory, as long as it is not on disk.
    ///
    /// # Errors
    /// A payload over [`SpillStore::max_block_bytes`](super::SpillStore::max_block_bytes); quota or disk full (nothing
    /// is lost: free blocks and try again); or what an earlier write behind failed with (blocks written before are
    /// lost: every later write returns it again).
    pub fn write(&mut self, parts: &[&[u8]]) -> Result<BlockRef> {
        self.pipeline.check()?;
        let raw: usize = parts.iter().map(|part| part.len()).sum();
        let geometry = self.pipeline.shared.geometry;
        if raw > geometry.max_block_bytes() {
            return Err(Error::config(format!(
                "operator \"{}\": a spill block of {raw} B is over {} B, what an extent of {} B holds; write it in \
                 parts, or raise the extent size",
                self.owner,
                geometry.max_block_bytes(),
                geometry.extent_bytes
            )));
        }
        let written = self.write_block(parts, raw);
        // The common slot is for one call, and this thread's other handles may want it next.
        if self.is_filling_common() {
            self.write_out()?;
        }
        self.pipeline.release_common();
        written
    }

    fn write_block(&mut self, parts: &[&[u8]], raw: usize) -> Result<BlockRef> {
        let geometry = self.pipeline.shared.geometry;
        let clock = self.pipeline.open()?;
        let extent = self.room_for(geometry.worst_span(raw))?;
        let sequence = self.pipeline.shared.sequence();
        let mut parts = Parts {
            parts,
            at: 0,
            rest: raw,
        };
        let (mut start, mut end, mut fragment) = (0, 0, 0u16);
        loop {
            let bytes = parts.rest.min(geometry.fragment_bytes());
            let from = self.write_fragment(&mut parts, bytes, clock, extent, sequence, fragment, raw)?;
            if fragment == 0 {
                start = from.0;
            }
            end = from.1.max(end);
            fragment += 1;
            if parts.rest == 0 {
                break;
            }
        }
        self.pipeline.shared.space.add_block(extent);
        self.pipeline.stats.blocks_written += 1;
        self.pipeline.stats.raw_bytes_written += raw as u64;
        Ok(BlockRef::new(
            extent,
            start as u32,
            (end - start) as u32,
            raw as u32,
            sequence,
        ))
    }

    /// Writes everything, and waits until the operating system has it: other handles can read it then.
    ///
    /// # Errors
    /// What a write behind failed with.
    pub fn flush(&mut self) -> Result<()> {
        self.write_out()?;
        let result = self.pipeline.finish_writes();
        self.pipeline.publish();
        result
    }

    /// Reads a block's payload to the start of `into`; returns its length.
    ///
    /// A block of another handle can be read after that handle's flush, and until its end.
    ///
    /// # Errors
    /// Damaged data ([`ErrorKind::Corrupt`]), a failed read, or an `into` too small for the payload.
    pub fn read(&mut self, block: &BlockRef, into: &mut [u8]) -> Result<usize> {
        self.check_read(block, into)?;
        let mut walk = Walk::new(block);
        while !walk.is_done() {
            if let Some(bytes) = self.pending(block.extent(), walk.position) {
                let taken = walk.take(bytes, into);
                taken.map_err(|damage| self.damaged(block, walk.position, damage))?;
                continue;
            }
            let start = walk.position & !(PAGE - 1);
            let whole = block.end().next_multiple_of(PAGE).saturating_sub(start);
            let bytes = whole.min(self.pipeline.shared.geometry.buffer_bytes).max(PAGE);
            // A later fragment may still be in memory: only what lies before it is read.
            let pending = self.first_pending(block.extent(), start..start + bytes);
            let bytes = pending.map_or(bytes, |pending| pending.saturating_sub(start));
            if bytes == 0 {
                let damage = Damage::Short { needed: HEADER_BYTES };
                return Err(self.damaged(block, walk.position, damage));
            }
            let buffer = self.fetch_now(block.extent(), start, bytes)?;
            let mut progress = false;
            let damage = loop {
                if walk.is_done() {
                    break None;
                }
                match walk
                    .position
                    .checked_sub(start)
                    .and_then(|at| buffer[..bytes].get(at..))
                {
                    Some(rest) if !rest.is_empty() => match walk.take(rest, into) {
                        Ok(()) => progress = true,
                        // The fragment goes on behind this buffer: read on from its start.
                        Err(Damage::Short { .. }) if progress => break None,
                        Err(damage) => break Some(damage),
                    },
                    _ => break None,
                }
            };
            self.pipeline.recycle(buffer);
            if let Some(damage) = damage {
                return Err(self.damaged(block, walk.position, damage));
            }
        }
        self.count_read(block);
        Ok(block.raw_bytes())
    }

    /// A reader of many blocks in the given order, which reads ahead.
    pub fn reader(&mut self, blocks: Vec<BlockRef>) -> BlockReader {
        BlockReader::new(blocks, self.pipeline.readers.clone())
    }

    /// Gives a block's space back. The caller forgets every copy of the reference.
    pub fn free(&mut self, block: BlockRef) {
        self.pipeline.shared.space.free_block(block.extent());
    }

    /// What this handle has done so far.
    pub fn stats(&self) -> SpillStats {
        let mut stats = self.pipeline.stats;
        if stats.io.is_empty() {
            stats.io = "none";
        }
        stats
    }

    /// An extent with `span` bytes left: the open one, or the next.
    fn room_for(&mut self, span: usize) -> Result<u32> {
        let extent_bytes = self.pipeline.shared.geometry.extent_bytes;
        if let Some(open) = &self.open {
            let used = open.filling.as_ref().map_or(0, |filling| filling.used);
            if open.position + used + span <= extent_bytes {
                return Ok(open.extent);
            }
        }
        // The new one first: where there is none, everything is as it was.
        let shared = self.pipeline.shared.clone();
        self.pipeline.poll(false);
        let extent = match shared.space.take(&shared.medium, self.id) {
            // Extents whose blocks were freed before they were on disk come back with the end of their writes.
            Err(_) if self.pipeline.is_writing() => {
                self.pipeline.finish_writes()?;
                shared.space.take(&shared.medium, self.id)?
            }
            taken => taken?,
        };
        self.write_out()?;
        if let Some(full) = self.open.replace(Open {
            extent,
            position: 0,
            filling: None,
        }) {
            shared.space.seal(full.extent);
        }
        Ok(extent)
    }

    /// Places one fragment; returns where in the extent it starts and ends.
    #[expect(clippy::too_many_arguments, reason = "the fields of one header")]
    fn write_fragment(
        &mut self,
        parts: &mut Parts<'_>,
        bytes: usize,
        clock: bool,
        extent: u32,
        sequence: u32,
        fragment: u16,
        block_raw: usize,
    ) -> Result<(usize, usize)> {
        let codec = self.pipeline.shared.config.codec;
        // What the payload will be, if it does not stay as it is: (compressed, gathered raw).
        let mut compressed = None;
        if codec != Codec::None {
            let compressor = self
                .compressor
                .get_or_insert_with(|| Compressor::new(codec, clock));
            if let Some((moved, took)) = self.pipeline.take_speed() {
                compressor.disk_took(moved, took);
            }
            if compressor.wants_next() {
                let raw = match parts.contiguous(bytes) {
                    Some(raw) => raw,
                    None => {
                        self.gathered.resize(bytes, 0);
                        parts.clone().copy_to(&mut self.gathered);
                        &self.gathered
                    }
                };
                compressed = compressor.compress(raw);
            }
        }
        let stored = compressed.map_or(bytes, <[u8]>::len);
        let open = self.open.as_mut().expect("room_for has opened an extent");
        let place = place_fragment(&mut self.pipeline, open, HEADER_BYTES + stored, fragment)?;
        let position = open.position + place.start;
        let filling = open
            .filling
            .as_mut()
            .expect("place_fragment has put a buffer there");
        let place = &mut filling.buffer[place];
        match compressed {
            Some(compressed) => {
                place[HEADER_BYTES..].copy_from_slice(compressed);
                parts.skip(bytes);
                self.pipeline.stats.compressed_raw_bytes += bytes as u64;
                self.pipeline.stats.compressed_stored_bytes += stored as u64;
            }
            None => parts.copy_to(&mut place[HEADER_BYTES..]),
        }
        let info = FragmentInfo {
            codec: if compressed.is_some() {
                STORED_LZ4
            } else {
                STORED_RAW
            },
            fragment,
            raw: bytes as u32,
            sequence,
            block_raw: block_raw as u32,
            owner: self.owner_hash,
            extent,
            offset: position as u32,
        };
        encode_header(place, info);
        Ok((position, position + HEADER_BYTES + stored))
    }

    fn is_filling_common(&self) -> bool {
        let filling = self.open.as_ref().and_then(|open| open.filling.as_ref());
        filling.is_some_and(|filling| filling.buffer.is_common())
    }

    /// Starts to write the buffer that is being filled.
    fn write_out(&mut self) -> Result<()> {
        match &mut self.open {
            Some(open) => write_out(&mut self.pipeline, open),
            None => Ok(()),
        }
    }

    /// A range of an extent from disk, for [`Pipeline::recycle`].
    fn fetch_now(&mut self, extent: u32, start: usize, bytes: usize) -> Result<Buffer> {
        if let Some(buffer) = self.pipeline.fetch(extent, start, bytes)? {
            return Ok(buffer);
        }
        // The workspace left this handle one slot, and that is being filled.
        self.write_out()?;
        self.pipeline.finish_writes()?;
        let buffer = self.pipeline.fetch(extent, start, bytes)?;
        Ok(buffer.expect("the slot that was being filled is spare now"))
    }

    /// The bytes from `position` of an extent on, as far as they are still in one of this handle's buffers.
    pub(crate) fn pending(&self, extent: u32, position: usize) -> Option<&[u8]> {
        if let Some(Open {
            extent: open,
            position: start,
            filling: Some(filling),
        }) = &self.open
            && *open == extent
            && (*start..*start + filling.used).contains(&position)
        {
            return Some(&filling.buffer[position - start..filling.used]);
        }
        self.pipeline.pending(extent, position)
    }

    /// Where the first buffer starts that a range of an extent shares with what is not on disk yet. Such a range
    /// must not be read: the write may be over before the read, or not.
    pub(crate) fn first_pending(&self, extent: u32, range: std::ops::Range<usize>) -> Option<usize> {
        let filling = match &self.open {
            Some(Open {
                extent: open,
                position,
                filling: Some(filling),
            }) if *open == extent && *position < range.end && range.start < position + filling.used => {
                Some(*position)
            }
            _ => None,
        };
        let writing = self.pipeline.first_pending(extent, range);
        filling.into_iter().chain(writing).min()
    }

    pub(crate) fn pipeline(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }

    /// Refuses references that no write returned, and targets that are too small.
    pub(crate) fn check_read(&self, block: &BlockRef, into: &[u8]) -> Result<()> {
        let geometry = self.pipeline.shared.geometry;
        if block.stored_bytes() < HEADER_BYTES
            || block.end() > geometry.extent_bytes
            || block.raw_bytes() > geometry.max_block_bytes()
        {
            return Err(Error::corrupt(format!(
                "spill extent {} of operator \"{}\" (offset {}): a reference to {} B (payload {} B) is out of bounds; \
                 what kept the reference is damaged",
                block.extent(),
                self.owner,
                block.offset(),
                block.stored_bytes(),
                block.raw_bytes()
            )));
        }
        if into.len() < block.raw_bytes() {
            return Err(Error::config(format!(
                "operator \"{}\": a spill block of {} B is to be read into {} B; give it room",
                self.owner,
                block.raw_bytes(),
                into.len()
            )));
        }
        Ok(())
    }

    pub(crate) fn count_read(&mut self, block: &BlockRef) {
        self.pipeline.stats.blocks_read += 1;
        self.pipeline.stats.raw_bytes_read += block.raw_bytes() as u64;
    }

    /// The error for a block that is not what it should be.
    pub(crate) fn damaged(&self, block: &BlockRef, position: usize, damage: Damage) -> Error {
        // After a failed write the disk is not to blame for what is missing on it.
        if let Err(error) = self.pipeline.check() {
            return error;
        }
        Error::new(
            ErrorKind::Corrupt,
            format!(
                "spill extent {} of operator \"{}\" (offset {position}): {damage}; the disk returned damaged data",
                block.extent(),
                self.owner
            ),
        )
    }
}

impl Drop for SpillHandle {
    fn drop(&mut self) {
        self.open = None;
        self.pipeline.close();
        self.pipeline.shared.space.release(self.id);
    }
}

impl std::fmt::Debug for SpillHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpillHandle({}, {:?})", self.owner, self.stats())
    }
}

/// Finds room for `bytes` in the buffer that is being filled, or in a new one; returns where in the buffer.
fn place_fragment(
    pipeline: &mut Pipeline,
    open: &mut Open,
    bytes: usize,
    fragment: u16,
) -> Result<std::ops::Range<usize>> {
    let start = |used: usize| {
        let (start, page) = (
            used.next_multiple_of(BLOCK_ALIGNMENT),
            used.next_multiple_of(PAGE),
        );
        match fragment == 0 && page - start > SKIPPED {
            true => start,
            false => page,
        }
    };
    if let Some(filling) = &open.filling
        && start(filling.used) + bytes > filling.buffer.len()
    {
        write_out(pipeline, open)?;
    }
    let filling = match &mut open.filling {
        Some(filling) => filling,
        None => open.filling.insert(Filling {
            buffer: pipeline.buffer_to_fill(),
            used: 0,
        }),
    };
    let start = start(filling.used);
    filling.buffer[filling.used..start].fill(0);
    filling.used = start + bytes;
    Ok(start..filling.used)
}

fn write_out(pipeline: &mut Pipeline, open: &mut Open) -> Result<()> {
    let Some(Filling { mut buffer, used }) = open.filling.take() else {
        return Ok(());
    };
    let bytes = used.next_multiple_of(PAGE);
    buffer[used..bytes].fill(0);
    let position = open.position;
    open.position += bytes;
    pipeline.write(buffer, open.extent, position, bytes)
}

/// A payload in parts, and how much of it was taken.
#[derive(Clone)]
struct Parts<'a> {
    parts: &'a [&'a [u8]],
    /// Bytes of the first part that are taken.
    at: usize,
    rest: usize,
}

impl<'a> Parts<'a> {
    /// The next `bytes`, if they lie in one part.
    fn contiguous(&mut self, bytes: usize) -> Option<&'a [u8]> {
        self.drop_empty();
        match self.parts.first() {
            Some(first) => first.get(self.at..self.at + bytes),
            None => (bytes == 0).then_some(&[]),
        }
    }

    /// Takes as many bytes as `into` holds.
    fn copy_to(&mut self, into: &mut [u8]) {
        let mut filled = 0;
        while filled < into.len() {
            self.drop_empty();
            let part = &self.parts[0][self.at..];
            let bytes = part.len().min(into.len() - filled);
            into[filled..filled + bytes].copy_from_slice(&part[..bytes]);
            filled += bytes;
            self.skip(bytes);
        }
    }

    /// Takes `bytes` without looking at them.
    fn skip(&mut self, mut bytes: usize) {
        self.rest -= bytes;
        while bytes > 0 {
            self.drop_empty();
            let step = bytes.min(self.parts[0].len() - self.at);
            self.at += step;
            bytes -= step;
        }
    }

    fn drop_empty(&mut self) {
        while let Some(first) = self.parts.first().filter(|first| self.at >= first.len()) {
            self.at -= first.len();
            self.parts = &self.parts[1..];
        }
    }
}

/// The way through a block's fragments.
pub(crate) struct Walk<'a> {
    block: &'a BlockRef,
    /// Where the next fragment starts in the extent.
    pub position: usize,
    fragment: u16,
    filled: usize,
}

impl<'a> Walk<'a> {
    pub fn new(block: &'a BlockRef) -> Self {
        Walk {
            block,
            position: block.offset() as usize,
            fragment: 0,
            filled: 0,
        }
    }

    pub fn is_done(&self) -> bool {
        self.fragment > 0 && self.filled == self.block.raw_bytes()
    }

    /// Takes the next fragment, which starts at the start of `bytes`.
    pub fn take(&mut self, bytes: &[u8], into: &mut [u8]) -> Result<(), Damage> {
        let into = &mut into[self.filled..self.block.raw_bytes()];
        let offset = self.position as u32;
        let (raw, stored) = decode_block_fragment(bytes, self.block, offset, self.fragment, into)?;
        if raw == 0 && self.block.raw_bytes() > 0 {
            return Err(Damage::Field {
                name: "raw length",
                found: 0,
                expected: into.len() as u64,
            });
        }
        self.filled += raw;
        self.position = (self.position + stored).next_multiple_of(PAGE);
        self.fragment += 1;
        Ok(())
    }
}
