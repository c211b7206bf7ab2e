//! Sorting and merging in segments, against `std` on one contiguous slice. Every sort starts from a fresh copy of the same
//! items, whose copying (about 1 ns each) is not timed.

use crate::size;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use forebay_memory::manager::Budget;
use forebay_memory::sort::kernel::{Chunks, Entry, Item, Pair, sort_entries, sort_pairs, sort_u64};
use forebay_memory::sort::{
    ColumnKind, ColumnOrder, Items, KeyColumn, Located, MemoryRun, Merger, Narrow, NarrowRow, RowOrder,
    RowOutput, Run, Step,
};
use forebay_memory::spill::{SpillConfig, SpillStore};
use forebay_memory::{MemoryManager, Segment, SegmentSource};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::hint::black_box;

const SEGMENT: usize = 32 << 10;
const SPARES: usize = 300;

/// The output function of splitmix64.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn list<T: Item>(items: &[T], budget: &Budget) -> Chunks<T> {
    let mut list = Chunks::new(SEGMENT);
    for &item in items {
        if !list.push(item) {
            list.push_segment(budget.try_take().expect("the budget has segments for all"));
            assert!(list.push(item));
        }
    }
    list
}

fn spares(budget: &Budget) -> Vec<Segment> {
    (0..SPARES)
        .map(|_| budget.try_take().expect("the budget has spares"))
        .collect()
}

fn sort_both<T: Item + Ord>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    items: &[T],
    sort: impl Fn(&mut Chunks<T>, &mut Vec<Segment>),
) {
    let segments = std::mem::size_of_val(items) / SEGMENT + SPARES + 2;
    let manager = MemoryManager::with_segments(segments + 64, 64, SEGMENT).expect("memory for the items");
    let budget = manager
        .budget("benchmark", segments, segments)
        .expect("all are free");
    group.throughput(Throughput::Elements(items.len() as u64));
    group.bench_function(format!("{name}, in segments"), |bencher| {
        bencher.iter_batched(
            || (list(items, &budget), spares(&budget)),
            |(mut list, mut spares)| {
                sort(&mut list, &mut spares);
                (list, spares)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function(format!("{name}, slice::sort_unstable"), |bencher| {
        bencher.iter_batched(
            || items.to_vec(),
            |mut items| {
                items.sort_unstable();
                items
            },
            BatchSize::PerIteration,
        );
    });
}

pub fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sorting");
    group.sample_size(10);
    for count in [size(1_000_000, 10_000) as u64, size(20_000_000, 20_000) as u64] {
        let random: Vec<u64> = (0..count).map(mix).collect();
        sort_both(&mut group, &format!("{count} numbers"), &random, sort_u64);
        let sorted: Vec<u64> = (0..count).collect();
        sort_both(&mut group, &format!("{count} sorted numbers"), &sorted, sort_u64);
        let pairs: Vec<Pair> = (0..count)
            .map(|payload| Pair {
                key: mix(payload),
                payload,
            })
            .collect();
        sort_both(&mut group, &format!("{count} pairs"), &pairs, sort_pairs);
        let entries: Vec<Entry> = (0..count)
            .map(|locator| Entry {
                prefix: mix(locator),
                locator,
            })
            .collect();
        sort_both(
            &mut group,
            &format!("{count} entries"),
            &entries,
            |list, spares| sort_entries(list, spares, &mut |_, _| Ordering::Equal),
        );
    }
    group.finish();
    merging(criterion);
    merging_rows(criterion);
}

/// Takes merged rows into a buffer of 32 KiB.
struct Buffer {
    rows: Vec<u8>,
    stride: usize,
    filled: usize,
    sum: u64,
}

impl Buffer {
    fn is_full(&mut self) -> bool {
        let is_full = self.filled + self.stride > self.rows.len();
        if is_full {
            let words = black_box(&self.rows[..self.filled]).as_chunks::<8>().0;
            self.sum ^= words.iter().fold(0, |sum, word| sum ^ u64::from_le_bytes(*word));
            self.filled = 0;
        }
        is_full
    }
}

impl RowOutput for Buffer {
    #[inline]
    fn push(&mut self, row: &[u8]) -> bool {
        self.rows[self.filled..self.filled + row.len()].copy_from_slice(row);
        self.filled += row.len();
        !self.is_full()
    }

    fn fill(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let whole = self.rows.len() / self.stride * self.stride;
        self.filled += write(&mut self.rows[self.filled..whole]) * self.stride;
        !self.is_full()
    }
}

/// Merges runs in memory of sorted rows.
fn merge_runs<I: Items>(
    rows: &[Vec<u8>],
    items: impl Fn() -> I,
    bencher: &mut criterion::Bencher<'_, WallTime>,
) where
    I::Order: Clone,
{
    let manager = MemoryManager::with_segments(1 << 16, 8, SEGMENT).expect("a manager");
    let budget = manager.budget("merge", 8, 1 << 16).expect("a budget");
    let store = SpillStore::open(&SpillConfig::default()).expect("a store");
    let mut handle = store.handle("merge").expect("a handle");
    let runs: Vec<Run<I>> = rows
        .iter()
        .map(|rows| {
            let (mut items, mut list, mut keys) = (items(), Chunks::new(SEGMENT), Default::default());
            let mut rest = &rows[..];
            while !rest.is_empty() {
                if list.room() == 0 {
                    list.push_segment(budget.try_take().expect("the budget has enough"));
                }
                let put = items.put(rest, list.room_mut(), &budget, &mut keys);
                list.advance(put.rows);
                rest = &rest[put.bytes..];
            }
            Run::Memory(std::sync::Arc::new(MemoryRun::new(items, list, true)))
        })
        .collect();
    let form = items();
    bencher.iter(|| {
        let mut merger = Merger::new(runs.iter().cloned().map(Run::whole), false, Vec::new());
        let mut buffer = Buffer {
            rows: vec![0; SEGMENT],
            stride: form.order().row_size(&rows[0]),
            filled: 0,
            sum: 0,
        };
        while merger
            .step(&form, &budget, &mut handle, &mut buffer)
            .expect("nothing is spilled")
            == Step::More
        {}
        buffer.sum
    });
}

/// Sorted runs of random numbers, 4 M in all, merged into a buffer of 32 KiB.
fn merging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merging");
    group.sample_size(10);
    let count = size(4_000_000, 10_000) as u64;
    group.throughput(Throughput::Elements(count));
    for streams in [2, 4, 16, 64] {
        let sorted: Vec<Vec<u64>> = (0..streams)
            .map(|stream| {
                let mut items: Vec<u64> = (stream..count).step_by(streams as usize).map(mix).collect();
                items.sort_unstable();
                items
            })
            .collect();
        group.bench_function(format!("{streams} streams"), |bencher| {
            let key = vec![KeyColumn {
                offset: 0,
                width: 8,
                kind: ColumnKind::Integer { signed: false },
                descending: false,
            }];
            let Some(NarrowRow::Number(form)) = NarrowRow::of(8, &key) else {
                unreachable!("a number is narrow")
            };
            let rows: Vec<Vec<u8>> = sorted
                .iter()
                .map(|items| items.iter().flat_map(|item| item.to_le_bytes()).collect())
                .collect();
            merge_runs(
                &rows,
                || Narrow::new(ColumnOrder::new(8, key.clone()), form),
                bencher,
            );
        });
        group.bench_function(format!("{streams} streams, std's heap"), |bencher| {
            bencher.iter(|| {
                let mut streams: Vec<_> = sorted.iter().map(|items| items.iter().copied()).collect();
                let first = |(stream, items): (usize, &mut std::iter::Copied<std::slice::Iter<'_, u64>>)| {
                    Some(Reverse((items.next()?, stream)))
                };
                let mut heap: BinaryHeap<_> = streams.iter_mut().enumerate().filter_map(first).collect();
                let mut sum = 0;
                while let Some(mut top) = heap.peek_mut() {
                    let (item, stream) = top.0;
                    sum ^= black_box(item);
                    match streams[stream].next() {
                        Some(next) => *top = Reverse((next, stream)),
                        None => drop(std::collections::binary_heap::PeekMut::pop(top)),
                    }
                }
                sum
            });
        });
    }
    group.finish();
}

/// Sorted runs of rows with keys of 24 bytes, the first 12 the same in all, and a heap that compares keys.
fn merging_rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merging rows");
    group.sample_size(10);
    let count = size(1_000_000, 10_000) as u64;
    group.throughput(Throughput::Elements(count));
    for streams in [4, 16, 64] {
        let sorted: Vec<Vec<[u8; 24]>> = (0..streams)
            .map(|stream| {
                let mut keys: Vec<[u8; 24]> = (stream..count)
                    .step_by(streams as usize)
                    .map(|i| {
                        let mut key = [b'k'; 24];
                        key[12..20].copy_from_slice(&mix(i).to_be_bytes());
                        key
                    })
                    .collect();
                keys.sort_unstable();
                keys
            })
            .collect();
        group.bench_function(format!("{streams} streams, words"), |bencher| {
            let key = vec![KeyColumn {
                offset: 0,
                width: 24,
                kind: ColumnKind::Bytes,
                descending: false,
            }];
            let rows: Vec<Vec<u8>> = sorted.iter().map(|keys| keys.concat()).collect();
            let order = ColumnOrder::new(24, key);
            merge_runs(&rows, || Located::new(order.clone(), SEGMENT), bencher);
        });
        group.bench_function(format!("{streams} streams, std's heap"), |bencher| {
            bencher.iter(|| {
                let mut at = vec![0; sorted.len()];
                let mut heap: BinaryHeap<_> = (0..sorted.len())
                    .filter_map(|stream| Some(Reverse((sorted[stream].first()?, stream))))
                    .collect();
                let mut rows = 0u64;
                while let Some(mut top) = heap.peek_mut() {
                    let (key, stream) = top.0;
                    black_box(key);
                    rows += 1;
                    at[stream] += 1;
                    match sorted[stream].get(at[stream]) {
                        Some(next) => *top = Reverse((next, stream)),
                        None => drop(std::collections::binary_heap::PeekMut::pop(top)),
                    }
                }
                assert_eq!(rows, count);
            });
        });
    }
    group.finish();
}
