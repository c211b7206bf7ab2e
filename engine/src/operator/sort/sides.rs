//! Two sides, each sorted by its key: what co-groups and sort-merge joins stand on, and the operator of co-groups.
//!
//! # Algorithm
//! Rows of both inputs go to a sort each as they come. When both have ended, both are merged at once, and the keys are walked
//! through in order: at each there is a group of either side, one of which may be empty.
//!
//! # Memory
//! A budget for each side, as its sort needs it.

use super::groups::{Group, ROWS_A_STEP, Reader};
use super::local::LocalSort;
use crate::batch::{Batch, BatchWriter, Batches};
use crate::metrics::OperatorMetrics;
use crate::operator::{Collector, Downstream, Finish, Operator};
use crate::record::{KeyFields, Record};
use forebay_memory::Result;
use std::cmp::Ordering;

/// Rows of `L` and `R`, sorted by `KL` and `KR`.
pub(crate) struct Sides<L, R, KL, KR> {
    pub(crate) left: Reader<L, KL>,
    pub(crate) right: Reader<R, KR>,
    /// Which input the left side is.
    left_input: usize,
}

impl<L, R, KL, KR> Sides<L, R, KL, KR>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R, Key = KL::Key>,
{
    pub(crate) fn new(keys: (KL, KR), sorts: [Box<dyn LocalSort>; 2], left_input: usize) -> Self {
        let [left, right] = sorts;
        Sides {
            left: Reader::new(keys.0, left),
            right: Reader::new(keys.1, right),
            left_input,
        }
    }

    /// Takes rows of one side.
    pub(crate) fn push(&mut self, input: usize, batch: &Batch) -> Result<()> {
        match input == self.left_input {
            true => self.left.sort_mut().push(batch.bytes()),
            false => self.right.sort_mut().push(batch.bytes()),
        }
    }

    /// Hears that there are no more, of either, and does a piece of what is to be done then: whether all is.
    pub(crate) fn end(&mut self) -> Result<bool> {
        Ok(self.left.sort_mut().end()? && self.right.sort_mut().end()?)
    }

    /// Which side has the next key: the left one where `Less`, the right one where `Greater`, both where `Equal`. Nothing where
    /// both are over.
    pub(crate) fn begin(&mut self) -> Result<Option<Ordering>> {
        Ok(match (self.left.begin()?, self.right.begin()?) {
            (false, false) => None,
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (true, true) => Some(self.left.compare(&self.right)),
        })
    }

    /// How many rows have been passed.
    pub(crate) fn rows(&self) -> u64 {
        self.left.rows() + self.right.rows()
    }

    pub(crate) fn yield_memory(&mut self) -> Result<()> {
        self.left.sort_mut().yield_memory()?;
        self.right.sort_mut().yield_memory()
    }

    pub(crate) fn report(&self, metrics: &mut OperatorMetrics) {
        self.left.sort().usage().report(metrics);
        self.right.sort().usage().report(metrics);
    }
}

enum Phase {
    Filling,
    Grouping,
    Done,
}

/// Calls `F` for the rows of each key of both sides.
pub(crate) struct CoGroups<L, R, KL, KR, P: Record, F> {
    keys: (KL, KR),
    sides: Sides<L, R, KL, KR>,
    phase: Phase,
    function: F,
    /// The canonical bytes of the key at hand.
    key: Vec<u8>,
    writer: BatchWriter<P>,
    position: u64,
}

impl<L, R, KL, KR, P, F> CoGroups<L, R, KL, KR, P, F>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R, Key = KL::Key>,
    P: Record,
    F: for<'a, 'b, 'g, 'c, 'h, 'd, 'e> FnMut(
        <KL::Key as Record>::View<'a>,
        &'b mut Group<'g, L>,
        &'c mut Group<'h, R>,
        &'d mut Collector<'e, P>,
    ),
{
    /// An operator that has no rows, over sorts by the keys.
    pub(crate) fn new(keys: (KL, KR), function: F, sorts: [Box<dyn LocalSort>; 2], batches: Batches) -> Self {
        CoGroups {
            keys,
            sides: Sides::new(keys, sorts, 0),
            phase: Phase::Filling,
            function,
            key: Vec::new(),
            writer: BatchWriter::new(batches),
            position: 0,
        }
    }

    /// Calls the function for a few keys.
    fn step(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        let end = self.sides.rows() + ROWS_A_STEP;
        let mut full = Vec::new();
        while self.sides.rows() < end && down.has_room() {
            let Some(order) = self.sides.begin()? else {
                self.phase = Phase::Done;
                let rest = self.writer.take();
                return rest
                    .map_or(Ok(()), |batch| down.send(batch))
                    .map(|()| Finish::Done);
            };
            self.position = self.sides.rows() + 1;
            let Sides { left, right, .. } = &mut self.sides;
            self.key.clear();
            match order {
                Ordering::Greater => self.keys.1.encode_key(right.view(), &mut self.key),
                _ => self.keys.0.encode_key(left.view(), &mut self.key),
            }
            let mut lefts = left.group(order == Ordering::Greater);
            let mut rights = right.group(order == Ordering::Less);
            let mut put = |batch| full.push(batch);
            let mut out = Collector::new(&mut self.writer, &mut put);
            let function = &mut self.function;
            self.keys
                .0
                .with_key(&self.key, |key| function(key, &mut lefts, &mut rights, &mut out))
                .expect("the key's bytes are canonical");
            while lefts.next().is_some() {}
            while rights.next().is_some() {}
            if let Some(error) = left.take_error().or_else(|| right.take_error()) {
                return Err(error);
            }
            full.drain(..).try_for_each(|batch| down.send(batch))?;
        }
        Ok(Finish::More)
    }
}

impl<L, R, KL, KR, P, F> Operator for CoGroups<L, R, KL, KR, P, F>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R, Key = KL::Key>,
    P: Record,
    F: for<'a, 'b, 'g, 'c, 'h, 'd, 'e> FnMut(
            <KL::Key as Record>::View<'a>,
            &'b mut Group<'g, L>,
            &'c mut Group<'h, R>,
            &'d mut Collector<'e, P>,
        ) + Send,
{
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        self.process_input(0, batch, down)
    }

    fn process_input(&mut self, input: usize, batch: Batch, _: &mut Downstream<'_>) -> Result<()> {
        self.sides.push(input, &batch)
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        match self.phase {
            Phase::Filling => {
                if self.sides.end()? {
                    self.phase = Phase::Grouping;
                }
                Ok(Finish::More)
            }
            Phase::Grouping => self.step(down),
            Phase::Done => Ok(Finish::Done),
        }
    }

    fn yield_memory(&mut self) -> Result<()> {
        self.sides.yield_memory()
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        self.sides.report(metrics);
    }
}
