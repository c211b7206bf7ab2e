//! Exchanges and sorts that a job can do without: the plan says which, and results are the same in every parallelism.

use forebay::aggregate::{count, max};
use forebay::operator::{Collector, Group};
use forebay::plan::{ExchangeKind, JobPlan};
use forebay::record::{first, itself, second, third};
use forebay::source::from_items;
use forebay::{Environment, ErrorKind, Mode, Runtime, Stream};
use forebay_memory::Plan;
use forebay_memory::hash::hash_u64;
use std::collections::{BTreeMap, BTreeSet};

type Pair = (u64, i64);

fn environment(segments: usize, parallelism: usize) -> Environment {
    let plan = Plan::with_segments_for(segments, 1024, 4096, 4096).expect("the test's sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
        .with_parallelism(parallelism)
        .with_mode(Mode::Batch)
}

fn pairs(count: u64, keys: u64, salt: u64) -> Vec<Pair> {
    (0..count)
        .map(|index| {
            let hash = hash_u64(index + salt * 7919);
            (hash % keys, (hash >> 40) as i64 % 1000)
        })
        .collect()
}

fn source(environment: &Environment, salt: u64) -> Stream<Pair> {
    environment.source(format!("pairs {salt}"), from_items(pairs(4000, 300, salt)))
}

fn hash_exchanges(plan: &JobPlan) -> usize {
    let edges = plan.edges.iter();
    edges.filter(|edge| edge.exchange == ExchangeKind::Hash).count()
}

/// The plan of the job, which is then run, and has left nothing.
fn run(environment: &Environment) -> JobPlan {
    let plan = environment.plan("layout").expect("the job has a plan");
    let read_back = JobPlan::from_json(&plan.to_json()).expect("a plan is read back");
    assert_eq!(read_back, plan);
    environment
        .execute("layout")
        .unwrap_or_else(|error| panic!("{error}\n{}", plan.explain()));
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    assert_eq!(environment.runtime().spill().used_bytes(), 0);
    plan
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

fn sums(pairs: &[Pair]) -> BTreeMap<u64, i64> {
    let mut sums = BTreeMap::new();
    pairs
        .iter()
        .for_each(|pair| *sums.entry(pair.0).or_default() += pair.1);
    sums
}

#[test]
fn behind_an_aggregate_of_a_key_there_is_no_exchange_by_it() {
    for parallelism in [1, 2, 3] {
        let environment = environment(400, parallelism);
        let first_sums = source(&environment, 1).key_by(first()).sum(second());
        let (plain, other) = first_sums.fork();
        // Filters and looks leave records where they are.
        let filtered = plain
            .filter(|(key, _)| key % 3 != 0)
            .name("some")
            .inspect(|_| {})
            .key_by(first())
            .aggregate((count(), max(second())))
            .collect();
        // Another function does not say so.
        let mapped = other
            .map(|(key, sum)| (key / 2, sum))
            .key_by(first())
            .sum(second())
            .collect();
        let plan = run(&environment);
        assert_eq!(hash_exchanges(&plan), 2, "{}", plan.explain());
        let sums = sums(&pairs(4000, 300, 1));
        let some = sums.iter().filter(|(key, _)| **key % 3 != 0);
        let some: Vec<_> = some.map(|(key, sum)| (*key, (1, *sum))).collect();
        assert_eq!(sorted(filtered.take()), some);
        let mut halves = BTreeMap::new();
        sums.iter()
            .for_each(|(key, sum)| *halves.entry(key / 2).or_insert(0) += sum);
        assert_eq!(sorted(mapped.take()), halves.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn another_number_of_subtasks_needs_the_exchange() {
    for (one, other) in [(2, 3), (3, 2), (1, 2), (2, 1), (2, 2)] {
        let environment = environment(400, 2);
        let again = source(&environment, 2)
            .key_by(first())
            .sum(second())
            .parallelism(one)
            .key_by(first())
            .sum(second())
            .parallelism(other)
            .collect();
        let plan = run(&environment);
        let expected = if one == other { 1 } else { 2 };
        assert_eq!(hash_exchanges(&plan), expected, "{}", plan.explain());
        let sums = sums(&pairs(4000, 300, 2));
        assert_eq!(sorted(again.take()), sums.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn distinct_reduced_and_semi_joined_records_stay_where_they_are() {
    for parallelism in [1, 3] {
        let environment = environment(600, parallelism);
        let distinct = source(&environment, 3)
            .distinct()
            .key_by(itself())
            .count()
            .collect();
        let reduced = source(&environment, 3)
            .key_by(first())
            .reduce(|one: Pair, other: Pair| (one.0, one.1.max(other.1)))
            .key_by(first())
            .count()
            .collect();
        let few = environment.source("few", from_items((0..100_u64).collect::<Vec<_>>()));
        let joined = source(&environment, 3)
            .join(few)
            .on(first(), itself())
            .semi()
            .key_by(first())
            .sum(second())
            .collect();
        let by_text = source(&environment, 3)
            .map(|pair| (pair.0.to_string(), pair.1))
            .key_by(first())
            .sum(second())
            .key_by(first())
            .count()
            .collect();
        let plan = run(&environment);
        let all: BTreeSet<Pair> = pairs(4000, 300, 3).into_iter().collect();
        assert_eq!(
            sorted(distinct.take()),
            all.iter().map(|pair| (*pair, 1)).collect::<Vec<_>>()
        );
        let sums = sums(&pairs(4000, 300, 3));
        assert_eq!(
            sorted(reduced.take()),
            sums.keys().map(|key| (*key, 1)).collect::<Vec<_>>()
        );
        let least: Vec<_> = sums
            .iter()
            .filter(|(key, _)| **key < 100)
            .map(|(key, sum)| (*key, *sum))
            .collect();
        assert_eq!(sorted(joined.take()), least);
        let mut texts: Vec<_> = sums.keys().map(|key| (key.to_string(), 1)).collect();
        texts.sort();
        assert_eq!(sorted(by_text.take()), texts);
        // Distinct, reduced, both sides of the join, and by text: one each.
        assert!(
            parallelism == 1 || hash_exchanges(&plan) == 5,
            "{}",
            plan.explain()
        );
    }
}

/// An inner join whose result is summed by the join's key, or by something else that is said to be it.
fn joined(environment: &Environment, wrong: bool) -> Stream<(u64, i64)> {
    let orders = environment.source(
        "orders",
        from_items((0..300_u64).map(|key| (key, key % 7)).collect::<Vec<_>>()),
    );
    source(environment, 4)
        .join(orders)
        .on(first(), first())
        .inner(move |pair, order| {
            (
                if wrong {
                    pair.0 + u64::from(pair.1 == 7)
                } else {
                    pair.0
                },
                order.1,
                pair.1,
            )
        })
        .still_keyed_by(first())
        .sum(third())
        .name("revenue")
}

#[test]
fn what_a_join_makes_stays_where_its_key_is() {
    // Where the sums are in another number of subtasks, orders go everywhere, and the sums alone have an exchange.
    for (parallelism, sums_in, exchanges) in [(1, 1, 2), (2, 2, 2), (3, 3, 2), (2, 3, 1), (3, 1, 1)] {
        let environment = environment(600, parallelism);
        let sums_by_key = joined(&environment, false).parallelism(sums_in).collect();
        let plan = run(&environment);
        assert_eq!(hash_exchanges(&plan), exchanges, "{}", plan.explain());
        assert_eq!(
            sorted(sums_by_key.take()),
            sums(&pairs(4000, 300, 4)).into_iter().collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_key_that_is_another_one_after_all_fails_the_job() {
    let environment = environment(600, 2);
    joined(&environment, true).blackhole();
    let error = environment
        .execute("wrong")
        .expect_err("one record in a thousand has another key");
    assert_eq!(error.kind(), ErrorKind::User);
    let message = error.to_string();
    assert!(
        message.contains("still keyed") && message.contains("use key_by"),
        "{message}"
    );
    assert_eq!(environment.runtime().manager().outstanding(), 0);
}

#[test]
fn without_an_exchange_before_it_records_are_sent_where_their_key_is() {
    let environment = environment(600, 3);
    let found = source(&environment, 5)
        .still_keyed_by(first())
        .sum(second())
        .collect();
    let plan = run(&environment);
    assert_eq!(hash_exchanges(&plan), 1, "{}", plan.explain());
    assert_eq!(
        sorted(found.take()),
        sums(&pairs(4000, 300, 5)).into_iter().collect::<Vec<_>>()
    );
}

/// The greatest value of each key, and whether values came in order.
fn last_of_each(stream: forebay::KeyedStream<Pair, forebay::record::Field<Pair, u64>>) -> Stream<(u64, i64)> {
    stream.reduce_group_by(
        second(),
        |key, rows: &mut Group<'_, Pair>, out: &mut Collector<'_, Pair>| {
            let mut last = i64::MIN;
            rows.for_each(|(_, value)| {
                assert!(value >= last, "{value} comes after {last}");
                last = value;
            });
            out.push((key, last));
        },
    )
}

fn greatest(pairs: &[Pair]) -> Vec<Pair> {
    let mut greatest = BTreeMap::new();
    for (key, value) in pairs {
        let most = greatest.entry(*key).or_insert(*value);
        *most = (*most).max(*value);
    }
    greatest.into_iter().collect()
}

/// How many nodes of the plan take records in an order in which they come.
fn sorted_already(plan: &JobPlan) -> usize {
    let details = plan.nodes.iter().map(|node| &node.detail);
    details
        .filter(|detail| detail.contains("which they come in") || detail.contains("both sides come sorted"))
        .count()
}

#[test]
fn what_is_in_order_is_not_sorted_again() {
    // Enough memory, and so little that the records wait on disk.
    for segments in [60, 2000] {
        let environment = environment(segments, 2);
        let (ranked, again) = source(&environment, 6)
            .sort_by((first(), second()))
            .parallelism(1)
            .fork();
        let groups = last_of_each(ranked.key_by(first())).collect();
        let once_more = again
            .sort_by(first())
            .parallelism(1)
            .top(10, (first(), second()))
            .collect();
        let plan = run(&environment);
        // The groups, the sort by less, and of its first ones those that one subtask has kept.
        assert_eq!(sorted_already(&plan), 3, "{}", plan.explain());
        let all = pairs(4000, 300, 6);
        assert_eq!(sorted(groups.take()), greatest(&all));
        assert_eq!(once_more.take(), sorted(all)[..10]);
    }
}

#[test]
fn what_is_sorted_within_subtasks_is_grouped_and_joined_as_it_is() {
    for (segments, parallelism) in [(120, 1), (260, 3), (4000, 2)] {
        let environment = environment(segments, parallelism);
        let order = (first::<Pair>(), second::<Pair>());
        let (left, again) = source(&environment, 7).key_by(first()).sort_within(order).fork();
        let right = source(&environment, 8).key_by(first()).sort_within(order);
        let groups = last_of_each(again.key_by(first())).collect();
        let both = left
            .join(right)
            .on(first(), first())
            .co_group(
                |key,
                 left: &mut Group<'_, Pair>,
                 right: &mut Group<'_, Pair>,
                 out: &mut Collector<'_, (u64, u64, u64)>| {
                    out.push((key, left.count(), right.count()));
                },
            )
            .collect();
        let plan = run(&environment);
        assert_eq!(sorted_already(&plan), 2, "{}", plan.explain());
        assert!(
            parallelism == 1 || hash_exchanges(&plan) == 2,
            "{}",
            plan.explain()
        );
        assert_eq!(sorted(groups.take()), greatest(&pairs(4000, 300, 7)));
        let mut counts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        pairs(4000, 300, 7)
            .iter()
            .for_each(|pair| counts.entry(pair.0).or_default().0 += 1);
        pairs(4000, 300, 8)
            .iter()
            .for_each(|pair| counts.entry(pair.0).or_default().1 += 1);
        let counts: Vec<_> = counts
            .into_iter()
            .map(|(key, (left, right))| (key, left, right))
            .collect();
        assert_eq!(sorted(both.take()), counts);
    }
}

#[test]
fn an_order_that_an_exchange_mixes_is_sorted_again() {
    let environment = environment(400, 3);
    let ranked = source(&environment, 9)
        .sort_by((first(), second()))
        .parallelism(2);
    let groups = last_of_each(ranked.key_by(first())).collect();
    let plan = run(&environment);
    assert_eq!(sorted_already(&plan), 0, "{}", plan.explain());
    assert_eq!(sorted(groups.take()), greatest(&pairs(4000, 300, 9)));
}

#[test]
fn sides_that_come_sorted_are_joined_by_merging() {
    for (segments, parallelism) in [(120, 1), (300, 3)] {
        let environment = environment(segments, parallelism);
        let within = |salt| source(&environment, salt).key_by(first()).sort_within(first());
        // A join, of whose records those that remain are joined again: sorted sides all the way.
        let kept = within(10).join(within(11)).on(first(), first()).semi();
        let joined = kept
            .join(within(12))
            .on(first(), first())
            .build_left()
            .inner(|left, right| (left.0, left.1 * 1000 + right.1))
            .collect();
        // One side that does not come so is not sorted for it.
        let by_hash = within(13)
            .join(source(&environment, 14))
            .on(first(), first())
            .anti()
            .collect();
        let plan = run(&environment);
        let merged = plan
            .nodes
            .iter()
            .filter(|node| node.detail.contains("by merging"));
        assert_eq!(merged.count(), 2, "{}", plan.explain());
        assert!(
            parallelism == 1 || hash_exchanges(&plan) == 5,
            "{}",
            plan.explain()
        );
        let kept = sums(&pairs(4000, 300, 11));
        let mut by_key: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for (key, value) in pairs(4000, 300, 12) {
            by_key.entry(key).or_default().push(value);
        }
        let left = pairs(4000, 300, 10)
            .into_iter()
            .filter(|pair| kept.contains_key(&pair.0));
        let expected = left.flat_map(|(key, left)| {
            let rights = by_key.get(&key).into_iter().flatten();
            rights.map(move |right| (key, left * 1000 + right))
        });
        assert_eq!(sorted(joined.take()), sorted(expected.collect()));
        let other = sums(&pairs(4000, 300, 14));
        let alone = pairs(4000, 300, 13)
            .into_iter()
            .filter(|pair| !other.contains_key(&pair.0));
        assert_eq!(sorted(by_hash.take()), sorted(alone.collect()));
    }
}

#[test]
fn records_that_come_in_a_longer_order_are_merged_by_what_is_wanted_of_it() {
    for parallelism in [2, 3] {
        let environment = environment(400, parallelism);
        let records = environment
            .source("pairs", from_items(pairs(4000, 200, 11)))
            .key_by(second())
            .sort_within((first(), second().descending()))
            .sort_by(first())
            .collect();
        let plan = run(&environment);
        assert!(
            plan.explain().contains("which they come in"),
            "{}",
            plan.explain()
        );
        let records = records.take();
        assert!(
            records.is_sorted_by_key(|(key, _)| *key),
            "parallelism {parallelism}"
        );
        assert_eq!(
            sorted(records),
            sorted(pairs(4000, 200, 11)),
            "parallelism {parallelism}"
        );
    }
}

#[test]
fn records_that_go_everywhere_are_nowhere_by_their_key() {
    for parallelism in [1, 2, 3] {
        let environment = environment(400, parallelism);
        let once = source(&environment, 15).key_by(first()).sum(second());
        let everywhere = source(&environment, 16).broadcast();
        let again = once.union(everywhere).key_by(first()).sum(second()).collect();
        run(&environment);
        let mut expected = sums(&pairs(4000, 300, 15));
        for (key, sum) in sums(&pairs(4000, 300, 16)) {
            *expected.entry(key).or_default() += sum * parallelism as i64;
        }
        assert_eq!(
            sorted(again.take()),
            expected.into_iter().collect::<Vec<_>>(),
            "parallelism {parallelism}"
        );
    }
}
