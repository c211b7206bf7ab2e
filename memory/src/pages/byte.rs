//! The table of byte strings: keys of any size with values of one fixed size, or of any size.
//!
//! # Interface
//! Callers give each key's 64-bit hash. [`ByteTable::update_batch`] folds rows into values of one fixed size in
//! place; [`ByteTable::replace`] stores values of any size, which `byte_change.rs` changes where they are. A table is
//! used in one of these ways, not both.
//! Where they report starvation the caller gives memory back ([`ByteTable::drain_range`], or another holder)
//! and calls again.
//!
//! # Algorithm
//! 1. A batch goes in groups of rows, three steps each: prefetch the home slot line of every key; compare tags
//!    and prefetch the candidate entry; compare keys and fold. Keys of up to 16 bytes compare in one load.
//! 2. A page without room is compacted where that helps (removed entries, slots that do not suit the entries'
//!    size), splits by the next bit of the hash otherwise, and gets an overflow chain where its hashes agree
//!    in the next 8 bits as well. Limits are spread over pages, and lifted when the source is dry.
//! 3. An entry over a quarter page keeps its larger part, or both, in a chain of segments of its own.
//!
//! # Memory
//! No segment while empty; then one for each page, the directory's, and those of large entries. An entry takes
//! 16 bytes beside key and value (each padded to 8), and a slot 4 bytes at 5/8 load.
//!
//! # Invariants
//! I1. The address in an out-of-line part is the only reference to a live chain; it dies with the entry.

use super::blob::{self, Bytes};
use super::byte_page::{
    ENTRY_HEADER, Entry, Layout, MOST_SIZE, OUT_OF_LINE, equal_tags, padded, part_size, tag,
};
use super::directory::Directory;
use super::keys::{KeyBatch, KeySpan, equal_short};
use super::page::{Page, prefetch};
use super::{Cursor, Progress};
use crate::segment::SegmentSource;
use std::sync::Arc;
use std::{ptr, slice};

/// Rows that go through the three steps together.
const GROUP: usize = 32;

/// The expected size of an entry while a table has not seen any.
const USUAL_ENTRY: usize = 40;

/// A table from byte strings to byte strings. See the [module](self) for how it is used.
pub struct ByteTable {
    pub(super) directory: Directory,
    pub(super) layout: Layout,
    pub(super) entries: usize,
    /// Parts of entries that are out of line.
    pub(super) chains: usize,
    /// The size of an entry when a page last split.
    pub(super) usual: usize,
}

/// What became of a value given to [`ByteTable::replace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a starved table has not stored the value"]
pub enum Stored {
    /// The key is new.
    New,
    /// The key had another value, which is gone.
    Replaced,
    /// Nothing has changed: a segment was needed and the source had none.
    Starved,
}

/// What a search for an entry to write came to.
enum Search {
    Found(Entry),
    Added(Entry),
    /// Pages have changed; look again.
    Changed,
    Starved,
}

/// Which parts of an entry are out of line.
#[derive(Clone, Copy)]
struct Placement {
    key_out: bool,
    value_out: bool,
}

impl ByteTable {
    /// An empty table whose keys' hashes all share their `skip_bits` top bits.
    ///
    /// # Panics
    /// Where `skip_bits` is over 47.
    pub fn new(source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self {
        let directory = Directory::new(source, skip_bits);
        let layout = Layout::new(directory.page_size());
        ByteTable {
            directory,
            layout,
            entries: 0,
            chains: 0,
            usual: USUAL_ENTRY,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many segments the table holds, for pages, directory and large entries.
    pub fn segments_held(&self) -> usize {
        self.directory.segments()
    }

    /// How many bits of the hash, after the skipped ones, the directory is indexed by.
    pub fn directory_depth(&self) -> u32 {
        self.directory.depth()
    }

    /// Calls `fold` for each key in order with the row's number, its value of `value_size` bytes (aligned to
    /// 8), and whether the entry is new (all bytes 0). Stops where a segment is needed and there is none;
    /// that row is not folded.
    ///
    /// # Panics
    /// Where there are less hashes than keys, or `value_size` is over an eighth of a segment or differs from
    /// that of an entry met.
    #[inline]
    pub fn update_batch(
        &mut self,
        keys: &KeyBatch<'_>,
        hashes: &[u64],
        value_size: usize,
        mut fold: impl FnMut(usize, &mut [u8], bool),
    ) -> Progress {
        assert!(
            value_size <= self.layout.page_size / 8,
            "a value of {value_size} B is over an eighth of a segment of {} B",
            self.layout.page_size
        );
        let hashes = &hashes[..keys.len()];
        let mut found = [Entry::none(); GROUP];
        let mut done = 0;
        'groups: while done < hashes.len() {
            let group = &hashes[done..hashes.len().min(done + GROUP)];
            let located = self.candidates(group, &mut found);
            if located == 0 {
                if !self.open_page(group[0]) {
                    return Progress {
                        rows: done,
                        starved: true,
                    };
                }
                continue;
            }
            let spans = keys.spans(done);
            for ((&hash, &candidate), &span) in group.iter().zip(&found[..located]).zip(spans) {
                // SAFETY: candidates are entries of live pages, which have not changed since: a search that
                // changes them starts the group again, and entries that are added move no others. The span is
                // one of the batch.
                let (entry, new) = if unsafe { is_key(candidate, value_size, keys, span) } {
                    (candidate, false)
                } else {
                    match self.search(hash, keys.key(done), value_size) {
                        Search::Found(entry) => (entry, false),
                        Search::Added(entry) => (entry, true),
                        Search::Changed => continue 'groups,
                        Search::Starved => {
                            return Progress {
                                rows: done,
                                starved: true,
                            };
                        }
                    }
                };
                // SAFETY: the entry is in a live page with `value_size` bytes of value in line (`is_key` and
                // `search` check that), and the table is borrowed mutably: this is their only reference.
                let value = unsafe { slice::from_raw_parts_mut(entry.value(), value_size) };
                fold(done, value, new);
                done += 1;
            }
        }
        Progress {
            rows: done,
            starved: false,
        }
    }

    /// The value of a key.
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<Bytes<'_>> {
        let (_, entry, _) = self.find(hash, key)?;
        // SAFETY: the entry is in a live page, and the table is borrowed for the value's life.
        Some(unsafe { self.value_of(entry) })
    }

    /// Whether the table has a key.
    pub fn contains(&self, hash: u64, key: &[u8]) -> bool {
        self.find(hash, key).is_some()
    }

    /// Stores a value of any size for a key, in place of the one it has.
    ///
    /// # Panics
    /// Where key or value has 1 GiB or more.
    pub fn replace(&mut self, hash: u64, key: &[u8], value: &[u8]) -> Stored {
        assert!(
            key.len().max(value.len()) <= MOST_SIZE,
            "a key or value has less than 1 GiB"
        );
        let placement = self.placement(value.len(), key.len());
        loop {
            let old = self.find(hash, key);
            if let Some((_, entry, _)) = old {
                // SAFETY: the entry is in a live page that nothing else refers to.
                if unsafe { self.overwrite(entry, value, placement) } {
                    return Stored::Replaced;
                }
            }
            let size = self.size_of(placement, value.len(), key.len());
            let Some(page) = self.page_with_room(hash, size) else {
                if self.make_room(hash, size) {
                    continue;
                }
                return Stored::Starved;
            };
            let Some(parts) = self.write_parts(placement, value, key) else {
                return Stored::Starved;
            };
            if let Some((page, entry, slot)) = old {
                // SAFETY: `find` answered them, and nothing has changed since.
                unsafe { self.discard(page, entry, slot) };
            }
            // SAFETY: the page has room for the size; writing elsewhere and removing have not used it up.
            unsafe {
                let entry = self.layout.append(page, hash, size);
                entry.begin(hash, parts.0.word, parts.1.word);
                parts.1.write(entry.value());
                parts.0.write(entry.key());
            }
            self.entries += 1;
            return if old.is_some() {
                Stored::Replaced
            } else {
                Stored::New
            };
        }
    }

    /// Removes a key; false where it is not there. May give segments back.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> bool {
        let Some((page, entry, slot)) = self.find(hash, key) else {
            return false;
        };
        // SAFETY: `find` answered them; the header is read when nothing writes it.
        let (entries, live, dead) = unsafe {
            self.discard(page, entry, slot);
            let header = page.header();
            (
                header.entries,
                (header.heap_end - header.dead) as usize,
                header.dead as usize,
            )
        };
        if entries == 0 || live * 10 <= self.layout.page_size * 3 {
            self.shrink(hash, page, entries);
        } else if dead * 4 >= live + dead && dead * 16 >= self.layout.page_size {
            self.tidy(page, 0, 0);
        }
        true
    }

    /// Visits entries in the order of the directory's ranges, from where the cursor stands, at most `limit`
    /// of them, with hash, key and value; answers how many. The cursor says whether that was all.
    pub fn for_each_from(
        &self,
        cursor: &mut Cursor,
        limit: usize,
        mut visit: impl FnMut(u64, Bytes<'_>, Bytes<'_>),
    ) -> usize {
        let mut visited = 0;
        while !cursor.done && visited < limit {
            let page = self.directory.page_at(cursor);
            if page.is_none() {
                break;
            }
            // SAFETY: the page is live, and `visit` cannot change it: the table is borrowed.
            let whole = unsafe {
                self.layout.visit(page, cursor.slot as usize, |offset, entry| {
                    if visited == limit {
                        cursor.slot = offset as u32;
                        return false;
                    }
                    visited += 1;
                    visit(entry.hash(), self.key_of(entry), self.value_of(entry));
                    true
                })
            };
            if whole {
                cursor.link += 1;
                cursor.slot = 0;
            }
        }
        visited
    }

    /// Visits every entry.
    pub fn for_each(&self, visit: impl FnMut(u64, Bytes<'_>, Bytes<'_>)) {
        self.for_each_from(&mut Cursor::default(), usize::MAX, visit);
    }

    /// How many segments [`Self::drain_range`] would give back, at least: large entries come on top.
    pub fn segments_in_range(&self, prefix: u64, bits: u32) -> usize {
        self.directory.segments_in_range(prefix, bits)
    }

    /// Takes out all entries whose hash, after the skipped bits, begins with the `bits` bits of `prefix`;
    /// `take` gets hash, key and value of each. Pages wholly inside that range go back to the source; one
    /// that is wider keeps its other entries. Answers how many entries left.
    ///
    /// # Panics
    /// Where `prefix` has more than `bits` bits, or `bits` exceeds 32.
    pub fn drain_range(
        &mut self,
        prefix: u64,
        bits: u32,
        mut take: impl FnMut(u64, Bytes<'_>, Bytes<'_>),
    ) -> usize {
        assert!(
            bits <= 32 && prefix >> bits == 0,
            "prefix {prefix:#x} has more than {bits} bits"
        );
        let before = self.entries;
        let range = self.directory.range(prefix, bits);
        let mut at = range.start;
        while at < range.end {
            let (head, length) = self.directory.run(at);
            if !head.is_none() {
                self.drain_chain(head, prefix, bits, &mut take);
                self.directory.release_empty(self.directory.place_of(at));
            }
            at += length;
        }
        self.directory.trim();
        before - self.entries
    }

    /// Removes every entry and gives every segment back.
    pub fn clear(&mut self) {
        self.drain_range(0, 0, |_, _, _| {});
    }

    /// For each hash of a group the first entry with its tag in its home line, or none, up to the first hash
    /// whose range has no page; answers how many were looked up.
    #[inline(always)]
    fn candidates(&self, group: &[u64], found: &mut [Entry; GROUP]) -> usize {
        let lookup = self.directory.lookup();
        let mut homes = [(Page::NONE, ptr::null_mut::<u16>()); GROUP];
        let mut located = group.len();
        for (row, (&hash, home)) in group.iter().zip(&mut homes).enumerate() {
            // SAFETY: the lookup was made for this group, and the directory has not changed since; pages it
            // leads to are live.
            unsafe {
                let page = lookup.page::<false>(hash);
                if page.is_none() {
                    located = row;
                    break;
                }
                *home = (page, self.layout.home_line(page, hash));
            }
            prefetch(home.1.cast());
        }
        for ((&hash, &(page, line)), found) in group.iter().zip(&homes[..located]).zip(found.iter_mut()) {
            // SAFETY: the line is in the live page, and a slot with a tag has an entry.
            unsafe {
                let tags = equal_tags(line, tag(hash));
                *found = Entry::none();
                if tags != 0 {
                    *found = self.layout.entry(page, line, tags.trailing_zeros());
                    prefetch(found.0);
                    prefetch(found.0.wrapping_add(31));
                }
            }
        }
        located
    }

    /// The page, entry and slot of a key.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<(Page, Entry, *mut u16)> {
        let mut page = self.directory.page(hash);
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live and of this layout.
            unsafe {
                if let Some((entry, slot)) = self.layout.find(page, hash, |entry| self.key_equals(entry, key))
                {
                    return Some((page, entry, slot));
                }
                page = page.header().next;
            }
        }
        None
    }

    /// The entry of a key with a value of `value_size` bytes, added where there is none.
    #[inline(never)]
    fn search(&mut self, hash: u64, key: &[u8], value_size: usize) -> Search {
        if let Some((_, entry, _)) = self.find(hash, key) {
            // SAFETY: the entry is in a live page.
            let word = unsafe { entry.value_word() };
            assert!(
                word as usize == value_size,
                "the table has values of {} B, not {value_size} B",
                part_size(word)
            );
            return Search::Found(entry);
        }
        let whole = self.layout.entry_size(value_size, key.len());
        let placement = Placement {
            key_out: whole > self.layout.most_inline(),
            value_out: false,
        };
        let size = self.size_of(placement, value_size, key.len());
        let Some(page) = self.page_with_room(hash, size) else {
            return if self.make_room(hash, size) {
                Search::Changed
            } else {
                Search::Starved
            };
        };
        let Some(key) = self.write_part(placement.key_out, key) else {
            return Search::Starved;
        };
        // SAFETY: the page has room for the size, and writing the key elsewhere has not used it up.
        let entry = unsafe {
            let entry = self.layout.append(page, hash, size);
            entry.begin(hash, key.word, value_size as u32);
            entry.value().write_bytes(0, value_size);
            key.write(entry.key());
            entry
        };
        self.entries += 1;
        Search::Added(entry)
    }

    /// Which parts of an entry leave its page: none up to a quarter page, else the larger, else both.
    fn placement(&self, value: usize, key: usize) -> Placement {
        let most = self.layout.most_inline();
        if self.layout.entry_size(value, key) <= most {
            return Placement {
                key_out: false,
                value_out: false,
            };
        }
        let kept = self.layout.entry_size(size_of::<Page>(), value.min(key));
        let both = kept > most;
        Placement {
            key_out: both || key > value,
            value_out: both || key <= value,
        }
    }

    fn size_of(&self, placement: Placement, value: usize, key: usize) -> usize {
        let inline = |out: bool, size: usize| if out { size_of::<Page>() } else { size };
        self.layout
            .entry_size(inline(placement.value_out, value), inline(placement.key_out, key))
    }

    /// The first page of a chain that has room for an entry of `size` bytes.
    pub(super) fn page_with_room(&self, hash: u64, size: usize) -> Option<Page> {
        let mut page = self.directory.page(hash);
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live.
            unsafe {
                if self.layout.fits(page, size) {
                    return Some(page);
                }
                page = page.header().next;
            }
        }
        None
    }

    /// Writes a value over one that takes the same space; false where it does not.
    ///
    /// # Safety
    /// The entry is in a live page that nothing else refers to.
    unsafe fn overwrite(&mut self, entry: Entry, value: &[u8], placement: Placement) -> bool {
        // SAFETY: as the caller promises; the padded sizes are equal, so that the key stays where it is.
        unsafe {
            let (key, old) = (entry.key_word(), entry.value_word());
            let same = !placement.value_out
                && old & OUT_OF_LINE == 0
                && padded(part_size(old)) == padded(value.len())
                && (key & OUT_OF_LINE != 0) == placement.key_out;
            if same {
                entry.begin(entry.hash(), key, value.len() as u32);
                entry
                    .value()
                    .copy_from_nonoverlapping(value.as_ptr(), value.len());
            }
            same
        }
    }

    /// Writes the parts that are out of line, key first; nothing is left where there is no room for both.
    fn write_parts<'k>(
        &mut self,
        placement: Placement,
        value: &'k [u8],
        key: &'k [u8],
    ) -> Option<(Part<'k>, Part<'k>)> {
        let key = self.write_part(placement.key_out, key)?;
        match self.write_part(placement.value_out, value) {
            Some(value) => Some((key, value)),
            None => {
                if let PartAt::Chain(first) = key.at {
                    self.chains -= 1;
                    // SAFETY: the chain was made above, and no entry refers to it.
                    unsafe { self.directory.give_back_chain(first) };
                }
                None
            }
        }
    }

    fn write_part<'k>(&mut self, out: bool, bytes: &'k [u8]) -> Option<Part<'k>> {
        if !out {
            return Some(Part {
                word: bytes.len() as u32,
                at: PartAt::Here(bytes),
            });
        }
        let first = blob::write(&mut self.directory, bytes)?;
        self.chains += 1;
        Some(Part {
            word: bytes.len() as u32 | OUT_OF_LINE,
            at: PartAt::Chain(first),
        })
    }

    /// Removes an entry and what it has out of line.
    ///
    /// # Safety
    /// `find` has answered all three, and the page has not changed since.
    unsafe fn discard(&mut self, page: Page, entry: Entry, slot: *mut u16) {
        // SAFETY: as the caller promises.
        unsafe {
            free_parts(&mut self.directory, &mut self.chains, entry);
            self.layout.remove(page, entry, slot);
        }
        self.entries -= 1;
    }

    /// # Safety
    /// The entry is in a live page that is not written for `'t`.
    #[inline]
    pub(super) unsafe fn value_of<'t>(&self, entry: Entry) -> Bytes<'t> {
        // SAFETY: as the caller promises.
        unsafe { self.part(entry.value_word(), entry.value()) }
    }

    /// # Safety
    /// As for `value_of`.
    #[inline]
    pub(super) unsafe fn key_of<'t>(&self, entry: Entry) -> Bytes<'t> {
        // SAFETY: as the caller promises.
        unsafe { self.part(entry.key_word(), entry.key()) }
    }

    /// # Safety
    /// `word` and `at` are an entry's, and as for `value_of`.
    #[inline]
    unsafe fn part<'t>(&self, word: u32, at: *const u8) -> Bytes<'t> {
        // SAFETY: a part in line has its size at its place; one out of line has the address of its chain.
        unsafe {
            if word & OUT_OF_LINE == 0 {
                Bytes::here(slice::from_raw_parts(at, part_size(word)))
            } else {
                Bytes::chain(*at.cast::<Page>(), part_size(word), self.layout.page_size)
            }
        }
    }

    /// # Safety
    /// As for `value_of`.
    #[inline]
    unsafe fn key_equals(&self, entry: Entry, key: &[u8]) -> bool {
        // SAFETY: as the caller promises.
        unsafe { part_size(entry.key_word()) == key.len() && self.key_of(entry).equals(key) }
    }
}

impl Drop for ByteTable {
    fn drop(&mut self) {
        // Pages go with the directory; what entries have out of line is known to the entries alone.
        if self.chains > 0 {
            self.clear();
        }
    }
}

/// A part of an entry that is about to be written.
struct Part<'k> {
    word: u32,
    at: PartAt<'k>,
}

enum PartAt<'k> {
    Here(&'k [u8]),
    Chain(Page),
}

impl Part<'_> {
    /// # Safety
    /// `to` has room for the bytes, or for the address of their chain, and is aligned to 8.
    #[inline(always)]
    unsafe fn write(&self, to: *mut u8) {
        // SAFETY: as the caller promises.
        unsafe {
            match self.at {
                PartAt::Here(bytes) => to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()),
                PartAt::Chain(first) => to.cast::<Page>().write(first),
            }
        }
    }
}

/// Gives back what an entry has out of line.
///
/// # Safety
/// The entry is in a live page, and is not asked for its parts again.
pub(super) unsafe fn free_parts(directory: &mut Directory, chains: &mut usize, entry: Entry) {
    // SAFETY: as the caller promises; an address in an entry is its chain's only reference (I1).
    unsafe {
        for (word, at) in [
            (entry.key_word(), entry.key()),
            (entry.value_word(), entry.value()),
        ] {
            if word & OUT_OF_LINE != 0 {
                *chains -= 1;
                directory.give_back_chain(*at.cast::<Page>());
            }
        }
    }
}

/// Whether a candidate has the key at a span, in line and with a value of this size.
///
/// # Safety
/// The candidate is an entry of a live page, or none; the span is one of the batch.
#[inline(always)]
unsafe fn is_key(candidate: Entry, value_size: usize, keys: &KeyBatch<'_>, span: KeySpan) -> bool {
    // SAFETY: as the caller promises. Words equal to the sizes say that key and value are in line; 16 bytes can
    // be read where a stored key begins (byte page I2), and in the batch where it says that they can.
    unsafe {
        if candidate.words() != u64::from(span.size) | (value_size as u64) << 32 {
            return false;
        }
        let stored = candidate.0.add(ENTRY_HEADER + padded(value_size));
        let key = keys.at(span);
        if span.size <= 16 && keys.is_wide(span) {
            equal_short(stored, key.as_ptr(), key.len())
        } else {
            slice::from_raw_parts(stored, key.len()) == key
        }
    }
}
