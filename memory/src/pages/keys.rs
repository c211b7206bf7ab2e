//! A batch of byte-string keys: places in one buffer, checked once.

use crate::hash::hash_bytes;

/// Where one key lies in the buffer of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct KeySpan {
    /// The offset of the key's first byte.
    pub start: u32,
    /// The key's bytes.
    pub size: u32,
}

/// Keys of a batch of rows: a buffer (a segment of rows, a piece of text) and each row's span in it.
#[derive(Debug, Clone, Copy)]
pub struct KeyBatch<'k> {
    buffer: &'k [u8],
    spans: &'k [KeySpan],
}

impl<'k> KeyBatch<'k> {
    /// The keys at `spans` of `buffer`.
    ///
    /// # Panics
    /// Where a span is not inside the buffer.
    pub fn new(buffer: &'k [u8], spans: &'k [KeySpan]) -> Self {
        let end = spans
            .iter()
            .map(|span| u64::from(span.start) + u64::from(span.size))
            .max();
        assert!(
            end.unwrap_or(0) <= buffer.len() as u64,
            "keys end within their buffer"
        );
        KeyBatch { buffer, spans }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The key of a row.
    #[inline(always)]
    pub fn key(&self, row: usize) -> &'k [u8] {
        // SAFETY: the span is one of the batch.
        unsafe { self.at(self.spans[row]) }
    }

    /// The key at a span.
    ///
    /// # Safety
    /// The span is one of the batch: `new` has checked it.
    #[inline(always)]
    pub(super) unsafe fn at(&self, span: KeySpan) -> &'k [u8] {
        let start = span.start as usize;
        // SAFETY: the span is inside the buffer, as the caller promises.
        unsafe { self.buffer.get_unchecked(start..start + span.size as usize) }
    }

    /// The spans from `row` on.
    #[inline(always)]
    pub(super) fn spans(&self, row: usize) -> &'k [KeySpan] {
        &self.spans[row..]
    }

    /// The keys from `row` on: for going on after a batch that stopped there.
    pub fn tail(&self, row: usize) -> KeyBatch<'k> {
        KeyBatch {
            buffer: self.buffer,
            spans: &self.spans[row..],
        }
    }

    /// The hash of each key.
    ///
    /// # Panics
    /// Where `out` is shorter than the batch.
    pub fn hash_into(&self, out: &mut [u64]) {
        let out = &mut out[..self.len()];
        for (row, hash) in out.iter_mut().enumerate() {
            *hash = hash_bytes(self.key(row));
        }
    }

    /// Whether 16 bytes can be read where a key begins.
    #[inline(always)]
    pub(super) fn is_wide(&self, span: KeySpan) -> bool {
        span.start as usize + 16 <= self.buffer.len()
    }
}

/// Whether the first `size` bytes at two addresses are equal; `size` is at most 16.
///
/// # Safety
/// 16 initialized bytes can be read at both addresses.
#[inline(always)]
pub(super) unsafe fn equal_short(left: *const u8, right: *const u8, size: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of the x86-64 baseline; the loads are unaligned and inside what the caller grants.
    unsafe {
        use std::arch::x86_64::*;
        let equal = _mm_cmpeq_epi8(_mm_loadu_si128(left.cast()), _mm_loadu_si128(right.cast()));
        let differing = !(_mm_movemask_epi8(equal) as u32);
        differing.trailing_zeros() as usize >= size
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as the caller promises.
    unsafe {
        std::slice::from_raw_parts(left, size) == std::slice::from_raw_parts(right, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_their_spans() {
        let spans = [
            KeySpan { start: 0, size: 3 },
            KeySpan { start: 3, size: 0 },
            KeySpan { start: 1, size: 5 },
        ];
        let keys = KeyBatch::new(b"foobar", &spans);
        assert_eq!(
            (keys.key(0), keys.key(1), keys.key(2)),
            (&b"foo"[..], &b""[..], &b"oobar"[..])
        );
        let mut hashes = [0; 2];
        keys.tail(1).hash_into(&mut hashes);
        assert_eq!(hashes, [hash_bytes(b""), hash_bytes(b"oobar")]);
    }

    #[test]
    #[should_panic(expected = "within their buffer")]
    fn a_span_outside_the_buffer_is_refused() {
        KeyBatch::new(
            b"foobar",
            &[KeySpan {
                start: u32::MAX,
                size: 3,
            }],
        );
    }

    /// The safe twin compares slices; every size, and a difference at every byte.
    #[test]
    fn short_keys_compare_as_slices() {
        let left: [u8; 16] = std::array::from_fn(|index| index as u8 * 17);
        for size in 0..=16 {
            for changed in 0..16 {
                let mut right = left;
                right[changed] ^= 0x80;
                // SAFETY: both arrays have 16 bytes.
                let equal = unsafe { equal_short(left.as_ptr(), right.as_ptr(), size) };
                assert_eq!(equal, left[..size] == right[..size]);
            }
        }
    }
}
