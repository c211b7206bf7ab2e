//! Sources that compute or hold their records: functions of an index, and collections.

use super::{RowsBytes, Source, SourceOutput, SourceReader, SourceStatus};
use crate::record::{Field, PlainRecord, Record};
use forebay_memory::{Error, Result};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// Splits a range of indexes in `parts` of about equal size.
fn split_range(count: u64, parts: usize) -> Vec<Range<u64>> {
    let parts = parts as u64;
    let bound = |part: u64| (u128::from(count) * u128::from(part) / u128::from(parts)) as u64;
    (0..parts)
        .map(|part| bound(part)..bound(part + 1))
        .filter(|range| !range.is_empty())
        .collect()
}

/// Bytes of so many rows: of those that vary in size, their fixed parts at least.
fn bytes_of<R: Record>(count: u64) -> RowsBytes {
    match R::STRIDE {
        0 => RowsBytes::at_least(count.saturating_mul(R::SIZE as u64)),
        stride => RowsBytes::exactly(count.saturating_mul(stride as u64)),
    }
}

/// A source of `count` records, the record at index i being `function(i)`.
///
/// # Examples
/// ```
/// let squares = forebay::source::generate(10, |i| i * i);
/// # let _ = squares;
/// ```
pub fn generate<R: Record, F>(count: u64, function: F) -> Generate<F>
where
    F: Fn(u64) -> R + Clone + Send + Sync + 'static,
{
    Generate { count, function }
}

/// See [`generate`].
pub struct Generate<F> {
    count: u64,
    function: F,
}

/// Reads a range of a [`Generate`].
pub struct GenerateReader<F> {
    range: Range<u64>,
    function: F,
}

impl<R: Record, F: Fn(u64) -> R + Clone + Send + Sync + 'static> Source for Generate<F> {
    type Out = R;
    type Split = Range<u64>;
    type Reader = GenerateReader<F>;

    fn splits(&self, parallelism: usize) -> Result<Vec<Range<u64>>> {
        Ok(split_range(self.count, parallelism))
    }

    fn reader(&self, split: Range<u64>) -> Result<Self::Reader> {
        Ok(GenerateReader {
            range: split,
            function: self.function.clone(),
        })
    }

    fn rows_bytes(&self) -> RowsBytes {
        bytes_of::<R>(self.count)
    }

    fn divides_among(&self, subtasks: usize) -> bool {
        self.count >= subtasks as u64
    }
}

impl<R: Record, F: Fn(u64) -> R + Send> SourceReader for GenerateReader<F> {
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        while !out.is_full() {
            let Some(index) = self.range.next() else {
                return Ok(SourceStatus::Done);
            };
            out.push((self.function)(index).view());
        }
        Ok(SourceStatus::More)
    }
}

/// A source of `count` plain records that `fill(first_index, rows)` writes in place, a batch at a time: the fastest
/// generator, as no record is built elsewhere and copied.
pub fn generate_rows<R: PlainRecord, F>(count: u64, fill: F) -> GenerateRows<R, F>
where
    F: Fn(u64, &mut [R]) + Clone + Send + Sync + 'static,
{
    GenerateRows {
        count,
        fill,
        record: std::marker::PhantomData,
    }
}

/// See [`generate_rows`].
pub struct GenerateRows<R, F> {
    count: u64,
    fill: F,
    record: std::marker::PhantomData<fn() -> R>,
}

/// Reads a range of a [`GenerateRows`].
pub struct GenerateRowsReader<R, F> {
    range: Range<u64>,
    fill: F,
    record: std::marker::PhantomData<fn() -> R>,
}

impl<R: PlainRecord, F: Fn(u64, &mut [R]) + Clone + Send + Sync + 'static> Source for GenerateRows<R, F> {
    type Out = R;
    type Split = Range<u64>;
    type Reader = GenerateRowsReader<R, F>;

    fn splits(&self, parallelism: usize) -> Result<Vec<Range<u64>>> {
        Ok(split_range(self.count, parallelism))
    }

    fn reader(&self, split: Range<u64>) -> Result<Self::Reader> {
        Ok(GenerateRowsReader {
            range: split,
            fill: self.fill.clone(),
            record: self.record,
        })
    }

    fn rows_bytes(&self) -> RowsBytes {
        bytes_of::<R>(self.count)
    }

    fn divides_among(&self, subtasks: usize) -> bool {
        self.count >= subtasks as u64
    }
}

impl<R: PlainRecord, F: Fn(u64, &mut [R]) + Send> SourceReader for GenerateRowsReader<R, F> {
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        if self.range.is_empty() {
            return Ok(SourceStatus::Done);
        }
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let first = self.range.start;
        let mut filled = 0;
        out.fill(left, |rows| {
            (self.fill)(first, rows);
            filled = rows.len();
            filled
        });
        self.range.start += filled as u64;
        Ok(SourceStatus::More)
    }
}

/// A source of `count` plain records: `key_of(i)` answers the key of the one at index i, which the engine writes into its
/// field `key`, and whatever else it has found; from that `fill(found, row)` writes the rest of the row in place.
///
/// Where the stream of them goes by that field to the tasks that own the keys, each row is made where its receiver reads
/// it, for rows of at least 64 bytes, where the stream has that consumer alone, with no operator in between, and
/// `network.buffer_timeout` is not 0. Elsewhere rows are made in batches, like those of [`generate_rows`].
///
/// # Examples
/// ```
/// use forebay::Environment;
/// use forebay::record::Record;
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Clone, Copy, Record, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// #[record(plain)]
/// struct Reading {
///     sensor: u64,
///     values: [i64; 8],
/// }
///
/// let environment = Environment::from_args()?;
/// let source = forebay::source::generate_keyed(
///     1000,
///     Reading::sensor,
///     |index| (index % 10, index as i64),
///     |value, row: &mut Reading| row.values = [value; 8],
/// );
/// let counts = environment.source("readings", source).key_by(Reading::sensor).count().collect();
/// environment.execute("readings")?;
/// assert_eq!(counts.take().len(), 10);
/// # Ok::<(), forebay::Error>(())
/// ```
pub fn generate_keyed<R: PlainRecord, T: Record, S, K, F>(
    count: u64,
    key: Field<R, T>,
    key_of: K,
    fill: F,
) -> GenerateKeyed<R, T, S, K, F>
where
    K: Fn(u64) -> (T, S) + Clone + Send + Sync + 'static,
    F: Fn(S, &mut R) + Clone + Send + Sync + 'static,
{
    GenerateKeyed {
        count,
        key,
        key_of,
        fill,
        found: PhantomData,
    }
}

/// See [`generate_keyed`].
pub struct GenerateKeyed<R: Record, T: Record, S, K, F> {
    count: u64,
    key: Field<R, T>,
    key_of: K,
    fill: F,
    found: PhantomData<fn() -> S>,
}

/// Reads a range of a [`GenerateKeyed`].
pub struct GenerateKeyedReader<R: Record, T: Record, S, K, F> {
    range: Range<u64>,
    key: Field<R, T>,
    key_of: K,
    fill: F,
    found: PhantomData<fn() -> S>,
}

impl<R: PlainRecord, T: Record, S: 'static, K, F> Source for GenerateKeyed<R, T, S, K, F>
where
    K: Fn(u64) -> (T, S) + Clone + Send + Sync + 'static,
    F: Fn(S, &mut R) + Clone + Send + Sync + 'static,
{
    type Out = R;
    type Split = Range<u64>;
    type Reader = GenerateKeyedReader<R, T, S, K, F>;

    fn splits(&self, parallelism: usize) -> Result<Vec<Range<u64>>> {
        if self.key.integer_layout().is_none() {
            return Err(Error::config(format!(
                "generate_keyed: the key {:?} is not an integer of up to 64 bits; use generate_rows",
                self.key
            )));
        }
        Ok(split_range(self.count, parallelism))
    }

    fn reader(&self, split: Range<u64>) -> Result<Self::Reader> {
        Ok(GenerateKeyedReader {
            range: split,
            key: self.key,
            key_of: self.key_of.clone(),
            fill: self.fill.clone(),
            found: PhantomData,
        })
    }

    fn rows_bytes(&self) -> RowsBytes {
        bytes_of::<R>(self.count)
    }

    fn divides_among(&self, subtasks: usize) -> bool {
        self.count >= subtasks as u64
    }
}

impl<R: PlainRecord, T: Record, S: 'static, K, F> SourceReader for GenerateKeyedReader<R, T, S, K, F>
where
    K: Fn(u64) -> (T, S) + Send,
    F: Fn(S, &mut R) + Send,
{
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        if self.range.is_empty() {
            return Ok(SourceStatus::Done);
        }
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let first = self.range.start;
        let emitted = out.fill_keyed(
            self.key,
            left,
            |number| (self.key_of)(first + number as u64),
            &self.fill,
        );
        self.range.start += emitted as u64;
        Ok(SourceStatus::More)
    }
}

/// A source of the records in `items`.
pub fn from_items<R: Record>(items: impl Into<Vec<R>>) -> FromItems<R> {
    FromItems {
        items: Arc::new(items.into()),
    }
}

/// See [`from_items`].
pub struct FromItems<R> {
    items: Arc<Vec<R>>,
}

/// Reads a range of a [`FromItems`].
pub struct FromItemsReader<R> {
    items: Arc<Vec<R>>,
    range: Range<u64>,
}

impl<R: Record> Source for FromItems<R> {
    type Out = R;
    type Split = Range<u64>;
    type Reader = FromItemsReader<R>;

    fn splits(&self, parallelism: usize) -> Result<Vec<Range<u64>>> {
        Ok(split_range(self.items.len() as u64, parallelism))
    }

    fn reader(&self, split: Range<u64>) -> Result<Self::Reader> {
        Ok(FromItemsReader {
            items: self.items.clone(),
            range: split,
        })
    }

    fn rows_bytes(&self) -> RowsBytes {
        if R::STRIDE > 0 {
            return bytes_of::<R>(self.items.len() as u64);
        }
        let sizes = self.items.iter().map(|item| R::row_size(item.view()) as u64);
        RowsBytes::exactly(sizes.sum())
    }

    fn divides_among(&self, subtasks: usize) -> bool {
        self.items.len() >= subtasks
    }
}

impl<R: Record> SourceReader for FromItemsReader<R> {
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        while !out.is_full() {
            let Some(index) = self.range.next() else {
                return Ok(SourceStatus::Done);
            };
            out.push(self.items[index as usize].view());
        }
        Ok(SourceStatus::More)
    }
}

#[cfg(test)]
mod tests {
    use super::split_range;

    #[test]
    fn ranges_cover_everything_once() {
        for count in [0, 1, 7, 100, u64::MAX] {
            for parts in [1, 2, 3, 16] {
                let ranges = split_range(count, parts);
                assert_eq!(
                    ranges.iter().map(|range| range.end - range.start).sum::<u64>(),
                    count
                );
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            }
        }
    }
}
