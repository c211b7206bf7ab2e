//! Source files: finding them, and telling code from comments, strings and tests.
//!
//! # Not here
//! What is wrong with them: `tidy` and `layers`.

use std::fs;
use std::path::Path;

/// A text file of the workspace.
pub struct SourceFile {
    /// Its path below the workspace, with slashes.
    pub path: String,
    /// All its text.
    pub text: String,
}

impl SourceFile {
    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is tests: a `tests` directory or module.
    pub fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| part == "tests" || part == "tests.rs" || part == "fuzz")
    }

    /// Its code, with comments and the contents of strings blanked; lines stay where they are.
    pub fn code(&self) -> String {
        blank(&self.text)
    }

    /// Its code before its tests.
    pub fn code_before_tests(&self) -> String {
        let mut code = self.code();
        code.truncate(tests_start(&code));
        code
    }
}

/// All text files below `root`, but for build results and what belongs to version control.
pub fn files(root: &Path) -> Vec<SourceFile> {
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<SourceFile>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if name != "target" && name != ".git" {
                walk(root, &path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).expect("the walk starts at the root");
            found.push(SourceFile {
                path: relative.to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
}

/// Where the test module of a file's code starts: `#[cfg(test)]` on a `mod`. Its length where there is none.
fn tests_start(code: &str) -> usize {
    const MARK: &str = "#[cfg(test)]";
    for (start, _) in code.match_indices(MARK) {
        let mut rest = code[start + MARK.len()..].trim_start();
        while let Some(attribute) = rest.strip_prefix("#[") {
            rest = attribute
                .split_once(']')
                .map_or("", |(_, rest)| rest)
                .trim_start();
        }
        if rest.starts_with("mod ") {
            return start;
        }
    }
    code.len()
}

/// The text with spaces in place of comments and of what is in string and character literals.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !is_word(bytes, at.wrapping_sub(1)) || is_byte_prefix(bytes, at) => {
                match raw_string_end(bytes, at) {
                    Some(end) => end,
                    None => at,
                }
            }
            b'\'' => character_end(bytes, at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole literals and comments are blanked, so no character is cut")
}

fn is_word(bytes: &[u8], at: usize) -> bool {
    bytes
        .get(at)
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Whether the `r` at `at` is that of `br"` or `cr"`.
fn is_byte_prefix(bytes: &[u8], at: usize) -> bool {
    at >= 1 && matches!(bytes[at - 1], b'b' | b'c') && !is_word(bytes, at.wrapping_sub(2))
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |length| at + length)
}

/// Block comments nest.
fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r#"…"#` where one starts at `start`.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let length = bytes[open + 1..]
        .windows(close.len())
        .position(|window| window == close)?;
    Some(open + 1 + length + close.len())
}

/// The end of `'x'` or `'\n'`; `start` itself where this is a lifetime.
fn character_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start + 1) {
        Some(b'\\') => {
            // The escaped character may be the quote itself.
            let rest = &bytes[(start + 3).min(bytes.len())..];
            rest.iter()
                .position(|byte| *byte == b'\'')
                .map_or(bytes.len(), |length| start + 4 + length)
        }
        Some(first) => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if bytes.get(start + 1 + width) == Some(&b'\'') {
                start + 2 + width
            } else {
                start
            }
        }
        None => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("a(\"b \\\" c\") d", "a(        ) d"),
            ("a(r\"b\\\") c", "a(     ) c"),
            ("a(r#\"b \" c\"#) d", "a(          ) d"),
            ("a(br#\"b\"#) d", "a(b      ) d"),
            ("for r in 'x'..'\\'' {}", "for r in    ..     {}"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("'é' 'a", "     'a"),
            ("\"never closed", "             "),
        ] {
            assert_eq!(blank(text), code, "{text}");
        }
    }

    #[test]
    fn tests_start_at_the_test_module() {
        let code = "a\n#[cfg(test)]\nconst X: u8 = 0;\nb\n#[cfg(test)]\n#[allow(x)]\nmod tests {}";
        assert_eq!(
            &code[..tests_start(code)],
            "a\n#[cfg(test)]\nconst X: u8 = 0;\nb\n"
        );
        assert_eq!(tests_start("no tests"), 8);
    }

    #[test]
    fn whole_files_of_tests_are_known() {
        for (path, is_test) in [
            ("memory/src/a/tests.rs", true),
            ("memory/tests/b.rs", true),
            ("memory/src/testing.rs", false),
        ] {
            assert_eq!(
                SourceFile {
                    path: path.into(),
                    text: String::new()
                }
                .is_test(),
                is_test,
                "{path}"
            );
        }
    }
}
