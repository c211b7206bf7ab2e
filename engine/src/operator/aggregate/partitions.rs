//! Hash partitions that left memory: what is in their buffers, and the blocks in the spill store.
//!
//! # Interface
//! [`Partitions::open`] marks a partition as spilled; [`Partitions::append`] adds an entry to one; [`Partitions::close`] writes
//! what is buffered and hands over the blocks of all.
//!
//! # Memory
//! A segment for each log of a spilled partition, where the source has one; else a few KiB of heap. Block references are on
//! the heap: 16 to 24 bytes for each segment of entries.
//!
//! # Layout
//! Blocks hold whole entries, one after the other, in the form that the groups gave them.

use forebay_memory::spill::BlockRef;
use forebay_memory::{Result, Segment, SegmentSource, SpillHandle};
use std::sync::Arc;

/// Bytes of a buffer where no segment is to be had.
const SMALL_BUFFER: usize = 4096;

/// The two kinds of entries of a partition. Results are the same wherever the line between them is, but updates are sent
/// for changes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// States of groups: what they were when they left memory. Read first.
    States,
    /// Records that came after that, each as the state of a group of its own.
    Changes,
}

impl Log {
    /// Where records of a spilled partition go: with updates, to the changes; without, there is no difference.
    pub(crate) fn of_records(send_updates: bool) -> Log {
        if send_updates { Log::Changes } else { Log::States }
    }
}

enum Buffer {
    None,
    Segment(Segment),
    Heap(Box<[u8]>),
}

impl Buffer {
    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Buffer::None => &mut [],
            Buffer::Segment(segment) => segment,
            Buffer::Heap(bytes) => bytes,
        }
    }
}

/// A sequence of entries, in blocks and a buffer.
struct Tail {
    blocks: Vec<BlockRef>,
    buffer: Buffer,
    filled: usize,
}

impl Tail {
    const EMPTY: Tail = Tail {
        blocks: Vec::new(),
        buffer: Buffer::None,
        filled: 0,
    };

    #[inline]
    fn append(&mut self, entry: &[u8], source: &dyn SegmentSource, handle: &mut SpillHandle) -> Result<()> {
        if self.buffer.bytes().len() < self.filled + entry.len() {
            self.make_space(entry.len(), source, handle)?;
        }
        let filled = self.filled;
        self.buffer.bytes()[filled..filled + entry.len()].copy_from_slice(entry);
        self.filled += entry.len();
        Ok(())
    }

    #[cold]
    fn make_space(
        &mut self,
        size: usize,
        source: &dyn SegmentSource,
        handle: &mut SpillHandle,
    ) -> Result<()> {
        self.write(handle)?;
        let large_enough = self.buffer.bytes().len() >= size;
        if !large_enough || matches!(self.buffer, Buffer::Heap(_)) {
            match if size <= source.segment_size() {
                source.try_take()
            } else {
                None
            } {
                Some(segment) => self.buffer = Buffer::Segment(segment),
                None if !large_enough => {
                    self.buffer = Buffer::Heap(vec![0; size.max(SMALL_BUFFER)].into_boxed_slice());
                }
                None => {}
            }
        }
        Ok(())
    }

    fn write(&mut self, handle: &mut SpillHandle) -> Result<()> {
        if self.filled > 0 {
            let filled = self.filled;
            self.blocks.push(handle.write(&[&self.buffer.bytes()[..filled]])?);
            self.filled = 0;
        }
        Ok(())
    }
}

/// What a partition left behind.
pub(crate) struct Spilled {
    /// Blocks of states.
    pub(crate) states: Vec<BlockRef>,
    /// Blocks of changes.
    pub(crate) changes: Vec<BlockRef>,
}

struct Partition {
    states: Tail,
    changes: Tail,
}

/// The spilled ones among `2^bits` partitions of the hash.
pub(crate) struct Partitions {
    skip_bits: u32,
    bits: u32,
    list: Vec<Option<Partition>>,
    spilled: usize,
    source: Arc<dyn SegmentSource>,
}

impl Partitions {
    /// `2^bits` partitions by the bits of the hash after the first `skip_bits`, all in memory.
    pub(crate) fn new(skip_bits: u32, bits: u32, source: Arc<dyn SegmentSource>) -> Self {
        let list = (0..1usize << bits).map(|_| None).collect();
        Partitions {
            skip_bits,
            bits,
            list,
            spilled: 0,
            source,
        }
    }

    /// Bits of the hash that tell partitions apart.
    pub(crate) fn bits(&self) -> u32 {
        self.bits
    }

    /// The partition of a hash.
    #[inline(always)]
    pub(crate) fn of(&self, hash: u64) -> usize {
        if self.bits == 0 {
            0
        } else {
            ((hash << self.skip_bits) >> (64 - self.bits)) as usize
        }
    }

    /// Whether the partition has left memory.
    #[inline(always)]
    pub(crate) fn is_spilled(&self, partition: usize) -> bool {
        self.list[partition].is_some()
    }

    /// Whether all have.
    pub(crate) fn are_all_spilled(&self) -> bool {
        self.spilled == self.list.len()
    }

    /// Marks a partition as having left memory; `buffer` is for its states.
    pub(crate) fn open(&mut self, partition: usize, buffer: Option<Segment>) {
        let buffer = buffer.map_or(Buffer::None, Buffer::Segment);
        let states = Tail {
            buffer,
            ..Tail::EMPTY
        };
        self.list[partition] = Some(Partition {
            states,
            changes: Tail::EMPTY,
        });
        self.spilled += 1;
    }

    /// Adds an entry to a spilled partition.
    #[inline]
    pub(crate) fn append(
        &mut self,
        partition: usize,
        log: Log,
        entry: &[u8],
        handle: &mut SpillHandle,
    ) -> Result<()> {
        let partition = self.list[partition]
            .as_mut()
            .expect("entries are added to spilled partitions");
        let tail = match log {
            Log::States => &mut partition.states,
            Log::Changes => &mut partition.changes,
        };
        tail.append(entry, &*self.source, handle)
    }

    /// Writes what is buffered and gives the buffers back. The next entries find new ones, on the heap if there is nothing
    /// else.
    pub(crate) fn give_up_buffers(&mut self, handle: &mut SpillHandle) -> Result<()> {
        for partition in self.list.iter_mut().flatten() {
            for tail in [&mut partition.states, &mut partition.changes] {
                tail.write(handle)?;
                tail.buffer = Buffer::None;
            }
        }
        Ok(())
    }

    /// Writes what is buffered; the blocks of every spilled partition.
    pub(crate) fn close(mut self, handle: &mut SpillHandle) -> Result<Vec<Spilled>> {
        let mut spilled = Vec::new();
        for partition in self.list.iter_mut() {
            if let Some(mut partition) = partition.take() {
                partition.states.write(handle)?;
                partition.changes.write(handle)?;
                spilled.push(Spilled {
                    states: partition.states.blocks,
                    changes: partition.changes.blocks,
                });
            }
        }
        Ok(spilled)
    }
}
