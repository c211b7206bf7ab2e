//! What orders items whose keys are equal.

use std::cmp::Ordering;

use super::item::Item;

/// How rows whose prefixes are equal compare. A function of two locators is the simplest: it compares the rows.
///
/// Where words of the key can be had cheaply, [`Ties::words`] and [`Ties::word`] say so: rows of equal prefixes are then
/// sorted by their second word, those still equal by their third, and only what is equal in all words is compared. Rows that
/// are equal throughout come in the order of their locators.
pub trait Ties {
    /// How many words of the key there are, the prefix included; at least 1.
    fn words(&self) -> usize {
        1
    }

    /// Word `depth` of the key of the row at `locator`, from 1 on: eight bytes as a big-endian number, zeros after its end.
    fn word(&mut self, locator: u64, depth: usize) -> u64 {
        unreachable!("row {locator} has no word {depth}")
    }

    /// Whether rows that are equal in all words may differ still.
    fn may_differ(&self) -> bool {
        true
    }

    /// How two rows compare that are equal in all words.
    fn compare(&mut self, a: u64, b: u64) -> Ordering;
}

impl<F: FnMut(u64, u64) -> Ordering> Ties for F {
    fn compare(&mut self, a: u64, b: u64) -> Ordering {
        self(a, b)
    }
}

/// Items whose rest is a number that they are ordered by.
#[derive(Debug)]
pub struct ByRest;

impl Ties for ByRest {
    fn may_differ(&self) -> bool {
        false
    }

    fn compare(&mut self, _: u64, _: u64) -> Ordering {
        Ordering::Equal
    }
}

/// How two items compare whose keys are word `depth` of their rows, and whose words before it are equal.
#[inline]
pub(super) fn compare<T: Item>(ties: &mut impl Ties, depth: usize, a: &T, b: &T) -> Ordering {
    match a.key().cmp(&b.key()) {
        Ordering::Equal if T::KEY_IS_ALL => Ordering::Equal,
        Ordering::Equal => compare_rest(ties, depth, a.rest(), b.rest()),
        order => order,
    }
}

/// How two rows compare whose words up to `depth` are equal.
#[inline(never)]
pub(super) fn compare_rest(ties: &mut impl Ties, depth: usize, a: u64, b: u64) -> Ordering {
    for word in depth + 1..ties.words() {
        let order = ties.word(a, word).cmp(&ties.word(b, word));
        if order.is_ne() {
            return order;
        }
    }
    let order = match ties.may_differ() {
        true => ties.compare(a, b),
        false => Ordering::Equal,
    };
    order.then(a.cmp(&b))
}
