//! Groups: keys and their states, in the hash pages that suit the key's type.
//!
//! # Interface
//! A [`Groups`] keeps states of type `State` and works on chunks: [`Groups::take_rows`] or [`Groups::take_entries`] says which
//! keys, [`Groups::keep`] takes out those that belong elsewhere, [`Groups::update`] folds the others, [`Groups::entry`] gives one
//! of them in the form in which it is spilled. [`LineGroups`] is for integer keys.
//!
//! # Layout
//! An entry of [`LineGroups`] in a spilled block: the hash (which is the key) and the lanes, 8 bytes each.

use crate::batch::Batch;
use crate::record::{KeyFields, Record, hash_rows};
use forebay_memory::pages::{Cursor, LineTable, Progress};
use forebay_memory::{Result, SegmentSource, hash};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// Keys of one chunk at most: their hashes stay in L1.
pub(crate) const CHUNK: usize = 1024;

/// Keys and their states. Keys of a chunk have numbers, which stay theirs when others are taken out.
pub(crate) trait Groups<R: Record, K: KeyFields<R>>: Send + 'static {
    /// What is kept for each key.
    type State: ?Sized;

    /// Makes the keys of rows `rows` of a batch the chunk. `start` is where the first of them begins; answers where the
    /// last one ends, and for rows that vary in size, in `offsets`, where each begins.
    fn take_rows(&mut self, batch: &Batch, rows: Range<usize>, start: usize, offsets: &mut Vec<u32>)
    -> usize;

    /// Makes the entries at the start of `block` the chunk; answers how many bytes they are. `states` is filled with
    /// where each entry's state begins and ends.
    fn take_entries(&mut self, block: &[u8], states: &mut Vec<Range<u32>>) -> usize;

    /// The keys of the chunk.
    fn chunk(&mut self) -> &mut Chunk;

    /// Whether the key with this number and hash has a group.
    fn has(&self, number: usize, hash: u64) -> bool;

    /// Called when keys have been taken out of the chunk.
    fn chunk_changed(&mut self) {}

    /// Takes the keys before `from` out of the chunk, and of the others those for which `keep` is false. It is called with
    /// each one's number and hash.
    fn keep(
        &mut self,
        from: usize,
        mut keep: impl FnMut(&mut Self, usize, u64) -> Result<bool>,
    ) -> Result<()> {
        let mut chunk = std::mem::take(self.chunk());
        let result = chunk.keep(from, |number, hash| keep(self, number, hash));
        *self.chunk() = chunk;
        self.chunk_changed();
        result
    }

    /// Calls `fold` with the number, the state, and whether the group is new, for the keys from place `from` on.
    fn update(&mut self, from: usize, fold: impl FnMut(usize, &mut Self::State, bool)) -> Progress;

    /// As [`Groups::update`], and calls `send` with the key, the folded state and whether the group was new.
    fn update_and_send(
        &mut self,
        from: usize,
        fold: impl FnMut(usize, &mut Self::State, bool),
        send: impl FnMut(<K::Key as Record>::View<'_>, &Self::State, bool),
    ) -> Progress;

    /// The key with this number and hash as an entry to spill, with the state that `fold` makes of an empty one.
    fn entry(&mut self, number: usize, hash: u64, fold: impl FnOnce(&mut Self::State), entry: &mut Vec<u8>);

    /// Takes out the groups whose hash, after the skipped bits, begins with `prefix`, as entries.
    fn drain(&mut self, prefix: u64, bits: u32, take: impl FnMut(&[u8]));

    /// Segments that [`Groups::drain`] would give back.
    fn segments_in(&self, prefix: u64, bits: u32) -> usize;

    /// Visits up to `limit` groups from the cursor on.
    fn visit(
        &mut self,
        cursor: &mut Cursor,
        limit: usize,
        visit: impl FnMut(<K::Key as Record>::View<'_>, &Self::State),
    );

    /// Segments held.
    fn segments(&self) -> usize;

    /// How many groups there are.
    fn len(&self) -> usize;

    /// Whether there is no group.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops every group; the next ones share `skip_bits` bits.
    fn reset(&mut self, skip_bits: u32);

    /// Says how many bytes of entries, of keys that are distinct for the most part, will come to no groups.
    fn expect(&mut self, _bytes: usize) {}
}

/// A key of a chunk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Key {
    pub(crate) hash: u64,
    pub(crate) number: u32,
}

/// The hashes of a chunk, and the numbers of its keys.
#[derive(Default)]
pub(crate) struct Chunk {
    pub(crate) hashes: Vec<u64>,
    /// Empty while every key's number is its place.
    pub(crate) numbers: Vec<u32>,
}

impl Chunk {
    pub(crate) fn clear(&mut self) {
        self.hashes.clear();
        self.numbers.clear();
    }

    #[inline(always)]
    pub(crate) fn number_at(&self, place: usize) -> usize {
        if self.numbers.is_empty() {
            place
        } else {
            self.numbers[place] as usize
        }
    }

    /// Takes the keys before `from` out of the chunk, and of the others those whose hashes `leaves` is true of, into `left`. Without
    /// branches on what it says: it is as good as random.
    pub(crate) fn divide(&mut self, from: usize, left: &mut Vec<Key>, leaves: impl Fn(u64) -> bool) {
        let count = self.hashes.len();
        if self.numbers.is_empty() {
            self.numbers.extend(0..count as u32);
        }
        left.resize(count - from, Key::default());
        let (mut kept, mut leaving) = (0, 0);
        for place in from..count {
            let (hash, number) = (self.hashes[place], self.numbers[place]);
            let leaves = leaves(hash);
            self.hashes[kept] = hash;
            self.numbers[kept] = number;
            left[leaving] = Key { hash, number };
            kept += usize::from(!leaves);
            leaving += usize::from(leaves);
        }
        left.truncate(leaving);
        self.hashes.truncate(kept);
        self.numbers.truncate(kept);
    }

    /// Puts a key back that was taken out.
    pub(crate) fn push(&mut self, key: Key) {
        self.hashes.push(key.hash);
        self.numbers.push(key.number);
    }

    /// The chunk's part of [`Groups::keep`], with `keep` given number and hash.
    pub(crate) fn keep(
        &mut self,
        from: usize,
        mut keep: impl FnMut(usize, u64) -> Result<bool>,
    ) -> Result<()> {
        if self.numbers.is_empty() {
            self.numbers.extend(0..self.hashes.len() as u32);
        }
        let mut kept = 0;
        for place in from..self.hashes.len() {
            let (hash, number) = (self.hashes[place], self.numbers[place]);
            if keep(number as usize, hash)? {
                self.hashes[kept] = hash;
                self.numbers[kept] = number;
                kept += 1;
            }
        }
        self.hashes.truncate(kept);
        self.numbers.truncate(kept);
        Ok(())
    }
}

/// Groups of keys that are one integer of up to 64 bits; their state is lanes.
pub(crate) struct LineGroups<R, K> {
    keys: K,
    table: LineTable,
    source: Arc<dyn SegmentSource>,
    chunk: Chunk,
    record: PhantomData<fn(R)>,
}

impl<R: Record, K: KeyFields<R>> LineGroups<R, K> {
    /// Groups with `lanes` lanes each, none yet, of keys whose hashes share their first `skip_bits` bits.
    pub(crate) fn new(keys: K, lanes: usize, source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self {
        let table = LineTable::new(source.clone(), lanes, skip_bits);
        LineGroups {
            keys,
            table,
            source,
            chunk: Chunk::default(),
            record: PhantomData,
        }
    }
}

impl<R: Record, K: KeyFields<R>> LineGroups<R, K> {
    /// Folds the keys from place `from` on that have a group; the numbers of the others go to `missed`. Answers how many these are.
    #[inline(always)]
    pub(crate) fn update_present(
        &mut self,
        from: usize,
        mut fold: impl FnMut(usize, &mut [u64]),
        mut missed: impl FnMut(usize),
    ) -> usize {
        let (chunk, mut count) = (&self.chunk, 0);
        self.table.update_present(
            &chunk.hashes[from..],
            |place, lanes| fold(chunk.number_at(from + place), lanes),
            |place| {
                count += 1;
                missed(chunk.number_at(from + place));
            },
        );
        count
    }

    /// The table alone.
    pub(crate) fn into_table(self) -> LineTable {
        self.table
    }
}

impl<R: Record, K: KeyFields<R>> Groups<R, K> for LineGroups<R, K> {
    type State = [u64];

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
        self.chunk.clear();
        let hashes = &mut self.chunk.hashes;
        if R::STRIDE > 0 {
            let end = start + rows.len() * R::STRIDE;
            hashes.resize(rows.len(), 0);
            hash_rows::<R, K>(self.keys, &bytes[start..end], hashes, &mut Vec::new());
            return end;
        }
        offsets.clear();
        let mut at = start;
        for _ in rows {
            let size = crate::batch::variable_row_size(&bytes[at..]);
            hashes.push(hash::hash_u64(column.read(&bytes[at..at + size])));
            offsets.push(at as u32);
            at += size;
        }
        at
    }

    fn take_entries(&mut self, block: &[u8], states: &mut Vec<Range<u32>>) -> usize {
        let size = 8 + 8 * self.table.lanes();
        self.chunk.clear();
        states.clear();
        let mut at = 0;
        for entry in block.chunks_exact(size).take(CHUNK) {
            let hash = entry.first_chunk::<8>().expect("an entry begins with its hash");
            self.chunk.hashes.push(u64::from_le_bytes(*hash));
            states.push(at as u32 + 8..(at + size) as u32);
            at += size;
        }
        at
    }

    fn chunk(&mut self) -> &mut Chunk {
        &mut self.chunk
    }

    fn has(&self, _: usize, hash: u64) -> bool {
        self.table.contains(hash)
    }

    #[inline(always)]
    fn update(&mut self, from: usize, mut fold: impl FnMut(usize, &mut [u64], bool)) -> Progress {
        let hashes = &self.chunk.hashes[from..];
        if self.chunk.numbers.is_empty() {
            self.table
                .update_batch(hashes, |place, lanes, is_new| fold(from + place, lanes, is_new))
        } else {
            let numbers = &self.chunk.numbers[from..];
            self.table.update_batch(hashes, |place, lanes, is_new| {
                fold(numbers[place] as usize, lanes, is_new)
            })
        }
    }

    #[inline(always)]
    fn update_and_send(
        &mut self,
        from: usize,
        mut fold: impl FnMut(usize, &mut [u64], bool),
        mut send: impl FnMut(<K::Key as Record>::View<'_>, &[u64], bool),
    ) -> Progress {
        let (keys, chunk) = (&self.keys, &self.chunk);
        let hashes = &chunk.hashes[from..];
        self.table.update_batch(hashes, |place, lanes, is_new| {
            fold(chunk.number_at(from + place), lanes, is_new);
            send(
                keys.key_from_u64(hash::unhash_u64(hashes[place])).view(),
                lanes,
                is_new,
            );
        })
    }

    #[inline(always)]
    fn entry(&mut self, _: usize, hash: u64, fold: impl FnOnce(&mut [u64]), entry: &mut Vec<u8>) {
        let mut lanes = [0u64; crate::aggregate::MOST_LANES];
        let lanes = &mut lanes[..self.table.lanes()];
        fold(lanes);
        entry.clear();
        entry.extend_from_slice(&hash.to_le_bytes());
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
        &mut self,
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

    fn len(&self) -> usize {
        self.table.len()
    }

    fn reset(&mut self, skip_bits: u32) {
        self.table = LineTable::new(self.source.clone(), self.table.lanes(), skip_bits);
    }

    fn expect(&mut self, bytes: usize) {
        self.table.expect(bytes / (8 + 8 * self.table.lanes()));
    }
}
