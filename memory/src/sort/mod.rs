//! Sorting on bytes: rows in segments to runs, runs to one sequence.
//!
//! Ground floor first: the order that the engine gives ([`RowOrder`]); the kernels; rows and what stands for them; runs and their
//! ranges; cursors over them, one merge, and merging in steps; what several sorters hold; the sorter.

mod order;
mod columns;
pub mod kernel;
mod rows;
mod items;
mod narrow;
mod run;
mod ahead;
mod cursor;
mod merge;
mod item_merge;
mod merger;
mod split;
mod together;
mod sorter;

pub use columns::{ColumnKind, ColumnOrder, KeyColumn};
pub use items::{Items, Located, Put};
pub use merger::{Merger, RowOutput, Step};
pub use narrow::{Narrow, NarrowForm, NarrowRow, NumberRow, PairRow};
pub use order::{Difference, KeyScratch, MOST_WORDS, RowOrder, differ};
pub use rows::{RowStore, Scratch};
pub use run::{MemoryRun, Piece, Run, RunBlock, RunWriter, SpilledRun};
pub use sorter::{Sorted, Sorter};
pub use split::split;
pub use together::{Held, Together};
