//! The raw configuration: one table of keys, and the values that file, environment and command line give them.
//!
//! A [`Config`] is not yet a plan: values are in range one by one, but nothing says that they add up.

mod keys;
mod load;
mod reference;
mod toml_text;
mod value;

pub use keys::{Key, KeyInfo, edits, keys, names};
pub use load::{Config, DEFAULT_FILE, Origin};
pub use reference::reference;
pub use value::{Kind, Value, Word};
