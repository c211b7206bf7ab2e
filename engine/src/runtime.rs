//! The runtime: what jobs of one process share, one proved plan, one memory manager, one spill store.
//!
//! # Interface
//! [`Runtime::new`] from a [`Plan`]; clones share everything, so several jobs run under one budget.

use forebay_memory::plan::{SpillCodec, SpillIo};
use forebay_memory::spill::{Codec, IoChoice, SpillConfig};
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
        let manager = MemoryManager::with_segments(
            plan.managed_segments(),
            plan.network_segments(),
            plan.segment_size(),
        )?;
        let spill = SpillStore::open(&spill_config(&plan))?;
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

/// The spill store that a plan describes.
fn spill_config(plan: &Plan) -> SpillConfig {
    SpillConfig {
        directories: plan.spill.directories.clone(),
        max_bytes: plan.spill.max_bytes,
        codec: match plan.spill.codec {
            SpillCodec::Adaptive => Codec::Adaptive,
            SpillCodec::None => Codec::None,
            SpillCodec::Lz4 => Codec::Lz4,
        },
        io: match plan.spill.io {
            SpillIo::Auto => IoChoice::Auto,
            SpillIo::IoUring => IoChoice::IoUring,
            SpillIo::Threads => IoChoice::Threads,
        },
        workspace_bytes: plan.spill.workspace_bytes,
        write_bytes: plan.spill.block_size,
        handles: plan.job.parallelism.max(4),
        ..SpillConfig::default()
    }
}
