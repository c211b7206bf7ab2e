//! Hash pages: tables whose every growing byte is in segments.
//!
//! One structure for aggregation, distinct, join builds, keyed state and window panes: a directory indexed by
//! the top bits of a hash points at self-contained pages, and a full page splits in two by the next bit. There
//! is no global rehash, and a range of the directory is a hash partition that can leave by itself.
//!
//! [`LineTable`] has keys of up to 64 bits (as their bijective hash) and values of 64-bit lanes; [`ByteTable`]
//! has byte strings for keys and values.

mod page;
mod directory;
mod line_page;
mod line;
mod keys;
mod blob;
mod byte_page;
mod byte;
mod byte_grow;
mod byte_change;

pub use blob::{Bytes, Parts};
pub use byte::{ByteTable, Stored};
pub use keys::{KeyBatch, KeySpan};
pub use line::{LineTable, MOST_LANES};
pub use page::prefetch_line;

/// How far a batch got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "rows after `rows` have not been folded"]
pub struct Progress {
    /// How many rows were folded, from the first on.
    pub rows: usize,
    /// Whether the batch stopped because the table needed a segment and its source had none to give: the
    /// caller frees some memory and calls again with the rows from `rows` on.
    pub starved: bool,
}

/// Where an iteration over a table stands. Updates of existing entries do not disturb it; entries that are
/// added or removed between two calls may be met twice or not at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    /// Directory place of the page to go on with.
    place: u64,
    /// The page's number in its chain.
    link: u32,
    /// The slot, or the offset in the heap, to go on with.
    slot: u32,
    begun: bool,
    done: bool,
}

impl Cursor {
    /// Whether everything has been visited.
    pub fn is_done(&self) -> bool {
        self.done
    }
}
