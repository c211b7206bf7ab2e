//! [`RowsBytes`]: what is known of the bytes of rows before there are any.
//!
//! # Interface
//! [`RowsBytes::exactly`], [`RowsBytes::at_most`], [`RowsBytes::at_least`], [`RowsBytes::about`] and [`RowsBytes::UNKNOWN`] say what a
//! source knows; the plan adds them up, and follows them through maps and filters.
//!
//! # Invariants
//! I1. `least ≤ most`; each constructor sees to it, and what is made of two or of one keeps it.

use forebay_memory::ByteSize;
use std::fmt;
use std::ops::Add;

/// An estimate may be wrong by so much, either way.
const DOUBT: u64 = 4;

/// The bytes of all rows of a source, between two bounds: a plan chooses by them, and no result depends on whether they are right.
/// (If they are not, a join keeps the larger side in memory, or sends it everywhere, which is slow and not wrong.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsBytes {
    /// There are as many at least.
    least: u64,
    /// There are no more than that; all bits set where nobody knows.
    most: u64,
}

impl RowsBytes {
    /// Nothing is known.
    pub const UNKNOWN: RowsBytes = RowsBytes {
        least: 0,
        most: u64::MAX,
    };

    /// As many.
    pub fn exactly(bytes: u64) -> RowsBytes {
        RowsBytes {
            least: bytes,
            most: bytes,
        }
    }

    /// As many or fewer.
    pub fn at_most(bytes: u64) -> RowsBytes {
        RowsBytes {
            least: 0,
            most: bytes,
        }
    }

    /// As many or more.
    pub fn at_least(bytes: u64) -> RowsBytes {
        RowsBytes {
            least: bytes,
            most: u64::MAX,
        }
    }

    /// An estimate, which may be wrong by a factor of four: from a quarter of it to four times as many.
    pub fn about(bytes: u64) -> RowsBytes {
        RowsBytes {
            least: bytes / DOUBT,
            most: bytes.saturating_mul(DOUBT),
        }
    }

    /// As many as the one at least, and as the other at most.
    pub(crate) fn between(least: u64, most: u64) -> RowsBytes {
        RowsBytes {
            least,
            most: most.max(least),
        }
    }

    /// An estimate of the least and one of the most, either as [`RowsBytes::about`].
    #[cfg(feature = "parquet")]
    pub(crate) fn about_between(least: u64, most: u64) -> RowsBytes {
        RowsBytes {
            least: RowsBytes::about(least).least,
            most: RowsBytes::about(most.max(least)).most,
        }
    }

    /// How many there are at least.
    pub fn least(self) -> u64 {
        self.least
    }

    /// How many there may be; nothing where nobody knows.
    pub fn most(self) -> Option<u64> {
        (self.most < u64::MAX).then_some(self.most)
    }

    /// Of some of the rows: how many are left nobody knows.
    pub(crate) fn of_some(self) -> RowsBytes {
        RowsBytes { least: 0, ..self }
    }

    /// Of as many rows, of `after` bytes where they had `before`; a size of 0 is one that varies.
    pub(crate) fn of_rows(self, before: u64, after: u64) -> RowsBytes {
        if before == 0 || after == 0 {
            return RowsBytes::UNKNOWN;
        }
        RowsBytes {
            least: (self.least / before).saturating_mul(after),
            most: match self.most() {
                Some(most) => most.div_ceil(before).saturating_mul(after),
                None => u64::MAX,
            },
        }
    }

    /// Whether it is fewer than another by a factor, whatever both are.
    pub(crate) fn is_below(self, factor: u64, other: RowsBytes) -> bool {
        let most = self.most();
        most.is_some_and(|most| most.saturating_mul(factor) < other.least)
    }
}

impl fmt::Display for RowsBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = ByteSize(self.least);
        match self.most() {
            None if self.least == 0 => f.write_str("an unknown number of bytes"),
            None => write!(f, "{least} or more"),
            Some(most) if self.least == most => write!(f, "{least}"),
            Some(most) if self.least == 0 => write!(f, "at most {}", ByteSize(most)),
            Some(most) => write!(f, "{least} to {}", ByteSize(most)),
        }
    }
}

/// Of both together.
impl Add for RowsBytes {
    type Output = RowsBytes;

    fn add(self, other: RowsBytes) -> RowsBytes {
        RowsBytes {
            least: self.least.saturating_add(other.least),
            most: self.most.saturating_add(other.most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_stay_bounds() {
        let both = |bytes: RowsBytes| (bytes.least(), bytes.most());
        assert_eq!(both(RowsBytes::exactly(16)), (16, Some(16)));
        assert_eq!(both(RowsBytes::at_most(16)), (0, Some(16)));
        assert_eq!(both(RowsBytes::at_least(16)), (16, None));
        assert_eq!(both(RowsBytes::about(16)), (4, Some(64)));
        assert_eq!(both(RowsBytes::between(3, 16)), (3, Some(16)));
        assert_eq!(both(RowsBytes::between(16, 3)), (16, Some(16)));
        assert_eq!(both(RowsBytes::about(u64::MAX)), (u64::MAX / 4, None));
        assert_eq!(both(RowsBytes::about(16) + RowsBytes::exactly(3)), (7, Some(67)));
        assert_eq!(both(RowsBytes::at_least(5) + RowsBytes::exactly(3)), (8, None));
        assert_eq!(
            both(RowsBytes::UNKNOWN + RowsBytes::at_least(u64::MAX)),
            (u64::MAX, None)
        );
        assert_eq!(both(RowsBytes::exactly(16).of_some()), (0, Some(16)));
        // Of whole rows alone: 20 B may be two rows of 8 B and a part of a third.
        assert_eq!(both(RowsBytes::about(20).of_rows(8, 24)), (0, Some(240)));
        assert_eq!(both(RowsBytes::exactly(80).of_rows(8, 24)), (240, Some(240)));
        assert_eq!(both(RowsBytes::at_least(80).of_rows(8, 24)), (240, None));
        assert_eq!(RowsBytes::exactly(80).of_rows(0, 24), RowsBytes::UNKNOWN);
        assert_eq!(RowsBytes::exactly(80).of_rows(8, 0), RowsBytes::UNKNOWN);
    }

    #[test]
    fn bounds_are_said_in_words() {
        for (bytes, words) in [
            (RowsBytes::exactly(2048), "2 KiB"),
            (RowsBytes::at_most(2048), "at most 2 KiB"),
            (RowsBytes::at_least(2048), "2 KiB or more"),
            (RowsBytes::about(4096), "1 KiB to 16 KiB"),
            (RowsBytes::UNKNOWN, "an unknown number of bytes"),
        ] {
            assert_eq!(bytes.to_string(), words);
        }
    }

    #[test]
    fn fewer_is_what_is_fewer_whatever_the_bounds_leave_open() {
        let exactly = RowsBytes::exactly;
        assert!(exactly(9).is_below(2, exactly(19)));
        assert!(!exactly(9).is_below(2, exactly(18)));
        assert!(RowsBytes::at_most(9).is_below(2, RowsBytes::at_least(19)));
        assert!(!exactly(9).is_below(2, RowsBytes::at_most(1000)));
        assert!(!RowsBytes::at_least(1).is_below(2, exactly(1000)));
        assert!(RowsBytes::about(10).is_below(2, exactly(81)));
        assert!(!RowsBytes::about(10).is_below(2, exactly(80)));
        assert!(RowsBytes::about(10).is_below(2, RowsBytes::about(324)));
        assert!(!RowsBytes::about(10).is_below(2, RowsBytes::about(320)));
        assert!(!RowsBytes::UNKNOWN.is_below(2, exactly(u64::MAX)));
        assert!(!exactly(u64::MAX / 2 + 1).is_below(2, exactly(u64::MAX)));
    }
}
