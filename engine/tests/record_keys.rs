//! Keys of every form of record: canonical bytes are equal where keys are, normalized bytes order as values do.

mod record_samples;

use std::cmp::Ordering;
use std::fmt::Debug;

use forebay::record::{
    Date, Decimal, Field, KeyFields, Record, SortFields, Timestamp, first, fourth, hash_rows, itself,
    prefix_of, second, third,
};
use record_samples::{Bid, Couple, Event, Marker, Nested, Random, Reading, Sale, Sample, Shape, Status};

/// The order that keys have by definition: NaN last and equal to itself, −0.0 equal to 0.0, nulls first.
trait Model {
    fn model(&self, other: &Self) -> Ordering;
}

macro_rules! by_ord {
    ($($type:ty)*) => {$(
        impl Model for $type {
            fn model(&self, other: &Self) -> Ordering {
                self.cmp(other)
            }
        }
    )*};
}

by_ord!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 bool Timestamp Date Decimal String Vec<u8>);

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl Model for $type {
            fn model(&self, other: &Self) -> Ordering {
                self.partial_cmp(other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
            }
        }
    )*};
}

floats!(f32 f64);

impl<T: Model> Model for Option<T> {
    fn model(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Some(left), Some(right)) => left.model(right),
            (left, right) => left.is_some().cmp(&right.is_some()),
        }
    }
}

impl<T: Model, const N: usize> Model for [T; N] {
    fn model(&self, other: &Self) -> Ordering {
        let pairs = self.iter().zip(other);
        pairs
            .map(|(left, right)| left.model(right))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

macro_rules! fields {
    ($(($($type:ident)*) $name:ty { $($field:tt)* })*) => {$(
        impl<$($type: Model),*> Model for $name {
            fn model(&self, other: &Self) -> Ordering {
                let _ = other;
                Ordering::Equal$(.then_with(|| self.$field.model(&other.$field)))*
            }
        }
    )*};
}

fields! {
    (A) (A,) { 0 }
    (A B) (A, B) { 0 1 }
    (A B C) (A, B, C) { 0 1 2 }
    (A B C D E F G H) (A, B, C, D, E, F, G, H) { 0 1 2 3 4 5 6 7 }
    () Bid { auction bidder price channel at }
    () Reading { flag level small day amount wide maybe triple }
    () Sale { shop amount at weight code }
    () Nested {
        r#type bid maybe_bid reading sale strings maybe_strings pair twice event status shape marker
    }
    () Couple { 0 1 }
    () Marker {}
    () () {}
}

impl Model for Event {
    fn model(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Event::Bid(left), Event::Bid(right)) => left.model(right),
            (Event::Reading(left), Event::Reading(right)) => left.model(right),
            (
                Event::Named { id, label },
                Event::Named {
                    id: other_id,
                    label: other_label,
                },
            ) => id.model(other_id).then_with(|| label.model(other_label)),
            (Event::Many(a, b, c), Event::Many(d, e, f)) => {
                a.model(d).then_with(|| b.model(e)).then_with(|| c.model(f))
            }
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

fn rank(event: &Event) -> u8 {
    match event {
        Event::Bid(_) => 0,
        Event::Reading(_) => 1,
        Event::Tick => 2,
        Event::Named { .. } => 3,
        Event::Many(..) => 4,
    }
}

impl Model for Status {
    fn model(&self, other: &Self) -> Ordering {
        (*self as u8).cmp(&(*other as u8))
    }
}

impl Model for Shape {
    fn model(&self, other: &Self) -> Ordering {
        let rank = |shape: &Shape| match shape {
            Shape::Point => 0,
            Shape::Circle(_) => 1,
            Shape::Box { .. } => 2,
        };
        match (self, other) {
            (Shape::Circle(left), Shape::Circle(right)) => left.model(right),
            (
                Shape::Box { width, height },
                Shape::Box {
                    width: other_width,
                    height: other_height,
                },
            ) => width.model(other_width).then_with(|| height.model(other_height)),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

/// Random values, of which many are equal.
fn values<R: Sample>(seed: u64) -> Vec<R> {
    let mut random = Random(seed);
    (0..70)
        .map(|_| match random.below(2) {
            0 => R::sample(&mut random),
            // The same few states of the generator come again.
            _ => R::sample(&mut Random(random.below(30) as u64)),
        })
        .collect()
}

fn canonical_bytes_are_equal_where_keys_are<R: Record + Sample + Model + Debug>() {
    let values = values::<R>(1);
    let key = itself::<R>();
    let encoded: Vec<Vec<u8>> = values
        .iter()
        .map(|value| {
            let mut bytes = Vec::new();
            key.encode_key(value.view(), &mut bytes);
            let mut scratch = vec![1, 2, 3];
            assert_eq!(key.key_bytes(value.view(), &mut scratch), bytes);
            assert!(R::KEY_SIZE.is_none_or(|size| size == bytes.len()), "{value:?}");
            let decoded = key
                .decode_key(&bytes)
                .unwrap_or_else(|| panic!("{value:?} is decoded"));
            assert_eq!(decoded.model(value), Ordering::Equal, "{decoded:?} {value:?}");
            let viewed = key
                .with_key(&bytes, |view| R::from_view(view))
                .expect("and as a view");
            assert_eq!(viewed.model(value), Ordering::Equal, "{viewed:?} {value:?}");
            bytes
        })
        .collect();
    for (left, left_bytes) in values.iter().zip(&encoded) {
        for (right, right_bytes) in values.iter().zip(&encoded) {
            let equal = left.model(right) == Ordering::Equal;
            assert_eq!(equal, left_bytes == right_bytes, "{left:?} {right:?}");
            let hash = |value: &R| key.hash(value.view(), &mut Vec::new());
            assert!(!equal || hash(left) == hash(right), "{left:?} {right:?}");
        }
    }
}

#[test]
fn canonical_bytes_are_equal_where_keys_are_for_every_type() {
    macro_rules! check {
        ($($type:ty),*) => { $(canonical_bytes_are_equal_where_keys_are::<$type>();)* };
    }
    for_every_type!(check);
}

/// Damaged and random key bytes decode to nothing or to something; never to a panic.
fn decoding_never_panics<R: Record + Sample>() {
    let mut random = Random(9);
    let key = itself::<R>();
    for _ in 0..200 {
        let mut bytes = Vec::new();
        key.encode_key(R::sample(&mut random).view(), &mut bytes);
        bytes.truncate(random.below(bytes.len() + 1).max(bytes.len() / 2));
        for _ in 0..random.below(3).min(bytes.len()) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        let owned = key.decode_key(&bytes).is_some();
        assert_eq!(key.with_key(&bytes, |_| ()).is_some(), owned);
    }
}

#[test]
fn decoding_damaged_keys_never_panics() {
    macro_rules! check {
        ($($type:ty),*) => { $(decoding_never_panics::<$type>();)* };
    }
    for_every_type!(check);
}

fn normalized_bytes_order_as_values<R: Record + Sample + Model + Debug>() {
    let values = values::<R>(2);
    let nulls_apart = |left: &R, right: &R| (R::is_null(left.view()), R::is_null(right.view()));
    for (descending, nulls_last) in [(false, false), (true, false), (false, true), (true, true)] {
        let field: Field<R, R> = itself();
        let order = if descending {
            field.descending()
        } else {
            field.ascending()
        };
        let order = if nulls_last { order.nulls_last() } else { order };
        let encoded: Vec<Vec<u8>> = values
            .iter()
            .map(|value| {
                let mut bytes = Vec::new();
                order.encode_normalized(value.view(), &mut bytes);
                assert_eq!(
                    order.prefix(value.view(), &mut Vec::new()),
                    prefix_of(&bytes),
                    "{value:?}"
                );
                bytes
            })
            .collect();
        for (left, left_bytes) in values.iter().zip(&encoded) {
            for (right, right_bytes) in values.iter().zip(&encoded) {
                let expected = match nulls_apart(left, right) {
                    (true, true) => Ordering::Equal,
                    (true, false) if nulls_last => Ordering::Greater,
                    (true, false) => Ordering::Less,
                    (false, true) if nulls_last => Ordering::Less,
                    (false, true) => Ordering::Greater,
                    _ if descending => right.model(left),
                    _ => left.model(right),
                };
                let context = || format!("{order:?}: {left:?} {right:?}");
                assert_eq!(left_bytes.cmp(right_bytes), expected, "{}", context());
                if expected.is_ne() {
                    assert!(!left_bytes.starts_with(right_bytes), "{}", context());
                }
                let (left_prefix, decides) = prefix_of(left_bytes);
                let by_prefix = left_prefix.cmp(&prefix_of(right_bytes).0);
                assert!(
                    by_prefix == expected || (by_prefix.is_eq() && !decides),
                    "{}",
                    context()
                );
            }
        }
    }
}

#[test]
fn normalized_bytes_order_as_values_for_every_type() {
    macro_rules! check {
        ($($type:ty),*) => { $(normalized_bytes_order_as_values::<$type>();)* };
    }
    for_every_type!(check);
}

#[test]
fn a_tuple_of_orders_orders_by_each_in_turn() {
    type Row = (Option<String>, f64, i8, String);
    let order = (
        first::<Row>().descending().nulls_last(),
        second::<Row>(),
        third::<Row>().descending(),
        fourth::<Row>().descending(),
    );
    assert_eq!(
        order.describe_order(),
        [".0 descending nulls last", ".1", ".2 descending", ".3 descending"]
    );
    let values = values::<Row>(3);
    let encode = |value: &Row| {
        let mut bytes = Vec::new();
        order.encode_normalized(value.view(), &mut bytes);
        bytes
    };
    for left in &values {
        for right in &values {
            let by_first = match (&left.0, &right.0) {
                (Some(left), Some(right)) => right.cmp(left),
                (left, right) => left.is_none().cmp(&right.is_none()),
            };
            let expected = by_first
                .then_with(|| left.1.model(&right.1))
                .then_with(|| right.2.cmp(&left.2))
                .then_with(|| right.3.cmp(&left.3));
            assert_eq!(encode(left).cmp(&encode(right)), expected, "{left:?} {right:?}");
        }
    }
}

#[test]
fn integer_keys_are_their_own_bits() {
    fn check<T: Record + Sample + Model + Debug>() {
        let key = itself::<T>();
        for value in values::<T>(4) {
            let bits = key.key_u64(value.view());
            assert_eq!(key.key_from_u64(bits).model(&value), Ordering::Equal);
            let mut row = vec![0; T::STRIDE];
            T::write_row(value.view(), &mut row);
            assert_eq!(
                key.as_u64_column().expect("an integer").read(&row),
                bits,
                "{value:?}"
            );
            assert_eq!(
                key.hash(value.view(), &mut Vec::new()),
                forebay_memory::hash::hash_u64(bits),
                "{value:?}"
            );
        }
    }
    check::<u8>();
    check::<u16>();
    check::<u32>();
    check::<u64>();
    check::<i8>();
    check::<i16>();
    check::<i32>();
    check::<i64>();
    check::<bool>();
    check::<Timestamp>();
    check::<Date>();
    assert!(itself::<i128>().as_u64_column().is_none());
    assert!(itself::<f64>().as_u64_column().is_none());
    assert!(itself::<Option<u64>>().as_u64_column().is_none());
}

fn batch_of<R: Record>(values: &[R]) -> Vec<u8> {
    let mut rows = Vec::new();
    for value in values {
        let start = rows.len();
        rows.resize(start + R::row_size(value.view()), 0);
        R::write_row(value.view(), &mut rows[start..]);
    }
    rows
}

fn batches_hash_as_records<R: Record + Sample, K: KeyFields<R>>(key: K) {
    let values = values::<R>(6);
    let rows = batch_of(&values);
    let mut hashes = vec![0; values.len()];
    let mut scratch = Vec::new();
    hash_rows(key, &rows, &mut hashes, &mut scratch);
    for (value, hash) in values.iter().zip(hashes) {
        assert_eq!(key.hash(value.view(), &mut scratch), hash, "{key:?}");
    }
}

#[test]
fn batches_hash_as_their_records_do() {
    type Fixed = (u64, i32, (bool, u16), i8);
    batches_hash_as_records::<Fixed, _>(first());
    batches_hash_as_records::<Fixed, _>(second());
    batches_hash_as_records::<Fixed, _>(third());
    batches_hash_as_records::<Fixed, _>(fourth());
    batches_hash_as_records::<Fixed, _>((second(), fourth()));
    batches_hash_as_records::<Bid, _>(Bid::auction);
    batches_hash_as_records::<Bid, _>(Bid::at);
    batches_hash_as_records::<Bid, _>(Bid::channel);
    batches_hash_as_records::<Bid, _>((Bid::channel, Bid::price));
    batches_hash_as_records::<Reading, _>(Reading::day);
    batches_hash_as_records::<Reading, _>(Reading::level);
    for_each_narrow(
        batches_hash_as_records,
        batches_hash_as_records,
        batches_hash_as_records,
    );
}

fn for_each_narrow(unsigned: fn(Field<u32, u32>), narrow: fn(Field<u8, u8>), signed: fn(Field<i16, i16>)) {
    unsigned(itself());
    narrow(itself());
    signed(itself());
}

#[test]
fn a_composite_key_is_a_record_of_its_fields() {
    let bid = Bid::sample(&mut Random(8));
    let key = (Bid::channel, Bid::auction);
    assert_eq!(key.key(bid.view()), (bid.channel.clone(), bid.auction));
    assert_eq!(key.describe(), ["channel", "auction"]);
    assert!(KeyFields::<Bid>::as_u64_column(&key).is_none());
    // Without the length before the first string these two would be equal.
    let encode = |channel: &str, suffix: &str| {
        let mut out = Vec::new();
        let key = (first::<(String, String)>(), second::<(String, String)>());
        key.encode_key((channel, suffix), &mut out);
        out
    };
    assert_ne!(encode("ab", "c"), encode("a", "bc"));
}

/// Savepoints contain these bytes and hashes: they never change.
#[test]
fn canonical_bytes_and_hashes_are_pinned() {
    fn bytes<R: Record>(value: R) -> (Vec<u8>, u64) {
        let mut out = Vec::new();
        itself::<R>().encode_key(value.view(), &mut out);
        (out, itself::<R>().hash(value.view(), &mut Vec::new()))
    }
    assert_eq!(bytes(-2_i16).0, [0xfe, 0xff]);
    assert_eq!(bytes(-0.0_f32).0, [0; 4]);
    assert_eq!(bytes(-f64::NAN).0, [0, 0, 0, 0, 0, 0, 0xf8, 0x7f]);
    assert_eq!(bytes(String::from("key")).0, *b"key");
    assert_eq!(
        bytes((String::from("a"), Some(vec![7_u8]))).0,
        *b"\x01\0\0\0a\x01\x07"
    );
    assert_eq!(bytes(Decimal::new(-1200, 3)).0[..1], [0xf4]);
    assert_eq!(
        bytes(Event::Named { id: 1, label: None }).0,
        [3, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        bytes(1_u64).1,
        bytes(1_u8).1,
        "integers hash as their values, whatever their width"
    );
    assert_eq!(bytes(1_u64).1, 0x4179_b061_a1b9_50b1);
    assert_eq!(bytes(String::from("key")).1, 0xbbea_0d63_a051_65e3);
    assert_eq!(bytes((1_u64, 2_u64)).1, 0x07ee_86c2_8144_6bef);
}

/// What docs/FORMATS.md says of normalized keys.
#[test]
fn normalized_bytes_are_as_documented() {
    fn bytes<R: Record>(value: R) -> Vec<u8> {
        let mut out = Vec::new();
        SortFields::encode_normalized(&itself::<R>(), value.view(), &mut out);
        out
    }
    assert_eq!(bytes(-1_i16), [0x7f, 0xff]);
    assert_eq!(bytes(1.0_f32), [0xbf, 0x80, 0, 0]);
    assert_eq!(bytes(-1.0_f32), [0x40, 0x7f, 0xff, 0xff]);
    assert_eq!(bytes(Some(String::from("a\0b"))), *b"\x01a\0\xffb\0\0");
    assert_eq!(bytes(None::<u64>), [0]);
    assert_eq!(bytes(Decimal::new(1250, 2)), [2, 66, 2, 3, 6, 0]);
    assert_eq!(bytes(Decimal::new(-5, 2)), [0, !63, !6, !0]);
}
