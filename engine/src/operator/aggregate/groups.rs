//! Groups: keys and their lanes, in the hash pages that suit the key's type.
//!
//! # Interface
//! A [`Groups`] works on chunks: [`Groups::take_rows`] or [`Groups::take_entries`] says which keys, [`Groups::update`] folds a run of them,
//! [`Groups::entry`] gives one of them in the form in which it is spilled. [`LineGroups`] is for integer keys.
//!
//! # Layout
//! An entry of [`LineGroups`] in a spilled block: the hash (which is the key) and the lanes, 8 bytes each.

use crate::batch::Batch;
use crate::record::{KeyFields, Record};
use forebay_memory::pages::{Cursor, LineTable, Progress};
use forebay_memory::{SegmentSource, hash};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// Keys of one chunk at most: their hashes stay in L1.
pub(crate) const CHUNK: usize = 1024;

/// Keys and their lanes.
pub(crate) trait Groups<R: Record, K: KeyFields<R>>: Send + Sized {
    /// Groups of keys, empty, whose hashes share their first `skip_bits` bits.
    fn new(keys: K, lanes: usize, source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self;

    /// Makes the keys of rows `rows` of a batch the chunk. `start` is where the first of them begins; answers where
    /// each begins, in `offsets`, and where the last one ends.
    fn take_rows(&mut self, batch: &Batch, rows: Range<usize>, start: usize, offsets: &mut Vec<u32>)
    -> usize;

    /// Makes the entries at the start of `block` the chunk; answers how many bytes they are. `lanes` is filled with where
    /// each entry's lanes begin.
    fn take_entries(&mut self, block: &[u8], lanes: &mut Vec<u32>) -> usize;

    /// The chunk's hashes.
    fn hashes(&self) -> &[u64];

    /// Calls `fold` with the number in the chunk, the lanes, and whether the group is new, for the keys of `range`.
    fn update(&mut self, range: Range<usize>, fold: impl FnMut(usize, &mut [u64], bool)) -> Progress;

    /// As [`Groups::update`], and calls `send` with the key and the folded lanes.
    fn update_and_send(
        &mut self,
        range: Range<usize>,
        fold: impl FnMut(usize, &mut [u64], bool),
        send: impl FnMut(<K::Key as Record>::View<'_>, &[u64]),
    ) -> Progress;

    /// The key with this number in the chunk, with `lanes`, as an entry to spill.
    fn entry(&self, number: usize, lanes: &[u64], entry: &mut Vec<u8>);

    /// Takes out the groups whose hash, after the skipped bits, begins with `prefix`, as entries.
    fn drain(&mut self, prefix: u64, bits: u32, take: impl FnMut(&[u8]));

    /// Segments that [`Groups::drain`] would give back.
    fn segments_in(&self, prefix: u64, bits: u32) -> usize;

    /// Visits up to `limit` groups from the cursor on, with their keys as records.
    fn visit(
        &self,
        cursor: &mut Cursor,
        limit: usize,
        visit: impl FnMut(<K::Key as Record>::View<'_>, &[u64]),
    );

    /// Segments held.
    fn segments(&self) -> usize;

    /// Whether there is no group.
    fn is_empty(&self) -> bool;

    /// Drops every group; the next ones share `skip_bits` bits.
    fn reset(&mut self, skip_bits: u32);
}

/// Groups of keys that are one integer of up to 64 bits.
pub(crate) struct LineGroups<R, K> {
    keys: K,
    table: LineTable,
    source: Arc<dyn SegmentSource>,
    hashes: Vec<u64>,
    record: PhantomData<fn(R)>,
}

impl<R: Record, K: KeyFields<R>> Groups<R, K> for LineGroups<R, K> {
    fn new(keys: K, lanes: usize, source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self {
        let table = LineTable::new(source.clone(), lanes, skip_bits);
        LineGroups {
            keys,
            table,
            source,
            hashes: Vec::with_capacity(CHUNK),
            record: PhantomData,
        }
    }

    fn take_rows(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        start: usize,
        offsets: &mut Vec<u32>,
    ) -> usize {
        let column = self
            .keys
            .as_u64_column()
            .expect("line groups are for integer keys");
        let bytes = batch.bytes();
        offsets.clear();
        if R::STRIDE > 0 {
            let end = start + rows.len() * R::STRIDE;
            self.hashes.resize(rows.len(), 0);
            crate::hashing::hash_column(column, &bytes[start..end], R::STRIDE, &mut self.hashes);
            return end;
        }
        self.hashes.clear();
        let mut at = start;
        for _ in rows {
            let size = crate::batch::variable_row_size(&bytes[at..]);
            self.hashes
                .push(hash::hash_u64(column.read(&bytes[at..at + size])));
            offsets.push(at as u32);
            at += size;
        }
        at
    }

    fn take_entries(&mut self, block: &[u8], lanes: &mut Vec<u32>) -> usize {
        let size = 8 + 8 * self.table.lanes();
        self.hashes.clear();
        lanes.clear();
        let mut at = 0;
        for entry in block.chunks_exact(size).take(CHUNK) {
            let hash = entry.first_chunk::<8>().expect("an entry begins with its hash");
            self.hashes.push(u64::from_le_bytes(*hash));
            lanes.push(at as u32 + 8);
            at += size;
        }
        at
    }

    fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    #[inline(always)]
    fn update(&mut self, range: Range<usize>, mut fold: impl FnMut(usize, &mut [u64], bool)) -> Progress {
        let first = range.start;
        self.table
            .update_batch(&self.hashes[range], |number, lanes, is_new| {
                fold(first + number, lanes, is_new)
            })
    }

    #[inline(always)]
    fn update_and_send(
        &mut self,
        range: Range<usize>,
        mut fold: impl FnMut(usize, &mut [u64], bool),
        mut send: impl FnMut(<K::Key as Record>::View<'_>, &[u64]),
    ) -> Progress {
        let first = range.start;
        let (keys, hashes) = (&self.keys, &self.hashes[range]);
        self.table.update_batch(hashes, |number, lanes, is_new| {
            fold(first + number, lanes, is_new);
            send(keys.key_from_u64(hash::unhash_u64(hashes[number])).view(), lanes);
        })
    }

    #[inline(always)]
    fn entry(&self, number: usize, lanes: &[u64], entry: &mut Vec<u8>) {
        entry.clear();
        entry.extend_from_slice(&self.hashes[number].to_le_bytes());
        lanes
            .iter()
            .for_each(|lane| entry.extend_from_slice(&lane.to_le_bytes()));
    }

    fn drain(&mut self, prefix: u64, bits: u32, mut take: impl FnMut(&[u8])) {
        let mut entry = [0u8; 8 + 8 * crate::aggregate::MOST_LANES];
        self.table.drain_range(prefix, bits, |hash, lanes| {
            entry[..8].copy_from_slice(&hash.to_le_bytes());
            for (place, lane) in entry[8..].chunks_exact_mut(8).zip(lanes) {
                place.copy_from_slice(&lane.to_le_bytes());
            }
            take(&entry[..8 + 8 * lanes.len()]);
        });
    }

    fn segments_in(&self, prefix: u64, bits: u32) -> usize {
        self.table.segments_in_range(prefix, bits)
    }

    fn visit(
        &self,
        cursor: &mut Cursor,
        limit: usize,
        mut visit: impl FnMut(<K::Key as Record>::View<'_>, &[u64]),
    ) {
        self.table.for_each_from(cursor, limit, |hash, lanes| {
            visit(self.keys.key_from_u64(hash::unhash_u64(hash)).view(), lanes);
        });
    }

    fn segments(&self) -> usize {
        self.table.segments_held()
    }

    fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn reset(&mut self, skip_bits: u32) {
        self.table = LineTable::new(self.source.clone(), self.table.lanes(), skip_bits);
    }
}
