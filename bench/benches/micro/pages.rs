//! Hash pages: updates of keys that are there, and insertion of keys that are not.

use criterion::{BatchSize, Criterion, Throughput};
use forebay_bench::data::{Modulus, mix};
use forebay_memory::hash::hash_u64;
use forebay_memory::pages::LineTable;
use forebay_memory::{Budget, MemoryManager};
use std::hint::black_box;
use std::sync::Arc;

fn add(table: &mut LineTable, hashes: &[u64]) {
    for batch in hashes.chunks(1024) {
        let progress = table.update_batch(batch, |_, lanes, _| lanes[0] = lanes[0].wrapping_add(1));
        black_box(&progress);
    }
}

pub fn benchmark(criterion: &mut Criterion) {
    let segments = 4096;
    let manager =
        MemoryManager::with_segments(segments, 8, 32 << 10).expect("128 MiB, committed as it is used");
    let budget: Budget = manager
        .budget("benchmark", 8, segments)
        .expect("all segments are free");
    let records = crate::size(1 << 20, 4096);
    let mut group = criterion.benchmark_group("pages");
    group.throughput(Throughput::Elements(records as u64));
    for keys in [10_000, 1_000_000] {
        let modulus = Modulus::new(keys);
        let hashes: Vec<u64> = (0..records as u64)
            .map(|index| hash_u64(modulus.of(mix(index))))
            .collect();
        let mut table = LineTable::new(Arc::new(budget.clone()), 1, 0);
        add(&mut table, &hashes);
        group.bench_function(format!("update, {keys} keys"), |bencher| {
            bencher.iter(|| add(&mut table, &hashes));
        });
    }
    let hashes: Vec<u64> = (0..records as u64).map(mix).collect();
    group.sample_size(10);
    group.bench_function("insert, all keys new", |bencher| {
        bencher.iter_batched(
            || LineTable::new(Arc::new(budget.clone()), 1, 0),
            |mut table| {
                add(&mut table, &hashes);
                table
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}
