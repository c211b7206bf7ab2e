//! Interrupts: signals that ask the process to stop, and the jobs that are cancelled by them.
//!
//! # Interface
//! [`watch`] installs the handlers, once in a process and only where the program asked for it. A running job is cancelled
//! by the first signal for as long as its [`Guard`] lives. [`interrupted`] says which signal came, and so how to exit.
//!
//! # Algorithm
//! 1. A thread waits for SIGINT and SIGTERM. The first one arms the second and cancels every guarded job.
//! 2. Armed, a signal ends the process at once, in the handler itself: also when every thread is stuck.
//! 3. Where no job runs, a signal ends the process, as it does where nobody handles it.
//! 4. When the last guarded job is gone the second signal is disarmed, so that the next job is cancelled by its first one.

use forebay_memory::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, signal_name};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a shell adds to a signal's number to give an exit code.
const SIGNALLED: i32 = 128;

/// What is called with the name of the signal.
type Cancel = Box<dyn Fn(&str) + Send>;

struct Watch {
    /// Whether the next signal ends the process.
    armed: Arc<AtomicBool>,
    /// The last signal that cancelled a job; 0 before.
    signal: AtomicI32,
    jobs: Mutex<Vec<(u64, Cancel)>>,
}

static WATCH: OnceLock<Watch> = OnceLock::new();

impl Watch {
    fn jobs(&self) -> MutexGuard<'_, Vec<(u64, Cancel)>> {
        // What is called while it is locked may panic, but leaves the list as it is.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signalled(&self, signal: i32) {
        let jobs = self.jobs();
        if jobs.is_empty() {
            drop(jobs);
            // It ends the process; where it cannot, the signal is lost.
            let _ = emulate_default_handler(signal);
            return;
        }
        self.signal.store(signal, Ordering::Release);
        self.armed.store(true, Ordering::Release);
        let name = signal_name(signal).unwrap_or("a signal");
        // Whatever the program's subscriber does, jobs are cancelled, and the next signal is heard.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            tracing::warn!(
                signal = name,
                "cancelling {} jobs; a second signal ends the process at once",
                jobs.len()
            );
        }));
        for (_, cancel) in &*jobs {
            let _ = catch_unwind(AssertUnwindSafe(|| cancel(name)));
        }
    }
}

/// Installs the handlers where they are not installed yet.
///
/// # Errors
/// `Io` where the operating system refuses them, or the thread that waits for signals.
pub(crate) fn watch() -> Result<()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if WATCH.get().is_some() {
        return Ok(());
    }
    let failed = |error| Error::io("cannot install a handler for SIGINT and SIGTERM", error);
    // The thread comes first: handlers without it would swallow signals.
    let (hand_over, handed_over) = channel::<(Signals, &'static Watch)>();
    std::thread::Builder::new()
        .name("forebay-signals".into())
        .spawn(move || {
            // Where the handlers are refused there is nothing to wait for.
            if let Ok((mut signals, watch)) = handed_over.recv() {
                signals.forever().for_each(|signal| watch.signalled(signal));
            }
        })
        .map_err(failed)?;
    let armed = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        register_conditional_shutdown(signal, SIGNALLED + signal, armed.clone()).map_err(failed)?;
    }
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let watch = WATCH.get_or_init(|| Watch {
        armed,
        signal: AtomicI32::new(0),
        jobs: Mutex::default(),
    });
    hand_over
        .send((signals, watch))
        .expect("the thread waits for the handlers");
    Ok(())
}

/// The exit code of a process that a signal has interrupted: 130 after Ctrl-C, 143 after SIGTERM. `None` where no signal
/// has cancelled a job.
pub fn interrupted() -> Option<u8> {
    let signal = WATCH.get()?.signal.load(Ordering::Acquire);
    u8::try_from(SIGNALLED + signal).ok().filter(|_| signal > 0)
}

/// For as long as it lives, a signal cancels its job.
pub(crate) struct Guard(u64);

impl Guard {
    /// Calls `cancel` with the signal's name when one comes. Only after [`watch`].
    pub(crate) fn new(cancel: impl Fn(&str) + Send + 'static) -> Guard {
        let mut jobs = WATCH.get().expect("handlers are installed").jobs();
        let number = jobs.last().map_or(0, |(number, _)| number + 1);
        jobs.push((number, Box::new(cancel)));
        Guard(number)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let watch = WATCH.get().expect("handlers are installed");
        let mut jobs = watch.jobs();
        jobs.retain(|(number, _)| *number != self.0);
        if jobs.is_empty() {
            watch.armed.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics at every event.
    struct Panics;

    impl tracing::Subscriber for Panics {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            panic!("the subscriber panics");
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn every_job_is_cancelled_whatever_panics_meanwhile() {
        let cancelled = Arc::new(AtomicI32::new(0));
        let count = cancelled.clone();
        let first: Cancel = Box::new(|_| panic!("the first one panics"));
        let second: Cancel = Box::new(move |signal| {
            assert_eq!(signal, "SIGINT");
            count.fetch_add(1, Ordering::Relaxed);
        });
        let watch = Watch {
            armed: Arc::default(),
            signal: AtomicI32::new(0),
            jobs: Mutex::new(vec![(0, first), (1, second)]),
        };
        tracing::subscriber::with_default(Panics, || watch.signalled(SIGINT));
        assert_eq!(cancelled.load(Ordering::Relaxed), 1);
        assert!(watch.armed.load(Ordering::Relaxed));
        assert_eq!(watch.jobs().len(), 2, "the list can still be had");
    }
}
