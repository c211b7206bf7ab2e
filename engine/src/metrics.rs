//! Metrics: what each task and operator did, counted where it happens and read from outside.
//!
//! # Interface
//! A task owns a [`TaskMetrics`] and stores into it after each poll; anybody may [`TaskMetrics::snapshot`] it.
//!
//! # Cost
//! Relaxed stores once a poll, never once a record.

use serde::Serialize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a task was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Working, or ready and not yet polled.
    Busy,
    /// Waiting for input or time.
    Idle,
    /// Waiting for a credit or buffer of its output.
    Backpressured,
}

/// What an operator alone knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OperatorMetrics {
    /// The operator's name.
    pub name: String,
    /// Records that it was given, and groups that it took over.
    pub records_in: u64,
    /// Groups that it handed over to the subtasks behind its task's exchange, in a table in the place of records: they are among the
    /// records that the task has sent.
    pub groups_handed_over: u64,
    /// The bytes of their keys and values: they are among the bytes that the task has sent.
    pub bytes_handed_over: u64,
    /// Groups that were handed over to it: they are among the records that it and its task were given.
    pub groups_taken_over: u64,
    /// Segments that it holds.
    pub segments_held: u64,
    /// The most segments that it held.
    pub segments_peak: u64,
    /// Bytes that it wrote to the spill store, after compression.
    pub spilled_bytes_written: u64,
    /// Bytes that it read from the spill store.
    pub spilled_bytes_read: u64,
}

/// The counters of one subtask of a task.
#[derive(Debug)]
pub struct TaskMetrics {
    task: Arc<str>,
    subtask: usize,
    records_in: AtomicU64,
    records_out: AtomicU64,
    bytes_out: AtomicU64,
    long_polls: AtomicU64,
    longest_poll_nanos: AtomicU64,
    nanos: [AtomicU64; 3],
    operators: Mutex<Vec<OperatorMetrics>>,
}

/// The counters of one subtask at one time.
#[derive(Debug, Clone, Serialize)]
pub struct TaskSnapshot {
    /// The task: its operators' names.
    pub task: String,
    /// The subtask's index.
    pub subtask: usize,
    /// Records taken from the gate or made by the source, and groups taken over from tasks before the exchange.
    pub records_in: u64,
    /// Records sent, and groups handed over to tasks behind the exchange.
    pub records_out: u64,
    /// Bytes of rows sent, and of groups handed over.
    pub bytes_out: u64,
    /// Time at work, in ms.
    pub busy_ms: u64,
    /// Time without input, in ms.
    pub idle_ms: u64,
    /// Time without room in the output, in ms.
    pub backpressured_ms: u64,
    /// Polls that took over 10 ms: a function that blocks or computes for long, or a wait for the disk. The slot's other tasks
    /// waited meanwhile.
    pub long_polls: u64,
    /// The longest poll, in ms.
    pub longest_poll_ms: u64,
    /// Its operators.
    pub operators: Vec<OperatorMetrics>,
}

impl TaskMetrics {
    /// Counters at zero.
    pub fn new(task: Arc<str>, subtask: usize) -> Arc<Self> {
        Arc::new(TaskMetrics {
            task,
            subtask,
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            long_polls: AtomicU64::new(0),
            longest_poll_nanos: AtomicU64::new(0),
            nanos: Default::default(),
            operators: Mutex::default(),
        })
    }

    /// The task's name.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The subtask's index.
    pub fn subtask(&self) -> usize {
        self.subtask
    }

    /// Stores the totals of records and bytes.
    pub fn store_counts(&self, records_in: u64, records_out: u64, bytes_out: u64) {
        self.records_in.store(records_in, Ordering::Relaxed);
        self.records_out.store(records_out, Ordering::Relaxed);
        self.bytes_out.store(bytes_out, Ordering::Relaxed);
    }

    /// Adds time spent in `activity`. Called by the task's worker only.
    pub fn add_time(&self, activity: Activity, time: Duration) {
        let counter = &self.nanos[activity as usize];
        counter.store(
            counter.load(Ordering::Relaxed) + time.as_nanos() as u64,
            Ordering::Relaxed,
        );
    }

    /// Notes how long a poll took; answers how many were over `limit` so far where this one was. Called by the task's worker
    /// only.
    pub fn add_poll(&self, took: Duration, limit: Duration) -> Option<u64> {
        let nanos = took.as_nanos() as u64;
        if nanos > self.longest_poll_nanos.load(Ordering::Relaxed) {
            self.longest_poll_nanos.store(nanos, Ordering::Relaxed);
        }
        if took <= limit {
            return None;
        }
        let count = self.long_polls.load(Ordering::Relaxed) + 1;
        self.long_polls.store(count, Ordering::Relaxed);
        Some(count)
    }

    /// Stores what the operators report.
    pub fn store_operators(&self, operators: Vec<OperatorMetrics>) {
        *self.operators.lock().expect("no metrics code panics") = operators;
    }

    /// The counters now.
    pub fn snapshot(&self) -> TaskSnapshot {
        let ms = |activity: Activity| self.nanos[activity as usize].load(Ordering::Relaxed) / 1_000_000;
        let operators = self.operators.lock().expect("no metrics code panics").clone();
        let sum = |of: fn(&OperatorMetrics) -> u64| operators.iter().map(of).sum::<u64>();
        TaskSnapshot {
            task: self.task.to_string(),
            subtask: self.subtask,
            records_in: self.records_in.load(Ordering::Relaxed) + sum(|operator| operator.groups_taken_over),
            records_out: self.records_out.load(Ordering::Relaxed)
                + sum(|operator| operator.groups_handed_over),
            bytes_out: self.bytes_out.load(Ordering::Relaxed) + sum(|operator| operator.bytes_handed_over),
            busy_ms: ms(Activity::Busy),
            idle_ms: ms(Activity::Idle),
            backpressured_ms: ms(Activity::Backpressured),
            long_polls: self.long_polls.load(Ordering::Relaxed),
            longest_poll_ms: self.longest_poll_nanos.load(Ordering::Relaxed) / 1_000_000,
            operators,
        }
    }
}
