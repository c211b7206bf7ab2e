//! Aggregation before the exchange where states have byte strings: a small table that sends partial results on.
//!
//! # Algorithm
//! As [`local`](super::local), but with one table for keys of all lengths: what has no room sends all groups, and where that
//! does not reduce, after [`SAMPLE`] rows, each row is sent as a state by itself. A row so sends only what its aggregates want
//! of it.
//!
//! # Memory
//! That of a local aggregation, none of it revocable; a copy of one state on the heap.

use super::folding::{Folding, States};
use super::groups::{CHUNK, Groups};
use super::local::Partial;
use super::state_groups::{Shape, StateGroups};
use crate::aggregate::{Aggregate, GroupState, write_record};
use crate::batch::{Batch, BatchWriter, Batches};
use crate::metrics::OperatorMetrics;
use crate::operator::{Downstream, Finish, Operator};
use crate::record::{KeyFields, Record};
use forebay_memory::pages::Cursor;
use forebay_memory::{Budget, Result};
use std::sync::Arc;

/// Rows before it is judged whether the table reduces.
const SAMPLE: u64 = 100_000;

/// Folds rows of `R` by `K` before the exchange.
pub(crate) struct LocalStates<R: Record, K: KeyFields<R>, A> {
    groups: StateGroups<R, K>,
    keys: K,
    folding: States<R, A>,
    sender: Sender<K::Key>,
    budget: Budget,
    state: GroupState,
    /// Each row is a partial row of its own.
    is_bypassed: bool,
    rows: u64,
    sending: Cursor,
    offsets: Vec<u32>,
    position: u64,
    peak_segments: usize,
}

/// Writes partial rows.
struct Sender<Q: Record> {
    writer: BatchWriter<Partial<Q>>,
    ready: Vec<Batch>,
    record: Vec<u8>,
    partial_rows: u64,
}

impl<Q: Record> Sender<Q> {
    #[inline]
    fn send(&mut self, key: Q::View<'_>, state: &GroupState) {
        self.record.clear();
        write_record(state.bytes(), &mut self.record);
        if let Some(full) = self.writer.push((Q::shorten(key), &self.record[..])) {
            self.ready.push(full);
        }
        self.partial_rows += 1;
    }
}

impl<R: Record, K: KeyFields<R>, A: Aggregate<R>> LocalStates<R, K, A> {
    /// An operator that sends each row on by itself from the start where `is_bypassed`.
    pub(crate) fn new(
        keys: K,
        aggregate: A,
        shape: Shape,
        budget: Budget,
        batches: Batches,
        is_bypassed: bool,
    ) -> Self {
        let merging = Box::new(States::<R, A>::new(aggregate.clone()));
        LocalStates {
            keys,
            folding: States::new(aggregate),
            sender: Sender {
                // A record of the largest size may be nothing but a key, to which comes a state that is no larger.
                writer: BatchWriter::new(batches.allowing(64 + shape.most)),
                ready: Vec::new(),
                record: Vec::new(),
                partial_rows: 0,
            },
            state: shape.empty(),
            groups: StateGroups::new(keys, shape, merging, Arc::new(budget.clone()), 0),
            budget,
            is_bypassed,
            rows: 0,
            sending: Cursor::default(),
            offsets: Vec::new(),
            position: 0,
            peak_segments: 0,
        }
    }

    /// Sends up to `limit` groups; true when all are sent, and the table is empty then.
    fn send_groups(&mut self, limit: usize, down: &mut Downstream<'_>) -> Result<bool> {
        self.peak_segments = self.peak_segments.max(self.budget.held());
        let sender = &mut self.sender;
        self.groups
            .visit(&mut self.sending, limit, |key, state| sender.send(key, state));
        let is_done = self.sending.is_done();
        if is_done {
            self.groups.reset(0);
            self.sending = Cursor::default();
        }
        self.send_ready(down)?;
        Ok(is_done)
    }

    fn send_ready(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.sender.ready.drain(..).try_for_each(|batch| down.send(batch))
    }

    /// Makes a row a partial row of its own.
    #[inline]
    fn send_row(&mut self, row: &[u8]) {
        self.state.reset();
        self.folding.fold_row(&mut self.state, row, true);
        self.sender
            .send(self.keys.key_view(R::read_row(row)), &self.state);
    }

    fn fold(&mut self, batch: &Batch, down: &mut Downstream<'_>) -> Result<()> {
        let bytes = batch.bytes();
        let (mut start, mut first) = (0, 0);
        let mut offsets = std::mem::take(&mut self.offsets);
        while first < batch.len() {
            let rows = first..batch.len().min(first + CHUNK);
            first = rows.end;
            start = self.groups.take_rows(batch, rows.clone(), start, &mut offsets);
            let row = |number: usize| {
                let rest = &bytes[offsets[number] as usize..];
                &rest[..R::row_size_at(rest)]
            };
            let mut from = 0;
            while from < rows.len() {
                let folding = &mut self.folding;
                let progress = self.groups.update(from, |number, state, is_new| {
                    folding.fold_row(state, row(number), is_new);
                });
                from += progress.rows;
                if progress.starved {
                    if self.groups.is_empty() {
                        // A group that the empty table has no room for.
                        self.send_row(row(from));
                        from += 1;
                    }
                    self.send_groups(usize::MAX, down)?;
                }
            }
        }
        self.offsets = offsets;
        self.send_ready(down)
    }

    /// Judges, after so many rows, whether the table reduces.
    fn judge(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        if self.rows < SAMPLE {
            return Ok(());
        }
        // Groups still in the table count as partial rows: they will be.
        let partial_rows = self.sender.partial_rows + self.groups.len() as u64;
        self.is_bypassed = 2 * partial_rows > self.rows;
        (self.rows, self.sender.partial_rows) = (0, 0);
        if self.is_bypassed {
            self.send_groups(usize::MAX, down)?;
        }
        Ok(())
    }
}

impl<R: Record, K: KeyFields<R>, A: Aggregate<R>> Operator for LocalStates<R, K, A> {
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        self.position += batch.len() as u64;
        if self.is_bypassed {
            for row in batch.row_bytes::<R>() {
                self.send_row(row);
            }
            return self.send_ready(down);
        }
        self.rows += batch.len() as u64;
        self.fold(&batch, down)?;
        self.judge(down)
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.sender.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        while down.has_room() {
            if self.send_groups(CHUNK, down)? {
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
