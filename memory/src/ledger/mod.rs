//! The ledger of one pool: who holds how many segments, who may have more, and who is asked to give some back.

mod arbiter;
mod book;

pub(crate) use book::{Account, AccountTerms, Ledger, Refused, USUAL_WEIGHT};

/// Called when a request that was denied could now be granted, by the thread that made it so, or by the denied
/// request itself. It must be short, and must not wait for a lock under which segments are taken or dropped.
pub type Wake = std::sync::Arc<dyn Fn() + Send + Sync>;
