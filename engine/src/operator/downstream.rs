//! The chain: operators called one after the other, and the call from each to the next.
//!
//! # Interface
//! An [`Operator`] gets batches with [`Operator::process`] and sends its own with [`Downstream::send`]. After its last
//! input, [`Operator::finish`] is called until it answers [`Finish::Done`]. [`Operator::flush`] sends rows held back to
//! fill a batch; it is called when the task has no more input at hand.
//!
//! What an operator emits goes on as a row in a batch, but for views that the next one takes as they are: an aggregation that
//! needs the key alone lends a [`ViewTaker`].
//!
//! # Cost
//! One dynamic call a batch and operator; one a view where views are taken, which is less than writing and reading its row.

use crate::batch::Batch;
use crate::exchange::{Direct, Output};
use crate::metrics::OperatorMetrics;
use crate::record::{IntegerColumn, Record};
use forebay_memory::account::thread_heap_growth;
use forebay_memory::{ErrorKind, Result};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// Whether an operator has sent everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// There is more to send: call again, when there is room.
    More,
    /// There is more to send when other subtasks have come so far; who makes the operator go on wakes its task
    /// ([`OperatorContext::wake`](crate::graph::OperatorContext)).
    Waiting,
    /// Everything was sent.
    Done,
}

/// The part of an operator that takes views which have not been written as rows. The operator before it in the chain
/// borrows it ([`Downstream::borrow_taker`]) while it works on a batch.
pub trait ViewTaker<R: Record>: Send {
    /// Takes a view. Where it answers false the view is to be sent as a row.
    fn take(&mut self, view: R::View<'_>) -> bool;

    /// Whether it has something to send and takes little more until it was given back.
    fn is_full(&self) -> bool;

    /// Views taken since it was borrowed.
    fn taken(&self) -> u64;

    /// Itself, for its operator.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

/// An operator of a chain. One object serves one subtask.
pub trait Operator: Send {
    /// Takes a batch. An operator that makes much of little keeps what it has no room for, and says so in
    /// [`Operator::has_pending`].
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()>;

    /// Takes a batch of one of several inputs. Operators with one input have number 0 alone.
    fn process_input(&mut self, input: usize, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        assert_eq!(input, 0, "an operator with several inputs tells them apart");
        self.process(batch, down)
    }

    /// Hears that one of several inputs has ended, the last one included. Much work is put off, as for
    /// [`Operator::process`].
    fn end_input(&mut self, _input: usize, _down: &mut Downstream<'_>) -> Result<()> {
        Ok(())
    }

    /// Lends what takes views of its input, a `Box<dyn ViewTaker<_>>`, where it has that. Until it comes back the operator
    /// may be given batches, but is not flushed or finished.
    fn lend_taker(&mut self) -> Option<Box<dyn Any + Send>> {
        None
    }

    /// Takes back what it has lent, by [`ViewTaker::into_any`].
    fn return_taker(&mut self, _taker: Box<dyn Any + Send>, _down: &mut Downstream<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether input was left because what it becomes had no room.
    fn has_pending(&self) -> bool {
        false
    }

    /// Goes on with input that was left, as far as there is room.
    fn resume(&mut self, _down: &mut Downstream<'_>) -> Result<()> {
        Ok(())
    }

    /// Sends rows that were held back to fill a batch.
    fn flush(&mut self, _down: &mut Downstream<'_>) -> Result<()> {
        Ok(())
    }

    /// Sends what is left after the last input. Called until it answers [`Finish::Done`], each time there is room; an
    /// operator with much to send stops when [`Downstream::has_room`] is false, and after about as much as a few batches: a
    /// sink in the same chain always has room, and the worker's other tasks, cancellation, and whoever wants memory back wait
    /// meanwhile.
    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        self.flush(down)?;
        Ok(Finish::Done)
    }

    /// Gives memory back where the arbiter asked for it. Called often, between batches.
    fn yield_memory(&mut self) -> Result<()> {
        Ok(())
    }

    /// Does a piece of the work that was put off while there was input: called when there is none for a while. Rows that
    /// come of it are sent.
    fn catch_up(&mut self, _down: &mut Downstream<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether [`Operator::catch_up`] has something to do.
    fn is_behind(&self) -> bool {
        false
    }

    /// How many records the operator's user function has begun, for errors.
    fn position(&self) -> u64 {
        0
    }

    /// Whether it sends every batch on as it is, for as long as there is input.
    fn lets_all_pass(&self) -> bool {
        false
    }

    /// Adds what the operator alone knows to its metrics.
    fn report(&self, _metrics: &mut OperatorMetrics) {}
}

/// An operator and its place in the job.
pub struct ChainLink {
    /// The operator.
    pub operator: Box<dyn Operator>,
    /// Its name, unique in the job.
    pub name: Arc<str>,
    /// Records that it was given.
    pub records_in: u64,
    /// Bytes that its steps have added to the counted heap, those of the operators after it left out.
    heap_growth: Arc<AtomicI64>,
    finished: bool,
}

impl ChainLink {
    /// A link for `operator`.
    pub fn new(name: Arc<str>, operator: Box<dyn Operator>) -> Self {
        ChainLink {
            operator,
            name,
            records_in: 0,
            heap_growth: Arc::default(),
            finished: false,
        }
    }

    /// Bytes that the operator has added to the counted heap, for whoever watches the task.
    pub fn heap_growth(&self) -> Arc<AtomicI64> {
        self.heap_growth.clone()
    }
}

/// The operators of a task, in order, and the task's output.
pub struct Chain {
    links: Vec<ChainLink>,
    output: Output,
    /// Which link is at work: index + 1, or 0 for the task's own source. Says where a panic came from, and which
    /// function does not return.
    active: Arc<AtomicUsize>,
}

impl Chain {
    /// A chain of `links` that ends in `output`.
    pub fn new(links: Vec<ChainLink>, output: Output) -> Self {
        Chain {
            links,
            output,
            active: Arc::default(),
        }
    }

    /// The way into the chain.
    pub fn downstream(&mut self) -> Downstream<'_> {
        self.active.store(0, Ordering::Relaxed);
        Downstream {
            links: &mut self.links,
            output: &mut self.output,
            index: 0,
            active: &self.active,
            grown: 0,
        }
    }

    /// The chain's output.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// The links, for metrics.
    pub fn links(&self) -> &[ChainLink] {
        &self.links
    }

    /// Which link is at work, for whoever watches the task: index + 1, or 0 for its source.
    pub fn activity(&self) -> Arc<AtomicUsize> {
        self.active.clone()
    }

    /// Sends rows held back, from the first operator to the last.
    pub fn flush(&mut self) -> Result<()> {
        self.downstream().flush_all()
    }

    /// Lets every operator give memory back.
    pub fn yield_memory(&mut self) -> Result<()> {
        self.links
            .iter_mut()
            .try_for_each(|link| link.operator.yield_memory())
    }

    /// Whether an operator has put work off.
    pub fn is_behind(&self) -> bool {
        self.links.iter().any(|link| link.operator.is_behind())
    }

    /// Lets the first operator that has put work off do a piece of it.
    pub fn catch_up(&mut self) -> Result<()> {
        let down = self.downstream();
        let Some(first) = down.links.iter().position(|link| link.operator.is_behind()) else {
            return Ok(());
        };
        let (head, rest) = down.links[first..]
            .split_first_mut()
            .expect("first is inside the chain");
        down.active.store(first + 1, Ordering::Relaxed);
        let mut after = Downstream {
            links: rest,
            output: down.output,
            index: first + 1,
            active: down.active,
            grown: 0,
        };
        run(head, &mut after, |operator, after| operator.catch_up(after))
    }

    /// Whether an operator has left input because what it becomes had no room.
    pub fn has_pending(&self) -> bool {
        self.links.iter().any(|link| link.operator.has_pending())
    }

    /// Gives the first operator a batch of one of its inputs.
    pub fn send_input(&mut self, input: usize, batch: Batch) -> Result<()> {
        let rows = batch.len() as u64;
        match input {
            0 => self.downstream().send(batch),
            _ => (self.downstream()).step(rows, |operator, down| operator.process_input(input, batch, down)),
        }
    }

    /// Tells the first operator that one of its inputs has ended.
    pub fn end_input(&mut self, input: usize) -> Result<()> {
        self.downstream()
            .step(0, |operator, down| operator.end_input(input, down))
    }

    /// Lets operators go on with input that they left, as far as there is room; true where none is left.
    pub fn resume(&mut self) -> Result<bool> {
        self.downstream().resume_all()
    }

    /// Finishes the operators in order, as far as there is room; of an operator with more to send, one piece.
    pub fn finish(&mut self) -> Result<Finish> {
        let mut down = self.downstream();
        for first in 0..down.links.len() {
            if down.links[first].finished {
                continue;
            }
            if !down.output.has_room() || !down.resume_all()? {
                return Ok(Finish::More);
            }
            let (head, rest) = down.links[first..]
                .split_first_mut()
                .expect("first is inside the chain");
            down.active.store(first + 1, Ordering::Relaxed);
            let mut after = Downstream {
                links: rest,
                output: down.output,
                index: first + 1,
                active: down.active,
                grown: 0,
            };
            match run(head, &mut after, |operator, after| operator.finish(after))? {
                Finish::Done => head.finished = true,
                unfinished => return Ok(unfinished),
            }
        }
        Ok(Finish::Done)
    }

    /// The name of the operator at work and the number of records it has begun; `None` for the task's source.
    pub fn at_work(&self) -> Option<(Arc<str>, u64)> {
        let link = self
            .links
            .get(self.active.load(Ordering::Relaxed).checked_sub(1)?)?;
        Some((link.name.clone(), link.operator.position()))
    }
}

/// Runs a step of an operator; says in a user's error where it happened, and counts what the step added to the heap.
fn run<T>(
    link: &mut ChainLink,
    down: &mut Downstream<'_>,
    step: impl FnOnce(&mut dyn Operator, &mut Downstream<'_>) -> Result<T>,
) -> Result<T> {
    let before = thread_heap_growth();
    let result = step(link.operator.as_mut(), down);
    let own = thread_heap_growth() - before - down.grown;
    let sum = link.heap_growth.load(Ordering::Relaxed) + own as i64;
    link.heap_growth.store(sum, Ordering::Relaxed);
    result.map_err(|error| {
        if error.kind() == ErrorKind::User && !error.is_located() {
            let position = link.operator.position();
            error
                .within(format_args!("operator \"{}\", record {position}", link.name))
                .located()
        } else {
            error
        }
    })
}

/// What comes after an operator: the rest of its chain.
pub struct Downstream<'a> {
    links: &'a mut [ChainLink],
    output: &'a mut Output,
    /// Of the first link in `links`.
    index: usize,
    active: &'a AtomicUsize,
    /// What steps of its operators have added to the heap.
    grown: isize,
}

impl Downstream<'_> {
    /// Sends a batch to the next operator, or to the task's output. The batch is taken in any state; operators with
    /// much to send ask [`Downstream::has_room`].
    ///
    /// # Errors
    /// Those of the operators after this one.
    pub fn send(&mut self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        match self.links.split_first_mut() {
            None => {
                self.output.send(batch);
                Ok(())
            }
            Some(_) => {
                let rows = batch.len() as u64;
                self.step(rows, |operator, down| operator.process(batch, down))
            }
        }
    }

    /// A way to write rows straight into the buffers of the task's output, where no operator in between does anything with them: see
    /// [`Output::direct`].
    pub fn direct(&mut self, column: IntegerColumn) -> Option<Direct<'_>> {
        match self.links.iter().all(|link| link.operator.lets_all_pass()) {
            true => self.output.direct(column),
            false => None,
        }
    }

    /// Runs a step of the next operator, with `rows` more records for it.
    fn step(
        &mut self,
        rows: u64,
        step: impl FnOnce(&mut dyn Operator, &mut Downstream<'_>) -> Result<()>,
    ) -> Result<()> {
        let (link, rest) = self.links.split_first_mut().expect("there is a next operator");
        link.records_in += rows;
        let caller = self.active.load(Ordering::Relaxed);
        self.active.store(self.index + 1, Ordering::Relaxed);
        let mut down = Downstream {
            links: rest,
            output: self.output,
            index: self.index + 1,
            active: self.active,
            grown: 0,
        };
        let before = thread_heap_growth();
        let result = run(link, &mut down, step);
        self.grown += thread_heap_growth() - before;
        if result.is_ok() {
            self.active.store(caller, Ordering::Relaxed);
        }
        result
    }

    /// What takes views of the next operator's input, where it lends that.
    pub fn borrow_taker<R: Record>(&mut self) -> Option<Box<dyn ViewTaker<R>>> {
        let taker = self.links.first_mut()?.operator.lend_taker()?;
        let taker = taker.downcast::<Box<dyn ViewTaker<R>>>();
        Some(*taker.expect("operators of a chain agree on their records"))
    }

    /// Gives back what [`Downstream::borrow_taker`] answered.
    ///
    /// # Errors
    /// Those of the operators after this one.
    pub fn return_taker<R: Record>(&mut self, taker: Box<dyn ViewTaker<R>>) -> Result<()> {
        let taken = taker.taken();
        self.step(taken, |operator, down| {
            operator.return_taker(taker.into_any(), down)
        })
    }

    /// Whether the task's output can take more without parking it, and no later operator has left input.
    pub fn has_room(&self) -> bool {
        self.output.has_room() && !self.links.iter().any(|link| link.operator.has_pending())
    }

    /// Lets operators go on with input that they left, the last one first; true where none is left.
    fn resume_all(&mut self) -> Result<bool> {
        for first in (0..self.links.len()).rev() {
            let (head, rest) = self.links[first..]
                .split_first_mut()
                .expect("first is inside the chain");
            if !head.operator.has_pending() {
                continue;
            }
            let index = self.index + first + 1;
            self.active.store(index, Ordering::Relaxed);
            let mut down = Downstream {
                links: rest,
                output: self.output,
                index,
                active: self.active,
                grown: 0,
            };
            run(head, &mut down, |operator, down| operator.resume(down))?;
        }
        Ok(!self.links.iter().any(|link| link.operator.has_pending()))
    }

    fn flush_all(&mut self) -> Result<()> {
        if let Some((link, rest)) = self.links.split_first_mut() {
            self.active.store(self.index + 1, Ordering::Relaxed);
            let mut down = Downstream {
                links: rest,
                output: self.output,
                index: self.index + 1,
                active: self.active,
                grown: 0,
            };
            run(link, &mut down, |operator, down| operator.flush(down))?;
            down.flush_all()?;
        }
        Ok(())
    }
}
