//! `cargo xtask tidy|ci`.
fn main() {}
