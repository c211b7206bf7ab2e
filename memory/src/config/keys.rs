//! The table of all configuration keys: what drives parsing, errors, and docs/CONFIG.md.
//!
//! # Interface
//! [`keys()`] lists the table; the constants in [`names`] name its rows to those who read values, and are
//! checked against it when this crate is compiled. [`nearest`] finds what an unknown name was meant to be.
//!
//! # Not here
//! Rules between keys: those are `plan`'s.

use std::time::Duration;

use super::value::{Kind, Word};
use crate::size::{ByteSize, TIB};

/// What the table says about one key.
#[derive(Debug)]
pub struct KeyInfo {
    /// Its dotted name, as in `memory.process_size`.
    pub name: &'static str,
    /// The type and range of its values.
    pub kind: Kind,
    /// The one word that it takes besides values of its kind.
    pub word: Option<Word>,
    /// Its default, as text.
    pub default: &'static str,
    /// The name under which a user of Apache Flink knows it.
    pub flink: Option<&'static str>,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

/// A row of the key table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u8);

/// All keys, in the order of the reference.
pub fn keys() -> impl ExactSizeIterator<Item = Key> {
    (0..TABLE.len() as u8).map(Key)
}

impl Key {
    /// The key of that name, where there is one.
    pub fn find(name: &str) -> Option<Key> {
        keys().find(|key| key.name() == name)
    }

    /// What the table says about this key.
    pub fn info(self) -> &'static KeyInfo {
        &TABLE[self.0 as usize]
    }

    /// Its dotted name.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The environment variable that sets it: `FOREBAY_MEMORY__PROCESS_SIZE`.
    pub fn variable(self) -> String {
        format!(
            "{VARIABLE_PREFIX}{}",
            self.name().replace('.', "__").to_uppercase()
        )
    }

    /// Its row's number, which indexes a configuration's values.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }

    /// The key of that name; a name that is not in the table does not compile.
    const fn named(name: &str) -> Key {
        let mut index = 0;
        while index < TABLE.len() {
            if same(TABLE[index].name, name) {
                return Key(index as u8);
            }
            index += 1;
        }
        panic!("the table of keys has no such name")
    }
}

/// What the names of all our environment variables start with.
pub(super) const VARIABLE_PREFIX: &str = "FOREBAY_";

const fn same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut index = 0;
    while index < left.len() && index < right.len() && left[index] == right[index] {
        index += 1;
    }
    index == left.len() && index == right.len()
}

/// The known key that looks most like `unknown`: by edits to the whole name, or to its last part alone where
/// the section is missing or another one, or to the words that it begins with. `None` where more than two of five letters are wrong.
pub(super) fn nearest(unknown: &str) -> Option<Key> {
    let leaf = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
    let distance = |key: Key| {
        let whole = edits(unknown, key.name());
        // Its beginning up to a word's end: `memory.managed` for `memory.managed_size`.
        let ends = key.name().match_indices('_').map(|(end, _)| &key.name()[..end]);
        let begun = ends.map(|begun| 1 + edits(unknown, begun)).min();
        whole
            .min(1 + edits(&leaf(unknown), &leaf(key.name())))
            .min(begun.unwrap_or(whole))
    };
    keys()
        .min_by_key(|key| distance(*key))
        .filter(|key| 5 * distance(*key) <= 2 * unknown.len())
}

/// How many letters to add, remove, change or swap with their neighbour to make `left` of `right`.
pub fn edits(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    rows[0] = (0..=right.len()).collect();
    for i in 1..=left.len() {
        rows[i][0] = i;
        for j in 1..=right.len() {
            let changed = usize::from(left[i - 1] != right[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[left.len()][right.len()]
}

macro_rules! name_keys {
    ($($constant:ident = $name:literal;)*) => {
        $(#[doc = concat!("`", $name, "`")] pub const $constant: Key = Key::named($name);)*

        #[cfg(test)]
        const NAMED: &[Key] = &[$($constant),*];
    };
}

/// The keys by the names that code uses.
pub mod names {
    use super::Key;

    name_keys! {
        PROCESS_SIZE = "memory.process_size";
        OVERHEAD_FRACTION = "memory.overhead_fraction";
        OVERHEAD_MIN = "memory.overhead_min";
        OVERHEAD_MAX = "memory.overhead_max";
        FRAMEWORK_SIZE = "memory.framework_size";
        USER_SIZE = "memory.user_size";
        NETWORK_FRACTION = "memory.network_fraction";
        NETWORK_MIN = "memory.network_min";
        NETWORK_MAX = "memory.network_max";
        MANAGED_SIZE = "memory.managed_size";
        MANAGED_FRACTION = "memory.managed_fraction";
        SEGMENT_SIZE = "memory.segment_size";
        PREFAULT = "memory.prefault";
        OPERATOR_WEIGHT = "memory.weights.operator";
        STATE_WEIGHT = "memory.weights.state";
        BUFFERS_PER_CHANNEL = "network.buffers_per_channel";
        FLOATING_BUFFERS_PER_GATE = "network.floating_buffers_per_gate";
        MAX_BUFFERS_PER_CHANNEL = "network.max_buffers_per_channel";
        MAX_OVERDRAFT_BUFFERS_PER_GATE = "network.max_overdraft_buffers_per_gate";
        BUFFER_TIMEOUT = "network.buffer_timeout";
        SPILL_DIRECTORIES = "spill.directories";
        SPILL_MAX_BYTES = "spill.max_bytes";
        SPILL_CODEC = "spill.codec";
        SPILL_IO = "spill.io";
        SPILL_BLOCK_SIZE = "spill.block_size";
        SPILL_WORKSPACE_SIZE = "spill.workspace_size";
        RECORD_MAX_SIZE = "record.max_size";
        PARALLELISM = "job.parallelism";
        MAX_PARALLELISM = "job.max_parallelism";
        MODE = "job.mode";
        HELPER_THREADS = "exec.helper_threads";
        CANCEL_TIMEOUT = "cancel.timeout";
        PRESSURE_ENABLED = "pressure.enabled";
        PRESSURE_INTERVAL = "pressure.interval";
    }

    #[cfg(test)]
    pub(super) fn named() -> &'static [Key] {
        NAMED
    }
}

/// Far over any machine, and far under where sums of sizes overflow.
pub(super) const LARGEST: ByteSize = ByteSize(1024 * TIB);
const ANY_SIZE: Kind = Kind::Size {
    least: ByteSize(0),
    most: LARGEST,
    power_of_two: false,
};
const AUTO_BY_FRACTION: Word = Word {
    word: "auto",
    meaning: "by its fraction",
};

const TABLE: &[KeyInfo] = &[
    KeyInfo {
        name: "memory.process_size",
        kind: Kind::Size {
            least: ByteSize::mib(1),
            most: LARGEST,
            power_of_two: false,
        },
        word: Some(Word {
            word: "auto",
            meaning: "80 % of the smaller of the container's limit and RAM; with both managed_size and user_size, their sum and what they need",
        }),
        default: "auto",
        flink: Some("taskmanager.memory.process.size"),
        doc: "All memory of the process. The resident set is held to it.",
    },
    KeyInfo {
        name: "memory.overhead_fraction",
        kind: Kind::Fraction,
        word: None,
        default: "0.1",
        flink: Some("taskmanager.memory.jvm-overhead.fraction"),
        doc: "The share of the process for what nobody counts: code, stacks, allocator slack. Between overhead_min and overhead_max.",
    },
    KeyInfo {
        name: "memory.overhead_min",
        kind: ANY_SIZE,
        word: None,
        default: "64 MiB",
        flink: Some("taskmanager.memory.jvm-overhead.min"),
        doc: "The least overhead.",
    },
    KeyInfo {
        name: "memory.overhead_max",
        kind: ANY_SIZE,
        word: None,
        default: "1 GiB",
        flink: Some("taskmanager.memory.jvm-overhead.max"),
        doc: "The most overhead.",
    },
    KeyInfo {
        name: "memory.framework_size",
        kind: ANY_SIZE,
        word: None,
        default: "64 MiB",
        flink: Some("taskmanager.memory.framework.heap.size"),
        doc: "Heap of the engine itself: plans, schedules, metrics. Counted together with user heap.",
    },
    KeyInfo {
        name: "memory.user_size",
        kind: ANY_SIZE,
        word: Some(Word {
            word: "auto",
            meaning: "what the others leave",
        }),
        default: "auto",
        flink: Some("taskmanager.memory.task.heap.size"),
        doc: "Heap of user functions. A job that takes more fails at the next batch, naming the operator.",
    },
    KeyInfo {
        name: "memory.network_fraction",
        kind: Kind::Fraction,
        word: None,
        default: "0.1",
        flink: Some("taskmanager.memory.network.fraction"),
        doc: "The share of engine memory (process without overhead) for the buffers of exchanges. Between network_min and network_max.",
    },
    KeyInfo {
        name: "memory.network_min",
        kind: ANY_SIZE,
        word: None,
        default: "32 MiB",
        flink: Some("taskmanager.memory.network.min"),
        doc: "The least network memory, at least one segment.",
    },
    KeyInfo {
        name: "memory.network_max",
        kind: ANY_SIZE,
        word: None,
        default: "1 GiB",
        flink: Some("taskmanager.memory.network.max"),
        doc: "The most network memory.",
    },
    KeyInfo {
        name: "memory.managed_size",
        kind: ANY_SIZE,
        word: Some(AUTO_BY_FRACTION),
        default: "auto",
        flink: Some("taskmanager.memory.managed.size"),
        doc: "Memory for sorting, hashing, state and spilling. Beats managed_fraction; with user_size, it makes the process's size.",
    },
    KeyInfo {
        name: "memory.managed_fraction",
        kind: Kind::Fraction,
        word: None,
        default: "0.6",
        flink: Some("taskmanager.memory.managed.fraction"),
        doc: "The share of engine memory that is managed, where managed_size does not say. Not used by default where user_size is given: managed memory is then what the others leave.",
    },
    KeyInfo {
        name: "memory.segment_size",
        kind: Kind::Size {
            least: ByteSize::kib(4),
            most: ByteSize::mib(1),
            power_of_two: true,
        },
        word: None,
        default: "32 KiB",
        flink: Some("taskmanager.memory.segment-size"),
        doc: "The unit of managed and network memory: a page, a buffer, a block of a run.",
    },
    KeyInfo {
        name: "memory.prefault",
        kind: Kind::Choice(&["demand", "background", "start"]),
        word: None,
        default: "demand",
        flink: None,
        doc: "When managed and network memory is touched for the first time: on demand, a little ahead of it; all of it in the background, from the start on; or all of it before the first job (what AlwaysPreTouch is to a JVM), with an error where the system does not give it. What is given back under pressure is touched on demand from then on.",
    },
    KeyInfo {
        name: "memory.weights.operator",
        kind: Kind::Count {
            least: 0,
            most: 1_000_000,
            power_of_two: false,
        },
        word: None,
        default: "70",
        flink: Some("taskmanager.memory.managed.consumer-weights"),
        doc: "The weight, where managed memory is shared out, of operators that answer when their input has ended: sorts, joins, aggregates in batch mode. Only kinds that a job has are counted; inside a kind operators share by their own weights (`.memory_weight()`).",
    },
    KeyInfo {
        name: "memory.weights.state",
        kind: Kind::Count {
            least: 0,
            most: 1_000_000,
            power_of_two: false,
        },
        word: None,
        default: "70",
        flink: Some("taskmanager.memory.managed.consumer-weights"),
        doc: "The weight, likewise, of keyed state: what is kept of each key while records come and are answered, by aggregates that send updates, and by reduce and distinct in streaming mode.",
    },
    KeyInfo {
        name: "network.buffers_per_channel",
        kind: Kind::Count {
            least: 1,
            most: 1024,
            power_of_two: false,
        },
        word: None,
        default: "2",
        flink: Some("taskmanager.network.memory.buffers-per-channel"),
        doc: "Buffers that belong to one channel alone, so that no other can stop it.",
    },
    KeyInfo {
        name: "network.floating_buffers_per_gate",
        kind: Kind::Count {
            least: 0,
            most: 65_536,
            power_of_two: false,
        },
        word: None,
        default: "8",
        flink: Some("taskmanager.network.memory.floating-buffers-per-gate"),
        doc: "Buffers that the channels of a gate share after their backlog.",
    },
    KeyInfo {
        name: "network.max_buffers_per_channel",
        kind: Kind::Count {
            least: 1,
            most: 65_536,
            power_of_two: false,
        },
        word: None,
        default: "10",
        flink: Some("taskmanager.network.memory.max-buffers-per-channel"),
        doc: "The most buffers that a producer may queue for one channel, so that skew does not take the pool.",
    },
    KeyInfo {
        name: "network.max_overdraft_buffers_per_gate",
        kind: Kind::Count {
            least: 0,
            most: 65_536,
            power_of_two: false,
        },
        word: None,
        default: "5",
        flink: Some("taskmanager.network.memory.max-overdraft-buffers-per-gate"),
        doc: "Further buffers for what cannot be interrupted: a large record, a flat_map with many results.",
    },
    KeyInfo {
        name: "network.buffer_timeout",
        kind: Kind::Duration {
            least: Duration::ZERO,
            most: Duration::from_secs(3600),
        },
        word: Some(Word {
            word: "off",
            meaning: "send only full buffers",
        }),
        default: "100 ms",
        flink: Some("execution.buffer-timeout.interval"),
        doc: "How long a row may wait for its buffer to fill; 0 sends every record at once.",
    },
    KeyInfo {
        name: "spill.directories",
        kind: Kind::Directories,
        word: Some(Word {
            word: "auto",
            meaning: "$TMPDIR, else /var/tmp, else /tmp",
        }),
        default: "auto",
        flink: Some("io.tmp.dirs"),
        doc: "Where spill files go, round robin. Give each disk one directory; not one that is held in memory.",
    },
    KeyInfo {
        name: "spill.max_bytes",
        kind: ANY_SIZE,
        word: Some(Word {
            word: "unlimited",
            meaning: "until the disk is full",
        }),
        default: "unlimited",
        flink: None,
        doc: "The most bytes that spill files may take at once; a job that needs more fails cleanly. At least 9/4 × record.max_size (rounded up to 256 KiB) for each subtask, or 0: nothing may be spilled.",
    },
    KeyInfo {
        name: "spill.codec",
        kind: Kind::Choice(&["adaptive", "none", "lz4"]),
        word: None,
        default: "adaptive",
        flink: None,
        doc: "Compression of spilled blocks; adaptive compresses where that has saved time lately.",
    },
    KeyInfo {
        name: "spill.io",
        kind: Kind::Choice(&["auto", "io_uring", "threads"]),
        word: None,
        default: "auto",
        flink: None,
        doc: "How spill files are read and written; auto takes io_uring where the system allows it.",
    },
    KeyInfo {
        name: "spill.block_size",
        kind: Kind::Size {
            least: ByteSize::kib(4),
            most: ByteSize::mib(1),
            power_of_two: true,
        },
        word: None,
        default: "512 KiB",
        flink: None,
        doc: "The size of one write or read of a spill file. A small workspace shrinks it.",
    },
    KeyInfo {
        name: "spill.workspace_size",
        kind: Kind::Size {
            least: ByteSize::kib(8),
            most: ByteSize::gib(1),
            power_of_two: false,
        },
        word: Some(Word {
            word: "auto",
            meaning: "an eighth of managed memory, at least two segments, at most 8 MiB",
        }),
        default: "auto",
        flink: None,
        doc: "The part of managed memory that spilling works in, set apart so that spilling never waits for memory.",
    },
    KeyInfo {
        name: "record.max_size",
        kind: Kind::Size {
            least: ByteSize::kib(1),
            most: ByteSize::mib(128),
            power_of_two: false,
        },
        word: None,
        default: "1 MiB",
        flink: None,
        doc: "The largest record. Operators that hold records need two of that size besides their minimum.",
    },
    KeyInfo {
        name: "job.parallelism",
        kind: Kind::Count {
            least: 1,
            most: 32_768,
            power_of_two: false,
        },
        word: Some(Word {
            word: "auto",
            meaning: "one per core",
        }),
        default: "auto",
        flink: Some("parallelism.default"),
        doc: "How many subtasks each operator has, and how many worker threads run them.",
    },
    KeyInfo {
        name: "job.max_parallelism",
        kind: Kind::Count {
            least: 1,
            most: 32_768,
            power_of_two: true,
        },
        word: Some(Word {
            word: "auto",
            meaning: "the next power of two from 1.5 × parallelism, at least 128, at most 32768",
        }),
        default: "auto",
        flink: Some("pipeline.max-parallelism"),
        doc: "How many key groups there are, fixed for the life of the state.",
    },
    KeyInfo {
        name: "job.mode",
        kind: Kind::Choice(&["auto", "batch", "streaming"]),
        word: None,
        default: "auto",
        flink: Some("execution.runtime-mode"),
        doc: "Whether a job runs as batch or as stream; auto is batch where every source is bounded.",
    },
    KeyInfo {
        name: "exec.helper_threads",
        kind: Kind::Count {
            least: 1,
            most: 1024,
            power_of_two: false,
        },
        word: Some(Word {
            word: "auto",
            meaning: "as parallelism, from 2 to 16",
        }),
        default: "auto",
        flink: None,
        doc: "Threads for work that blocks: files, fsync, user functions marked as blocking. Their stacks are overhead.",
    },
    KeyInfo {
        name: "cancel.timeout",
        kind: Kind::Duration {
            least: Duration::from_millis(1),
            most: Duration::from_secs(86_400),
        },
        word: None,
        default: "30 s",
        flink: Some("task.cancellation.timeout"),
        doc: "How long a cancelled job waits for a user function to return before it names it and gives up.",
    },
    KeyInfo {
        name: "pressure.enabled",
        kind: Kind::Flag,
        word: None,
        default: "true",
        flink: None,
        doc: "Whether signals from outside (the container's events, stalls, resident set) lower the memory that operators hold.",
    },
    KeyInfo {
        name: "pressure.interval",
        kind: Kind::Duration {
            least: Duration::from_millis(1),
            most: Duration::from_secs(60),
        },
        word: None,
        default: "100 ms",
        flink: None,
        doc: "How often those signals are read.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_has_a_constant_and_a_row_of_its_own() {
        assert_eq!(names::named(), keys().collect::<Vec<_>>());
        let unique: BTreeSet<_> = keys().map(Key::name).collect();
        assert_eq!(unique.len(), keys().len());
        for key in keys() {
            assert_eq!(Key::find(key.name()), Some(key));
            assert!(key.info().doc.ends_with('.'), "{}", key.name());
        }
        assert_eq!(Key::find("memory.process"), None);
        assert_eq!(
            names::OPERATOR_WEIGHT.variable(),
            "FOREBAY_MEMORY__WEIGHTS__OPERATOR"
        );
    }

    #[test]
    fn edits_are_counted() {
        for (left, right, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(left, right), count, "{left} {right}");
            assert_eq!(edits(right, left), count, "{right} {left}");
        }
    }

    #[test]
    fn the_nearest_key_is_what_was_meant() {
        for (unknown, meant) in [
            ("memory.manged_size", names::MANAGED_SIZE),
            ("memory.segmentsize", names::SEGMENT_SIZE),
            ("process_size", names::PROCESS_SIZE),
            ("network.managed_fraction", names::MANAGED_FRACTION),
            ("spill.directory", names::SPILL_DIRECTORIES),
            ("job.paralellism", names::PARALLELISM),
            ("job.paralel", names::PARALLELISM),
            ("memory.managed", names::MANAGED_SIZE),
            ("memory.manged", names::MANAGED_SIZE),
            ("memory.weight.state", names::STATE_WEIGHT),
        ] {
            assert_eq!(nearest(unknown), Some(meant), "{unknown}");
        }
    }
}
