//! Merging sorted lists of items: two without a branch on their keys, more by a tree of losers.
//!
//! # Interface
//! [`MergeItems::new`] over streams of slices, and [`MergeItems::fill`] until it answers less than it was given room for.
//!
//! # Algorithm
//! Two streams: as many steps as surely exhaust neither, in each of which the smaller item is selected, not branched to. More: a
//! tournament in which each node keeps the item that lost there (Knuth, volume 3, 5.4.1), so that the next winner of k
//! streams takes log₂ k comparisons. Equal items come in the order of their streams.
//!
//! # Memory
//! 24 bytes for each stream; nothing grows with the items.

use super::item::Item;

/// Merges from the beginnings of two sorted slices until the output is full or one of them is used up; answers how many items
/// of each were taken. `less` says whether an item of the second comes before one of the first.
#[inline]
pub(super) fn merge_slices<T: Item>(
    first: &[T],
    second: &[T],
    output: &mut [T],
    less: &mut impl FnMut(&T, &T) -> bool,
) -> (usize, usize) {
    let (mut i, mut j) = (0, 0);
    loop {
        let surely = (first.len() - i).min(second.len() - j).min(output.len() - i - j);
        if surely == 0 {
            return (i, j);
        }
        let done = i + j;
        for place in &mut output[done..done + surely] {
            let (a, b) = (&first[i], &second[j]);
            let second_wins = less(b, a);
            *place = if second_wins { *b } else { *a };
            i += usize::from(!second_wins);
            j += usize::from(second_wins);
        }
    }
}

/// Sorted streams of slices, merged. Items are ordered by key, then by their rest, then by stream.
pub struct MergeItems<'a, T, S> {
    streams: Vec<Stream<'a, T, S>>,
    /// `losers[0]` is the winner; node n ≥ 1 has the children 2n and 2n + 1, of which those from `streams.len()` on are streams.
    losers: Vec<Player>,
}

struct Stream<'a, T, S> {
    slice: &'a [T],
    slices: S,
}

/// A stream's first item as it is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Player {
    key: u64,
    rest: u64,
    /// The stream; [`EXHAUSTED`] more where it has no item, and key and rest are the largest.
    stream: u32,
}

const EXHAUSTED: u32 = 1 << 31;

impl Player {
    /// Another, by the bits in which the two differ.
    #[inline(always)]
    fn exchanged(self, key: u64, rest: u64, stream: u32) -> Player {
        Player {
            key: self.key ^ key,
            rest: self.rest ^ rest,
            stream: self.stream ^ stream,
        }
    }

    /// Whether it comes before another: the rest of it is looked at only where keys are equal.
    #[inline(always)]
    fn beats(&self, other: &Player) -> bool {
        if self.key != other.key {
            return self.key < other.key;
        }
        (self.rest, self.stream) < (other.rest, other.stream)
    }
}

impl<'a, T: Item, S: Iterator<Item = &'a [T]>> Stream<'a, T, S> {
    /// Goes on to the next slice that has items, when this one has none.
    fn settle(&mut self) {
        while self.slice.is_empty() {
            match self.slices.next() {
                Some(slice) => self.slice = slice,
                None => return,
            }
        }
    }

    #[inline(always)]
    fn player(&self, stream: u32) -> Player {
        match self.slice.first() {
            Some(item) => Player {
                key: item.key(),
                rest: item.rest(),
                stream,
            },
            None => Player {
                key: u64::MAX,
                rest: u64::MAX,
                stream: stream + EXHAUSTED,
            },
        }
    }
}

impl<'a, T: Item, S: Iterator<Item = &'a [T]>> MergeItems<'a, T, S> {
    /// Merges streams, each of which is sorted over all its slices.
    pub fn new(streams: impl IntoIterator<Item = S>) -> Self {
        let mut streams: Vec<_> = streams
            .into_iter()
            .map(|slices| Stream { slice: &[], slices })
            .collect();
        assert!(
            streams.len() < EXHAUSTED as usize,
            "{} streams are too many",
            streams.len()
        );
        streams.iter_mut().for_each(Stream::settle);
        let mut merge = MergeItems {
            streams,
            losers: Vec::new(),
        };
        merge.play_all();
        merge
    }

    /// Writes the next items; answers how many, which is all that fit until the streams are exhausted.
    pub fn fill(&mut self, output: &mut [T]) -> usize {
        let mut filled = 0;
        while filled < output.len() {
            let place = &mut output[filled..];
            let count = match self.streams.as_mut_slice() {
                [] => 0,
                [one] => one.copy(place),
                [one, other] => fill_from_two(one, other, place),
                _ => self.fill_from_many(place),
            };
            filled += count;
            if count == 0 {
                break;
            }
        }
        filled
    }

    /// Plays the whole tournament.
    fn play_all(&mut self) {
        let count = self.streams.len();
        let players = (0..count).map(|stream| self.streams[stream].player(stream as u32));
        let mut winners: Vec<Player> = Vec::with_capacity(2 * count);
        let nobody = Player {
            key: u64::MAX,
            rest: u64::MAX,
            stream: u32::MAX,
        };
        winners.resize(count, nobody);
        winners.extend(players);
        self.losers = vec![nobody; count.max(1)];
        for node in (1..count).rev() {
            let (one, other) = (winners[2 * node], winners[2 * node + 1]);
            let one_wins = one.beats(&other);
            winners[node] = if one_wins { one } else { other };
            self.losers[node] = if one_wins { other } else { one };
        }
        if count > 1 {
            self.losers[0] = winners[1];
        }
    }

    fn fill_from_many(&mut self, output: &mut [T]) -> usize {
        let count = self.streams.len();
        let mut winner = self.losers[0];
        let mut filled = 0;
        for place in output {
            if winner.stream >= EXHAUSTED {
                break;
            }
            let number = winner.stream as usize;
            let stream = &mut self.streams[number];
            *place = stream.slice[0];
            filled += 1;
            stream.slice = &stream.slice[1..];
            if stream.slice.is_empty() {
                stream.settle();
            }
            winner = stream.player(number as u32);
            let mut node = (count + number) / 2;
            while node > 0 {
                let other = &mut self.losers[node];
                if other.key == winner.key {
                    if other.beats(&winner) {
                        std::mem::swap(other, &mut winner);
                    }
                } else {
                    // Exchanged by a mask: half of the branches would be mispredicted.
                    let mask = u64::from(other.key < winner.key).wrapping_neg();
                    let key = (other.key ^ winner.key) & mask;
                    let rest = (other.rest ^ winner.rest) & mask;
                    let stream = (other.stream ^ winner.stream) & mask as u32;
                    *other = other.exchanged(key, rest, stream);
                    winner = winner.exchanged(key, rest, stream);
                }
                node /= 2;
            }
        }
        self.losers[0] = winner;
        filled
    }
}

impl<'a, T: Item, S: Iterator<Item = &'a [T]>> Stream<'a, T, S> {
    fn copy(&mut self, output: &mut [T]) -> usize {
        self.settle();
        let count = self.slice.len().min(output.len());
        let (now, later) = self.slice.split_at(count);
        output[..count].copy_from_slice(now);
        self.slice = later;
        count
    }
}

fn fill_from_two<'a, T: Item, S: Iterator<Item = &'a [T]>>(
    one: &mut Stream<'a, T, S>,
    other: &mut Stream<'a, T, S>,
    output: &mut [T],
) -> usize {
    one.settle();
    other.settle();
    if one.slice.is_empty() {
        return other.copy(output);
    }
    if other.slice.is_empty() {
        return one.copy(output);
    }
    let mut less =
        |b: &T, a: &T| b.key() < a.key() || (!T::KEY_IS_ALL && b.key() == a.key() && b.rest() < a.rest());
    let (from_one, from_other) = merge_slices(one.slice, other.slice, output, &mut less);
    one.slice = &one.slice[from_one..];
    other.slice = &other.slice[from_other..];
    from_one + from_other
}
