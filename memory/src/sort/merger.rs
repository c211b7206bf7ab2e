//! Merging in steps: pieces of runs to one sequence of rows, with as many inputs at a time as there is memory for.
//!
//! # Algorithm
//! Where all pieces fit they are merged at once. Otherwise the smallest are merged to a run, as few as let the rest fit, or as
//! many as there is memory for; and again. Pieces in memory need none, and take part in the last merge.
//!
//! # Memory
//! For each spilled piece that is being merged as many segments as its largest row has, at least one; for the writer one more. Least:
//! two pieces and a writer. What is left of the memory that is kept for it has blocks that are read ahead (`ahead`).

use super::ahead::{Disk, ReadAhead};
use super::cursor::Cursor;
use super::item_merge::ItemMerge;
use super::items::Items;
use super::merge::Merge;
use super::order::KeyScratch;
use super::rows::Scratch;
use super::run::{Piece, Run, RunWriter};
use crate::error::{Error, Result};
use crate::manager::Budget;
use crate::segment::{Segment, SegmentSource};
use crate::spill::SpillHandle;
use std::sync::Arc;

/// Rows merged to a run between two looks at whoever calls.
const ROWS_A_STEP: usize = 4096;

/// Where merged rows go.
pub trait RowOutput {
    /// Takes a row; false where no more are wanted now.
    fn push(&mut self, row: &[u8]) -> bool;

    /// Lets `write` write rows of fixed size one behind the other into room for some and say how many; false where no more are wanted now.
    fn fill(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool;
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// All rows were given out.
    Done,
}

/// A piece, and whether nobody else reads its run.
struct Input<I: Items> {
    piece: Piece<I>,
    is_own: bool,
}

/// Merges pieces of runs.
pub struct Merger<I: Items> {
    inputs: Vec<Input<I>>,
    running: Option<Running<I>>,
    keys: KeyScratch,
    scratch: Scratch,
    /// Memory that is kept for it.
    pool: Vec<Segment>,
    /// How many merges there have been, the last not counted.
    merges: usize,
}

/// A merge of whichever kind.
enum Merging<I: Items> {
    Rows(Merge<I>),
    /// Of items that are rows.
    Items(ItemMerge<I>),
}

enum Running<I: Items> {
    /// Rows go to a run.
    Run(Merging<I>, RunWriter),
    /// Rows go out of here.
    Last(Merging<I>),
}

impl<I: Items> Merger<I>
where
    I::Order: Clone,
{
    /// A merger of pieces, in the order in which their equal rows come; `is_own` where nobody else reads their runs. `reserved` is
    /// memory that it has whatever the budget has.
    pub fn new(pieces: impl IntoIterator<Item = Piece<I>>, is_own: bool, reserved: Vec<Segment>) -> Self {
        let inputs = pieces.into_iter().filter(|piece| piece.rows() > 0);
        Merger {
            inputs: inputs.map(|piece| Input { piece, is_own }).collect(),
            running: None,
            keys: KeyScratch::default(),
            scratch: Scratch::default(),
            pool: reserved,
            merges: 0,
        }
    }

    /// How many merges to further runs there have been.
    pub fn merges(&self) -> usize {
        self.merges
    }

    /// Gives rows to `output` until it wants no more, or there are no more.
    ///
    /// # Errors
    /// Those of the spill store; `Memory` where not even two pieces find room.
    pub fn step(
        &mut self,
        form: &I,
        budget: &Budget,
        handle: &mut SpillHandle,
        output: &mut impl RowOutput,
    ) -> Result<Step> {
        let order = form.order();
        let mut is_over = false;
        match &mut self.running {
            None if self.inputs.is_empty() => return Ok(Step::Done),
            None => self.running = Some(self.start(form, budget, handle)?),
            Some(Running::Last(Merging::Rows(merge))) => {
                is_over = true;
                while let Some(cursor) = merge.winner() {
                    let goes_on = output.push(cursor.row(&mut self.scratch));
                    merge.advance(handle, order)?;
                    if !goes_on {
                        is_over = false;
                        break;
                    }
                }
            }
            Some(Running::Last(Merging::Items(merge))) => loop {
                is_over = !merge.ready(form, handle)?;
                if is_over || !output.fill(|room| merge.fill(form, room)) {
                    break;
                }
            },
            Some(Running::Run(Merging::Rows(merge), writer)) => {
                for _ in 0..ROWS_A_STEP {
                    let Some(cursor) = merge.winner() else {
                        self.end_run(handle)?;
                        break;
                    };
                    writer.push(cursor.word(), cursor.row(&mut self.scratch), handle)?;
                    merge.advance(handle, order)?;
                }
            }
            Some(Running::Run(Merging::Items(merge), writer)) => {
                let mut rows = 0;
                while rows < ROWS_A_STEP {
                    if !merge.ready(form, handle)? {
                        self.end_run(handle)?;
                        break;
                    }
                    rows += merge.write(form, writer, handle)?;
                }
            }
        }
        if is_over {
            self.running = None;
            return Ok(Step::Done);
        }
        Ok(Step::More)
    }

    /// Makes the run that was written a piece to be merged.
    fn end_run(&mut self, handle: &mut SpillHandle) -> Result<()> {
        let Some(Running::Run(merge, writer)) = self.running.take() else {
            unreachable!("a run is being written");
        };
        let (run, staging) = writer.finish(handle)?;
        self.pool.push(staging);
        match merge {
            Merging::Rows(merge) => self.pool.extend(merge.into_segments()),
            Merging::Items(merge) => self.pool.extend(merge.into_segments()),
        }
        let piece = Run::Spilled(Arc::new(run)).whole();
        self.inputs.push(Input { piece, is_own: true });
        self.merges += 1;
        Ok(())
    }

    /// Starts the next merge.
    fn start(&mut self, form: &I, budget: &Budget, handle: &mut SpillHandle) -> Result<Running<I>> {
        let size = budget.segment_size();
        let segments = |input: &Input<I>| input.piece.segments(size);
        let all: usize = self.inputs.iter().map(segments).sum();
        self.draw(all, budget);
        let available = self.pool.len();
        if all <= available {
            let inputs = std::mem::take(&mut self.inputs);
            let merge = self.open(inputs, form, budget, handle)?;
            return Ok(Running::Last(merge));
        }
        // The smallest first. Among equals the order of rows does not matter any more than among all: rows of equal
        // keys may come in another order than without this step.
        self.inputs.sort_by_key(|input| match &input.piece.run {
            Run::Memory(_) => u64::MAX,
            Run::Spilled(_) => input.piece.rows(),
        });
        let (mut count, mut needed, mut largest) = (0, 1, 0);
        for input in &self.inputs {
            let input = segments(input);
            if input == 0 || needed + input > available {
                break;
            }
            (count, needed, largest) = (count + 1, needed + input, largest.max(input));
            if count > 1 && all + 1 - needed + largest <= available {
                break;
            }
        }
        if count < 2 {
            return Err(Error::memory(format!(
                "{}: to merge two runs whose rows have up to {} segments it needs {}, its budget has {available}; raise \
                 memory.managed_size",
                budget.owner(),
                self.inputs.iter().map(segments).max().unwrap_or(0),
                needed + self.inputs.iter().map(segments).take(2).sum::<usize>()
            )));
        }
        let staging = self.pool.pop().expect("there is memory for it");
        let inputs = self.inputs.drain(..count).collect();
        let merge = self.open(inputs, form, budget, handle)?;
        let are_items_sorted = matches!(merge, Merging::Items(_));
        Ok(Running::Run(merge, RunWriter::new(staging, are_items_sorted)))
    }

    fn open(
        &mut self,
        inputs: Vec<Input<I>>,
        form: &I,
        budget: &Budget,
        handle: &mut SpillHandle,
    ) -> Result<Merging<I>> {
        let segment_size = budget.segment_size();
        let mut memory = Vec::with_capacity(inputs.len());
        for Input { piece, .. } in &inputs {
            let rest = self.pool.len() - piece.segments(segment_size);
            memory.push(self.pool.split_off(rest));
        }
        let pieces = inputs.iter().map(|input| &input.piece);
        let mut ahead = ReadAhead::new(pieces, std::mem::take(&mut self.pool));
        ahead.plan(handle)?;
        if ItemMerge::can(inputs.iter().map(|input| &input.piece)) {
            let inputs = inputs.into_iter().zip(memory);
            let inputs = inputs.map(|(Input { piece, is_own }, segments)| (piece, is_own, segments));
            let budget_bytes = budget.maximum().saturating_mul(segment_size);
            let merge = ItemMerge::open(inputs, ahead, form, handle, budget_bytes)?;
            return Ok(Merging::Items(merge));
        }
        let order = form.order();
        let mut cursors = Vec::with_capacity(inputs.len());
        let mut spilled = 0;
        for (Input { piece, is_own }, segments) in inputs.into_iter().zip(memory) {
            let ahead = &mut ahead;
            let disk = &mut Disk { handle, ahead };
            let keys = &mut self.keys;
            cursors.push(Cursor::open(
                &piece, spilled, segments, is_own, disk, order, keys,
            )?);
            spilled += usize::from(matches!(piece.run, Run::Spilled(_)));
        }
        Ok(Merging::Rows(Merge::new(cursors, ahead, order)))
    }

    /// Takes memory until it has `wanted` segments, as far as there is any. What can be had may be had by others when it is asked for,
    /// so nothing is counted on that is not here.
    fn draw(&mut self, wanted: usize, budget: &Budget) {
        let mut more = wanted.saturating_sub(self.pool.len()).min(budget.available());
        while more > 0 {
            match budget.reserve(more) {
                Ok(mut reservation) => {
                    self.pool.extend(std::iter::from_fn(|| reservation.take()));
                    return;
                }
                Err(_) => {
                    budget.withdraw();
                    more = budget.available().min(more / 2);
                }
            }
        }
    }
}
