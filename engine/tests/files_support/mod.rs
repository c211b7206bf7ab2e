//! What the tests of file sources and sinks share: scratch directories, random numbers, environments.
#![allow(dead_code, reason = "each test uses a part")]

use forebay::record::Record;
use forebay::source::Source;
use forebay::{Environment, Runtime};
use forebay_memory::{Plan, Result, hash};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory that is removed with all it holds.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let path = std::env::temp_dir().join(format!(
            "forebay-{name}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path or pattern below the directory, as text.
    pub fn pattern(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path of text").into()
    }

    /// Writes a file, and the directories that it is in.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the scratch directory"))
            .and_then(|()| std::fs::write(&path, content))
            .expect("a scratch file");
        path
    }

    /// Replaces the directory's name, which differs from run to run.
    pub fn mask(&self, text: &str) -> String {
        text.replace(self.0.to_str().expect("a path of text"), "DIR")
    }

    /// Names of what a directory below holds, hidden ones too, sorted.
    pub fn names(&self, directory: &str) -> Vec<String> {
        names(&self.path(directory))
    }
}

pub fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    names
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Random numbers from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        hash::hash_u64(self.0)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// An environment of 4 KiB segments.
pub fn environment(parallelism: usize) -> Environment {
    let plan = Plan::with_segments_for(256, 512, 4096, 128 << 10).expect("the test's sizes make a plan");
    let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
    Environment::new(runtime).with_parallelism(parallelism)
}

/// What a source emits.
pub fn read<S: Source>(source: S, parallelism: usize) -> Result<Vec<S::Out>>
where
    S::Out: Record,
{
    let environment = environment(parallelism);
    let collected = environment.source("files", source).collect();
    let result = environment.execute("read");
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    result.map(|_| collected.take())
}

/// A source that does something between the listing of its files and their reading.
pub struct Between<S, F>(pub S, pub F);

impl<S: Source, F: Fn() + Send + Sync + 'static> Source for Between<S, F> {
    type Out = S::Out;
    type Split = S::Split;
    type Reader = S::Reader;

    fn prepare(&mut self, plan: &Plan) {
        self.0.prepare(plan);
    }

    fn splits(&self, parallelism: usize) -> Result<Vec<S::Split>> {
        let splits = self.0.splits(parallelism);
        (self.1)();
        splits
    }

    fn reader(&self, split: S::Split) -> Result<S::Reader> {
        self.0.reader(split)
    }
}
