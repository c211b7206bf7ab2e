//! Processes that die: what they leave on disk.
fn main() {}
