//! How a byte table grows and shrinks: compaction, splits, overflow chains, merges, draining.
//!
//! # Invariants
//! I1. Every page is reachable from the directory when user code runs: a closure may panic, and the pages must
//!     still be found and given back.

use super::blob::Bytes;
use super::byte::{ByteTable, free_parts};
use super::byte_page::{ENTRY_HEADER, Entry, LINE_SIZE};
use super::page::{HEADER_SIZE, Page};
use crate::hash::hash_u64;

/// Limits of pages are spread over the last `1 / LIMIT_SPREAD` of their bytes, as in the line table.
const LIMIT_SPREAD: usize = 4;

/// Pages whose entries share this many bits more are chained instead of split.
const MOST_COMMON_BITS: u32 = 8;

impl ByteTable {
    /// Room for an entry of `size` bytes where no page of its chain has any; true where pages have changed.
    #[cold]
    pub(super) fn make_room(&mut self, hash: u64, size: usize) -> bool {
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
    pub(super) fn tidy(&mut self, page: Page, size: usize, margin: usize) -> bool {
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
    pub(super) fn open_page(&mut self, hash: u64) -> bool {
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
    pub(super) fn shrink(&mut self, hash: u64, page: Page, entries: u32) {
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
            let lines = (header.entries + other.entries) as usize / 8 * LINE_SIZE;
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
    pub(super) fn drain_chain(
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
