//! The arbiter: fair shares of a pool, whom to ask for memory back, and whom to wake.
//!
//! # Algorithm
//! 1. Shares: what is left of the pool above the minimums is shared out by weight; an account whose maximum is
//!    below its share leaves the difference to the others (weighted max-min fairness).
//! 2. An account starves when it was denied a request within its share. What the starving need is earmarked:
//!    accounts that go above their shares no longer take it.
//! 3. What is earmarked and not free is asked of accounts above their shares that declared something to give:
//!    most segments per cost first, never below their share. An account at or below its share is asked for
//!    nothing, so no segment is asked back and forth: who got one by starving is at most at its share.
//! 4. All of this is computed anew, from the present counts, at every denial and at every release while somebody
//!    starves: a request that was satisfied, or whose reason went away, disappears by itself.
//!
//! # Cost
//! Linear in the open accounts, under the book's lock; not on the common path.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::Wake;
use super::book::{Account, Book, Ledger};

impl Ledger {
    /// Computes the fair share of every account, after accounts, weights or the target changed.
    pub(super) fn share_out(&self, book: &mut Book) {
        let mut spare = self
            .total()
            .saturating_sub(book.committed + book.withheld + book.admissions) as u128;
        let mut by_room: Vec<(&Arc<Account>, u128, u128)> = book
            .accounts
            .iter()
            .map(|account| {
                let retired = account.retired.load(Relaxed);
                let room = if retired {
                    0
                } else {
                    (account.maximum - account.minimum) as u128
                };
                (account, room, u128::from(account.weight.load(Relaxed)))
            })
            .collect();
        // Those whose room per weight is least are filled first; what they leave goes to the others.
        by_room.sort_by(|(_, room, weight), (_, other, heavier)| (room * heavier).cmp(&(other * weight)));
        let mut weights: u128 = by_room.iter().map(|(_, _, weight)| weight).sum();
        for (account, room, weight) in by_room {
            let extra = room.min(spare * weight / weights);
            account.fair.store(account.minimum + extra as usize, Relaxed);
            spare -= extra;
            weights -= weight;
        }
    }

    /// Computes anew what is earmarked and who is asked for how much; answers whom to wake, outside the lock.
    pub(super) fn rebalance(&self, book: &mut Book) -> Vec<Wake> {
        let mut earmarked = book.admissions;
        for account in &book.accounts {
            earmarked += account.starvation(account.held());
        }
        self.earmarked.store(earmarked, SeqCst);
        let shared = self.shared.load(SeqCst);
        let shortage = (earmarked as isize - shared).max(0) as usize;
        let (asks, mut wakes) = ask(book, shortage);
        let (waiting, granted) = self.choose_wakes(book, shared);
        self.attention.store(book.admissions + waiting + asks, SeqCst);
        wakes.extend(granted);
        wakes
    }

    /// Whom to wake of those that wait, the starving first; and how many still wait.
    fn choose_wakes(&self, book: &Book, shared: isize) -> (usize, Vec<Wake>) {
        let mut free = shared;
        // What the woken starving ones take of `free` is no longer set aside in it.
        let mut woken = 0;
        let mut waiting = 0;
        let mut wakes = Vec::new();
        for starving in [true, false] {
            for account in &book.accounts {
                let wanted = account.wake_at.load(Relaxed);
                let held = account.held();
                let starvation = account.starvation(held);
                if wanted == 0 || (starvation > 0) != starving {
                    continue;
                }
                let after = held.saturating_add(wanted);
                let above = after.saturating_sub(held.max(account.minimum));
                let kept = self.kept_from(account, held, after).saturating_sub(woken);
                if after > account.limit() || (above > 0 && (above + kept) as isize > free) {
                    waiting += 1;
                    continue;
                }
                account.wake_at.store(0, Relaxed);
                free -= above as isize;
                woken += starvation;
                let wake = account
                    .wake
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                wakes.extend(wake);
            }
        }
        (waiting, wakes)
    }
}

/// Asks the holders with the most to give per cost for `shortage` segments; answers how many were asked, and how to wake
/// those that were not asked before.
fn ask(book: &Book, mut shortage: usize) -> (usize, Vec<Wake>) {
    let mut givers: Vec<(usize, &Arc<Account>)> = Vec::new();
    for account in &book.accounts {
        let above = account.held().saturating_sub(account.fair());
        let give = above.min(account.revocable.load(Relaxed));
        if shortage > 0 && give > 0 {
            givers.push((give, account));
        } else {
            account.asked.store(0, Relaxed);
        }
    }
    let cost = |account: &Account| account.cost.load(Relaxed) as u128;
    givers.sort_by(|(give, account), (other_give, other)| {
        (*other_give as u128 * cost(account)).cmp(&(*give as u128 * cost(other)))
    });
    let mut asks = 0;
    let mut wakes = Vec::new();
    for (give, account) in givers {
        let asked = give.min(shortage);
        let before = account.asked.swap(asked, Relaxed);
        shortage -= asked;
        asks += usize::from(asked > 0);
        if before == 0 && asked > 0 {
            let wake = account.when_asked.lock();
            wakes.extend(wake.unwrap_or_else(PoisonError::into_inner).clone());
        }
    }
    (asks, wakes)
}
