//! [`Sieve`]: which rows of a row group a predicate wants, by its columns alone, so that the others are decoded of these rows only.
//!
//! # Interface
//! [`Sieve::open`] where it may pay, [`Sieve::advance`] until it is done, [`Sieve::into_wanted`].
//!
//! # Algorithm
//! 1. The predicate's columns are decoded a batch at a time, and the predicate looks at values, column by column.
//! 2. Rows that it wants become ranges. Rows between two of them, where these are few, are read too: what is read is looked at again
//!    when it is a record, so that ranges may have too many rows, and never too few. A value that does not suit its field stays, unless
//!    another condition excludes its row, for the same reason: the record's reader names it.
//! 3. It gives up where more than [`MOST_KEPT`] of what it has seen is wanted: decoding the predicate's columns twice is paid by what is not
//!    read of the others.
//!
//! # Memory
//! On the user's heap, as a reader of those columns; and for each range, of which there are at most [`MOST_RANGES`], 16 bytes, and
//! 32 where the reader selects rows by them.
//!
//! # Not here
//! The Parquet library's own filter looks at a whole row group while its reader is made: a call that takes as long as the group is large, with a
//! selection as long as its rows are many.

use super::file::OpenFile;
use super::predicate::{FieldTest, Predicate, Sifted};
use super::pruning::leaf_of;
use super::row_batches::RowBatches;
use crate::record::Record;
use forebay_memory::Result;
use parquet::arrow::ProjectionMask;
use std::ops::Range;
use std::path::Path;

/// Rows between two wanted ones that are read with them, where they are fewer: passing over them costs as much.
const LEAST_GAP: u64 = 32;

/// Ranges of a part of a row group at most: 256 KiB. Where there are more, those that are nearest to each other become one.
const MOST_RANGES: usize = 16 << 10;

/// What part of the rows may be wanted, at most, for the sieve to go on.
const MOST_KEPT: f64 = 0.5;

/// Looks at the predicate's columns of the rows of a row group.
pub(super) struct Sieve<R: Record> {
    batches: RowBatches,
    predicate: Predicate<R>,
    /// The rows that are looked at, which of these ranges is next, and the next row of it.
    rows: Vec<Range<u64>>,
    range: usize,
    next: u64,
    looked_at: u64,
    wanted: Ranges,
    keep: Vec<bool>,
}

impl<R: Record> Sieve<R> {
    /// A sieve of the rows `rows` of a row group; none where the record has no other columns than the predicate's.
    ///
    /// # Errors
    /// Where the row group is damaged.
    pub(super) fn open(
        file: &OpenFile,
        path: &Path,
        group: usize,
        predicate: &Predicate<R>,
        rows: &[Range<u64>],
    ) -> Result<Option<Sieve<R>>> {
        let mut looked_at = Vec::new();
        predicate.each_test(&mut |test| looked_at.extend(leaf_of(file, test).map(|leaf| leaf.number)));
        looked_at.sort_unstable();
        looked_at.dedup();
        let count = file.group_rows(group);
        if looked_at.is_empty() || looked_at.len() == file.leaves.len() || count == 0 {
            return Ok(None);
        }
        let footer = file.metadata.metadata().row_group(group);
        let width: u64 = looked_at
            .iter()
            .map(|leaf| footer.column(*leaf).uncompressed_size() as u64 / count + 1)
            .fold(0, u64::saturating_add);
        let mask = ProjectionMask::leaves(file.metadata.parquet_schema(), looked_at);
        Ok(Some(Sieve {
            batches: RowBatches::open(file, path, group, mask, width, rows)?,
            predicate: predicate.clone(),
            rows: rows.to_vec(),
            range: 0,
            next: rows.first().map_or(0, |rows| rows.start),
            looked_at: 0,
            wanted: Ranges::new(LEAST_GAP, MOST_RANGES),
            keep: Vec::new(),
        }))
    }

    /// Looks at a batch; false where there is none, or nothing is gained by another.
    ///
    /// # Errors
    /// Where what is decoded is damaged.
    pub(super) fn advance(&mut self, file: &OpenFile, path: &Path) -> Result<bool> {
        let Some(batch) = self.batches.next(path)? else {
            return Ok(false);
        };
        self.keep.clear();
        self.keep.resize(batch.num_rows(), true);
        let sifted = |test: &dyn FieldTest<R>| match leaf_of(file, test) {
            Some(_) => batch
                .column_by_name(test.name())
                .map_or(Sifted::Unknown, Sifted::Column),
            None if file.leaves.iter().any(|leaf| leaf.root == test.name()) => Sifted::Unknown,
            None => Sifted::Missing,
        };
        self.predicate.sift(&sifted, &mut self.keep);
        self.take_kept();
        self.looked_at += batch.num_rows() as u64;
        Ok(!self.is_of_no_use())
    }

    /// Whether so much is wanted that it costs more than it saves.
    pub(super) fn is_of_no_use(&self) -> bool {
        self.wanted.rows as f64 > self.looked_at as f64 * MOST_KEPT
    }

    /// The rows that it has looked at.
    pub(super) fn rows_looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Those of them that are not wanted.
    pub(super) fn rows_left_out(&self) -> u64 {
        self.looked_at - self.wanted.rows.min(self.looked_at)
    }

    /// Adds the rows of the batch that are kept to those that are wanted.
    fn take_kept(&mut self) {
        let mut keep = &self.keep[..];
        while !keep.is_empty() && self.range < self.rows.len() {
            let end = self.rows[self.range].end;
            let count = (end - self.next).min(keep.len() as u64);
            let (these, rest) = keep.split_at(count as usize);
            let mut row = self.next;
            for run in these.chunk_by(|left, right| left == right) {
                let run_end = row + run.len() as u64;
                if run[0] {
                    self.wanted.add(row..run_end, self.rows[self.range].start);
                }
                row = run_end;
            }
            self.next += count;
            keep = rest;
            if self.next == end {
                self.range += 1;
                self.next = self.rows.get(self.range).map_or(end, |rows| rows.start);
            }
        }
    }

    /// The rows that may be wanted: those that were not looked at, too.
    pub(super) fn into_wanted(mut self) -> Vec<Range<u64>> {
        for range in self.range..self.rows.len() {
            let rows = &self.rows[range];
            self.wanted.add(rows.start.max(self.next)..rows.end, rows.start);
        }
        self.wanted.ranges
    }
}

/// Ranges of rows in order, with at least `gap` rows between two of them that are of one piece.
struct Ranges {
    ranges: Vec<Range<u64>>,
    /// The rows in them.
    rows: u64,
    gap: u64,
    most: usize,
}

impl Ranges {
    fn new(gap: u64, most: usize) -> Self {
        Ranges {
            ranges: Vec::new(),
            rows: 0,
            gap,
            most,
        }
    }

    /// Adds rows after those that there are, of a piece that begins with row `piece`.
    fn add(&mut self, rows: Range<u64>, piece: u64) {
        match self.ranges.last_mut() {
            Some(last) if last.end == rows.start || last.end > piece && rows.start - last.end < self.gap => {
                self.rows += rows.end - last.end;
                last.end = rows.end;
            }
            _ => {
                self.rows += rows.end - rows.start;
                self.ranges.push(rows);
            }
        }
        while self.ranges.len() > self.most {
            self.gap *= 2;
            let gap = self.gap;
            self.ranges.dedup_by(|next, before| {
                let is_near = next.start - before.end < gap;
                if is_near {
                    before.end = next.end;
                }
                is_near
            });
            self.rows = self.ranges.iter().map(|rows| rows.end - rows.start).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_rows_become_one_range_and_ranges_stay_few() {
        let mut ranges = Ranges::new(4, 100);
        for row in [3, 6, 10, 11, 20] {
            ranges.add(row..row + 1, 0);
        }
        assert_eq!((&ranges.ranges[..], ranges.rows), (&[3..12, 20..21][..], 10));
        // A piece that begins behind the last range is not joined with it.
        ranges.add(22..23, 22);
        assert_eq!(ranges.ranges, [3..12, 20..21, 22..23]);

        let mut ranges = Ranges::new(4, 100);
        for row in (0..10_000).map(|row| row * 7) {
            ranges.add(row..row + 1, 0);
            assert!(ranges.ranges.len() <= 100);
            assert_eq!(
                ranges.rows,
                ranges
                    .ranges
                    .iter()
                    .map(|rows| rows.end - rows.start)
                    .sum::<u64>()
            );
            assert!(ranges.ranges.iter().any(|rows| rows.contains(&row)));
        }
        assert!(ranges.gap > 4);
    }
}
