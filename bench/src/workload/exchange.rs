//! `exchange`: 100-byte records from every source subtask to the sink subtask that their key hashes to; every byte is
//! read. With `--rate`, the latency of each record from the time at which it was due.

use super::{Answer, Bare, Outcome, Workload, nothing_to_prepare};
use crate::data::mix::{mix, start_of};
use crate::limits::{MachineLimits, best_rate};
use crate::options::Choice;
use crate::result::Latency;
use crate::setting::Setting;
use forebay::batch::Batch;
use forebay::record::{PlainRecord, Record};
use forebay::sink::{Sink, SinkWriter};
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus, Subtask, generate_keyed};
use forebay::{Environment, Result};
use forebay_memory::Error;
use hdrhistogram::Histogram;
use std::hint::black_box;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "exchange",
    about: "100-byte records by hash from all source subtasks to all sink subtasks; every byte is read",
    help: "Record i has key mix(i) (its low 32 bits) and 96 bytes that depend on it. Sources write rows in place.\n\
           --rate N schedules N records a second over all sources and reports p50 to p99.9 and the most, each measured\n\
           from the record's scheduled time, so that a stall counts for every record it delays; --records bounds it.\n\
           Records due in the first 500 ms, or the first quarter of a shorter schedule, warm up and are in no percentile:\n\
           threads start and memory is touched for the first time during them.\n\
           Try: --rate 1M --records 5M --parallelism 16 --mode streaming --set network.buffer_timeout=1ms",
    records: 20_000_000,
    keys: 0,
    takes: &[Choice::Seed, Choice::Rate],
    takes_of_files: &[],
    prepare: nothing_to_prepare,
    run,
    oracle,
    bare,
    stall: None,
    read_back: None,
};

const WORDS: usize = 24;

/// A record of 100 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
struct Wide {
    key: u32,
    body: [u32; WORDS],
}

impl Wide {
    /// Writes record `index` in place.
    #[inline(always)]
    fn write(&mut self, index: u64) {
        self.write_as(index, mix(index));
    }

    /// Writes record `index`, whose random number is known.
    #[inline(always)]
    fn write_as(&mut self, index: u64, random: u64) {
        self.key = random as u32;
        self.body = BODY;
        self.body[0] = index as u32;
        self.body[1] = (index >> 32) as u32;
        self.body[WORDS - 1] = (random >> 32) as u32;
    }

    /// A hash of every byte and its place: a sum of the words, and the sum of those sums (Fletcher's), mixed.
    #[inline(always)]
    fn hash(&self) -> u64 {
        let (mut sum, mut sums) = (u64::from(self.key), 0u64);
        for pair in self.body.as_chunks::<2>().0 {
            sum = sum.wrapping_add(u64::from(pair[0]) | u64::from(pair[1]) << 32);
            sums = sums.wrapping_add(sum);
        }
        let mixed = (sums ^ sum.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    }
}

const BODY: [u32; WORDS] = {
    let mut body = [0; WORDS];
    let mut place = 0;
    while place < WORDS {
        body[place] = mix(place as u64) as u32;
        place += 1;
    }
    body
};

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let records = setting.records;
    let total = Arc::new(Mutex::new(Folded::default()));
    let start = Arc::new(OnceLock::new());
    let start_index = start_of(setting.seed);
    let stream = match setting.rate {
        0 => environment.source(
            "generate",
            generate_keyed(
                records,
                Wide::key,
                move |index| {
                    let index = start_index.wrapping_add(index);
                    let random = mix(index);
                    (random as u32, (index, random))
                },
                |(index, random), row: &mut Wide| row.write_as(index, random),
            ),
        ),
        rate => environment.source(
            "schedule",
            Scheduled {
                records,
                rate,
                start: start.clone(),
            },
        ),
    };
    let sink = WideSink {
        total: total.clone(),
        start: start.clone(),
        rate: setting.rate,
        measured_from: warm_up(records, setting.rate),
    };
    stream.key_by(Wide::key).ungroup().sink("read every byte", sink);
    let summary = environment.execute("exchange")?;
    let folded = std::mem::take(&mut *total.lock().expect("folding does not panic"));
    let latency = folded.latency.map(|latency| {
        let at = |percentile| latency.value_at_quantile(percentile) as f64 / 1e3;
        Latency {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: latency.max() as f64 / 1e3,
            rate: setting.rate as f64,
        }
    });
    Ok(Outcome {
        records,
        bytes: records * size_of::<Wide>() as u64,
        answer: folded.answer,
        summary,
        latency,
    })
}

fn oracle(setting: &Setting) -> Result<Answer> {
    let mut record = Wide::new_zeroed();
    let mut answer = Answer {
        records: setting.records,
        hash: 0,
    };
    let first = match setting.rate {
        0 => start_of(setting.seed),
        _ => 0,
    };
    for index in 0..setting.records {
        record.write(first.wrapping_add(index));
        answer.hash = answer.hash.wrapping_add(record.hash());
    }
    Ok(answer)
}

/// A segment's worth of records written and read by the same thread.
fn bare(setting: &Setting, limits: &MachineLimits) -> Result<Bare> {
    const BATCH: usize = (32 << 10) / size_of::<Wide>();
    const ROUNDS: u64 = 20_000;
    let rate = best_rate(
        setting.parallelism.min(limits.threads),
        |_| vec![Wide::new_zeroed(); BATCH],
        |thread, rows| {
            let mut hash = 0u64;
            for round in 0..ROUNDS {
                let first = (thread as u64 * ROUNDS + round) * BATCH as u64;
                for (index, row) in (first..).zip(rows.iter_mut()) {
                    row.write(index);
                }
                for row in black_box(&*rows) {
                    hash = hash.wrapping_add(row.hash());
                }
            }
            black_box(hash);
            ROUNDS * BATCH as u64
        },
    );
    Ok(Bare {
        is_limit: true,
        rate,
        name: "in cache".into(),
        what:
            "each thread writes and reads its records in a buffer of its own: nothing handed over, no engine"
                .into(),
    })
}

/// What the sink's subtasks found.
#[derive(Default)]
struct Folded {
    answer: Answer,
    latency: Option<Histogram<u64>>,
}

struct WideSink {
    total: Arc<Mutex<Folded>>,
    start: Arc<OnceLock<Instant>>,
    rate: u64,
    /// The first record whose latency counts.
    measured_from: u64,
}

struct WideWriter {
    total: Arc<Mutex<Folded>>,
    mine: Answer,
    latency: Option<Latencies>,
}

/// Where latency is measured.
struct Latencies {
    /// In nanoseconds.
    histogram: Histogram<u64>,
    /// When the schedule began.
    start: Arc<OnceLock<Instant>>,
    rate: u64,
    /// The first record that counts.
    measured_from: u64,
}

/// The longest warm-up of a schedule: threads have started, and memory has been touched, long before it is over.
const LONGEST_WARM_UP: Duration = Duration::from_millis(500);

/// How many records of a schedule come before those whose latency is measured.
fn warm_up(records: u64, rate: u64) -> u64 {
    let longest = u128::from(rate) * LONGEST_WARM_UP.as_millis() / 1000;
    (records / 4).min(longest as u64)
}

impl Sink for WideSink {
    type In = Wide;
    type Writer = WideWriter;

    fn writer(&self, _: Subtask) -> Result<WideWriter> {
        let latency = (self.rate > 0).then(|| Latencies {
            histogram: histogram(),
            start: self.start.clone(),
            rate: self.rate,
            measured_from: self.measured_from,
        });
        Ok(WideWriter {
            total: self.total.clone(),
            mine: Answer::default(),
            latency,
        })
    }
}

/// Three digits of every time up to an hour.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds are in order")
}

impl SinkWriter for WideWriter {
    type In = Wide;

    const TAKES_BATCHES: bool = true;

    fn write(&mut self, row: &Wide) -> Result<()> {
        self.mine.records += 1;
        self.mine.hash = self.mine.hash.wrapping_add(row.hash());
        Ok(())
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        let rows = Wide::rows(batch.bytes());
        self.mine.records += rows.len() as u64;
        self.mine.hash = rows
            .iter()
            .fold(self.mine.hash, |sum, row| sum.wrapping_add(row.hash()));
        if let Some(latencies) = &mut self.latency {
            // One reading of the clock for a batch, after it was processed: no record of it was done earlier.
            let start = latencies
                .start
                .get()
                .expect("the first record is scheduled before it arrives");
            let now = start.elapsed();
            for row in rows {
                let index = u64::from(row.body[0]) | u64::from(row.body[1]) << 32;
                if index >= latencies.measured_from {
                    let latency = now.saturating_sub(due(index, latencies.rate));
                    let nanos = latency.as_nanos() as u64;
                    latencies.histogram.saturating_record(nanos.max(1));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let mut total = self.total.lock().expect("folding does not panic");
        total.answer.records += self.mine.records;
        total.answer.hash = total.answer.hash.wrapping_add(self.mine.hash);
        if let Some(mine) = &self.latency {
            let all = total.latency.get_or_insert_with(histogram);
            all.add(&mine.histogram)
                .map_err(|error| Error::user(format!("latency histograms: {error}")))?;
        }
        Ok(())
    }
}

/// When record `index` is due, from the schedule's start.
fn due(index: u64, rate: u64) -> Duration {
    Duration::from_nanos((u128::from(index) * 1_000_000_000 / u128::from(rate)) as u64)
}

/// A source of records that are due one after the other at a fixed rate, whether or not anybody takes them. Subtask s
/// of n has the records s, s + n, s + 2 n, …
struct Scheduled {
    records: u64,
    rate: u64,
    start: Arc<OnceLock<Instant>>,
}

struct ScheduledReader {
    next: u64,
    step: u64,
    records: u64,
    rate: u64,
    start: Instant,
}

impl Source for Scheduled {
    type Out = Wide;
    type Split = (u64, u64);
    type Reader = ScheduledReader;

    fn splits(&self, parallelism: usize) -> Result<Vec<(u64, u64)>> {
        Ok((0..parallelism as u64)
            .map(|subtask| (subtask, parallelism as u64))
            .collect())
    }

    fn reader(&self, (first, step): (u64, u64)) -> Result<ScheduledReader> {
        let start = *self.start.get_or_init(Instant::now);
        Ok(ScheduledReader {
            next: first,
            step,
            records: self.records,
            rate: self.rate,
            start,
        })
    }
}

impl SourceReader for ScheduledReader {
    type Out = Wide;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, Wide>) -> Result<SourceStatus> {
        let now = self.start.elapsed();
        while !out.is_full() {
            if self.next >= self.records {
                return Ok(SourceStatus::Done);
            }
            let due = due(self.next, self.rate);
            if due > now {
                return Ok(SourceStatus::Idle(Some(out.now() + (due - now))));
            }
            let mut record = Wide::new_zeroed();
            record.write(self.next);
            out.push(&record);
            self.next += self.step;
        }
        Ok(SourceStatus::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_100_bytes_and_each_of_them_counts() {
        assert_eq!(size_of::<Wide>(), 100);
        let mut record = Wide::new_zeroed();
        record.write(7);
        let hash = record.hash();
        for place in 0..100 {
            let mut changed = record;
            changed.as_mut_bytes()[place] ^= 1;
            assert_ne!(changed.hash(), hash, "byte {place}");
        }
    }

    #[test]
    fn the_schedule_keeps_its_rate() {
        assert_eq!(due(0, 1_000_000), Duration::ZERO);
        assert_eq!(due(5_000_000, 1_000_000), Duration::from_secs(5));
        assert_eq!(due(1, 3), Duration::from_nanos(333_333_333));
    }

    #[test]
    fn the_first_half_second_is_not_measured() {
        assert_eq!(warm_up(5_000_000, 1_000_000), 500_000);
        assert_eq!(warm_up(1_000_000, 1_000_000), 250_000, "a quarter of one second");
        assert_eq!(warm_up(5_000_000, 0), 0, "no schedule");
    }
}
