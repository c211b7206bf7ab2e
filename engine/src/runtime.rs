//! The runtime: what jobs of one process share, one proved plan, one memory manager, one spill store.
//!
//! # Interface
//! [`Runtime::new`] from a [`Plan`]; clones share everything, so several jobs run under one budget.

use forebay_memory::spill::SpillConfig;
use forebay_memory::{MemoryManager, Plan, Result, SpillStore};
use std::sync::Arc;

/// The shared means of jobs.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    plan: Plan,
    manager: MemoryManager,
    spill: SpillStore,
}

impl Runtime {
    /// Reserves the plan's memory (address space; it is committed as it is used) and prepares the spill store.
    ///
    /// # Errors
    /// Where the operating system refuses the mapping.
    pub fn new(plan: Plan) -> Result<Runtime> {
        let manager = MemoryManager::new(&plan)?;
        let spill = SpillStore::open(&SpillConfig::from(&plan))?;
        Ok(Runtime::from_parts(plan, manager, spill))
    }

    /// A runtime over parts made elsewhere: a simulated spill store, a small pool.
    pub fn from_parts(plan: Plan, manager: MemoryManager, spill: SpillStore) -> Runtime {
        Runtime {
            inner: Arc::new(Inner { plan, manager, spill }),
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
}
