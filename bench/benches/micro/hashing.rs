//! The engine's two hashes, and the column kernel that hashes a key of every row.

use criterion::{Criterion, Throughput};
use forebay_bench::data::{TextData, mix};
use forebay_memory::hash::{hash_bytes, hash_u64};
use forebay_memory::scatter::{hash_column_u64, targets_of};
use std::hint::black_box;

pub fn benchmark(criterion: &mut Criterion) {
    let count = crate::size(4096, 64);
    let keys: Vec<u64> = (0..count as u64).map(mix).collect();
    let mut group = criterion.benchmark_group("hashing");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("u64", |bencher| {
        bencher.iter(|| {
            keys.iter()
                .fold(0, |sum: u64, key| sum.wrapping_add(hash_u64(*key)))
        });
    });

    let rows: Vec<u8> = keys
        .iter()
        .flat_map(|key| [key.to_le_bytes(), [0; 8]])
        .flatten()
        .collect();
    let (mut hashes, mut targets) = (vec![0; count], vec![0; count]);
    group.bench_function("u64 column of 16-byte rows", |bencher| {
        bencher.iter(|| {
            hash_column_u64(&rows, 16, 0, &mut hashes);
            black_box(hashes[0])
        });
    });
    group.bench_function("targets of hashes", |bencher| {
        bencher.iter(|| {
            targets_of(&hashes, 128, 3, &mut targets);
            black_box(targets[0])
        });
    });

    let mut text = Vec::new();
    TextData::new(10_000, 1.0, 0)
        .write(count as u64 / 8, &mut text)
        .expect("a vector takes everything");
    let words: Vec<&[u8]> = text.split(|byte| *byte == b' ' || *byte == b'\n').collect();
    group.throughput(Throughput::Bytes(
        words.iter().map(|word| word.len() as u64).sum(),
    ));
    group.bench_function("bytes of words", |bencher| {
        bencher.iter(|| {
            words
                .iter()
                .fold(0, |sum: u64, word| sum.wrapping_add(hash_bytes(word)))
        });
    });
    group.finish();
}
