//! One merge: several sorted inputs to one, by a tree of losers.
//!
//! # Algorithm
//! Each inner node of a binary tree over the inputs keeps the one that has lost there; the winner of all is on top. When it has
//! gone on by one row it plays against the losers on its way up: log₂ n comparisons, most of them of two codes that are
//! side by side in memory. Where codes are equal rows are compared, and where these are equal the input with the lower number
//! wins (Knuth, volume 3, 5.4.1).
//!
//! An input's code (`Head`) is relative to the row that came last: the more words its row has in common with that one the sooner it
//! comes, and of two that have as many in common the one whose next word is smaller. Rows that begin alike are thus compared by the words
//! in which they differ, and those are looked at once (offset-value codes: Conner, IBM Technical Disclosure Bulletin 20(7), 1977).
//!
//! # Invariants
//! I1. Rows come in the order of (key, number of the input, row): what splitters (`split`) rely on.
//! I2. A loser's code is relative to the row that it has lost to. So when that row's input wins, all codes on its way up are relative to
//!     the row that has just been given out, as is that of the row which comes after it.

use super::ahead::{Disk, ReadAhead};
use super::cursor::Cursor;
use super::items::Items;
use super::order::{Difference, KeyScratch, MOST_WORDS, RowOrder};
use super::rows::Scratch;
use crate::error::Result;
use crate::segment::Segment;
use crate::spill::SpillHandle;

/// The current row of an input, after all others where there is none: how few words it has in common with the row that came last, and
/// the next word.
type Head = (u32, u64);

/// That of no row.
const OVER: Head = (u32::MAX, 0);

/// How few words a row does not have in common whose key is that of the row that came last.
const EQUAL: u32 = 0;

/// That of a row by its code.
#[inline]
fn head_of((common, word): (u32, u64)) -> Head {
    (MOST_WORDS - common, word)
}

/// Several sorted inputs, merged.
pub struct Merge<I: Items> {
    cursors: Vec<Cursor<I>>,
    ahead: ReadAhead,
    heads: Vec<Head>,
    /// Losers of inner nodes 1.., and the winner at 0.
    tree: Vec<u32>,
    /// Whether words decide alone.
    words_decide: bool,
    keys: KeyScratch,
    left: Scratch,
    right: Scratch,
}

impl<I: Items> Merge<I> {
    /// A merge of inputs, at least one, whose blocks come through `ahead`.
    pub fn new(cursors: Vec<Cursor<I>>, ahead: ReadAhead, order: &I::Order) -> Self {
        let heads = cursors.iter().map(head).collect();
        let count = cursors.len();
        let mut merge = Merge {
            cursors,
            ahead,
            heads,
            tree: vec![0; count],
            words_decide: order.key_size().is_some_and(|size| size <= 8),
            keys: KeyScratch::default(),
            left: Scratch::default(),
            right: Scratch::default(),
        };
        // Inputs are the leaves count..2 count; node i has children 2i and 2i + 1.
        let mut winners = vec![0u32; 2 * count];
        for input in 0..count {
            winners[count + input] = input as u32;
        }
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = match merge.wins(left, right, order) {
                true => (left, right),
                false => (right, left),
            };
            winners[node] = winner;
            merge.tree[node] = loser;
        }
        merge.tree[0] = winners[1.min(2 * count - 1)];
        merge
    }

    /// The input whose row is next; none where all are over.
    #[inline]
    pub fn winner(&self) -> Option<&Cursor<I>> {
        let winner = &self.cursors[self.tree[0] as usize];
        (!winner.is_over()).then_some(winner)
    }

    /// Goes to the next row.
    ///
    /// # Errors
    /// Those of the spill store.
    #[inline]
    pub fn advance(&mut self, handle: &mut SpillHandle, order: &I::Order) -> Result<()> {
        let mut winner = self.tree[0];
        let cursor = &mut self.cursors[winner as usize];
        let disk = &mut Disk {
            handle,
            ahead: &mut self.ahead,
        };
        cursor.advance(disk, order, &mut self.keys)?;
        self.heads[winner as usize] = head(cursor);
        let mut node = (self.cursors.len() + winner as usize) / 2;
        while node > 0 {
            let other = self.tree[node];
            if self.wins(other, winner, order) {
                self.tree[node] = winner;
                winner = other;
            }
            node /= 2;
        }
        self.tree[0] = winner;
        Ok(())
    }

    /// Whether the row of input `a` comes before that of `b`.
    #[inline]
    fn wins(&mut self, a: u32, b: u32, order: &I::Order) -> bool {
        let (left, right) = (self.heads[a as usize], self.heads[b as usize]);
        match left == right {
            false => left < right,
            true => self.wins_tie(a, b, order),
        }
    }

    /// The same where their heads are equal; the loser's is relative to the winner then.
    fn wins_tie(&mut self, a: u32, b: u32, order: &I::Order) -> bool {
        let head = self.heads[a as usize];
        if self.words_decide || head == OVER || head.0 == EQUAL {
            return a < b;
        }
        let (left, right) = (&self.cursors[a as usize], &self.cursors[b as usize]);
        let (left, right) = (left.row(&mut self.left), right.row(&mut self.right));
        let difference = order.differ([left, right], MOST_WORDS - head.0, &mut self.keys);
        let Difference {
            common,
            words: [of_left, word],
        } = difference;
        let wins = match of_left == word {
            false => of_left < word,
            true if common == MOST_WORDS => a < b,
            true => order.compare(left, right, &mut self.keys).then(a.cmp(&b)).is_lt(),
        };
        let (loser, word) = if wins { (b, word) } else { (a, of_left) };
        self.heads[loser as usize] = head_of((common, word));
        wins
    }

    /// The memory of the inputs, and that with which they were read ahead.
    pub fn into_segments(self) -> impl Iterator<Item = Segment> {
        let ahead = self.ahead.into_segments();
        self.cursors
            .into_iter()
            .flat_map(Cursor::into_segments)
            .chain(ahead)
    }
}

fn head<I: Items>(cursor: &Cursor<I>) -> Head {
    match cursor.is_over() {
        true => OVER,
        false => head_of(cursor.code()),
    }
}
