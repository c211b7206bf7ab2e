//! The `forebay` command as users run it: a process, its output, its exit status.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the command in an empty directory of its own, with nothing of ours in the environment.
struct Run {
    directory: PathBuf,
    variables: Vec<(&'static str, &'static str)>,
}

impl Run {
    fn new(test: &str) -> Run {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        Run {
            directory,
            variables: Vec::new(),
        }
    }

    fn file(self, name: &str, text: &str) -> Run {
        std::fs::write(self.directory.join(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Run {
        self.variables.push((name, value));
        self
    }

    fn forebay(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.variables.iter().copied())
            .output()
            .unwrap()
    }

    /// What a run that must succeed prints.
    fn prints(&self, arguments: &[&str]) -> String {
        let output = self.forebay(arguments);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a run that must be refused says on stderr; stdout stays empty.
    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.forebay(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            output.stdout.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Small enough for any machine that builds this.
const SMALL: [&str; 2] = ["--set", "memory.process_size=640MiB"];

#[test]
fn explain_prints_a_table_that_adds_up() {
    let table = Run::new("explain_table").prints(&["memory", "explain", SMALL[0], SMALL[1]]);
    let bytes = |name: &str| -> u64 {
        let line = table
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {table}"));
        line[name.len()..]
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    };
    let parts = ["overhead", "framework", "user heap", "network", "managed"];
    assert_eq!(parts.map(bytes).iter().sum::<u64>(), 640 << 20);
    assert_eq!(bytes("process"), 640 << 20);
    assert!(table.contains("memory.process_size 640 MiB (--set)"), "{table}");
}

#[test]
fn explain_prints_json_that_adds_up() {
    let json = Run::new("explain_json").prints(&["memory", "explain", "--json", SMALL[0], SMALL[1]]);
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["process_bytes"], 640u64 << 20);
    let parts = plan["components"].as_array().unwrap();
    assert_eq!(
        parts
            .iter()
            .map(|part| part["bytes"].as_u64().unwrap())
            .sum::<u64>(),
        640 << 20
    );
}

#[test]
fn set_beats_the_environment_beats_the_file() {
    let run = Run::new("precedence").file("forebay.toml", "[memory]\nprocess_size = \"512 MiB\"\n");
    assert!(
        run.prints(&["memory", "explain"])
            .contains("memory.process_size 512 MiB (forebay.toml:2)")
    );
    let run = run.variable("FOREBAY_MEMORY__PROCESS_SIZE", "576MiB");
    assert!(
        run.prints(&["memory", "explain"])
            .contains("memory.process_size 576 MiB (environment FOREBAY_MEMORY__PROCESS_SIZE)")
    );
    assert!(
        run.prints(&["memory", "explain", SMALL[0], SMALL[1]])
            .contains("memory.process_size 640 MiB (--set)")
    );
}

#[test]
fn a_named_file_is_read_in_place_of_the_default_one() {
    let run = Run::new("named_file")
        .file("forebay.toml", "this is not TOML")
        .file("other.toml", "memory.process_size = \"640MiB\"\n");
    assert!(
        run.prints(&["memory", "explain", "--config", "other.toml"])
            .contains("(other.toml:1)")
    );
    assert!(
        run.refuses(&["memory", "explain"])
            .starts_with("forebay: forebay.toml:1: not valid TOML: ")
    );
    let missing = run.refuses(&["memory", "explain", "--config", "missing.toml"]);
    assert!(
        missing.starts_with("forebay: cannot read the configuration file missing.toml: "),
        "{missing}"
    );
}

#[test]
fn check_says_yes_or_why_not() {
    let run = Run::new("check");
    assert_eq!(
        run.prints(&[
            "memory",
            "check",
            "--set",
            "memory.managed_size=64mb",
            "--set",
            "memory.user_size=64mb"
        ]),
        "the configuration makes a plan: a process of 288 MiB, 64 MiB of it managed\n"
    );
    assert_eq!(
        run.refuses(&["memory", "check", "--set", "memory.segment_size=3000"]),
        "forebay: memory.segment_size: 3000 B is not a power of two; use 4 KiB to 1 MiB (default 32 KiB); set by \
         --set\n"
    );
    let json = run.prints(&["memory", "check", "--json", SMALL[0], SMALL[1]]);
    assert_eq!(json, format!("{{\"ok\":true,\"process_bytes\":{}}}\n", 640 << 20));
    let output = run.forebay(&["memory", "check", "--json", "--set", "memory.process_sise=1"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert!(
        json["error"]
            .as_str()
            .unwrap()
            .contains("the nearest is memory.process_size"),
        "{json}"
    );
}

#[test]
fn reference_is_the_document() {
    let reference = Run::new("reference").prints(&["config", "reference"]);
    assert!(reference.starts_with("# Configuration\n"));
    assert!(reference.contains("| `memory.process_size` |"));
}

#[test]
fn wrong_usage_is_status_two() {
    let run = Run::new("usage");
    for arguments in [
        &["memory"][..],
        &["memory", "explian"],
        &["memory", "explain", "--sett", "x"],
        &[],
    ] {
        let output = run.forebay(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}
