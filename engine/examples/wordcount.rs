//! Counts the words of text files: blocks of lines, a flat map, a count by key, CSV files.
//!
//! ```text
//! cargo run --release -p forebay --example wordcount -- 'docs/**/*.md' counts
//! ```
//!
//! A word is what blanks and line ends separate (`char::is_whitespace`).

use forebay::operator::Collector;
use forebay::record::itself;
use forebay::sink::FileSink;
use forebay::source::text_blocks;
use forebay::{Environment, JobSummary, Result, Runtime};
use forebay_memory::Plan;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [files, directory] = &arguments[..] else {
        eprintln!("usage: wordcount FILES DIRECTORY");
        std::process::exit(2);
    };
    let environment = Environment::new(Runtime::new(Plan::load(None, &[""; 0])?)?);
    let summary = count_words(&environment, files, directory)?;
    println!("{summary}");
    Ok(())
}

/// Counts the words of the files that a pattern matches, into a directory that it makes.
pub fn count_words(environment: &Environment, files: &str, directory: &str) -> Result<JobSummary> {
    environment
        .source("text", text_blocks(files))
        .flat_map(|block: &str, words: &mut Collector<'_, String>| {
            for word in block.split_whitespace() {
                words.push(word);
            }
        })
        .key_by(itself())
        .count()
        .sink("counts", FileSink::csv(directory));
    environment.execute("wordcount")
}
