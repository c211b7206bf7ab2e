//! The sort-merge join: both sides sorted by their keys, and walked through together.
//!
//! # Algorithm
//! 1. Rows of both inputs go to a sort each; rows that come in order only wait there. When both have ended, both are merged.
//! 2. The rows of a key that one side alone has are sent, if they are kept, as they come from its merge. So are those of a null key, which is
//!    like no other.
//! 3. The rows of a key that both sides have go to a log each, which may spill; where only whether there is a match matters and nothing else
//!    decides that, they need not.
//! 4. The logs are joined piece by piece: each row of a piece of the left log with each of the right log, and again with the next piece. A
//!    row of the left piece has a mark for whether it has a match. Where right rows without a match are kept and a condition
//!    decides, the logs are walked through once more the other way round, for these rows alone.
//!
//! # Memory
//! A budget for each sort, and one for both logs. Besides a mark for each row of a piece, on the heap.
//!
//! # Cost
//! Two sorts; of a key with l and r rows whose logs have spilled, the right log is read once for each segment of the left one,
//! while l × r pairs are made.

use super::functions::{JoinFunctions, Pairs, Residual};
use super::row_log::{LEAST_SEGMENTS, RowLog, first_row};
use crate::batch::{Batch, BatchWriter, Batches};
use crate::metrics::OperatorMetrics;
use crate::operator::sort::{ROWS_A_STEP, Sides};
use crate::operator::{Downstream, Finish, LocalSort, Operator};
use crate::record::{KeyFields, Record};
use forebay_memory::{Budget, Result, SpillHandle};
use std::cmp::Ordering;

/// Pairs that are looked at between two looks at whoever waits.
const PAIRS_A_STEP: u64 = 64 << 10;

/// Managed segments that the logs cannot do without.
pub(crate) const LEAST_LOG_SEGMENTS: usize = 2 * LEAST_SEGMENTS;

/// What a sort-merge join is made with.
pub(crate) struct MergeSetting {
    pub(crate) sorts: [Box<dyn LocalSort>; 2],
    /// Which input the left side is.
    pub(crate) left_input: usize,
    /// For the logs.
    pub(crate) budget: Budget,
    pub(crate) handle: SpillHandle,
    pub(crate) batches: Batches,
}

/// Where a pair of logs is being joined.
#[derive(Debug, Clone, Copy)]
struct At {
    /// Whether the left log is the outer one.
    left_is_outer: bool,
    /// Pieces.
    outer: usize,
    inner: usize,
    /// Bytes of them that are done, and the number of the outer row in its piece.
    outer_at: usize,
    inner_at: usize,
    row: usize,
}

impl At {
    fn start(left_is_outer: bool) -> At {
        At {
            left_is_outer,
            outer: 0,
            inner: 0,
            outer_at: 0,
            inner_at: 0,
            row: 0,
        }
    }
}

/// What becomes of rows that are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sends {
    Nothing,
    /// They have no match.
    Alone,
    /// Left rows are sent with the right side's first row of the key.
    Paired,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Filling,
    /// The next key.
    Next,
    /// Rows of a side are passed, up to the end of the key.
    Side {
        is_left: bool,
        sends: Sends,
    },
    /// The rows of a key go to the logs: left ones, then right ones.
    Logging {
        left_is_over: bool,
    },
    /// The logs are joined.
    Pairs(At),
    Done,
}

/// Joins rows of `L` and `R` whose keys `KL` and `KR` are equal and for which `W` is true, and sends what `F` makes of them.
pub(crate) struct MergeJoin<L, R, KL, KR, F, W>
where
    L: Record,
    R: Record,
    F: JoinFunctions<L, R>,
{
    keys: (KL, KR),
    functions: F,
    residual: W,
    sides: Sides<L, R, KL, KR>,
    budget: Budget,
    handle: SpillHandle,
    /// Left and right.
    logs: Option<[RowLog; 2]>,
    /// Of the rows of the outer piece: whether they have a match.
    marks: Vec<bool>,
    phase: Phase,
    writer: BatchWriter<F::Out>,
    peak_segments: usize,
}

impl<L, R, KL, KR, F, W> MergeJoin<L, R, KL, KR, F, W>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R, Key = KL::Key>,
    F: JoinFunctions<L, R>,
    W: Residual<L, R>,
{
    pub(crate) fn new(setting: MergeSetting, keys: (KL, KR), functions: F, residual: W) -> Self {
        MergeJoin {
            keys,
            functions,
            residual,
            sides: Sides::new(keys, setting.sorts, setting.left_input),
            budget: setting.budget,
            handle: setting.handle,
            logs: None,
            marks: Vec::new(),
            phase: Phase::Filling,
            writer: BatchWriter::new(setting.batches),
            peak_segments: 0,
        }
    }

    /// Looks at the next key.
    fn next_key(&mut self) -> Result<Phase> {
        let kind = F::KIND;
        let Some(order) = self.sides.begin()? else {
            return Ok(Phase::Done);
        };
        let Sides { left, right, .. } = &mut self.sides;
        let alone = |is_left: bool, are_kept: bool| Phase::Side {
            is_left,
            sends: if are_kept { Sends::Alone } else { Sends::Nothing },
        };
        let left_alone = alone(true, kind.keeps_left);
        Ok(match order {
            Ordering::Less => left_alone,
            Ordering::Greater => alone(false, kind.keeps_right),
            Ordering::Equal if KL::NULLABLE && self.keys.0.has_null(left.view()) => {
                debug_assert!(self.keys.1.has_null(right.view()), "the keys are equal");
                left_alone
            }
            Ordering::Equal if W::IS_TRUE && kind.pairs == Pairs::LeftOnce => Phase::Side {
                is_left: true,
                sends: Sends::Paired,
            },
            Ordering::Equal if W::IS_TRUE && kind.pairs == Pairs::None => alone(true, false),
            Ordering::Equal => {
                if self.logs.is_none() {
                    self.logs = Some([RowLog::new(&self.budget)?, RowLog::new(&self.budget)?]);
                }
                Phase::Logging { left_is_over: false }
            }
        })
    }

    /// Does some of the work of the phase.
    fn step(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        let rows = self.sides.rows();
        let Sides { left, right, .. } = &mut self.sides;
        match self.phase {
            Phase::Next => self.phase = self.next_key()?,
            Phase::Side { is_left, sends } => {
                let mut more = true;
                while more && left.rows() + right.rows() < rows + ROWS_A_STEP {
                    let full = match (sends, is_left) {
                        (Sends::Nothing, _) => None,
                        (Sends::Alone, true) => self.functions.left(left.view(), &mut self.writer),
                        (Sends::Alone, false) => self.functions.right(right.view(), &mut self.writer),
                        (Sends::Paired, _) => {
                            (self.functions).pair(left.view(), right.view(), &mut self.writer)
                        }
                    };
                    more = if is_left { left.pass()? } else { right.pass()? };
                    if let Some(full) = full {
                        down.send(full)?;
                        if !down.has_room() {
                            break;
                        }
                    }
                }
                if !more {
                    self.phase = Phase::Next;
                }
            }
            Phase::Logging { left_is_over } => {
                let [lefts, rights] = self.logs.as_mut().expect("rows are logged after logs were made");
                let mut more = true;
                while more && left.rows() + right.rows() < rows + ROWS_A_STEP {
                    more = match left_is_over {
                        false => {
                            lefts.push(left.row(), &self.budget, &mut self.handle)?;
                            left.pass()?
                        }
                        true => {
                            rights.push(right.row(), &self.budget, &mut self.handle)?;
                            right.pass()?
                        }
                    };
                }
                if !more {
                    self.phase = match left_is_over {
                        false => Phase::Logging { left_is_over: true },
                        true => self.start_pairs(true)?,
                    };
                }
            }
            Phase::Pairs(at) => {
                self.phase = match self.pairs(at, down)? {
                    Some(at) => Phase::Pairs(at),
                    // Once more, for right rows without a match.
                    None if at.left_is_outer && F::KIND.keeps_right && !W::IS_TRUE => {
                        self.start_pairs(false)?
                    }
                    None => {
                        self.peak_segments = self.peak_segments.max(self.budget.held());
                        for log in self.logs.iter_mut().flatten() {
                            log.clear(&mut self.handle);
                        }
                        Phase::Next
                    }
                };
            }
            Phase::Filling | Phase::Done => unreachable!("there are no rows to join"),
        }
        Ok(())
    }

    /// Starts to join the logs.
    fn start_pairs(&mut self, left_is_outer: bool) -> Result<Phase> {
        let [lefts, rights] = self.logs.as_mut().expect("there are rows in them");
        debug_assert!(lefts.rows() > 0 && rights.rows() > 0, "both sides have the key");
        lefts.load(0, &mut self.handle)?;
        rights.load(0, &mut self.handle)?;
        self.marks.clear();
        Ok(Phase::Pairs(At::start(left_is_outer)))
    }

    /// Joins rows of the logs from a place on; answers where it goes on.
    fn pairs(&mut self, mut at: At, down: &mut Downstream<'_>) -> Result<Option<At>> {
        let kind = F::KIND;
        let [lefts, rights] = self.logs.as_mut().expect("there are rows in them");
        let (strides, logs) = match at.left_is_outer {
            true => ((L::STRIDE, R::STRIDE), (lefts, rights)),
            false => ((R::STRIDE, L::STRIDE), (rights, lefts)),
        };
        let (outer_log, inner_log) = logs;
        // In the second walk pairs were sent already.
        let sends_pairs = at.left_is_outer && kind.pairs == Pairs::All;
        let once = !sends_pairs;
        let mut left = PAIRS_A_STEP;
        loop {
            // The rows of the outer piece with those of the inner one.
            let (outer, inner) = (outer_log.bytes(at.outer), inner_log.bytes(at.inner));
            while at.outer_at < outer.len() {
                let outer_row = first_row(&outer[at.outer_at..], strides.0);
                if self.marks.len() <= at.row {
                    self.marks.push(false);
                }
                while at.inner_at < inner.len() && !(once && self.marks[at.row]) {
                    let inner_row = first_row(&inner[at.inner_at..], strides.1);
                    at.inner_at += inner_row.len();
                    left = left.saturating_sub(1);
                    let (l, r) = match at.left_is_outer {
                        true => (outer_row, inner_row),
                        false => (inner_row, outer_row),
                    };
                    if !self.residual.test(L::read_row(l), R::read_row(r)) {
                        continue;
                    }
                    self.marks[at.row] = true;
                    let full = match at.left_is_outer && kind.pairs != Pairs::None {
                        true => (self.functions).pair(L::read_row(l), R::read_row(r), &mut self.writer),
                        false => None,
                    };
                    if let Some(full) = full {
                        down.send(full)?;
                        if !down.has_room() {
                            return Ok(Some(at));
                        }
                    }
                }
                at.outer_at += outer_row.len();
                (at.inner_at, at.row) = (0, at.row + 1);
                if left == 0 {
                    return Ok(Some(at));
                }
            }
            at = At {
                inner: at.inner + 1,
                ..At::start(at.left_is_outer)
            }
            .of(at.outer);
            if at.inner < inner_log.pieces() {
                inner_log.load(at.inner, &mut self.handle)?;
                continue;
            }
            // The outer piece has seen all: its rows without a match.
            let sends = match at.left_is_outer {
                true => kind.keeps_left,
                false => kind.keeps_right,
            };
            if sends && self.marks.contains(&false) {
                let mut rest = outer_log.bytes(at.outer);
                for is_matched in &self.marks {
                    let row = first_row(rest, strides.0);
                    rest = &rest[row.len()..];
                    let full = match (is_matched, at.left_is_outer) {
                        (true, _) => None,
                        (false, true) => self.functions.left(L::read_row(row), &mut self.writer),
                        (false, false) => self.functions.right(R::read_row(row), &mut self.writer),
                    };
                    full.map_or(Ok(()), |full| down.send(full))?;
                }
            }
            self.marks.clear();
            if at.outer + 1 == outer_log.pieces() {
                return Ok(None);
            }
            at = At::start(at.left_is_outer).of(at.outer + 1);
            outer_log.load(at.outer, &mut self.handle)?;
            inner_log.load(0, &mut self.handle)?;
            if !down.has_room() {
                return Ok(Some(at));
            }
        }
    }
}

impl At {
    /// The same at the start of another outer piece.
    fn of(self, outer: usize) -> At {
        At { outer, ..self }
    }
}

impl<L, R, KL, KR, F, W> Operator for MergeJoin<L, R, KL, KR, F, W>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R, Key = KL::Key>,
    F: JoinFunctions<L, R>,
    W: Residual<L, R>,
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
        if matches!(self.phase, Phase::Filling) {
            if self.sides.end()? {
                self.phase = Phase::Next;
            }
            return Ok(Finish::More);
        }
        let end = self.sides.rows() + ROWS_A_STEP;
        while self.sides.rows() < end && down.has_room() {
            if matches!(self.phase, Phase::Done) {
                self.logs = None;
                self.flush(down)?;
                return Ok(Finish::Done);
            }
            let was_pairs = matches!(self.phase, Phase::Pairs(_));
            self.step(down)?;
            if was_pairs && matches!(self.phase, Phase::Pairs(_)) {
                break;
            }
        }
        Ok(Finish::More)
    }

    fn yield_memory(&mut self) -> Result<()> {
        self.sides.yield_memory()
    }

    fn position(&self) -> u64 {
        self.sides.rows()
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        self.sides.report(metrics);
        let spilled = self.handle.stats();
        metrics.segments_held += self.budget.held() as u64;
        metrics.segments_peak += self.peak_segments.max(self.budget.held()) as u64;
        metrics.spilled_bytes_written += spilled.bytes_written;
        metrics.spilled_bytes_read += spilled.bytes_read;
    }
}
