//! Groups whose keys are canonical bytes: strings, several fields, anything that is not one small integer.
//!
//! # Interface
//! [`BytesTo`] has the keys of a chunk in one buffer ([`KeyChunk`]), and a table; what is kept for each key is up to its [`Values`]:
//! lanes in [`ByteGroups`], a row in [`RowGroups`], states of any size in [`StateGroups`](super::StateGroups).
//!
//! # Layout
//! An entry in a spilled block:
//! ```text
//!  0  hash          8  key bytes (u32), state bytes (u32)          16  key, state
//! ```

use super::groups::{CHUNK, Chunk, Groups};
use crate::batch::{Batch, variable_row_size};
use crate::record::{KeyFields, Record, hash_rows};
use forebay_memory::SegmentSource;
use forebay_memory::pages::{ByteTable, Bytes, Cursor, KeyBatch, KeySpan, Progress, Stored};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use zerocopy::FromBytes;

const ENTRY_HEADER: usize = 16;

/// Bytes after the last key, so that short keys may be compared in one load.
const BUFFER_TAIL: usize = 16;

/// Rows up to this size are changed where they lie in their page.
const MOST_IN_PLACE: usize = 64;

/// The keys of a chunk, in one buffer.
pub(super) struct KeyChunk<R, K> {
    pub(super) keys: K,
    pub(super) chunk: Chunk,
    pub(super) buffer: Vec<u8>,
    /// By number.
    all: Vec<KeySpan>,
    /// By place.
    pub(super) spans: Vec<KeySpan>,
    scratch: Vec<u8>,
    record: PhantomData<fn(R)>,
}

impl<R: Record, K: KeyFields<R>> KeyChunk<R, K> {
    /// No keys.
    pub(super) fn new(keys: K) -> Self {
        KeyChunk {
            keys,
            chunk: Chunk::default(),
            buffer: Vec::new(),
            all: Vec::new(),
            spans: Vec::new(),
            scratch: Vec::new(),
            record: PhantomData,
        }
    }

    fn clear(&mut self) {
        self.chunk.clear();
        self.buffer.clear();
        self.all.clear();
    }

    #[inline(always)]
    fn add_key(&mut self, key: &[u8]) {
        self.all.push(KeySpan {
            start: self.buffer.len() as u32,
            size: key.len() as u32,
        });
        self.buffer.extend_from_slice(key);
    }

    fn close(&mut self) {
        self.buffer.resize(self.buffer.len() + BUFFER_TAIL, 0);
        self.spans.clone_from(&self.all);
    }

    /// The chunk's part of [`Groups::take_rows`].
    pub(super) fn take_rows(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        start: usize,
        offsets: &mut Vec<u32>,
    ) -> usize {
        self.clear();
        offsets.clear();
        let bytes = batch.bytes();
        let mut scratch = std::mem::take(&mut self.scratch);
        let keys = self.keys;
        let mut at = start;
        for _ in rows.clone() {
            let size = if R::STRIDE > 0 {
                R::STRIDE
            } else {
                variable_row_size(&bytes[at..])
            };
            scratch.clear();
            self.add_key(keys.key_bytes(R::read_row(&bytes[at..at + size]), &mut scratch));
            offsets.push(at as u32);
            at += size;
        }
        self.scratch = scratch;
        self.close();
        self.chunk.hashes.resize(rows.len(), 0);
        match keys.as_u64_column() {
            // As the exchange hashes them.
            Some(_) => hash_rows::<R, K>(keys, &bytes[start..at], &mut self.chunk.hashes, &mut self.scratch),
            None => KeyBatch::new(&self.buffer, &self.spans).hash_into(&mut self.chunk.hashes),
        }
        at
    }

    /// Makes the keys of the rows that begin at `starts` the chunk. Not for integer keys.
    pub(super) fn take_rows_at(&mut self, bytes: &[u8], starts: &[u32]) {
        self.clear();
        let keys = self.keys;
        let mut scratch = std::mem::take(&mut self.scratch);
        for start in starts {
            let rest = &bytes[*start as usize..];
            let row = &rest[..R::row_size_at(rest)];
            self.add_key(keys.key_bytes(R::read_row(row), &mut scratch));
        }
        self.scratch = scratch;
        self.close();
        self.chunk.hashes.resize(starts.len(), 0);
        KeyBatch::new(&self.buffer, &self.spans).hash_into(&mut self.chunk.hashes);
    }

    /// The chunk's part of [`Groups::take_entries`].
    pub(super) fn take_entries(&mut self, block: &[u8], states: &mut Vec<Range<u32>>) -> usize {
        self.clear();
        states.clear();
        let mut at = 0;
        while at < block.len() && states.len() < CHUNK {
            let word = |offset: usize| {
                let bytes = block[at + offset..]
                    .first_chunk::<4>()
                    .expect("an entry begins with its header");
                u32::from_le_bytes(*bytes) as usize
            };
            let hash = block[at..]
                .first_chunk::<8>()
                .expect("an entry begins with its hash");
            let (key, state) = (at + ENTRY_HEADER, at + ENTRY_HEADER + word(8));
            let end = state + word(12);
            self.chunk.hashes.push(u64::from_le_bytes(*hash));
            self.add_key(&block[key..state]);
            states.push(state as u32..end as u32);
            at = end;
        }
        self.close();
        at
    }

    /// Brings the spans in line with the numbers that are left.
    pub(super) fn chunk_changed(&mut self) {
        let all = &self.all;
        self.spans.clear();
        self.spans
            .extend(self.chunk.numbers.iter().map(|number| all[*number as usize]));
    }

    /// The key with this number.
    pub(super) fn key(&self, number: usize) -> &[u8] {
        let KeySpan { start, size } = self.all[number];
        &self.buffer[start as usize..(start + size) as usize]
    }
}

/// What is kept for each key in a table of bytes.
pub(crate) trait Values: Send + 'static {
    /// What is folded.
    type State: ?Sized;

    /// Folds keys into their values; `fold` has a key's place, its state, and whether it is new. Where `shows`, each folded state is
    /// shown with its key.
    fn fold(
        &mut self,
        table: &mut ByteTable,
        keys: &KeyBatch<'_>,
        hashes: &[u64],
        shows: bool,
        fold: impl FnMut(usize, &mut Self::State, bool),
        show: impl FnMut(&[u8], &Self::State, bool),
    ) -> Progress;

    /// Appends the value that `fold` makes of an empty state.
    fn encode(&mut self, fold: impl FnOnce(&mut Self::State), entry: &mut Vec<u8>);

    /// The bytes of a value of the table without those that it has to grow.
    fn size(value: &Bytes<'_>) -> usize {
        value.len()
    }

    /// Shows the state that a value of the table is.
    fn show(&mut self, value: Bytes<'_>, show: impl FnOnce(&Self::State));
}

/// Begins an entry whose value follows.
fn begin_entry(hash: u64, key: usize, entry: &mut Vec<u8>) {
    entry.clear();
    entry.extend_from_slice(&hash.to_le_bytes());
    entry.extend_from_slice(&(key as u32).to_le_bytes());
    entry.extend_from_slice(&[0; 4]);
}

/// Ends an entry, whose value began at `start`.
fn end_entry(start: usize, entry: &mut [u8]) {
    let size = (entry.len() - start) as u32;
    entry[12..ENTRY_HEADER].copy_from_slice(&size.to_le_bytes());
}

/// Groups of keys that are bytes.
pub(crate) struct BytesTo<V, R, K> {
    keys: KeyChunk<R, K>,
    table: ByteTable,
    source: Arc<dyn SegmentSource>,
    values: V,
}

impl<V: Values, R: Record, K: KeyFields<R>> BytesTo<V, R, K> {
    /// Groups, none yet, of keys whose hashes share their first `skip_bits` bits.
    pub(super) fn with_values(values: V, keys: K, source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self {
        BytesTo {
            keys: KeyChunk::new(keys),
            table: ByteTable::new(source.clone(), skip_bits),
            source,
            values,
        }
    }

    /// Makes the keys of the rows of a batch that begin at `starts` the chunk. Not for integer keys.
    pub(crate) fn take_rows_at(&mut self, bytes: &[u8], starts: &[u32]) {
        self.keys.take_rows_at(bytes, starts);
    }

    /// Folds from place `from` on.
    #[inline(always)]
    fn fold(
        &mut self,
        from: usize,
        shows: bool,
        mut fold: impl FnMut(usize, &mut V::State, bool),
        show: impl FnMut(&[u8], &V::State, bool),
    ) -> Progress {
        let chunk = &self.keys.chunk;
        let keys = KeyBatch::new(&self.keys.buffer, &self.keys.spans[from..]);
        self.values.fold(
            &mut self.table,
            &keys,
            &chunk.hashes[from..],
            shows,
            |place, state, is_new| fold(chunk.number_at(from + place), state, is_new),
            show,
        )
    }
}

impl<V: Values, R: Record, K: KeyFields<R>> Groups<R, K> for BytesTo<V, R, K> {
    type State = V::State;

    fn take_rows(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        start: usize,
        offsets: &mut Vec<u32>,
    ) -> usize {
        self.keys.take_rows(batch, rows, start, offsets)
    }

    fn take_entries(&mut self, block: &[u8], states: &mut Vec<Range<u32>>) -> usize {
        self.keys.take_entries(block, states)
    }

    fn chunk(&mut self) -> &mut Chunk {
        &mut self.keys.chunk
    }

    fn has(&self, number: usize, hash: u64) -> bool {
        self.table.contains(hash, self.keys.key(number))
    }

    fn chunk_changed(&mut self) {
        self.keys.chunk_changed();
    }

    #[inline(always)]
    fn update(&mut self, from: usize, fold: impl FnMut(usize, &mut V::State, bool)) -> Progress {
        self.fold(from, false, fold, |_, _, _| {})
    }

    #[inline(always)]
    fn update_and_send(
        &mut self,
        from: usize,
        fold: impl FnMut(usize, &mut V::State, bool),
        mut send: impl FnMut(<K::Key as Record>::View<'_>, &V::State, bool),
    ) -> Progress {
        let keys = self.keys.keys;
        self.fold(from, true, fold, |key, state, is_new| {
            keys.with_key(key, |key| send(key, state, is_new))
                .expect("a chunk has only canonical keys");
        })
    }

    fn entry(&mut self, number: usize, hash: u64, fold: impl FnOnce(&mut V::State), entry: &mut Vec<u8>) {
        let key = self.keys.key(number);
        begin_entry(hash, key.len(), entry);
        entry.extend_from_slice(key);
        let start = entry.len();
        self.values.encode(fold, entry);
        end_entry(start, entry);
    }

    fn drain(&mut self, prefix: u64, bits: u32, mut take: impl FnMut(&[u8])) {
        let mut entry = Vec::new();
        self.table.drain_range(prefix, bits, |hash, key, value| {
            begin_entry(hash, key.len(), &mut entry);
            key.parts().for_each(|part| entry.extend_from_slice(part));
            let start = entry.len();
            value.parts().for_each(|part| entry.extend_from_slice(part));
            entry.truncate(start + V::size(&value));
            end_entry(start, &mut entry);
            take(&entry);
        });
    }

    fn segments_in(&self, prefix: u64, bits: u32) -> usize {
        self.table.segments_in_range(prefix, bits)
    }

    fn visit(
        &mut self,
        cursor: &mut Cursor,
        limit: usize,
        mut visit: impl FnMut(<K::Key as Record>::View<'_>, &V::State),
    ) {
        const CANONICAL: &str = "a table has only canonical keys";
        let (keys, values) = (&self.keys.keys, &mut self.values);
        self.table.for_each_from(cursor, limit, |_, key, value| {
            values.show(value, |state| match key.whole() {
                Some(key) => keys.with_key(key, |key| visit(key, state)).expect(CANONICAL),
                None => keys
                    .with_key(&key.to_vec(), |key| visit(key, state))
                    .expect(CANONICAL),
            });
        });
    }

    fn segments(&self) -> usize {
        self.table.segments_held()
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn reset(&mut self, skip_bits: u32) {
        self.table = ByteTable::new(self.source.clone(), skip_bits);
    }
}

/// So many lanes for each key.
pub(crate) struct LaneValues(usize);

/// Lanes for each key.
pub(crate) type ByteGroups<R, K> = BytesTo<LaneValues, R, K>;

impl<R: Record, K: KeyFields<R>> ByteGroups<R, K> {
    /// Groups with `lanes` lanes each, none yet, of keys whose hashes share their first `skip_bits` bits.
    pub(crate) fn new(keys: K, lanes: usize, source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self {
        BytesTo::with_values(LaneValues(lanes), keys, source, skip_bits)
    }
}

impl Values for LaneValues {
    type State = [u64];

    #[inline(always)]
    fn fold(
        &mut self,
        table: &mut ByteTable,
        keys: &KeyBatch<'_>,
        hashes: &[u64],
        _: bool,
        mut fold: impl FnMut(usize, &mut [u64], bool),
        mut show: impl FnMut(&[u8], &[u64], bool),
    ) -> Progress {
        table.update_batch(keys, hashes, 8 * self.0, |place, state, is_new| {
            let lanes = <[u64]>::mut_from_bytes(state).expect("values in pages are aligned to 8 bytes");
            fold(place, lanes, is_new);
            show(keys.key(place), lanes, is_new);
        })
    }

    fn encode(&mut self, fold: impl FnOnce(&mut [u64]), entry: &mut Vec<u8>) {
        let mut lanes = [0u64; crate::aggregate::MOST_LANES];
        let lanes = &mut lanes[..self.0];
        fold(lanes);
        lanes
            .iter()
            .for_each(|lane| entry.extend_from_slice(&lane.to_le_bytes()));
    }

    fn show(&mut self, value: Bytes<'_>, show: impl FnOnce(&[u64])) {
        let mut lanes = [0u64; crate::aggregate::MOST_LANES];
        let value = value.whole().expect("lanes are in one piece");
        for (lane, bytes) in lanes.iter_mut().zip(value.as_chunks::<8>().0) {
            *lane = u64::from_le_bytes(*bytes);
        }
        show(&lanes[..self.0]);
    }
}

/// A row for each key, of fixed or varying size.
pub(crate) struct RowValues<R> {
    row: Vec<u8>,
    record: PhantomData<fn(R)>,
}

/// A row for each key.
pub(crate) type RowGroups<R, K> = BytesTo<RowValues<R>, R, K>;

impl<R: Record, K: KeyFields<R>> RowGroups<R, K> {
    /// Groups, none yet, of keys whose hashes share their first `skip_bits` bits.
    pub(crate) fn new(keys: K, source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self {
        let values = RowValues {
            row: Vec::new(),
            record: PhantomData,
        };
        BytesTo::with_values(values, keys, source, skip_bits)
    }
}

impl<R: Record> Values for RowValues<R> {
    type State = Vec<u8>;

    #[inline(always)]
    fn fold(
        &mut self,
        table: &mut ByteTable,
        keys: &KeyBatch<'_>,
        hashes: &[u64],
        _: bool,
        mut fold: impl FnMut(usize, &mut Vec<u8>, bool),
        mut show: impl FnMut(&[u8], &Vec<u8>, bool),
    ) -> Progress {
        let row = &mut self.row;
        if R::STRIDE > 0 && R::STRIDE <= MOST_IN_PLACE {
            return table.update_batch(keys, hashes, R::STRIDE, |place, state, is_new| {
                row.clear();
                row.extend_from_slice(state);
                fold(place, row, is_new);
                state.copy_from_slice(row);
                show(keys.key(place), row, is_new);
            });
        }
        for (place, hash) in hashes.iter().enumerate() {
            let key = keys.key(place);
            row.clear();
            let is_new = match table.get(*hash, key) {
                Some(state) => {
                    state.parts().for_each(|part| row.extend_from_slice(part));
                    false
                }
                None => true,
            };
            fold(place, row, is_new);
            if table.replace(*hash, key, row) == Stored::Starved {
                return Progress {
                    rows: place,
                    starved: true,
                };
            }
            show(key, row, is_new);
        }
        Progress {
            rows: hashes.len(),
            starved: false,
        }
    }

    fn encode(&mut self, fold: impl FnOnce(&mut Vec<u8>), entry: &mut Vec<u8>) {
        self.row.clear();
        fold(&mut self.row);
        entry.extend_from_slice(&self.row);
    }

    fn show(&mut self, value: Bytes<'_>, show: impl FnOnce(&Vec<u8>)) {
        self.row.clear();
        value.parts().for_each(|part| self.row.extend_from_slice(part));
        show(&self.row);
    }
}
