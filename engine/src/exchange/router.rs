//! Routers: which of an exchange's channels each row of a batch goes to.
//!
//! # Interface
//! [`Router::route`] answers for a whole batch: every row to one channel, or to all, or row by row.

use crate::batch::Batch;
use crate::record::{IntegerColumn, KeyFields, Record, hash_rows};
use forebay_memory::hash::hash_u64;
use forebay_memory::scatter;
use std::marker::PhantomData;

/// Where the rows of a batch go.
pub enum Route {
    /// All to one channel: the batch is handed over as it is.
    One(usize),
    /// All to every channel.
    All,
    /// Each row to the channel that `targets` says.
    Each,
}

/// Chooses channels for the rows of a batch.
pub trait Router: Send {
    /// Where the rows of `batch` go; for [`Route::Each`], `targets` is filled with a channel for each row.
    fn route(&mut self, batch: &Batch, targets: &mut Vec<u16>) -> Route;

    /// How rows can be sent one by one, where their target depends on an integer alone.
    fn by_integer(&self) -> Option<ByInteger> {
        None
    }

    /// The name of the exchange for the plan: `hash`, `rebalance`, …
    fn name(&self) -> &'static str;
}

/// A hash exchange by one integer column: what a sender needs to choose a row's channel before it writes the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByInteger {
    /// The key.
    pub column: IntegerColumn,
    shift: u32,
    bits: u32,
    parallelism: u32,
}

impl ByInteger {
    fn new(column: IntegerColumn, max_parallelism: u32, parallelism: u32) -> Self {
        // With one key group there is one channel, whichever bit is looked at.
        let bits = max_parallelism.ilog2().max(1);
        ByInteger {
            column,
            shift: 64 - bits,
            bits,
            parallelism,
        }
    }

    /// The channel of a key's 64 bits.
    #[inline(always)]
    pub fn channel(&self, key: u64) -> usize {
        let group = (hash_u64(key) >> self.shift) as u32;
        ((group * self.parallelism) >> self.bits) as usize
    }
}

/// Every batch to the same channel.
pub struct Forward(pub usize);

impl Router for Forward {
    fn route(&mut self, _: &Batch, _: &mut Vec<u16>) -> Route {
        Route::One(self.0)
    }

    fn name(&self) -> &'static str {
        "forward"
    }
}

/// Every batch to the next channel in turn.
pub struct Rebalance {
    next: usize,
    channels: usize,
}

impl Rebalance {
    /// Starts at channel `first`, which should differ between the subtasks of the sender.
    pub fn new(first: usize, channels: usize) -> Self {
        Rebalance {
            next: first % channels,
            channels,
        }
    }
}

impl Router for Rebalance {
    fn route(&mut self, _: &Batch, _: &mut Vec<u16>) -> Route {
        let channel = self.next;
        self.next = (channel + 1) % self.channels;
        Route::One(channel)
    }

    fn name(&self) -> &'static str {
        "rebalance"
    }
}

/// Every batch to every channel.
pub struct Broadcast;

impl Router for Broadcast {
    fn route(&mut self, _: &Batch, _: &mut Vec<u16>) -> Route {
        Route::All
    }

    fn name(&self) -> &'static str {
        "broadcast"
    }
}

/// Each row to the subtask that owns its key's key group.
pub struct HashRouter<R, K> {
    keys: K,
    max_parallelism: u32,
    parallelism: u32,
    hashes: Vec<u64>,
    key: Vec<u8>,
    record: PhantomData<fn(R)>,
}

impl<R: Record, K: KeyFields<R>> HashRouter<R, K> {
    /// Routes by `keys` to `parallelism` subtasks.
    pub fn new(keys: K, max_parallelism: u32, parallelism: u32) -> Self {
        HashRouter {
            keys,
            max_parallelism,
            parallelism,
            hashes: Vec::new(),
            key: Vec::new(),
            record: PhantomData,
        }
    }
}

impl<R: Record, K: KeyFields<R>> Router for HashRouter<R, K> {
    fn route(&mut self, batch: &Batch, targets: &mut Vec<u16>) -> Route {
        if self.parallelism == 1 {
            return Route::One(0);
        }
        self.hashes.resize(batch.len(), 0);
        hash_rows::<R, K>(self.keys, batch.bytes(), &mut self.hashes, &mut self.key);
        targets.resize(self.hashes.len(), 0);
        scatter::targets_of(&self.hashes, self.max_parallelism, self.parallelism, targets);
        Route::Each
    }

    fn by_integer(&self) -> Option<ByInteger> {
        let column = self.keys.as_u64_column().filter(|_| R::STRIDE > 0)?;
        Some(ByInteger::new(column, self.max_parallelism, self.parallelism))
    }

    fn name(&self) -> &'static str {
        "hash"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, first};
    use forebay_memory::hash::{key_group, subtask_of};

    #[test]
    fn a_key_alone_has_the_channel_of_its_rows() {
        type Pair = (u64, i64);
        for (max_parallelism, parallelism) in [(1, 1), (2, 1), (2, 2), (128, 3), (128, 128), (1 << 15, 1000)]
        {
            let router = HashRouter::<Pair, _>::new(first::<Pair>(), max_parallelism, parallelism);
            let way = router.by_integer().expect("a u64 is an integer");
            for key in (0..5_000u64).chain([u64::MAX, 1 << 63]) {
                let group = key_group(hash_u64(u64::to_u64(key)), max_parallelism);
                let expected = subtask_of(group, max_parallelism, parallelism);
                assert_eq!(
                    way.channel(key),
                    expected as usize,
                    "{key} {parallelism}/{max_parallelism}"
                );
            }
        }
    }
}
