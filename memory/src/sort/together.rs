//! What sorters that merge their runs together hold, and how much of it each may keep.
//!
//! # Interface
//! [`Together`] is what is known when the inputs of all have ended; [`Together::part`] is what that says to one of them.
//!
//! # Algorithm
//! Each sorter is to have the same memory for merging, `total`, since each merges an equal part of every run.
//! 1. What a sorter holds and `total` are no more than it may have at most: the rest leaves, whatever the others hold.
//! 2. All of that together is no more than the memory that there is: what all hold, and what is free; at least, the fair shares of all.
//!    What is missing leaves from those that have more than their share then, in proportion to what they have more. So a sorter with
//!    twice its share lets nothing leave where the others, or operators besides them, have none of theirs in use.
//! 3. Where nothing is missing, what is left over is divided among those that have less than their share, in proportion to what they
//!    have less: they may read further ahead with it.
//!
//! All come to the same numbers from what they all see, so nobody lets rows leave for what another has let leave already. But for the
//! fair share, which each reads for itself: where it changes in between, because another budget is opened or closed, or what was free is
//! taken by others than sorters, who does not find what it counts on then lets more rows leave ([`Sorter::prepare_merge`]).
//!
//! [`Sorter::prepare_merge`]: super::Sorter::prepare_merge

/// What a sorter holds, in segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// With its rows, and with what runs are written with.
    pub rows: usize,
    /// To sort and merge with.
    pub spares: usize,
}

/// What is merged by several sorters, each a part of every run, and what they hold. Their budgets are alike.
#[derive(Debug, Clone, Default)]
pub struct Together {
    /// Runs on disk.
    pub runs: usize,
    /// The size of the largest row.
    pub largest: usize,
    /// Bytes of rows that all have let leave.
    pub spilled_bytes: u64,
    /// What each of them holds.
    pub held: Vec<Held>,
    /// Segments that nobody holds or waits for; negative where so many are to be given back.
    pub free: isize,
}

/// What holds for each of the sorters, in segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// What its budget has whatever others have, and what it has at most.
    pub minimum: usize,
    pub maximum: usize,
    /// Its fair share.
    pub share: usize,
    /// What it is to have for merging.
    pub total: usize,
}

/// What is one sorter's, in segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// How many it may keep its rows in.
    pub keep: usize,
    /// How many it may have for merging besides those that it is to have.
    pub more: usize,
}

impl Together {
    /// The part of sorter number `index`.
    pub(super) fn part(&self, index: usize, terms: &Terms) -> Part {
        let Terms {
            minimum,
            maximum,
            share,
            total,
        } = *terms;
        let stays = |held: &Held| held.rows.min(maximum.saturating_sub(total));
        let over = |held: &Held| (stays(held) + total).saturating_sub(share);
        let room = |held: &Held| share.saturating_sub(stays(held) + total);
        let sum = |of: &dyn Fn(&Held) -> usize| self.held.iter().map(of).sum::<usize>();
        // A minimum that is not held is not free for others.
        let there = sum(&|held| (held.rows + held.spares).max(minimum)).saturating_add_signed(self.free);
        let wanted = sum(&|held| (stays(held) + total).max(minimum));
        let missing = wanted.saturating_sub(there.max(self.held.len() * share));
        let left = there.saturating_sub(wanted);
        let own = &self.held[index];
        // Shares of `whole` are rounded up, so that not a few are missing in the end, or down, so that not too many are taken.
        let leaves = (missing * over(own)).div_ceil(sum(&over).max(1));
        let more = left * room(own) / sum(&room).max(1);
        Part {
            keep: stays(own).saturating_sub(leaves),
            more: more.min(room(own)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Account, AccountTerms, Ledger};

    fn held(rows: &[usize]) -> Vec<Held> {
        rows.iter().map(|&rows| Held { rows, spares: 2 }).collect()
    }

    fn parts(rows: &[usize], free: isize, terms: &Terms) -> Vec<Part> {
        let together = Together {
            held: held(rows),
            free,
            ..Together::default()
        };
        (0..rows.len()).map(|index| together.part(index, terms)).collect()
    }

    const TERMS: Terms = Terms {
        minimum: 8,
        maximum: 200,
        share: 50,
        total: 10,
    };

    #[test]
    fn who_has_more_than_its_share_keeps_what_nobody_needs() {
        let part = |keep, more| Part { keep, more };
        // 100 and 20 with what is merged with, and 92 and 12 are there: 16 are missing, all of them the first one's.
        assert_eq!(parts(&[90, 10], 0, &TERMS), [part(74, 0), part(10, 0)]);
        // And all of that is free, or more: who has less than its share may have that.
        assert_eq!(parts(&[90, 10], 16, &TERMS), [part(90, 0), part(10, 0)]);
        assert_eq!(parts(&[90, 10], 26, &TERMS), [part(90, 0), part(10, 10)]);
        assert_eq!(parts(&[90, 10], 500, &TERMS), [part(90, 0), part(10, 30)]);
        // Two have 50 and 100 more than their shares, the third less; 18 are missing, since the third holds a minimum at least.
        assert_eq!(
            parts(&[90, 140, 0], 0, &TERMS),
            [part(84, 0), part(128, 0), part(0, 0)]
        );
        // A minimum that nobody else can have is not there for others, whether it is held or wanted or not: 8 are missing.
        let large = Terms { minimum: 40, ..TERMS };
        assert_eq!(parts(&[90, 0], 0, &large), [part(82, 0), part(0, 0)]);
        assert_eq!(
            parts(&[90, 35, 0], 13, &large),
            [part(90, 0), part(35, 0), part(0, 0)]
        );
        // Some of what is held is to be given back.
        assert_eq!(parts(&[90, 10], -3, &TERMS), [part(71, 0), part(10, 0)]);
        // What one may have at most is the bound, whatever is free.
        assert_eq!(parts(&[195, 0], 500, &TERMS), [part(190, 0), part(0, 40)]);
    }

    /// Whatever they and others hold, and is kept back from all: the ledger grants all what they are to have, whoever comes first, and no more leaves for that than
    /// is missing.
    #[test]
    fn what_leaves_is_what_is_missing() {
        let mut state = 9u64;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
            (state >> 33) as usize % bound.max(1)
        };
        let mut minimums_above_total = 0;
        for round in 0..20_000 {
            let count = 1 + below(6);
            // Of equal sorters, and of others who have as much, or nothing: shares are whole numbers.
            let has_rival = below(2) == 1;
            let all = count + usize::from(has_rival);
            let each = 12 + below(1000);
            let ledger = Ledger::new(all * each);
            let open = |owner, minimum, maximum| {
                let terms = AccountTerms {
                    owner,
                    minimum,
                    maximum,
                    overdraft: 0,
                };
                ledger.open(&terms).expect("there is room for all minimums")
            };
            let minimum = 1 + below(each);
            let maximum = each + below(all * each - each + 1);
            let accounts: Vec<_> = (0..count).map(|_| open("sort", minimum, maximum)).collect();
            let rival = has_rival.then(|| open("rival", minimum, maximum));
            let hold = |account: &Account, most: usize| {
                let held = most.min(ledger.available(account));
                assert!(ledger.acquire(account, held));
                held
            };
            let held: Vec<_> = (accounts.iter())
                .map(|account| {
                    let held = hold(account, below(maximum + 1));
                    let spares = below(held.min(20) + 1);
                    Held {
                        rows: held - spares,
                        spares,
                    }
                })
                .collect();
            let taken = rival.as_ref().map(|rival| hold(rival, below(maximum + 1)));
            // Pressure from outside.
            let fair = each - below(2) * below((each + 1).saturating_sub(minimum.max(12)));
            let size = all * fair;
            ledger.lower_target(size);
            assert!(accounts.iter().all(|account| account.fair() == fair));
            let terms = Terms {
                minimum,
                maximum,
                share: fair,
                total: 3 + below(fair - 3),
            };
            minimums_above_total += usize::from(minimum > terms.total);
            let together = Together {
                held,
                free: ledger.free(),
                ..Together::default()
            };
            let parts: Vec<_> = (0..count).map(|index| together.part(index, &terms)).collect();
            let case = format!("round {round}: {together:?}, {terms:?}: {parts:?}");
            for ((part, held), account) in parts.iter().zip(&together.held).zip(&accounts) {
                let rows = held.rows;
                assert!(part.keep <= rows && part.keep + terms.total <= maximum, "{case}");
                assert!(part.keep == rows || rows + terms.total > fair, "{case}");
                assert!(
                    part.more == 0 || part.keep + terms.total + part.more <= fair,
                    "{case}"
                );
                ledger.release(account, rows - part.keep + held.spares);
            }
            // Others who have more than their share are not counted on to keep it.
            let excess = taken.map_or(0, |taken| taken.saturating_sub(fair));
            if let Some(rival) = rival.as_ref().filter(|_| excess > 0) {
                ledger.release(rival, excess);
            }
            let has_all = (parts.iter().zip(&accounts).rev())
                .all(|(part, account)| ledger.acquire(account, terms.total + part.more));
            assert!(has_all, "{case}");
            // But for what each rounds.
            let bounded = |held: &Held| held.rows.min(maximum - terms.total);
            let theirs = taken.map_or(0, |taken| taken.min(fair).max(minimum));
            let sum = |of: &dyn Fn(&Held) -> usize| together.held.iter().map(of).sum::<usize>();
            let wanted = sum(&|held| (bounded(held) + terms.total).max(minimum));
            let kept: usize = parts.iter().map(|part| part.keep).sum();
            let missing = wanted.saturating_sub(size - theirs);
            assert!(sum(&bounded) - kept <= missing + count, "{case}");
            for account in accounts.iter().chain(&rival) {
                ledger.release(account, account.held());
                ledger.close(account);
            }
        }
        assert!(minimums_above_total > 1000, "{minimums_above_total}");
    }
}
