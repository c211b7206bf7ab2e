//! Records of every form, and random values of them: many are near an edge, or equal.

#![allow(dead_code, missing_docs)]

use forebay::record::{Date, Decimal, Record, Timestamp};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A small seeded generator (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
}

/// A type with random values.
pub trait Sample: Sized {
    fn sample(random: &mut Random) -> Self;
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Sample for $type {
            fn sample(random: &mut Random) -> Self {
                let wide = (random.next() as u128) << 64 | random.next() as u128;
                let near = (random.below(5) as $type).wrapping_sub(2 as $type);
                random.one_of(&[<$type>::MIN, <$type>::MAX, near, near, wide as $type, wide as u16 as $type])
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

macro_rules! floats {
    ($($type:ident $bits:ty)*) => {$(
        impl Sample for $type {
            fn sample(random: &mut Random) -> Self {
                let any = $type::from_bits(random.next() as $bits);
                let near = random.below(5) as $type - 2.0;
                let odd_nan = $type::from_bits($type::NAN.to_bits() | 1 << (<$bits>::BITS - 1) | 5);
                random.one_of(&[
                    0.0, -0.0, $type::NAN, odd_nan, $type::INFINITY, $type::NEG_INFINITY, $type::MIN, $type::MAX,
                    $type::MIN_POSITIVE, -$type::MIN_POSITIVE, near, near, any, any,
                ])
            }
        }
    )*};
}

floats!(f32 u32 f64 u64);

impl Sample for bool {
    fn sample(random: &mut Random) -> Self {
        random.below(2) == 1
    }
}

impl Sample for () {
    fn sample(_: &mut Random) -> Self {}
}

impl Sample for Timestamp {
    fn sample(random: &mut Random) -> Self {
        Timestamp::from_millis(i64::sample(random))
    }
}

impl Sample for Date {
    fn sample(random: &mut Random) -> Self {
        Date::from_days(i32::sample(random))
    }
}

impl Sample for Decimal {
    fn sample(random: &mut Random) -> Self {
        let scale = random.below(Decimal::MAX_SCALE as usize + 1) as u8;
        if random.below(4) == 0 {
            return Decimal::new(i128::sample(random), scale);
        }
        // Few values, many ways to write them.
        let zeros = random.below(6) as u8;
        Decimal::new(
            (random.below(23) as i128 - 11) * 10_i128.pow(zeros as u32),
            zeros + random.below(3) as u8,
        )
    }
}

impl Sample for String {
    fn sample(random: &mut Random) -> Self {
        let length = random.one_of(&[0, 1, 2, 3, 4, 5, 8, 13, 40]);
        (0..length)
            .map(|_| random.one_of(&['a', 'b', '\0', '\u{1}', 'é', '\u{10ffff}']))
            .collect()
    }
}

impl Sample for Vec<u8> {
    fn sample(random: &mut Random) -> Self {
        let length = random.one_of(&[0, 1, 2, 3, 4, 5, 8, 13, 300]);
        (0..length).map(|_| random.one_of(&[0, 0, 1, 254, 255])).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(random: &mut Random) -> Self {
        (random.below(3) > 0).then(|| T::sample(random))
    }
}

impl<T: Sample, const N: usize> Sample for [T; N] {
    fn sample(random: &mut Random) -> Self {
        std::array::from_fn(|_| T::sample(random))
    }
}

macro_rules! tuples {
    ($(($($type:ident)*))*) => {$(
        impl<$($type: Sample),*> Sample for ($($type,)*) {
            fn sample(random: &mut Random) -> Self {
                ($($type::sample(random),)*)
            }
        }
    )*};
}

tuples!((A)(A B)(A B C)(A B C D)(A B C D E)(A B C D E F)(A B C D E F G)(A B C D E F G H));

/// The example of the guide.
#[derive(Debug, Clone, PartialEq, Record)]
pub struct Bid {
    pub auction: u64,
    pub bidder: u64,
    pub price: i64,
    pub channel: String,
    pub at: Timestamp,
}

impl Sample for Bid {
    fn sample(random: &mut Random) -> Self {
        Bid {
            auction: u64::sample(random),
            bidder: u64::sample(random),
            price: i64::sample(random),
            channel: String::sample(random),
            at: Timestamp::sample(random),
        }
    }
}

/// Rows of fixed size, with holes.
#[derive(Debug, Clone, Copy, PartialEq, Record)]
pub struct Reading {
    pub flag: bool,
    pub level: f64,
    pub small: u16,
    pub day: Date,
    pub amount: Decimal,
    pub wide: i128,
    pub maybe: Option<u32>,
    pub triple: [Option<i8>; 3],
}

impl Sample for Reading {
    fn sample(random: &mut Random) -> Self {
        Reading {
            flag: bool::sample(random),
            level: f64::sample(random),
            small: u16::sample(random),
            day: Date::sample(random),
            amount: Decimal::sample(random),
            wide: i128::sample(random),
            maybe: Option::sample(random),
            triple: Sample::sample(random),
        }
    }
}

/// The struct is its row.
#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
pub struct Sale {
    pub shop: u64,
    pub amount: i64,
    pub at: Timestamp,
    pub weight: f32,
    pub code: [u8; 4],
}

impl Sample for Sale {
    fn sample(random: &mut Random) -> Self {
        Sale {
            shop: u64::sample(random),
            amount: i64::sample(random),
            at: Timestamp::sample(random),
            weight: f32::sample(random),
            code: Sample::sample(random),
        }
    }
}

type MaybePair = Option<(u8, Vec<u8>)>;

/// Records in records, of all sorts, under another name.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "nested.v1")]
pub struct Nested {
    pub r#type: u8,
    pub bid: Bid,
    pub maybe_bid: Option<Bid>,
    pub reading: Option<Reading>,
    pub sale: Sale,
    pub strings: [String; 2],
    pub maybe_strings: [Option<String>; 2],
    pub pair: (String, MaybePair),
    pub twice: Option<Option<u64>>,
    pub event: Event,
    pub status: Status,
    pub shape: Option<Shape>,
    pub marker: Marker,
}

impl Sample for Nested {
    fn sample(random: &mut Random) -> Self {
        Nested {
            r#type: u8::sample(random),
            bid: Bid::sample(random),
            maybe_bid: Option::sample(random),
            reading: Option::sample(random),
            sale: Sale::sample(random),
            strings: Sample::sample(random),
            maybe_strings: Sample::sample(random),
            pair: Sample::sample(random),
            twice: Sample::sample(random),
            event: Event::sample(random),
            status: Status::sample(random),
            shape: Option::sample(random),
            marker: Marker,
        }
    }
}

/// A tuple struct.
#[derive(Debug, Clone, PartialEq, Record)]
pub struct Couple(pub u32, #[record(constant = "LABEL")] pub String);

impl Sample for Couple {
    fn sample(random: &mut Random) -> Self {
        Couple(u32::sample(random), String::sample(random))
    }
}

/// A unit struct.
#[derive(Debug, Clone, Copy, PartialEq, Record)]
pub struct Marker;

impl Sample for Marker {
    fn sample(_: &mut Random) -> Self {
        Marker
    }
}

/// An enum of records whose rows vary.
#[derive(Debug, Clone, PartialEq, Record)]
pub enum Event {
    Bid(Bid),
    Reading(Reading),
    Tick,
    Named { id: u64, label: Option<String> },
    Many(u8, String, u8),
}

impl Sample for Event {
    fn sample(random: &mut Random) -> Self {
        match random.below(5) {
            0 => Event::Bid(Bid::sample(random)),
            1 => Event::Reading(Reading::sample(random)),
            2 => Event::Tick,
            3 => Event::Named {
                id: u64::sample(random),
                label: Option::sample(random),
            },
            _ => Event::Many(u8::sample(random), String::sample(random), u8::sample(random)),
        }
    }
}

/// An enum of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Record)]
pub enum Status {
    Open,
    Closed,
}

impl Sample for Status {
    fn sample(random: &mut Random) -> Self {
        random.one_of(&[Status::Open, Status::Closed])
    }
}

/// An enum whose rows are of fixed size.
#[derive(Debug, Clone, Copy, PartialEq, Record)]
pub enum Shape {
    Point,
    Circle(f64),
    Box { width: u16, height: Option<u16> },
}

impl Sample for Shape {
    fn sample(random: &mut Random) -> Self {
        match random.below(3) {
            0 => Shape::Point,
            1 => Shape::Circle(f64::sample(random)),
            _ => Shape::Box {
                width: u16::sample(random),
                height: Option::sample(random),
            },
        }
    }
}

/// Calls a macro with every type that the properties are tested for.
#[macro_export]
macro_rules! for_every_type {
    ($check:ident) => {
        $check!(
            u8,
            u16,
            u32,
            u64,
            u128,
            i8,
            i16,
            i32,
            i64,
            i128,
            f32,
            f64,
            bool,
            (),
            Timestamp,
            Date,
            Decimal,
            String,
            Vec<u8>,
            Option<u8>,
            Option<String>,
            Option<Option<u64>>,
            [u8; 10],
            [u8; 0],
            [String; 3],
            [Option<u16>; 9],
            [Option<String>; 2],
            (u64, i64),
            (u8, u64),
            (String,),
            (String, u8, Vec<u8>),
            (Option<u8>, Option<String>, Option<i128>),
            (u8, u8, u8, u8, u8, u8, u8, u64),
            ((u8, String), [(bool, u32); 2]),
            Bid,
            Reading,
            Sale,
            Nested,
            Couple,
            Marker,
            Event,
            Status,
            Shape
        )
    };
}
