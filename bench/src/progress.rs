//! The progress of a suite: which row is measured, and how many have been. What a row's job does, the engine shows.

use crate::cli::ProgressForm;
use std::io::{IsTerminal, Write};
use std::time::Instant;

const WIDTH: usize = 24;

/// A bar over a known number of steps.
pub struct Progress {
    total: usize,
    done: usize,
    start: Instant,
    form: ProgressForm,
}

impl Progress {
    /// The progress of `total` steps.
    pub fn new(total: usize, form: ProgressForm) -> Self {
        let form = match form {
            ProgressForm::Auto if !std::io::stderr().is_terminal() => ProgressForm::Off,
            form => form,
        };
        Progress {
            total,
            done: 0,
            start: Instant::now(),
            form,
        }
    }

    /// Says what is being done now.
    pub fn begin(&self, what: &str) {
        let mut out = std::io::stderr();
        // Progress that cannot be shown is no reason to fail.
        let _ = match self.form {
            ProgressForm::Off => Ok(()),
            ProgressForm::Lines => writeln!(out, "{}/{} {what}", self.done + 1, self.total),
            ProgressForm::Auto => {
                let seconds = self.start.elapsed().as_secs();
                write!(out, "\r\x1b[2K{}", line(self.done, self.total, seconds, what))
                    .and_then(|()| out.flush())
            }
        };
    }

    /// Counts a step.
    pub fn step(&mut self) {
        self.done += 1;
    }

    /// Clears the bar, so that other output can be printed.
    pub fn clear(&self) {
        if self.form == ProgressForm::Auto {
            eprint!("\r\x1b[2K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(done: usize, total: usize, seconds: u64, what: &str) -> String {
    let full = WIDTH * done.min(total) / total.max(1);
    let (full_part, rest) = ("█".repeat(full), "░".repeat(WIDTH - full));
    format!("{full_part}{rest} {done}/{total} {seconds} s  {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert!(line(0, 4, 0, "a").starts_with(&"░".repeat(WIDTH)));
        assert!(line(4, 4, 9, "a").starts_with(&"█".repeat(WIDTH)));
        assert!(line(0, 0, 0, "nothing").contains("0/0"));
        assert!(line(2, 4, 9, "sum").ends_with("2/4 9 s  sum"));
    }
}
