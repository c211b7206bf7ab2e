//! Aggregations in little memory whose keys are not all as frequent: those that come often stay, and what is written is of the others.

use forebay::aggregate::{collect_set, count, sum};
use forebay::record::{first, second};
use forebay::source::generate;
use forebay::{Environment, Runtime};
use forebay_memory::hash::hash_u64;
use forebay_memory::spill::SimulatedFaults;
use forebay_memory::{MemoryManager, Plan, SpillStore};
use std::collections::BTreeMap;

/// An environment of so many segments of 4 KiB, and its runtime.
fn environment(managed: usize, parallelism: usize) -> (Environment, Runtime) {
    let plan = Plan::with_segments(managed, 256, 4096).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(managed, 256, 4096).expect("it is little memory");
    let store = SpillStore::simulated(1, SimulatedFaults::default());
    let runtime = Runtime::from_parts(plan, manager, store);
    let environment = Environment::new(runtime.clone()).with_parallelism(parallelism);
    (environment, runtime)
}

/// Counts and sums by `key_of`, compared with a plain computation; the bytes that were written.
fn check(managed: usize, rows: u64, key_of: fn(u64) -> u64) -> u64 {
    let (environment, runtime) = environment(managed, 1);
    let pairs = environment.source("pairs", generate(rows, move |index| (key_of(index), index)));
    let sums = pairs
        .group_by(first())
        .aggregate((count(), sum(second())))
        .collect();
    let summary = environment.execute("hot keys").expect("the job runs");
    let mut expected: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for index in 0..rows {
        let (count, sum) = expected.entry(key_of(index)).or_default();
        (*count, *sum) = (*count + 1, *sum + index);
    }
    let found: Vec<(u64, (u64, u64))> = sums.take().into_iter().collect();
    assert_eq!(found.len(), expected.len(), "each key comes once");
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected);
    assert_eq!(runtime.manager().outstanding(), 0);
    assert_eq!(runtime.spill().used_bytes(), 0);
    summary.spilled_bytes_written()
}

/// A key from 0 to 2^20 with a probability of about one over itself, as in Zipf's distribution.
fn harmonic(index: u64) -> u64 {
    let draw = hash_u64(index + 1);
    let octave = draw % 21;
    (1 << octave) | (draw >> 20) & ((1 << octave) - 1)
}

fn one_key_has_half(index: u64) -> u64 {
    if index.is_multiple_of(2) {
        7
    } else {
        hash_u64(index)
    }
}

const ROWS: u64 = 200_000;
/// Of an entry that is written: hash, count, sum.
const ENTRY: u64 = 24;

/// Of skewed keys, 64 segments hold the groups of most rows, and few rows are written; of equally many uniform ones nearly all are.
#[test]
fn rows_of_frequent_keys_are_not_written() {
    let written = check(64, ROWS, harmonic);
    assert!(
        written < ROWS * ENTRY * 3 / 5,
        "{written} of {} bytes",
        ROWS * ENTRY
    );
    let written = check(64, ROWS, |index| hash_u64(index + 1) % 100_000);
    assert!(written > ROWS * ENTRY / 2, "{written} of {} bytes", ROWS * ENTRY);
}

/// The rows of one key are folded where logs are written at once, and when
/// the key comes late as well, to rows that have been put aside.
#[test]
fn a_key_with_half_of_the_rows_is_folded() {
    for managed in [32, 64, 200] {
        let written = check(managed, ROWS, one_key_has_half);
        let of_others = check(managed, ROWS / 2, hash_u64);
        assert!(
            written < of_others + ROWS / 2 * ENTRY / 4,
            "{managed} segments: {written} bytes, {of_others} without the key"
        );
    }
    let late = |index| {
        if index < ROWS / 2 {
            hash_u64(index)
        } else {
            one_key_has_half(index)
        }
    };
    let written = check(64, ROWS, late);
    let of_others = check(64, ROWS * 3 / 4, hash_u64);
    assert!(
        written < of_others + ROWS / 4 * ENTRY / 4,
        "{written} bytes, {of_others} without the key"
    );
}

/// What is hot changes all the time, and every budget ends in the same result.
#[test]
fn what_is_hot_may_change() {
    for managed in [8, 9, 12, 16, 17, 20, 24, 32, 48, 100] {
        check(managed, 60_000, |index| {
            let phase = index / 5_000;
            match index % 4 {
                0 => hash_u64(index),
                1 => phase,
                _ => hash_u64(phase * 1_000 + hash_u64(index) % 300),
            }
        });
    }
}

/// Groups of other kinds: rows that are joined, states with byte strings, texts as keys.
#[test]
fn every_kind_of_group_has_hot_keys() {
    for managed in [90, 120, 200] {
        let (environment, runtime) = environment(managed, 1);
        let key = |index: u64| harmonic(index) % 30_000;
        let pairs = || environment.source("pairs", generate(60_000, move |index| (key(index), index)));
        let reduced = pairs()
            .group_by(first())
            .reduce(|left, right| (left.0, left.1.max(right.1)))
            .count()
            .collect();
        // In order: what was folded in memory comes after what was written before it, and before what is written later.
        let spans = pairs()
            .map(|(key, index)| (key, index, index, true))
            .group_by(first())
            .reduce(|left, right| (left.0, left.1, right.2, left.3 && right.3 && left.2 < right.1))
            .collect();
        let sets = pairs()
            .map(|(key, index)| (key, index % 3))
            .group_by(first())
            .aggregate(collect_set(second()))
            .collect();
        let named = pairs()
            .map(|(key, index)| (format!("key {key}"), index))
            .group_by(first())
            .aggregate(sum(second()))
            .collect();
        environment.execute("kinds").expect("the job runs");
        let mut expected: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        (0..60_000).for_each(|index| expected.entry(key(index)).or_default().push(index));
        assert_eq!(reduced.take(), [expected.len() as u64]);
        let spans = spans.take();
        assert_eq!(spans.len(), expected.len());
        for (key, first, last, is_in_order) in spans {
            let indices = &expected[&key];
            assert!(is_in_order, "{managed} segments, key {key}");
            assert_eq!((Some(&first), Some(&last)), (indices.first(), indices.last()));
        }
        let sets = sets.take();
        assert_eq!(sets.len(), expected.len());
        for (key, set) in sets {
            let mut wanted: Vec<u64> = expected[&key].iter().map(|index| index % 3).collect();
            wanted.sort_unstable();
            wanted.dedup();
            assert_eq!(set.to_vec(), wanted);
        }
        let named: BTreeMap<String, u64> = named.take().into_iter().collect();
        assert_eq!(named.len(), expected.len());
        for (key, indices) in &expected {
            assert_eq!(named[&format!("key {key}")], indices.iter().sum::<u64>());
        }
        assert_eq!(runtime.manager().outstanding(), 0);
    }
}
