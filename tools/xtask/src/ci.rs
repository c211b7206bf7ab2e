//! `cargo xtask ci`: all checks one after the other, each with its time; all run, even after one has failed.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// The steps that are a cargo command: name, arguments, variable.
type Step = (
    &'static str,
    &'static [&'static str],
    Option<(&'static str, &'static str)>,
);

const STEPS: &[Step] = &[
    ("format", &["fmt", "--all", "--check"], None),
    (
        "clippy",
        &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        None,
    ),
    (
        "documentation",
        &["doc", "--workspace", "--no-deps"],
        Some(("RUSTDOCFLAGS", "-D warnings")),
    ),
];

const TESTS: Step = ("tests", &["test", "--workspace"], None);

/// Runs the steps in `root`; with the tests or without.
pub fn run(root: &Path, with_tests: bool) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run_step = |(name, arguments, variable): Step| {
        timed(name, &format!("cargo {}", arguments.join(" ")), || {
            let mut command = Command::new(&cargo);
            command.args(arguments).envs(variable).current_dir(root);
            match command.status() {
                Ok(status) => status.success(),
                Err(error) => {
                    eprintln!("cannot run {}: {error}", cargo.display());
                    false
                }
            }
        })
    };

    let tidy = timed("tidy", "cargo xtask tidy", || {
        let complaints = crate::tidy::check(root);
        complaints
            .iter()
            .for_each(|complaint| eprintln!("tidy: {complaint}"));
        complaints.is_empty()
    });
    let mut failed = Vec::new();
    if !tidy {
        failed.push("tidy");
    }
    for step in STEPS.iter().copied().chain(with_tests.then_some(TESTS)) {
        if !run_step(step) {
            failed.push(step.0);
        }
    }
    if failed.is_empty() {
        println!("ci: all passed");
        ExitCode::SUCCESS
    } else {
        println!("ci: failed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

fn timed(name: &str, what: &str, step: impl FnOnce() -> bool) -> bool {
    println!("ci: {name}: {what}");
    let start = Instant::now();
    let passed = step();
    let verdict = if passed { "passed" } else { "FAILED" };
    println!("ci: {name}: {verdict} in {:.1} s", start.elapsed().as_secs_f64());
    passed
}
