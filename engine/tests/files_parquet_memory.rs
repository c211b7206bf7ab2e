//! The memory that Parquet sources and sinks take: it does not grow with row groups, and is counted.

mod files_support;

use files_support::{Scratch, environment};
use forebay::record::Record;
use forebay::sink::{Blackhole, ParquetCodec, ParquetSink};
use forebay::source::{generate, parquet};
use forebay_memory::account::{self, CountingAllocator};
use std::fs;

#[global_allocator]
static HEAP: CountingAllocator = CountingAllocator;

#[derive(Debug, Clone, PartialEq, Record)]
struct Wide {
    number: u64,
    text: String,
    kind: String,
}

fn wide(number: u64) -> Wide {
    let text = (0..32)
        .map(|at| char::from(b'a' + (forebay_memory::hash::hash_u64(number * 32 + at) % 26) as u8))
        .collect();
    Wide {
        number,
        text,
        kind: "the same long text, which a dictionary has once ".repeat(40),
    }
}

/// The most bytes of heap that `run` had at once, above those before it.
fn heap_of(run: impl FnOnce()) -> usize {
    let before = account::user_heap_bytes();
    account::reset_user_heap_peak();
    run();
    account::user_heap_peak_bytes() - before
}

/// One test, so that nothing else is counted.
#[test]
fn memory_does_not_grow_with_row_groups() {
    const RECORDS: u64 = 300_000;
    let scratch = Scratch::new("parquet");
    let path = scratch.path("one.parquet");
    let write = |records: u64, group: u64| {
        let environment = environment(1);
        let sink = ParquetSink::file(&path).codec(ParquetCodec::None).overwrite();
        environment
            .source("wide", generate(records, wide))
            .sink("parquet", sink.row_group_size(group));
        environment.execute("write").expect("the job runs");
    };
    // In the first place what grows only once, such as the runtime's threads.
    write(1000, 1 << 20);
    // A sink has about a row group, and no more than twice as much with what it is made of.
    let heap = heap_of(|| write(RECORDS, 4 << 20));
    assert!((2 << 20..8 << 20).contains(&heap), "{heap}");
    // One row group of 13 MB, whose strings would be 600 MB if each row had its own.
    write(RECORDS, 1 << 30);
    let size = fs::metadata(&path).expect("it is there").len();
    assert!(size > 11 << 20, "{size}");
    let source = parquet::<Wide>(&*path);
    let counts = source.counts();
    let heap = heap_of(|| {
        let environment = environment(1);
        environment
            .source("files", source)
            .sink("nowhere", Blackhole::new());
        environment.execute("read").expect("the job runs");
    });
    assert_eq!(counts.row_groups_read(), 1);
    // A dictionary and two pages for each of three columns, of up to 1 MiB, and a batch: not half of the file.
    assert!(heap < 6 << 20, "{heap}");
}
