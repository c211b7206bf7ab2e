//! Sorting by runs on disk: thousands of tiny runs, records of all sizes, every budget, and disks that fail or lie.

mod spill_support;

use forebay_memory::sort::*;
use forebay_memory::spill::*;
use forebay_memory::{ErrorKind, MemoryManager, Result};
use spill_support::Random;

const SEGMENT: usize = 4096;

/// Rows of a size, a key and a number, and as many bytes more as their size says; ordered by key and number.
fn row(key: u64, number: u64, size: usize) -> Vec<u8> {
    let mut row = vec![number as u8; size];
    row[..4].copy_from_slice(&(size as u32).to_le_bytes());
    row[8..16].copy_from_slice(&key.to_le_bytes());
    row[16..24].copy_from_slice(&number.to_le_bytes());
    row
}

fn order() -> ColumnOrder {
    let integer = |offset| KeyColumn {
        offset,
        width: 8,
        kind: ColumnKind::Integer { signed: false },
        descending: false,
    };
    ColumnOrder::new(0, vec![integer(8), integer(16)])
}

fn key_of(row: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().unwrap());
    (word(8), word(16))
}

/// Rows that were merged.
#[derive(Default)]
struct Merged(Vec<Vec<u8>>);

impl RowOutput for Merged {
    fn push(&mut self, row: &[u8]) -> bool {
        self.0.push(row.to_vec());
        !self.0.len().is_multiple_of(100)
    }

    fn fill(&mut self, _: impl FnOnce(&mut [u8]) -> usize) -> bool {
        unreachable!("rows with entries are pushed")
    }
}

/// Sorts rows with so many segments, all of which leave after every `spilled_each` rows where that is not 0; how many merges to
/// further runs there were.
fn sorted(
    rows: &[Vec<u8>],
    store: &SpillStore,
    segments: usize,
    spilled_each: usize,
) -> Result<(Vec<Vec<u8>>, usize)> {
    let manager = MemoryManager::with_segments(segments, 8, SEGMENT)?;
    let sort = || {
        let budget = manager.budget("sort", 8.min(segments), segments)?;
        let mut sorter = Sorter::new(Located::new(order(), SEGMENT), budget, store.handle("sort")?);
        for (number, row) in rows.iter().enumerate() {
            sorter.push(row)?;
            if spilled_each > 0 && (number + 1) % spilled_each == 0 {
                sorter.spill_to(0)?;
            }
        }
        let (runs, largest) = (sorter.spilled_runs(), sorter.largest());
        sorter.prepare_merge(runs, largest)?;
        let mut sorted = sorter.finish()?;
        let pieces = std::mem::take(&mut sorted.runs).into_iter().map(Run::whole);
        let mut merger = Merger::new(pieces, true, std::mem::take(&mut sorted.reserved));
        let mut merged = Merged::default();
        while merger.step(&sorted.order, &sorted.budget, &mut sorted.handle, &mut merged)? == Step::More {}
        Ok((merged.0, merger.merges()))
    };
    let result = sort();
    assert_eq!(manager.outstanding(), 0, "segments are out");
    assert_eq!(store.used_bytes(), 0, "extents are in use");
    result
}

fn expected(rows: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| key_of(row));
    rows
}

fn store(seed: u64, faults: SimulatedFaults) -> (SimulatedDisk, SpillStore) {
    let disk = SimulatedDisk::new(seed, faults);
    let config = SpillConfig {
        workspace_bytes: 64 << 10,
        handles: 1,
        extent_bytes: 256 << 10,
        ..SpillConfig::default()
    };
    let store = SpillStore::on_simulated(&disk, &config).expect("a store on a simulated disk");
    (disk, store)
}

/// Rows of 24 bytes to several segments; a third of them have one key.
fn mixed(seed: u64, count: u64, largest: usize) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    let rows = (0..count).map(|number| {
        let key = match random.below(3) {
            0 => 7,
            _ => random.next() >> random.below(60),
        };
        let size = match random.below(40) {
            0 => 24 + random.below(largest - 24),
            1 => SEGMENT - random.below(100),
            _ => 24 + random.below(200),
        };
        row(key, number, size)
    });
    rows.collect()
}

#[test]
fn ten_thousand_tiny_runs_are_merged_in_steps() {
    let mut random = Random(1);
    let rows: Vec<Vec<u8>> = (0..10_000).map(|number| row(random.next(), number, 24)).collect();
    let (_, store) = store(1, SimulatedFaults::default());
    let (merged, merges) = sorted(&rows, &store, 24, 1).expect("it fits");
    assert!(merged == expected(&rows));
    assert!(merges > 400, "{merges} merges of runs of one row");
}

#[test]
fn every_budget_from_the_least_on_sorts_records_of_all_sizes() {
    for (largest, step) in [(200, 1), (5 * SEGMENT, 3)] {
        let least = 8 + 2 * largest.div_ceil(SEGMENT);
        for segments in (least..least + 40).step_by(step).chain([100, 300, 1000]) {
            let rows = mixed(segments as u64, 1500, largest.max(SEGMENT));
            let (_, store) = store(
                3,
                SimulatedFaults {
                    delays: true,
                    short_one_in: 5,
                    ..SimulatedFaults::default()
                },
            );
            let segments = segments + 2;
            let (merged, _) = sorted(&rows, &store, segments, 0).expect("the least budget is enough");
            assert!(
                merged == expected(&rows),
                "{segments} segments, rows up to {largest} B"
            );
        }
    }
}

#[test]
fn records_up_to_four_mebibytes_are_sorted() {
    let mut random = Random(4);
    let rows: Vec<Vec<u8>> = (0..400)
        .map(|number| {
            let size = match number % 40 {
                0 => 4 << 20,
                1 => 1 << 20,
                2 => 300 << 10,
                _ => 24 + random.below(5000),
            };
            row(random.next(), number, size)
        })
        .collect();
    let (_, store) = store(4, SimulatedFaults::default());
    let (merged, _) = sorted(&rows, &store, 8 + 2 * 1024 + 200, 0).expect("two of the largest fit");
    assert!(merged == expected(&rows));
}

/// What comes is right or an error that says what happened, whatever the disk does, and nothing is left behind.
#[test]
fn disks_that_fail_or_lie_give_the_right_rows_or_an_error() {
    let (mut right, mut failed) = (0, 0);
    for seed in 0..150u64 {
        let one_in = [3, 20, 100, 400][(seed / 6) as usize % 4];
        let mut faults = SimulatedFaults {
            delays: seed % 2 == 0,
            ..SimulatedFaults::default()
        };
        match seed % 6 {
            0 => faults.read_error_one_in = one_in,
            1 => faults.write_error_one_in = one_in,
            2 => faults.no_space_one_in = one_in,
            3 => faults.torn_one_in = one_in,
            4 => faults.bit_flip_one_in = one_in,
            _ => faults.capacity_bytes = Some(u64::from(one_in) * (16 << 10)),
        }
        let rows = mixed(seed, 2000, 3 * SEGMENT);
        let (disk, store) = store(seed, faults);
        match sorted(&rows, &store, 30, 0) {
            Ok((merged, _)) => {
                right += 1;
                assert!(merged == expected(&rows), "seed {seed}");
            }
            Err(error) => {
                failed += 1;
                assert!(
                    matches!(error.kind(), ErrorKind::Io | ErrorKind::Corrupt),
                    "seed {seed}: {error}"
                );
            }
        }
        drop(store);
        let report = disk.report();
        assert_eq!((report.open_files, report.in_flight), (0, 0), "seed {seed}");
    }
    assert!(right > 10 && failed > 50, "{right} right, {failed} failed");
}
