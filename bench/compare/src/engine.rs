//! The other engines: which questions each is asked, how it is called, and with which settings it is tried.
//!
//! # Algorithm
//! What an engine may take by its own setting has to be below the bound of its process, by how much nobody documents. So an
//! engine is tried with the process's bound less what an idle Python with its libraries takes, then with half of the bound,
//! then a quarter, until it gets through; one that says itself that it has too little is not tried with less. One that
//! never gets through is run without a bound, by its own setting alone, and the table says so.

use crate::expected::{Answer, SortedFile, examine};
use crate::point::{Point, Question};
use crate::process::{Ended, Failure, Invocation};
use crate::python::Python;
use clap::ValueEnum;
use forebay_memory::size::MIB;
use forebay_memory::{ByteSize, Error, Result};
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// An engine other than ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// DuckDB, on Parquet.
    Duckdb,
    /// Polars, on Parquet.
    Polars,
    /// DataFusion, on Parquet.
    Datafusion,
    /// GNU sort, on lines.
    GnuSort,
}

/// What an idle process of an engine takes that its own setting does not count.
const IDLE: u64 = 112 * MIB;

/// Settings of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The engine's own bound.
    pub memory: Option<u64>,
    /// Whether the process is bounded, too.
    pub bounded: bool,
    /// A way of working that is not the engine's first choice.
    pub variant: &'static str,
}

impl Attempt {
    /// For the table: "own limit 450 MiB".
    pub fn label(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.memory.map(|bytes| format!("own limit {}", ByteSize(bytes))));
        if !self.variant.is_empty() {
            parts.push(self.variant.to_string());
        }
        parts.join(", ")
    }
}

/// What an engine's script prints.
#[derive(Debug, Deserialize)]
pub struct Reported {
    /// The engine's version.
    pub version: String,
    /// The time of each measured run.
    pub seconds: Vec<f64>,
    /// The result, where the output is no file.
    pub answer: Option<Answer>,
}

/// A task as the scripts read it.
#[derive(serde::Serialize)]
struct Task<'a> {
    workload: &'a str,
    threads: u32,
    memory_bytes: Option<u64>,
    spill_directory: &'a Path,
    input: Vec<PathBuf>,
    output: &'a Path,
    warm_up: bool,
    runs: u32,
    variant: &'a str,
}

/// Where files are.
pub struct Places {
    /// Input and output.
    pub data: PathBuf,
    /// What engines spill.
    pub spill: PathBuf,
}

impl Places {
    /// The file that a sort writes: Parquet, or records as they came.
    pub fn output(&self, parquet: bool) -> PathBuf {
        // DataFusion takes a name without an ending for a directory.
        self.data
            .join(if parquet { "sorted.parquet" } else { "sorted.bin" })
    }
}

/// Runs of a process on a point that is asked warm; one without a warm-up elsewhere.
pub const WARM_RUNS: u32 = 2;

impl Engine {
    /// What it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Duckdb => "DuckDB",
            Engine::Polars => "Polars",
            Engine::Datafusion => "DataFusion",
            Engine::GnuSort => "GNU sort",
        }
    }

    /// Whether its files are Parquet.
    pub fn reads_parquet(self) -> bool {
        self != Engine::GnuSort
    }

    /// Whether it is asked this question.
    pub fn answers(self, question: Question) -> bool {
        self != Engine::GnuSort || question == Question::SortRecords
    }

    /// What it is tried with in a process of `process` bytes, best first.
    pub fn attempts(self, question: Question, process: Option<u64>) -> Vec<Attempt> {
        let Some(process) = process else {
            return vec![Attempt {
                memory: None,
                bounded: false,
                variant: "",
            }];
        };
        let most = process.saturating_sub(IDLE).max(process / 2);
        let joins = matches!(question, Question::Join | Question::JoinWide);
        let variants: &[&str] = match self {
            Engine::Datafusion if joins => &["", "sort-merge join"],
            _ => &[""],
        };
        let mut attempts = Vec::new();
        for variant in variants {
            for memory in [most, process / 2, process / 4] {
                let attempt = Attempt {
                    memory: Some(memory),
                    bounded: true,
                    variant,
                };
                if !attempts.contains(&attempt) {
                    attempts.push(attempt);
                }
            }
        }
        for variant in variants {
            attempts.push(Attempt {
                memory: Some(most),
                bounded: false,
                variant,
            });
        }
        attempts
    }

    /// The program that answers a point.
    ///
    /// # Errors
    /// Where the task cannot be written.
    pub fn invocation(
        self,
        python: &Python,
        point: &Point,
        attempt: &Attempt,
        threads: u32,
        places: &Places,
    ) -> Result<Invocation> {
        let output = places.output(self.reads_parquet());
        if self == Engine::GnuSort {
            let mut words: Vec<OsString> = ["sort", "-o"].map(OsString::from).into();
            words.push(output.into());
            words.push("-T".into());
            words.push((&places.spill).into());
            words.push(format!("--parallel={threads}").into());
            let buffer = attempt.memory.map_or("50%".into(), |memory| format!("{memory}b"));
            words.push(format!("--buffer-size={buffer}").into());
            words.push(point.data[0].binary(&places.data).into());
            return Ok(Invocation {
                words,
                variables: vec![("LC_ALL", "C")],
            });
        }
        let task = Task {
            workload: point.question.task(),
            threads,
            memory_bytes: attempt.memory,
            spill_directory: &places.spill,
            input: point
                .data
                .iter()
                .map(|dataset| dataset.parquet(&places.data))
                .collect(),
            output: &output,
            warm_up: point.warm,
            runs: if point.warm { WARM_RUNS } else { 1 },
            variant: attempt.variant,
        };
        let path = places.data.join("task.json");
        let text = serde_json::to_string(&task).expect("a task is plain data");
        std::fs::write(&path, text)
            .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))?;
        let script = match self {
            Engine::Duckdb => "peer_duckdb.py",
            Engine::Polars => "peer_polars.py",
            _ => "peer_datafusion.py",
        };
        Ok(Invocation {
            words: vec![python.program().into(), python.script(script).into(), path.into()],
            variables: vec![("PYTHONDONTWRITEBYTECODE", "1")],
        })
    }

    /// What a process that got through reports.
    ///
    /// # Errors
    /// Where it printed no report.
    pub fn reported(self, ended: &Ended) -> Result<Reported> {
        if self == Engine::GnuSort {
            return Ok(Reported {
                version: gnu_sort_version()?,
                seconds: vec![ended.wall_seconds],
                answer: None,
            });
        }
        serde_json::from_str(&ended.output)
            .map_err(|error| Error::corrupt(format!("{}: its report is none: {error}", self.name())))
    }

    /// Examines the file that a sort has written.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn examine(self, python: &Python, output: &Path) -> Result<SortedFile> {
        if self == Engine::GnuSort {
            return examine(output);
        }
        let printed = python.run("check_sorted.py", &[&output.display().to_string()])?;
        serde_json::from_str(&printed)
            .map_err(|error| Error::corrupt(format!("check_sorted.py printed no report: {error}")))
    }
}

fn gnu_sort_version() -> Result<String> {
    let text = crate::python::succeed(std::process::Command::new("sort").arg("--version"))?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line.rsplit(' ').next().unwrap_or_default().to_string())
}

/// Leaves of the attempts those that make sense after one has failed; `denied` where a bound makes itself felt as memory that
/// cannot be had.
pub fn after(failed: &Attempt, failure: &Failure, denied: bool, attempts: &mut Vec<Attempt>) {
    let hopeless = |attempt: &Attempt| match failure {
        // For taking more than it knew of: less may do.
        Failure::Killed => false,
        Failure::OutOfMemory if denied => false,
        // By its own account: only more may do, or another way of working.
        Failure::OutOfMemory => {
            attempt.variant == failed.variant
                && attempt.memory <= failed.memory
                && attempt.bounded == failed.bounded
        }
        // What took too long or broke would do so again.
        Failure::TimedOut | Failure::Other(_) => true,
    };
    attempts.retain(|attempt| !hopeless(attempt));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_killed_is_tried_with_less_and_what_gave_up_is_not() {
        let process = 562 * MIB;
        let mut attempts = Engine::Duckdb.attempts(Question::Join, Some(process));
        assert_eq!(attempts.len(), 4);
        assert_eq!(attempts[0].memory, Some(450 * MIB));
        assert_eq!(attempts[0].label(), "own limit 450 MiB");
        let first = attempts.remove(0);
        after(&first, &Failure::Killed, false, &mut attempts);
        after(&first, &Failure::OutOfMemory, true, &mut attempts);
        assert_eq!(attempts.len(), 3);
        after(&first, &Failure::OutOfMemory, false, &mut attempts);
        assert_eq!(attempts.len(), 1);
        assert!(!attempts[0].bounded);
        after(&first, &Failure::TimedOut, false, &mut attempts);
        assert_eq!(attempts, []);
        let mut joins = Engine::Datafusion.attempts(Question::Join, Some(process));
        let first = joins.remove(0);
        after(&first, &Failure::OutOfMemory, false, &mut joins);
        assert_eq!(joins[0].variant, "sort-merge join");
    }

    #[test]
    fn the_least_process_has_a_setting() {
        for attempt in Engine::Polars.attempts(Question::Aggregate, Some(64 * MIB)) {
            assert!(attempt.memory >= Some(16 * MIB));
        }
        assert_eq!(Engine::Polars.attempts(Question::Aggregate, None).len(), 1);
        assert!(!Engine::GnuSort.answers(Question::SortNumbers));
    }
}
