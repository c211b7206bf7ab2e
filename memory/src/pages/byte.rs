//! The table of byte strings: keys of any size with values of one fixed size, or of any size.
//!
//! # Interface
//! Callers give each key's 64-bit hash. [`ByteTable::update_batch`] folds rows into values of one fixed size in
//! place; [`ByteTable::replace`] stores values of any size. A table is used in one of these ways, not both.
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
use super::page::{HEADER_SIZE, Page, prefetch};
use super::{Cursor, Progress};
use crate::hash::hash_u64;
use crate::segment::SegmentSource;
use std::sync::Arc;
use std::{ptr, slice};

/// Rows that go through the three steps together.
const GROUP: usize = 32;

/// The expected size of an entry while a table has not seen any.
const USUAL_ENTRY: usize = 40;

/// Limits of pages are spread over the last `1 / LIMIT_SPREAD` of their bytes, as in the line table.
const LIMIT_SPREAD: usize = 4;

/// Pages whose entries share this many bits more are chained instead of split.
const MOST_COMMON_BITS: u32 = 8;

/// A table from byte strings to byte strings. See the [module](self) for how it is used.
pub struct ByteTable {
    directory: Directory,
    layout: Layout,
    entries: usize,
    /// Parts of entries that are out of line.
    chains: usize,
    /// The size of an entry when a page last split.
    usual: usize,
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

    /// Calls `visit` for each key in order with the row's number and its value, where there is one.
    #[inline]
    pub fn probe_batch<'t>(
        &'t self,
        keys: &KeyBatch<'_>,
        hashes: &[u64],
        mut visit: impl FnMut(usize, Option<Bytes<'t>>),
    ) {
        let hashes = &hashes[..keys.len()];
        let mut found = [Entry::none(); GROUP];
        let mut done = 0;
        while done < hashes.len() {
            let group = &hashes[done..hashes.len().min(done + GROUP)];
            let located = self.candidates(group, &mut found);
            if located == 0 {
                visit(done, None);
                done += 1;
                continue;
            }
            for (&hash, &candidate) in group.iter().zip(&found[..located]) {
                let key = keys.key(done);
                // SAFETY: candidates are entries of live pages, borrowed for `'t`.
                let value = unsafe {
                    if self.key_equals(candidate, key) {
                        Some(self.value_of(candidate))
                    } else {
                        self.find(hash, key).map(|(_, entry, _)| self.value_of(entry))
                    }
                };
                visit(done, value);
                done += 1;
            }
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
                let page = lookup.page(hash);
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
    fn find(&self, hash: u64, key: &[u8]) -> Option<(Page, Entry, *mut u16)> {
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
    fn page_with_room(&self, hash: u64, size: usize) -> Option<Page> {
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
    unsafe fn value_of<'t>(&self, entry: Entry) -> Bytes<'t> {
        // SAFETY: as the caller promises.
        unsafe { self.part(entry.value_word(), entry.value()) }
    }

    /// # Safety
    /// As for `value_of`.
    #[inline]
    unsafe fn key_of<'t>(&self, entry: Entry) -> Bytes<'t> {
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

    /// Room for an entry of `size` bytes where no page of its chain has any; true where pages have changed.
    #[cold]
    fn make_room(&mut self, hash: u64, size: usize) -> bool {
        let head = self.directory.page(hash);
        if head.is_none() {
            return self.open_page(hash);
        }
        if self.tidy_chain(head, size, self.layout.page_size / 16) {
            return true;
        }
        // SAFETY: pages that the directory leads to are live.
        let depth = unsafe { head.header() }.depth;
        let common = self.common_bits(head, depth);
        let grown = if common < MOST_COMMON_BITS && self.directory.may_reach(depth + common + 1) {
            self.split(hash, head, common)
        } else {
            self.lengthen(head)
        };
        if grown {
            return true;
        }
        let mut page = head;
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live, and nobody holds their header.
            let header = unsafe { page.header_mut() };
            header.limit = self.layout.page_size as u32;
            page = header.next;
        }
        self.page_with_room(hash, size).is_some() || self.tidy_chain(head, size, 0)
    }

    /// Compacts the first page of a chain where that makes room for an entry and `margin` bytes more.
    fn tidy_chain(&mut self, head: Page, size: usize, margin: usize) -> bool {
        let mut page = head;
        while !page.is_none() {
            if self.tidy(page, size, margin) {
                return true;
            }
            // SAFETY: pages that the directory leads to are live.
            page = unsafe { page.header() }.next;
        }
        false
    }

    /// Compacts a page, with slot lines that suit its entries, where that makes room.
    fn tidy(&mut self, page: Page, size: usize, margin: usize) -> bool {
        // SAFETY: pages that the directory leads to are live, and nothing refers to this one's entries.
        unsafe {
            let header = page.header();
            let live = (header.heap_end - header.dead) as usize - HEADER_SIZE;
            let limit = header.limit as usize;
            let lines = self
                .layout
                .lines_for(header.entries as usize, live, size, self.usual);
            let fits = self.layout.would_fit(page, size + margin, lines, limit);
            if fits {
                self.layout.compact(page, |_| true, |_, _| lines);
            }
            fits
        }
    }

    /// How many bits after the first `depth` all entries of a chain share.
    fn common_bits(&self, head: Page, depth: u32) -> u32 {
        let (mut first, mut differing) = (None, 0);
        let mut page = head;
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live, and nothing is moved.
            unsafe {
                self.layout.visit(page, 0, |_, entry| {
                    let bits = self.directory.place(entry.hash()) << depth;
                    differing |= bits ^ *first.get_or_insert(bits);
                    differing >> 63 == 0
                });
                page = page.header().next;
            }
        }
        differing.leading_zeros()
    }

    /// Splits a page, or each page of a chain, by its next bit; false where there are not the segments for it.
    fn split(&mut self, hash: u64, head: Page, common: u32) -> bool {
        // SAFETY: pages that the directory leads to are live.
        let depth = unsafe { head.header() }.depth;
        if depth == self.directory.depth() && !self.directory.deepen() {
            return false;
        }
        let bit = 1 << (63 - depth);
        let lower = self.directory.place(hash) & !(bit | (bit - 1));
        if common > 0 {
            // All on one side: the other becomes an empty range.
            let side = self.first_place(head) & bit;
            let head = self.directory.unlink(lower);
            self.directory.link(head, lower | side, depth + 1);
            return true;
        }
        // A fresh page for each page of the chain, all or none.
        let (mut fresh, mut page) = (Page::NONE, head);
        while !page.is_none() {
            let Some(another) = self.fresh_page(lower | bit, depth + 1) else {
                // SAFETY: the pages were just taken and are linked nowhere.
                unsafe { self.directory.give_back_chain(fresh) };
                return false;
            };
            // SAFETY: both pages are live.
            unsafe {
                another.header_mut().next = fresh;
                page = page.header().next;
            }
            fresh = another;
        }
        let head = self.directory.unlink(lower);
        let (layout, directory) = (self.layout, &self.directory);
        let is_upper = |entry: Entry| {
            // SAFETY: the entries asked for are in live pages.
            directory.place(unsafe { entry.hash() }) & bit != 0
        };
        let mut usual = self.usual;
        let (mut from, mut to) = (head, fresh);
        while !from.is_none() {
            // SAFETY: all these pages are live and owned by this function. Neither half has more entries or
            // bytes than the whole had, which had its slot lines in the same space.
            unsafe {
                let whole = from.header();
                usual = whole.heap_end as usize / whole.entries.max(1) as usize;
                let lines = |entries, bytes| layout.lines_for(entries, bytes, 0, usual);
                layout.append_from(to, from, is_upper);
                let upper = to.header();
                let upper_lines = lines(upper.entries as usize, upper.heap_end as usize - HEADER_SIZE);
                layout.rebuild(to, upper_lines);
                layout.compact(from, |entry| !is_upper(entry), lines);
                (from, to) = (from.header().next, to.header().next);
            }
        }
        self.usual = usual.clamp(ENTRY_HEADER + 8, self.layout.most_inline());
        // SAFETY: the page is live and owned by this function until it is linked.
        unsafe {
            if head.header().next.is_none() {
                head.header_mut().limit = self.limit(lower, depth + 1);
            }
        }
        for (place, page) in [(lower, head), (lower | bit, fresh)] {
            self.directory.link(page, place, depth + 1);
            self.directory.release_empty(place);
        }
        true
    }

    /// The place of the first entry of a chain.
    fn first_place(&self, head: Page) -> u64 {
        let mut place = 0;
        let mut page = head;
        let mut searching = true;
        while searching && !page.is_none() {
            // SAFETY: pages that the directory leads to are live.
            unsafe {
                searching = self.layout.visit(page, 0, |_, entry| {
                    place = self.directory.place(entry.hash());
                    false
                });
                page = page.header().next;
            }
        }
        place
    }

    /// Adds a page to a chain; false where there is none.
    fn lengthen(&mut self, head: Page) -> bool {
        let Some(page) = self.fresh_page(0, 0) else {
            return false;
        };
        // SAFETY: both pages are live, and the head stays where it is linked.
        unsafe {
            page.header_mut().limit = self.layout.page_size as u32;
            page.header_mut().next = head.header().next;
            head.header_mut().next = page;
        }
        true
    }

    /// An empty page for the range around a hash that has none.
    fn open_page(&mut self, hash: u64) -> bool {
        let place = self.directory.place(hash);
        let depth = self.directory.depth_of_hole(place);
        let Some(page) = self.fresh_page(place, depth) else {
            return false;
        };
        self.directory.link(page, place, depth);
        true
    }

    /// An empty page, not linked yet, with the limit of this range.
    fn fresh_page(&mut self, place: u64, depth: u32) -> Option<Page> {
        let page = self.directory.take_page()?;
        // SAFETY: the page was just taken, so it is live and nobody else refers to it.
        unsafe {
            self.layout
                .clear(page, self.layout.lines_for(0, 0, 0, self.usual));
            page.header_mut().limit = self.limit(place, depth);
        }
        Some(page)
    }

    /// How many bytes the page of a range takes before it splits.
    fn limit(&self, place: u64, depth: u32) -> u32 {
        let prefix = if depth == 0 { 0 } else { place >> (64 - depth) };
        let spread = (self.layout.page_size / LIMIT_SPREAD) as u64;
        (self.layout.page_size as u64 - (((hash_u64(prefix + (1 << depth)) >> 32) * spread) >> 32)) as u32
    }

    /// After a removal that left `entries` in `page`, of the range of `hash`: gives back an empty page, merges
    /// a page with its buddy while they fit together, halves the directory.
    #[cold]
    fn shrink(&mut self, hash: u64, page: Page, entries: u32) {
        let place = self.directory.place(hash);
        if entries == 0 {
            self.directory.release_empty(place);
        } else {
            // SAFETY: the page is live and has been asked for nothing since.
            let (heap, dead) = unsafe { (page.header().heap_end, page.header().dead) };
            if dead * 2 >= heap && dead as usize * 16 >= self.layout.page_size {
                self.tidy(page, 0, 0);
            }
        }
        while self.merge(place) {}
        self.directory.trim();
    }

    /// Merges the page of a place with its buddy, where there are two of the same depth without chains and
    /// together they stay under 60 % of the merged page's limit. An empty buddy needs no room.
    fn merge(&mut self, place: u64) -> bool {
        let (page, _) = self.directory.run(self.directory.entry_of(place));
        if page.is_none() {
            return false;
        }
        // SAFETY: pages that the directory leads to are live.
        let header = unsafe { page.header() };
        let (depth, live) = (header.depth, (header.heap_end - header.dead) as usize);
        if depth == 0 || !header.next.is_none() {
            return false;
        }
        let bit = 1u64 << (64 - depth);
        let limit = self.limit(place, depth - 1);
        let buddy = if self.directory.is_hole(place ^ bit, depth) {
            Page::NONE
        } else {
            let (buddy, _) = self.directory.run(self.directory.entry_of(place ^ bit));
            if buddy.is_none() {
                return false;
            }
            // SAFETY: as above.
            let other = unsafe { buddy.header() };
            let together = live + (other.heap_end - other.dead) as usize;
            let lines = (header.entries + other.entries) as usize / 8 * super::byte_page::LINE_SIZE;
            if other.depth != depth || !other.next.is_none() || (together + lines) * 10 > limit as usize * 6 {
                return false;
            }
            self.directory.unlink(place ^ bit)
        };
        let page = self.directory.unlink(place);
        let (layout, usual) = (self.layout, self.usual);
        // SAFETY: the pages are live and owned by this function; their entries fit in one.
        unsafe {
            if !buddy.is_none() {
                let lines = |entries, bytes| layout.lines_for(entries, bytes, 0, usual);
                layout.compact(page, |_| true, lines);
                layout.append_from(page, buddy, |_| true);
                let whole = page.header();
                let all_lines = lines(whole.entries as usize, whole.heap_end as usize - HEADER_SIZE);
                layout.rebuild(page, all_lines);
                self.directory.give_back(buddy);
            }
            page.header_mut().limit = limit;
        }
        self.directory.link(page, place, depth - 1);
        true
    }

    /// Gives the entries of a chain that have a prefix to `take`, then removes them. Nothing changes before
    /// `take` has had all: it may panic.
    fn drain_chain(
        &mut self,
        head: Page,
        prefix: u64,
        bits: u32,
        take: &mut impl FnMut(u64, Bytes<'_>, Bytes<'_>),
    ) {
        let (layout, skip_bits) = (self.layout, self.directory.skip_bits());
        let leaves = |hash: u64| bits == 0 || (hash << skip_bits) >> (64 - bits) == prefix;
        let mut page = head;
        while !page.is_none() {
            // SAFETY: as above, and `take` cannot reach the pages: the table is borrowed mutably.
            unsafe {
                layout.visit(page, 0, |_, entry| {
                    if leaves(entry.hash()) {
                        take(entry.hash(), self.key_of(entry), self.value_of(entry));
                    }
                    true
                });
                page = page.header().next;
            }
        }
        let mut page = head;
        while !page.is_none() {
            // SAFETY: as above; parts out of line go with their entry, which does not stay.
            unsafe {
                let before = page.header().entries;
                let (directory, chains) = (&mut self.directory, &mut self.chains);
                layout.compact(
                    page,
                    |entry| {
                        let leaves = leaves(entry.hash());
                        if leaves {
                            free_parts(directory, chains, entry);
                        }
                        !leaves
                    },
                    |entries, bytes| layout.lines_for(entries, bytes, 0, self.usual),
                );
                self.entries -= (before - page.header().entries) as usize;
                page = page.header().next;
            }
        }
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
unsafe fn free_parts(directory: &mut Directory, chains: &mut usize, entry: Entry) {
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
