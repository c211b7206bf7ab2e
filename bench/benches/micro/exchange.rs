//! Scattering rows to the segments of their targets, the inner loop of every exchange.

use criterion::{Criterion, Throughput};
use forebay_bench::data::mix;
use forebay_memory::scatter::{SegmentWriter, hash_column_u64, scatter_rows, targets_of};
use forebay_memory::{MemoryManager, Segment, SegmentSource};
use std::hint::black_box;

pub fn benchmark(criterion: &mut Criterion) {
    let count = crate::size(16 << 10, 256);
    let manager = MemoryManager::with_segments(8, 512, 32 << 10).expect("16 MiB of segments");
    let pool = manager
        .network()
        .local("benchmark", 512, 512)
        .expect("all buffers are free");
    let fresh = || -> Segment {
        pool.try_take()
            .expect("a full segment goes back before a fresh one is taken")
    };
    let mut group = criterion.benchmark_group("exchange");
    for (stride, targets) in [(16, 2), (16, 256), (104, 2)] {
        let rows: Vec<u8> = (0..count as u64)
            .flat_map(|index| {
                let mut row = vec![index as u8; stride];
                row[..8].copy_from_slice(&mix(index).to_le_bytes());
                row
            })
            .collect();
        let mut writers: Vec<SegmentWriter> = (0..targets)
            .map(|_| SegmentWriter::new(fresh(), stride))
            .collect();
        let (mut hashes, mut places) = (vec![0; count], vec![0u16; count]);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(
            format!("hash and scatter {stride}-byte rows to {targets}"),
            |bencher| {
                bencher.iter(|| {
                    hash_column_u64(&rows, stride, 0, &mut hashes);
                    targets_of(&hashes, 1024, targets as u32, &mut places);
                    let mut done = 0;
                    while done < count {
                        done += scatter_rows(&rows[done * stride..], stride, &places[done..], &mut writers);
                        if done < count {
                            let writer = &mut writers[usize::from(places[done])];
                            drop(black_box(writer.take()));
                            writer.put(fresh());
                        }
                    }
                });
            },
        );
    }
    group.finish();
}
