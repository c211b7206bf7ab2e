//! The snippets of the documents, which compile and run as doctests of this crate.

#[doc = include_str!("../../README.md")]
mod readme {}

#[doc = include_str!("../../docs/GUIDE.md")]
mod guide {}
