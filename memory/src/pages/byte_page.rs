//! One page of a byte table: entries in a heap that grows up, lines of slots that grow down from the end.
//!
//! # Layout
//! ```text
//! | header 64 B | entry | entry | …  heap_end → free ← | slot line 1 | slot line 0 |
//! slot line, 64 B: 16 tags of 2 B, then 16 offsets of 2 B (in units of 8 B; of 16 B where a page has 1 MiB)
//! entry: | hash 8 B | key word 4 B | value word 4 B | value, padded to 8 | key, padded to 8 |
//! ```
//! A key or value word is its size, with the top bit set where the bytes are in segments of their own (an
//! address of 8 bytes stands in their place); the value word's next bit marks a removed entry. A tag is the
//! hash's low 16 bits made odd; 0 is a free slot, 2 the slot of a removed entry.
//!
//! # Invariants
//! I1. A slot is in its home line or a later one, round the last, with no free slot in between. Taken slots
//!     stay under 3/4 of all, so that every search ends.
//! I2. The heap and the slot lines do not meet, and there is at least one line: 16 bytes can be read where any
//!     entry's key begins.
//! I3. A removed entry stays in the heap, counted in `dead`, until the page is compacted.

use super::page::{HEADER_SIZE, Page};

/// Slots in a line.
const SLOTS: usize = 16;

/// Bytes of a slot line.
pub(super) const LINE_SIZE: usize = 64;

/// Slots of a line that are used on average in a full page, and at most: 3/4 of them.
const USUAL_LOAD: usize = 10;
const MOST_LOAD: usize = 12;

/// Bytes before an entry's value.
pub(super) const ENTRY_HEADER: usize = 16;

/// The slot of a removed entry: even, so no tag.
const REMOVED: u16 = 2;

/// Set in a key or value word where the bytes are out of line.
pub(super) const OUT_OF_LINE: u32 = 1 << 31;
/// Set in the value word of a removed entry.
const DEAD: u32 = 1 << 30;
/// The largest size of a key or value: one less than what the words of [`NO_ENTRY`] say, so that it equals no key.
pub(super) const MOST_SIZE: usize = (1 << 30) - 2;

/// How pages of one table are laid out.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) page_size: usize,
    /// Offsets are in units of this many bytes, as a power of two.
    unit_bits: u32,
}

/// An entry of a live page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(pub(super) *mut u8);

/// An entry that equals no key: its words say out of line.
static NO_ENTRY: [u64; ENTRY_HEADER / 8] = [u64::MAX; ENTRY_HEADER / 8];

/// The tag of a hash.
#[inline(always)]
pub(super) fn tag(hash: u64) -> u16 {
    hash as u16 | 1
}

/// `size` rounded up to whole words.
#[inline(always)]
pub(super) const fn padded(size: usize) -> usize {
    (size + 7) & !7
}

impl Layout {
    pub(super) fn new(page_size: usize) -> Self {
        Layout {
            page_size,
            unit_bits: 3 + (page_size >> 20) as u32,
        }
    }

    /// The largest entry that lives in a page; of a larger one, parts live in segments of their own.
    pub(super) fn most_inline(&self) -> usize {
        self.page_size / 4
    }

    /// The bytes that an entry with parts of these inline sizes takes.
    pub(super) fn entry_size(&self, value: usize, key: usize) -> usize {
        (ENTRY_HEADER + padded(value) + padded(key)).next_multiple_of(1 << self.unit_bits)
    }

    /// The address of a slot line.
    #[inline(always)]
    fn line(&self, page: Page, line: usize) -> *mut u16 {
        page.at(self.page_size - LINE_SIZE * (line + 1)).cast()
    }

    /// The home line of a hash in a page with so many lines: from its 32 low bits, which no directory uses.
    #[inline(always)]
    fn home(hash: u64, lines: u16) -> usize {
        ((u64::from(hash as u32) * u64::from(lines)) >> 32) as usize
    }

    /// The home line of a hash.
    ///
    /// # Safety
    /// The page is live and of this layout.
    #[inline(always)]
    pub(super) unsafe fn home_line(&self, page: Page, hash: u64) -> *mut u16 {
        // SAFETY: as the caller promises.
        let lines = unsafe { page.header() }.slot_lines;
        self.line(page, Layout::home(hash, lines))
    }

    /// The entry of slot `slot` in a line.
    ///
    /// # Safety
    /// The line is in the live page, and the slot has a tag.
    #[inline(always)]
    pub(super) unsafe fn entry(&self, page: Page, line: *const u16, slot: u32) -> Entry {
        // SAFETY: as the caller promises; the slot's offset follows the 16 tags.
        let offset = unsafe { *line.add(SLOTS + slot as usize) };
        Entry(page.at(usize::from(offset) << self.unit_bits))
    }

    /// Empties a page and gives it `lines` slot lines.
    ///
    /// # Safety
    /// The page is live and nothing else refers to it.
    pub(super) unsafe fn clear(&self, page: Page, lines: u16) {
        // SAFETY: as the caller promises.
        unsafe {
            let header = page.header_mut();
            header.entries = 0;
            header.dead = 0;
            header.heap_end = HEADER_SIZE as u32;
            self.rebuild(page, lines);
        }
    }

    /// The first entry with this tag that `is_wanted`, and its slot (line and number).
    ///
    /// # Safety
    /// The page is live and of this layout.
    #[inline]
    pub(super) unsafe fn find(
        &self,
        page: Page,
        hash: u64,
        mut is_wanted: impl FnMut(Entry) -> bool,
    ) -> Option<(Entry, *mut u16)> {
        // SAFETY: as the caller promises; lines below `slot_lines` are in the page, aligned to 64 bytes, and
        // slots with tags have offsets of entries.
        unsafe {
            let lines = page.header().slot_lines;
            let mut at = Layout::home(hash, lines);
            loop {
                let line = self.line(page, at);
                let mut found = equal_tags(line, tag(hash));
                while found != 0 {
                    let slot = found.trailing_zeros();
                    let entry = self.entry(page, line, slot);
                    if is_wanted(entry) {
                        return Some((entry, line.add(slot as usize)));
                    }
                    found &= found - 1;
                }
                if equal_tags(line, 0) != 0 {
                    return None;
                }
                at = if at + 1 == usize::from(lines) { 0 } else { at + 1 };
            }
        }
    }

    /// Whether an entry of `size` bytes fits as the page is, within its limit.
    ///
    /// # Safety
    /// The page is live and of this layout.
    pub(super) unsafe fn fits(&self, page: Page, size: usize) -> bool {
        // SAFETY: as the caller promises.
        let header = unsafe { page.header() };
        let lines = usize::from(header.slot_lines);
        header.heap_end as usize + size + lines * LINE_SIZE <= header.limit as usize
            && usize::from(header.slots_taken) < lines * MOST_LOAD
    }

    /// Appends an entry's space of `size` bytes to the heap, and puts it in a slot. The caller writes it.
    ///
    /// # Safety
    /// The page is live, of this layout, and `fits` has said yes for the size.
    pub(super) unsafe fn append(&self, page: Page, hash: u64, size: usize) -> Entry {
        // SAFETY: as the caller promises.
        unsafe {
            let header = page.header_mut();
            let offset = header.heap_end as usize;
            header.heap_end += size as u32;
            header.entries += 1;
            self.index(page, hash, offset);
            Entry(page.at(offset))
        }
    }

    /// Puts the entry at `offset` in a slot.
    ///
    /// # Safety
    /// The page is live and of this layout, and has a free slot more than it needs (I1).
    unsafe fn index(&self, page: Page, hash: u64, offset: usize) {
        // SAFETY: as in `find`; the search ends at a free slot.
        unsafe {
            let header = page.header_mut();
            header.slots_taken += 1;
            let lines = header.slot_lines;
            let mut at = Layout::home(hash, lines);
            loop {
                let line = self.line(page, at);
                let free = equal_tags(line, 0);
                if free != 0 {
                    let slot = free.trailing_zeros() as usize;
                    *line.add(slot) = tag(hash);
                    *line.add(SLOTS + slot) = (offset >> self.unit_bits) as u16;
                    return;
                }
                at = if at + 1 == usize::from(lines) { 0 } else { at + 1 };
            }
        }
    }

    /// Makes an entry dead: its slot stays taken and its bytes stay in the heap until the page is compacted.
    ///
    /// # Safety
    /// The page is live and of this layout; entry and slot come from its `find`.
    pub(super) unsafe fn remove(&self, page: Page, entry: Entry, slot: *mut u16) {
        // SAFETY: as the caller promises.
        unsafe {
            *slot = REMOVED;
            let header = page.header_mut();
            header.entries -= 1;
            header.dead += self.size_of(entry) as u32;
            entry.set_value_word(entry.value_word() | DEAD);
        }
    }

    /// The bytes an entry takes in the heap.
    ///
    /// # Safety
    /// The entry is in a live page.
    pub(super) unsafe fn size_of(&self, entry: Entry) -> usize {
        // SAFETY: as the caller promises.
        unsafe { self.entry_size(inline_size(entry.value_word()), inline_size(entry.key_word())) }
    }

    /// Live entries in the order of the heap, from the offset `from` on (0 for the first); `visit` gets each
    /// one's offset and answers whether to go on.
    ///
    /// # Safety
    /// The page is live and of this layout; `visit` changes neither sizes nor places of its entries.
    pub(super) unsafe fn visit(
        &self,
        page: Page,
        from: usize,
        mut visit: impl FnMut(usize, Entry) -> bool,
    ) -> bool {
        let mut offset = from.max(HEADER_SIZE);
        // SAFETY: as the caller promises; entries follow each other from the header to `heap_end`.
        unsafe {
            let end = page.header().heap_end as usize;
            while offset < end {
                let entry = Entry(page.at(offset));
                let size = self.size_of(entry);
                if entry.value_word() & DEAD == 0 && !visit(offset, entry) {
                    return false;
                }
                offset += size;
            }
        }
        true
    }

    /// Keeps the live entries for which `stays` answers true, moved together, and rebuilds the slots with
    /// `lines(entries, bytes)` lines.
    ///
    /// # Safety
    /// The page is live, of this layout, and nothing refers to its entries; `stays` does not touch the page;
    /// the lines leave room for the entries.
    pub(super) unsafe fn compact(
        &self,
        page: Page,
        mut stays: impl FnMut(Entry) -> bool,
        lines: impl FnOnce(usize, usize) -> u16,
    ) {
        let (mut from, mut to, mut entries) = (HEADER_SIZE, HEADER_SIZE, 0);
        // SAFETY: as the caller promises; an entry moves to lower addresses only, so that none is written
        // over before it is read.
        unsafe {
            let end = page.header().heap_end as usize;
            while from < end {
                let entry = Entry(page.at(from));
                let size = self.size_of(entry);
                if entry.value_word() & DEAD == 0 && stays(entry) {
                    if from != to {
                        page.at(to).copy_from(entry.0, size);
                    }
                    entries += 1;
                    to += size;
                }
                from += size;
            }
            let header = page.header_mut();
            (header.heap_end, header.entries, header.dead) = (to as u32, entries as u32, 0);
            self.rebuild(page, lines(entries, to - HEADER_SIZE));
        }
    }

    /// Appends the live entries of `other` for which `moves` answers true, without slots: `rebuild` follows.
    /// They stay in `other` as well.
    ///
    /// # Safety
    /// Both pages are live and of this layout; the entries fit between heap end and page end.
    pub(super) unsafe fn append_from(&self, page: Page, other: Page, mut moves: impl FnMut(Entry) -> bool) {
        // SAFETY: as the caller promises.
        unsafe {
            self.visit(other, 0, |_, entry| {
                if moves(entry) {
                    let size = self.size_of(entry);
                    let header = page.header_mut();
                    let end = header.heap_end as usize;
                    assert!(end + size <= self.page_size, "the entries fit in the page");
                    header.heap_end += size as u32;
                    header.entries += 1;
                    page.at(end).copy_from_nonoverlapping(entry.0, size);
                }
                true
            });
        }
    }

    /// Empties the slots, makes them `lines` lines, and puts every live entry in one.
    ///
    /// # Safety
    /// The page is live and of this layout, and nothing refers to its slots.
    pub(super) unsafe fn rebuild(&self, page: Page, lines: u16) {
        // SAFETY: as the caller promises; the assertion keeps heap and lines apart, and the search for a free
        // slot finite.
        unsafe {
            let header = page.header_mut();
            let (entries, end) = (header.entries as usize, header.heap_end as usize);
            let room = (self.page_size - end) / LINE_SIZE;
            assert!(
                lines > 0 && usize::from(lines) <= room && entries <= usize::from(lines) * MOST_LOAD,
                "{lines} slot lines for {entries} entries and room for {room}"
            );
            header.slot_lines = lines;
            header.slots_taken = 0;
            for line in 0..usize::from(lines) {
                self.line(page, line).cast::<[u16; SLOTS]>().write([0; SLOTS]);
            }
            self.visit(page, 0, |offset, entry| {
                self.index(page, entry.hash(), offset);
                true
            });
        }
    }

    /// How many slot lines a page should have that now holds `entries` of `bytes` together, so that heap and
    /// slots will be full at the same time; `usual` is the expected size of an entry while there are few.
    /// At least `room` bytes are left for the next entry.
    pub(super) fn lines_for(&self, entries: usize, bytes: usize, room: usize, usual: usize) -> u16 {
        let average = if entries < 8 { usual } else { bytes / entries };
        let space = self.page_size - HEADER_SIZE;
        let population = space * USUAL_LOAD / (average * USUAL_LOAD + LINE_SIZE);
        let most = (space - bytes).saturating_sub(room) / LINE_SIZE;
        let least = (entries + usize::from(room > 0)).div_ceil(MOST_LOAD).max(1);
        population
            .div_ceil(USUAL_LOAD)
            .min(most)
            .max(least)
            .min(usize::from(u16::MAX)) as u16
    }

    /// Whether an entry of `size` bytes would fit in the page's whole space after `compact` with `lines`.
    ///
    /// # Safety
    /// The page is live and of this layout.
    pub(super) unsafe fn would_fit(&self, page: Page, size: usize, lines: u16, limit: usize) -> bool {
        // SAFETY: as the caller promises.
        let header = unsafe { page.header() };
        let live = (header.heap_end - header.dead) as usize;
        live + size + usize::from(lines) * LINE_SIZE <= limit
            && (header.entries as usize) < usize::from(lines) * MOST_LOAD
    }
}

/// The bytes that a part takes in its entry, before padding.
#[inline(always)]
pub(super) fn inline_size(word: u32) -> usize {
    if word & OUT_OF_LINE != 0 {
        size_of::<Page>()
    } else {
        (word & !DEAD) as usize
    }
}

/// The size of a part, wherever it is.
#[inline(always)]
pub(super) fn part_size(word: u32) -> usize {
    (word & !(OUT_OF_LINE | DEAD)) as usize
}

impl Entry {
    /// Not an entry, but what can be asked for its words like one: they equal no key's.
    #[inline(always)]
    pub(super) fn none() -> Entry {
        Entry((&raw const NO_ENTRY).cast_mut().cast())
    }
}

/// # Safety
/// For all of these the entry is in a live page, and for those that write nothing else refers to it.
impl Entry {
    #[inline(always)]
    pub(super) unsafe fn hash(self) -> u64 {
        // SAFETY: entries begin with their hash, aligned to 8.
        unsafe { *self.0.cast() }
    }

    #[inline(always)]
    pub(super) unsafe fn key_word(self) -> u32 {
        // SAFETY: the key word follows the hash.
        unsafe { *self.0.add(8).cast() }
    }

    /// Key word and, above it, value word.
    #[inline(always)]
    pub(super) unsafe fn words(self) -> u64 {
        // SAFETY: both words follow the hash, aligned to 8.
        unsafe { u64::from_le(*self.0.add(8).cast()) }
    }

    #[inline(always)]
    pub(super) unsafe fn value_word(self) -> u32 {
        // SAFETY: the value word follows the key word.
        unsafe { *self.0.add(12).cast() }
    }

    #[inline(always)]
    unsafe fn set_value_word(self, word: u32) {
        // SAFETY: as in `value_word`.
        unsafe { *self.0.add(12).cast() = word }
    }

    /// Writes the header.
    pub(super) unsafe fn begin(self, hash: u64, key_word: u32, value_word: u32) {
        // SAFETY: the header is in the entry's space.
        unsafe {
            *self.0.cast() = hash;
            *self.0.add(8).cast() = key_word;
            *self.0.add(12).cast() = value_word;
        }
    }

    /// Where the value, or the address of its first segment, is.
    #[inline(always)]
    pub(super) unsafe fn value(self) -> *mut u8 {
        // SAFETY: the value follows the header.
        unsafe { self.0.add(ENTRY_HEADER) }
    }

    /// Where the key, or the address of its first segment, is.
    #[inline(always)]
    pub(super) unsafe fn key(self) -> *mut u8 {
        // SAFETY: the key follows the padded value.
        unsafe { self.0.add(ENTRY_HEADER + padded(inline_size(self.value_word()))) }
    }
}

/// Which of the 16 tags of a line equal `tag`: bit i for slot i.
///
/// # Safety
/// `line` is aligned to 16 bytes, and its first 32 bytes are initialized and not being written.
#[inline(always)]
pub(super) unsafe fn equal_tags(line: *const u16, tag: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of the x86-64 baseline; the loads are aligned and inside the line.
    unsafe {
        use std::arch::x86_64::*;
        let wanted = _mm_set1_epi16(tag as i16);
        let low = _mm_cmpeq_epi16(_mm_load_si128(line.cast()), wanted);
        let high = _mm_cmpeq_epi16(_mm_load_si128(line.add(8).cast()), wanted);
        _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as the caller promises.
    unsafe {
        equal_tags_plain(&*line.cast(), tag)
    }
}

/// The same in plain Rust: for other processors, and the oracle of the tests.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_tags_plain(tags: &[u16; SLOTS], tag: u16) -> u32 {
    tags.iter()
        .enumerate()
        .map(|(slot, &other)| u32::from(other == tag) << slot)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Aligned([u16; SLOTS]);

    #[test]
    fn tags_compare_as_in_plain_rust() {
        let values = [0, 1, 2, 3, 0x7fff, 0x8000, 0x8001, 0xffff, 0x00ff, 0xff00];
        for seed in 0..200u64 {
            let draw = |slot: usize| {
                values[(crate::hash::hash_u64(seed * 16 + slot as u64 + 1) % values.len() as u64) as usize]
            };
            let line = Aligned(std::array::from_fn(draw));
            for wanted in values {
                // SAFETY: aligned, initialized, not shared.
                let fast = unsafe { equal_tags(line.0.as_ptr(), wanted) };
                assert_eq!(
                    fast,
                    equal_tags_plain(&line.0, wanted),
                    "{:x?} {wanted:x}",
                    line.0
                );
            }
        }
    }

    /// Slots and heap of a page are full together, whatever the entries' size.
    #[test]
    fn lines_suit_the_entries() {
        let layout = Layout::new(32 << 10);
        for size in [24, 32, 40, 64, 200, 1000, 8192] {
            let lines = usize::from(layout.lines_for(0, 0, 0, size));
            let population = (layout.page_size - HEADER_SIZE - lines * LINE_SIZE) / size;
            assert!(
                population <= lines * MOST_LOAD,
                "{size}: {population} entries for {lines} lines"
            );
            assert!(
                lines * 8 <= population + 8,
                "{size}: {lines} lines for {population} entries"
            );
        }
    }
}
