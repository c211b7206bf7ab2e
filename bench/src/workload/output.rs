//! Results as lines of files, where `--output` asks for them; and which file a path means.

use crate::setting::Setting;
use forebay::record::Record;
use forebay::sink::{FileSink, TextWith};
use forebay_memory::{Error, Result};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A sink that writes each result as `format` does into the setting's output directory.
///
/// # Panics
/// Where the setting has none.
pub fn output<R, F>(setting: &Setting, format: F) -> FileSink<TextWith<R, F>>
where
    R: Record,
    F: for<'a> FnMut(R::View<'a>, &mut String) + Clone + Send + 'static,
{
    let directory = setting.output.as_ref().expect("asked for where there is one");
    FileSink::text_with::<R, F>(directory, format).overwrite()
}

/// Whether both paths lead to one file, by whatever names.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Refuses an output file that is one of the input.
///
/// # Errors
/// Where it is.
pub fn refuse_own_input(output: &Path, inputs: &[PathBuf]) -> Result<()> {
    match inputs.iter().find(|input| is_same_file(input, output)) {
        Some(input) => Err(Error::config(format!(
            "--output {} is {}, a file of --input, which would be gone after the first run: name another file",
            output.display(),
            input.display()
        ))),
        None => Ok(()),
    }
}

/// The file that a link leads to, which is what is replaced: the link stays. Other paths are as they were.
///
/// # Errors
/// Where a link leads to no file.
pub fn behind_links(path: &Path) -> Result<PathBuf> {
    if !path.is_symlink() {
        return Ok(path.to_path_buf());
    }
    fs::canonicalize(path).map_err(|error| {
        Error::io(
            format!(
                "--output {} is a link that leads to no file; name the file itself, or remove the link",
                path.display()
            ),
            error,
        )
    })
}
