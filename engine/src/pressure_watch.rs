//! The watch: a thread that looks at memory pressure from outside while jobs run.
//!
//! # Interface
//! [`PressureWatch::start`] begins; dropping it ends the thread and raises the manager's target again. Jobs of a runtime
//! share one.
//!
//! # Algorithm
//! Every interval the monitor samples its sources and moves the target of the managed pool. A thread of its own: workers may all be
//! parked, or at work in one long call, and other jobs may hold memory that this one does not.

use crate::clock::RealClock;
use forebay_memory::{Error, MemoryManager, PressureMonitor, Result};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// See the module.
pub(crate) struct PressureWatch {
    end: Arc<End>,
    thread: Option<JoinHandle<()>>,
    manager: MemoryManager,
}

#[derive(Default)]
struct End {
    is_over: Mutex<bool>,
    changed: Condvar,
}

impl PressureWatch {
    /// Watches with `monitor` every `interval`, and moves the target of `manager`.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(crate) fn start(
        mut monitor: PressureMonitor,
        interval: Duration,
        manager: MemoryManager,
    ) -> Result<PressureWatch> {
        let end = Arc::new(End::default());
        let (told, watched) = (end.clone(), manager.clone());
        let clock = RealClock::start();
        let watch = move || {
            let mut is_over = told.is_over.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_over {
                drop(is_over);
                monitor.relieve(clock.now(), &watched);
                let lock = told.is_over.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = told
                    .changed
                    .wait_timeout_while(lock, interval, |is_over| !*is_over);
                is_over = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        let thread = std::thread::Builder::new()
            .name("forebay-pressure".into())
            .spawn(watch)
            .map_err(|error| Error::io("the watch for memory pressure: cannot start its thread", error))?;
        Ok(PressureWatch {
            end,
            thread: Some(thread),
            manager,
        })
    }
}

impl Drop for PressureWatch {
    fn drop(&mut self) {
        *self.end.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // Sampling does not panic; if it did, the target is restored all the same.
            let _ = thread.join();
        }
        // The next job begins with what the plan says, and lowers it by what it sees itself.
        self.manager.lower_target(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_memory::SegmentSource;

    /// A watch lowers the target again and again although nobody polls anything, and its end restores it.
    #[test]
    fn pressure_is_seen_while_every_worker_is_parked_and_ends_with_the_watch() {
        let root = std::env::temp_dir().join(format!("forebay-pressure-watch-{}", std::process::id()));
        std::fs::create_dir_all(root.join("proc/self")).expect("the temporary directory can be written");
        // A thousand pages are resident, and the plan has one.
        std::fs::write(root.join("proc/self/statm"), "1000 1000 0 0 0 0 0\n").expect("it can be written");
        let manager = MemoryManager::with_segments(64, 1, 4096).expect("it is small");
        let budget = manager.budget("job", 8, 64).expect("there are 64");
        let interval = Duration::from_micros(1);
        let monitor = PressureMonitor::at(&root, 4096, interval);
        let watch = PressureWatch::start(monitor, interval, manager.clone()).expect("a thread starts");
        // Each sample takes a quarter of the pool away: the least is reached only by several of them.
        let mut looks = 0u64;
        while manager.stats().managed_target > 8 {
            looks += 1;
            assert!(
                looks < 100_000_000,
                "the target is {}",
                manager.stats().managed_target
            );
            std::thread::yield_now();
        }
        drop(watch);
        assert_eq!(manager.stats().managed_target, 64);
        let held: Vec<_> = std::iter::from_fn(|| budget.try_take()).collect();
        assert_eq!(held.len(), 64);
        std::fs::remove_dir_all(root).expect("it was made above");
    }
}
