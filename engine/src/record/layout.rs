//! Where the fields of a record lie: the layout that `#[repr(C)]` would give, computed at compile time.
//!
//! # Layout
//! Fields in declared order, each at the next multiple of its alignment; then one null bit for every
//! nullable field, packed into bytes; then padding to the record's alignment. No alignment is over 8.
//! ```text
//! struct { a: u32, b: Option<u64>, c: u8 }
//!   0  a a a a . . . .
//!   8  b b b b b b b b
//!  16  c n . . . . . .      n: null bits, bit 0 belongs to b
//! ```

/// The largest alignment of a field in bytes: rows start at multiples of it.
pub const MAX_ALIGN: usize = 8;

/// The largest row in bytes: 128 MiB.
pub const MAX_ROW_SIZE: usize = 128 << 20;

/// What a field takes in the fixed part of a record: its bytes, and whether it needs a null bit besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Bytes in the fixed part.
    pub size: usize,
    /// Alignment of these bytes.
    pub align: usize,
    /// Whether the field has a null bit.
    pub nullable: bool,
}

/// The fixed part of a record of `N` fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout<const N: usize> {
    /// Where each field starts, from the start of the fixed part.
    pub offsets: [usize; N],
    /// The null bit of each field, counted in bits from the start of the fixed part; 0 where it has none.
    pub null_bits: [usize; N],
    /// Where the null bits start, in bytes: the end of the last field.
    pub fields_end: usize,
    /// Bytes in all, a multiple of `align`.
    pub size: usize,
    /// The largest alignment of a field, at least 1.
    pub align: usize,
}

/// `value` rounded up to a multiple of `align`, a power of two.
#[inline(always)]
pub const fn round_up(value: usize, align: usize) -> usize {
    (value + align - 1) & !(align - 1)
}

/// Lays out `slots` one after the other.
pub const fn layout<const N: usize>(slots: [Slot; N]) -> Layout<N> {
    let mut result = Layout {
        offsets: [0; N],
        null_bits: [0; N],
        fields_end: 0,
        size: 0,
        align: 1,
    };
    let mut end = 0;
    let mut nullable = 0;
    let mut index = 0;
    while index < N {
        let slot = slots[index];
        end = round_up(end, slot.align);
        result.offsets[index] = end;
        end += slot.size;
        if slot.align > result.align {
            result.align = slot.align;
        }
        index += 1;
    }
    result.fields_end = end;
    index = 0;
    while index < N {
        if slots[index].nullable {
            result.null_bits[index] = end * 8 + nullable;
            nullable += 1;
        }
        index += 1;
    }
    result.size = round_up(end + nullable.div_ceil(8), result.align);
    result
}

/// Where the fixed part starts in a row: after the total size in rows that vary, at 0 in others.
#[inline(always)]
pub const fn part_at(align: usize, varies: bool) -> usize {
    if varies { round_up(4, align) } else { 0 }
}

/// The stride of rows whose fixed part has `size` bytes: 0 where they vary, at least 1 where they do not.
pub const fn stride(size: usize, varies: bool) -> usize {
    match (varies, size) {
        (true, _) => 0,
        (false, 0) => 1,
        (false, size) => size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn plain(size: usize) -> Slot {
        Slot {
            size,
            align: size,
            nullable: false,
        }
    }

    #[test]
    fn fields_lie_as_in_c_and_null_bits_follow() {
        let found = layout([
            plain(4),
            Slot {
                size: 8,
                align: 8,
                nullable: true,
            },
            plain(1),
        ]);
        assert_eq!(found.offsets, [0, 8, 16]);
        assert_eq!(found.null_bits, [0, 17 * 8, 0]);
        assert_eq!((found.fields_end, found.size, found.align), (17, 24, 8));
    }

    #[test]
    fn nothing_takes_nothing_but_its_row_one_byte() {
        let found = layout([]);
        assert_eq!((found.size, found.align), (0, 1));
        assert_eq!(stride(found.size, false), 1);
    }

    #[test]
    fn nine_nullable_fields_take_two_bytes_of_null_bits() {
        let found = layout(
            [Slot {
                size: 1,
                align: 1,
                nullable: true,
            }; 9],
        );
        assert_eq!(found.null_bits[8], 9 * 8 + 8);
        assert_eq!(found.size, 11);
    }
}
