//! Running one measured process: bounded, timed out, and told apart by how it ended.

use crate::confine::{Bound, Confinement};
use crate::python::Python;
use forebay_memory::{Error, Result};
use serde::Deserialize;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What every measured process has in common.
pub struct Launcher {
    /// The Python that runs the launching script.
    pub python: Python,
    /// Words of a command before everything that is measured.
    pub prefix: Vec<String>,
    /// Seconds after which a process is killed.
    pub timeout: u32,
    /// Where reports and output go.
    pub directory: PathBuf,
}

/// A program to run.
#[derive(Debug, Default)]
pub struct Invocation {
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// Variables of its environment, beside this process's.
    pub variables: Vec<(&'static str, &'static str)>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Why there is no answer, or nothing.
    pub failure: Option<Failure>,
    /// Standard output.
    pub output: String,
    /// The most resident memory.
    pub peak_rss_bytes: u64,
    /// Processor time.
    pub cpu_seconds: f64,
    /// From start to end.
    pub wall_seconds: f64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The kernel killed it for exceeding its bound.
    Killed,
    /// The engine said that its memory was not enough.
    OutOfMemory,
    /// It was not done in time.
    TimedOut,
    /// Anything else: its last words.
    Other(String),
}

impl Failure {
    /// As it is written in the table.
    pub fn name(&self) -> String {
        match self {
            Failure::Killed => "killed at the limit".into(),
            Failure::OutOfMemory => "out of memory".into(),
            Failure::TimedOut => "not done in time".into(),
            Failure::Other(words) => format!("failed: {words}"),
        }
    }
}

#[derive(Deserialize)]
struct Report {
    exit_code: i32,
    timed_out: bool,
    wall_seconds: f64,
    cpu_seconds: f64,
    peak_rss_bytes: u64,
}

impl Launcher {
    /// Runs a program; in a bound of `bytes` where there is one.
    ///
    /// # Errors
    /// Where it cannot be started at all, or the user has interrupted it.
    pub fn run(
        &self,
        invocation: &Invocation,
        confinement: &Confinement,
        bytes: Option<u64>,
    ) -> Result<Ended> {
        let failed = |what: &str, error| Error::io(format!("cannot {what}"), error);
        let paths = ["report.json", "stdout", "stderr"].map(|name| self.directory.join(name));
        let [report, output, errors] = &paths;
        let _ = fs::remove_file(report);
        let bound = match bytes {
            Some(bytes) => confinement.bound(bytes)?,
            None => Bound::None,
        };
        let mut words: Vec<OsString> = self.prefix.iter().map(OsString::from).collect();
        words.push(self.python.program().into());
        words.push(self.python.script("launch.py").into());
        words.push(report.into());
        words.push(self.timeout.to_string().into());
        words.push(bound.argument().into());
        words.extend(invocation.words.iter().cloned());
        let file = |path: &PathBuf| File::create(path).map_err(|error| failed("write output", error));
        let status = Command::new(&words[0])
            .args(&words[1..])
            .envs(invocation.variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file(output)?)
            .stderr(file(errors)?)
            .status()
            .map_err(|error| failed(&format!("start {}", words[0].display()), error))?;
        let read = |path: &PathBuf| {
            fs::read(path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        let errors = read(errors);
        let report: Report = match serde_json::from_str(&read(report)) {
            Ok(report) if status.success() => report,
            _ if status.code() == Some(130) => return Err(Error::cancelled("interrupted")),
            _ => {
                return Err(Error::config(format!(
                    "{} did not run: {status}; {}",
                    words[0].display(),
                    last_words(&errors)
                )));
            }
        };
        let output = read(output);
        Ok(Ended {
            failure: failure(&report, bound.has_killed(), &errors),
            output,
            peak_rss_bytes: report.peak_rss_bytes,
            cpu_seconds: report.cpu_seconds,
            wall_seconds: report.wall_seconds,
        })
    }
}

fn failure(report: &Report, killed: bool, errors: &str) -> Option<Failure> {
    if report.exit_code == 0 {
        return None;
    }
    let lower = errors.to_lowercase();
    let words = [
        "out of memory",
        "resources exhausted",
        "memoryerror",
        "memory exhausted",
        "cannot allocate memory",
        "bad_alloc",
        "memory allocation of",
        "malloc of size",
    ];
    Some(if report.timed_out {
        Failure::TimedOut
    } else if killed {
        Failure::Killed
    } else if words.iter().any(|word| lower.contains(word)) {
        Failure::OutOfMemory
    } else {
        Failure::Other(format!("{} (exit code {})", last_words(errors), report.exit_code))
    })
}

fn last_words(errors: &str) -> String {
    let line = errors.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("no message").trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(exit_code: i32, timed_out: bool) -> Report {
        Report {
            exit_code,
            timed_out,
            wall_seconds: 0.0,
            cpu_seconds: 0.0,
            peak_rss_bytes: 0,
        }
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(failure(&report(0, false), false, "a warning"), None);
        assert_eq!(failure(&report(-9, false), true, ""), Some(Failure::Killed));
        assert_eq!(failure(&report(-9, true), false, ""), Some(Failure::TimedOut));
        for words in [
            "duckdb.OutOfMemoryException: Out of Memory Error: failed to pin block",
            "Exception: DataFusion error: Resources exhausted: Failed to allocate",
            "sort: memory exhausted",
        ] {
            assert_eq!(
                failure(&report(1, false), false, words),
                Some(Failure::OutOfMemory),
                "{words}"
            );
        }
        assert_eq!(
            failure(&report(2, false), false, "first\nno such file\n\n"),
            Some(Failure::Other("no such file (exit code 2)".into()))
        );
    }
}
