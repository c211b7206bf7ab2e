//! Progress of a running job on standard error: records, rate, bytes spilled, from the counters that its tasks keep anyway.
//!
//! # Interface
//! [`Progress`] says whether and how; a [`ProgressLine`] shows it until it is dropped.
//!
//! # Cost
//! A thread that reads the counters five times a second; none where nothing is shown.

use crate::clock::Clock;
use crate::metrics::TaskSnapshot;
use crate::summary;
use crate::task::JobControl;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the line is drawn on a terminal. Nothing is drawn before the first time, so that short jobs show nothing.
const ON_TERMINAL: Duration = Duration::from_millis(200);
/// How often a line is written elsewhere.
const IN_LINES: Duration = Duration::from_secs(1);

/// Whether and how a running job shows its progress on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Not at all.
    #[default]
    Off,
    /// One line that is drawn again and again, where standard error is a terminal; nothing elsewhere.
    Terminal,
    /// A line a second, wherever standard error goes.
    Lines,
}

/// The progress of one job, shown until it is dropped.
pub(crate) struct ProgressLine {
    /// Dropped to end the thread.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressLine {
    /// Begins to show the progress of a job as asked for. Where its thread does not start nothing is shown.
    pub(crate) fn start(
        job: &str,
        progress: Progress,
        control: Arc<JobControl>,
        clock: Arc<dyn Clock>,
    ) -> Option<ProgressLine> {
        let on_terminal = match progress {
            Progress::Off => return None,
            Progress::Terminal if !std::io::stderr().is_terminal() => return None,
            Progress::Terminal => true,
            Progress::Lines => false,
        };
        let (running, ended) = channel();
        let job = job.to_string();
        let show = move || {
            let bar = on_terminal.then(bar);
            let period = if on_terminal { ON_TERMINAL } else { IN_LINES };
            let mut before = Sample::default();
            while ended.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                let now = Sample::of(&control, &*clock);
                let line = now.line(&job, &before);
                before = now;
                match &bar {
                    Some(bar) => {
                        bar.set_message(line);
                        bar.tick();
                    }
                    // Progress that cannot be shown is no reason to fail.
                    None => drop(writeln!(std::io::stderr(), "{line}")),
                }
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        };
        let thread = std::thread::Builder::new()
            .name("forebay-progress".into())
            .spawn(show);
        Some(ProgressLine {
            running: Some(running),
            thread: Some(thread.ok()?),
        })
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // Showing progress does not panic, and nobody would mind.
            let _ = thread.join();
        }
    }
}

/// A line on the terminal with something that turns before it.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is a constant");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

/// The job at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sample {
    at: Duration,
    /// Records that its sources have made.
    read: u64,
    /// Records that have reached its other tasks.
    processed: u64,
    spilled: u64,
}

impl Sample {
    fn of(control: &JobControl, clock: &dyn Clock) -> Sample {
        let mut sample = Sample {
            at: clock.now(),
            ..Sample::default()
        };
        for task in &control.tasks {
            sample.add(task.source.is_some(), &task.metrics.snapshot());
        }
        sample
    }

    fn add(&mut self, is_source: bool, task: &TaskSnapshot) {
        *(if is_source {
            &mut self.read
        } else {
            &mut self.processed
        }) += task.records_in;
        self.spilled += task
            .operators
            .iter()
            .map(|operator| operator.spilled_bytes_written)
            .sum::<u64>();
    }

    /// The sample as text, its rate since the one before. While sources are at work the rate is theirs; after them, that of
    /// the other tasks.
    fn line(&self, job: &str, before: &Sample) -> String {
        let seconds = (self.at.saturating_sub(before.at)).as_secs_f64().max(1e-3);
        let (read, processed) = (self.read - before.read, self.processed - before.processed);
        let rate = if read > 0 { read } else { processed } as f64 / seconds;
        let mut line = format!(
            "{job}: {:.1} s, {} records read, {}/s",
            self.at.as_secs_f64(),
            summary::count(self.read as f64),
            summary::count(rate)
        );
        if self.spilled > 0 {
            line += &format!(", {} spilled", summary::bytes(self.spilled));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::OperatorMetrics;

    fn snapshot(records_in: u64, spilled_bytes_written: u64) -> TaskSnapshot {
        TaskSnapshot {
            task: "task".into(),
            subtask: 0,
            records_in,
            records_out: 0,
            bytes_out: 0,
            busy_ms: 0,
            idle_ms: 0,
            backpressured_ms: 0,
            long_polls: 0,
            longest_poll_ms: 0,
            operators: vec![OperatorMetrics {
                spilled_bytes_written,
                ..OperatorMetrics::default()
            }],
        }
    }

    #[test]
    fn a_line_says_records_rate_and_what_was_spilled() {
        let first = Sample {
            at: Duration::from_secs(2),
            read: 1000,
            ..Sample::default()
        };
        assert_eq!(
            first.line("sums", &Sample::default()),
            "sums: 2.0 s, 1.0 K records read, 500/s"
        );
        let mut second = Sample {
            at: Duration::from_secs(4),
            ..Sample::default()
        };
        second.add(true, &snapshot(41_000_000, 0));
        second.add(false, &snapshot(4000, 3 << 20));
        assert_eq!(
            second.line("sums", &first),
            "sums: 4.0 s, 41.0 M records read, 20.5 M/s, 3.0 MiB spilled"
        );
        // The sources are through, and an aggregation reads what it has spilled.
        let third = Sample {
            at: Duration::from_secs(5),
            processed: 10_000,
            ..second.clone()
        };
        assert_eq!(
            third.line("sums", &second),
            "sums: 5.0 s, 41.0 M records read, 6.0 K/s, 3.0 MiB spilled"
        );
    }
}
