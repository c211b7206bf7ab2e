//! Sorting by runs on disk: thousands of tiny runs, records of all sizes, every budget, and disks that fail or lie.

mod spill_support;

use forebay_memory::sort::kernel::Bits;
use forebay_memory::sort::*;
use forebay_memory::spill::*;
use forebay_memory::{ErrorKind, MemoryManager, Result, SegmentSource};
use spill_support::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Pushes rows, those that leave meanwhile a few at a time: a step writes no more than a few, and what it holds meanwhile can be taken
/// from it, but for what it writes with.
fn push_in_steps<I: Items>(sorter: &mut Sorter<I>, mut rows: &[u8]) -> Result<()>
where
    I::Order: Clone,
{
    const WORK: usize = 50;
    while !rows.is_empty() {
        let before = sorter.spill_stats().raw_bytes_written as usize;
        rows = &rows[sorter.push_some(rows, WORK)?..];
        let written = sorter.spill_stats().raw_bytes_written as usize - before;
        // Items that are rows are written a segment at a time, others 16 at a time; and what was gathered before.
        let most = 16 * WORK + SEGMENT.max(16 * sorter.largest()) + 2 * SEGMENT;
        assert!(written <= most, "{written} bytes in a step, over {most}");
        let held = sorter.budget().held();
        let revocable = sorter.revocable();
        assert!(
            revocable <= held && held <= revocable + 1,
            "{revocable} of {held}"
        );
    }
    Ok(())
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
            push_in_steps(&mut sorter, row)?;
            if spilled_each > 0 && (number + 1) % spilled_each == 0 {
                sorter.spill_to(0)?;
            }
        }
        let (runs, largest) = (sorter.spilled_runs(), sorter.largest());
        while !sorter.prepare_merge(runs, largest, 1000)? {}
        while !sorter.sort(1000) {}
        let mut sorted = sorter.finish()?;
        let pieces = std::mem::take(&mut sorted.runs).into_iter().map(Run::whole);
        let mut merger = Merger::new(pieces, true, std::mem::take(&mut sorted.reserved));
        let mut merged = Merged::default();
        while merger.step(&sorted.form, &sorted.budget, &mut sorted.handle, &mut merged)? == Step::More {}
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

/// What rows are sorted with is given up before rows have to leave.
#[test]
fn spares_are_given_up_before_rows_leave() {
    let (_disk, store) = store(12, SimulatedFaults::default());
    let manager = MemoryManager::with_segments(2000, 8, SEGMENT).unwrap();
    // Another has a share: this one's is half of the memory, and when it has filled half of that it takes spares.
    let _other = manager.budget("other", 8, 2000).unwrap();
    let budget = manager.budget("sort", 8, 2000).unwrap();
    let mut sorter = Sorter::new(
        Located::new(order(), SEGMENT),
        budget,
        store.handle("sort").unwrap(),
    );
    let mut number = 0;
    let mut before = 0;
    // A row takes a segment or two, of rows and of items; spares come all at once.
    while sorter.budget().held() < before + 10 {
        before = sorter.budget().held();
        sorter.push(&row(number * 7919 % 1000, number, 200)).unwrap();
        number += 1;
    }
    let (held, spares) = (sorter.budget().held(), sorter.budget().held() - before - 2);
    assert!(spares > 10, "{spares} spares");
    assert!(!sorter.give_up_spares(held - spares), "no rows leave");
    assert_eq!(sorter.budget().held(), held - spares);
    assert!(sorter.give_up_spares(before / 2), "rows must leave");
    assert_eq!(sorter.spilled_runs(), 0);
    sorter.spill_to(before / 2).unwrap();
    assert!(sorter.spilled_runs() > 0 && sorter.budget().held() <= before / 2);
}

/// Two sorters, each of which has let rows leave, share out those that they still have: each has a range of these then, and with the runs
/// they are all rows in order.
#[test]
fn numbers_are_shared_out_where_some_have_left() {
    const SEGMENTS: usize = 500;
    let (_disk, store) = store(11, SimulatedFaults::default());
    let manager = MemoryManager::with_segments(SEGMENTS, 8, SEGMENT).unwrap();
    let column = KeyColumn {
        offset: 0,
        width: 8,
        kind: ColumnKind::Integer { signed: false },
        descending: false,
    };
    let Some(NarrowRow::Number(form)) = NarrowRow::of(8, &[column]) else {
        panic!("a row of an integer is a number");
    };
    let order = ColumnOrder::new(8, vec![column]);
    let mut sorters: Vec<_> = (0..2)
        .map(|_| {
            let budget = manager.budget("sort", 8, SEGMENTS).unwrap();
            Sorter::new(
                Narrow::new(order.clone(), form),
                budget,
                store.handle("sort").unwrap(),
            )
        })
        .collect();
    let mut random = Random(11);
    // 586 segments of them.
    let mut numbers: Vec<u64> = (0..300_000).map(|_| random.next()).collect();
    for (number, rows) in numbers.chunks(500).enumerate() {
        let rows: Vec<u8> = rows.iter().flat_map(|row| row.to_le_bytes()).collect();
        sorters[number % 2].push(&rows).unwrap();
    }
    assert!(
        sorters.iter().all(|sorter| sorter.spilled_runs() > 0),
        "rows have left"
    );
    let bits = sorters.iter().map(|sorter| sorter.shared_bits().unwrap());
    let (all, any, most) = bits.fold((u64::MAX, 0, usize::MAX), |(all, any, most), own| {
        (all & own.0, any | own.1, most.min(own.2))
    });
    assert!(most >= 8, "there is memory for {most} buckets");
    let bits = Bits::highest(all ^ any, 3);
    let runs = sorters.iter().map(Sorter::spilled_runs).sum();
    for sorter in &mut sorters {
        while !sorter.prepare_merge(runs, 8, 1000).unwrap() {}
    }
    let distributed: Vec<_> = sorters
        .iter_mut()
        .map(|sorter| {
            loop {
                if let Some(buckets) = sorter.distribute(bits, 1000) {
                    break buckets;
                }
            }
        })
        .collect();
    assert!(
        distributed.iter().all(|buckets| buckets.len() == 8),
        "all are distributed"
    );
    let mut distributed = distributed.into_iter().map(Vec::into_iter);
    let (first, second) = distributed.next().zip(distributed.next()).unwrap();
    let mut buckets = first.zip(second).map(|(mut bucket, mut other)| {
        bucket.append(&mut other);
        bucket
    });
    let mut sorted = Vec::new();
    for mut sorter in sorters {
        let part: Vec<_> = buckets.by_ref().take(4).collect();
        sorter.take_buckets(part.into_iter(), bits);
        while !sorter.sort(1000) {}
        sorted.push(sorter.finish().unwrap());
    }
    let runs: Vec<_> = sorted
        .iter_mut()
        .flat_map(|sorted| std::mem::take(&mut sorted.runs))
        .collect();
    let ranges = runs.iter().filter_map(|run| match run {
        Run::Memory(run) => {
            let key = |row| run.row_at(row, &mut Scratch::default()).0;
            Some((key(0), key(run.rows() - 1), run.rows()))
        }
        Run::Spilled(_) => None,
    });
    let ranges: Vec<_> = ranges.collect();
    assert!(
        matches!(ranges[..], [one, other] if one.1 < 1 << 63 && other.0 >= 1 << 63),
        "each has a half of all keys: {ranges:?}"
    );
    assert!(
        ranges.iter().all(|range| range.2 > 75_000),
        "half of the rows are in memory: {ranges:?}"
    );
    let mut packed = Packed {
        stride: 8,
        ..Packed::default()
    };
    let own = &mut sorted[0];
    let mut merger = Merger::new(
        runs.into_iter().map(Run::whole),
        true,
        std::mem::take(&mut own.reserved),
    );
    while merger
        .step(&own.form, &own.budget, &mut own.handle, &mut packed)
        .unwrap()
        == Step::More
    {}
    numbers.sort_unstable();
    let found = packed
        .rows
        .chunks_exact(8)
        .map(|row| u64::from_le_bytes(row.try_into().unwrap()));
    assert!(found.eq(numbers), "all come in order");
    drop((merger, sorted));
    assert_eq!(manager.outstanding(), 0, "segments are out");
    assert_eq!(store.used_bytes(), 0, "extents are in use");
}

/// What sorters hold that merge their runs together.
fn together<I: Items>(sorters: &[Sorter<I>], largest: usize) -> Together
where
    I::Order: Clone,
{
    Together {
        runs: sorters.iter().map(Sorter::spilled_runs).sum(),
        largest,
        spilled_bytes: sorters.iter().map(Sorter::spilled_bytes).sum(),
        held: sorters.iter().map(Sorter::held).collect(),
        free: sorters[0].budget().free_in_pool(),
    }
}

/// One sorter has far more than its share, in one with that of others and what nobody has a few segments are missing, or none: no more
/// leaves, in one run; and where others take what was free, who is to merge still finds what it needs.
#[test]
fn what_leaves_for_merging_together_is_what_is_missing() {
    const SEGMENTS: usize = 240;
    // Segments of rows of the first sorter and of the second; how many others may have in all; how many they have when it is looked at
    // what is free, and how many more before memory is taken for merging; whether some are missing then.
    for (rows, rivals, taken, later, is_missing) in [
        ([150, 40], 0, 0, 0, false),
        ([173, 40], 0, 0, 0, true),
        ([113, 100], 0, 0, 0, true),
        // Others have a third of the memory as their share, and use nothing of it, or not all.
        ([100, 80], SEGMENTS, 0, 0, false),
        ([143, 50], SEGMENTS, 0, 0, false),
        ([143, 50], SEGMENTS, 20, 0, true),
        // They take it later.
        ([143, 50], SEGMENTS, 0, 20, true),
    ] {
        let case = format!("{rows:?}, others may have {rivals}, have {taken}, take {later} more");
        let (_disk, store) = store(13, SimulatedFaults::default());
        let manager = MemoryManager::with_segments(SEGMENTS, 8, SEGMENT).unwrap();
        let rival = manager.budget("rival", usize::from(rivals > 0), rivals).unwrap();
        let mut sorters: Vec<_> = (0..2)
            .map(|_| {
                let budget = manager.budget("sort", 8, SEGMENTS).unwrap();
                Sorter::new(
                    Located::new(order(), SEGMENT),
                    budget,
                    store.handle("sort").unwrap(),
                )
            })
            .collect();
        let mut random = Random(17);
        let mut expected = Vec::new();
        let mut number = 0;
        for (sorter, segments) in sorters.iter_mut().zip(rows) {
            // Three runs first, so that there is something to merge, and to read ahead.
            for until in [50, 50, 50, segments] {
                if sorter.rows() > 0 {
                    sorter.spill_to(0).unwrap();
                }
                while sorter.held().rows < until {
                    assert!(number < 200_000, "{case}: there is no room for so many rows");
                    let row = row(random.next(), number, 100);
                    sorter.push(&row).unwrap();
                    expected.push(row);
                    number += 1;
                }
            }
            assert_eq!(sorter.spilled_runs(), 3);
        }
        let mut theirs: Vec<_> = (0..taken).map(|_| rival.try_take().unwrap()).collect();
        let together = together(&sorters, 100);
        for (index, sorter) in sorters.iter_mut().enumerate().rev() {
            while !sorter.keep_to_share(&together, index, 1000).unwrap() {}
        }
        theirs.extend(std::iter::from_fn(|| rival.try_take()).take(later));
        rival.withdraw();
        for sorter in &mut sorters {
            while !sorter
                .prepare_merge(together.runs, together.largest, 1000)
                .unwrap()
            {}
        }
        let made = sorters.iter().map(Sorter::spilled_runs).sum::<usize>() - together.runs;
        let sum = |held: &mut dyn Iterator<Item = Held>, of: fn(Held) -> usize| held.map(of).sum::<usize>();
        let had = sum(&mut together.held.iter().copied(), |held| held.rows);
        let left = had - sum(&mut sorters.iter().map(Sorter::held), |held| held.rows);
        let merging = sum(&mut sorters.iter().map(Sorter::held), |held| held.spares);
        let missing = (had + merging).saturating_sub(SEGMENTS - taken - later);
        // Each has what runs were written with besides, and rows leave by a segment of entries, and 7 of rows.
        assert!(
            left <= missing + 2 + 8 * made,
            "{case}: {left} segments left in {made} runs, {missing} were missing"
        );
        assert_eq!(
            (missing > 0, made > 0),
            (is_missing, is_missing),
            "{case}: {left} left, {merging} to merge with"
        );
        assert!(made <= 2, "{case}: {left} segments left in {made} runs");
        drop((theirs, rival));
        let mut sorted: Vec<_> = sorters
            .into_iter()
            .map(|sorter| sorter.finish().unwrap())
            .collect();
        let pieces: Vec<_> = (sorted.iter_mut())
            .flat_map(|sorted| std::mem::take(&mut sorted.runs))
            .map(Run::whole)
            .collect();
        let mut merged = Merged::default();
        let Sorted {
            form,
            budget,
            reserved,
            handle,
            ..
        } = &mut sorted[0];
        let mut merger = Merger::new(pieces, false, std::mem::take(reserved));
        while merger.step(form, budget, handle, &mut merged).unwrap() == Step::More {}
        expected.sort_by_key(|row| key_of(row));
        assert!(merged.0 == expected, "{case}: all come in order");
    }
}

/// A sorter of small rows that has at most `most` segments, with three runs on disk, whose rows took the first, and rows in memory,
/// that take the second of some segments.
fn with_runs(
    manager: &MemoryManager,
    most: usize,
    store: &SpillStore,
    [spilled, segments]: [usize; 2],
) -> Sorter<Located<ColumnOrder>> {
    let budget = manager.budget("sort", 8, most).unwrap();
    let mut sorter = Sorter::new(
        Located::new(order(), SEGMENT),
        budget,
        store.handle("sort").unwrap(),
    );
    let mut random = Random(19);
    for until in [spilled, spilled, spilled, segments] {
        if sorter.rows() > 0 {
            sorter.spill_to(0).unwrap();
        }
        while sorter.held().rows < until {
            assert!(sorter.rows() < 200_000, "there is no room for so many rows");
            sorter.push(&row(random.next(), sorter.rows(), 100)).unwrap();
        }
    }
    assert_eq!(sorter.spilled_runs(), 3);
    sorter
}

/// Others take all that rows leave, up to their share: the rows that are more than the sorter's own leave in few runs.
#[test]
fn rows_whose_memory_others_take_leave_in_few_runs() {
    const SEGMENTS: usize = 1000;
    let (_disk, store) = store(14, SimulatedFaults::default());
    let manager = MemoryManager::with_segments(SEGMENTS, 8, SEGMENT).unwrap();
    let rival = manager.budget("rival", 8, SEGMENTS).unwrap();
    let mut sorter = with_runs(&manager, SEGMENTS, &store, [400, 900]);
    let (runs, mut theirs) = (sorter.spilled_runs(), Vec::new());
    let mut take = || {
        while rival.held() < rival.fair_share()
            && let Some(segment) = rival.try_take()
        {
            theirs.push(segment);
        }
        rival.withdraw();
        theirs.len()
    };
    take();
    while !sorter.prepare_merge(runs, 100, usize::MAX).unwrap() {
        take();
    }
    assert!(take() >= SEGMENTS / 2 - 1, "{} segments are another's", take());
    assert!(sorter.budget().held() >= SEGMENTS / 2 - SEGMENTS / 16);
    let made = sorter.spilled_runs() - runs;
    assert!((1..=3).contains(&made), "{made} runs more");
}

/// What was to be read ahead with because it was free, and is not any more, is given up: nobody is asked for it.
#[test]
fn nobody_is_asked_for_what_was_free() {
    const SEGMENTS: usize = 1000;
    let (_disk, store) = store(15, SimulatedFaults::default());
    let manager = MemoryManager::with_segments(SEGMENTS, 8, SEGMENT).unwrap();
    let rival = manager.budget("rival", 8, SEGMENTS).unwrap();
    let mut sorter = with_runs(&manager, SEGMENTS, &store, [20, 20]);
    let together = together(std::slice::from_ref(&sorter), 100);
    while !sorter.keep_to_share(&together, 0, usize::MAX).unwrap() {}
    let theirs: Vec<_> = std::iter::from_fn(|| rival.try_take()).collect();
    rival.withdraw();
    rival.set_revocable(theirs.len(), 1);
    assert!(!sorter.prepare_merge(together.runs, 100, usize::MAX).unwrap());
    assert_eq!(rival.revocation_wanted(), 0, "{} are another's", theirs.len());
    // Though others are asked for what is denied within the share.
    assert!(sorter.budget().reserve(100).is_err() && rival.revocation_wanted() > 0);
}

/// What a sorter that has more than its share has sorted with, and does not need for merging, is given back.
#[test]
fn no_more_is_kept_for_merging_than_is_needed() {
    const SEGMENTS: usize = 2000;
    let (_disk, store) = store(16, SimulatedFaults::default());
    let manager = MemoryManager::with_segments(SEGMENTS, 8, SEGMENT).unwrap();
    let _other = manager.budget("other", 8, SEGMENTS).unwrap();
    let mut sorter = with_runs(&manager, SEGMENTS, &store, [20, 1200]);
    let before = sorter.held().spares;
    while !sorter.prepare_merge(3, 100, usize::MAX).unwrap() {}
    // Four for runs, and a sixteenth of three times 20.
    let after = sorter.held().spares;
    assert!(
        before > 50 && (4..10).contains(&after),
        "{before} before, {after} after"
    );
}

/// Sorters that merge their runs together each find a share of the memory to read them ahead, however unevenly rows have come and
/// whoever comes first; and nothing leaves for that where there is room for all.
#[test]
fn sorters_find_shares_of_the_memory_to_merge_with() {
    const SEGMENTS: usize = 240;
    for (part, rows) in [(2, 100_000), (3, 100_000), (10, 100_000), (5, 9_000)] {
        let (_disk, store) = store(13, SimulatedFaults::default());
        let manager = MemoryManager::with_segments(SEGMENTS, 8, SEGMENT).unwrap();
        let mut sorters: Vec<_> = (0..2)
            .map(|_| {
                let budget = manager.budget("sort", 8, SEGMENTS).unwrap();
                Sorter::new(
                    Located::new(order(), SEGMENT),
                    budget,
                    store.handle("sort").unwrap(),
                )
            })
            .collect();
        let mut random = Random(13);
        let mut all = Vec::new();
        for number in 0..rows {
            let row = row(random.next(), number, 100);
            sorters[usize::from(number % part == 0)].push(&row).unwrap();
            all.push(row);
        }
        let together = together(&sorters, 100);
        let before: Vec<_> = sorters.iter().map(Sorter::spilled_runs).collect();
        for (index, sorter) in sorters.iter_mut().enumerate() {
            while !sorter.keep_to_share(&together, index, 1000).unwrap() {}
        }
        let mut sorted = Vec::new();
        for (mut sorter, before) in sorters.into_iter().zip(before) {
            while !sorter
                .prepare_merge(together.runs, together.largest, 1000)
                .unwrap()
            {}
            let has_left = sorter.spilled_runs() > before;
            while !sorter.sort(1000) {}
            sorted.push((sorter.finish().unwrap(), has_left));
        }
        let found = sorted.iter().map(|(sorted, _)| sorted.reserved.len());
        let (least, most) = (found.clone().min().unwrap(), found.max().unwrap());
        let have_left = sorted.iter().any(|(_, has_left)| *has_left);
        match rows {
            100_000 => assert!(
                least >= SEGMENTS / 3 && most <= SEGMENTS / 2,
                "{least} and {most} segments, one of {part} rows in the second"
            ),
            _ => assert!(!have_left, "there is room for {together:?}"),
        }
    }
}

/// Rows of fixed size that were merged, in pieces of odd sizes.
#[derive(Default)]
struct Packed {
    rows: Vec<u8>,
    stride: usize,
    calls: usize,
}

impl RowOutput for Packed {
    fn push(&mut self, row: &[u8]) -> bool {
        self.rows.extend_from_slice(row);
        !self.rows.len().is_multiple_of(7 * self.stride)
    }

    fn fill(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        self.calls += 1;
        let start = self.rows.len();
        let room = (1 + self.calls * 37 % 301) * self.stride;
        self.rows.resize(start + room, 0);
        let written = write(&mut self.rows[start..]);
        self.rows.truncate(start + written * self.stride);
        !self.calls.is_multiple_of(3)
    }
}

/// Sorts rows of fixed size as items of a form with so many segments, as one of several subtasks would that merge `parts` of all;
/// how many merges to further runs there were.
fn sorted_items<I: Items>(
    rows: &[u8],
    items: impl Fn() -> I,
    segments: usize,
    (parts, spilled_each): (usize, usize),
    are_in_order: bool,
) -> Result<(Vec<u8>, usize)>
where
    I::Order: Clone,
{
    let (_, store) = store(
        segments as u64,
        SimulatedFaults {
            delays: true,
            short_one_in: 7,
            ..SimulatedFaults::default()
        },
    );
    let manager = MemoryManager::with_segments(segments, 8, SEGMENT)?;
    let stride = items().order().stride();
    let sort = || {
        let budget = manager.budget("sort", 8.min(segments), segments)?;
        let mut sorter = Sorter::new(items(), budget, store.handle("sort")?);
        if are_in_order {
            sorter = sorter.of_sorted();
        }
        for (number, rows) in rows.chunks(97 * stride).enumerate() {
            sorter.push(rows)?;
            if spilled_each > 0 && (number + 1) % spilled_each == 0 {
                sorter.spill_to(0)?;
            }
        }
        let (runs, largest) = (sorter.spilled_runs(), sorter.largest());
        while !sorter.prepare_merge(runs, largest, 1000)? {}
        while !sorter.sort(1000) {}
        let mut sorted = sorter.finish()?;
        let cuts = split(
            &sorted.runs,
            parts,
            sorted.form.order(),
            &mut sorted.handle,
            SEGMENT,
        )?;
        let mut packed = Packed {
            stride,
            ..Packed::default()
        };
        let mut merges = 0;
        for part in 0..parts {
            let pieces = sorted.runs.iter().enumerate().map(|(index, run)| Piece {
                run: run.clone(),
                from: cuts[part][index],
                to: cuts.get(part + 1).map_or(run.rows(), |next| next[index]),
            });
            let mut merger = Merger::new(pieces, parts == 1, std::mem::take(&mut sorted.reserved));
            while merger.step(&sorted.form, &sorted.budget, &mut sorted.handle, &mut packed)? == Step::More {}
            merges += merger.merges();
        }
        Ok((packed.rows, merges))
    };
    let result = sort();
    assert_eq!(manager.outstanding(), 0, "segments are out");
    assert_eq!(store.used_bytes(), 0, "extents are in use");
    result
}

/// Numbers and pairs come as by sorting, whatever leaves memory, in one merge or in several; pairs of which only one is key too.
#[test]
fn numbers_and_pairs_that_leave_memory_come_in_order() {
    let column = |offset, width, descending| KeyColumn {
        offset,
        width,
        kind: ColumnKind::Integer { signed: false },
        descending,
    };
    let forms = [
        (8, vec![column(0, 8, false)]),
        (8, vec![column(0, 8, true)]),
        (4, vec![column(0, 4, false)]),
        (2, vec![column(0, 2, true)]),
        (16, vec![column(0, 8, false)]),
        (16, vec![column(8, 8, true), column(0, 8, false)]),
        (8, vec![column(4, 2, false)]),
        (5, vec![column(1, 2, true)]),
    ];
    let (mut merges, mut seed) = (0, 0);
    for (stride, columns) in forms {
        for (segments, how) in [
            (8, (1, 0)),
            (9, (1, 11)),
            (13, (2, 0)),
            (24, (3, 1)),
            (60, (1, 0)),
            (60, (2, 0)),
            (400, (2, 0)),
        ] {
            for few_keys in [false, true] {
                seed += 1;
                let mut random = Random(seed);
                let count = 12_000 + random.below(2000);
                let mut rows = vec![0; count * stride];
                for row in rows.chunks_exact_mut(stride) {
                    for byte in row {
                        *byte = match few_keys {
                            true => random.below(2) as u8 * 255,
                            false => random.next() as u8,
                        };
                    }
                }
                let order = ColumnOrder::new(stride, columns.clone());
                let key = |row: &[u8]| {
                    let word = |column: &KeyColumn| {
                        let mut word = [0; 8];
                        word[..column.width].copy_from_slice(&row[column.offset..][..column.width]);
                        let word = u64::from_le_bytes(word);
                        if column.descending { !word } else { word }
                    };
                    columns.iter().map(word).collect::<Vec<u64>>()
                };
                let mut expected: Vec<&[u8]> = rows.chunks_exact(stride).collect();
                expected.sort_by_key(|row| (key(row), row.to_vec()));
                for are_in_order in [false, true] {
                    let mut rows = rows.clone();
                    if are_in_order {
                        // In the order of keys, and in no order of what is beside them.
                        let mut sorted: Vec<&[u8]> = rows.chunks_exact(stride).collect();
                        sorted.sort_by_key(|row| key(row));
                        rows = sorted.concat();
                    }
                    let found = match NarrowRow::of(stride, &columns).expect("these are narrow") {
                        NarrowRow::Number(form) => {
                            let items = || Narrow::new(order.clone(), form);
                            sorted_items(&rows, items, segments, how, are_in_order)
                        }
                        NarrowRow::Pair(form) => {
                            let items = || Narrow::new(order.clone(), form);
                            sorted_items(&rows, items, segments, how, are_in_order)
                        }
                    };
                    let (found, more) = found.expect("the least budget is enough");
                    merges += more;
                    let case =
                        format!("{stride} B by {columns:?}, {segments} segments, {how:?}, {are_in_order}");
                    let mut found: Vec<&[u8]> = found.chunks_exact(stride).collect();
                    assert!(found.is_sorted_by_key(|row| key(row)), "{case}");
                    found.sort_by_key(|row| (key(row), row.to_vec()));
                    assert!(found == expected, "{case}");
                }
            }
        }
    }
    assert!(merges > 100, "{merges} merges to further runs");
}

/// An order of which only so many comparisons are to be had.
#[derive(Clone)]
struct Limited {
    order: ColumnOrder,
    left: Arc<AtomicUsize>,
}

impl Limited {
    fn count(&self) {
        let before = self.left.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "no more comparisons");
    }
}

impl RowOrder for Limited {
    fn stride(&self) -> usize {
        self.order.stride()
    }

    fn key_size(&self) -> Option<usize> {
        None
    }

    fn word(&self, row: &[u8], from: usize, scratch: &mut KeyScratch) -> u64 {
        self.count();
        self.order.word(row, from, scratch)
    }

    fn compare(&self, left: &[u8], right: &[u8], scratch: &mut KeyScratch) -> std::cmp::Ordering {
        self.count();
        self.order.compare(left, right, scratch)
    }
}

/// Whenever an order panics, while rows come, are sorted, written, divided or merged, all memory and spill space comes back.
#[test]
fn an_order_that_panics_at_any_time_leaves_nothing() {
    let rows = mixed(9, 1500, 2 * SEGMENT);
    for (segments, limit) in [(20, None), (2000, None), (40, Some(500))] {
        let (_, store) = store(9, SimulatedFaults::default());
        let manager = MemoryManager::with_segments(segments, 8, SEGMENT).expect("a manager");
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let sort = || -> Result<usize> {
            let order = Limited {
                order: order(),
                left: left.clone(),
            };
            let budget = manager.budget("sort", 8, segments)?;
            let mut sorter = Sorter::new(Located::new(order, SEGMENT), budget, store.handle("sort")?);
            if let Some(limit) = limit {
                sorter = sorter.with_limit(limit);
            }
            for row in &rows {
                push_in_steps(&mut sorter, row)?;
            }
            let (runs, largest) = (sorter.spilled_runs(), sorter.largest());
            while !sorter.prepare_merge(runs, largest, 100)? {}
            while !sorter.sort(100) {}
            let mut sorted = sorter.finish()?;
            split(&sorted.runs, 3, sorted.form.order(), &mut sorted.handle, SEGMENT)?;
            let pieces = std::mem::take(&mut sorted.runs).into_iter().map(Run::whole);
            let mut merger = Merger::new(pieces, true, std::mem::take(&mut sorted.reserved));
            let mut merged = Merged::default();
            while merger.step(&sorted.form, &sorted.budget, &mut sorted.handle, &mut merged)? == Step::More {}
            Ok(merged.0.len())
        };
        assert!(sort().expect("it fits") >= limit.unwrap_or(1500) as usize);
        let calls = usize::MAX - left.load(Ordering::Relaxed);
        for share in 0..100 {
            left.store(calls * share / 100, Ordering::Relaxed);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sort));
            assert!(result.is_err(), "{segments} segments, {share} %");
            assert_eq!(manager.outstanding(), 0, "segments are out");
            assert_eq!(store.used_bytes(), 0, "extents are in use");
        }
    }
}
