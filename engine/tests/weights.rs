//! Weights: how the operators of a job share managed memory, by `memory.weights` and by their own.

use forebay::record::{first, second};
use forebay::source::generate;
use forebay::{Environment, ErrorKind, JobSummary, Mode, Runtime};
use forebay_memory::{Config, Container, Plan};
use std::collections::BTreeMap;

const SEGMENTS: usize = 400;
const RECORDS: u64 = 150_000;

/// An environment in streaming mode with one subtask of each operator, and 400 segments for all.
fn environment(operator: u64, state: u64) -> Environment {
    let mut config = Config::default();
    for assignment in [
        "memory.segment_size=4096".to_string(),
        format!("memory.managed_size={}", (SEGMENTS + 64) * 4096),
        format!("spill.workspace_size={}", 64 * 4096),
        "memory.user_size=64MiB".into(),
        "network.buffers_per_channel=4".into(),
        "record.max_size=4096".into(),
        "pressure.enabled=false".into(),
        format!("memory.weights.operator={operator}"),
        format!("memory.weights.state={state}"),
    ] {
        config.set(&assignment).expect("the assignments are in range");
    }
    let container = Container::detect().expect("the machine tells its memory");
    let plan = Plan::prove(&config, &container).expect("the sizes make a plan");
    let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
    assert_eq!(runtime.manager().stats().managed_total, SEGMENTS);
    Environment::new(runtime)
        .with_parallelism(1)
        .with_mode(Mode::Streaming)
}

/// The most segments that the operator of that name held.
fn peak(summary: &JobSummary, name: &str) -> usize {
    let operators = summary.tasks.iter().flat_map(|task| &task.operators);
    let found = operators.filter(|operator| operator.name == name);
    found.map(|operator| operator.segments_peak as usize).sum()
}

/// Keeps 150,000 pairs in an operator that materializes and the counts of as many keys in an aggregate, and answers what
/// each of the two held.
fn run(operator: u64, state: u64) -> (usize, usize) {
    let environment = environment(operator, state);
    let pairs = environment.source(
        "pairs",
        generate(RECORDS, |index| (index * 7 % RECORDS, index as i64)),
    );
    let (kept, counted) = pairs.fork();
    let kept = kept.materialize().name("kept").uid("kept");
    let kept = kept.map(|(key, _)| key).collect();
    let counts = counted
        .key_by(first())
        .sum(second())
        .name("counted")
        .uid("counted")
        .collect();
    let summary = environment.execute("weighed").expect("the job runs");
    assert_eq!(kept.take().len() as u64, RECORDS);
    let last: BTreeMap<u64, i64> = counts.take().into_iter().collect();
    assert_eq!(last.len() as u64, RECORDS);
    assert!(last.iter().all(|(key, sum)| *key == *sum as u64 * 7 % RECORDS));
    assert!(summary.spilled_bytes_written() > 0, "neither has room for all");
    (peak(&summary, "kept"), peak(&summary, "counted"))
}

/// Whether what was held is the share, or as good as all of it.
fn is_share(held: usize, share: usize) -> bool {
    held <= share && held * 10 >= share * 9
}

#[test]
fn kinds_of_consumers_share_memory_by_their_weights() {
    for (operator, state) in [(70, 70), (30, 10), (10, 30)] {
        let held = run(operator, state);
        let share = |weight| SEGMENTS * weight as usize / (operator + state) as usize;
        assert!(
            is_share(held.0, share(operator)) && is_share(held.1, share(state)),
            "weights {operator} and {state}: {held:?} of {SEGMENTS} segments"
        );
    }
}

#[test]
fn operators_of_a_kind_share_by_their_own_weights() {
    let environment = environment(70, 70);
    let pairs = environment.source("pairs", generate(RECORDS, |index| (index, index)));
    let (light, heavy) = pairs.fork();
    light.materialize().name("light").blackhole();
    heavy.materialize().memory_weight(3).name("heavy").blackhole();
    let plan = environment.explain("weighed").expect("the job has a plan");
    assert!(
        plan.contains("\"heavy\" x 1; at least 4 segments a subtask, memory weight 3"),
        "{plan}"
    );
    let summary = environment.execute("weighed").expect("the job runs");
    let held = (peak(&summary, "light"), peak(&summary, "heavy"));
    assert!(is_share(held.0, 100) && is_share(held.1, 300), "{held:?}");
}

#[test]
fn a_weight_of_what_takes_no_memory_is_refused() {
    let environment = environment(70, 70);
    let numbers = environment.source("numbers", generate(10, |index| index));
    numbers.map(|n| n + 1).name("more").memory_weight(2).blackhole();
    let error = environment.execute("weighed").expect_err("a map takes no memory");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("\"more\" has a memory weight of 2"),
        "{error}"
    );
}
