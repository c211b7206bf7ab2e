//! Aggregation of all records that a subtask sees, before the subtasks' states meet.
//!
//! # Memory
//! One state, on the heap: lanes, and byte strings of up to `record.max_size`.

use super::folding::{Folding, States};
use super::local::Partial;
use super::state_groups::Shape;
use crate::aggregate::{Aggregate, GroupState, write_record};
use crate::batch::{Batch, BatchWriter, Batches};
use crate::operator::{Downstream, Finish, Operator};
use crate::record::Record;
use forebay_memory::Result;
use std::marker::PhantomData;

/// Folds all rows of `R`, and sends one partial row after the last; or one for each where `is_bypassed`.
pub(crate) struct Total<R, A> {
    aggregate: A,
    folding: States<R, A>,
    shape: Shape,
    state: GroupState,
    writer: BatchWriter<Partial<()>>,
    record: Vec<u8>,
    is_bypassed: bool,
    /// Whether the state is of no record so far.
    is_new: bool,
    position: u64,
    rows: PhantomData<fn(R)>,
}

impl<R: Record, A: Aggregate<R>> Total<R, A> {
    /// An operator that has seen no record.
    pub(crate) fn new(aggregate: A, shape: Shape, batches: Batches, is_bypassed: bool) -> Self {
        Total {
            folding: States::new(aggregate.clone()),
            aggregate,
            state: shape.empty(),
            writer: BatchWriter::new(batches.allowing(64 + shape.most)),
            shape,
            record: Vec::new(),
            is_bypassed,
            is_new: true,
            position: 0,
            rows: PhantomData,
        }
    }

    /// Sends the state, and begins another.
    fn send(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.record.clear();
        write_record(self.state.bytes(), &mut self.record);
        self.state.reset();
        self.is_new = true;
        self.writer
            .push(((), &self.record[..]))
            .map_or(Ok(()), |full| down.send(full))
    }
}

impl<R: Record, A: Aggregate<R>> Operator for Total<R, A> {
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        self.position += batch.len() as u64;
        if self.is_bypassed {
            for row in batch.row_bytes::<R>() {
                self.folding.fold_row(&mut self.state, row, true);
                self.send(down)?;
            }
            return Ok(());
        }
        let mut is_new = self.is_new;
        if A::PARTS == 0 {
            let (aggregate, mut state) = (&self.aggregate, self.state.as_mut());
            let lanes = state.lanes();
            for row in batch.row_bytes::<R>() {
                aggregate.fold(lanes, row, is_new);
                is_new = false;
            }
        } else {
            for row in batch.row_bytes::<R>() {
                self.folding.fold_row(&mut self.state, row, is_new);
                is_new = false;
            }
            self.shape.check(&mut self.state, &mut self.folding);
        }
        self.is_new = is_new;
        Ok(())
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        if !self.is_new {
            self.send(down)?;
        }
        self.flush(down)?;
        Ok(Finish::Done)
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// Passes rows on; where there is none, sends one in the end.
pub(crate) struct OrElse<R: Record> {
    writer: BatchWriter<R>,
    otherwise: Option<R>,
}

impl<R: Record> OrElse<R> {
    /// An operator that sends `otherwise` where nothing else is sent.
    pub(crate) fn new(otherwise: R, batches: Batches) -> Self {
        OrElse {
            writer: BatchWriter::new(batches),
            otherwise: Some(otherwise),
        }
    }
}

impl<R: Record> Operator for OrElse<R> {
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        if !batch.is_empty() {
            self.otherwise = None;
        }
        down.send(batch)
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        if let Some(otherwise) = self.otherwise.take() {
            for batch in self
                .writer
                .push(otherwise.view())
                .into_iter()
                .chain(self.writer.take())
            {
                down.send(batch)?;
            }
        }
        Ok(Finish::Done)
    }
}
