//! Processes that are killed or interrupted in the middle of a job: how they end, and what they leave on disk.

mod interrupted;
mod killed;
