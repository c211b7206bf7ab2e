//! The configuration reference: docs/CONFIG.md, written from the table of keys.

use std::fmt::Write;

use super::keys::{Key, LARGEST, keys};
use super::value::Kind;
use crate::size::ByteSize;

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `forebay config reference > docs/CONFIG.md`; a test fails when it is stale. -->

Values come from four places. An argument (`--set memory.process_size=2GiB`) beats an environment variable
(`FOREBAY_MEMORY__PROCESS_SIZE=2GiB`: upper case, two underscores for each dot), that beats the file (`forebay.toml` in
the current directory, or `--config FILE`), and that beats the default. Messages say where a value came from. An unknown
key is an error that names the nearest known one.

```toml
";

/// A file that sets something in most sections, and that the tests load.
const EXAMPLE: &str = "\
[memory]
process_size = \"2 GiB\"       # everything else is derived: see `forebay memory explain`
weights = { operator = 70, state = 30 }

[network]
buffer_timeout = \"10 ms\"     # 0 sends every record at once, \"off\" only full buffers

[spill]
directories = [\"/mnt/disk1/spill\", \"/mnt/disk2/spill\"]
max_bytes = \"100 GiB\"

[job]
parallelism = 4
mode = \"streaming\"
";

const FORMS: &str = "\
```

Sizes are written `32kb`, `64 mb`, `1gb`, `1 GiB`, `512MB` or as plain bytes; every unit is 1024-based. Durations are
written `100ms`, `1s`, `10 min`, `2 h`. Fractions are more than 0 and at most 1. Memory that is handed out in segments is
rounded down to whole ones.

`forebay memory explain` prints the plan that a configuration makes, `forebay memory check` says whether it makes one.
The last column is the key under which users of Apache Flink know the same thing; where it is empty there is none.
";

/// The text of docs/CONFIG.md.
pub fn reference() -> String {
    let mut text = format!("{INTRODUCTION}{EXAMPLE}{FORMS}");
    let mut section = "";
    for key in keys() {
        if section_of(key) != section {
            section = section_of(key);
            write!(text, "\n## {section}\n\n{}\n\n", about(section)).expect("a String takes any text");
            text += "| key | value | default | meaning | Flink |\n|---|---|---|---|---|\n";
        }
        let info = key.info();
        let flink = info.flink.map(|name| format!("`{name}`")).unwrap_or_default();
        writeln!(
            text,
            "| `{}` | {} | `{}` | {}{} | {flink} |",
            info.name,
            value_of(key),
            info.default,
            info.doc,
            info.word
                .as_ref()
                .map(|word| format!(" `{}`: {}.", word.word, word.meaning))
                .unwrap_or_default(),
        )
        .expect("a String takes any text");
    }
    text
}

fn section_of(key: Key) -> &'static str {
    key.name()
        .split('.')
        .next()
        .expect("split yields at least one part")
}

fn about(section: &str) -> &'static str {
    match section {
        "memory" => {
            "What the process may take, and how it is divided. Give the process a size and the rest follows (top down), \
             or give `managed_size` and `user_size` and the process's size follows (bottom up). A size beats its \
             fraction; settings that contradict each other are an error."
        }
        "network" => "The buffers between the tasks of a job, and their flow control.",
        "spill" => "Where data goes that does not fit in managed memory.",
        "record" => "Bounds of one record.",
        "job" => "Defaults of every job.",
        "exec" => "The threads besides the workers.",
        "cancel" => "Stopping a job.",
        "pressure" => "What the engine does when memory gets short outside of its own accounts.",
        other => panic!("section {other} of the table of keys has no introduction"),
    }
}

/// Type and range: `size, 4 KiB to 1 MiB, power of two`.
fn value_of(key: Key) -> String {
    let info = key.info();
    let power = |wanted: &bool| if *wanted { ", power of two" } else { "" };
    let mut text = match &info.kind {
        // Between nothing and more than any machine has is no range worth reading.
        // Up to more than any machine has is no bound worth reading.
        Kind::Size {
            least: ByteSize(0),
            most,
            ..
        } if *most == LARGEST => "size".into(),
        Kind::Size { least, most, .. } if *most == LARGEST => format!("size, from {least}"),
        Kind::Size { power_of_two, .. } => format!("size, {}{}", info.range(), power(power_of_two)),
        Kind::Fraction => "fraction".into(),
        Kind::Count { power_of_two, .. } => format!("number, {}{}", info.range(), power(power_of_two)),
        Kind::Duration { .. } => format!("duration, {}", info.range()),
        Kind::Flag => "`true` or `false`".into(),
        Kind::Choice(words) => words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", "),
        Kind::Directories => "a directory, or a list of them".into(),
    };
    if let Some(word) = &info.word {
        write!(text, ", or `{}`", word.word).expect("a String takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::load::Config;
    use super::*;

    #[test]
    fn docs_config_md_is_what_the_table_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIG.md");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            text == reference(),
            "docs/CONFIG.md is stale; run: cargo run -p forebay-tools -- config reference > docs/CONFIG.md"
        );
    }

    #[test]
    fn the_reference_has_every_key_once() {
        let text = reference();
        for key in keys() {
            assert_eq!(
                text.matches(&format!("| `{}` |", key.name())).count(),
                1,
                "{}",
                key.name()
            );
        }
    }

    #[test]
    fn the_example_loads() {
        let mut config = Config::default();
        config.read_toml(EXAMPLE, "example").unwrap();
    }
}
