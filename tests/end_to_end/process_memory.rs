//! The process's memory as the plan has it: the counted heap, and what is resident. A process of its own, because both are
//! counted for all of it.

use forebay::operator::Collector;
use forebay::record::{first, second};
use forebay::source::generate;
use forebay::{Environment, ErrorKind, Runtime};
use forebay_memory::account::{
    peak_resident_bytes, reset_peak_resident, reset_user_heap_peak, user_heap_bytes, user_heap_peak_bytes,
};
use forebay_memory::hash::hash_u64;
use forebay_memory::{Config, Container, CountingAllocator, Plan};

#[global_allocator]
static HEAP: CountingAllocator = CountingAllocator;

/// A process of 8 MiB managed memory, and little else.
fn plan() -> Plan {
    let mut config = Config::default();
    for assignment in [
        "memory.managed_size=8MiB",
        "memory.user_size=8MiB",
        "memory.framework_size=8MiB",
        "memory.network_min=6MiB",
        "memory.network_max=6MiB",
        "memory.overhead_min=16MiB",
        "record.max_size=64KiB",
        "job.parallelism=2",
    ] {
        config.set(assignment).expect("the assignments are in range");
    }
    let plan = Plan::prove(
        &config,
        &Container::detect().expect("the machine tells its memory"),
    );
    plan.expect("the sizes make a plan")
}

/// One test: what is counted is the process's.
#[test]
fn a_process_keeps_to_its_plan() {
    resident_memory_stays_below_the_plan();
    a_key_of_many_rows_is_joined_within_the_heap();
    a_function_that_keeps_too_much_is_named();
}

/// Five jobs, each with several times more data than memory.
fn resident_memory_stays_below_the_plan() {
    let plan = plan();
    let runtime = Runtime::new(plan.clone()).expect("there is that much memory");
    assert!(reset_peak_resident(), "the kernel lets the peak be set back");
    const ROWS: u64 = 400_000;
    let pairs = |environment: &Environment, name: &str| {
        environment.source(name, generate(ROWS, |index| (hash_u64(index), index)))
    };
    for job in ["sums", "sorted", "joined", "distinct texts", "words"] {
        let environment = Environment::new(runtime.clone());
        let rows = match job {
            "sums" => pairs(&environment, "pairs")
                .key_by(first())
                .sum(second())
                .map(|_| 1_u64)
                .name("ones"),
            "sorted" => pairs(&environment, "pairs")
                .sort_by(first::<(u64, u64)>())
                .map(|_| 1_u64)
                .name("ones"),
            "joined" => pairs(&environment, "left")
                .join(pairs(&environment, "right"))
                .on(first(), first())
                .inner(|_, _| 1_u64),
            "distinct texts" => pairs(&environment, "pairs")
                .map(|(hash, _)| format!("{hash:032x}"))
                .distinct()
                .map(|_| 1_u64)
                .name("ones"),
            _ => pairs(&environment, "pairs")
                .flat_map(|(hash, _), words: &mut Collector<'_, String>| {
                    words.push(&format!("{:x}", hash >> 16));
                })
                .group_by(forebay::record::itself())
                .count()
                .map(|_| 1_u64)
                .name("ones"),
        };
        let count = rows.count().collect();
        let summary = environment.execute(job).expect("the job runs");
        assert_eq!(count.take(), [ROWS], "{job}");
        assert!(summary.spilled_bytes_written() > 0, "{job}: {summary}");
        let peak = peak_resident_bytes().expect("the kernel tells") as u64;
        assert!(
            peak <= plan.process_bytes(),
            "{job}: {peak} B were resident, the plan gives {} B\n{summary}",
            plan.process_bytes()
        );
        assert_eq!(runtime.manager().outstanding(), 0, "{job}");
    }
}

/// Rows that look for matches together have millions of them.
fn a_key_of_many_rows_is_joined_within_the_heap() {
    const BUILD: u64 = 30_000;
    const PROBE: u64 = 256;
    let plan = plan();
    let limit = plan.heap_bytes();
    let runtime = Runtime::new(plan).expect("there is that much memory");
    let environment = Environment::new(runtime.clone()).with_parallelism(1);
    let rows = |name: &str, count: u64| environment.source(name, generate(count, |index| (7_u64, index)));
    let count = rows("probed", PROBE)
        .join(rows("kept", BUILD))
        .on(first(), first())
        .build_right()
        .inner(|_, _| 1_u64)
        .count()
        .collect();
    reset_user_heap_peak();
    environment.execute("one key").expect("the job runs");
    assert_eq!(count.take(), [BUILD * PROBE]);
    let peak = user_heap_peak_bytes() as u64;
    assert!(peak < limit, "the heap had {peak} B, the plan gives {limit} B");
}

fn a_function_that_keeps_too_much_is_named() {
    let plan = plan();
    let limit = plan.heap_bytes();
    let runtime = Runtime::new(plan).expect("there is that much memory");
    let before = user_heap_bytes() as u64;
    assert!(before < limit, "{before} of {limit}");
    let environment = Environment::new(runtime.clone()).with_parallelism(1);
    let mut kept = Vec::new();
    environment
        .source("numbers", generate(1_000_000, |index| index))
        .map(move |number| {
            kept.push([number; 128]);
            number
        })
        .name("hoarder")
        .blackhole();
    let error = environment
        .execute("hoarding")
        .expect_err("1 GiB is over the plan");
    assert_eq!(error.kind(), ErrorKind::Memory);
    let message = error.to_string();
    assert!(
        message.starts_with("operator \"hoarder\", subtask 0: the heap has "),
        "{message}"
    );
    assert!(
        message.contains("(memory.framework_size + memory.user_size); raise memory.user_size"),
        "{message}"
    );
    assert_eq!(runtime.manager().outstanding(), 0);
    assert!(
        (user_heap_bytes() as u64) < limit,
        "what the function kept is free again"
    );

    // The next job is not its victim.
    let environment = Environment::new(runtime).with_parallelism(1);
    let numbers = environment
        .source("numbers", generate(10, |index| index))
        .collect();
    environment.execute("modest").expect("the job runs");
    assert_eq!(numbers.take().len(), 10);
}
