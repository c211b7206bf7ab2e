//! File patterns, found in the file system: `*`, `?`, `[a-z]`, `[!a-z]`, `{a,b}`, and `**` for any number of directories.
//!
//! # Interface
//! [`expand`] gives the files that a pattern means, sorted by path, each once.
//!
//! # Algorithm
//! 1. Braces are opened first: `{a,b}.c` is the patterns `a.c` and `b.c`.
//! 2. A pattern is walked component by component. A plain name costs one look, a pattern one listing of its directory.
//! 3. As in a shell, names that start with a dot are matched only by patterns that do. `**` does not follow symbolic
//!    links to directories, which may form circles; every other component does. A backslash takes the next
//!    character as it is.

use forebay_memory::{Error, Result};
use std::fs::{self, DirEntry};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Patterns that braces may open to: a typing error must not fill memory.
const MOST_ALTERNATIVES: usize = 10_000;

/// The files that `pattern` means, sorted by path. A pattern that is the name of something that exists means just that,
/// a directory too. Directories that cannot be listed are given to `unlisted`.
///
/// # Errors
/// `Config` where the pattern is malformed; what `unlisted` answers.
pub(super) fn expand(
    pattern: &str,
    unlisted: &mut dyn FnMut(&Path, std::io::Error) -> Result<()>,
) -> Result<Vec<PathBuf>> {
    if fs::symlink_metadata(pattern).is_ok() {
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let mut found = Vec::new();
    for alternative in open_braces(pattern)? {
        let components = components(&alternative).map_err(|problem| malformed(pattern, problem))?;
        let base = PathBuf::from(if alternative.starts_with('/') { "/" } else { "" });
        let is_pattern = components
            .iter()
            .any(|component| !matches!(component, Component::Name(_)));
        let mut walk = Walk {
            found: &mut found,
            unlisted,
            is_pattern,
        };
        walk.descend(&base, &components)?;
    }
    // By bytes, a separator before all others, which is the order of paths here: to compare paths takes several times longer.
    found.sort_by_cached_key(|path| {
        let bytes = path.as_os_str().as_encoded_bytes().iter();
        bytes
            .map(|byte| if *byte == b'/' { 0 } else { *byte })
            .collect::<Vec<u8>>()
    });
    found.dedup();
    Ok(found)
}

fn malformed(pattern: &str, problem: &str) -> Error {
    Error::config(format!("file pattern \"{pattern}\": {problem}"))
}

/// The patterns without braces that `pattern` stands for.
fn open_braces(pattern: &str) -> Result<Vec<String>> {
    let mut closed = Vec::new();
    let mut open = vec![pattern.to_string()];
    while let Some(next) = open.pop() {
        let Some((before, choices, after)) =
            first_braces(&next).map_err(|problem| malformed(pattern, problem))?
        else {
            closed.push(next);
            continue;
        };
        for choice in choices.into_iter().rev() {
            open.push(format!("{before}{choice}{after}"));
        }
        if open.len() + closed.len() > MOST_ALTERNATIVES {
            return Err(malformed(
                pattern,
                "its braces stand for over 10000 patterns; name fewer",
            ));
        }
    }
    Ok(closed)
}

/// A pattern in three: before its first braces, what they enclose, after them.
type Braces<'a> = (&'a str, Vec<&'a str>, &'a str);

fn first_braces(pattern: &str) -> Result<Option<Braces<'_>>, &'static str> {
    let mut depth = 0;
    let mut is_escaped = false;
    let mut is_class = false;
    let mut start = 0;
    let mut choices = Vec::new();
    let mut choice = 0;
    for (at, character) in pattern.char_indices() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match character {
            '\\' => is_escaped = true,
            '[' => is_class = true,
            ']' => is_class = false,
            _ if is_class => {}
            '{' => {
                if depth == 0 {
                    (start, choice) = (at, at + 1);
                }
                depth += 1;
            }
            ',' if depth == 1 => {
                choices.push(&pattern[choice..at]);
                choice = at + 1;
            }
            '}' if depth == 1 => {
                choices.push(&pattern[choice..at]);
                return Ok(Some((&pattern[..start], choices, &pattern[at + 1..])));
            }
            '}' if depth > 1 => depth -= 1,
            _ => {}
        }
    }
    if depth > 0 {
        return Err("a { has no }; write \\{ for the character");
    }
    Ok(None)
}

#[derive(Debug, Clone, PartialEq)]
enum Component {
    /// A name without any special character.
    Name(String),
    /// A name's pattern.
    Pattern(Vec<Token>),
    /// `**`: any number of directories.
    Directories,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Character(char),
    AnyCharacter,
    AnyText,
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

fn components(pattern: &str) -> Result<Vec<Component>, &'static str> {
    let mut components = Vec::new();
    for text in pattern.split('/').filter(|text| !text.is_empty()) {
        if text == "**" {
            if components.last() != Some(&Component::Directories) {
                components.push(Component::Directories);
            }
            continue;
        }
        let tokens = tokens(text)?;
        let name: Option<String> = tokens
            .iter()
            .map(|token| match token {
                Token::Character(character) => Some(*character),
                _ => None,
            })
            .collect();
        components.push(match name {
            Some(name) => Component::Name(name),
            None => Component::Pattern(tokens),
        });
    }
    if components.last() == Some(&Component::Directories) {
        components.push(Component::Pattern(vec![Token::AnyText]));
    }
    Ok(components)
}

fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    let mut characters = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '\\' => Token::Character(characters.next().ok_or("it ends in a backslash")?),
            '?' => Token::AnyCharacter,
            '*' => {
                if tokens.last() == Some(&Token::AnyText) {
                    continue;
                }
                Token::AnyText
            }
            '[' => {
                let unclosed = "a [ has no ]; write \\[ for the character";
                let is_negated = characters.next_if(|next| matches!(next, '!' | '^')).is_some();
                let mut ranges = Vec::new();
                loop {
                    let low = match characters.next().ok_or(unclosed)? {
                        // A bracket that comes first is one of the characters.
                        ']' if !ranges.is_empty() => break,
                        '\\' => characters.next().ok_or(unclosed)?,
                        low => low,
                    };
                    let mut ahead = characters.clone();
                    match (ahead.next(), ahead.next()) {
                        (Some('-'), Some(high)) if high != ']' => {
                            characters = ahead;
                            ranges.push((low, high));
                        }
                        _ => ranges.push((low, low)),
                    }
                }
                Token::Class { is_negated, ranges }
            }
            other => Token::Character(other),
        });
    }
    Ok(tokens)
}

/// Whether `name` is what the tokens describe.
fn matches(tokens: &[Token], name: &str) -> bool {
    if name.starts_with('.') && tokens.first() != Some(&Token::Character('.')) {
        return false;
    }
    let mut tokens = tokens;
    let mut rest = name.chars();
    // Where to go on when what follows the last `*` does not match: that star takes one character more.
    let mut retry: Option<(&[Token], std::str::Chars<'_>)> = None;
    loop {
        if let [Token::AnyText, after @ ..] = tokens {
            retry = Some((after, rest.clone()));
            tokens = after;
            continue;
        }
        let mut ahead = rest.clone();
        let is_step = match (tokens.first(), ahead.next()) {
            (None, None) => return true,
            (Some(token), Some(character)) => token.takes(character),
            _ => false,
        };
        if is_step {
            (tokens, rest) = (&tokens[1..], ahead);
            continue;
        }
        let Some((after, mut from)) = retry else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        retry = Some((after, from.clone()));
        (tokens, rest) = (after, from);
    }
}

impl Token {
    fn takes(&self, character: char) -> bool {
        match self {
            Token::Character(own) => *own == character,
            Token::AnyCharacter => true,
            Token::AnyText => unreachable!("a star is not matched by character"),
            Token::Class { is_negated, ranges } => {
                ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&character))
                    != *is_negated
            }
        }
    }
}

struct Walk<'a> {
    found: &'a mut Vec<PathBuf>,
    unlisted: &'a mut dyn FnMut(&Path, std::io::Error) -> Result<()>,
    /// Whether anything in the pattern is one: then directories are no files of it.
    is_pattern: bool,
}

impl Walk<'_> {
    fn descend(&mut self, base: &Path, components: &[Component]) -> Result<()> {
        let Some((component, rest)) = components.split_first() else {
            return Ok(());
        };
        match component {
            Component::Name(name) => {
                let path = base.join(name);
                if !rest.is_empty() {
                    return self.descend(&path, rest);
                }
                if fs::symlink_metadata(&path).is_ok() && !(self.is_pattern && path.is_dir()) {
                    self.found.push(path);
                }
                Ok(())
            }
            Component::Pattern(tokens) => {
                self.list(base, |walk, entry| walk.enter(base, entry, tokens, rest))
            }
            Component::Directories => {
                // Its own entries and those of directories below in one listing.
                let own = match rest {
                    [Component::Pattern(tokens), rest @ ..] => Some((tokens, rest)),
                    _ => {
                        self.descend(base, rest)?;
                        None
                    }
                };
                self.list(base, |walk, entry| {
                    if let Some((tokens, rest)) = own {
                        walk.enter(base, entry, tokens, rest)?;
                    }
                    let name = entry.file_name();
                    if name.as_encoded_bytes().starts_with(b".") || !is_directory(entry, false) {
                        return Ok(());
                    }
                    walk.descend(&base.join(name), components)
                })
            }
        }
    }

    /// Takes an entry of a directory, or goes down into it, where it matches.
    fn enter(&mut self, base: &Path, entry: &DirEntry, tokens: &[Token], rest: &[Component]) -> Result<()> {
        if !matches(tokens, &entry.file_name().to_string_lossy()) {
            return Ok(());
        }
        match (is_directory(entry, true), rest.is_empty()) {
            (false, true) => self.found.push(base.join(entry.file_name())),
            (true, false) => return self.descend(&base.join(entry.file_name()), rest),
            _ => {}
        }
        Ok(())
    }

    fn list(&mut self, base: &Path, mut each: impl FnMut(&mut Self, &DirEntry) -> Result<()>) -> Result<()> {
        let directory = if base.as_os_str().is_empty() {
            Path::new(".")
        } else {
            base
        };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return (self.unlisted)(directory, error),
        };
        for entry in entries {
            match entry {
                Ok(entry) => each(self, &entry)?,
                Err(error) => return (self.unlisted)(directory, error),
            }
        }
        Ok(())
    }
}

fn is_directory(entry: &DirEntry, follow_links: bool) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => follow_links && entry.path().is_dir(),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, name: &str) -> bool {
        matches(&tokens(pattern).expect("a pattern"), name)
    }

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, yes, no) in [
            (
                "*.c",
                &["a.c", "x.y.c", "é.c"][..],
                &["a.h", "a.cc", ".c", ".a.c"][..],
            ),
            ("?.c", &["a.c", "é.c"], &["ab.c", ".c"]),
            ("[a-c0]*", &["a", "b1", "0x"], &["d", "", "A"]),
            ("[!a-c]", &["d", "-"], &["a", "dd"]),
            ("[]-]x", &["]x", "-x"], &["ax"]),
            ("a*b*c", &["abc", "aXbbYc", "abcbc"], &["ab", "acb"]),
            (".*", &[".a", "."], &["a"]),
            (r"\*\[", &["*["], &["x["]),
            ("*", &["a"], &[".a"]),
        ] {
            for name in yes {
                assert!(is_match(pattern, name), "{pattern} should match {name}");
            }
            for name in no {
                assert!(!is_match(pattern, name), "{pattern} should not match {name}");
            }
        }
    }

    #[test]
    fn braces_open() {
        let opened = |pattern| open_braces(pattern).expect("well-formed");
        assert_eq!(opened("a.{c,h}"), ["a.c", "a.h"]);
        assert_eq!(opened("{a,b{1,2}}{x,}"), ["ax", "a", "b1x", "b1", "b2x", "b2"]);
        assert_eq!(opened(r"\{a,b}"), [r"\{a,b}"]);
        assert_eq!(opened("[{]a"), ["[{]a"]);
    }

    #[test]
    fn malformed_patterns_say_what_is_wrong() {
        let mut ignore = |_: &Path, _| Ok(());
        for (pattern, message) in [
            (
                "x[ab",
                "file pattern \"x[ab\": a [ has no ]; write \\[ for the character",
            ),
            (
                "x{ab",
                "file pattern \"x{ab\": a { has no }; write \\{ for the character",
            ),
            ("x\\", "file pattern \"x\\\": it ends in a backslash"),
            (
                "{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}",
                "file pattern \"{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}\": \
                 its braces stand for over 10000 patterns; name fewer",
            ),
        ] {
            let error = expand(pattern, &mut ignore).expect_err("malformed");
            assert_eq!(error.to_string(), message);
        }
    }
}
