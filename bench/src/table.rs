//! Plain text tables and the numbers in them.

use forebay_memory::{Error, Result};
use std::io::{self, Write};

/// How a column's cells are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Writes what was asked for to standard output. Who reads it may stop early: `forebay-bench list | head`.
///
/// # Errors
/// `Io` where it cannot be written, to a full disk say.
pub fn show(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// The table as text: a header, a rule, a line per row, columns two spaces apart.
pub fn render(header: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].0.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (index, cell) in cells.enumerate() {
            if index > 0 {
                line.push_str("  ");
            }
            let padding = " ".repeat(widths[index] - cell.chars().count());
            match header[index].1 {
                Align::Left => line.extend([cell, &padding]),
                Align::Right => line.extend([padding.as_str(), cell]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&mut header.iter().map(|(name, _)| *name));
    let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    line(&mut rules.iter().map(String::as_str));
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A count in three digits and a unit: `999`, `12.3 K`, `50.0 M`.
pub fn count(number: f64) -> String {
    scaled(number, 1000.0, &["", " K", " M", " G", " T"])
}

/// Bytes in three digits and a unit of 1024: `512 B`, `256 MiB`.
pub fn bytes(number: u64) -> String {
    scaled(number as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// Seconds in a unit that suits them: `12.3 µs`, `4.56 ms`, `1.23 s`.
pub fn seconds(number: f64) -> String {
    let (scaled, unit) = match number {
        ..1e-3 => (number * 1e6, "µs"),
        1e-3..1.0 => (number * 1e3, "ms"),
        _ => (number, "s"),
    };
    format!("{} {unit}", three_digits(scaled))
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let mut scaled = number;
    let mut unit = 0;
    // Numbers that would be printed as a whole step belong to the next unit.
    while scaled >= step - 0.5 && unit + 1 < units.len() {
        scaled /= step;
        unit += 1;
    }
    let digits = if unit == 0 {
        format!("{scaled:.0}")
    } else {
        three_digits(scaled)
    };
    format!("{digits}{}", units[unit])
}

fn three_digits(number: f64) -> String {
    match number {
        ..9.995 => format!("{number:.2}"),
        9.995..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let header = [("name", Align::Left), ("n", Align::Right)];
        let rows = [vec!["µ".into(), "1".into()], vec!["longer".into(), "12".into()]];
        assert_eq!(
            render(&header, &rows),
            "name     n\n──────  ──\nµ        1\nlonger  12\n"
        );
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            [count(0.0), count(999.0), count(12_345.0)],
            ["0", "999", "12.3 K"]
        );
        assert_eq!([count(999_999.0), count(5e7)], ["1.00 M", "50.0 M"]);
        assert_eq!(
            [bytes(512), bytes(256 << 20), bytes(560 << 20)],
            ["512 B", "256 MiB", "560 MiB"]
        );
        assert_eq!(
            [seconds(1.234), seconds(0.0456), seconds(12.3e-6)],
            ["1.23 s", "45.6 ms", "12.3 µs"]
        );
    }
}
