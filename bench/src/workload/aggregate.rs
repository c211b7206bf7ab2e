//! `aggregate`: count and sum of each key's values, by default with every key new.

use super::input::{keyed_data, keyed_stream, prepare_keyed};
use super::{Answer, Outcome, Workload, keyed_sum, wide};
use crate::data::Keyed;
use crate::options::Choice;
use crate::result::{Stall, Stalls};
use crate::setting::Setting;
use forebay::aggregate::{count, sum};
use forebay::{Environment, Result, Runtime};
use forebay_memory::MemoryManager;
use forebay_memory::hash::hash_u64;
use forebay_memory::pages::LineTable;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "aggregate",
    about: "count and sum of (u64 key, i64 value) records by key; every key is new where --keys is at least --records",
    help: "The records of keyed-sum, but with --keys not below --records each record has a key of its own, mix(i).\n\
           Results are (key, (count, sum)), once, in both modes. --managed SIZE below about 45 bytes a key spills.\n\
           --row-bytes N: records of N bytes, the rest of each a text, its number mixed and repeated; results are (key, (count,\n\
           sum, text of the last record)), so that a group is as wide as a record.",
    records: 5_000_000,
    keys: 5_000_000,
    takes: &[
        Choice::Keys,
        Choice::Skew,
        Choice::Hot,
        Choice::Seed,
        Choice::Input,
        Choice::FromFile,
        Choice::Output,
        Choice::RowBytes,
    ],
    takes_of_files: &[Choice::Keys, Choice::Output],
    prepare: prepare_keyed,
    run,
    oracle,
    bare: keyed_sum::bare,
    stall: Some(stall),
    read_back: None,
};

/// Results: a key, the number of its records, the sum of their values.
type Aggregated = (u64, (u64, i64));

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    if setting.row_bytes > 0 {
        return wide::run(environment, setting);
    }
    let (stream, records) = keyed_stream(environment, setting)?;
    let results = stream
        .key_by(Keyed::key)
        .aggregate_final((count(), sum(Keyed::value)));
    super::run_keyed::<Aggregated, _>(
        environment,
        setting,
        records,
        results,
        |(key, (count, sum)), line| {
            line.push_str(&format!("{key},{count},{sum}"));
        },
    )
}

fn oracle(setting: &Setting) -> Result<Answer> {
    if setting.row_bytes > 0 {
        return Ok(wide::oracle(setting));
    }
    super::answer_by_key::<Aggregated>(setting, |key, group| {
        (key, (group.len() as u64, super::total_of(group)))
    })
}

/// The longest that a batch of insertions takes while a table grows from nothing to as many keys as fit in the plan's memory,
/// on one thread: what a record may have to wait for others. First in memory that the process does not have yet, then again in
/// the same memory; and what this machine takes from a thread that wants nothing of it, in as much time.
fn stall(runtime: &Runtime, setting: &Setting) -> Result<Stalls> {
    let manager = MemoryManager::new(runtime.plan())?;
    let segments = manager.stats().managed_total;
    let budget = Arc::new(manager.budget("insertion stalls", 8, segments)?);
    let queue = RunQueue::open();
    let start = Instant::now();
    let [fresh, again] =
        [(); 2].map(|()| longest_batch(LineTable::new(budget.clone(), 2, 0), setting, &queue));
    Ok(Stalls {
        fresh,
        again,
        pause: longest_pause(start.elapsed() / 2, &queue),
    })
}

/// The longest batch of insertions while `table` grows.
fn longest_batch(mut table: LineTable, setting: &Setting, queue: &RunQueue) -> Stall {
    const BATCH: u64 = 2048;
    let data = keyed_data(setting);
    let mut hashes = Vec::with_capacity(BATCH as usize);
    let mut longest = Stall::default();
    for first in (0..setting.records).step_by(BATCH as usize) {
        hashes.clear();
        let end = setting.records.min(first + BATCH);
        hashes.extend((first..end).map(|index| hash_u64(data.at(index).key)));
        let (start, waited) = (Instant::now(), queue.waited());
        let progress = table.update_batch(&hashes, |_, lanes, _| lanes[0] += 1);
        longest.extend(start.elapsed(), queue.waited() - waited);
        if progress.starved {
            break;
        }
    }
    longest
}

/// The longest time between two looks at the clock of a thread that does nothing else.
fn longest_pause(time: Duration, queue: &RunQueue) -> Stall {
    let mut longest = Stall::default();
    let start = Instant::now();
    let (mut last, mut waited) = (start, queue.waited());
    while last - start < time {
        let now = Instant::now();
        // The run queue is asked only where it matters: the question takes longer than the clock.
        if now - last > Duration::from_micros(20) {
            let waits = queue.waited();
            longest.extend(now - last, waits - waited);
            waited = waits;
        }
        last = now;
    }
    longest
}

/// How long the thread that opened it has waited for a processor, by `/proc/thread-self/schedstat`; nothing where there is no
/// such file.
struct RunQueue(Option<File>);

impl RunQueue {
    fn open() -> RunQueue {
        RunQueue(File::open("/proc/thread-self/schedstat").ok())
    }

    fn waited(&self) -> Duration {
        let mut bytes = [0; 64];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok());
        let text = std::str::from_utf8(&bytes[..read.unwrap_or(0)]).unwrap_or("");
        let waited = text
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok());
        Duration::from_nanos(waited.unwrap_or(0))
    }
}
