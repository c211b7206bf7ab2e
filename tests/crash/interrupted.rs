//! Processes that are interrupted: the first signal cancels their jobs, the second ends them, and without a job a signal
//! does what it always did.

use forebay::source::generate;
use forebay::{Environment, JobHandle, JobStatus, Runtime, interrupted};
use forebay_memory::{ErrorKind, Plan};
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;

/// What the child is to do; set for it alone.
const PART: &str = "FOREBAY_TEST_INTERRUPTED_PART";

fn environment() -> Environment {
    let plan = Plan::with_segments(32, 128, 4096).expect("the test's sizes make a plan");
    let runtime = Runtime::new(plan).expect("it is little memory");
    Environment::new(runtime)
        .with_parallelism(1)
        .cancel_on_interrupt()
        .expect("signals can be handled")
}

/// A line of its own for the parent: the test harness may have begun another one.
fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{line}").expect("the parent reads");
}

fn endless(environment: &Environment) -> JobHandle {
    let numbers = environment.source("numbers", generate(u64::MAX, |index| index));
    numbers.blackhole();
    environment.execute_async("endless").expect("the job starts")
}

/// The child of the tests below.
#[test]
fn run_until_interrupted() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let environment = environment();
    assert_eq!(interrupted(), None);
    match part.as_str() {
        "stuck" => {
            let (entered, has_entered) = channel();
            let numbers = environment.source("numbers", generate(1, |index| index));
            numbers
                .inspect(move |_| {
                    let _ = entered.send(());
                    loop {
                        std::thread::park();
                    }
                })
                .blackhole();
            let handle = environment.execute_async("stuck").expect("the job starts");
            has_entered.recv().expect("the function is called");
            say("running");
            while handle.status() != JobStatus::Stopping {
                std::thread::yield_now();
            }
            say("stopping");
            let _ = handle.wait();
        }
        "twice" => {
            for _ in 0..2 {
                let handle = endless(&environment);
                say("running");
                let error = handle.wait().expect_err("it has no end");
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                assert_eq!(error.to_string(), "job \"endless\" was interrupted by SIGINT");
                assert_eq!(interrupted(), Some(130));
                assert_eq!(environment.runtime().manager().outstanding(), 0);
            }
            say("idle");
            loop {
                std::thread::park();
            }
        }
        part => panic!("there is no part {part}"),
    }
}

struct Interrupted {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Interrupted {
    fn start(part: &str) -> Interrupted {
        let mut child = Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", "interrupted::run_until_interrupted", "--nocapture"])
            .env(PART, part)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test runs itself");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Interrupted { child, lines }
    }

    fn wait_for(&mut self, expected: &str) {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        assert!(
            lines.any(|line| line == expected),
            "the child ended before \"{expected}\""
        );
    }

    fn interrupt(&self) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -INT {}", self.child.id())])
            .status()
            .expect("a shell");
        assert!(sent.success(), "the child runs");
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().expect("the child was started here")
    }
}

#[test]
fn a_second_interrupt_ends_a_process_whose_function_is_stuck() {
    let mut child = Interrupted::start("stuck");
    child.wait_for("running");
    child.interrupt();
    child.wait_for("stopping");
    child.interrupt();
    assert_eq!(child.end().code(), Some(130));
}

#[test]
fn each_job_is_cancelled_by_its_first_interrupt_and_an_idle_process_ends() {
    let mut child = Interrupted::start("twice");
    for line in ["running", "running", "idle"] {
        child.wait_for(line);
        child.interrupt();
    }
    assert_eq!(child.end().signal(), Some(2));
}
