//! `cargo xtask tidy`, `ci` and `sanitize`: the project's own checks, the same for a person and for the server.

mod source;
mod layers;
mod tidy;
mod ci;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask tidy                 checks what compilers do not: layers, unsafe code, file headers, lengths
       cargo xtask sanitize             the tests of memory/ under AddressSanitizer
       cargo xtask ci [--without-tests]  all of that, and formatting, clippy, fuzz targets, documentation, tests;
                                        prints each with its time";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = workspace();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(&root),
        ["sanitize"] => ci::sanitize(&root),
        ["ci"] => ci::run(&root, true),
        ["ci", "--without-tests"] => ci::run(&root, false),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn tidy(root: &Path) -> ExitCode {
    let complaints = tidy::check(root);
    for complaint in &complaints {
        eprintln!("tidy: {complaint}");
    }
    if complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The directory of the workspace: two above this package.
fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .expect("this package is tools/xtask")
        .to_path_buf()
}
