//! Sorting on bytes: rows in segments to runs, runs to one sequence.
//!
//! Ground floor first: the order that the engine gives ([`RowOrder`]); the kernels; rows and what stands for them; runs and their
//! ranges; cursors over them, one merge, and merging in steps; the sorter.

mod order;
pub mod kernel;
mod rows;
mod items;
mod run;
mod cursor;
mod merge;
mod merger;
mod split;
mod sorter;

pub use items::{Items, Located};
pub use merger::{Merger, Step};
pub use order::{KeyScratch, RowOrder};
pub use rows::{RowStore, Scratch};
pub use run::{MemoryRun, Piece, Run, RunBlock, RunWriter, SpilledRun};
pub use sorter::{Sorted, Sorter};
pub use split::split;
