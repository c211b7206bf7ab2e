//! Fused operators: `map`, `filter`, `inspect` and `flat_map` closures that the compiler joins to one loop.
//!
//! # Interface
//! A [`Stage`] turns a row into at most a few rows, by static calls; [`Map`], [`Filter`] and [`Inspect`] are stages on
//! top of another. [`Fused`] runs a stage over batches. A [`FlatMap`] ends a fusion: what it emits goes through a
//! [`Collector`] into a batch.
//!
//! # Cost
//! No allocation and no dynamic call a row.

use super::downstream::{Downstream, Operator, ViewTaker};
use crate::batch::{Batch, BatchWriter, Batches, Rows};
use crate::record::Record;
use forebay_memory::{Error, Result};
use std::collections::VecDeque;
use std::marker::PhantomData;

/// Takes the rows that a stage emits.
pub trait Emit<O: Record> {
    /// Takes one row.
    fn emit(&mut self, row: O::View<'_>);

    /// Notes that a user's function failed: the batch ends here.
    fn fail(&mut self, error: Error);
}

/// A step from rows of `I` to rows of `O`, called statically.
pub trait Stage<I: Record, O: Record>: Clone + Send + 'static {
    /// Whether the stage changes nothing, so that no operator is needed for it.
    const IS_IDENTITY: bool = false;

    /// Whether each row that the stage emits is the one that it has just been given, so that a batch may go on without the
    /// others.
    const KEEPS_ROWS: bool = false;

    /// Takes a row and emits what becomes of it.
    fn run<E: Emit<O>>(&mut self, row: I::View<'_>, emit: &mut E);
}

/// Rows as they are.
#[derive(Clone, Copy)]
pub struct Identity;

impl<R: Record> Stage<R, R> for Identity {
    const IS_IDENTITY: bool = true;
    const KEEPS_ROWS: bool = true;

    #[inline(always)]
    fn run<E: Emit<R>>(&mut self, row: R::View<'_>, emit: &mut E) {
        emit.emit(row);
    }
}

/// Rows of `S` that `predicate` is true for.
pub struct Filter<S, F> {
    pub(crate) stage: S,
    pub(crate) predicate: F,
}

/// Rows of `S`, shown to a function.
pub struct Inspect<S, F> {
    pub(crate) stage: S,
    pub(crate) function: F,
}

/// Rows of `S`, which are of type `M`, each turned into another, or into an error.
pub struct Map<S, F, M> {
    pub(crate) stage: S,
    pub(crate) function: F,
    pub(crate) middle: PhantomData<fn(M)>,
}

impl<S: Clone, F: Clone> Clone for Filter<S, F> {
    fn clone(&self) -> Self {
        Filter {
            stage: self.stage.clone(),
            predicate: self.predicate.clone(),
        }
    }
}

impl<S: Clone, F: Clone> Clone for Inspect<S, F> {
    fn clone(&self) -> Self {
        Inspect {
            stage: self.stage.clone(),
            function: self.function.clone(),
        }
    }
}

impl<S: Clone, F: Clone, M> Clone for Map<S, F, M> {
    fn clone(&self) -> Self {
        Map {
            stage: self.stage.clone(),
            function: self.function.clone(),
            middle: PhantomData,
        }
    }
}

/// An [`Emit`] that is a closure over rows and passes failures on.
struct Then<'a, E, F> {
    emit: &'a mut E,
    function: &'a mut F,
}

impl<I, O, S, F> Stage<I, O> for Filter<S, F>
where
    I: Record,
    O: Record,
    S: Stage<I, O>,
    F: for<'a> FnMut(O::View<'a>) -> bool + Clone + Send + 'static,
{
    const KEEPS_ROWS: bool = S::KEEPS_ROWS;

    #[inline(always)]
    fn run<E: Emit<O>>(&mut self, row: I::View<'_>, emit: &mut E) {
        struct Step<'a, E, F>(Then<'a, E, F>);
        impl<O: Record, E: Emit<O>, F: for<'b> FnMut(O::View<'b>) -> bool> Emit<O> for Step<'_, E, F> {
            #[inline(always)]
            fn emit(&mut self, row: O::View<'_>) {
                if (self.0.function)(row) {
                    self.0.emit.emit(row);
                }
            }
            fn fail(&mut self, error: Error) {
                self.0.emit.fail(error);
            }
        }
        self.stage.run(
            row,
            &mut Step(Then {
                emit,
                function: &mut self.predicate,
            }),
        );
    }
}

impl<I, O, S, F> Stage<I, O> for Inspect<S, F>
where
    I: Record,
    O: Record,
    S: Stage<I, O>,
    F: for<'a> FnMut(O::View<'a>) + Clone + Send + 'static,
{
    const KEEPS_ROWS: bool = S::KEEPS_ROWS;

    #[inline(always)]
    fn run<E: Emit<O>>(&mut self, row: I::View<'_>, emit: &mut E) {
        struct Step<'a, E, F>(Then<'a, E, F>);
        impl<O: Record, E: Emit<O>, F: for<'b> FnMut(O::View<'b>)> Emit<O> for Step<'_, E, F> {
            #[inline(always)]
            fn emit(&mut self, row: O::View<'_>) {
                (self.0.function)(row);
                self.0.emit.emit(row);
            }
            fn fail(&mut self, error: Error) {
                self.0.emit.fail(error);
            }
        }
        self.stage.run(
            row,
            &mut Step(Then {
                emit,
                function: &mut self.function,
            }),
        );
    }
}

impl<I, M, O, S, F> Stage<I, O> for Map<S, F, M>
where
    I: Record,
    M: Record,
    O: Record,
    S: Stage<I, M>,
    F: for<'a> FnMut(M::View<'a>) -> Result<O> + Clone + Send + 'static,
{
    #[inline(always)]
    fn run<E: Emit<O>>(&mut self, row: I::View<'_>, emit: &mut E) {
        struct Step<'a, E, F, O>(Then<'a, E, F>, PhantomData<fn(O)>);
        impl<M, O, E, F> Emit<M> for Step<'_, E, F, O>
        where
            M: Record,
            O: Record,
            E: Emit<O>,
            F: for<'b> FnMut(M::View<'b>) -> Result<O>,
        {
            #[inline(always)]
            fn emit(&mut self, row: M::View<'_>) {
                match (self.0.function)(row) {
                    Ok(mapped) => self.0.emit.emit(mapped.view()),
                    Err(error) => self.0.emit.fail(error),
                }
            }
            fn fail(&mut self, error: Error) {
                self.0.emit.fail(error);
            }
        }
        self.stage.run(
            row,
            &mut Step(
                Then {
                    emit,
                    function: &mut self.function,
                },
                PhantomData,
            ),
        );
    }
}

/// Writes emitted rows into batches and sends the full ones.
struct ToBatches<'a, 'd, O: Record> {
    writer: &'a mut BatchWriter<O>,
    down: &'a mut Downstream<'d>,
    failure: Option<Error>,
    kept: u64,
}

impl<O: Record> ToBatches<'_, '_, O> {
    #[cold]
    fn send(&mut self, full: Batch) {
        if self.failure.is_none()
            && let Err(error) = self.down.send(full)
        {
            self.failure = Some(error);
        }
    }
}

impl<O: Record> Emit<O> for ToBatches<'_, '_, O> {
    #[inline(always)]
    fn emit(&mut self, row: O::View<'_>) {
        self.kept += 1;
        if let Some(full) = self.writer.push(row) {
            self.send(full);
        }
    }

    #[cold]
    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}

/// Notes whether a row was emitted, and what failed.
struct Noted {
    is_kept: bool,
    failure: Option<Error>,
}

impl<O: Record> Emit<O> for Noted {
    #[inline(always)]
    fn emit(&mut self, _: O::View<'_>) {
        self.is_kept = true;
    }

    #[cold]
    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}

/// A stage run over batches. One that only drops rows closes the gaps in the batch that it was given and sends it on, for as
/// long as it lets half of the bytes pass.
pub struct Fused<I, O: Record, S> {
    stage: S,
    writer: BatchWriter<O>,
    position: u64,
    /// Whether the last batch lost most of its bytes: then what is left of the next ones is gathered.
    is_sparse: bool,
    input: PhantomData<fn(I)>,
}

impl<I: Record, O: Record, S: Stage<I, O>> Fused<I, O, S> {
    /// An operator for `stage`, with output batches of `batches`.
    pub fn new(stage: S, batches: Batches) -> Self {
        Fused {
            stage,
            writer: BatchWriter::new(batches),
            position: 0,
            is_sparse: false,
            input: PhantomData,
        }
    }

    fn thin_out(&mut self, mut batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        let size = batch.bytes().len();
        let mut noted = Noted {
            is_kept: false,
            failure: None,
        };
        let (stage, position) = (&mut self.stage, &mut self.position);
        let failure = batch.retain::<I>(|row| {
            *position += 1;
            noted.is_kept = false;
            stage.run(row, &mut noted);
            match noted.failure.take() {
                None => Ok(noted.is_kept),
                Some(error) => Err(error),
            }
        });
        failure?;
        self.is_sparse = batch.bytes().len() < size / 2;
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(before) = self.writer.take() {
            down.send(before)?;
        }
        down.send(batch)
    }
}

impl<I: Record, O: Record, S: Stage<I, O>> Operator for Fused<I, O, S> {
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        if S::KEEPS_ROWS && !self.is_sparse && !batch.is_shared() {
            return self.thin_out(batch, down);
        }
        let mut emit = ToBatches {
            writer: &mut self.writer,
            down,
            failure: None,
            kept: 0,
        };
        let first = self.position;
        for row in batch.rows::<I>() {
            self.position += 1;
            self.stage.run(row, &mut emit);
            if let Some(error) = emit.failure.take() {
                return Err(error);
            }
        }
        self.is_sparse = emit.kept * 2 < self.position - first;
        Ok(())
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// Where a `flat_map` function puts its rows.
pub struct Collector<'a, O: Record> {
    writer: &'a mut BatchWriter<O>,
    full: &'a mut dyn FnMut(Batch),
    taker: Option<&'a mut dyn ViewTaker<O>>,
}

impl<'a, O: Record> Collector<'a, O> {
    /// A collector that gives full batches to `full`.
    pub(crate) fn new(writer: &'a mut BatchWriter<O>, full: &'a mut dyn FnMut(Batch)) -> Self {
        Collector {
            writer,
            full,
            taker: None,
        }
    }

    /// Emits a row.
    #[inline(always)]
    pub fn push(&mut self, row: O::View<'_>) {
        if let Some(taker) = &mut self.taker
            && taker.take(O::shorten(row))
        {
            self.writer.pass_by();
        } else if let Some(full) = self.writer.push(row) {
            (self.full)(full);
        }
    }
}

/// A function from a row to any number of rows.
pub trait FlatMap<M: Record, O: Record>: Clone + Send + 'static {
    /// Emits the rows that `row` becomes.
    ///
    /// # Errors
    /// The function's own.
    fn run(&mut self, row: M::View<'_>, out: &mut Collector<'_, O>) -> Result<()>;
}

impl<M, O, F> FlatMap<M, O> for F
where
    M: Record,
    O: Record,
    F: for<'a, 'b, 'c> FnMut(M::View<'a>, &'b mut Collector<'c, O>) -> Result<()> + Clone + Send + 'static,
{
    #[inline(always)]
    fn run(&mut self, row: M::View<'_>, out: &mut Collector<'_, O>) -> Result<()> {
        self(row, out)
    }
}

/// A stage and then a `flat_map`, run over batches. A row may become any number of rows, so it takes the next one only while
/// there is room, and leaves the rest of its input for later.
pub struct FusedFlatMap<I, M, O: Record, S, F> {
    stage: S,
    function: F,
    writer: BatchWriter<O>,
    /// Input, each batch with the bytes of it that are done.
    pending: VecDeque<(Batch, usize)>,
    position: u64,
    types: PhantomData<fn(I, M)>,
}

impl<I: Record, M: Record, O: Record, S: Stage<I, M>, F: FlatMap<M, O>> FusedFlatMap<I, M, O, S, F> {
    /// An operator for `stage` followed by `function`, with output batches of `batches`.
    pub fn new(stage: S, function: F, batches: Batches) -> Self {
        FusedFlatMap {
            stage,
            function,
            writer: BatchWriter::new(batches),
            pending: VecDeque::new(),
            position: 0,
            types: PhantomData,
        }
    }
}

struct ToFlatMap<'a, 'd, O: Record, F> {
    function: &'a mut F,
    writer: &'a mut BatchWriter<O>,
    down: &'a mut Downstream<'d>,
    /// What takes rows of the next operator before they are any.
    taker: Option<Box<dyn ViewTaker<O>>>,
    failure: Option<Error>,
    /// A batch was sent, so that there may be no room any more.
    has_sent: bool,
}

impl<O: Record, F> ToFlatMap<'_, '_, O, F> {
    fn return_taker(&mut self) -> Result<()> {
        self.taker
            .take()
            .map_or(Ok(()), |taker| self.down.return_taker(taker))
    }
}

impl<M: Record, O: Record, F: FlatMap<M, O>> Emit<M> for ToFlatMap<'_, '_, O, F> {
    #[inline(always)]
    fn emit(&mut self, row: M::View<'_>) {
        let (down, failure, has_sent) = (&mut *self.down, &mut self.failure, &mut self.has_sent);
        let mut full = |batch| {
            *has_sent = true;
            if failure.is_none() {
                *failure = down.send(batch).err();
            }
        };
        let done = self.function.run(
            row,
            &mut Collector {
                writer: self.writer,
                full: &mut full,
                taker: self
                    .taker
                    .as_deref_mut()
                    .map(|taker| taker as &mut dyn ViewTaker<O>),
            },
        );
        if let Err(error) = done {
            self.failure.get_or_insert(error);
        }
    }

    #[cold]
    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}

impl<I: Record, M: Record, O: Record, S: Stage<I, M>, F: FlatMap<M, O>> Operator
    for FusedFlatMap<I, M, O, S, F>
{
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
            let taker = down.borrow_taker::<O>();
            let mut emit = ToFlatMap {
                function: &mut self.function,
                writer: &mut self.writer,
                down,
                taker,
                failure: None,
                has_sent: false,
            };
            let bytes = batch.bytes();
            let mut rows = Rows::<I>::of(&bytes[*done..]);
            for row in rows.by_ref() {
                self.position += 1;
                self.stage.run(row, &mut emit);
                if let Some(error) = emit.failure.take() {
                    return Err(error);
                }
                if emit.taker.as_ref().is_some_and(|taker| taker.is_full()) {
                    emit.return_taker()?;
                    emit.taker = emit.down.borrow_taker::<O>();
                    emit.has_sent = true;
                }
                if std::mem::take(&mut emit.has_sent) && !emit.down.has_room() {
                    break;
                }
            }
            emit.return_taker()?;
            match rows.bytes_left() {
                0 => drop(self.pending.pop_front()),
                left => *done = bytes.len() - left,
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
