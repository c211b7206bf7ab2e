//! A consumer that takes less pulls its producer down to what it takes, and up again; the metrics say who it is.

use forebay::metrics::TaskSnapshot;
use forebay::source::generate;
use forebay::{Environment, JobHandle, Mode, Runtime};
use forebay_memory::Plan;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

const RECORDS: u64 = 400_000;

/// How many records a consumer may take.
#[derive(Default)]
struct Permits {
    granted: Mutex<u64>,
    more: Condvar,
    taken: AtomicU64,
}

impl Permits {
    fn grant(&self, count: u64) {
        let mut granted = self.granted.lock().expect("nothing panics here");
        *granted = granted.saturating_add(count);
        self.more.notify_all();
    }

    fn take(&self) {
        let taken = self.taken.load(Ordering::Relaxed);
        let granted = self.granted.lock().expect("nothing panics here");
        let _granted = self.more.wait_while(granted, |granted| *granted <= taken);
        self.taken.store(taken + 1, Ordering::Relaxed);
    }
}

fn tasks(handle: &JobHandle) -> (TaskSnapshot, TaskSnapshot) {
    let find = |name: &str| {
        let tasks = handle.metrics();
        let mut named = tasks.into_iter().filter(|task| task.task.starts_with(name));
        named.next().expect("the job has it")
    };
    (find("numbers"), find("slow"))
}

#[test]
fn a_producer_follows_its_consumer_and_the_metrics_tell_them_apart() {
    let plan = Plan::with_segments(16, 256, 4096).expect("the test's sizes make a plan");
    // What may be under way: a channel's credits and backlog, and what both sides have in hand.
    let network = plan.network;
    let batches =
        network.buffers_per_channel + network.floating_buffers_per_gate + network.max_buffers_per_channel + 4;
    let under_way = batches as u64 * 4096 / 8;
    assert!(under_way < RECORDS / 20, "so that it shows: {under_way}");
    let environment = Environment::new(Runtime::new(plan).expect("it is little memory"))
        .with_parallelism(1)
        .with_mode(Mode::Streaming);
    let made = Arc::new(AtomicU64::new(0));
    let permits = Arc::new(Permits::default());
    let (counter, gate) = (made.clone(), permits.clone());
    let numbers = generate(RECORDS, move |index| {
        counter.fetch_add(1, Ordering::Relaxed);
        index
    });
    environment
        .source("numbers", numbers)
        .inspect(move |_| gate.take())
        .name("slow")
        .blocking()
        .blackhole();
    let handle = environment.execute_async("slowed").expect("the job starts");
    let made = || made.load(Ordering::Relaxed);
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert_eq!(handle.status(), forebay::JobStatus::Running, "{what}");
            std::thread::yield_now();
        }
    };

    // Nobody takes anything: the producer fills what there is, and waits.
    wait("the producer makes what is asked for", &|| made() > 0);
    let mut granted = 0;
    for step in [0, 1, 3_000, 10_000, 500, 0, 30_000] {
        granted += step;
        permits.grant(step);
        wait("the consumer takes what it may", &|| {
            permits.taken.load(Ordering::Relaxed) == granted
        });
        // It makes no more than is under way, and, given time, no less than what makes it wait.
        wait("the producer follows", &|| made() > granted);
        assert!(made() <= granted + under_way, "{} made, {granted} taken", made());
    }
    wait("its wait is counted", &|| {
        permits.grant(1);
        tasks(&handle).0.backpressured_ms >= 1
    });
    let (producer, consumer) = tasks(&handle);
    assert_eq!(
        consumer.backpressured_ms, 0,
        "nothing is behind the consumer: {consumer:?}"
    );
    assert!(producer.busy_ms < RECORDS, "{producer:?}");

    // And up again.
    permits.grant(u64::MAX);
    let summary = handle.wait().expect("the job runs");
    assert_eq!(
        (made(), permits.taken.load(Ordering::Relaxed)),
        (RECORDS, RECORDS)
    );
    assert_eq!(
        summary.tasks.iter().map(|task| task.records_in).max(),
        Some(RECORDS)
    );
}
