//! Groups that were folded before the exchange go to the subtasks behind it as they are, in their tables.
//!
//! # Interface
//! A local aggregation that has ended gives its table to the [`Handover`] of its aggregation; each subtask behind the exchange has
//! a [`HandedGroups`], from which it takes the groups that are its own as entries, like those that were spilled. A table goes
//! back to its budget when the last of them has read it.
//!
//! # Why not rows
//! Rows that are not folded go on as they are, so an exchange would have rows of two types.

use forebay_memory::hash::{key_group, subtask_of};
use forebay_memory::pages::{Cursor, LineTable};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Groups looked at for one block of entries.
const GROUPS_A_BLOCK: usize = 1024;

/// Tables on their way from the subtasks before an exchange to those behind it.
#[derive(Default)]
pub(crate) struct Handover {
    tables: Mutex<Vec<Handed>>,
    /// How many tables there have been: asked for each batch, without the lock.
    count: AtomicUsize,
}

struct Handed {
    /// Nothing once all have it.
    table: Option<Arc<LineTable>>,
    takers: usize,
}

impl Handover {
    /// Hands a table over.
    pub(super) fn give(&self, table: LineTable) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.push(Handed {
            table: Some(Arc::new(table)),
            takers: 0,
        });
        self.count.store(tables.len(), Ordering::Release);
    }

    /// The table with this number, for one of so many takers, each of which asks once.
    fn take(&self, number: usize, takers: usize) -> Arc<LineTable> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let handed = &mut tables[number];
        handed.takers += 1;
        let table = match handed.takers == takers {
            true => handed.table.take(),
            false => handed.table.clone(),
        };
        table.expect("a table is there until the last has taken it")
    }
}

/// Which groups belong to a subtask behind the exchange.
#[derive(Clone, Copy)]
pub(crate) struct Own {
    pub(crate) index: usize,
    pub(crate) parallelism: usize,
    pub(crate) max_parallelism: u32,
}

impl Own {
    fn has(&self, hash: u64) -> bool {
        let group = key_group(hash, self.max_parallelism);
        subtask_of(group, self.max_parallelism, self.parallelism as u32) as usize == self.index
    }
}

/// The groups of handed tables that belong to one subtask.
pub(crate) struct HandedGroups {
    handover: Arc<Handover>,
    own: Own,
    /// Tables taken so far.
    taken: usize,
    reading: Option<(Arc<LineTable>, Cursor)>,
    /// Groups that were taken.
    groups: u64,
}

impl HandedGroups {
    /// Those of the subtask that `own` describes.
    pub(crate) fn new(handover: Arc<Handover>, own: Own) -> Self {
        HandedGroups {
            handover,
            own,
            taken: 0,
            reading: None,
            groups: 0,
        }
    }

    /// How many groups were taken so far.
    pub(super) fn groups(&self) -> u64 {
        self.groups
    }

    /// Whether there may be groups that were not taken.
    #[inline]
    pub(super) fn are_there(&self) -> bool {
        self.reading.is_some() || self.taken < self.handover.count.load(Ordering::Acquire)
    }

    /// Makes `block` the entries of the next groups, which may be none; false where all were taken.
    pub(super) fn next(&mut self, block: &mut Vec<u8>) -> bool {
        block.clear();
        if !self.are_there() {
            return false;
        }
        let (table, cursor) = self.reading.get_or_insert_with(|| {
            self.taken += 1;
            let table = self.handover.take(self.taken - 1, self.own.parallelism);
            (table, Cursor::default())
        });
        table.for_each_from(cursor, GROUPS_A_BLOCK, |hash, lanes| {
            if self.own.has(hash) {
                self.groups += 1;
                block.extend_from_slice(&hash.to_le_bytes());
                lanes
                    .iter()
                    .for_each(|lane| block.extend_from_slice(&lane.to_le_bytes()));
            }
        });
        if cursor.is_done() {
            self.reading = None;
        }
        true
    }
}
