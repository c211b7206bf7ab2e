//! What the tests of whole jobs share: means to run on, and random jobs with an oracle.
//!
//! The tests themselves are the targets beside this crate's `src`: `simulation`, `model`, `crash`, `end_to_end`.

pub mod means;
pub mod jobs;
