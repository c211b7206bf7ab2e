//! Our engine: the harness as a process, with the same files and the same bound.

use crate::cli::Budget;
use crate::engine::{Places, WARM_RUNS};
use crate::point::{Point, Question};
use crate::process::Invocation;
use crate::python::succeed;
use forebay_bench::result::{self, RunResult};
use forebay_memory::{Error, Plan, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Managed memory where there is no limit.
const UNLIMITED: &str = "8GiB";

/// The harness's program.
pub struct Harness {
    program: PathBuf,
    workloads: Vec<String>,
}

impl Harness {
    /// The program at `path`, or, without one, the one that cargo builds.
    ///
    /// # Errors
    /// Where it cannot be built or run.
    pub fn prepare(path: Option<&Path>) -> Result<Harness> {
        let program = match path {
            Some(path) => path.to_path_buf(),
            None => build()?,
        };
        let workloads = workloads(&succeed(Command::new(&program).arg("list"))?);
        Ok(Harness { program, workloads })
    }

    /// Why a point cannot be asked of it, or nothing.
    pub fn lacks(&self, question: Question) -> Option<&'static str> {
        let there = self.workloads.iter().any(|name| name == question.workload());
        (!there).then_some("not there yet")
    }

    /// The hash of a point's right result, which is the same in every budget: by the harness's own plain computation.
    ///
    /// # Errors
    /// Where the harness fails, which it does when its result is not that of the computation.
    pub fn right_hash(&self, point: &Point, threads: u32, places: &Places, json: &Path) -> Result<String> {
        let once = Point {
            warm: false,
            ..point.clone()
        };
        let invocation = self.invocation(&once, Budget::Unlimited, threads, places, json);
        succeed(
            Command::new(&invocation.words[0])
                .args(&invocation.words[1..])
                .arg("--verify"),
        )?;
        let result = self.result(json)?;
        match result.verified {
            Some(true) => Ok(result.result_hash),
            _ => Err(Error::corrupt(format!(
                "{}: the harness did not verify its result",
                point.name()
            ))),
        }
    }

    /// The program that answers a point and writes its results to `json`.
    pub fn invocation(
        &self,
        point: &Point,
        budget: Budget,
        threads: u32,
        places: &Places,
        json: &Path,
    ) -> Invocation {
        let mut words: Vec<OsString> = vec![(&self.program).into()];
        words.extend(["run", point.question.workload(), "--no-limits", "--quiet"].map(OsString::from));
        let last = point.data.last().expect("every question is asked of data");
        if point.question.is_read_by_ours() {
            words.extend(["--input".into(), last.binary(&places.data).into()]);
        } else {
            words.extend(["--records".into(), last.records().to_string().into()]);
        }
        if let [build, _] = point.data[..] {
            words.extend(["--keys".into(), build.records().to_string().into()]);
        }
        if point.question == Question::JoinWide {
            words.push("--wide".into());
        }
        let repeats = if point.warm { WARM_RUNS } else { 1 };
        for (option, value) in [
            ("--repeat", repeats.to_string()),
            ("--parallelism", threads.to_string()),
            ("--managed", managed(budget)),
            ("--set", format!("spill.directories={}", places.spill.display())),
        ] {
            words.extend([option.into(), value.into()]);
        }
        words.extend(["--json".into(), json.into()]);
        if point.question == Question::SortRecords {
            words.extend(["--output".into(), places.output(false).into()]);
        }
        Invocation {
            words,
            variables: Vec::new(),
        }
    }

    /// The result in `json`.
    ///
    /// # Errors
    /// Where there is not exactly one.
    pub fn result(&self, json: &Path) -> Result<RunResult> {
        let mut results = result::read(json)?;
        match (results.pop(), results.is_empty()) {
            (Some(result), true) => Ok(result),
            _ => Err(Error::corrupt(format!("{}: not one result", json.display()))),
        }
    }
}

/// Bytes of our process in a budget, by the plan: what the others' processes are held to. Nothing where there is no limit.
///
/// # Errors
/// Where there is no plan for the budget on this machine.
pub fn process_bytes(budget: Budget) -> Result<Option<u64>> {
    let Budget::Managed(_) = budget else {
        return Ok(None);
    };
    let assignments = [
        format!("memory.managed_size={}", managed(budget)),
        // As the harness plans with --managed.
        "memory.user_size=128MiB".into(),
    ];
    Ok(Some(Plan::load(None, &assignments)?.process_bytes()))
}

fn managed(budget: Budget) -> String {
    match budget {
        Budget::Unlimited => UNLIMITED.into(),
        Budget::Managed(size) => size.bytes().to_string(),
    }
}

fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building the harness");
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--release",
            "--package",
            "forebay-bench",
            "--message-format",
            "json",
        ])
        // Where the compiler writes is the other workspace's business.
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(&root);
    let messages = succeed(&mut command)?;
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = message.get("executable")?.as_str()?;
        path.ends_with("forebay-bench").then(|| PathBuf::from(path))
    });
    executable.ok_or_else(|| Error::config("cargo build: it names no program forebay-bench"))
}

/// The names in what `list` prints: those of lines that are not indented.
fn workloads(list: &str) -> Vec<String> {
    list.lines()
        .filter(|line| !line.starts_with(char::is_whitespace))
        .filter_map(|line| line.split_whitespace().next())
        .map(String::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point;
    use forebay_memory::ByteSize;

    #[test]
    fn workloads_are_read_from_the_list() {
        let list = "aggregate   count and sum\n              The records of keyed-sum\ndistinct    keys\n";
        assert_eq!(workloads(list), ["aggregate", "distinct"]);
        let harness = Harness {
            program: "x".into(),
            workloads: workloads(list),
        };
        assert_eq!(harness.lacks(Question::Distinct), None);
        assert_eq!(harness.lacks(Question::Join), Some("not there yet"));
    }

    #[test]
    fn the_process_of_a_budget_is_the_plans() {
        assert_eq!(process_bytes(Budget::Unlimited).expect("no plan is needed"), None);
        let process = process_bytes(Budget::Managed(ByteSize::mib(64))).expect("64 MiB can be had");
        assert!(process > Some(64 << 20), "{process:?}");
    }

    #[test]
    fn a_command_names_the_input_and_the_output_of_a_sort() {
        let harness = Harness {
            program: "bench".into(),
            workloads: Vec::new(),
        };
        let places = Places {
            data: "d".into(),
            spill: "s".into(),
        };
        for point in point::all(1.0) {
            let command = harness.invocation(&point, Budget::Unlimited, 2, &places, Path::new("j"));
            let text: Vec<_> = command.words.iter().map(|word| word.to_string_lossy()).collect();
            let text = text.join(" ");
            let path = point.data.last().expect("there is data").binary(&places.data);
            let input = format!("--input {}", path.display());
            assert_eq!(text.contains(&input), point.question.is_read_by_ours(), "{text}");
            assert_eq!(text.contains("--keys"), point.data.len() == 2, "{text}");
            assert_eq!(
                text.contains("--output d/sorted.bin"),
                point.question == Question::SortRecords
            );
        }
    }
}
