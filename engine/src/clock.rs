//! Time as the engine sees it: a clock that is real in a job and simulated in a test.
//!
//! # Interface
//! [`Clock::now`] is the only way to read time in this crate; `clippy.toml` bans the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A point in time: since the clock's start, which means nothing outside the process.
pub type Instant = Duration;

/// A source of time.
pub trait Clock: Send + Sync {
    /// Time since the clock's start; never falls.
    fn now(&self) -> Instant;
}

/// The operating system's monotonic clock.
pub struct RealClock {
    start: std::time::Instant,
}

impl RealClock {
    /// A clock that starts now.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where real time enters the engine"
    )]
    pub fn start() -> Arc<dyn Clock> {
        Arc::new(RealClock {
            start: std::time::Instant::now(),
        })
    }
}

impl Clock for RealClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where real time enters the engine"
    )]
    fn now(&self) -> Instant {
        self.start.elapsed()
    }
}

/// A clock that moves only when it is told to.
#[derive(Default)]
pub struct SimulatedClock {
    nanos: AtomicU64,
}

impl SimulatedClock {
    /// A clock at zero.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.nanos.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Instant {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}
