//! Sorting in segments.

pub mod kernel;
