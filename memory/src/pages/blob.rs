//! Bytes of an entry as they are handed out, and the chains of segments that hold those over a quarter page.

use super::directory::Directory;
use super::page::{HEADER_SIZE, Page};
use std::marker::PhantomData;
use std::slice;

/// A key or a value in a table: in one piece, or in several where it is too large for a page.
#[derive(Clone, Copy)]
pub struct Bytes<'t> {
    at: At<'t>,
    size: usize,
}

#[derive(Clone, Copy)]
enum At<'t> {
    Here(&'t [u8]),
    /// The first page of a chain, and the bytes of each.
    Chain(Page, usize, PhantomData<&'t [u8]>),
}

impl<'t> Bytes<'t> {
    pub(super) fn here(bytes: &'t [u8]) -> Self {
        Bytes {
            at: At::Here(bytes),
            size: bytes.len(),
        }
    }

    /// # Safety
    /// `first` begins a chain that `write` has made of `size` bytes with this page size, and it lives, not
    /// written, for `'t`.
    pub(super) unsafe fn chain(first: Page, size: usize, page_size: usize) -> Self {
        Bytes {
            at: At::Chain(first, page_size - HEADER_SIZE, PhantomData),
            size,
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// The bytes, where they are in one piece: always up to a quarter page.
    pub fn whole(&self) -> Option<&'t [u8]> {
        let mut parts = self.parts();
        let first = parts.next().unwrap_or(&[]);
        (first.len() == self.size).then_some(first)
    }

    /// The pieces in order.
    pub fn parts(&self) -> Parts<'t> {
        Parts {
            at: self.at,
            left: self.size,
        }
    }

    /// A copy in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.size);
        self.parts().for_each(|part| copy.extend_from_slice(part));
        copy
    }

    /// Whether the bytes equal these.
    pub fn equals(&self, mut other: &[u8]) -> bool {
        self.size == other.len()
            && self.parts().all(|part| {
                let (head, tail) = other.split_at(part.len());
                other = tail;
                part == head
            })
    }
}

/// The pieces of [`Bytes`].
pub struct Parts<'t> {
    at: At<'t>,
    left: usize,
}

impl<'t> Iterator for Parts<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        if self.left == 0 {
            return None;
        }
        match self.at {
            At::Here(bytes) => {
                self.left = 0;
                Some(bytes)
            }
            At::Chain(page, capacity, _) => {
                let size = self.left.min(capacity);
                self.left -= size;
                // SAFETY: as `Bytes::chain` was promised, the chain has a page for every `capacity` bytes,
                // which live and are not written for `'t`.
                unsafe {
                    self.at = At::Chain(page.header().next, capacity, PhantomData);
                    Some(slice::from_raw_parts(page.at(HEADER_SIZE), size))
                }
            }
        }
    }
}

/// Writes bytes to a chain of fresh pages and answers the first, or none where the source has not enough.
pub(super) fn write(directory: &mut Directory, bytes: &[u8]) -> Option<Page> {
    let capacity = directory.page_size() - HEADER_SIZE;
    let mut first = Page::NONE;
    // From the end, so that each page can name the one after it.
    for part in bytes.chunks(capacity).rev() {
        let Some(page) = directory.take_page() else {
            // SAFETY: the pages were taken here and nothing refers to them.
            unsafe { directory.give_back_chain(first) };
            return None;
        };
        // SAFETY: the page was just taken, and a part is at most its capacity.
        unsafe {
            page.header_mut().next = first;
            page.at(HEADER_SIZE)
                .copy_from_nonoverlapping(part.as_ptr(), part.len());
        }
        first = page;
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_one_piece() {
        let bytes = Bytes::here(b"forebay");
        assert_eq!((bytes.len(), bytes.whole()), (7, Some(&b"forebay"[..])));
        assert!(bytes.equals(b"forebay") && !bytes.equals(b"forebax") && !bytes.equals(b"forebay "));
        assert_eq!(Bytes::here(b"").whole(), Some(&b""[..]));
        assert_eq!(Bytes::here(b"").parts().count(), 0);
    }
}
