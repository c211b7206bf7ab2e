//! The harness is interrupted in the middle of a job that spills: it exits as interrupted programs do, and leaves nothing.
//! And what reads its output may stop early.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A directory that is removed with all it holds.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("forebay-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Directory(path)
    }

    fn below(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).expect("the directory is writable");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    entries
        .map(|entry| entry.expect("it can be read").file_name())
        .collect()
}

fn interrupt(child: &Child) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -INT {}", child.id())])
        .status()
        .expect("a shell");
    assert!(sent.success(), "the child runs");
}

#[test]
fn an_interrupted_run_cancels_its_job_and_leaves_no_file() {
    let directory = Directory::new("interrupt");
    let (scratch, spill) = (directory.below("scratch"), directory.below("spill"));
    // So many records that it does not end by itself.
    let mut child = Command::new(env!("CARGO_BIN_EXE_forebay-bench"))
        .args(["run", "aggregate", "--records", "100G", "--keys", "1M"])
        .args(["--managed", "24MiB", "--repeat", "1", "--progress", "lines"])
        .args(["--set", &format!("spill.directories={}", spill.display())])
        .env("TMPDIR", &scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the harness starts");
    let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains("spilled")) {
        let mut line = String::new();
        let read = said.read_line(&mut line).expect("it says text");
        assert!(read > 0, "it ended before it spilled: {lines:?}");
        lines.push(line);
    }
    interrupt(&child);
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("it says text");
    let status = child.wait().expect("the child was started here");
    assert_eq!(status.code(), Some(130), "{lines:?} {rest}");
    assert!(
        rest.ends_with("error: job \"aggregate\" was interrupted by SIGINT\n"),
        "{rest}"
    );
    assert_eq!((names(&scratch), names(&spill)), (Vec::new(), Vec::new()));
}

/// As in `forebay-bench list | head`.
#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("the system has pipes");
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_forebay-bench"))
        .arg("list")
        .stdout(writer)
        .status()
        .expect("the harness is built");
    assert!(status.success(), "{status}");
}
