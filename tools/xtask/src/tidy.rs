//! `cargo xtask tidy`: the rules of the house that no compiler checks.
//!
//! 1. `unsafe` stands only in the files listed here, all of them in `memory/`.
//! 2. A module uses only modules above it in its crate's `lib.rs` (`layers`).
//! 3. Every Rust file starts with a `//!` that says what it owns.
//! 4. No Rust file has more than a thousand lines before its tests.
//! 5. No file names a path of the machine it was written on.
//!
//! That docs/CONFIG.md is fresh is checked by a test of `memory/`.

use std::path::Path;

use crate::layers;
use crate::source::{SourceFile, files};

/// The files that may have `unsafe`. A new one needs a reason in its review; one without any leaves the list.
const UNSAFE_FILES: &[&str] = &[
    "memory/src/account.rs",
    "memory/src/arena/mod.rs",
    "memory/src/page_cache.rs",
    "memory/src/pages/blob.rs",
    "memory/src/pages/byte.rs",
    "memory/src/pages/byte_change.rs",
    "memory/src/pages/byte_grow.rs",
    "memory/src/pages/byte_page.rs",
    "memory/src/pages/directory.rs",
    "memory/src/pages/keys.rs",
    "memory/src/pages/line.rs",
    "memory/src/pages/line_page.rs",
    "memory/src/pages/page.rs",
    "memory/src/scatter.rs",
    "memory/src/segment.rs",
    "memory/src/sort/kernel/stream.rs",
    "memory/src/spill/file.rs",
    "memory/src/spill/uring.rs",
    "memory/src/spill/workspace.rs",
    "memory/src/text.rs",
    "memory/tests/pages_source/mod.rs",
];

const MOST_LINES: usize = 1000;

/// What is wrong with the files below `root`, one line each.
pub fn check(root: &Path) -> Vec<String> {
    let files = files(root);
    let mut complaints = layers::check(&files);
    for file in &files {
        complaints.extend(paths_of_a_machine(file, root));
        if file.is_rust() {
            complaints.extend(header(file));
            complaints.extend(length(file));
            complaints.extend(unsafe_code(file, UNSAFE_FILES));
        }
    }
    for listed in UNSAFE_FILES {
        if !listed.starts_with("memory/") || !files.iter().any(|file| file.path == *listed) {
            complaints.push(format!(
                "tools/xtask/src/tidy.rs: {listed} is listed for unsafe code and is not in memory/"
            ));
        }
    }
    complaints
}

fn header(file: &SourceFile) -> Option<String> {
    let first = file
        .text
        .lines()
        .find(|line| !line.starts_with("#!/"))
        .unwrap_or_default();
    (!first.starts_with("//! ")).then(|| {
        format!(
            "{}:1: there is no header; start with `//! ` and what the file owns",
            file.path
        )
    })
}

fn length(file: &SourceFile) -> Option<String> {
    let lines = file.code_before_tests().lines().count();
    (!file.is_test() && lines > MOST_LINES).then(|| {
        format!(
            "{}: {lines} lines before its tests are over {MOST_LINES}; split it",
            file.path
        )
    })
}

fn unsafe_code(file: &SourceFile, listed: &[&str]) -> Option<String> {
    let code = file.code();
    let used = code.match_indices("unsafe").find(|(at, word)| {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_word(code[..*at].chars().next_back()) && !is_word(code[at + word.len()..].chars().next())
    });
    match (used, listed.contains(&file.path.as_str())) {
        (Some((at, _)), false) => Some(format!(
            "{}:{}: unsafe code in a file that is not on the list in tools/xtask/src/tidy.rs",
            file.path,
            1 + code[..at].matches('\n').count()
        )),
        (None, true) => Some(format!(
            "{}: listed for unsafe code and has none; take it off the list",
            file.path
        )),
        _ => None,
    }
}

fn paths_of_a_machine(file: &SourceFile, root: &Path) -> Vec<String> {
    // Spelled in parts, so that this file does not find itself.
    let mut starts: Vec<String> = ["home", "root", "Users"].map(|name| format!("/{name}/")).into();
    starts.push(root.display().to_string());
    let mut complaints = Vec::new();
    for start in starts.iter().filter(|start| start.len() > 1) {
        for (at, _) in file.text.match_indices(start.as_str()) {
            let before = file.text[..at].chars().next_back();
            let after = file.text[at + start.len()..].chars().next();
            let is_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_-.*/}".contains(c));
            // `/src` of a checkout in `/src` is not the `/src` of `engine/src`, nor of `/src2`.
            if is_name(before) || (!start.ends_with('/') && is_name(after) && after != Some('/')) {
                continue;
            }
            complaints.push(format!(
                "{}:{}: a path of one machine: {start}",
                file.path,
                1 + file.text[..at].matches('\n').count()
            ));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn headers_are_wanted() {
        assert_eq!(header(&file("a.rs", "//! Owns a.\n")), None);
        assert!(header(&file("a.rs", "use x;\n//! Owns a.\n")).is_some());
        assert!(header(&file("a.rs", "")).is_some());
    }

    #[test]
    fn lines_are_counted_up_to_the_tests() {
        let lines = "fn f() {}\n".repeat(MOST_LINES);
        assert_eq!(length(&file("a.rs", &lines)), None);
        assert_eq!(
            length(&file(
                "a.rs",
                &format!("{lines}#[cfg(test)]\nmod tests {{\n{lines}}}")
            )),
            None
        );
        assert!(length(&file("a.rs", &format!("{lines}fn g() {{}}\n"))).is_some());
        assert_eq!(
            length(&file("a/tests/b.rs", &format!("{lines}fn g() {{}}\n"))),
            None
        );
    }

    #[test]
    fn unsafe_code_is_for_listed_files() {
        let code = "//! Not unsafe.\nfn f() { \"unsafe\"; unsafe_name(); }\n";
        assert_eq!(unsafe_code(&file("a.rs", code), &[]), None);
        assert!(
            unsafe_code(&file("a.rs", code), &["a.rs"])
                .unwrap()
                .contains("has none")
        );
        let code = "//! It is.\nfn f() { unsafe { g() } }\n";
        assert_eq!(unsafe_code(&file("a.rs", code), &["a.rs"]), None);
        assert!(
            unsafe_code(&file("a.rs", code), &[])
                .unwrap()
                .starts_with("a.rs:2: ")
        );
        assert!(unsafe_code(&file("b.rs", "unsafe impl Send for X {}"), &["a.rs"]).is_some());
    }

    #[test]
    fn paths_of_machines_are_found() {
        let root = Path::new("/src");
        let found = |text: &str| paths_of_a_machine(&file("a.md", text), root).len();
        assert_eq!(found(&format!("see /{}/me/x", "home")), 1);
        assert_eq!(found(&format!("\"/{}/x\"\n(/{0}/y)", "root")), 2);
        assert_eq!(found("cd /src && make; /src/x"), 2);
        assert_eq!(found("engine/src/lib.rs, /src2, bench/root/x"), 0);
    }
}
