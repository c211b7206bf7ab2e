//! Forebay's ground floor: bytes. The only crate of the engine with `unsafe`.

pub mod error;
pub mod segment;
pub mod hash;
pub mod size;
pub mod container;

pub use container::Container;
pub use error::{Error, ErrorKind, Result};
pub use segment::{Block, Segment, SegmentHome, SegmentId, SegmentSource, SharedSegment};
pub use size::ByteSize;
