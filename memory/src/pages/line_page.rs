//! One page of a line table: buckets of four keys with their values, and the ways to change them.
//!
//! # Layout
//! After the header of 64 bytes come the buckets, each 32 × (1 + lanes) bytes; with one lane a bucket is one
//! cache line. A key is the hash itself; 0 marks a free slot.
//! ```text
//! | key 0 | key 1 | key 2 | key 3 | values of 0 | values of 1 | values of 2 | values of 3 |
//! |   8 B each                    |   lanes × 8 B each                                    |
//! ```
//!
//! # Invariants
//! I1. An entry is in its home bucket or in a later one, round the page's end, with no free slot in between:
//!     a search ends at the first bucket with a free slot. `remove` and `sweep` close the gaps they make.
//! I2. A page holds at most `capacity` entries, 3/4 of its slots, so that every search ends.

use super::page::{HEADER_SIZE, Page};

/// Keys in a bucket.
pub(super) const SLOTS: usize = 4;

/// How pages of one table are laid out.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) lanes: usize,
    /// Buckets of a page.
    pub(super) buckets: u32,
    /// The most entries of a page.
    pub(super) capacity: u32,
}

/// A slot of a page.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) bucket: *mut u64,
    pub(super) index: usize,
}

impl Shape {
    pub(super) fn new(page_size: usize, lanes: usize) -> Self {
        let buckets = (page_size - HEADER_SIZE) / bucket_size(lanes);
        Shape {
            lanes,
            buckets: buckets as u32,
            capacity: (buckets * SLOTS * 3 / 4) as u32,
        }
    }

    /// Where the home bucket of a hash begins in its page.
    #[inline(always)]
    pub(super) fn home_offset(&self, hash: u64, lanes: usize) -> usize {
        HEADER_SIZE + self.home(hash) * bucket_size(lanes)
    }

    /// The home bucket of a hash: from its 32 low bits, which no directory uses.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * u64::from(self.buckets)) >> 32) as usize
    }

    fn bucket(&self, page: Page, bucket: usize) -> *mut u64 {
        debug_assert!(bucket < self.buckets as usize);
        page.at(HEADER_SIZE + bucket * bucket_size(self.lanes)).cast()
    }

    #[inline(always)]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets as usize {
            0
        } else {
            bucket + 1
        }
    }

    /// Empties a page.
    ///
    /// # Safety
    /// The page is live and of this shape, and nothing else refers to it.
    pub(super) unsafe fn clear(&self, page: Page) {
        // SAFETY: as the caller promises.
        unsafe { page.header_mut() }.entries = 0;
        for bucket in 0..self.buckets as usize {
            // SAFETY: every bucket begins with four keys inside the page.
            unsafe { self.bucket(page, bucket).cast::<[u64; SLOTS]>().write([0; SLOTS]) };
        }
    }

    /// The slot with `hash`, or the free slot where it belongs.
    ///
    /// # Safety
    /// The page is live and of this shape; the hash is not 0.
    #[inline]
    pub(super) unsafe fn find(&self, page: Page, hash: u64) -> Result<Slot, Slot> {
        let mut at = self.home(hash);
        loop {
            let bucket = self.bucket(page, at);
            // SAFETY: the bucket is in the page, whose bytes are initialized; blocks are aligned to 64
            // bytes, so its keys are aligned to 16.
            let (found, free) = unsafe { (equal_keys(bucket, hash), equal_keys(bucket, 0)) };
            if found != 0 {
                return Ok(Slot {
                    bucket,
                    index: found.trailing_zeros() as usize,
                });
            }
            if free != 0 {
                return Err(Slot {
                    bucket,
                    index: free.trailing_zeros() as usize,
                });
            }
            at = self.after(at);
        }
    }

    /// Adds an entry that the page does not have, with these values.
    ///
    /// # Safety
    /// The page is live, of this shape, and has less than `capacity` entries; `values` is `lanes` words
    /// that are not in this page.
    pub(super) unsafe fn add(&self, page: Page, hash: u64, values: *const u64) {
        // SAFETY: as the caller promises; with a free slot (I2) the search ends, and the slot is in the page.
        unsafe {
            let slot = match self.find(page, hash) {
                Ok(slot) | Err(slot) => slot,
            };
            *slot.key() = hash;
            slot.values(self.lanes)
                .copy_from_nonoverlapping(values, self.lanes);
            page.header_mut().entries += 1;
        }
    }

    /// The entries of a page from the slot `from` on, in the order of its slots: `visit` gets each one's slot
    /// number and slot, and answers whether to go on.
    ///
    /// # Safety
    /// The page is live and of this shape; `visit` does not move entries.
    pub(super) unsafe fn visit(
        &self,
        page: Page,
        from: u32,
        mut visit: impl FnMut(u32, Slot) -> bool,
    ) -> bool {
        for number in from..self.buckets * SLOTS as u32 {
            let slot = Slot {
                bucket: self.bucket(page, number as usize / SLOTS),
                index: number as usize % SLOTS,
            };
            // SAFETY: the slot is in the page.
            if unsafe { *slot.key() } != 0 && !visit(number, slot) {
                return false;
            }
        }
        true
    }

    /// Removes the entry in a slot that `find` has answered, and closes the gap.
    ///
    /// # Safety
    /// The page is live and of this shape; the slot is one of its own, with a key in it.
    pub(super) unsafe fn remove(&self, page: Page, slot: Slot) {
        // SAFETY: as the caller promises, and all slots named below are in the page.
        unsafe {
            page.header_mut().entries -= 1;
            let first = self.bucket(page, 0) as usize;
            let mut hole = (slot.bucket as usize - first) / bucket_size(self.lanes);
            let mut free = slot;
            loop {
                *free.key() = 0;
                if equal_keys(free.bucket, 0).count_ones() > 1 {
                    return; // the bucket was not full: no search has gone past it
                }
                let Some((at, mover)) = self.mover(page, hole) else {
                    return;
                };
                self.copy(mover, free);
                (hole, free) = (at, mover);
            }
        }
    }

    /// The nearest entry after the bucket `hole` whose search passes `hole`, and its bucket.
    ///
    /// # Safety
    /// The page is live and of this shape, and has a free slot in a bucket other than `hole`, or only one.
    unsafe fn mover(&self, page: Page, hole: usize) -> Option<(usize, Slot)> {
        let distance = |from: usize, to: usize| {
            if to >= from {
                to - from
            } else {
                to + self.buckets as usize - from
            }
        };
        let mut at = self.after(hole);
        while at != hole {
            let bucket = self.bucket(page, at);
            for index in 0..SLOTS {
                let slot = Slot { bucket, index };
                // SAFETY: the slot is in the page.
                let key = unsafe { *slot.key() };
                if key != 0 && distance(self.home(key), at) >= distance(hole, at) {
                    return Some((at, slot));
                }
            }
            // SAFETY: as in `find`.
            if unsafe { equal_keys(bucket, 0) } != 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Takes out every entry for which `leaves` answers true, in one pass that also closes the gaps: entries
    /// are met in the order of their searches, and move back towards home where room was made.
    ///
    /// # Safety
    /// The page is live and of this shape, and `leaves` does not touch it.
    pub(super) unsafe fn sweep(&self, page: Page, mut leaves: impl FnMut(u64, *mut u64) -> bool) {
        let mut at = 0;
        // SAFETY: buckets below `buckets` are in the page; there is one with a free slot (I2).
        while unsafe { equal_keys(self.bucket(page, at), 0) } == 0 {
            at += 1;
        }
        // No search goes past the bucket `at`, so the pass starts behind it.
        for _ in 0..self.buckets {
            at = self.after(at);
            let bucket = self.bucket(page, at);
            for index in 0..SLOTS {
                let slot = Slot { bucket, index };
                // SAFETY: the slot is in the page.
                let key = unsafe { *slot.key() };
                if key == 0 {
                    continue;
                }
                // SAFETY: the slot is in the page, and so are its values.
                if leaves(key, unsafe { slot.values(self.lanes) }) {
                    // SAFETY: the slot is in the page; no reference to the header is held.
                    unsafe {
                        *slot.key() = 0;
                        page.header_mut().entries -= 1;
                    }
                    continue;
                }
                let mut nearer = self.home(key);
                while nearer != at {
                    let bucket = self.bucket(page, nearer);
                    // SAFETY: as in `find`.
                    let free = unsafe { equal_keys(bucket, 0) };
                    if free != 0 {
                        let to = Slot {
                            bucket,
                            index: free.trailing_zeros() as usize,
                        };
                        // SAFETY: two slots of the page, the first with a key, the second free.
                        unsafe {
                            self.copy(slot, to);
                            *slot.key() = 0;
                        }
                        break;
                    }
                    nearer = self.after(nearer);
                }
            }
        }
    }

    /// Copies an entry to another slot.
    ///
    /// # Safety
    /// Two different slots of live pages of this shape.
    unsafe fn copy(&self, from: Slot, to: Slot) {
        // SAFETY: as the caller promises.
        unsafe {
            *to.key() = *from.key();
            to.values(self.lanes)
                .copy_from_nonoverlapping(from.values(self.lanes), self.lanes);
        }
    }
}

impl Slot {
    /// Where the slot's key is.
    ///
    /// # Safety
    /// The slot is in a live page.
    #[inline(always)]
    pub(super) unsafe fn key(self) -> *mut u64 {
        // SAFETY: a bucket begins with four keys.
        unsafe { self.bucket.add(self.index) }
    }

    /// Where the slot's values are.
    ///
    /// # Safety
    /// The slot is in a live page whose shape has `lanes` lanes.
    #[inline(always)]
    pub(super) unsafe fn values(self, lanes: usize) -> *mut u64 {
        // SAFETY: four times `lanes` values follow the keys.
        unsafe { self.bucket.add(SLOTS + self.index * lanes) }
    }
}

/// The bytes of a bucket.
#[inline(always)]
pub(super) const fn bucket_size(lanes: usize) -> usize {
    (SLOTS + SLOTS * lanes) * size_of::<u64>()
}

/// Which of the four keys at `bucket` equal `key`: bit i for key i.
///
/// # Safety
/// `bucket` is aligned to 16 bytes, and its first 32 bytes are initialized and not being written.
#[inline(always)]
pub(super) unsafe fn equal_keys(bucket: *const u64, key: u64) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of the x86-64 baseline; the loads are aligned and inside the bucket.
    unsafe {
        use std::arch::x86_64::*;
        // SSE2 compares 32 bits at a time: the halves are gathered and both must be equal.
        let wanted = _mm_set1_epi64x(key as i64);
        let first = _mm_castsi128_ps(_mm_cmpeq_epi32(_mm_load_si128(bucket.cast()), wanted));
        let second = _mm_castsi128_ps(_mm_cmpeq_epi32(_mm_load_si128(bucket.add(2).cast()), wanted));
        let low = _mm_shuffle_ps::<0x88>(first, second);
        let high = _mm_shuffle_ps::<0xdd>(first, second);
        _mm_movemask_ps(_mm_and_ps(low, high)) as u32
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as the caller promises.
    unsafe {
        equal_keys_plain(&*bucket.cast(), key)
    }
}

/// The same in plain Rust: for other processors, and the oracle of the tests.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_keys_plain(keys: &[u64; SLOTS], key: u64) -> u32 {
    keys.iter()
        .enumerate()
        .map(|(slot, &other)| u32::from(other == key) << slot)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Aligned([u64; SLOTS]);

    /// Keys that differ in one half only must not be taken for equal.
    #[test]
    fn keys_compare_as_in_plain_rust() {
        let values = [
            0,
            1,
            1 << 32,
            u64::MAX,
            0xffff_ffff,
            0xffff_ffff_0000_0000,
            0x1_0000_0001,
        ];
        for (a, b) in values.iter().flat_map(|&a| values.map(|b| (a, b))) {
            for wanted in values {
                let keys = Aligned([a, b, !a, a ^ (b << 1)]);
                // SAFETY: aligned, initialized, not shared.
                let fast = unsafe { equal_keys(keys.0.as_ptr(), wanted) };
                assert_eq!(
                    fast,
                    equal_keys_plain(&keys.0, wanted),
                    "{:x?} {wanted:x}",
                    keys.0
                );
            }
        }
    }

    #[test]
    fn one_lane_is_one_cache_line() {
        assert_eq!(bucket_size(1), 64);
        assert_eq!(Shape::new(32 << 10, 1).buckets, 511);
        assert_eq!(Shape::new(4 << 10, 16).capacity, 21);
    }
}
