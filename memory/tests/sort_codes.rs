//! Merging runs by offset-value codes: keys that begin alike, end early, have zeros in them or are longer than codes go, in runs in memory
//! and on disk, with rows larger than a segment.

mod spill_support;

use forebay_memory::sort::*;
use forebay_memory::spill::*;
use forebay_memory::{MemoryManager, Result};
use spill_support::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SEGMENT: usize = 4096;

/// Where rows have a number of 4 bytes, one of 8, a text and 280 bytes; the text itself is behind them.
const NUMBER: usize = 4;
const LONG: usize = 8;
const TEXT: usize = 16;
const BYTES: usize = 24;
const FIXED: usize = 304;

/// An order that counts whole comparisons.
#[derive(Clone)]
struct Counted {
    order: ColumnOrder,
    whole: Arc<AtomicUsize>,
}

impl RowOrder for Counted {
    fn stride(&self) -> usize {
        self.order.stride()
    }

    fn key_size(&self) -> Option<usize> {
        self.order.key_size()
    }

    fn word(&self, row: &[u8], from: usize, scratch: &mut KeyScratch) -> u64 {
        self.order.word(row, from, scratch)
    }

    fn word_on(&self, row: &[u8], from: usize, scratch: &mut KeyScratch) -> (u64, bool) {
        self.order.word_on(row, from, scratch)
    }

    fn compare(&self, left: &[u8], right: &[u8], scratch: &mut KeyScratch) -> std::cmp::Ordering {
        self.whole.fetch_add(1, Ordering::Relaxed);
        self.order.compare(left, right, scratch)
    }
}

struct Merged(Vec<Vec<u8>>);

impl RowOutput for Merged {
    fn push(&mut self, row: &[u8]) -> bool {
        self.0.push(row.to_vec());
        true
    }

    fn fill(&mut self, _: impl FnOnce(&mut [u8]) -> usize) -> bool {
        unreachable!("rows with entries are pushed")
    }
}

/// Bytes that often begin as others do: `alike` of them, or fewer, are the same for all, and the others are few different ones.
fn bytes(random: &mut Random, alike: usize, size: usize) -> Vec<u8> {
    let differs = random
        .below(alike + 1)
        .max(alike.saturating_sub(8 * random.below(3)));
    (0..size)
        .map(|at| match at < differs {
            true => b'a',
            false => [0, b'a', b'b', 0xff][random.below(4)],
        })
        .collect()
}

fn row(random: &mut Random, alike: usize, longest: usize, large: usize) -> Vec<u8> {
    let text_size = match random.below(8) {
        0 => random.below(4),
        1 => alike.min(longest),
        _ => random.below(longest + 1),
    };
    let text = bytes(random, alike, text_size);
    let behind = match random.below(60) {
        0 => random.below(large + 1),
        _ => random.below(9),
    };
    let size = FIXED + text.len() + behind;
    let mut row = vec![0; size];
    row[..4].copy_from_slice(&(size as u32).to_le_bytes());
    row[NUMBER..][..4].copy_from_slice(&(random.below(3) as u32).to_le_bytes());
    row[LONG..][..8].copy_from_slice(&(random.below(5) as u64).to_le_bytes());
    row[TEXT..][..4].copy_from_slice(&(FIXED as u32).to_le_bytes());
    row[TEXT + 4..][..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
    row[BYTES..FIXED].copy_from_slice(&bytes(random, alike, FIXED - BYTES));
    row[FIXED..][..text.len()].copy_from_slice(&text);
    row[FIXED + text.len()..].fill(random.next() as u8);
    row
}

/// Sorts rows, of which some runs leave and the last stays; whole comparisons that the merge has made.
fn sorted(
    rows: &[Vec<u8>],
    order: &ColumnOrder,
    each: usize,
    store: &SpillStore,
) -> Result<(Vec<Vec<u8>>, usize)> {
    let manager = MemoryManager::with_segments(2000, 8, SEGMENT)?;
    let whole = Arc::new(AtomicUsize::new(0));
    let order = Counted {
        order: order.clone(),
        whole: whole.clone(),
    };
    let budget = manager.budget("sort", 8, 2000)?;
    let mut sorter = Sorter::new(Located::new(order, SEGMENT), budget, store.handle("sort")?);
    for (number, row) in rows.iter().enumerate() {
        sorter.push(row)?;
        if (number + 1) % each == 0 && number + each < rows.len() {
            sorter.spill_to(0)?;
        }
    }
    let (runs, largest) = (sorter.spilled_runs(), sorter.largest());
    while !sorter.prepare_merge(runs, largest, 1000)? {}
    while !sorter.sort(1000) {}
    let mut sorted = sorter.finish()?;
    let pieces = std::mem::take(&mut sorted.runs).into_iter().map(Run::whole);
    let mut merger = Merger::new(pieces, true, std::mem::take(&mut sorted.reserved));
    let before = whole.load(Ordering::Relaxed);
    let mut merged = Merged(Vec::new());
    while merger.step(&sorted.form, &sorted.budget, &mut sorted.handle, &mut merged)? == Step::More {}
    Ok((merged.0, whole.load(Ordering::Relaxed) - before))
}

fn store(seed: u64) -> SpillStore {
    let config = SpillConfig {
        workspace_bytes: 64 << 10,
        handles: 1,
        extent_bytes: 256 << 10,
        ..SpillConfig::default()
    };
    let disk = SimulatedDisk::new(seed, SimulatedFaults::default());
    SpillStore::on_simulated(&disk, &config).expect("a store on a simulated disk")
}

fn column(offset: usize, width: usize, kind: ColumnKind, descending: bool) -> KeyColumn {
    KeyColumn {
        offset,
        width,
        kind,
        descending,
    }
}

#[test]
fn keys_that_begin_alike_come_in_order() {
    let integer = ColumnKind::Integer { signed: false };
    let mut whole_of_fixed = 0;
    for seed in 0..60u64 {
        let mut random = Random(seed + 1);
        let down = random.below(2) == 0;
        let number = column(NUMBER, 4, integer, random.below(2) == 0);
        let long = column(LONG, 8, integer, down);
        let text = column(TEXT, 8, ColumnKind::Text, down);
        let width = [3, 8, 20, 256, 280][random.below(5)];
        let array = column(BYTES, width, ColumnKind::Bytes, down);
        let columns = match seed % 6 {
            0 => vec![text],
            1 => vec![number, text],
            2 => vec![text, long],
            3 => vec![array],
            4 => vec![array, text, number],
            _ => vec![long, number, array],
        };
        let order = ColumnOrder::new(0, columns.clone());
        let (alike, longest) = ([0, 8, 17, 300][random.below(4)], [6, 40, 320][random.below(3)]);
        let rows: Vec<Vec<u8>> = (0..600)
            .map(|_| row(&mut random, alike, longest, 3 * SEGMENT))
            .collect();
        let each = 20 + random.below(200);
        let store = store(seed);
        let (mut found, whole) = sorted(&rows, &order, each, &store).expect("nothing fails");
        let case =
            format!("seed {seed}: {columns:?}, {alike} bytes alike, texts up to {longest}, runs of {each}");
        let keys = &mut KeyScratch::default();
        let unsorted = found
            .windows(2)
            .position(|pair| order.compare(&pair[0], &pair[1], keys).is_gt());
        assert_eq!(unsorted, None, "{case}");
        if order.key_size().is_some_and(|size| size < 256) {
            whole_of_fixed += whole;
        }
        let mut expected = rows;
        expected.sort();
        found.sort();
        assert!(found == expected, "{case}: other rows");
        assert_eq!(store.used_bytes(), 0, "{case}: extents are in use");
    }
    assert_eq!(whole_of_fixed, 0, "words tell keys of one size apart");
}

/// Texts that are different, and have 24 bytes in common, are merged by words alone.
#[test]
fn texts_that_begin_alike_are_merged_without_whole_comparisons() {
    let mut random = Random(5);
    let rows: Vec<Vec<u8>> = (0..3000u64)
        .map(|_| {
            let text = format!(
                "https://example.org/abc/{:016x}/{:08x}",
                random.next(),
                random.next() as u32
            );
            let mut row = vec![0; FIXED + text.len()];
            let size = row.len() as u32;
            row[..4].copy_from_slice(&size.to_le_bytes());
            row[TEXT..][..4].copy_from_slice(&(FIXED as u32).to_le_bytes());
            row[TEXT + 4..][..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
            row[FIXED..].copy_from_slice(text.as_bytes());
            row
        })
        .collect();
    let order = ColumnOrder::new(0, vec![column(TEXT, 8, ColumnKind::Text, false)]);
    let (found, whole) = sorted(&rows, &order, 250, &store(1)).expect("nothing fails");
    let mut expected = rows;
    expected.sort_by(|left, right| left[FIXED..].cmp(&right[FIXED..]));
    assert!(found == expected, "not in order");
    assert_eq!(whole, 0, "whole comparisons");
}
