//! A `flat_map` that makes much of little runs in bounded memory.

use forebay::source::generate;
use forebay::{Environment, ErrorKind, Result, Runtime};
use forebay_memory::Plan;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A runtime with 2 MiB of heap for batches, segments of 4 KiB, and few network buffers.
fn small() -> Runtime {
    let settings = [
        "memory.segment_size=4KiB",
        "memory.managed_size=4MiB",
        "memory.framework_size=1MiB",
        "memory.user_size=1MiB",
        "memory.network_min=160KiB",
        "memory.network_max=160KiB",
        "spill.workspace_size=1MiB",
        "pressure.enabled=false",
    ];
    let plan = Plan::load(None, &settings).expect("the sizes make a plan");
    Runtime::new(plan).expect("there is that much memory")
}

/// Turns each of `records` into `rows` rows, exchanges them, and adds them up; the sum and the buffers held at most.
fn expand(records: u64, rows: u64) -> Result<(u64, usize)> {
    let environment = Environment::new(small()).with_parallelism(2);
    let sum = Arc::new(AtomicU64::new(0));
    let added = sum.clone();
    environment
        .source("records", generate(records, |index| index))
        .parallelism(1)
        .flat_map::<u64, _>(move |record, out| {
            for row in 0..rows {
                out.push(record + row);
            }
        })
        .parallelism(1)
        .name("expand")
        .key_by_fn(|row| row % 7)
        .ungroup()
        .for_each(move |(_, row)| {
            added.fetch_add(row, Ordering::Relaxed);
            Ok(())
        });
    let summary = environment.execute("expansion")?;
    Ok((sum.load(Ordering::Relaxed), summary.memory.network_peak))
}

#[test]
fn many_records_that_become_many_rows_wait_for_room() {
    // All of them are in one batch, and 24 MB of rows come of it.
    let (records, rows) = (300, 10_000);
    let (sum, peak) = expand(records, rows).expect("2 MiB of heap are enough");
    let of_rows = rows * (rows - 1) / 2;
    assert_eq!(sum, records * of_rows + rows * (records * (records - 1) / 2));
    assert!(peak <= 40, "{peak} buffers of 40");
}

#[test]
fn a_record_that_becomes_more_than_the_heap_is_refused() {
    let error = expand(1, 1_000_000).expect_err("8 MB of rows are more than 2 MiB");
    assert_eq!(error.kind(), ErrorKind::Memory);
    let text = error.to_string();
    for part in [
        "operator \"expand\"",
        "the plan gives it 2 MiB",
        "raise memory.user_size",
    ] {
        assert!(text.contains(part), "{text:?} has no {part:?}");
    }
}
