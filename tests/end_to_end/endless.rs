//! Streams without an end whose groups do not fit: answers of spilled keys come while input goes on, and their logs stay
//! within bounds.

use forebay::record::{first, second};
use forebay::simulator::{Random, Simulation};
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus, generate};
use forebay::{Environment, Mode, Runtime};
use forebay_memory::hash::{hash_u64, unhash_u64};
use forebay_memory::spill::SimulatedFaults;
use forebay_memory::{MemoryManager, Plan, Result, SpillStore};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEYS: u64 = 12_000;

fn runtime(managed: usize) -> Runtime {
    let plan = Plan::with_segments(managed, 256, 4096).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(managed, 256, 4096).expect("it is little memory");
    Runtime::from_parts(
        plan,
        manager,
        SpillStore::simulated(1, SimulatedFaults::default()),
    )
}

/// The answers to `(key, number)` pairs, each key's in order.
#[derive(Default)]
struct Answers(BTreeMap<u64, (u64, u64)>);

impl Answers {
    /// Takes the count and sum that a key has now: one more than before.
    fn take(&mut self, key: u64, count: u64, sum: u64) {
        let (last, before) = self.0.entry(key).or_default();
        assert_eq!(count, *last + 1, "key {key}");
        assert!(sum >= *before, "key {key}");
        (*last, *before) = (count, sum);
    }
}

/// With room for some partitions, for one, and for less than one.
#[test]
fn answers_come_while_input_goes_on() {
    for managed in [40, 20, 8] {
        const ROWS: u64 = 20 * KEYS;
        let runtime = runtime(managed);
        let store = runtime.spill().clone();
        let (answers, most_used) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let longest_wait = Arc::new(AtomicU64::new(0));
        let environment = Environment::new(runtime.clone())
            .with_mode(Mode::Streaming)
            .with_parallelism(1);
        let (answered, waited, used) = (answers.clone(), longest_wait.clone(), most_used.clone());
        let pairs = environment.source(
            "pairs",
            generate(ROWS, move |index| {
                // What waits is in the logs, but for a few buffers between here and there.
                waited.fetch_max(index - answered.load(Ordering::Relaxed), Ordering::Relaxed);
                used.fetch_max(store.used_bytes(), Ordering::Relaxed);
                (hash_u64(index) % KEYS, index)
            }),
        );
        let found = Arc::new(Mutex::new(Answers::default()));
        let keep = found.clone();
        pairs
            .group_by(first())
            .aggregate((forebay::aggregate::count(), forebay::aggregate::sum(second())))
            .for_each(move |(key, (count, sum))| {
                answers.fetch_add(1, Ordering::Relaxed);
                keep.lock().expect("no test has failed").take(key, count, sum);
                Ok(())
            });
        let summary = environment.execute("endless").expect("the job runs");
        assert!(summary.spilled_bytes_written() > 0, "{summary}");
        let mut expected: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for index in 0..ROWS {
            let (count, sum) = expected.entry(hash_u64(index) % KEYS).or_default();
            (*count, *sum) = (*count + 1, *sum + index);
        }
        assert_eq!(found.lock().expect("no test has failed").0, expected);
        let (wait, used) = (
            longest_wait.load(Ordering::Relaxed),
            most_used.load(Ordering::Relaxed),
        );
        assert!(wait < ROWS / 4, "{managed} segments: {wait} answers were owed");
        let states = KEYS * 24;
        assert!(
            used < 16 * states,
            "{managed} segments: {used} bytes spilled for {states} of states"
        );
        assert_eq!(runtime.manager().outstanding(), 0);
        assert_eq!(runtime.spill().used_bytes(), 0);
    }
}

/// Emits its rows, and is idle until all have been answered; gives up when nothing comes for too many polls.
struct ThenWaits {
    rows: u64,
    answers: Arc<AtomicU64>,
    owed: Arc<AtomicU64>,
}

struct ThenWaitsReader {
    next: u64,
    rows: u64,
    answers: Arc<AtomicU64>,
    owed: Arc<AtomicU64>,
    polls_left: u32,
}

impl Source for ThenWaits {
    type Out = (u64, u64);
    type Split = ();
    type Reader = ThenWaitsReader;

    fn splits(&self, _: usize) -> Result<Vec<()>> {
        Ok(vec![()])
    }

    fn reader(&self, (): ()) -> Result<ThenWaitsReader> {
        Ok(ThenWaitsReader {
            next: 0,
            rows: self.rows,
            answers: self.answers.clone(),
            owed: self.owed.clone(),
            polls_left: 10_000,
        })
    }
}

impl SourceReader for ThenWaitsReader {
    type Out = (u64, u64);

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, (u64, u64)>) -> Result<SourceStatus> {
        while self.next < self.rows {
            if out.is_full() {
                return Ok(SourceStatus::More);
            }
            out.push((hash_u64(self.next) % KEYS, self.next));
            self.next += 1;
        }
        self.polls_left -= 1;
        let owed = self.rows - self.answers.load(Ordering::Relaxed);
        if owed == 0 || self.polls_left == 0 {
            self.owed.store(owed, Ordering::Relaxed);
            return Ok(SourceStatus::Done);
        }
        Ok(SourceStatus::Idle(Some(out.now() + Duration::from_millis(20))))
    }
}

/// No row's answer waits for the end, whatever the schedule: what is in logs when input pauses is answered then.
#[test]
fn what_was_put_off_is_done_when_there_is_no_input() {
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let runtime = runtime(16 + random.below(40));
        let answers = Arc::new(AtomicU64::new(0));
        let environment = Environment::new(runtime.clone())
            .with_mode(Mode::Streaming)
            .with_parallelism(1 + random.below(2));
        let rows = 30_000 + random.below(10_000) as u64;
        let owed = Arc::new(AtomicU64::new(u64::MAX));
        let source = ThenWaits {
            rows,
            answers: answers.clone(),
            owed: owed.clone(),
        };
        let pairs = environment.source("pairs", source).parallelism(1);
        pairs.group_by(first()).count().for_each(move |_| {
            answers.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let report = environment
            .simulate("pausing", &Simulation::new(random.next_u64()))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(report.summary.spilled_bytes_written() > 0, "seed {seed}");
        assert_eq!(
            owed.load(Ordering::Relaxed),
            0,
            "seed {seed}: answers owed at the end"
        );
        drop(environment);
        assert_eq!(runtime.manager().outstanding(), 0, "seed {seed}");
    }
}

/// Rows a little over a quarter of a page take a segment each in the table, four times what they take in a log: a spilled
/// partition whose entries would fit leaves again before its first change is met.
#[test]
fn a_partition_that_grows_when_it_is_read_back_is_answered() {
    const ROUNDS: u64 = 4;
    for keys in [980, 1000, 1020] {
        let runtime = runtime(1000);
        let environment = Environment::new(runtime.clone())
            .with_mode(Mode::Streaming)
            .with_parallelism(1);
        let answers = environment
            .source(
                "texts",
                generate(ROUNDS * keys, move |index| {
                    // One partition has all the keys.
                    let hash = 0xabcd << 48 | hash_u64(index % keys) >> 16;
                    (unhash_u64(hash), "x".repeat(970), 1u64)
                }),
            )
            .key_by(first())
            .reduce(|left, right| (left.0, left.1.to_string(), left.2 + right.2))
            .map(|(key, _, count)| (key, count))
            .collect();
        environment.execute("large rows").expect("the job runs");
        let mut found: BTreeMap<u64, u64> = BTreeMap::new();
        for (key, count) in answers.take() {
            let last = found.entry(key).or_default();
            assert_eq!(count, *last + 1, "{keys} keys");
            *last = count;
        }
        assert_eq!(found.len() as u64, keys);
        assert!(found.values().all(|count| *count == ROUNDS), "{keys} keys");
        assert_eq!(runtime.manager().outstanding(), 0);
    }
}
