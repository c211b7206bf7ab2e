//! The directory of a table: from the top bits of a hash to the page that has its entries.
//!
//! # Algorithm
//! Extendible hashing. With `depth` bits there are 2^depth entries of eight bytes; a page whose own depth is
//! smaller fills a run of 2^(depth - own) entries. Splitting a page divides its run; a page with a run of one
//! entry first doubles the directory. An entry may be empty: a range whose pages were spilled costs nothing.
//! A *place* is a hash with the skipped bits shifted out, so that places order as the directory does.
//!
//! # Memory
//! Up to 64 entries live in a small vector; more live in segments (chunks), and only the list of those, 40
//! bytes for 4,096 entries of 32 KiB pages, is on the heap. Doubling takes as many segments as there are
//! chunks, or fails and changes nothing.
//!
//! # Invariants
//! I1. Every run is aligned to its length and filled with one page, or is empty (`link`, `unlink`).
//! I2. `deepest` counts the linked pages whose depth is the directory's; at zero every pair of entries is
//!     equal and the directory can halve.
//!
//! # Cost
//! Doubling copies eight bytes for each entry: 0.3 ms at 4 GiB of 32 KiB pages.

use super::Cursor;
use super::page::Page;
use crate::segment::{Segment, SegmentSource};
use std::ptr;
use std::sync::Arc;

/// Directories up to this depth are a vector on the heap: a table with few keys takes no segment for it.
const ROOT_DEPTH: u32 = 6;

/// A directory holds at most this many entries for each page, so that it stays a small part of the table:
/// hashes that agree in more bits than this allows go to overflow chains.
const MOST_ENTRIES_PER_PAGE: usize = 64;

/// No directory is deeper: home lines are taken from the 32 low bits of the hash.
const MOST_DEPTH: u32 = 30;

/// Which page has a hash, how many pages there are, and where they come from.
pub(super) struct Directory {
    source: Arc<dyn SegmentSource>,
    page_size: usize,
    skip_bits: u32,
    depth: u32,
    /// The binary logarithm of the entries in one chunk.
    chunk_bits: u32,
    /// Where each chunk's entries begin, or where the root's do.
    bases: Vec<*mut Page>,
    root: Vec<Page>,
    chunks: Vec<Segment>,
    pages: usize,
    deepest: usize,
}

// SAFETY: the directory owns the pages that its entries lead to, and segments and sources are `Send`.
unsafe impl Send for Directory {}
// SAFETY: through a shared directory pages are only read.
unsafe impl Sync for Directory {}

/// The directory's numbers for one batch, in registers.
#[derive(Clone, Copy)]
pub(super) struct Lookup {
    bases: *const *mut Page,
    shift: u32,
    mask: u64,
    chunk_bits: u32,
    chunk_mask: usize,
}

impl Directory {
    pub(super) fn new(source: Arc<dyn SegmentSource>, skip_bits: u32) -> Self {
        let page_size = source.segment_size();
        assert!(
            page_size >= 4096 && page_size.is_power_of_two(),
            "segments are powers of two from 4 KiB up"
        );
        assert!(
            skip_bits < 48,
            "at least 16 bits of the hash are left for the directory"
        );
        let mut root = vec![Page::NONE];
        let bases = vec![root.as_mut_ptr()];
        let chunk_bits = (page_size / size_of::<Page>()).ilog2();
        Directory {
            source,
            page_size,
            skip_bits,
            depth: 0,
            chunk_bits,
            bases,
            root,
            chunks: Vec::new(),
            pages: 0,
            deepest: 0,
        }
    }

    /// What a batch needs to find pages; stale as soon as the directory's depth changes.
    #[inline(always)]
    pub(super) fn lookup(&self) -> Lookup {
        Lookup {
            bases: self.bases.as_ptr(),
            shift: (64 - self.skip_bits - self.depth).min(63),
            mask: (1 << self.depth) - 1,
            chunk_bits: self.chunk_bits,
            chunk_mask: (1 << self.chunk_bits) - 1,
        }
    }

    /// The page of a hash.
    #[inline(always)]
    pub(super) fn page(&self, hash: u64) -> Page {
        // SAFETY: the lookup is fresh.
        unsafe { self.lookup().page::<false>(hash) }
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(super) fn skip_bits(&self) -> u32 {
        self.skip_bits
    }

    pub(super) fn segments(&self) -> usize {
        self.pages + self.chunks.len()
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// The hash without the bits that the table skips, at the top of the word.
    #[inline(always)]
    pub(super) fn place(&self, hash: u64) -> u64 {
        hash << self.skip_bits
    }

    /// The directory's entries for the places that begin with the `bits` bits of `prefix`.
    pub(super) fn range(&self, prefix: u64, bits: u32) -> std::ops::Range<usize> {
        if bits <= self.depth {
            let first = (prefix as usize) << (self.depth - bits);
            first..first + (1 << (self.depth - bits))
        } else {
            let entry = (prefix >> (bits - self.depth)) as usize;
            entry..entry + 1
        }
    }

    /// The first place of a directory entry.
    pub(super) fn place_of(&self, entry: usize) -> u64 {
        if self.depth == 0 {
            0
        } else {
            (entry as u64) << (64 - self.depth)
        }
    }

    /// The directory entry of a place.
    pub(super) fn entry_of(&self, place: u64) -> usize {
        if self.depth == 0 {
            0
        } else {
            (place >> (64 - self.depth)) as usize
        }
    }

    /// The page at a directory entry, and how many entries from here on belong to it.
    pub(super) fn run(&self, entry: usize) -> (Page, usize) {
        let page = self.read(entry);
        if page.is_none() {
            return (page, 1);
        }
        // SAFETY: linked pages are live, and nobody holds their header while the directory is asked.
        let length = 1 << (self.depth - unsafe { page.header() }.depth);
        (page, length - entry % length)
    }

    pub(super) fn entry_count(&self) -> usize {
        1 << self.depth
    }

    /// A page of its own for the caller to link or chain, or none where the source is dry.
    pub(super) fn take_page(&mut self) -> Option<Page> {
        let segment = self.source.try_take()?;
        assert_eq!(
            segment.len(),
            self.page_size,
            "a source hands out segments of one size"
        );
        self.pages += 1;
        Some(Page::adopt(segment))
    }

    /// Gives a page's segment back.
    ///
    /// # Safety
    /// The page is live, taken from this directory, and neither linked nor chained any more.
    pub(super) unsafe fn give_back(&mut self, page: Page) {
        self.pages -= 1;
        // SAFETY: as the caller promises.
        unsafe { page.release() }
    }

    /// Gives back a page and all that follow it in its chain.
    ///
    /// # Safety
    /// As for `give_back`, for the first page of a chain.
    pub(super) unsafe fn give_back_chain(&mut self, mut page: Page) {
        while !page.is_none() {
            // SAFETY: the page is live until it is given back; its `next` is read first.
            let next = unsafe { page.header() }.next;
            // SAFETY: as the caller promises, and pages of a chain have no other reference (page I2).
            unsafe { self.give_back(page) };
            page = next;
        }
    }

    /// Makes `page` the page of all places that share the first `depth` bits of `place`. The directory is at
    /// least that deep.
    pub(super) fn link(&mut self, page: Page, place: u64, depth: u32) {
        // SAFETY: the caller has just taken or unlinked the page, so it is live and nobody holds its header.
        unsafe { page.header_mut() }.depth = depth;
        self.deepest += usize::from(depth == self.depth);
        self.fill(place, depth, page);
    }

    /// Empties the run of the page that has `place`, and answers the page; the caller owns it now.
    pub(super) fn unlink(&mut self, place: u64) -> Page {
        let page = self.read(self.entry_of(place));
        // SAFETY: linked pages are live, and nobody holds a header while the directory changes.
        let depth = unsafe { page.header() }.depth;
        self.deepest -= usize::from(depth == self.depth);
        self.fill(place, depth, Page::NONE);
        page
    }

    /// Gives back the empty pages of the chain of a place.
    pub(super) fn release_empty(&mut self, place: u64) {
        let head = self.unlink(place);
        let (mut first, mut last, mut page) = (Page::NONE, Page::NONE, head);
        // SAFETY: the chain is unlinked, so its pages are live and owned by this function; one that is given
        // back is not in the new chain.
        unsafe {
            let depth = head.header().depth;
            while !page.is_none() {
                let (next, entries) = (page.header().next, page.header().entries);
                if entries == 0 {
                    self.give_back(page);
                } else {
                    page.header_mut().next = Page::NONE;
                    if first.is_none() {
                        first = page;
                    } else {
                        last.header_mut().next = page;
                    }
                    last = page;
                }
                page = next;
            }
            if !first.is_none() {
                self.link(first, place, depth);
            }
        }
    }

    /// How many pages, chains included, lie wholly inside the range of a prefix.
    pub(super) fn segments_in_range(&self, prefix: u64, bits: u32) -> usize {
        let range = self.range(prefix, bits);
        let mut entry = range.start;
        let mut pages = 0;
        while entry < range.end {
            let (head, length) = self.run(entry);
            // SAFETY: pages that the directory leads to are live.
            if !head.is_none() && unsafe { head.header() }.depth >= bits {
                let mut page = head;
                while !page.is_none() {
                    pages += 1;
                    // SAFETY: as above, and so are those that follow in the chain.
                    page = unsafe { page.header() }.next;
                }
            }
            entry += length;
        }
        pages
    }

    /// The page where a cursor stands, moved on over empty ranges and ends of chains; none, and the cursor is
    /// done, where nothing follows.
    pub(super) fn page_at(&self, cursor: &mut Cursor) -> Page {
        loop {
            let (mut page, length) = self.run(self.entry_of(cursor.place));
            for _ in 0..cursor.link {
                if !page.is_none() {
                    // SAFETY: pages that the directory leads to are live.
                    page = unsafe { page.header() }.next;
                }
            }
            if !page.is_none() {
                return page;
            }
            let next = self.entry_of(cursor.place) + length;
            (cursor.link, cursor.slot) = (0, 0);
            if next >= self.entry_count() {
                cursor.done = true;
                return page;
            }
            cursor.place = self.place_of(next);
        }
    }

    /// How many bits the empty run around `place` shares: the depth a page put there would have.
    pub(super) fn depth_of_hole(&self, place: u64) -> u32 {
        let entry = self.entry_of(place);
        let mut bits = 0;
        while bits < self.depth {
            let buddy = ((entry >> bits) ^ 1) << bits;
            if !self.is_hole(self.place_of(buddy), self.depth - bits) {
                break;
            }
            bits += 1;
        }
        self.depth - bits
    }

    /// Whether no place that shares the first `depth` bits of `place` has a page.
    pub(super) fn is_hole(&self, place: u64, depth: u32) -> bool {
        let length = 1 << (self.depth - depth);
        let first = self.entry_of(place) & !(length - 1);
        (first..first + length).all(|entry| self.read(entry).is_none())
    }

    /// Whether a page may have this depth: the directory must not outgrow its pages.
    pub(super) fn may_reach(&self, depth: u32) -> bool {
        depth <= self.depth
            || (depth <= MOST_DEPTH.min(63 - self.skip_bits)
                && 1usize << depth <= self.pages.max(4) * MOST_ENTRIES_PER_PAGE)
    }

    /// Doubles the directory; false where the source has not the segments for it.
    pub(super) fn deepen(&mut self) -> bool {
        let entries = self.entry_count();
        if self.depth < ROOT_DEPTH {
            self.root = self.root.iter().flat_map(|&page| [page, page]).collect();
            self.bases[0] = self.root.as_mut_ptr();
        } else if self.chunks.is_empty() {
            let Some(chunk) = self.take_chunk() else {
                return false;
            };
            for (entry, &page) in self.root.iter().enumerate() {
                // SAFETY: a chunk has 512 entries or more; the root has 64.
                unsafe { write_pair(chunk.1, entry, page) };
            }
            self.chunks.push(chunk.0);
            self.bases[0] = chunk.1;
            self.root = Vec::new();
        } else if self.depth < self.chunk_bits {
            // SAFETY: the one chunk has room for twice the entries, and the upper half is written first, so
            // that nothing is overwritten before it is read.
            unsafe { spread(self.bases[0], self.bases[0], 0, entries) };
        } else {
            let mut fresh = Vec::with_capacity(self.chunks.len());
            while fresh.len() < self.chunks.len() {
                let Some(chunk) = self.take_chunk() else {
                    return false;
                };
                fresh.push(chunk);
            }
            let half = 1 << (self.chunk_bits - 1);
            let (chunks, bases) = (std::mem::take(&mut self.chunks), std::mem::take(&mut self.bases));
            for ((chunk, base), (upper_chunk, upper)) in chunks.into_iter().zip(bases).zip(fresh) {
                // SAFETY: both chunks have 2 * half entries; the upper half leaves before the lower half,
                // spread from its end, writes over it.
                unsafe {
                    spread(base, upper, half, half);
                    spread(base, base, 0, half);
                }
                self.chunks.extend([chunk, upper_chunk]);
                self.bases.extend([base, upper]);
            }
        }
        self.depth += 1;
        self.deepest = 0;
        true
    }

    /// Halves the directory for as long as no page needs its last bit; gives segments back.
    pub(super) fn trim(&mut self) {
        if self.pages == 0 {
            self.depth = 0;
            self.root = vec![Page::NONE];
            self.bases = vec![self.root.as_mut_ptr()];
            self.chunks = Vec::new();
            return;
        }
        while self.deepest == 0 && self.depth > 0 {
            self.halve();
        }
    }

    /// Every second entry goes: with no page as deep as the directory, pairs of entries are equal (I2).
    fn halve(&mut self) {
        let entries = self.entry_count() / 2;
        if self.depth <= ROOT_DEPTH {
            self.root = self.root.iter().copied().step_by(2).collect();
            self.bases[0] = self.root.as_mut_ptr();
        } else if self.depth == ROOT_DEPTH + 1 {
            self.root = (0..entries).map(|entry| self.read(2 * entry)).collect();
            self.bases = vec![self.root.as_mut_ptr()];
            self.chunks = Vec::new();
        } else {
            for entry in 0..entries {
                let page = self.read(2 * entry);
                self.write(entry, page);
            }
            let chunks = entries.div_ceil(1 << self.chunk_bits);
            self.bases.truncate(chunks);
            self.chunks.truncate(chunks);
        }
        self.depth -= 1;
        self.deepest = 0;
        let mut entry = 0;
        while entry < entries {
            let (page, length) = self.run(entry);
            self.deepest += usize::from(!page.is_none() && length == 1);
            entry += length;
        }
    }

    fn take_chunk(&self) -> Option<(Segment, *mut Page)> {
        let mut segment = self.source.try_take()?;
        let base = segment.as_mut_ptr().cast();
        Some((segment, base))
    }

    fn fill(&mut self, place: u64, depth: u32, page: Page) {
        let length = 1 << (self.depth - depth);
        let first = self.entry_of(place) & !(length - 1);
        for entry in first..first + length {
            self.write(entry, page);
        }
    }

    fn read(&self, entry: usize) -> Page {
        assert!(entry < self.entry_count(), "a directory entry is below 2^depth");
        // SAFETY: the entry exists, and all entries of chunks and root below 2^depth are initialized.
        unsafe { *self.bases[entry >> self.chunk_bits].add(entry & ((1 << self.chunk_bits) - 1)) }
    }

    fn write(&mut self, entry: usize, page: Page) {
        assert!(entry < self.entry_count(), "a directory entry is below 2^depth");
        // SAFETY: as in `read`, and the directory is borrowed mutably.
        unsafe { *self.bases[entry >> self.chunk_bits].add(entry & ((1 << self.chunk_bits) - 1)) = page }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let mut entry = 0;
        while entry < self.entry_count() {
            let (page, length) = self.run(entry);
            // SAFETY: linked pages are live and owned by the directory; each run is met once, and nothing
            // reads the entries afterwards.
            unsafe { self.give_back_chain(page) };
            entry += length;
        }
    }
}

impl Lookup {
    /// Whether all entries lie one after the other, which spares a probe one load: up to 4,096 entries where
    /// pages have 32 KiB.
    #[inline(always)]
    pub(super) fn is_flat(self) -> bool {
        self.mask <= self.chunk_mask as u64
    }

    /// The page of a hash, perhaps none. `FLAT` says what `is_flat` has answered.
    ///
    /// # Safety
    /// The directory has not changed its depth since it made this lookup, and is flat where `FLAT` says so.
    #[inline(always)]
    pub(super) unsafe fn page<const FLAT: bool>(self, hash: u64) -> Page {
        let entry = ((hash >> self.shift) & self.mask) as usize;
        // SAFETY: the entry is below 2^depth, so its chunk exists and it is initialized.
        unsafe {
            if FLAT {
                *(*self.bases).add(entry)
            } else {
                let base = *self.bases.add(entry >> self.chunk_bits);
                *base.add(entry & self.chunk_mask)
            }
        }
    }
}

/// Writes the `count` entries from `first` on of `from` twice each to the start of `to`, from the end.
///
/// # Safety
/// `from` has the entries, `to` has room for twice as many; where they are one chunk, `first` is 0.
unsafe fn spread(from: *mut Page, to: *mut Page, first: usize, count: usize) {
    for entry in (0..count).rev() {
        // SAFETY: as the caller promises; in one chunk entry `e` is read before `2e` and `2e + 1` are
        // written, and those are not read again unless `e` is 0.
        unsafe { write_pair(to, entry, ptr::read(from.add(first + entry))) };
    }
}

/// Writes `page` to the entries 2 × `entry` and 2 × `entry` + 1.
///
/// # Safety
/// `to` has those entries.
unsafe fn write_pair(to: *mut Page, entry: usize, page: Page) {
    // SAFETY: as the caller promises.
    unsafe {
        to.add(2 * entry).write(page);
        to.add(2 * entry + 1).write(page);
    }
}
