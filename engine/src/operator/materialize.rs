//! The materializing operator: keeps all its input, and sends it on after the last of it.
//!
//! What follows gets nothing before everything is there, so the exchange behind it is a blocking one: its two sides need
//! nothing of each other while either runs.
//!
//! # Algorithm
//! 1. A batch that fills most of its segment is kept as it is: its block changes places with one of the budget's. Rows of
//!    smaller batches are copied to the segment that is open, so that a trickle does not take a segment a row.
//! 2. Where the budget has no segment for it, what came last is written to the spill store; what is in memory stays.
//!    Somebody who needs memory gets that of the segments that came last, too. Blocks lie in the subtask's extents in the order in
//!    which they are written, and their references, which are the index of these, are read in the order of the pieces, ahead: the same
//!    order for pieces that left memory together; those that left later come earlier.
//! 3. After the last input everything is sent in the order in which it came. A block's segment is the operator's until the
//!    rows are where they go. A block that no segment is to be had for gets that of one of the last [`PIECES_A_WRITE`] in memory,
//!    which are written; where all are on their way, the operator waits, and the one that comes back wakes it.
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
use crate::exchange::Wake;
use crate::metrics::OperatorMetrics;
use crate::record::Record;
use forebay_memory::spill::{BlockReader, BlockRef};
use forebay_memory::{Budget, Result, Segment, SegmentSource, SpillHandle};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

/// Managed segments that a subtask cannot do without.
pub(crate) const LEAST_SEGMENTS: usize = 4;

/// Pieces that leave memory together where a block is to be read, in the order in which they are read: by themselves each would be
/// written before the one that comes before it, and what is read later would be read backwards.
const PIECES_A_WRITE: usize = 8;

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
    /// Wakes the task; the budget's, once everything is there: until then what is denied is written, and nothing waits.
    wake: Option<Arc<dyn Wake>>,
    peak_segments: usize,
    record: PhantomData<fn(R)>,
}

struct Reading {
    reader: BlockReader,
    blocks: VecDeque<BlockRef>,
}

impl<R: Record> Materialize<R> {
    /// `wake` wakes the operator's task.
    pub(crate) fn new(budget: Budget, handle: SpillHandle, wake: Arc<dyn Wake>) -> Self {
        Materialize {
            budget,
            handle,
            pieces: VecDeque::new(),
            in_memory: 0,
            open: None,
            reading: None,
            wake: Some(wake),
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
            fresh = match self.write_last(1)? {
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

    /// Writes the last `count` pieces that are in memory, in the order in which they are read, and their segments go back; false where
    /// there are none.
    fn write_last(&mut self, count: usize) -> Result<bool> {
        let in_memory =
            (self.pieces.iter().enumerate().rev()).filter(|(_, piece)| matches!(piece, Piece::Kept(_)));
        let Some((first, _)) = in_memory.take(count).last() else {
            return Ok(false);
        };
        for piece in self.pieces.range_mut(first..) {
            if let Piece::Kept(batch) = piece {
                *piece = Piece::Block(write(&mut self.handle, batch.len(), batch.bytes())?);
                self.in_memory -= 1;
            }
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

    /// A segment for a block; `None` where all that it may have are on their way through the chain. It has its minimum, then, and
    /// is woken when one comes back.
    fn take_to_read(&mut self) -> Result<Option<Segment>> {
        loop {
            if let Some(segment) = self.budget.try_take() {
                return Ok(Some(segment));
            }
            // What others hold may be theirs for as long as they wait for what is read here.
            if !self.write_last(PIECES_A_WRITE)? {
                return Ok(None);
            }
        }
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
        let Some(reading) = &self.reading else {
            return Ok(None);
        };
        let block = *reading.blocks.front().expect("a reading has blocks left");
        let size = block.raw_bytes();
        let segment = match size <= self.budget.segment_size() {
            true => match self.take_to_read()? {
                Some(segment) => Some(segment),
                None => return Ok(None),
            },
            false => None,
        };
        let reading = self.reading.as_mut().expect("it was looked at above");
        let batch = if let Some(mut segment) = segment {
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
        if let Some(wake) = self.wake.take() {
            self.budget.set_wake(Some(Arc::new(move || wake.wake())));
        }
        let mut finish = Finish::More;
        for _ in 0..BATCHES_A_FINISH {
            if !down.has_room() {
                break;
            }
            let Some(batch) = self.next()? else {
                let is_over = self.reading.is_none() && self.pieces.is_empty();
                finish = if is_over { Finish::Done } else { Finish::Waiting };
                break;
            };
            down.send(batch)?;
        }
        self.account();
        Ok(finish)
    }

    fn yield_memory(&mut self) -> Result<()> {
        let wanted = self.budget.revocation_wanted();
        let target = self.held().saturating_sub(wanted);
        if wanted > 0 {
            self.write_last(self.held() - target)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Output;
    use crate::operator::{Chain, ChainLink};
    use forebay_memory::spill::SimulatedFaults;
    use forebay_memory::{MemoryManager, SpillStore};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Keeps what it is sent, and its memory.
    struct Keeper(Arc<Mutex<VecDeque<Batch>>>);

    impl Operator for Keeper {
        fn process(&mut self, batch: Batch, _: &mut Downstream<'_>) -> Result<()> {
            self.0.lock().expect("nothing panics here").push_back(batch);
            Ok(())
        }

        fn report(&self, _: &mut OperatorMetrics) {}
    }

    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const SEGMENT: usize = 4096;
    const ROWS: usize = (SEGMENT - BATCH_HEADER) / 8;

    fn batch(number: u64) -> Batch {
        let rows = (0..ROWS as u64).map(|row| number * ROWS as u64 + row);
        let bytes: Vec<u8> = rows.flat_map(u64::to_le_bytes).collect();
        Batch::from_rows_on_heap(&bytes, ROWS)
    }

    #[test]
    fn it_waits_while_its_segments_are_on_their_way_and_is_woken() {
        const BATCHES: u64 = 30;
        let store = SpillStore::simulated(1, SimulatedFaults::default());
        let handle = store.handle("materialize").expect("the store has handles");
        let manager = MemoryManager::with_segments(LEAST_SEGMENTS, 0, SEGMENT).expect("a pool");
        let budget = manager.budget("materialize", LEAST_SEGMENTS, LEAST_SEGMENTS);
        let bell = Arc::new(Bell(AtomicUsize::new(0)));
        let operator = Materialize::<u64>::new(budget.expect("segments"), handle, bell.clone());
        let sent = Arc::new(Mutex::new(VecDeque::new()));
        let links = vec![
            ChainLink::new("materialize".into(), Box::new(operator)),
            ChainLink::new("keeper".into(), Box::new(Keeper(sent.clone()))),
        ];
        let mut chain = Chain::new(links, Output::default());
        for number in 0..BATCHES {
            chain.send_input(0, batch(number)).expect("the disk works");
        }
        let (mut rows, mut waits) = (Vec::new(), 0);
        for _ in 0..10 * BATCHES {
            match chain.finish().expect("the disk works") {
                Finish::Done => break,
                Finish::More => continue,
                Finish::Waiting => {}
            }
            waits += 1;
            assert_eq!(sent.lock().expect("nothing panics").len(), LEAST_SEGMENTS);
            assert!(matches!(chain.finish().expect("the disk works"), Finish::Waiting));
            let rings = bell.0.load(Ordering::Relaxed);
            let batch = sent.lock().expect("nothing panics").pop_front();
            rows.extend(batch.iter().flat_map(Batch::rows::<u64>));
            drop(batch);
            assert_eq!(bell.0.load(Ordering::Relaxed), rings + 1, "who waits is woken");
        }
        rows.extend(
            sent.lock()
                .expect("nothing panics")
                .iter()
                .flat_map(Batch::rows::<u64>),
        );
        assert_eq!(rows, (0..BATCHES * ROWS as u64).collect::<Vec<_>>());
        assert_eq!(waits, BATCHES as usize - LEAST_SEGMENTS);
    }
}
