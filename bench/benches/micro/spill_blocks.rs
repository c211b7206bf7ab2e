//! Spill blocks: written and read back, as they are and compressed.

use criterion::{Criterion, Throughput};
use forebay_bench::data::{TextData, mix};
use forebay_memory::spill::{Codec, SpillConfig, SpillStore};
use std::hint::black_box;

const BLOCK: usize = 32 << 10;

pub fn benchmark(criterion: &mut Criterion) {
    let blocks = crate::size(256, 8);
    let random: Vec<u8> = (0..BLOCK as u64 / 8)
        .flat_map(|index| mix(index).to_le_bytes())
        .collect();
    let mut text = Vec::new();
    TextData::new(10_000, 1.0, 0)
        .write(2_000, &mut text)
        .expect("a vector takes everything");
    text.truncate(BLOCK);
    let mut group = criterion.benchmark_group("spill blocks");
    group.throughput(Throughput::Bytes((blocks * BLOCK) as u64));
    group.sample_size(10);
    for (name, codec, payload) in [
        ("random bytes, stored", Codec::None, &random),
        ("text, LZ4", Codec::Lz4, &text),
        ("random bytes, adaptive", Codec::Adaptive, &random),
    ] {
        let config = SpillConfig {
            codec,
            ..SpillConfig::default()
        };
        let store = SpillStore::open(&config).expect("the temporary directory is there");
        let mut handle = store.handle("benchmark").expect("the first of four handles");
        let mut into = vec![0; BLOCK];
        group.bench_function(format!("write, flush, read and free, {name}"), |bencher| {
            bencher.iter(|| {
                let written: Vec<_> = (0..blocks)
                    .map(|_| handle.write(&[payload]).expect("the disk has room"))
                    .collect();
                handle.flush().expect("the disk has room");
                let mut reader = handle.reader(written);
                while let Some(length) = reader
                    .next(&mut handle, &mut into)
                    .expect("what was written is there")
                {
                    black_box(&into[..length]);
                }
            });
        });
    }
    group.finish();
}
