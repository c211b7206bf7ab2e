//! Routers: which of an exchange's channels each row of a batch goes to.
//!
//! # Interface
//! [`Router::route`] answers for a whole batch: every row to one channel, or to all, or row by row.

use crate::batch::Batch;
use crate::record::{KeyFields, Record, hash_rows};
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

    /// The name of the exchange for the plan: `hash`, `rebalance`, …
    fn name(&self) -> &'static str;
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

    fn name(&self) -> &'static str {
        "hash"
    }
}
