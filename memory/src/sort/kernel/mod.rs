//! The CPU kernels of sorting: items of a key of 64 bits in lists of segments, sorted in memory; sorted streams merged.

mod item;
mod chunks;
mod ties;
mod merge;
mod tree;
mod in_place;
mod runs;
mod stream;
mod distribute;
mod leaf;
mod sort;

pub use chunks::{Chunk, Chunks};
pub use item::{Entry, Item, Pair};
pub use merge::MergeItems;
pub use sort::{sort_entries, sort_pairs, sort_u64};
pub use ties::Ties;
pub use tree::{Code, LoserTree, Stream};
