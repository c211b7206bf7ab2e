//! Groups whose states are lanes and byte strings of any size.
//!
//! # Algorithm
//! 1. A state that fits in a quarter of a page is with its key in the table, with room to grow. It is folded in a copy and
//!    written back, so that a table that has no room for it has not changed.
//! 2. A larger one is in segments of its own, and only added to: each row is folded into a state by itself, which is appended.
//!    When as much has been appended as there was, all of it is merged. A byte of a state so is copied a few times,
//!    however long it gets, and whatever its aggregate does with it.
//!
//! # Layout
//! Values in the table, and states of entries, are records of states (see `aggregate/state.rs`): one in a page, one or more
//! elsewhere. Entries are those of [`byte_groups`](super::byte_groups).

use super::byte_groups::{BytesTo, Values};
use super::folding::Merging;
use crate::aggregate::{GroupState, Records, record_size, write_record};
use crate::record::{KeyFields, Record};
use forebay_memory::pages::{ByteTable, Bytes, KeyBatch, Progress, Stored};
use forebay_memory::{ByteSize, Error, SegmentSource};
use std::sync::Arc;

/// Rows whose lines are fetched together.
const GROUP: usize = 16;

/// What states look like, and how large they may be.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) lanes: usize,
    pub(crate) parts: usize,
    /// Bytes of a state at most: `record.max_size`.
    pub(crate) most: usize,
    /// The operator, for messages.
    pub(crate) owner: String,
}

impl Shape {
    /// The state of no record.
    pub(crate) fn empty(&self) -> GroupState {
        GroupState::new(self.lanes, self.parts)
    }

    /// Makes a state that is too large as small as it can be.
    ///
    /// # Panics
    /// Unwinds with an [`Error`] as its payload where it is too large even then: as for rows that are ([`BatchWriter::push`]).
    ///
    /// [`BatchWriter::push`]: crate::batch::BatchWriter::push
    pub(super) fn check(&self, state: &mut GroupState, merging: &mut dyn Merging) {
        if state.bytes().len() <= self.most {
            return;
        }
        merging.compact(state);
        let size = state.bytes().len();
        if size > self.most {
            let (size, most) = (ByteSize(size as u64), ByteSize(self.most as u64));
            std::panic::resume_unwind(Box::new(Error::user(format!(
                "{}: the state of a group has {size}, over record.max_size ({most}); raise it, group by more fields, or use an \
                 aggregate that keeps less",
                self.owner
            ))));
        }
    }
}

/// A state for each key.
pub(crate) struct StateValues {
    shape: Shape,
    merging: Box<dyn Merging>,
    state: GroupState,
    /// Records on their way.
    record: Vec<u8>,
}

/// States for each key.
pub(crate) type StateGroups<R, K> = BytesTo<StateValues, R, K>;

/// Where a key's state is.
enum At {
    Nowhere,
    /// In its page, in so many bytes.
    Page(usize),
    /// In segments of its own: the bytes of all its records, and of the first.
    Segments(usize, usize),
}

impl<R: Record, K: KeyFields<R>> StateGroups<R, K> {
    /// Groups, none yet, of keys whose hashes share their first `skip_bits` bits.
    pub(crate) fn new(
        keys: K,
        shape: Shape,
        merging: Box<dyn Merging>,
        source: Arc<dyn SegmentSource>,
        skip_bits: u32,
    ) -> Self {
        let values = StateValues {
            state: shape.empty(),
            shape,
            merging,
            record: Vec::new(),
        };
        BytesTo::with_values(values, keys, source, skip_bits)
    }
}

/// The table and what storing in it takes.
struct Store<'g> {
    table: &'g mut ByteTable,
    shape: &'g Shape,
    merging: &'g mut dyn Merging,
    record: &'g mut Vec<u8>,
}

impl Store<'_> {
    /// Says where a key's state is, and loads it where that is its page.
    #[inline(always)]
    fn load(&self, hash: u64, key: &[u8], state: &mut GroupState) -> At {
        match self.table.get(hash, key) {
            None => {
                state.reset();
                At::Nowhere
            }
            Some(value) if value.is_chained() => {
                let first = value
                    .parts()
                    .next()
                    .and_then(|part| Records::of(part).first_size());
                At::Segments(value.len(), first.expect("a value begins with a record"))
            }
            Some(value) => {
                let bytes = value.whole().expect("a value in its page is in one piece");
                let found = Records::of(bytes).next();
                state.load(found.expect("a value begins with a record"));
                At::Page(bytes.len())
            }
        }
    }

    /// Stores a state in place of what is there; false where there is no room, and nothing has changed.
    #[inline(always)]
    fn store(&mut self, hash: u64, key: &[u8], state: &mut GroupState, at: At) -> bool {
        let size = record_size(state.bytes().len());
        match at {
            At::Page(room) if size <= room => {
                let value = self.table.value_mut(hash, key);
                let value = value.expect("a value in its page was loaded from there");
                let bytes = state.bytes();
                value[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
                value[8..8 + bytes.len()].copy_from_slice(bytes);
                true
            }
            At::Page(_) => self.replace(hash, key, state, size / 2),
            At::Nowhere | At::Segments(..) => self.replace(hash, key, state, 0),
        }
    }

    /// Stores a state with so much room to grow, where it stays in its page; false where there is no memory for it.
    fn replace(&mut self, hash: u64, key: &[u8], state: &mut GroupState, room: usize) -> bool {
        self.shape.check(state, self.merging);
        self.record.clear();
        write_record(state.bytes(), self.record);
        let (size, most) = (self.record.len(), self.table.most_in_line(key.len()));
        if size <= most {
            self.record.resize((size + room).min(most), 0);
        }
        self.table.replace(hash, key, self.record) != Stored::Starved
    }

    /// Appends a state to one in segments of its own, which has `all` bytes, `first` of them its first record; merges all of
    /// them where it is time, or `is_shown`, into `state`. False where there is no room, and nothing has changed.
    #[cold]
    fn append(
        &mut self,
        hash: u64,
        key: &[u8],
        state: &mut GroupState,
        all: usize,
        first: usize,
        is_shown: bool,
    ) -> bool {
        self.record.clear();
        write_record(state.bytes(), self.record);
        if self.table.append(hash, key, self.record) == Stored::Starved {
            return false;
        }
        let all = all + self.record.len();
        if is_shown || all >= 2 * first {
            let value = self.table.get(hash, key).expect("the key has a value");
            merge_all(value, self.record, state, self.merging);
            self.shape.check(state, self.merging);
            self.record.clear();
            write_record(state.bytes(), self.record);
            let size = self.record.len();
            let is_small = 2 * size <= self.table.most_in_line(key.len());
            if is_small {
                self.record.resize(size + size / 2, 0);
            }
            if size > all || is_small {
                // Where there is no room the records stay as they are: they say the same.
                let _ = self.table.replace(hash, key, self.record);
            } else {
                self.table.rewrite(hash, key, self.record);
            }
        }
        true
    }
}

/// Merges all records of a value; `records` is memory for them.
fn merge_all(value: Bytes<'_>, records: &mut Vec<u8>, state: &mut GroupState, merging: &mut dyn Merging) {
    records.clear();
    value.parts().for_each(|part| records.extend_from_slice(part));
    let mut all = Records::of(records);
    state.load(all.next().expect("a value begins with a record"));
    all.for_each(|other| merging.merge(state, other));
}

impl Values for StateValues {
    type State = GroupState;

    #[inline(always)]
    fn fold(
        &mut self,
        table: &mut ByteTable,
        keys: &KeyBatch<'_>,
        hashes: &[u64],
        shows: bool,
        mut fold: impl FnMut(usize, &mut GroupState, bool),
        mut show: impl FnMut(&[u8], &GroupState, bool),
    ) -> Progress {
        let state = &mut self.state;
        let mut store = Store {
            table,
            shape: &self.shape,
            merging: &mut *self.merging,
            record: &mut self.record,
        };
        for (place, &hash) in hashes.iter().enumerate() {
            if place % GROUP == 0 {
                store
                    .table
                    .prefetch(&hashes[place..hashes.len().min(place + GROUP)]);
            }
            let key = keys.key(place);
            let at = store.load(hash, key, state);
            let is_new = matches!(at, At::Nowhere);
            let is_stored = match at {
                At::Nowhere | At::Page(_) => {
                    fold(place, state, is_new);
                    store.store(hash, key, state, at)
                }
                At::Segments(all, first) => {
                    state.reset();
                    fold(place, state, true);
                    store.append(hash, key, state, all, first, shows)
                }
            };
            if !is_stored {
                return Progress {
                    rows: place,
                    starved: true,
                };
            }
            if shows {
                show(key, state, is_new);
            }
        }
        Progress {
            rows: hashes.len(),
            starved: false,
        }
    }

    fn encode(&mut self, fold: impl FnOnce(&mut GroupState), entry: &mut Vec<u8>) {
        self.state.reset();
        fold(&mut self.state);
        write_record(self.state.bytes(), entry);
    }

    fn size(value: &Bytes<'_>) -> usize {
        let size = match value.whole() {
            Some(bytes) if !value.is_chained() => Records::of(bytes).first_size(),
            _ => Some(value.len()),
        };
        size.expect("a value begins with a record")
    }

    fn show(&mut self, value: Bytes<'_>, show: impl FnOnce(&GroupState)) {
        let state = &mut self.state;
        match value.whole() {
            Some(bytes) if !value.is_chained() => {
                let found = Records::of(bytes).next();
                state.load(found.expect("a value begins with a record"));
            }
            _ => {
                merge_all(value, &mut self.record, state, &mut *self.merging);
                self.shape.check(state, &mut *self.merging);
            }
        }
        show(state);
    }
}
