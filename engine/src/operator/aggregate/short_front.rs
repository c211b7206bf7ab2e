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

/// Words of keys of two kinds: up to 15 bytes, and up to 39.
const SHORT: usize = 2;
const MIDDLE: usize = 5;

/// Groups of short keys and the way to them.
pub(super) struct ShortFront<R: Record, K: KeyFields<R>, A> {
    groups: ShortGroups<SHORT>,
    middle: ShortGroups<MIDDLE>,
    keys: K,
    folding: Lanes<A>,
    sender: Sender<K::Key>,
    scratch: Vec<u8>,
    /// Views taken since the front was lent.
    taken: u64,
    /// How far the groups are sent.
    sending: usize,
    sending_middle: usize,
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
    fn send<R: Record, K: KeyFields<R, Key = Q>, const W: usize>(&mut self, keys: K, group: Evicted<'_, W>) {
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
            middle: ShortGroups::new(A::LANES),
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
            sending_middle: 0,
            record: std::marker::PhantomData,
        }
    }

    /// Has memory, or takes up to three quarters of `most` segments; false where there are none.
    pub(super) fn open(&mut self, source: &dyn SegmentSource, most: usize) -> bool {
        if self.groups.is_open() {
            return true;
        }
        let is_open = self.groups.open(source, most.div_ceil(2));
        self.middle.open(source, most / 4);
        is_open
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.groups.len() + self.middle.len()
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
            let (key, whole) = match column {
                Some(column) => {
                    let (start, size) = column.place(row);
                    let key = ShortKey::of(bytes, at + start, size);
                    (key, &row[start..start + size])
                }
                None => {
                    let whole = keys.key_bytes(R::read_row(row), &mut self.scratch);
                    (ShortKey::of_all(whole), whole)
                }
            };
            let (folding, sender) = (&mut self.folding, &mut self.sender);
            let is_short = match key {
                Some(key) => {
                    fold::<R, A, SHORT>(&mut self.groups, key, folding, row, |group| {
                        sender.send::<R, K, _>(keys, group)
                    });
                    true
                }
                None => fold_middle::<R, A>(&mut self.middle, whole, folding, row, |group| {
                    sender.send::<R, K, _>(keys, group)
                }),
            };
            if !is_short {
                long.push(at as u32);
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
            sender.send::<R, K, _>(keys, group)
        }) || self.middle.visit(&mut self.sending_middle, limit, |group| {
            sender.send::<R, K, _>(keys, group)
        });
        if !has_more {
            self.groups.close();
            self.middle.close();
            (self.sending, self.sending_middle) = (0, 0);
        }
        self.send_ready(down)?;
        Ok(!has_more)
    }

    /// Begins to take views.
    pub(super) fn lent(&mut self) {
        self.taken = 0;
    }
}

/// Folds a row into its key's group.
#[inline(always)]
fn fold<R: Record, A: Aggregate<R>, const W: usize>(
    groups: &mut ShortGroups<W>,
    key: ShortKey<W>,
    folding: &mut Lanes<A>,
    row: &[u8],
    evict: impl FnOnce(Evicted<'_, W>),
) {
    groups.update(
        key,
        |lanes, is_new| Folding::<R, [u64]>::fold_row(folding, lanes, row, is_new),
        evict,
    );
}

/// Folds a row into the group of a key of middle length; false where the key is longer, or there is no memory for them.
#[inline(never)]
fn fold_middle<R: Record, A: Aggregate<R>>(
    groups: &mut ShortGroups<MIDDLE>,
    key: &[u8],
    folding: &mut Lanes<A>,
    row: &[u8],
    evict: impl FnOnce(Evicted<'_, MIDDLE>),
) -> bool {
    let key = ShortKey::of_words(key).filter(|_| groups.is_open());
    key.map(|key| fold::<R, A, MIDDLE>(groups, key, folding, row, evict))
        .is_some()
}

impl<R: Record, K: KeyFields<R>, A: Aggregate<R>> ViewTaker<R> for ShortFront<R, K, A> {
    #[inline]
    fn take(&mut self, view: R::View<'_>) -> bool {
        if self.is_full() || R::VARIES && R::row_size(R::shorten(view)) > self.sender.writer.max_row_size() {
            return false;
        }
        let keys = self.keys;
        let whole = keys.key_bytes(R::shorten(view), &mut self.scratch);
        let (folding, sender) = (&mut self.folding, &mut self.sender);
        let is_taken = match ShortKey::of_all(whole) {
            Some(key) => {
                fold::<R, A, SHORT>(&mut self.groups, key, folding, &[], |group| {
                    sender.send::<R, K, _>(keys, group)
                });
                true
            }
            None => fold_middle::<R, A>(&mut self.middle, whole, folding, &[], |group| {
                sender.send::<R, K, _>(keys, group)
            }),
        };
        self.taken += u64::from(is_taken);
        is_taken
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
