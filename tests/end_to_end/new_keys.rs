//! Aggregations whose keys are new for a long time: their rows are put aside and aggregated by partition.

use forebay::record::{first, second};
use forebay::source::generate;
use forebay::{Environment, Runtime};
use forebay_memory::hash::hash_u64;
use forebay_memory::spill::SimulatedFaults;
use forebay_memory::{MemoryManager, Plan, SpillStore};
use std::collections::BTreeMap;

/// How often each key of `key_of` comes, and the sum of its rows' numbers, by a job with so many segments of 4 KiB; how many
/// segments it held at most, and whether it spilled.
fn check(managed: usize, rows: u64, key_of: fn(u64) -> u64) -> (usize, bool) {
    let plan = Plan::with_segments(managed, 256, 4096).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(managed, 256, 4096).expect("it is little memory");
    let store = SpillStore::simulated(1, SimulatedFaults::default());
    let runtime = Runtime::from_parts(plan, manager, store);
    let environment = Environment::new(runtime.clone()).with_parallelism(1);
    let pairs = environment.source("pairs", generate(rows, move |index| (key_of(index), index)));
    let sums = pairs
        .group_by(first())
        .aggregate((forebay::aggregate::count(), forebay::aggregate::sum(second())))
        .collect();
    let summary = environment.execute("new keys").expect("the job runs");
    let mut expected: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for index in 0..rows {
        let (count, sum) = expected.entry(key_of(index)).or_default();
        (*count, *sum) = (*count + 1, *sum + index);
    }
    let found: Vec<(u64, (u64, u64))> = sums.take().into_iter().collect();
    assert_eq!(found.len(), expected.len(), "each key comes once");
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected);
    assert_eq!(runtime.manager().outstanding(), 0);
    let peak = runtime.manager().stats().managed_peak;
    (peak, summary.spilled_bytes_written() > 0)
}

/// Rows that are put aside are packed, pages are not: where every key is new, memory is enough for more of them.
#[test]
fn rows_of_new_keys_are_packed() {
    const KEYS: u64 = 100_000;
    let packed = (KEYS as usize * 24).div_ceil(4096);
    let (peak, has_spilled) = check(2000, KEYS, hash_u64);
    assert!(!has_spilled);
    assert!(
        peak < packed * 3 / 2,
        "{peak} segments held for {packed} segments of entries"
    );
}

/// Logs in memory are written for as much as does not fit, and what was written and what was not are one.
#[test]
fn what_does_not_fit_is_written() {
    for managed in [64, 100, 300, 500, 580, 750] {
        let (_, has_spilled) = check(managed, 100_000, hash_u64);
        assert_eq!(has_spilled, managed < 600, "{managed}");
    }
}

/// When keys begin to come again, rows are folded as they come: the memory is that of the groups, not of the rows.
#[test]
fn keys_that_come_again_are_folded() {
    let (peak, has_spilled) = check(2000, 400_000, |index| {
        hash_u64(if index < 50_000 { index } else { index % 50_000 })
    });
    assert!(!has_spilled);
    assert!(peak < 1000, "{peak} segments for 50,000 groups of 24 bytes");
    // The same with too little memory for the groups.
    check(150, 300_000, |index| hash_u64(index % 50_000));
}

/// One key with most of the rows must not fill a log, whatever the others do.
#[test]
fn a_heavy_key_is_folded() {
    let (peak, _) = check(2000, 300_000, |index| {
        hash_u64(if index < 40_000 || index % 8 == 0 {
            index
        } else {
            7
        })
    });
    assert!(peak < 2000, "{peak} segments");
}
