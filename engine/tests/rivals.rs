//! Jobs beside others who take all memory that is to be had, and give it back at once, or keep it: results are the same.

use forebay::aggregate::{collect_list, count, count_distinct, max, sum};
use forebay::operator::{Collector, Group};
use forebay::record::{Record, first, second};
use forebay::source::from_items;
use forebay::{Environment, Mode, Runtime, Stream};
use forebay_memory::hash::hash_u64;
use forebay_memory::{Plan, SegmentSource};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Row = (u64, u64);

const SEGMENT: usize = 4096;

/// Who takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rival {
    Restless,
    Greedy,
}

fn rows(count: u64, keys: u64, salt: u64) -> Vec<Row> {
    (0..count)
        .map(|index| (hash_u64(index + salt * 7919) % keys, index))
        .collect()
}

fn text(key: u64) -> String {
    format!("{key:width$}", width = (key % 50) as usize)
}

/// Runs a job that `make` makes of two streams, beside each rival; what it collects, sorted, is always `expected`.
fn check<T: Record + Clone + Ord + std::fmt::Debug>(
    what: &str,
    inputs: [&[Row]; 2],
    expected: &[T],
    make: impl Fn(Stream<Row>, Stream<Row>) -> Stream<T>,
) {
    for (rival, parallelism) in [(Rival::Restless, 2), (Rival::Greedy, 3), (Rival::Greedy, 1)] {
        let plan =
            Plan::with_segments_for(500, 1024, SEGMENT, 2 * SEGMENT).expect("the test's sizes make a plan");
        let environment = Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
            .with_parallelism(parallelism)
            .with_mode(Mode::Batch);
        let has_begun = Arc::new(AtomicBool::new(false));
        let source = |name: &str, rows: &[Row]| {
            let has_begun = has_begun.clone();
            environment
                .source(name, from_items(rows.to_vec()))
                .inspect(move |_| has_begun.store(true, Ordering::Relaxed))
                .name(format!("{name} seen"))
        };
        let found = make(source("left", inputs[0]), source("right", inputs[1])).collect();
        let manager = environment.runtime().manager();
        let budget = manager
            .budget("rival", 1, usize::MAX)
            .expect("one segment is to be had");
        let is_over = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut taken = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    if has_begun.load(Ordering::Relaxed) {
                        taken.extend(std::iter::from_fn(|| budget.try_take()));
                        budget.withdraw();
                    }
                    if rival == Rival::Restless {
                        taken.clear();
                    }
                }
            });
            let result = environment.execute("rivals");
            is_over.store(true, Ordering::Relaxed);
            result
        });
        result.unwrap_or_else(|error| panic!("{what}, {rival:?}, parallelism {parallelism}: {error}"));
        let mut found = found.take();
        found.sort();
        assert!(found == expected, "{what}, {rival:?}, parallelism {parallelism}");
        drop(budget);
        assert_eq!(
            environment.runtime().manager().outstanding(),
            0,
            "{what}, {rival:?}"
        );
        assert_eq!(environment.runtime().spill().used_bytes(), 0, "{what}, {rival:?}");
    }
}

fn groups(rows: &[Row]) -> BTreeMap<u64, Vec<u64>> {
    let mut groups: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (key, value) in rows {
        groups.entry(*key).or_default().push(*value);
    }
    groups
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort();
    items
}

#[test]
fn aggregates() {
    let rows = rows(15_000, 5_000, 1);
    let groups = groups(&rows);
    let expected = sorted(
        groups
            .iter()
            .map(|(key, values)| (*key, (values.len() as u64, values[values.len() - 1]))),
    );
    check("integers", [&rows, &[]], &expected, |left, right| {
        left.union(right)
            .key_by(first())
            .aggregate((count(), max(second())))
    });
    let expected = sorted(
        groups
            .iter()
            .map(|(key, values)| (text(*key), (values.len() as u64, values[values.len() - 1]))),
    );
    check("texts", [&rows, &[]], &expected, |left, right| {
        left.union(right)
            .map(|(key, value)| (text(key), value))
            .key_by(first())
            .aggregate((count(), max(second())))
    });
    let expected = sorted(
        groups
            .iter()
            .map(|(key, values)| (text(*key), values.iter().sum::<u64>())),
    );
    check("reduce", [&rows, &[]], &expected, |left, right| {
        left.union(right)
            .map(|(key, value)| (text(key), value))
            .key_by(first())
            .reduce(|left, right| (left.0.to_string(), left.1 + right.1))
    });
    let expected = sorted(groups.keys().map(|key| text(*key)));
    check("distinct", [&rows, &[]], &expected, |left, right| {
        left.union(right).map(|(key, _)| text(key)).distinct()
    });
    let expected = sorted(groups.iter().map(|(key, values)| (*key, values.len() as u64)));
    check("sets of values", [&rows, &[]], &expected, |left, right| {
        left.union(right)
            .key_by(first())
            .aggregate(count_distinct(second()))
    });
}

#[test]
fn updates() {
    let rows = rows(8_000, 3_000, 5);
    let groups = groups(&rows);
    let counted = |(key, values): (&u64, &Vec<u64>)| {
        (1..=values.len() as u64)
            .map(|count| (*key, count))
            .collect::<Vec<_>>()
    };
    let expected = sorted(groups.iter().flat_map(counted));
    check("updates", [&rows, &[]], &expected, |left, right| {
        left.union(right).key_by(first()).aggregate_updates(count())
    });
    let texts = sorted(expected.iter().map(|(key, count)| (text(*key), *count)));
    check("updates of texts", [&rows, &[]], &texts, |left, right| {
        left.union(right)
            .map(|(key, value)| (text(key), value))
            .key_by(first())
            .aggregate_updates(count())
    });
}

#[test]
fn sorts() {
    let rows = rows(12_000, 4_000, 6);
    let expected = sorted(rows.iter().map(|(key, value)| (text(*key), *value)));
    check("texts", [&rows, &[]], &expected, |left, right| {
        left.union(right)
            .map(|(key, value)| (text(key), value))
            .sort_by((first(), second()))
    });
    let expected = sorted(rows.iter().copied());
    check("sorted twice", [&rows, &[]], &expected, |left, right| {
        left.union(right)
            .key_by(second())
            .sort_within((first(), second().descending()))
            .sort_by(first())
    });
}

#[test]
fn lists_of_few_groups() {
    let rows = rows(8_000, 20, 2);
    let groups = groups(&rows);
    let expected = sorted(
        groups
            .iter()
            .map(|(key, values)| (*key, values.iter().sum::<u64>(), values.len() as u64)),
    );
    check("lists", [&rows, &[]], &expected, |left, right| {
        left.union(right)
            .key_by(first())
            .aggregate((collect_list(second()), sum(second())))
            .map(|(key, (list, sum))| (key, sum, list.len() as u64))
            .name("sizes")
    });
}

#[test]
fn groups_and_co_groups() {
    let (one, other) = (rows(10_000, 2_000, 3), rows(8_000, 3_000, 4));
    let expected = sorted(
        groups(&one)
            .iter()
            .map(|(key, values)| (*key, values.len() as u64)),
    );
    check("reduce_group", [&one, &[]], &expected, |left, right| {
        left.union(right).group_by(first()).reduce_group(
            |key, group: &mut Group<'_, Row>, out: &mut Collector<'_, Row>| out.push((key, group.count())),
        )
    });
    let (lefts, rights) = (groups(&one), groups(&other));
    let keys: std::collections::BTreeSet<u64> = lefts.keys().chain(rights.keys()).copied().collect();
    let count =
        |groups: &BTreeMap<u64, Vec<u64>>, key: &u64| groups.get(key).map_or(0, |values| values.len() as u64);
    let expected = sorted(
        keys.iter()
            .map(|key| (*key, count(&lefts, key), count(&rights, key))),
    );
    check("co_group", [&one, &other], &expected, |left, right| {
        left.join(right).on(first(), first()).co_group(
            |key,
             lefts: &mut Group<'_, Row>,
             rights: &mut Group<'_, Row>,
             out: &mut Collector<'_, (u64, u64, u64)>| {
                out.push((key, lefts.count(), rights.count()));
            },
        )
    });
    let expected: Vec<Row> = sorted(one.iter().copied()).into_iter().take(5_000).collect();
    check("top", [&one, &[]], &expected, |left, right| {
        left.union(right).top(5_000, (first(), second()))
    });
    let expected = sorted(one.iter().copied());
    check("materialize", [&one, &[]], &expected, |left, right| {
        left.union(right).materialize()
    });
}
