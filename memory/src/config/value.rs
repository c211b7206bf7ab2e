//! The kinds of values that keys take: parsing one from text, checking its range, printing it again.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::KeyInfo;
use crate::size::{ByteSize, display_duration, parse_duration};

/// The type and range of a key's values.
#[derive(Debug)]
pub enum Kind {
    /// Bytes.
    Size {
        /// The smallest that is accepted.
        least: ByteSize,
        /// The largest that is accepted.
        most: ByteSize,
        /// Whether only powers of two are.
        power_of_two: bool,
    },
    /// A number over 0, up to 1.
    Fraction,
    /// A whole number.
    Count {
        /// The smallest that is accepted.
        least: u64,
        /// The largest that is accepted.
        most: u64,
        /// Whether only powers of two are.
        power_of_two: bool,
    },
    /// A length of time.
    Duration {
        /// The shortest that is accepted.
        least: Duration,
        /// The longest that is accepted.
        most: Duration,
    },
    /// `true` or `false`.
    Flag,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// One directory or several.
    Directories,
}

/// A word that a key takes besides values of its kind.
#[derive(Debug)]
pub struct Word {
    /// The word.
    pub word: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// A value of a key, in its range.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// The key's own word.
    Word(&'static str),
    /// A value of a [`Kind::Size`].
    Size(ByteSize),
    /// A value of a [`Kind::Fraction`].
    Fraction(f64),
    /// A value of a [`Kind::Count`].
    Count(u64),
    /// A value of a [`Kind::Duration`].
    Duration(Duration),
    /// A value of a [`Kind::Flag`].
    Flag(bool),
    /// A value of a [`Kind::Choice`].
    Choice(&'static str),
    /// A value of [`Kind::Directories`], not empty.
    Directories(Vec<PathBuf>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Word(word) | Value::Choice(word) => f.write_str(word),
            Value::Size(size) => size.fmt(f),
            Value::Fraction(fraction) => fraction.fmt(f),
            Value::Count(count) => count.fmt(f),
            Value::Duration(duration) => f.write_str(&display_duration(*duration)),
            Value::Flag(flag) => flag.fmt(f),
            Value::Directories(directories) => {
                let names: Vec<_> = directories
                    .iter()
                    .map(|directory| directory.display().to_string())
                    .collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

impl KeyInfo {
    /// The value that `text` says, or what is wrong with it, without the key's name.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        if let Some(word) = &self.word
            && text.eq_ignore_ascii_case(word.word)
        {
            return Ok(Value::Word(word.word));
        }
        let value = match &self.kind {
            Kind::Size { .. } => Value::Size(text.parse().map_err(|error| self.or_word(error))?),
            Kind::Duration { .. } => {
                Value::Duration(parse_duration(text).map_err(|error| self.or_word(error))?)
            }
            Kind::Fraction => match text.parse::<f64>() {
                Ok(fraction) => Value::Fraction(fraction),
                Err(_) => return Err(self.refuse(text, "is not a number")),
            },
            Kind::Count { .. } => match text.parse::<u64>() {
                Ok(count) => Value::Count(count),
                Err(_) => return Err(self.refuse(text, "is not a whole number in range")),
            },
            Kind::Flag => match text {
                "true" => Value::Flag(true),
                "false" => Value::Flag(false),
                _ => return Err(self.refuse(text, "is neither true nor false")),
            },
            Kind::Choice(words) => match words.iter().find(|word| text.eq_ignore_ascii_case(word)) {
                Some(word) => Value::Choice(word),
                None => return Err(self.refuse(text, "is not one of its words")),
            },
            Kind::Directories => {
                return self.directories(text.split(',').map(|part| part.trim().to_string()).collect());
            }
        };
        self.check(value)
    }

    /// The value of a list of directories, where that is what the key takes.
    pub(super) fn directories(&self, names: Vec<String>) -> Result<Value, String> {
        let Kind::Directories = self.kind else {
            return Err(self.refuse("a list", "is not accepted"));
        };
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(self.refuse(&format!("\"{}\"", names.join(", ")), "has an empty name"));
        }
        Ok(Value::Directories(names.into_iter().map(PathBuf::from).collect()))
    }

    fn check(&self, value: Value) -> Result<Value, String> {
        let (in_range, wants_power_of_two, number) = match (&value, &self.kind) {
            (
                Value::Size(size),
                Kind::Size {
                    least,
                    most,
                    power_of_two,
                },
            ) => ((*least..=*most).contains(size), *power_of_two, size.bytes()),
            (
                Value::Count(count),
                Kind::Count {
                    least,
                    most,
                    power_of_two,
                },
            ) => ((*least..=*most).contains(count), *power_of_two, *count),
            (Value::Duration(duration), Kind::Duration { least, most }) => {
                ((*least..=*most).contains(duration), false, 0)
            }
            (Value::Fraction(fraction), Kind::Fraction) => (*fraction > 0.0 && *fraction <= 1.0, false, 0),
            _ => (true, false, 0),
        };
        if wants_power_of_two && !number.is_power_of_two() {
            return Err(self.refuse(&value.to_string(), "is not a power of two"));
        }
        if !in_range {
            return Err(self.refuse(&value.to_string(), "is out of range"));
        }
        Ok(value)
    }

    fn refuse(&self, shown: &str, why: &str) -> String {
        format!(
            "{shown} {why}; use {} (default {})",
            self.accepted(),
            self.default
        )
    }

    fn or_word(&self, error: crate::Error) -> String {
        match &self.word {
            Some(word) => format!("{error}, or {}", word.word),
            None => error.to_string(),
        }
    }

    /// What the key takes, in words: `4 KiB to 1 MiB, or auto`.
    fn accepted(&self) -> String {
        match &self.word {
            Some(word) => format!("{}, or {}", self.range(), word.word),
            None => self.range(),
        }
    }

    /// The range of the key's kind, in words: `4 KiB to 1 MiB`.
    pub(super) fn range(&self) -> String {
        match &self.kind {
            Kind::Size { least, most, .. } => format!("{least} to {most}"),
            Kind::Fraction => "more than 0, up to 1".into(),
            Kind::Count { least, most, .. } => format!("{least} to {most}"),
            Kind::Duration { least, most } => {
                format!("{} to {}", display_duration(*least), display_duration(*most))
            }
            Kind::Flag => "true or false".into(),
            Kind::Choice(words) => words.join(", "),
            Kind::Directories => "names of directories".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Key, keys, names};
    use super::*;

    fn refused(key: Key, text: &str) -> String {
        key.info().parse(text).expect_err(text)
    }

    #[test]
    fn every_default_is_accepted_and_printed_as_it_is_written() {
        for key in keys() {
            let value = key
                .info()
                .parse(key.info().default)
                .unwrap_or_else(|error| panic!("{}: {error}", key.name()));
            assert_eq!(value.to_string(), key.info().default, "{}", key.name());
        }
    }

    #[test]
    fn values_out_of_range_name_the_range_and_the_default() {
        for (key, text, message) in [
            (
                names::SEGMENT_SIZE,
                "3000",
                "3000 B is not a power of two; use 4 KiB to 1 MiB (default 32 KiB)",
            ),
            (
                names::SEGMENT_SIZE,
                "2kb",
                "2 KiB is out of range; use 4 KiB to 1 MiB (default 32 KiB)",
            ),
            (
                names::SEGMENT_SIZE,
                "2mb",
                "2 MiB is out of range; use 4 KiB to 1 MiB (default 32 KiB)",
            ),
            (
                names::SEGMENT_SIZE,
                "0",
                "0 B is not a power of two; use 4 KiB to 1 MiB (default 32 KiB)",
            ),
            (
                names::MANAGED_FRACTION,
                "0",
                "0 is out of range; use more than 0, up to 1 (default 0.6)",
            ),
            (
                names::MANAGED_FRACTION,
                "1.5",
                "1.5 is out of range; use more than 0, up to 1 (default 0.6)",
            ),
            (
                names::MANAGED_FRACTION,
                "-0.1",
                "-0.1 is out of range; use more than 0, up to 1 (default 0.6)",
            ),
            (
                names::MANAGED_FRACTION,
                "NaN",
                "NaN is out of range; use more than 0, up to 1 (default 0.6)",
            ),
            (
                names::MANAGED_FRACTION,
                "most",
                "most is not a number; use more than 0, up to 1 (default 0.6)",
            ),
            (
                names::PARALLELISM,
                "0",
                "0 is out of range; use 1 to 32768, or auto (default auto)",
            ),
            (
                names::PARALLELISM,
                "-2",
                "-2 is not a whole number in range; use 1 to 32768, or auto (default auto)",
            ),
            (
                names::MAX_PARALLELISM,
                "100",
                "100 is not a power of two; use 1 to 32768, or auto (default auto)",
            ),
            (
                names::BUFFER_TIMEOUT,
                "2 h",
                "2 h is out of range; use 0 to 1 h, or off (default 100 ms)",
            ),
            (
                names::CANCEL_TIMEOUT,
                "0",
                "0 is out of range; use 1 ms to 1 d (default 30 s)",
            ),
            (
                names::PRESSURE_ENABLED,
                "yes",
                "yes is neither true nor false; use true or false (default true)",
            ),
            (
                names::SPILL_CODEC,
                "zstd",
                "zstd is not one of its words; use adaptive, none, lz4 (default adaptive)",
            ),
            (
                names::SPILL_DIRECTORIES,
                "/a,,/b",
                "\"/a, , /b\" has an empty name; use names of directories, or auto (default auto)",
            ),
        ] {
            assert_eq!(refused(key, text), message);
        }
        let message = refused(names::PROCESS_SIZE, "all");
        assert!(
            message.starts_with("\"all\" is not a size") && message.ends_with(", or auto"),
            "{message}"
        );
        let message = refused(names::BUFFER_TIMEOUT, "100");
        assert!(
            message.contains("it has no unit") && message.ends_with(", or off"),
            "{message}"
        );
    }

    #[test]
    fn words_and_choices_are_read_in_any_case() {
        assert_eq!(
            names::PROCESS_SIZE.info().parse(" Auto "),
            Ok(Value::Word("auto"))
        );
        assert_eq!(names::BUFFER_TIMEOUT.info().parse("off"), Ok(Value::Word("off")));
        assert_eq!(
            names::BUFFER_TIMEOUT.info().parse("0"),
            Ok(Value::Duration(Duration::ZERO))
        );
        assert_eq!(names::MODE.info().parse("Batch"), Ok(Value::Choice("batch")));
    }

    #[test]
    fn directories_are_a_list() {
        let value = names::SPILL_DIRECTORIES.info().parse("/a, /b").unwrap();
        assert_eq!(value, Value::Directories(vec!["/a".into(), "/b".into()]));
        assert_eq!(value.to_string(), "/a, /b");
        assert!(
            names::MODE
                .info()
                .directories(vec!["/a".into()])
                .unwrap_err()
                .starts_with("a list is not accepted")
        );
        assert!(
            names::SPILL_DIRECTORIES
                .info()
                .directories(vec![])
                .unwrap_err()
                .contains("has an empty name")
        );
    }
}
