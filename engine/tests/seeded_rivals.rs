//! Sorts and aggregates from which memory is taken at seeded points: before rows come and between results, in the simulator, so that a seed
//! is a run. Results are those of `std`.
//!
//! `FOREBAY_HEAVY=1` tries many more seeds; `FOREBAY_SEED=17` one of them. Joins have `what_leaves_at_random_points_is_joined_all_the_same`.

use forebay::aggregate::{collect_list, collect_set, count, count_distinct, max, sum};
use forebay::record::{Record, first, itself, second};
use forebay::simulator::{Random, Simulation};
use forebay::source::from_items;
use forebay::{Environment, Mode, Runtime, Stream};
use forebay_memory::hash::hash_u64;
use forebay_memory::spill::{SimulatedDisk, SimulatedFaults, SpillConfig};
use forebay_memory::{Budget, MemoryManager, Plan, Segment, SegmentSource, SpillStore};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

const SEGMENT: usize = 4096;
const SEEDS: u64 = 40;
const MANY_SEEDS: u64 = 2000;

type Row = (u64, u64);

/// Somebody who takes memory and gives it back, at points that a seed gives.
struct Rival {
    budget: Budget,
    taken: Vec<Segment>,
    random: Random,
    one_in: usize,
    /// How often memory was taken.
    times: u64,
}

impl Rival {
    /// Here it may act.
    fn may_act(&mut self) {
        if !self.random.happens(self.one_in) {
            return;
        }
        match self.random.below(4) {
            0 => self.taken.clear(),
            1 => self.taken.truncate(self.random.below(self.taken.len() + 1)),
            few => {
                let most = [1 + self.random.below(6), usize::MAX][few - 2];
                let more = std::iter::from_fn(|| self.budget.try_take()).take(most);
                self.taken.extend(more);
                self.times += 1;
                // Otherwise it goes on to want what it was denied, and holders are asked.
                if self.random.happens(3) {
                    self.budget.withdraw();
                }
            }
        }
    }
}

fn environment(random: &mut Random, mode: Mode) -> (Environment, Arc<Mutex<Rival>>) {
    let parallelism = 1 + random.below(2);
    let segments = parallelism * (30 + [0, random.below(30), 200][random.below(3)]);
    let plan = Plan::with_segments_for(64, 512, SEGMENT, SEGMENT).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(segments, 512, SEGMENT).expect("it is little memory");
    let budget = manager.budget("rival", 0, usize::MAX).expect("it has no minimum");
    let disk = SimulatedDisk::new(random.next_u64(), SimulatedFaults::default());
    let handles = 8 * parallelism;
    let config = SpillConfig {
        workspace_bytes: handles * 4 * (8 << 10),
        write_bytes: 8 << 10,
        handles,
        extent_bytes: 128 << 10,
        ..SpillConfig::default()
    };
    let spill = SpillStore::on_simulated(&disk, &config).expect("a store on a simulated disk");
    let environment = Environment::new(Runtime::from_parts(plan, manager, spill))
        .with_parallelism(parallelism)
        .with_mode(mode);
    let rival = Rival {
        budget,
        taken: Vec::new(),
        random: Random::new(random.next_u64()),
        one_in: [1, 10, 100, 1000][random.below(4)],
        times: 0,
    };
    (environment, Arc::new(Mutex::new(rival)))
}

/// What was done to the jobs of a test.
#[derive(Default)]
struct Counts {
    jobs: u64,
    spilled: u64,
    taken: u64,
}

impl Counts {
    fn assert_many(&self) {
        let Counts { jobs, spilled, taken } = *self;
        if std::env::var_os("FOREBAY_SEED").is_none() {
            assert!(
                spilled > jobs / 5 && spilled < jobs,
                "{spilled} of {jobs} jobs spilled"
            );
            assert!(taken > 10 * jobs, "memory was taken {taken} times in {jobs} jobs");
        }
    }
}

/// Runs a job that `make` makes of rows; what it collects is `expected`, in whatever order where `is_sorted` does not say that it has one.
fn check<T: Record + Clone + Ord + Debug>(
    (what, seed): (&str, u64),
    mode: Mode,
    rows: &[Row],
    mut expected: Vec<T>,
    has_order: bool,
    counts: &mut Counts,
    make: impl Fn(Stream<Row>) -> Stream<T>,
) {
    let mut random = Random::new(seed ^ hash_u64(what.len() as u64));
    let (environment, rival) = environment(&mut random, mode);
    let act = |rival: &Arc<Mutex<Rival>>| {
        let rival = rival.clone();
        move || rival.lock().expect("no rival panics").may_act()
    };
    let (before, after) = (act(&rival), act(&rival));
    let rows = environment
        .source("rows", from_items(rows.to_vec()))
        .inspect(move |_| before())
        .name("rows seen");
    let found = make(rows)
        .inspect(move |_| after())
        .name("results seen")
        .collect();
    let runtime = environment.runtime().clone();
    let simulation = Simulation {
        rivals: false,
        ..Simulation::new(random.next_u64())
    };
    let report = environment.simulate(what, &simulation);
    let report = report.unwrap_or_else(|error| panic!("FOREBAY_SEED={seed}, {what}: {error}"));
    let mut found = found.take();
    if !has_order {
        found.sort();
        expected.sort();
    }
    if found != expected {
        let at = found.iter().zip(&expected).position(|(one, other)| one != other);
        let at = at.unwrap_or(found.len().min(expected.len()));
        panic!(
            "FOREBAY_SEED={seed}, {what}: {} results, and not {}; number {at} is {:?}, and not {:?}",
            found.len(),
            expected.len(),
            found.get(at),
            expected.get(at)
        );
    }
    let mut rival = rival.lock().expect("no rival panics");
    rival.taken.clear();
    counts.taken += rival.times;
    counts.jobs += 1;
    counts.spilled += u64::from(report.summary.spilled_bytes_written() > 0);
    assert_eq!(runtime.manager().outstanding(), 0, "FOREBAY_SEED={seed}, {what}");
    assert_eq!(runtime.spill().used_bytes(), 0, "FOREBAY_SEED={seed}, {what}");
}

fn seeds() -> Vec<u64> {
    if let Some(seed) = std::env::var("FOREBAY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        return vec![seed];
    }
    let heavy = std::env::var_os("FOREBAY_HEAVY");
    (0..if heavy.is_some() { MANY_SEEDS } else { SEEDS }).collect()
}

/// Rows of many keys, few, or one that half of them have; in no order, or nearly in that of their keys.
fn rows(seed: u64, most: usize) -> Vec<Row> {
    let mut random = Random::new(seed ^ 0xd1ce);
    let count = 1 + random.below(most) as u64;
    let keys = [40, 500, u64::MAX][random.below(3)];
    let (is_hot, is_near) = (random.happens(3), random.happens(4));
    (0..count)
        .map(|index| {
            let key = match random.below(2) {
                0 if is_hot => 7,
                _ if is_near => index / 3 + random.below(9) as u64,
                _ => random.next_u64() % keys,
            };
            (key, index)
        })
        .collect()
}

fn groups(rows: &[Row]) -> BTreeMap<u64, Vec<u64>> {
    let mut groups: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (key, value) in rows {
        groups.entry(*key).or_default().push(*value);
    }
    groups
}

/// Texts of many sizes, and of the order of numbers only where these have as many digits.
fn text(key: u64) -> String {
    format!("{key:width$}", width = (key % 90) as usize)
}

fn sorted_by<T: Clone, K: Ord>(rows: &[T], key: impl Fn(&T) -> K) -> Vec<T> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(key);
    rows
}

#[test]
fn sorts_from_which_memory_is_taken() {
    let mut counts = Counts::default();
    for seed in seeds() {
        let rows = rows(seed, 12_000);
        let counts = &mut counts;
        let numbers: Vec<u64> = rows.iter().map(|row| row.0).collect();
        check(
            ("integers", seed),
            Mode::Batch,
            &rows,
            sorted_by(&numbers, |key| *key),
            true,
            counts,
            |rows| rows.map(|(key, _)| key).sort_by(itself()),
        );
        check(
            ("pairs down and up", seed),
            Mode::Batch,
            &rows,
            sorted_by(&rows, |row| (std::cmp::Reverse(row.0), row.1)),
            true,
            counts,
            |rows| rows.sort_by((first::<Row>().descending(), second::<Row>())),
        );
        let short = &rows[..rows.len() / 3];
        let texts: Vec<(String, u64)> = short.iter().map(|row| (text(row.0), row.1)).collect();
        check(
            ("rows of many sizes", seed),
            Mode::Batch,
            short,
            sorted_by(&texts, Clone::clone),
            true,
            counts,
            |rows| {
                rows.map(|(key, value)| (text(key), value))
                    .sort_by((first::<(String, u64)>(), second::<(String, u64)>()))
            },
        );
        let nulls = |row: &Row| ((!row.0.is_multiple_of(5)).then_some(row.0), row.1);
        let nullable: Vec<(Option<u64>, u64)> = rows.iter().map(nulls).collect();
        check(
            ("keys that may be null", seed),
            Mode::Batch,
            &rows,
            sorted_by(&nullable, Clone::clone),
            true,
            counts,
            |rows| {
                rows.map(move |(key, value)| ((!key.is_multiple_of(5)).then_some(key), value))
                    .sort_by((first::<(Option<u64>, u64)>(), second::<(Option<u64>, u64)>()))
            },
        );
        let wanted = [1, 100, 3000][seed as usize % 3];
        let top: Vec<Row> = sorted_by(&rows, |row| *row).into_iter().take(wanted).collect();
        check(
            ("the first pairs", seed),
            Mode::Batch,
            &rows,
            top,
            true,
            counts,
            |rows| rows.top(wanted as u64, (first::<Row>(), second::<Row>())),
        );
        let top: Vec<(String, u64)> = sorted_by(&texts, Clone::clone).into_iter().take(wanted).collect();
        check(
            ("the first rows of many sizes", seed),
            Mode::Batch,
            short,
            top,
            true,
            counts,
            |rows| {
                rows.map(|(key, value)| (text(key), value)).top(
                    wanted as u64,
                    (first::<(String, u64)>(), second::<(String, u64)>()),
                )
            },
        );
    }
    counts.assert_many();
}

#[test]
fn aggregates_from_which_memory_is_taken() {
    let mut counts = Counts::default();
    for seed in seeds() {
        let rows = rows(seed, 12_000);
        let groups = groups(&rows);
        let counts = &mut counts;
        let last = |values: &[u64]| values[values.len() - 1];
        check(
            ("integer keys", seed),
            Mode::Batch,
            &rows,
            groups
                .iter()
                .map(|(key, values)| (*key, (values.len() as u64, last(values))))
                .collect(),
            false,
            counts,
            |rows| rows.key_by(first()).aggregate((count(), max(second()))),
        );
        check(
            ("text keys", seed),
            Mode::Batch,
            &rows,
            groups
                .iter()
                .map(|(key, values)| (text(*key), (values.len() as u64, last(values))))
                .collect(),
            false,
            counts,
            |rows| {
                rows.map(|(key, value)| (text(key), value))
                    .key_by(first())
                    .aggregate((count(), max(second())))
            },
        );
        check(
            ("reduced texts", seed),
            Mode::Batch,
            &rows,
            groups
                .iter()
                .map(|(key, values)| (text(*key), values.iter().sum::<u64>()))
                .collect(),
            false,
            counts,
            |rows| {
                rows.map(|(key, value)| (text(key), value))
                    .key_by(first())
                    .reduce(|left, right| (left.0.to_string(), left.1 + right.1))
            },
        );
        check(
            ("distinct integers", seed),
            Mode::Batch,
            &rows,
            groups.keys().copied().collect(),
            false,
            counts,
            |rows| rows.map(|(key, _)| key).distinct(),
        );
        check(
            ("distinct texts", seed),
            Mode::Batch,
            &rows,
            groups.keys().map(|key| text(*key)).collect(),
            false,
            counts,
            |rows| rows.map(|(key, _)| text(key)).distinct(),
        );
        check(
            ("distinct texts that come", seed),
            Mode::Streaming,
            &rows,
            groups.keys().map(|key| text(*key)).collect(),
            false,
            counts,
            |rows| rows.map(|(key, _)| text(key)).distinct(),
        );
        check(
            ("updates", seed),
            Mode::Streaming,
            &rows,
            groups
                .iter()
                .flat_map(|(key, values)| (1..=values.len() as u64).map(|count| (*key, count)))
                .collect(),
            false,
            counts,
            |rows| rows.key_by(first()).count(),
        );
    }
    counts.assert_many();
}

/// Aggregates whose states are as large as what they have seen.
#[test]
fn states_of_any_size_from_which_memory_is_taken() {
    let mut counts = Counts::default();
    for seed in seeds() {
        // No group is larger than a record may be.
        let rows: Vec<Row> = rows(seed, 4000)
            .into_iter()
            .map(|(key, value)| match key {
                7 => (hash_u64(value) % 40, value),
                _ => (key, value),
            })
            .collect();
        let groups = groups(&rows);
        let counts = &mut counts;
        check(
            ("lists", seed),
            Mode::Batch,
            &rows,
            groups.iter().map(|(key, values)| (*key, told(values))).collect(),
            false,
            counts,
            |rows| {
                rows.key_by(first())
                    .aggregate(collect_list(second()))
                    .map(|(key, list)| (key, told(&list.iter().collect::<Vec<u64>>())))
                    .name("told")
            },
        );
        check(
            ("lists of texts", seed),
            Mode::Batch,
            &rows,
            groups
                .iter()
                .map(|(key, values)| (text(*key), told(values)))
                .collect(),
            false,
            counts,
            |rows| {
                rows.map(|(key, value)| (text(key), value.to_string()))
                    .key_by(first())
                    .aggregate(collect_list(second()))
                    .map(|(key, list)| {
                        let numbers = list.iter().map(|text| text.parse().expect("a number"));
                        (key.to_string(), told(&numbers.collect::<Vec<u64>>()))
                    })
                    .name("told")
            },
        );
        let set = |values: &[u64]| {
            let set: BTreeSet<u64> = values.iter().map(|value| small(*value)).collect();
            set.into_iter().collect::<Vec<u64>>()
        };
        check(
            ("sets", seed),
            Mode::Batch,
            &rows,
            groups
                .iter()
                .map(|(key, values)| (text(*key), told(&set(values))))
                .collect(),
            false,
            counts,
            |rows| {
                rows.map(|(key, value)| (text(key), small(value)))
                    .key_by(first())
                    .aggregate(collect_set(second()))
                    .map(|(key, set)| (key.to_string(), told(&set.iter().collect::<Vec<u64>>())))
                    .name("told")
            },
        );
        check(
            ("counts of distinct values", seed),
            Mode::Batch,
            &rows,
            groups
                .iter()
                .map(|(key, values)| {
                    let sum = values.iter().map(|value| small(*value)).sum::<u64>();
                    (*key, (set(values).len() as u64, sum))
                })
                .collect(),
            false,
            counts,
            |rows| {
                rows.map(|(key, value)| (key, small(value)))
                    .key_by(first())
                    .aggregate((count_distinct(second()), sum(second())))
            },
        );
    }
    counts.assert_many();
}

/// Numbers in whatever order, as a text.
fn told(numbers: &[u64]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    format!("{numbers:?}")
}

fn small(value: u64) -> u64 {
    hash_u64(value) % 50
}
