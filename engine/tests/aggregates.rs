//! Every aggregate against plain computations, in both modes, in any budget.

use forebay::aggregate::{
    Aggregate, StateBytes, StatefulAggregate, approx_count_distinct, approx_quantile, avg_of, bool_and,
    bool_or, collect_list, collect_list_by, collect_set, count, count_distinct, first_by, last_by, max,
    max_by, min, min_by, stateful, stddev, stddev_population, sum, sum_of, var, var_population,
};
use forebay::record::{Date, List, Record, first, itself, second};
use forebay::source::{from_items, generate};
use forebay::{Environment, ErrorKind, Mode, Runtime};
use forebay_memory::Plan;
use forebay_memory::hash::hash_u64;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

const RECORD_SIZE: usize = 16 << 10;

fn environment(managed: usize, mode: Mode, parallelism: usize) -> Environment {
    environment_for(managed, RECORD_SIZE, mode, parallelism)
}

/// One whose records, and states of groups, may have `record_size` bytes.
fn environment_for(managed: usize, record_size: usize, mode: Mode, parallelism: usize) -> Environment {
    let plan =
        Plan::with_segments_for(managed, 256, 4096, record_size).expect("the test's sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
        .with_mode(mode)
        .with_parallelism(parallelism)
}

/// What is aggregated.
#[derive(Debug, Clone, PartialEq, Record)]
struct Visit {
    user: u64,
    amount: i64,
    page: String,
    weight: f64,
    at: u32,
    is_member: bool,
    referrer: Option<String>,
}

fn visit(index: u64, users: u64) -> Visit {
    let draw = hash_u64(index + 1);
    Visit {
        user: draw % users,
        amount: (draw >> 20) as i64 % 500 - 250,
        page: format!(
            "page {}{}",
            (draw >> 32) % 40,
            "x".repeat((draw >> 40) as usize % 30)
        ),
        weight: ((draw >> 16) as u32 as f64) / 1e6,
        // Ties are frequent.
        at: (draw >> 8) as u32 % 50,
        is_member: draw >> 60 != 0,
        referrer: (draw >> 50 & 3 != 0).then(|| format!("site {}", draw >> 52 & 7)),
    }
}

fn visits(count: u64, users: u64) -> Vec<Visit> {
    (0..count).map(|index| visit(index, users)).collect()
}

fn by_user(visits: &[Visit]) -> BTreeMap<u64, Vec<Visit>> {
    let mut groups = BTreeMap::<u64, Vec<Visit>>::new();
    for visit in visits {
        groups.entry(visit.user).or_default().push(visit.clone());
    }
    groups
}

/// Runs an aggregation in many budgets and both modes, and compares the last result of each key with what `expected` says.
fn check<A, T>(
    name: &str,
    data: &[Visit],
    aggregate: A,
    expected: impl Fn(&[Visit]) -> T,
    result: impl Fn(A::Out) -> T,
) where
    A: Aggregate<Visit>,
    A::Out: Debug + Clone,
    T: PartialEq + Debug,
{
    let groups = by_user(data);
    let mut spilled = 0;
    for (managed, mode, parallelism) in [
        (40, Mode::Batch, 1),
        (64, Mode::Batch, 2),
        (90, Mode::Batch, 2),
        (150, Mode::Streaming, 2),
        (2000, Mode::Batch, 3),
        (2000, Mode::Streaming, 1),
    ] {
        let case = format!("{name}: {managed} segments, {mode:?}, parallelism {parallelism}");
        let environment = environment(managed, mode, parallelism);
        let collected = environment
            .source("visits", from_items(data.to_vec()))
            .rebalance()
            .group_by(Visit::user)
            .aggregate(aggregate.clone())
            .collect();
        let summary = environment.execute("visits").expect(&case);
        spilled += summary.spilled_bytes_written();
        let (mut last, mut results) = (BTreeMap::new(), 0);
        for (user, out) in collected.take() {
            results += 1;
            last.insert(user, out);
        }
        let wanted = if mode == Mode::Streaming {
            data.len()
        } else {
            groups.len()
        };
        assert_eq!(results, wanted, "{case}: results");
        assert_eq!(last.len(), groups.len(), "{case}: groups");
        for (user, out) in last {
            let found = result(out);
            let expected = expected(&groups[&user]);
            assert!(
                found == expected,
                "{case}: user {user}: {found:?}, and not {expected:?}"
            );
        }
        assert_eq!(environment.runtime().manager().outstanding(), 0, "{case}");
        assert_eq!(environment.runtime().spill().used_bytes(), 0, "{case}");
    }
    assert!(spilled > 0, "{name}: something was spilled");
}

fn rounded(value: f64) -> i64 {
    (value * 1e3).round() as i64
}

fn variance(values: impl Iterator<Item = f64> + Clone, less: f64) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - less)
}

#[test]
fn spreads_and_truths() {
    check(
        "spreads",
        &visits(12_000, 4_000),
        (
            count(),
            var_population(Visit::amount),
            bool_and(Visit::is_member),
            bool_or(Visit::is_member),
            stddev_population(Visit::weight),
        ),
        |group| {
            (
                group.len() as u64,
                rounded(variance(group.iter().map(|visit| visit.amount as f64), 0.0)),
                group.iter().all(|visit| visit.is_member),
                group.iter().any(|visit| visit.is_member),
                rounded(variance(group.iter().map(|visit| visit.weight), 0.0).sqrt()),
            )
        },
        |(count, var, all, any, stddev)| (count, rounded(var), all, any, rounded(stddev)),
    );
    check(
        "samples",
        &visits(12_000, 4_000),
        (var(Visit::amount), stddev(Visit::weight)),
        |group| {
            let sample = |values: &dyn Fn(&Visit) -> f64| match group.len() {
                1 => None,
                _ => Some(variance(group.iter().map(values), 1.0)),
            };
            (
                sample(&|visit| visit.amount as f64).map(rounded),
                sample(&|visit| visit.weight).map(f64::sqrt).map(rounded),
            )
        },
        |(var, stddev)| {
            let number = |value: f64| (!value.is_nan()).then(|| rounded(value));
            (number(var), number(stddev))
        },
    );
}

#[test]
fn first_last_and_best() {
    check(
        "in lanes",
        &visits(12_000, 3_000),
        (
            first_by(Visit::amount, Visit::at),
            last_by(Visit::amount, Visit::at),
            min_by(Visit::at, Visit::weight),
            max_by(Visit::is_member, Visit::amount),
        ),
        |group| {
            let key = |visit: &&Visit| (visit.at, visit.amount);
            let weight = |visit: &&Visit| (visit.weight.to_bits(), visit.at);
            (
                group.iter().min_by_key(key).expect("a record").amount,
                group.iter().max_by_key(key).expect("a record").amount,
                group.iter().min_by_key(weight).expect("a record").at,
                group
                    .iter()
                    .max_by_key(|visit| (visit.amount, visit.is_member))
                    .expect("a record")
                    .is_member,
            )
        },
        |result| result,
    );
    check(
        "in bytes",
        &visits(4_000, 1_000),
        (
            first_by(Visit::page, Visit::at),
            last_by(itself::<Visit>(), Visit::page),
            max_by(Visit::at, Visit::referrer),
            min(Visit::page),
            max(Visit::page),
            min(Visit::referrer),
            count(),
        ),
        |group| {
            // The record type itself orders field by field.
            let whole = |visit: &&Visit| {
                (
                    visit.page.clone(),
                    visit.user,
                    visit.amount,
                    visit.weight.to_bits(),
                    visit.at,
                    visit.is_member,
                    visit.referrer.clone(),
                )
            };
            (
                group
                    .iter()
                    .map(|visit| (visit.at, visit.page.clone()))
                    .min()
                    .expect("a record")
                    .1,
                group.iter().max_by_key(whole).expect("a record").clone(),
                group
                    .iter()
                    .map(|visit| (visit.referrer.clone(), visit.at))
                    .max()
                    .expect("a record")
                    .1,
                group
                    .iter()
                    .map(|visit| visit.page.clone())
                    .min()
                    .expect("a record"),
                group
                    .iter()
                    .map(|visit| visit.page.clone())
                    .max()
                    .expect("a record"),
                group
                    .iter()
                    .map(|visit| visit.referrer.clone())
                    .min()
                    .expect("a record"),
                group.len() as u64,
            )
        },
        |result| result,
    );
}

#[test]
fn functions_of_records_are_summed() {
    fn wide(visit: VisitView<'_>) -> i128 {
        i128::from(visit.amount) << 70
    }
    check(
        "functions",
        &visits(12_000, 4_000),
        (
            sum_of(|visit: VisitView<'_>| visit.amount * i64::from(visit.at)),
            sum_of(wide),
            avg_of(|visit: VisitView<'_>| visit.page.len() as u32),
        ),
        |group| {
            let products = group.iter().map(|visit| visit.amount * i64::from(visit.at));
            let lengths = group.iter().map(|visit| visit.page.len()).sum::<usize>();
            (
                products.sum(),
                group.iter().map(|visit| i128::from(visit.amount) << 70).sum(),
                rounded(lengths as f64 / group.len() as f64),
            )
        },
        |(products, wide, length)| (products, wide, rounded(length)),
    );
}

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort();
    values
}

#[test]
fn lists_and_sets() {
    // Few keys with lists far larger than a page, and many with short ones.
    for users in [40, 2_000] {
        check(
            "lists",
            &visits(4_000, users),
            (
                collect_list(Visit::amount),
                sum(Visit::amount),
                collect_set(Visit::page),
                collect_list_by(Visit::at, (Visit::weight.descending(), Visit::at)),
                count_distinct(Visit::referrer),
            ),
            |group| {
                let mut by_weight: Vec<&Visit> = group.iter().collect();
                by_weight.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.at.cmp(&b.at)));
                let referrers: BTreeSet<_> = group.iter().map(|visit| visit.referrer.clone()).collect();
                let pages: BTreeSet<_> = group.iter().map(|visit| visit.page.clone()).collect();
                (
                    sorted(group.iter().map(|visit| visit.amount)),
                    group.iter().map(|visit| visit.amount).sum(),
                    pages.into_iter().collect::<Vec<_>>(),
                    by_weight.iter().map(|visit| visit.at).collect::<Vec<_>>(),
                    referrers.len() as u64,
                )
            },
            |(amounts, sum, pages, by_weight, referrers): (List<i64>, i64, List<String>, List<u32>, u64)| {
                (
                    amounts.to_vec(),
                    sum,
                    pages.to_vec(),
                    by_weight.to_vec(),
                    referrers,
                )
            },
        );
    }
}

/// Approximations have no exact twin: what was spilled must equal what was not (but for quantiles), and both be near.
#[test]
fn approximations_are_near() {
    let data = visits(8_000, 20);
    check(
        "approximations",
        &data,
        (
            approx_count_distinct(Visit::weight),
            count(),
            approx_quantile(Visit::weight, 0.5),
            approx_quantile(Visit::weight, 1.0),
        ),
        |_| (true, true, true, true),
        {
            let groups = by_user(&data);
            let by_count: BTreeMap<u64, Vec<&Vec<Visit>>> =
                groups.values().fold(BTreeMap::new(), |mut map, group| {
                    map.entry(group.len() as u64).or_insert_with(Vec::new).push(group);
                    map
                });
            let by_count: BTreeMap<u64, Vec<Vec<f64>>> = by_count
                .into_iter()
                .map(|(count, groups)| {
                    let weights = groups.into_iter().map(|group| {
                        let mut weights: Vec<f64> = group.iter().map(|visit| visit.weight).collect();
                        weights.sort_by(f64::total_cmp);
                        weights
                    });
                    (count, weights.collect())
                })
                .collect();
            move |(distinct, count, median, greatest)| {
                // Groups are told by their counts: one of those with this count must fit.
                let fits = |weights: &Vec<f64>| {
                    let rank = weights.partition_point(|weight| *weight < median) as f64;
                    let is_near = (rank / count as f64 - 0.5).abs() < 0.02;
                    is_near && weights.last() == Some(&greatest)
                };
                let error = (distinct as f64 / count as f64 - 1.0).abs();
                (
                    error < 0.05,
                    true,
                    by_count[&count].iter().any(fits),
                    greatest > median,
                )
            }
        },
    );
}

/// An aggregate of the user's own: a histogram of pages, as text.
#[derive(Clone)]
struct Histogram;

impl Histogram {
    fn add(state: &mut StateBytes<'_>, page: &str, times: u64) {
        let mut at = 0;
        while at < state.len() {
            let size = usize::from(state[at]);
            if &state[at + 9..at + 9 + size] == page.as_bytes() {
                let count = &mut state[at + 1..at + 9];
                let sum = u64::from_le_bytes((&*count).try_into().expect("eight bytes")) + times;
                count.copy_from_slice(&sum.to_le_bytes());
                return;
            }
            at += 9 + size;
        }
        state.extend_from_slice(&[page.len() as u8]);
        state.extend_from_slice(&times.to_le_bytes());
        state.extend_from_slice(page.as_bytes());
    }

    fn entries(state: &[u8]) -> Vec<(String, u64)> {
        let (mut entries, mut at) = (Vec::new(), 0);
        while at < state.len() {
            let size = usize::from(state[at]);
            let count = u64::from_le_bytes(state[at + 1..at + 9].try_into().expect("eight bytes"));
            let page = String::from_utf8(state[at + 9..at + 9 + size].to_vec()).expect("text");
            entries.push((page, count));
            at += 9 + size;
        }
        entries.sort();
        entries
    }
}

impl StatefulAggregate<Visit> for Histogram {
    type Out = List<(String, u64)>;

    fn add(&self, state: &mut StateBytes<'_>, visit: VisitView<'_>) {
        Histogram::add(state, &visit.page[..7.min(visit.page.len())], 1);
    }

    fn merge(&self, state: &mut StateBytes<'_>, other: &[u8]) {
        for (page, count) in Histogram::entries(other) {
            Histogram::add(state, &page, count);
        }
    }

    fn finish(&self, state: &[u8]) -> List<(String, u64)> {
        Histogram::entries(state).into()
    }

    fn describe(&self) -> String {
        "histogram".into()
    }
}

#[test]
fn users_aggregates_stand_beside_built_in_ones() {
    for users in [200, 2_500] {
        check(
            "histogram",
            &visits(6_000, users),
            (min(Visit::amount), stateful(Histogram), count()),
            |group| {
                let mut counts = BTreeMap::new();
                for visit in group {
                    *counts
                        .entry(visit.page[..7.min(visit.page.len())].to_string())
                        .or_insert(0) += 1;
                }
                (
                    group.iter().map(|visit| visit.amount).min().expect("a record"),
                    counts.into_iter().collect::<Vec<(String, u64)>>(),
                    group.len() as u64,
                )
            },
            |(least, histogram, count)| (least, histogram.to_vec(), count),
        );
    }
}

#[test]
fn folds_by_closures_in_both_modes() {
    for mode in [Mode::Batch, Mode::Streaming] {
        let environment = environment(60, mode, 2);
        let collected = environment
            .source("pairs", generate(20_000, |index| (index % 3_001, index as i64)))
            .group_by(first::<(u64, i64)>())
            .fold(
                || (String::new(), i64::MIN),
                |state, (_, value)| {
                    state.0.push(if value % 2 == 0 { 'e' } else { 'o' });
                    state.1 = state.1.max(value);
                },
                |state, other| {
                    state.0.push_str(&other.0);
                    state.1 = state.1.max(other.1);
                },
                |state| (state.0.matches('e').count() as u64, state.1),
            )
            .collect();
        let summary = environment.execute("folds").expect("the job runs");
        assert!(summary.spilled_bytes_written() > 0);
        let mut last = BTreeMap::new();
        for (key, out) in collected.take() {
            last.insert(key, out);
        }
        let mut expected = BTreeMap::new();
        for index in 0..20_000u64 {
            let entry = expected.entry(index % 3_001).or_insert((0, i64::MIN));
            *entry = (entry.0 + u64::from(index % 2 == 0), index as i64);
        }
        assert!(last == expected, "{mode:?}");
    }
}

#[test]
fn distinct_values_are_counted_in_any_budget() {
    for (managed, mode) in [(40, Mode::Batch), (48, Mode::Streaming), (2000, Mode::Batch)] {
        let environment = environment(managed, mode, 1);
        // One key has most of the values: far more than a group's state may have.
        let pair = |index: u64| {
            (
                if index.is_multiple_of(4) { index % 300 } else { 7 },
                hash_u64(index % 9_000),
            )
        };
        let collected = environment
            .source("pairs", generate(30_000, pair))
            .group_by(first::<(u64, u64)>())
            .count_distinct(second())
            .collect();
        environment.execute("distinct").expect("the job runs");
        let mut expected = BTreeMap::<u64, BTreeSet<u64>>::new();
        for (key, value) in (0..30_000).map(pair) {
            expected.entry(key).or_default().insert(value);
        }
        let mut last = BTreeMap::new();
        for (key, count) in collected.take() {
            let before = last.insert(key, count);
            assert!(before.is_none_or(|before| before < count));
        }
        let expected: BTreeMap<u64, u64> = expected
            .into_iter()
            .map(|(key, values)| (key, values.len() as u64))
            .collect();
        assert!(last == expected, "{managed} segments, {mode:?}");
        assert!(last[&7] > 6_000);
    }
}

#[test]
fn a_state_over_the_largest_record_is_refused_and_leaks_nothing() {
    for mode in [Mode::Batch, Mode::Streaming] {
        let environment = environment_for(200, 4096, mode, 2);
        let lists = environment
            .source("numbers", generate(2_000, |index| (index % 2, index)))
            .group_by(first::<(u64, u64)>())
            .aggregate(collect_list(second()))
            .name("lists");
        lists.blackhole();
        let error = environment.execute("lists").expect_err("8 kB are over 4 KiB");
        assert_eq!(error.kind(), ErrorKind::User, "{error}");
        let message = error.to_string();
        let names = message.contains("local aggregate") || message.contains("lists");
        assert!(
            names && message.contains("over record.max_size (4 KiB)"),
            "{message}"
        );
        assert_eq!(environment.runtime().manager().outstanding(), 0);
        assert_eq!(environment.runtime().spill().used_bytes(), 0);
    }
    // A set may have seen any number of values: what counts is how many are distinct.
    let environment = environment(200, Mode::Batch, 2);
    let sets = environment
        .source("numbers", generate(30_000, |index| (index % 2, index % 1_000)))
        .group_by(first::<(u64, u64)>())
        .aggregate(count_distinct(second()))
        .collect();
    environment.execute("sets").expect("4 kB are not over 16 KiB");
    assert_eq!(
        sets.take()
            .into_iter()
            .map(|(_, count)| count)
            .collect::<Vec<_>>(),
        [500, 500]
    );
}

#[derive(Clone)]
struct Fragile {
    in_merge: bool,
}

impl StatefulAggregate<(u64, u64)> for Fragile {
    type Out = u64;

    fn add(&self, state: &mut StateBytes<'_>, (_, value): (u64, u64)) {
        assert!(self.in_merge || value != 7_000, "a user's panic");
        state.extend_from_slice(&value.to_le_bytes());
    }

    fn merge(&self, state: &mut StateBytes<'_>, other: &[u8]) {
        assert!(!self.in_merge || state.len() < 100, "a user's panic");
        state.extend_from_slice(other);
    }

    fn finish(&self, state: &[u8]) -> u64 {
        state.len() as u64
    }

    fn describe(&self) -> String {
        "fragile".into()
    }
}

#[test]
fn a_panic_in_a_users_aggregate_fails_the_job_and_leaks_nothing() {
    for in_merge in [false, true] {
        for managed in [60, 2000] {
            let environment = environment(managed, Mode::Batch, 2);
            environment
                .source("numbers", generate(20_000, |index| (index % 900, index)))
                .rebalance()
                .group_by(first::<(u64, u64)>())
                .aggregate((count(), stateful(Fragile { in_merge })))
                .blackhole();
            let error = environment.execute("fragile").expect_err("it panics");
            assert_eq!(error.kind(), ErrorKind::User, "{error}");
            assert!(error.to_string().contains("a user's panic"), "{error}");
            assert_eq!(environment.runtime().manager().outstanding(), 0);
            assert_eq!(environment.runtime().spill().used_bytes(), 0);
        }
    }
}

/// Each of a fold's functions panics, early, in the middle and late: while records are folded before and behind the exchange, while spilled
/// states are merged, and while results are sent.
#[test]
fn a_panic_in_any_function_of_a_fold_leaks_nothing() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let mut panics = 0;
    for function in ["create", "add", "merge", "finish"] {
        for (managed, keys) in [(60, 900), (60, 5_000), (2000, 900), (2000, 10)] {
            for fails_at in [0, 9, 800, 4_000, 19_000] {
                let calls = Arc::new(AtomicU64::new(0));
                let step = move |of: &str| {
                    if of == function {
                        let call = calls.fetch_add(1, Ordering::Relaxed);
                        assert!(call != fails_at, "a user's panic");
                    }
                };
                let [create, add, merge, finish] = [(); 4].map(|()| step.clone());
                let environment = environment(managed, Mode::Batch, 2);
                environment
                    .source(
                        "numbers",
                        generate(20_000, move |index| (index * 7 % keys, index)),
                    )
                    .group_by(first::<(u64, u64)>())
                    .fold(
                        move || {
                            create("create");
                            0u64
                        },
                        move |sum, (_, value)| {
                            add("add");
                            *sum += value;
                        },
                        move |sum, other| {
                            merge("merge");
                            *sum += other;
                        },
                        move |sum| {
                            finish("finish");
                            sum
                        },
                    )
                    .blackhole();
                // Some are not called that often.
                if let Err(error) = environment.execute("fragile") {
                    panics += 1;
                    assert!(error.to_string().contains("a user's panic"), "{error}");
                }
                assert_eq!(
                    environment.runtime().manager().outstanding(),
                    0,
                    "{function} {fails_at}"
                );
                assert_eq!(
                    environment.runtime().spill().used_bytes(),
                    0,
                    "{function} {fails_at}"
                );
            }
        }
    }
    assert!(panics > 40, "only {panics} jobs failed");
}

#[test]
fn whole_streams_are_aggregated() {
    for (mode, parallelism) in [(Mode::Batch, 1), (Mode::Batch, 3), (Mode::Streaming, 2)] {
        for records in [0u64, 1, 5_000] {
            let environment = environment(120, mode, parallelism);
            let source = |name: &str| {
                environment
                    .source(name, generate(records, |index| (index % 10, index as i64 - 7)))
                    .rebalance()
                    .map(|pair| pair)
            };
            let counted = source("counted").count().collect();
            let totals = source("totals")
                .aggregate((count(), sum(second()), max(second()), collect_set(first())))
                .collect();
            let finals = source("finals").aggregate_final(sum(second())).collect();
            environment.execute("totals").expect("the job runs");
            let case = format!("{mode:?}, parallelism {parallelism}, {records} records");
            // The subtasks of the sink have the answers of one subtask in turn.
            let (mut counted, mut totals) = (counted.take(), totals.take());
            counted.sort_unstable();
            totals.sort_unstable_by_key(|total| total.0);
            let wanted = match mode {
                Mode::Streaming => records.max(1),
                _ => 1,
            };
            assert_eq!(counted.len() as u64, wanted, "{case}");
            assert_eq!(counted.last(), Some(&records), "{case}");
            assert!(counted.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{case}");
            let one = (records > 0).then(|| (0..records).map(|index| index as i64 - 7).sum::<i64>());
            assert_eq!(finals.take(), Vec::from_iter(one), "{case}");
            let wanted = if records == 0 { 0 } else { wanted };
            assert_eq!(totals.len() as u64, wanted, "{case}");
            if let Some((count, sum, max, set)) = totals.last() {
                let values = (0..records).map(|index| index as i64 - 7);
                assert_eq!((*count, *sum), (records, values.clone().sum()), "{case}");
                assert_eq!(
                    (*max, set.len() as u64),
                    (values.max().expect("a record"), records.min(10)),
                    "{case}"
                );
            }
        }
    }
}

/// Results of sparse types: what is ordered in words of its own.
#[test]
fn least_and_greatest_of_other_types() {
    let environment = environment(200, Mode::Batch, 2);
    let record = |index: u64| {
        (
            index % 5,
            (hash_u64(index) as i128) << 40,
            Date::from_days(index as i32 - 50),
            -(index as f32),
        )
    };
    let stream = environment.source("records", generate(1_000, record));
    let found = stream
        .group_by(first())
        .aggregate((
            max(second()),
            min(forebay::record::third()),
            max(forebay::record::fourth()),
        ))
        .collect();
    environment.execute("types").expect("the job runs");
    let found: BTreeMap<_, _> = found.take().into_iter().collect();
    assert_eq!(found.len(), 5);
    for (key, (wide, date, float)) in found {
        let own = || (0..1_000).filter(|index| index % 5 == key).map(record);
        assert_eq!(wide, own().map(|record| record.1).max().expect("a record"));
        assert_eq!(date, Date::from_days(key as i32 - 50));
        assert_eq!(float, -(key as f32));
    }
}

/// Keys with no value, with values that are no numbers, and with zeros of both signs: each one group, in memory and spilled.
#[test]
fn nulls_nans_and_zeros_are_keys() {
    let key = |index: u64| match index % 8 {
        0 => None,
        1 => Some(f64::NAN),
        2 => Some(-f64::NAN),
        3 => Some(0.0),
        4 => Some(-0.0),
        5 => Some(f64::NEG_INFINITY),
        _ => Some((hash_u64(index) % 3_000) as f64 + 1.0),
    };
    let name = |key: Option<f64>| match key {
        None => "none".to_string(),
        Some(number) if number.is_nan() => "no number".to_string(),
        Some(number) => format!("{}", number + 0.0),
    };
    const RECORDS: u64 = 20_000;
    let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for index in 0..RECORDS {
        let (count, sum) = expected.entry(name(key(index))).or_default();
        (*count, *sum) = (*count + 1, *sum + index);
    }
    for (managed, mode) in [(48, Mode::Batch), (48, Mode::Streaming), (2_000, Mode::Batch)] {
        let environment = environment(managed, mode, 1);
        let found = environment
            .source("records", generate(RECORDS, move |index| (key(index), index)))
            .group_by(first::<(Option<f64>, u64)>())
            .aggregate_final((count(), sum(second())))
            .collect();
        let summary = environment.execute("keys").expect("the job runs");
        assert_eq!(
            summary.spilled_bytes_written() > 0,
            managed < 100,
            "{managed} segments"
        );
        let found = found.take();
        assert_eq!(found.len(), expected.len(), "{managed} segments");
        for (key, result) in found {
            assert_eq!(expected[&name(key)], result, "{managed} segments, {key:?}");
        }
    }
}

/// Few groups are in memory however many and wide the rows are: each group is as wide as a row.
#[test]
fn few_groups_of_wide_rows_spill_nothing() {
    let text = |index: u64| format!("{index} ").repeat(80);
    let environment = environment(96, Mode::Batch, 2);
    let found = environment
        .source(
            "wide",
            generate(20_000, move |index| (index % 50, index, text(index))),
        )
        .rebalance()
        .group_by(first::<(u64, u64, String)>())
        .aggregate((
            count(),
            last_by(forebay::record::third(), second()),
            max(second()),
        ))
        .collect();
    let summary = environment.execute("wide").expect("the job runs");
    assert_eq!(summary.spilled_bytes_written(), 0);
    let found: BTreeMap<_, _> = found.take().into_iter().collect();
    assert_eq!(found.len(), 50);
    for (key, (count, last, greatest)) in found {
        let wanted = 19_950 + key;
        assert_eq!((count, greatest), (400, wanted));
        assert_eq!(last, text(wanted));
    }
}

/// Every kind of state completes in every budget from the least on, with the same results.
#[test]
fn every_budget_from_the_least_on() {
    const RECORD: usize = 4 << 10;
    let data = visits(1_500, 500);
    let groups = by_user(&data);
    let run = |managed: usize| -> Option<BTreeMap<u64, String>> {
        let environment = environment_for(managed, RECORD, Mode::Batch, 1);
        let source = || {
            environment
                .source("visits", from_items(data.clone()))
                .group_by(Visit::user)
        };
        macro_rules! run {
            ($($aggregate:expr),+ $(,)?) => {{
                let mut all = BTreeMap::<u64, String>::new();
                $({
                    let found = source().aggregate($aggregate).collect();
                    match environment.execute("budget") {
                        Ok(_) => {}
                        Err(error) => {
                            let message = error.to_string();
                            assert!(message.contains("raise memory.managed_size"), "{managed} segments: {message}");
                            return None;
                        }
                    }
                    for (user, out) in found.take() {
                        *all.entry(user).or_default() += &format!("{out:?};");
                    }
                    assert_eq!(environment.runtime().manager().outstanding(), 0);
                })+
                all
            }};
        }
        Some(run!(
            (
                count(),
                sum(Visit::amount),
                max(Visit::at),
                bool_and(Visit::is_member)
            ),
            (
                var(Visit::amount),
                stddev(Visit::amount),
                avg_of(|visit: VisitView<'_>| visit.at)
            ),
            (
                first_by(Visit::amount, Visit::at),
                min_by(Visit::at, Visit::weight)
            ),
            (min(Visit::page), max_by(Visit::page, Visit::at)),
            collect_list(Visit::amount),
            collect_set(Visit::page),
            count_distinct(Visit::referrer),
            approx_count_distinct(Visit::at),
            stateful(Histogram),
        ))
    };
    let wanted = run(4_000).expect("it is enough");
    assert_eq!(wanted.len(), groups.len());
    let mut least = None;
    for managed in (8..64).chain((64..400).step_by(37)) {
        match run(managed) {
            Some(found) => {
                least.get_or_insert(managed);
                assert!(found == wanted, "{managed} segments: other results");
            }
            None => assert_eq!(
                least, None,
                "{managed} segments are too few, and less were enough"
            ),
        }
    }
    assert!(least.is_some_and(|least| least < 40), "{least:?}");
}
