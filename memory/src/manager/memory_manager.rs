//! The memory manager: one arena, the managed pool with its budgets, and the network pool apart from it.
//!
//! # Interface
//! [`MemoryManager::budget`] for operators, [`MemoryManager::network`] for exchanges,
//! [`MemoryManager::lower_target`] and [`MemoryManager::trim`] under outside pressure,
//! [`MemoryManager::stats`] for metrics.
//!
//! # Invariants
//! I1. The minimums of all budgets together never exceed the managed pool: checked when a budget is made.
//! I2. The network pool never takes from managed memory, nor the other way round: each has its own ledger.
//! I3. A segment that a stuck task keeps stays counted, and keeps its budget's minimum; all else goes on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::ledger::{AccountTerms, Ledger};
use crate::manager::budget::{Budget, denied};
use crate::network::{DEFAULT_OVERDRAFT, NetworkPool};
use crate::plan::Plan;

/// All memory of a process that grows with its data. Clones are the same manager.
#[derive(Clone)]
pub struct MemoryManager {
    core: Arc<Core>,
}

struct Core {
    arena: Arc<Arena>,
    managed: Arc<Ledger>,
    network: NetworkPool,
}

impl MemoryManager {
    /// The manager of a plan's managed and network segments. Nothing is committed yet, but where the plan says so
    /// (`memory.prefault`).
    ///
    /// # Errors
    /// `Io` where the kernel refuses the address space, or the memory that is to be touched at the start.
    ///
    /// # Examples
    /// ```
    /// use forebay_memory::{MemoryManager, Plan, SegmentSource};
    ///
    /// let plan = Plan::with_segments(64, 16, 32 << 10)?;
    /// let manager = MemoryManager::new(&plan)?;
    /// let budget = manager.budget("sort \"by price\"", 8, 64)?;
    /// let mut segment = budget.try_take().expect("its minimum is guaranteed");
    /// segment[..5].copy_from_slice(b"bytes");
    /// assert_eq!((manager.stats().managed_held, budget.available()), (1, 63));
    /// drop(segment);
    /// assert_eq!(manager.outstanding(), 0);
    /// # Ok::<(), forebay_memory::Error>(())
    /// ```
    pub fn new(plan: &Plan) -> Result<MemoryManager> {
        let overdraft = plan.network.max_overdraft_buffers_per_gate;
        let segments = plan.managed_segments().saturating_add(plan.network_segments());
        let arena = Arena::with_prefault(segments, plan.segment_size(), plan.prefault)?;
        Ok(MemoryManager::of(
            arena,
            plan.managed_segments(),
            plan.network_segments(),
            overdraft,
        ))
    }

    /// A manager of `managed` and `network` segments of `segment_size` bytes, without a plan: for tests.
    ///
    /// # Errors
    /// As [`Arena::new`].
    pub fn with_segments(managed: usize, network: usize, segment_size: usize) -> Result<MemoryManager> {
        let arena = Arena::new(managed.saturating_add(network), segment_size)?;
        Ok(MemoryManager::of(arena, managed, network, DEFAULT_OVERDRAFT))
    }

    fn of(arena: Arena, managed: usize, network: usize, overdraft: usize) -> MemoryManager {
        let arena = Arc::new(arena);
        let network = NetworkPool::new(arena.clone(), network, overdraft);
        MemoryManager {
            core: Arc::new(Core {
                arena,
                managed: Arc::new(Ledger::new(managed)),
                network,
            }),
        }
    }

    /// A budget of at least `minimum` segments, guaranteed from now on, and at most `maximum`. The owner's name
    /// begins messages: `sort "by price", subtask 3 of 8`.
    ///
    /// # Errors
    /// `Memory` where the minimum cannot be guaranteed, or is lent to others that hold more than their minimums
    /// ([`MemoryManager::budget_within`] waits for those); `Config` where the maximum is below the minimum.
    pub fn budget(&self, owner: &str, minimum: usize, maximum: usize) -> Result<Budget> {
        self.budget_within(owner, minimum, maximum, Duration::ZERO)
    }

    /// As [`MemoryManager::budget`]; asks those that the minimum is lent to, and waits for them up to `patience`.
    /// For starting a job while others run; not for a worker's thread.
    ///
    /// # Errors
    /// As [`MemoryManager::budget`].
    pub fn budget_within(
        &self,
        owner: &str,
        minimum: usize,
        maximum: usize,
        patience: Duration,
    ) -> Result<Budget> {
        if maximum < minimum {
            return Err(Error::config(format!(
                "{owner}: needs {minimum} segments and may have {maximum}; raise its maximum"
            )));
        }
        let terms = AccountTerms {
            owner,
            minimum,
            maximum,
            overdraft: 0,
        };
        let managed = &self.core.managed;
        let account = managed
            .open_within(&terms, patience, || ())
            .map_err(|refused| denied(owner, minimum, refused.free, self.segment_size()))?;
        Ok(Budget::new(self.core.arena.clone(), managed.clone(), account))
    }

    /// The pool of network buffers.
    pub fn network(&self) -> &NetworkPool {
        &self.core.network
    }

    /// The size of every segment in bytes.
    pub fn segment_size(&self) -> usize {
        self.core.arena.segment_size()
    }

    /// The arena that all segments are cut from.
    pub fn arena(&self) -> &Arena {
        &self.core.arena
    }

    /// Lowers how many managed segments may be held, under pressure from outside. Minimums stay guaranteed; who
    /// holds more than its share of what is left is asked to give back. A target of the pool's size or above
    /// ends it.
    pub fn lower_target(&self, segments: usize) {
        self.core.managed.lower_target(segments);
    }

    /// Gives idle memory back to the kernel; answers how many bytes.
    pub fn trim(&self) -> usize {
        self.core.network.trim_locals();
        self.core.arena.trim()
    }

    /// How many segments are held, managed and network together: 0 at the end of every job.
    pub fn outstanding(&self) -> usize {
        self.core.managed.held() + self.core.network.held()
    }

    /// Asserts that both ledgers add up, while nothing moves.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.core.managed.check();
        self.core.network.check();
    }

    /// What is held now, and was at most.
    pub fn stats(&self) -> MemoryStats {
        let (denied, revoked) = self.core.managed.history();
        MemoryStats {
            segment_size: self.segment_size(),
            managed_total: self.core.managed.total(),
            managed_target: self.core.managed.target(),
            managed_held: self.core.managed.held(),
            managed_peak: self.core.managed.peak(),
            managed_denied: denied,
            managed_revoked: revoked,
            network_total: self.core.network.total(),
            network_held: self.core.network.held(),
            network_peak: self.core.network.peak(),
            committed_bytes: self.core.arena.committed_bytes(),
        }
    }

    /// The same for each budget, in the order in which they were made.
    pub fn budget_stats(&self) -> Vec<BudgetStats> {
        let accounts = self.core.managed.accounts();
        accounts
            .iter()
            .map(|account| {
                let (peak, denied, revoked) = account.history();
                BudgetStats {
                    owner: account.owner.to_string(),
                    minimum: account.minimum,
                    maximum: account.maximum,
                    fair_share: account.fair(),
                    held: account.held(),
                    peak,
                    denied,
                    revoked,
                    revocation_wanted: account.asked(),
                }
            })
            .collect()
    }
}

impl fmt::Debug for MemoryManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

/// A manager's counts, in segments where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStats {
    /// The size of a segment in bytes.
    pub segment_size: usize,
    /// The managed pool.
    pub managed_total: usize,
    /// What of it may be held now: less than the total under pressure from outside.
    pub managed_target: usize,
    /// What of it is held, taken or reserved.
    pub managed_held: usize,
    /// The most that was held.
    pub managed_peak: usize,
    /// Requests that were denied.
    pub managed_denied: u64,
    /// Segments given back on request.
    pub managed_revoked: u64,
    /// The network pool.
    pub network_total: usize,
    /// What of it local pools hold, out or ready for reuse.
    pub network_held: usize,
    /// The most that was held.
    pub network_peak: usize,
    /// Bytes of the arena that the kernel may have committed.
    pub committed_bytes: usize,
}

/// A budget's counts, in segments where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetStats {
    /// Who the budget is for.
    pub owner: String,
    /// What is guaranteed.
    pub minimum: usize,
    /// The most it may hold.
    pub maximum: usize,
    /// What it may count on when every budget wants all it may have.
    pub fair_share: usize,
    /// What it holds, taken or reserved.
    pub held: usize,
    /// The most it held.
    pub peak: usize,
    /// Requests that were denied.
    pub denied: u64,
    /// Segments it gave back on request.
    pub revoked: u64,
    /// How many it is asked to give back.
    pub revocation_wanted: usize,
}
