//! The materializing operator: keeps all its input, and sends it on after the last of it.
//!
//! What follows gets nothing before everything is there, so the exchange behind it is a blocking one: its two sides need
//! nothing of each other while either runs.
//!
//! # Algorithm
//! 1. A batch that fills most of its segment is kept as it is: its block changes places with one of the budget's. Rows of
//!    smaller batches are copied to the segment that is open, so that a trickle does not take a segment a row.
//! 2. Where the budget has no segment for it, what came last is written to the spill store; what is in memory stays.
//!    Somebody who needs memory gets that of the segments that came last, too.
//! 3. After the last input everything is sent in the order in which it came. A block's segment is the operator's until the
//!    rows are where they go.
//!
//! # Memory
//! Least [`LEAST_SEGMENTS`]: one open, one being read, and those on their way through the chain. References to segments and
//! blocks are on the heap: 32 bytes for each segment of rows.
//!
//! # Layout
//! Blocks begin as batches do, with [`BATCH_HEADER`] bytes; the number of rows is in the first eight of them.
//!
//! # Cost
//! Nothing a row, where batches are full and there is memory; a copy, where they are not; (1/B_w + 1/B_r) for each byte of the
//! excess.

use super::{Downstream, Finish, Operator};
use crate::batch::{BATCH_HEADER, Batch, variable_row_size};
use crate::metrics::OperatorMetrics;
use crate::record::Record;
use forebay_memory::spill::{BlockReader, BlockRef};
use forebay_memory::{Budget, Result, Segment, SegmentSource, SpillHandle};
use std::collections::VecDeque;
use std::marker::PhantomData;

/// Managed segments that a subtask cannot do without.
pub(crate) const LEAST_SEGMENTS: usize = 4;

/// Batches sent in one call of `finish`: cancellation waits for so long.
const BATCHES_A_FINISH: usize = 8;

/// The segment that rows are copied to.
struct Open {
    segment: Segment,
    rows: usize,
    end: usize,
}

impl Open {
    fn new(segment: Segment) -> Open {
        Open {
            segment,
            rows: 0,
            end: BATCH_HEADER,
        }
    }
}

/// Writes a block of rows.
fn write(handle: &mut SpillHandle, rows: usize, bytes: &[u8]) -> Result<BlockRef> {
    handle.write(&[&header_of(rows), bytes])
}

fn header_of(rows: usize) -> [u8; BATCH_HEADER] {
    let mut header = [0; BATCH_HEADER];
    header[..8].copy_from_slice(&(rows as u64).to_le_bytes());
    header
}

fn rows_in(header: &[u8]) -> usize {
    let count = header.first_chunk().expect("a block begins with a header");
    u64::from_le_bytes(*count) as usize
}

/// A piece of the input, in the order in which it came.
enum Piece {
    Kept(Batch),
    Block(BlockRef),
}

/// Keeps rows of `R` until all are there.
pub(crate) struct Materialize<R> {
    budget: Budget,
    handle: SpillHandle,
    pieces: VecDeque<Piece>,
    /// How many pieces are in memory.
    in_memory: usize,
    /// What rows are copied to; kept while there are more.
    open: Option<Open>,
    /// Blocks that are being read, which are no pieces any more.
    reading: Option<Reading>,
    peak_segments: usize,
    record: PhantomData<fn(R)>,
}

struct Reading {
    reader: BlockReader,
    blocks: VecDeque<BlockRef>,
}

impl<R: Record> Materialize<R> {
    pub(crate) fn new(budget: Budget, handle: SpillHandle) -> Self {
        Materialize {
            budget,
            handle,
            pieces: VecDeque::new(),
            in_memory: 0,
            open: None,
            reading: None,
            peak_segments: 0,
            record: PhantomData,
        }
    }

    /// Puts aside what is open.
    fn close(&mut self) {
        if let Some(open) = self.open.take_if(|open| open.rows > 0) {
            let batch = Batch::from_segment(open.segment, open.rows, open.end);
            self.pieces.push_back(Piece::Kept(batch));
            self.in_memory += 1;
        }
    }

    /// Opens another segment; where there is none, the same again, its rows being written.
    fn renew(&mut self) -> Result<()> {
        let mut fresh = self.budget.try_take();
        while fresh.is_none() && self.open.is_none() {
            // All that it may have is in pieces. What one gives back may be set aside for others, as long as it has more than
            // its minimum.
            fresh = match self.write_last()? {
                true => self.budget.try_take(),
                false => self.budget.reserve(1)?.take(),
            };
        }
        match (fresh, &mut self.open) {
            (Some(fresh), _) => {
                self.close();
                self.open = Some(Open::new(fresh));
            }
            (None, Some(open)) => {
                let block = write(&mut self.handle, open.rows, &open.segment[BATCH_HEADER..open.end])?;
                (open.rows, open.end) = (0, BATCH_HEADER);
                self.pieces.push_back(Piece::Block(block));
            }
            (None, None) => unreachable!("a segment was taken where none was open"),
        }
        Ok(())
    }

    /// Writes the last piece that is in memory, whose segment goes back; false where there is none.
    fn write_last(&mut self) -> Result<bool> {
        let last = (self.pieces.iter_mut().rev()).find(|piece| matches!(piece, Piece::Kept(_)));
        let Some(piece) = last else {
            return Ok(false);
        };
        if let Piece::Kept(batch) = piece {
            *piece = Piece::Block(write(&mut self.handle, batch.len(), batch.bytes())?);
            self.in_memory -= 1;
        }
        Ok(true)
    }

    /// Copies the rows of a batch to the open segment, and to further ones.
    fn copy(&mut self, batch: &Batch) -> Result<()> {
        let mut rest = batch.bytes();
        let size = self.budget.segment_size();
        while !rest.is_empty() {
            let room = self.open.as_ref().map_or(0, |open| size - open.end);
            let (rows, bytes) = whole_rows::<R>(rest, room);
            if rows == 0 {
                self.renew()?;
                continue;
            }
            let open = self.open.as_mut().expect("there is room in it");
            open.segment[open.end..open.end + bytes].copy_from_slice(&rest[..bytes]);
            open.end += bytes;
            open.rows += rows;
            rest = &rest[bytes..];
        }
        Ok(())
    }

    /// The next batch in order; `None` where all were sent, or where there is no segment for it now.
    fn next(&mut self) -> Result<Option<Batch>> {
        if self.reading.is_none() {
            match self.pieces.front() {
                None => return Ok(None),
                Some(Piece::Kept(_)) => {
                    let Some(Piece::Kept(batch)) = self.pieces.pop_front() else {
                        unreachable!("the first piece was just seen");
                    };
                    self.in_memory -= 1;
                    return Ok(Some(batch));
                }
                Some(Piece::Block(_)) => self.start_reading(),
            }
        }
        let Some(reading) = &mut self.reading else {
            return Ok(None);
        };
        let block = *reading.blocks.front().expect("a reading has blocks left");
        let size = block.raw_bytes();
        let batch = if size <= self.budget.segment_size() {
            let Some(mut segment) = self.budget.try_take() else {
                return Ok(None);
            };
            reading.reader.next(&mut self.handle, &mut segment)?;
            let rows = rows_in(&segment);
            Batch::from_segment(segment, rows, size)
        } else {
            let mut bytes = vec![0; size];
            reading.reader.next(&mut self.handle, &mut bytes)?;
            Batch::from_rows_on_heap(&bytes[BATCH_HEADER..], rows_in(&bytes))
        };
        reading.blocks.pop_front();
        self.handle.free(block);
        if reading.blocks.is_empty() {
            self.reading = None;
        }
        Ok(Some(batch))
    }

    /// Starts to read the blocks before the next piece that is in memory.
    fn start_reading(&mut self) {
        let mut blocks = VecDeque::new();
        while let Some(Piece::Block(block)) = self.pieces.front() {
            blocks.push_back(*block);
            self.pieces.pop_front();
        }
        let reader = self.handle.reader(blocks.iter().copied().collect());
        self.reading = Some(Reading { reader, blocks });
    }

    fn held(&self) -> usize {
        self.in_memory + usize::from(self.open.is_some())
    }

    fn account(&mut self) {
        self.peak_segments = self.peak_segments.max(self.held());
        self.budget.set_revocable(self.held(), self.budget.segment_size());
    }
}

/// How many whole rows at the start of `bytes` fit in `room`, and their size.
fn whole_rows<R: Record>(bytes: &[u8], room: usize) -> (usize, usize) {
    if let Some(rows) = room.min(bytes.len()).checked_div(R::STRIDE) {
        return (rows, rows * R::STRIDE);
    }
    let (mut rows, mut end) = (0, 0);
    while end < bytes.len() {
        let size = variable_row_size(&bytes[end..]);
        if end + size > room {
            break;
        }
        (rows, end) = (rows + 1, end + size);
    }
    (rows, end)
}

impl<R: Record> Operator for Materialize<R> {
    fn process(&mut self, mut batch: Batch, _: &mut Downstream<'_>) -> Result<()> {
        let size = self.budget.segment_size();
        let (bytes, rows) = (batch.bytes().len(), batch.len());
        if BATCH_HEADER + bytes > size && rows == 1 {
            // A row that no segment holds: a block of its own.
            self.close();
            let block = write(&mut self.handle, rows, batch.bytes())?;
            self.pieces.push_back(Piece::Block(block));
            return Ok(());
        }
        let is_open_small = (self.open.as_ref()).is_some_and(|open| open.rows > 0 && open.end < size / 2);
        if batch.is_segment()
            && batch.segment_size() == size
            && bytes >= size / 4 * 3
            && !is_open_small
            && let Some(mut segment) = self.budget.try_take()
        {
            self.close();
            batch.swap_segment(&mut segment);
            self.pieces.push_back(Piece::Kept(batch));
            self.in_memory += 1;
        } else {
            self.copy(&batch)?;
        }
        self.account();
        Ok(())
    }

    fn flush(&mut self, _: &mut Downstream<'_>) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        self.close();
        for _ in 0..BATCHES_A_FINISH {
            if !down.has_room() {
                return Ok(Finish::More);
            }
            match self.next()? {
                Some(batch) => down.send(batch)?,
                None => break,
            }
        }
        self.account();
        Ok(match self.reading.is_none() && self.pieces.is_empty() {
            true => Finish::Done,
            false => Finish::More,
        })
    }

    fn yield_memory(&mut self) -> Result<()> {
        let wanted = self.budget.revocation_wanted();
        let target = self.held().saturating_sub(wanted);
        if wanted > 0 {
            while self.held() > target && self.write_last()? {}
            if self.held() > target && self.open.as_ref().is_some_and(|open| open.rows == 0) {
                self.open = None;
            }
            self.account();
        }
        Ok(())
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        let spill = self.handle.stats();
        metrics.segments_held = self.held() as u64;
        metrics.segments_peak = self.peak_segments.max(self.held()) as u64;
        metrics.spilled_bytes_written = spill.bytes_written;
        metrics.spilled_bytes_read = spill.bytes_read;
    }
}
