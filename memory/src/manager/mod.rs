//! Managed memory: one manager, budgets with guaranteed minimums, reservations that are all or nothing.

mod budget;
mod memory_manager;
mod reservation;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use memory_manager::{BudgetStats, MemoryManager, MemoryStats};
pub use reservation::Reservation;
