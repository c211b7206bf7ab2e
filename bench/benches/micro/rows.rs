//! Writing records as rows and reading them back.

use criterion::{Criterion, Throughput};
use forebay::record::{PlainRecord, Record};
use forebay_bench::data::{Keyed, KeyedData};
use std::hint::black_box;
use zerocopy::IntoBytes;

type Mixed = (u64, Option<i64>, String);

pub fn benchmark(criterion: &mut Criterion) {
    let count = crate::size(2048, 16);
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(count as u64));

    let data = KeyedData::new(1_000_000, 0.0, 0);
    let mut memory = vec![0u64; count * 2];
    group.bench_function("plain, write in place", |bencher| {
        bencher.iter(|| {
            for (index, row) in Keyed::rows_mut(memory.as_mut_bytes()).iter_mut().enumerate() {
                *row = data.at(index as u64);
            }
            black_box(memory[0])
        });
    });
    group.bench_function("plain, read", |bencher| {
        bencher.iter(|| {
            let rows = Keyed::rows(black_box(&memory).as_bytes());
            rows.iter().fold(0i64, |sum, row| sum.wrapping_add(row.value))
        });
    });

    let records: Vec<Mixed> = (0..count as u64)
        .map(|index| {
            (
                index,
                (index % 3 != 0).then_some(-1),
                "x".repeat(index as usize % 24),
            )
        })
        .collect();
    let size: usize = records.iter().map(|record| Mixed::row_size(record.view())).sum();
    let mut rows = vec![0u8; size];
    group.bench_function("u64, option and string, write", |bencher| {
        bencher.iter(|| {
            let mut rest = rows.as_mut_slice();
            for record in &records {
                let (row, after) = rest.split_at_mut(Mixed::row_size(record.view()));
                Mixed::write_row(record.view(), row);
                rest = after;
            }
        });
    });
    group.bench_function("u64, option and string, read", |bencher| {
        bencher.iter(|| {
            let (mut rest, mut sum) = (rows.as_slice(), 0u64);
            while !rest.is_empty() {
                let (row, after) = rest.split_at(Mixed::row_size_at(rest));
                let (number, option, text) = Mixed::read_row(row);
                sum = sum
                    .wrapping_add(number)
                    .wrapping_add(option.unwrap_or(0) as u64)
                    .wrapping_add(text.len() as u64);
                rest = after;
            }
            sum
        });
    });
    group.finish();
}
