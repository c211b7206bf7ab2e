//! What is compared: questions, the data that they are asked of, and the budgets in which they are answered.

use crate::cli::{BatchArguments, Budget};
use crate::dataset::Dataset;
use forebay_memory::ByteSize;
use std::collections::HashSet;

/// What an engine is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// 64-bit numbers in order, from memory to memory.
    SortNumbers,
    /// 100-byte records in the order of their first ten bytes, from file to file.
    SortRecords,
    /// Count and sum of each key's values.
    Aggregate,
    /// The distinct keys.
    Distinct,
    /// Pairs with equal keys: how many, and the sums of both sides' values.
    Join,
    /// The same with a text of 88 characters on each side, and the greatest of each.
    JoinWide,
}

impl Question {
    /// The harness's workload.
    pub fn workload(self) -> &'static str {
        match self {
            Question::SortNumbers => "sort-u64",
            Question::SortRecords => "sort-gensort",
            Question::Aggregate => "aggregate",
            Question::Distinct => "distinct",
            Question::Join | Question::JoinWide => "join",
        }
    }

    /// Whether ours reads the binary file, of joins that of the probe side. What it does not read, its sources make in place: the
    /// same numbers, but for texts.
    pub fn is_read_by_ours(self) -> bool {
        !matches!(self, Question::SortNumbers | Question::JoinWide)
    }

    /// What ours makes in place: a note for the table.
    pub fn made_by_ours(self) -> Option<&'static str> {
        match self {
            Question::SortNumbers => Some("numbers made in place"),
            Question::Join => Some("build side made in place"),
            Question::JoinWide => Some("both sides made in place"),
            _ => None,
        }
    }

    /// What the scripts call it.
    pub fn task(self) -> &'static str {
        match self {
            Question::SortRecords => "sort-records",
            Question::JoinWide => "join-wide",
            other => other.workload(),
        }
    }
}

/// A question, its data, and the budgets in which it is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// What is asked.
    pub question: Question,
    /// What of, for people: "50M to 1M groups".
    pub label: String,
    /// The data; of a join first the build side.
    pub data: Vec<Dataset>,
    /// The budgets.
    pub budgets: Vec<Budget>,
    /// Whether each process answers once unmeasured, and then twice: where an answer takes a second or two, and memory
    /// that is touched for the first time would be most of it.
    pub warm: bool,
}

impl Point {
    /// The name on the command line and in the table.
    pub fn name(&self) -> String {
        format!("{} {}", self.question.workload(), self.label)
    }

    /// Bytes of all binary files.
    pub fn bytes(&self) -> u64 {
        self.data
            .iter()
            .map(|dataset| dataset.records() * dataset.width())
            .sum()
    }

    /// Records of all files.
    pub fn records(&self) -> u64 {
        self.data.iter().map(Dataset::records).sum()
    }
}

/// All points, with `scale` times the published records.
pub fn all(scale: f64) -> Vec<Point> {
    let of = |count: u64| ((count as f64 * scale) as u64).max(count.min(100));
    let managed = |mib| Budget::Managed(ByteSize::mib(mib));
    let three = vec![Budget::Unlimited, managed(256), managed(64)];
    let mut points = Vec::new();
    let mut add = |question, label: String, data: Vec<Dataset>, budgets: &[Budget], warm| {
        points.push(Point {
            question,
            label,
            data,
            budgets: budgets.to_vec(),
            warm,
        });
    };
    let short = |count: u64| match count {
        1_000_000.. => format!("{}M", count as f64 / 1e6),
        1_000.. => format!("{}k", count as f64 / 1e3),
        _ => count.to_string(),
    };

    let records = of(100_000_000);
    add(
        Question::SortNumbers,
        short(records),
        vec![Dataset::Numbers { records }],
        &[Budget::Unlimited],
        true,
    );
    let records = of(20_000_000);
    let gigabytes = |records: u64| format!("{} GB", records as f64 / 1e7);
    add(
        Question::SortRecords,
        gigabytes(records),
        vec![Dataset::Records { records }],
        &three,
        false,
    );
    let records = of(50_000_000);
    for keys in [100, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000].map(of) {
        add(
            Question::Aggregate,
            format!("{} of {}", short(records), short(keys)),
            vec![Dataset::Keyed {
                records,
                keys,
                skew: 0.0,
            }],
            &three,
            true,
        );
    }
    let keys = of(10_000_000);
    add(
        Question::Aggregate,
        format!("{} of {}, Zipf 1", short(records), short(keys)),
        vec![Dataset::Keyed {
            records,
            keys,
            skew: 1.0,
        }],
        &three,
        true,
    );
    let keys = of(20_000_000);
    add(
        Question::Distinct,
        format!("{} of {}", short(records), short(keys)),
        vec![Dataset::Keyed {
            records,
            keys,
            skew: 0.0,
        }],
        &three,
        true,
    );
    for (build, probe, skew, wide) in [
        (10_000_000, 50_000_000, 0.0, false),
        (100_000, 50_000_000, 0.0, false),
        (1_000_000, 50_000_000, 0.0, false),
        (10_000_000, 50_000_000, 1.0, false),
        (2_000_000, 10_000_000, 0.0, true),
    ] {
        let (build, records) = (of(build), of(probe));
        let mut label = format!("{} with {}", short(build), short(records));
        if skew != 0.0 {
            label += ", Zipf 1";
        }
        if wide {
            label += ", 104-byte rows";
        }
        let data = vec![
            Dataset::Build { records: build, wide },
            Dataset::Probe {
                records,
                build,
                skew,
                wide,
            },
        ];
        let question = if wide { Question::JoinWide } else { Question::Join };
        add(question, label, data, &three, true);
    }
    let records = of(100_000_000);
    add(
        Question::SortRecords,
        gigabytes(records),
        vec![Dataset::Records { records }],
        &three[1..],
        false,
    );
    // On a small scale several may have become one.
    let mut names = HashSet::new();
    points.retain(|point| names.insert(point.name()));
    points
}

/// The points that the options ask for, with the budgets that they ask for.
pub fn chosen(arguments: &BatchArguments) -> Vec<Point> {
    let mut points = all(arguments.scale);
    let names: Vec<String> = points.iter().map(Point::name).collect();
    // The name of one point may be part of another's.
    let is_meant = |name: &str, part: &str| match names.iter().any(|whole| whole == part) {
        true => name == part,
        false => name.contains(part),
    };
    points.retain(|point| {
        let name = point.name();
        let wanted = arguments.points.iter().any(|part| is_meant(&name, part));
        (wanted || arguments.points.is_empty()) && point.bytes() <= arguments.most_bytes
    });
    if !arguments.managed.is_empty() {
        points
            .iter_mut()
            .for_each(|point| point.budgets = arguments.managed.clone());
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn whole_names_and_parts_of_names_choose_points() {
        let names = |line: &str| {
            let words = ["forebay-compare", "list"].into_iter().chain(line.split('|'));
            let Ok(Command::List(arguments)) = Cli::try_parse_from(words).map(|cli| cli.command) else {
                panic!("{line}")
            };
            let points = chosen(&arguments);
            points.iter().map(Point::name).collect::<Vec<_>>()
        };
        assert_eq!(names("join 10M with 50M"), ["join 10M with 50M"]);
        assert_eq!(names("Zipf").len(), 2);
        assert_eq!(
            names("sort|--most-bytes|3G"),
            ["sort-u64 100M", "sort-gensort 2 GB"]
        );
        assert!(names("tea").is_empty());
    }

    #[test]
    fn names_tell_points_apart() {
        let names: Vec<String> = all(1.0).iter().map(Point::name).collect();
        assert_eq!(names.len(), 16, "{names:?}");
        for name in ["sort-gensort 2 GB", "join 10M with 50M", "aggregate 50M of 1M"] {
            assert!(names.iter().any(|there| there == name), "{name}");
        }
    }
}
