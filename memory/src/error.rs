//! The one public error: a kind, which says what the caller can do about it, and a message.
//!
//! A message names the thing, the value, the bound and the remedy, in one line.

use std::fmt;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration or the job is wrong: fix it.
    Config,
    /// A budget is too small: raise the key that the message names.
    Memory,
    /// The operating system refused or failed an operation.
    Io,
    /// Stored bytes are damaged: restore them.
    Corrupt,
    /// A user's function failed; the message names the operator and the record's position.
    User,
    /// The job was cancelled.
    Cancelled,
}

/// An error of any floor of the engine.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    located: bool,
}

/// The result of a fallible operation of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            source: None,
            located: false,
        }
    }

    /// A [`ErrorKind::Config`] error.
    pub fn config(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Config, message)
    }

    /// A [`ErrorKind::Memory`] error.
    pub fn memory(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Memory, message)
    }

    /// A [`ErrorKind::Io`] error: what was tried, and what the operating system answered.
    pub fn io(message: impl Into<String>, source: std::io::Error) -> Self {
        Error {
            kind: ErrorKind::Io,
            message: message.into(),
            source: Some(Box::new(source)),
            located: false,
        }
    }

    /// A [`ErrorKind::Corrupt`] error.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Corrupt, message)
    }

    /// A [`ErrorKind::User`] error.
    pub fn user(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::User, message)
    }

    /// A [`ErrorKind::Cancelled`] error.
    pub fn cancelled(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Cancelled, message)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, without its source.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error, its message preceded by where it happened: `where_: message`.
    pub fn within(mut self, where_: impl fmt::Display) -> Self {
        self.message = format!("{where_}: {}", self.message);
        self
    }

    /// The same error, marked as saying where in the job it happened.
    pub fn located(mut self) -> Self {
        self.located = true;
        self
    }

    /// Whether the message says where in the job it happened.
    pub fn is_located(&self) -> bool {
        self.located
    }

    /// Whether running the same job again may succeed: true for [`ErrorKind::Io`] and [`ErrorKind::User`]
    /// failures, which restarts are meant for.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Io | ErrorKind::User)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
