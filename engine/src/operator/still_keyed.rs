//! Looks whether rows are in the subtask that their key would send them to, and passes them on.
//!
//! # Cost
//! The hash of each row's key: about 1 ns for integers.

use crate::batch::Batch;
use crate::exchange::{HashRouter, Route, Router};
use crate::operator::{Downstream, Operator};
use crate::record::{KeyFields, Record};
use forebay_memory::{Error, Result};

/// Passes rows of `R` whose keys `K` belong to its subtask.
pub(crate) struct StillKeyed<R, K> {
    /// Nothing where it does not matter.
    router: Option<HashRouter<R, K>>,
    subtask: usize,
    keys: K,
    targets: Vec<u16>,
    position: u64,
}

impl<R: Record, K: KeyFields<R>> StillKeyed<R, K> {
    pub(crate) fn new(router: Option<HashRouter<R, K>>, subtask: usize, keys: K) -> Self {
        StillKeyed {
            router,
            subtask,
            keys,
            targets: Vec::new(),
            position: 0,
        }
    }
}

impl<R: Record, K: KeyFields<R>> Operator for StillKeyed<R, K> {
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        if let Some(router) = &mut self.router {
            let stray = match router.route(&batch, &mut self.targets) {
                Route::Each => {
                    let own = self.subtask as u16;
                    self.targets.iter().position(|target| *target != own)
                }
                Route::One(target) => (target != self.subtask).then_some(0),
                Route::All => None,
            };
            if let Some(stray) = stray {
                self.position += stray as u64 + 1;
                return Err(Error::user(format!(
                    "the record's key ({}) is not that of the records that it was made of: it belongs to another subtask than {}; \
                     use key_by in the place of still_keyed_by",
                    self.keys.describe().join(", "),
                    self.subtask
                )));
            }
        }
        self.position += batch.len() as u64;
        down.send(batch)
    }

    fn position(&self) -> u64 {
        self.position
    }
}
