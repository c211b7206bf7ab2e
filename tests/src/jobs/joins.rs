//! Joins of random streams, with others and with themselves, and what plain maps make of them.

use super::{Builder, MOST_RECORDS, Open, Pair, number_of};
use forebay::record::first;
use forebay::{JoinStrategy, Stream};
use std::collections::BTreeMap;

impl Builder<'_> {
    /// Joins a stream with another, or with itself.
    pub(super) fn join(&mut self, stream: Stream<Pair>, records: Vec<Pair>) {
        let (stream, other) = match self.open.is_empty() || self.random.happens(4) {
            true => {
                let (one, other) = stream.fork();
                let records = records.clone();
                (
                    one,
                    Open {
                        stream: other,
                        records,
                    },
                )
            }
            false => (stream, self.take()),
        };
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
        let strategy = match self.random.happens(4) {
            true => JoinStrategy::Broadcast,
            false => JoinStrategy::Hash,
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
                finish!(join, |pair: Pair| pair, condition)
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
