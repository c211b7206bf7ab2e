//! A thousand failed and cancelled jobs leak no segment, thread, file descriptor or file. In a process of its own,
//! because it counts the process's threads and descriptors.

use forebay::record::{first, second};
use forebay::simulator::Random;
use forebay::source::generate;
use forebay::{Environment, Error, ErrorKind, Mode, Runtime};
use forebay_memory::spill::SpillConfig;
use forebay_memory::{MemoryManager, Plan, SpillStore};

const JOBS: u64 = 1000;

/// Threads and open descriptors of this process.
fn count() -> (usize, usize) {
    let entries = |path: &str| std::fs::read_dir(path).expect("/proc is there").count();
    (entries("/proc/self/task"), entries("/proc/self/fd"))
}

/// Runs a job that ends badly, and answers what with.
fn run(runtime: &Runtime, random: &mut Random) -> ErrorKind {
    let environment = Environment::new(runtime.clone())
        .with_parallelism(1 + random.below(3))
        .with_mode([Mode::Batch, Mode::Streaming][random.below(2)]);
    let fate = random.below(7);
    let records = match fate {
        0..=3 => 20_000,
        // More than it could make before it is cancelled, and few enough that none of their sums overflows.
        _ => 1 << 40,
    };
    let bad = random.below(20_000) as u64;
    let pairs = environment
        .source(
            "pairs",
            generate(records, move |index| {
                assert!(fate != 0 || index != bad, "the source fails");
                (index % 9000, index as i64)
            }),
        )
        .try_map(move |(key, value)| match fate {
            1 if value == bad as i64 => panic!("the function fails"),
            2 if value == bad as i64 => Err(Error::user("the function refuses")),
            _ => Ok((key, value)),
        });
    if random.happens(2) {
        pairs
            .key_by(first())
            .sum(second())
            .for_each(move |(_, sum)| match fate {
                3 if sum % 7 == 0 => panic!("the sink fails"),
                _ => Ok(()),
            });
    } else {
        // Of one subtask, which is what the memory is enough for.
        let others = environment.source("others", generate(9000, |index| (index, index as i64)));
        pairs
            .join(others)
            .on(first(), first())
            .matching(move |left, _| {
                assert!(fate != 3 || left.1 % 7 > 0, "the condition fails");
                true
            })
            .right_outer(|left, right| left.map_or(0, |left| left.1) + right.1)
            .parallelism(1)
            .blackhole();
    }
    let handle = environment.execute_async("doomed").expect("the job starts");
    let error = match fate {
        0..=3 => handle.wait().expect_err("a function fails"),
        _ => {
            let records = random.below(20_000) as u64;
            while handle.metrics().iter().map(|task| task.records_in).sum::<u64>() < records {
                std::thread::yield_now();
            }
            match fate {
                4 => {
                    drop(handle);
                    return ErrorKind::Cancelled;
                }
                _ => {
                    handle.cancel();
                    handle.wait().expect_err("the job was cancelled")
                }
            }
        }
    };
    let expected = if fate <= 3 {
        ErrorKind::User
    } else {
        ErrorKind::Cancelled
    };
    assert_eq!(error.kind(), expected, "fate {fate}: {error}");
    expected
}

#[test]
fn jobs_that_end_badly_leave_nothing_behind() {
    // Their panics would fill the terminal.
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = std::panic::catch_unwind(run_all);
    let _ = std::panic::take_hook();
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        panic!("{}", text.unwrap_or_else(|| "see above".into()));
    }
}

fn run_all() {
    let before = count();
    let directory = std::env::temp_dir().join(format!("forebay-leaks-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let config = SpillConfig {
        directories: vec![directory.clone()],
        workspace_bytes: 512 << 10,
        write_bytes: 16 << 10,
        ..SpillConfig::default()
    };
    let plan = Plan::with_segments(32, 256, 4096).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(32, 256, 4096).expect("it is little memory");
    let spill = SpillStore::open(&config).expect("the directory is there");
    let runtime = Runtime::from_parts(plan, manager, spill);
    let mut random = Random::new(2);
    let mut warm = (0, 0);
    let mut cancelled = 0;
    for job in 0..JOBS {
        let kind = run(&runtime, &mut random);
        cancelled += u64::from(kind == ErrorKind::Cancelled);
        assert_eq!(runtime.manager().outstanding(), 0, "job {job}");
        assert_eq!(runtime.spill().used_bytes(), 0, "job {job}");
        if job == JOBS / 10 {
            warm = count();
        }
    }
    assert!(
        cancelled > JOBS / 5 && cancelled < JOBS * 4 / 5,
        "{cancelled} were cancelled"
    );
    assert!(runtime.spill().stats().bytes_written > 0, "none of them spilled");
    let after = count();
    assert!(
        after.0 <= warm.0 && after.1 <= warm.1,
        "threads and descriptors: {warm:?} after {} jobs, {after:?} after {JOBS}",
        JOBS / 10
    );
    drop(runtime);
    assert_eq!(
        count(),
        before,
        "threads and descriptors after the runtime is gone"
    );
    let left = std::fs::read_dir(&directory).expect("it is there").count();
    std::fs::remove_dir_all(&directory).expect("the test made it");
    assert_eq!(left, 0, "spill files are left");
}
