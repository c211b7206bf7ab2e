//! Whole jobs on real threads: user functions that fail, jobs side by side, budgets, quotas and disks that are full.

mod backpressure;
mod failing_edges;
mod endless;
mod failing_functions;
mod jobs_at_once;
mod limits;
mod hot_keys;
mod new_keys;
mod real_threads;
