//! Taking and giving back segments: from a budget, a reservation, and the network pool.

use criterion::{Criterion, Throughput};
use forebay_memory::{MemoryManager, SegmentSource};
use std::hint::black_box;

pub fn benchmark(criterion: &mut Criterion) {
    const COUNT: usize = 64;
    let manager = MemoryManager::with_segments(2 * COUNT, COUNT, 32 << 10).expect("6 MiB of segments");
    let budget = manager
        .budget("benchmark", COUNT, 2 * COUNT)
        .expect("all segments are free");
    let pool = manager
        .network()
        .local("benchmark", COUNT / 2, COUNT)
        .expect("all buffers are free");
    let mut group = criterion.benchmark_group("segments");
    group.throughput(Throughput::Elements(COUNT as u64));
    group.bench_function("budget, take and drop one by one", |bencher| {
        bencher.iter(|| {
            for _ in 0..COUNT {
                drop(black_box(budget.try_take().expect("one is free")));
            }
        });
    });
    group.bench_function("budget, take 64, drop 64", |bencher| {
        bencher.iter(|| {
            let segments: Vec<_> = (0..COUNT)
                .map(|_| budget.try_take().expect("64 are guaranteed"))
                .collect();
            black_box(segments.len())
        });
    });
    group.bench_function("reservation of 64, taken and dropped", |bencher| {
        bencher.iter(|| {
            let mut reservation = budget.reserve(COUNT).expect("64 are guaranteed");
            while let Some(segment) = reservation.take() {
                drop(black_box(segment));
            }
        });
    });
    group.bench_function("network pool, take and drop one by one", |bencher| {
        bencher.iter(|| {
            for _ in 0..COUNT {
                drop(black_box(pool.try_take().expect("one is free")));
            }
        });
    });
    group.finish();
}
