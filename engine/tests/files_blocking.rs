//! Functions that block run on helper threads: other tasks go on meanwhile, and the simulator runs them inline.

mod files_support;

use files_support::{Scratch, environment};
use forebay::simulator::Simulation;
use forebay::sink::FileSink;
use forebay::source::{generate, text};
use forebay::{Environment, ErrorKind, Stream};
use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Names = Arc<Mutex<BTreeSet<String>>>;

/// Notes the threads that the records of a stream pass.
fn noting(names: &Names) -> impl Fn(&u64) + Clone + Send + 'static {
    let names = names.clone();
    move |_| {
        let name = std::thread::current().name().unwrap_or_default().to_string();
        names.lock().expect("nobody panics").insert(name);
    }
}

fn seen(names: &Names) -> Vec<String> {
    names.lock().expect("nobody panics").iter().cloned().collect()
}

#[test]
fn a_function_that_waits_for_another_task_of_its_slot_gets_what_it_waits_for() {
    let environment = environment(1);
    let (sender, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let received = environment
        .source("asks", generate(100, |index| index))
        .map(move |_| {
            let receiver = receiver.lock().expect("nobody panics");
            receiver
                .recv_timeout(Duration::from_secs(60))
                .expect("the other task runs, and sends")
        })
        .blocking()
        .collect();
    // On the only slot, behind the task that waits.
    environment
        .source("answers", generate(100, |index| index * 3))
        .for_each(move |answer| {
            sender.send(answer).expect("somebody waits");
            Ok(())
        });
    environment.execute("asks").expect("the job runs");
    assert_eq!(
        received.take(),
        (0..100).map(|index| index * 3).collect::<Vec<_>>()
    );
}

fn three_stages(environment: &Environment, before: &Names, inside: &Names, after: &Names) -> Stream<u64> {
    let (before, inside, after) = (noting(before), noting(inside), noting(after));
    environment
        .source("numbers", generate(1000, |index| index))
        .rebalance()
        .map(|number| number)
        .inspect(move |number| before(&number))
        .name("before")
        .inspect(move |number| inside(&number))
        .blocking()
        .inspect(move |number| after(&number))
        .name("after")
}

#[test]
fn only_the_operator_that_blocks_leaves_its_slot() {
    let environment = environment(3);
    let (before, inside, after) = (Names::default(), Names::default(), Names::default());
    let numbers = three_stages(&environment, &before, &inside, &after).collect();
    let plan = environment.explain("helped").expect("the job is sound");
    assert!(
        plan.contains("inspect \"inspect\" x 3: (on helper threads)"),
        "{plan}"
    );
    environment.execute("helped").expect("the job runs");
    let mut numbers = numbers.take();
    numbers.sort();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    let most = environment.runtime().plan().exec.helper_threads;
    let inside = seen(&inside);
    assert!(
        (1..=most.min(3)).contains(&inside.len()),
        "{inside:?}, at most {most}"
    );
    assert!(
        inside.iter().all(|name| name.starts_with("forebay-helper-")),
        "{inside:?}"
    );
    for name in seen(&before).iter().chain(&seen(&after)) {
        assert!(name.starts_with("forebay-slot-"), "{name}");
    }
}

#[test]
fn simulated_jobs_run_helpers_inline() {
    for seed in 0..50 {
        let environment = environment(2);
        let names = Names::default();
        let numbers = three_stages(&environment, &names, &names, &names).collect();
        environment
            .simulate("inline", &Simulation::new(seed))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let mut numbers = numbers.take();
        numbers.sort();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>(), "seed {seed}");
        let own = std::thread::current().name().unwrap_or_default().to_string();
        assert_eq!(seen(&names), [own], "seed {seed}");
    }
}

#[test]
fn sources_and_sinks_may_block_too() {
    let scratch = Scratch::new("blocking");
    scratch.write("in.txt", "a line\n".repeat(1000));
    let environment = environment(2);
    let names = Names::default();
    let note = noting(&names);
    environment
        .source("lines", text(scratch.path("in.txt")).split_size(100))
        .blocking()
        .inspect(move |_| note(&0))
        .sink("synced", FileSink::text(scratch.path("out")).sync());
    let plan = environment.explain("files").expect("the job is sound");
    assert!(
        plan.contains("source \"lines\" x 2: (on helper threads)"),
        "{plan}"
    );
    assert!(
        plan.contains("sink \"synced\" x 2: (on helper threads)"),
        "{plan}"
    );
    environment.execute("files").expect("the job runs");
    assert!(seen(&names).iter().all(|name| name.starts_with("forebay-slot-")));
    let found = files_support::read(text(scratch.pattern("out/*")), 1).expect("the files are read");
    assert_eq!(found, vec!["a line"; 1000]);
}

#[test]
fn a_panic_on_a_helper_fails_the_job() {
    let environment = environment(2);
    environment
        .source("numbers", generate(1000, |index| index))
        .map(|number| {
            assert!(number != 500, "five hundred");
            number
        })
        .name("picky")
        .blocking()
        .blackhole();
    let error = environment.execute("panics").expect_err("the function panics");
    assert_eq!(error.kind(), ErrorKind::User);
    let message = error.to_string();
    assert!(message.contains("operator \"picky\", record"), "{message}");
    assert!(message.contains("five hundred"), "{message}");
    assert_eq!(environment.runtime().manager().outstanding(), 0);
}
