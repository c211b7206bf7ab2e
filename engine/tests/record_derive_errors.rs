//! What `#[derive(Record)]` refuses, and what it says: each line of the files in `record_derive_errors/` that
//! is wrong ends with `//~` and a part of the message that the compiler is to put there.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The engine's library as it was built for this test.
fn library() -> (PathBuf, PathBuf) {
    let test = std::env::current_exe().expect("a test has a path");
    let directory = test.parent().expect("a test is in a directory").to_path_buf();
    let is_library = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libforebay-") && name.ends_with(".rlib")
    };
    let newest = std::fs::read_dir(&directory)
        .expect("the directory of tests is readable")
        .map(|entry| entry.expect("an entry is readable").path())
        .filter(|path| is_library(path))
        .max_by_key(|path| {
            std::fs::metadata(path)
                .and_then(|data| data.modified())
                .expect("a time")
        });
    (
        newest.expect("cargo built the library before this test"),
        directory,
    )
}

/// The compiler's errors for a file, as (line, message).
fn errors(file: &Path) -> Vec<(usize, String)> {
    let (library, dependencies) = library();
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--error-format=json",
            "-o",
        ])
        .arg(std::env::temp_dir().join(format!("forebay-derive-errors-{}", std::process::id())))
        .arg("-L")
        .arg(format!("dependency={}", dependencies.display()))
        .arg("--extern")
        .arg(format!("forebay={}", library.display()))
        .arg(file)
        .output()
        .expect("the compiler runs");
    assert!(!output.status.success(), "{} compiles", file.display());
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        let diagnostic: serde_json::Value = serde_json::from_str(line).expect("the compiler writes JSON");
        let Some(span) = diagnostic["spans"]
            .as_array()
            .and_then(|spans| spans.iter().find(|span| span["is_primary"] == true))
        else {
            continue;
        };
        if diagnostic["level"] == "error" {
            let line = span["line_start"].as_u64().expect("a line number") as usize;
            // A message and its notes: the notes say what to use instead.
            let children = diagnostic["children"].as_array().expect("a list");
            let notes = children.iter().filter_map(|child| child["message"].as_str());
            let message = diagnostic["message"].as_str().expect("a message");
            found.push((
                line,
                [message].into_iter().chain(notes).collect::<Vec<_>>().join("\n"),
            ));
        }
    }
    found
}

/// Every marked line has an error that says so, and no other line has an error.
fn check(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/record_derive_errors")
        .join(name);
    let source = std::fs::read_to_string(&file).expect("the cases are readable");
    let found = errors(&file);
    let mut expected = 0;
    for (index, text) in source.lines().enumerate() {
        let here: Vec<_> = found.iter().filter(|(line, _)| *line == index + 1).collect();
        match text.split_once("//~ ") {
            Some((_, message)) => {
                expected += 1;
                assert!(
                    here.iter().any(|(_, found)| found.contains(message)),
                    "{name}:{}: expected {message:?}, found {here:?}",
                    index + 1
                );
            }
            None => assert!(here.is_empty(), "{name}:{}: {here:?}", index + 1),
        }
    }
    assert!(expected > 0, "{name} marks the lines that are wrong");
}

#[test]
fn the_derive_refuses_what_it_knows_by_name() {
    check("refused.rs");
}

#[test]
fn the_compiler_names_types_that_are_no_records() {
    check("not_records.rs");
}

#[test]
fn plain_records_are_checked_when_they_are_compiled() {
    check("plain.rs");
}
