//! Forebay's ground floor: bytes. The only crate of the engine with `unsafe`.

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
pub mod arena;
mod ledger;
pub mod network;
pub mod manager;
pub mod pressure;
pub mod spill;
pub mod pages;

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
