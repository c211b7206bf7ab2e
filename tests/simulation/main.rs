//! Whole jobs under the seeded simulator: random graphs, random schedules, few segments, faulty disks.
//!
//! `FOREBAY_SIMULATIONS=10000` runs more of them, `FOREBAY_SEED=17` one again.

mod order;
mod random_jobs;
