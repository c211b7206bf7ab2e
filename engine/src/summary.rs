//! The summary: what a job did, as a table for a person.

use crate::metrics::TaskSnapshot;
use crate::plan::JobPlan;
use crate::runtime::Runtime;
use forebay_memory::{Error, MemoryStats, SpillStats, account};
use std::fmt;
use std::time::Duration;

/// What a job that is over did, however it ended.
#[derive(Debug, Clone)]
pub struct JobSummary {
    /// The job's name.
    pub job: String,
    /// `batch` or `streaming`.
    pub mode: String,
    /// From launch to end.
    pub elapsed: Duration,
    /// Every subtask.
    pub tasks: Vec<TaskSnapshot>,
    /// The memory manager at the job's end; peaks are since the manager was made.
    pub memory: MemoryStats,
    /// The spill store at the job's end, since it was opened.
    pub spill: SpillStats,
    /// Bytes that spill files take on disk, space to be used again included: they grow, and keep what they have until the
    /// runtime is gone.
    pub spill_files_bytes: u64,
    /// Bytes of a segment.
    pub segment_size: usize,
    /// The most bytes of the process that were resident, since it started or somebody set that back; `None` where the
    /// kernel does not tell.
    pub peak_resident_bytes: Option<u64>,
    /// The most bytes of the counted heap, likewise; 0 where the binary does not count it.
    pub heap_peak_bytes: u64,
    /// What the job failed with, or why it was cancelled.
    pub failure: Option<String>,
}

impl JobSummary {
    /// The summary of a job that has just ended.
    pub(crate) fn of(
        plan: &JobPlan,
        elapsed: Duration,
        tasks: Vec<TaskSnapshot>,
        runtime: &Runtime,
        failure: Option<&Error>,
    ) -> JobSummary {
        JobSummary {
            job: plan.job.clone(),
            mode: plan.mode.clone(),
            elapsed,
            tasks,
            memory: runtime.manager().stats(),
            spill: runtime.spill().stats(),
            spill_files_bytes: runtime.spill().allocated_bytes(),
            segment_size: runtime.manager().segment_size(),
            peak_resident_bytes: account::peak_resident_bytes().map(|bytes| bytes as u64),
            heap_peak_bytes: account::user_heap_peak_bytes() as u64,
            failure: failure.map(Error::to_string),
        }
    }

    /// The most bytes of managed memory that were held, by all jobs since the memory manager was made.
    pub fn managed_peak_bytes(&self) -> u64 {
        (self.memory.managed_peak * self.segment_size) as u64
    }

    /// Bytes that operators wrote to the spill store.
    pub fn spilled_bytes_written(&self) -> u64 {
        self.operators(|operator| operator.spilled_bytes_written)
    }

    /// Bytes that operators read from the spill store.
    pub fn spilled_bytes_read(&self) -> u64 {
        self.operators(|operator| operator.spilled_bytes_read)
    }

    fn operators(&self, of: impl Fn(&crate::metrics::OperatorMetrics) -> u64) -> u64 {
        self.tasks.iter().flat_map(|task| &task.operators).map(of).sum()
    }
}

/// A count in thousands, millions or billions.
pub(crate) fn count(count: f64) -> String {
    match count {
        _ if count >= 1e9 => format!("{:.1} G", count / 1e9),
        _ if count >= 1e6 => format!("{:.1} M", count / 1e6),
        _ if count >= 1e3 => format!("{:.1} K", count / 1e3),
        _ => format!("{count:.0}"),
    }
}

/// Bytes in the largest unit that leaves at least one before the point.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

impl fmt::Display for JobSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "job \"{}\" ({} mode) {} {:.3} s",
            self.job,
            self.mode,
            if self.failure.is_some() {
                "failed after"
            } else {
                "finished in"
            },
            self.elapsed.as_secs_f64()
        )?;
        if let Some(failure) = &self.failure {
            writeln!(f, "  {failure}")?;
        }
        let header = [
            "task",
            "records in",
            "records out",
            "bytes out",
            "busy",
            "idle",
            "backpr.",
            "segments",
            "spilled",
        ];
        let rows: Vec<[String; 9]> = self
            .tasks
            .iter()
            .map(|task| {
                let total = (task.busy_ms + task.idle_ms + task.backpressured_ms).max(1);
                let share = |ms: u64| format!("{} %", (ms * 100 + total / 2) / total);
                let segments: u64 = task.operators.iter().map(|operator| operator.segments_peak).sum();
                let spilled: u64 = task
                    .operators
                    .iter()
                    .map(|operator| operator.spilled_bytes_written)
                    .sum();
                [
                    format!("{} [{}]", task.task, task.subtask),
                    task.records_in.to_string(),
                    task.records_out.to_string(),
                    bytes(task.bytes_out),
                    share(task.busy_ms),
                    share(task.idle_ms),
                    share(task.backpressured_ms),
                    segments.to_string(),
                    bytes(spilled),
                ]
            })
            .collect();
        let widths: Vec<usize> = (0..header.len())
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].chars().count())
                    .chain([header[column].len()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (column, title) in header.iter().enumerate() {
            let width = widths[column];
            if column == 0 {
                write!(f, "  {title:<width$}")?
            } else {
                write!(f, "  {title:>width$}")?
            }
        }
        writeln!(f)?;
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                if column == 0 {
                    write!(f, "  {cell:<width$}")?
                } else {
                    write!(f, "  {cell:>width$}")?
                }
            }
            writeln!(f)?;
        }
        write!(f, "  peaks: managed memory {}", bytes(self.managed_peak_bytes()))?;
        if self.heap_peak_bytes > 0 {
            write!(f, ", heap {}", bytes(self.heap_peak_bytes))?;
        }
        if let Some(resident) = self.peak_resident_bytes {
            write!(f, ", resident {}", bytes(resident))?;
        }
        if self.spill_files_bytes > 0 {
            write!(f, "; spill files take {}", bytes(self.spill_files_bytes))?;
        }
        writeln!(f)?;
        for task in self.tasks.iter().filter(|task| task.long_polls > 0) {
            writeln!(
                f,
                "  {} [{}]: {} polls took over 10 ms, the longest {} ms",
                task.task, task.subtask, task.long_polls, task.longest_poll_ms
            )?;
        }
        Ok(())
    }
}
