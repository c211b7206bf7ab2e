//! A setting: everything that determines one measured run, resolved from the command line and the workload's
//! defaults, and handed to the oracle's process as JSON.

use crate::data::tpch;
use forebay_memory::{ByteSize, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How bounded input is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Results at the end.
    Batch,
    /// Records as they come; aggregations emit as their workload says.
    Streaming,
}

impl Mode {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Batch => "batch",
            Mode::Streaming => "streaming",
        }
    }
}

/// What a running sum emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Emit {
    /// The new sum after every record.
    Updates,
    /// Each key's last sum, at the end.
    Final,
}

/// Which rows a join sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum JoinKind {
    /// Pairs.
    Inner,
    /// Pairs, and probe records without a match.
    Left,
    /// Pairs, and build records without a match.
    Right,
    /// Pairs, and records of both sides without a match.
    Full,
    /// Probe records with a match.
    Semi,
    /// Probe records without one.
    Anti,
}

/// How a join finds matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// As the engine chooses.
    #[default]
    Automatic,
    /// Both sides by the hash of their key.
    Hash,
    /// Both sides by the hash of their key, and sorted.
    Merge,
    /// The build side to every subtask.
    Broadcast,
}

/// What a join joins, and how.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct JoinOptions {
    /// Which rows it sends.
    pub kind: JoinKind,
    /// The share of probe records with a match.
    pub selectivity: f64,
    /// The share of both sides that one key has.
    pub hot: f64,
    /// Whether records are of 104 bytes.
    pub wide: bool,
    /// How it finds matches.
    #[serde(default)]
    pub strategy: Strategy,
}

impl Default for JoinOptions {
    fn default() -> Self {
        JoinOptions {
            kind: JoinKind::Inner,
            selectivity: 0.5,
            hot: 0.0,
            wide: false,
            strategy: Strategy::Automatic,
        }
    }
}

/// One measured run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The workload's name.
    pub workload: String,
    /// Input records; text workloads without input files generate about as many words.
    pub records: u64,
    /// Distinct keys in generated data.
    pub keys: u64,
    /// The exponent of a Zipf distribution; 0 is uniform.
    pub skew: f64,
    /// The managed memory where it is not the plan's default, in bytes.
    pub managed: Option<u64>,
    /// Slots, which is subtasks of each operator too.
    pub parallelism: usize,
    /// Batch or streaming.
    pub mode: Mode,
    /// Which results.
    pub emit: Emit,
    /// The seed of the generated data.
    pub seed: u64,
    /// A configuration file.
    pub config: Option<PathBuf>,
    /// `key=value` overrides of the configuration.
    pub overrides: Vec<String>,
    /// Input files or globs.
    pub input: Vec<String>,
    /// Whether generated records are written to a file beforehand and read from there.
    #[serde(default)]
    pub from_file: bool,
    /// Bytes of a record where they are more than its key and value: for the workload that aggregates wide ones; 0 otherwise.
    #[serde(default)]
    pub row_bytes: u64,
    /// Where results go, where they are kept.
    pub output: Option<PathBuf>,
    /// Records scheduled a second, for the workload that measures latency; 0 is as fast as possible.
    pub rate: u64,
    /// Whether the run is for comparison with the oracle alone, and may keep more of its results for it.
    #[serde(default)]
    pub checked: bool,
    /// Of joins.
    #[serde(default)]
    pub join: JoinOptions,
}

impl Setting {
    /// What is printed of a setting beside the workload's name and mode.
    pub fn label(&self) -> String {
        let mut parts = Vec::new();
        if self.workload.starts_with("tpch-") {
            parts.push(format!("scale={}", tpch::scale_of(self.records)));
        }
        if let Some(managed) = self.managed {
            parts.push(format!(
                "managed={}",
                ByteSize(managed).to_string().replace(' ', "")
            ));
        }
        let plain = JoinOptions::default();
        if self.join.kind != plain.kind {
            parts.push(format!("{:?}", self.join.kind).to_lowercase());
        }
        if self.join.selectivity != plain.selectivity {
            parts.push(format!("selectivity={}", self.join.selectivity));
        }
        if self.join.hot != plain.hot {
            parts.push(format!("hot={}", self.join.hot));
        }
        if self.join.wide {
            parts.push("wide".to_string());
        }
        if self.join.strategy != plain.strategy {
            parts.push(format!("{:?}", self.join.strategy).to_lowercase());
        }
        if self.emit == Emit::Updates {
            parts.push("emit=updates".to_string());
        }
        if self.skew != 0.0 {
            parts.push(format!("skew={}", self.skew));
        }
        if self.from_file || self.skew != 0.0 || !self.input.is_empty() {
            parts.push("from file".to_string());
        }
        if self.row_bytes != 0 {
            parts.push(format!("rows of {} B", self.row_bytes));
        }
        if self.rate != 0 {
            parts.push(format!("rate={}", self.rate));
        }
        parts.extend(self.overrides.iter().cloned());
        parts.join(" ")
    }
}

/// A count as people write it: `50000000`, `50_000_000`, `50M`, `100k`; units are powers of 1000.
///
/// # Errors
/// Anything else.
pub fn parse_count(text: &str) -> Result<u64> {
    let wrong = || {
        Error::config(format!(
            "\"{text}\" is not a count; write 50000000, 50_000_000, 50M, 100k or 1G"
        ))
    };
    let trimmed = text.trim();
    let (digits, scale) = match trimmed.as_bytes().last() {
        Some(b'k' | b'K') => (&trimmed[..trimmed.len() - 1], 1_000),
        Some(b'm' | b'M') => (&trimmed[..trimmed.len() - 1], 1_000_000),
        Some(b'g' | b'G') => (&trimmed[..trimmed.len() - 1], 1_000_000_000),
        _ => (trimmed, 1),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.replace('_', "").parse().map_err(|_| wrong())?;
    number.checked_mul(scale).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_parse() {
        for (text, count) in [
            ("0", 0),
            ("50M", 50_000_000),
            ("1_000", 1_000),
            ("2k", 2_000),
            ("1G", 1_000_000_000),
        ] {
            assert_eq!(parse_count(text).expect(text), count);
        }
        for text in ["", "M", "-1", "1.5M", "_1", "99999999999G", "ten"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }
}
