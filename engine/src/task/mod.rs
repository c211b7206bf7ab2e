//! Tasks and the workers that poll them.

mod control;
mod poll;
mod worker;

pub use control::{JobControl, TaskStatus};
pub use poll::{Polled, SourceDriver, SourceStatus, Task, TaskInput};
pub use worker::{Parker, Worker};
pub(crate) use worker::{caught, poll_caught};
