//! The worker: one thread, a slot's tasks, polled in turn; it parks when none is ready.
//!
//! # Interface
//! [`Worker::run`] returns when every task is done or the job stops. [`Parker`] is how others wake it.
//!
//! # Algorithm
//! Poll each task once, in order. After a round without progress:
//! 1. Where a task has something to do within [`NAP`], sleep for that long. What comes meanwhile wakes nobody, and is found after it: a
//!    worker to which work trickles in sleeps between small heaps of it instead of turning round for every record.
//! 2. Otherwise spin for [`SPIN`] (a wake-up across virtual cores costs 5 to 20 µs), then say so in the parker, look once
//!    more, and park until woken or until the earliest time that a task waits for. A wake that comes between the last
//!    look and the parking is not lost: it has left its token.

use super::control::JobControl;
use super::poll::{Polled, Task};
use crate::clock::{Clock, Instant};
use crate::exchange::Wake;
use forebay_memory::account::user_heap_bytes;
use forebay_memory::{ByteSize, Error, ErrorKind};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

/// How long a worker without progress turns round before it parks.
const SPIN: Duration = Duration::from_micros(40);
/// Pauses between two of those rounds.
const SPINS_A_ROUND: u32 = 16;
/// How long a worker sleeps where a task has something to do so soon: as long as the kernel adds to a timer anyway (its
/// slack), so shorter ones would not be shorter.
const NAP: Duration = Duration::from_micros(50);

/// Where a worker sleeps, and how it is woken.
#[derive(Default)]
pub struct Parker {
    thread: OnceLock<Thread>,
    parked: AtomicBool,
    /// The task being polled or dropped, as its index in the job + 1.
    current: AtomicUsize,
}

impl Parker {
    /// A parker for a worker that has not started.
    pub fn new() -> Arc<Parker> {
        Arc::default()
    }

    /// The index in the job of the task being polled or dropped.
    pub fn current_task(&self) -> Option<usize> {
        self.current.load(Ordering::Relaxed).checked_sub(1)
    }
}

impl Wake for Parker {
    fn wake(&self) {
        // Pairs with the fence in `Worker::park`: either this sees `parked`, or the worker's last look sees what was
        // done before this call.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed)
            && self.parked.swap(false, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

/// A slot's thread and tasks.
pub struct Worker {
    /// Tasks, each with its index in the job.
    pub tasks: Vec<(usize, Task)>,
    /// The job's control.
    pub control: Arc<JobControl>,
    /// How others wake this worker.
    pub parker: Arc<Parker>,
    /// The job's clock.
    pub clock: Arc<dyn Clock>,
    /// What the heap is held to, in bytes, where the binary counts it.
    pub heap_limit: u64,
}

enum Round {
    Progress,
    Waiting(Option<Instant>),
    Over,
}

impl Worker {
    /// Polls the tasks until all are done or the job stops, and drops them.
    pub fn run(mut self) {
        let _ = self.parker.thread.set(std::thread::current());
        let mut spins_until = None;
        loop {
            let until = match self.round() {
                Round::Over => break,
                Round::Progress => {
                    spins_until = None;
                    continue;
                }
                Round::Waiting(until) => until,
            };
            let now = self.clock.now();
            if until.is_some_and(|until| until < now + NAP) {
                // Nobody is told, so nobody pays for waking it.
                std::thread::park_timeout(NAP);
            } else if now < *spins_until.get_or_insert(now + SPIN) {
                (0..SPINS_A_ROUND).for_each(|_| std::hint::spin_loop());
            } else {
                self.park();
            }
        }
        // Tasks give back everything they hold before the job counts as over. A destructor that panics is the user's.
        let tasks = std::mem::take(&mut self.tasks);
        tasks.iter().for_each(|(_, task)| task.report());
        for (number, task) in tasks {
            if let Err(error) = self.drop_task(number, task) {
                self.control.fail(error);
            }
        }
        self.control.worker_left();
    }

    /// Polls each task once.
    fn round(&mut self) -> Round {
        let mut progress = false;
        let mut earliest: Option<Instant> = None;
        let mut index = 0;
        while index < self.tasks.len() {
            if self.control.is_stopping() {
                return Round::Over;
            }
            let (number, task) = &mut self.tasks[index];
            self.parker.current.store(*number + 1, Ordering::Relaxed);
            let polled = poll_caught(task)
                .and_then(|polled| within_heap(self.heap_limit, task, &self.control).map(|()| polled));
            self.parker.current.store(0, Ordering::Relaxed);
            match polled {
                Ok(Polled::Progress) => progress = true,
                Ok(Polled::WaitingForInput(until) | Polled::WaitingForOutput(until)) => {
                    earliest = earliest.into_iter().chain(until).min();
                }
                Ok(Polled::Done) => {
                    progress = true;
                    let (number, task) = self.tasks.remove(index);
                    if let Err(error) = self.drop_task(number, task) {
                        self.control.fail(error);
                        return Round::Over;
                    }
                    continue;
                }
                Err(error) => {
                    self.control.fail(error);
                    return Round::Over;
                }
            }
            index += 1;
        }
        match () {
            () if self.tasks.is_empty() || self.control.is_stopping() => Round::Over,
            () if progress => Round::Progress,
            () => Round::Waiting(earliest),
        }
    }

    /// Drops a task, which counts as being polled: a destructor may not return.
    fn drop_task(&self, number: usize, task: Task) -> Result<(), Error> {
        self.parker.current.store(number + 1, Ordering::Relaxed);
        let dropped = drop_caught(task);
        self.parker.current.store(0, Ordering::Relaxed);
        dropped
    }

    fn park(&mut self) {
        self.parker.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if let Round::Waiting(until) = self.round() {
            // Until a wake has cleared the flag: the thread's token may be another's, or eaten by a user's function that
            // parks the thread itself.
            while self.parker.parked.load(Ordering::Acquire) {
                match until.map(|until| until.saturating_sub(self.clock.now())) {
                    None => std::thread::park(),
                    Some(left) if left.is_zero() => break,
                    Some(left) => std::thread::park_timeout(left),
                }
            }
        }
        self.parker.parked.store(false, Ordering::Relaxed);
    }
}

/// Polls a task; a panic in it becomes an error that says where it happened.
pub(crate) fn poll_caught(task: &mut Task) -> Result<Polled, Error> {
    match catch_unwind(AssertUnwindSafe(|| task.poll())) {
        Ok(result) => result,
        Err(panic) => {
            let (place, position) = task.at_work();
            Err(match panic.downcast::<Error>() {
                // Thrown by the engine, where a closure has no other way out.
                Ok(error) => error.within(place),
                Err(panic) => {
                    let message = panic_message(&*panic);
                    Error::user(format!(
                        "{place}, record {position}: a function panicked: {message}"
                    ))
                }
            }
            .located())
        }
    }
}

/// Drops a task; a panic in a destructor, which is the user's, becomes an error.
fn drop_caught(task: Task) -> Result<(), Error> {
    let name = task.name().clone();
    caught(
        || format!("task of \"{name}\", when it was dropped"),
        || {
            drop(task);
            Ok(())
        },
    )
}

/// Calls a user's function outside of a poll; a panic in it becomes an error, and either says its `place`.
pub(crate) fn caught<T>(
    place: impl Fn() -> String,
    function: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let error = match catch_unwind(AssertUnwindSafe(function)) {
        Ok(Err(error)) if error.kind() == ErrorKind::User && !error.is_located() => error.within(place()),
        Ok(result) => return result,
        Err(panic) => Error::user(format!(
            "{}: a function panicked: {}",
            place(),
            panic_message(&*panic)
        )),
    };
    Err(error.located())
}

/// Refuses to go on where the heap has more than the plan gives it: names the operator that has added most to it, where that is
/// a good part, or else who is at work.
fn within_heap(limit: u64, task: &Task, control: &JobControl) -> Result<(), Error> {
    let used = user_heap_bytes() as u64;
    if used <= limit {
        return Ok(());
    }
    let (place, part) = match control.most_heap_grown(limit / 4..=used) {
        Some((place, bytes)) => (place, format!(", {} of it by that operator", ByteSize(bytes))),
        None => (task.at_work().0, String::new()),
    };
    Err(Error::memory(format!(
        "{place}: the heap has {}{part}, the plan gives it {} (memory.framework_size + memory.user_size); raise memory.user_size, \
         or keep less in functions and sinks",
        ByteSize(used),
        ByteSize(limit)
    )))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(message) = panic.downcast_ref::<&str>() {
        message
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message
    } else {
        "a value that is not text"
    }
}
