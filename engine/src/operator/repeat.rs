//! Repetition: each record as often as a function of how often it was counted says, as far as there is room.
//!
//! # Memory
//! One output batch. What a record becomes need not find room: the rest of its copies follows later.

use crate::batch::{Batch, BatchWriter, Batches, Rows};
use crate::operator::{Downstream, Operator};
use crate::record::Record;
use forebay_memory::Result;
use std::collections::VecDeque;

/// A record, and how often each of two sides has it.
pub(crate) type Counts<O> = (O, (u64, u64));

/// Sends records of counts as often as `F` says.
pub(crate) struct Repeat<O: Record, F> {
    times: F,
    writer: BatchWriter<O>,
    /// Input, each batch with the bytes of it that are done.
    pending: VecDeque<(Batch, usize)>,
    /// Copies of the first row of the first batch that were sent.
    sent: u64,
    position: u64,
}

impl<O: Record, F: FnMut(u64, u64) -> u64> Repeat<O, F> {
    pub(crate) fn new(times: F, batches: Batches) -> Self {
        Repeat {
            times,
            writer: BatchWriter::new(batches),
            pending: VecDeque::new(),
            sent: 0,
            position: 0,
        }
    }
}

impl<O: Record, F: FnMut(u64, u64) -> u64 + Send> Operator for Repeat<O, F> {
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        self.pending.push_back((batch, 0));
        self.resume(down)
    }

    fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn resume(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        while let Some((batch, done)) = self.pending.front_mut()
            && down.has_room()
        {
            let bytes = batch.bytes();
            let mut rows = Rows::<Counts<O>>::of(&bytes[*done..]);
            let mut has_room = true;
            while has_room && let Some((record, (left, right))) = rows.next() {
                let times = (self.times)(left, right);
                while has_room && self.sent < times {
                    self.sent += 1;
                    if let Some(full) = self.writer.push(O::shorten(record)) {
                        down.send(full)?;
                        has_room = down.has_room();
                    }
                }
                if self.sent == times {
                    self.sent = 0;
                    self.position += 1;
                    *done = bytes.len() - rows.bytes_left();
                }
            }
            if *done == bytes.len() {
                self.pending.pop_front();
            }
        }
        Ok(())
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn position(&self) -> u64 {
        self.position
    }
}
