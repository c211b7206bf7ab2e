//! [`Decimal`]: an exact decimal number, an integer of up to 38 digits and a scale.
//!
//! # Layout
//! 17 bytes: units (i128), scale (u8). A key holds the fewest units that say the value. A normalized key is
//! one byte for the sign (0, 1, 2), then the count of digits before the point plus 64, then each digit plus 1
//! without trailing zeros, then 0; of a negative number all but the sign is inverted.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use forebay_memory::{Error, Result};

use super::numbers::{by_value, split};
use super::row::{Record, put, take};
use super::schema::DataType;

/// An exact decimal number: `units` / 10^`scale`. Equal by value: 1.0 is 1.00.
///
/// ```
/// use forebay::record::Decimal;
///
/// let sum = Decimal::new(10, 2).checked_add(Decimal::new(5, 1)); // 0.10 + 0.5
/// assert_eq!(sum, Some("0.6".parse()?));
/// # Ok::<_, forebay::record::ParseDecimalError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Decimal {
    units: i128,
    scale: u8,
}

impl Decimal {
    /// The largest scale: digits after the point.
    pub const MAX_SCALE: u8 = 38;

    /// `units` / 10^`scale`.
    ///
    /// # Panics
    /// When `scale` is over [`Decimal::MAX_SCALE`].
    pub const fn new(units: i128, scale: u8) -> Self {
        assert!(
            scale <= Self::MAX_SCALE,
            "a decimal has at most 38 digits after the point"
        );
        Decimal { units, scale }
    }

    /// The integer that, divided by 10^scale, is the value.
    pub const fn units(self) -> i128 {
        self.units
    }

    /// Digits after the point.
    pub const fn scale(self) -> u8 {
        self.scale
    }

    /// The same value with the smallest scale.
    pub fn normalized(self) -> Self {
        let Decimal { mut units, mut scale } = self;
        while scale > 0 && units % 10 == 0 {
            units /= 10;
            scale -= 1;
        }
        Decimal { units, scale }
    }

    /// The same value with that scale; nothing where it does not fit or digits would be lost.
    pub fn rescaled(self, scale: u8) -> Option<Self> {
        if scale > Self::MAX_SCALE {
            return None;
        }
        if scale >= self.scale {
            let factor = 10_i128.pow((scale - self.scale) as u32);
            return Some(Decimal {
                units: self.units.checked_mul(factor)?,
                scale,
            });
        }
        let factor = 10_i128.pow((self.scale - scale) as u32);
        (self.units % factor == 0).then_some(Decimal {
            units: self.units / factor,
            scale,
        })
    }

    /// The exact sum, at the larger of the two scales or the smallest that holds it; nothing where none does.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let at = |scale: u8| {
            let (left, right) = (self.rescaled(scale)?, other.rescaled(scale)?);
            Some(Decimal {
                units: left.units.checked_add(right.units)?,
                scale,
            })
        };
        let scale = self.scale.max(other.scale);
        at(scale).or_else(|| {
            let least = self.normalized().scale.max(other.normalized().scale);
            if least < scale { at(least) } else { None }
        })
    }

    /// The exact difference, as [`Decimal::checked_add`].
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Decimal {
            units: other.units.checked_neg()?,
            scale: other.scale,
        })
    }

    /// The value as a float, rounded.
    pub fn to_f64(self) -> f64 {
        self.units as f64 / 10_f64.powi(self.scale as i32)
    }

    /// The digits of |units|, most significant first, without trailing zeros, and how many of them, or of the
    /// zeros that would follow, are before the point (negative where zeros follow the point).
    fn digits(self) -> (String, i32) {
        let digits = self.units.unsigned_abs().to_string();
        let before_point = digits.len() as i32 - self.scale as i32;
        (digits.trim_end_matches('0').into(), before_point)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let whole_and_rest = |value: &Decimal| {
            let factor = 10_i128.pow(value.scale as u32);
            // The rest is in [0, 10^38) at the largest scale, which an i128 holds.
            let rest = value.units.rem_euclid(factor) * 10_i128.pow((Self::MAX_SCALE - value.scale) as u32);
            (value.units.div_euclid(factor), rest)
        };
        whole_and_rest(self).cmp(&whole_and_rest(other))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let value = self.normalized();
        (value.units, value.scale).hash(state);
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = self.scale as usize;
        let digits = format!("{:0>width$}", self.units.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let text = if scale == 0 {
            whole.to_string()
        } else {
            format!("{whole}.{fraction}")
        };
        f.pad_integral(self.units >= 0, "", &text)
    }
}

/// The text is no decimal number, or has more than 38 digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseDecimalError;

impl fmt::Display for ParseDecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a decimal number such as -12.50, of at most 38 digits")
    }
}

impl std::error::Error for ParseDecimalError {}

impl FromStr for Decimal {
    type Err = ParseDecimalError;

    fn from_str(text: &str) -> Result<Self, ParseDecimalError> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty())
            || !all_digits(whole)
            || !all_digits(fraction)
            || fraction.len() > Self::MAX_SCALE as usize
        {
            return Err(ParseDecimalError);
        }
        let sign = if text.starts_with('-') { "-" } else { "" };
        let units = format!("{sign}{whole}{fraction}")
            .parse()
            .map_err(|_| ParseDecimalError)?;
        Ok(Decimal {
            units,
            scale: fraction.len() as u8,
        })
    }
}

impl Record for Decimal {
    type View<'a> = Decimal;
    const SIZE: usize = 17;
    const ALIGN: usize = 1;
    const VARIES: bool = false;
    const KEY_SIZE: Option<usize> = Some(17);

    fn data_type() -> DataType {
        DataType::Decimal
    }

    by_value!();

    #[inline(always)]
    fn write_part(view: Self, row: &mut [u8], at: usize, tail: usize) -> usize {
        put(row, at, view.units.to_le_bytes());
        put(row, at + 16, [view.scale]);
        tail
    }

    #[inline(always)]
    fn read_part(row: &[u8], at: usize) -> Self {
        Decimal::new(i128::from_le_bytes(take(row, at)), row[at + 16])
    }

    fn validate_part(row: &[u8], at: usize) -> Result<()> {
        match row[at + 16] {
            0..=Decimal::MAX_SCALE => Ok(()),
            scale => Err(Error::corrupt(format!(
                "byte {at}: a decimal's scale is at most 38, not {scale}"
            ))),
        }
    }

    fn encode_key(view: Self, _last: bool, out: &mut Vec<u8>) {
        let value = view.normalized();
        out.extend_from_slice(&value.units.to_le_bytes());
        out.push(value.scale);
    }

    fn decode_key(bytes: &mut &[u8], _last: bool) -> Option<Self> {
        let units = i128::from_le_bytes(split(bytes)?);
        let [scale] = split(bytes)?;
        (scale <= Self::MAX_SCALE).then_some(Decimal { units, scale })
    }

    fn encode_normalized(view: Self, out: &mut Vec<u8>) {
        out.push((view.units.signum() + 1) as u8);
        if view.units == 0 {
            return;
        }
        let start = out.len();
        let (digits, before_point) = view.digits();
        out.push((before_point + 64) as u8);
        out.extend(digits.bytes().map(|digit| digit - b'0' + 1));
        out.push(0);
        if view.units < 0 {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Decimal {
        text.parse().expect("a decimal")
    }

    #[test]
    fn text_round_trips_and_keeps_its_scale() {
        for text in [
            "0",
            "0.00",
            "-0.5",
            "12.50",
            "-170141183460469231731687303715884105728",
            "0.00000001",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed("+.5").to_string(), "0.5");
        for text in [
            "",
            ".",
            "-",
            "1e3",
            "1.2.3",
            "--1",
            "170141183460469231731687303715884105728",
        ] {
            assert_eq!(text.parse::<Decimal>(), Err(ParseDecimalError), "{text}");
        }
    }

    #[test]
    fn compares_by_value_without_overflow() {
        assert_eq!(parsed("1.0"), parsed("1.000"));
        assert!(Decimal::new(i128::MAX, 0) > Decimal::new(i128::MAX, 38));
        assert!(Decimal::new(i128::MIN, 0) < Decimal::new(i128::MIN, 38));
        assert!(parsed("-0.5") < parsed("-0.49"));
        assert!(Decimal::new(1, 38) > Decimal::new(0, 0));
    }

    #[test]
    fn adds_exactly_or_not_at_all() {
        assert_eq!(parsed("0.1").checked_add(parsed("0.2")), Some(parsed("0.3")));
        assert_eq!(
            parsed("1").checked_sub(parsed("0.01")).expect("fits").to_string(),
            "0.99"
        );
        assert_eq!(Decimal::new(i128::MAX, 0).checked_add(parsed("1")), None);
        assert_eq!(Decimal::new(i128::MAX, 0).checked_add(parsed("0.5")), None);
        // The scale that 1.00 asks for does not hold the sum, its smallest does.
        let large = Decimal::new(i128::MAX - 1, 0);
        assert_eq!(
            large.checked_add(parsed("1.00")),
            Some(Decimal::new(i128::MAX, 0))
        );
    }
}
