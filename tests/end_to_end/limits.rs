//! Budgets below the minimum, quotas, disks that are full, and io_uring that is refused.

use forebay::record::{first, second};
use forebay::source::{from_items, generate};
use forebay::{Environment, ErrorKind, Mode, Runtime};
use forebay_memory::hash::unhash_u64;
use forebay_memory::spill::{IoChoice, SimulatedDisk, SimulatedFaults, SpillConfig};
use forebay_memory::{MemoryManager, Plan, SpillStore};
use std::collections::BTreeMap;

fn runtime(managed: usize, network: usize, spill: SpillStore) -> Runtime {
    let plan = Plan::with_segments(managed, network, 4096).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(managed, network, 4096).expect("it is little memory");
    Runtime::from_parts(plan, manager, spill)
}

fn simulated(faults: SimulatedFaults) -> SpillStore {
    SpillStore::simulated(1, faults)
}

fn counts(environment: &Environment) -> forebay::sink::Collected<(u64, u64)> {
    environment
        .source("pairs", generate(30_000, |index| (index % 15_000, index)))
        .group_by(first())
        .count()
        .name("by key")
        .collect()
}

#[test]
fn a_budget_below_the_minimum_is_refused_before_anything_runs() {
    let runtime = runtime(15, 256, simulated(SimulatedFaults::default()));
    let environment = Environment::new(runtime.clone()).with_parallelism(2);
    counts(&environment);
    let error = environment
        .execute("small")
        .expect_err("15 segments are less than 16");
    assert_eq!(error.kind(), ErrorKind::Memory);
    assert_eq!(
        error.to_string(),
        "aggregate \"by key\", subtask 1 of 2: needs 8 segments, its budget has 7 (28 KiB); raise memory.managed_size"
    );
    assert_eq!(runtime.manager().outstanding(), 0);
}

#[test]
fn too_few_network_buffers_are_refused_before_anything_runs() {
    let runtime = runtime(64, 10, simulated(SimulatedFaults::default()));
    let environment = Environment::new(runtime.clone()).with_parallelism(2);
    counts(&environment);
    let error = environment.execute("small").expect_err("10 buffers are too few");
    assert_eq!(error.kind(), ErrorKind::Memory);
    let message = error.to_string();
    assert!(message.starts_with("network buffers: "), "{message}");
    assert!(
        message.ends_with("of 10 (4 KiB each) are free; raise memory.network_{fraction,min,max}"),
        "{message}"
    );
    assert_eq!(runtime.manager().outstanding(), 0);
}

#[test]
fn a_disk_that_is_full_fails_the_job_and_leaves_nothing() {
    for (faults, max_bytes, kind, says) in [
        (
            SimulatedFaults {
                capacity_bytes: Some(512 << 10),
                ..SimulatedFaults::default()
            },
            None,
            ErrorKind::Io,
            "No space left on device",
        ),
        (
            SimulatedFaults {
                no_space_one_in: 1,
                ..SimulatedFaults::default()
            },
            None,
            ErrorKind::Io,
            "No space left on device",
        ),
        (
            SimulatedFaults::default(),
            Some(256 << 10),
            ErrorKind::Memory,
            "raise spill.max_bytes",
        ),
    ] {
        for mode in [Mode::Batch, Mode::Streaming] {
            let disk = SimulatedDisk::new(1, faults);
            let config = SpillConfig {
                directories: vec!["/simulated".into()],
                workspace_bytes: 256 << 10,
                write_bytes: 16 << 10,
                extent_bytes: 128 << 10,
                max_bytes,
                ..SpillConfig::default()
            };
            let store = SpillStore::on_simulated(&disk, &config).expect("the sizes are within bounds");
            let runtime = runtime(16, 256, store);
            let environment = Environment::new(runtime.clone())
                .with_parallelism(2)
                .with_mode(mode);
            counts(&environment);
            let error = environment.execute("full").expect_err("the disk is full");
            assert_eq!(error.kind(), kind, "{error}");
            let message = error.to_string();
            assert!(message.contains(says), "{message}");
            assert_eq!(runtime.manager().outstanding(), 0);
            assert_eq!(runtime.spill().used_bytes(), 0);
            drop((environment, runtime));
            assert_eq!(disk.report().open_files, 0);
        }
    }
}

#[test]
fn a_job_spills_through_threads_where_that_is_asked_for() {
    let directory = std::env::temp_dir().join(format!("forebay-threads-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let config = SpillConfig {
        directories: vec![directory.clone()],
        io: IoChoice::Threads,
        workspace_bytes: 256 << 10,
        write_bytes: 16 << 10,
        ..SpillConfig::default()
    };
    let runtime = runtime(
        16,
        256,
        SpillStore::open(&config).expect("the directory is there"),
    );
    let environment = Environment::new(runtime).with_parallelism(2);
    let counts = counts(&environment);
    let summary = environment.execute("threads").expect("the job runs");
    assert!(summary.spilled_bytes_written() > 0, "{summary}");
    let counts = counts.take();
    assert_eq!(counts.len(), 15_000);
    assert!(counts.iter().all(|(_, count)| *count == 2));
    drop(environment);
    let left = std::fs::read_dir(&directory).expect("it is there").count();
    std::fs::remove_dir_all(&directory).expect("the test made it");
    assert_eq!(left, 0, "files are left");
}

/// From here on, the kernel refuses io_uring to this thread and those that it starts, as it does under the default
/// profiles of containers.
fn refuse_io_uring() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    /// The same on every architecture.
    const IO_URING_SETUP: i64 = 425;
    const EPERM: u32 = 1;
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let filter = SeccompFilter::new(
        BTreeMap::from([(IO_URING_SETUP, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(EPERM),
        architecture,
    );
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .expect("the filter is one call long");
    apply_filter(&program).expect("a thread may give up calls");
}

#[test]
fn a_job_spills_through_threads_where_the_kernel_refuses_io_uring() {
    let refused = std::thread::spawn(|| {
        refuse_io_uring();
        let directory = std::env::temp_dir().join(format!("forebay-refused-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
        let run = |io: IoChoice| {
            let config = SpillConfig {
                directories: vec![directory.clone()],
                io,
                workspace_bytes: 256 << 10,
                write_bytes: 16 << 10,
                ..SpillConfig::default()
            };
            let store = SpillStore::open(&config).expect("the directory is there");
            let runtime = runtime(16, 256, store);
            let environment = Environment::new(runtime.clone()).with_parallelism(2);
            let counts = counts(&environment);
            let result = environment.execute("refused");
            assert_eq!(runtime.manager().outstanding(), 0);
            result.map(|summary| (summary, counts.take()))
        };
        let (summary, counts) = run(IoChoice::Auto).expect("the job runs");
        assert!(summary.spilled_bytes_written() > 0, "{summary}");
        assert_eq!(counts.len(), 15_000);
        assert!(counts.iter().all(|(_, count)| *count == 2));
        assert_eq!(summary.spill.io, "threads");
        // Demanded, it is an error of the job that names the key.
        let error = run(IoChoice::IoUring).expect_err("the kernel refuses");
        assert_eq!(error.kind(), ErrorKind::Io);
        let message = error.to_string();
        assert!(
            message.contains("spill.io: the kernel refuses io_uring; use auto or threads"),
            "{message}"
        );
        assert!(message.contains("Operation not permitted"), "{message}");
        let left = std::fs::read_dir(&directory).expect("it is there").count();
        std::fs::remove_dir_all(&directory).expect("the test made it");
        assert_eq!(left, 0, "files are left");
    });
    if let Err(panic) = refused.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Where the child of the next test spills; set for it alone.
const FULL: &str = "FOREBAY_TEST_FULL_DIRECTORY";

/// The child of the next test: a job whose spill directory is too small, and one that fits.
#[test]
fn spill_to_a_full_file_system() {
    let Ok(directory) = std::env::var(FULL) else {
        return;
    };
    println!("mounted");
    let config = SpillConfig {
        directories: vec![directory.clone().into()],
        workspace_bytes: 256 << 10,
        write_bytes: 16 << 10,
        extent_bytes: 128 << 10,
        ..SpillConfig::default()
    };
    let runtime = runtime(
        16,
        256,
        SpillStore::open(&config).expect("the directory is there"),
    );
    for _ in 0..2 {
        let environment = Environment::new(runtime.clone()).with_parallelism(2);
        let large = environment.source("large", generate(300_000, |index| (index, index)));
        large.group_by(first()).count().blackhole();
        let error = environment.execute("large").expect_err("the disk is full");
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        let message = error.to_string();
        assert!(message.contains("No space left on device"), "{message}");
        assert!(
            message.contains(&directory) && message.contains("spill.directories"),
            "{message}"
        );
        assert_eq!(runtime.manager().outstanding(), 0);
        assert_eq!(runtime.spill().used_bytes(), 0);
        assert_eq!(std::fs::read_dir(&directory).expect("it is there").count(), 0);
    }
    // What the failed jobs had is free again.
    let environment = Environment::new(runtime).with_parallelism(1);
    let small = environment.source("small", generate(6000, |index| (index, index)));
    let counts = small.group_by(first()).count().collect();
    let summary = environment.execute("small").expect("it fits");
    assert!(summary.spilled_bytes_written() > 0, "{summary}");
    assert_eq!(counts.take().len(), 6000);
    println!("full, and freed");
}

#[test]
fn a_file_system_in_memory_that_is_full_fails_the_job_and_leaves_nothing() {
    let directory = std::env::temp_dir().join(format!("forebay-full-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    // In a mount namespace of its own, so that the mount goes with the child; mounting needs rights that not all have.
    let script = "mount -t tmpfs -o size=2m tmpfs \"$0\" && exec \"$1\" --exact limits::spill_to_a_full_file_system --nocapture";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(&directory)
        .arg(std::env::current_exe().expect("this test has a path"))
        .env(FULL, &directory)
        .output();
    std::fs::remove_dir(&directory).expect("nothing was written below the mount");
    let Ok(output) = output else {
        println!("skipped: unshare cannot be run");
        return;
    };
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !said.contains("mounted") {
        println!("skipped: a tmpfs cannot be mounted here: {complained}");
        return;
    }
    assert!(
        output.status.success() && said.contains("full, and freed"),
        "{said}\n{complained}"
    );
}

#[test]
fn a_record_over_the_largest_size_fails_the_job_where_it_was_made() {
    let runtime = runtime(64, 256, simulated(SimulatedFaults::default()));
    let most = runtime.plan().record.max_size;
    for (length, fits) in [(most - 100, true), (most + 1, false)] {
        let environment = Environment::new(runtime.clone()).with_parallelism(2);
        let lengths = environment
            .source("numbers", generate(100, |index| index))
            .map(move |number| match number {
                70 => "x".repeat(length),
                _ => String::new(),
            })
            .name("texts")
            .rebalance()
            .map(|text| text.len() as u64)
            .collect();
        match environment.execute("large") {
            Ok(_) => {
                assert!(fits, "a record of {length} B passed");
                assert_eq!(lengths.take().iter().sum::<u64>(), length as u64);
            }
            Err(error) => {
                let message = error.to_string();
                assert!(!fits, "{message}");
                assert!(message.contains("operator \"texts\""), "{message}");
                assert!(message.contains("record.max_size"), "{message}");
            }
        }
        assert_eq!(runtime.manager().outstanding(), 0);
    }
}

/// What is sent between the two parts of an aggregation is larger than the record by what is kept for the key.
#[test]
fn a_key_as_large_as_a_record_may_be_is_aggregated() {
    let runtime = runtime(700, 256, simulated(SimulatedFaults::default()));
    let most = runtime.plan().record.max_size;
    let row = |length: usize| {
        let text = "x".repeat(length);
        <(String, u64) as forebay::record::Record>::row_size((&text, 0))
    };
    let length = (0..most)
        .rev()
        .find(|length| row(*length) <= most)
        .expect("a text fits in a record");
    assert_eq!(row(length), most, "the record is as large as it may be");
    let environment = Environment::new(runtime.clone()).with_parallelism(1);
    let counts = environment
        .source("numbers", generate(6, |index| index))
        .map(move |number| ("x".repeat(length), number))
        .group_by(first::<(String, u64)>())
        .count()
        .map(|(text, count)| (text.len() as u64, count))
        .collect();
    environment.execute("large keys").expect("the job runs");
    assert_eq!(counts.take(), [(length as u64, 6)]);
    assert_eq!(runtime.manager().outstanding(), 0);
}

#[test]
fn empty_inputs_give_empty_results() {
    for mode in [Mode::Batch, Mode::Streaming] {
        let runtime = runtime(64, 256, simulated(SimulatedFaults::default()));
        let environment = Environment::new(runtime.clone())
            .with_parallelism(3)
            .with_mode(mode);
        let empty = environment.source("empty", from_items(Vec::<(u64, u64)>::new()));
        let counts = empty.key_by(first()).count().collect();
        environment.execute("empty").expect("the job runs");
        assert!(counts.take().is_empty());
        assert_eq!(runtime.manager().outstanding(), 0);
    }
}

#[test]
fn all_keys_equal_take_one_group_in_the_least_memory() {
    for mode in [Mode::Batch, Mode::Streaming] {
        let runtime = runtime(16, 256, simulated(SimulatedFaults::default()));
        let environment = Environment::new(runtime).with_parallelism(2).with_mode(mode);
        let counts = environment
            .source("same", generate(50_000, |index| (7u64, index)))
            .key_by(first())
            .aggregate_final(forebay::aggregate::count())
            .collect();
        let summary = environment.execute("same").expect("the job runs");
        assert_eq!(counts.take(), [(7, 50_000)]);
        assert_eq!(summary.spilled_bytes_written(), 0, "{summary}");
    }
}

/// Keys that share 47 bits of their hash: splitting by further bits ends, and what does not fit is done in passes.
#[test]
fn keys_that_no_hash_bit_tells_apart_are_aggregated_in_passes() {
    for mode in [Mode::Batch, Mode::Streaming] {
        let runtime = runtime(8, 256, simulated(SimulatedFaults::default()));
        let environment = Environment::new(runtime.clone())
            .with_parallelism(1)
            .with_mode(mode);
        const KEYS: u64 = 6000;
        let pairs = generate(3 * KEYS, |index| {
            (unhash_u64((0xabcd << 48) | (index % KEYS)), index)
        });
        let sums = environment
            .source("pairs", pairs)
            .key_by(first())
            .sum(second())
            .collect();
        let summary = environment.execute("alike").expect("the job runs");
        assert!(summary.spilled_bytes_written() > 0, "{summary}");
        let last: BTreeMap<u64, u64> = sums.take().into_iter().collect();
        let expected = (0..KEYS).map(|number| (unhash_u64((0xabcd << 48) | number), 3 * (number + KEYS)));
        assert_eq!(last, expected.collect());
        assert_eq!(runtime.manager().outstanding(), 0);
    }
}

/// As above, with rows that shrink: the room that a key's first row did not find is there for its others.
#[test]
fn a_key_that_waits_for_another_pass_has_one_group() {
    for mode in [Mode::Batch, Mode::Streaming] {
        let runtime = runtime(24, 256, simulated(SimulatedFaults::default()));
        let environment = Environment::new(runtime.clone())
            .with_parallelism(1)
            .with_mode(mode);
        const KEYS: u64 = 300;
        const ROUNDS: u64 = 5;
        let key = |number: u64| unhash_u64((0xabcd << 48) | number);
        let longest = environment
            .source(
                "texts",
                generate(ROUNDS * KEYS, move |index| {
                    let size = if index < KEYS { 900 } else { 10 + index / KEYS };
                    (key(index % KEYS), "x".repeat(size as usize))
                }),
            )
            .key_by(first())
            .reduce(|left, right| {
                let longer = if left.1.len() >= right.1.len() {
                    left
                } else {
                    right
                };
                (longer.0, longer.1.to_string())
            })
            .map(|(key, text)| (key, text.len() as u64))
            .collect();
        environment.execute("shrinking").expect("the job runs");
        let mut longest = longest.take();
        longest.sort_unstable();
        let times = if mode == Mode::Batch { 1 } else { ROUNDS as usize };
        let mut expected: Vec<_> = (0..KEYS)
            .flat_map(|number| vec![(key(number), 900); times])
            .collect();
        expected.sort_unstable();
        assert!(longest == expected, "{mode:?}: {} rows", longest.len());
        assert_eq!(runtime.manager().outstanding(), 0);
    }
}

/// −0.0 is 0.0, every NaN is one key, and so is *no value*, also where groups are spilled and read again.
#[test]
fn zeros_nans_and_nulls_are_keys() {
    let numbers = [0.0, -0.0, f64::NAN, -f64::NAN, 1.5];
    for managed in [40, 4000] {
        let runtime = runtime(managed, 256, simulated(SimulatedFaults::default()));
        let environment = Environment::new(runtime).with_parallelism(2);
        let values = environment.source(
            "values",
            generate(50_000, move |index| {
                let null = (index % 7 == 0).then_some(index % 3);
                // Filler keys make the special ones spill.
                match index % 2 {
                    0 => ((numbers[index as usize / 2 % 5], null), index),
                    _ => ((index as f64 + 10.0, null), index),
                }
            }),
        );
        let counts = values
            .group_by(first::<((f64, Option<u64>), u64)>())
            .count()
            .filter(|((number, _), _)| number.is_nan() || number < 5.0)
            .collect();
        let summary = environment.execute("values").expect("the job runs");
        assert_eq!(summary.spilled_bytes_written() > 0, managed == 40, "{summary}");
        let mut found: BTreeMap<(String, Option<u64>), u64> = BTreeMap::new();
        for ((number, null), count) in counts.take() {
            let before = found.insert((format!("{number}"), null), count);
            assert!(before.is_none(), "{number} and {null:?} are two keys");
        }
        let mut expected: BTreeMap<(String, Option<u64>), u64> = BTreeMap::new();
        for index in (0..50_000u64).step_by(2) {
            let name = ["0", "0", "NaN", "NaN", "1.5"][index as usize / 2 % 5];
            let null = (index % 7 == 0).then_some(index % 3);
            *expected.entry((name.to_string(), null)).or_default() += 1;
        }
        assert_eq!(found, expected);
    }
}

/// Whether an operator spilled, and how much, is told for each operator.
#[test]
fn the_summary_says_which_operator_spilled() {
    let runtime = runtime(100, 256, simulated(SimulatedFaults::default()));
    let environment = Environment::new(runtime).with_parallelism(1);
    let pairs = environment.source("pairs", generate(30_000, |index| (index, index)));
    let (many, few) = pairs.fork();
    many.group_by(first()).count().name("many").blackhole();
    few.map(|(key, value)| (key % 10, value))
        .group_by(first())
        .count()
        .name("few")
        .blackhole();
    let summary = environment.execute("two").expect("the job runs");
    let spilled = |name: &str| -> (u64, u64) {
        let operators = summary.tasks.iter().flat_map(|task| &task.operators);
        let mut named = operators.filter(|operator| operator.name == name);
        let operator = named.next().expect("it is in the summary");
        (operator.spilled_bytes_written, operator.spilled_bytes_read)
    };
    let (written, read) = spilled("many");
    assert!(written > 0 && read > 0, "{summary}");
    assert_eq!(spilled("few"), (0, 0), "{summary}");
    let table = summary.to_string();
    let lines: Vec<&str> = table.lines().collect();
    let columns = "task|records in|records out|bytes out|busy|idle|backpr.|segments|spilled";
    let header: Vec<&str> = lines[1].split("  ").filter(|word| !word.is_empty()).collect();
    assert_eq!(
        header
            .iter()
            .map(|word| word.trim())
            .collect::<Vec<_>>()
            .join("|"),
        columns
    );
    let many = lines
        .iter()
        .find(|line| line.contains("many"))
        .expect("it has a line");
    assert!(!many.ends_with(" 0 B") && many.contains("30000"), "{table}");
}

/// Freeing gigabytes takes a file system its time: a job does not wait for that, and the next one writes where it has.
#[test]
fn the_space_of_spill_files_is_used_again_and_not_freed_by_a_job() {
    let directory = std::env::temp_dir().join(format!("forebay-recycled-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let config = SpillConfig {
        directories: vec![directory.clone()],
        workspace_bytes: 512 << 10,
        write_bytes: 16 << 10,
        extent_bytes: 128 << 10,
        ..SpillConfig::default()
    };
    let runtime = runtime(
        40,
        256,
        SpillStore::open(&config).expect("the directory is there"),
    );
    let mut sizes = Vec::new();
    for job in 0..4 {
        let environment = Environment::new(runtime.clone()).with_parallelism(1);
        let counts = counts(&environment);
        let summary = environment.execute("again").expect("the job runs");
        assert_eq!(counts.take().len(), 15_000);
        assert!(summary.spilled_bytes_written() > 0, "job {job}: {summary}");
        assert_eq!(runtime.spill().used_bytes(), 0, "job {job}");
        assert_eq!(summary.spill_files_bytes, runtime.spill().allocated_bytes());
        assert!(summary.to_string().contains("; spill files take "), "{summary}");
        sizes.push(summary.spill_files_bytes);
    }
    drop(runtime);
    std::fs::remove_dir_all(&directory).expect("the test made it");
    assert!(sizes.is_sorted(), "no job has freed anything: {sizes:?}");
    // How well blocks compress, and so how many extents they take, is a matter of the disk's speed.
    assert!(sizes[3] < 2 * sizes[0], "space is used again: {sizes:?}");
}
