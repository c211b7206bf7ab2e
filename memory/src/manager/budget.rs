//! The budget: how many segments of managed memory one operator holds and may hold.
//!
//! # Interface
//! [`SegmentSource::try_take`] for one segment, [`Budget::reserve`] for several, all or nothing.
//! [`Budget::set_revocable`] says what could be spilled; [`Budget::revocation_wanted`], polled once per batch,
//! answers how much of it somebody else needs.
//!
//! # Memory
//! Always the minimum, from the moment the budget is made; above that what is free in the pool, up to the
//! maximum, and revocable.

use std::sync::Arc;

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::ledger::{Account, Ledger, USUAL_WEIGHT, Wake};
use crate::manager::reservation::Reservation;
use crate::segment::{Block, Segment, SegmentHome, SegmentSource};
use crate::size::ByteSize;

/// One owner's share of managed memory. Clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    home: Arc<Home>,
    /// Dropped with the last clone, while segments may still be out.
    _handles: Arc<Handles>,
}

/// What a budget's segments go home to; it lives until the last of them is back.
pub(super) struct Home {
    pub(super) arena: Arc<Arena>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) account: Arc<Account>,
}

impl Budget {
    /// The weight of a budget that is not told another.
    pub const USUAL_WEIGHT: u32 = USUAL_WEIGHT;

    pub(super) fn new(arena: Arc<Arena>, ledger: Arc<Ledger>, account: Arc<Account>) -> Budget {
        let home = Arc::new(Home {
            arena,
            ledger,
            account,
        });
        Budget {
            _handles: Arc::new(Handles(home.clone())),
            home,
        }
    }

    /// Who the budget is for, as messages name it.
    pub fn owner(&self) -> &str {
        &self.home.account.owner
    }

    /// How many segments are guaranteed.
    pub fn minimum(&self) -> usize {
        self.home.account.minimum
    }

    /// The most segments it may hold.
    pub fn maximum(&self) -> usize {
        self.home.account.maximum
    }

    /// How many segments it holds, taken or reserved.
    pub fn held(&self) -> usize {
        self.home.account.held()
    }

    /// How many segments it could take now.
    pub fn available(&self) -> usize {
        self.home.ledger.available(&self.home.account)
    }

    /// How many segments of the pool nobody holds or waits for, whatever it may have itself; negative where outside pressure keeps
    /// back more than is free. Minimums that are not held are not among them.
    pub fn free_in_pool(&self) -> isize {
        self.home.ledger.free()
    }

    /// Its fair share of the pool in segments: what it may count on when every budget wants all it may have.
    /// Others are asked to give back for requests within it; beyond it, first come, first served.
    pub fn fair_share(&self) -> usize {
        self.home.account.fair()
    }

    /// `count` segments, all or none of them.
    ///
    /// # Errors
    /// `Memory` where they are not available: spill something and try again, or answer *waiting for memory*.
    pub fn reserve(&self, count: usize) -> Result<Reservation> {
        if !self.home.ledger.acquire(&self.home.account, count) {
            return Err(denied(self.owner(), count, self.available(), self.segment_size()));
        }
        Ok(Reservation::new(self.home.clone(), count))
    }

    /// Declares that `segments` of what it holds could be given back, at `cost` bytes of I/O each (clean pages
    /// cost less). The arbiter asks the budgets with the most to give per cost.
    pub fn set_revocable(&self, segments: usize, cost: usize) {
        self.home.ledger.declare(&self.home.account, segments, cost);
    }

    /// Declares that `bytes` of what it holds could be spilled, at the cost of writing them.
    pub fn revocable(&self, bytes: usize) {
        self.set_revocable(bytes / self.segment_size(), self.segment_size());
    }

    /// How many segments it is asked to give back, because others are below their fair share. Poll it once per
    /// batch; it falls as segments are dropped, and by itself when nobody needs them any more.
    #[inline]
    pub fn revocation_wanted(&self) -> usize {
        self.home.account.asked()
    }

    /// What is called when it is asked to give back after it was not: so that a holder that waits for something else
    /// hears of it. It is called on the thread of whoever asks, and must not touch the budget.
    pub fn set_when_asked(&self, wake: Option<Wake>) {
        self.home.account.set_when_asked(wake);
    }

    /// Withdraws the last denied request, for an owner that goes on without the memory: the arbiter stops asking
    /// others for it, and setting it aside. Any segment that is granted later withdraws it too.
    pub fn withdraw(&self) {
        self.home.ledger.withdraw(&self.home.account);
    }

    /// Its weight in the fair shares of the pool, at least 1; [`Budget::USUAL_WEIGHT`] unless set.
    pub fn set_weight(&self, weight: u32) {
        self.home.ledger.weigh(&self.home.account, weight);
    }

    /// What is called when a request that was denied could now be granted; see [`Wake`].
    pub fn set_wake(&self, wake: Option<Wake>) {
        self.home.account.set_wake(wake);
    }
}

impl SegmentSource for Budget {
    fn segment_size(&self) -> usize {
        self.home.arena.segment_size()
    }

    #[inline]
    fn try_take(&self) -> Option<Segment> {
        if !self.home.ledger.acquire(&self.home.account, 1) {
            return None;
        }
        Some(self.home.segment())
    }
}

impl Home {
    /// A segment that the ledger counts already.
    pub(super) fn segment(self: &Arc<Self>) -> Segment {
        let block = self
            .arena
            .take()
            .expect("the ledger counts no more segments than the arena has");
        Segment::new(block, self.clone())
    }
}

impl SegmentHome for Home {
    fn release(&self, block: Block) {
        self.arena.give_back(block);
        self.ledger.release(&self.account, 1);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.ledger.close(&self.account);
    }
}

/// The budget's handles, all clones together: without any, nothing more is taken, and nothing is waited for.
struct Handles(Arc<Home>);

impl Drop for Handles {
    fn drop(&mut self) {
        self.0.ledger.retire(&self.0.account);
    }
}

/// The message of a request that cannot be granted.
pub(super) fn denied(owner: &str, needed: usize, available: usize, segment_size: usize) -> Error {
    let size = ByteSize((available * segment_size) as u64);
    Error::memory(format!(
        "{owner}: needs {needed} segments, its budget has {available} ({size}); raise memory.managed_size"
    ))
}
