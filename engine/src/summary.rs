//! The summary: what a job did, as a table for a person.

use crate::metrics::TaskSnapshot;
use forebay_memory::{MemoryStats, SpillStats};
use std::fmt;
use std::time::Duration;

/// What a finished job did.
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
    /// Bytes of a segment.
    pub segment_size: usize,
}

impl JobSummary {
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
            "job \"{}\" ({} mode) finished in {:.3} s",
            self.job,
            self.mode,
            self.elapsed.as_secs_f64()
        )?;
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
        Ok(())
    }
}
