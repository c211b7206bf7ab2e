//! How numbers, `bool`, [`Timestamp`] and [`Date`] lie in rows and keys: little-endian in both; sign flipped
//! and big-endian in normalized keys.

use forebay_memory::{Error, Result};

use super::row::{Integer, Record, put, take};
use super::schema::DataType;
use super::time::{Date, Timestamp};

/// Takes `N` bytes off the front of a key.
#[inline(always)]
pub(crate) fn split<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

/// The items that every type has whose view is its value and whose key bytes decode to it.
macro_rules! by_value {
    () => {
        #[inline(always)]
        fn view(&self) -> Self {
            *self
        }

        #[inline(always)]
        fn from_view(view: Self) -> Self {
            view
        }

        #[inline(always)]
        fn shorten<'long: 'short, 'short>(view: Self) -> Self {
            view
        }

        #[inline(always)]
        fn decode_key_view(bytes: &mut &[u8], last: bool) -> Option<Self> {
            Self::decode_key(bytes, last)
        }
    };
}
pub(crate) use by_value;

/// `$type` lies in rows as the integer `$bits`; `$wrap` and `$unwrap` convert.
macro_rules! integer {
    ($type:ty, $bits:ty, $integer:expr, $data_type:expr, $order:expr, $wrap:expr, $unwrap:expr) => {
        impl Record for $type {
            type View<'a> = $type;
            const SIZE: usize = size_of::<$bits>();
            const ALIGN: usize = if size_of::<$bits>() > 8 {
                8
            } else {
                size_of::<$bits>()
            };
            const VARIES: bool = false;
            const INTEGER: Option<Integer> = $integer;
            const KEY_SIZE: Option<usize> = Some(size_of::<$bits>());

            fn data_type() -> DataType {
                $data_type
            }

            by_value!();

            #[inline(always)]
            fn write_part(view: Self, row: &mut [u8], at: usize, tail: usize) -> usize {
                put(row, at, $unwrap(view).to_le_bytes());
                tail
            }

            #[inline(always)]
            fn read_part(row: &[u8], at: usize) -> Self {
                $wrap(<$bits>::from_le_bytes(take(row, at)))
            }

            fn validate_part(_row: &[u8], _at: usize) -> Result<()> {
                Ok(())
            }

            #[inline(always)]
            fn to_u64(view: Self) -> u64 {
                assert!(
                    Self::INTEGER.is_some(),
                    "only integers of up to 64 bits are 64 bits"
                );
                $unwrap(view) as u64
            }

            #[inline(always)]
            fn from_u64(bits: u64) -> Self {
                assert!(
                    Self::INTEGER.is_some(),
                    "only integers of up to 64 bits are 64 bits"
                );
                $wrap(bits as $bits)
            }

            #[inline]
            fn encode_key(view: Self, _last: bool, out: &mut Vec<u8>) {
                out.extend_from_slice(&$unwrap(view).to_le_bytes());
            }

            #[inline]
            fn decode_key(bytes: &mut &[u8], _last: bool) -> Option<Self> {
                Some($wrap(<$bits>::from_le_bytes(split(bytes)?)))
            }

            #[inline]
            fn encode_normalized(view: Self, out: &mut Vec<u8>) {
                let order: fn($bits) -> $bits = $order;
                out.extend_from_slice(&order($unwrap(view)).to_be_bytes());
            }
        }
    };
}

macro_rules! integers {
    ($($unsigned:ty, $signed:ty, $fits:expr;)*) => {$(
        integer!($unsigned, $unsigned, integer_kind($fits, size_of::<$unsigned>(), false),
            DataType::Unsigned(<$unsigned>::BITS as u16), |bits| bits, |bits| bits, |value| value);
        integer!($signed, $signed, integer_kind($fits, size_of::<$signed>(), true),
            DataType::Signed(<$signed>::BITS as u16), |bits| bits ^ <$signed>::MIN, |bits| bits, |value| value);
    )*};
}

const fn integer_kind(fits: bool, width: usize, signed: bool) -> Option<Integer> {
    if fits {
        Some(Integer {
            width: width as u8,
            signed,
        })
    } else {
        None
    }
}

integers! {
    u8, i8, true;
    u16, i16, true;
    u32, i32, true;
    u64, i64, true;
    u128, i128, false;
}

integer!(
    Timestamp,
    i64,
    integer_kind(true, 8, true),
    DataType::Timestamp,
    |bits| bits ^ i64::MIN,
    Timestamp::from_millis,
    Timestamp::millis
);
integer!(
    Date,
    i32,
    integer_kind(true, 4, true),
    DataType::Date,
    |bits| bits ^ i32::MIN,
    Date::from_days,
    Date::days
);

macro_rules! float {
    ($type:ty, $bits:ty, $order:ident) => {
        impl Record for $type {
            type View<'a> = $type;
            const SIZE: usize = size_of::<$type>();
            const ALIGN: usize = size_of::<$type>();
            const VARIES: bool = false;
            const KEY_SIZE: Option<usize> = Some(size_of::<$type>());
            const ORDINAL: bool = true;

            #[inline(always)]
            fn to_ordinal(view: $type) -> u64 {
                u64::from($order(view))
            }

            #[inline(always)]
            fn from_ordinal(ordinal: u64) -> $type {
                let ordinal = ordinal as $bits;
                let sign = 1 << (<$bits>::BITS - 1);
                <$type>::from_bits(if ordinal & sign == 0 {
                    !ordinal
                } else {
                    ordinal ^ sign
                })
            }

            fn data_type() -> DataType {
                DataType::Float(<$bits>::BITS as u16)
            }

            by_value!();

            #[inline(always)]
            fn write_part(view: Self, row: &mut [u8], at: usize, tail: usize) -> usize {
                put(row, at, view.to_le_bytes());
                tail
            }

            #[inline(always)]
            fn read_part(row: &[u8], at: usize) -> Self {
                <$type>::from_le_bytes(take(row, at))
            }

            fn validate_part(_row: &[u8], _at: usize) -> Result<()> {
                Ok(())
            }

            #[inline]
            fn encode_key(view: Self, _last: bool, out: &mut Vec<u8>) {
                // Adding 0.0 turns −0.0 into 0.0.
                let value = if view.is_nan() {
                    <$type>::NAN
                } else {
                    view + 0.0
                };
                out.extend_from_slice(&value.to_le_bytes());
            }

            #[inline]
            fn decode_key(bytes: &mut &[u8], _last: bool) -> Option<Self> {
                Some(<$type>::from_le_bytes(split(bytes)?))
            }

            #[inline]
            fn encode_normalized(view: Self, out: &mut Vec<u8>) {
                out.extend_from_slice(&$order(view).to_be_bytes());
            }
        }

        /// The bits as an unsigned integer of the same order; NaN above every number, −0.0 as 0.0.
        #[inline(always)]
        fn $order(value: $type) -> $bits {
            let value = if value.is_nan() {
                <$type>::NAN.copysign(1.0)
            } else {
                value + 0.0
            };
            let bits = value.to_bits();
            let sign = 1 << (<$bits>::BITS - 1);
            if bits & sign != 0 { !bits } else { bits ^ sign }
        }
    };
}

float!(f32, u32, order_f32);
float!(f64, u64, order_f64);

impl Record for bool {
    type View<'a> = bool;
    const SIZE: usize = 1;
    const ALIGN: usize = 1;
    const VARIES: bool = false;
    const INTEGER: Option<Integer> = Some(Integer {
        width: 1,
        signed: false,
    });

    fn data_type() -> DataType {
        DataType::Bool
    }

    by_value!();

    #[inline(always)]
    fn write_part(view: bool, row: &mut [u8], at: usize, tail: usize) -> usize {
        put(row, at, [view as u8]);
        tail
    }

    #[inline(always)]
    fn read_part(row: &[u8], at: usize) -> bool {
        row[at] != 0
    }

    fn validate_part(row: &[u8], at: usize) -> Result<()> {
        match row[at] {
            0 | 1 => Ok(()),
            byte => Err(Error::corrupt(format!("byte {at}: a bool is 0 or 1, not {byte}"))),
        }
    }

    #[inline(always)]
    fn to_u64(view: bool) -> u64 {
        view as u64
    }

    #[inline(always)]
    fn from_u64(bits: u64) -> bool {
        bits != 0
    }

    #[inline]
    fn encode_key(view: bool, _last: bool, out: &mut Vec<u8>) {
        out.push(view as u8);
    }

    #[inline]
    fn decode_key(bytes: &mut &[u8], _last: bool) -> Option<bool> {
        match split(bytes)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    #[inline]
    fn encode_normalized(view: bool, out: &mut Vec<u8>) {
        out.push(view as u8);
    }
}

impl Record for () {
    type View<'a> = ();
    const SIZE: usize = 0;
    const ALIGN: usize = 1;
    const VARIES: bool = false;
    const KEY_SIZE: Option<usize> = Some(0);

    fn data_type() -> DataType {
        DataType::Unit
    }

    by_value!();

    #[inline(always)]
    fn write_part(_view: (), _row: &mut [u8], _at: usize, tail: usize) -> usize {
        tail
    }

    #[inline(always)]
    fn read_part(_row: &[u8], _at: usize) {}

    fn validate_part(_row: &[u8], _at: usize) -> Result<()> {
        Ok(())
    }

    fn encode_key(_view: (), _last: bool, _out: &mut Vec<u8>) {}

    fn decode_key(_bytes: &mut &[u8], _last: bool) -> Option<()> {
        Some(())
    }

    fn encode_normalized(_view: (), _out: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_keep_the_order() {
        let floats = [
            f64::NEG_INFINITY,
            -1.5,
            -f64::MIN_POSITIVE,
            0.0,
            1e-300,
            2.0,
            f64::INFINITY,
            f64::NAN,
        ];
        assert!(floats.map(f64::to_ordinal).is_sorted());
        assert_eq!(f64::to_ordinal(-0.0), f64::to_ordinal(0.0));
        assert!(f64::from_ordinal(f64::to_ordinal(f64::NAN)).is_nan());
        let integers = [i64::MIN, -1, 0, 1, i64::MAX];
        assert!(integers.map(i64::to_ordinal).is_sorted());
        assert_eq!(
            integers.map(|value| i64::from_ordinal(i64::to_ordinal(value))),
            integers
        );
        assert_eq!(
            Date::from_ordinal(Date::to_ordinal(Date::from_u64(-3i64 as u64))),
            Date::from_u64(-3i64 as u64)
        );
    }
}
