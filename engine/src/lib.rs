//! Forebay: a managed-memory batch-and-stream engine.

// So that what the derive generates, which says `::forebay`, compiles here too.
extern crate self as forebay;

pub mod record;
