//! The control of a running job: its failure or cancellation, seen by every worker and by whoever waits.
//!
//! # Interface
//! Workers ask [`JobControl::is_stopping`] between polls, report with [`JobControl::fail`] and leave with
//! [`JobControl::worker_left`]. The job's owner waits with [`JobControl::wait`] and stops with [`JobControl::cancel`].

use super::worker::Parker;
use crate::metrics::TaskMetrics;
use forebay_memory::{Error, Result};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What is known of a task from outside its worker.
pub struct TaskStatus {
    /// The task: its operators' names.
    pub name: Arc<str>,
    /// The subtask's index.
    pub subtask: usize,
    /// The source, if the task has one.
    pub source: Option<Arc<str>>,
    /// The operators of its chain.
    pub operators: Vec<Arc<str>>,
    /// Bytes that each of them has added to the counted heap.
    pub heap_growth: Vec<Arc<AtomicI64>>,
    /// Which of them is at work: index + 1, or 0 for the source.
    pub active: Arc<AtomicUsize>,
    /// The task's counters.
    pub metrics: Arc<TaskMetrics>,
}

impl TaskStatus {
    /// The name of the operator at work.
    pub fn operator_at_work(&self) -> Arc<str> {
        let active = self.active.load(Ordering::Relaxed);
        match active.checked_sub(1).and_then(|index| self.operators.get(index)) {
            Some(name) => name.clone(),
            None => self.source.clone().unwrap_or_else(|| self.name.clone()),
        }
    }
}

struct State {
    workers: usize,
    failure: Option<Error>,
}

/// The shared control of one job.
pub struct JobControl {
    stopping: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    parkers: Vec<Arc<Parker>>,
    /// Every task, in the order of the workers' tasks.
    pub tasks: Vec<Arc<TaskStatus>>,
}

impl JobControl {
    /// The control of a job with these workers and tasks.
    pub fn new(parkers: Vec<Arc<Parker>>, tasks: Vec<Arc<TaskStatus>>) -> Arc<JobControl> {
        Arc::new(JobControl {
            stopping: AtomicBool::new(false),
            state: Mutex::new(State {
                workers: parkers.len(),
                failure: None,
            }),
            changed: Condvar::new(),
            parkers,
            tasks,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while the job's state is locked")
    }

    /// Whether workers are to drop their tasks and leave.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The operator that has added most to the counted heap, and how many bytes, of those that have added as many as `range` says. What an
    /// operator makes and another frees is in its figure for good: one that is more than all there is says nothing.
    pub fn most_heap_grown(&self, range: RangeInclusive<u64>) -> Option<(String, u64)> {
        let grown = self.tasks.iter().flat_map(|task| {
            let operators = task.operators.iter().zip(&task.heap_growth);
            operators.map(|(name, grown)| (grown.load(Ordering::Relaxed).max(0) as u64, name, task.subtask))
        });
        let (bytes, name, subtask) = grown
            .filter(|(bytes, _, _)| range.contains(bytes))
            .max_by_key(|(bytes, _, _)| *bytes)?;
        Some((format!("operator \"{name}\", subtask {subtask}"), bytes))
    }

    /// Stops the job because of `error`; the first one counts. A job that is over has succeeded, and stays so.
    pub fn fail(&self, error: Error) {
        let mut state = self.state();
        if state.workers == 0 {
            return;
        }
        state.failure.get_or_insert(error);
        drop(state);
        self.stopping.store(true, Ordering::Release);
        self.changed.notify_all();
        for parker in &self.parkers {
            crate::exchange::Wake::wake(&**parker);
        }
    }

    /// Stops the job.
    pub fn cancel(&self, reason: &str) {
        self.fail(Error::cancelled(reason));
    }

    /// Notes that a worker has dropped its tasks.
    pub fn worker_left(&self) {
        self.state().workers -= 1;
        self.changed.notify_all();
    }

    /// Whether every worker has left.
    pub fn is_over(&self) -> bool {
        self.state().workers == 0
    }

    /// Waits until every worker has left, but for at most `cancel_timeout` once the job is stopping.
    ///
    /// # Errors
    /// The job's failure. Where a function did not return in time, its operator is named.
    pub fn wait(&self, cancel_timeout: Duration) -> Result<()> {
        let mut state = self.state();
        while state.workers > 0 && state.failure.is_none() {
            state = self
                .changed
                .wait(state)
                .expect("nothing panics while the job's state is locked");
        }
        let over = |state: &mut State| state.workers > 0;
        let (mut state, timeout) = self
            .changed
            .wait_timeout_while(state, cancel_timeout, over)
            .expect("nothing panics while the job's state is locked");
        if timeout.timed_out() && state.workers > 0 {
            let names: Vec<String> = self
                .parkers
                .iter()
                .filter_map(|parker| parker.current_task())
                .map(|task| {
                    format!(
                        "\"{}\", subtask {}",
                        self.tasks[task].operator_at_work(),
                        self.tasks[task].subtask
                    )
                })
                .collect();
            let cause = state
                .failure
                .take()
                .map(|error| format!(" after: {error}"))
                .unwrap_or_default();
            return Err(Error::user(format!(
                "operator {} did not return within cancel.timeout ({} ms){cause}; its memory stays quarantined; make \
                 the function return, or raise cancel.timeout",
                names.join(" and "),
                cancel_timeout.as_millis()
            )));
        }
        state.failure.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_seems_to_have_more_than_all_there_is_is_not_named() {
        let grown = [700, 90, 300, -5].map(|bytes| Arc::new(AtomicI64::new(bytes)));
        let task = TaskStatus {
            name: "task".into(),
            subtask: 2,
            source: None,
            operators: ["sends", "has a little", "keeps", "frees"].map(Arc::from).into(),
            heap_growth: grown.into(),
            active: Arc::default(),
            metrics: TaskMetrics::new("task".into(), 2),
        };
        let control = JobControl::new(Vec::new(), vec![Arc::new(task)]);
        let named = |bytes: u64, name: &str| Some((format!("operator \"{name}\", subtask 2"), bytes));
        assert_eq!(control.most_heap_grown(100..=1000), named(700, "sends"));
        assert_eq!(control.most_heap_grown(100..=600), named(300, "keeps"));
        assert_eq!(control.most_heap_grown(100..=200), None);
    }
}
