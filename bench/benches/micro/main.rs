//! Micro-benchmarks of the engine's floors: `cargo bench -p forebay-bench`. Without `--bench`, as `cargo test` runs
//! them, every one runs once on a small size.

mod segments;
mod hashing;
mod rows;
mod pages;
mod spill_blocks;
mod exchange;
mod sorting;

use criterion::{criterion_group, criterion_main};

/// A benchmark's size: `full` where figures are wanted, `smoke` under `cargo test`.
fn size(full: usize, smoke: usize) -> usize {
    if std::env::args().any(|argument| argument == "--bench") {
        full
    } else {
        smoke
    }
}

criterion_group!(
    floors,
    segments::benchmark,
    hashing::benchmark,
    rows::benchmark,
    pages::benchmark,
    spill_blocks::benchmark,
    exchange::benchmark,
    sorting::benchmark
);
criterion_main!(floors);
