//! Forebay's ground floor: bytes. The only crate of the engine with `unsafe`.

pub mod error;
pub mod segment;
pub mod hash;

pub use error::{Error, ErrorKind, Result};
pub use segment::{Block, Segment, SegmentHome, SegmentId, SegmentSource, SharedSegment};
