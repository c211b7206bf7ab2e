//! Random jobs and their oracle: a graph drawn from a seed, and what plain vectors and maps say it must send.
//!
//! # Interface
//! [`RandomJob::build`] adds the job of a seed to an environment; after the job has run, [`RandomJob::check`] compares.
//!
//! # Algorithm
//! Every open stream is carried along with the multiset of its records, computed with `std` alone. Each step takes an
//! open stream and puts an operator, or several, on top. In the end every open stream gets a sink.

mod joins;

use forebay::aggregate::{
    avg, collect_list, count, count_distinct, last_by, max, max_by, min, sum, var_population,
};
use forebay::operator::{Collector, Group};
use forebay::record::{Record, first, second, third};
use forebay::simulator::Random;
use forebay::sink::{Collected, HashSink};
use forebay::source::{from_items, generate, generate_keyed, generate_rows};
use forebay::{Environment, Mode, Stream};
use forebay_memory::hash::hash_u64;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The record of every stream between two steps.
pub type Pair = (u64, i64);

/// A plain record, which generators write in place.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
struct Numbered {
    index: u64,
}

/// A plain record that is not copied on the way to its receiver.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
struct Broad {
    index: [u64; 9],
    key: u32,
    pad: u32,
}

/// The most records that a stream may have.
const MOST_RECORDS: usize = 30_000;

/// A built job, and what is to be seen when it has run.
pub struct RandomJob {
    checks: Vec<Box<dyn FnOnce()>>,
    /// Records that went into sinks by the oracle's count.
    pub records: usize,
}

struct Open {
    stream: Stream<Pair>,
    records: Vec<Pair>,
}

struct Builder<'a> {
    environment: &'a Environment,
    random: Random,
    open: Vec<Open>,
    job: RandomJob,
    is_streaming: bool,
    nodes: usize,
}

impl RandomJob {
    /// Adds the job of `seed` to the environment and says how to check it. The same seed is the same job.
    pub fn build(environment: Environment, seed: u64) -> (Environment, RandomJob) {
        let mut random = Random::new(seed);
        let is_streaming = random.happens(2);
        let environment = environment
            .with_mode(if is_streaming {
                Mode::Streaming
            } else {
                Mode::Batch
            })
            .with_parallelism(1 + random.below(4));
        let mut builder = Builder {
            environment: &environment,
            random,
            open: Vec::new(),
            job: RandomJob {
                checks: Vec::new(),
                records: 0,
            },
            is_streaming,
            nodes: 0,
        };
        for _ in 0..1 + builder.random.below(2) {
            builder.source();
        }
        for _ in 0..builder.random.below(10) {
            builder.step();
        }
        while let Some(open) = builder.open.pop() {
            builder.end(open);
        }
        let job = builder.job;
        (environment, job)
    }

    /// Compares what the sinks have with the oracle.
    pub fn check(self) {
        self.checks.into_iter().for_each(|check| check());
    }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items
}

/// Asserts that two multisets are one, with few words where they are not.
pub fn assert_same<T: Ord + std::fmt::Debug>(what: &str, found: Vec<T>, expected: Vec<T>) {
    let (found, expected) = (sorted(found), sorted(expected));
    if found != expected {
        let at = found
            .iter()
            .zip(&expected)
            .position(|(left, right)| left != right);
        let at = at.unwrap_or(found.len().min(expected.len()));
        panic!(
            "{what}: {} records, and not {}; sorted, record {at} is {:?}, and not {:?}",
            found.len(),
            expected.len(),
            found.get(at),
            expected.get(at)
        );
    }
}

/// A function that sees records, each of which is to come after the one before.
fn in_order<R: Record, K: Ord + std::fmt::Debug + Clone + Send + 'static>(
    key: impl Fn(&R) -> K + Clone + Send + 'static,
) -> impl for<'a> FnMut(R::View<'a>) + Clone + Send + 'static {
    let mut last: Option<K> = None;
    move |view: R::View<'_>| {
        let next = key(&R::from_view(view));
        assert!(
            last.as_ref().is_none_or(|last| *last <= next),
            "{next:?} comes after {last:?}"
        );
        last = Some(next);
    }
}

/// Count, sum, least and greatest by key.
pub fn totals(records: &[Pair]) -> BTreeMap<u64, (u64, i64, i64, i64)> {
    let mut totals = BTreeMap::new();
    for (key, value) in records {
        let entry = totals.entry(*key).or_insert((0, 0, i64::MAX, i64::MIN));
        *entry = (
            entry.0 + 1,
            entry.1 + value,
            entry.2.min(*value),
            entry.3.max(*value),
        );
    }
    totals
}

fn number_of(text: &str) -> u64 {
    text.parse().expect("the text was made of a number")
}

/// A text that a number decides, of up to `most` bytes and not always ASCII.
fn text_of(value: i64, most: u64) -> String {
    let length = hash_u64(value as u64) % most;
    let mut text = String::new();
    while (text.len() as u64) < length {
        text.push(['a', 'é', '雨', ' '][text.len().wrapping_add(value as usize) % 4]);
    }
    text
}

impl Builder<'_> {
    fn parallelism(&mut self) -> usize {
        1 + self.random.below(4)
    }

    fn name(&mut self, what: &str) -> String {
        self.nodes += 1;
        format!("{what} {}", self.nodes)
    }

    fn take(&mut self) -> Open {
        let index = self.random.below(self.open.len());
        self.open.swap_remove(index)
    }

    fn put(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        self.open.push(Open { stream, records });
    }

    /// Half of the time, another parallelism for the last operator; sometimes it runs where it may block.
    fn maybe_parallel(&mut self, stream: Stream<Pair>) -> Stream<Pair> {
        let stream = match self.random.happens(10) {
            true => stream.blocking(),
            false => stream,
        };
        match self.random.happens(2) {
            true => {
                let parallelism = self.parallelism();
                stream.parallelism(parallelism)
            }
            false => stream,
        }
    }

    fn source(&mut self) {
        let magnitude = 15usize.saturating_sub(self.random.below(5) * self.random.below(5));
        let count = self.random.below(1 << magnitude) as u64;
        let magnitude = 16usize.saturating_sub(self.random.below(5) * self.random.below(5));
        let keys = 1 + self.random.below(1 << magnitude) as u64;
        let salt = self.random.next_u64();
        let record = move |index: u64| {
            let hash = hash_u64(index ^ salt);
            (hash % keys, (hash >> 32) as i64 % 1000 - 500)
        };
        let records: Vec<Pair> = (0..count).map(record).collect();
        let name = self.name("source");
        let stream = match self.random.below(4) {
            // Rows wide enough to be placed in the buffers of their receivers, under a key of their own.
            3 => self
                .environment
                .source(
                    name.clone(),
                    generate_keyed(
                        count,
                        Broad::key,
                        move |index| (hash_u64(index) as u32, index),
                        |index, row: &mut Broad| {
                            // Its key is the engine's to write.
                            row.key = 0;
                            row.pad = 0;
                            row.index = [index; 9];
                        },
                    ),
                )
                .name(name)
                .key_by(Broad::key)
                .ungroup()
                .map(move |row: &Broad| {
                    let index = row.index[8];
                    let is_whole = row.index == [index; 9] && row.key == hash_u64(index) as u32;
                    assert!(is_whole, "row {index} has arrived as it was written");
                    record(index)
                })
                .name("narrowed"),
            0 => self
                .environment
                .source(name.clone(), from_items(records.clone()))
                .name(name),
            1 => self
                .environment
                .source(name.clone(), generate(count, record))
                .name(name),
            _ => {
                let rows = generate_rows(count, move |start, rows: &mut [Numbered]| {
                    (start..)
                        .zip(rows.iter_mut())
                        .for_each(|(index, row)| row.index = index);
                });
                self.environment
                    .source(name, rows)
                    .map(move |row: &Numbered| record(row.index))
                    .name("numbered")
            }
        };
        let stream = self.maybe_parallel(stream);
        self.put(stream, records);
    }

    fn step(&mut self) {
        let Open { stream, records } = self.take();
        match self.random.below(28) {
            0 => {
                let magnitude = self.random.below(18);
                let keys = 1 + self.random.below(1 << magnitude) as u64;
                let change = move |(key, value): Pair| ((key * 31 + 7) % keys, value ^ 5);
                let name = self.name("map");
                let stream = stream.map(change).name(name);
                let stream = self.maybe_parallel(stream);
                self.put(stream, records.into_iter().map(change).collect());
            }
            1 => {
                let bound = self.random.below(5) as u64;
                let keep = move |(key, value): Pair| hash_u64(key ^ value as u64) % 4 < bound;
                let name = self.name("filter");
                let stream = stream.filter(keep).name(name);
                self.put(stream, records.into_iter().filter(|pair| keep(*pair)).collect());
            }
            2 => {
                let most = 1 + (MOST_RECORDS / records.len().max(1)).min(self.random.below(40));
                let times = move |value: i64| (value.unsigned_abs() as usize) % most;
                let name = self.name("flat_map");
                let stream = stream
                    .flat_map(move |pair: Pair, out: &mut Collector<'_, Pair>| {
                        for copy in 0..times(pair.1) {
                            out.push((pair.0 + copy as u64, pair.1));
                        }
                    })
                    .name(name);
                let stream = self.maybe_parallel(stream);
                let copies =
                    |(key, value): Pair| (0..times(value)).map(move |copy| (key + copy as u64, value));
                self.put(stream, records.into_iter().flat_map(copies).collect());
            }
            3 => {
                let name = self.name("fused");
                let stream = stream
                    .map(|pair| (pair.0, pair.1 + 1))
                    .filter(|pair| pair.1 % 3 != 0)
                    .inspect(|pair| assert!(pair.1 % 3 != 0))
                    .try_map(|pair| Ok((pair.0, -pair.1)))
                    .name(name);
                let fused = records
                    .into_iter()
                    .map(|(key, value)| (key, value + 1))
                    .filter(|(_, value)| value % 3 != 0)
                    .map(|(key, value)| (key, -value));
                self.put(stream, fused.collect());
            }
            4 if !self.open.is_empty() => {
                let other = self.take();
                let mut all = records;
                if all.len() + other.records.len() > MOST_RECORDS {
                    self.put(stream, all);
                    return self.end(other);
                }
                all.extend(other.records);
                let stream = match self.random.happens(2) {
                    true => stream.union(other.stream),
                    false => stream.map(|pair| pair).union(other.stream),
                };
                self.put(stream, all);
            }
            4 | 5 => {
                let (left, right) = stream.fork();
                self.put(left, records.clone());
                self.put(right, records);
            }
            6 => {
                let stream = stream.rebalance();
                let stream = self.maybe_parallel(stream);
                self.put(stream, records);
            }
            7 => {
                let parallelism = self.parallelism();
                if records.len() * parallelism > MOST_RECORDS {
                    return self.put(stream, records);
                }
                let name = self.name("everywhere");
                let stream = stream
                    .broadcast()
                    .map(|pair| pair)
                    .name(name)
                    .parallelism(parallelism);
                self.put(stream, records.repeat(parallelism));
            }
            8 => {
                let keyed = match self.random.happens(2) {
                    true => stream.key_by(first()).ungroup(),
                    false => stream.key_by(second()).ungroup(),
                };
                let stream = self.maybe_parallel(keyed);
                self.put(stream, records);
            }
            9 => self.texts(stream, records),
            10 => {
                let name = self.name("distinct");
                let parallelism = self.parallelism();
                let stream = stream.distinct().name(name).parallelism(parallelism);
                let distinct: BTreeSet<Pair> = records.into_iter().collect();
                self.put(stream, distinct.into_iter().collect());
            }
            11 => {
                let name = self.name("distinct keys");
                let keys = stream.key_by(first()).distinct().name(name);
                let distinct: BTreeSet<u64> = records.into_iter().map(|(key, _)| key).collect();
                let stream = keys.map(|key| (key, -1)).name("key");
                self.put(stream, distinct.into_iter().map(|key| (key, -1)).collect());
            }
            12 if !self.is_streaming => {
                let name = self.name("reduce");
                let parallelism = self.parallelism();
                let stream = stream
                    .group_by(first())
                    .reduce(|left, right| (left.0, left.1.max(right.1)))
                    .name(name)
                    .parallelism(parallelism);
                let most = totals(&records).into_iter().map(|(key, total)| (key, total.3));
                self.put(stream, most.collect());
            }
            13 => self.text_keys(stream, records),
            15 => {
                let name = self.name("materialized");
                let stream = stream.materialize().name(name);
                let stream = self.maybe_parallel(stream);
                self.put(stream, records);
            }
            22..=24 => self.join(stream, records),
            25 => self.co_group(stream, records),
            26 => self.sets(stream, records),
            27 => self.placed(stream, records),
            14 => {
                let name = self.name("by both");
                let stream = stream
                    .group_by((first(), second()))
                    .aggregate_final(count())
                    .name(name)
                    .map(|((key, value), count)| (key, value ^ count as i64))
                    .name("joined");
                let mut counts: BTreeMap<Pair, u64> = BTreeMap::new();
                for pair in records {
                    *counts.entry(pair).or_default() += 1;
                }
                let joined = counts
                    .into_iter()
                    .map(|((key, value), count)| (key, value ^ count as i64));
                self.put(stream, joined.collect());
            }
            16 => self.sorted(stream, records),
            17 => self.top(stream, records),
            18 => self.states(stream, records),
            20 => {
                let name = self.name("groups");
                let parallelism = self.parallelism();
                let stream = stream
                    .group_by(first::<Pair>())
                    .reduce_group_by(
                        second(),
                        |key, rows: &mut Group<'_, Pair>, out: &mut Collector<'_, Pair>| {
                            let (mut hash, mut count) = (0, 0u64);
                            while let Some((own, value)) = rows.next() {
                                assert_eq!(own, key);
                                (hash, count) = (hash_u64(hash ^ value as u64), count + 1);
                            }
                            (0..1 + count % 2).for_each(|_| out.push((key, (hash >> 20) as i64)));
                        },
                    )
                    .name(name)
                    .parallelism(parallelism);
                let mut groups: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
                for (key, value) in records {
                    groups.entry(key).or_default().push(value);
                }
                let results = groups.into_iter().flat_map(|(key, values)| {
                    let times = 1 + values.len() % 2;
                    let values = sorted(values).into_iter();
                    let hash = values.fold(0, |hash, value| hash_u64(hash ^ value as u64));
                    std::iter::repeat_n((key, (hash >> 20) as i64), times)
                });
                self.put(stream, results.collect());
            }
            19 => {
                let name = self.name("distinct values");
                let stream = stream
                    .map(|(key, value)| (key % 100, value))
                    .group_by(first::<Pair>())
                    .count_distinct(second())
                    .name(name)
                    .map(|(key, count)| (key, (count as i64) << 32))
                    // Updates end in the final result: the greatest.
                    .group_by(first())
                    .aggregate_final(max(second()))
                    .name("last");
                let mut values: BTreeMap<u64, BTreeSet<i64>> = BTreeMap::new();
                for (key, value) in records {
                    values.entry(key % 100).or_default().insert(value);
                }
                let counts = values
                    .into_iter()
                    .map(|(key, values)| (key, (values.len() as i64) << 32));
                self.put(stream, counts.collect());
            }
            _ => {
                let name = self.name("totals");
                let stream = stream
                    .group_by(first())
                    .aggregate_final((
                        count(),
                        sum(second()),
                        min(second()),
                        max(second()),
                        avg(second()),
                    ))
                    .name(name);
                let stream = match self.random.happens(2) {
                    true => stream,
                    false => {
                        let parallelism = self.parallelism();
                        stream.parallelism(parallelism)
                    }
                };
                let stream = stream
                    .map(|(key, (count, sum, min, max, avg))| {
                        assert_eq!(avg, sum as f64 / count as f64);
                        (key, fold_total((count, sum, min, max)))
                    })
                    .name("folded");
                let results = totals(&records)
                    .into_iter()
                    .map(|(key, total)| (key, fold_total(total)));
                self.put(stream, results.collect());
            }
        }
    }

    /// Sorted, by a field or two or a function; each subtask's records come in order.
    fn sorted(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let name = self.name("sorted");
        let parallelism = self.parallelism();
        let stream = match self.random.below(3) {
            0 => stream
                .sort_by(first())
                .parallelism(parallelism)
                .inspect(in_order(|pair: &Pair| pair.0))
                .name(format!("{name}, looked at"))
                .parallelism(parallelism),
            1 => stream
                .sort_by((second::<Pair>().descending(), first()))
                .name(name.clone())
                .inspect(in_order(|pair: &Pair| (Reverse(pair.1), pair.0)))
                .name(format!("{name}, looked at")),
            _ => stream
                .sort_by_key_fn(|pair| (pair.0 ^ 21) % 100)
                .inspect(in_order(|pair: &Pair| (pair.0 ^ 21) % 100))
                .name(format!("{name}, looked at")),
        };
        self.put(stream, records);
    }

    /// Records that are where their keys have sent them, and perhaps in order there, grouped by the same key once more.
    fn placed(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let keyed = stream.key_by(first::<Pair>());
        let (stream, placed) = match self.random.below(4) {
            0 => {
                let sums = totals(&records).into_iter();
                let sums = sums.map(|(key, total)| (key, total.1)).collect();
                (keyed.aggregate_final(sum(second())), sums)
            }
            1 => (keyed.sort_within((first(), second())), records),
            2 => {
                let (name, parallelism) = (self.name("within"), self.parallelism());
                let sorted = keyed.sort_within(first()).name(name).parallelism(parallelism);
                (sorted, records)
            }
            _ => (
                keyed
                    .ungroup()
                    .filter(|pair| pair.1 % 3 != 0)
                    .name(self.name("some")),
                { records.into_iter().filter(|pair| pair.1 % 3 != 0).collect() },
            ),
        };
        let stream = match self.random.below(3) {
            0 => stream.filter(|pair| pair.0 % 5 != 0).name(self.name("others")),
            1 => stream.map(|pair| pair).still_keyed_by(first()).ungroup(),
            _ => stream
                .filter(|pair| pair.0 % 5 != 0)
                .still_keyed_by(first())
                .ungroup(),
        };
        let (name, parallelism) = (self.name("placed"), self.parallelism());
        let is_asked = self.random.happens(2);
        let keyed = stream
            .filter(|pair| pair.0 % 5 != 0)
            .name(format!("{name}, some"))
            .key_by(first::<Pair>());
        let stream = match self.random.happens(2) {
            true => keyed.aggregate_final(count()),
            false => keyed.reduce_group_by(
                second(),
                |key, rows: &mut Group<'_, Pair>, out: &mut Collector<'_, (u64, u64)>| {
                    let (mut last, mut count) = (i64::MIN, 0);
                    rows.for_each(|pair| {
                        assert!(pair.1 >= last, "values come in order");
                        (last, count) = (pair.1, count + 1);
                    });
                    out.push((key, count));
                },
            ),
        };
        let stream = stream.map(|(key, count)| (key, count as i64));
        let stream = match is_asked {
            true => stream.name(name).parallelism(parallelism),
            false => stream.name(name),
        };
        let placed: Vec<Pair> = placed.into_iter().filter(|pair| pair.0 % 5 != 0).collect();
        let counts = totals(&placed)
            .into_iter()
            .map(|(key, total)| (key, total.0 as i64));
        self.put(stream, counts.collect());
    }

    /// The first of an order that leaves no two different records equal.
    fn top(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let magnitude = self.random.below(15);
        let count = self.random.below(1 << magnitude);
        let name = self.name("top");
        let stream = stream
            .top(count as u64, (second::<Pair>().descending(), first()))
            .inspect(in_order(|pair: &Pair| (Reverse(pair.1), pair.0)))
            .name(name)
            .parallelism(1);
        let mut records = records;
        records.sort_by_key(|pair| (Reverse(pair.1), pair.0));
        records.truncate(count);
        self.put(stream, records);
    }

    /// Through rows of any size, some larger than a segment, and back.
    fn texts(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let magnitude = self.random.below(14);
        let most = 1 + self.random.below(1 << magnitude) as u64;
        if records.len() as u64 * most > 4 << 20 {
            return self.put(stream, records);
        }
        let texts = stream.map(move |pair| (pair.0, (pair.1, text_of(pair.1, most))));
        let texts = match self.random.below(6) {
            0 => texts.key_by(first()).ungroup(),
            4 => texts
                .sort_by((second(), first::<(u64, (i64, String))>().descending()))
                .inspect(in_order(|row: &(u64, (i64, String))| {
                    (row.1.clone(), Reverse(row.0))
                }))
                .name(self.name("texts in order")),
            1 => texts.rebalance(),
            2 => {
                let (left, right) = texts.fork();
                left.filter(|(key, _)| key % 2 == 0)
                    .union(right.filter(|(key, _)| key % 2 == 1))
            }
            3 => texts.materialize(),
            _ => texts.flat_map(
                |(key, (value, text)): (u64, (i64, &str)), out: &mut Collector<'_, (u64, (i64, String))>| {
                    out.push((key, (value, text)));
                },
            ),
        };
        let name = self.name("texts");
        let parallelism = self.parallelism();
        let stream = texts
            .map(move |(key, (value, text))| {
                assert_eq!(text, text_of(value, most));
                (key, value)
            })
            .name(name)
            .parallelism(parallelism);
        self.put(stream, records);
    }

    /// Aggregated by keys that are texts.
    fn text_keys(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let magnitude = self.random.below(9);
        let width = 1 + self.random.below(1 << magnitude);
        let (name, parallelism) = (self.name("by text"), self.parallelism());
        let stream = stream
            .map(move |(key, value)| (format!("{key:0>width$}"), value))
            .group_by(first())
            .aggregate_final((count(), sum(second()), min(second()), max(second())))
            .name(name)
            .parallelism(parallelism)
            .map(|(text, total)| (number_of(text), fold_total(total)))
            .name("folded");
        let results = totals(&records)
            .into_iter()
            .map(|(key, total)| (key, fold_total(total)));
        self.put(stream, results.collect());
    }

    /// Aggregated into states of any size: many groups of a few records each, and some larger ones.
    fn states(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let groups = 1 + (records.len() / (1 + self.random.below(60))) as u64;
        let group_of = move |(key, value): Pair| hash_u64(key ^ hash_u64(value as u64)) % groups;
        let mut by_group: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for pair in &records {
            by_group.entry(group_of(*pair)).or_default().push(pair.1);
        }
        // A state has at most a record's size.
        if by_group.values().any(|values| values.len() > 250) {
            return self.put(stream, records);
        }
        let (name, parallelism) = (self.name("states"), self.parallelism());
        let stream = stream
            .map(move |pair| {
                (
                    group_of(pair),
                    pair.1,
                    format!("{:0>1$}", pair.1, pair.1 as usize % 40),
                )
            })
            .group_by(first())
            .aggregate_final((
                count(),
                collect_list(second()),
                last_by(third(), second()),
                count_distinct(second()),
                max_by(second(), third()),
                var_population(second()),
            ))
            .name(name)
            .parallelism(parallelism)
            .map(|(group, (count, values, last, distinct, by_text, var))| {
                assert_eq!(
                    (count, values.len() as u64),
                    (values.iter().count() as u64, count)
                );
                let mean = values.iter().sum::<i64>() as f64 / count as f64;
                let plainly = values
                    .iter()
                    .map(|value| (value as f64 - mean).powi(2))
                    .sum::<f64>()
                    / count as f64;
                assert!(
                    (plainly - var).abs() <= 1e-6 * plainly.max(1.0),
                    "{plainly} and {var}"
                );
                (group, fold_states(values.iter(), last, distinct, by_text))
            })
            .name("folded");
        let results = by_group.into_iter().map(|(group, mut values)| {
            values.sort_unstable();
            let text = |value: &i64| format!("{:0>1$}", value, *value as usize % 40);
            let last = text(values.last().expect("a group has a record"));
            let distinct = values.iter().collect::<BTreeSet<_>>().len() as u64;
            let by_text = values.iter().max_by_key(|value| (text(value), **value));
            let by_text = *by_text.expect("a group has a record");
            (
                group,
                fold_states(values.iter().copied(), &last, distinct, by_text),
            )
        });
        let results = results.collect();
        self.put(stream, results);
    }

    fn end(&mut self, Open { stream, records }: Open) {
        self.job.records += records.len();
        let name = self.name("sink");
        match self.random.below(9) {
            8 => {
                let totals = stream
                    .aggregate((count(), sum(second()), min(second())))
                    .collect();
                let is_streaming = self.is_streaming;
                self.job.checks.push(Box::new(move || {
                    let totals = totals.take();
                    let wanted = if is_streaming {
                        records.len()
                    } else {
                        records.len().min(1)
                    };
                    assert_eq!(totals.len(), wanted, "{name}: results");
                    let values = || records.iter().map(|pair| pair.1);
                    let expected = values()
                        .min()
                        .map(|least| (records.len() as u64, values().sum(), least));
                    assert_eq!(totals.into_iter().max(), expected, "{name}: the last result");
                }));
            }
            6 => {
                let updates = stream
                    .map(|(key, value)| (format!("key {key}"), value))
                    .key_by(first())
                    .aggregate((count(), sum(second()), min(second()), max(second())))
                    .map(|(text, total)| (number_of(&text[4..]), total));
                let collected = updates.collect();
                let is_streaming = self.is_streaming;
                self.job.checks.push(Box::new(move || {
                    check_updates(&name, is_streaming, collected, &records);
                }));
            }
            7 => {
                // The value is folded in with what a reduction needs to be compared with an aggregation.
                let sums = stream
                    .map(|(key, value)| (key, (1, value, value, value)))
                    .key_by(first())
                    .reduce(|(key, left), (_, right)| {
                        let least = left.2.min(right.2);
                        (
                            key,
                            (left.0 + right.0, left.1 + right.1, least, left.3.max(right.3)),
                        )
                    });
                let collected = sums.collect();
                let is_streaming = self.is_streaming;
                self.job.checks.push(Box::new(move || {
                    check_updates(&name, is_streaming, collected, &records);
                }));
            }
            0 => {
                let collected = stream.map(|pair| (pair.0, pair.1 * 2)).collect();
                let doubled = records.into_iter().map(|(key, value)| (key, value * 2)).collect();
                self.expect(name, collected, doubled);
            }
            1 => {
                let (sink, hash) = HashSink::<Pair>::new();
                stream.sink(name.clone(), sink);
                self.job.checks.push(Box::new(move || {
                    let found = *hash.lock().expect("the job is over");
                    let expected = records.iter().fold(0u64, |sum, pair| {
                        let mut row = [0; 16];
                        <Pair as Record>::write_row(pair.view(), &mut row);
                        sum.wrapping_add(HashSink::<Pair>::row_hash(&row))
                    });
                    assert_eq!(found.records, records.len() as u64, "{name}");
                    assert_eq!(found.hash, expected, "{name}: the hash");
                }));
            }
            2 | 3 => {
                let updates =
                    stream
                        .key_by(first())
                        .aggregate((count(), sum(second()), min(second()), max(second())));
                let collected = updates.collect();
                let is_streaming = self.is_streaming;
                self.job.checks.push(Box::new(move || {
                    check_updates(&name, is_streaming, collected, &records);
                }));
            }
            _ => self.expect(name, stream.collect(), records),
        }
    }

    fn expect(&mut self, name: String, collected: Collected<Pair>, records: Vec<Pair>) {
        self.job
            .checks
            .push(Box::new(move || assert_same(&name, collected.take(), records)));
    }
}

fn fold_total((count, sum, min, max): (u64, i64, i64, i64)) -> i64 {
    (hash_u64(count ^ hash_u64(sum as u64 ^ hash_u64(min as u64 ^ hash_u64(max as u64)))) >> 20) as i64
}

fn fold_states(values: impl Iterator<Item = i64>, last: &str, distinct: u64, by_text: i64) -> i64 {
    let values = values.fold(distinct, |hash, value| hash_u64(hash ^ value as u64));
    let text = forebay_memory::hash::hash_bytes(last.as_bytes());
    (hash_u64(values ^ hash_u64(text ^ by_text as u64)) >> 20) as i64
}

type Total = (u64, i64, i64, i64);

/// Final results once; updates one for each record, each key's in the order of its counts.
fn check_updates(name: &str, is_streaming: bool, collected: Collected<(u64, Total)>, records: &[Pair]) {
    let expected = totals(records);
    let found = collected.take();
    let mut last: BTreeMap<u64, Total> = BTreeMap::new();
    let updates = found.len();
    for (key, total) in found {
        let before = last.insert(key, total);
        if is_streaming {
            let (count, _, min, max) = before.unwrap_or((0, 0, i64::MAX, i64::MIN));
            assert_eq!(total.0, count + 1, "{name}: key {key}: count after {before:?}");
            assert!(
                total.2 <= min && total.3 >= max,
                "{name}: key {key}: {total:?} after {before:?}"
            );
        } else {
            assert!(before.is_none(), "{name}: key {key} was sent twice");
        }
    }
    assert_same(
        name,
        last.into_iter().collect::<Vec<_>>(),
        expected.into_iter().collect(),
    );
    if is_streaming {
        assert_eq!(updates, records.len(), "{name}: an update for each record");
    }
}
