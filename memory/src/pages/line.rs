//! The table of 64-bit keys: fixed small entries in lines, one cache line for each probe.
//!
//! # Interface
//! Callers pass hashes, never keys: [`hash_u64`](crate::hash::hash_u64) is a bijection, so the hash is kept in
//! the key's place and a split never hashes again. [`LineTable::update_batch`] folds rows into their entries'
//! lanes; where it reports starvation the caller gives memory back ([`LineTable::drain_range`], or another
//! holder) and goes on from the row it names.
//!
//! # Algorithm
//! 1. A batch goes in groups of 64 rows: find and prefetch the home bucket of each, then probe each.
//! 2. A page that reaches its limit splits by the next bit of the hash: entries with that bit move to a fresh
//!    page, the others close the gaps. Limits are spread by the page's prefix, since uniform hashes would
//!    otherwise fill all pages in step and split them all at once. When the source is dry a page goes on to
//!    its full capacity before the table reports starvation.
//! 3. Hashes that agree in the next 8 bits as well, or in more bits than the directory may have, do not split:
//!    the page gets an overflow chain.
//! 4. The hash 0 has a slot of its own, since 0 marks a free slot in a page.
//! 5. A removal closes its gap at once; a page merges with its buddy when both fit in 60 % of one.
//!
//! # Memory
//! No segment while empty; then one for each page, and the directory's. Pages are between 3/8 and 3/4 full.
//!
//! # Cost
//! One cache line for each probe, fetched ahead. A split costs about 8 µs, once in about 700 new keys of
//! a 32 KiB page.

use super::directory::{Directory, Lookup};
use super::line_page::{Shape, Slot, bucket_size, equal_keys};
use super::page::{Page, prefetch};
use super::{Cursor, Progress};
use crate::hash::hash_u64;
use crate::segment::SegmentSource;
use std::sync::Arc;
use std::{ptr, slice};

/// Rows that are located before the first of them is probed: 16 to 128 differ by under 10 %.
const GROUP: usize = 64;

/// The most lanes of an entry.
pub const MOST_LANES: usize = 16;

/// Limits of pages are spread over the last `1 / LIMIT_SPREAD` of their capacity. A wider spread makes splits
/// more even over time and pages emptier: half costs 25 % more memory than a quarter.
const LIMIT_SPREAD: u32 = 4;

/// Pages whose entries share this many bits more are chained instead of split.
const MOST_COMMON_BITS: u32 = 8;

/// Stands for a number of lanes that is not known when the kernel is compiled.
const DYNAMIC: usize = usize::MAX;

/// A table from 64-bit hashes to `lanes` 64-bit values. See the [module](self) for how it is used.
pub struct LineTable {
    directory: Directory,
    shape: Shape,
    /// Entries in pages.
    entries: usize,
    /// The values of the hash 0, and whether it is there.
    zero: ([u64; MOST_LANES], bool),
}

/// What a search for an entry to write came to.
enum Search {
    Found(Slot),
    Added(Slot),
    /// The directory has changed; look again.
    Changed,
    Starved,
}

impl LineTable {
    /// An empty table with `lanes` values for each entry, whose hashes all share their `skip_bits` top bits.
    ///
    /// # Panics
    /// Where `lanes` is over 16, or `skip_bits` over 47.
    pub fn new(source: Arc<dyn SegmentSource>, lanes: usize, skip_bits: u32) -> Self {
        assert!(
            lanes <= MOST_LANES,
            "a line table has at most {MOST_LANES} lanes, not {lanes}"
        );
        let directory = Directory::new(source, skip_bits);
        let shape = Shape::new(directory.page_size(), lanes);
        LineTable {
            directory,
            shape,
            entries: 0,
            zero: ([0; MOST_LANES], false),
        }
    }

    /// The values of each entry.
    pub fn lanes(&self) -> usize {
        self.shape.lanes
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries + usize::from(self.zero.1)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many segments the table holds, for pages and directory.
    pub fn segments_held(&self) -> usize {
        self.directory.segments()
    }

    /// How many bits of the hash, after the skipped ones, the directory is indexed by.
    pub fn directory_depth(&self) -> u32 {
        self.directory.depth()
    }

    /// Calls `fold` for each hash in order with the row's number, its entry's values, and whether the entry
    /// is new (all values 0). Stops where a segment is needed and there is none; that row is not folded.
    #[inline]
    pub fn update_batch(
        &mut self,
        hashes: &[u64],
        mut fold: impl FnMut(usize, &mut [u64], bool),
    ) -> Progress {
        match self.shape.lanes {
            1 => self.update_kernel::<1>(hashes, &mut fold),
            2 => self.update_kernel::<2>(hashes, &mut fold),
            3 => self.update_kernel::<3>(hashes, &mut fold),
            4 => self.update_kernel::<4>(hashes, &mut fold),
            _ => self.update_kernel::<DYNAMIC>(hashes, &mut fold),
        }
    }

    /// Calls `fold` for each hash in order that has an entry, with the row's number and the entry's values, and `missed` with the
    /// numbers of the others. The table takes no segment.
    #[inline]
    pub fn update_present(
        &mut self,
        hashes: &[u64],
        mut fold: impl FnMut(usize, &mut [u64]),
        mut missed: impl FnMut(usize),
    ) {
        match self.shape.lanes {
            1 => self.present_kernel::<1>(hashes, &mut fold, &mut missed),
            2 => self.present_kernel::<2>(hashes, &mut fold, &mut missed),
            _ => self.present_kernel::<DYNAMIC>(hashes, &mut fold, &mut missed),
        }
    }

    /// Makes an empty table as wide as `entries` distinct hashes need, so that it does not grow by splits; leaves it as it
    /// is where the source has not the pages for that. The pages fill to their capacity.
    ///
    /// # Panics
    /// Where the table is not empty.
    pub fn expect(&mut self, entries: usize) {
        assert!(self.is_empty(), "a table that has entries grows as it needs");
        let full = self.shape.capacity as usize * 9 / 10;
        let depth = entries.div_ceil(full).next_power_of_two().ilog2();
        while self.directory.depth() < depth && self.directory.deepen() {}
        let depth = self.directory.depth();
        for prefix in 0..1u64 << depth {
            let place = if depth == 0 { 0 } else { prefix << (64 - depth) };
            if !self.directory.is_hole(place, depth) {
                continue;
            }
            let Some(page) = self.fresh_page(place, depth) else {
                return self.clear();
            };
            // SAFETY: the page was just taken, so it is live and nobody else refers to it.
            unsafe { page.header_mut() }.limit = self.shape.capacity;
            self.directory.link(page, place, depth);
        }
    }

    /// The values of a hash.
    pub fn get(&self, hash: u64) -> Option<&[u64]> {
        if hash == 0 {
            return self.zero.1.then(|| &self.zero.0[..self.shape.lanes]);
        }
        let (_, slot) = self.find(hash)?;
        // SAFETY: the slot is in a live page of this shape, and the table is borrowed for the slice's life.
        Some(unsafe { slice::from_raw_parts(slot.values(self.shape.lanes), self.shape.lanes) })
    }

    /// Whether the table has a hash.
    pub fn contains(&self, hash: u64) -> bool {
        self.get(hash).is_some()
    }

    /// Removes a hash; false where it is not there. May give segments back.
    pub fn remove(&mut self, hash: u64) -> bool {
        if hash == 0 {
            self.zero.0 = [0; MOST_LANES];
            return std::mem::take(&mut self.zero.1);
        }
        let Some((page, slot)) = self.find(hash) else {
            return false;
        };
        // SAFETY: `find` answers a slot with a key and its live page.
        let left = unsafe {
            self.shape.remove(page, slot);
            page.header().entries
        };
        self.entries -= 1;
        if left * 10 <= self.shape.capacity * 3 {
            self.shrink(hash, page);
        }
        true
    }

    /// Visits entries in the order of the directory's ranges, from where the cursor stands, at most `limit`
    /// of them; answers how many. The cursor says whether that was all.
    pub fn for_each_from(
        &self,
        cursor: &mut Cursor,
        limit: usize,
        mut visit: impl FnMut(u64, &[u64]),
    ) -> usize {
        let mut visited = 0;
        if !cursor.begun && limit > 0 {
            cursor.begun = true;
            if self.zero.1 {
                visit(0, &self.zero.0[..self.shape.lanes]);
                visited += 1;
            }
        }
        while !cursor.done && visited < limit {
            let page = self.directory.page_at(cursor);
            if page.is_none() {
                break;
            }
            // SAFETY: the page is live, and `visit` cannot reach it: the table is borrowed shared.
            let whole = unsafe {
                self.shape.visit(page, cursor.slot, |number, slot| {
                    if visited == limit {
                        cursor.slot = number;
                        return false;
                    }
                    visited += 1;
                    visit(
                        *slot.key(),
                        slice::from_raw_parts(slot.values(self.shape.lanes), self.shape.lanes),
                    );
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
    pub fn for_each(&self, visit: impl FnMut(u64, &[u64])) {
        self.for_each_from(&mut Cursor::default(), usize::MAX, visit);
    }

    /// How many segments [`Self::drain_range`] would give back.
    pub fn segments_in_range(&self, prefix: u64, bits: u32) -> usize {
        self.directory.segments_in_range(prefix, bits)
    }

    /// Takes out all entries whose hash, after the skipped bits, begins with the `bits` bits of `prefix`;
    /// `take` gets each. Pages wholly inside that range go back to the source; one that is wider keeps its
    /// other entries. Answers how many entries left.
    ///
    /// # Panics
    /// Where `prefix` has more than `bits` bits, or `bits` exceeds 32.
    pub fn drain_range(&mut self, prefix: u64, bits: u32, mut take: impl FnMut(u64, &[u64])) -> usize {
        assert!(
            bits <= 32 && prefix >> bits == 0,
            "prefix {prefix:#x} has more than {bits} bits"
        );
        let before = self.len();
        if prefix == 0 && self.zero.1 {
            self.zero.1 = false;
            take(0, &self.zero.0[..self.shape.lanes]);
            self.zero.0 = [0; MOST_LANES];
        }
        let range = self.directory.range(prefix, bits);
        let mut entry = range.start;
        while entry < range.end {
            let (page, length) = self.directory.run(entry);
            if !page.is_none() {
                // SAFETY: pages that the directory leads to are live.
                if unsafe { page.header() }.depth >= bits {
                    self.drain_page(entry, &mut take);
                } else {
                    self.sift_page(page, prefix, bits, &mut take);
                    self.directory.release_empty(self.directory.place_of(entry));
                }
            }
            entry += length;
        }
        self.directory.trim();
        before - self.len()
    }

    /// Removes every entry and gives every segment back.
    pub fn clear(&mut self) {
        self.drain_range(0, 0, |_, _| {});
    }

    #[inline(always)]
    fn update_kernel<const LANES: usize>(
        &mut self,
        hashes: &[u64],
        fold: &mut impl FnMut(usize, &mut [u64], bool),
    ) -> Progress {
        let lanes = if LANES == DYNAMIC { self.shape.lanes } else { LANES };
        let mut homes = [ptr::null_mut::<u64>(); GROUP];
        let mut done = 0;
        let mut entries = self.entries;
        'groups: while done < hashes.len() {
            let group = &hashes[done..hashes.len().min(done + GROUP)];
            let lookup = self.directory.lookup();
            let located = locate(lookup, self.shape, lanes, group, &mut homes);
            if self.entries - entries > GROUP / 8 {
                // New entries are counted in their pages' headers: fetch those ahead too.
                for &hash in group {
                    // SAFETY: the lookup was made for this group, and the directory has not changed since.
                    prefetch(unsafe { lookup.page::<false>(hash) }.at(0));
                }
            }
            entries = self.entries;
            if located == 0 {
                if group[0] == 0 {
                    self.fold_zero(done, fold);
                    done += 1;
                } else if !self.open_page(group[0]) {
                    return Progress {
                        rows: done,
                        starved: true,
                    };
                }
                continue;
            }
            for (&hash, &home) in group.iter().zip(&homes[..located]) {
                if hash == 0 {
                    self.fold_zero(done, fold);
                    done += 1;
                    continue;
                }
                // SAFETY: `locate` answered a bucket of a live page, and pages have not changed since: a
                // search that changes them starts the group again.
                let found = unsafe { equal_keys(home, hash) };
                let (slot, new) = if found != 0 {
                    (
                        Slot {
                            bucket: home,
                            index: found.trailing_zeros() as usize,
                        },
                        false,
                    )
                } else {
                    match self.search(hash) {
                        Search::Found(slot) => (slot, false),
                        Search::Added(slot) => (slot, true),
                        Search::Changed => continue 'groups,
                        Search::Starved => {
                            return Progress {
                                rows: done,
                                starved: true,
                            };
                        }
                    }
                };
                // SAFETY: the slot is in a live page with `lanes` lanes, and the table is borrowed mutably,
                // so that this is the only reference to its values.
                let values = unsafe { slice::from_raw_parts_mut(slot.values(lanes), lanes) };
                fold(done, values, new);
                done += 1;
            }
        }
        Progress {
            rows: done,
            starved: false,
        }
    }

    /// The hash 0 lives outside the pages, and needs none.
    #[cold]
    fn fold_zero(&mut self, row: usize, fold: &mut impl FnMut(usize, &mut [u64], bool)) {
        let new = !std::mem::replace(&mut self.zero.1, true);
        fold(row, &mut self.zero.0[..self.shape.lanes], new);
    }

    #[inline(always)]
    fn present_kernel<const LANES: usize>(
        &mut self,
        hashes: &[u64],
        fold: &mut impl FnMut(usize, &mut [u64]),
        missed: &mut impl FnMut(usize),
    ) {
        let lanes = if LANES == DYNAMIC { self.shape.lanes } else { LANES };
        let mut homes = [ptr::null_mut::<u64>(); GROUP];
        let mut done = 0;
        while done < hashes.len() {
            let group = &hashes[done..hashes.len().min(done + GROUP)];
            let located = locate(self.directory.lookup(), self.shape, lanes, group, &mut homes);
            // The first whose range has no page is found, or not, by itself.
            for (place, &hash) in group[..group.len().min(located + 1)].iter().enumerate() {
                if hash == 0 {
                    match self.zero.1 {
                        true => self.fold_zero(done, &mut |row, values, _| fold(row, values)),
                        false => missed(done),
                    }
                    done += 1;
                    continue;
                }
                let found = match place < located {
                    // SAFETY: `locate` answered a bucket of a live page, and no page changes in this function.
                    true => unsafe { equal_keys(homes[place], hash) },
                    false => 0,
                };
                let slot = match found {
                    0 => self.find(hash).map(|(_, slot)| slot),
                    found => Some(Slot {
                        bucket: homes[place],
                        index: found.trailing_zeros() as usize,
                    }),
                };
                match slot {
                    // SAFETY: the slot is in a live page with `lanes` lanes, and the table is borrowed mutably, so that this
                    // is the only reference to its values.
                    Some(slot) => fold(done, unsafe {
                        slice::from_raw_parts_mut(slot.values(lanes), lanes)
                    }),
                    None => missed(done),
                }
                done += 1;
            }
        }
    }

    /// The page and slot of a hash that is not 0.
    fn find(&self, hash: u64) -> Option<(Page, Slot)> {
        let mut page = self.directory.page(hash);
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live and of this shape.
            unsafe {
                if let Ok(slot) = self.shape.find(page, hash) {
                    return Some((page, slot));
                }
                page = page.header().next;
            }
        }
        None
    }

    /// The slot of a hash that its home bucket does not have, added where no page has it.
    #[inline(never)]
    fn search(&mut self, hash: u64) -> Search {
        let mut page = self.directory.page(hash);
        let mut room = None;
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live and of this shape.
            unsafe {
                match self.shape.find(page, hash) {
                    Ok(slot) => return Search::Found(slot),
                    Err(slot) => {
                        let header = page.header();
                        if room.is_none() && header.entries < header.limit {
                            room = Some((page, slot));
                        }
                        page = header.next;
                    }
                }
            }
        }
        let Some((page, slot)) = room else {
            return self.make_room(hash);
        };
        // SAFETY: the slot is free and in a live page that has fewer entries than its limit.
        unsafe {
            *slot.key() = hash;
            slot.values(self.shape.lanes).write_bytes(0, self.shape.lanes);
            page.header_mut().entries += 1;
        }
        self.entries += 1;
        Search::Added(slot)
    }

    /// Room for a hash whose page, or every page of its chain, is at its limit.
    #[cold]
    fn make_room(&mut self, hash: u64) -> Search {
        let head = self.directory.page(hash);
        if head.is_none() {
            return if self.open_page(hash) {
                Search::Changed
            } else {
                Search::Starved
            };
        }
        // SAFETY: pages that the directory leads to are live.
        let depth = unsafe { head.header() }.depth;
        let common = self.common_bits(head, depth);
        let grown = if common < MOST_COMMON_BITS && self.directory.may_reach(depth + common + 1) {
            self.split(hash, head, common)
        } else {
            self.lengthen(head)
        };
        if grown || self.lift_limit(head) {
            Search::Changed
        } else {
            Search::Starved
        }
    }

    /// How many bits after the first `depth` all entries of a chain share.
    fn common_bits(&self, head: Page, depth: u32) -> u32 {
        let (mut first, mut differing) = (None, 0);
        let mut page = head;
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live, and nothing is moved.
            unsafe {
                self.shape.visit(page, 0, |_, slot| {
                    let bits = self.directory.place(*slot.key()) << depth;
                    differing |= bits ^ *first.get_or_insert(bits);
                    differing >> 63 == 0
                });
                page = page.header().next;
            }
        }
        differing.leading_zeros()
    }

    /// Splits a page, or a chain, by its next bit; false where there are not the segments for it.
    fn split(&mut self, hash: u64, head: Page, common: u32) -> bool {
        // SAFETY: pages that the directory leads to are live.
        let (depth, chained) = unsafe { (head.header().depth, !head.header().next.is_none()) };
        if depth == self.directory.depth() && !self.directory.deepen() {
            return false;
        }
        let bit = 1 << (63 - depth);
        let lower = self.directory.place(hash) & !(bit | (bit - 1));
        if common > 0 {
            // All on one side: the other becomes an empty range.
            let mut side = lower;
            // SAFETY: the page is live and nothing is moved.
            unsafe {
                self.shape.visit(head, 0, |_, slot| {
                    side |= self.directory.place(*slot.key()) & bit;
                    false
                })
            };
            let head = self.directory.unlink(lower);
            self.directory.link(head, side, depth + 1);
            return true;
        }
        if chained {
            return self.split_chain(lower, bit, depth);
        }
        let Some(fresh) = self.fresh_page(lower | bit, depth + 1) else {
            return false;
        };
        let head = self.directory.unlink(lower);
        let directory = &self.directory;
        // SAFETY: both pages are live and of this shape; the fresh one takes at most what the other had.
        unsafe {
            self.shape.sweep(head, |hash, values| {
                let leaves = directory.place(hash) & bit != 0;
                if leaves {
                    self.shape.add(fresh, hash, values);
                }
                leaves
            });
            head.header_mut().limit = self.limit(lower, depth + 1);
        }
        self.directory.link(head, lower, depth + 1);
        self.directory.link(fresh, lower | bit, depth + 1);
        true
    }

    /// Splits a chain. Each page that has been emptied serves the chains that are filled, which never need
    /// more than two pages beyond those: k full pages fill at most k + 1.
    fn split_chain(&mut self, lower: u64, bit: u64, depth: u32) -> bool {
        let capacity = self.shape.capacity;
        let Some(first) = self.fresh_page(lower, depth + 1) else {
            return false;
        };
        let Some(second) = self.fresh_page(lower | bit, depth + 1) else {
            // SAFETY: the page was just taken and is linked nowhere.
            unsafe { self.directory.give_back(first) };
            return false;
        };
        let mut chains = [(first, first), (second, second)];
        let mut spare = Page::NONE;
        let mut page = self.directory.unlink(lower);
        while !page.is_none() {
            // SAFETY: all pages here are live, of this shape, and owned by this function; an entry is only
            // read from `page` and only written to the others.
            unsafe {
                self.shape.visit(page, 0, |_, slot| {
                    let hash = *slot.key();
                    let (_, last) = &mut chains[usize::from(self.directory.place(hash) & bit != 0)];
                    if last.header().entries == capacity {
                        let next = spare;
                        assert!(!next.is_none(), "k full pages fill at most k + 1");
                        spare = next.header().next;
                        next.header_mut().next = Page::NONE;
                        self.shape.clear(next);
                        last.header_mut().next = next;
                        *last = next;
                    }
                    self.shape.add(*last, hash, slot.values(self.shape.lanes));
                    true
                });
                let next = page.header().next;
                page.header_mut().next = spare;
                page.header_mut().limit = capacity;
                spare = page;
                page = next;
            }
        }
        for (place, (head, _)) in [lower, lower | bit].into_iter().zip(chains) {
            // SAFETY: the page is live and owned by this function.
            unsafe { head.header_mut() }.limit = capacity;
            self.directory.link(head, place, depth + 1);
        }
        // SAFETY: spare pages are linked nowhere.
        unsafe { self.directory.give_back_chain(spare) };
        true
    }

    /// Adds a page to a chain; false where there is none.
    fn lengthen(&mut self, head: Page) -> bool {
        let Some(page) = self.fresh_page(0, 0) else {
            return false;
        };
        // SAFETY: both pages are live, and the head stays where it is linked.
        unsafe {
            page.header_mut().limit = self.shape.capacity;
            page.header_mut().next = head.header().next;
            head.header_mut().next = page;
        }
        true
    }

    /// Lets the pages of a chain fill to their capacity; false where they have.
    fn lift_limit(&mut self, head: Page) -> bool {
        let mut lifted = false;
        let mut page = head;
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live.
            let header = unsafe { page.header_mut() };
            lifted |= header.entries < self.shape.capacity;
            header.limit = self.shape.capacity;
            page = header.next;
        }
        lifted
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
            self.shape.clear(page);
            page.header_mut().limit = self.limit(place, depth);
        }
        Some(page)
    }

    /// How many entries the page of a range takes before it splits.
    fn limit(&self, place: u64, depth: u32) -> u32 {
        let capacity = self.shape.capacity;
        let prefix = if depth == 0 { 0 } else { place >> (64 - depth) };
        let spread = u64::from(capacity / LIMIT_SPREAD);
        capacity - (((hash_u64(prefix + (1 << depth)) >> 32) * spread) >> 32) as u32
    }

    /// After a removal from `page`, which has the range of `hash`: gives back an empty page, merges a page
    /// with its buddy while they fit together, halves the directory.
    #[cold]
    fn shrink(&mut self, hash: u64, page: Page) {
        let place = self.directory.place(hash);
        // SAFETY: removing an entry leaves its page live.
        if unsafe { page.header() }.entries == 0 {
            self.directory.release_empty(place);
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
        let (depth, entries) = (header.depth, header.entries);
        if depth == 0 || !header.next.is_none() {
            return false;
        }
        let bit = 1u64 << (64 - depth);
        let limit = self.limit(place, depth - 1);
        if self.directory.is_hole(place ^ bit, depth) {
            let page = self.directory.unlink(place);
            // SAFETY: the page is live and owned by this function until it is linked.
            unsafe { page.header_mut() }.limit = limit;
            self.directory.link(page, place, depth - 1);
            return true;
        }
        let (buddy, _) = self.directory.run(self.directory.entry_of(place ^ bit));
        if buddy.is_none() {
            return false;
        }
        // SAFETY: as above.
        let other = unsafe { buddy.header() };
        if other.depth != depth || !other.next.is_none() || (entries + other.entries) * 10 > limit * 6 {
            return false;
        }
        let page = self.directory.unlink(place);
        let buddy = self.directory.unlink(place ^ bit);
        // SAFETY: both pages are live, of this shape and unlinked; their entries fit in one.
        unsafe {
            self.shape.visit(buddy, 0, |_, slot| {
                self.shape.add(page, *slot.key(), slot.values(self.shape.lanes));
                true
            });
            page.header_mut().limit = limit;
            self.directory.give_back(buddy);
        }
        self.directory.link(page, place, depth - 1);
        true
    }

    /// Gives all entries of the chain at a directory entry to `take`, and its pages back. The pages stay
    /// linked until `take` has had all, so that they are not lost when it panics.
    fn drain_page(&mut self, entry: usize, take: &mut impl FnMut(u64, &[u64])) {
        let lanes = self.shape.lanes;
        let (mut page, _) = self.directory.run(entry);
        let mut entries = 0;
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live, and `take` cannot reach them: the table is
            // borrowed mutably.
            unsafe {
                entries += page.header().entries as usize;
                self.shape.visit(page, 0, |_, slot| {
                    take(*slot.key(), slice::from_raw_parts(slot.values(lanes), lanes));
                    true
                });
                page = page.header().next;
            }
        }
        self.entries -= entries;
        let head = self.directory.unlink(self.directory.place_of(entry));
        // SAFETY: the chain is unlinked.
        unsafe { self.directory.give_back_chain(head) };
    }

    /// Takes the entries with a prefix out of the pages of a chain.
    fn sift_page(&mut self, head: Page, prefix: u64, bits: u32, take: &mut impl FnMut(u64, &[u64])) {
        let (lanes, directory) = (self.shape.lanes, &self.directory);
        let mut page = head;
        while !page.is_none() {
            // SAFETY: pages that the directory leads to are live, and `take` cannot reach them: the table is
            // borrowed mutably. `take` has had all of a page before the page changes: it may panic.
            unsafe {
                let leaves = |hash: u64| directory.place(hash) >> (64 - bits) == prefix;
                self.shape.visit(page, 0, |_, slot| {
                    if leaves(*slot.key()) {
                        take(*slot.key(), slice::from_raw_parts(slot.values(lanes), lanes));
                    }
                    true
                });
                let before = page.header().entries;
                self.shape.sweep(page, |hash, _| leaves(hash));
                self.entries -= (before - page.header().entries) as usize;
                page = page.header().next;
            }
        }
    }
}

/// Finds and prefetches the home bucket of each hash of a group, up to the first whose range has no page;
/// answers how many were found.
#[inline(always)]
fn locate(lookup: Lookup, shape: Shape, lanes: usize, group: &[u64], homes: &mut [*mut u64; GROUP]) -> usize {
    if lookup.is_flat() {
        locate_kernel::<true>(lookup, shape, lanes, group, homes)
    } else {
        locate_kernel::<false>(lookup, shape, lanes, group, homes)
    }
}

#[inline(always)]
fn locate_kernel<const FLAT: bool>(
    lookup: Lookup,
    shape: Shape,
    lanes: usize,
    group: &[u64],
    homes: &mut [*mut u64; GROUP],
) -> usize {
    for (row, (&hash, home)) in group.iter().zip(homes.iter_mut()).enumerate() {
        // SAFETY: the lookup was made for this group, the directory has not changed since, and is flat where
        // `FLAT` says so.
        let page = unsafe { lookup.page::<FLAT>(hash) };
        if page.is_none() {
            return row;
        }
        let bucket = page.at(shape.home_offset(hash, lanes));
        *home = bucket.cast();
        prefetch(bucket);
        // Long entries: at most four lines are fetched ahead, which is as many as there are for four lanes.
        let size = bucket_size(lanes);
        let mut ahead = 64;
        while ahead < size.min(256) {
            prefetch(bucket.wrapping_add(ahead));
            ahead += 64;
        }
    }
    group.len()
}
