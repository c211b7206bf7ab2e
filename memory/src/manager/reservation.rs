//! The reservation: segments that are counted on a budget before they are taken.

use std::sync::Arc;

use crate::manager::budget::Home;
use crate::segment::Segment;

/// Several segments of a budget, granted together; what was not taken goes back when it is dropped.
pub struct Reservation {
    home: Arc<Home>,
    remaining: usize,
}

impl Reservation {
    pub(super) fn new(home: Arc<Home>, count: usize) -> Reservation {
        Reservation {
            home,
            remaining: count,
        }
    }

    /// One of the reserved segments, or `None` where all were taken.
    pub fn take(&mut self) -> Option<Segment> {
        self.remaining = self.remaining.checked_sub(1)?;
        Some(self.home.segment())
    }

    /// How many segments can still be taken.
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// The size of every segment in bytes.
    pub fn segment_size(&self) -> usize {
        self.home.arena.segment_size()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.remaining > 0 {
            self.home.ledger.release(&self.home.account, self.remaining);
        }
    }
}
