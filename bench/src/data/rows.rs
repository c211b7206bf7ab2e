//! Files of generated plain records, written by several threads at once.

use forebay::operator::FirstRanks;
use forebay::record::PlainRecord;
use forebay::sink::{BinarySink, Sink, SinkWriter};
use forebay::source::Subtask;
use forebay_memory::Result;
use std::path::Path;

/// Records made at a time.
const PIECE: usize = 1024;
const MOST_THREADS: usize = 8;

/// Writes `records` records that `fill(first, rows)` makes from the number of the first to a file, which has its name when it is whole.
/// What was there before is replaced. Answers the file's size.
///
/// # Errors
/// `Io` where the file cannot be written.
pub fn write_rows<R: PlainRecord>(
    path: &Path,
    records: u64,
    fill: impl Fn(u64, &mut [R]) + Sync,
) -> Result<u64> {
    let parallelism =
        std::thread::available_parallelism().map_or(1, |threads| threads.get().min(MOST_THREADS));
    let bound = |part: usize| (u128::from(records) * part as u128 / parallelism as u128) as u64;
    let bounds: Vec<u64> = (0..=parallelism).map(bound).collect();
    let ranks = FirstRanks::default();
    ranks.publish(&bounds);
    let mut sink = BinarySink::<R>::file(path).overwrite();
    sink.take_ranks(&ranks);
    let writers = (0..parallelism).map(|index| sink.writer(Subtask { index, parallelism }));
    let writers = writers.collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .into_iter()
            .zip(bounds.windows(2))
            .map(|(mut writer, range)| {
                let fill = &fill;
                scope.spawn(move || {
                    let mut rows = [R::new_zeroed(); PIECE];
                    let (mut next, end) = (range[0], range[1]);
                    while next < end {
                        let rows = &mut rows[..(end - next).min(PIECE as u64) as usize];
                        fill(next, rows);
                        writer.write_rows(rows)?;
                        next += rows.len() as u64;
                    }
                    writer.finish()
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("writing does not panic"))
    })?;
    Ok(records * size_of::<R>() as u64)
}
