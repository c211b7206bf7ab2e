//! A page: one segment with a header and a structure in it, owned by whoever holds its pointer.
//!
//! # Layout
//! The first 64 bytes of the segment are the [`Header`]. Its first field is the segment itself: a page keeps
//! the handle of its own memory, so that owning a page takes eight bytes in a directory and nothing else
//! grows with the number of pages.
//!
//! # Invariants
//! I1. A page that [`Page::adopt`] made is live until [`Page::release`]; in between nothing else writes the
//!     first 32 bytes of its segment.
//! I2. A live page is reachable from exactly one place: one run of directory entries, or the `next` of one
//!     other live page.

use crate::segment::Segment;
use std::mem::ManuallyDrop;
use std::ptr;

/// The bytes at the start of a page that its header has to itself.
pub(super) const HEADER_SIZE: usize = 64;

/// What every page begins with.
#[repr(C)]
pub(super) struct Header {
    segment: ManuallyDrop<Segment>,
    /// The next page of an overflow chain, or none.
    pub(super) next: Page,
    /// How many entries live in this page (not in its whole chain).
    pub(super) entries: u32,
    /// How much the page takes before it splits: entries of a line page, bytes of a byte page.
    pub(super) limit: u32,
    /// How many bits of the hash, after those that the table skips, all entries of the page share. Unused in
    /// pages that continue a chain.
    pub(super) depth: u32,
    /// Lines of slots, and how many slots are taken; used by byte pages.
    pub(super) slot_lines: u16,
    pub(super) slots_taken: u16,
    /// Where the free bytes of the heap begin; used by byte pages.
    pub(super) heap_end: u32,
    /// Bytes of the heap in removed entries; used by byte pages.
    pub(super) dead: u32,
}

const _: () = assert!(size_of::<Header>() <= HEADER_SIZE);
const _: () = assert!(align_of::<Header>() <= crate::segment::BLOCK_ALIGNMENT);

/// The address of a live page, or nothing. Eight bytes, copied freely inside this module: ownership follows
/// the rules I1 and I2, which the directory and the tables keep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Page(*mut Header);

impl Page {
    /// No page.
    pub(super) const NONE: Page = Page(ptr::null_mut());

    /// Makes `segment` a page with an empty header. Its other bytes stay unspecified.
    pub(super) fn adopt(mut segment: Segment) -> Page {
        let start = segment.as_mut_ptr().cast::<Header>();
        let header = Header {
            segment: ManuallyDrop::new(segment),
            next: Page::NONE,
            entries: 0,
            limit: 0,
            depth: 0,
            slot_lines: 0,
            slots_taken: 0,
            heap_end: 0,
            dead: 0,
        };
        // SAFETY: `start` is aligned (blocks are, to 64 bytes) and the segment, which the header now owns,
        // holds at least 4 KiB; nobody else refers to its bytes.
        unsafe { start.write(header) };
        Page(start)
    }

    /// Gives the page's segment back; the page is no longer live.
    ///
    /// # Safety
    /// The page is live, and its one reference (I2) is gone or overwritten before it is used again.
    pub(super) unsafe fn release(self) {
        // SAFETY: the header was written by `adopt` (I1) and is read out once, since the page dies here.
        let segment = unsafe { ptr::read(&raw const (*self.0).segment) };
        drop(ManuallyDrop::into_inner(segment));
    }

    /// Whether there is no page.
    #[inline(always)]
    pub(super) fn is_none(self) -> bool {
        self.0.is_null()
    }

    /// The address of the page's byte at `offset`. Wrapping, so that an address may be formed from no page;
    /// it is not to be read then.
    #[inline(always)]
    pub(super) fn at(self, offset: usize) -> *mut u8 {
        self.0.cast::<u8>().wrapping_add(offset)
    }

    /// The header, to read.
    ///
    /// # Safety
    /// The page is live, and no `header_mut` of it is held.
    #[inline(always)]
    pub(super) unsafe fn header<'a>(self) -> &'a Header {
        // SAFETY: a live page's header was written by `adopt`; the caller keeps writers away.
        unsafe { &*self.0 }
    }

    /// The header, to write.
    ///
    /// # Safety
    /// The page is live, and no other reference to its header is held.
    #[inline(always)]
    pub(super) unsafe fn header_mut<'a>(self) -> &'a mut Header {
        // SAFETY: as in `header`, and the caller holds no other reference.
        unsafe { &mut *self.0 }
    }
}

/// Asks the processor to bring the line with the first of some bytes into its cache. No bytes, no line.
#[inline(always)]
pub fn prefetch_line(bytes: &[u8]) {
    prefetch(bytes.as_ptr());
}

/// Asks the processor to bring the line at `address` into its cache; any address may be given.
#[inline(always)]
pub(super) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see and faults on no address; SSE is part of
    // the x86-64 baseline.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
