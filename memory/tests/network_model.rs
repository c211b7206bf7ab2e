//! The network pool against a model that counts: random pools that come, take, give back and go, alone and from threads.

use forebay_memory::segment::{Segment, SegmentSource};
use forebay_memory::{LocalPool, MemoryManager, hash};
use std::panic::catch_unwind;
use std::time::Duration;

const SEGMENT_SIZE: usize = 4096;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        (hash::hash_u64(self.0) % bound as u64) as usize
    }
}

/// A buffer with a number in it that no other has.
struct Stamped(Segment, u64);

impl Stamped {
    fn new(mut segment: Segment, stamp: u64) -> Stamped {
        segment[..8].copy_from_slice(&stamp.to_le_bytes());
        Stamped(segment, stamp)
    }

    fn check(&self) {
        assert_eq!(self.0[..8], self.1.to_le_bytes(), "a buffer is given to two");
    }
}

struct Side {
    pool: LocalPool,
    out: Vec<Stamped>,
}

impl Side {
    /// What the pool must count for it: what is out, or what is kept for it.
    fn counted(&self) -> usize {
        self.out.len().max(self.pool.required())
    }
}

struct Model {
    manager: MemoryManager,
    total: usize,
    sides: Vec<Side>,
    /// Buffers that are out while their pool is gone, which keeps what it required until the last of them is back.
    orphans: Vec<(usize, Vec<Stamped>)>,
    stamp: u64,
}

impl Model {
    fn new(total: usize) -> Model {
        Model {
            manager: MemoryManager::with_segments(8, total, SEGMENT_SIZE).unwrap(),
            total,
            sides: Vec::new(),
            orphans: Vec::new(),
            stamp: 0,
        }
    }

    fn free(&self) -> usize {
        let counted: usize = self.sides.iter().map(Side::counted).sum();
        let orphaned = self
            .orphans
            .iter()
            .map(|(required, out)| out.len().max(*required));
        self.total - counted - orphaned.sum::<usize>()
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(20) {
            0..2 => self.open(random),
            _ if self.sides.is_empty() => {}
            2 => {
                let side = self.sides.swap_remove(random.below(self.sides.len()));
                if random.below(2) == 0 && !side.out.is_empty() {
                    self.orphans.push((side.pool.required(), side.out));
                }
            }
            3 => drop(self.orphans.pop()),
            4 => self.manager.network().trim_locals(),
            5..9 => {
                let index = random.below(self.sides.len());
                let out = &mut self.sides[index].out;
                if !out.is_empty() {
                    out.swap_remove(random.below(out.len()));
                }
            }
            _ => self.take(random),
        }
        self.check();
    }

    fn open(&mut self, random: &mut Random) {
        let required = random.below(6);
        let maximum = required + random.below(12);
        let free = self.free();
        let opened =
            (self.manager.network()).local_with("a side", required, maximum, random.below(3), Duration::ZERO);
        match opened {
            Ok(pool) => {
                assert!(required <= free, "{required} are promised, {free} are free");
                self.sides.push(Side {
                    pool,
                    out: Vec::new(),
                });
            }
            Err(error) => assert!(required > free, "{required} of {free} are refused: {error}"),
        }
    }

    fn take(&mut self, random: &mut Random) {
        let index = random.below(self.sides.len());
        let free = self.free();
        let others_have_their_shares = self.orphans.is_empty()
            && (self.sides.iter().enumerate())
                .all(|(other, side)| other == index || side.out.len() <= side.pool.size());
        let side = &mut self.sides[index];
        let (had, kept) = (side.out.len(), side.pool.required());
        let overdraft = random.below(8) == 0;
        let taken = if overdraft {
            side.pool.try_take_overdraft()
        } else {
            side.pool.try_take()
        };
        match taken {
            Some(segment) => {
                assert!(had < kept || free > 0, "there was none");
                assert!(
                    overdraft || had < side.pool.size().max(1),
                    "{had} are out of {}",
                    side.pool.size()
                );
                self.stamp += 1;
                side.out.push(Stamped::new(segment, self.stamp));
            }
            None => {
                assert!(had >= kept, "{had} are out, {kept} are guaranteed");
                let below_its_share = had < side.pool.size();
                assert!(
                    !below_its_share || !others_have_their_shares,
                    "{had} are out of {}, nobody is above its share, and there is none",
                    side.pool.size()
                );
            }
        }
    }

    fn check(&self) {
        let network = self.manager.network();
        let out: usize = self.sides.iter().map(|side| side.out.len()).sum();
        let orphaned: usize = self.orphans.iter().map(|(_, out)| out.len()).sum();
        assert!(network.held() >= out + orphaned && network.held() <= self.total);
        let orphaned = self.orphans.iter().flat_map(|(_, out)| out);
        orphaned.for_each(Stamped::check);
        let sizes: usize = self.sides.iter().map(|side| side.pool.size()).sum();
        assert!(
            sizes <= self.total,
            "shares of {sizes} in a pool of {}",
            self.total
        );
        for side in &self.sides {
            assert_eq!(side.pool.in_use(), side.out.len());
            side.out.iter().for_each(Stamped::check);
        }
    }
}

#[test]
fn a_pool_equals_its_model() {
    for seed in 0..60 {
        let outcome = catch_unwind(|| {
            let mut random = Random(seed << 32);
            let mut model = Model::new(4 + random.below(40));
            (0..600).for_each(|_| model.step(&mut random));
            model.sides.clear();
            model.orphans.clear();
            assert_eq!(model.manager.network().held(), 0);
            assert_eq!(model.manager.outstanding(), 0);
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn threads_that_take_pass_on_and_give_back_lose_nothing() {
    let manager = MemoryManager::with_segments(8, 24, SEGMENT_SIZE).unwrap();
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for thread in 0..3u64 {
            let (manager, sender) = (manager.clone(), sender.clone());
            scope.spawn(move || {
                let mut random = Random(thread << 40);
                for round in 0..40 {
                    let pool = manager.network().local("thread", 3, 10).unwrap();
                    let mut mine = Vec::new();
                    for step in 0..100 {
                        if let Some(segment) = pool.try_take() {
                            mine.push(Stamped::new(segment, thread << 40 | round << 20 | step));
                        } else {
                            assert!(pool.in_use() >= 1, "three are guaranteed");
                        }
                        match random.below(3) {
                            0 => drop(mine.pop()),
                            1 => mine
                                .pop()
                                .into_iter()
                                .for_each(|stamped| sender.send(stamped).unwrap()),
                            _ => {}
                        }
                    }
                    mine.iter().for_each(Stamped::check);
                }
            });
        }
        drop(sender);
        // Another thread than the taker's gives them back, also after their pool is gone.
        receiver.into_iter().for_each(|stamped| stamped.check());
    });
    assert_eq!(manager.network().held(), 0);
    assert_eq!(manager.outstanding(), 0);
}

fn channel() -> (
    std::sync::mpsc::SyncSender<Stamped>,
    std::sync::mpsc::Receiver<Stamped>,
) {
    std::sync::mpsc::sync_channel(4)
}
