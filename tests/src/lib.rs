//! What the tests of whole jobs share: means to run on, and random jobs with an oracle.
//!
//! The tests themselves are the targets beside this crate's `src`: `simulation`, `model`, `crash`, `end_to_end`. The
//! snippets of the documents are its doctests.

pub mod means;
pub mod jobs;
pub mod decoders;
#[cfg(doctest)]
mod documents;
