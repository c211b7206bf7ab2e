//! The check that bytes of a row are text: [`checked_str`], which every access to a string field goes through.
//!
//! # Algorithm
//! Eight bytes at a time: while no byte has its top bit set, the text is ASCII, which is UTF-8. At the first
//! byte that has, the rest goes to the standard library's full check. A short ASCII string costs 1 to 2 ns,
//! which is why strings are checked where they are read and not trusted: a row may come from a disk.

use std::str;

const TOP_BITS: u64 = 0x8080_8080_8080_8080;

/// `bytes` as text, or `None` where they are not UTF-8.
#[inline]
pub fn checked_str(bytes: &[u8]) -> Option<&str> {
    if is_ascii(bytes) {
        // SAFETY: `is_ascii` found no byte of 128 or more, and every such string is valid UTF-8.
        Some(unsafe { str::from_utf8_unchecked(bytes) })
    } else {
        full_check(bytes)
    }
}

#[cold]
fn full_check(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

/// Whether no byte has its top bit set. The last word overlaps the one before it, so that no length needs a
/// loop over single bytes.
#[inline(always)]
fn is_ascii(bytes: &[u8]) -> bool {
    let size = bytes.len();
    if size >= 8 {
        let mut seen = word(bytes, size - 8);
        let mut offset = 0;
        while offset + 8 < size {
            seen |= word(bytes, offset);
            offset += 8;
        }
        seen & TOP_BITS == 0
    } else if size >= 4 {
        (half_word(bytes, 0) | half_word(bytes, size - 4)) & (TOP_BITS as u32) == 0
    } else {
        bytes.iter().fold(0, |seen, byte| seen | byte) < 0x80
    }
}

#[inline(always)]
fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(
        bytes[offset..offset + 8]
            .try_into()
            .expect("eight bytes make a word"),
    )
}

#[inline(always)]
fn half_word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(
        bytes[offset..offset + 4]
            .try_into()
            .expect("four bytes make half a word"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The safe twin is `str::from_utf8`: equal on every length up to 40 with one byte changed to each value.
    #[test]
    fn agrees_with_the_full_check() {
        for size in 0..40 {
            let plain = vec![b'a'; size];
            assert_eq!(checked_str(&plain), str::from_utf8(&plain).ok());
            for position in 0..size {
                for byte in 0..=255 {
                    let mut bytes = plain.clone();
                    bytes[position] = byte;
                    assert_eq!(checked_str(&bytes), str::from_utf8(&bytes).ok(), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn takes_text_that_is_not_ascii() {
        for text in [
            "é",
            "naïve",
            "日本語のテキスト",
            "a longer tail 🌊",
            "🌊 head of a longer text",
        ] {
            assert_eq!(checked_str(text.as_bytes()), Some(text));
        }
        let cut = "a longer tail 🌊".as_bytes();
        assert_eq!(checked_str(&cut[..cut.len() - 1]), None);
    }
}
