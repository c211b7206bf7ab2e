//! Joins, co-groups and set operations of random streams, with others and with themselves, and what plain maps make of them.

use super::{Builder, MOST_RECORDS, Open, Pair, number_of};
use forebay::operator::{Collector, Group};
use forebay::record::first;
use forebay::{JoinStrategy, Stream};
use forebay_memory::hash::hash_u64;
use std::collections::BTreeMap;

impl Builder<'_> {
    /// A stream and another one, or the same again.
    fn with_other(&mut self, stream: Stream<Pair>, records: &[Pair]) -> (Stream<Pair>, Open) {
        match self.open.is_empty() || self.random.happens(4) {
            true => {
                let (one, stream) = stream.fork();
                let records = records.to_vec();
                (one, Open { stream, records })
            }
            false => (stream, self.take()),
        }
    }

    /// The records of each key of a stream and another, folded by a function that may leave some.
    pub(super) fn co_group(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let (stream, other) = self.with_other(stream, &records);
        let (name, parallelism) = (self.name("co-groups"), self.parallelism());
        // How many of the left records are looked at.
        let most = [usize::MAX, 0, 3][self.random.below(3)];
        let folded = move |lefts: usize, rights: usize, sum: u64| {
            (hash_u64(lefts.min(most) as u64 ^ hash_u64(rights as u64 ^ sum)) >> 20) as i64
        };
        let by_text = self.random.happens(3);
        macro_rules! grouped {
            ($left:expr, $right:expr, $row:ty, $number:expr) => {
                $left.join($right).on(first(), first()).co_group(
                    move |key,
                          left: &mut Group<'_, $row>,
                          right: &mut Group<'_, $row>,
                          out: &mut Collector<'_, Pair>| {
                        let (mut lefts, mut rights, mut sum) = (0, 0, 0u64);
                        while lefts < most
                            && let Some(pair) = left.next()
                        {
                            assert_eq!(pair.0, key);
                            lefts += 1;
                            if most == usize::MAX {
                                sum = sum.wrapping_add(hash_u64(pair.1 as u64));
                            }
                        }
                        right.for_each(|pair| {
                            assert_eq!(pair.0, key);
                            rights += 1;
                            sum = sum.wrapping_add(hash_u64(!pair.1 as u64));
                        });
                        out.push(($number(key), folded(lefts, rights, sum)));
                    },
                )
            };
        }
        let stream = match by_text {
            false => grouped!(stream, other.stream, Pair, |key: u64| key),
            true => {
                let text = |(key, value): Pair| (format!("{key:width$}", width = (key % 40) as usize), value);
                let (left, right) = (stream.map(text), other.stream.map(text));
                grouped!(left, right, (String, i64), |key: &str| number_of(
                    key.trim_start()
                ))
            }
        };
        let stream = stream.name(name).parallelism(parallelism);
        let mut groups: BTreeMap<u64, (usize, usize, u64)> = BTreeMap::new();
        for (key, value) in records {
            let group = groups.entry(key).or_default();
            group.0 += 1;
            if most == usize::MAX {
                group.2 = group.2.wrapping_add(hash_u64(value as u64));
            }
        }
        for (key, value) in other.records {
            let group = groups.entry(key).or_default();
            group.1 += 1;
            group.2 = group.2.wrapping_add(hash_u64(!value as u64));
        }
        let results = groups.into_iter();
        let results = results.map(|(key, (lefts, rights, sum))| (key, folded(lefts, rights, sum)));
        self.put(stream, results.collect());
    }

    /// What a stream and another have in common, or the one has and the other has not.
    pub(super) fn sets(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let (stream, other) = self.with_other(stream, &records);
        // So that there are copies, on both sides.
        let few = |(key, value): Pair| (key % 50, value % 8);
        let (left, right) = (stream.map(few), other.stream.map(few));
        let operation = self.random.below(4);
        let stream = match operation {
            0 => left.intersect(right),
            1 => left.intersect_all(right),
            2 => left.minus(right),
            _ => left.minus_all(right),
        };
        let name = self.name("sets");
        let stream = self.maybe_parallel(stream.name(name));
        let mut counts: BTreeMap<Pair, (usize, usize)> = BTreeMap::new();
        for pair in records {
            counts.entry(few(pair)).or_default().0 += 1;
        }
        for pair in other.records {
            counts.entry(few(pair)).or_default().1 += 1;
        }
        let results = counts.into_iter().flat_map(|(pair, (left, right))| {
            let times = match operation {
                0 => usize::from(left > 0 && right > 0),
                1 => left.min(right),
                2 => usize::from(left > 0 && right == 0),
                _ => left.saturating_sub(right),
            };
            std::iter::repeat_n(pair, times)
        });
        self.put(stream, results.collect());
    }

    /// Joins a stream with another, or with itself.
    pub(super) fn join(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let (stream, other) = self.with_other(stream, &records);
        let kind = self.random.below(6);
        let by_text = self.random.happens(3);
        let has_condition = self.random.happens(3);
        let condition = |left: Pair, right: Pair| (left.1 ^ right.1) % 3 != 0;
        // What a pair becomes, and what a record does that has no match.
        let joined = |left: Option<Pair>, right: Option<Pair>| {
            let key = left.or(right).expect("one of them is there").0;
            let value = |side: Option<Pair>| side.map_or(-7, |pair| pair.1);
            (key, (value(left) * 31) ^ value(right))
        };
        let mut by_key: BTreeMap<u64, Vec<(Pair, bool)>> = BTreeMap::new();
        for pair in &other.records {
            by_key.entry(pair.0).or_default().push((*pair, false));
        }
        let mut results = Vec::new();
        'records: for left in &records {
            let mut has_match = false;
            for (right, is_matched) in by_key.get_mut(&left.0).into_iter().flatten() {
                if has_condition && !condition(*left, *right) {
                    continue;
                }
                (has_match, *is_matched) = (true, true);
                if kind < 4 {
                    results.push(joined(Some(*left), Some(*right)));
                    if results.len() > MOST_RECORDS {
                        break 'records;
                    }
                }
            }
            match kind {
                1 | 3 if !has_match => results.push(joined(Some(*left), None)),
                4 if has_match => results.push(*left),
                5 if !has_match => results.push(*left),
                _ => {}
            }
        }
        if results.len() > MOST_RECORDS {
            self.put(other.stream, other.records);
            return self.end(Open { stream, records });
        }
        if let 2 | 3 = kind {
            let alone = by_key
                .into_values()
                .flatten()
                .filter(|(_, is_matched)| !is_matched);
            results.extend(alone.map(|(right, _)| joined(None, Some(right))));
        }
        let strategy = match self.random.below(6) {
            0 => JoinStrategy::Broadcast,
            1 | 2 => JoinStrategy::Merge,
            3 => JoinStrategy::Automatic,
            _ => JoinStrategy::Hash,
        };
        let build_left = self.random.happens(2);
        macro_rules! finish {
            ($join:expr, $pair:expr, $condition:expr) => {{
                let join = $join.strategy(strategy);
                let join = if build_left { join.build_left() } else { join };
                match has_condition {
                    false => finish!(@kind join, $pair),
                    true => finish!(@kind join.matching($condition), $pair),
                }
            }};
            (@kind $join:expr, $pair:expr) => {
                match kind {
                    0 => $join.inner(move |l, r| joined(Some($pair(l)), Some($pair(r)))),
                    1 => $join.left_outer(move |l, r| joined(Some($pair(l)), r.map($pair))),
                    2 => $join.right_outer(move |l, r| joined(l.map($pair), Some($pair(r)))),
                    3 => $join.full_outer(move |l, r| joined(l.map($pair), r.map($pair))),
                    4 => $join.semi().map($pair).name("semi joined"),
                    _ => $join.anti().map($pair).name("anti joined"),
                }
            };
        }
        let stream = match by_text {
            false => {
                let join = stream.join(other.stream).on(first(), first());
                let stream = finish!(join, |pair: Pair| pair, condition);
                // Where it has exchanged, its results are where their key sends them.
                match strategy != JoinStrategy::Broadcast && self.random.happens(2) {
                    true => stream.still_keyed_by(first()).ungroup(),
                    false => stream,
                }
            }
            true => {
                fn pair((text, value): (&str, i64)) -> Pair {
                    (number_of(text.trim_start()), value)
                }
                let text = |(key, value): Pair| (format!("{key:width$}", width = (key % 40) as usize), value);
                let join = stream.map(text).join(other.stream.map(text)).on(first(), first());
                finish!(join, pair, move |left, right| condition(pair(left), pair(right)))
            }
        };
        let stream = self.maybe_parallel(stream);
        self.put(stream, results);
    }
}
