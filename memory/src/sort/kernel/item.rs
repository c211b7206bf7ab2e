//! What the kernels sort: plain items of 8 or 16 bytes whose first word is their key.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An item that is sorted by a key of 64 bits.
pub trait Item: Copy + Send + Sync + FromBytes + IntoBytes + Immutable + 'static {
    /// Whether items of equal keys are the same, so that nothing is left to order among them.
    const KEY_IS_ALL: bool;

    /// What it is sorted by first.
    fn key(&self) -> u64;

    /// The same item with another key.
    fn with_key(self, key: u64) -> Self;

    /// What is beside the key: a locator or a payload.
    fn rest(&self) -> u64;
}

/// A row in a sort's index: the first eight bytes of its normalized key as a number (big endian), and where it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Entry {
    /// The first word of the normalized key.
    pub prefix: u64,
    /// Where the row is; what it means is the caller's affair.
    pub locator: u64,
}

/// A row that is a key and a payload, each of 64 bits: sorted itself, without an index.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Pair {
    /// What it is sorted by first.
    pub key: u64,
    /// What goes with it; orders rows of equal keys.
    pub payload: u64,
}

impl Item for u64 {
    const KEY_IS_ALL: bool = true;

    #[inline(always)]
    fn key(&self) -> u64 {
        *self
    }

    #[inline(always)]
    fn with_key(self, key: u64) -> Self {
        key
    }

    #[inline(always)]
    fn rest(&self) -> u64 {
        0
    }
}

impl Item for Entry {
    const KEY_IS_ALL: bool = false;

    #[inline(always)]
    fn key(&self) -> u64 {
        self.prefix
    }

    #[inline(always)]
    fn with_key(self, key: u64) -> Self {
        Entry { prefix: key, ..self }
    }

    #[inline(always)]
    fn rest(&self) -> u64 {
        self.locator
    }
}

impl Item for Pair {
    const KEY_IS_ALL: bool = false;

    #[inline(always)]
    fn key(&self) -> u64 {
        self.key
    }

    #[inline(always)]
    fn with_key(self, key: u64) -> Self {
        Pair { key, ..self }
    }

    #[inline(always)]
    fn rest(&self) -> u64 {
        self.payload
    }
}
