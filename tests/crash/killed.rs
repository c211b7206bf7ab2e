//! Processes that are killed in the middle of a job: what they leave on disk.

use forebay::record::first;
use forebay::source::generate;
use forebay::{Environment, Runtime};
use forebay_memory::spill::{IoChoice, SpillConfig};
use forebay_memory::{MemoryManager, Plan, SpillStore};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the child spills, and by which way; set for the child alone.
const DIRECTORY: &str = "FOREBAY_TEST_SPILL_DIRECTORY";
const IO: &str = "FOREBAY_TEST_SPILL_IO";

/// The child of the next test: an aggregation that never ends, and says when it has spilled.
#[test]
fn spill_until_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let io = std::env::var(IO).expect("the parent sets both");
    let config = SpillConfig {
        directories: vec![PathBuf::from(directory)],
        io: if io == "threads" {
            IoChoice::Threads
        } else {
            IoChoice::Auto
        },
        max_bytes: Some(1 << 30),
        workspace_bytes: 512 << 10,
        write_bytes: 64 << 10,
        ..SpillConfig::default()
    };
    let plan = Plan::with_segments(32, 128, 4096).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(32, 128, 4096).expect("it is little memory");
    let spill = SpillStore::open(&config).expect("the directory is there");
    let runtime = Runtime::from_parts(plan, manager, spill);
    let environment = Environment::new(runtime.clone()).with_parallelism(2);
    environment
        .source("pairs", generate(u64::MAX, |index| (index % 100_000, index)))
        .group_by(first())
        .count()
        .blackhole();
    let handle = environment.execute_async("endless").expect("the job starts");
    while runtime.spill().stats().bytes_written < 1 << 20 {
        std::thread::yield_now();
    }
    println!("spilling");
    let _ = handle.wait();
}

fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    entries
        .map(|entry| entry.expect("it can be read").file_name())
        .collect()
}

#[test]
fn a_job_that_is_killed_while_it_spills_leaves_no_file() {
    for io in ["auto", "threads"] {
        let directory = std::env::temp_dir().join(format!("forebay-crash-{}-{io}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
        let mut child = Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", "killed::spill_until_killed", "--nocapture"])
            .env(DIRECTORY, &directory)
            .env(IO, io)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test runs itself");
        let output = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let begun = lines.any(|line| line.ends_with("spilling"));
        let during = names(&directory);
        child.kill().expect("the child runs");
        let status = child.wait().expect("the child was started here");
        let after = names(&directory);
        std::fs::remove_dir_all(&directory).expect("the test made it");
        assert!(begun, "the child spilled");
        assert!(!status.success(), "the child was killed");
        assert!(during.is_empty(), "spill files with names: {during:?}");
        assert!(after.is_empty(), "spill files were left: {after:?}");
    }
}
