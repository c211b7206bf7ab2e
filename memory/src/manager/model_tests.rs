//! Model tests: random operations on a manager against plain counts, alone and from several threads.
//!
//! Every segment carries a stamp, written over all of it when it is taken and compared when it is dropped, so that
//! two segments that share a byte are found as well as counts that do not add up.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::{Budget, MemoryManager, Reservation};
use crate::hash::hash_u64;
use crate::network::LocalPool;
use crate::segment::{Segment, SegmentSource};

const SEGMENT_SIZE: usize = 4096;

/// Random numbers that depend on the seed alone.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (hash_u64(self.0 ^ (self.0 >> 29)) >> 16) as usize % bound
    }
}

/// A segment that knows what it should hold.
struct Stamped {
    segment: Segment,
    stamp: u64,
}

impl Stamped {
    fn new(mut segment: Segment, stamp: u64) -> Stamped {
        segment
            .chunks_exact_mut(8)
            .for_each(|word| word.copy_from_slice(&stamp.to_le_bytes()));
        Stamped { segment, stamp }
    }
}

impl Drop for Stamped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let intact = self
                .segment
                .chunks_exact(8)
                .all(|word| word == self.stamp.to_le_bytes());
            assert!(intact, "{:?} was overwritten", self.segment);
        }
    }
}

/// One budget as the test sees it.
struct Account {
    budget: Budget,
    segments: Vec<Stamped>,
    reservations: Vec<Reservation>,
    /// It was denied, and has neither been granted anything since nor withdrawn.
    denied: bool,
}

impl Account {
    fn held(&self) -> usize {
        self.segments.len()
            + self
                .reservations
                .iter()
                .map(Reservation::remaining)
                .sum::<usize>()
    }

    /// What it keeps from others.
    fn kept(&self) -> usize {
        self.held().max(self.budget.minimum())
    }
}

/// The model: counts, and the rules for them.
struct Model {
    manager: MemoryManager,
    total: usize,
    withheld: usize,
    accounts: Vec<Account>,
    /// Segments whose budget was dropped: its minimum, and what is still out.
    orphans: Vec<(usize, Vec<Stamped>)>,
    stamp: u64,
}

impl Model {
    fn new(total: usize) -> Model {
        let manager = MemoryManager::with_segments(total, 0, SEGMENT_SIZE).unwrap();
        Model {
            manager,
            total,
            withheld: 0,
            accounts: Vec::new(),
            orphans: Vec::new(),
            stamp: 0,
        }
    }

    fn committed(&self) -> usize {
        let live: usize = self.accounts.iter().map(|account| account.budget.minimum()).sum();
        live + self.orphans.iter().map(|(minimum, _)| minimum).sum::<usize>()
    }

    /// What is left above all minimums; negative while the target is below what is held.
    fn free(&self) -> isize {
        let kept: usize = self.accounts.iter().map(Account::kept).sum();
        let orphaned: usize = self
            .orphans
            .iter()
            .map(|(minimum, segments)| *minimum.max(&segments.len()))
            .sum();
        self.total as isize - (self.withheld + kept + orphaned) as isize
    }

    fn step(&mut self, random: &mut Random) {
        let count = self.accounts.len();
        let chosen = random.below(count.max(1));
        match random.below(16) {
            0 | 1 if count < 6 => self.open(random.below(self.total / 2), random.below(self.total)),
            2 if count > 0 => self.close(chosen),
            3..=7 if count > 0 => self.take(chosen),
            8 | 9 if count > 0 => self.reserve(chosen, random.below(6)),
            10 if count > 0 => self.take_reserved(chosen),
            11 if count > 0 => drop(self.accounts[chosen].reservations.pop()),
            12 if count > 0 => {
                let account = &mut self.accounts[chosen];
                account.budget.withdraw();
                account.denied = false;
            }
            13 => self.lower_target(random.below(self.total * 2)),
            14 if !self.orphans.is_empty() => drop(self.orphans.pop()),
            _ if count > 0 => {
                let account = &mut self.accounts[chosen];
                let many = random.below(4).min(account.segments.len());
                let at = random.below(account.segments.len() - many + 1);
                account.segments.drain(at..at + many);
                account
                    .budget
                    .set_revocable(account.segments.len(), 1 + random.below(3));
            }
            _ => {}
        }
        self.check();
    }

    fn open(&mut self, minimum: usize, more: usize) {
        let short = (minimum as isize - self.free()).max(0) as usize;
        let possible = minimum <= self.total - self.committed() && short <= self.withheld;
        let opened = self.manager.budget("model", minimum, minimum + more);
        assert_eq!(
            opened.is_ok(),
            possible,
            "{opened:?}",
            opened = opened.as_ref().err()
        );
        if let Ok(budget) = opened {
            self.withheld -= short;
            let (segments, reservations) = (Vec::new(), Vec::new());
            self.accounts.push(Account {
                budget,
                segments,
                reservations,
                denied: false,
            });
        } else if minimum <= self.total - self.committed() {
            // What was withheld went to the attempt, and stays in the pool.
            self.withheld = self.total - self.manager.stats().managed_target;
        }
    }

    fn close(&mut self, chosen: usize) {
        let account = self.accounts.swap_remove(chosen);
        let (minimum, segments) = (account.budget.minimum(), account.segments);
        if !segments.is_empty() {
            self.orphans.push((minimum, segments));
        }
    }

    fn take(&mut self, chosen: usize) {
        let taken = self.accounts[chosen].budget.try_take();
        self.judge(chosen, 1, taken.is_some());
        if let Some(segment) = taken {
            self.stamp += 1;
            self.accounts[chosen]
                .segments
                .push(Stamped::new(segment, self.stamp));
        }
    }

    fn reserve(&mut self, chosen: usize, count: usize) {
        let reserved = self.accounts[chosen].budget.reserve(count);
        self.judge(chosen, count, reserved.is_ok());
        self.accounts[chosen].reservations.extend(reserved.ok());
    }

    fn take_reserved(&mut self, chosen: usize) {
        let account = &mut self.accounts[chosen];
        if let Some(mut reservation) = account.reservations.pop() {
            let left = reservation.remaining();
            if let Some(segment) = reservation.take() {
                self.stamp += 1;
                account.segments.push(Stamped::new(segment, self.stamp));
                assert_eq!(reservation.remaining(), left - 1);
                account.reservations.push(reservation);
            } else {
                assert_eq!(left, 0);
            }
        }
    }

    fn lower_target(&mut self, target: usize) {
        self.manager.lower_target(target);
        self.withheld = self.total - target.clamp(self.committed(), self.total);
    }

    /// Whether a request was rightly granted or denied; `chosen` does not hold what it was granted yet.
    fn judge(&mut self, chosen: usize, count: usize, granted: bool) {
        let account = &self.accounts[chosen];
        let (held, budget) = (account.held(), &account.budget);
        let after = held + count;
        let above = after.saturating_sub(held.max(budget.minimum())) as isize;
        let within = after <= budget.maximum();
        if after <= budget.minimum() {
            assert!(granted, "a minimum is guaranteed: {count} more than {held}");
        }
        if !within || (above > 0 && above > self.free()) {
            assert!(
                !granted,
                "{count} more than {held} are not there: {} free",
                self.free()
            );
        } else if after <= budget.fair_share() || !self.accounts.iter().any(|account| account.denied) {
            assert!(granted, "{count} more than {held} are free, and nobody starves");
        }
        self.accounts[chosen].denied = !granted;
    }

    fn check(&self) {
        self.manager.check();
        let stats = self.manager.stats();
        let held: usize = self.accounts.iter().map(Account::held).sum();
        let orphaned: usize = self.orphans.iter().map(|(_, segments)| segments.len()).sum();
        assert_eq!(stats.managed_held, held + orphaned);
        assert_eq!(stats.managed_target, self.total - self.withheld);
        let mut ids = HashSet::new();
        for account in &self.accounts {
            assert_eq!(account.budget.held(), account.held());
            assert!(account.budget.held() <= account.budget.maximum());
            let above = account.budget.held().saturating_sub(account.budget.fair_share());
            assert!(
                account.budget.revocation_wanted() <= above,
                "nobody is asked below its share"
            );
            assert!(
                account
                    .segments
                    .iter()
                    .all(|stamped| ids.insert(stamped.segment.id()))
            );
        }
        let shares: usize = self
            .accounts
            .iter()
            .map(|account| account.budget.fair_share())
            .sum();
        assert!(shares <= self.total);
    }
}

#[test]
fn a_manager_equals_its_model() {
    for seed in 0..40 {
        let outcome = catch_unwind(|| {
            let mut random = Random(seed);
            let mut model = Model::new(8 + random.below(40));
            (0..500).for_each(|_| model.step(&mut random));
            model.accounts.clear();
            model.orphans.clear();
            assert_eq!(model.manager.outstanding(), 0);
            model.manager.check();
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

/// Budgets that want all they can get, and give what they are asked for, end at their fair shares.
#[test]
fn greedy_budgets_converge_to_their_fair_shares() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let manager = MemoryManager::with_segments(64, 0, SEGMENT_SIZE).unwrap();
        let mut holders: Vec<(Budget, Vec<Segment>)> = (0..2 + random.below(5))
            .map(|_| {
                let budget = manager
                    .budget("greedy", random.below(8), 8 + random.below(80))
                    .unwrap();
                budget.set_weight(1 + random.below(4) as u32);
                (budget, Vec::new())
            })
            .collect();
        // The first one takes all there is, before the others want any.
        let all: Vec<Segment> = std::iter::from_fn(|| holders[0].0.try_take()).collect();
        holders[0].1 = all;
        let mut rounds = 0;
        while holders
            .iter()
            .any(|(budget, _)| budget.held() < budget.fair_share())
        {
            let next = random.below(holders.len());
            let (budget, segments) = &mut holders[next];
            let asked = budget.revocation_wanted();
            segments.truncate(segments.len() - asked);
            if asked == 0 {
                segments.extend(budget.try_take());
            }
            budget.set_revocable(segments.len(), 1);
            rounds += 1;
            assert!(rounds < 10_000, "seed {seed}: {:#?}", manager.budget_stats());
        }
        manager.check();
    }
}

/// Each thread holds its own budget and buffers, and drops what others took: minimums hold under any interleaving.
#[test]
fn minimums_hold_while_threads_take_and_give_back() {
    const THREADS: usize = 4;
    const MINIMUM: usize = 3;
    for seed in 0..8 {
        let manager =
            MemoryManager::with_segments(THREADS * MINIMUM + 5, THREADS * 2 + 3, SEGMENT_SIZE).unwrap();
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..THREADS).map(|_| mpsc::sync_channel::<Stamped>(2)).unzip();
        // All minimums are guaranteed before the first thread takes more than its own.
        let shares: Vec<(Budget, LocalPool)> = (0..THREADS)
            .map(|_| {
                let budget = manager.budget("thread", MINIMUM, 12).unwrap();
                (budget, manager.network().local("thread", 2, 6).unwrap())
            })
            .collect();
        std::thread::scope(|scope| {
            for (thread, (receiver, (budget, buffers))) in receivers.into_iter().zip(shares).enumerate() {
                let next = senders[(thread + 1) % THREADS].clone();
                scope.spawn(move || work(seed * 100 + thread as u64, &budget, &buffers, &next, &receiver));
            }
            drop(senders);
        });
        assert_eq!(manager.outstanding(), 0, "seed {seed}");
        manager.check();
    }
}

fn work(
    seed: u64,
    budget: &Budget,
    buffers: &LocalPool,
    next: &mpsc::SyncSender<Stamped>,
    receiver: &mpsc::Receiver<Stamped>,
) {
    let mut random = Random(seed);
    let mut segments = Vec::new();
    for round in 0..2_000 {
        let stamp = seed << 32 | round;
        match random.below(8) {
            0..=2 => {
                let guaranteed = budget.held() < budget.minimum();
                let taken = budget.try_take();
                assert!(
                    taken.is_some() || !guaranteed,
                    "seed {seed}: a minimum is guaranteed"
                );
                segments.extend(taken.map(|segment| Stamped::new(segment, stamp)));
            }
            3 => {
                if let Ok(mut reservation) = budget.reserve(1 + random.below(3)) {
                    segments.extend(reservation.take().map(|segment| Stamped::new(segment, stamp)));
                }
            }
            4 | 5 => {
                let taken = buffers.try_take().or_else(|| buffers.try_take_overdraft());
                if let Some(Err(mpsc::TrySendError::Full(buffer))) =
                    taken.map(|segment| next.try_send(Stamped::new(segment, stamp)))
                {
                    segments.push(buffer);
                }
            }
            6 => drop(receiver.try_recv()),
            _ => {
                let asked = budget.revocation_wanted().max(random.below(3));
                segments.truncate(segments.len().saturating_sub(asked));
                budget.set_revocable(segments.len(), 1);
            }
        }
    }
}

/// A thread that waits for memory is always woken: nobody else moves once all are asleep.
#[test]
fn a_waiter_is_never_forgotten() {
    const THREADS: usize = 3;
    let manager = MemoryManager::with_segments(4, 0, SEGMENT_SIZE).unwrap();
    let turns = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let budget = manager.budget("waiter", 0, 4).unwrap();
            let turns = turns.clone();
            scope.spawn(move || {
                let (wake, woken) = mpsc::channel();
                let wake = Mutex::new(wake);
                budget.set_wake(Some(Arc::new(move || {
                    let _ = wake.lock().unwrap().send(());
                })));
                let mut random = Random(thread as u64);
                for _ in 0..3_000 {
                    let wanted = 1 + random.below(4);
                    let reservation = loop {
                        match budget.reserve(wanted) {
                            Ok(reservation) => break reservation,
                            // The limit only turns a hang into a failure.
                            Err(_) => woken
                                .recv_timeout(Duration::from_secs(60))
                                .expect("a wake was lost"),
                        }
                    };
                    turns.fetch_add(1, SeqCst);
                    drop(reservation);
                }
            });
        }
    });
    assert_eq!(turns.load(SeqCst), THREADS * 3_000);
    assert_eq!(manager.outstanding(), 0);
}

/// A job that starts while another holds all that is shared asks for its minimum, and gets it.
#[test]
fn a_minimum_that_is_lent_comes_back_when_it_is_asked_for() {
    let manager = MemoryManager::with_segments(8, 8, SEGMENT_SIZE).unwrap();
    let lender = manager.budget("lender", 2, 8).unwrap();
    let mut lent: Vec<Segment> = std::iter::from_fn(|| lender.try_take()).collect();
    let buffers = manager.network().local("lender", 2, 8).unwrap();
    let mut buffers_lent: Vec<Segment> = std::iter::from_fn(|| buffers.try_take()).collect();
    lender.set_revocable(lent.len(), 1);
    let refused = manager.budget("late", 4, 8).err().unwrap();
    assert!(
        refused.message().contains("needs 4 segments, its budget has 0"),
        "{refused}"
    );
    assert_eq!(
        lender.revocation_wanted(),
        0,
        "who does not wait asks for nothing"
    );

    let patience = Duration::from_secs(60);
    std::thread::scope(|scope| {
        let late = scope.spawn(|| {
            let budget = manager.budget_within("late", 4, 8, patience).unwrap();
            let buffers = manager.network().local_with("late", 3, 8, 0, patience).unwrap();
            (budget.available(), buffers.required())
        });
        while lender.revocation_wanted() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(lender.revocation_wanted(), 4);
        for left in (4..8).rev() {
            lent.truncate(left);
        }
        buffers_lent.truncate(5);
        assert_eq!(late.join().unwrap(), (4, 3));
    });
    assert_eq!((lender.held(), lender.revocation_wanted()), (4, 0));
    drop((lent, buffers_lent));
    manager.check();
}

/// Jobs that fail at any point, some by a panic, leave nothing behind.
#[test]
fn a_thousand_failed_rounds_leak_nothing() {
    let manager = MemoryManager::with_segments(32, 16, SEGMENT_SIZE).unwrap();
    for round in 0..1_000 {
        let mut random = Random(round);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let sort = manager.budget("sort", 8, 32).unwrap();
            let buffers = manager.network().local("exchange", 4, 16).unwrap();
            let mut held = Vec::new();
            for _ in 0..random.below(40) {
                held.extend(sort.try_take());
                held.extend(buffers.try_take());
            }
            let _merge = sort.reserve(random.below(8));
            if random.below(50) == 0 {
                std::panic::resume_unwind(Box::new("a user function failed"));
            }
        }));
        assert!(outcome.is_ok() || manager.outstanding() == 0, "round {round}");
        assert_eq!(manager.outstanding(), 0, "round {round}");
        manager.check();
    }
    assert_eq!(manager.budget("next", 32, 32).unwrap().available(), 32);
}
