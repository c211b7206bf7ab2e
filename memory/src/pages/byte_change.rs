//! How values of a byte table are changed where they are, for values of any size that grow.
//!
//! # Interface
//! [`ByteTable::value_mut`] hands out a value that is in its page; [`ByteTable::append`] and [`ByteTable::rewrite`] change one
//! that is in segments of its own; [`ByteTable::prefetch`] brings what a batch of them needs into the cache. A value changes
//! its kind by [`ByteTable::replace`] alone.

use super::blob;
use super::byte::{ByteTable, Stored};
use super::byte_page::{ENTRY_HEADER, MOST_SIZE, OUT_OF_LINE, equal_tags, padded, part_size, tag};
use super::page::{Page, prefetch};
use std::slice;

impl ByteTable {
    /// The value of a key, to be changed; nothing where there is none, or where it is in segments of its own.
    pub fn value_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut [u8]> {
        let (_, entry, _) = self.find(hash, key)?;
        // SAFETY: the entry is in a live page with as many bytes of value in line as its word says, and the table is borrowed
        // mutably: this is their only reference.
        unsafe {
            let word = entry.value_word();
            (word & OUT_OF_LINE == 0).then(|| slice::from_raw_parts_mut(entry.value(), part_size(word)))
        }
    }

    /// Appends to the value of a key that is in segments of its own.
    ///
    /// # Panics
    /// Where there is no such value, or it gets 1 GiB or more.
    pub fn append(&mut self, hash: u64, key: &[u8], bytes: &[u8]) -> Stored {
        let (entry, size, first) = self.chain_of(hash, key);
        let grown = size + bytes.len();
        assert!(grown <= MOST_SIZE, "a key or value has less than 1 GiB");
        // SAFETY: the chain is the entry's (byte table I1), of the size that its word says; the table is borrowed mutably.
        unsafe {
            if !blob::append(&mut self.directory, first, size, bytes) {
                return Stored::Starved;
            }
            entry.begin(hash, entry.key_word(), grown as u32 | OUT_OF_LINE);
        }
        Stored::Replaced
    }

    /// Replaces the value of a key that is in segments of its own by one that is no larger, and not empty; gives segments back.
    ///
    /// # Panics
    /// Where there is no such value, or the new one is larger or empty.
    pub fn rewrite(&mut self, hash: u64, key: &[u8], bytes: &[u8]) {
        let (entry, size, first) = self.chain_of(hash, key);
        assert!(
            (1..=size).contains(&bytes.len()),
            "a value is rewritten with 1 B to {size} B, not {} B",
            bytes.len()
        );
        // SAFETY: as in `append`, and the bytes are no more than there were.
        unsafe {
            blob::rewrite(&mut self.directory, first, bytes);
            entry.begin(hash, entry.key_word(), bytes.len() as u32 | OUT_OF_LINE);
        }
    }

    fn chain_of(&self, hash: u64, key: &[u8]) -> (super::byte_page::Entry, usize, Page) {
        let (_, entry, _) = self.find(hash, key).expect("the key has a value");
        // SAFETY: the entry is in a live page; a part that is out of line has the address of its chain.
        unsafe {
            let word = entry.value_word();
            assert!(
                word & OUT_OF_LINE != 0,
                "the value is in segments of its own, not in its page"
            );
            (entry, part_size(word), *entry.value().cast::<Page>())
        }
    }

    /// The largest value that stays in its page beside a key of so many bytes.
    pub fn most_in_line(&self, key_size: usize) -> usize {
        let key = padded(key_size) + ENTRY_HEADER;
        // Rounded down to what entries are rounded up to.
        (self.layout.most_inline() & !15).saturating_sub(key)
    }

    /// Asks for the lines that looking up these hashes will need. Changes nothing.
    pub fn prefetch(&self, hashes: &[u64]) {
        let lookup = self.directory.lookup();
        // SAFETY: pages that the directory leads to are live, lines of theirs are in them, and slots with tags have entries.
        unsafe {
            for hash in hashes {
                let page = lookup.page::<false>(*hash);
                if !page.is_none() {
                    prefetch(self.layout.home_line(page, *hash).cast());
                }
            }
            for hash in hashes {
                let page = lookup.page::<false>(*hash);
                if page.is_none() {
                    continue;
                }
                let line = self.layout.home_line(page, *hash);
                let tags = equal_tags(line, tag(*hash));
                if tags != 0 {
                    let entry = self.layout.entry(page, line, tags.trailing_zeros());
                    prefetch(entry.0);
                    prefetch(entry.0.wrapping_add(64));
                }
            }
        }
    }
}
