//! The runtime: what jobs of one process share, one proved plan, one memory manager, one spill store.
//!
//! # Interface
//! [`Runtime::new`] from a [`Plan`]; clones share everything, so several jobs run under one budget.

use crate::pressure_watch::PressureWatch;
use forebay_memory::spill::SpillConfig;
use forebay_memory::{MemoryManager, Plan, PressureMonitor, Result, SpillStore};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The shared means of jobs.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    plan: Plan,
    manager: MemoryManager,
    spill: SpillStore,
    /// What the jobs that run now share.
    watch: Mutex<Weak<PressureWatch>>,
}

impl Runtime {
    /// Reserves the plan's memory (address space; it is committed as it is used, or as `memory.prefault` says) and prepares
    /// the spill store.
    ///
    /// # Errors
    /// Where the operating system refuses the mapping, or the memory that is to be touched at the start.
    pub fn new(plan: Plan) -> Result<Runtime> {
        let manager = MemoryManager::new(&plan)?;
        let spill = SpillStore::open(&SpillConfig::from(&plan))?;
        Ok(Runtime::from_parts(plan, manager, spill))
    }

    /// A runtime over parts made elsewhere: a simulated spill store, a small pool.
    pub fn from_parts(plan: Plan, manager: MemoryManager, spill: SpillStore) -> Runtime {
        Runtime {
            inner: Arc::new(Inner {
                plan,
                manager,
                spill,
                watch: Mutex::default(),
            }),
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// The memory manager.
    pub fn manager(&self) -> &MemoryManager {
        &self.inner.manager
    }

    /// The spill store.
    pub fn spill(&self) -> &SpillStore {
        &self.inner.spill
    }

    /// The watch for memory pressure from outside, for as long as a job runs; `None` where the plan wants none.
    pub(crate) fn watch_pressure(&self) -> Result<Option<Arc<PressureWatch>>> {
        let mut shared = self.inner.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = shared.upgrade() {
            return Ok(Some(watch));
        }
        let plan = self.plan();
        let Some(monitor) = PressureMonitor::of(plan) else {
            return Ok(None);
        };
        let watch = PressureWatch::start(monitor, plan.pressure.interval, self.manager().clone())?;
        let watch = Arc::new(watch);
        *shared = Arc::downgrade(&watch);
        Ok(Some(watch))
    }
}
