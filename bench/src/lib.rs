//! Forebay's benchmark harness: workloads, their input, their oracles, and what this machine could do at best.
//!
//! A module uses only those above it:
//!
//! - [`data`]: input, each record a function of seed and index
//! - [`setting`]: everything that determines one run
//! - [`cli`]: the command line
//! - [`options`]: which of its options a workload may take
//! - [`table`], [`progress`]: what the user sees
//! - [`process`], [`scratch`]: memory, processor time and files of this process
//! - [`limits`]: what the machine can do at best
//! - [`result`]: what was measured, as JSON
//! - [`workload`]: jobs, their oracles, and the same steps without an engine
//! - [`generate`], [`compare`]: the commands that run nothing
//! - [`places`]: where results go, before anything is measured
//! - [`suite`]: which settings a command line means
//! - [`oracle`]: results computed plainly, and steps without an engine, in a process of their own
//! - [`run`]: measures settings, compares them with oracle and limits, and prints the table
//! - [`sweep`]: measures one workload at many sizes, against a formula

pub mod data;
pub mod setting;
pub mod cli;
pub mod options;
pub mod table;
pub mod progress;
pub mod process;
pub mod scratch;
pub mod limits;
pub mod result;
pub mod workload;
pub mod generate;
pub mod compare;
pub mod places;
pub mod suite;
pub mod oracle;
pub mod run;
pub mod sweep;
