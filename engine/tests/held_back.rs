//! Rows that operators hold back to fill a batch leave in time, also where input never runs out.

use forebay::batch::Batch;
use forebay::record::Record;
use forebay::simulator::Simulation;
use forebay::sink::{Sink, SinkWriter};
use forebay::source::{Subtask, generate, generate_rows};
use forebay::{Environment, Mode, Result, Runtime};
use forebay_memory::Plan;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[test]
fn a_rare_row_does_not_wait_for_others() {
    const RECORDS: u64 = 200_000;
    let seeds = 40;
    let mut in_time = 0;
    for seed in 0..seeds {
        let plan = Plan::with_segments(16, 256, 4096).expect("the sizes make a plan");
        let runtime = Runtime::new(plan).expect("there is that much memory");
        let environment = Environment::new(runtime)
            .with_parallelism(1)
            .with_mode(Mode::Streaming);
        let (made, seen_at) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counter, at_sink, seen) = (made.clone(), made, seen_at.clone());
        environment
            .source("numbers", generate(RECORDS, |index| index))
            .inspect(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
            })
            .filter(|number| number == 100)
            .name("rare")
            .map(|number| number)
            .for_each(move |_| {
                seen.store(at_sink.load(Ordering::Relaxed), Ordering::Relaxed);
                Ok(())
            });
        environment
            .simulate("rare", &Simulation::new(seed))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        in_time += u64::from(seen_at.load(Ordering::Relaxed) < RECORDS);
    }
    // One seed in four has no timeout, and time may pass too slowly for one as long as the job.
    assert!(in_time > seeds / 3, "only {in_time} of {seeds} were in time");
    assert!(in_time < seeds, "without a timeout, rows wait for their batch");
}

/// A record that sources may write in place.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
struct Number {
    value: u64,
}

/// Notes the sizes of the batches that it is given.
struct Sizes(Arc<Mutex<Vec<usize>>>);

struct SizesWriter(Arc<Mutex<Vec<usize>>>);

impl Sink for Sizes {
    type In = (u64, u64);
    type Writer = SizesWriter;

    fn writer(&self, _: Subtask) -> Result<SizesWriter> {
        Ok(SizesWriter(self.0.clone()))
    }
}

impl SinkWriter for SizesWriter {
    type In = (u64, u64);

    const TAKES_BATCHES: bool = true;

    fn write(&mut self, _: <(u64, u64) as Record>::View<'_>) -> Result<()> {
        Ok(())
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        self.0.lock().expect("nothing panics").push(batch.len());
        Ok(())
    }
}

/// The sizes of the batches in which 300 rows arrive behind operators and an exchange.
fn sizes_at(timeout: &str, fills: bool) -> Vec<usize> {
    // With a credit for every row: rows that wait for one may share a buffer.
    let settings = [
        format!("network.buffer_timeout={timeout}"),
        "network.buffers_per_channel=300".to_string(),
        "pressure.enabled=false".to_string(),
    ];
    let plan = Plan::load(None, &settings).expect("the settings make a plan");
    let environment = Environment::new(Runtime::new(plan).expect("there is that much memory"))
        .with_parallelism(2)
        .with_mode(Mode::Streaming);
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let numbers = match fills {
        true => environment.source(
            "filled",
            generate_rows(100, |first, rows: &mut [Number]| {
                (first..).zip(rows).for_each(|(index, row)| row.value = index);
            }),
        ),
        false => environment.source("pushed", generate(100, |value| Number { value })),
    };
    numbers
        .map(|number| number.value)
        .flat_map::<u64, _>(|number, out| (0..3).for_each(|place| out.push(3 * number + place)))
        .key_by_fn(|number| number % 5)
        .ungroup()
        .sink("sizes", Sizes(sizes.clone()));
    environment.execute("sizes").expect("nothing fails");
    let sizes = std::mem::take(&mut *sizes.lock().expect("nothing panics"));
    assert_eq!(sizes.iter().sum::<usize>(), 300);
    sizes
}

#[test]
fn without_a_timeout_to_wait_for_each_record_is_sent_by_itself() {
    for fills in [false, true] {
        assert_eq!(sizes_at("0", fills), [1; 300]);
        assert!(sizes_at("100ms", fills).len() < 300);
    }
}

/// The sizes of the batches in which the rows of 100,000 that `predicate` lets pass arrive behind a filter.
fn sizes_behind(predicate: fn(u64) -> bool) -> Vec<usize> {
    let plan = Plan::with_segments(16, 256, 4096).expect("the sizes make a plan");
    let environment = Environment::new(Runtime::new(plan).expect("there is that much memory"))
        .with_parallelism(1)
        .with_mode(Mode::Batch);
    let sizes = Arc::new(Mutex::new(Vec::new()));
    environment
        .source("numbers", generate(100_000, |index| (index, index)))
        .filter(move |row| predicate(row.0))
        .sink("sizes", Sizes(sizes.clone()));
    environment.execute("sizes").expect("nothing fails");
    let sizes = std::mem::take(&mut *sizes.lock().expect("nothing panics"));
    assert_eq!(
        sizes.iter().sum::<usize>(),
        (0..100_000).filter(|index| predicate(*index)).count()
    );
    sizes
}

/// A filter that lets much pass hands on the batches that it was given, and one that lets little pass gathers it.
#[test]
fn filters_hand_on_full_batches_and_gather_rare_rows() {
    let all = sizes_behind(|_| true);
    assert_eq!(sizes_behind(|index| index % 2 == 0).len(), all.len());
    let rare = sizes_behind(|index| index % 10 == 0);
    // The first batch goes on by itself, before it is known that rows are rare.
    assert!(rare.len() <= all.len().div_ceil(10) + 2, "{rare:?}");
    assert_eq!(sizes_behind(|index| index == 77), [1]);
}
