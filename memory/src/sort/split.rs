//! Splitting: cuts through sorted runs so that each part has about as many rows and comes before the next.
//!
//! # Interface
//! [`split`] gives, for each part, where it begins in every run.
//!
//! # Algorithm
//! A *splitter* is a row of some run; rows are ordered by (key, run, number), so that rows of one key are divided too. What comes
//! before it in each run is found by binary search. Splitters are looked for among *candidates*: the first rows of blocks, and
//! one row in 4096 of a run in memory. For a wanted rank:
//! 1. Of the run with the most candidates left, take the middle one. Count the candidates before it in each run, which gives its
//!    rank but for the rows of a block in each run. Where these are more than a small share of a part, as with little data, they are
//!    looked at.
//! 2. Where the rank is too low, candidates before it are out, otherwise those after it; until none is left. The nearest one is the splitter.
//! 3. Its place in each run is found exactly, in the one block where it can be.
//!
//! Candidates are compared by the words that the index has. Only where these are equal and do not decide, blocks are read.
//!
//! # Cost
//! With k runs and b blocks in each: about log₂(k·b) rounds of k·log₂ b comparisons of words, and k blocks read for each splitter.

use std::cmp::Ordering;

use super::items::Items;
use super::order::{KeyScratch, RowOrder};
use super::rows::Scratch;
use super::run::{Run, SpilledRun};
use crate::error::Result;
use crate::spill::SpillHandle;

/// A rank need not be known better than to a part in so many of an output.
const TOLERANCE: u64 = 64;

/// Candidates in a run in memory.
const CANDIDATES: u64 = 4096;

/// Where each part begins in every run: `parts` lists of as many numbers as there are runs, the first of zeros. Part i ends where part
/// i + 1 begins, and the last with its runs.
///
/// # Errors
/// Those of the spill store.
pub fn split<I: Items>(
    runs: &[Run<I>],
    parts: usize,
    order: &I::Order,
    handle: &mut SpillHandle,
    segment_size: usize,
) -> Result<Vec<Vec<u64>>> {
    let mut search = Search {
        runs,
        order,
        handle,
        segment_size,
        keys: KeyScratch::default(),
        block: Scratch::default(),
        other: Scratch::default(),
        pivot: None,
        words_decide: order.key_size().is_some_and(|size| size <= 8),
    };
    let total: u64 = runs.iter().map(Run::rows).sum();
    let mut cuts = vec![vec![0; runs.len()]];
    for part in 1..parts as u64 {
        let rank = (u128::from(total) * u128::from(part) / parts as u128) as u64;
        let cut = match search.nearest(rank, total / parts as u64 / TOLERANCE)? {
            Some((run, candidate)) => search.cut(run, candidate)?,
            None => vec![0; runs.len()],
        };
        // Ranks that are near enough need not be in the order of their candidates.
        let before = &cuts[part as usize - 1];
        let is_behind = cut.iter().sum::<u64>() >= before.iter().sum();
        cuts.push(if is_behind { cut } else { before.clone() });
    }
    Ok(cuts)
}

struct Search<'a, I: Items> {
    runs: &'a [Run<I>],
    order: &'a I::Order,
    handle: &'a mut SpillHandle,
    segment_size: usize,
    keys: KeyScratch,
    block: Scratch,
    other: Scratch,
    /// The row of the candidate that is being compared with others, where it had to be read.
    pivot: Option<(usize, u64, Vec<u128>, usize)>,
    words_decide: bool,
}

/// How many rows of a run in memory there are from one candidate to the next.
fn step(rows: u64) -> u64 {
    (rows / CANDIDATES).max(1)
}

impl<I: Items> Search<'_, I> {
    fn candidates(&self, run: usize) -> usize {
        match &self.runs[run] {
            Run::Memory(memory) => memory.rows().div_ceil(step(memory.rows())) as usize,
            Run::Spilled(spilled) => spilled.blocks.len(),
        }
    }

    /// The number of a candidate's row; of the one after the last, the number of rows.
    fn row_number(&self, run: usize, candidate: usize) -> u64 {
        match &self.runs[run] {
            Run::Memory(memory) => (candidate as u64 * step(memory.rows())).min(memory.rows()),
            Run::Spilled(spilled) => spilled
                .blocks
                .get(candidate)
                .map_or(spilled.rows, |block| block.row),
        }
    }

    fn word(&mut self, run: usize, candidate: usize) -> u64 {
        match &self.runs[run] {
            Run::Memory(memory) => memory.row_at(self.row_number(run, candidate), &mut self.other).0,
            Run::Spilled(spilled) => spilled.blocks[candidate].word,
        }
    }

    /// The candidate whose rank is nearest to the one wanted; of ranks the `tolerance` does not matter.
    fn nearest(&mut self, wanted: u64, tolerance: u64) -> Result<Option<(usize, usize)>> {
        let mut low = vec![0; self.runs.len()];
        let mut high: Vec<usize> = (0..self.runs.len()).map(|run| self.candidates(run)).collect();
        let mut best: Option<(u64, usize, usize)> = None;
        loop {
            let widest = (0..self.runs.len()).max_by_key(|run| high[*run] - low[*run]);
            let Some(run) = widest.filter(|run| high[*run] > low[*run]) else {
                return Ok(best.map(|(_, run, candidate)| (run, candidate)));
            };
            let middle = (low[run] + high[run]) / 2;
            let mut before = Vec::with_capacity(self.runs.len());
            for other in 0..self.runs.len() {
                before.push(match other == run {
                    true => middle,
                    false => self.count_before(other, low[other], high[other], run, middle)?,
                });
            }
            let rank = self.rank(run, middle, &before, tolerance)?;
            let distance = rank.abs_diff(wanted);
            if best.is_none_or(|(nearest, ..)| distance < nearest) {
                best = Some((distance, run, middle));
            }
            if rank <= wanted {
                before[run] = middle + 1;
                low = before;
            } else {
                high = before;
            }
        }
    }

    /// How many rows come before candidate `of` of run `than`, where the candidates `before` do.
    fn rank(&mut self, than: usize, of: usize, before: &[usize], tolerance: u64) -> Result<u64> {
        let (mut least, mut most) = (0, 0);
        for (run, before) in before.iter().enumerate() {
            most += self.row_number(run, *before);
            least += match before.checked_sub(1) {
                Some(last) if run != than => self.row_number(run, last) + 1,
                _ => self.row_number(run, *before),
            };
        }
        match most - least <= tolerance {
            true => Ok(least.midpoint(most)),
            false => Ok(self.cut(than, of)?.iter().sum()),
        }
    }

    /// How many candidates of a run come before candidate `of` of run `than`, which is between `low` and `high`.
    fn count_before(&mut self, run: usize, low: usize, high: usize, than: usize, of: usize) -> Result<usize> {
        let (mut low, mut high) = (low, high);
        while low < high {
            let middle = (low + high) / 2;
            match self.comes_before(run, middle, than, of)? {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// Whether candidate `a` of run `run` comes before candidate `b` of run `than`, another.
    fn comes_before(&mut self, run: usize, a: usize, than: usize, b: usize) -> Result<bool> {
        let by_word = self.word(run, a).cmp(&self.word(than, b));
        let order = match by_word {
            Ordering::Equal if !self.words_decide => {
                let (row, pivot) = (self.row_number(run, a), self.row_number(than, b));
                self.load_pivot(than, pivot)?;
                self.compare_with_pivot(run, row)?
            }
            order => order,
        };
        Ok(order.then(run.cmp(&than)).is_lt())
    }

    /// Reads the row that others are compared with, unless it is there.
    fn load_pivot(&mut self, run: usize, row: u64) -> Result<()> {
        if matches!(&self.pivot, Some((of, number, ..)) if (*of, *number) == (run, row)) {
            return Ok(());
        }
        let bytes = match &self.runs[run] {
            Run::Memory(memory) => memory.row_at(row, &mut self.other).1,
            Run::Spilled(spilled) => {
                let block = spilled.block_of(row);
                let skipped = row - spilled.blocks[block].row;
                let bytes = read_block(spilled, block, self.handle, self.segment_size, &mut self.block)?;
                let mut rows = Rows {
                    bytes,
                    order: self.order,
                };
                rows.nth(skipped as usize).expect("a row is in its block")
            }
        };
        let mut words = vec![0u128; bytes.len().div_ceil(16)];
        zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice())[..bytes.len()].copy_from_slice(bytes);
        self.pivot = Some((run, row, words, bytes.len()));
        Ok(())
    }

    /// How a row that a candidate is, or a row in memory, compares with the pivot.
    fn compare_with_pivot(&mut self, run: usize, row: u64) -> Result<Ordering> {
        let (_, _, words, size) = self.pivot.as_ref().expect("the pivot was loaded");
        let pivot = &zerocopy::IntoBytes::as_bytes(words.as_slice())[..*size];
        let bytes = match &self.runs[run] {
            Run::Memory(memory) => memory.row_at(row, &mut self.other).1,
            Run::Spilled(spilled) => {
                let block = spilled.block_of(row);
                read_block(spilled, block, self.handle, self.segment_size, &mut self.block)?
            }
        };
        let bytes = &bytes[..self.order.row_size(bytes)];
        Ok(self.order.compare(bytes, pivot, &mut self.keys))
    }

    /// How many rows of each run come before a candidate.
    fn cut(&mut self, than: usize, of: usize) -> Result<Vec<u64>> {
        let pivot = self.row_number(than, of);
        self.load_pivot(than, pivot)?;
        let mut cuts = Vec::with_capacity(self.runs.len());
        for run in 0..self.runs.len() {
            if run == than {
                cuts.push(pivot);
                continue;
            }
            let candidate = self.count_before(run, 0, self.candidates(run), than, of)?;
            let (Some(last), end) = (candidate.checked_sub(1), self.row_number(run, candidate)) else {
                cuts.push(0);
                continue;
            };
            // The last candidate before the splitter comes before it; the rows behind it may.
            let first = self.row_number(run, last);
            cuts.push(self.first_not_before(run, first, end, than)?);
        }
        Ok(cuts)
    }

    /// The first row between `first` and `end`, of one block or between two candidates in memory, that does not come before the
    /// pivot, which is of run `than`.
    fn first_not_before(&mut self, run: usize, first: u64, end: u64, than: usize) -> Result<u64> {
        match &self.runs[run] {
            Run::Memory(_) => {
                let (mut low, mut high) = (first, end);
                while low < high {
                    let middle = (low + high) / 2;
                    match self.compare_with_pivot(run, middle)?.then(run.cmp(&than)).is_lt() {
                        true => low = middle + 1,
                        false => high = middle,
                    }
                }
                Ok(low)
            }
            Run::Spilled(spilled) => {
                let (_, _, words, size) = self.pivot.as_ref().expect("the pivot was loaded");
                let pivot = &zerocopy::IntoBytes::as_bytes(words.as_slice())[..*size];
                let block = spilled.block_of(first);
                let bytes = read_block(spilled, block, self.handle, self.segment_size, &mut self.block)?;
                let mut number = first;
                for row in (Rows {
                    bytes,
                    order: self.order,
                }) {
                    if number == end
                        || !self
                            .order
                            .compare(row, pivot, &mut self.keys)
                            .then(run.cmp(&than))
                            .is_lt()
                    {
                        break;
                    }
                    number += 1;
                }
                Ok(number)
            }
        }
    }
}

/// Reads the rows that begin in a block: one, where it goes on in others.
fn read_block<'a>(
    run: &SpilledRun,
    block: usize,
    handle: &mut SpillHandle,
    segment_size: usize,
    scratch: &'a mut Scratch,
) -> Result<&'a [u8]> {
    let row = run.blocks[block].row;
    let count = run.blocks[block..]
        .iter()
        .take_while(|next| next.row == row)
        .count();
    let bytes = scratch.bytes(count * segment_size);
    let mut filled = 0;
    for block in &run.blocks[block..block + count] {
        filled += handle.read(&block.reference, &mut bytes[filled..])?;
    }
    Ok(&bytes[..filled])
}

/// Rows packed one behind the other.
struct Rows<'a, O> {
    bytes: &'a [u8],
    order: &'a O,
}

impl<'a, O: RowOrder> Iterator for Rows<'a, O> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return None;
        }
        let (row, rest) = self.bytes.split_at(self.order.row_size(self.bytes));
        self.bytes = rest;
        Some(row)
    }
}
