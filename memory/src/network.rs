//! The network pool: a fixed count of segments for exchanges, apart from managed memory.
//!
//! # Interface
//! [`NetworkPool::local`] gives each exchange side its [`LocalPool`] of required and optional buffers;
//! [`SegmentSource::try_take`] on it, and [`SegmentSource::try_take_overdraft`] for actions that cannot be
//! interrupted. Buffers come back when they are dropped, by whichever thread.
//!
//! # Algorithm
//! 1. Required buffers are counted on the pool's ledger when the local pool is made, so they are always there.
//! 2. The optional rest is shared out evenly, up to each local pool's maximum. This *size* changes when local
//!    pools come and go; a local pool above its size gives every buffer that comes back to the others.
//! 3. A buffer that comes back otherwise stays with its local pool, on top of a stack: the producer's next one
//!    is still in a cache, and neither the arena nor the ledger is touched.
//!
//! # Memory
//! A local pool holds the buffers that are out and those on its stack; at most its maximum and its overdraft.
//!
//! # Invariants
//! I1. What is out plus what is on the stack is what the ledger counts for the local pool.
//! I2. A taker that found nothing is woken by the next buffer that comes back to its local pool, or by one that
//!     becomes free elsewhere while it is below its size.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::ledger::{Account, AccountTerms, Ledger, Refused, Wake};
use crate::segment::{Block, Segment, SegmentHome, SegmentSource};
use crate::size::ByteSize;

/// Buffers that a local pool may take beyond its size, unless the plan or its maker says otherwise.
pub const DEFAULT_OVERDRAFT: usize = 5;

/// The pool that exchanges share.
pub struct NetworkPool {
    arena: Arc<Arena>,
    ledger: Arc<Ledger>,
    locals: Mutex<Vec<Weak<Local>>>,
    overdraft: usize,
}

/// The buffers of one exchange side. Clones share them.
#[derive(Clone)]
pub struct LocalPool {
    local: Arc<Local>,
    /// Dropped with the last clone, while segments may still be out.
    _handles: Arc<Handles>,
}

/// What a local pool's segments go home to.
struct Local {
    arena: Arc<Arena>,
    ledger: Arc<Ledger>,
    account: Arc<Account>,
    overdraft: usize,
    state: Mutex<LocalState>,
}

struct LocalState {
    stack: Vec<Block>,
    out: usize,
    /// A taker found nothing since the last wake.
    waits: bool,
    /// No handle is left: nothing is kept any more.
    closed: bool,
}

struct Handles(Arc<Local>);

impl NetworkPool {
    pub(crate) fn new(arena: Arc<Arena>, segments: usize, overdraft: usize) -> NetworkPool {
        NetworkPool {
            arena,
            ledger: Arc::new(Ledger::new(segments)),
            locals: Mutex::new(Vec::new()),
            overdraft,
        }
    }

    /// Buffers for one exchange side: `required` are guaranteed from now on, more come as others leave them, up
    /// to `maximum` (in segments). The owner's name begins messages: `exchange "by auction"`.
    ///
    /// # Errors
    /// `Memory` where the required ones are not free now.
    pub fn local(&self, owner: &str, required: usize, maximum: usize) -> Result<LocalPool> {
        self.local_with(owner, required, maximum, self.overdraft, Duration::ZERO)
    }

    /// As [`NetworkPool::local`], with another overdraft; waits up to `patience` for optional buffers of others
    /// that the required ones are lent to.
    ///
    /// # Errors
    /// `Memory` where the required ones cannot be had; `Config` where `maximum` is below `required`.
    pub fn local_with(
        &self,
        owner: &str,
        required: usize,
        maximum: usize,
        overdraft: usize,
        patience: Duration,
    ) -> Result<LocalPool> {
        if maximum < required {
            return Err(Error::config(format!(
                "network buffers: {owner} requires {required} and may have {maximum}; \
                 its maximum must not be below what it requires"
            )));
        }
        let terms = AccountTerms {
            owner,
            minimum: required,
            maximum,
            overdraft,
        };
        let opened = self.ledger.open(&terms).or_else(|refused| match refused {
            Refused { lent: true, .. } => {
                self.trim_locals();
                self.ledger.open_within(&terms, patience, || self.trim_locals())
            }
            Refused { .. } => Err(refused),
        });
        let account = opened.map_err(|refused| {
            Error::memory(format!(
                "network buffers: {owner} needs {required} more, {} of {} ({} each) are free; \
                 raise memory.network_{{fraction,min,max}}",
                refused.free,
                self.ledger.total(),
                ByteSize(self.arena.segment_size() as u64),
            ))
        })?;
        // Shares have become smaller: what others keep above theirs is free.
        self.trim(|local| local.account.fair());
        let local = Arc::new(Local {
            arena: self.arena.clone(),
            ledger: self.ledger.clone(),
            account,
            overdraft,
            state: Mutex::new(LocalState {
                stack: Vec::new(),
                out: 0,
                waits: false,
                closed: false,
            }),
        });
        let mut locals = self.locals.lock().unwrap_or_else(PoisonError::into_inner);
        locals.retain(|other| other.strong_count() > 0);
        locals.push(Arc::downgrade(&local));
        drop(locals);
        Ok(LocalPool {
            _handles: Arc::new(Handles(local.clone())),
            local,
        })
    }

    /// How many buffers the pool has.
    pub fn total(&self) -> usize {
        self.ledger.total()
    }

    /// How many buffers local pools hold, on their stacks or out.
    pub fn held(&self) -> usize {
        self.ledger.held()
    }

    /// The most buffers that local pools held at once.
    pub fn peak(&self) -> usize {
        self.ledger.peak()
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.ledger.check();
    }

    /// Gives the buffers on local pools' stacks back to the arena, where the pools are above what they require.
    pub fn trim_locals(&self) {
        self.trim(|local| local.account.minimum);
    }

    /// Gives back what is on stacks, down to what `keep` says for each local pool, stack and out together.
    fn trim(&self, keep: impl Fn(&Local) -> usize) {
        let locals: Vec<Arc<Local>> = {
            let locals = self.locals.lock().unwrap_or_else(PoisonError::into_inner);
            locals.iter().filter_map(Weak::upgrade).collect()
        };
        for local in locals {
            let surplus = {
                let mut state = local.lock();
                let above = (state.out + state.stack.len()).saturating_sub(keep(&local));
                let left = state.stack.len().saturating_sub(above);
                state.stack.split_off(left)
            };
            local.give_up(surplus);
        }
    }
}

impl LocalPool {
    /// Who the buffers are for.
    pub fn owner(&self) -> &str {
        &self.local.account.owner
    }

    /// How many buffers are always there.
    pub fn required(&self) -> usize {
        self.local.account.minimum
    }

    /// The most buffers it may have, without overdraft.
    pub fn maximum(&self) -> usize {
        self.local.account.maximum
    }

    /// How many buffers it may have now: the required ones and its share of the optional ones.
    pub fn size(&self) -> usize {
        self.local.account.fair()
    }

    /// How many buffers are out.
    pub fn in_use(&self) -> usize {
        self.local.lock().out
    }

    /// What is called when a buffer may be had after one could not; see [`Wake`].
    pub fn set_wake(&self, wake: Option<Wake>) {
        self.local.account.set_wake(wake);
    }
}

impl SegmentSource for LocalPool {
    fn segment_size(&self) -> usize {
        self.local.arena.segment_size()
    }

    #[inline]
    fn try_take(&self) -> Option<Segment> {
        self.local.take(self.size())
    }

    /// A buffer beyond the pool's size, for an action that cannot be interrupted (a record that becomes many): up to the
    /// overdraft, and only where one is free.
    fn try_take_overdraft(&self) -> Option<Segment> {
        self.local.take(self.size() + self.local.overdraft)
    }
}

impl Local {
    fn take(self: &Arc<Self>, limit: usize) -> Option<Segment> {
        {
            let mut state = self.lock();
            // With nothing out only the ledger can wake it, so it asks there even where its size is 0.
            if state.out >= limit && state.out > 0 {
                state.waits = true;
                return None;
            }
            state.out += 1;
            if let Some(block) = state.stack.pop() {
                return Some(Segment::new(block, self.clone()));
            }
        }
        // The stack is empty, and `out` already counts this one: two takers cannot pass the limit together.
        if self.ledger.acquire(&self.account, 1) {
            let block = self
                .arena
                .take()
                .expect("the ledger counts no more segments than the arena has");
            return Some(Segment::new(block, self.clone()));
        }
        let mut state = self.lock();
        if let Some(block) = state.stack.pop() {
            return Some(Segment::new(block, self.clone()));
        }
        state.out -= 1;
        state.waits = true;
        None
    }

    /// Gives blocks that are neither out nor on the stack back to the arena.
    fn give_up(&self, blocks: Vec<Block>) {
        let count = blocks.len();
        if count > 0 {
            blocks.into_iter().for_each(|block| self.arena.give_back(block));
            self.ledger.release(&self.account, count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LocalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SegmentHome for Local {
    fn release(&self, block: Block) {
        let block = crate::arena::retire(block);
        let mut state = self.lock();
        state.out -= 1;
        let surplus = if state.closed || state.out + state.stack.len() >= self.account.fair() {
            Some(block)
        } else {
            state.stack.push(block);
            None
        };
        let wakes = std::mem::take(&mut state.waits);
        drop(state);
        if let Some(block) = surplus {
            self.give_up(vec![block]);
        }
        if wakes {
            self.account.call_wake();
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.ledger.close(&self.account);
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        let stack = {
            let mut state = self.0.lock();
            state.closed = true;
            std::mem::take(&mut state.stack)
        };
        self.0.ledger.retire(&self.0.account);
        self.0.give_up(stack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::MemoryManager;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    fn take(pool: &LocalPool, count: usize) -> Vec<Segment> {
        (0..count).map_while(|_| pool.try_take()).collect()
    }

    #[test]
    fn required_buffers_are_there_and_optional_ones_are_shared() {
        let manager = MemoryManager::with_segments(1, 20, 4096).unwrap();
        let first = manager.network().local("exchange \"a\"", 4, 100).unwrap();
        assert_eq!(first.size(), 20);
        let buffers = take(&first, 100);
        assert_eq!(buffers.len(), 20);
        let refused = manager.network().local("exchange \"b\"", 4, 8).err().unwrap();
        assert_eq!(
            refused.message(),
            "network buffers: exchange \"b\" needs 4 more, 0 of 20 (4 KiB each) are free; \
             raise memory.network_{fraction,min,max}"
        );
        drop(buffers);
        // All are on the first pool's stack; making the second one takes what it requires from there.
        let second = manager.network().local("exchange \"b\"", 4, 8).unwrap();
        assert_eq!((first.size(), second.size()), (12, 8));
        assert_eq!(take(&second, 100).len(), 8);
        let buffers = take(&first, 100);
        assert_eq!(buffers.len(), 12);
        drop((buffers, first, second));
        assert_eq!(manager.outstanding(), 0);
    }

    #[test]
    fn an_idle_pool_keeps_no_more_than_its_share() {
        let manager = MemoryManager::with_segments(1, 20, 4096).unwrap();
        let idle = manager.network().local("idle", 1, 20).unwrap();
        drop(take(&idle, 16));
        assert_eq!(manager.network().held(), 16, "kept for reuse");
        let busy = manager.network().local("busy", 1, 20).unwrap();
        assert_eq!((idle.size(), busy.size()), (10, 10));
        assert_eq!(take(&busy, 100).len(), 10);
    }

    #[test]
    fn the_last_buffer_back_is_the_next_one_out() {
        let manager = MemoryManager::with_segments(1, 8, 4096).unwrap();
        let pool = manager.network().local("exchange", 4, 8).unwrap();
        let mut buffers = take(&pool, 4);
        let id = buffers[1].id();
        drop(buffers.remove(1));
        assert_eq!(pool.try_take().unwrap().id(), id);
    }

    #[test]
    fn overdraft_goes_beyond_the_size_where_buffers_are_free() {
        let manager = MemoryManager::with_segments(1, 16, 4096).unwrap();
        let pool = manager.network().local("exchange", 2, 4).unwrap();
        let mut buffers = take(&pool, 100);
        assert_eq!(buffers.len(), 4);
        buffers.extend(std::iter::from_fn(|| pool.try_take_overdraft()));
        assert_eq!(buffers.len(), 4 + DEFAULT_OVERDRAFT);
        drop(buffers);
        assert_eq!(
            (pool.in_use(), manager.network().held()),
            (0, 4),
            "what was overdrawn is not kept"
        );
    }

    #[test]
    fn buffers_outlive_their_pool() {
        let manager = MemoryManager::with_segments(1, 8, 4096).unwrap();
        let pool = manager.network().local("exchange", 4, 8).unwrap();
        let buffers = take(&pool, 5);
        drop(pool);
        assert_eq!(manager.outstanding(), 5);
        drop(buffers);
        assert_eq!(manager.outstanding(), 0);
        assert_eq!(manager.network().local("exchange", 8, 8).unwrap().size(), 8);
    }

    #[test]
    fn a_taker_that_found_nothing_is_woken_once() {
        let manager = MemoryManager::with_segments(1, 8, 4096).unwrap();
        let pool = manager.network().local("exchange", 2, 2).unwrap();
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        pool.set_wake(Some(Arc::new(move || {
            counter.fetch_add(1, SeqCst);
        })));
        let mut buffers = take(&pool, 2);
        drop(buffers.pop());
        assert_eq!(wakes.load(SeqCst), 0, "nobody waits");
        buffers.push(pool.try_take().unwrap());
        assert!(pool.try_take().is_none());
        drop(buffers);
        assert_eq!(wakes.load(SeqCst), 1);
    }

    /// Others hold what is above a pool's required buffers: it is woken when they give that back.
    #[test]
    fn a_taker_is_woken_by_buffers_of_other_pools() {
        let manager = MemoryManager::with_segments(1, 8, 4096).unwrap();
        let first = manager.network().local("first", 1, 8).unwrap();
        let mut lent = take(&first, 6);
        let second = manager.network().local("second", 1, 8).unwrap();
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        second.set_wake(Some(Arc::new(move || {
            counter.fetch_add(1, SeqCst);
        })));
        let mut own = take(&second, 8);
        assert_eq!((own.len(), second.size()), (2, 4));
        drop(lent.pop());
        assert_eq!(wakes.load(SeqCst), 1);
        own.extend(second.try_take());
        assert_eq!(own.len(), 3);
    }
}
