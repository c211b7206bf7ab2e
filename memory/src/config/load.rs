//! [`Config`]: a value for every key, and where it comes from.
//!
//! # Interface
//! [`Config::load`] reads file, environment and arguments as every program of ours does. [`Config::default`]
//! with [`read_file`](Config::read_file), [`read_environment`](Config::read_environment),
//! [`set`](Config::set) and [`set_from`](Config::set_from) does it step by step, in any order: an argument
//! beats the environment, that beats the file, and that beats the default; among equals the last one wins.
//!
//! # Invariants
//! I1. Every value is of its key's kind and in its key's range: only [`KeyInfo::parse`](super::KeyInfo) makes one.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{Key, VARIABLE_PREFIX, keys, nearest};
use super::toml_text::{self, Content};
use super::value::Value;
use crate::error::{Error, Result};
use crate::size::ByteSize;

/// The file that is read where none is named and it is there.
pub const DEFAULT_FILE: &str = "forebay.toml";

/// A value for every key. Each is in its own range; whether they fit together is for `plan` to prove.
///
/// # Examples
/// ```
/// use forebay_memory::Config;
/// use forebay_memory::config::names::USER_SIZE;
///
/// let mut config = Config::default();
/// config.read_toml("[memory]\nuser_size = \"128 MiB\"", "forebay.toml")?;
/// assert_eq!(config.shown(USER_SIZE), "memory.user_size 128 MiB (forebay.toml:2)");
///
/// let error = config.set("memory.user_sise=1gb").unwrap_err();
/// assert!(error.to_string().contains("the nearest is memory.user_size"));
/// # Ok::<(), forebay_memory::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    settings: Vec<Setting>,
}

#[derive(Debug, Clone)]
struct Setting {
    value: Value,
    origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The table of keys.
    Default,
    /// A line of a file.
    File {
        /// The file as it was named.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A command-line argument, named as the user wrote it: `--set`.
    Argument(String),
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File { .. } => 1,
            Origin::Environment(_) => 2,
            Origin::Argument(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line } => write!(f, "{file}:{line}"),
            Origin::Environment(variable) => write!(f, "environment {variable}"),
            Origin::Argument(argument) => f.write_str(argument),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let setting = |key: Key| Setting {
            value: key
                .info()
                .parse(key.info().default)
                .expect("a test parses every default of the table"),
            origin: Origin::Default,
        };
        Config {
            settings: keys().map(setting).collect(),
        }
    }
}

impl Config {
    /// The configuration of this process: `file` (or `forebay.toml` in the current directory, if there is
    /// one), then the environment, then `assignments` as in `--set key=value`.
    ///
    /// # Errors
    /// A file that cannot be read, text that is not TOML, an unknown key, a value out of range: each names the
    /// place, the value and what would be right.
    pub fn load<S: AsRef<str>>(file: Option<&Path>, assignments: &[S]) -> Result<Self> {
        let mut config = Config::default();
        match file {
            Some(file) => config.read_file(file)?,
            None if Path::new(DEFAULT_FILE).exists() => config.read_file(Path::new(DEFAULT_FILE))?,
            None => {}
        }
        config.read_environment(std::env::vars_os())?;
        for assignment in assignments {
            config.set(assignment.as_ref())?;
        }
        Ok(config)
    }

    /// Takes the values of a TOML file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read_file(&mut self, file: &Path) -> Result<()> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Error::io(
                format!("cannot read the configuration file {}", file.display()),
                error,
            )
        })?;
        self.read_toml(&text, &file.display().to_string())
    }

    /// Takes the values of a TOML text; `file` names it in messages.
    ///
    /// # Errors
    /// As [`Config::load`], and a key that the text sets twice in different spellings.
    pub fn read_toml(&mut self, text: &str, file: &str) -> Result<()> {
        let mut seen: Vec<(Key, usize)> = Vec::new();
        for entry in toml_text::entries(text, file)? {
            let origin = Origin::File {
                file: file.into(),
                line: entry.line,
            };
            if matches!(entry.content, Content::EmptyTable) && is_section(&entry.name) {
                continue;
            }
            let key = known(&entry.name, &origin)?;
            if let Some((_, line)) = seen.iter().find(|(other, _)| *other == key) {
                return Err(Error::config(format!(
                    "{key} is set twice, in {file}:{line} and {origin}; remove one",
                    key = key.name()
                )));
            }
            seen.push((key, entry.line));
            self.assign(key, entry.content, origin)?;
        }
        Ok(())
    }

    /// Takes the values of environment variables: `FOREBAY_MEMORY__MANAGED_FRACTION` is
    /// `memory.managed_fraction`.
    ///
    /// # Errors
    /// As [`Config::load`]. A variable without `__` is not ours (a service named forebay makes Kubernetes set
    /// `FOREBAY_SERVICE_HOST`), unless it is a key's but for the second underscore.
    pub fn read_environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<()> {
        let mut ours: Vec<_> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .collect();
        ours.sort();
        for (name, value) in ours {
            let origin = Origin::Environment(name.clone());
            let rest = &name[VARIABLE_PREFIX.len()..];
            if !rest.contains("__") {
                let meant = keys().find(|key| key.variable().replace("__", "_") == name);
                match meant {
                    Some(key) => {
                        return Err(Error::config(format!(
                            "environment variable {name}: {} is set by {}, with two underscores for the dot",
                            key.name(),
                            key.variable()
                        )));
                    }
                    None => continue,
                }
            }
            let key = known(&rest.to_lowercase().replace("__", "."), &origin)?;
            let Ok(text) = value.into_string() else {
                return Err(refused(key, "the value is not UTF-8", &origin));
            };
            self.assign_text(key, &text, origin)?;
        }
        Ok(())
    }

    /// Takes one `key=value`, as `--set` gives it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        self.set_from("--set", assignment)
    }

    /// Takes one `key=value` that another argument stands for, so that messages name that argument:
    /// `set_from("--managed", "memory.managed_size=256MiB")`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn set_from(&mut self, argument: &str, assignment: &str) -> Result<()> {
        let origin = Origin::Argument(argument.into());
        let Some((name, text)) = assignment.split_once('=') else {
            return Err(Error::config(format!(
                "{argument} {assignment}: there is no \"=\"; write {argument} key=value, as in \
                 {argument} memory.process_size=2GiB"
            )));
        };
        self.assign_text(known(name.trim(), &origin)?, text, origin)
    }

    /// A text that starts like a TOML string or list is read as one.
    fn assign_text(&mut self, key: Key, text: &str, origin: Origin) -> Result<()> {
        let content = match text.trim().as_bytes().first() {
            Some(b'"' | b'\'' | b'[') => {
                toml_text::content(text.trim()).map_err(|error| refused(key, &error, &origin))?
            }
            _ => Content::Text(text.into()),
        };
        self.assign(key, content, origin)
    }

    fn assign(&mut self, key: Key, content: Content, origin: Origin) -> Result<()> {
        let value = match content {
            Content::Text(text) => key.info().parse(&text),
            Content::List(names) => key.info().directories(names),
            Content::EmptyTable => Err("a table is not a value".into()),
        };
        let value = value.map_err(|error| refused(key, &error, &origin))?;
        let setting = &mut self.settings[key.index()];
        if origin.rank() >= setting.origin.rank() {
            *setting = Setting { value, origin };
        }
        Ok(())
    }

    /// The value of `key`.
    pub fn value(&self, key: Key) -> &Value {
        &self.settings[key.index()].value
    }

    /// Where the value of `key` comes from.
    pub fn origin(&self, key: Key) -> &Origin {
        &self.settings[key.index()].origin
    }

    /// Whether somebody set `key`, be it to its default.
    pub fn is_set(&self, key: Key) -> bool {
        *self.origin(key) != Origin::Default
    }

    /// Key, value and origin for a message: `memory.user_size 128 MiB (forebay.toml:3)`.
    pub fn shown(&self, key: Key) -> String {
        format!("{} {} ({})", key.name(), self.value(key), self.origin(key))
    }

    /// The size that `key` has, or `None` where it has its word.
    ///
    /// # Panics
    /// When the table says that the key is of another kind; so do its siblings.
    pub fn size(&self, key: Key) -> Option<ByteSize> {
        match self.value(key) {
            Value::Size(size) => Some(*size),
            Value::Word(_) => None,
            other => not_its_kind(key, other),
        }
    }

    /// The number that `key` has, or `None` where it has its word.
    pub fn count(&self, key: Key) -> Option<u64> {
        match self.value(key) {
            Value::Count(count) => Some(*count),
            Value::Word(_) => None,
            other => not_its_kind(key, other),
        }
    }

    /// The fraction that `key` has.
    pub fn fraction(&self, key: Key) -> f64 {
        match self.value(key) {
            Value::Fraction(fraction) => *fraction,
            other => not_its_kind(key, other),
        }
    }

    /// The duration that `key` has, or `None` where it has its word.
    pub fn duration(&self, key: Key) -> Option<Duration> {
        match self.value(key) {
            Value::Duration(duration) => Some(*duration),
            Value::Word(_) => None,
            other => not_its_kind(key, other),
        }
    }

    /// Whether the flag `key` is on.
    pub fn flag(&self, key: Key) -> bool {
        match self.value(key) {
            Value::Flag(flag) => *flag,
            other => not_its_kind(key, other),
        }
    }

    /// The word that `key` has.
    pub fn choice(&self, key: Key) -> &'static str {
        match self.value(key) {
            Value::Choice(word) => word,
            other => not_its_kind(key, other),
        }
    }

    /// The directories that `key` has, or `None` where it has its word.
    pub fn directories(&self, key: Key) -> Option<&[PathBuf]> {
        match self.value(key) {
            Value::Directories(directories) => Some(directories),
            Value::Word(_) => None,
            other => not_its_kind(key, other),
        }
    }
}

fn not_its_kind(key: Key, value: &Value) -> ! {
    panic!("{} is of another kind: {value:?}", key.name())
}

fn refused(key: Key, why: &str, origin: &Origin) -> Error {
    Error::config(format!("{}: {why}; set by {origin}", key.name()))
}

/// Whether keys start with this name and a dot.
fn is_section(name: &str) -> bool {
    keys().any(|key| {
        key.name()
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

fn known(name: &str, origin: &Origin) -> Result<Key> {
    if let Some(key) = Key::find(name) {
        return Ok(key);
    }
    if is_section(name) {
        return Err(Error::config(format!(
            "{name} is a section of keys and takes no value itself; set by {origin}"
        )));
    }
    if let Some(key) = keys().find(|key| key.info().flink == Some(name)) {
        return Err(Error::config(format!(
            "{name} is called {} here; set by {origin}",
            key.name()
        )));
    }
    Err(Error::config(match nearest(name) {
        Some(key) => format!(
            "unknown key {name}; the nearest is {}, and `forebay config reference` lists all; set by {origin}",
            key.name()
        ),
        None => format!("unknown key {name}; `forebay config reference` lists all; set by {origin}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::keys::names::*;
    use super::*;

    fn toml(text: &str) -> Result<Config> {
        let mut config = Config::default();
        config.read_toml(text, "forebay.toml").map(|()| config)
    }

    fn environment(variables: &[(&str, &str)]) -> Result<Config> {
        let mut config = Config::default();
        config.read_environment(variables.iter().map(|(name, value)| (name.into(), value.into())))?;
        Ok(config)
    }

    fn message<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("this should be refused"),
            Err(error) => {
                assert_eq!(error.kind(), crate::ErrorKind::Config);
                error.to_string()
            }
        }
    }

    #[test]
    fn an_argument_beats_the_environment_beats_the_file_beats_the_default() {
        type Step = fn(&mut Config);
        let file: Step = |config| config.read_toml("memory.user_size = '1mb'", "f").unwrap();
        let variable: Step = |config| {
            config
                .read_environment([("FOREBAY_MEMORY__USER_SIZE".into(), "2mb".into())])
                .unwrap();
        };
        let argument: Step = |config| config.set("memory.user_size=3mb").unwrap();
        let steps = [(file, 1), (variable, 2), (argument, 3)];
        // Every subset, in every order: the highest rank present decides.
        for first in steps {
            for second in steps {
                for third in steps {
                    let mut config = Config::default();
                    assert_eq!(config.size(USER_SIZE), None);
                    assert_eq!(config.origin(USER_SIZE), &Origin::Default);
                    for (step, _) in [first, second, third] {
                        step(&mut config);
                    }
                    let highest = first.1.max(second.1).max(third.1);
                    assert_eq!(config.size(USER_SIZE), Some(ByteSize::mib(highest)));
                    assert_eq!(u64::from(config.origin(USER_SIZE).rank()), highest);
                }
            }
        }
    }

    #[test]
    fn the_last_of_equal_rank_wins() {
        let mut config = Config::default();
        config.set("job.parallelism=3").unwrap();
        config.set_from("--parallelism", "job.parallelism=5").unwrap();
        assert_eq!(config.count(PARALLELISM), Some(5));
        assert_eq!(config.shown(PARALLELISM), "job.parallelism 5 (--parallelism)");
        config.set("job.parallelism=auto").unwrap();
        assert_eq!(config.count(PARALLELISM), None);
        assert!(config.is_set(PARALLELISM));
    }

    #[test]
    fn values_say_where_they_come_from() {
        let mut config = toml("\n[memory]\nuser_size = \"128 MiB\"\n").unwrap();
        assert_eq!(
            config.shown(USER_SIZE),
            "memory.user_size 128 MiB (forebay.toml:3)"
        );
        config
            .read_environment([("FOREBAY_JOB__MODE".into(), "batch".into())])
            .unwrap();
        assert_eq!(
            config.shown(MODE),
            "job.mode batch (environment FOREBAY_JOB__MODE)"
        );
        config.set("memory.weights.state=9").unwrap();
        assert_eq!(config.shown(STATE_WEIGHT), "memory.weights.state 9 (--set)");
        assert_eq!(config.shown(SEGMENT_SIZE), "memory.segment_size 32 KiB (default)");
    }

    #[test]
    fn every_kind_is_read_from_every_source() {
        let config = toml(
            "[memory]\nmanaged_fraction = 1\nsegment_size = 65536\nweights = { operator = 1, state = 2 }\n\
             [network]\nbuffer_timeout = \"off\"\n[spill]\ndirectories = [\"/a\", \"/b, c\"]\ncodec = \"lz4\"\n\
             [pressure]\nenabled = false\n[job]\n",
        )
        .unwrap();
        assert_eq!(config.fraction(MANAGED_FRACTION), 1.0);
        assert_eq!(config.size(SEGMENT_SIZE), Some(ByteSize::kib(64)));
        assert_eq!(config.count(OPERATOR_WEIGHT), Some(1));
        assert_eq!(config.duration(BUFFER_TIMEOUT), None);
        assert_eq!(
            config.directories(SPILL_DIRECTORIES),
            Some(&["/a".into(), "/b, c".into()][..])
        );
        assert_eq!(config.choice(SPILL_CODEC), "lz4");
        assert!(!config.flag(PRESSURE_ENABLED));

        let config = environment(&[
            ("FOREBAY_MEMORY__WEIGHTS__STATE", "7"),
            ("FOREBAY_SPILL__DIRECTORIES", "[\"/x,y\"]"),
            ("FOREBAY_NETWORK__BUFFER_TIMEOUT", "0"),
            ("FOREBAY_SERVICE_HOST", "10.0.0.1"),
            ("FOREBAY_PORT", "80"),
            ("UNRELATED__THING", "1"),
        ])
        .unwrap();
        assert_eq!(config.count(STATE_WEIGHT), Some(7));
        assert_eq!(config.directories(SPILL_DIRECTORIES), Some(&["/x,y".into()][..]));
        assert_eq!(config.duration(BUFFER_TIMEOUT), Some(Duration::ZERO));

        let mut config = Config::default();
        config.set(" memory.process_size = \"2 GiB\"").unwrap();
        config.set("spill.directories=/a,/b").unwrap();
        assert_eq!(config.size(PROCESS_SIZE), Some(ByteSize::gib(2)));
        assert_eq!(config.directories(SPILL_DIRECTORIES).unwrap().len(), 2);
    }

    #[test]
    fn refused_values_name_key_value_range_and_place() {
        assert_eq!(
            message(toml("memory.segment_size = 3000\n")),
            "memory.segment_size: 3000 B is not a power of two; use 4 KiB to 1 MiB (default 32 KiB); \
             set by forebay.toml:1"
        );
        assert_eq!(
            message(environment(&[("FOREBAY_MEMORY__MANAGED_FRACTION", "1.5")])),
            "memory.managed_fraction: 1.5 is out of range; use more than 0, up to 1 (default 0.6); \
             set by environment FOREBAY_MEMORY__MANAGED_FRACTION"
        );
        assert_eq!(
            message(Config::default().set("memory.user_size=-1")),
            "memory.user_size: \"-1\" is not a size: it is negative; write 32kb, 64 mb, 1gb, 1 GiB, 512MB or plain \
             bytes (units are 1024-based), or auto; set by --set"
        );
        assert_eq!(
            message(toml("memory.user_size = true\n")),
            "memory.user_size: \"true\" is not a size: it does not start with a number; write 32kb, 64 mb, 1gb, \
             1 GiB, 512MB or plain bytes (units are 1024-based), or auto; set by forebay.toml:1"
        );
        assert_eq!(
            message(toml("job.mode = ['batch']\n")),
            "job.mode: a list is not accepted; use auto, batch, streaming (default auto); set by forebay.toml:1"
        );
        assert!(message(Config::default().set("job.mode=\"batch")).starts_with("job.mode: "));
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        assert_eq!(
            message(toml("[memory]\nmanged_size = \"1gb\"\n")),
            "unknown key memory.manged_size; the nearest is memory.managed_size, and `forebay config reference` \
             lists all; set by forebay.toml:2"
        );
        assert_eq!(
            message(environment(&[("FOREBAY_MEMORY__PROCES_SIZE", "1")])),
            "unknown key memory.proces_size; the nearest is memory.process_size, and `forebay config reference` \
             lists all; set by environment FOREBAY_MEMORY__PROCES_SIZE"
        );
        assert!(
            message(Config::default().set("memry.user_size=1")).contains("the nearest is memory.user_size,")
        );
        assert!(message(toml("[memmory]\n")).starts_with("unknown key memmory; "));
        assert_eq!(
            message(Config::default().set("job.foo=1")),
            "unknown key job.foo; `forebay config reference` lists all; set by --set"
        );
        assert_eq!(
            message(toml("memory.process_size = {}\n")),
            "memory.process_size: a table is not a value; set by forebay.toml:1"
        );
    }

    #[test]
    fn keys_known_under_another_name_are_recognized() {
        assert_eq!(
            message(toml("taskmanager.memory.process.size = \"1gb\"\n")),
            "taskmanager.memory.process.size is called memory.process_size here; set by forebay.toml:1"
        );
        assert_eq!(
            message(toml("memory = \"1gb\"\n")),
            "memory is a section of keys and takes no value itself; set by forebay.toml:1"
        );
        assert_eq!(
            message(environment(&[("FOREBAY_MEMORY_USER_SIZE", "1")])),
            "environment variable FOREBAY_MEMORY_USER_SIZE: memory.user_size is set by FOREBAY_MEMORY__USER_SIZE, \
             with two underscores for the dot"
        );
    }

    #[test]
    fn a_key_in_two_spellings_is_set_twice() {
        assert_eq!(
            message(toml("[memory]\nuser_size = 1\n['memory.user_size']\n")),
            "memory.user_size is set twice, in forebay.toml:2 and forebay.toml:3; remove one"
        );
    }

    #[test]
    fn an_assignment_needs_an_equals_sign() {
        assert_eq!(
            message(Config::default().set("memory.user_size")),
            "--set memory.user_size: there is no \"=\"; write --set key=value, as in --set memory.process_size=2GiB"
        );
    }

    #[test]
    fn a_named_file_must_be_there() {
        let error = Config::load(Some(Path::new("no/such/forebay.toml")), &["x"]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Io);
        assert!(
            error
                .to_string()
                .starts_with("cannot read the configuration file no/such/forebay.toml: ")
        );
    }

    /// Damaged files are refused in one line; nothing panics.
    #[test]
    fn any_text_is_read_or_refused() {
        let example = "[memory]\nprocess_size = \"2 GiB\"\nweights = { operator = 70, state = 0x1e }\n\
                       [network]\nbuffer_timeout = '10 ms'\n[spill]\ndirectories = [\"/a\", \"/b\"] # µ\n";
        let seed = 0x5eed_0002;
        let mut state: u64 = seed;
        let mut random = |bound: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            (crate::hash::hash_u64(state) % bound as u64) as usize
        };
        let mut read = 0;
        for case in 0..5_000 {
            let mut characters: Vec<char> = example.chars().collect();
            for _ in 0..1 + random(4) {
                let (at, other) = (random(characters.len()), random(characters.len()));
                match random(4) {
                    0 => drop(characters.remove(at)),
                    1 => characters.insert(
                        at,
                        ['"', '[', '}', '.', '=', '9', '-', 'é', '\n', '\0'][random(10)],
                    ),
                    2 => characters.swap(at, other),
                    _ => characters.truncate(at.max(4)),
                }
                if characters.len() < 8 {
                    break;
                }
            }
            let text: String = characters.into_iter().collect();
            match toml(&text) {
                Ok(_) => read += 1,
                Err(error) => {
                    assert_eq!(
                        error.kind(),
                        crate::ErrorKind::Config,
                        "seed {seed}, case {case}: {text}"
                    );
                    let message = error.to_string();
                    assert!(
                        message.contains("forebay.toml:"),
                        "seed {seed}, case {case}: {message}\n{text}"
                    );
                }
            }
            // The same text as a value of any key.
            let key = keys().nth(random(keys().len())).unwrap();
            let _ = Config::default().set(&format!("{}={text}", key.name()));
        }
        assert!(read > 100, "some damage is harmless: {read}");
    }
}
