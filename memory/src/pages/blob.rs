//! Bytes of an entry as they are handed out, and the chains of segments that hold those over a quarter page.
//!
//! # Layout
//! A page of a chain: | header 64 B | address of the chain's last page 8 B, in the first page | bytes |. Every page but the last
//! is full.

use super::directory::Directory;
use super::page::{HEADER_SIZE, Page};
use std::marker::PhantomData;
use std::slice;

/// Where the bytes of a page begin.
const BYTES_AT: usize = HEADER_SIZE + size_of::<Page>();

/// The bytes that a page of a chain holds.
pub(super) fn capacity(page_size: usize) -> usize {
    page_size - BYTES_AT
}

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
            at: At::Chain(first, capacity(page_size), PhantomData),
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

    /// Whether the bytes are in segments of their own.
    pub fn is_chained(&self) -> bool {
        matches!(self.at, At::Chain(..))
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
                    Some(slice::from_raw_parts(page.at(BYTES_AT), size))
                }
            }
        }
    }
}

/// Writes bytes to a chain of fresh pages and answers the first, or none where the source has not enough. There is at least
/// one byte.
pub(super) fn write(directory: &mut Directory, bytes: &[u8]) -> Option<Page> {
    let capacity = capacity(directory.page_size());
    let (mut first, mut last) = (Page::NONE, Page::NONE);
    // From the end, so that each page can name the one after it.
    for part in bytes.chunks(capacity).rev() {
        let Some(page) = directory.take_page() else {
            // SAFETY: the pages were taken here and nothing refers to them.
            unsafe { directory.give_back_chain(first) };
            return None;
        };
        if first.is_none() {
            last = page;
        }
        // SAFETY: the page was just taken, and a part is at most its capacity.
        unsafe {
            page.header_mut().next = first;
            page.at(BYTES_AT)
                .copy_from_nonoverlapping(part.as_ptr(), part.len());
        }
        first = page;
    }
    // SAFETY: the first page was taken above; nothing else refers to it.
    unsafe { set_last(first, last) };
    Some(first)
}

/// # Safety
/// `first` is a live page of a chain.
unsafe fn set_last(first: Page, last: Page) {
    // SAFETY: a page has at least 4 KiB, and what follows its header is aligned.
    unsafe { first.at(HEADER_SIZE).cast::<Page>().write(last) };
}

/// Appends bytes to a chain of `size` bytes; false, and nothing has changed, where the source has not the pages.
///
/// # Safety
/// `first` begins a live chain that `write` has made and that has `size` bytes now; nothing else refers to it.
pub(super) unsafe fn append(directory: &mut Directory, first: Page, size: usize, bytes: &[u8]) -> bool {
    let capacity = capacity(directory.page_size());
    let used = (size - 1) % capacity + 1;
    let (here, more) = bytes.split_at(bytes.len().min(capacity - used));
    let mut rest = Page::NONE;
    if !more.is_empty() {
        match write(directory, more) {
            Some(pages) => rest = pages,
            None => return false,
        }
    }
    // SAFETY: as the caller promises, the chain is live, its first page names the last one, and that has `used` bytes; the
    // new pages were made by `write`.
    unsafe {
        let last = *first.at(HEADER_SIZE).cast::<Page>();
        last.at(BYTES_AT + used)
            .copy_from_nonoverlapping(here.as_ptr(), here.len());
        if !rest.is_none() {
            last.header_mut().next = rest;
            set_last(first, *rest.at(HEADER_SIZE).cast::<Page>());
        }
    }
    true
}

/// Replaces the bytes of a chain by no more of them, and gives back the pages that it does not need any more. There is at least
/// one byte.
///
/// # Safety
/// `first` begins a live chain that `write` has made, of at least as many bytes; nothing else refers to it.
pub(super) unsafe fn rewrite(directory: &mut Directory, first: Page, bytes: &[u8]) {
    let capacity = capacity(directory.page_size());
    let mut page = first;
    let mut parts = bytes.chunks(capacity).peekable();
    while let Some(part) = parts.next() {
        // SAFETY: as the caller promises, the chain is live and has a page for every `capacity` bytes.
        unsafe {
            page.at(BYTES_AT)
                .copy_from_nonoverlapping(part.as_ptr(), part.len());
            if parts.peek().is_some() {
                page = page.header().next;
            } else {
                let rest = std::mem::replace(&mut page.header_mut().next, Page::NONE);
                directory.give_back_chain(rest);
                set_last(first, page);
            }
        }
    }
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
