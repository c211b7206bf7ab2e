//! Sorting and merging in segments, against `std` on one contiguous slice. Every sort starts from a fresh copy of the same
//! items, whose copying (about 1 ns each) is not timed.

use crate::size;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use forebay_memory::manager::Budget;
use forebay_memory::sort::kernel::{
    Chunks, Code, Entry, Item, LoserTree, MergeItems, Pair, Stream, sort_entries, sort_pairs, sort_u64,
};
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

/// Sorted streams of random numbers, 4 M in all, merged into a buffer of 32 KiB.
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
            bencher.iter(|| {
                let mut merge = MergeItems::new(sorted.iter().map(|items| items.chunks(4096)));
                let mut buffer = [0; 4096];
                let mut sum = 0;
                loop {
                    let filled = merge.fill(&mut buffer);
                    sum ^= black_box(&buffer[..filled])
                        .iter()
                        .fold(0, |sum, item| sum ^ item);
                    if filled < buffer.len() {
                        break sum;
                    }
                }
            });
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

/// Keys of 24 bytes, the first 12 the same in all, with the codes that a run would have stored.
struct Keys<'a> {
    keys: &'a [[u8; 24]],
    codes: &'a [Code],
    at: usize,
}

impl Stream for Keys<'_> {
    #[inline]
    fn code(&self) -> Code {
        self.codes.get(self.at).copied().unwrap_or(Code::END)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        &self.keys[self.at]
    }
}

/// Sorted streams of byte-comparable keys, merged by offset-value codes and by a heap that compares keys.
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
        let codes: Vec<Vec<Code>> = sorted
            .iter()
            .map(|keys| {
                let shared = |i: usize| {
                    keys[i - 1]
                        .iter()
                        .zip(&keys[i])
                        .take_while(|(a, b)| a == b)
                        .count()
                };
                (0..keys.len())
                    .map(|i| Code::new(if i == 0 { 0 } else { shared(i) }, &keys[i]))
                    .collect()
            })
            .collect();
        group.bench_function(format!("{streams} streams, codes"), |bencher| {
            bencher.iter(|| {
                let mut streams: Vec<Keys> = sorted
                    .iter()
                    .zip(&codes)
                    .map(|(keys, codes)| Keys { keys, codes, at: 0 })
                    .collect();
                let mut tree = LoserTree::new(&streams);
                let mut rows = 0u64;
                while let Some(winner) = tree.winner() {
                    black_box(streams[winner].key());
                    rows += 1;
                    streams[winner].at += 1;
                    tree.advanced(&streams);
                }
                assert_eq!(rows, count);
            });
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
