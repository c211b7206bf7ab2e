//! User functions that fail before the first record, after the last one, in a key, a reduction, a format or a destructor.

use forebay::aggregate::{avg_of, sum_of};
use forebay::operator::Collector;
use forebay::record::{Record, first};
use forebay::sink::{FileSink, Sink, SinkWriter};
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus, Subtask, generate, generate_rows};
use forebay::{Environment, Error, ErrorKind, Mode, Result, Runtime};
use forebay_memory::Plan;

const RECORDS: u64 = 5000;

/// With so little memory that aggregations spill.
fn environment(managed: usize) -> Environment {
    let plan = Plan::with_segments(managed, 256, 4096).expect("the test's sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had")).with_parallelism(1)
}

/// Runs a job that is to fail with a user's error that has these parts, and leaves nothing.
fn assert_fails(environment: &Environment, parts: &[&str]) {
    let error = environment
        .execute("failing")
        .expect_err("a function of the job fails");
    assert_eq!(error.kind(), ErrorKind::User, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "\"{error}\" has no \"{part}\"");
    }
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    assert_eq!(environment.runtime().spill().used_bytes(), 0);
}

#[test]
fn a_key_function_panics() {
    let environment = environment(64);
    environment
        .source("numbers", generate(RECORDS, |index| index))
        .key_by_fn(|number: u64| match number {
            3000 => panic!("no key"),
            _ => number % 10,
        })
        .count()
        .blackhole();
    assert_fails(&environment, &["record 3001", "no key"]);
}

#[test]
fn a_reduction_panics_in_memory_and_over_what_was_spilled() {
    for (managed, keys) in [(64, 10), (8, 40_000)] {
        for mode in [Mode::Batch, Mode::Streaming] {
            let environment = environment(managed).with_mode(mode);
            environment
                .source("pairs", generate(2 * keys, move |index| (index % keys, index)))
                .key_by(first())
                .reduce(move |left, right| match (left.0, right.1 >= keys) {
                    (7, true) => panic!("cannot be joined"),
                    _ => (left.0, left.1 + right.1),
                })
                .name("sums")
                .blackhole();
            assert_fails(&environment, &["operator \"sums\"", "cannot be joined"]);
        }
    }
}

#[derive(
    Record, Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
)]
#[record(plain)]
#[repr(C)]
struct Number {
    number: u64,
}

#[test]
fn a_function_that_fills_rows_panics() {
    let environment = environment(64);
    let rows = generate_rows::<Number, _>(RECORDS, |first, rows: &mut [Number]| {
        assert!(first < 3000, "no row");
        rows.fill(Number { number: first });
    });
    environment.source("rows", rows).blackhole();
    assert_fails(&environment, &["source \"rows\"", "no row"]);
}

#[test]
fn a_format_panics() {
    let directory = std::env::temp_dir().join(format!("forebay-format-{}", std::process::id()));
    let environment = environment(64);
    let sink = FileSink::text_with::<u64, _>(&directory, |number, line| match number {
        3000 => panic!("no line"),
        _ => line.push('x'),
    });
    let numbers = environment.source("numbers", generate(RECORDS, |index| index));
    numbers.sink("lines", sink);
    assert_fails(&environment, &["operator \"lines\", record 3001", "no line"]);
    assert!(!directory.exists(), "the sink has left its directory");
}

/// Panics at the number that is bad, and has nothing to say otherwise.
fn check(number: u64, bad: u64) -> u64 {
    assert!(number != bad, "not this one");
    number
}

#[test]
fn functions_of_joins_panic() {
    // In memory, and over what was spilled.
    for managed in [400, 24] {
        for function in ["inner", "left", "right", "full", "condition", "cross"] {
            let environment = environment(managed);
            let records = if function == "cross" { 100 } else { 20_000 };
            let bad = records / 2;
            let side = |name: &str| environment.source(name, generate(records, |index| (index, index)));
            let join = side("left").join(side("right"));
            let of = move |left: Option<(u64, u64)>, right: Option<(u64, u64)>| {
                check(left.or(right).expect("there is one of them").0, bad)
            };
            let pairs = match function {
                "inner" => join
                    .on(first(), first())
                    .inner(move |left, right| of(Some(left), Some(right))),
                "left" => join
                    .on(first(), first())
                    .left_outer(move |left, right| of(Some(left), right)),
                "right" => join
                    .on(first(), first())
                    .right_outer(move |left, right| of(left, Some(right))),
                "full" => join.on(first(), first()).full_outer(of),
                "condition" => join
                    .on(first(), first())
                    .matching(move |left, _| check(left.0, bad) < bad)
                    .inner(|left, _| left.0),
                _ => join
                    .on_nothing()
                    .inner(move |left, right| of(Some(left), Some(right))),
            };
            pairs.name("paired").blackhole();
            assert_fails(&environment, &["operator \"paired\"", "not this one"]);
        }
    }
}

#[test]
fn functions_of_folds_and_sums_panic() {
    for managed in [400, 48] {
        for mode in [Mode::Batch, Mode::Streaming] {
            for function in ["create", "add", "merge", "finish", "sum_of", "avg_of"] {
                let environment = environment(managed).with_mode(mode);
                let pairs = environment
                    .source("pairs", generate(2 * RECORDS, |index| (index % RECORDS, index)))
                    .key_by(first::<(u64, u64)>());
                let fails = move |wanted: &str| assert!(function != wanted, "no {wanted}");
                match function {
                    "sum_of" => pairs
                        .aggregate(sum_of(move |pair: (u64, u64)| check(pair.1, 3000)))
                        .name("folded")
                        .blackhole(),
                    "avg_of" => pairs
                        .aggregate(avg_of(move |pair: (u64, u64)| check(pair.1, 3000)))
                        .name("folded")
                        .blackhole(),
                    _ => pairs
                        .fold(
                            move || (fails("create"), 0_u64).1,
                            move |state, pair| {
                                fails("add");
                                *state += pair.1;
                            },
                            move |state, other| {
                                fails("merge");
                                *state += other;
                            },
                            move |state| (fails("finish"), state).1,
                        )
                        .name("folded")
                        .blackhole(),
                };
                let message = match function {
                    "sum_of" | "avg_of" => "not this one".to_string(),
                    _ => format!("no {function}"),
                };
                // Folding begins in the operator before the exchange, which the plan calls a local aggregate.
                assert_fails(&environment, &["operator \"", &message]);
            }
        }
    }
}

#[test]
fn functions_of_blocking_operators_panic() {
    let environment = environment(64);
    environment
        .source("numbers", generate(RECORDS, |index| index))
        .flat_map(|number: u64, out: &mut Collector<'_, u64>| {
            assert!(number != 3000, "cannot wait");
            out.push(number);
        })
        .name("remote")
        .blocking()
        .blackhole();
    assert_fails(&environment, &["operator \"remote\", record 3001", "cannot wait"]);
}

/// Fails when its place is reached.
#[derive(Clone, Copy)]
struct Failing {
    place: &'static str,
    panics: bool,
}

impl Failing {
    fn at(&self, place: &str) -> Result<()> {
        match self.place == place {
            true if self.panics => panic!("out of order"),
            true => Err(Error::user("out of order")),
            false => Ok(()),
        }
    }
}

struct Listing(Failing);
struct Reading;

impl Source for Listing {
    type Out = u64;
    type Split = ();
    type Reader = Reading;

    fn splits(&self, _: usize) -> Result<Vec<()>> {
        self.0.at("splits")?;
        Ok(vec![()])
    }

    fn reader(&self, (): ()) -> Result<Reading> {
        Ok(Reading)
    }
}

impl SourceReader for Reading {
    type Out = u64;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, u64>) -> Result<SourceStatus> {
        out.push(1);
        Ok(SourceStatus::Done)
    }
}

#[test]
fn a_source_cannot_list_its_splits() {
    for panics in [true, false] {
        let environment = environment(64);
        let place = "splits";
        let listing = environment.source("listing", Listing(Failing { place, panics }));
        listing.blackhole();
        assert_fails(&environment, &["source \"listing\"", "out of order"]);
    }
}

struct Writing(Failing);
struct Writer(Failing);

impl Sink for Writing {
    type In = u64;
    type Writer = Writer;

    fn writer(&self, subtask: Subtask) -> Result<Writer> {
        // The others are open by then, and are given up.
        if subtask.index + 1 == subtask.parallelism {
            self.0.at("writer")?;
        }
        Ok(Writer(self.0))
    }
}

impl SinkWriter for Writer {
    type In = u64;

    fn write(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.0.at("flush")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // One panic is enough.
        if self.0.place == "drop" && !std::thread::panicking() {
            panic!("out of order");
        }
    }
}

#[test]
fn a_sink_fails_when_it_is_opened_or_flushed() {
    for panics in [true, false] {
        for place in ["writer", "flush"] {
            for parallelism in [1, 3] {
                let environment = environment(64).with_parallelism(parallelism);
                let numbers = environment.source("numbers", generate(RECORDS, |index| index));
                let rebalanced = numbers.rebalance();
                rebalanced.sink("writing", Writing(Failing { place, panics }));
                assert_fails(&environment, &["operator \"writing\"", "out of order"]);
            }
        }
    }
}

#[test]
fn a_destructor_panics_after_the_last_record_or_a_failure() {
    for fails in [false, true] {
        let environment = environment(64);
        let numbers = environment.source("numbers", generate(RECORDS, |index| index));
        let place = "drop";
        let checked = numbers.try_map(move |number| match fails {
            true if number == 3000 => Err(Error::user("three thousand")),
            _ => Ok(number),
        });
        checked.sink("writing", Writing(Failing { place, panics: true }));
        let says = if fails { "three thousand" } else { "out of order" };
        assert_fails(&environment, &[says]);
    }
}
