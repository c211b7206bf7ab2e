//! The spill store: blocks of bytes go to unlinked files and come back verified.
//!
//! Operators hold a [`SpillHandle`] each, write blocks through it, keep the small [`BlockRef`]s, read them back
//! (one by one, or many with read-ahead through a [`BlockReader`]) and free them. Ground floor first:

mod block;
mod config;
mod stats;
mod codec;
mod workspace;
mod scattered;
mod simulated_disk;
mod file;
mod device;
mod simulated_device;
mod threads;
mod uring;
mod medium;
mod space;
mod store;
mod pipeline;
mod handle;
mod reader;
mod fetched;
mod probe;

pub use block::{BlockRef, Damage, HEADER_BYTES, decode_block_fragment};
pub use config::{Codec, IoChoice, SpillConfig};
pub use fetched::Fetched;
pub use handle::SpillHandle;
pub use probe::{DiskBandwidth, probe};
pub use reader::BlockReader;
pub use simulated_disk::{SimulatedDisk, SimulatedFaults, SimulatedReport};
pub use stats::SpillStats;
pub use store::SpillStore;
