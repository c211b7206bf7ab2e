//! TOML to a flat list: dotted name, value as text or list, line number.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};

/// What a TOML file says at one key.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub name: String,
    pub line: usize,
    pub content: Content,
}

/// A value before it is known what its key takes.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// A string's characters, or a number or flag as it is written.
    Text(String),
    /// A list of strings.
    List(Vec<String>),
    /// A table without entries.
    EmptyTable,
}

/// All entries of `text`; `file` names it in errors.
pub(super) fn entries(text: &str, file: &str) -> Result<Vec<Entry>> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        Error::config(format!(
            "{file}:{line}: not valid TOML: {}",
            error.message().replace('\n', ", ")
        ))
    })?;
    let mut entries = Vec::new();
    flatten(table.get_ref(), "", text, file, &mut entries)?;
    // The parser's tables are sorted by name; errors should come in the file's order.
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

/// The content of one TOML value: how `--set` and the environment give lists and quoted strings.
pub(super) fn content(text: &str) -> Result<Content, String> {
    let value = DeValue::parse(text).map_err(|error| error.message().replace('\n', ", "))?;
    scalar_or_list(value.get_ref())
}

fn flatten(
    table: &DeTable<'_>,
    prefix: &str,
    text: &str,
    file: &str,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{prefix}.{}", key.get_ref())
        };
        let line = line_of(text, key.span().start);
        match value.get_ref() {
            DeValue::Table(table) if !table.is_empty() => flatten(table, &name, text, file, entries)?,
            DeValue::Table(_) => entries.push(Entry {
                name,
                line,
                content: Content::EmptyTable,
            }),
            value => {
                let content = scalar_or_list(value)
                    .map_err(|error| Error::config(format!("{file}:{line}: {name}: {error}")))?;
                entries.push(Entry { name, line, content });
            }
        }
    }
    Ok(())
}

fn scalar_or_list(value: &DeValue<'_>) -> Result<Content, String> {
    Ok(match value {
        DeValue::String(text) => Content::Text(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Content::Text(number.as_str().to_string()),
        DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Content::Text(number.to_string()),
            Err(_) => return Err(format!("the number {number} is over 2^64")),
        },
        DeValue::Float(number) => Content::Text(number.as_str().to_string()),
        DeValue::Boolean(flag) => Content::Text(flag.to_string()),
        DeValue::Array(items) => {
            let strings = items.iter().map(Spanned::get_ref).map(|item| match item {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(format!(
                    "a list of strings is accepted, not one with {}",
                    a(other.type_str())
                )),
            });
            Content::List(strings.collect::<Result<_, _>>()?)
        }
        other => return Err(format!("{} is not a value of any key", a(other.type_str()))),
    })
}

fn a(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {noun}")
}

/// The number of the line, from 1, that holds byte `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, line: usize, value: &str) -> Entry {
        Entry {
            name: name.into(),
            line,
            content: Content::Text(value.into()),
        }
    }

    #[test]
    fn tables_are_flattened_in_the_order_of_the_file() {
        let toml = "z = 1\n\n[memory]\nprocess_size = \"2 GiB\"\nweights = { state = 7, operator = 0x10 }\n\
                    a.b.c = 0.5\n[spill]\ndirectories = [\"/a\", \"/b\"]\non = true\n[empty]\n";
        assert_eq!(
            entries(toml, "f").unwrap(),
            [
                text("z", 1, "1"),
                text("memory.process_size", 4, "2 GiB"),
                text("memory.weights.operator", 5, "16"),
                text("memory.weights.state", 5, "7"),
                text("memory.a.b.c", 6, "0.5"),
                Entry {
                    name: "spill.directories".into(),
                    line: 8,
                    content: Content::List(vec!["/a".into(), "/b".into()])
                },
                text("spill.on", 9, "true"),
                Entry {
                    name: "empty".into(),
                    line: 10,
                    content: Content::EmptyTable
                },
            ]
        );
    }

    #[test]
    fn what_is_not_toml_is_named_with_its_line() {
        for (toml, start) in [
            ("a = 1\nb = 32kb\n", "f:2: not valid TOML: "),
            ("a = 1\na = 2\n", "f:2: not valid TOML: "),
            ("[a\n", "f:1: not valid TOML: "),
            (
                "\na = [1]\n",
                "f:2: a: a list of strings is accepted, not one with an integer",
            ),
            ("a = 1979-05-27\n", "f:1: a: a datetime is not a value of any key"),
        ] {
            let error = entries(toml, "f").unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
