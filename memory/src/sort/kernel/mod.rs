//! The CPU kernels of sorting: items with a key of 64 bits in lists of segments, sorted in memory.
//!
//! # Interface
//! [`Chunks`] are filled; [`sort_entries`], [`sort_u64`] or [`sort_pairs`] sorts them, with spare segments or without, all at
//! once; [`Sort`] does so in steps, [`Seen`] spares it looking at them again, [`Distribution`] shares them out.
//!
//! # Invariants
//! I1. No segment is taken or lost, and a sorted list has no more than its items need: the tests' `check`
//!     (`memory/tests/sort_kernel.rs`), `a_comparison_that_panics_loses_no_segment`.
//! I2. The result is the same whatever the spares, the chunks and their gaps: every test sorts with none to a thousand.
//!
//! # Cost
//! docs/decisions/018-sorting-in-segments.md has the figures.

mod item;
mod chunks;
mod ties;
mod merge;
mod in_place;
mod runs;
mod stream;
mod distribute;
mod leaf;
mod sort;

pub use chunks::{Chunk, Chunks};
pub use distribute::{Bits, Distribution};
pub use item::{Entry, Item, Pair};
pub use sort::{Seen, Sort, distribution_bits, sort_entries, sort_pairs, sort_u64};
pub use ties::{ByRest, Ties};
