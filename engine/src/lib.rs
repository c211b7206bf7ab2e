//! Forebay: a managed-memory batch-and-stream engine.
