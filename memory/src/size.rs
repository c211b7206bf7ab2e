//! Sizes and durations as people write them: [`ByteSize`] and [`parse_duration`].
//!
//! # Interface
//! [`ByteSize`] parses with [`str::parse`], prints itself with a unit, and deserializes from a string or an
//! integer. [`parse_duration`] and [`display_duration`] do the same for [`Duration`].
//!
//! All units of size are 1024-based, whichever way they are written: `1gb`, `1 GB` and `1 GiB` are the same.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};

/// A number of bytes.
///
/// # Examples
/// ```
/// use forebay_memory::ByteSize;
///
/// let size: ByteSize = "64 mb".parse()?;
/// assert_eq!(size, ByteSize::mib(64));
/// assert_eq!(size.to_string(), "64 MiB");
/// assert!("64 parsecs".parse::<ByteSize>().is_err());
/// # Ok::<(), forebay_memory::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// 1024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1024 KiB.
pub const MIB: u64 = 1 << 20;
/// 1024 MiB.
pub const GIB: u64 = 1 << 30;
/// 1024 GiB.
pub const TIB: u64 = 1 << 40;

const SIZE_FORMS: &str = "write 32kb, 64 mb, 1gb, 1 GiB, 512MB or plain bytes (units are 1024-based)";
const DURATION_FORMS: &str = "write 100ms, 1s, 10 min, 2 h, 1 d, 500us or 0";

impl ByteSize {
    /// `count` KiB.
    pub const fn kib(count: u64) -> Self {
        ByteSize(count * KIB)
    }

    /// `count` MiB.
    pub const fn mib(count: u64) -> Self {
        ByteSize(count * MIB)
    }

    /// `count` GiB.
    pub const fn gib(count: u64) -> Self {
        ByteSize(count * GIB)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (count, unit) = number_and_unit(text, "size", SIZE_FORMS)?;
        let scale = match unit.as_str() {
            "" | "b" | "byte" | "bytes" => 1,
            "k" | "kb" | "kib" => KIB,
            "m" | "mb" | "mib" => MIB,
            "g" | "gb" | "gib" => GIB,
            "t" | "tb" | "tib" => TIB,
            _ => {
                return Err(not_a(
                    "size",
                    text,
                    format!("unknown unit \"{unit}\""),
                    SIZE_FORMS,
                ));
            }
        };
        match count.checked_mul(scale) {
            Some(bytes) => Ok(ByteSize(bytes)),
            None => Err(not_a("size", text, "it is over 2^64 bytes".into(), SIZE_FORMS)),
        }
    }
}

/// Whole units are printed whole, others to a tenth of a unit: `32 KiB`, `3000 B`, `204.8 MiB`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        let (scale, unit) = match bytes {
            0..KIB => (1, "B"),
            KIB..MIB => (KIB, "KiB"),
            MIB..GIB => (MIB, "MiB"),
            GIB..TIB => (GIB, "GiB"),
            _ => (TIB, "TiB"),
        };
        let text = if bytes.is_multiple_of(scale) {
            format!("{} {unit}", bytes / scale)
        } else if scale == KIB {
            format!("{bytes} B")
        } else {
            format!("{:.1} {unit}", bytes as f64 / scale as f64)
        };
        f.pad(&text)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64 MiB\", or a number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                bytes.to_string().parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// The duration that `text` says: `100ms`, `1s`, `10 min`, or a bare `0`.
///
/// # Errors
/// A negative number, an unknown or missing unit, or more than 2^64 nanoseconds (about 584 years).
pub fn parse_duration(text: &str) -> Result<Duration> {
    const SECOND: u64 = 1_000_000_000;
    let (count, unit) = number_and_unit(text, "duration", DURATION_FORMS)?;
    let scale = match unit.as_str() {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" | "sec" => SECOND,
        "m" | "min" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        "d" => 86_400 * SECOND,
        "" if count == 0 => 1,
        "" => return Err(not_a("duration", text, "it has no unit".into(), DURATION_FORMS)),
        _ => {
            return Err(not_a(
                "duration",
                text,
                format!("unknown unit \"{unit}\""),
                DURATION_FORMS,
            ));
        }
    };
    match count.checked_mul(scale) {
        Some(nanoseconds) => Ok(Duration::from_nanos(nanoseconds)),
        None => Err(not_a(
            "duration",
            text,
            "it is over 584 years".into(),
            DURATION_FORMS,
        )),
    }
}

/// A duration in the largest unit that is whole: `100 ms`, `10 min`; parses back to itself.
pub fn display_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0".into();
    }
    let (scale, unit) = UNITS
        .into_iter()
        .find(|(scale, _)| nanoseconds.is_multiple_of(*scale))
        .expect("every number is a multiple of one");
    format!("{} {unit}", nanoseconds / scale)
}

/// Splits `12 kb` into 12 and `kb`, the unit in lower case.
fn number_and_unit(text: &str, what: &str, forms: &str) -> Result<(u64, String)> {
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return Err(not_a(what, text, "it is negative".into(), forms));
    }
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(not_a(what, text, "it does not start with a number".into(), forms));
    }
    if unit.starts_with(['.', ',', '_']) {
        return Err(not_a(what, text, "only whole numbers are accepted".into(), forms));
    }
    match number.parse() {
        Ok(count) => Ok((count, unit.trim().to_lowercase())),
        Err(_) => Err(not_a(what, text, "the number is over 2^64".into(), forms)),
    }
}

fn not_a(what: &str, text: &str, why: String, forms: &str) -> Error {
    Error::config(format!("\"{text}\" is not a {what}: {why}; {forms}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> u64 {
        text.parse::<ByteSize>()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .bytes()
    }

    fn refused(text: &str) -> String {
        text.parse::<ByteSize>().expect_err(text).to_string()
    }

    #[test]
    fn sizes_parse_in_every_form() {
        assert_eq!(size("0"), 0);
        assert_eq!(size("4096"), 4096);
        assert_eq!(size("7b"), 7);
        assert_eq!(size("7 bytes"), 7);
        for text in ["32k", "32kb", "32KB", "32 KiB", " 32\tkib "] {
            assert_eq!(size(text), 32 * KIB, "{text}");
        }
        for text in ["64m", "64mb", "64 mb", "64 MiB", "64MB"] {
            assert_eq!(size(text), 64 * MIB, "{text}");
        }
        for text in ["1g", "1gb", "1 GiB", "1 GB"] {
            assert_eq!(size(text), GIB, "{text}");
        }
        for text in ["2t", "2tb", "2 TiB"] {
            assert_eq!(size(text), 2 * TIB, "{text}");
        }
        assert_eq!(size("18446744073709551615"), u64::MAX);
    }

    #[test]
    fn sizes_that_are_none_say_why_and_what_is_accepted() {
        for (text, why) in [
            ("-1", "it is negative"),
            ("-64 mb", "it is negative"),
            ("", "it does not start with a number"),
            ("mb", "it does not start with a number"),
            ("1.5gb", "only whole numbers are accepted"),
            ("1_000", "only whole numbers are accepted"),
            ("12 parsecs", "unknown unit \"parsecs\""),
            ("12 kb kb", "unknown unit \"kb kb\""),
            ("18446744073709551616", "the number is over 2^64"),
            ("16777216 tb", "it is over 2^64 bytes"),
        ] {
            assert_eq!(
                refused(text),
                format!("\"{text}\" is not a size: {why}; {SIZE_FORMS}")
            );
        }
    }

    #[test]
    fn sizes_print_with_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (3000, "3000 B"),
            (32 * KIB, "32 KiB"),
            (214_748_364, "204.8 MiB"),
            (2 * GIB, "2 GiB"),
            (GIB + MIB, "1.0 GiB"),
            (3 * TIB, "3 TiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        assert_eq!(format!("[{:>8}]", ByteSize::kib(4)), "[   4 KiB]");
    }

    #[test]
    fn sizes_deserialize_from_strings_and_integers() {
        assert_eq!(
            serde_json::from_str::<ByteSize>("\"64 mb\"").unwrap(),
            ByteSize::mib(64)
        );
        assert_eq!(
            serde_json::from_str::<ByteSize>("4096").unwrap(),
            ByteSize::kib(4)
        );
        let error = serde_json::from_str::<ByteSize>("-4").unwrap_err().to_string();
        assert!(error.contains("it is negative"), "{error}");
        let error = serde_json::from_str::<ByteSize>("true").unwrap_err().to_string();
        assert!(error.contains("a size such as"), "{error}");
        assert_eq!(serde_json::to_string(&ByteSize::kib(1)).unwrap(), "1024");
    }

    #[test]
    fn durations_parse_and_print_back() {
        for (text, expected, shown) in [
            ("0", Duration::ZERO, "0"),
            ("100ms", Duration::from_millis(100), "100 ms"),
            ("1s", Duration::from_secs(1), "1 s"),
            ("10 min", Duration::from_secs(600), "10 min"),
            ("90 sec", Duration::from_secs(90), "90 s"),
            ("2 H", Duration::from_secs(7200), "2 h"),
            ("1 d", Duration::from_secs(86_400), "1 d"),
            ("500us", Duration::from_micros(500), "500 us"),
            ("7µs", Duration::from_micros(7), "7 us"),
            ("3 ns", Duration::from_nanos(3), "3 ns"),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, expected, "{text}");
            assert_eq!(display_duration(duration), shown);
            assert_eq!(parse_duration(shown).unwrap(), duration);
        }
    }

    #[test]
    fn durations_that_are_none_say_why_and_what_is_accepted() {
        for (text, why) in [
            ("100", "it has no unit"),
            ("-1s", "it is negative"),
            ("soon", "it does not start with a number"),
            ("1 fortnight", "unknown unit \"fortnight\""),
            ("300000 d", "it is over 584 years"),
        ] {
            let error = parse_duration(text).expect_err(text).to_string();
            assert_eq!(
                error,
                format!("\"{text}\" is not a duration: {why}; {DURATION_FORMS}")
            );
        }
    }
}
