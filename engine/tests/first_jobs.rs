//! Whole jobs over every exchange and mode, compared with plain computations.

use forebay::aggregate::{avg, count, max, min, sum};
use forebay::record::{first, second};
use forebay::source::{from_items, generate};
use forebay::{Environment, ErrorKind, Mode, Runtime};
use forebay_memory::Plan;
use std::collections::BTreeMap;

fn environment(managed: usize, segment_size: usize) -> Environment {
    let plan = Plan::with_segments(managed, 256, segment_size).expect("the test's sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
}

fn pair(index: u64) -> (u64, i64) {
    let hash = forebay_memory::hash::hash_u64(index + 1);
    (hash % 1000, (hash >> 40) as i64 & 1023)
}

#[test]
fn maps_filters_and_collects() {
    let environment = environment(64, 4096).with_parallelism(2);
    let even = environment
        .source("numbers", generate(10_000, |index| index))
        .filter(|number| number % 2 == 0)
        .map(|number| number * 10)
        .collect();
    environment.execute("even").expect("the job runs");
    let mut even = even.take();
    even.sort();
    assert_eq!(
        even,
        (0..10_000)
            .filter(|n| n % 2 == 0)
            .map(|n| n * 10)
            .collect::<Vec<_>>()
    );
}

#[test]
fn sums_by_key_in_both_modes() {
    for (mode, parallelism) in [
        (Mode::Batch, 1),
        (Mode::Batch, 2),
        (Mode::Streaming, 2),
        (Mode::Batch, 3),
    ] {
        let environment = environment(64, 4096)
            .with_parallelism(parallelism)
            .with_mode(mode);
        let sums = environment
            .source("pairs", generate(50_000, pair))
            .key_by(first())
            .aggregate((
                count(),
                sum(second()),
                min(second()),
                max(second()),
                avg(second()),
            ))
            .collect();
        environment.execute("sums").expect("the job runs");
        let mut expected: BTreeMap<u64, (u64, i64, i64, i64)> = BTreeMap::new();
        for (key, value) in (0..50_000).map(pair) {
            let entry = expected.entry(key).or_insert((0, 0, i64::MAX, i64::MIN));
            *entry = (
                entry.0 + 1,
                entry.1 + value,
                entry.2.min(value),
                entry.3.max(value),
            );
        }
        let mut results = BTreeMap::new();
        let mut updates = 0;
        // Updates of a key come in order: the last one is the final result.
        for (key, (count, sum, min, max, avg)) in sums.take() {
            updates += 1;
            assert_eq!(avg, sum as f64 / count as f64);
            let last = results.insert(key, (count, sum, min, max));
            assert!(last.is_none_or(|last: (u64, i64, i64, i64)| last.0 < count));
        }
        assert_eq!(results, expected, "{mode:?}, parallelism {parallelism}");
        assert_eq!(updates, if mode == Mode::Streaming { 50_000 } else { 1000 });
    }
}

#[test]
fn a_small_budget_spills_and_gives_the_same() {
    for (mode, managed) in [
        (Mode::Batch, 16),
        (Mode::Streaming, 16),
        (Mode::Batch, 40),
        (Mode::Streaming, 100),
    ] {
        let environment = environment(managed, 4096).with_parallelism(2).with_mode(mode);
        let count = 60_000u64;
        let sums = environment
            .source("pairs", generate(count, |index| (index % 20_011, index as i64)))
            .key_by(first())
            .sum(second())
            .collect();
        let summary = environment.execute("sums").expect("the job runs");
        assert!(summary.spilled_bytes_written() > 0, "{summary}");
        let mut expected: BTreeMap<u64, i64> = BTreeMap::new();
        (0..count).for_each(|index| *expected.entry(index % 20_011).or_default() += index as i64);
        let results: BTreeMap<u64, i64> = sums.take().into_iter().collect();
        assert!(results == expected, "{mode:?}, {managed} segments");
        assert_eq!(environment.runtime().manager().outstanding(), 0);
        assert_eq!(environment.runtime().spill().used_bytes(), 0);
    }
}

#[test]
fn unions_forks_broadcasts_and_rebalances() {
    let environment = environment(64, 4096).with_parallelism(2);
    let (left, right) = environment
        .source("numbers", generate(1000, |index| index))
        .fork();
    let all = left
        .union(right.map(|number| number + 1000))
        .rebalance()
        .map(|n| n)
        .name("shift")
        .parallelism(3);
    let everywhere = all
        .broadcast()
        .map(|n| n)
        .name("everywhere")
        .parallelism(2)
        .collect();
    environment.execute("shapes").expect("the job runs");
    let mut everywhere = everywhere.take();
    everywhere.sort();
    assert_eq!(everywhere, (0..2000).flat_map(|n| [n, n]).collect::<Vec<_>>());
}

#[test]
fn strings_and_flat_maps() {
    let environment = environment(64, 4096).with_parallelism(2);
    let lines: Vec<String> = (0..500)
        .map(|n| format!("line {n} of text {}", "x".repeat(n % 50)))
        .collect();
    let words = environment
        .source("lines", from_items(lines.clone()))
        .flat_map(|line: &str, out: &mut forebay::operator::Collector<'_, String>| {
            line.split(' ').for_each(|word| out.push(word));
        })
        .rebalance()
        .collect();
    environment.execute("words").expect("the job runs");
    let mut words = words.take();
    words.sort();
    let mut expected: Vec<String> = lines
        .iter()
        .flat_map(|line| line.split(' '))
        .map(String::from)
        .collect();
    expected.sort();
    assert_eq!(words, expected);
}

#[test]
fn records_larger_than_a_segment_pass_every_exchange() {
    let environment = environment(64, 4096).with_parallelism(2);
    let lengths = environment
        .source(
            "texts",
            generate(50, |index| (index, "y".repeat(index as usize * 997))),
        )
        .key_by(first())
        .ungroup()
        .map(|(index, text)| (index, text.len() as u64))
        .collect();
    environment.execute("large").expect("the job runs");
    let mut lengths = lengths.take();
    lengths.sort();
    assert_eq!(
        lengths,
        (0..50).map(|index| (index, index * 997)).collect::<Vec<_>>()
    );
}

#[test]
fn a_panic_fails_the_job_with_operator_and_position() {
    let environment = environment(64, 4096).with_parallelism(1);
    environment
        .source("numbers", generate(10_000, |index| index))
        .map(|number| {
            if number == 6_000 {
                panic!("six thousand")
            } else {
                number
            }
        })
        .name("picky")
        .blackhole();
    let error = environment.execute("panics").expect_err("the function panics");
    assert_eq!(error.kind(), ErrorKind::User);
    let message = error.to_string();
    assert!(message.contains("operator \"picky\", record 6001"), "{message}");
    assert!(message.contains("six thousand"), "{message}");
    assert_eq!(environment.runtime().manager().outstanding(), 0);
}
