//! Results as lines of files, where `--output` asks for them.

use crate::setting::Setting;
use forebay::record::Record;
use forebay::sink::{FileSink, TextWith};

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
