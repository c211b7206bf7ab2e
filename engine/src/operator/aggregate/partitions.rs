//! Hash partitions that left the table: what is in their buffers, what is kept in memory, and the blocks in the spill
//! store.
//!
//! # Interface
//! [`Partitions::open`] marks a partition as one that has a log; [`Partitions::append`] adds an entry to one;
//! [`Partitions::take`] hands one over, and [`Partitions::close`] all of them. Logs are kept in memory from
//! [`Partitions::keep_logs`] on, for as long as there are segments: then the longest is written.
//!
//! # Memory
//! A segment for each log of a partition, where the source has one; else a few KiB of heap. Entries larger than a segment
//! are blocks of their own. Kept logs take what the source
//! has. References to blocks and kept segments are on the heap: 16 to 24 bytes for each segment of entries.
//!
//! # Layout
//! Blocks hold whole entries, one after the other, in the form that the groups gave them.

use forebay_memory::pages::prefetch_line;
use forebay_memory::spill::BlockRef;
use forebay_memory::{Result, Segment, SegmentSource, SpillHandle};
use std::sync::Arc;

/// Segments of changes with which a partition is due to be read back: a quarter of its states, which are read with them,
/// but within these bounds. The results of that many changes are sent at once.
const LEAST_LOG: usize = 4;
const MOST_LOG: usize = 64;

/// How many times as long as the mean a log may become.
const UNEVEN: usize = 4;

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

/// Whole entries in a segment, and how many bytes they are.
pub(crate) struct Kept {
    pub(crate) segment: Segment,
    pub(crate) filled: usize,
}

/// A sequence of entries, in blocks, segments and a buffer.
struct Tail {
    blocks: Vec<BlockRef>,
    kept: Vec<Kept>,
    buffer: Buffer,
    filled: usize,
    /// Of all entries since the log is there.
    bytes: usize,
}

impl Tail {
    const EMPTY: Tail = Tail {
        blocks: Vec::new(),
        kept: Vec::new(),
        buffer: Buffer::None,
        filled: 0,
        bytes: 0,
    };

    fn make_space(
        &mut self,
        size: usize,
        source: &dyn SegmentSource,
        handle: &mut SpillHandle,
    ) -> Result<()> {
        self.write(handle)?;
        let large_enough = self.buffer.bytes().len() >= size;
        if !large_enough || matches!(self.buffer, Buffer::Heap(_)) {
            match source.try_take() {
                Some(segment) => self.buffer = Buffer::Segment(segment),
                None if !large_enough => {
                    self.buffer = Buffer::Heap(vec![0; size.max(SMALL_BUFFER)].into_boxed_slice());
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Puts a full buffer aside, with `fresh` in its place.
    fn keep(&mut self, fresh: Segment) {
        match std::mem::replace(&mut self.buffer, Buffer::Segment(fresh)) {
            Buffer::Segment(segment) => self.kept.push(Kept {
                segment,
                filled: self.filled,
            }),
            Buffer::None | Buffer::Heap(_) => unreachable!("only segments are kept"),
        }
        self.filled = 0;
    }

    /// Whether the buffer could be kept for an entry of this size to find room in the next.
    fn may_keep(&self, size: usize, segment_size: usize) -> bool {
        self.filled > 0 && size <= segment_size && matches!(self.buffer, Buffer::Segment(_))
    }

    fn write(&mut self, handle: &mut SpillHandle) -> Result<()> {
        write_kept(&mut self.kept, &mut self.blocks, handle)?;
        if self.filled > 0 {
            let filled = self.filled;
            self.blocks.push(handle.write(&[&self.buffer.bytes()[..filled]])?);
            self.filled = 0;
        }
        Ok(())
    }
}

/// Writes what is kept behind the blocks of its log.
fn write_kept(kept: &mut Vec<Kept>, blocks: &mut Vec<BlockRef>, handle: &mut SpillHandle) -> Result<()> {
    for Kept { segment, filled } in kept.drain(..) {
        blocks.push(handle.write(&[&segment[..filled]])?);
    }
    Ok(())
}

/// Copies an entry; the usual sizes without a call.
#[inline(always)]
fn copy_short(entry: &[u8], place: &mut [u8]) {
    macro_rules! copy {
        ($($size:literal)*) => { match entry.len() {
            $($size => {
                let entry: &[u8; $size] = entry.try_into().expect("its size was just seen");
                place[..$size].copy_from_slice(entry);
            })*
            _ => place.copy_from_slice(entry),
        } };
    }
    copy!(16 24 32 40);
}

/// What a partition left behind.
pub(crate) struct Spilled {
    /// Blocks of states.
    pub(crate) states: Vec<BlockRef>,
    /// States in memory.
    pub(crate) kept: Vec<Kept>,
    /// Blocks of changes.
    pub(crate) changes: Vec<BlockRef>,
}

impl Spilled {
    /// The bytes of its entries.
    pub(crate) fn bytes(&self) -> usize {
        let kept: usize = self.kept.iter().map(|kept| kept.filled).sum();
        let blocks = self.states.iter().chain(&self.changes);
        kept + blocks.map(BlockRef::raw_bytes).sum::<usize>()
    }

    /// Writes what is in memory, and gives its segments back.
    pub(crate) fn write_kept(&mut self, handle: &mut SpillHandle) -> Result<()> {
        write_kept(&mut self.kept, &mut self.states, handle)
    }
}

struct Partition {
    states: Tail,
    changes: Tail,
}

impl Partition {
    /// Writes the buffers, or keeps that of the states; what the partition is then.
    fn close(mut self, keeps: bool, handle: &mut SpillHandle) -> Result<Spilled> {
        let states = &mut self.states;
        if keeps && matches!(states.buffer, Buffer::Segment(_)) {
            if states.filled > 0
                && let Buffer::Segment(segment) = std::mem::replace(&mut states.buffer, Buffer::None)
            {
                states.kept.push(Kept {
                    segment,
                    filled: states.filled,
                });
            }
        } else {
            states.write(handle)?;
        }
        self.changes.write(handle)?;
        Ok(Spilled {
            states: self.states.blocks,
            kept: self.states.kept,
            changes: self.changes.blocks,
        })
    }
}

/// The spilled ones among `2^bits` partitions of the hash.
pub(crate) struct Partitions {
    skip_bits: u32,
    bits: u32,
    list: Vec<Option<Partition>>,
    /// A bit for each that has been spilled: asked for each row.
    bitmap: Vec<u64>,
    spilled: usize,
    keeps: bool,
    /// Segments put aside, in all since the start: their mean length is what logs are compared with.
    put_aside: usize,
    is_uneven: bool,
    /// Bytes of changes in logs.
    put_off: usize,
    /// Partitions with so many changes that they are to be read back.
    due: Vec<usize>,
    /// When each partition was read back last, counted in such events; 0 for never.
    read_back: Vec<u64>,
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
            bitmap: vec![0; (1usize << bits).div_ceil(64)],
            spilled: 0,
            keeps: false,
            put_aside: 0,
            is_uneven: false,
            put_off: 0,
            due: Vec::new(),
            read_back: vec![0; 1 << bits],
            source,
        }
    }

    /// Keeps states in memory for as long as the source has segments, or no longer. What is kept stays.
    pub(crate) fn keep_logs(&mut self, keeps: bool) {
        self.keeps = keeps;
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
        self.bitmap[partition / 64] >> (partition % 64) & 1 != 0
    }

    /// Whether all have.
    pub(crate) fn are_all_spilled(&self) -> bool {
        self.spilled == self.list.len()
    }

    /// Whether none has.
    pub(crate) fn are_all_resident(&self) -> bool {
        self.spilled == 0
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
        self.bitmap[partition / 64] |= 1 << (partition % 64);
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
        let tail = self.tail(partition, log);
        if tail.buffer.bytes().len() < tail.filled + entry.len() {
            if entry.len() > self.source.segment_size() {
                return self.append_large(partition, log, entry, handle);
            }
            self.make_space(partition, log, entry.len(), handle)?;
        }
        let tail = self.tail(partition, log);
        let place = &mut tail.buffer.bytes()[tail.filled..];
        // There may be a thousand tails: the next entry of this one finds its line in cache.
        prefetch_line(place.get(64..).unwrap_or(&[]));
        copy_short(entry, &mut place[..entry.len()]);
        tail.filled += entry.len();
        self.appended(partition, log, entry.len());
        Ok(())
    }

    /// Writes an entry that no segment holds as a block of its own: a buffer for it would stay with each log.
    #[cold]
    fn append_large(
        &mut self,
        partition: usize,
        log: Log,
        entry: &[u8],
        handle: &mut SpillHandle,
    ) -> Result<()> {
        let tail = self.tail(partition, log);
        tail.write(handle)?;
        tail.blocks.push(handle.write(&[entry])?);
        self.appended(partition, log, entry.len());
        Ok(())
    }

    /// Counts what was added to a log.
    #[inline(always)]
    fn appended(&mut self, partition: usize, log: Log, size: usize) {
        let tail = self.tail(partition, log);
        let before = tail.bytes;
        tail.bytes += size;
        if log == Log::Changes {
            let after = tail.bytes;
            self.put_off += size;
            let states = self.tail(partition, Log::States).bytes;
            let segment = self.source.segment_size();
            let most = (states / 4).clamp(LEAST_LOG * segment, MOST_LOG * segment);
            if before < most && after >= most {
                self.due.push(partition);
            }
        }
    }

    #[inline(always)]
    fn tail(&mut self, partition: usize, log: Log) -> &mut Tail {
        let partition = self.list[partition]
            .as_mut()
            .expect("entries are added to spilled partitions");
        match log {
            Log::States => &mut partition.states,
            Log::Changes => &mut partition.changes,
        }
    }

    #[cold]
    fn make_space(
        &mut self,
        partition: usize,
        log: Log,
        size: usize,
        handle: &mut SpillHandle,
    ) -> Result<()> {
        let source = self.source.clone();
        let may_keep = self.tail(partition, log).may_keep(size, source.segment_size());
        if self.keeps && log == Log::States && may_keep {
            let mut fresh = source.try_take();
            if fresh.is_none() && self.write_longest(handle)? {
                fresh = source.try_take();
            }
            if let Some(fresh) = fresh {
                let tail = self.tail(partition, log);
                tail.keep(fresh);
                let length = tail.kept.len();
                self.put_aside += 1;
                self.is_uneven |= length > UNEVEN * ((self.put_aside >> self.bits) + 4);
                return Ok(());
            }
        }
        self.tail(partition, log).make_space(size, &*source, handle)
    }

    /// Writes the longest log that is kept, and gives its segments back; false where nothing is kept.
    pub(crate) fn write_longest(&mut self, handle: &mut SpillHandle) -> Result<bool> {
        let longest = self
            .list
            .iter_mut()
            .flatten()
            .max_by_key(|partition| partition.states.kept.len());
        let Some(Partition { states, .. }) = longest.filter(|partition| !partition.states.kept.is_empty())
        else {
            return Ok(false);
        };
        write_kept(&mut states.kept, &mut states.blocks, handle)?;
        Ok(true)
    }

    /// Whether some log has become far longer than others: a few keys have many rows.
    pub(crate) fn is_uneven(&self) -> bool {
        self.is_uneven
    }

    /// Whether there are changes in logs.
    pub(crate) fn has_changes(&self) -> bool {
        self.put_off > 0
    }

    /// A partition that is due to be read back.
    pub(crate) fn next_due(&mut self) -> Option<usize> {
        self.due.pop()
    }

    /// The partition with most changes in its log.
    pub(crate) fn most_changed(&self) -> Option<usize> {
        let changes = |place: &usize| {
            self.list[*place]
                .as_ref()
                .map(|partition| partition.changes.bytes)
        };
        let most = (0..self.list.len()).max_by_key(changes)?;
        changes(&most).is_some_and(|bytes| bytes > 0).then_some(most)
    }

    /// Bytes of changes in the log of a partition; none where it is in memory.
    pub(crate) fn changes(&self, partition: usize) -> usize {
        let partition = self.list[partition].as_ref();
        partition.map_or(0, |partition| partition.changes.bytes)
    }

    /// When a partition was read back last: a number that grows.
    pub(crate) fn read_back(&self, partition: usize) -> u64 {
        self.read_back[partition]
    }

    /// What a spilled partition left behind; it has no log any more.
    pub(crate) fn take(&mut self, partition: usize, handle: &mut SpillHandle) -> Result<Spilled> {
        let latest = self.read_back.iter().max().copied().unwrap_or(0);
        self.read_back[partition] = latest + 1;
        self.due.retain(|due| *due != partition);
        self.bitmap[partition / 64] &= !(1 << (partition % 64));
        self.spilled -= 1;
        let partition = self.list[partition].take().expect("a spilled partition is taken");
        self.put_off -= partition.changes.bytes;
        partition.close(false, handle)
    }

    /// A partition all of whose log is in memory, as one that has no log any more; none where there is no such.
    pub(crate) fn take_kept(&mut self, handle: &mut SpillHandle) -> Result<Option<Spilled>> {
        let is_kept = |partition: &Option<Partition>| {
            partition.as_ref().is_some_and(|Partition { states, changes }| {
                states.blocks.is_empty()
                    && matches!(states.buffer, Buffer::Segment(_))
                    && changes.blocks.is_empty()
                    && changes.filled == 0
            })
        };
        let Some(place) = self.list.iter().position(is_kept) else {
            return Ok(None);
        };
        self.bitmap[place / 64] &= !(1 << (place % 64));
        self.spilled -= 1;
        let partition = self.list[place].take().expect("the partition was just seen");
        partition.close(true, handle).map(Some)
    }

    /// Whether some log has a buffer.
    pub(crate) fn has_buffers(&self) -> bool {
        let has_buffer = |tail: &Tail| !matches!(tail.buffer, Buffer::None);
        let mut partitions = self.list.iter().flatten();
        partitions.any(|partition| has_buffer(&partition.states) || has_buffer(&partition.changes))
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

    /// Writes what is buffered, or keeps it; what every partition left behind.
    pub(crate) fn close(self, handle: &mut SpillHandle) -> Result<Vec<Spilled>> {
        let Partitions { list, keeps, .. } = self;
        list.into_iter()
            .flatten()
            .map(|partition| partition.close(keeps, handle))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_memory::spill::SimulatedFaults;
    use forebay_memory::{MemoryManager, SpillStore};

    /// What is larger than a segment is in order with the rest, and leaves no buffer of its size behind.
    #[test]
    fn large_entries_are_blocks_and_not_buffers() {
        const SEGMENT: usize = 4096;
        const SIZES: [usize; 4] = [100, 3 * SEGMENT, SEGMENT, 50];
        let store = SpillStore::simulated(1, SimulatedFaults::default());
        let mut handle = store.handle("partitions").expect("the store has handles");
        for (keeps, segments) in [(false, 1), (true, 64)] {
            let manager = MemoryManager::with_segments(segments, 0, SEGMENT).expect("a pool");
            let budget = manager.budget("partitions", 1, 1).expect("segments");
            let mut partitions = Partitions::new(0, 3, Arc::new(budget));
            partitions.keep_logs(keeps);
            (0..8).for_each(|partition| partitions.open(partition, None));
            for (number, size) in SIZES.iter().enumerate() {
                let entry = vec![number as u8 + 1; *size];
                for partition in 0..8 {
                    partitions
                        .append(partition, Log::States, &entry, &mut handle)
                        .expect("the disk works");
                }
            }
            for partition in partitions.list.iter_mut().flatten() {
                assert!(partition.states.buffer.bytes().len() <= SEGMENT);
            }
            for spilled in partitions.close(&mut handle).expect("the disk works") {
                assert_eq!(spilled.bytes(), SIZES.iter().sum::<usize>());
                let mut all = Vec::new();
                for block in &spilled.states {
                    let start = all.len();
                    all.resize(start + block.raw_bytes(), 0);
                    let read = handle.read(block, &mut all[start..]);
                    read.expect("the disk works");
                }
                for Kept { segment, filled } in &spilled.kept {
                    all.extend_from_slice(&segment[..*filled]);
                }
                assert!(all.is_sorted() && all.len() == spilled.bytes(), "keeps: {keeps}");
            }
        }
    }
}
