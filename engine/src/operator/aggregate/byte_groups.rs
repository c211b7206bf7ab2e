//! Groups whose keys are canonical bytes: strings, several fields, anything that is not one small integer.
//!
//! # Interface
//! [`ByteGroups`] keeps lanes for each key, [`RowGroups`] a row. Both use a [`KeyChunk`], the keys of a chunk in one buffer.
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

/// Begins an entry.
pub(super) fn put_entry_header(hash: u64, key: usize, state: usize, entry: &mut Vec<u8>) {
    entry.clear();
    entry.extend_from_slice(&hash.to_le_bytes());
    entry.extend_from_slice(&(key as u32).to_le_bytes());
    entry.extend_from_slice(&(state as u32).to_le_bytes());
}

/// Takes a range of a table out as entries.
fn drain(table: &mut ByteTable, prefix: u64, bits: u32, mut take: impl FnMut(&[u8])) {
    let mut entry = Vec::new();
    table.drain_range(prefix, bits, |hash, key, state| {
        put_entry_header(hash, key.len(), state.len(), &mut entry);
        key.parts().for_each(|part| entry.extend_from_slice(part));
        state.parts().for_each(|part| entry.extend_from_slice(part));
        take(&entry);
    });
}

/// Shows a key's bytes as a record.
pub(super) fn with_key<R: Record, K: KeyFields<R>, T>(
    keys: &K,
    bytes: Bytes<'_>,
    then: impl FnOnce(<K::Key as Record>::View<'_>) -> T,
) -> T {
    const CANONICAL: &str = "a table has only canonical keys";
    match bytes.whole() {
        Some(bytes) => keys.with_key(bytes, then).expect(CANONICAL),
        None => keys.with_key(&bytes.to_vec(), then).expect(CANONICAL),
    }
}

fn lanes_of(state: &mut [u8]) -> &mut [u64] {
    <[u64]>::mut_from_bytes(state).expect("values in pages are aligned to 8 bytes")
}

/// Lanes for each key.
pub(crate) struct ByteGroups<R, K> {
    keys: KeyChunk<R, K>,
    table: ByteTable,
    lanes: usize,
    source: Arc<dyn SegmentSource>,
}

impl<R: Record, K: KeyFields<R>> ByteGroups<R, K> {
    /// Groups with `lanes` lanes each, none yet, of keys whose hashes share their first `skip_bits` bits.
    pub(crate) fn new(keys: K, lanes: usize, source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self {
        let table = ByteTable::new(source.clone(), skip_bits);
        ByteGroups {
            keys: KeyChunk::new(keys),
            table,
            lanes,
            source,
        }
    }

    /// Makes the keys of the rows of a batch that begin at `starts` the chunk. Not for integer keys.
    pub(crate) fn take_rows_at(&mut self, bytes: &[u8], starts: &[u32]) {
        self.keys.take_rows_at(bytes, starts);
    }
}

impl<R: Record, K: KeyFields<R>> Groups<R, K> for ByteGroups<R, K> {
    type State = [u64];

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
    fn update(&mut self, from: usize, mut fold: impl FnMut(usize, &mut [u64], bool)) -> Progress {
        let chunk = &self.keys.chunk;
        let keys = KeyBatch::new(&self.keys.buffer, &self.keys.spans[from..]);
        self.table.update_batch(
            &keys,
            &chunk.hashes[from..],
            8 * self.lanes,
            |place, state, is_new| {
                fold(chunk.number_at(from + place), lanes_of(state), is_new);
            },
        )
    }

    #[inline(always)]
    fn update_and_send(
        &mut self,
        from: usize,
        mut fold: impl FnMut(usize, &mut [u64], bool),
        mut send: impl FnMut(<K::Key as Record>::View<'_>, &[u64], bool),
    ) -> Progress {
        let chunk = &self.keys.chunk;
        let keys = KeyBatch::new(&self.keys.buffer, &self.keys.spans[from..]);
        self.table.update_batch(
            &keys,
            &chunk.hashes[from..],
            8 * self.lanes,
            |place, state, is_new| {
                let state = lanes_of(state);
                fold(chunk.number_at(from + place), state, is_new);
                self.keys
                    .keys
                    .with_key(keys.key(place), |key| send(key, state, is_new))
                    .expect("a chunk has only canonical keys");
            },
        )
    }

    fn entry(&mut self, number: usize, hash: u64, fold: impl FnOnce(&mut [u64]), entry: &mut Vec<u8>) {
        let mut lanes = [0u64; crate::aggregate::MOST_LANES];
        let lanes = &mut lanes[..self.lanes];
        fold(lanes);
        let key = self.keys.key(number);
        put_entry_header(hash, key.len(), 8 * lanes.len(), entry);
        entry.extend_from_slice(key);
        lanes
            .iter()
            .for_each(|lane| entry.extend_from_slice(&lane.to_le_bytes()));
    }

    fn drain(&mut self, prefix: u64, bits: u32, take: impl FnMut(&[u8])) {
        drain(&mut self.table, prefix, bits, take);
    }

    fn segments_in(&self, prefix: u64, bits: u32) -> usize {
        self.table.segments_in_range(prefix, bits)
    }

    fn visit(
        &mut self,
        cursor: &mut Cursor,
        limit: usize,
        mut visit: impl FnMut(<K::Key as Record>::View<'_>, &[u64]),
    ) {
        let mut lanes = [0u64; crate::aggregate::MOST_LANES];
        self.table.for_each_from(cursor, limit, |_, key, state| {
            let state = state.whole().expect("lanes are in one piece");
            for (lane, bytes) in lanes.iter_mut().zip(state.as_chunks::<8>().0) {
                *lane = u64::from_le_bytes(*bytes);
            }
            with_key(&self.keys.keys, key, |key| visit(key, &lanes[..self.lanes]));
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

/// A row for each key, of fixed or varying size.
pub(crate) struct RowGroups<R, K> {
    keys: KeyChunk<R, K>,
    table: ByteTable,
    source: Arc<dyn SegmentSource>,
    row: Vec<u8>,
}

impl<R: Record, K: KeyFields<R>> RowGroups<R, K> {
    /// Groups, none yet, of keys whose hashes share their first `skip_bits` bits.
    pub(crate) fn new(keys: K, source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self {
        let table = ByteTable::new(source.clone(), skip_bits);
        RowGroups {
            keys: KeyChunk::new(keys),
            table,
            source,
            row: Vec::new(),
        }
    }

    /// Folds from place `from` on, and shows each folded row.
    #[inline(always)]
    fn fold(
        &mut self,
        from: usize,
        mut fold: impl FnMut(usize, &mut Vec<u8>, bool),
        mut show: impl FnMut(&[u8], &Vec<u8>, bool),
    ) -> Progress {
        let (chunk, row) = (&self.keys.chunk, &mut self.row);
        let keys = KeyBatch::new(&self.keys.buffer, &self.keys.spans[from..]);
        let hashes = &chunk.hashes[from..];
        if R::STRIDE > 0 && R::STRIDE <= MOST_IN_PLACE {
            return self
                .table
                .update_batch(&keys, hashes, R::STRIDE, |place, state, is_new| {
                    row.clear();
                    row.extend_from_slice(state);
                    fold(chunk.number_at(from + place), row, is_new);
                    state.copy_from_slice(row);
                    show(keys.key(place), row, is_new);
                });
        }
        for (place, hash) in hashes.iter().enumerate() {
            let key = keys.key(place);
            row.clear();
            let is_new = match self.table.get(*hash, key) {
                Some(state) => {
                    state.parts().for_each(|part| row.extend_from_slice(part));
                    false
                }
                None => true,
            };
            fold(chunk.number_at(from + place), row, is_new);
            if self.table.replace(*hash, key, row) == Stored::Starved {
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
}

impl<R: Record, K: KeyFields<R>> Groups<R, K> for RowGroups<R, K> {
    type State = Vec<u8>;

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

    fn update(&mut self, from: usize, fold: impl FnMut(usize, &mut Vec<u8>, bool)) -> Progress {
        self.fold(from, fold, |_, _, _| {})
    }

    fn update_and_send(
        &mut self,
        from: usize,
        fold: impl FnMut(usize, &mut Vec<u8>, bool),
        mut send: impl FnMut(<K::Key as Record>::View<'_>, &Vec<u8>, bool),
    ) -> Progress {
        let keys = self.keys.keys;
        self.fold(from, fold, |key, row, is_new| {
            keys.with_key(key, |key| send(key, row, is_new))
                .expect("a chunk has only canonical keys");
        })
    }

    fn entry(&mut self, number: usize, hash: u64, fold: impl FnOnce(&mut Vec<u8>), entry: &mut Vec<u8>) {
        self.row.clear();
        fold(&mut self.row);
        let key = self.keys.key(number);
        put_entry_header(hash, key.len(), self.row.len(), entry);
        entry.extend_from_slice(key);
        entry.extend_from_slice(&self.row);
    }

    fn drain(&mut self, prefix: u64, bits: u32, take: impl FnMut(&[u8])) {
        drain(&mut self.table, prefix, bits, take);
    }

    fn segments_in(&self, prefix: u64, bits: u32) -> usize {
        self.table.segments_in_range(prefix, bits)
    }

    fn visit(
        &mut self,
        cursor: &mut Cursor,
        limit: usize,
        mut visit: impl FnMut(<K::Key as Record>::View<'_>, &Vec<u8>),
    ) {
        let row = &mut self.row;
        self.table.for_each_from(cursor, limit, |_, key, state| {
            row.clear();
            state.parts().for_each(|part| row.extend_from_slice(part));
            with_key(&self.keys.keys, key, |key| visit(key, row));
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
