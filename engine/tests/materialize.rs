//! Materialized streams: everything is there before anything is sent on, in memory or not.

use forebay::record::first;
use forebay::source::generate;
use forebay::{Environment, Mode, Runtime};
use forebay_memory::Plan;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn environment(managed: usize) -> Environment {
    let plan = Plan::with_segments(managed, 256, 4096).expect("the test's sizes make a plan");
    let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
    Environment::new(runtime)
        .with_parallelism(2)
        .with_mode(Mode::Batch)
}

/// Records in, and records seen after the operator, for a width of text and a managed memory.
fn run(managed: usize, records: u64, width: usize) -> u64 {
    let environment = environment(managed);
    let made = Arc::new(AtomicU64::new(0));
    let seen = made.clone();
    let sent = environment
        .source(
            "texts",
            generate(records, move |i| {
                made.fetch_add(1, Ordering::Relaxed);
                (i, format!("{i:>width$}"))
            }),
        )
        .rebalance()
        .materialize()
        .rebalance()
        .map(move |(index, text)| {
            assert_eq!(seen.load(Ordering::Relaxed), records, "the source is done");
            assert_eq!(text, format!("{index:>width$}"));
            index
        })
        .collect();
    let summary = environment.execute("materialized").expect("nothing fails");
    let mut sent = sent.take();
    sent.sort_unstable();
    assert_eq!(sent, (0..records).collect::<Vec<_>>());
    let operators = summary.tasks.iter().flat_map(|task| &task.operators);
    operators.map(|operator| operator.spilled_bytes_written).sum()
}

#[test]
fn nothing_is_sent_before_everything_is_there() {
    assert_eq!(run(4096, 5_000, 20), 0, "it fits");
}

#[test]
fn what_exceeds_the_memory_is_spilled() {
    let all = run(36, 20_000, 40);
    let half = run(170 + 36, 20_000, 40);
    assert!(half > 0 && half < all, "{half} B of what was {all} B");
}

#[test]
fn rows_larger_than_a_segment_are_kept_too() {
    assert!(run(64, 300, 7_000) > 0);
}

#[test]
fn a_stream_without_records_is_materialized() {
    assert_eq!(run(36, 0, 10), 0);
}

#[test]
fn an_exchange_behind_it_finds_every_key() {
    let environment = environment(80);
    let counts = environment
        .source("numbers", generate(30_000, |i| (i % 100, i)))
        .materialize()
        .key_by(first())
        .count()
        .collect();
    environment.execute("counts").expect("nothing fails");
    let mut counts = counts.take();
    counts.sort_unstable();
    assert_eq!(counts, (0..100).map(|key| (key, 300)).collect::<Vec<_>>());
}
