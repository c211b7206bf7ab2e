//! A tree of losers over sorted streams of rows with byte-comparable keys, which compares codes of eight bytes in place of keys.
//!
//! # Interface
//! [`LoserTree::new`]; [`LoserTree::winner`] names the stream with the next row; the caller uses the row, moves the stream on, and
//! says so ([`LoserTree::advanced`]). [`LoserTree::code`] is the winner's code against the row that won before it: a run that is written
//! can keep it, without a comparison of its own.
//!
//! # Algorithm
//! Offset-value codes (Conner 1977; Graefe and Do, EDBT 2023), ascending, in columns of six bytes. The code of a row against an earlier one
//! is the first column in which they differ, counted so that a later column is a smaller code, and that column of the row:
//! ```text
//! against "mare":    mars → column 0, "mars"      mare → 0, equal      mareschal → column 0, "maresc"
//! ```
//! Of two rows with codes against the same third, the smaller code is the smaller row, and the loser's code stays right against
//! the winner. Only where codes are equal are keys compared, from that column on, and the loser has a new code. All codes on the way of
//! the last winner's stream to the root are against the last winner, so this always applies.
//!
//! # Memory
//! 16 bytes for each stream; nothing grows with the rows.
//!
//! # Cost
//! log₂ k comparisons of numbers for each row; keys are compared once for every column in which a row differs from others, at most.

/// The offset-value code of a row: larger is later. It counts only between rows that have it against the same row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(u64);

/// Bytes of a key in a code.
const COLUMN: usize = 6;

/// Differences from this column on are one code, and compared in full.
const FAR: usize = 0xfffd;

impl Code {
    /// The code of a row that is equal to the one before.
    pub const EQUAL: Code = Code(0);

    /// The code of a stream that has no more rows.
    pub const END: Code = Code(u64::MAX);

    /// The code of a row whose key's first `shared` bytes are those of the row before, and no more: the next byte of that one is
    /// smaller, or it ends there. With 0 it is also the code of the first row of all.
    #[inline]
    pub fn new(shared: usize, key: &[u8]) -> Code {
        let column = shared / COLUMN;
        if column >= FAR {
            return Code(1 << 48);
        }
        let mut bytes = [0; 8];
        let rest = key.get(column * COLUMN..).unwrap_or_default();
        let len = rest.len().min(COLUMN);
        bytes[2..2 + len].copy_from_slice(&rest[..len]);
        Code((0xfffe - column as u64) << 48 | u64::from_be_bytes(bytes))
    }

    /// The first byte that may differ in two keys with this code.
    fn offset(self) -> usize {
        (0xfffe - (self.0 >> 48) as usize).min(FAR) * COLUMN
    }
}

/// A sorted stream of rows.
pub trait Stream {
    /// The code of the row that the stream is at, against the row before it in the stream (against nothing where it is the first);
    /// [`Code::END`] where the stream has no more rows.
    fn code(&self) -> Code;

    /// The key of the row that the stream is at.
    fn key(&self) -> &[u8];
}

/// The state of the tournament. The streams stay with the caller, who passes the same ones each time.
pub struct LoserTree {
    /// `players[0]` has won; node n ≥ 1 has the children 2n and 2n + 1, of which those from the number of streams on are streams.
    players: Vec<Player>,
}

#[derive(Clone, Copy)]
struct Player {
    code: Code,
    stream: u32,
}

impl Player {
    /// Another, by the bits in which the two differ.
    #[inline(always)]
    fn exchanged(self, code: u64, stream: u32) -> Player {
        Player {
            code: Code(self.code.0 ^ code),
            stream: self.stream ^ stream,
        }
    }
}

impl LoserTree {
    /// Plays the first rows of all streams.
    pub fn new<S: Stream>(streams: &[S]) -> LoserTree {
        let count = streams.len();
        let player = |stream: usize| Player {
            code: streams[stream].code(),
            stream: stream as u32,
        };
        let nobody = Player {
            code: Code::END,
            stream: 0,
        };
        let mut players = vec![nobody; count.max(1)];
        let mut winners = vec![nobody; count];
        winners.extend((0..count).map(player));
        for node in (1..count).rev() {
            (winners[node], players[node]) = play(streams, winners[2 * node], winners[2 * node + 1]);
        }
        if count > 0 {
            players[0] = winners[1];
        }
        LoserTree { players }
    }

    /// The stream with the next row; none where all have ended.
    #[inline]
    pub fn winner(&self) -> Option<usize> {
        let winner = self.players[0];
        (winner.code != Code::END).then_some(winner.stream as usize)
    }

    /// The code of the winner's row against the row that won before.
    #[inline]
    pub fn code(&self) -> Code {
        self.players[0].code
    }

    /// Plays on after the winner's stream has moved to its next row, or to its end.
    #[inline]
    pub fn advanced<S: Stream>(&mut self, streams: &[S]) {
        let stream = self.players[0].stream;
        let mut winner = Player {
            code: streams[stream as usize].code(),
            stream,
        };
        let mut node = (self.players.len() + stream as usize) / 2;
        while node > 0 {
            let other = self.players[node];
            if other.code == winner.code {
                (winner, self.players[node]) = play(streams, winner, other);
            } else {
                // Exchanged by a mask: half of the branches would be mispredicted.
                let mask = u64::from(other.code < winner.code).wrapping_neg();
                let code = (other.code.0 ^ winner.code.0) & mask;
                let stream = (other.stream ^ winner.stream) & mask as u32;
                self.players[node] = other.exchanged(code, stream);
                winner = winner.exchanged(code, stream);
            }
            node /= 2;
        }
        self.players[0] = winner;
    }
}

/// Who wins, and who loses, with its code against the winner.
fn play<S: Stream>(streams: &[S], one: Player, other: Player) -> (Player, Player) {
    if one.code < other.code {
        return (one, other);
    }
    if one.code > other.code {
        return (other, one);
    }
    let (first, second) = if one.stream < other.stream {
        (one, other)
    } else {
        (other, one)
    };
    if one.code == Code::END || one.code == Code::EQUAL {
        return (first, second);
    }
    let (a, b) = (
        streams[first.stream as usize].key(),
        streams[second.stream as usize].key(),
    );
    let from = one.code.offset().min(a.len()).min(b.len());
    let shared = from + shared_len(&a[from..], &b[from..]);
    let lost = |loser: Player, key: &[u8]| Player {
        code: Code::new(shared, key),
        ..loser
    };
    match a.get(shared).cmp(&b.get(shared)) {
        std::cmp::Ordering::Less => (first, lost(second, b)),
        std::cmp::Ordering::Greater => (second, lost(first, a)),
        std::cmp::Ordering::Equal => (
            first,
            Player {
                code: Code::EQUAL,
                ..second
            },
        ),
    }
}

/// How many bytes two slices have in common at their beginnings.
fn shared_len(a: &[u8], b: &[u8]) -> usize {
    let differ = |(a, b): (&[u8; 8], &[u8; 8])| a != b;
    let (words_a, words_b) = (a.as_chunks().0, b.as_chunks().0);
    let words = words_a.len().min(words_b.len());
    let word = words_a.iter().zip(words_b).position(differ).unwrap_or(words);
    let rest = a[8 * word..].iter().zip(&b[8 * word..]);
    8 * word + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Rows<'a> {
        keys: &'a [Vec<u8>],
        at: usize,
        looked_at: &'a Cell<usize>,
    }

    impl Stream for Rows<'_> {
        fn code(&self) -> Code {
            match self.keys.get(self.at) {
                None => Code::END,
                Some(key) if self.at == 0 => Code::new(0, key),
                Some(key) if *key == self.keys[self.at - 1] => Code::EQUAL,
                Some(key) => Code::new(shared_len(&self.keys[self.at - 1], key), key),
            }
        }

        fn key(&self) -> &[u8] {
            self.looked_at.set(self.looked_at.get() + 1);
            &self.keys[self.at]
        }
    }

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(1);
        crate::hash::hash_u64(*state) >> 20
    }

    /// Merges sorted streams by the tree; asserts order, completeness and each winner's code; answers how many keys were looked at.
    fn check(streams: &[Vec<Vec<u8>>]) -> usize {
        let looked_at = Cell::new(0);
        let mut rows: Vec<Rows> = streams
            .iter()
            .map(|keys| Rows {
                keys,
                at: 0,
                looked_at: &looked_at,
            })
            .collect();
        let mut expected: Vec<(&[u8], usize)> = streams
            .iter()
            .enumerate()
            .flat_map(|(stream, keys)| keys.iter().map(move |key| (&key[..], stream)))
            .collect();
        expected.sort();
        let mut tree = LoserTree::new(&rows);
        let mut before: Option<&[u8]> = None;
        for (key, stream) in expected {
            assert_eq!(tree.winner(), Some(stream));
            assert_eq!(&streams[stream][rows[stream].at], key);
            let code = match before {
                None => Code::new(0, key),
                Some(before) if before == key => Code::EQUAL,
                Some(before) => Code::new(shared_len(before, key), key),
            };
            assert_eq!(tree.code(), code, "{key:?} after {before:?}");
            before = Some(key);
            rows[stream].at += 1;
            tree.advanced(&rows);
        }
        assert_eq!(tree.winner(), None);
        looked_at.get()
    }

    #[test]
    fn rows_come_in_order_with_their_codes() {
        for seed in 0..300u64 {
            let mut state = seed << 32;
            let values = [2, 3, 256][random(&mut state) as usize % 3];
            let longest = [1, 7, 40][random(&mut state) as usize % 3];
            let streams: Vec<Vec<Vec<u8>>> = (0..random(&mut state) % 9)
                .map(|_| {
                    let mut keys: Vec<Vec<u8>> = (0..random(&mut state) % 80)
                        .map(|_| {
                            let len = random(&mut state) % (longest + 1);
                            (0..len).map(|_| (random(&mut state) % values) as u8).collect()
                        })
                        .collect();
                    keys.sort();
                    keys
                })
                .collect();
            check(&streams);
        }
    }

    #[test]
    fn keys_that_agree_beyond_the_last_column_are_compared_in_full() {
        let long = |last: &[u8]| [&vec![1; (FAR + 3) * COLUMN][..], last].concat();
        let streams = [
            vec![long(b"a"), long(b"ab"), long(b"c")],
            vec![long(b""), long(b"aa"), long(b"c")],
            vec![long(b"b")],
        ];
        check(&streams);
    }

    /// A merge of 16 streams by a heap makes about 2·log₂ 16 comparisons of keys for each row. Here each looks at two keys.
    #[test]
    fn keys_are_seldom_compared() {
        let mut state = 7;
        let streams: Vec<Vec<Vec<u8>>> = (0..16)
            .map(|_| {
                let mut keys: Vec<Vec<u8>> = (0..500)
                    .map(|_| (0..10).map(|_| random(&mut state) as u8).collect())
                    .collect();
                keys.sort();
                keys
            })
            .collect();
        let comparisons = check(&streams) / 2;
        assert!(
            comparisons < 8000 / 100,
            "{comparisons} comparisons of keys for 8000 rows"
        );
        // With 12 bytes in common, keys are compared about once for each row: until the first differing column is in its code.
        let prefixed: Vec<Vec<Vec<u8>>> = streams
            .iter()
            .map(|keys| keys.iter().map(|key| [&[9; 12][..], key].concat()).collect())
            .collect();
        let comparisons = check(&prefixed) / 2;
        assert!(
            comparisons < 8000 / 100,
            "{comparisons} comparisons of keys with a common prefix"
        );
    }
}
