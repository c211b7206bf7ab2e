//! Tests of the manager, its budgets and the arbiter, against a plain model and under threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::{Budget, MemoryManager};
use crate::segment::{Segment, SegmentSource};

fn manager(segments: usize) -> MemoryManager {
    MemoryManager::with_segments(segments, 0, 4096).unwrap()
}

fn take(budget: &Budget, count: usize) -> Vec<Segment> {
    (0..count).map_while(|_| budget.try_take()).collect()
}

#[test]
fn a_minimum_is_guaranteed_whatever_others_hold() {
    let manager = manager(16);
    let small = manager.budget("small", 4, 4).unwrap();
    let large = manager.budget("large", 2, 100).unwrap();
    assert_eq!(large.available(), 12);
    let greedy = take(&large, 100);
    assert_eq!(greedy.len(), 12);
    assert_eq!((small.available(), large.available()), (4, 0));
    assert_eq!(take(&small, 100).len(), 4);
    drop(greedy);
    assert_eq!(manager.outstanding(), 0);
    assert_eq!(manager.stats().managed_peak, 16);
    manager.check();
}

#[test]
fn a_minimum_that_cannot_be_given_is_refused_by_name() {
    let manager = MemoryManager::with_segments(10, 4, 32 << 10).unwrap();
    let _other = manager.budget("join", 8, 100).unwrap();
    let refused = manager
        .budget("sort \"by price\", subtask 3 of 8", 8, 100)
        .err()
        .unwrap();
    assert_eq!(
        refused.message(),
        "sort \"by price\", subtask 3 of 8: needs 8 segments, its budget has 2 (64 KiB); raise memory.managed_size"
    );
    assert!(manager.budget("sort", 3, 2).is_err());
}

#[test]
fn a_reservation_is_all_or_nothing() {
    let manager = manager(8);
    let budget = manager.budget("merge", 2, 6).unwrap();
    assert_eq!(
        budget.reserve(7).err().unwrap().message(),
        "merge: needs 7 segments, its budget has 6 (24 KiB); raise memory.managed_size"
    );
    assert_eq!(budget.held(), 0);
    let mut reservation = budget.reserve(6).unwrap();
    assert!(budget.try_take().is_none());
    let segment = reservation.take().unwrap();
    assert_eq!((reservation.remaining(), budget.held()), (5, 6));
    drop(reservation);
    assert_eq!(budget.held(), 1);
    drop(segment);
    assert_eq!(budget.held(), 0);
}

#[test]
fn segments_outlive_their_budget_and_keep_its_minimum() {
    let manager = manager(8);
    let budget = manager.budget("stuck", 8, 8).unwrap();
    let segment = budget.try_take().unwrap();
    drop(budget);
    assert_eq!(manager.outstanding(), 1);
    assert!(manager.budget("next", 1, 8).is_err());
    drop(segment);
    assert_eq!(manager.outstanding(), 0);
    assert!(manager.budget("next", 8, 8).is_ok());
}

/// The holder above its share is asked for what the starving one lacks of its share, and no more.
#[test]
fn revocation_converges_to_fair_shares() {
    let manager = manager(16);
    let first = manager.budget("first", 2, 16).unwrap();
    let mut held = take(&first, 16);
    assert_eq!(held.len(), 16);
    drop(held.drain(2..6));
    let second = manager.budget("second", 2, 16).unwrap();
    assert_eq!((first.fair_share(), second.fair_share()), (8, 8));
    let mut starving = take(&second, 16);
    first.set_revocable(held.len(), 4096);
    starving.extend(take(&second, 16));
    assert_eq!(starving.len(), 4);
    assert_eq!(first.revocation_wanted(), 1);
    let mut rounds = 0;
    while first.revocation_wanted() > 0 {
        held.truncate(held.len() - first.revocation_wanted());
        assert!(first.try_take().is_none(), "what is earmarked is not taken again");
        first.set_revocable(held.len(), 4096);
        starving.extend(take(&second, 16));
        rounds += 1;
        assert!(rounds <= 8, "no livelock");
    }
    assert_eq!((first.held(), second.held()), (8, 8));
    assert_eq!(manager.stats().managed_revoked, 4);
    // The starving one is at its share: it is denied, and nobody is asked.
    assert!(second.try_take().is_none());
    assert_eq!(first.revocation_wanted(), 0);
}

#[test]
fn a_request_that_is_withdrawn_is_no_longer_asked_for() {
    let manager = manager(8);
    let first = manager.budget("first", 0, 8).unwrap();
    let second = manager.budget("second", 0, 8).unwrap();
    let held = take(&first, 8);
    first.set_revocable(8, 1);
    assert!(second.reserve(3).is_err());
    assert_eq!(first.revocation_wanted(), 3);
    second.withdraw();
    assert_eq!(first.revocation_wanted(), 0);
    assert!(second.reserve(3).is_err());
    assert_eq!(first.revocation_wanted(), 3);
    drop(second);
    assert_eq!(first.revocation_wanted(), 0);
    drop(held);
}

#[test]
fn the_arbiter_asks_who_gives_most_for_least() {
    let manager = manager(30);
    let dear = manager.budget("dear", 0, 30).unwrap();
    let cheap = manager.budget("cheap", 0, 30).unwrap();
    let starving = manager.budget("starving", 0, 30).unwrap();
    let held = (take(&dear, 15), take(&cheap, 15));
    dear.set_revocable(15, 32);
    cheap.set_revocable(3, 1);
    assert!(starving.reserve(4).is_err());
    assert_eq!((dear.revocation_wanted(), cheap.revocation_wanted()), (1, 3));
    drop(held);
    assert!(starving.reserve(4).is_ok());
}

#[test]
fn weights_shape_the_shares() {
    let manager = manager(40);
    let light = manager.budget("light", 4, 100).unwrap();
    let heavy = manager.budget("heavy", 4, 100).unwrap();
    let fixed = manager.budget("fixed", 2, 2).unwrap();
    heavy.set_weight(2 * Budget::USUAL_WEIGHT);
    assert_eq!(
        (light.fair_share(), heavy.fair_share(), fixed.fair_share()),
        (14, 24, 2)
    );
}

#[test]
fn a_denied_request_is_woken_when_it_can_be_granted() {
    let manager = manager(8);
    let holder = manager.budget("holder", 0, 8).unwrap();
    let waiter = manager.budget("waiter", 0, 8).unwrap();
    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = wakes.clone();
    waiter.set_wake(Some(Arc::new(move || {
        counter.fetch_add(1, SeqCst);
    })));
    let mut held = take(&holder, 8);
    // Another one that goes on waiting keeps the arbiter looking.
    let patient = manager.budget("patient", 0, 8).unwrap();
    patient.set_wake(Some(Arc::new(|| {})));
    assert!(patient.reserve(8).is_err());
    assert!(waiter.reserve(3).is_err());
    held.truncate(6);
    assert_eq!(wakes.load(SeqCst), 0, "two are not enough");
    held.truncate(5);
    assert_eq!(wakes.load(SeqCst), 1);
    held.truncate(4);
    assert_eq!(wakes.load(SeqCst), 1, "woken once");
    assert!(waiter.reserve(3).is_ok());
}

/// Two that were denied more than their shares do not keep what is free from each other.
#[test]
fn requests_beyond_the_shares_are_first_come_first_served() {
    let manager = manager(4);
    let holder = manager.budget("holder", 0, 4).unwrap();
    let first = manager.budget("first", 0, 4).unwrap();
    let second = manager.budget("second", 0, 4).unwrap();
    let held = take(&holder, 4);
    holder.set_revocable(4, 1);
    assert!(first.reserve(4).is_err() && second.reserve(4).is_err());
    assert_eq!(
        holder.revocation_wanted(),
        0,
        "nobody gives up its share for them"
    );
    drop(held);
    assert!(first.reserve(4).is_ok());
    assert!(second.reserve(4).is_ok());
}

#[test]
fn a_lowered_target_asks_for_memory_back_and_spares_minimums() {
    let manager = manager(16);
    let budget = manager.budget("sort", 4, 16).unwrap();
    let mut held = take(&budget, 16);
    budget.set_revocable(16, 1);
    manager.lower_target(10);
    assert_eq!(budget.revocation_wanted(), 6);
    held.truncate(10);
    assert_eq!(budget.revocation_wanted(), 0);
    assert!(budget.try_take().is_none());
    manager.lower_target(0);
    assert_eq!(manager.stats().managed_target, 4);
    held.truncate(3);
    assert!(budget.try_take().is_some(), "the minimum is guaranteed");
    // A new guarantee is worth more than the lowered target.
    let other = manager.budget("join", 8, 8).unwrap();
    assert_eq!(other.available(), 8);
    manager.lower_target(usize::MAX);
    assert_eq!(budget.available(), 5);
}
