//! The exchange: batches handed between tasks by ownership, paced by credits.

mod channel;
mod gate;
mod output;
mod router;

pub use channel::{Channel, ChannelLimits, Message, Wake};
pub use gate::{Credit, Gate, GateRead, GateReader};
pub use output::{Direct, Exchange, Output, SendState};
pub use router::{Broadcast, ByInteger, Forward, HashRouter, Rebalance, Route, Router};
