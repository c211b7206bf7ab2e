//! Random pipelines of operators that place and order records: what the plan leaves out changes no result.

use forebay::operator::{Collector, Group};
use forebay::record::{KeyFields, first, second};
use forebay::simulator::Random;
use forebay::source::from_items;
use forebay::{Environment, JoinStrategy, KeyedStream, Mode, Runtime, Stream};
use forebay_memory::Plan;
use forebay_memory::hash::hash_u64;
use std::collections::BTreeSet;

type Row = (u64, i64);

const STRATEGIES: [JoinStrategy; 4] = [
    JoinStrategy::Automatic,
    JoinStrategy::Hash,
    JoinStrategy::Merge,
    JoinStrategy::Broadcast,
];

fn rows(count: u64, keys: u64, salt: u64) -> Vec<Row> {
    (0..count)
        .map(|index| {
            let hash = hash_u64(index + salt * 7919);
            (hash % keys, (hash >> 40) as i64 % 1000)
        })
        .collect()
}

/// Calls a method of a stream with order number `$number`.
macro_rules! in_order {
    ($stream:expr, $method:ident, $number:expr) => {
        match $number {
            0 => $stream.$method(first()),
            1 => $stream.$method((first(), second().descending())),
            2 => $stream.$method((second(), first())),
            3 => $stream.$method(second().descending()),
            _ => $stream.$method((first(), second())),
        }
    };
}

fn within<K: KeyFields<Row>>(stream: KeyedStream<Row, K>, order: u64) -> Stream<Row> {
    in_order!(stream, sort_within, order)
}

/// What records are ordered by in order number `order`.
fn ordinal(order: u64, (key, value): Row) -> (i64, i64) {
    let key = key as i64;
    match order {
        0 => (key, 0),
        1 => (key, -value),
        2 => (value, key),
        3 => (-value, 0),
        _ => (key, value),
    }
}

/// A pipeline, what it is to make, and the order that its last step has put that in.
struct Pipeline {
    stream: Stream<Row>,
    expected: Vec<Row>,
    order: Option<u64>,
}

impl Pipeline {
    /// The pipeline with one more step, which is number `step`.
    fn with_step(self, environment: &Environment, random: &mut Random, step: u64) -> Pipeline {
        let Pipeline {
            stream, mut expected, ..
        } = self;
        let other = rows(300 + random.next_u64() % 500, 200, random.next_u64() % 1000);
        let second_source = || environment.source(format!("other {step}"), from_items(other.clone()));
        let mut order = None;
        // Orders that begin with each other more often than others.
        let number = [0, 0, 1, 1, 1, 2, 3, 4][(random.next_u64() % 8) as usize];
        let stream = match random.next_u64() % 12 {
            0..=2 => {
                order = Some(number);
                in_order!(stream, sort_by, number)
            }
            3 => within(stream.key_by(first()), number),
            4 => within(stream.key_by(second()), number),
            5 => within(stream.key_by((second(), first())), number),
            6 => {
                expected.retain(|row| row.1 % 3 != 0);
                stream.filter(|row| row.1 % 3 != 0).name(format!("some {step}"))
            }
            7 => stream.rebalance(),
            8 => stream.group_by(first()).reduce_group_by(
                second(),
                |key, group: &mut Group<'_, Row>, out: &mut Collector<'_, Row>| {
                    group.for_each(|row| {
                        assert_eq!(row.0, key);
                        out.push(row);
                    });
                },
            ),
            9 => {
                let keys: BTreeSet<u64> = other.iter().map(|row| row.0).collect();
                let strategy = STRATEGIES[(random.next_u64() % 4) as usize];
                let join = stream
                    .join(within(second_source().key_by(first()), number))
                    .on(first(), first())
                    .strategy(strategy);
                let is_semi = random.next_u64().is_multiple_of(2);
                expected.retain(|row| keys.contains(&row.0) == is_semi);
                if is_semi { join.semi() } else { join.anti() }
            }
            10 => {
                expected.extend(&other);
                stream.union(in_order!(second_source(), sort_by, number))
            }
            _ if number == 0 => {
                expected.sort();
                expected.dedup();
                stream.distinct()
            }
            _ => stream.parallelism(number as usize),
        };
        Pipeline {
            stream,
            expected,
            order,
        }
    }
}

#[test]
fn pipelines_of_sorts_and_exchanges() {
    for seed in 0..500 {
        let mut random = Random::new(seed * 77 + 5);
        let parallelism = 1 + (random.next_u64() % 4) as usize;
        let plan = Plan::with_segments_for(3000, 4096, 4096, 4096).expect("the test's sizes make a plan");
        let environment = Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
            .with_parallelism(parallelism)
            .with_mode(Mode::Batch);
        let expected = rows(500 + random.next_u64() % 3000, 1 + random.next_u64() % 400, seed);
        let mut pipeline = Pipeline {
            stream: environment.source("rows", from_items(expected.clone())),
            expected,
            order: None,
        };
        for step in 0..1 + random.next_u64() % 5 {
            pipeline = pipeline.with_step(&environment, &mut random, step);
        }
        let Pipeline {
            stream,
            mut expected,
            order,
        } = pipeline;
        let found = stream.collect();
        let plan = environment.plan("pipeline").expect("the job has a plan");
        environment
            .execute("pipeline")
            .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{}", plan.explain()));
        let mut found = found.take();
        if let Some(order) = order {
            let is_sorted = found.is_sorted_by_key(|row| ordinal(order, *row));
            assert!(is_sorted, "seed {seed}\n{}", plan.explain());
        }
        found.sort();
        expected.sort();
        assert!(found == expected, "seed {seed}\n{}", plan.explain());
        assert_eq!(environment.runtime().manager().outstanding(), 0, "seed {seed}");
        assert_eq!(environment.runtime().spill().used_bytes(), 0, "seed {seed}");
    }
}
