//! The batch: rows of one type, in one segment. What operators pass to each other and channels carry.
//!
//! # Interface
//! [`BatchWriter::push`] appends rows and hands back each batch as it fills; [`BatchWriter::take`] hands back
//! the rest. [`Batch::rows`] reads a batch's rows as views.
//!
//! # Layout
//! The first 64 bytes of the segment are a header that belongs to whoever stores the batch (the spill
//! store, a channel to another process). Rows follow, packed: fixed rows by their stride, variable rows by
//! the size in their first four bytes.
//!
//! # Memory
//! One segment a batch, from the writer's source. Where the source has none, and for a row that is larger than a segment,
//! the batch is on the heap. What writers put there is in the job's [`HeapArea`], which bounds it; the task gets no new
//! input until such batches have left it. Not in it are the copies that exchanges make, which the counting allocator
//! alone sees: for further consumers where no segment is to be had, and of a row larger than a segment. The receivers of a
//! broadcast share one batch.

use crate::record::{Record, checked_row_size};
use forebay_memory::scatter::SegmentWriter;
use forebay_memory::{ByteSize, Error, Segment, SegmentSource, SharedSegment};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zerocopy::IntoBytes;

/// Bytes at the start of a batch that are not rows.
pub const BATCH_HEADER: usize = 64;

/// Rows of up to this many bytes are cheaper moved than skipped.
const SHORT_ROW: usize = 32;

enum Body {
    Segment(Segment),
    Heap(HeapBody),
    Shared(SharedBody),
}

/// What several batches hold, and nobody writes to.
#[derive(Clone)]
enum SharedBody {
    Segment(SharedSegment),
    Heap(Arc<HeapBody>),
}

/// Rows on the heap.
struct HeapBody {
    /// Aligned like the most demanding plain record.
    words: Vec<u128>,
    /// What the bytes are counted in.
    area: Option<Arc<HeapArea>>,
}

impl HeapBody {
    /// Bytes that `area` has counted already.
    fn new(size: usize, area: Option<Arc<HeapArea>>) -> HeapBody {
        HeapBody {
            words: vec![0; size.div_ceil(16)],
            area,
        }
    }
}

impl HeapBody {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.words.as_slice().as_bytes()
    }
}

impl SharedBody {
    fn copy_on_heap(&self) -> Body {
        let bytes: &[u8] = match self {
            SharedBody::Segment(segment) => segment,
            SharedBody::Heap(heap) => heap.bytes(),
        };
        let mut copy = Body::heap(bytes.len());
        copy.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        copy
    }
}

impl Drop for HeapBody {
    fn drop(&mut self) {
        if let Some(area) = &self.area {
            area.used.fetch_sub(self.words.len() * 16, Ordering::Relaxed);
        }
    }
}

/// The heap that a job's batches may take where there is no segment for them, and how much of it they have.
pub struct HeapArea {
    limit: usize,
    used: AtomicUsize,
}

impl HeapArea {
    /// An area of `limit` bytes.
    pub fn new(limit: usize) -> Arc<HeapArea> {
        Arc::new(HeapArea {
            limit,
            used: AtomicUsize::new(0),
        })
    }

    fn take(self: &Arc<HeapArea>, size: usize) -> Result<HeapBody, Error> {
        let counted = size.next_multiple_of(16);
        let used = self.used.fetch_add(counted, Ordering::Relaxed) + counted;
        if used > self.limit {
            self.used.fetch_sub(counted, Ordering::Relaxed);
            return Err(Error::memory(format!(
                "batches that found no network buffer take {} of heap, the plan gives it {} (memory.framework_size + \
                 memory.user_size); let a record become fewer rows, raise memory.user_size, or raise \
                 memory.network_{{fraction,min,max}}",
                ByteSize(used as u64),
                ByteSize(self.limit as u64)
            )));
        }
        Ok(HeapBody::new(size, Some(self.clone())))
    }
}

impl Body {
    fn heap(size: usize) -> Body {
        Body::Heap(HeapBody::new(size, None))
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Body::Segment(segment) => segment,
            Body::Heap(heap) => heap.bytes(),
            Body::Shared(SharedBody::Segment(segment)) => segment,
            Body::Shared(SharedBody::Heap(heap)) => heap.bytes(),
        }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        if let Body::Shared(shared) = self {
            *self = shared.copy_on_heap();
        }
        match self {
            Body::Segment(segment) => segment,
            Body::Heap(heap) => heap.words.as_mut_slice().as_mut_bytes(),
            Body::Shared(_) => unreachable!("it is a copy now"),
        }
    }
}

/// Rows of one type, in one segment.
pub struct Batch {
    body: Body,
    rows: u32,
    end: u32,
}

impl Batch {
    /// A batch of the `rows` rows that `segment` holds in `[BATCH_HEADER, end)`.
    pub fn from_segment(segment: Segment, rows: usize, end: usize) -> Batch {
        assert!(
            (BATCH_HEADER..=segment.len()).contains(&end),
            "rows end inside the segment"
        );
        Batch {
            body: Body::Segment(segment),
            rows: rows as u32,
            end: end as u32,
        }
    }

    /// A batch on the heap: for one row larger than a segment, or where no segment is to be had.
    pub fn from_rows_on_heap(bytes: &[u8], rows: usize) -> Batch {
        let end = BATCH_HEADER + bytes.len();
        let mut body = Body::heap(end);
        body.bytes_mut()[BATCH_HEADER..end].copy_from_slice(bytes);
        Batch {
            body,
            rows: rows as u32,
            end: end as u32,
        }
    }

    /// The number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.rows as usize
    }

    /// Whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows' bytes, without the header.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.body.bytes()[BATCH_HEADER..self.end as usize]
    }

    /// The rows' bytes, for changing them in place; of a shared batch a copy on the heap, which others do not see.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let end = self.end as usize;
        &mut self.body.bytes_mut()[BATCH_HEADER..end]
    }

    /// The rows as views of `R`, the type that the batch was written with.
    #[inline]
    pub fn rows<R: Record>(&self) -> Rows<'_, R> {
        Rows {
            rest: self.bytes(),
            record: PhantomData,
        }
    }

    /// The bytes of each row; `R` is the type that the batch was written with.
    #[inline]
    pub fn row_bytes<R: Record>(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes();
        std::iter::from_fn(move || {
            let size = match R::STRIDE {
                0 if rest.is_empty() => return None,
                0 => variable_row_size(rest),
                stride => stride,
            };
            let (row, after) = rest.split_at_checked(size)?;
            rest = after;
            Some(row)
        })
    }

    /// Keeps the rows that `keep` answers true for, in their order, moved together; `R` is the type that the batch was
    /// written with. After an error the rows are in no order that means anything.
    ///
    /// # Errors
    /// The first of `keep`.
    #[inline(always)]
    pub(crate) fn retain<R: Record>(
        &mut self,
        mut keep: impl FnMut(R::View<'_>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let end = self.end as usize - BATCH_HEADER;
        let bytes = self.bytes_mut();
        if R::STRIDE > 0 && R::STRIDE <= SHORT_ROW {
            // Moved without asking whether it is kept: a branch that guesses wrong costs more.
            let (mut moved, mut rows) = (0, 0);
            for at in (0..end).step_by(R::STRIDE) {
                let is_kept = keep(R::read_row(&bytes[at..at + R::STRIDE]))?;
                bytes.copy_within(at..at + R::STRIDE, moved);
                moved += R::STRIDE * usize::from(is_kept);
                rows += u32::from(is_kept);
            }
            self.rows = rows;
            self.end = (BATCH_HEADER + moved) as u32;
            return Ok(());
        }
        // What is kept of the rows before `at` is in `[0, moved)` and `[run, at)`.
        let (mut at, mut run, mut moved, mut rows) = (0, 0, 0, 0);
        while at < end {
            let size = match R::STRIDE {
                0 => variable_row_size(&bytes[at..]),
                stride => stride,
            };
            let next = at + size;
            if keep(R::read_row(&bytes[at..next]))? {
                rows += 1;
            } else {
                if run != moved {
                    bytes.copy_within(run..at, moved);
                }
                moved += at - run;
                run = next;
            }
            at = next;
        }
        if run != moved {
            bytes.copy_within(run..end, moved);
        }
        moved += end - run;
        self.rows = rows;
        self.end = (BATCH_HEADER + moved) as u32;
        Ok(())
    }

    /// A batch without rows or memory.
    pub fn empty() -> Batch {
        Batch {
            body: Body::heap(BATCH_HEADER),
            rows: 0,
            end: BATCH_HEADER as u32,
        }
    }

    /// The same rows as a batch that can be had [again](Batch::again) without copying them, and that nobody writes to.
    pub fn shared(self) -> Batch {
        let Batch { body, rows, end } = self;
        let body = Body::Shared(match body {
            Body::Segment(segment) => SharedBody::Segment(segment.freeze()),
            Body::Heap(heap) => SharedBody::Heap(Arc::new(heap)),
            Body::Shared(shared) => shared,
        });
        Batch { body, rows, end }
    }

    /// Another batch of the rows of a shared batch; `None` where it is not shared.
    pub fn again(&self) -> Option<Batch> {
        match &self.body {
            Body::Shared(shared) => Some(Batch {
                body: Body::Shared(shared.clone()),
                rows: self.rows,
                end: self.end,
            }),
            _ => None,
        }
    }

    /// Whether others may hold the rows too.
    pub fn is_shared(&self) -> bool {
        matches!(self.body, Body::Shared(_))
    }

    /// Whether the rows are in a segment of their own, neither shared nor on the heap.
    pub fn is_segment(&self) -> bool {
        matches!(self.body, Body::Segment(_))
    }

    /// The size of the block that the rows are in, in bytes.
    pub fn segment_size(&self) -> usize {
        self.body.bytes().len()
    }

    /// Exchanges the batch's memory with that of `other`, of the same size, so that the rows are on `other`'s
    /// account. Nothing is copied.
    pub fn swap_segment(&mut self, other: &mut Segment) {
        if let Body::Segment(segment) = &mut self.body {
            assert_eq!(segment.len(), other.len(), "segments of one size change places");
            segment.swap_blocks(other);
            std::mem::swap(segment, other);
        }
    }

    /// A copy of the batch in a segment of `source`, or on the heap where it has none.
    pub fn duplicate(&self, source: &dyn SegmentSource) -> Batch {
        let end = self.end as usize;
        match if end <= source.segment_size() {
            source.try_take()
        } else {
            None
        } {
            Some(mut segment) => {
                segment[BATCH_HEADER..end].copy_from_slice(self.bytes());
                Batch::from_segment(segment, self.len(), end)
            }
            None => Batch::from_rows_on_heap(self.bytes(), self.len()),
        }
    }
}

/// The rows of a batch, as views.
pub struct Rows<'a, R> {
    rest: &'a [u8],
    record: PhantomData<R>,
}

impl<'a, R: Record> Rows<'a, R> {
    /// Views of the packed rows in `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Rows {
            rest: bytes,
            record: PhantomData,
        }
    }

    /// How many bytes the rows to come have.
    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }
}

/// The size of the variable row at the start of `bytes`.
#[inline(always)]
pub fn variable_row_size(bytes: &[u8]) -> usize {
    let size = bytes
        .first_chunk::<4>()
        .expect("a variable row starts with its size");
    u32::from_le_bytes(*size) as usize
}

impl<'a, R: Record> Iterator for Rows<'a, R> {
    type Item = R::View<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<R::View<'a>> {
        let size = if R::STRIDE > 0 {
            R::STRIDE
        } else if self.rest.is_empty() {
            return None;
        } else {
            variable_row_size(self.rest)
        };
        let (row, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(R::read_row(row))
    }
}

/// Where the batches of a task's operators come from, and how large a row of them may be.
#[derive(Clone)]
pub struct Batches {
    source: Arc<dyn SegmentSource>,
    max_row_size: usize,
    area: Option<Arc<HeapArea>>,
    is_single: bool,
}

impl Batches {
    /// Batches that are segments of `source`, of rows up to `max_row_size` bytes (`record.max_size`).
    pub fn new(source: Arc<dyn SegmentSource>, max_row_size: usize) -> Self {
        Batches {
            source,
            max_row_size,
            area: None,
            is_single: false,
        }
    }

    /// The same, with what finds no segment in `area`. Without one it is on the heap uncounted.
    pub fn within(self, area: Arc<HeapArea>) -> Self {
        Batches {
            area: Some(area),
            ..self
        }
    }

    /// The same, of one row each where `is_single`: no row waits for others (`network.buffer_timeout = 0`).
    pub fn singly(self, is_single: bool) -> Self {
        Batches { is_single, ..self }
    }

    /// Bytes of a row at most.
    pub(crate) fn max_row_size(&self) -> usize {
        self.max_row_size
    }

    /// Memory for a batch of at least `needed` bytes.
    fn body(&self, needed: usize) -> Result<Body, Error> {
        let segment_size = self.source.segment_size();
        let segment = match needed <= segment_size {
            true => self
                .source
                .try_take()
                .or_else(|| self.source.try_take_overdraft()),
            false => None,
        };
        if let Some(segment) = segment {
            return Ok(Body::Segment(segment));
        }
        let size = if self.is_single {
            needed
        } else {
            needed.max(segment_size)
        };
        match &self.area {
            Some(area) => area.take(size).map(Body::Heap),
            None => Ok(Body::heap(size)),
        }
    }

    /// The same, of rows that may be larger by `bytes`: for what the engine adds to a record of the largest size.
    pub(crate) fn allowing(self, bytes: usize) -> Self {
        Batches {
            max_row_size: self.max_row_size + bytes,
            ..self
        }
    }
}

/// Appends rows and hands back batches as they fill.
pub struct BatchWriter<R> {
    batches: Batches,
    /// The batch being filled, where it is in a segment.
    segment: SegmentWriter,
    /// The batch being filled, where it is on the heap; the segment is vacant then.
    heap: Option<HeapBatch>,
    /// Rows of the batches before.
    rows_before: u64,
    record: PhantomData<fn(R)>,
}

struct HeapBatch {
    body: Body,
    position: usize,
    rows: u32,
}

impl<R: Record> BatchWriter<R> {
    /// A writer of `batches`.
    pub fn new(batches: Batches) -> Self {
        BatchWriter {
            batches,
            segment: SegmentWriter::vacant(R::STRIDE),
            heap: None,
            rows_before: 0,
            record: PhantomData,
        }
    }

    /// The number of rows in the batch being filled.
    pub fn len(&self) -> usize {
        match &self.heap {
            Some(heap) => heap.rows as usize,
            None => self.segment.rows_written(),
        }
    }

    /// Whether the batch being filled has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rows of fixed size a segment takes, at least one.
    pub fn rows_a_batch(&self) -> usize {
        let room = self.batches.source.segment_size().saturating_sub(BATCH_HEADER);
        room.checked_div(R::STRIDE).unwrap_or(0).max(1)
    }

    /// Appends a row. Returns the batch before it, where that one had no room left for it; the batch with it, where batches
    /// have one row.
    ///
    /// # Panics
    /// Unwinds with an [`Error`] as its payload where the row is over `record.max_size`, or there is
    /// neither a segment nor heap for it: closures that emit rows have no other way out. The task makes it the job's
    /// failure.
    #[inline(always)]
    pub fn push(&mut self, view: R::View<'_>) -> Option<Batch> {
        let size = if R::STRIDE > 0 {
            R::STRIDE
        } else {
            R::row_size(view)
        };
        if R::STRIDE == 0 && size > self.batches.max_row_size {
            self.refuse(view);
        }
        match self.segment.reserve(size) {
            Some(row) => {
                R::write_row(view, row);
                None
            }
            None => self.push_elsewhere(view, size),
        }
    }

    /// Appends a row for which the segment has no room: to a batch on the heap, or to the next one.
    #[cold]
    #[inline(never)]
    fn push_elsewhere(&mut self, view: R::View<'_>, size: usize) -> Option<Batch> {
        let full = match self.free() < size {
            true => self.start(size),
            false => None,
        };
        match &mut self.heap {
            Some(heap) => {
                let row = heap.position..heap.position + size;
                R::write_row(view, &mut heap.body.bytes_mut()[row]);
                heap.position += size;
                heap.rows += 1;
            }
            None => {
                let row = self
                    .segment
                    .reserve(size)
                    .expect("start() leaves room for the row");
                R::write_row(view, row);
            }
        }
        if self.batches.is_single { self.take() } else { full }
    }

    /// Appends a row as it is, bytes that [`Record::write_row`] wrote. Otherwise as [`BatchWriter::push`].
    ///
    /// # Panics
    /// As [`BatchWriter::push`] where there is neither a segment nor heap for it.
    #[inline]
    pub fn push_row(&mut self, row: &[u8]) -> Option<Batch> {
        match self.segment.reserve(row.len()) {
            Some(place) => {
                place.copy_from_slice(row);
                None
            }
            None => self.push_row_elsewhere(row),
        }
    }

    #[cold]
    #[inline(never)]
    fn push_row_elsewhere(&mut self, row: &[u8]) -> Option<Batch> {
        let size = row.len();
        let full = match self.free() < size {
            true => self.start(size),
            false => None,
        };
        match &mut self.heap {
            Some(heap) => {
                heap.body.bytes_mut()[heap.position..heap.position + size].copy_from_slice(row);
                heap.position += size;
                heap.rows += 1;
            }
            None => {
                let place = self
                    .segment
                    .reserve(size)
                    .expect("start() leaves room for the row");
                place.copy_from_slice(row);
            }
        }
        if self.batches.is_single { self.take() } else { full }
    }

    /// Whether batches have one row: whoever has written one with [`BatchWriter::room`] takes it at once.
    pub fn is_single(&self) -> bool {
        self.batches.is_single
    }

    /// Counts a row that goes on without being written, so that positions in messages are right.
    #[inline(always)]
    pub(crate) fn pass_by(&mut self) {
        self.rows_before += 1;
    }

    /// Bytes of a row at most (`record.max_size`).
    pub(crate) fn max_row_size(&self) -> usize {
        self.batches.max_row_size
    }

    #[cold]
    fn refuse(&self, view: R::View<'_>) {
        let position = self.rows_before + self.len() as u64 + 1;
        if let Err(error) = checked_row_size::<R>(view, position, self.batches.max_row_size) {
            std::panic::resume_unwind(Box::new(error));
        }
    }

    /// Bytes that are free in the batch being filled.
    fn free(&self) -> usize {
        match &self.heap {
            Some(heap) => heap.body.bytes().len() - heap.position,
            None => self.segment.remaining(),
        }
    }

    /// Room for up to `most` whole rows as bytes, at least one, in the batch being filled; the caller fills
    /// `n` of them and calls [`BatchWriter::advance`]. Only for rows of fixed size.
    pub fn room(&mut self, most: usize) -> (Option<Batch>, &mut [u8]) {
        assert!(R::STRIDE > 0, "rows of {} have no fixed size", R::schema().name);
        let full = match self.free() < R::STRIDE {
            true => self.start(R::STRIDE),
            false => None,
        };
        let most = if self.batches.is_single { 1 } else { most };
        let size = (self.free() / R::STRIDE).min(most) * R::STRIDE;
        let room = match &mut self.heap {
            Some(heap) => &mut heap.body.bytes_mut()[heap.position..heap.position + size],
            None => self.segment.room(size),
        };
        (full, room)
    }

    /// Counts `rows` rows of fixed size that the caller wrote into [`BatchWriter::room`].
    pub fn advance(&mut self, rows: usize) {
        let size = rows * R::STRIDE;
        assert!(size <= self.free(), "rows were written inside the room");
        match &mut self.heap {
            Some(heap) => {
                heap.position += size;
                heap.rows += rows as u32;
            }
            None if rows > 0 => {
                self.segment.reserve(size);
            }
            None => {}
        }
    }

    /// The batch being filled, if it has rows.
    pub fn take(&mut self) -> Option<Batch> {
        let rows = self.len();
        if rows == 0 {
            return None;
        }
        self.rows_before += rows as u64;
        if let Some(heap) = self.heap.take() {
            return Some(Batch {
                body: heap.body,
                rows: heap.rows,
                end: heap.position as u32,
            });
        }
        let end = BATCH_HEADER + self.segment.written();
        let segment = self.segment.take()?;
        Some(Batch::from_segment(segment, rows, end))
    }

    /// Starts a batch with room for a row of `size` bytes; returns the one that was being filled.
    #[cold]
    #[inline(never)]
    fn start(&mut self, size: usize) -> Option<Batch> {
        let full = self.take();
        let needed = BATCH_HEADER + size;
        // A body without rows may be left over from a row that needed more.
        if self.free() >= size {
            return full;
        }
        self.heap = None;
        match self.batches.body(needed) {
            Ok(Body::Segment(segment)) => {
                self.segment.put(segment);
            }
            Ok(body) => {
                self.segment.take();
                self.heap = Some(HeapBatch {
                    body,
                    position: BATCH_HEADER,
                    rows: 0,
                });
            }
            Err(error) => std::panic::resume_unwind(Box::new(error)),
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    fn batch<R: Record>(rows: &[R]) -> Batch {
        let mut bytes = Vec::new();
        for row in rows {
            let start = bytes.len();
            bytes.resize(start + R::row_size(row.view()), 0);
            R::write_row(row.view(), &mut bytes[start..]);
        }
        Batch::from_rows_on_heap(&bytes, rows.len())
    }

    /// Which of nine rows are kept, in all ways.
    fn retained_as_a_vector_does<R: Record + Clone>(
        rows: [R; 9],
        same: impl Fn(R::View<'_>, R::View<'_>) -> bool,
    ) {
        for kept in 0..1u32 << 9 {
            let is_kept = |index: usize| kept >> index & 1 == 1;
            let mut batch = batch(&rows);
            let mut index = 0;
            batch
                .retain::<R>(|row| {
                    assert!(same(row, rows[index].view()), "row {index} of {kept:b}");
                    index += 1;
                    Ok(is_kept(index - 1))
                })
                .expect("nothing fails");
            let expected: Vec<&R> = (0..9).filter(|&row| is_kept(row)).map(|row| &rows[row]).collect();
            assert_eq!((index, batch.len()), (9, expected.len()));
            assert_eq!(batch.rows::<R>().count(), expected.len());
            for (row, expected) in batch.rows::<R>().zip(expected) {
                assert!(same(row, expected.view()), "{kept:b}");
            }
        }
    }

    #[test]
    fn a_shared_batch_is_held_by_several_and_changed_by_none() {
        let manager = forebay_memory::MemoryManager::with_segments(1, 0, 4096).expect("it is little memory");
        let budget = manager.budget("batch", 1, 1).expect("there is one");
        let numbers = [3u64, 1, 4];
        let of_heap = batch(&numbers);
        let of_segment = of_heap.duplicate(&budget);
        assert!(of_segment.is_segment() && of_segment.again().is_none());
        for whole in [of_heap, of_segment] {
            let one = whole.shared();
            let mut other = one.again().expect("it is shared");
            assert_eq!(one.bytes().as_ptr(), other.bytes().as_ptr(), "nothing is copied");
            other.bytes_mut()[0] = 9;
            assert_eq!(one.rows::<u64>().collect::<Vec<_>>(), numbers);
            assert_eq!(other.rows::<u64>().collect::<Vec<_>>(), [9, 1, 4]);
            let last = one.again().expect("it is shared");
            drop(one);
            assert_eq!(last.rows::<u64>().collect::<Vec<_>>(), numbers);
        }
        assert_eq!(manager.outstanding(), 0);
    }

    #[test]
    fn rows_are_retained_in_their_order() {
        retained_as_a_vector_does([3u64, 1, 4, 1, 5, 9, 2, 6, 5], |a, b| a == b);
        retained_as_a_vector_does(
            [3u64, 1, 4, 1, 5, 9, 2, 6, 5].map(|number| [number; 5]),
            |a, b| a == b,
        );
        let words = ["", "a", "bc", "a longer one", "", "def", "x", "yz", "the last"];
        retained_as_a_vector_does(words.map(String::from), |a, b| a == b);
    }
}
