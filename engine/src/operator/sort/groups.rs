//! Groups of rows, streamed from a sort: a function sees the rows of one key after the other and never has them all in memory.
//!
//! # Algorithm
//! Each subtask sorts the rows of its keys, and merges its runs when the input has ended. A [`Reader`] pulls them from the merge and
//! knows where a key's rows end: by the first eight bytes of their normalized keys, and by whole keys where those do not decide. The
//! function is called at the first row of each key and pulls rows as it wants them; what it leaves is skipped.
//!
//! # Memory
//! As the sort's (`local`), and what the function emits in one call.

use super::local::{LocalSort, RowBuffer};
use crate::batch::{Batch, BatchWriter, Batches};
use crate::metrics::OperatorMetrics;
use crate::operator::{Collector, Downstream, Finish, Operator};
use crate::record::{KeyFields, Record};
use forebay_memory::{Error, Result};
use std::cmp::Ordering;
use std::marker::PhantomData;

/// Rows between two looks at whoever waits.
pub(crate) const ROWS_A_STEP: u64 = 16 << 10;

/// The rows of a group, in order. It is an iterator, but that each row is there only until the next is asked for.
pub struct Group<'g, R: Record> {
    rows: &'g mut dyn SortedRows,
    /// Whether the current row was handed out, and whether it was the last.
    has_begun: bool,
    has_ended: bool,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Group<'_, R> {
    /// The next row, or nothing after the last.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's items may not borrow from it"
    )]
    #[inline]
    pub fn next(&mut self) -> Option<R::View<'_>> {
        if self.has_begun {
            self.has_ended = self.has_ended || !self.rows.advance();
        }
        self.has_begun = true;
        if self.has_ended {
            return None;
        }
        Some(R::read_row(self.rows.row()))
    }

    /// Calls `each` with every row that is left.
    #[inline]
    pub fn for_each(&mut self, mut each: impl for<'a> FnMut(R::View<'a>)) {
        while let Some(row) = self.next() {
            each(row);
        }
    }

    /// How many rows are left; they are gone then.
    pub fn count(&mut self) -> u64 {
        let mut count = 0;
        while self.next().is_some() {
            count += 1;
        }
        count
    }
}

/// The rows of the group at hand, one at a time.
trait SortedRows {
    /// The current row.
    fn row(&self) -> &[u8];

    /// Moves on to the next row; false where the group has no more.
    fn advance(&mut self) -> bool;
}

/// A normalized key: its first eight bytes, and all of it where those do not decide.
#[derive(Default)]
struct Mark {
    word: u64,
    is_decided: bool,
    bytes: Vec<u8>,
}

impl Mark {
    fn cmp(&self, other: &Mark) -> Ordering {
        match self.word.cmp(&other.word) {
            Ordering::Equal if !self.is_decided && !other.is_decided => self.bytes.cmp(&other.bytes),
            order => order,
        }
    }
}

/// Sorted rows of `R` on their way from a sort by `K`, and where the rows of each key end.
pub(crate) struct Reader<R, K> {
    keys: K,
    sort: Box<dyn LocalSort>,
    buffer: RowBuffer,
    /// Where the current row is.
    at: usize,
    /// What a row that was asked for from inside a function met.
    error: Option<Error>,
    /// The key of the current row, where it is the first of a group that was seen, or one of those after it.
    mark: Mark,
    is_marked: bool,
    scratch: Vec<u8>,
    rows: u64,
    record: PhantomData<fn(R)>,
}

impl<R: Record, K: KeyFields<R>> Reader<R, K> {
    /// A reader of a sort that still takes rows.
    pub(crate) fn new(keys: K, sort: Box<dyn LocalSort>) -> Self {
        Reader {
            keys,
            sort,
            buffer: RowBuffer::new(R::STRIDE),
            at: 0,
            error: None,
            mark: Mark::default(),
            is_marked: false,
            scratch: Vec::new(),
            rows: 0,
            record: PhantomData,
        }
    }

    /// The sort that it reads.
    pub(crate) fn sort(&self) -> &dyn LocalSort {
        &*self.sort
    }

    /// The sort that it reads.
    pub(crate) fn sort_mut(&mut self) -> &mut dyn LocalSort {
        &mut *self.sort
    }

    /// How many rows have been passed.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Looks at the next row, the first of a group; false where there is none.
    pub(crate) fn begin(&mut self) -> Result<bool> {
        if self.is_marked {
            return Ok(true);
        }
        if !self.refill()? {
            return Ok(false);
        }
        let view = R::read_row(&self.buffer.bytes()[self.at..]);
        let (word, is_decided) = self.keys.prefix(view, &mut self.scratch);
        (self.mark.word, self.mark.is_decided) = (word, is_decided);
        self.mark.bytes.clear();
        if !is_decided {
            self.keys.encode_normalized(view, &mut self.mark.bytes);
        }
        self.is_marked = true;
        Ok(true)
    }

    /// How the key of the group that was begun compares with that of another reader.
    pub(crate) fn compare<S, J>(&self, other: &Reader<S, J>) -> Ordering {
        self.mark.cmp(&other.mark)
    }

    /// The first row that the group that was begun has left.
    #[inline]
    pub(crate) fn view(&self) -> R::View<'_> {
        R::read_row(self.row())
    }

    /// The bytes of that row.
    #[inline]
    pub(crate) fn row(&self) -> &[u8] {
        let rest = &self.buffer.bytes()[self.at..];
        &rest[..R::row_size_at(rest)]
    }

    /// Passes that row; false where the group has no more.
    ///
    /// # Errors
    /// Those of the sort.
    #[inline]
    pub(crate) fn pass(&mut self) -> Result<bool> {
        self.at += self.row().len();
        self.rows += 1;
        if !self.refill()? {
            self.is_marked = false;
            return Ok(false);
        }
        let view = R::read_row(&self.buffer.bytes()[self.at..]);
        let (word, is_decided) = self.keys.prefix(view, &mut self.scratch);
        self.is_marked = word == self.mark.word
            && (is_decided || self.mark.is_decided || {
                self.scratch.clear();
                self.keys.encode_normalized(view, &mut self.scratch);
                self.scratch == self.mark.bytes
            });
        Ok(self.is_marked)
    }

    /// The rows that the group that was begun has left; none of them where it `is_empty`.
    pub(crate) fn group(&mut self, is_empty: bool) -> Group<'_, R> {
        Group {
            rows: self,
            has_begun: false,
            has_ended: is_empty,
            record: PhantomData,
        }
    }

    /// The error that a function which pulled rows could not be told.
    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// Makes sure that there is a current row; false where there is none any more.
    #[inline]
    fn refill(&mut self) -> Result<bool> {
        if self.at == self.buffer.bytes().len() {
            self.at = 0;
            self.sort.fill(&mut self.buffer)?;
        }
        Ok(!self.buffer.bytes().is_empty())
    }
}

impl<R: Record, K: KeyFields<R>> SortedRows for Reader<R, K> {
    fn row(&self) -> &[u8] {
        self.row()
    }

    fn advance(&mut self) -> bool {
        match self.pass() {
            Ok(is_own) => is_own,
            Err(error) => {
                // Nothing more comes; the operator fails with it when the function has come back.
                self.error = Some(error);
                false
            }
        }
    }
}

enum Phase {
    Filling,
    Grouping,
    Done,
}

/// Calls `F` for the rows of each key of `R`.
pub(crate) struct SortedGroups<R: Record, K: KeyFields<R>, P: Record, F> {
    keys: K,
    phase: Phase,
    reader: Reader<R, K>,
    function: F,
    /// The canonical bytes of the key of the group at hand.
    key: Vec<u8>,
    writer: BatchWriter<P>,
    position: u64,
}

impl<R, K, P, F> SortedGroups<R, K, P, F>
where
    R: Record,
    K: KeyFields<R>,
    P: Record,
    F: for<'a, 'b, 'g, 'c, 'd> FnMut(
        <K::Key as Record>::View<'a>,
        &'b mut Group<'g, R>,
        &'c mut Collector<'d, P>,
    ),
{
    /// An operator that has no rows, over a sort that puts those of a key together.
    pub(crate) fn new(keys: K, function: F, sort: Box<dyn LocalSort>, batches: Batches) -> Self {
        SortedGroups {
            keys,
            phase: Phase::Filling,
            reader: Reader::new(keys, sort),
            function,
            key: Vec::new(),
            writer: BatchWriter::new(batches),
            position: 0,
        }
    }

    /// Calls the function for a few groups.
    fn step(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        let reader = &mut self.reader;
        let end = reader.rows() + ROWS_A_STEP;
        let mut full = Vec::new();
        while reader.rows() < end && down.has_room() {
            if !reader.begin()? {
                self.phase = Phase::Done;
                let rest = self.writer.take();
                return rest
                    .map_or(Ok(()), |batch| down.send(batch))
                    .map(|()| Finish::Done);
            }
            self.key.clear();
            self.keys.encode_key(reader.view(), &mut self.key);
            self.position = reader.rows() + 1;
            let mut group = reader.group(false);
            let mut put = |batch| full.push(batch);
            let mut out = Collector::new(&mut self.writer, &mut put);
            let function = &mut self.function;
            self.keys
                .with_key(&self.key, |key| function(key, &mut group, &mut out))
                .expect("the key's bytes are canonical");
            while group.next().is_some() {}
            if let Some(error) = reader.take_error() {
                return Err(error);
            }
            full.drain(..).try_for_each(|batch| down.send(batch))?;
        }
        Ok(Finish::More)
    }
}

impl<R, K, P, F> Operator for SortedGroups<R, K, P, F>
where
    R: Record,
    K: KeyFields<R>,
    P: Record,
    F: for<'a, 'b, 'g, 'c, 'd> FnMut(
            <K::Key as Record>::View<'a>,
            &'b mut Group<'g, R>,
            &'c mut Collector<'d, P>,
        ) + Send,
{
    fn process(&mut self, batch: Batch, _: &mut Downstream<'_>) -> Result<()> {
        self.reader.sort_mut().push(batch.bytes())
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        match self.phase {
            Phase::Filling => {
                if self.reader.sort_mut().end()? {
                    self.phase = Phase::Grouping;
                }
                Ok(Finish::More)
            }
            Phase::Grouping => self.step(down),
            Phase::Done => Ok(Finish::Done),
        }
    }

    fn yield_memory(&mut self) -> Result<()> {
        self.reader.sort_mut().yield_memory()
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        self.reader.sort().usage().report(metrics);
    }
}
