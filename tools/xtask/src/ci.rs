//! `cargo xtask ci` and `sanitize`: all checks one after the other, each with its time; all run, even after one has failed.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// A step that is a cargo command.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
}

/// What is off by default, of all packages that have it.
const ALL_FEATURES: &str = "forebay/parquet-zstd,forebay-bench/parquet,forebay-tests/parquet";

const STEPS: &[Step] = &[
    Step {
        name: "format",
        arguments: &["fmt", "--all", "--check"],
        variables: &[],
    },
    Step {
        name: "clippy",
        arguments: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        variables: &[],
    },
    // Off by default, so that nothing else compiles it: all features at once, the codec that needs a C compiler among them.
    Step {
        name: "clippy of Parquet",
        arguments: &[
            "clippy",
            "--package",
            "forebay",
            "--package",
            "forebay-bench",
            "--package",
            "forebay-tests",
            "--features",
            ALL_FEATURES,
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        variables: &[],
    },
    Step {
        name: "Parquet without zstd",
        arguments: &["check", "--package", "forebay", "--features", "parquet"],
        variables: &[],
    },
    // They are a workspace of their own, which nothing else compiles.
    Step {
        name: "fuzz targets",
        arguments: &[
            "check",
            "--manifest-path",
            "tests/fuzz/Cargo.toml",
            "--no-default-features",
            "--target-dir",
            "target",
        ],
        variables: &[],
    },
    // So is this. What it runs, other engines, is not run here.
    Step {
        name: "format of the comparison",
        arguments: &["fmt", "--manifest-path", "bench/compare/Cargo.toml", "--check"],
        variables: &[],
    },
    Step {
        name: "comparison",
        arguments: &[
            "test",
            "--quiet",
            "--manifest-path",
            "bench/compare/Cargo.toml",
            "--target-dir",
            "target",
        ],
        variables: &[],
    },
    Step {
        name: "documentation",
        arguments: &["doc", "--workspace", "--no-deps"],
        variables: &[("RUSTDOCFLAGS", "-D warnings")],
    },
];

const TESTS: [Step; 3] = [
    Step {
        name: "tests",
        arguments: &["test", "--workspace"],
        variables: &[],
    },
    Step {
        name: "tests of Parquet",
        arguments: &[
            "test",
            "--package",
            "forebay",
            "--package",
            "forebay-tests",
            "--features",
            "forebay/parquet-zstd,forebay-tests/parquet",
            "--lib",
            "--test",
            "arrow",
            "--test",
            "files_parquet*",
            "--test",
            "model",
        ],
        variables: &[],
    },
    Step {
        name: "tests of Parquet in the harness",
        arguments: &[
            "test",
            "--package",
            "forebay-bench",
            "--features",
            "parquet,forebay/parquet-zstd",
            "--lib",
            "parquet",
        ],
        variables: &[],
    },
];

/// The tests of the only crate with unsafe code, under AddressSanitizer: in a target directory of its own, because every
/// dependency is instrumented, too. The sanitizer comes with the toolchain; that it is an unstable option of the
/// compiler, the variable says.
const SANITIZE: Step = Step {
    name: "address sanitizer",
    arguments: &[
        "test",
        "--package",
        "forebay-memory",
        "--lib",
        "--tests",
        "--target",
    ],
    variables: &[
        ("RUSTC_BOOTSTRAP", "1"),
        ("RUSTFLAGS", "-Zsanitizer=address"),
        ("CARGO_TARGET_DIR", "target/asan"),
    ],
};

/// Hosts for which toolchains bring an AddressSanitizer.
const SANITIZED_HOSTS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// Runs the steps in `root`; with the tests or without.
pub fn run(root: &Path, with_tests: bool) -> ExitCode {
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
    for step in STEPS.iter().chain(TESTS.iter().filter(|_| with_tests)) {
        if !step.run(root, None) {
            failed.push(step.name);
        }
    }
    if !sanitized(root) {
        failed.push(SANITIZE.name);
    }
    if failed.is_empty() {
        println!("ci: all passed");
        ExitCode::SUCCESS
    } else {
        println!("ci: failed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

/// Runs the sanitized tests alone.
pub fn sanitize(root: &Path) -> ExitCode {
    match sanitized(root) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn sanitized(root: &Path) -> bool {
    match host() {
        Some(host) if SANITIZED_HOSTS.contains(&host.as_str()) => SANITIZE.run(root, Some(&host)),
        host => {
            let host = host.as_deref().unwrap_or("a host that rustc does not name");
            println!("ci: {}: left out, {host} has none", SANITIZE.name);
            true
        }
    }
}

/// The machine that the compiler runs on, as it calls it.
fn host() -> Option<String> {
    let output = Command::new("rustc").arg("-vV").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(String::from)
}

impl Step {
    fn run(&self, root: &Path, last_argument: Option<&str>) -> bool {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let arguments = || self.arguments.iter().copied().chain(last_argument);
        let what = format!("cargo {}", arguments().collect::<Vec<_>>().join(" "));
        timed(self.name, &what, || {
            let mut command = Command::new(&cargo);
            command
                .args(arguments())
                .envs(self.variables.iter().copied())
                .current_dir(root);
            match command.status() {
                Ok(status) => status.success(),
                Err(error) => {
                    eprintln!("cannot run {}: {error}", cargo.display());
                    false
                }
            }
        })
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
