//! `#[derive(Record)]` for Forebay.
