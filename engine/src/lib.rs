//! Forebay: a managed-memory batch-and-stream engine.

// So that what the derive generates, which says `::forebay`, compiles here too.
extern crate self as forebay;

pub mod record;
pub mod batch;

pub mod clock;
pub mod metrics;
pub mod exchange;
pub mod aggregate;

pub mod operator;
pub mod task;
pub mod source;
pub mod sink;
pub mod plan;
mod graph;
mod runtime;
mod summary;
mod job;
pub mod simulator;
mod environment;
mod stream;
mod keyed;

pub use environment::Environment;
pub use forebay_memory::plan::Mode;
pub use forebay_memory::{Error, ErrorKind, Result};
pub use job::{JobHandle, JobStatus};
pub use runtime::Runtime;
pub use stream::{KeyedStream, Stream};
pub use summary::JobSummary;
