//! Forebay: a managed-memory batch-and-stream engine.
//!
//! ```
//! use forebay::source::generate;
//! use forebay::{Environment, Result, record::first};
//!
//! # fn main() -> Result<()> {
//! let env = Environment::from_args()?;
//! let counts = env
//!     .source("pairs", generate(1000, |i| (i % 10, i)))
//!     .filter(|pair| pair.1 >= 500)
//!     .key_by(first())
//!     .count()
//!     .collect();
//! env.execute("counts")?;
//! assert_eq!(counts.take().len(), 10);
//! # Ok(())
//! # }
//! ```
//!
//! Ground floor first; a module uses only those above it in this list. Bytes are the floor below, `forebay_memory`.
//!
//! | module | owns |
//! |---|---|
//! | [`record`] | typed values as rows, their views, fields and keys |
//! | [`batch`] | rows of one type in one segment |
//! | [`clock`], [`metrics`] | time, real or simulated; what tasks count |
//! | [`exchange`] | channels with credits, gates, outputs, routers |
//! | [`aggregate`] | functions that fold records into lanes and byte strings |
//! | [`operator`] | chains, fused closures, aggregation that spills |
//! | [`task`] | the state machine that is polled, and the threads that poll it |
//! | [`source`], [`sink`] | where records come from and go to |
//! | [`plan`], `graph`, `layout`, `shares`, `broadcasts` | a job as data, and with its closures; where its rows are and in which order; what its operators have of managed memory; which small sides of joins go everywhere |
//! | `pressure_watch`, `runtime`, `summary` | what looks at memory outside; what jobs share; what one did |
//! | `interrupt`, `progress` | signals that cancel jobs; what a running job shows of itself |
//! | `job` | from graph to running tasks |
//! | [`simulator`] | a job's tasks on one thread, in an order drawn from a seed |
//! | `environment`, `stream`, `keyed`, `ordered`, `totals`, `joined`, `sets` | the API that builds jobs |
//!
//! # The life of a record
//! 1. A [`source::SourceReader`] pushes its view, and it is encoded, once, to a row of a [`batch::Batch`].
//! 2. The batch goes down the task's [`operator::Chain`], a dynamic call for each operator; closures see views of rows.
//! 3. At the chain's end a router says which subtask each row is for; the batch is handed over whole, or its rows are
//!    copied into the buffer of their [`exchange::Channel`].
//! 4. With a credit a full buffer goes to the receiver's gate, which gives the credit back when the rows have been used.
//! 5. An aggregation folds the row into the group of its key, in memory or in the log of a partition that has left it,
//!    and what comes of the group is a row again.
//! 6. A [`sink::SinkWriter`] sees its view.

// So that what the derive generates, which says `::forebay`, compiles here too.
extern crate self as forebay;

pub mod record;
pub mod batch;
#[cfg(feature = "parquet")]
pub mod arrow;

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
mod layout;
mod shares;
mod broadcasts;
mod pressure_watch;
mod runtime;
mod summary;
mod interrupt;
mod progress;
mod job;
pub mod simulator;
mod environment;
mod stream;
mod keyed;
mod ordered;
mod totals;
mod joined;
mod sets;

pub use environment::Environment;
pub use forebay_memory::plan::Mode;
pub use forebay_memory::{Error, ErrorKind, Result};
pub use interrupt::interrupted;
pub use job::{JobHandle, JobStatus};
pub use joined::{Join, JoinKeys, JoinStrategy};
pub use progress::Progress;
pub use runtime::Runtime;
pub use stream::{KeyedStream, Stream, StreamEnd};
pub use summary::JobSummary;
