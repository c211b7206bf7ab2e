//! Several jobs on one runtime: they share its memory, and each gets its minimum.

use forebay::record::first;
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus, generate};
use forebay::{Environment, ErrorKind, Mode, Result, Runtime};
use forebay_memory::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn runtime(managed: usize) -> Runtime {
    let plan = Plan::with_segments(managed, 512, 4096).expect("the test's sizes make a plan");
    Runtime::new(plan).expect("the plan's memory is to be had")
}

#[test]
fn jobs_side_by_side_give_what_they_give_alone() {
    let runtime = runtime(160);
    std::thread::scope(|scope| {
        for job in 0..4u64 {
            let runtime = runtime.clone();
            scope.spawn(move || {
                for round in 0..4 {
                    let mode = [Mode::Batch, Mode::Streaming][(job + round) as usize % 2];
                    let environment = Environment::new(runtime.clone())
                        .with_parallelism(2)
                        .with_mode(mode);
                    let keys = 500 << job;
                    let counts = environment
                        .source("pairs", generate(20_000, move |index| (index * 7 % keys, index)))
                        .key_by(first())
                        .count()
                        .collect();
                    let name = format!("job {job}");
                    environment.execute(&name).expect("the job runs");
                    let mut last = BTreeMap::new();
                    for (key, count) in counts.take() {
                        last.insert(key, count);
                    }
                    assert_eq!(last.len() as u64, keys);
                    assert_eq!(last.values().sum::<u64>(), 20_000);
                }
            });
        }
    });
    assert_eq!(runtime.manager().outstanding(), 0);
    assert_eq!(runtime.spill().used_bytes(), 0);
}

/// The threads that a function runs on.
#[derive(Clone, Default)]
struct Workers(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Workers {
    /// A function of an operator that notes its thread.
    fn note(&self) -> impl FnMut((u64, u64)) + Clone + Send + 'static {
        let (workers, mut is_noted) = (self.clone(), false);
        move |_| {
            if !std::mem::replace(&mut is_noted, true) {
                let thread = std::fs::read_link("/proc/thread-self").expect("/proc is there");
                workers.0.lock().expect("nothing panics here").insert(thread);
            }
        }
    }

    /// Awake, a worker would see by itself that memory is wanted.
    fn wait_until_asleep(&self) {
        let sleeps = |thread: &PathBuf| {
            let stat = std::fs::read_to_string(Path::new("/proc").join(thread).join("stat"));
            stat.expect("the worker's thread runs").contains(") S ")
        };
        while !self.0.lock().expect("nothing panics here").iter().all(sleeps) {
            std::thread::yield_now();
        }
    }
}

/// Emits pairs with a key each, and then has nothing more, but does not end.
struct ThenIdle(u64);

struct ThenIdleReader(std::ops::Range<u64>);

impl Source for ThenIdle {
    type Out = (u64, u64);
    type Split = std::ops::Range<u64>;
    type Reader = ThenIdleReader;

    fn splits(&self, _: usize) -> Result<Vec<Self::Split>> {
        Ok(std::iter::once(0..self.0).collect())
    }

    fn reader(&self, split: Self::Split) -> Result<ThenIdleReader> {
        Ok(ThenIdleReader(split))
    }

    fn is_bounded(&self) -> bool {
        false
    }
}

impl SourceReader for ThenIdleReader {
    type Out = (u64, u64);

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, (u64, u64)>) -> Result<SourceStatus> {
        while !out.is_full() {
            let Some(number) = self.0.next() else {
                // For longer than the test takes: its worker is to be woken.
                return Ok(SourceStatus::Idle(Some(out.now() + Duration::from_secs(3600))));
            };
            out.push((number, number));
        }
        Ok(SourceStatus::More)
    }
}

/// A job that holds all memory and waits for input hears of it when another one needs its minimum.
#[test]
fn an_idle_job_gives_memory_back_to_one_that_starts() {
    const PAIRS: u64 = 20_000;
    let runtime = runtime(40);
    let idle = Environment::new(runtime.clone()).with_parallelism(2);
    let workers = Workers::default();
    idle.source("pairs", ThenIdle(PAIRS))
        .key_by(first())
        .count()
        .inspect(workers.note())
        .blackhole();
    let handle = idle.execute_async("idle").expect("the job starts");
    let arrived = || -> u64 {
        let tasks = handle.metrics();
        let counts = tasks.iter().filter(|task| task.task.starts_with("aggregate"));
        counts.map(|task| task.records_in).sum()
    };
    while arrived() < PAIRS {
        std::thread::yield_now();
    }
    assert!(
        runtime.manager().stats().managed_held > 32,
        "{:?}",
        runtime.manager()
    );
    workers.wait_until_asleep();

    let next = Environment::new(runtime.clone()).with_parallelism(1);
    let counts = next
        .source("pairs", generate(5000, |index| (index, index)))
        .key_by(first())
        .count()
        .collect();
    next.execute("next").expect("the idle job gives the minimum back");
    assert_eq!(counts.take().len(), 5000);
    handle.cancel();
    let error = handle.wait().expect_err("the idle job was cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(runtime.manager().outstanding(), 0);
}

/// So does one that cannot send because its consumer has stopped: giving memory back needs no progress downstream.
#[test]
fn a_blocked_job_gives_memory_back_to_one_that_starts() {
    let runtime = runtime(24);
    let blocked = Environment::new(runtime.clone())
        .with_parallelism(1)
        .with_mode(Mode::Streaming);
    let (go_on, may_go_on) = channel::<()>();
    let may_go_on = Arc::new(Mutex::new(may_go_on));
    let workers = Workers::default();
    let counts = blocked
        .source("pairs", generate(50_000, |index| (index, index)))
        .key_by(first())
        .count()
        .inspect(workers.note())
        .rebalance()
        .inspect(move |_| {
            // Until the other end is dropped.
            let _ = may_go_on.lock().expect("nothing panics here").recv();
        })
        .blocking()
        .collect();
    let handle = blocked.execute_async("blocked").expect("the job starts");
    while runtime.manager().stats().managed_held <= 16 {
        std::thread::yield_now();
    }
    workers.wait_until_asleep();
    let next = Environment::new(runtime.clone()).with_parallelism(1);
    let next_counts = next
        .source("pairs", generate(5000, |index| (index, index)))
        .group_by(first())
        .count()
        .collect();
    next.execute("next")
        .expect("the blocked job gives the minimum back");
    assert_eq!(next_counts.take().len(), 5000);
    assert!(counts.take().is_empty(), "the blocked job went on");
    drop(go_on);
    handle.wait().expect("the blocked job goes on");
    assert_eq!(counts.take().len(), 50_000);
    assert_eq!(runtime.manager().outstanding(), 0);
}
