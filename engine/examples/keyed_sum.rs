//! Sums a value by key: a generator, a hash exchange, an aggregation, a sink that folds every byte.
//!
//! ```text
//! cargo run --release -p forebay --example keyed_sum -- 50000000 1000000 updates
//! ```

use forebay::record::Record;
use forebay::sink::HashSink;
use forebay::source::generate_rows;
use forebay::{Environment, Mode, Result, Runtime};
use forebay_memory::Plan;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A key and a value: 16 bytes, its own row.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
struct Pair {
    key: u64,
    value: i64,
}

/// The output function of splitmix64.
fn mix(index: u64) -> u64 {
    let z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, default: u64| {
        arguments
            .get(at)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (records, keys) = (number(1, 100_000), number(2, 1_000));
    let updates = arguments.get(3).is_some_and(|emit| emit == "updates");

    let assignments: &[&str] = if arguments.len() > 4 {
        &["memory.managed_size=256MiB", "memory.user_size=128MiB"]
    } else {
        &[]
    };
    let runtime = Runtime::new(Plan::load(None, assignments)?)?;
    let environment =
        Environment::new(runtime).with_mode(if updates { Mode::Streaming } else { Mode::Batch });
    let (sink, total) = HashSink::new();
    environment
        .source(
            "pairs",
            generate_rows(records, move |first, rows: &mut [Pair]| {
                for (row, index) in rows.iter_mut().zip(first..) {
                    let hash = mix(index);
                    *row = Pair {
                        key: hash % keys,
                        value: (hash >> 40) as i64 & 1023,
                    };
                }
            }),
        )
        .key_by(Pair::key)
        .sum(Pair::value)
        .sink("fold", sink);
    let summary = environment.execute("keyed-sum")?;
    println!("{summary}");
    println!("{:?}", total.lock().expect("the job is over"));
    println!(
        "{:.1} M records/s",
        records as f64 / summary.elapsed.as_secs_f64() / 1e6
    );
    Ok(())
}
