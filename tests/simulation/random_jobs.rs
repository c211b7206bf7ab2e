//! Random jobs under random schedules, each compared with its oracle.

use forebay::simulator::{Random, Simulation, SimulationReport};
use forebay::{Environment, ErrorKind};
use forebay_tests::jobs::RandomJob;
use forebay_tests::means::Means;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many jobs `cargo test` runs.
const SIMULATIONS: u64 = 250;

/// The least managed segments of an aggregating subtask.
struct Needs {
    hungry: usize,
    least: usize,
    plan: String,
}

/// What the job of a seed needs, and its plan.
fn needs(seed: u64) -> Needs {
    let mut random = Random::new(0);
    let (runtime, _) = Means::draw(&mut random, 1, 1).runtime();
    let (environment, _) = RandomJob::build(Environment::new(runtime), seed);
    let plan = environment.plan("random").expect("the job has a plan");
    let hungry = plan.nodes.iter().filter(|node| node.minimum_segments > 0);
    Needs {
        hungry: hungry.clone().map(|node| node.parallelism).sum(),
        least: hungry.map(|node| node.parallelism * node.minimum_segments).sum(),
        plan: plan.explain(),
    }
}

/// How a simulated run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Faulty,
    Cancelled,
}

/// The fewest network segments with which the job is not refused.
fn least_network(seed: u64, means: &Means, simulation: &Simulation) -> usize {
    let simulation = Simulation {
        cancel_after: Some(0),
        ..simulation.clone()
    };
    let (mut low, mut high) = (1, means.network);
    while low < high {
        let network = (low + high) / 2;
        let (runtime, _) = Means {
            network,
            ..means.clone()
        }
        .runtime();
        let (environment, _) = RandomJob::build(Environment::new(runtime), seed);
        match environment.simulate("random", &simulation) {
            Err(error) if error.kind() == ErrorKind::Memory => low = network + 1,
            Err(error) if error.kind() == ErrorKind::Cancelled => high = network,
            other => panic!("a job cancelled before its first poll: {other:?}"),
        }
    }
    high
}

/// Runs the job of a seed and checks it.
fn run(seed: u64, needs: &Needs) -> Option<SimulationReport> {
    let mut random = Random::new(seed ^ 0x5eed);
    let fate = match random.below(10) {
        0 | 1 if needs.hungry > 0 => Fate::Faulty,
        2 => Fate::Cancelled,
        _ => Fate::Fine,
    };
    let mut means = Means::draw(&mut random, needs.hungry, needs.least);
    let mut simulation = Simulation::new(random.next_u64());
    simulation.rivals = random.below(3) > 0;
    if random.happens(2) {
        let spare = random.below(2) * random.below(20);
        means.network = least_network(seed, &means, &simulation) + spare;
    }
    match fate {
        Fate::Fine => {}
        Fate::Faulty => means.add_deadly_faults(&mut random),
        Fate::Cancelled => {
            let magnitude = random.below(14);
            simulation.cancel_after = Some(random.below(1 << magnitude) as u64);
        }
    }
    let (runtime, disk) = means.runtime();
    let (environment, job) = RandomJob::build(Environment::new(runtime.clone()), seed);
    let result = environment.simulate("random", &simulation);
    drop(environment);
    let report = match result {
        Ok(report) => {
            job.check();
            Some(report)
        }
        Err(error) => {
            let expected = match fate {
                Fate::Fine => false,
                Fate::Faulty => matches!(error.kind(), ErrorKind::Io | ErrorKind::Corrupt),
                Fate::Cancelled => error.kind() == ErrorKind::Cancelled,
            };
            assert!(expected, "{fate:?}, and not: {error:?}");
            None
        }
    };
    Means::check_returned(runtime, &disk);
    report
}

/// Runs a seed; where it fails, says which, and what the job was.
fn run_loudly(seed: u64) -> Option<SimulationReport> {
    let needs = needs(seed);
    match catch_unwind(AssertUnwindSafe(|| run(seed, &needs))) {
        Ok(report) => report,
        Err(panic) => {
            eprintln!("failed with FOREBAY_SEED={seed}\n{}", needs.plan);
            resume_unwind(panic);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

#[test]
fn random_jobs_equal_their_oracle() {
    if let Some(seed) = number("FOREBAY_SEED") {
        println!("{:?}", run_loudly(seed).map(|report| report.summary.to_string()));
        return;
    }
    let simulations = number("FOREBAY_SIMULATIONS").unwrap_or(SIMULATIONS);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (polls, spilled) = (AtomicU64::new(0), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= simulations || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    match catch_unwind(|| run_loudly(seed)) {
                        Ok(Some(report)) => {
                            polls.fetch_add(report.polls, Ordering::Relaxed);
                            let has_spilled = report.summary.spilled_bytes_written() > 0;
                            spilled.fetch_add(u64::from(has_spilled), Ordering::Relaxed);
                        }
                        Ok(None) => {}
                        Err(_) => failed.store(true, Ordering::Relaxed),
                    }
                }
            });
        }
    });
    assert!(
        !failed.into_inner(),
        "a simulation failed: see above for its seed"
    );
    let (polls, spilled) = (polls.into_inner(), spilled.into_inner());
    println!("{simulations} jobs, {polls} polls, {spilled} of them spilled");
    assert!(
        spilled * 10 > simulations,
        "only {spilled} of {simulations} jobs spilled"
    );
}

#[test]
fn a_seed_is_a_schedule() {
    for seed in 0..20 {
        let needs = needs(seed);
        let schedules: Vec<_> = (0..2)
            .map(|_| run(seed, &needs).map(|report| (report.polls, report.schedule)))
            .collect();
        assert_eq!(schedules[0], schedules[1], "seed {seed}");
    }
}
