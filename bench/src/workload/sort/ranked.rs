//! A sink that hashes each record with its place in the order of all.

use crate::workload::Answer;
use forebay::batch::{Batch, variable_row_size};
use forebay::operator::FirstRanks;
use forebay::record::Record;
use forebay::sink::{HashSink, Sink, SinkWriter};
use forebay::source::Subtask;
use forebay_memory::{Error, Result};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

/// The hash of a row at a rank.
#[inline(always)]
pub fn ranked_hash<R: Record>(row: &[u8], rank: u64) -> u64 {
    HashSink::<R>::row_hash(row).wrapping_mul(2 * rank + 1)
}

/// What was hashed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ranked {
    /// Records and hash.
    pub answer: Answer,
    /// Bytes of their rows.
    pub bytes: u64,
}

/// Hashes sorted records with their ranks.
pub struct RankedHash<R> {
    total: Arc<Mutex<Ranked>>,
    ranks: Option<FirstRanks>,
    record: PhantomData<fn(R)>,
}

impl<R: Record> RankedHash<R> {
    /// A sink, and where its answer will be.
    pub fn new() -> (Self, Arc<Mutex<Ranked>>) {
        let total = Arc::default();
        let sink = RankedHash {
            total: Arc::clone(&total),
            ranks: None,
            record: PhantomData,
        };
        (sink, total)
    }
}

impl<R: Record> Sink for RankedHash<R> {
    type In = R;
    type Writer = RankedHashWriter<R>;

    fn take_ranks(&mut self, ranks: &FirstRanks) {
        self.ranks = Some(ranks.clone());
    }

    fn writer(&self, subtask: Subtask) -> Result<Self::Writer> {
        Ok(RankedHashWriter {
            total: self.total.clone(),
            ranks: self.ranks.clone(),
            subtask,
            mine: Ranked::default(),
            rank: None,
            record: PhantomData,
        })
    }
}

/// The writer of a [`RankedHash`].
pub struct RankedHashWriter<R> {
    total: Arc<Mutex<Ranked>>,
    ranks: Option<FirstRanks>,
    subtask: Subtask,
    mine: Ranked,
    /// Of the next record, once there was one.
    rank: Option<u64>,
    record: PhantomData<fn(R)>,
}

impl<R: Record> SinkWriter for RankedHashWriter<R> {
    type In = R;

    const TAKES_BATCHES: bool = true;

    fn write(&mut self, row: R::View<'_>) -> Result<()> {
        let mut bytes = vec![0; R::row_size(row)];
        R::write_row(row, &mut bytes);
        self.fold(&bytes, 1)
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        self.fold(batch.bytes(), batch.len())
    }

    fn finish(&mut self) -> Result<()> {
        let mut total = self.total.lock().expect("adding does not panic");
        total.answer.records += self.mine.answer.records;
        total.answer.hash = total.answer.hash.wrapping_add(self.mine.answer.hash);
        total.bytes += self.mine.bytes;
        Ok(())
    }
}

impl<R: Record> RankedHashWriter<R> {
    fn fold(&mut self, mut bytes: &[u8], rows: usize) -> Result<()> {
        let mut rank = match self.rank {
            Some(rank) => rank,
            None => {
                let range = self
                    .ranks
                    .as_ref()
                    .and_then(|ranks| ranks.range(self.subtask.index));
                // The only subtask has all records.
                let range = range.or((self.subtask.parallelism == 1).then_some(0..0));
                let range = range.ok_or_else(|| {
                    Error::config("a ranked hash: its records have no ranks; put it right behind a sort, with its parallelism")
                })?;
                range.start
            }
        };
        self.mine.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let size = match R::STRIDE {
                0 => variable_row_size(bytes),
                stride => stride,
            };
            let (row, rest) = bytes.split_at(size);
            let hash = ranked_hash::<R>(row, rank);
            self.mine.answer.hash = self.mine.answer.hash.wrapping_add(hash);
            rank += 1;
            bytes = rest;
        }
        self.mine.answer.records += rows as u64;
        self.rank = Some(rank);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of the hashes of rows in a record's form.
    fn hash_of<R: Record>(rows: &[Vec<u8>]) -> u64 {
        let hashes = rows
            .iter()
            .zip(0..)
            .map(|(row, rank)| ranked_hash::<R>(row, rank));
        hashes.fold(0, u64::wrapping_add)
    }

    /// Exchanges any two of 60 rows, of which some are equal.
    fn every_exchange_shows<R: Record>(bytes: usize) {
        let row = |value: u64| value.to_le_bytes().repeat(bytes.div_ceil(8))[..bytes].to_vec();
        let mut rows: Vec<Vec<u8>> = (0..60u64)
            .map(|index| row((index / 2).pow(7) * (index % 2)))
            .collect();
        let hash = hash_of::<R>(&rows);
        for a in 0..rows.len() {
            for b in 0..a {
                rows.swap(a, b);
                assert_eq!(hash_of::<R>(&rows) == hash, rows[a] == rows[b], "{a} and {b}");
                rows.swap(a, b);
            }
            let last = rows[a][bytes - 1];
            rows[a][bytes - 1] ^= 1;
            assert_ne!(hash_of::<R>(&rows), hash, "{a}");
            rows[a][bytes - 1] = last;
        }
    }

    #[test]
    fn two_records_that_changed_places_show_and_a_bit_that_flipped() {
        every_exchange_shows::<u64>(8);
        every_exchange_shows::<(u64, u64)>(16);
        every_exchange_shows::<u32>(4);
    }
}
