//! Results: one JSON object per workload and setting, in an array, and the statistics drawn from them.
//!
//! # Interface
//! [`RunResult`] is an object; [`write()`] replaces a file by an array of them in one step; [`read`] reads it back.
//! [`Spread`] is median, least and most of a series.
//!
//! # Invariants
//! Field names are an interface: programs compare files of different versions. Fields are added, never renamed.

use forebay_memory::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// What was measured of one workload in one setting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The workload's name.
    pub workload: String,
    /// What ran it: "forebay".
    pub engine: String,
    /// "batch" or "streaming".
    pub mode: String,
    /// Slots.
    pub parallelism: usize,
    /// Input records of one run.
    pub records: u64,
    /// Input bytes of one run, as rows or file bytes.
    pub bytes: u64,
    /// The plan's managed memory.
    pub managed_bytes: u64,
    /// The seed of the input.
    pub seed: u64,
    /// The number of measured runs.
    pub repeats: usize,
    /// The time of each run.
    pub seconds: Vec<f64>,
    /// Their median.
    pub median_seconds: f64,
    /// Input records over the median.
    pub records_per_second: f64,
    /// The most resident memory of the process in any run, the generator's and engine's together.
    pub peak_rss_bytes: u64,
    /// The plan's process size: what peak_rss_bytes is held to.
    pub process_budget_bytes: u64,
    /// The most managed memory held.
    pub managed_peak_bytes: u64,
    /// Bytes written to the spill files by the run that wrote most.
    pub spilled_bytes_written: u64,
    /// Bytes read from the spill files by the run that read most.
    pub spilled_bytes_read: u64,
    /// The order-independent hash of all output rows, as 16 hex digits.
    pub result_hash: String,
    /// Output records.
    #[serde(default)]
    pub result_records: u64,
    /// Whether the output was compared with the oracle's and equal; absent where it was not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// What else tells this setting from others: "emit=updates", "skew=1".
    #[serde(default)]
    pub setting: String,
    /// The number of keys asked for, where the workload has keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// The measured limit that binds, and how it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// What the run is compared with, without being bound by it: "std sort".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Limit>,
    /// Percentiles of latency, where the workload measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The longest batches of insertions into the workload's table while it grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalls: Option<Stalls>,
    /// Processor time of the process in one run, in seconds: the median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Why there are no times, where an engine did not get through: "out of memory". Only comparisons of engines have such
    /// results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A longest time, by the clock and without what the thread waited for a processor in it: of two such, the longest of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// The longest, in milliseconds.
    pub ms: f64,
    /// The longest without waits in the run queue, in milliseconds.
    pub on_processor_ms: f64,
}

impl Stall {
    /// Takes another time into account, in which the thread waited so long for a processor.
    pub fn extend(&mut self, time: Duration, waited: Duration) {
        self.ms = self.ms.max(time.as_secs_f64() * 1e3);
        self.on_processor_ms = self
            .on_processor_ms
            .max(time.saturating_sub(waited).as_secs_f64() * 1e3);
    }
}

impl Display for Stall {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} ms ({:.2} on a processor)",
            self.ms, self.on_processor_ms
        )
    }
}

/// The longest batches of insertions into a growing table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stalls {
    /// In memory that is touched for the first time.
    pub fresh: Stall,
    /// In memory that the process has touched before.
    pub again: Stall,
    /// The longest time between two looks at the clock of a thread that does nothing else, in as much time.
    pub pause: Stall,
}

/// A time by what was measured in the same run: the least that a run could take on this machine, or what it is compared with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// What binds, or is compared: "plain array", "memory read", "disk".
    pub name: String,
    /// How the seconds were computed.
    pub formula: String,
    /// The time.
    pub seconds: f64,
    /// The time over the median time.
    pub share: f64,
}

/// Latency from the scheduled event time, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the records took no longer.
    pub p50_us: f64,
    /// 90 % took no longer.
    pub p90_us: f64,
    /// 99 % took no longer.
    pub p99_us: f64,
    /// 99.9 % took no longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// Records scheduled a second.
    pub rate: f64,
}

impl RunResult {
    /// What makes two results comparable: workload and setting, without what was measured.
    pub fn identity(&self) -> String {
        let mut identity = format!(
            "{} {} p{} n{} managed {}",
            self.workload,
            self.mode,
            self.parallelism,
            self.records,
            forebay_memory::ByteSize(self.managed_bytes)
        );
        if let Some(keys) = self.keys {
            identity += &format!(" keys {keys}");
        }
        if !self.setting.is_empty() {
            identity += " ";
            identity += &self.setting;
        }
        identity
    }
}

/// Median, least and most of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle value, or the mean of the two middle ones.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// The spread of `series`; nothing where it is empty.
    pub fn of(series: &[f64]) -> Option<Spread> {
        let mut sorted = series.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        };
        Some(Spread { median, least, most })
    }

    /// Whether the ranges of two series share a value: then no difference is claimed.
    pub fn overlaps(self, other: Spread) -> bool {
        self.least <= other.most && other.least <= self.most
    }
}

/// Replaces the file at `path` by the results, in one step: readers see the old file or the whole new one.
///
/// # Errors
/// Where the file cannot be written, or a number is not finite.
pub fn write(path: &Path, results: &[RunResult]) -> Result<()> {
    check_finite(results)?;
    let failed = |error| Error::io(format!("cannot write results to {}", path.display()), error);
    let mut text = serde_json::to_string_pretty(results).expect("results are plain data");
    text.push('\n');
    let mut name = path
        .file_name()
        .map(|name| name.to_os_string())
        .unwrap_or_default();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}

/// Refuses a number that JSON has no form for, and that no reader would take: infinity, or none at all.
fn check_finite(results: &[RunResult]) -> Result<()> {
    for result in results {
        let value = serde_json::to_value(result).expect("a result is plain data");
        if let Some(name) = null_in(&value) {
            return Err(Error::corrupt(format!(
                "result \"{}\": its {name} is no finite number, so that it cannot be written as JSON; the file, if there is one, has the results before it, and the table has all",
                result.identity()
            )));
        }
    }
    Ok(())
}

/// The name of a field that is null: what is absent is left out, so that only floats that are not finite are.
fn null_in(value: &serde_json::Value) -> Option<String> {
    let fields = value.as_object()?;
    fields.iter().find_map(|(name, value)| match value {
        serde_json::Value::Null => Some(name.clone()),
        serde_json::Value::Array(items) => items.contains(&serde_json::Value::Null).then(|| name.clone()),
        _ => null_in(value).map(|below| format!("{name}.{below}")),
    })
}

/// The results in the file at `path`.
///
/// # Errors
/// `Io` where it cannot be read; `Config` where it is no file of results.
pub fn read(path: &Path) -> Result<Vec<RunResult>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::io(format!("cannot read results from {}", path.display()), error))?;
    let results: Vec<RunResult> = serde_json::from_str(&text).map_err(|error| {
        Error::config(format!(
            "{}: not a file of results ({error}); write one with: forebay-bench run … --json FILE",
            path.display()
        ))
    })?;
    for result in &results {
        let sane = |seconds: &f64| seconds.is_finite() && *seconds > 0.0;
        let missing = result.seconds.is_empty() && result.failure.is_none();
        if missing || !result.seconds.iter().all(sane) {
            return Err(Error::config(format!(
                "{}: result \"{}\" has no times above zero in \"seconds\"",
                path.display(),
                result.identity()
            )));
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(
            Spread::of(&[3.0, 1.0, 2.0]),
            Some(Spread {
                median: 2.0,
                least: 1.0,
                most: 3.0
            })
        );
        assert_eq!(
            Spread::of(&[4.0, 1.0]),
            Some(Spread {
                median: 2.5,
                least: 1.0,
                most: 4.0
            })
        );
        let spread = |least, most| Spread {
            median: least,
            least,
            most,
        };
        assert!(spread(1.0, 2.0).overlaps(spread(2.0, 3.0)));
        assert!(!spread(1.0, 2.0).overlaps(spread(2.1, 3.0)));
    }

    #[test]
    fn files_are_replaced_whole_and_read_back() {
        let directory = std::env::temp_dir().join(format!("forebay-result-test-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let path = directory.join("out.json");
        let result = RunResult {
            workload: "distinct".into(),
            seconds: vec![0.5],
            ..RunResult::default()
        };
        write(&path, std::slice::from_ref(&result)).expect("writable");
        write(&path, &[result.clone(), result.clone()]).expect("writable");
        assert_eq!(read(&path).expect("readable"), [result.clone(), result.clone()]);
        let failed = RunResult {
            failure: Some("out of memory".into()),
            ..RunResult::default()
        };
        write(&path, std::slice::from_ref(&failed)).expect("writable");
        assert_eq!(read(&path).expect("no times, and it says why"), [failed]);
        let infinite = RunResult {
            limit: Some(Limit {
                share: f64::INFINITY,
                ..Limit::default()
            }),
            ..result.clone()
        };
        let error = write(&path, &[infinite])
            .expect_err("nobody could read it")
            .to_string();
        assert!(error.contains("its limit.share is no finite number"), "{error}");
        assert_eq!(read(&path).expect("as it was").len(), 1);
        let names: Vec<_> = std::fs::read_dir(&directory)
            .expect("listable")
            .flatten()
            .collect();
        assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");

        std::fs::write(&path, "{\"workload\": 1}").expect("writable");
        assert!(
            read(&path)
                .expect_err("no array")
                .to_string()
                .contains("not a file of results")
        );
        write(&path, &[RunResult::default()]).expect("writable");
        assert!(
            read(&path)
                .expect_err("no times")
                .to_string()
                .contains("no times above zero")
        );
        std::fs::remove_dir_all(&directory).expect("removable");
        assert!(write(&path, &[]).is_err(), "the directory is gone");
    }

    /// The names that DESIGN gives; other programs read them.
    #[test]
    fn field_names_are_the_documented_ones() {
        let value = serde_json::to_value(RunResult::default()).expect("plain data");
        for name in [
            "workload",
            "engine",
            "mode",
            "parallelism",
            "records",
            "bytes",
            "managed_bytes",
            "seed",
            "repeats",
            "seconds",
            "median_seconds",
            "records_per_second",
            "peak_rss_bytes",
            "process_budget_bytes",
            "managed_peak_bytes",
            "spilled_bytes_written",
            "spilled_bytes_read",
            "result_hash",
        ] {
            assert!(value.get(name).is_some(), "{name}");
        }
    }
}
