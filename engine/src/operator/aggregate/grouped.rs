//! The aggregation operator: folds rows into groups, spills what does not fit, and sends results.
//!
//! # Algorithm
//! 1. Rows go to the groups in chunks. While everything fits, that is all.
//! 2. Where a segment is needed and there is none, the hash partition that holds most segments leaves memory: its groups are
//!    written as entries. From then on its rows are appended to its log, each as the state of a group of its own;
//!    no group is looked up for them. Only the excess over the budget leaves.
//!    Keys that most of these rows have keep, or get, a group in memory all the same ([`HotKeys`]), whose state goes to the log in the end.
//! 3. After the last input, groups in memory are sent. Then each spilled partition is read back, states first, with
//!    the whole budget for its groups; where that is not enough either, it spills again by the next bits of the hash.
//! 4. Where the bits run out (more keys share 47 bits of their hash than fit), keys that find no room go to a log of
//!    their own, which is read in another pass. Each pass sends all the groups that fit.
//! 5. Final results only, a table larger than a cache, and most rows of new keys: all partitions but a sample leave the
//!    table, and their logs stay in memory for as long as it lasts; then the longest are written. At the end each is
//!    aggregated by itself, in cache. Where the sample's keys begin to come again, or one log grows far longer than the
//!    others, what is in memory returns to the table (decision 009).
//! 6. Updates (streaming): a result is sent for each row as it is folded; rows of a spilled partition send theirs
//!    when their log is replayed: when it is a quarter as long as the states, and when there is no input for a while. The
//!    partition is then in the table again, and those leave that came earliest; or, where it has no room, its states
//!    are written again. Order by key is kept: a key's rows are all in one log.
//!
//! # Memory
//! Least [`LEAST_SEGMENTS`](super::LEAST_SEGMENTS). One segment is kept back for the buffer of the next partition to leave.
//!
//! # Cost
//! With N groups of w bytes and room for M: f = 1 − M/N of the entries are written and read once. A new key costs about
//! 110 ns in a growing table of 100 MB, 150 ns in one of 4 GB, and 55 ns where its row is put aside.

use super::folding::{Folding, Results};
use super::groups::{CHUNK, Groups, Key};
use super::handover::HandedGroups;
use super::leaving::{Deferral, Diverted, Hot, Window};
use super::partitions::{Kept, Log, Partitions, Spilled};
use crate::batch::{Batch, BatchWriter, Batches};
use crate::metrics::OperatorMetrics;
use crate::operator::{Downstream, Finish, Operator};
use crate::record::{KeyFields, Record};
use forebay_memory::pages::Cursor;
use forebay_memory::spill::{BlockReader, BlockRef};
use forebay_memory::{Budget, ByteSize, Error, Result, Segment, SegmentSource, SpillHandle};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Groups sent between two looks at the output.
const GROUPS_A_STEP: usize = 1024;

/// Steps of sending and reading back in one call of `finish`: cancellation waits for so long.
const STEPS_A_FINISH: usize = 8;

/// When results are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emission {
    /// Once, after the last input.
    Final,
    /// For each row.
    Updates,
    /// For the first row of each key.
    New,
}

/// A budget that can be closed, so that groups stay in the pages that they have.
pub(super) struct Gated {
    pub(super) budget: Budget,
    pub(super) is_closed: AtomicBool,
}

impl SegmentSource for Gated {
    fn segment_size(&self) -> usize {
        self.budget.segment_size()
    }

    fn try_take(&self) -> Option<Segment> {
        if self.is_closed.load(Ordering::Relaxed) {
            None
        } else {
            self.budget.try_take()
        }
    }
}

/// Spilled entries that share their first bits, to be aggregated again.
pub(super) struct Work {
    pub(super) spilled: Spilled,
    skip_bits: u32,
}

/// What an aggregation is at.
pub(super) enum Phase {
    /// Rows come in, or entries of a piece of work.
    Folding,
    /// Groups are being sent.
    Sending(Cursor),
    /// A piece of work is being read.
    Reading(Reading),
    Done,
}

/// States are read from their blocks, then from the segments in `GroupedAggregate::kept`, then changes from their blocks.
pub(super) struct Reading {
    reader: BlockReader,
    blocks: Vec<BlockRef>,
    changes: Option<Vec<BlockRef>>,
    log: Log,
    buffer: ReadBuffer,
}

/// Where a block is read to: a segment, or the heap for blocks of entries that are larger than one.
pub(super) enum ReadBuffer {
    /// There are no blocks so far.
    None,
    Segment(Segment),
    Heap(Vec<u8>),
}

impl ReadBuffer {
    fn bytes(&mut self) -> &mut [u8] {
        match self {
            ReadBuffer::None => &mut [],
            ReadBuffer::Segment(segment) => segment,
            ReadBuffer::Heap(bytes) => bytes,
        }
    }
}

/// What an aggregation is made with.
pub(crate) struct Setting {
    pub(crate) emission: Emission,
    pub(crate) budget: Budget,
    pub(crate) handle: SpillHandle,
    /// Where output batches come from.
    pub(crate) batches: Batches,
    /// The first bits that the hashes of all rows share.
    pub(crate) skip_bits: u32,
    /// Groups that were folded before the exchange.
    pub(crate) handed: Option<HandedGroups>,
}

/// Folds rows of `R` by the key `K` as `F` does, in groups `G`, and sends what `O` makes of them.
pub(crate) struct GroupedAggregate<R, K, F, G, O>
where
    R: Record,
    K: KeyFields<R>,
    G: Groups<R, K>,
    O: Results<K::Key, G::State>,
{
    pub(super) groups: G,
    pub(super) folding: F,
    results: O,
    emission: Emission,
    pub(super) source: Arc<Gated>,
    writer: BatchWriter<O::Out>,
    pub(super) handle: SpillHandle,
    pub(super) partitions: Option<Partitions>,
    /// Keys that found no room when the bits had run out.
    pub(super) overflow: Option<Partitions>,
    pub(super) skip_bits: u32,
    /// Kept for the buffer of the next partition that leaves.
    pub(super) reserve: Option<Segment>,
    pub(super) work: Vec<Work>,
    /// Of the piece of work that is being read: what is in memory, and where that was written for want of memory.
    pub(super) kept: VecDeque<Kept>,
    pub(super) rewritten: Vec<BlockRef>,
    pub(super) deferral: Deferral,
    pub(super) hot: Hot,
    /// Keys of a chunk whose partitions have been spilled.
    pub(super) spilled: Vec<Key>,
    pub(super) window: Window,
    pub(super) diverted: Diverted,
    /// The partition that is being read back while input goes on: the last to leave again.
    pub(super) loading: Option<usize>,
    pub(super) phase: Phase,
    handed: Option<HandedGroups>,
    offsets: Vec<u32>,
    states: Vec<Range<u32>>,
    pub(super) entry: Vec<u8>,
    ready: Vec<Batch>,
    position: u64,
    peak_segments: usize,
    types: PhantomData<fn(R, K)>,
}

impl<R, K, F, G, O> GroupedAggregate<R, K, F, G, O>
where
    R: Record,
    K: KeyFields<R>,
    F: Folding<R, G::State>,
    G: Groups<R, K>,
    O: Results<K::Key, G::State>,
{
    /// An operator whose groups are made by `groups` from the source of their segments.
    pub(crate) fn new(
        setting: Setting,
        folding: F,
        results: O,
        groups: impl FnOnce(Arc<dyn SegmentSource>) -> G,
    ) -> Self {
        let source = Arc::new(Gated {
            budget: setting.budget,
            is_closed: AtomicBool::new(false),
        });
        GroupedAggregate {
            groups: groups(source.clone()),
            folding,
            results,
            emission: setting.emission,
            source,
            writer: BatchWriter::new(setting.batches),
            handle: setting.handle,
            partitions: None,
            overflow: None,
            skip_bits: setting.skip_bits,
            reserve: None,
            work: Vec::new(),
            kept: VecDeque::new(),
            rewritten: Vec::new(),
            deferral: match setting.emission {
                Emission::Final => Deferral::NotYet,
                Emission::Updates | Emission::New => Deferral::Over,
            },
            hot: match setting.emission {
                Emission::Final => Hot::NotYet,
                Emission::Updates | Emission::New => Hot::Never,
            },
            spilled: Vec::new(),
            window: Window::default(),
            diverted: Diverted::default(),
            loading: None,
            phase: Phase::Folding,
            handed: setting.handed,
            offsets: Vec::new(),
            states: Vec::new(),
            entry: Vec::new(),
            ready: Vec::new(),
            position: 0,
            peak_segments: 0,
            types: PhantomData,
        }
    }

    /// Folds the chunk that the groups hold; `fold` folds the key of a number into a state.
    #[inline(always)]
    fn fold_chunk(
        &mut self,
        log: Log,
        send: bool,
        mut fold: impl FnMut(&mut F, usize, &mut G::State, bool),
    ) -> Result<()> {
        let mut hot_rows = 0;
        if self.partitions.is_some() {
            hot_rows = self.divert(0, log, &mut fold)?;
        }
        if self.overflow.is_some() {
            self.set_aside(0, log, &mut fold)?;
        }
        // Whether keys are new is asked of those that are looked up whether they are hot or not.
        self.window.rows += self.groups.chunk().hashes.len() - hot_rows;
        let mut from = 0;
        loop {
            let folding = &mut self.folding;
            let progress = if send {
                let (results, writer, ready) = (&mut self.results, &mut self.writer, &mut self.ready);
                let only_new = self.emission == Emission::New;
                self.groups.update_and_send(
                    from,
                    |number, state, is_new| fold(folding, number, state, is_new),
                    |key, state, is_new| {
                        if (is_new || !only_new)
                            && let Some(full) = results.write(key, state, writer)
                        {
                            ready.push(full);
                        }
                    },
                )
            } else {
                self.groups
                    .update(from, |number, state, is_new| fold(folding, number, state, is_new))
            };
            from += progress.rows;
            if !progress.starved {
                return Ok(());
            }
            self.peak_segments = self.peak_segments.max(self.held());
            if self.overflow.is_some() {
                // What has starved has a group, for others were set aside: it has grown beyond what there is.
                let number = self.groups.chunk().number_at(from);
                let hash = self.groups.chunk().hashes[from];
                self.groups.entry(number, hash, |_| {}, &mut self.entry);
                return Err(self.too_small());
            }
            self.make_room()?;
            if self.overflow.is_some() {
                self.set_aside(from, log, &mut fold)?;
                from = 0;
            } else if self.partitions.is_some() {
                self.divert(from, log, &mut fold)?;
                from = 0;
            }
        }
    }

    /// Appends the keys of the chunk, from place `from` on, that have no group to the overflow; the others stay in the
    /// chunk. What one key was denied might be room for a smaller row of the same key, which then would have two groups:
    /// so there are no new ones in this pass.
    #[cold]
    fn set_aside(
        &mut self,
        from: usize,
        log: Log,
        fold: &mut impl FnMut(&mut F, usize, &mut G::State, bool),
    ) -> Result<()> {
        let overflow = self
            .overflow
            .as_mut()
            .expect("keys are set aside in the overflow");
        let (folding, entry, handle) = (&mut self.folding, &mut self.entry, &mut self.handle);
        self.groups.keep(from, |groups, number, hash| {
            if groups.has(number, hash) {
                return Ok(true);
            }
            groups.entry(number, hash, |state| fold(folding, number, state, true), entry);
            overflow.append(0, log, entry, handle)?;
            Ok(false)
        })
    }

    /// Brings a spilled partition up to date: its states are read and its changes folded and sent. It stays in the table where
    /// there is room for it when others have left.
    #[cold]
    fn replay(&mut self, partition: usize, down: &mut Downstream<'_>) -> Result<()> {
        let partitions = self.partitions.as_mut().expect("a partition has been spilled");
        let changes = partitions.changes(partition);
        let spilled = partitions.take(partition, &mut self.handle)?;
        // Pages are half full, and the buffers of logs cannot leave.
        let needed = 3 * spilled.bytes() / self.source.segment_size() + 2;
        if needed > self.source.budget.available() + self.groups.segments() {
            return self.replay_apart(partition, spilled, down);
        }
        self.loading = Some(partition);
        let mut reading = self.begin_reading(spilled)?;
        while self.read_block(&mut reading)? {
            self.send_ready(down)?;
        }
        self.loading = None;
        let partitions = self.partitions.as_mut().expect("a partition was read back");
        if 2 * partitions.changes(partition) > changes {
            // Its groups took more room than its entries let expect, and it has left again.
            let spilled = partitions.take(partition, &mut self.handle)?;
            return self.replay_apart(partition, spilled, down);
        }
        self.send_ready(down)
    }

    /// Brings a partition up to date that has no room even by itself: all groups leave, and it is aggregated as at the end,
    /// by further bits of the hash. Its states are written again.
    fn replay_apart(&mut self, partition: usize, spilled: Spilled, down: &mut Downstream<'_>) -> Result<()> {
        let mut partitions = self.partitions.take().expect("a partition has been spilled");
        let (bits, skip_bits) = (partitions.bits(), self.skip_bits);
        let mut result = Ok(());
        for resident in 0..1usize << bits {
            if partitions.is_spilled(resident) {
                continue;
            }
            partitions.open(resident, None);
            let handle = &mut self.handle;
            self.groups.drain(resident as u64, bits, |entry| {
                if result.is_ok() {
                    result = partitions.append(resident, Log::States, entry, handle);
                }
            });
        }
        result?;
        partitions.give_up_buffers(&mut self.handle)?;
        self.reserve = None;
        self.work.push(Work {
            spilled,
            skip_bits: skip_bits + bits,
        });
        while let Phase::Reading(mut reading) = self.next_phase()? {
            while self.read_block(&mut reading)? {
                self.send_ready(down)?;
            }
            drop(reading);
            self.close_partitions()?;
            let (handle, mut result) = (&mut self.handle, Ok(()));
            self.groups.drain(0, 0, |entry| {
                if result.is_ok() {
                    result = partitions.append(partition, Log::States, entry, handle);
                }
            });
            result?;
            self.send_ready(down)?;
        }
        self.groups.reset(skip_bits);
        self.skip_bits = skip_bits;
        self.source.is_closed.store(false, Ordering::Relaxed);
        self.partitions = Some(partitions);
        self.reserve = self.source.try_take();
        Ok(())
    }

    /// Folds the groups that were handed over.
    #[cold]
    fn take_handed(&mut self) -> Result<()> {
        let Some(mut handed) = self.handed.take() else {
            return Ok(());
        };
        let mut block = Vec::new();
        let mut folded = Ok(());
        while folded.is_ok() && handed.next(&mut block) {
            folded = self.fold_entries(&block, Log::States);
        }
        // What was taken over is counted there, of a job that fails too.
        self.handed = Some(handed);
        folded
    }

    fn held(&self) -> usize {
        self.source.budget.held()
    }

    fn send_ready(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.ready.drain(..).try_for_each(|batch| down.send(batch))
    }

    /// Turns what was spilled while folding into work.
    fn close_partitions(&mut self) -> Result<()> {
        self.write_hot_groups()?;
        if !matches!(self.hot, Hot::NotYet) {
            self.hot = Hot::Never;
        }
        if let Some(partitions) = self.partitions.take() {
            let skip_bits = self.skip_bits + partitions.bits();
            let spilled = partitions.close(&mut self.handle)?;
            self.work
                .extend(spilled.into_iter().map(|spilled| Work { spilled, skip_bits }));
        }
        if let Some(overflow) = self.overflow.take() {
            if self.groups.is_empty() {
                // The pass has got nothing done, and nor would the next.
                return Err(self.too_small());
            }
            let spilled = overflow.close(&mut self.handle)?;
            let skip_bits = self.skip_bits;
            self.work
                .extend(spilled.into_iter().map(|spilled| Work { spilled, skip_bits }));
        }
        self.reserve = None;
        Ok(())
    }

    /// The error for a group that has no room even by itself; it was set aside last.
    #[cold]
    fn too_small(&self) -> Error {
        let budget = &self.source.budget;
        Error::memory(format!(
            "{}: a group of {} or more does not fit in the {} segments that its budget may have; raise memory.managed_size",
            budget.owner(),
            ByteSize(self.entry.len() as u64),
            budget.maximum()
        ))
    }

    /// Starts the next piece of work, if there is one.
    fn next_phase(&mut self) -> Result<Phase> {
        let Some(Work { spilled, skip_bits }) = self.work.pop() else {
            return Ok(Phase::Done);
        };
        self.groups.reset(skip_bits);
        self.skip_bits = skip_bits;
        self.source.is_closed.store(false, Ordering::Relaxed);
        let bytes = spilled.bytes();
        // Pages that are not taken one by one must leave others what they need.
        if 4 * bytes / self.source.segment_size() < self.source.budget.available() {
            self.groups.expect(bytes);
        }
        let reading = self.begin_reading(spilled)?;
        self.reserve = self.source.try_take();
        Ok(Phase::Reading(reading))
    }

    /// Prepares to read what a partition left behind.
    pub(super) fn begin_reading(&mut self, spilled: Spilled) -> Result<Reading> {
        let Spilled {
            states,
            kept,
            changes,
        } = spilled;
        self.kept = kept.into();
        let buffer = self.read_buffer(states.iter().chain(&changes))?;
        Ok(Reading {
            reader: self.handle.reader(states.clone()),
            blocks: states,
            changes: Some(changes),
            log: Log::States,
            buffer,
        })
    }

    /// A buffer for the largest of some blocks.
    fn read_buffer<'b>(&mut self, blocks: impl Iterator<Item = &'b BlockRef>) -> Result<ReadBuffer> {
        let Some(largest) = blocks.map(BlockRef::raw_bytes).max() else {
            return Ok(ReadBuffer::None);
        };
        if largest > self.source.segment_size() {
            return Ok(ReadBuffer::Heap(vec![0; largest]));
        }
        loop {
            match self.source.budget.reserve(1) {
                Ok(mut reservation) => {
                    let segment = reservation.take().expect("a reservation of one segment has it");
                    return Ok(ReadBuffer::Segment(segment));
                }
                Err(error) => {
                    if self.write_kept()? {
                        continue;
                    }
                    if self.overflow.is_some() {
                        // Groups cannot leave any more.
                        return Ok(ReadBuffer::Heap(vec![0; largest]));
                    }
                    if !self.groups.is_empty() {
                        self.make_room()?;
                        continue;
                    }
                    if self.groups.segments() > 0 {
                        // Pages that were expected to be needed.
                        self.groups.reset(self.skip_bits);
                        continue;
                    }
                    // What is left are the buffers of logs, of which there may be two for each partition.
                    match &mut self.partitions {
                        Some(partitions) if partitions.has_buffers() => {
                            partitions.give_up_buffers(&mut self.handle)?;
                        }
                        _ => return Err(error),
                    }
                }
            }
        }
    }

    /// Reads one block of a piece of work and folds its entries; false where all are read.
    pub(super) fn read_block(&mut self, reading: &mut Reading) -> Result<bool> {
        let Some(length) = reading.reader.next(&mut self.handle, reading.buffer.bytes())? else {
            for block in reading.blocks.drain(..) {
                self.handle.free(block);
            }
            if !self.rewritten.is_empty() {
                let blocks = std::mem::take(&mut self.rewritten);
                reading.buffer = ReadBuffer::None;
                reading.buffer = self.read_buffer(blocks.iter())?;
                reading.reader = self.handle.reader(blocks.clone());
                reading.blocks = blocks;
                return Ok(true);
            }
            if let Some(Kept { segment, filled }) = self.kept.pop_front() {
                self.fold_entries(&segment[..filled], reading.log)?;
                return Ok(true);
            }
            let Some(changes) = reading.changes.take() else {
                return Ok(false);
            };
            reading.log = Log::Changes;
            reading.reader = self.handle.reader(changes.clone());
            reading.blocks = changes;
            return Ok(true);
        };
        self.fold_entries(&reading.buffer.bytes()[..length], reading.log)?;
        Ok(true)
    }

    /// Folds the entries of a block.
    fn fold_entries(&mut self, mut block: &[u8], log: Log) -> Result<()> {
        let send = self.emission != Emission::Final && log == Log::Changes;
        let mut states = std::mem::take(&mut self.states);
        while !block.is_empty() {
            let used = self.groups.take_entries(block, &mut states);
            assert!(used > 0, "a block holds whole entries");
            self.fold_chunk(log, send, |folding, number, state, is_new| {
                let Range { start, end } = states[number];
                folding.fold_state(state, &block[start as usize..end as usize], is_new);
            })?;
            block = &block[used..];
        }
        self.states = states;
        Ok(())
    }
}

impl<R, K, F, G, O> Operator for GroupedAggregate<R, K, F, G, O>
where
    R: Record,
    K: KeyFields<R>,
    F: Folding<R, G::State>,
    G: Groups<R, K>,
    O: Results<K::Key, G::State>,
{
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        if self.reserve.is_none() && self.partitions.is_none() {
            self.reserve = self.source.try_take();
        }
        if self.handed.as_ref().is_some_and(HandedGroups::are_there) {
            self.take_handed()?;
        }
        let send = self.emission != Emission::Final;
        let log = Log::of_records(send);
        let bytes = batch.bytes();
        let mut start = 0;
        let mut row = 0;
        let mut offsets = std::mem::take(&mut self.offsets);
        while row < batch.len() {
            let rows = row..batch.len().min(row + CHUNK);
            row = rows.end;
            let end = self.groups.take_rows(&batch, rows, start, &mut offsets);
            let result = if R::STRIDE > 0 {
                let rows = &bytes[start..end];
                self.fold_chunk(log, send, |folding, number, state, is_new| {
                    folding.fold_row(state, &rows[number * R::STRIDE..][..R::STRIDE], is_new);
                })
            } else {
                let (offsets, rows) = (&offsets, &bytes[..end]);
                self.fold_chunk(log, send, |folding, number, state, is_new| {
                    let row = &rows[offsets[number] as usize..];
                    folding.fold_row(state, &row[..crate::batch::variable_row_size(row)], is_new);
                })
            };
            start = end;
            result?;
            self.send_ready(down)?;
        }
        self.offsets = offsets;
        self.position += batch.len() as u64;
        self.judge_deferral()?;
        if self.emission != Emission::Final {
            while let Some(due) = self.partitions.as_mut().and_then(Partitions::next_due) {
                self.replay(due, down)?;
            }
        }
        self.source
            .budget
            .set_revocable(self.held(), self.source.budget.segment_size());
        Ok(())
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        self.peak_segments = self.peak_segments.max(self.held());
        for _ in 0..STEPS_A_FINISH {
            if !down.has_room() {
                break;
            }
            match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Folding => {
                    self.phase = Phase::Folding;
                    self.take_handed()?;
                    self.close_partitions()?;
                    // Updates were sent as the rows came.
                    self.phase = match self.emission {
                        Emission::Final => Phase::Sending(Cursor::default()),
                        Emission::Updates | Emission::New => self.next_phase()?,
                    };
                }
                Phase::Sending(mut cursor) => {
                    // Groups that are being sent cannot leave.
                    let kept = self.work.iter().map(|work| work.spilled.kept.len()).sum();
                    self.source
                        .budget
                        .set_revocable(kept, self.source.budget.segment_size());
                    let (results, writer, ready) = (&mut self.results, &mut self.writer, &mut self.ready);
                    self.groups.visit(&mut cursor, GROUPS_A_STEP, |key, state| {
                        if let Some(full) = results.write(key, state, writer) {
                            ready.push(full);
                        }
                    });
                    self.send_ready(down)?;
                    self.phase = match cursor.is_done() {
                        true => self.next_phase()?,
                        false => Phase::Sending(cursor),
                    };
                }
                Phase::Reading(mut reading) => {
                    let more = self.read_block(&mut reading)?;
                    self.peak_segments = self.peak_segments.max(self.held());
                    self.send_ready(down)?;
                    self.phase = if more {
                        Phase::Reading(reading)
                    } else {
                        Phase::Folding
                    };
                }
                Phase::Done => {
                    self.groups.reset(0);
                    self.flush(down)?;
                    return Ok(Finish::Done);
                }
            }
        }
        Ok(Finish::More)
    }

    fn catch_up(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        match self.partitions.as_ref().and_then(Partitions::most_changed) {
            Some(partition) => self.replay(partition, down),
            None => Ok(()),
        }
    }

    fn is_behind(&self) -> bool {
        let partitions = self.partitions.as_ref();
        matches!(self.phase, Phase::Folding) && partitions.is_some_and(Partitions::has_changes)
    }

    fn yield_memory(&mut self) -> Result<()> {
        let wanted = self.source.budget.revocation_wanted();
        let target = self.held().saturating_sub(wanted);
        if wanted > 0 {
            while self.held() > target && self.write_kept()? {}
        }
        if wanted > 0 && matches!(self.phase, Phase::Folding | Phase::Reading(_)) {
            while self.held() > target && !self.groups.is_empty() && self.overflow.is_none() {
                self.make_room()?;
            }
            if self.held() > target && self.groups.is_empty() {
                // Pages that were expected to be needed.
                self.groups.reset(self.skip_bits);
            }
            if self.held() > target {
                // What is left of it is the buffers of logs and the reserve.
                for partitions in self.partitions.iter_mut().chain(&mut self.overflow) {
                    partitions.give_up_buffers(&mut self.handle)?;
                }
                self.reserve = None;
                if self.groups.is_empty() {
                    self.hot = Hot::Never;
                }
            }
            self.source
                .budget
                .set_revocable(self.held(), self.source.budget.segment_size());
        }
        Ok(())
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        let spill = self.handle.stats();
        metrics.groups_taken_over = self.handed.as_ref().map_or(0, HandedGroups::groups);
        metrics.records_in += metrics.groups_taken_over;
        metrics.segments_held = self.held() as u64;
        metrics.segments_peak = self.peak_segments.max(self.held()) as u64;
        metrics.spilled_bytes_written = spill.bytes_written;
        metrics.spilled_bytes_read = spill.bytes_read;
    }
}
