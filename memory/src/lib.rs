//! Forebay's ground floor: bytes. The only crate of the engine with `unsafe`.
//!
//! Ground floor first; a module uses only those above it in this list.
//!
//! | module | owns |
//! |---|---|
//! | [`error`] | the one public error |
//! | [`segment`] | the unit of memory, and the traits of who gives it and who takes it back |
//! | [`hash`], [`text`], [`scatter`] | hashes of keys; checked text; rows into the buffers of their targets |
//! | [`size`], [`container`], [`config`], [`plan`] | from `forebay.toml` and the machine to one proved memory plan |
//! | [`account`] | what the process uses beside segments: counted heap, resident memory |
//! | [`page_cache`] | what of files the kernel keeps in memory |
//! | [`arena`] | the mapping that segments are cut from |
//! | `ledger` | who holds how many, fair shares, requests to give back |
//! | [`network`], [`manager`] | the two pools: buffers of exchanges; budgets of operators |
//! | [`pressure`] | what the machine says about memory, and what is given up for it |
//! | [`spill`] | files for what does not fit |
//! | [`pages`] | hash tables in segments |
//! | [`sort`] | rows in order: in memory, in runs on disk, merged |
//! | [`join`] | tables of the rows of a join |
//!
//! # The life of a segment
//! 1. The [`plan`] says how many there are. The [`arena`] reserves their addresses, and no memory.
//! 2. An operator's [`Budget`] asks its ledger, which counts one more on the operator's account; or says no, and
//!    asks holders above their shares to give some back.
//! 3. The arena hands out the block that was released last, or cuts up another slab; with the budget as its home
//!    the block is a [`Segment`]: owned, written to, perhaps frozen and shared.
//! 4. What is in the pages of a table leaves through the [`spill`] store, as entries, when memory is asked for: pages hold
//!    addresses, so they are dropped, and the entries come back in other pages.
//! 5. Dropped, by whichever thread, the block returns to the arena's stack and the count to the ledger; whoever
//!    waits for it is woken. When a whole slab is idle and memory is scarce, the kernel gets it back.

pub mod error;
pub mod segment;
pub mod hash;
pub mod text;
pub mod scatter;
pub mod size;
pub mod container;
pub mod config;
pub mod plan;
pub mod account;
pub mod page_cache;
pub mod arena;
mod ledger;
pub mod network;
pub mod manager;
pub mod pressure;
pub mod spill;
pub mod pages;
pub mod sort;
pub mod join;

pub use account::CountingAllocator;
pub use arena::Arena;
pub use config::Config;
pub use container::Container;
pub use error::{Error, ErrorKind, Result};
pub use ledger::Wake;
pub use manager::{Budget, BudgetStats, MemoryManager, MemoryStats, Reservation};
pub use network::{LocalPool, NetworkPool};
pub use plan::Plan;
pub use pressure::{Pressure, PressureMonitor, PressureReading};
pub use segment::{Block, Segment, SegmentHome, SegmentId, SegmentSource, SharedSegment};
pub use size::ByteSize;
pub use spill::{SpillHandle, SpillStats, SpillStore};
