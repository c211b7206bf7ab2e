//! A panic or an error in every kind of user function fails the job, names the operator and the record, and never hangs.

use forebay::operator::Collector;
use forebay::record::first;
use forebay::sink::{Sink, SinkWriter};
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus, Subtask, from_items, generate};
use forebay::{Environment, Error, ErrorKind, JobStatus, Result, Runtime, Stream};
use forebay_memory::{Config, Container, Plan};
use std::panic::panic_any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};

const RECORDS: u64 = 5000;
const BAD: u64 = 3000;

fn environment() -> Environment {
    let plan = Plan::with_segments(64, 256, 4096).expect("the test's sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had")).with_parallelism(1)
}

fn numbers(environment: &Environment) -> Stream<u64> {
    environment
        .source("numbers", generate(RECORDS, |index| index))
        .name("numbers")
}

/// Runs a job that is to fail, and says with what.
fn failure(environment: &Environment) -> Error {
    let error = environment
        .execute("failing")
        .expect_err("a function of the job fails");
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    assert_eq!(environment.runtime().spill().used_bytes(), 0);
    error
}

fn assert_says(error: &Error, parts: &[&str]) {
    assert_eq!(error.kind(), ErrorKind::User, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "\"{error}\" has no \"{part}\"");
    }
}

fn bad(number: u64) -> bool {
    assert!(number != BAD, "three thousand");
    true
}

const PLACE: &str = "operator \"picky\", record 3001";

#[test]
fn map_panics() {
    let environment = environment();
    let picky = numbers(&environment)
        .map(|number| (bad(number), number).1)
        .name("picky");
    picky.blackhole();
    assert_says(&failure(&environment), &[PLACE, "three thousand"]);
}

#[test]
fn filter_panics() {
    let environment = environment();
    numbers(&environment).filter(bad).name("picky").blackhole();
    assert_says(&failure(&environment), &[PLACE, "three thousand"]);
}

#[test]
fn inspect_panics() {
    let environment = environment();
    let picky = numbers(&environment).inspect(|number| assert!(bad(number)));
    picky.name("picky").blackhole();
    assert_says(&failure(&environment), &[PLACE, "three thousand"]);
}

#[test]
fn flat_map_panics() {
    let environment = environment();
    let picky = numbers(&environment).flat_map(|number: u64, out: &mut Collector<'_, u64>| {
        if bad(number) {
            out.push(number);
        }
    });
    picky.name("picky").blackhole();
    assert_says(&failure(&environment), &[PLACE, "three thousand"]);
}

#[test]
fn try_map_answers_an_error() {
    let environment = environment();
    let picky = numbers(&environment).try_map(|number| match number {
        BAD => Err(Error::user("three thousand")),
        _ => Ok(number),
    });
    picky.name("picky").blackhole();
    assert_says(&failure(&environment), &[PLACE, "three thousand"]);
}

#[test]
fn try_flat_map_answers_an_error() {
    let environment = environment();
    let picky = numbers(&environment).try_flat_map(|number, out: &mut Collector<'_, u64>| match number {
        BAD => Err(Error::user("three thousand")),
        _ => {
            (0..number % 3).for_each(|_| out.push(number));
            Ok(())
        }
    });
    picky.name("picky").blackhole();
    assert_says(&failure(&environment), &[PLACE, "three thousand"]);
}

#[test]
fn a_panic_without_a_text_is_one_too() {
    let environment = environment();
    let picky = numbers(&environment).map(|number| match number {
        BAD => panic_any(7),
        _ => number,
    });
    picky.name("picky").blackhole();
    assert_says(&failure(&environment), &[PLACE, "not text"]);
}

#[test]
fn for_each_panics_or_answers_an_error() {
    for panics in [true, false] {
        let environment = environment();
        numbers(&environment).for_each(move |number| match number {
            BAD if panics => panic!("three thousand"),
            BAD => Err(Error::user("three thousand")),
            _ => Ok(()),
        });
        let error = failure(&environment);
        assert_says(&error, &["operator \"for_each\", record 3001", "three thousand"]);
    }
}

#[test]
fn print_panics() {
    let environment = environment();
    let none = numbers(&environment).filter(|number| number == BAD).name("one");
    none.print(|number| format!("{}", bad(number)));
    assert_says(
        &failure(&environment),
        &["operator \"print\", record 1", "three thousand"],
    );
}

#[test]
fn a_generator_panics() {
    let environment = environment();
    let numbers = environment.source("numbers", generate(RECORDS, |index| (bad(index), index).1));
    numbers.blackhole();
    assert_says(
        &failure(&environment),
        &["source \"numbers\", record 3000", "three thousand"],
    );
}

/// A source that fails in the way and at the place that it is told.
struct Failing {
    place: &'static str,
    panics: bool,
}

struct FailingReader(Failing);

impl Failing {
    fn at(&self, place: &str) -> Result<()> {
        match self.place == place {
            true if self.panics => panic!("out of order"),
            true => Err(Error::user("out of order")),
            false => Ok(()),
        }
    }
}

impl Source for Failing {
    type Out = u64;
    type Split = u64;
    type Reader = FailingReader;

    fn splits(&self, parallelism: usize) -> Result<Vec<u64>> {
        self.at("splits")?;
        Ok((0..parallelism as u64).collect())
    }

    fn reader(&self, _: u64) -> Result<FailingReader> {
        self.at("reader")?;
        Ok(FailingReader(Failing { ..*self }))
    }
}

impl SourceReader for FailingReader {
    type Out = u64;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, u64>) -> Result<SourceStatus> {
        for number in 0..100 {
            out.push(number);
        }
        self.0.at("poll")?;
        Ok(SourceStatus::Done)
    }
}

#[test]
fn a_source_fails() {
    for panics in [true, false] {
        for (place, position) in [("reader", 0), ("poll", 100)] {
            let environment = environment();
            let source = environment.source("failing", Failing { place, panics });
            source.map(|number| number).blackhole();
            let place = format!("source \"failing\", record {position}");
            assert_says(&failure(&environment), &[&place, "out of order"]);
        }
    }
}

#[test]
fn a_source_that_cannot_list_its_splits_is_refused() {
    let environment = environment();
    let failing = Failing {
        place: "splits",
        panics: false,
    };
    environment.source("failing", failing).blackhole();
    assert_says(&failure(&environment), &["out of order"]);
}

/// A sink that fails as told.
struct FailingSink {
    place: &'static str,
    panics: bool,
}

struct FailingWriter(Failing, u64);

impl Sink for FailingSink {
    type In = u64;
    type Writer = FailingWriter;

    fn writer(&self, _: Subtask) -> Result<FailingWriter> {
        let failing = Failing {
            place: self.place,
            panics: self.panics,
        };
        failing.at("writer")?;
        Ok(FailingWriter(failing, 0))
    }
}

impl SinkWriter for FailingWriter {
    type In = u64;

    fn write(&mut self, _: u64) -> Result<()> {
        self.1 += 1;
        if self.1 == 3001 {
            self.0.at("write")
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.0.at("flush")
    }

    fn finish(&mut self) -> Result<()> {
        self.0.at("finish")
    }
}

#[test]
fn a_sink_fails() {
    for panics in [true, false] {
        for (place, position) in [("write", 3001), ("finish", RECORDS)] {
            let environment = environment();
            let sink = FailingSink { place, panics };
            numbers(&environment).sink("failing", sink);
            let place = format!("operator \"failing\", record {position}");
            assert_says(&failure(&environment), &[&place, "out of order"]);
        }
    }
}

#[test]
fn a_failure_behind_exchanges_stops_every_task() {
    for mode in [forebay::Mode::Batch, forebay::Mode::Streaming] {
        let environment = environment().with_parallelism(2).with_mode(mode);
        let counts = numbers(&environment)
            .union(environment.source("others", from_items((0..RECORDS).collect::<Vec<_>>())))
            .map(|number| (number % 100, number))
            .key_by(first())
            .count();
        let picky = counts.rebalance().map(|(key, _)| match key {
            77 => panic!("seventy-seven"),
            _ => key,
        });
        picky.name("picky").parallelism(3).blackhole();
        assert_says(&failure(&environment), &["operator \"picky\"", "seventy-seven"]);
    }
}

/// An environment whose functions must return within 50 ms of a cancellation.
fn impatient() -> Environment {
    let mut config = Config::default();
    for assignment in [
        "cancel.timeout=50ms",
        "memory.process_size=512MiB",
        "memory.segment_size=4KiB",
        "pressure.enabled=false",
    ] {
        config.set(assignment).expect("the assignment is one");
    }
    let container = Container {
        limit: None,
        ram: Some(forebay_memory::ByteSize::gib(64)),
        cores: 1,
        temporary_directory: std::env::temp_dir(),
    };
    let plan = Plan::prove(&config, &container).expect("the sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had")).with_parallelism(1)
}

#[test]
fn a_function_that_does_not_return_is_named_and_may_return_later() {
    let environment = impatient();
    let (entered, has_entered): (Sender<()>, Receiver<()>) = channel();
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let gate = Arc::new(Mutex::new((entered, released)));
    let stuck = numbers(&environment).map(move |number| {
        if number == BAD {
            let gate = gate.lock().expect("one function holds it");
            let _ = gate.0.send(());
            let _ = gate.1.recv();
        }
        number
    });
    stuck.name("stubborn").blackhole();
    let runtime = environment.runtime().clone();
    let handle = environment.execute_async("stuck").expect("the job starts");
    has_entered.recv().expect("the function says that it has begun");
    handle.cancel();
    let error = handle.wait().expect_err("the job was cancelled");
    assert_says(
        &error,
        &[
            "operator \"stubborn\", subtask 0 did not return within cancel.timeout (50 ms)",
            "job \"stuck\" was cancelled",
            "quarantined",
        ],
    );
    // Other jobs go on meanwhile, in what is left.
    let sum = numbers(&environment).collect();
    environment.execute("next").expect("the next job runs");
    assert_eq!(sum.take().len() as u64, RECORDS);
    assert!(
        runtime.manager().outstanding() > 0,
        "the stuck task keeps its memory"
    );
    release.send(()).expect("the function waits for this");
    while runtime.manager().outstanding() > 0 {
        std::thread::yield_now();
    }
}

/// Waits, when it is dropped, until it is told not to.
struct StuckWhenDropped(Receiver<()>, Sender<()>);

impl Drop for StuckWhenDropped {
    fn drop(&mut self) {
        let _ = self.1.send(());
        let _ = self.0.recv();
    }
}

/// The last owner of what a function has captured is its task.
#[test]
fn a_destructor_that_does_not_return_is_named() {
    let environment = impatient();
    let (entered, has_entered) = channel();
    let (release, released) = channel();
    let stuck = Arc::new(Mutex::new(StuckWhenDropped(released, entered)));
    let numbers = environment.source("numbers", generate(u64::MAX, |index| index));
    let captured = numbers.map(move |number| {
        let _ = &stuck;
        number
    });
    captured.name("captive").blackhole();
    let runtime = environment.runtime().clone();
    let handle = environment.execute_async("stuck").expect("the job starts");
    handle.cancel();
    has_entered.recv().expect("the destructor says that it has begun");
    let error = handle.wait().expect_err("the job was cancelled");
    assert_says(&error, &["subtask 0 did not return within cancel.timeout"]);
    release.send(()).expect("the destructor waits for this");
    while runtime.manager().outstanding() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_dropped_handle_cancels_the_job() {
    let environment = environment().with_parallelism(2);
    let endless = generate(u64::MAX, |index| (index % 1000, index as i64));
    let stream = environment.source("endless", endless);
    stream.key_by(first()).count().blackhole();
    let handle = environment.execute_async("endless").expect("the job starts");
    while handle.metrics().iter().all(|task| task.records_in < 1000) {
        std::thread::yield_now();
    }
    drop(handle);
    assert_eq!(environment.runtime().manager().outstanding(), 0);
}

#[test]
fn a_cancelled_job_says_so() {
    let environment = environment().with_parallelism(2);
    let endless = environment.source("endless", generate(u64::MAX, |index| index));
    endless.rebalance().map(|number| number).name("next").blackhole();
    let handle = environment.execute_async("endless").expect("the job starts");
    let cancel = handle.canceller();
    let canceller = std::thread::spawn(cancel);
    let error = handle.wait().expect_err("the job was cancelled");
    canceller.join().expect("cancelling does not panic");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(error.to_string(), "job \"endless\" was cancelled");
}

#[test]
fn a_cancellation_after_the_end_changes_nothing() {
    let environment = environment();
    let found = numbers(&environment).collect();
    let handle = environment.execute_async("short").expect("the job starts");
    while handle.status() != JobStatus::Over {
        std::thread::yield_now();
    }
    handle.cancel();
    handle.wait().expect("the job had ended before");
    assert_eq!(found.take().len() as u64, RECORDS);
}

/// A sink in the chain of an aggregation always has room; the results, in memory or spilled, come in pieces all the same.
#[test]
fn a_cancellation_is_seen_while_results_are_sent() {
    for managed in [256, 16] {
        const KEYS: u64 = 100_000;
        let plan = Plan::with_segments(managed, 128, 32 << 10).expect("the test's sizes make a plan");
        let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
        let environment = Environment::new(runtime).with_parallelism(1);
        let cancel: Arc<OnceLock<Box<dyn Fn() + Send + Sync>>> = Arc::default();
        let (results, canceller) = (Arc::new(AtomicU64::new(0)), cancel.clone());
        let counted = results.clone();
        environment
            .source("pairs", generate(KEYS, |index| (index, index)))
            .key_by(first())
            .count()
            .for_each(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                canceller.wait()();
                Ok(())
            });
        let handle = environment.execute_async("long end").expect("the job starts");
        let _ = cancel.set(Box::new(handle.canceller()));
        let error = handle.wait().expect_err("the job was cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        let results = results.load(Ordering::Relaxed);
        assert!(
            results < KEYS / 5,
            "{managed} segments: {results} results after it was cancelled"
        );
        assert_eq!(environment.runtime().manager().outstanding(), 0);
    }
}
