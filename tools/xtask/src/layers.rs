//! The order of modules: a module uses only those above it in its crate's `lib.rs`.
//!
//! # Algorithm
//! 1. The order is that of the `mod` items in `lib.rs`; what it re-exports counts as its module.
//! 2. In every file of a module, `crate::name` and `super::…` up to the root are uses of `name`; `use` trees
//!    are opened. Tests are free to use what they like.

use std::collections::BTreeSet;

use crate::source::SourceFile;

/// What a crate's `lib.rs` says.
struct Layers {
    /// The modules, ground floor first.
    modules: Vec<String>,
    /// Names that it re-exports, each with its module.
    exports: Vec<(String, String)>,
}

/// Every use of a module above, in all crates.
pub fn check(files: &[SourceFile]) -> Vec<String> {
    let mut complaints = Vec::new();
    for lib in files.iter().filter(|file| file.path.ends_with("src/lib.rs")) {
        let source = lib.path.strip_suffix("lib.rs").expect("filtered by this suffix");
        let layers = Layers::of(&lib.code());
        for file in files.iter().filter(|file| file.is_rust() && !file.is_test()) {
            if let Some(path) = file.path.strip_prefix(source).filter(|path| *path != "lib.rs") {
                layers.check(path, file, &mut complaints);
            }
        }
    }
    complaints
}

impl Layers {
    fn of(lib: &str) -> Layers {
        let mut layers = Layers {
            modules: Vec::new(),
            exports: Vec::new(),
        };
        for statement in lib.split(';') {
            let item = statement.rsplit(['}', ']']).next().unwrap_or_default().trim();
            let words: Vec<&str> = item.split_whitespace().collect();
            if let [.., "mod", name] = words[..] {
                layers.modules.push(name.into());
            }
            if let Some((_, tree)) = statement.split_once("pub use ") {
                for path in open(tree.trim()) {
                    if let (Some(module), Some(name)) = (path.first(), path.last()) {
                        layers.exports.push((name.clone(), module.clone()));
                    }
                }
            }
        }
        layers
    }

    fn floor(&self, name: &str) -> Option<usize> {
        let export = self
            .exports
            .iter()
            .find(|(export, _)| export == name)
            .map(|(_, module)| module.as_str());
        self.modules
            .iter()
            .position(|module| module == name || Some(module.as_str()) == export)
    }

    fn check(&self, path: &str, file: &SourceFile, complaints: &mut Vec<String>) {
        let parts: Vec<&str> = path
            .trim_end_matches(".rs")
            .split('/')
            .filter(|part| *part != "mod")
            .collect();
        let Some(own) = parts.first().and_then(|module| self.floor(module)) else {
            return;
        };
        let code = file.code_before_tests();
        let to_root = "super::".repeat(parts.len());
        for start in ["crate::", to_root.as_str()] {
            for (at, _) in code.match_indices(start) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                    continue;
                }
                let paths = open(tree_at(&code[at + start.len()..]));
                let names: BTreeSet<&String> = paths.iter().filter_map(|path| path.first()).collect();
                for name in names {
                    if self.floor(name).is_some_and(|floor| floor > own) {
                        complaints.push(format!(
                            "{}:{}: module {} uses {name}, which is above it in lib.rs; move the code, or the module",
                            file.path,
                            1 + code[..at].matches('\n').count(),
                            self.modules[own],
                        ));
                    }
                }
            }
        }
    }
}

/// The path or `use` tree at the start of `text`.
fn tree_at(text: &str) -> &str {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            _ if c.is_alphanumeric() || c == '_' || c == ':' => {}
            _ => return &text[..at],
        }
    }
    text
}

/// All paths of a `use` tree, each as its parts, a renamed one with its new name last.
fn open(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((prefix, branches)) = tree.split_once('{') else {
        let (path, renamed) = match tree.split_once(" as ") {
            Some((path, name)) => (path, Some(name)),
            None => (tree, None),
        };
        let parts = path
            .split("::")
            .chain(renamed)
            .map(str::trim)
            .filter(|part| !part.is_empty());
        return vec![parts.map(String::from).collect()];
    };
    let branches = branches.trim_end().strip_suffix('}').unwrap_or(branches);
    let prefix: Vec<String> = prefix
        .split("::")
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(String::from)
        .collect();
    let mut paths = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, c) in branches.char_indices().chain([(branches.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                if !branches[start..at].trim().is_empty() {
                    for path in open(&branches[start..at]) {
                        paths.push(prefix.iter().cloned().chain(path).collect());
                    }
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Vec<SourceFile> {
        files
            .iter()
            .map(|(path, text)| SourceFile {
                path: path.to_string(),
                text: text.to_string(),
            })
            .collect()
    }

    const LIB: (&str, &str) = (
        "memory/src/lib.rs",
        "//! Map: mod zero;\npub mod ground;\n#[macro_use]\nmod middle;\npub(crate) mod top;\n\
         pub use ground::{Low, deep::Lower as Lowest};\npub use top::High;\n",
    );

    #[test]
    fn use_trees_open() {
        let paths = |tree| {
            open(tree)
                .into_iter()
                .map(|path| path.join("/"))
                .collect::<Vec<_>>()
        };
        assert_eq!(paths("a"), ["a"]);
        assert_eq!(paths("a::b as c"), ["a/b/c"]);
        assert_eq!(paths("{a::{self, b}, c,}"), ["a/self", "a/b", "c"]);
        assert_eq!(tree_at("a::{b, c::{d}};\nuse x"), "a::{b, c::{d}}");
        assert_eq!(tree_at("top::f(x)"), "top::f");
    }

    #[test]
    fn the_order_is_read_from_lib() {
        let layers = Layers::of(&files(&[LIB])[0].code());
        assert_eq!(layers.modules, ["ground", "middle", "top"]);
        assert_eq!(layers.floor("Lowest"), Some(0));
        assert_eq!(layers.floor("High"), Some(2));
        assert_eq!(layers.floor("other"), None);
    }

    #[test]
    fn uses_of_what_is_above_are_found() {
        for (path, text, line) in [
            ("memory/src/ground.rs", "\nuse crate::top::x;", 2),
            ("memory/src/ground.rs", "use crate::{Low, middle::{a, b}};", 1),
            ("memory/src/ground.rs", "use super::top::x;", 1),
            ("memory/src/ground/part.rs", "use super::super::top::x;", 1),
            ("memory/src/ground/mod.rs", "fn f() { crate::High::new() }", 1),
            ("memory/src/middle.rs", "pub(crate) use crate::High;", 1),
        ] {
            let complaints = check(&files(&[LIB, (path, text)]));
            assert_eq!(complaints.len(), 1, "{text}: {complaints:?}");
            assert!(
                complaints[0].starts_with(&format!("{path}:{line}: module ")),
                "{complaints:?}"
            );
        }
    }

    #[test]
    fn uses_of_what_is_below_are_fine() {
        for (path, text) in [
            ("memory/src/top.rs", "use crate::{ground, middle::x, Low, High};"),
            (
                "memory/src/ground.rs",
                "//! See crate::top.\nuse other_crate::top;\nuse crate::Low;",
            ),
            ("memory/src/ground/part.rs", "use super::top;"),
            (
                "memory/src/ground.rs",
                "fn f() {}\n#[cfg(test)]\nmod tests { use crate::top; }",
            ),
            ("memory/src/ground/tests.rs", "use crate::top;"),
            ("engine/src/ground.rs", "use crate::top;"),
        ] {
            assert_eq!(
                check(&files(&[LIB, (path, text)])),
                Vec::<String>::new(),
                "{text}"
            );
        }
    }
}
