//! The way in for short keys: folds rows, or views that never become rows, into [`ShortGroups`], and sends what is evicted.
//!
//! # Interface
//! The local operator gives it batches ([`ShortFront::fold_rows`]), or lends it to the operator before, which then offers
//! each view by itself ([`ViewTaker`]): the key of a view is all that aggregates which read no rows want of it.
//!
//! # Memory
//! That of the groups. While it is lent, full batches of partial rows are kept, [`MOST_READY`] of them at most: then views
//! are sent as rows.

use super::folding::{Folding, Lanes};
use super::local::{Partial, write};
use super::short_groups::{Evicted, ShortGroups, ShortKey};
use crate::aggregate::Aggregate;
use crate::batch::{Batch, BatchWriter, Batches};
use crate::operator::{Downstream, ViewTaker};
use crate::record::{KeyFields, Record};
use forebay_memory::{Result, SegmentSource};
use std::any::Any;

/// Batches of partial rows kept while views are taken.
const MOST_READY: usize = 4;

/// Groups of short keys and the way to them.
pub(super) struct ShortFront<R: Record, K: KeyFields<R>, A> {
    groups: ShortGroups,
    keys: K,
    folding: Lanes<A>,
    sender: Sender<K::Key>,
    scratch: Vec<u8>,
    /// Views taken since the front was lent.
    taken: u64,
    /// How far the groups are sent.
    sending: usize,
    record: std::marker::PhantomData<fn(R)>,
}

/// Writes partial rows.
struct Sender<Q: Record> {
    writer: BatchWriter<Partial<Q>>,
    /// Batches that are full.
    ready: Vec<Batch>,
    partial_rows: u64,
}

impl<Q: Record> Sender<Q> {
    #[inline(always)]
    fn send<R: Record, K: KeyFields<R, Key = Q>>(&mut self, keys: K, group: Evicted<'_>) {
        self.partial_rows += 1;
        let write = |key: Q::View<'_>| write::<Q>(&mut self.writer, &mut self.ready, key, group.lanes);
        group
            .key
            .with_bytes(|key| keys.with_key(key, write))
            .expect("a table has only canonical keys");
    }
}

impl<R: Record, K: KeyFields<R>, A: Aggregate<R>> ShortFront<R, K, A> {
    /// A front without groups or memory.
    pub(super) fn new(keys: K, aggregate: A, batches: Batches) -> Self {
        ShortFront {
            groups: ShortGroups::new(A::LANES),
            keys,
            folding: Lanes(aggregate),
            sender: Sender {
                writer: BatchWriter::new(batches),
                ready: Vec::new(),
                partial_rows: 0,
            },
            scratch: Vec::new(),
            taken: 0,
            sending: 0,
            record: std::marker::PhantomData,
        }
    }

    /// Has memory, or takes up to `most` segments; false where there are none.
    pub(super) fn open(&mut self, source: &dyn SegmentSource, most: usize) -> bool {
        self.groups.is_open() || self.groups.open(source, most)
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Partial rows written since this was asked last.
    pub(super) fn take_partial_rows(&mut self) -> u64 {
        std::mem::take(&mut self.sender.partial_rows)
    }

    /// Folds the rows with short keys; `long` gets where the others begin. The front is open.
    pub(super) fn fold_rows(&mut self, batch: &Batch, long: &mut Vec<u32>) {
        let (keys, bytes) = (self.keys, batch.bytes());
        let column = keys.as_bytes_column();
        let mut at = 0;
        for _ in 0..batch.len() {
            let size = R::row_size_at(&bytes[at..]);
            let row = &bytes[at..at + size];
            let key = match column {
                Some(column) => {
                    let (start, size) = column.place(row);
                    ShortKey::of(bytes, at + start, size)
                }
                None => ShortKey::of_all(keys.key_bytes(R::read_row(row), &mut self.scratch)),
            };
            match key {
                Some(key) => {
                    let (folding, sender) = (&mut self.folding, &mut self.sender);
                    self.groups.update(
                        key,
                        |lanes, is_new| Folding::<R, [u64]>::fold_row(folding, lanes, row, is_new),
                        |group| sender.send::<R, K>(keys, group),
                    );
                }
                None => long.push(at as u32),
            }
            at += size;
        }
    }

    /// Sends batches that are full.
    pub(super) fn send_ready(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.sender.ready.drain(..).try_for_each(|batch| down.send(batch))
    }

    /// Sends what has been evicted.
    pub(super) fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.send_ready(down)?;
        self.sender.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    /// Sends up to `limit` groups; true when all are sent, and the memory is given back then.
    pub(super) fn send_groups(&mut self, limit: usize, down: &mut Downstream<'_>) -> Result<bool> {
        let (keys, sender) = (self.keys, &mut self.sender);
        let has_more = self.groups.visit(&mut self.sending, limit, |group| {
            sender.send::<R, K>(keys, group);
        });
        if !has_more {
            self.groups.close();
            self.sending = 0;
        }
        self.send_ready(down)?;
        Ok(!has_more)
    }

    /// Begins to take views.
    pub(super) fn lent(&mut self) {
        self.taken = 0;
    }
}

impl<R: Record, K: KeyFields<R>, A: Aggregate<R>> ViewTaker<R> for ShortFront<R, K, A> {
    #[inline]
    fn take(&mut self, view: R::View<'_>) -> bool {
        if self.is_full() || R::VARIES && R::row_size(R::shorten(view)) > self.sender.writer.max_row_size() {
            return false;
        }
        let keys = self.keys;
        let Some(key) = ShortKey::of_all(keys.key_bytes(R::shorten(view), &mut self.scratch)) else {
            return false;
        };
        let (folding, sender) = (&mut self.folding, &mut self.sender);
        self.groups.update(
            key,
            |lanes, is_new| Folding::<R, [u64]>::fold_row(folding, lanes, &[], is_new),
            |group| sender.send::<R, K>(keys, group),
        );
        self.taken += 1;
        true
    }

    fn is_full(&self) -> bool {
        self.sender.ready.len() >= MOST_READY
    }

    fn taken(&self) -> u64 {
        self.taken
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}
