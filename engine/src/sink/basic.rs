//! Sinks without files: nowhere, a function, a vector, the terminal, a hash.

use super::{Sink, SinkWriter};
use crate::batch::Batch;
use crate::record::Record;
use crate::source::Subtask;
use forebay_memory::{Error, Result, hash};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

/// Drops every record.
pub struct Blackhole<R>(PhantomData<fn(R)>);

impl<R> Blackhole<R> {
    /// A sink that drops every record.
    pub fn new() -> Self {
        Blackhole(PhantomData)
    }
}

impl<R> Default for Blackhole<R> {
    fn default() -> Self {
        Blackhole::new()
    }
}

impl<R: Record> Sink for Blackhole<R> {
    type In = R;
    type Writer = Blackhole<R>;

    fn writer(&self, _: Subtask) -> Result<Self::Writer> {
        Ok(Blackhole::new())
    }
}

impl<R: Record> SinkWriter for Blackhole<R> {
    type In = R;

    const TAKES_BATCHES: bool = true;

    fn write(&mut self, _: R::View<'_>) -> Result<()> {
        Ok(())
    }

    fn write_batch(&mut self, _: &Batch) -> Result<()> {
        Ok(())
    }
}

/// Calls a function with every record.
pub struct ForEach<R, F> {
    function: F,
    record: PhantomData<fn(R)>,
}

impl<R: Record, F> ForEach<R, F>
where
    F: for<'a> FnMut(R::View<'a>) -> Result<()> + Clone + Send + 'static,
{
    /// A sink that calls a clone of `function` in each subtask.
    pub fn new(function: F) -> Self {
        ForEach {
            function,
            record: PhantomData,
        }
    }
}

impl<R: Record, F> Sink for ForEach<R, F>
where
    F: for<'a> FnMut(R::View<'a>) -> Result<()> + Clone + Send + 'static,
{
    type In = R;
    type Writer = ForEach<R, F>;

    fn writer(&self, _: Subtask) -> Result<Self::Writer> {
        Ok(ForEach {
            function: self.function.clone(),
            record: PhantomData,
        })
    }
}

impl<R: Record, F> SinkWriter for ForEach<R, F>
where
    F: for<'a> FnMut(R::View<'a>) -> Result<()> + Send,
{
    type In = R;

    fn write(&mut self, row: R::View<'_>) -> Result<()> {
        (self.function)(row)
    }
}

/// What a [`Collect`] sink has collected.
pub struct Collected<R>(Arc<Mutex<Vec<Vec<R>>>>);

impl<R> Clone for Collected<R> {
    fn clone(&self) -> Self {
        Collected(self.0.clone())
    }
}

impl<R> Collected<R> {
    /// The records so far, those of the first subtask first; leaves none.
    pub fn take(&self) -> Vec<R> {
        let mut subtasks = self.0.lock().expect("collecting does not panic");
        let mut all = Vec::new();
        for records in subtasks.iter_mut() {
            match all.is_empty() {
                true => all = std::mem::take(records),
                false => all.append(records),
            }
        }
        all
    }

    /// Adds records of a subtask.
    fn extend(&self, subtask: usize, records: impl Iterator<Item = R>) {
        let mut subtasks = self.0.lock().expect("collecting does not panic");
        if subtasks.len() <= subtask {
            subtasks.resize_with(subtask + 1, Vec::new);
        }
        subtasks[subtask].extend(records);
    }
}

/// Collects every record in memory, on the user's heap: for results that are known to be small.
pub struct Collect<R>(Collected<R>);

impl<R: Record> Collect<R> {
    /// A sink, and where its records will be.
    pub fn new() -> (Self, Collected<R>) {
        let collected = Collected(Arc::default());
        (Collect(collected.clone()), collected)
    }
}

impl<R: Record> Sink for Collect<R> {
    type In = R;
    type Writer = CollectWriter<R>;

    fn writer(&self, subtask: Subtask) -> Result<Self::Writer> {
        Ok(CollectWriter {
            collected: self.0.clone(),
            subtask: subtask.index,
        })
    }
}

/// Collects the records of a subtask.
pub struct CollectWriter<R> {
    collected: Collected<R>,
    subtask: usize,
}

impl<R: Record> SinkWriter for CollectWriter<R> {
    type In = R;

    const TAKES_BATCHES: bool = true;

    fn write(&mut self, row: R::View<'_>) -> Result<()> {
        self.collected
            .extend(self.subtask, std::iter::once(R::from_view(row)));
        Ok(())
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        self.collected
            .extend(self.subtask, batch.rows::<R>().map(R::from_view));
        Ok(())
    }
}

/// Prints every record on standard output, a line each, by the function given.
pub struct Print<R, F> {
    format: F,
    record: PhantomData<fn(R)>,
}

impl<R: Record, F> Print<R, F>
where
    F: for<'a> Fn(R::View<'a>) -> String + Clone + Send + 'static,
{
    /// A sink that prints what `format` makes of each record.
    pub fn new(format: F) -> Self {
        Print {
            format,
            record: PhantomData,
        }
    }
}

impl<R: Record, F> Sink for Print<R, F>
where
    F: for<'a> Fn(R::View<'a>) -> String + Clone + Send + 'static,
{
    type In = R;
    type Writer = Print<R, F>;

    fn writer(&self, _: Subtask) -> Result<Self::Writer> {
        Ok(Print {
            format: self.format.clone(),
            record: PhantomData,
        })
    }
}

impl<R: Record, F> SinkWriter for Print<R, F>
where
    F: for<'a> Fn(R::View<'a>) -> String + Send,
{
    type In = R;

    fn write(&mut self, row: R::View<'_>) -> Result<()> {
        use std::io::Write;
        let line = (self.format)(row);
        writeln!(std::io::stdout(), "{line}").map_err(|error| Error::io("print: standard output", error))
    }
}

/// The fold of a [`HashSink`]: independent of the order of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkHash {
    /// The number of records.
    pub records: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// The wrapping sum of the hashes of all rows.
    pub hash: u64,
}

/// Folds every byte of every record into one hash, for benchmarks and comparisons.
pub struct HashSink<R> {
    total: Arc<Mutex<SinkHash>>,
    record: PhantomData<fn(R)>,
}

/// The writer of a [`HashSink`].
pub struct HashSinkWriter<R> {
    total: Arc<Mutex<SinkHash>>,
    mine: SinkHash,
    record: PhantomData<fn(R)>,
}

impl<R: Record> HashSink<R> {
    /// A sink, and where the fold will be when the job is over.
    pub fn new() -> (Self, Arc<Mutex<SinkHash>>) {
        let total = Arc::default();
        (
            HashSink {
                total: Arc::clone(&total),
                record: PhantomData,
            },
            total,
        )
    }

    /// The hash of one row, as the sink sums them.
    #[inline(always)]
    pub fn row_hash(row: &[u8]) -> u64 {
        if R::STRIDE > 0 && R::STRIDE % 4 == 0 && R::STRIDE <= 256 {
            // A multiplicative hash of the words, each weighted by its own odd constant.
            let (words, tail) = row.as_chunks::<8>();
            let mut sum = 0u64;
            for (index, word) in words.iter().enumerate() {
                let weight = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(2 * index as u64 + 1);
                let x = (u64::from_le_bytes(*word) ^ weight).wrapping_mul(0xd6e8_feb8_6659_fd93);
                sum = sum.wrapping_add(x ^ (x >> 32));
            }
            for byte in tail {
                sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            hash::hash_u64(sum)
        } else {
            hash::hash_bytes(row)
        }
    }
}

impl<R: Record> Sink for HashSink<R> {
    type In = R;
    type Writer = HashSinkWriter<R>;

    fn writer(&self, _: Subtask) -> Result<Self::Writer> {
        Ok(HashSinkWriter {
            total: self.total.clone(),
            mine: SinkHash::default(),
            record: PhantomData,
        })
    }
}

impl<R: Record> SinkWriter for HashSinkWriter<R> {
    type In = R;

    const TAKES_BATCHES: bool = true;

    fn write(&mut self, row: R::View<'_>) -> Result<()> {
        let mut bytes = vec![0; R::row_size(row)];
        R::write_row(row, &mut bytes);
        self.fold(&bytes, 1);
        Ok(())
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        self.fold(batch.bytes(), batch.len() as u64);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let mut total = self.total.lock().expect("folding does not panic");
        total.records += self.mine.records;
        total.bytes += self.mine.bytes;
        total.hash = total.hash.wrapping_add(self.mine.hash);
        Ok(())
    }
}

impl<R: Record> HashSinkWriter<R> {
    fn fold(&mut self, bytes: &[u8], rows: u64) {
        let mut sum = 0u64;
        if R::STRIDE > 0 {
            for row in bytes.chunks_exact(R::STRIDE) {
                sum = sum.wrapping_add(HashSink::<R>::row_hash(row));
            }
        } else {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (row, after) = rest.split_at(crate::batch::variable_row_size(rest));
                sum = sum.wrapping_add(HashSink::<R>::row_hash(row));
                rest = after;
            }
        }
        self.mine.hash = self.mine.hash.wrapping_add(sum);
        self.mine.records += rows;
        self.mine.bytes += bytes.len() as u64;
    }
}
