//! Aggregation before the exchange: a small table that lives in cache and sends partial results on.
//!
//! # Algorithm
//! 1. A short key has a place in a table that forgets ([`ShortGroups`](super::short_groups::ShortGroups)): who comes later takes it, and the group that had
//!    it is sent as a partial row (key, lanes).
//! 2. Longer keys are folded into groups as long as there is room for new ones; when there is none, all these groups are
//!    sent, and the table starts again.
//! 3. Where that does not reduce (after [`SAMPLE`] rows, more than half as many partial rows as rows), each row is sent as
//!    a partial row of its own: local–global aggregation as Flink's SQL planner does it, with the adaptive stop.
//!
//! # Memory
//! At most [`MOST_SEGMENTS`], three quarters of them for short keys: tables larger than a core's L2 cost more than they save. None of
//! it is declared revocable: giving it back is sending, which may have to wait for the receiver.

use super::byte_groups::ByteGroups;
use super::folding::{Folding, Lanes};
use super::groups::{CHUNK, Groups};
use super::short_front::ShortFront;
use crate::aggregate::Aggregate;
use crate::batch::{Batch, BatchWriter, Batches};
use crate::metrics::OperatorMetrics;
use crate::operator::{Downstream, Finish, Operator, ViewTaker};
use crate::record::{Field, KeyFields, Record, second};
use forebay_memory::pages::Cursor;
use forebay_memory::{Budget, Result};
use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

/// Segments of the tables at most: 2 MiB of 32 KiB segments, an L2. Half of that is 32,768 places for short keys and one
/// lane: of C sources, 4 words in 100 then take another's place, and 5 with half as many.
pub(crate) const MOST_SEGMENTS: usize = 64;

/// Rows before it is judged whether the table reduces (Flink's default sample).
const SAMPLE: u64 = 500_000;

/// What is sent: a key, and lanes as bytes.
pub(crate) type Partial<K> = (K, Vec<u8>);

/// Folds rows of `R` by `K` before the exchange.
pub(crate) struct LocalAggregate<R: Record, K: KeyFields<R>, A> {
    /// Nothing while the operator before has it.
    short: Option<Box<ShortFront<R, K, A>>>,
    groups: ByteGroups<R, K>,
    keys: K,
    folding: Lanes<A>,
    lanes: usize,
    writer: BatchWriter<Partial<K::Key>>,
    budget: Budget,
    /// Each row is a partial row of its own.
    is_bypassed: bool,
    rows: u64,
    partial_rows: u64,
    /// The groups are being sent, and this is how far.
    sending: Cursor,
    ready: Vec<Batch>,
    /// Where the rows of a batch begin that have long keys.
    long: Vec<u32>,
    position: u64,
    peak_segments: usize,
}

impl<R: Record, K: KeyFields<R>, A: Aggregate<R>> LocalAggregate<R, K, A> {
    /// An operator that sends each row on by itself from the start where `is_bypassed`.
    pub(crate) fn new(keys: K, aggregate: A, budget: Budget, batches: Batches, is_bypassed: bool) -> Self {
        LocalAggregate {
            short: Some(Box::new(ShortFront::new(
                keys,
                aggregate.clone(),
                batches.clone(),
            ))),
            groups: ByteGroups::new(keys, A::LANES, Arc::new(budget.clone()), 0),
            keys,
            folding: Lanes(aggregate),
            lanes: A::LANES,
            // A record of the largest size may be nothing but a key, to which come its lanes and where they are.
            writer: BatchWriter::new(batches.allowing(64 + 8 * A::LANES)),
            budget,
            is_bypassed,
            rows: 0,
            partial_rows: 0,
            sending: Cursor::default(),
            ready: Vec::new(),
            long: Vec::new(),
            position: 0,
            peak_segments: 0,
        }
    }

    /// The front, which is here whenever the operator is flushed or finished.
    fn short(&mut self) -> &mut ShortFront<R, K, A> {
        self.short.as_mut().expect("what was lent has come back")
    }

    /// Sends up to `limit` groups of long keys; true when all are sent, and the table is empty then.
    fn send_groups(&mut self, limit: usize, down: &mut Downstream<'_>) -> Result<bool> {
        self.peak_segments = self.peak_segments.max(self.budget.held());
        let (writer, ready, sent) = (&mut self.writer, &mut self.ready, &mut self.partial_rows);
        self.groups.visit(&mut self.sending, limit, |key, lanes| {
            *sent += 1;
            write::<K::Key>(writer, ready, key, lanes);
        });
        let is_done = self.sending.is_done();
        if is_done {
            self.groups.reset(0);
            self.sending = Cursor::default();
        }
        self.ready.drain(..).try_for_each(|batch| down.send(batch))?;
        Ok(is_done)
    }

    /// Folds the rows with short keys; `long` gets where the others begin.
    fn fold_short(&mut self, batch: &Batch, long: &mut Vec<u32>, down: &mut Downstream<'_>) -> Result<()> {
        long.clear();
        let most = self.budget.maximum();
        if let Some(short) = &mut self.short
            && short.open(&self.budget, most)
        {
            short.fold_rows(batch, long);
            return short.send_ready(down);
        }
        let mut at = 0;
        for _ in 0..batch.len() {
            long.push(at as u32);
            at += R::row_size_at(&batch.bytes()[at..]);
        }
        Ok(())
    }

    /// Folds the rows that begin at these places.
    fn fold_long(&mut self, bytes: &[u8], long: &[u32], down: &mut Downstream<'_>) -> Result<()> {
        let row = |at: u32| {
            let rest = &bytes[at as usize..];
            &rest[..R::row_size_at(rest)]
        };
        for rows in long.chunks(CHUNK) {
            self.groups.take_rows_at(bytes, rows);
            let mut from = 0;
            while from < rows.len() {
                let folding = &mut self.folding;
                let progress = self.groups.update(from, |number, lanes, is_new| {
                    folding.fold_row(lanes, row(rows[number]), is_new);
                });
                from += progress.rows;
                if progress.starved {
                    if self.groups.is_empty() {
                        // A key that the empty table has no room for.
                        self.send_row(row(rows[from]));
                        from += 1;
                    }
                    self.send_groups(usize::MAX, down)?;
                }
            }
        }
        Ok(())
    }

    fn bypass(&mut self, batch: &Batch, down: &mut Downstream<'_>) -> Result<()> {
        for row in batch.row_bytes::<R>() {
            self.send_row(row);
        }
        self.ready.drain(..).try_for_each(|batch| down.send(batch))
    }

    /// Makes a row a partial row of its own.
    #[inline]
    fn send_row(&mut self, row: &[u8]) {
        let mut lanes = [0u64; crate::aggregate::MOST_LANES];
        let lanes = &mut lanes[..self.lanes];
        self.folding.fold_row(lanes, row, true);
        let key = self.keys.key_view(R::read_row(row));
        write::<K::Key>(&mut self.writer, &mut self.ready, key, lanes);
        self.partial_rows += 1;
    }

    /// Judges, after so many rows, whether the tables reduce.
    fn judge(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        if self.rows < SAMPLE || self.is_bypassed {
            return Ok(());
        }
        let Some(short) = &mut self.short else {
            return Ok(());
        };
        // Groups still in the tables count as partial rows: they will be.
        let left = self.groups.len() + short.len();
        let partial_rows = self.partial_rows + short.take_partial_rows() + left as u64;
        self.is_bypassed = 2 * partial_rows > self.rows;
        (self.rows, self.partial_rows) = (0, 0);
        if self.is_bypassed {
            self.short().send_groups(usize::MAX, down)?;
            self.send_groups(usize::MAX, down)?;
        }
        Ok(())
    }
}

/// Writes a partial row.
#[inline]
pub(super) fn write<K: Record>(
    writer: &mut BatchWriter<Partial<K>>,
    ready: &mut Vec<Batch>,
    key: K::View<'_>,
    lanes: &[u64],
) {
    let mut bytes = [0u8; 8 * crate::aggregate::MOST_LANES];
    for (place, lane) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(lanes) {
        *place = lane.to_le_bytes();
    }
    if let Some(full) = writer.push((K::shorten(key), &bytes[..8 * lanes.len()])) {
        ready.push(full);
    }
}

impl<R: Record, K: KeyFields<R>, A: Aggregate<R>> Operator for LocalAggregate<R, K, A> {
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        self.position += batch.len() as u64;
        self.rows += batch.len() as u64;
        if self.is_bypassed {
            return self.bypass(&batch, down);
        }
        let mut long = std::mem::take(&mut self.long);
        let folded = self
            .fold_short(&batch, &mut long, down)
            .and_then(|()| self.fold_long(batch.bytes(), &long, down));
        self.long = long;
        folded?;
        self.ready.drain(..).try_for_each(|batch| down.send(batch))?;
        self.judge(down)
    }

    fn lend_taker(&mut self) -> Option<Box<dyn Any + Send>> {
        if A::READS_ROWS || self.is_bypassed {
            return None;
        }
        let most = self.budget.maximum();
        let mut short = self.short.take_if(|short| short.open(&self.budget, most))?;
        short.lent();
        let taker: Box<dyn ViewTaker<R>> = short;
        Some(Box::new(taker))
    }

    fn return_taker(&mut self, taker: Box<dyn Any + Send>, down: &mut Downstream<'_>) -> Result<()> {
        let mut short = taker
            .downcast::<ShortFront<R, K, A>>()
            .expect("an operator gets back what it has lent");
        self.position += short.taken();
        self.rows += short.taken();
        let sent = short.send_ready(down);
        self.short = Some(short);
        sent?;
        self.judge(down)
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.short().flush(down)?;
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        while down.has_room() {
            if self.short().send_groups(CHUNK, down)? && self.send_groups(CHUNK, down)? {
                self.flush(down)?;
                return Ok(Finish::Done);
            }
        }
        Ok(Finish::More)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        metrics.segments_held = self.budget.held() as u64;
        metrics.segments_peak = self.peak_segments.max(self.budget.held()) as u64;
    }
}

/// Merges partial rows into lanes.
#[derive(Clone)]
pub(crate) struct MergePartials<R, A> {
    lanes: Lanes<A>,
    record: PhantomData<fn(R)>,
}

impl<R, A> MergePartials<R, A> {
    /// Merges the partial rows of `aggregate`.
    pub(crate) fn new(aggregate: A) -> Self {
        MergePartials {
            lanes: Lanes(aggregate),
            record: PhantomData,
        }
    }
}

impl<R: Record, K: Record, A: Aggregate<R>> Folding<Partial<K>, [u64]> for MergePartials<R, A> {
    #[inline(always)]
    fn fold_row(&mut self, state: &mut [u64], row: &[u8], is_new: bool) {
        let lanes: Field<Partial<K>, Vec<u8>> = second();
        Folding::<R, [u64]>::fold_state(&mut self.lanes, state, lanes.read(row), is_new);
    }

    #[inline(always)]
    fn fold_state(&mut self, state: &mut [u64], other: &[u8], is_new: bool) {
        Folding::<R, [u64]>::fold_state(&mut self.lanes, state, other, is_new);
    }
}
