//! The counts of one pool: every segment that is out, or promised, is counted here on exactly one account.
//!
//! # Interface
//! [`Ledger::open`] an [`Account`] with its guaranteed minimum; [`Ledger::acquire`] and [`Ledger::release`]
//! segments on it; [`Ledger::close`] it. [`Ledger::lower_target`] keeps segments back under outside pressure.
//!
//! # Algorithm
//! The pool is split in the minimums of its accounts and a shared rest. An account below its minimum takes
//! without asking anybody; above, each segment is one unit of the shared counter. The common path is one
//! compare-and-swap on the account, and one on the shared counter; the book's mutex is taken only to open and
//! close accounts, after a denial, and by releases while somebody waits or is asked to give back.
//!
//! # Invariants
//! I1. total = sum of minimums + shared + withheld + sum over accounts of what they hold above their minimum;
//!     while a count moves between two of them it is in neither, never in both. Asserted by `check` in tests.
//! I2. Whoever was granted a count finds as many segments in the arena: they go back there before they are
//!     released here.
//! I3. A denied account that has a wake callback is woken when its request is possible: it registers, then looks
//!     at the counts; a release counts, then looks for those registered.
//!
//! # Not here
//! Fair shares, requests to give back, whom to wake (`arbiter`). The segments (`arena`).

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::Wake;

/// What an account weighs in the shares unless it is told: so much that shares of it can be told apart.
pub(crate) const USUAL_WEIGHT: u32 = 1000;

/// One pool's counts.
pub(crate) struct Ledger {
    total: usize,
    /// Free segments above all minimums. Negative while a target was lowered below what is held.
    pub(super) shared: CachePadded<AtomicIsize>,
    /// Free segments set aside for accounts below their fair share: accounts above theirs leave them alone.
    pub(super) earmarked: AtomicUsize,
    /// Not zero while a release has to look into the book.
    pub(super) attention: AtomicUsize,
    held: CachePadded<AtomicUsize>,
    peak: AtomicUsize,
    denied: AtomicU64,
    revoked: AtomicU64,
    book: Mutex<Book>,
    /// Signalled when a release may have made room for an account that waits to be opened.
    room: Condvar,
}

/// What is looked at under the mutex.
pub(super) struct Book {
    pub(super) accounts: Vec<Arc<Account>>,
    /// Sum of the minimums of all accounts.
    pub(super) committed: usize,
    /// Segments kept back by `lower_target`.
    pub(super) withheld: usize,
    /// Segments that accounts wait for before they can be opened.
    pub(super) admissions: usize,
}

/// What an account is opened with, in segments.
pub(crate) struct AccountTerms<'a> {
    pub(crate) owner: &'a str,
    pub(crate) minimum: usize,
    pub(crate) maximum: usize,
    /// What it may hold beyond its maximum; not part of its fair share.
    pub(crate) overdraft: usize,
}

/// Why an account could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Segments that could be guaranteed now.
    pub(crate) free: usize,
    /// Whether others hold, above their minimums, what is missing: it comes back when they give it back.
    pub(crate) lent: bool,
}

/// One holder's counts. Opened and closed by its [`Ledger`].
pub(crate) struct Account {
    pub(crate) owner: Box<str>,
    pub(crate) minimum: usize,
    pub(crate) maximum: usize,
    limit: usize,
    pub(super) weight: AtomicU32,
    pub(super) held: CachePadded<AtomicUsize>,
    peak: AtomicUsize,
    denied: AtomicU64,
    revoked: AtomicU64,
    /// Its share of the pool when everybody wants as much as they may have; at least the minimum.
    pub(super) fair: AtomicUsize,
    /// The last denied request, while it is below its fair share and has been granted nothing since.
    pub(super) need: AtomicUsize,
    /// How many segments it is asked to give back.
    pub(super) asked: AtomicUsize,
    /// What it says it could spill, and what that costs.
    pub(super) revocable: AtomicUsize,
    pub(super) cost: AtomicUsize,
    /// Wakes it when this many could be granted; 0: it does not wait.
    pub(super) wake_at: AtomicUsize,
    has_wake: AtomicBool,
    /// Nobody takes on it any more.
    pub(super) retired: AtomicBool,
    pub(super) wake: Mutex<Option<Wake>>,
    /// Called when it is asked to give back after it was not.
    pub(super) when_asked: Mutex<Option<Wake>>,
}

impl Ledger {
    /// A ledger of `total` segments, all of them free.
    pub(crate) fn new(total: usize) -> Ledger {
        Ledger {
            total,
            shared: CachePadded::new(AtomicIsize::new(total as isize)),
            earmarked: AtomicUsize::new(0),
            attention: AtomicUsize::new(0),
            held: CachePadded::new(AtomicUsize::new(0)),
            peak: AtomicUsize::new(0),
            denied: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            book: Mutex::new(Book {
                accounts: Vec::new(),
                committed: 0,
                withheld: 0,
                admissions: 0,
            }),
            room: Condvar::new(),
        }
    }

    /// Opens an account whose minimum is guaranteed from now on.
    pub(crate) fn open(&self, terms: &AccountTerms<'_>) -> Result<Arc<Account>, Refused> {
        let (opened, wakes) = {
            let mut book = self.lock();
            let opened = self.admit(&mut book, terms);
            (opened, self.rebalance(&mut book))
        };
        run(wakes);
        opened
    }

    /// Opens an account, waiting up to `patience` for others to give back what they hold above their minimums.
    /// `collect` gives back what others keep without using it; it is called once their shares were lowered, so that
    /// nothing is kept above them from then on.
    pub(crate) fn open_within(
        &self,
        terms: &AccountTerms<'_>,
        patience: Duration,
        collect: impl Fn(),
    ) -> Result<Arc<Account>, Refused> {
        let started = Instant::now();
        let mut book = self.lock();
        loop {
            match self.admit(&mut book, terms) {
                Err(Refused { lent: true, .. }) if started.elapsed() < patience => {
                    book.admissions += terms.minimum;
                    self.share_out(&mut book);
                    let wakes = self.rebalance(&mut book);
                    drop(book);
                    run(wakes);
                    collect();
                    book = self.lock();
                    // A release between the two locks has signalled nobody: look before waiting.
                    if self.shared.load(SeqCst) < terms.minimum as isize {
                        let left = patience.saturating_sub(started.elapsed());
                        book = self
                            .room
                            .wait_timeout(book, left)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0;
                    }
                    book.admissions -= terms.minimum;
                    self.share_out(&mut book);
                }
                opened => {
                    let wakes = self.rebalance(&mut book);
                    drop(book);
                    run(wakes);
                    return opened;
                }
            }
        }
    }

    fn admit(&self, book: &mut Book, terms: &AccountTerms<'_>) -> Result<Arc<Account>, Refused> {
        let minimum = terms.minimum;
        let uncommitted = self.total - book.committed;
        if minimum > uncommitted {
            return Err(Refused {
                free: uncommitted,
                lent: false,
            });
        }
        // A guarantee is worth more than a target that was lowered.
        let short = (minimum as isize - self.shared.load(SeqCst)).max(0) as usize;
        let restored = short.min(book.withheld);
        book.withheld -= restored;
        self.shared.fetch_add(restored as isize, SeqCst);
        if !self.take_shared(minimum, 0) {
            return Err(Refused {
                free: self.shared.load(SeqCst).max(0) as usize,
                lent: true,
            });
        }
        let account = Arc::new(Account {
            owner: terms.owner.into(),
            minimum,
            maximum: terms.maximum,
            limit: terms.maximum.saturating_add(terms.overdraft),
            weight: AtomicU32::new(USUAL_WEIGHT),
            held: CachePadded::new(AtomicUsize::new(0)),
            peak: AtomicUsize::new(0),
            denied: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            fair: AtomicUsize::new(minimum),
            need: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            revocable: AtomicUsize::new(0),
            cost: AtomicUsize::new(1),
            wake_at: AtomicUsize::new(0),
            has_wake: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            wake: Mutex::new(None),
            when_asked: Mutex::new(None),
        });
        book.committed += minimum;
        book.accounts.push(account.clone());
        self.share_out(book);
        Ok(account)
    }

    /// Closes an account that holds nothing any more; its minimum is free again.
    pub(crate) fn close(&self, account: &Arc<Account>) {
        let wakes = {
            let mut book = self.lock();
            let held = account.held();
            debug_assert!(
                held == 0 || std::thread::panicking(),
                "{}: closed with {held} held",
                account.owner
            );
            book.accounts.retain(|other| !Arc::ptr_eq(other, account));
            book.committed -= account.minimum;
            self.shared.fetch_add(account.minimum as isize, SeqCst);
            self.share_out(&mut book);
            self.rebalance(&mut book)
        };
        run(wakes);
    }

    /// Nobody takes on the account any more; what it holds comes back later. It has no share beyond its minimum.
    pub(crate) fn retire(&self, account: &Account) {
        account.set_wake(None);
        account.set_when_asked(None);
        let wakes = {
            let mut book = self.lock();
            account.retired.store(true, Relaxed);
            account.need.store(0, Relaxed);
            account.wake_at.store(0, Relaxed);
            account.revocable.store(0, Relaxed);
            self.share_out(&mut book);
            self.rebalance(&mut book)
        };
        run(wakes);
    }

    /// Counts `count` segments more on the account; all or nothing. True: the arena has them.
    pub(crate) fn acquire(&self, account: &Account, count: usize) -> bool {
        let (granted, took_back) = self.grant(account, count);
        if took_back {
            self.settle();
        }
        if !granted {
            self.deny(account, count);
            return false;
        }
        if account.need.load(Relaxed) != 0 || account.wake_at.load(Relaxed) != 0 {
            self.satisfied(account, count);
        }
        true
    }

    /// Counts `count` segments less, after they have gone back to the arena.
    pub(crate) fn release(&self, account: &Account, count: usize) {
        let before = account.held.fetch_sub(count, SeqCst);
        debug_assert!(before >= count, "{}: released {count} of {before}", account.owner);
        self.held.fetch_sub(count, Relaxed);
        let above = before.saturating_sub(account.minimum.max(before - count));
        if above > 0 {
            self.shared.fetch_add(above as isize, SeqCst);
        }
        let asked = account.asked.load(Relaxed);
        if asked > 0 {
            let given = asked.min(count) as u64;
            account.revoked.fetch_add(given, Relaxed);
            self.revoked.fetch_add(given, Relaxed);
        }
        self.settle();
    }

    /// Keeps segments back so that at most `target` are handed out; minimums stay guaranteed.
    /// A target above the total restores the plan's size.
    pub(crate) fn lower_target(&self, target: usize) {
        let wakes = {
            let mut book = self.lock();
            let withheld = self.total - target.clamp(book.committed, self.total);
            self.shared
                .fetch_add(book.withheld as isize - withheld as isize, SeqCst);
            book.withheld = withheld;
            self.share_out(&mut book);
            self.rebalance(&mut book)
        };
        run(wakes);
    }

    /// What the account could give back, and what a segment of it costs.
    pub(crate) fn declare(&self, account: &Account, revocable: usize, cost: usize) {
        account.cost.store(cost.max(1), Relaxed);
        if account.revocable.swap(revocable, Relaxed) != revocable {
            self.settle();
        }
    }

    /// Forgets the account's denied request: it does not want the memory any more.
    pub(crate) fn withdraw(&self, account: &Account) {
        if account.need.load(Relaxed) != 0 || account.wake_at.load(Relaxed) != 0 {
            self.satisfied(account, usize::MAX);
        }
    }

    /// The account's weight in the shares of the pool.
    pub(crate) fn weigh(&self, account: &Account, weight: u32) {
        let wakes = {
            let mut book = self.lock();
            account.weight.store(weight.max(1), Relaxed);
            self.share_out(&mut book);
            self.rebalance(&mut book)
        };
        run(wakes);
    }

    /// How many segments the account could acquire now.
    pub(crate) fn available(&self, account: &Account) -> usize {
        let held = account.held();
        let shared = self.shared.load(SeqCst).max(0) as usize;
        // Up to its fair share it may have every free segment, beyond that only those not set aside.
        let below = shared.min(account.fair().saturating_sub(held.max(account.minimum)));
        let kept = self.kept_from(account, held, usize::MAX);
        let granted = account.minimum.saturating_sub(held) + below.max(shared.saturating_sub(kept));
        granted.min(account.limit.saturating_sub(held))
    }

    /// What nobody holds, above minimums, and what no starving account waits for; negative where a target was lowered below what is held.
    pub(crate) fn free(&self) -> isize {
        let shared = self.shared.load(SeqCst);
        let earmarked = self.earmarked.load(SeqCst) as isize;
        (shared - earmarked).max(shared.min(0))
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// What may be handed out under the present target.
    pub(crate) fn target(&self) -> usize {
        self.total - self.lock().withheld
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    /// Requests denied, and segments given back on request.
    pub(crate) fn history(&self) -> (u64, u64) {
        (self.denied.load(Relaxed), self.revoked.load(Relaxed))
    }

    /// All open accounts, in the order in which they were opened.
    pub(crate) fn accounts(&self) -> Vec<Arc<Account>> {
        self.lock().accounts.clone()
    }

    /// The common path: no lock. Also answers whether a unit was taken from the shared rest and put back, which
    /// another may have missed in between: the caller then settles, outside the book's lock.
    fn grant(&self, account: &Account, count: usize) -> (bool, bool) {
        let mut took_back = false;
        let mut held = account.held.load(SeqCst);
        loop {
            let Some(after) = held.checked_add(count).filter(|&after| after <= account.limit) else {
                return (false, took_back);
            };
            let above = after.saturating_sub(held.max(account.minimum));
            if above > 0 && !self.take_shared(above, self.kept_from(account, held, after)) {
                return (false, took_back);
            }
            match account.held.compare_exchange(held, after, SeqCst, SeqCst) {
                Ok(_) => {
                    raise(&account.peak, after);
                    raise(&self.peak, self.held.fetch_add(count, Relaxed) + count);
                    return (true, took_back);
                }
                Err(now) => {
                    if above > 0 {
                        self.shared.fetch_add(above as isize, SeqCst);
                        took_back = true;
                    }
                    held = now;
                }
            }
        }
    }

    /// What the account leaves to starving ones when it goes from `held` to `after`.
    pub(super) fn kept_from(&self, account: &Account, held: usize, after: usize) -> usize {
        if after <= account.fair() {
            return 0;
        }
        self.earmarked
            .load(SeqCst)
            .saturating_sub(account.starvation(held))
    }

    fn take_shared(&self, count: usize, kept: usize) -> bool {
        let floor = (count + kept) as isize;
        let count = count as isize;
        self.shared
            .fetch_update(SeqCst, SeqCst, |shared| {
                (shared >= floor).then_some(shared - count)
            })
            .is_ok()
    }

    /// A request that found nothing: registers it, and asks others to give back. A release that comes in between
    /// is seen by the same look into the book, which then wakes the account.
    #[cold]
    fn deny(&self, account: &Account, count: usize) {
        account.denied.fetch_add(1, Relaxed);
        self.denied.fetch_add(1, Relaxed);
        let after = account.held().saturating_add(count);
        let starves = after <= account.fair().min(account.limit);
        let waits = account.has_wake.load(Relaxed);
        if !starves && !waits {
            return;
        }
        let wakes = {
            let mut book = self.lock();
            if starves {
                account.need.store(count, Relaxed);
            }
            if waits {
                account.wake_at.store(count, Relaxed);
            }
            // Before the shared rest is read: a release that is not seen there sees this.
            self.attention.store(1, SeqCst);
            self.rebalance(&mut book)
        };
        run(wakes);
    }

    /// A request was granted: it is no longer starving, and does not wait where it got as much as it waited for.
    #[cold]
    fn satisfied(&self, account: &Account, count: usize) {
        let wakes = {
            let mut book = self.lock();
            account.need.store(0, Relaxed);
            if count >= account.wake_at.load(Relaxed) {
                account.wake_at.store(0, Relaxed);
            }
            self.rebalance(&mut book)
        };
        run(wakes);
    }

    /// Looks into the book where somebody waits or is asked, after a count was put back.
    fn settle(&self) {
        if self.attention.load(SeqCst) == 0 {
            return;
        }
        let wakes = {
            let mut book = self.lock();
            if book.admissions > 0 {
                self.room.notify_all();
            }
            self.rebalance(&mut book)
        };
        run(wakes);
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asserts I1 while nothing moves.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let book = self.lock();
        let held: usize = book.accounts.iter().map(|account| account.held()).sum();
        let above: usize = book
            .accounts
            .iter()
            .map(|account| account.held().saturating_sub(account.minimum))
            .sum();
        assert_eq!(held, self.held());
        assert_eq!(
            self.total as isize,
            (book.committed + above + book.withheld) as isize + self.shared.load(SeqCst)
        );
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let held = *self.held.get_mut();
        debug_assert!(
            held == 0 || std::thread::panicking(),
            "{held} segments were never given back"
        );
    }
}

impl Account {
    pub(crate) fn held(&self) -> usize {
        self.held.load(SeqCst)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn fair(&self) -> usize {
        self.fair.load(Relaxed)
    }

    /// What it lacks of the shared rest, where it was denied a request within its fair share and holds `held`.
    /// A request beyond the share counts for nothing: two of them would keep all from each other.
    pub(super) fn starvation(&self, held: usize) -> usize {
        let need = self.need.load(Relaxed);
        let after = held.saturating_add(need);
        if need == 0 || after > self.fair() {
            return 0;
        }
        after.saturating_sub(held.max(self.minimum))
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }

    pub(crate) fn set_wake(&self, wake: Option<Wake>) {
        let mut slot = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_wake.store(wake.is_some(), Relaxed);
        let replaced = std::mem::replace(&mut *slot, wake);
        drop(slot);
        // The old callback may own segments: it is dropped outside the lock.
        drop(replaced);
    }

    pub(crate) fn set_when_asked(&self, wake: Option<Wake>) {
        let mut slot = self.when_asked.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = std::mem::replace(&mut *slot, wake);
        drop(slot);
        drop(replaced);
    }

    pub(crate) fn call_wake(&self) {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        run(wake.into_iter().collect());
    }

    /// The most it held, requests denied, and segments given back on request.
    pub(crate) fn history(&self) -> (usize, u64, u64) {
        (
            self.peak.load(Relaxed),
            self.denied.load(Relaxed),
            self.revoked.load(Relaxed),
        )
    }
}

fn run(wakes: Vec<Wake>) {
    wakes.into_iter().for_each(|wake| wake());
}

fn raise(peak: &AtomicUsize, value: usize) {
    if value > peak.load(Relaxed) {
        peak.fetch_max(value, Relaxed);
    }
}
