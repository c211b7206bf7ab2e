//! [`FirstRanks`]: where the records of each subtask of a sorted stream begin, for sinks that write at exact places.
//!
//! # Interface
//! The sort calls [`FirstRanks::publish`] when it knows how many records each of its subtasks will send, and before any of them
//! sends one; a sink calls [`FirstRanks::range`] when it gets its first record, and when there was none.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The ranks of subtasks' first records, once they are known. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct FirstRanks(Arc<OnceLock<Vec<u64>>>);

impl FirstRanks {
    /// Says that subtask `i` sends records `bounds[i]..bounds[i + 1]` of all. What is said again changes nothing.
    ///
    /// # Panics
    /// Where bounds do not begin with 0, or are not in order.
    pub fn publish(&self, bounds: &[u64]) {
        assert!(
            bounds.first() == Some(&0) && bounds.is_sorted(),
            "ranks begin with 0 and are in order: {bounds:?}"
        );
        self.0.get_or_init(|| bounds.to_vec());
    }

    /// The ranks of a subtask's records; nothing before they are known, or where there is no such subtask.
    pub fn range(&self, subtask: usize) -> Option<Range<u64>> {
        let bounds = self.0.get()?;
        Some(*bounds.get(subtask)?..*bounds.get(subtask + 1)?)
    }

    /// How many subtasks send records, once that is known.
    pub fn subtasks(&self) -> Option<usize> {
        self.0.get().map(|bounds| bounds.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_once_is_known_to_every_clone() {
        let ranks = FirstRanks::default();
        let clone = ranks.clone();
        assert_eq!((clone.range(0), clone.subtasks()), (None, None));
        ranks.publish(&[0, 5, 5, 9]);
        ranks.publish(&[0, 1]);
        assert_eq!(clone.subtasks(), Some(3));
        assert_eq!(
            [0, 1, 2, 3].map(|subtask| clone.range(subtask)),
            [Some(0..5), Some(5..5), Some(5..9), None]
        );
    }
}
